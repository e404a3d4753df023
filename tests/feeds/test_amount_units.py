"""What one contract is in a venue's amounts, by what venues themselves have sent."""

import gzip
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from feeds import Received
from feeds.bitget import describe as bitget
from feeds.capture import Converter, Line
from feeds.deribit import describe as deribit
from feeds.simulator.listing import listing
from feeds.simulator.scenario import Scenario
from feeds.venues import VENUES
from kernels.market.terms import in_contracts

SHARED = Path(__file__).resolve().parents[3] / "shared"
NOW_US = 1_780_000_000_000_000
ETH_USDC_2026 = 0.001
"""Coins of a contract; a captured listing of 2022 has 0.01."""


def sent(venue: str, name: str | None = None) -> Iterator[tuple[str, Any]]:
    """The samples of a venue: the file's name and the message."""
    path = SHARED / "captures" / "samples" / f"{venue}.jsonl"
    if not path.exists():
        pytest.skip(f"no samples at {path}")
    for text in path.read_bytes().splitlines():
        sample = orjson.loads(text)
        if name in (None, sample["sample"]):
            yield sample["sample"], sample["message"]


def terms_in(venue: str, message: Any) -> dict[str, dict[str, Any]]:
    """The terms that a message lists, by instrument."""
    line = Line(venue, "sample", 1, NOW_US, orjson.dumps(message), "message")
    records = Converter().convert(line).records
    return {record.row["instrument"]: dict(record.row) for record in records if record.table == "instruments"}


def both_counts(message: Any) -> Iterator[tuple[str, float, float]]:
    """Each instrument, amount and number of contracts that stand side by side in a message of Deribit."""
    for item in re.findall(rb'\{[^{}]*"contracts"[^{}]*\}', orjson.dumps(message)):
        told = orjson.loads(item)
        yield told["instrument_name"], told["amount"], told["contracts"]


def test_deribit_itself_counts_the_contracts_that_follow_from_its_amounts() -> None:
    """Trades and orders have both numbers; BTC-PERPETUAL: 750 USD are 75 contracts."""
    listed: dict[str, dict[str, Any]] = {}
    counted: list[tuple[str, float, float]] = []
    for _, message in sent("deribit"):
        listed |= terms_in("deribit", message)
        counted += both_counts(message)
    for instrument, amount, contracts in counted:
        row = listed.get(instrument)
        if row is None:
            record = deribit("deribit", instrument, Received(NOW_US, None, None))
            assert record is not None
            row = dict(record.row)
        each = row["amount_per_contract"]
        if each is None:
            assert instrument == "ETH_USDC-PERPETUAL", "its name does not tell it, and no sample lists it"
            each = ETH_USDC_2026
        assert in_contracts(amount, each) == Decimal(repr(contracts)), instrument
    assert {"BTC-PERPETUAL", "ETH-PERPETUAL"} <= {instrument for instrument, *_ in counted}


def test_the_units_of_deribits_contracts_are_those_of_its_captured_listing() -> None:
    path = SHARED / "captures" / "deribit" / "2021-07-22.rest.log"
    if not path.exists():
        pytest.skip(f"no capture at {path}")
    units = {}
    for item in re.findall(rb'\{[^{}]*"contract_size":[^{}]*\}', path.read_bytes()):
        for row in terms_in("deribit", {"jsonrpc": "2.0", "result": [orjson.loads(item)]}).values():
            units[row["instrument"]] = row["amount_per_contract"]
    expected = {"BTC-PERPETUAL": 10.0, "ETH-PERPETUAL": 1.0, "SOL-PERPETUAL": 10.0}
    expected |= {"BTC_USDC-PERPETUAL": 0.001, "ETH_USDC-PERPETUAL": 0.01, "DOGE_USDC-PERPETUAL": 100.0}
    assert {name: units[name] for name in expected} == expected
    assert {units[name] for name in units if name.endswith(("-C", "-P")) and name.startswith("BTC-")} == {1.0}


def test_a_venue_that_deals_in_contracts_shows_contracts() -> None:
    """No COIN-M trade is of a part of a contract."""
    path = SHARED / "captures" / "binance" / "2024-08-08.cm.btcusd_perp.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no capture at {path}")
    with gzip.open(path) as lines:
        sizes = [
            float(size)
            for line, _ in zip(lines, range(20_000), strict=False)
            for size in re.findall(rb'"e":"trade".*"q":"([0-9.]+)"', line)
        ]
    assert len(sizes) > 20 and all(size == int(size) for size in sizes)
    assert min(sizes) == 1, "one contract, not its 100 USD"


@pytest.mark.parametrize("venue", ["okx", "bybit"])
def test_listings_of_other_venues_tell_one(venue: str) -> None:
    rows = [row for _, message in sent(venue) for row in terms_in(venue, message).values()]
    assert len(rows) > 3
    assert {row["amount_per_contract"] for row in rows} == {1.0}
    assert len({row["contract_size"] for row in rows}) > 1 or venue == "bybit"


@pytest.mark.parametrize(
    ("market", "symbol"),
    [
        *(("binance_spot", "BTCUSDT"), ("binance_usdm", "BTCUSDT"), ("binance_coinm", "BTCUSD_PERP")),
        *(("binance_options", "BTC-251226-90000-C"), ("bitget_spot", "BTCUSDT"), ("bitget_usdt_futures", "BTCUSDT")),
        *(("bybit_inverse", "BTCUSD"), ("bybit_linear", "BTCUSDT"), ("dydx", "BTC-USD"), ("hyperliquid", "BTC")),
        *(("okx", "BTC-USDT-SWAP"), ("okx", "BTC-USD-SWAP"), ("okx", "BTC-USDT")),
    ],
)
def test_a_name_alone_tells_it_where_books_count_what_fills_count(market: str, symbol: str) -> None:
    adapter = next(adapter for adapter in VENUES.values() if market in adapter.MARKETS)
    record = adapter.describe(market, symbol, Received(NOW_US, None, None))
    assert record is not None and record.row["amount_per_contract"] == 1.0


def test_what_no_name_tells_is_not_guessed() -> None:
    for symbol in ("BTC_USDC-PERPETUAL", "SOL-PERPETUAL", "XRP_USDC-27DEC24-0d625-C"):
        record = deribit("deribit", symbol, Received(NOW_US, None, None))
        assert record is not None and record.row["amount_per_contract"] is None
    coins = bitget("bitget_coin_futures", "BTCUSD", Received(NOW_US, None, None))
    assert coins is not None and coins.row["amount_per_contract"] is None


def test_simulated_venues_show_contracts() -> None:
    rows = [contract.row(0, 0) for contract in listing(Scenario())]
    assert {row["amount_per_contract"] for row in rows} == {1.0}
