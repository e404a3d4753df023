"""Bitget messages: whose each is, what it becomes, and which field is named when one cannot be used."""

from decimal import Decimal
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.bitget import COIN, SPOT, USDC, USDT, describe, parse
from schemas.rows import encoded, fault, instant_ms

NOW_MS = 1_700_000_000_000
RECEIVED = Received(NOW_MS * 1000, None, None)
TS = {"ts": str(NOW_MS)}
LEVELS = {"bids": [["100.10", "1.50"], ["100.0", "0"]], "asks": [["100.20", "2"]]}
TICKER = {
    "instId": "BTCUSDT",
    "lastPr": "100.15",
    "bidPr": "100.10",
    "askPr": "100.20",
    "bidSz": "1.5",
    "askSz": "2",
    "markPrice": "100.12",
    "indexPrice": "100.11",
    "holdingAmount": "929.502",
    **TS,
}
TICKER_V1 = {"instId": "BTCUSDT", "last": "100.15", "bestBid": "100.10", "bestAsk": "100.20", "ts": NOW_MS, "labeId": 0}
FUTURES_TICKER_V1 = {
    **{name: value for name, value in TICKER_V1.items() if name != "ts"},
    "systemTime": NOW_MS,
    "markPrice": "100.12",
    "indexPrice": "100.11",
    "holding": "6166.235",
}
TRADE = {**TS, "price": "100.1", "size": "0.12", "side": "buy", "tradeId": "1235670816495050754"}
TRADE_V1 = [str(NOW_MS), "100.1", "0.120", "buy"]
GOOD: dict[str, tuple[str, str, Any]] = {
    "update": ("books", "update", {**LEVELS, **TS, "checksum": -855196043, "seq": 15, "pseq": 9}),
    "update of v1": ("books", "update", {**LEVELS, **TS, "checksum": -855196043}),
    "snapshot": ("books", "snapshot", {**LEVELS, **TS, "checksum": 5, "seq": "1343064377779269632", "pseq": 0}),
    "best": ("books1", "snapshot", {"bids": [["100.10", "1.5"]], "asks": [["100.20", "2"]], "seq": 15, **TS}),
    "ticker": ("ticker", "snapshot", TICKER),
    "ticker of v1": ("ticker", "snapshot", TICKER_V1),
    "futures ticker of v1": ("ticker", "snapshot", FUTURES_TICKER_V1),
    "trade": ("trade", "update", TRADE),
}


def push(kind: str, inst_type: Any = "SPOT", symbol: Any = "BTCUSDT", **fields: Any) -> dict[str, Any]:
    """A good message, with other fields in its data."""
    channel, action, data = GOOD[kind]
    arg = {"instType": inst_type, "channel": channel, "instId": symbol}
    return {"action": action, "arg": arg, "data": [{**data, **fields}], "ts": NOW_MS + 3}


V3_LEVELS = {"b": [["100.10", "1.50"], ["100.0", "0"]], "a": [["100.20", "2"]]}
V3_TICKER = {
    "lastPrice": "100.15",
    "bid1Price": "100.10",
    "bid1Size": "1.5",
    "ask1Price": "100.20",
    "ask1Size": "2",
    "markPrice": "100.12",
    "indexPrice": "100.11",
    "openInterest": "929.502",
    "fundingRate": "0.0001",
}
V3_TRADE = {"i": "1352182127218896905", "L": "2", "p": "100.1", "v": "0.12", "S": "buy", "T": str(NOW_MS), "isRPI": "no"}
V3: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "update": ("books", "update", {**V3_LEVELS, **TS, "seq": "1304314508780744705", "pseq": 1304314508780744704}),
    "snapshot": ("books", "snapshot", {**V3_LEVELS, **TS, "seq": 100, "pseq": "0", "maxDepth": "50"}),
    "top": ("books50", "snapshot", {**V3_LEVELS, **TS, "seq": 15}),
    "best": ("books1", "snapshot", {"b": [["100.10", "1.5"]], "a": [["100.20", "2"]], "seq": 15, **TS}),
    "ticker": ("ticker", "snapshot", V3_TICKER),
    "trade": ("publicTrade", "update", V3_TRADE),
}


def v3_push(kind: str, inst_type: Any = "usdt-futures", symbol: Any = "BTCUSDT", **fields: Any) -> dict[str, Any]:
    topic, action, data = V3[kind]
    arg = {"instType": inst_type, "topic": topic, "symbol": symbol}
    return {"action": action, "arg": arg, "data": [{**data, **fields}], "ts": NOW_MS}


def sent(message: Any, received: Received = RECEIVED) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(message), received))


def row(kind: str, inst_type: str = "SPOT", symbol: str = "BTCUSDT", **fields: Any) -> dict[str, Any]:
    (record,) = sent(push(kind, inst_type, symbol, **fields))
    assert fault(record.table, record.row) is None
    assert record.event_ms == NOW_MS
    return dict(record.row)


def rejected_field(message: Any) -> str | None:
    with pytest.raises(Rejected) as rejected:
        sent(message)
    return rejected.value.fault.field


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_message_becomes_a_row_as_its_ddl(kind: str) -> None:
    assert row(kind)["event_at"] == instant_ms(NOW_MS)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize(
    ("inst_type", "symbol", "venue"),
    [
        ("SPOT", "BTCUSDT", "bitget_spot"),
        ("sp", "BTCUSDT", "bitget_spot"),
        ("USDT-FUTURES", "BTCUSDT", "bitget_usdt_futures"),
        ("umcbl", "BTCUSDT", "bitget_usdt_futures"),
        ("mc", "BTCUSDT", "bitget_usdt_futures"),
        ("USDC-FUTURES", "BTCPERP", "bitget_usdc_futures"),
        ("mc", "BTCPERP", "bitget_usdc_futures"),
        ("COIN-FUTURES", "BTCUSD", "bitget_coin_futures"),
        ("mc", "BTCUSD", "bitget_coin_futures"),
    ],
)
def test_the_venue_is_told_from_the_message(kind: str, inst_type: str, symbol: str, venue: str) -> None:
    found = row(kind, inst_type, symbol)
    assert (found["venue"], found["instrument"]) == (venue, symbol)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("snapshot", ("snapshot", 1_343_064_377_779_269_632, None)),
        ("update", ("change", 15, 9)),
        ("update of v1", ("change", NOW_MS, None)),
    ],
)
def test_a_book_carries_its_numbers_or_else_its_time(kind: str, expected: tuple[str, int, int | None]) -> None:
    book = row(kind)
    assert (book["kind"], book["sequence"], book["prev_sequence"]) == expected


def test_a_number_before_of_0_is_none() -> None:
    assert row("update", pseq=0)["prev_sequence"] is None


def test_levels_keep_every_digit() -> None:
    book = row("update")
    assert book["bids"] == [[Decimal("100.10"), Decimal("1.50")], [Decimal("100.0"), Decimal(0)]]
    assert b'"bids":[[100.10,1.50],[100.0,0]],"asks":[[100.20,2]],"checksum":-855196043,"depth":null}' in encoded(book)


def test_a_checksum_of_0_is_none() -> None:
    assert row("update", checksum=0)["checksum"] is None
    assert row("snapshot")["checksum"] == 5


def test_a_best_price_carries_the_sequence_of_the_book() -> None:
    best = row("best", asks=[])
    assert [best[name] for name in ("sequence", "bid_price", "bid_size", "ask_price", "ask_size")] == [
        15,
        100.1,
        1.5,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ticker", [100.1, 1.5, 100.2, 2.0, 100.15, 100.12, 100.11, 929.502]),
        ("ticker of v1", [100.1, None, 100.2, None, 100.15, None, None, None]),
        ("futures ticker of v1", [100.1, None, 100.2, None, 100.15, 100.12, 100.11, 6166.235]),
    ],
)
def test_a_ticker_of_each_version(kind: str, expected: list[float | None]) -> None:
    ticker = row(kind)
    names = ("bid_price", "bid_size", "ask_price", "ask_size", "last_price", "mark_price", "index_price_usd", "open_interest")
    assert [ticker[name] for name in names] == expected


@pytest.mark.parametrize("none", ["", "0", "0.00"])
def test_a_ticker_says_which_side_is_empty(none: str) -> None:
    ticker = row("ticker", askPr=none, askSz=none)
    assert (ticker["ask_price"], ticker["ask_size"], ticker["bid_price"]) == (None, None, 100.1)


def test_a_trade_of_v1_gets_an_id_of_what_it_is() -> None:
    message = {**push("trade"), "data": [TRADE_V1, [str(NOW_MS - 5), "100.2", "1", "sell"]]}
    rows = [record.row for record in sent(message)]
    assert [trade["trade_id"] for trade in rows] == [f"{NOW_MS}-buy-100.1-0.120", f"{NOW_MS - 5}-sell-100.2-1"]
    assert [(trade["price"], trade["size"], trade["side"]) for trade in rows] == [(100.1, 0.12, "buy"), (100.2, 1.0, "sell")]
    assert row("trade")["trade_id"] == "1235670816495050754"


@pytest.mark.parametrize(
    "message",
    [
        b"pong",
        b'{"event":"subscribe","arg":{"instType":"sp","channel":"books","instId":"BTCUSDT"}}',
        b'{"event":"unsubscribe","arg":{"instType":"SPOT","channel":"books","instId":"BTCUSDT"}}',
    ],
)
def test_an_acknowledgement_is_no_data(message: bytes) -> None:
    assert parse(message, RECEIVED) == []


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b"\xff", b"null", b"ping"])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "arg"),
        ({"event": "error", "code": 30001, "msg": "channel doesn't exist"}, "event"),
        ({"event": ["subscribe"]}, "event"),
        ({"arg": {"instType": "sp", "channel": "candle1m", "instId": "BTCUSDT"}, "data": [["1649290020000", "1"]]}, "channel"),
        ({"arg": {"channel": {}}, "data": []}, "channel"),
        ({"arg": None, "data": []}, "arg"),
        ({**push("trade"), "data": {}}, "data"),
        ({**push("trade"), "data": [TRADE_V1[:3]]}, "data"),
        ({**push("trade"), "data": [5]}, "data"),
        (push("trade", "SUSDT-FUTURES"), "instType"),
        (push("trade", 5), "instType"),
        (push("trade", "mc", "BTCEUR"), "instId"),
        (push("trade", "mc", 5), "instId"),
        (push("trade", symbol=""), "instId"),
        ({**push("update"), "action": "replace"}, "action"),
        ({name: value for name, value in push("update").items() if name != "action"}, "action"),
    ],
)
def test_an_error_or_an_unknown_message_is_rejected(message: dict[str, Any], field: str | None) -> None:
    assert rejected_field(message) == field


NEEDED = {
    "update": "ts bids asks",
    "best": "ts bids asks",
    "ticker": "ts bidPr askPr",
    "ticker of v1": "ts last bestBid bestAsk",
    "futures ticker of v1": "last bestBid bestAsk",
    "trade": "ts price size side",
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, names in NEEDED.items() for field in names.split()])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    message = push(kind)
    del message["data"][0][field]
    assert rejected_field(message) == field


@pytest.mark.parametrize("ahead_ms", [60_001, -86_400_001, 10**15, "soon", 1.5, None, True, ""])
def test_a_wild_event_time_is_named(ahead_ms: Any) -> None:
    value = str(NOW_MS + ahead_ms) if type(ahead_ms) is int else ahead_ms
    for kind in ("update", "best", "ticker", "ticker of v1", "trade"):
        assert rejected_field(push(kind, ts=value)) == "ts"
    assert rejected_field(push("futures ticker of v1", systemTime=value)) == "systemTime"


BAD_NUMBERS: list[Any] = ["NaN", "Infinity", "-1", "+1", "1e3", "01", "1.", ".5", "9" * 20, "abc", 1, 1.5, [], {}]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_bad_number_is_named(bad: Any) -> None:
    for side in ("bids", "asks"):
        for level in ([bad, "1"], ["100", bad]):
            assert rejected_field(push("update", **{side: [["100", "1"], level]})) == side
            assert rejected_field(push("best", **{side: [level]})) == side
    numbers = {
        "ticker": "bidPr bidSz askPr askSz lastPr markPrice indexPrice holdingAmount",
        "ticker of v1": "bestBid bestAsk last",
        "trade": "price size",
    }
    for kind, names in numbers.items():
        for name in names.split():
            assert rejected_field(push(kind, **{name: bad})) == name


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("update", "bids", [["0", "1"]]),
        ("update", "bids", [["1"]]),
        ("update", "bids", ["12"]),
        ("update", "asks", {}),
        ("update", "seq", -1),
        ("update", "seq", str(2**63)),
        ("update", "pseq", 1.5),
        ("update", "checksum", -(2**31) - 1),
        ("update", "checksum", "5"),
        ("ticker", "bidPr", "0"),
        ("ticker", "bidPr", "1000000000001"),
        ("trade", "size", "0"),
        ("trade", "side", "Buy"),
        ("trade", "tradeId", 5),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(push(kind, **{field: value})) == field


@pytest.mark.parametrize("bid", ["100.20", "100.3"])
def test_a_crossed_snapshot_is_rejected(bid: str) -> None:
    assert rejected_field(push("snapshot", bids=[["99", "1"], [bid, "1"]])) == "bids"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*[(1, kind) for kind in GOOD], *[(3, kind) for kind in V3]]), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(
    version_kind: tuple[int, str], data: st.DataObject
) -> None:
    version, kind = version_kind
    message = v3_push(kind) if version == 3 else push(kind)
    place = data.draw(st.sampled_from([message, message["arg"], message["data"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    try:
        results = sent(message)
    except Rejected:
        return
    assert all(isinstance(result, Rejected) or fault(result.table, result.row) is None for result in results)


@pytest.mark.parametrize(
    ("venue", "symbol", "terms"),
    [
        (SPOT, "BTCUSDT", {"kind": "spot", "underlying": "BTC", "quote_currency": "USDT", "contract_size": 1.0}),
        (SPOT, "ETHBTC", {"kind": "spot", "underlying": "ETH", "quote_currency": "BTC"}),
        (USDT, "BTCUSDT", {"kind": "perpetual", "settlement_currency": "USDT", "is_inverse": False, "contract_size": 1.0}),
        (USDC, "BTCPERP", {"kind": "perpetual", "underlying": "BTC", "settlement_currency": "USDC", "contract_size": 1.0}),
        (
            COIN,
            "BTCUSD",
            {
                "kind": "perpetual",
                "quote_currency": "USD",
                "settlement_currency": "BTC",
                "is_inverse": True,
                "contract_size": None,
            },
        ),
    ],
)
def test_a_symbol_tells_its_terms(venue: str, symbol: str, terms: dict[str, Any]) -> None:
    record = describe(venue, symbol, RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in terms} == terms


@pytest.mark.parametrize(
    ("venue", "symbol"), [(SPOT, "XYZ"), (USDT, "BTCUSD"), (COIN, "BTCUSDZ23"), (USDC, "BTCUSDT"), ("x", "BTCUSDT")]
)
def test_a_symbol_that_tells_nothing_is_described_by_nothing(venue: str, symbol: str) -> None:
    assert describe(venue, symbol, RECEIVED) is None


def rows(message: Any, received: Received = RECEIVED) -> list[dict[str, Any]]:
    """The rows of a message, each as its DDL says; faults of single items as the name of their field."""
    results = cast(list[Any], sent(message, received))
    for result in results:
        assert isinstance(result, Rejected) or fault(result.table, result.row) is None
    return [{"rejected": result.fault.field} if isinstance(result, Rejected) else dict(result.row) for result in results]


@pytest.mark.parametrize("kind", V3)
@pytest.mark.parametrize(
    ("inst_type", "venue"),
    [("spot", SPOT), ("usdt-futures", USDT), ("usdc-futures", USDC), ("coin-futures", COIN)],
)
def test_every_topic_of_v3_becomes_a_row_of_its_venue(kind: str, inst_type: str, venue: str) -> None:
    (row,) = rows(v3_push(kind, inst_type))
    assert (row["venue"], row["instrument"], row["event_at"]) == (venue, "BTCUSDT", instant_ms(NOW_MS))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("update", ("change", 1304314508780744705, 1304314508780744704, None)),
        ("snapshot", ("snapshot", 100, None, None)),
        ("top", ("snapshot", 15, None, 50)),
    ],
)
def test_a_book_of_v3_carries_its_numbers_and_its_depth(kind: str, expected: tuple[Any, ...]) -> None:
    (row,) = rows(v3_push(kind))
    assert (row["kind"], row["sequence"], row["prev_sequence"], row["depth"]) == expected
    assert encoded(row).count(b"[[100.10,1.50],[100.0,0]]") == 1


def test_a_ticker_and_a_trade_of_v3() -> None:
    (ticker,) = rows(v3_push("ticker"))
    names = ("bid_price", "bid_size", "ask_price", "last_price", "mark_price", "index_price_usd", "open_interest", "has_quote")
    assert [ticker[name] for name in names] == [100.1, 1.5, 100.2, 100.15, 100.12, 100.11, 929.502, True]
    (trade,) = rows(v3_push("trade"))
    assert [trade[name] for name in ("trade_id", "side", "price", "size")] == ["1352182127218896905", "buy", 100.1, 0.12]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (v3_push("trade", "susdt-futures"), "instType"),
        (v3_push("trade", S="Buy"), "S"),
        (v3_push("trade", T="soon"), "T"),
        (v3_push("update", b=[["x", "1"]]), "b"),
        (v3_push("update", symbol=""), "symbol"),
        (v3_push("ticker", bid1Price="-1"), "bid1Price"),
        ({**v3_push("top"), "action": "update"}, "action"),
        ({**v3_push("ticker"), "ts": "soon"}, "ts"),
        ({"arg": {"instType": "spot", "topic": "kline", "symbol": "BTCUSDT"}, "data": [{}]}, "topic"),
        ({"arg": {"instType": "spot", "topic": ["books"], "symbol": "BTCUSDT"}, "data": [{}]}, "topic"),
    ],
)
def test_a_fault_of_v3_names_its_own_field(message: dict[str, Any], field: str) -> None:
    assert rejected_field(message) == field


def test_an_acknowledgement_of_v3_is_no_data() -> None:
    assert sent({"event": "subscribe", "arg": {"instType": "spot", "topic": "books", "symbol": "BTCUSDT"}}) == []


@pytest.mark.parametrize(("channel", "depth"), [("books", None), ("books5", 5), ("books15", 15), ("books50", 50)])
def test_a_channel_tells_how_deep_its_book_is(channel: str, depth: int | None) -> None:
    message = push("snapshot")
    message["arg"]["channel"] = channel
    (row,) = rows(message)
    assert (row["kind"], row["depth"]) == ("snapshot", depth)
    message["action"] = "update"
    if depth is not None:
        assert rejected_field(message) == "action"


@pytest.mark.parametrize(
    ("symbol", "venue"),
    [
        ("PERPUSDT", USDT),
        ("USDTPERP", USDC),
        ("PERPUSD", COIN),
        ("BTCUSDM23", COIN),
        ("USDCUSDT", USDT),
        ("USDPERP", USDC),
    ],
)
def test_mixed_futures_of_v1_are_told_by_the_grammar_of_their_symbol(symbol: str, venue: str) -> None:
    assert row("trade", "mc", symbol)["venue"] == venue


@pytest.mark.parametrize("symbol", ["USDTBTC", "PERPBTC", "USDBTC", "BTCUSDX2", "PERP"])
def test_a_mixed_symbol_that_only_holds_the_name_of_a_family_is_of_none(symbol: str) -> None:
    assert rejected_field(push("trade", "mc", symbol)) == "instId"


@given(st.lists(st.booleans(), min_size=2, max_size=6), st.booleans())
def test_an_odd_item_costs_none_of_its_neighbours(odd: list[bool], is_v3: bool) -> None:
    message, field = (v3_push("trade"), "p") if is_v3 else (push("trade"), "price")
    (good,) = message["data"]
    bad = {**good, field: "0"}
    results = cast(list[Any], sent({**message, "data": [bad if is_odd else good for is_odd in odd]}))
    assert [isinstance(result, Rejected) for result in results] == odd
    assert all(result.fault.field == field for result in results if isinstance(result, Rejected))


REST = "https://api.bitget.com/api/v3/market"


def answer(data: Any, **fields: Any) -> dict[str, Any]:
    return {"code": "00000", "msg": "success", "requestTime": NOW_MS, "data": data, **fields}


def asked(path: str) -> Received:
    return RECEIVED._replace(url=f"{REST}/{path}")


def test_a_book_that_was_asked_for_is_of_the_request_and_no_deeper_than_it_is() -> None:
    (row,) = rows(answer({**V3_LEVELS, **TS}), asked("orderbook?category=USDT-FUTURES&symbol=ETHUSDT&limit=50"))
    assert (row["venue"], row["instrument"], row["kind"], row["depth"]) == (USDT, "ETHUSDT", "snapshot", 2)
    assert (row["sequence"], row["prev_sequence"]) == (NOW_MS, None)


def test_trades_and_tickers_that_were_asked_for() -> None:
    fills = [{"execId": "7", "price": "100.1", "size": "2", "side": "sell", **TS}, {"execId": "8", "price": "0"}]
    trade, bad = rows(answer(fills), asked("fills?category=SPOT&symbol=ETHUSDT"))
    assert (trade["venue"], trade["instrument"], trade["trade_id"], trade["side"]) == (SPOT, "ETHUSDT", "7", "sell")
    assert bad == {"rejected": "ts"}
    (ticker,) = rows(answer([{**V3_TICKER, **TS, "symbol": "ETHUSD", "category": "COIN-FUTURES"}]), asked("tickers"))
    assert (ticker["venue"], ticker["instrument"], ticker["bid_price"]) == (COIN, "ETHUSD", 100.1)


LISTED = {
    "symbol": "BTCUSDT",
    "category": "USDT-FUTURES",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "type": "perpetual",
    "status": "online",
    "priceMultiplier": "0.1",
    "deliveryTime": "",
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (USDT, "perpetual", None, "USDT", 1.0)),
        ({"category": "SPOT", "type": ""}, (SPOT, "spot", None, "USDT", 1.0)),
        ({"category": "USDC-FUTURES", "quoteCoin": "USDC"}, (USDC, "perpetual", None, "USDC", 1.0)),
        (
            {"category": "COIN-FUTURES", "quoteCoin": "USD", "type": "delivery", "deliveryTime": "1727424000000"},
            (COIN, "future", "2024-09-27T08:00:00.000Z", "BTC", None),
        ),
        ({"type": "delivery"}, "deliveryTime"),
        ({"type": "delivery", "deliveryTime": "4133404800000"}, "deliveryTime"),
        ({"type": "option"}, "type"),
        ({"type": None}, "type"),
        ({"status": "soon"}, "status"),
        ({"category": "MARGIN"}, "category"),
        ({"baseCoin": ""}, "baseCoin"),
    ],
)
def test_a_listing_gives_the_terms_of_each_contract_by_itself(fields: dict[str, Any], expected: Any) -> None:
    good, status, other, *_ = rows(answer([LISTED, {**LISTED, **fields}]), asked("instruments?category=USDT-FUTURES"))
    assert (status["instrument"], status["is_halted"], status["reason"]) == ("BTCUSDT", False, None)
    assert (good["venue"], good["kind"], good["tick_size"]) == (USDT, "perpetual", 0.1)
    if isinstance(expected, str):
        assert other == {"rejected": expected}
    else:
        names = ("venue", "kind", "expiry_at", "settlement_currency", "contract_size")
        assert tuple(other[name] for name in names) == expected


@pytest.mark.parametrize("status", ["listed", "limit_open", "limit_close", "offline", "restrictedAPI"])
def test_a_contract_that_is_not_online_is_halted_with_the_venue_s_word(status: str) -> None:
    _, halt = rows(answer([{**LISTED, "status": status}]), asked("instruments?category=USDT-FUTURES"))
    assert (halt["venue"], halt["instrument"], halt["is_halted"], halt["reason"]) == (USDT, "BTCUSDT", True, status)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (answer([], code="40034"), "code"),
        (answer([{"candle": 1}]), "data"),
        (answer(5), "data"),
        (answer([5]), "data"),
        (answer({**V3_LEVELS, **TS}), "category"),
    ],
)
def test_an_answer_that_cannot_be_used_is_rejected(message: dict[str, Any], field: str) -> None:
    assert rejected_field(message) == field
