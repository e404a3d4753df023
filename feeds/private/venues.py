"""Every market whose private channel can be read: a line here and a module in this folder."""

from collections.abc import Callable
from functools import partial

from feeds.private import PrivateSession, binance, bybit, deribit, okx
from feeds.private.keys import Keys

SESSIONS: dict[str, Callable[[Keys, str], PrivateSession]] = {
    **{market: partial(binance.session, market) for market in binance.MARKETS},
    "bybit": bybit.session,
    "deribit": deribit.session,
    "okx": okx.session,
}
"""The session of each market, given the keys and the account.  Raises `KeysError`."""
