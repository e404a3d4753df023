"""Every venue: a line here and a module in this folder."""

from typing import cast

from feeds import Adapter, binance, bitget, bybit, deribit, dydx, hyperliquid, okx, pyth, rounds

VENUES: dict[str, Adapter] = {
    "binance": cast(Adapter, binance),
    "bitget": cast(Adapter, bitget),
    "bybit": cast(Adapter, bybit),
    "deribit": cast(Adapter, deribit),
    "dydx": cast(Adapter, dydx),
    "hyperliquid": cast(Adapter, hyperliquid),
    "okx": cast(Adapter, okx),
    "pyth": cast(Adapter, pyth),
    "rounds": cast(Adapter, rounds),
}
