"""Every venue: a line here and a module in this folder."""

from typing import cast

from feeds import Adapter, binance, bitget, deribit, dydx, hyperliquid, okx

VENUES: dict[str, Adapter] = {
    "binance": cast(Adapter, binance),
    "bitget": cast(Adapter, bitget),
    "deribit": cast(Adapter, deribit),
    "dydx": cast(Adapter, dydx),
    "hyperliquid": cast(Adapter, hyperliquid),
    "okx": cast(Adapter, okx),
}
