"""Bybit messages: what each becomes, and which field is named when one cannot be used."""

from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.bybit import MARKETS, describe, parse, session
from feeds.capture import Converted, Converter, Line
from feeds.checks import NO_EXPIRY_MS
from schemas.rows import fault, instant_ms
from tests.feeds.conftest import CheckSamples

NOW_MS = 1_700_000_000_000
STREAM = "wss://stream.bybit.com/v5/public/"
REST = "https://api.bybit.com/v5/market/"
CATEGORIES = {"spot": "bybit_spot", "linear": "bybit_linear", "inverse": "bybit_inverse", "option": "bybit_options"}
LEVELS = {"b": [["100.10", "1.50"], ["100.0", "0"]], "a": [["100.20", "2"]]}
BOOK = {"s": "BTCUSDT", **LEVELS, "u": 18, "seq": 7961638724}
TRADE = {"T": NOW_MS, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "100.15", "L": "PlusTick", "i": "20f43950", "BT": False}
QUOTE = {"bid1Price": "100.10", "bid1Size": "1.5", "ask1Price": "100.20", "ask1Size": "2"}
TICKER = {
    "symbol": "BTCUSDT",
    "lastPrice": "100.15",
    "markPrice": "100.12",
    "indexPrice": "100.11",
    "openInterest": "929.502",
    "nextFundingTime": str(NOW_MS + 3_600_000),
    "fundingRate": "-0.000212",
    **QUOTE,
}
SPOT_TICKER = {"symbol": "BTCUSDT", "lastPrice": "100.15", "usdIndexPrice": "100.11", "volume24h": "6780.8"}
OPTION_TICKER = {
    "symbol": "BTC-17NOV23-40000-C",
    "bidPrice": "0",
    "bidSize": "0",
    "bidIv": "0",
    "askPrice": "10",
    "askSize": "5.1",
    "askIv": "0.514",
    "lastPrice": "10",
    "markPrice": "7.86",
    "indexPrice": "16823.73",
    "markPriceIv": "0.4896",
    "underlyingPrice": "16815.1",
    "openInterest": "49.85",
    "delta": "-0.04",
}
GOOD: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "change": ("linear", "orderbook.1000.BTCUSDT", "delta", BOOK),
    "snapshot": ("linear", "orderbook.1000.BTCUSDT", "snapshot", BOOK),
    "ticker": ("linear", "tickers.BTCUSDT", "snapshot", TICKER),
    "spot ticker": ("spot", "tickers.BTCUSDT", "snapshot", SPOT_TICKER),
    "option ticker": ("option", "tickers.BTC-17NOV23-40000-C", "snapshot", OPTION_TICKER),
    "trade": ("linear", "publicTrade.BTCUSDT", "snapshot", TRADE),
}


def push(kind: str, **fields: Any) -> dict[str, Any]:
    """A good message, with other fields in its data."""
    _, topic, action, data = GOOD[kind]
    item = {**data, **fields}
    return {"topic": topic, "type": action, "ts": NOW_MS, "data": [item] if kind == "trade" else item}


def at(url: str | None) -> Received:
    return Received(NOW_MS * 1000, None, None, url)


def sent(message: Any, url: str | None = STREAM + "linear") -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(message), at(url)))


def row(kind: str, category: str | None = None, **fields: Any) -> dict[str, Any]:
    record = sent(push(kind, **fields), STREAM + (category or GOOD[kind][0]))[0]
    assert fault(record.table, record.row) is None
    assert record.event_ms == NOW_MS
    return dict(record.row)


def rejected_field(message: Any, url: str | None = STREAM + "linear") -> str | None:
    with pytest.raises(Rejected) as rejected:
        sent(message, url)
    return rejected.value.fault.field


def answer(result: Any, **fields: Any) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": NOW_MS, **fields}


def converted(message: Any, url: str | None = None) -> Converted:
    return Converter().convert(Line("bybit", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message", url=url))


def letters(message: Any, url: str | None = None) -> list[str | None]:
    """The fields that the dead letters of a message name."""
    return [record.row["field"] for record in converted(message, url).records if record.table == "dead_letters"]


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_message_becomes_a_row_as_its_ddl(kind: str) -> None:
    assert row(kind)["event_at"] == instant_ms(NOW_MS)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("kind", ["change", "trade", "ticker"])
def test_the_path_of_the_stream_tells_the_market(kind: str, category: str) -> None:
    for base in (STREAM, "ws://127.0.0.1:4000/v5/public/", "wss://stream-testnet.bybit.com/v5/public/"):
        assert sent(push(kind), base + category)[0].row["venue"] == CATEGORIES[category]


@pytest.mark.parametrize("url", [None, "wss://stream.bybit.com/v5/public/spread", "wss://x/option", "wss://[/v5/public/linear"])
@pytest.mark.parametrize("kind", GOOD)
def test_a_message_whose_market_is_not_known_is_rejected(kind: str, url: str | None) -> None:
    assert rejected_field(push(kind), url) == "category"


@given(st.integers(2, 2**63 - 1))
def test_a_change_follows_the_number_before_its_own(number: int) -> None:
    book = row("change", u=number)
    assert (book["kind"], book["sequence"], book["prev_sequence"]) == ("change", number, number - 1)
    assert book["bids"] == [[100.1, 1.5], [100.0, 0.0]]


@pytest.mark.parametrize("action", ["snapshot", "delta"])
@pytest.mark.parametrize("number", [0, 1])
def test_the_first_number_begins_the_book_anew_whatever_the_message_is_called(action: str, number: int) -> None:
    message = {**push("change", u=number, b=[], a=[]), "type": action}
    (record,) = sent(message)
    assert [record.row[name] for name in ("kind", "sequence", "prev_sequence", "bids", "asks")] == [
        "snapshot",
        number,
        None,
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("category", "levels", "depth"),
    [
        ("spot", 1000, None),
        ("linear", 1000, None),
        ("inverse", 1000, None),
        ("option", 100, None),
        ("linear", 1, 1),
        ("spot", 50, 50),
        ("inverse", 200, 200),
        ("linear", 500, 500),
        ("option", 25, 25),
    ],
)
@pytest.mark.parametrize("kind", ["snapshot", "change"])
def test_a_book_says_how_deep_its_channel_is(kind: str, category: str, levels: int, depth: int | None) -> None:
    (record,) = sent({**push(kind), "topic": f"orderbook.{levels}.BTCUSDT"}, STREAM + category)
    assert (record.row["kind"], record.row["depth"]) == (kind, depth)


def test_a_ticker_of_changes_says_what_it_has_and_nothing_else() -> None:
    alone = {"symbol": "BTCUSDT", "markPrice": "100.12"}
    (record,) = sent({"topic": "tickers.BTCUSDT", "type": "delta", "ts": NOW_MS, "data": alone})
    head = {"venue", "instrument", "event_at", "received_at"}
    assert {name for name, value in record.row.items() if value is not None} - head == {"mark_price", "has_quote"}
    assert record.row["has_quote"] is False


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_one_side_alone_is_no_quote_for_the_other_would_be_said_to_be_empty(side: str) -> None:
    data = {"symbol": "BTCUSDT", f"{side}1Price": "100.10", f"{side}1Size": "1.5"}
    (record,) = sent({"topic": "tickers.BTCUSDT", "type": "delta", "ts": NOW_MS, "data": data})
    assert (record.row["has_quote"], record.row["bid_price"], record.row["ask_price"]) == (False, None, None)


@pytest.mark.parametrize("none", ["", "0"])
def test_a_whole_ticker_says_which_side_is_empty(none: str) -> None:
    ticker = row("ticker", ask1Price=none, ask1Size=none, lastPrice=none)
    names = ("has_quote", "bid_price", "bid_size", "ask_price", "ask_size", "last_price")
    assert [ticker[name] for name in names] == [True, 100.1, 1.5, None, None, None]


def test_a_ticker_of_a_contract_tells_funding_and_its_index() -> None:
    records = sent(push("ticker"))
    assert [record.table for record in records] == ["tickers", "index_prices"]
    ticker, index = (record.row for record in records)
    assert (ticker["funding_rate"], ticker["next_funding_at"]) == (-0.000212, instant_ms(NOW_MS + 3_600_000))
    assert (ticker["open_interest"], ticker["mark_price"], ticker["index_price_usd"]) == (929.502, 100.12, 100.11)
    names = ("venue", "underlying", "quote_currency", "price_usd")
    assert [index[name] for name in names] == ["bybit_linear", "BTC", "USDT", 100.11]
    assert fault("index_prices", index) is None


@pytest.mark.parametrize(
    ("category", "symbol", "index"),
    [
        ("linear", "BTCUSDT", ("BTC", "USDT")),
        ("linear", "BTCPERP", ("BTC", "USDC")),
        ("linear", "BTC-17NOV23", ("BTC", "USDC")),
        ("linear", "BTCUSDT-17NOV23", ("BTC", "USDT")),
        ("inverse", "BTCUSD", ("BTC", "USD")),
        ("inverse", "BTCUSDZ23", ("BTC", "USD")),
        ("spot", "BTCUSDT", ("BTC", "USD")),
        ("linear", "币安人生", None),
    ],
)
def test_an_index_is_that_of_the_name(category: str, symbol: str, index: tuple[str, str] | None) -> None:
    message = push("spot ticker" if category == "spot" else "ticker", symbol=symbol)
    records = sent(message, STREAM + category)
    assert [(r.row["underlying"], r.row["quote_currency"]) for r in records[1:]] == ([index] if index else [])


def test_a_spot_ticker_says_nothing_of_bid_and_ask() -> None:
    ticker = row("spot ticker")
    assert (ticker["has_quote"], ticker["last_price"], ticker["funding_rate"]) == (False, 100.15, None)


def test_an_option_ticker_tells_fractions_and_its_forward() -> None:
    ticker = row("option ticker")
    names = ("bid_price", "bid_iv", "ask_price", "ask_size", "ask_iv", "mark_iv", "mark_price", "forward_usd", "open_interest")
    assert [ticker[name] for name in names] == [None, None, 10.0, 5.1, 0.514, 0.4896, 7.86, 16815.1, 49.85]
    assert ticker["has_quote"] is True
    assert row("option ticker", markPrice="0")["mark_price"] == 0.0  # it may be worth nothing


@pytest.mark.parametrize(("is_block", "reason"), [(True, "block"), (False, None)])
def test_the_side_of_a_trade_is_the_takers_and_a_block_is_no_trade_of_the_market(is_block: bool, reason: str | None) -> None:
    trade = row("trade", BT=is_block, S="Sell")
    assert [trade[name] for name in ("trade_id", "side", "price", "size", "off_market")] == [
        "20f43950",
        "sell",
        100.15,
        0.001,
        reason,
    ]


def test_every_trade_of_a_message_becomes_a_row_and_an_odd_one_costs_the_others_nothing() -> None:
    message = push("trade")
    message["data"] = [TRADE, {**TRADE, "p": "0"}, {**TRADE, "i": "2"}]
    results = parse(orjson.dumps(message), at(STREAM + "linear"))
    assert [result.fault.field if isinstance(result, Rejected) else result.table for result in results] == [
        "trades",
        "p",
        "trades",
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"success": True, "ret_msg": "subscribe", "conn_id": "2324d924", "req_id": "test", "op": "subscribe"},
        {"success": True, "ret_msg": "", "conn_id": "2324d924", "op": "unsubscribe"},
        {"success": True, "ret_msg": "pong", "conn_id": "0970e817", "op": "ping"},
        {"req_id": "test", "op": "pong", "args": ["1675418560633"], "conn_id": "cfcb4ocsvfriu23r3er0-1b"},
        {"args": ["1672916271846"], "op": "pong"},
        {
            "success": True,
            "conn_id": "aa01fbfffe80af37",
            "data": {"failTopics": [], "successTopics": ["x"]},
            "type": "COMMAND_RESP",
        },
        answer({"category": "linear", "list": []}),
    ],
)
def test_an_acknowledgement_is_no_data(message: dict[str, Any]) -> None:
    assert sent(message) == []
    assert session("bybit_spot").refusal(orjson.dumps(message)) is None


FAILED = {"failTopics": ["tickers.X"], "successTopics": []}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"success": False, "ret_msg": "error:handler not found", "op": "subscribe"}, "error:handler not found"),
        ({"success": True, "conn_id": "a", "data": FAILED, "type": "COMMAND_RESP"}, "failTopics ['tickers.X']"),
        ({"success": False, "op": "subscribe"}, "no reason given"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_venue_and_kept(message: dict[str, Any], words: str) -> None:
    assert session("bybit_spot").refusal(orjson.dumps(message)) == words
    assert rejected_field(message) == "success"


@pytest.mark.parametrize("message", [b"", b"{", b'[{"success":false}]', b'{"topic":"x","success":false}', b'{"success":tru'])
def test_what_is_no_answer_to_a_request_refuses_nothing(message: bytes) -> None:
    assert session("bybit_linear").refusal(message) is None


NOT_READ = [
    "kline.5.BTCUSDT",
    "allLiquidation.BTCUSDT",
    "liquidation.BTCUSDT",
    "orderbook.rpi.BTCUSDT",
    "orderbook.full.BTCUSDT",
]
NOT_READ += ["orderbook.BTCUSDT", "orderbook.0.BTCUSDT", "priceLimit.BTCUSDT", "insurance.USDT", "adlAlert", "system.status"]
NOT_READ += [
    "order",
    "order.linear",
    "execution",
    "execution.fast",
    "position",
    "wallet",
    "greeks",
    "trade.linear.BTCUSDT",
    "",
    "tickers.",
]


@pytest.mark.parametrize("topic", NOT_READ)
def test_a_topic_that_is_not_read_is_named(topic: str) -> None:
    with pytest.raises(Rejected) as rejected:
        sent({"topic": topic, "type": "snapshot", "ts": NOW_MS, "data": [TRADE]})
    assert (rejected.value.fault.field, rejected.value.fault.got) == ("topic", repr(topic))


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b"\xff", b"null", b"pong"])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, at(None))
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "topic"),
        ({"op": "auth", "success": True}, "op"),
        ({"op": "order.create", "retCode": 0, "data": {}}, "op"),
        ({"topic": ["tickers.BTCUSDT"], "data": {}}, "topic"),
        ({"topic": "publicTrade.BTCUSDT", "data": {}}, "data"),
        ({"topic": "tickers.BTCUSDT", "data": [TICKER]}, "data"),
        ({"topic": "orderbook.50.BTCUSDT"}, "data"),
        ({"retCode": 10001, "retMsg": "params error", "result": {}}, "retCode"),
        (answer(None), "result"),
        (answer({}), "result"),
        (answer({"list": {}}), "result"),
        (answer({"category": "spread", "list": []}), "category"),
        (answer({"category": "linear", "list": [["1670608800000", "17071"]]}), "result"),
        (answer({"list": [{"symbol": "BTCUSDT", "orderId": "1", "execId": "2", "lastPrice": "1"}]}), "result"),
        (answer({"category": "linear", "list": [{"symbol": "BTCUSDT", "fundingRate": "0.0001"}]}), "result"),
    ],
)
def test_an_error_or_an_unknown_message_is_rejected(message: dict[str, Any], field: str) -> None:
    assert rejected_field(message) == field


NEEDED = {
    "change": "s u b a",
    "snapshot": "s u b a",
    "ticker": "symbol",
    "spot ticker": "symbol",
    "option ticker": "symbol",
    "trade": "T s S v p i",
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, names in NEEDED.items() for field in names.split()])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    message = push(kind)
    del (message["data"][0] if kind == "trade" else message["data"])[field]
    assert rejected_field(message, STREAM + GOOD[kind][0]) == field


def test_a_missing_or_unknown_type_and_a_missing_time_are_named() -> None:
    book = push("change")
    assert rejected_field({**book, "type": "update"}) == "type"
    for name in ("type", "ts"):
        assert rejected_field({field: value for field, value in book.items() if field != name}) == name


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("ahead_ms", [60_001, -86_400_001, 10**15, "soon", 1.5, None, True, ""])
def test_a_wild_event_time_is_named(kind: str, ahead_ms: Any) -> None:
    value = NOW_MS + ahead_ms if type(ahead_ms) is int else ahead_ms
    message = push(kind, T=value) if kind == "trade" else {**push(kind), "ts": value}
    assert rejected_field(message, STREAM + GOOD[kind][0]) == ("T" if kind == "trade" else "ts")


BAD_NUMBERS: list[Any] = ["NaN", "Infinity", "-1", "+1", "1e3", "01", "1.", ".5", "1_0", "١", "9" * 20, "abc", 1, 1.5, [], {}]
NUMBERS = {
    "ticker": "bid1Price bid1Size ask1Price ask1Size lastPrice markPrice indexPrice openInterest",
    "spot ticker": "lastPrice usdIndexPrice",
    "option ticker": "bidPrice bidSize bidIv askIv markPriceIv underlyingPrice markPrice indexPrice openInterest",
    "trade": "p v",
}


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_bad_number_is_named(bad: Any) -> None:
    for side in ("b", "a"):
        for level in ([bad, "1"], ["100", bad]):
            assert rejected_field(push("change", **{side: [["100", "1"], level]})) == side
    for kind, names in NUMBERS.items():
        for name in names.split():
            assert rejected_field(push(kind, **{name: bad}), STREAM + GOOD[kind][0]) == name


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("change", "b", [["0", "1"]]),
        ("change", "b", [["1"]]),
        ("change", "b", ["12"]),
        ("change", "a", {}),
        ("change", "u", -1),
        ("change", "u", 2**63),
        ("change", "s", ""),
        ("ticker", "bid1Price", "1000000000001"),
        ("ticker", "bid1Price", "0"),
        ("trade", "v", "0"),
        ("trade", "S", "BUY"),
        ("trade", "S", []),
        ("trade", "i", ""),
        ("trade", "BT", "false"),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(push(kind, **{field: value})) == field


@pytest.mark.parametrize("bid", ["100.20", "100.3"])
def test_a_crossed_snapshot_is_rejected(bid: str) -> None:
    assert rejected_field(push("snapshot", b=[["99", "1"], [bid, "1"]])) == "bids"


FILTER = {"priceFilter": {"minPrice": "0.1", "tickSize": "0.10"}, "status": "Trading"}
SPOT = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", **FILTER}
LINEAR = {**SPOT, "contractType": "LinearPerpetual", "settleCoin": "USDT", "deliveryTime": "0", "launchTime": "1"}
USDC = {**LINEAR, "symbol": "BTCPERP", "quoteCoin": "USDC", "settleCoin": "USDC"}
FUTURE = {**USDC, "symbol": "BTC-17NOV23", "contractType": "LinearFutures", "deliveryTime": "1700208000000"}
INVERSE = {**LINEAR, "symbol": "BTCUSD", "contractType": "InversePerpetual", "quoteCoin": "USD", "settleCoin": "BTC"}
INVERSE_FUTURE = {**INVERSE, "symbol": "BTCUSDZ23", "contractType": "InverseFutures", "deliveryTime": "1703836800000"}
OPTION = {**USDC, "symbol": "BTC-17NOV23-40000-P", "optionsType": "Put", "deliveryTime": "1700208000000"}
del OPTION["contractType"]
LISTED = {"spot": SPOT, "linear": LINEAR, "inverse": INVERSE, "option": OPTION}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (SPOT, {"venue": "bybit_spot", "kind": "spot", "settlement_currency": "USDT", "tick_size": 0.1, "contract_size": 1.0}),
        (LINEAR, {"venue": "bybit_linear", "kind": "perpetual", "is_inverse": False, "expiry_at": None, "contract_size": 1.0}),
        (USDC, {"venue": "bybit_linear", "kind": "perpetual", "quote_currency": "USDC", "settlement_currency": "USDC"}),
        (FUTURE, {"venue": "bybit_linear", "kind": "future", "expiry_at": "2023-11-17T08:00:00.000Z", "is_inverse": False}),
        (INVERSE, {"venue": "bybit_inverse", "kind": "perpetual", "is_inverse": True, "settlement_currency": "BTC"}),
        (INVERSE_FUTURE, {"kind": "future", "is_inverse": True, "expiry_at": "2023-12-29T08:00:00.000Z", "contract_size": 1.0}),
        (
            OPTION,
            {"venue": "bybit_options", "kind": "option", "option_type": "put", "strike_usd": 40000.0, "contract_size": 1.0},
        ),
        ({**LINEAR, "deliveryTime": "1700208000000"}, {"kind": "perpetual", "expiry_at": None}),
        ({**LINEAR, "priceFilter": {"tickSize": ""}}, {"tick_size": None}),
    ],
)
def test_a_listing_gives_the_terms_of_each_contract(item: dict[str, Any], expected: dict[str, Any]) -> None:
    record, _ = sent(answer({"list": [item], "nextPageCursor": ""}), None)
    assert fault("instruments", record.row) is None
    assert record.event_ms == NOW_MS - 86_400_000
    assert {name: record.row[name] for name in expected} == expected


@pytest.mark.parametrize("item", [SPOT, LINEAR, FUTURE, INVERSE, OPTION])
@pytest.mark.parametrize("state", ["PreLaunch", "PendingOpen", "Trading", "Settling", "Delivering", "Closed"])
def test_terms_hold_in_every_state_and_a_contract_that_has_stopped_is_halted_and_one_that_trades_is_not(
    item: dict[str, Any], state: str
) -> None:
    terms, *halts = sent(answer({"list": [{**item, "status": state}]}), None)
    assert terms == sent(answer({"list": [item]}), None)[0]
    if state in ("PreLaunch", "PendingOpen"):
        assert halts == []
        return
    (halt,) = halts
    assert (halt.table, halt.event_ms) == ("trading_halts", NOW_MS)
    assert fault("trading_halts", halt.row) is None
    names = ("venue", "instrument", "event_at", "is_halted", "reason")
    told = (
        terms.row["venue"],
        item["symbol"],
        instant_ms(NOW_MS),
        *((False, None) if state == "Trading" else (True, f"status {state}")),
    )
    assert tuple(halt.row[name] for name in names) == told


def test_a_halt_of_no_known_time_is_one_dead_letter_and_the_terms_are_listed() -> None:
    message = answer({"list": [{**LINEAR, "status": "Closed"}]}, time="soon")
    assert [record.table for record in converted(message).records] == ["instruments", "dead_letters"]
    assert letters(message) == ["time"]


@pytest.mark.parametrize(
    ("odd", "field"),
    [
        ({**SPOT, "status": "Halted"}, "status"),
        ({**LINEAR, "contractType": "Quanto"}, "contractType"),
        ({**LINEAR, "contractType": []}, "contractType"),
        ({**LINEAR, "settleCoin": ""}, "settleCoin"),
        ({**SPOT, "baseCoin": None}, "baseCoin"),
        ({**SPOT, "priceFilter": {}}, "priceFilter"),
        ({**SPOT, "priceFilter": {"tickSize": "x"}}, "priceFilter"),
        ({**FUTURE, "deliveryTime": "0"}, "deliveryTime"),
        ({**FUTURE, "deliveryTime": str(NO_EXPIRY_MS)}, "deliveryTime"),
        ({**OPTION, "symbol": "BTC-17NOV23-0-P"}, "symbol"),
        ({**OPTION, "symbol": "BTCUSDT"}, "symbol"),
        ({**OPTION, "optionsType": "P"}, "optionsType"),
        ({**OPTION, "optionsType": "Call"}, None),
        ({**OPTION, "baseCoin": "ETH"}, None),
        ({}, "result"),
        ([], "result"),
        (None, "result"),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_odd_instrument_is_one_dead_letter_and_the_others_are_listed(odd: Any, field: str | None, position: int) -> None:
    items: list[Any] = [SPOT, LINEAR]
    items.insert(position, odd)
    message = answer({"list": items})
    assert [(record.row["venue"]) for record in converted(message).records if record.table == "instruments"] == [
        "bybit_spot",
        "bybit_linear",
    ]
    assert letters(message) == [field]


@pytest.mark.parametrize("category", LISTED)
@pytest.mark.parametrize("asked", CATEGORIES)
def test_an_item_of_another_category_than_that_of_its_answer_is_rejected(category: str, asked: str) -> None:
    result = {"list": [LISTED[category]]}
    for message, url in ((answer({**result, "category": asked}), None), (answer(result), f"{REST}x?category={asked}")):
        if asked == category:
            assert sent(message, url)[0].row["venue"] == CATEGORIES[category]
        else:
            assert rejected_field(message, url) == "category"


REST_BOOK = {"s": "BTCUSDT", **LEVELS, "ts": NOW_MS, "u": 18, "seq": 5, "cts": NOW_MS - 5}


@pytest.mark.parametrize(("query", "depth"), [("&limit=50", 50), ("&limit=500", 500), ("", 2), ("&limit=x", 2)])
def test_a_book_that_was_asked_for_is_never_the_whole_one(query: str, depth: int) -> None:
    (record,) = sent(answer(REST_BOOK), f"{REST}orderbook?category=inverse&symbol=BTCUSDT{query}")
    assert fault("order_books", record.row) is None
    names = ("venue", "instrument", "kind", "sequence", "prev_sequence", "depth")
    assert [record.row[name] for name in names] == ["bybit_inverse", "BTCUSDT", "snapshot", 18, None, depth]
    assert rejected_field(answer(REST_BOOK), None) == "category"


def test_trades_and_tickers_that_were_asked_for_are_read_as_the_streams_are() -> None:
    trade = {"execId": "20f43950", "symbol": "BTCUSDT", "price": "100.15", "size": "0.001", "side": "Buy", "time": str(NOW_MS)}
    message = answer({"category": "linear", "list": [{**trade, "isBlockTrade": False}]})
    assert sent(message, None) == sent(push("trade"))
    assert sent(answer({"category": "linear", "list": [TICKER]}), None) == sent(push("ticker"))
    names = {"bidPrice": "bid1Price", "bidSize": "bid1Size", "askPrice": "ask1Price", "askSize": "ask1Size"}
    names |= {"bidIv": "bid1Iv", "askIv": "ask1Iv", "markPriceIv": "markIv"}
    option = {names.get(name, name): value for name, value in OPTION_TICKER.items()}
    assert sent(answer({"category": "option", "list": [option]}), None) == sent(push("option ticker"), STREAM + "option")


def test_each_index_of_an_answer_is_told_once() -> None:
    items = [TICKER, {**TICKER, "symbol": "BTCUSDT-17NOV23"}, {**TICKER, "symbol": "ETHUSDT"}]
    records = sent(answer({"category": "linear", "list": items}), None)
    assert [record.row["underlying"] for record in records if record.table == "index_prices"] == ["BTC", "ETH"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(kind: str, data: st.DataObject) -> None:
    message = push(kind)
    part = data.draw(st.sampled_from([message, message["data"][0] if kind == "trade" else message["data"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    try:
        results = sent(message, STREAM + GOOD[kind][0])
    except Rejected:
        return
    assert all(isinstance(result, Rejected) or fault(result.table, result.row) is None for result in results)


ITEMS: list[dict[str, Any]] = [SPOT, LINEAR, FUTURE, INVERSE, OPTION, {**LINEAR, "status": "Closed"}, TICKER]


@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3), st.data(), st.none() | st.text().map("https://x/y?".__add__))
def test_an_answer_with_anything_in_it_gives_good_rows_and_dead_letters(
    items: list[dict[str, Any]], data: st.DataObject, url: str | None
) -> None:
    odd = dict(items[0])
    odd[data.draw(st.sampled_from([*sorted(odd), "orderId", "status", "execId"]))] = data.draw(JSON)
    message = answer({"list": [*items[1:], odd, data.draw(JSON)]})
    part = data.draw(st.sampled_from([message, {}]))
    part["time"] = data.draw(JSON)
    result = converted(message, url)
    assert all(fault(record.table, record.row) is None for record in result.records)
    listed = [record for record in result.records if record.table == "instruments"]
    assert len(listed) >= sum("priceFilter" in item for item in items[1:])


@given(JSON, st.none() | st.text(max_size=30))
def test_any_json_gives_good_rows_or_is_rejected(message: Any, url: str | None) -> None:
    for whole in (message, {"topic": message}, {"retCode": 0, "result": message}, {"op": message}, {"success": message}):
        assert all(fault(record.table, record.row) is None for record in converted(whole, url).records)


@pytest.mark.parametrize(
    ("venue", "symbol", "terms"),
    [
        ("bybit_spot", "BTCUSDT", {"kind": "spot", "underlying": "BTC", "quote_currency": "USDT", "contract_size": 1.0}),
        ("bybit_spot", "METHETH", {"underlying": "METH", "quote_currency": "ETH"}),
        ("bybit_linear", "1000PEPEUSDT", {"kind": "perpetual", "underlying": "1000PEPE", "settlement_currency": "USDT"}),
        ("bybit_linear", "BTCPERP", {"kind": "perpetual", "underlying": "BTC", "settlement_currency": "USDC"}),
        ("bybit_linear", "BTC-26DEC25", {"kind": "future", "quote_currency": "USDC", "expiry_at": "2025-12-26T08:00:00.000Z"}),
        ("bybit_linear", "BTCUSDT-5DEC25", {"kind": "future", "underlying": "BTC", "expiry_at": "2025-12-05T08:00:00.000Z"}),
        (
            "bybit_inverse",
            "BTCUSD",
            {"kind": "perpetual", "is_inverse": True, "settlement_currency": "BTC", "contract_size": 1.0},
        ),
        (
            "bybit_options",
            "ETH-3JAN23-1250-P",
            {
                "kind": "option",
                "underlying": "ETH",
                "quote_currency": "USDC",
                "option_type": "put",
                "strike_usd": 1250.0,
                "expiry_at": "2023-01-03T08:00:00.000Z",
            },
        ),
        ("bybit_options", "XRP-27MAR26-2.5-C-USDT", {"settlement_currency": "USDT", "strike_usd": 2.5, "option_type": "call"}),
    ],
)
def test_a_symbol_tells_its_terms(venue: str, symbol: str, terms: dict[str, Any]) -> None:
    record = describe(venue, symbol, at(None))
    assert record is not None
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in terms} == terms


@pytest.mark.parametrize(
    ("venue", "symbol"),
    [
        ("bybit_spot", "BTC"),
        ("bybit_linear", "BTCUSD"),
        ("bybit_linear", "BTC-31FEB25"),
        ("bybit_inverse", "BTCUSDZ25"),  # its name has no day
        ("bybit_options", "BTC-26DEC25-0-C"),
        ("bybit_options", "BTC-26DEC25"),
        ("bybit_options", "btc-26DEC25-1-C"),
        ("bybit", "BTCUSDT"),
        ("bybit_linear", ""),
    ],
)
def test_a_symbol_that_tells_nothing_is_described_by_nothing(venue: str, symbol: str) -> None:
    assert describe(venue, symbol, at(None)) is None


@given(st.sampled_from(MARKETS), st.text(max_size=30))
def test_a_description_of_any_name_is_a_good_row_or_none(venue: str, symbol: str) -> None:
    record = describe(venue, symbol, at(None))
    assert record is None or fault("instruments", record.row) is None


ROOT = Path(__file__).resolve().parents[2]


def test_every_topic_that_is_read_is_documented() -> None:
    with pytest.raises(Rejected) as rejected:
        sent({"topic": "no-such-topic"})
    documented = (ROOT / "docs" / "venues" / "bybit.md").read_text()
    for topic in rejected.value.fault.expected.removeprefix("a topic that is read: ").split(", "):
        assert f"`{topic}`" in documented


READ: dict[str, dict[str, int]] = {
    "http_get_instruments_inverse.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instruments_inverse_symbol_type.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instruments_linear.json": {"instruments": 2, "trading_halts": 2},
    "http_get_instruments_linear_symbol_type.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instruments_option.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instruments_option_symbol_id.json": {"instruments": 1, "trading_halts": 1},
    "http_get_instruments_spot.json": {"instruments": 2, "trading_halts": 2},
    "http_get_instruments_spot_xstocks.json": {"instruments": 1, "trading_halts": 1},
    "http_get_orderbook.json": {"instruments": 1, "order_books": 1},
    "http_get_trades_recent.json": {"instruments": 1, "trades": 1},
    "ws_orderbook_delta.json": {"instruments": 1, "order_books": 1},
    "ws_orderbook_snapshot.json": {"instruments": 1, "order_books": 1},
    "ws_subscription_ack.json": {},  # control
    "ws_ticker_linear.json": {"instruments": 1, "tickers": 1, "index_prices": 1},
    "ws_ticker_option.json": {"instruments": 1, "tickers": 1},
}
LETTERS = {
    **{f"ws_account_execution{kind}.json": "topic" for kind in ("", "_adl", "_fast", "_fast_envelope_id")},
    **{f"ws_account_order{kind}.json": "topic" for kind in ("", "_filled", "_partially_filled_rejected")},
    "ws_order_response.json": "op",
    "ws_public_trade.json": "topic",  # trade.linear.BTCUSDT, which v5 does not have
    "ws_subscription_failure.json": "success",
}
URLS = {
    "http_get_orderbook.json": f"{REST}orderbook?category=linear&symbol=BTCUSDT&limit=3",
    "ws_orderbook_delta.json": STREAM + "linear",
    "ws_orderbook_snapshot.json": STREAM + "linear",
    "ws_ticker_linear.json": STREAM + "linear",
    "ws_ticker_option.json": STREAM + "option",
}


def told_ms(message: Any) -> int:
    return int(message.get("ts") or message.get("time") or message.get("creationTime") or NOW_MS)


def test_every_sample_gives_what_its_name_says_or_dead_letters_alone(check_samples: CheckSamples) -> None:
    check_samples("bybit", READ, told_ms, URLS)


def test_every_sample_that_is_not_read_says_why() -> None:
    path = ROOT.parent / "shared" / "captures" / "samples" / "bybit.jsonl"
    if not path.exists():
        pytest.skip(f"no samples at {path}")
    samples = {sample["sample"]: sample["message"] for sample in map(orjson.loads, path.read_bytes().splitlines())}
    assert samples.keys() == READ.keys() | LETTERS.keys()
    for name, field in LETTERS.items():
        line = Line("bybit", name, 1, told_ms(samples[name]) * 1000, orjson.dumps(samples[name]), "message")
        fault = Converter().convert(line).fault
        assert fault is not None
        assert fault.field == field
