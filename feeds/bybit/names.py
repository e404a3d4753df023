"""The markets of Bybit, and what the name of an instrument tells."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from feeds import Received, Record
from feeds.checks import listed
from schemas.rows import instant_ms

SPOT, LINEAR, INVERSE, OPTIONS = "bybit_spot", "bybit_linear", "bybit_inverse", "bybit_options"
CATEGORIES = {"spot": SPOT, "linear": LINEAR, "inverse": INVERSE, "option": OPTIONS}
"""Each market by Bybit's own name of it."""
OPTION_TYPES = {"C": "call", "P": "put"}

_DAY = r"(?P<expiry>\d{1,2}(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)\d\d)"
_COIN = r"(?P<base>[A-Z0-9]+?)"
_SPOT_QUOTES = ("USDT", "USDC", "USDE", "USDQ", "USDR", "USD1", "DAI", "BTC", "ETH", "MNT", "SOL", "EUR", "BRL", "TRY", "PLN")
_NAMES = {
    SPOT: re.compile(rf"{_COIN}(?P<quote>{'|'.join(_SPOT_QUOTES)})", re.ASCII),
    LINEAR: re.compile(rf"{_COIN}(?:(?P<quote>USDT)(?:-{_DAY})?|PERP|-{_DAY.replace('expiry', 'expiry_usdc')})", re.ASCII),
    INVERSE: re.compile(rf"{_COIN}USD(?P<month>[FGHJKMNQUVXZ]\d\d)?", re.ASCII),
    OPTIONS: re.compile(
        rf"{_COIN}-{_DAY}-(?P<strike>\d{{1,9}}(?:\.\d{{1,9}})?)-(?P<type>[CP])(?:-(?P<quote>USDT|USDC))?", re.ASCII
    ),
}


class Name(NamedTuple):
    """What the name of an instrument tells."""

    base: str
    quote: str  # of its price, and of its index
    kind: str
    expiry_at: str | None = None
    option_type: str | None = None
    strike_usd: float | None = None


def market(received: Received) -> str | None:
    """The market that a message's address names: the path of a public stream, or the category of a question."""
    return _market(received.url) if received.url else None


@lru_cache(1024)
def _market(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme in ("http", "https"):
        return CATEGORIES.get(parse_qs(parts.query).get("category", [""])[0])
    before, _, category = parts.path.rpartition("/")
    return CATEGORIES.get(category) if before.endswith("/public") else None


@lru_cache(16384)
def told_by(venue: str, symbol: str) -> Name | None:
    """What a symbol of a market tells: `BTCUSDT`, `BTCPERP`, `BTC-26DEC25`, `BTCUSDT-26DEC25`, `BTCUSD`, `BTC-26DEC25-90000-C`.

    None where it tells nothing.  The name of an inverse future has a month and no day: nothing, too.
    """
    pattern = _NAMES.get(venue)
    match = pattern.fullmatch(symbol) if pattern else None
    if match is None:
        return None
    parts = match.groupdict()
    if parts.get("month"):
        return None
    quote = parts.get("quote") or ("USD" if venue == INVERSE else "USDC")
    day = parts.get("expiry") or parts.get("expiry_usdc")
    if day is None:
        return Name(parts["base"], quote, "spot" if venue == SPOT else "perpetual")
    try:
        expires = datetime.strptime(day, "%d%b%y").replace(hour=8, tzinfo=UTC)
    except ValueError:
        return None
    expiry_at = instant_ms(int(expires.timestamp()) * 1000)
    if venue != OPTIONS:
        return Name(parts["base"], quote, "future", expiry_at)
    strike_usd = float(parts["strike"])
    return Name(parts["base"], quote, "option", expiry_at, OPTION_TYPES[parts["type"]], strike_usd) if strike_usd else None


def index(venue: str, symbol: str) -> tuple[str, str] | None:
    """The underlying of the index that a ticker shows, and the dollar that it is in; None where the name does not tell.

    A spot pair shows its base coin in USD.  Of options Bybit does not say what their index is in.
    """
    name = told_by(venue, symbol)
    if venue == INVERSE:
        match = _NAMES[INVERSE].fullmatch(symbol)  # a future, too, whatever its day
        return (match["base"], "USD") if match else None
    if name is None or venue == OPTIONS:
        return None
    return name.base, "USD" if venue == SPOT else name.quote


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a Bybit name; None where it tells none.

    Spot, linear contracts and options count coins, inverse contracts US dollars: contract size 1.  They expire at 08:00 UTC.
    """
    name = told_by(venue, symbol)
    if name is None:
        return None
    return listed(
        venue,
        symbol,
        received,
        kind=name.kind,
        underlying=name.base,
        quote_currency=name.quote,
        settlement_currency=name.base if venue == INVERSE else name.quote,
        is_inverse=venue == INVERSE,
        option_type=name.option_type,
        strike_usd=name.strike_usd,
        expiry_at=name.expiry_at,
        contract_size=1.0,
        amount_per_contract=1.0,
    )
