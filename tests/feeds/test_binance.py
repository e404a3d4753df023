"""Binance messages: whose each is, what it becomes, and which field is named when one cannot be used."""

from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.binance import COINM, OPTIONS, SPOT, USDM, describe, parse
from feeds.capture import Converter, Line
from schemas.rows import fault, instant_ms
from tests.feeds.conftest import CheckSamples

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
OPTION = "BTC-251226-90000-C"
OPTIONS_TRADE = {**USDM_TRADE, "s": OPTION, "S": "BUY"}
OPTIONS_BEST = {**USDM_BEST, "s": OPTION}
OPTIONS_DEPTH = {**USDM_DEPTH, "s": OPTION}
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
    "options trade": OPTIONS_TRADE,
    "options best": OPTIONS_BEST,
    "options depth": OPTIONS_DEPTH,
}
MARK = {
    "e": "markPriceUpdate",
    "E": NOW_MS,
    "s": "BTCUSDT",
    "p": "100.15",
    "i": "100.11",
    "P": "100.2",
    "r": "0.0001",
    "T": NOW_MS + 1,
}
OPTION_MARK = {
    "e": "markPrice",
    "E": NOW_MS,
    "s": OPTION,
    "mp": "770.5",
    "i": "104334.6",
    "P": "0.000",
    "bo": "0.000",
    "ao": "900.0",
    "bq": "0.0000",
    "aq": "0.2",
    "b": "-1.0",
    "a": "0.98",
    "hl": "2000",
    "ll": "0.1",
    "vo": "0.93",
    "rf": "0.04",
    "d": "0.1",
    "t": "-5",
    "g": "0.001",
    "v": "20",
}
STATISTICS = {"e": "24hrTicker", "E": NOW_MS, "s": "BTCUSDT", "p": "-1", "c": "100.15", "o": "101"}
REST_TRADE = {"id": 5, "price": "100.1", "qty": "2", "quoteQty": "200.2", "time": NOW_MS - 1, "isBuyerMaker": True}
REST_BEST = {"symbol": "BTCUSDT", "bidPrice": "100.1", "bidQty": "1.5", "askPrice": "100.2", "askQty": "2"}
OTHERS: dict[str, dict[str, Any]] = {
    "mark": MARK,
    "option mark": OPTION_MARK,
    "statistics": STATISTICS,
    "spot statistics": {**STATISTICS, "b": "100.1", "B": "1", "a": "100.2", "A": "2"},
    "index": {"e": "indexPriceUpdate", "E": NOW_MS, "i": "BTCUSD", "p": "100.11"},
    "block trade": {**{k: v for k, v in USDM_TRADE.items() if k != "X"}, "e": "blockTrade"},
    "open interest": {"e": "openInterest", "E": NOW_MS, "s": OPTION, "o": "12.5", "h": "100"},
    "option trade of before": {**{k: v for k, v in OPTIONS_TRADE.items() if k != "m"}, "q": "-2", "S": "-1"},
    "option top of before": {"e": "depth", "E": NOW_MS, "T": NOW_MS, "s": OPTION, "u": 7, "pu": 7, **LEVELS},
    "rest trade": {**REST_TRADE, "symbol": "BTCUSDT"},
    "rest aggregate": {"a": 5, "p": "100.1", "q": "2", "f": 7, "l": 9, "T": NOW_MS - 1, "m": True},
    "rest best": REST_BEST,
    "rest mark": {"symbol": "BTCUSDT", "markPrice": "100.15", "indexPrice": "100.11", "time": NOW_MS},
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


@pytest.mark.parametrize("message", [{"result": None, "id": 1}, {"result": ["btcusdt@depth"], "id": 3}, {"result": {}}, []])
def test_an_acknowledgement_or_an_empty_answer_is_no_data(message: Any) -> None:
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


@pytest.mark.parametrize("message", [b"", b"{", b"[", b"[1]", b"[[1, 2]]", b"7", b"\xff", b"null"])
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
        ({"e": "forceOrder", "E": NOW_MS, "o": {}}, "e"),
        ({"e": "ORDER_TRADE_UPDATE", "E": NOW_MS, "o": {}}, "e"),
        ({"stream": 5, "data": {}}, "stream"),
        ({"result": {"symbol": "BTCUSDT"}, "id": 1}, "e"),
        ({"result": {"result": {}}, "id": 1}, "result"),
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


URLS = [
    "wss://stream.binance.com:9443/ws/btcusdt@depth20",
    "wss://fstream.binance.com/stream?streams=btcusdt@depth5@100ms/btcusdt@aggTrade",
    "https://eapi.binance.com/eapi/v1/depth?symbol=BTC-251226-90000-C",
    "http://[",
    "",
]


@given(st.sampled_from(sorted(GOOD | OTHERS)), st.sampled_from([None, *URLS]), st.booleans(), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(
    kind: str, url: str | None, is_list: bool, data: st.DataObject
) -> None:
    good = (GOOD | OTHERS)[kind]
    message = {**good, data.draw(st.sampled_from(sorted(good))): data.draw(JSON)}
    try:
        results = sent([message, good] if is_list else message, RECEIVED._replace(symbol="BTCUSDT", url=url))
    except Rejected:
        return
    assert all(isinstance(result, Rejected) or fault(result.table, result.row) is None for result in results)


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


def rows(message: Any, received: Received = RECEIVED) -> list[dict[str, Any]]:
    """The rows of a message, each as its DDL says; faults of single items as the name of their field."""
    results = cast(list[Any], sent(message, received))
    for result in results:
        assert isinstance(result, Rejected) or fault(result.table, result.row) is None
    return [{"rejected": result.fault.field} if isinstance(result, Rejected) else dict(result.row) for result in results]


def terms(message: Any) -> list[dict[str, Any]]:
    """The rows of a listing without the status of each contract."""
    return [row for row in rows(message) if "is_halted" not in row]


@pytest.mark.parametrize(
    ("url", "stream", "message", "venue"),
    [
        ("wss://stream.binance.com:9443/stream?streams=x", None, USDM_AGG_TRADE, SPOT),
        ("wss://data-stream.binance.vision/ws", None, USDM_AGG_TRADE, SPOT),
        ("https://api3.binance.com/api/v3/exchangeInfo", None, {**STATISTICS, "b": "1", "B": "1", "a": "2", "A": "1"}, SPOT),
        ("wss://fstream.binance.com/ws", None, SPOT_BEST, USDM),
        ("wss://stream.binancefuture.com/ws", None, STATISTICS, USDM),
        ("wss://fstream.binance.com/market/stream", None, {**USDM_TRADE, "s": "AUSD_BUSD"}, USDM),
        ("wss://fstream.binance.com/ws", None, {**USDM_TRADE, "M": True}, USDM),
        ("wss://fstream.binance.com/public/stream", None, OPTIONS_BEST, OPTIONS),
        ("wss://dstream.binance.com/ws", None, USDM_AGG_TRADE, COINM),
        ("wss://dstream.binancefuture.com/ws", None, {**MARK, "s": "ETHUSD_240927"}, COINM),
        ("wss://nbstream.binance.com/eoptions/ws/x", None, {**USDM_TRADE, "s": "BTC-X"}, OPTIONS),
        ("wss://fstream.binance.com/stream", "btc-x@optionTrade", {**USDM_TRADE, "s": "BTC-X"}, OPTIONS),
        ("wss://stream.example.com/ws", None, USDM_AGG_TRADE, USDM),
        (None, "btcusdt@trade", {**USDM_TRADE, "s": "USD_COINUSDT"}, USDM),
        (None, "x", {**USDM_TRADE, "s": "AUSD_TUSDT"}, USDM),
        (None, "x", {**USDM_TRADE, "s": "BTC-251226-C"}, USDM),
        (None, "x", {**USDM_TRADE, "s": "DOGE-240628-0.15-P"}, OPTIONS),
        (None, "x", {**USDM_BEST, "ps": "BTCUSDT", "st": 1}, USDM),
        (None, "x", {**USDM_DEPTH, "ps": "BTCUSDT", "st": 1}, USDM),
        (None, "x", {**USDM_DEPTH, "s": "BTCUSDT_240927", "ps": "BTCUSDT"}, USDM),
        (None, "x", {**COINM_BEST, "s": "ETHUSD_240927"}, COINM),
        (None, "币安人生usdt@aggTrade", {**USDM_AGG_TRADE, "s": "币安人生USDT"}, USDM),
    ],
)
def test_the_family_follows_from_the_address_the_stream_and_the_grammar_of_the_symbol(
    url: str | None, stream: str | None, message: dict[str, Any], venue: str
) -> None:
    sent_as = message if stream is None else {"stream": stream, "data": message}
    first, *indices = rows(sent_as, RECEIVED._replace(url=url))
    assert first["venue"] == venue
    assert all(index["venue"] == venue for index in indices)


TOP = {"b": [["99", "1"], ["98", "2"]], "a": [["101", "1"]]}


@pytest.mark.parametrize("family", ["usdm", "coinm", "options"])
@pytest.mark.parametrize(
    ("kind", "depth"),
    [("depth", None), ("depth@100ms", None), ("depth@0ms", None), ("depth5", 5), ("depth10@500ms", 10), ("depth20@100ms", 20)],
)
@pytest.mark.parametrize("is_bare", [False, True])
def test_the_stream_tells_a_difference_from_the_top_of_a_book(family: str, kind: str, depth: int | None, is_bare: bool) -> None:
    message = {**GOOD[f"{family} depth"], **TOP}
    stream = f"{message['s'].lower()}@{kind}"
    if is_bare:
        url = f"wss://fstream.binance.com/ws/ethusdt@depth5/{stream}/btcusdt@aggTrade"
        (row,) = rows(message, RECEIVED._replace(url=url))
    else:
        (row,) = rows({"stream": stream, "data": message}, RECEIVED._replace(url="wss://fstream.binance.com/stream"))
    expected = ("change", 9) if depth is None else ("snapshot", None)
    assert (row["kind"], row["prev_sequence"], row["depth"], row["sequence"]) == (*expected, depth, 15)


def test_a_crossed_top_is_rejected() -> None:
    crossed = {**USDM_DEPTH, "b": [["99", "1"]], "a": [["99", "1"]]}
    assert rejected_field({"stream": "btcusdt@depth5", "data": crossed}) == "bids"


def test_a_bare_message_of_a_connection_with_both_streams_of_a_book_cannot_be_told() -> None:
    url = "wss://fstream.binance.com/ws/btcusdt@depth@100ms/btcusdt@depth20@100ms"
    assert rejected_field(USDM_DEPTH, RECEIVED._replace(url=url)) == "stream"
    assert rows({"stream": "btcusdt@depth@100ms", "data": USDM_DEPTH}, RECEIVED._replace(url=url))[0]["kind"] == "change"


@pytest.mark.parametrize("pu", [None, "9", -1])
def test_a_difference_whose_number_before_is_odd_is_no_snapshot(pu: Any) -> None:
    assert rejected_field({**USDM_DEPTH, "pu": pu}) == "pu"


def test_a_futures_difference_needs_the_number_before() -> None:
    message = {name: value for name, value in USDM_DEPTH.items() if name != "pu"}
    assert rejected_field(message, RECEIVED._replace(url="wss://fstream.binance.com/ws")) == "pu"


def test_a_book_with_orders_of_retail_price_improvement_is_another_one() -> None:
    assert rejected_field({"stream": "btcusdt@rpiDepth@500ms", "data": USDM_DEPTH}) == "stream"
    url = "https://fapi.binance.com/fapi/v1/rpiDepth?symbol=BTCUSDT&limit=1000"
    assert rejected_field(USDM_SNAPSHOT, RECEIVED._replace(url=url)) == "stream"


@pytest.mark.parametrize(
    ("url", "stream", "expected"),
    [
        (None, "ethusdt@depth5@100ms", (SPOT, "ETHUSDT", 5)),
        (None, "币安usdt@depth20", (SPOT, "币安USDT", 20)),
        ("wss://stream.binance.com/ws/ethusdt@depth10", None, (SPOT, "ETHUSDT", 10)),
        ("wss://stream.binance.com/stream?streams=ethusdt@depth10", "bnbusdt@depth20", (SPOT, "BNBUSDT", 20)),
        ("https://api.binance.com/api/v3/depth?symbol=ETHUSDT&limit=20", None, (SPOT, "ETHUSDT", None)),
        ("https://fapi.binance.com/fapi/v1/depth?limit=1000&symbol=ETHUSDT", None, (USDM, "ETHUSDT", None)),
        ("https://eapi.binance.com/eapi/v1/depth?symbol=ETH-251226-3100-C", None, (OPTIONS, "ETH-251226-3100-C", None)),
        ("https://testnet.binance.vision/api/v3/depth?symbol=ETHUSDT", None, (SPOT, "ETHUSDT", None)),
    ],
)
def test_a_snapshot_tells_its_symbol_and_depth_by_its_stream_or_its_request(
    url: str | None, stream: str | None, expected: tuple[str, str, int | None]
) -> None:
    message = SPOT_SNAPSHOT if stream is None else {"stream": stream, "data": SPOT_SNAPSHOT}
    (row,) = rows(message, RECEIVED._replace(symbol="BTCUSDT", url=url))
    assert (row["venue"], row["instrument"], row["depth"]) == expected
    assert (row["kind"], row["sequence"], row["prev_sequence"]) == ("snapshot", 20, None)


def test_an_option_book_as_rest_answered_it_before_december_2025_is_read() -> None:
    message = {"T": NOW_MS - 8, "u": 37, "bids": [["100.1", "1"]], "asks": [["100.2", "1"]]}
    url = "https://eapi.binance.com/eapi/v1/depth?symbol=BTC-251226-90000-C"
    (row,) = rows(message, RECEIVED._replace(url=url))
    assert (row["venue"], row["instrument"], row["kind"], row["sequence"]) == (OPTIONS, "BTC-251226-90000-C", "snapshot", 37)
    assert rejected_field({**message, "u": None}, RECEIVED._replace(url=url)) == "u"


@pytest.mark.parametrize("streams", ["ethusdt@depth5/btcusdt@depth5", "ethusdt@depth5/ethusdt@depth20"])
def test_a_bare_top_of_a_connection_with_several_is_rejected(streams: str) -> None:
    received = RECEIVED._replace(symbol="ETHUSDT", url=f"wss://stream.binance.com/ws/{streams}")
    assert rejected_field(SPOT_SNAPSHOT, received) in ("symbol", "stream")


def test_a_request_for_a_whole_book_begins_it_wherever_its_connection_is() -> None:
    """Lines as a capture holds them: several symbols on the stream, the snapshots without any."""
    converter = Converter()
    url = "https://fapi.binance.com/fapi/v1/depth?symbol={}&limit=1000"
    lines: list[tuple[Any, str | None]] = [
        *[({**USDM_DEPTH, "s": symbol}, None) for symbol in ("BTCUSDT", "ETHUSDT")],
        *[(USDM_SNAPSHOT, url.format(symbol)) for symbol in ("ETHUSDT", "BTCUSDT")],
    ]
    records = [
        record
        for message, address in lines
        for record in converter.convert(
            Line("binance", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message", url=address)
        ).records
        if record.table == "order_books"
    ]
    assert [(record.row["instrument"], record.row["kind"]) for record in records] == [
        ("BTCUSDT", "change"),
        ("ETHUSDT", "change"),
        ("ETHUSDT", "snapshot"),
        ("BTCUSDT", "snapshot"),
    ]


@pytest.mark.parametrize(
    ("fields", "off_market"),
    [
        ({"X": "MARKET"}, None),
        ({"X": "INSURANCE_FUND"}, "insurance_fund"),
        ({"X": "ADL"}, "adl"),
        ({"X": "BLOCK", "s": OPTION}, "block"),
        ({"e": "blockTrade"}, "block"),
    ],
)
def test_an_execution_that_is_no_trade_of_the_market_says_what_it_is(fields: dict[str, Any], off_market: str | None) -> None:
    base = USDM_TRADE if "X" in fields else {k: v for k, v in USDM_TRADE.items() if k != "X"}
    (row,) = rows({**base, **fields})
    assert (row["off_market"], row["price"]) == (off_market, 100.1)


@pytest.mark.parametrize(
    "fields", [{"X": "NA", "p": "0", "q": "0"}, {"X": "NA"}, {"X": "SOMETHING"}, {"X": None}, {"X": ["ADL"]}]
)
def test_what_is_no_execution_or_of_a_kind_that_is_not_known_is_no_row(fields: dict[str, Any]) -> None:
    assert rejected_field({**USDM_TRADE, **fields}) == "X"


def test_an_execution_without_a_price_is_no_row() -> None:
    for trade in (SPOT_TRADE, USDM_TRADE, USDM_AGG_TRADE):
        assert rejected_field({**trade, "p": "0"}) == "p"


def test_a_block_and_a_trade_of_one_number_have_different_ids() -> None:
    ids = {rows(message)[0]["trade_id"] for message in (SPOT_TRADE, USDM_AGG_TRADE, OTHERS["block trade"])}
    assert len(ids) == 3


@pytest.mark.parametrize(("size", "side"), [("-2", "sell"), ("2", "buy")])
def test_an_options_trade_of_before_tells_its_side_by_a_sign(size: str, side: str) -> None:
    message = {**OTHERS["option trade of before"], "q": size, "S": "-1" if side == "sell" else "1"}
    (row,) = rows(message)
    assert (row["venue"], row["side"], row["size"]) == (OPTIONS, side, 2.0)


@pytest.mark.parametrize(("stream", "depth"), [(None, 2), (f"{OPTION}@depth10", 10), (f"{OPTION}@depth100@500ms", 100)])
def test_an_options_top_of_before_is_a_snapshot(stream: str | None, depth: int) -> None:
    message = {**OTHERS["option top of before"], **TOP}
    (row,) = rows(message if stream is None else {"stream": stream, "data": message})
    assert (row["venue"], row["kind"], row["sequence"], row["depth"]) == (OPTIONS, "snapshot", 7, depth)


@pytest.mark.parametrize(
    ("url", "items", "expected"),
    [
        (
            "https://api.binance.com/api/v3/trades?symbol=ETHUSDT",
            [{**REST_TRADE, "isBestMatch": True}, {**REST_TRADE, "id": 6, "isBuyerMaker": False}],
            [(SPOT, "ETHUSDT", "5", "sell"), (SPOT, "ETHUSDT", "6", "buy")],
        ),
        (
            "https://fapi.binance.com/fapi/v1/aggTrades?symbol=ETHUSDT&limit=2",
            [{"a": 5, "p": "1", "q": "2", "f": 1, "l": 2, "T": NOW_MS, "m": False}],
            [(USDM, "ETHUSDT", "a5", "buy")],
        ),
        (
            "https://dapi.binance.com/dapi/v1/trades?symbol=BTCUSD_PERP",
            [{**REST_TRADE, "baseQty": "0.2"}],
            [(COINM, "BTCUSD_PERP", "5", "sell")],
        ),
        (
            f"https://eapi.binance.com/eapi/v1/trades?symbol={OPTION}",
            [{"id": "1", "tradeId": 77, "price": "1000", "qty": "-0.1", "side": -1, "time": NOW_MS}],
            [(OPTIONS, OPTION, "77", "sell")],
        ),
    ],
)
def test_trades_that_were_asked_for_are_of_the_symbol_in_the_request(
    url: str, items: list[dict[str, Any]], expected: list[tuple[str, ...]]
) -> None:
    trades = rows(items, RECEIVED._replace(symbol="BTCUSDT", url=url))
    assert [(trade["venue"], trade["instrument"], trade["trade_id"], trade["side"]) for trade in trades] == expected
    assert all(trade["off_market"] is None for trade in trades)


def test_blocks_that_were_asked_for_are_off_the_market() -> None:
    block = {"tradeId": 77, "symbol": OPTION, "price": "1000", "qty": "0.1", "side": 1, "time": NOW_MS}
    (row,) = rows([block], RECEIVED._replace(url="https://eapi.binance.com/eapi/v1/blockTrades"))
    assert (row["off_market"], row["side"]) == ("block", "buy")


def test_an_answer_on_a_websocket_is_data() -> None:
    received = RECEIVED._replace(symbol="BTCUSDT", url="wss://ws-fapi.binance.com/ws-fapi/v1")
    (row,) = rows({"id": "x", "status": 200, "result": USDM_SNAPSHOT, "rateLimits": []}, received)
    assert (row["venue"], row["kind"]) == (USDM, "snapshot")
    assert rows({"id": "x", "status": 200, "result": [REST_BEST]}, received)[0]["venue"] == USDM


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (REST_BEST, (SPOT, True, 100.1, None)),
        ({**REST_BEST, "time": NOW_MS}, (USDM, True, 100.1, None)),
        ({**REST_BEST, "time": NOW_MS, "symbol": "BTCUSD_PERP", "pair": "BTCUSD"}, (COINM, True, 100.1, None)),
        ({**REST_BEST, "lastPrice": "100.15", "closeTime": NOW_MS}, (SPOT, True, 100.1, 100.15)),
        ({**REST_BEST, "bidPrice": "0.0", "bidQty": "0.0"}, (SPOT, True, None, None)),
        (OTHERS["spot statistics"], (SPOT, True, 100.1, 100.15)),
        (STATISTICS, (USDM, False, None, 100.15)),
        ({**STATISTICS, "s": "BTCUSD_PERP", "ps": "BTCUSD"}, (COINM, False, None, 100.15)),
        ({**STATISTICS, "s": OPTION}, (OPTIONS, False, None, 100.15)),
        (OTHERS["open interest"], (OPTIONS, False, None, None)),
    ],
)
def test_a_ticker_says_whether_it_speaks_of_a_quote(message: dict[str, Any], expected: tuple[Any, ...]) -> None:
    (row,) = rows(message)
    assert (row["venue"], row["has_quote"], row["bid_price"], row["last_price"]) == expected


@pytest.mark.parametrize(
    ("fields", "venue", "index"),
    [
        ({}, USDM, ("BTC", "USDT", 100.11)),
        ({"s": "ETHUSDC"}, USDM, ("ETH", "USDC", 100.11)),
        ({"s": "BTCUSDT_240927"}, USDM, ("BTC", "USDT", 100.11)),
        ({"s": "BTCUSD_PERP"}, COINM, ("BTC", "USD", 100.11)),
        ({"s": "币安人生USDT"}, USDM, ("币安人生", "USDT", 100.11)),
        ({"s": "ETHBTC"}, USDM, None),
        ({"i": "0.00000000"}, USDM, None),
        ({"i": ""}, USDM, None),
    ],
)
def test_a_mark_tells_no_quote_and_the_index_in_its_own_currency(
    fields: dict[str, Any], venue: str, index: tuple[str, str, float] | None
) -> None:
    ticker, *indices = rows({**MARK, **fields})
    assert (ticker["venue"], ticker["mark_price"], ticker["has_quote"]) == (venue, 100.15, False)
    assert ticker["index_price_usd"] == (index[2] if index else None)
    told = [(row["venue"], row["underlying"], row["quote_currency"], row["price_usd"]) for row in indices]
    assert told == ([(venue, *index)] if index else [])


def test_marks_of_options_tell_quotes_vols_and_their_index_once() -> None:
    put = {**OPTION_MARK, "s": "BTC-251226-80000-P", "b": "0.9", "bo": "5", "bq": "1"}
    call, put_row, index = rows({"stream": "btcusdt@optionMarkPrice", "data": [OPTION_MARK, put]})
    names = ("venue", "mark_price", "mark_iv", "bid_iv", "ask_iv", "has_quote", "bid_price", "ask_price", "ask_size")
    assert [call[name] for name in names] == [OPTIONS, 770.5, 0.93, None, 0.98, True, None, 900.0, 0.2]
    assert (call["min_price"], call["max_price"], call["interest_rate"]) == (0.1, 2000.0, 0.04)
    assert (put_row["bid_iv"], put_row["bid_price"], put_row["bid_size"]) == (0.9, 5.0, 1.0)
    assert (index["venue"], index["underlying"], index["quote_currency"], index["price_usd"]) == (
        OPTIONS,
        "BTC",
        "USDT",
        104334.6,
    )


def test_a_mark_of_an_option_without_best_prices_says_nothing_of_a_quote() -> None:
    message = {name: OPTION_MARK[name] for name in ("e", "E", "s", "mp")}
    (row,) = rows([message])
    assert (row["has_quote"], row["mark_price"], row["mark_iv"]) == (False, 770.5, None)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"e": "indexPriceUpdate", "E": NOW_MS, "i": "BTCUSD", "p": "9.5"}, (COINM, "BTC", "USD")),
        ([{"e": "indexPrice", "E": NOW_MS, "s": "ETHUSDT", "p": "9.5"}], (OPTIONS, "ETH", "USDT")),
        ({"e": "index", "E": NOW_MS, "s": "ETHUSDT", "p": "9.5"}, (OPTIONS, "ETH", "USDT")),
    ],
)
def test_an_index_is_of_its_pair(message: Any, expected: tuple[str, str, str]) -> None:
    (row,) = rows(message)
    assert (row["venue"], row["underlying"], row["quote_currency"]) == expected
    assert row["price_usd"] == 9.5


LISTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "marks": (MARK, {**MARK, "p": "x"}),
    "statistics": (STATISTICS, {**STATISTICS, "s": ""}),
    "best prices": (USDM_BEST, {**USDM_BEST, "b": "NaN"}),
    "rest best prices": (REST_BEST, {**REST_BEST, "askPrice": None}),
    "trades": ({**REST_TRADE, "symbol": "BTCUSDT"}, {**REST_TRADE, "symbol": "BTCUSDT", "price": "0"}),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("is_combined", [False, True])
@given(odd=st.lists(st.booleans(), min_size=2, max_size=6))
def test_an_odd_item_costs_none_of_its_neighbours(kind: str, is_combined: bool, odd: list[bool]) -> None:
    good, bad = LISTS[kind]
    items = [bad if is_odd else good for is_odd in odd]
    results = cast(list[Any], sent({"stream": "!x@arr", "data": items} if is_combined else items))
    told = [result for result in results if not isinstance(result, Record) or result.table != "index_prices"]
    assert [isinstance(result, Rejected) for result in told] == odd
    assert all(orjson.loads(result.item or b"") == bad for result in told if isinstance(result, Rejected))


def test_an_item_that_is_no_object_is_one_dead_letter() -> None:
    assert [row.get("rejected", row.get("venue")) for row in rows([MARK, 5, "x"])] == [USDM, "data", "data", USDM]


FUTURE = {**LISTED, "marginAsset": "USDT", "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000, "status": "TRADING"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("perpetual", None)),
        ({"contractType": "TRADIFI_PERPETUAL"}, ("perpetual", None)),
        (
            {"contractType": "PERPETUAL_DELIVERING", "deliveryDate": 1_727_424_000_000, "status": "SETTLING"},
            ("perpetual", None),
        ),
        ({"contractType": "PERPETUAL DELIVERING", "deliveryDate": 1_727_424_000_000}, ("perpetual", None)),
        *[
            ({"contractType": kind, "deliveryDate": 1_727_424_000_000, "status": state}, ("future", "2024-09-27T08:00:00.000Z"))
            for kind, state in [
                ("CURRENT_MONTH", "TRADING"),
                ("NEXT_MONTH", "PENDING_TRADING"),
                ("CURRENT_QUARTER", "PRE_DELIVERING"),
                ("NEXT_QUARTER", "TRADING"),
                ("CURRENT_QUARTER DELIVERING", "DELIVERING"),
                ("CURRENT_QUARTER_DELIVERING", "DELIVERED"),
            ]
        ],
        ({"contractType": "NEXT_QUARTER"}, "deliveryDate"),
        ({"contractType": "CURRENT_QUARTER", "deliveryDate": 0}, "deliveryDate"),
        ({"contractType": ""}, "contractType"),
        ({"contractType": None}, "contractType"),
        ({"contractType": "CURRENT_WEEK", "deliveryDate": 1_727_424_000_000}, "contractType"),
        ({"contractType": ["PERPETUAL"]}, "contractType"),
        ({"status": "NOT_YET"}, "status"),
        ({"status": None}, "status"),
        ({"status": "", "contractType": ""}, "status"),
        ({"marginAsset": ""}, "marginAsset"),
    ],
)
def test_a_contract_whose_type_or_state_is_not_known_is_no_future_and_costs_no_neighbour(
    fields: dict[str, Any], expected: tuple[str, str | None] | str
) -> None:
    first, second = terms({"symbols": [FUTURE, {**FUTURE, "symbol": "ETHUSDT", **fields}]})
    assert (first["instrument"], first["kind"]) == ("BTCUSDT", "perpetual")
    if isinstance(expected, str):
        assert second == {"rejected": expected}
    else:
        assert (second["venue"], second["kind"], second["expiry_at"]) == (USDM, *expected)


def test_an_item_of_a_futures_listing_without_its_terms_is_no_spot() -> None:
    assert terms({"symbols": [FUTURE, LISTED]})[1] == {"rejected": "contractType"}
    url = "https://fapi.binance.com/fapi/v1/exchangeInfo"
    assert rejected_field({"symbols": [LISTED]}, RECEIVED._replace(url=url)) == "contractType"
    assert rows({"symbols": [{**LISTED, "status": "BREAK"}]})[0]["kind"] == "spot"


@pytest.mark.parametrize(("status", "is_halted"), [("TRADING", False), ("HALT", True), ("BREAK", True), ("PRE_TRADING", True)])
def test_the_status_of_a_listed_contract_is_a_halt_or_its_end(status: str, is_halted: bool) -> None:
    _, halt = rows({"symbols": [{**LISTED, "status": status}]})
    assert (halt["instrument"], halt["is_halted"], halt["reason"]) == (
        LISTED["symbol"],
        is_halted,
        status if is_halted else None,
    )
    assert halt["event_at"] == instant_ms(NOW_MS)


CONTRACT_INFO = {
    "e": "contractInfo",
    "E": NOW_MS,
    "s": "IOTAUSDT",
    "ps": "IOTAUSDT",
    "ct": "PERPETUAL",
    "dt": 4133404800000,
    "ot": 1569398400000,
    "cs": "SETTLING",
}
"""A documented message of the stream !contractInfo."""


def test_a_contract_whose_status_changes_is_halted_or_trades_again() -> None:
    (halt,) = rows(CONTRACT_INFO)
    names = ("venue", "instrument", "event_at", "is_halted", "reason")
    assert tuple(halt[name] for name in names) == (USDM, "IOTAUSDT", instant_ms(NOW_MS), True, "SETTLING")
    (halt,) = rows({**CONTRACT_INFO, "cs": "TRADING", "s": "BTCUSD_PERP"})
    assert (halt["venue"], halt["is_halted"], halt["reason"]) == (COINM, False, None)
    for odd, field in (({"cs": "ASLEEP"}, "cs"), ({"s": ""}, "s"), ({"E": NOW_MS + 61_000}, "E")):
        assert rejected_field({**CONTRACT_INFO, **odd}) == field


LISTED_OPTION = {
    "symbol": OPTION,
    "side": "CALL",
    "strikePrice": "90000.000",
    "underlying": "BTCUSDT",
    "quoteAsset": "USDT",
    "unit": 1,
    "expiryDate": 1_766_736_000_000,
    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "5"}],
    "status": "TRADING",
}


def test_a_listing_of_options_and_a_name_tell_the_same() -> None:
    good, bad = terms({"optionSymbols": [LISTED_OPTION, {**LISTED_OPTION, "side": "CALLS"}], "optionContracts": []})
    described = describe(OPTIONS, OPTION, RECEIVED)
    assert described is not None
    assert good == {**described.row, "tick_size": 5.0}
    assert (good["kind"], good["option_type"], good["strike_usd"]) == ("option", "call", 90000.0)
    assert (good["expiry_at"], good["settlement_currency"]) == ("2025-12-26T08:00:00.000Z", "USDT")
    assert bad == {"rejected": "side"}
    assert rejected_field({"optionSymbols": [{**LISTED_OPTION, "underlying": "BTCEUR"}]}) == "underlying"


@pytest.mark.parametrize("symbol", ["BTC-251326-90000-C", "BTC-251226-90000-X", "BTC-251226--C", "BTC-251226-9e4-C", "BTCUSDT"])
def test_a_name_that_is_no_option_is_described_by_nothing(symbol: str) -> None:
    assert describe(OPTIONS, symbol, RECEIVED) is None


def test_a_contract_named_in_chinese_is_described() -> None:
    record = describe(USDM, "币安人生USDT", RECEIVED)
    assert record is not None
    assert (record.row["underlying"], record.row["kind"]) == ("币安人生", "perpetual")


@given(st.sampled_from(sorted(GOOD | OTHERS)), st.integers(0, 999))
def test_microseconds_are_told_from_milliseconds(kind: str, us: int) -> None:
    message = (GOOD | OTHERS)[kind]
    times = {name: message[name] * 1000 + us for name in ("E", "T", "time") if name in message}
    received = RECEIVED._replace(symbol="BTCUSDT")
    assert sent({**message, **times}, received) == sent(message, received)


READ = {
    "futures/market_data_json/agg_trade_stream.json": {"instruments": 1, "trades": 1},
    "futures/market_data_json/book_ticker_stream.json": {"instruments": 1, "tickers": 1},
    "futures/market_data_json/depth_update_stream.json": {"instruments": 1, "order_books": 1},
    "futures/market_data_json/mark_price_stream.json": {"instruments": 1, "tickers": 1, "index_prices": 1},
    "futures/market_data_json/ticker_stream.json": {"instruments": 1, "tickers": 1},
    "futures/market_data_json/trade_stream.json": {"instruments": 1, "trades": 1},
    "spot/http_json/depth_response.json": {"instruments": 1, "order_books": 1},
    "spot/http_json/exchange_info_response.json": {"instruments": 1, "trading_halts": 1},
    "spot/http_json/trades_response.json": {"instruments": 1, "trades": 1},
}


def test_samples_of_today_become_rows_or_dead_letters(check_samples: CheckSamples) -> None:
    def received_ms(message: Any) -> int:
        return int(message[0]["time"] if isinstance(message, list) else message.get("E", NOW_MS))

    asked = "https://api.binance.com/api/v3/{}?symbol=LTCBTC"
    urls = {f"spot/http_json/{name}_response.json": asked.format(name) for name in ("depth", "trades")}
    check_samples("binance", READ, received_ms, urls)
