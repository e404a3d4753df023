"""Deribit messages: what each becomes, and which field is named when one cannot be used."""

from copy import deepcopy
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.checks import MAX_BEHIND_MS
from feeds.deribit import describe, parse
from schemas.rows import fault, instant_ms

NOW_MS = 1_700_000_000_000
RECEIVED = Received(NOW_MS * 1000, None, None)

SNAPSHOT = {
    "type": "snapshot",
    "timestamp": NOW_MS,
    "instrument_name": "BTC-29DEC23-40000-C",
    "change_id": 7,
    "bids": [["new", 0.05, 2.0], ["new", 0.04, 1]],
    "asks": [["new", 0.06, 3.0]],
}
CHANGE = {
    **SNAPSHOT,
    "type": "change",
    "change_id": 8,
    "prev_change_id": 7,
    "bids": [["delete", 0.05, 0.0], ["change", 0.04, 5.0]],
    "asks": [],
}
TICKER = {
    "timestamp": NOW_MS,
    "instrument_name": "BTC-29DEC23-40000-C",
    "best_bid_price": 0.05,
    "best_bid_amount": 2.0,
    "best_ask_price": 0.06,
    "best_ask_amount": 3.0,
    "last_price": None,
    "mark_price": 0.055,
    "mark_iv": 55.5,
    "bid_iv": 54.0,
    "ask_iv": 0.0,
    "underlying_price": 37_000.5,
    "index_price": 36_900,
    "interest_rate": 0.0,
    "open_interest": 12.5,
    "min_price": 0.01,
    "max_price": 0.1,
}
TRADE = {
    "timestamp": NOW_MS,
    "instrument_name": "BTC-PERPETUAL",
    "trade_id": "123",
    "direction": "sell",
    "price": 37_000.5,
    "amount": 10,
}
INDEX = {"timestamp": NOW_MS, "index_name": "btc_usd", "price": 36_900.1}
OPTION = {
    "instrument_name": "BTC-29DEC23-40000-C",
    "kind": "option",
    "base_currency": "BTC",
    "quote_currency": "BTC",
    "settlement_period": "month",
    "expiration_timestamp": 1_703_836_800_000,
    "option_type": "call",
    "strike": 40_000.0,
    "contract_size": 1.0,
    "tick_size": 0.0005,
}
CHANNELS: dict[str, tuple[str, Any]] = {
    "book": ("book.BTC-29DEC23-40000-C.raw", CHANGE),
    "snapshot": ("book.BTC-29DEC23-40000-C.raw", SNAPSHOT),
    "ticker": ("ticker.BTC-29DEC23-40000-C.raw", TICKER),
    "trades": ("trades.BTC-PERPETUAL.raw", [TRADE]),
    "index": ("deribit_price_index.btc_usd", INDEX),
}


def sent(channel: str, data: Any) -> list[Record]:
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return cast(list[Record], parse(orjson.dumps(message), RECEIVED))


def answered(result: Any) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": result}), RECEIVED))


def rejected_field(kind: str, field: str, value: Any) -> str | None:
    """The field that is blamed when `field` of a good message becomes `value`; `...` removes it."""
    channel, data = CHANNELS[kind]
    data = deepcopy(data)
    target: Any = data[0] if isinstance(data, list) else data
    if value is ...:
        del target[field]
    else:
        target[field] = value
    with pytest.raises(Rejected) as rejected:
        sent(channel, data)
    return rejected.value.fault.field


def test_a_book_keeps_its_sequence_and_a_deleted_level_has_size_0() -> None:
    (snapshot,), (change,) = sent(*CHANNELS["snapshot"]), sent(*CHANNELS["book"])
    assert (snapshot.row["kind"], snapshot.row["sequence"], snapshot.row["prev_sequence"]) == ("snapshot", 7, None)
    assert (change.row["kind"], change.row["sequence"], change.row["prev_sequence"]) == ("change", 8, 7)
    assert change.row["bids"] == [[0.05, 0.0], [0.04, 5.0]]
    assert change.event_ms == NOW_MS
    assert change.row["event_at"] == instant_ms(NOW_MS)


def test_a_grouped_book_is_a_snapshot_of_plain_levels() -> None:
    data = {**SNAPSHOT, "bids": [[0.05, 2.0]], "asks": []}
    del data["type"]
    (record,) = sent("book.BTC-29DEC23-40000-C.none.20.100ms", data)
    assert (record.row["kind"], record.row["bids"], record.row["asks"]) == ("snapshot", [[0.05, 2.0]], [])


def test_a_ticker_has_fractions_for_percent_and_null_for_what_is_not_there() -> None:
    row = sent("ticker.BTC-29DEC23-40000-C.raw", {**TICKER, "best_bid_price": 0.0, "best_bid_amount": 0.0})[0].row
    assert row["mark_iv"] == pytest.approx(0.555)
    assert row["bid_iv"] == pytest.approx(0.54)
    assert row["ask_iv"] is None
    assert (row["bid_price"], row["bid_size"], row["ask_price"]) == (None, None, 0.06)
    assert (row["forward_usd"], row["sequence"], row["interest_rate"]) == (37_000.5, None, 0.0)
    assert fault("tickers", row) is None


def test_a_mark_volatility_of_0_stays_a_number() -> None:
    assert sent("ticker.X.raw", {**TICKER, "mark_iv": 0.0})[0].row["mark_iv"] == 0.0


def test_a_ticker_of_a_dead_option_may_be_hours_old() -> None:
    old_ms = NOW_MS - 20 * 3_600_000
    assert sent("ticker.X.raw", {**TICKER, "timestamp": old_ms})[0].event_ms == old_ms


def test_each_trade_is_a_record() -> None:
    first, second = sent("trades.BTC-PERPETUAL.raw", [TRADE, {**TRADE, "trade_id": "124", "direction": "buy"}])
    assert (first.row["trade_id"], first.row["side"], first.row["size"]) == ("123", "sell", 10)
    assert (second.row["trade_id"], second.row["side"]) == ("124", "buy")


def test_an_index_is_a_price_of_its_base_in_usd() -> None:
    (record,) = sent(*CHANNELS["index"])
    assert (record.table, record.row["underlying"], record.row["price_usd"]) == ("index_prices", "BTC", 36_900.1)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({}, {"kind": "option", "is_inverse": True, "settlement_currency": "BTC", "strike_usd": 40_000.0}),
        (
            {"quote_currency": "USDC", "settlement_currency": "USDC", "instrument_type": "linear"},
            {"kind": "option", "is_inverse": False, "settlement_currency": "USDC", "option_type": "call"},
        ),
        (
            {"kind": "future", "quote_currency": "USD", "settlement_period": "perpetual", "contract_size": 10},
            {"kind": "perpetual", "is_inverse": True, "expiry_at": None, "contract_size": 10, "strike_usd": None},
        ),
        (
            {"kind": "future", "quote_currency": "USD", "settlement_currency": "BTC", "instrument_type": "reversed"},
            {"kind": "future", "is_inverse": True, "expiry_at": "2023-12-29T08:00:00.000Z", "option_type": None},
        ),
        (
            {"kind": "spot", "quote_currency": "USDC"},
            {"kind": "spot", "is_inverse": False, "settlement_currency": "USDC", "expiry_at": None},
        ),
    ],
)
def test_a_listing_gives_the_terms_of_each_contract(terms: dict[str, Any], expected: dict[str, Any]) -> None:
    (record,) = answered([{**OPTION, **terms}])
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in expected} == expected
    assert record.event_ms == NOW_MS - MAX_BEHIND_MS


def test_a_combo_has_no_terms_of_its_own() -> None:
    assert len(answered([OPTION, {**OPTION, "kind": "option_combo"}])) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "result": ["book.BTC-PERPETUAL.raw"]},
        {"jsonrpc": "2.0", "id": 1, "result": "ok"},
        {"jsonrpc": "2.0", "id": 1, "result": {"version": "1.2.26"}},
        {"jsonrpc": "2.0", "id": 1, "result": []},
        {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}},
        {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}},
    ],
)
def test_an_acknowledgement_or_heartbeat_is_no_data(message: dict[str, Any]) -> None:
    assert parse(orjson.dumps(message), RECEIVED) == []


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b'"x"', b"\xff", b"null", b'{"a": NaN}'])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": 13778, "message": "raw_subscriptions_not_available"}}, "error"),
        ({"method": "subscription", "params": {"channel": "quote.BTC-PERPETUAL", "data": {}}}, "channel"),
        ({"method": "subscription", "params": {"data": {}}}, "channel"),
        ({"method": "subscription", "params": {"channel": "book.X.raw"}}, "data"),
        ({"method": "subscription", "params": {"channel": "trades.X.raw", "data": {}}}, "data"),
        ({"method": "subscription", "params": {"channel": "ticker.X.raw", "data": [1]}}, None),
        ({"method": "subscription"}, None),
        ({"method": "order"}, "method"),
        ({}, "method"),
    ],
)
def test_an_error_or_an_unknown_message_is_rejected(message: dict[str, Any], field: str | None) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(orjson.dumps(message), RECEIVED)
    assert rejected.value.fault.field == field


def test_an_unknown_channel_is_named() -> None:
    with pytest.raises(Rejected, match=r"quote\.BTC-PERPETUAL"):
        sent("quote.BTC-PERPETUAL", {})


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind, (_, data) in CHANNELS.items() for field in (data[0] if isinstance(data, list) else data)],
)
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    optional = {*["last_price", "mark_iv", "bid_iv", "ask_iv", "underlying_price", "index_price", "interest_rate"]}
    optional |= {"open_interest", "min_price", "max_price"}
    if field in optional:
        channel, data = CHANNELS[kind]
        assert isinstance(data, dict)
        (record,) = sent(channel, {name: value for name, value in data.items() if name != field})
        assert fault(record.table, record.row) is None
    else:
        assert rejected_field(kind, field, ...) == field


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("ahead_ms", [60_001, -86_400_001, 10**15, "soon", 1.5, None, True])
def test_a_wild_event_time_is_named(kind: str, ahead_ms: Any) -> None:
    value = NOW_MS + ahead_ms if type(ahead_ms) is int else ahead_ms
    assert rejected_field(kind, "timestamp", value) == "timestamp"


@pytest.mark.parametrize("ahead_ms", [60_000, 0, -1280, -86_400_000])
def test_an_event_time_within_bounds_is_taken_as_it_is(ahead_ms: int) -> None:
    assert sent("ticker.X.raw", {**TICKER, "timestamp": NOW_MS + ahead_ms})[0].event_ms == NOW_MS + ahead_ms


BAD_PRICES = ["NaN", "Infinity", 0, 0.0, -1.0, 1e300, None, [], "1.0"]
BAD_SIZES = ["NaN", "Infinity", -0.1, -1, 1e300, None, {}]


@pytest.mark.parametrize("side", ["bids", "asks"])
@pytest.mark.parametrize(
    "level",
    [
        *[["new", price, 1.0] for price in BAD_PRICES],
        *[["new", 0.05, size] for size in BAD_SIZES],
        *[["insert", 0.05, 1.0], ["new", 0.05], [], [1, 2, 3, 4], 5, None, "new"],
    ],
)
def test_a_bad_level_names_its_side(side: str, level: Any) -> None:
    assert rejected_field("book", side, [["new", 0.07, 1.0], level]) == side


@pytest.mark.parametrize("price", BAD_PRICES)
def test_a_bad_price_is_named(price: Any) -> None:
    assert rejected_field("trades", "price", price) == "price"
    assert rejected_field("index", "price", price) == "price"
    if price is not None:
        assert rejected_field("ticker", "best_bid_price", price) == "best_bid_price"


@pytest.mark.parametrize("size", BAD_SIZES)
def test_a_bad_size_is_named(size: Any) -> None:
    assert rejected_field("trades", "amount", size) == "amount"
    if size not in (None, {}):
        assert rejected_field("ticker", "best_ask_amount", size) == "best_ask_amount"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("ticker", "mark_iv", -1.0),
        ("ticker", "mark_price", "NaN"),
        ("ticker", "open_interest", -1),
        ("ticker", "interest_rate", "low"),
        ("ticker", "instrument_name", ""),
        ("trades", "direction", "up"),
        ("trades", "trade_id", 5),
        ("trades", "amount", 0),
        ("book", "type", "update"),
        ("book", "change_id", 2.5),
        ("book", "change_id", -1),
        ("book", "prev_change_id", None),
        ("index", "index_name", "eth_btc"),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(kind, field, value) == field


@pytest.mark.parametrize("bid", [0.06, 0.07])
def test_a_crossed_snapshot_is_rejected(bid: float) -> None:
    assert rejected_field("snapshot", "bids", [["new", 0.01, 1.0], ["new", bid, 1.0]]) == "bids"


PRICES = st.floats(1e-9, 1e12)
SIZES = st.floats(0, 1e15)
LEVELS = st.lists(st.tuples(st.sampled_from(["new", "change", "delete"]), PRICES, SIZES).map(list))


@given(LEVELS, LEVELS)
def test_every_level_is_kept_in_order(bids: list[list[Any]], asks: list[list[Any]]) -> None:
    (record,) = sent("book.X.raw", {**CHANGE, "bids": bids, "asks": asks})
    for levels, given_levels in ((record.row["bids"], bids), (record.row["asks"], asks)):
        assert levels == [[price, 0.0 if action == "delete" else size] for action, price, size in given_levels]
    assert fault("order_books", record.row) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(CHANNELS)), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(kind: str, data: st.DataObject) -> None:
    channel, good = CHANNELS[kind]
    item = good[0] if isinstance(good, list) else good
    bad = {**item, data.draw(st.sampled_from(sorted(item))): data.draw(JSON)}
    try:
        records = sent(channel, [bad] if isinstance(good, list) else bad)
    except Rejected:
        return
    assert all(fault(record.table, record.row) is None for record in records)


@pytest.mark.parametrize(
    ("symbol", "terms"),
    [
        (
            "BTC-24SEP21-8000-P",
            {
                "kind": "option",
                "underlying": "BTC",
                "quote_currency": "BTC",
                "settlement_currency": "BTC",
                "is_inverse": True,
                "option_type": "put",
                "strike_usd": 8000.0,
                "expiry_at": "2021-09-24T08:00:00.000Z",
                "last_trading_at": "2021-09-24T08:00:00.000Z",
                "contract_size": 1.0,
                "tick_size": None,
            },
        ),
        ("BTC-PERPETUAL", {"kind": "perpetual", "quote_currency": "USD", "is_inverse": True, "contract_size": 10.0}),
        ("ETH-PERPETUAL", {"kind": "perpetual", "settlement_currency": "ETH", "expiry_at": None, "contract_size": 1.0}),
        ("BTC-6AUG21", {"kind": "future", "expiry_at": "2021-08-06T08:00:00.000Z", "contract_size": 10.0}),
        (
            "BTC_USDC-24SEP21-8000-C",
            {
                "kind": "option",
                "underlying": "BTC",
                "quote_currency": "USDC",
                "settlement_currency": "USDC",
                "is_inverse": False,
                "option_type": "call",
                "contract_size": 1.0,
            },
        ),
        ("BTC_USDC-PERPETUAL", {"kind": "perpetual", "is_inverse": False, "settlement_currency": "USDC"}),
        ("XRP_USDC-27DEC24-0d625-C", {"kind": "option", "underlying": "XRP", "strike_usd": 0.625}),
        ("ETH_USDC", {"kind": "spot", "underlying": "ETH", "quote_currency": "USDC", "is_inverse": False}),
    ],
)
def test_a_name_tells_its_terms(symbol: str, terms: dict[str, Any]) -> None:
    record = describe("deribit", symbol, RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in terms} == terms
    assert record.row["instrument"] == symbol


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC-31FEB21", "BTC-1FOO21-5-C", "BTC-24SEP21-8000-X", "BTC-FS-24SEP21_PERP"])
def test_a_name_that_tells_nothing_is_described_by_nothing(symbol: str) -> None:
    assert describe("deribit", symbol, RECEIVED) is None
