"""Funding in tickers: what each venue says of it, and which field is named when that cannot be used."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.checks import ODD
from feeds.funding import paid_at, rate
from feeds.venues import VENUES
from schemas.rows import fault, instant_ms

NOW_MS = 1_700_000_000_000
NEXT_MS = NOW_MS + 3_600_000
ADDRESSES = {"bybit": "wss://stream.bybit.com/v5/public/linear"}
QUOTE = {"bidPr": "1", "askPr": "2", "bidSz": "1", "askSz": "1", "lastPr": "1"}


def pushed(venue: str, funding_rate: Any, next_ms: Any) -> dict[str, Any]:
    """A message of a venue that tells funding."""
    if venue == "binance":
        message = {"e": "markPriceUpdate", "E": NOW_MS, "s": "BTCUSDT", "p": "100", "i": "100", "P": "100"}
        return message | {"r": funding_rate, "T": next_ms}
    if venue == "bybit":
        data = {"symbol": "BTCUSDT", "fundingRate": funding_rate, "nextFundingTime": next_ms}
        return {"topic": "tickers.BTCUSDT", "type": "delta", "ts": NOW_MS, "data": data}
    if venue == "okx":
        item = {"instId": "BTC-USDT-SWAP", "fundingRate": funding_rate, "fundingTime": next_ms, "ts": str(NOW_MS)}
        return {"arg": {"channel": "funding-rate", "instId": "BTC-USDT-SWAP"}, "data": [item]}
    if venue == "bitget":
        item = {"instId": "BTCUSDT", "ts": str(NOW_MS), **QUOTE, "fundingRate": funding_rate, "nextFundingTime": next_ms}
        return {"arg": {"instType": "USDT-FUTURES", "channel": "ticker", "instId": "BTCUSDT"}, "data": [item]}
    data = {"timestamp": NOW_MS, "instrument_name": "BTC-PERPETUAL", "best_bid_price": 1.0, "best_bid_amount": 1.0}
    data |= {"best_ask_price": 2.0, "best_ask_amount": 1.0, "mark_price": 1.5, "current_funding": funding_rate}
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "ticker.BTC-PERPETUAL.100ms", "data": data}}


FIELDS = {
    "binance": ("r", "T"),
    "bitget": ("fundingRate", "nextFundingTime"),
    "bybit": ("fundingRate", "nextFundingTime"),
    "okx": ("fundingRate", "fundingTime"),
}


def ticker(venue: str, funding_rate: Any, next_ms: Any) -> dict[str, Any]:
    received = Received(NOW_MS * 1000, None, None, ADDRESSES.get(venue))
    record = VENUES[venue].parse(orjson.dumps(pushed(venue, funding_rate, next_ms)), received)[0]
    assert isinstance(record, Record)
    assert record.table == "tickers"
    assert fault("tickers", record.row) is None
    return dict(record.row)


@pytest.mark.parametrize("venue", FIELDS)
@pytest.mark.parametrize("told", [0.000125, -0.000212, 0.0])
def test_a_rate_is_a_fraction_with_its_sign_and_the_next_payment_an_instant(venue: str, told: float) -> None:
    row = ticker(venue, f"{told:f}", NEXT_MS if venue == "binance" else str(NEXT_MS))
    assert (row["funding_rate"], row["next_funding_at"]) == (told, instant_ms(NEXT_MS))


def test_deribit_pays_all_the_time_and_names_no_instant() -> None:
    row = ticker("deribit", -0.00001, None)
    assert (row["funding_rate"], row["next_funding_at"]) == (-0.00001, None)


@pytest.mark.parametrize(
    ("venue", "none"), [("binance", ("", 0)), ("bitget", ("", "")), ("bybit", ("", "0")), ("okx", ("", ""))]
)
def test_where_there_is_no_funding_nothing_is_told(venue: str, none: tuple[str, Any]) -> None:
    row = ticker(venue, *none)
    assert (row["funding_rate"], row["next_funding_at"]) == (None, None)


@pytest.mark.parametrize("venue", FIELDS)
@pytest.mark.parametrize("wild", ["NaN", "1.0001", "-2", "1e-4", "+0.1", "--1", [], {}, "x"])
def test_a_wild_rate_is_named(venue: str, wild: Any) -> None:
    with pytest.raises(Rejected) as rejected:
        ticker(venue, wild, NEXT_MS)
    assert rejected.value.fault.field == FIELDS[venue][0]


@pytest.mark.parametrize("venue", FIELDS)
@pytest.mark.parametrize("wild", ["soon", -1, 1.5, [], {}, True])
def test_a_wild_instant_is_named(venue: str, wild: Any) -> None:
    with pytest.raises(Rejected) as rejected:
        ticker(venue, "0.0001", wild)
    assert rejected.value.fault.field == FIELDS[venue][1]


@given(st.text(max_size=8) | st.floats() | st.integers() | st.none() | st.booleans())
def test_whatever_stands_there_is_a_small_finite_number_or_refused(value: Any) -> None:
    try:
        number = rate(value)
    except ODD:
        return
    assert number is None or (math.isfinite(number) and abs(number) <= 1)


@given(st.text(max_size=8) | st.floats() | st.integers() | st.none() | st.booleans())
def test_whatever_stands_there_is_an_instant_of_this_century_or_refused(value: Any) -> None:
    try:
        instant = paid_at(value)
    except ODD:
        return
    assert instant is None or "1970-01-01T00:00:00.000Z" < instant < "2100-01-01T00:00:00.000Z"
