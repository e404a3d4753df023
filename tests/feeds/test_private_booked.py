"""What private channels tell is booked by the job positions: once, however often and in whatever order it comes."""

import random
from decimal import Decimal
from types import ModuleType
from typing import Any

import orjson
import pytest

from engine.contract import Message
from feeds import Adapter, Received, Record
from feeds import binance as public_binance
from feeds import deribit as public_deribit
from feeds import okx as public_okx
from feeds.private import binance, deribit, okx
from kernels import positions
from tests.feeds.private_messages import BINANCE_SPOT, DERIBIT_TRADE, NOW_MS, OKX_FILL

RECEIVED = Received(NOW_MS * 1000, None, None)


def _booked(records: list[Record], listed: Record) -> dict[tuple[str, str], Decimal]:
    """What the account holds of each asset after these rows, by the entries of its ledger."""
    state = positions.new()
    messages = [
        Message(record.table, 0, offset, dict(record.row))
        for offset, record in enumerate([listed, *records])
        if record.table in ("instruments", "fills", "transfers")
    ]
    held: dict[tuple[str, str], Decimal] = {}
    for output in positions.step(state, messages, NOW_MS + 50):
        assert output.table != "dead_letters", output.row
        if output.table == "ledger_entries":
            held[output.row["account"], output.row["asset"]] = Decimal(output.row["balance"])
    return held


@pytest.mark.parametrize(
    ("venue", "public", "market", "message", "expected"),
    [
        (
            deribit,
            public_deribit,
            "deribit",
            {"method": "subscription", "params": {"channel": "user.trades.any.any.raw", "data": [DERIBIT_TRADE]}},
            # 100 contracts of 10 USD; the fee in coin.
            {"deribit:BTC-PERPETUAL": "100", "BTC": "-0.00049961"},
        ),
        (
            okx,
            public_okx,
            "okx",
            {"arg": {"channel": "orders"}, "data": [OKX_FILL | {"instId": "BTC-USD-SWAP", "fillFeeCcy": "BTC"}]},
            {"okx:BTC-USD-SWAP": "1", "BTC": "-0.021"},
        ),
        (
            binance,
            public_binance,
            "binance_spot",
            BINANCE_SPOT,
            # 0.4 coins bought for 2,500 each, of which the venue keeps 0.0004 as its fee.
            {"ETH": "0.3996", "USDT": "-1000"},
        ),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_three_times_is_booked_once(
    venue: ModuleType, public: Adapter, market: str, message: dict[str, Any], expected: dict[str, str], seed: int
) -> None:
    told = [record for _ in range(3) for record in venue.parse(orjson.dumps(message), RECEIVED, "desk")]
    random.Random(seed).shuffle(told)
    symbol = next(record.row["instrument"] for record in told if record.table == "fills")
    listed = public.describe(market, symbol, RECEIVED)
    assert listed is not None
    held = _booked(told, listed)
    have = {asset: amount for (account, asset), amount in held.items() if account == "desk" and amount}
    assert {asset: have.get(asset) for asset in expected} == {asset: Decimal(amount) for asset, amount in expected.items()}
