"""Binance messages: whose each is, what it becomes, and which field is named when one cannot be used."""

from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.binance import COINM, SPOT, USDM, describe, parse
from schemas.rows import fault, instant_ms

NOW_MS = 1_700_000_000_000
RECEIVED = Received(NOW_MS * 1000, None, None)

LEVELS = {"b": [["100.10", "1.5"], ["100.00", "0.000"]], "a": [["100.20", "2"]]}
SPOT_DEPTH = {"e": "depthUpdate", "E": NOW_MS, "s": "BTCUSDT", "U": 11, "u": 15, **LEVELS}
USDM_DEPTH = {"e": "depthUpdate", "E": NOW_MS, "T": NOW_MS - 8, "s": "BTCUSDT", "U": 11, "u": 15, "pu": 9, **LEVELS}
COINM_DEPTH = {**USDM_DEPTH, "s": "BTCUSD_PERP", "ps": "BTCUSD"}
SPOT_SNAPSHOT = {"lastUpdateId": 20, "bids": [["100.1", "1"]], "asks": [["100.2", "1"]]}
USDM_SNAPSHOT = {**SPOT_SNAPSHOT, "E": NOW_MS, "T": NOW_MS - 8}
COINM_SNAPSHOT = {**USDM_SNAPSHOT, "symbol": "BTCUSD_PERP", "pair": "BTCUSD"}
SPOT_BEST = {"u": 15, "s": "BTCUSDT", "b": "100.10", "B": "1.5", "a": "100.20", "A": "2"}
USDM_BEST = {"e": "bookTicker", **SPOT_BEST, "T": NOW_MS - 8, "E": NOW_MS}
COINM_BEST = {**USDM_BEST, "s": "BTCUSD_PERP", "ps": "BTCUSD"}
SPOT_TRADE = {
    "e": "trade",
    "E": NOW_MS,
    "s": "BTCUSDT",
    "t": 5,
    "p": "100.1",
    "q": "2",
    "T": NOW_MS - 1,
    "m": True,
    "M": True,
}
USDM_TRADE = {**{k: v for k, v in SPOT_TRADE.items() if k != "M"}, "X": "MARKET", "m": False}
COINM_TRADE = {**USDM_TRADE, "s": "BTCUSD_240927"}
USDM_AGG_TRADE = {
    "e": "aggTrade",
    "E": NOW_MS,
    "s": "BTCUSDT",
    "a": 5,
    "p": "100.1",
    "q": "2",
    "f": 7,
    "l": 9,
    "T": NOW_MS - 1,
    "m": True,
}
GOOD: dict[str, dict[str, Any]] = {
    "spot depth": SPOT_DEPTH,
    "usdm depth": USDM_DEPTH,
    "coinm depth": COINM_DEPTH,
    "usdm snapshot": USDM_SNAPSHOT,
    "coinm snapshot": COINM_SNAPSHOT,
    "spot snapshot": SPOT_SNAPSHOT,
    "spot best": SPOT_BEST,
    "usdm best": USDM_BEST,
    "coinm best": COINM_BEST,
    "spot trade": SPOT_TRADE,
    "usdm trade": USDM_TRADE,
    "coinm trade": COINM_TRADE,
    "usdm aggTrade": USDM_AGG_TRADE,
    "spot aggTrade": {**USDM_AGG_TRADE, "M": True},
    "coinm aggTrade": {**USDM_AGG_TRADE, "s": "ETHUSD_PERP"},
}


def sent(message: Any, received: Received = RECEIVED) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(message), received))


def rejected_field(message: Any, received: Received = RECEIVED) -> str | None:
    with pytest.raises(Rejected) as rejected:
        sent(message, received)
    return rejected.value.fault.field


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("is_combined", [False, True])
def test_the_venue_is_told_from_the_message(kind: str, is_combined: bool) -> None:
    message = {"stream": "btcusdt@x", "data": GOOD[kind]} if is_combined else GOOD[kind]
    (record,) = sent(message, RECEIVED._replace(symbol="BTCUSDT"))
    assert record.row["venue"] == f"binance_{kind.split()[0]}"
    assert fault(record.table, record.row) is None


@pytest.mark.parametrize(("message", "previous"), [(SPOT_DEPTH, 10), (USDM_DEPTH, 9), (COINM_DEPTH, 9)])
def test_a_change_follows_the_update_before_it(message: dict[str, Any], previous: int) -> None:
    (record,) = sent(message)
    row = record.row
    assert (record.event_ms, row["kind"], row["sequence"], row["prev_sequence"]) == (NOW_MS, "change", 15, previous)
    assert row["bids"] == [[100.1, 1.5], [100.0, 0.0]]
    assert row["asks"] == [[100.2, 2.0]]


def test_a_snapshot_takes_its_symbol_from_the_connection_where_it_names_none() -> None:
    (record,) = sent(USDM_SNAPSHOT, RECEIVED._replace(symbol="ETHUSDT"))
    assert (record.row["instrument"], record.row["kind"], record.row["sequence"]) == ("ETHUSDT", "snapshot", 20)
    assert sent(COINM_SNAPSHOT, RECEIVED._replace(symbol="ETHUSDT"))[0].row["instrument"] == "BTCUSD_PERP"
    assert rejected_field(USDM_SNAPSHOT) == "symbol"


@pytest.mark.parametrize("message", [SPOT_SNAPSHOT, SPOT_BEST])
def test_what_has_no_time_takes_the_newest_of_its_connection_else_the_received(message: dict[str, Any]) -> None:
    received = RECEIVED._replace(symbol="BTCUSDT")
    assert sent(message, received)[0].event_ms == NOW_MS
    assert sent(message, received._replace(newest_event_ms=NOW_MS + 1280))[0].event_ms == NOW_MS + 1280


def test_a_best_price_carries_the_sequence_of_the_book() -> None:
    row = sent(COINM_BEST)[0].row
    assert (row["sequence"], row["bid_price"], row["bid_size"], row["ask_price"]) == (15, 100.1, 1.5, 100.2)
    empty = sent({**USDM_BEST, "a": "0.00", "A": "0.000"})[0].row
    assert (empty["ask_price"], empty["ask_size"], empty["bid_price"]) == (None, None, 100.1)


@pytest.mark.parametrize(("is_maker_buyer", "side"), [(True, "sell"), (False, "buy")])
def test_the_side_of_a_trade_is_the_takers(is_maker_buyer: bool, side: str) -> None:
    (record,) = sent({**USDM_TRADE, "m": is_maker_buyer})
    assert (record.row["side"], record.row["price"], record.row["size"]) == (side, 100.1, 2.0)
    assert record.row["event_at"] == instant_ms(NOW_MS - 1)


def test_an_aggregate_and_a_trade_of_one_number_have_different_ids() -> None:
    assert sent(USDM_TRADE)[0].row["trade_id"] != sent(USDM_AGG_TRADE)[0].row["trade_id"]


@pytest.mark.parametrize("message", [{"result": None, "id": 1}, {"result": ["btcusdt@depth"], "id": 3}])
def test_an_acknowledgement_is_no_data(message: dict[str, Any]) -> None:
    assert sent(message) == []


LISTED = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT"}
TICK = {"filters": [{"filterType": "LOT_SIZE"}, {"filterType": "PRICE_FILTER", "tickSize": "0.10"}]}


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        (
            {**LISTED, **TICK},
            {"venue": SPOT, "kind": "spot", "settlement_currency": "USDT", "tick_size": 0.1, "is_inverse": False},
        ),
        (
            {**LISTED, **TICK, "contractType": "PERPETUAL", "marginAsset": "USDT", "deliveryDate": 4_133_404_800_000},
            {"venue": USDM, "kind": "perpetual", "expiry_at": None, "contract_size": 1.0, "is_inverse": False},
        ),
        (
            {**LISTED, "contractType": "CURRENT_QUARTER", "marginAsset": "USDT", "deliveryDate": 1_727_424_000_000},
            {"venue": USDM, "kind": "future", "expiry_at": "2024-09-27T08:00:00.000Z", "tick_size": None},
        ),
        (
            {
                "symbol": "BTCUSD_PERP",
                "baseAsset": "BTC",
                "quoteAsset": "USD",
                "marginAsset": "BTC",
                "contractType": "PERPETUAL",
                "contractSize": 100,
            },
            {"venue": COINM, "kind": "perpetual", "contract_size": 100.0, "is_inverse": True},
        ),
    ],
)
def test_a_listing_gives_the_terms_of_each_contract(symbol: dict[str, Any], expected: dict[str, Any]) -> None:
    (record,) = sent({"timezone": "UTC", "serverTime": NOW_MS, "symbols": [symbol]})
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in expected} == expected


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b"\xff", b"null"])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"e": "kline", "E": NOW_MS}, "e"),
        ({"e": ["trade"]}, "e"),
        ({}, "e"),
        ({"stream": "x"}, "data"),
        ({"stream": "x", "data": [1]}, "data"),
        ({"code": -1121, "msg": "Invalid symbol."}, "code"),
        ({"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, "error"),
        ({"symbols": {}}, "symbols"),
        ({"symbols": [{**LISTED, "baseAsset": ""}]}, "baseAsset"),
        ({"symbols": [{**LISTED, "filters": [{"filterType": "PRICE_FILTER", "tickSize": "NaN"}]}]}, "filters"),
        ({"symbols": [5]}, None),
    ],
)
def test_an_error_or_an_unknown_message_is_rejected(message: dict[str, Any], field: str | None) -> None:
    assert rejected_field(message) == field


NEEDED = {
    "spot depth": "E s U u b a",
    "usdm depth": "E s u b a",
    "coinm snapshot": "lastUpdateId bids asks",
    "spot best": "s b a A",
    "usdm best": "E s u b B a A",
    "spot trade": "T s t p q m",
    "usdm aggTrade": "T s a p q m",
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, names in NEEDED.items() for field in names.split()])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    message = {name: value for name, value in GOOD[kind].items() if name != field}
    assert rejected_field(message) == ("e" if field == "lastUpdateId" else field)


@pytest.mark.parametrize("ahead_ms", [60_001, -86_400_001, 10**15, "soon", 1.5, None, True])
def test_a_wild_event_time_is_named(ahead_ms: Any) -> None:
    value = NOW_MS + ahead_ms if type(ahead_ms) is int else ahead_ms
    assert rejected_field({**USDM_DEPTH, "E": value}) == "E"
    assert rejected_field({**COINM_SNAPSHOT, "E": value}) == "E"
    assert rejected_field({**USDM_BEST, "E": value}) == "E"
    assert rejected_field({**USDM_TRADE, "T": value}) == "T"


@pytest.mark.parametrize("ahead_ms", [60_000, 1_280, 0, -86_400_000])
def test_an_event_time_within_bounds_is_taken_as_it_is(ahead_ms: int) -> None:
    assert sent({**USDM_DEPTH, "E": NOW_MS + ahead_ms})[0].event_ms == NOW_MS + ahead_ms


BAD_NUMBERS: list[Any] = ["NaN", "Infinity", "-Infinity", "-1", "1e300", "", "abc", None, [], {}]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_bad_number_is_named(bad: Any) -> None:
    for side in ("b", "a"):
        assert rejected_field({**SPOT_DEPTH, side: [["100", "1"], [bad, "1"]]}) == side
        assert rejected_field({**SPOT_DEPTH, side: [["100", "1"], ["100", bad]]}) == side
    for name in ("b", "B", "a", "A"):
        assert rejected_field({**USDM_BEST, name: bad}) == name
    for name in ("p", "q"):
        assert rejected_field({**USDM_TRADE, name: bad}) == name
    for name in ("bids", "asks"):
        assert rejected_field({**COINM_SNAPSHOT, name: [["100", bad]]}) == name


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("spot depth", "b", [["0", "1"]]),
        ("spot depth", "b", [["1"]]),
        ("spot depth", "b", [["1", "2", "3"]]),
        ("spot depth", "a", [None]),
        ("spot depth", "a", {}),
        ("spot depth", "U", 0),
        ("spot depth", "s", ""),
        ("usdm depth", "u", 1.5),
        ("usdm depth", "pu", "9"),
        ("usdm depth", "u", -1),
        ("usdm depth", "u", 2**63),
        ("spot best", "b", "0"),
        ("spot best", "u", None),
        ("usdm trade", "p", "0"),
        ("usdm trade", "q", "0"),
        ("usdm trade", "m", 1),
        ("usdm trade", "t", "5"),
        ("coinm snapshot", "symbol", 5),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field({**GOOD[kind], field: value}) == field


@pytest.mark.parametrize("bid", ["100.2", "100.3"])
def test_a_crossed_snapshot_is_rejected(bid: str) -> None:
    assert rejected_field({**COINM_SNAPSHOT, "bids": [["99", "1"], [bid, "1"]]}) == "bids"


SIDE = st.lists(st.tuples(st.decimals("1e-9", "1e12"), st.decimals(0, "1e15")).map(lambda level: [*map(str, level)]))


@given(SIDE, SIDE)
def test_every_level_is_kept_in_order(bids: list[list[str]], asks: list[list[str]]) -> None:
    (record,) = sent({**USDM_DEPTH, "b": bids, "a": asks})
    assert record.row["bids"] == [[float(price), float(size)] for price, size in bids]
    assert record.row["asks"] == [[float(price), float(size)] for price, size in asks]
    assert fault("order_books", record.row) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(kind: str, data: st.DataObject) -> None:
    message = {**GOOD[kind], data.draw(st.sampled_from(sorted(GOOD[kind]))): data.draw(JSON)}
    try:
        records = sent(message, RECEIVED._replace(symbol="BTCUSDT"))
    except Rejected:
        return
    assert all(fault(record.table, record.row) is None for record in records)


@pytest.mark.parametrize(
    ("venue", "symbol", "terms"),
    [
        (SPOT, "BTCUSDT", {"kind": "spot", "underlying": "BTC", "quote_currency": "USDT", "is_inverse": False}),
        (SPOT, "ETHBTC", {"kind": "spot", "underlying": "ETH", "quote_currency": "BTC"}),
        (
            USDM,
            "BTCUSDT",
            {"kind": "perpetual", "settlement_currency": "USDT", "expiry_at": None, "contract_size": 1.0},
        ),
        (USDM, "BTCUSDT_240927", {"kind": "future", "underlying": "BTC", "expiry_at": "2024-09-27T08:00:00.000Z"}),
        (USDM, "1000PEPEUSDC", {"kind": "perpetual", "underlying": "1000PEPE", "quote_currency": "USDC"}),
        (
            COINM,
            "BTCUSD_PERP",
            {
                "kind": "perpetual",
                "underlying": "BTC",
                "quote_currency": "USD",
                "settlement_currency": "BTC",
                "is_inverse": True,
                "contract_size": 100.0,
            },
        ),
        (
            COINM,
            "ETHUSD_240927",
            {"kind": "future", "contract_size": 10.0, "last_trading_at": "2024-09-27T08:00:00.000Z"},
        ),
    ],
)
def test_a_symbol_tells_its_terms(venue: str, symbol: str, terms: dict[str, Any]) -> None:
    record = describe(venue, symbol, RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in terms} == terms


@pytest.mark.parametrize(
    ("venue", "symbol"),
    [(SPOT, "XYZ"), (SPOT, "BTCUSDT_240927"), (USDM, "BTCUSDT_241399"), (COINM, "BTCUSDT"), ("x", "BTCUSDT")],
)
def test_a_symbol_that_tells_nothing_is_described_by_nothing(venue: str, symbol: str) -> None:
    assert describe(venue, symbol, RECEIVED) is None
