"""OKX messages: what each becomes, and which field is named when one cannot be used."""

from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.capture import Converted, Converter, Line
from feeds.checks import NO_EXPIRY_MS
from feeds.okx import describe, parse
from schemas.rows import encoded, fault, instant_ms
from tests.feeds.conftest import CheckSamples

NOW_MS = 1_700_000_000_000
RECEIVED = Received(NOW_MS * 1000, None, None)
TS = {"ts": str(NOW_MS)}
LEVELS = {"bids": [["100.10", "1.50", "0", "2"], ["100.0", "0", "0", "0"]], "asks": [["100.20", "2", "0", "1"]]}
BOOK = {**LEVELS, **TS, "checksum": -855196043, "prevSeqId": 9, "seqId": 15}
BOOK_OF_2022 = {**LEVELS, **TS, "checksum": -855196043}
SNAPSHOT = {**BOOK, "prevSeqId": -1}
BEST = {"bids": [["100.10", "1.5", "0", "2"]], "asks": [["100.20", "2", "0", "1"]], **TS, "seqId": 15}
TICKER = {
    "instType": "SWAP",
    "instId": "BTC-USD-SWAP",
    "last": "100.15",
    "lastSz": "1",
    "askPx": "100.20",
    "askSz": "2",
    "bidPx": "100.10",
    "bidSz": "1.5",
    "open24h": "99",
    **TS,
}
TRADE = {"instId": "BTC-USDT", "tradeId": "130639474", "px": "100.1", "sz": "0.12", "side": "buy", **TS, "count": "3"}
INDEX = {"instId": "BTC-USDT", "idxPx": "100.1", "high24h": "101", **TS}
MARK = {"instType": "SWAP", "instId": "BTC-USD-SWAP", "markPx": "100.12", **TS}
SUMMARY = {
    "instType": "OPTION",
    "instId": "BTC-USD-220527-30000-C",
    "uly": "BTC-USD",
    "delta": "-1.1",
    "markVol": "0.3675503331",
    "bidVol": "0",
    "askVol": "1.1669998535",
    "fwdPx": "62604.6993093463",
    **TS,
}
LIMITS = {"instId": "BTC-USD-SWAP", "buyLmt": "102.5", "sellLmt": "97.5", "enabled": True, **TS}
INTEREST = {"instType": "SWAP", "instId": "BTC-USD-SWAP", "oi": "2125419", "oiCcy": "6.1", "oiUsd": "212541900", **TS}
QUIET = ("mark", "summary", "limits", "interest")
GOOD: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "update": ("books", "update", BOOK),
    "update of 2022": ("books", "update", BOOK_OF_2022),
    "snapshot": ("books", "snapshot", SNAPSHOT),
    "whole": ("books5", None, {**LEVELS, **TS, "instId": "BTC-USD-SWAP", "seqId": 15}),
    "best": ("bbo-tbt", None, BEST),
    "ticker": ("tickers", None, TICKER),
    "limits": ("price-limit", None, LIMITS),
    "interest": ("open-interest", None, INTEREST),
    "trade": ("trades", None, TRADE),
    "index": ("index-tickers", None, INDEX),
    "mark": ("mark-price", None, MARK),
    "summary": ("opt-summary", None, SUMMARY),
}


def push(kind: str, **fields: Any) -> dict[str, Any]:
    """A good message, with other fields in its data."""
    channel, action, data = GOOD[kind]
    message = {"arg": {"channel": channel, "instId": data.get("instId", "BTC-USD-SWAP")}, "data": [{**data, **fields}]}
    return message if action is None else {**message, "action": action}


def sent(message: Any, received: Received = RECEIVED) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(message), received))


def converted(message: Any, url: str | None = None) -> Converted:
    return Converter().convert(Line("okx", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message", url=url))


def letters(message: Any, url: str | None = None) -> list[str | None]:
    """The fields that the dead letters of a message name."""
    return [record.row["field"] for record in converted(message, url).records if record.table == "dead_letters"]


def told(row: dict[str, Any]) -> set[str]:
    """What a row says beside its head."""
    return {name for name, value in row.items() if value is not None} - {"venue", "instrument", "event_at", "received_at"}


def row(kind: str, **fields: Any) -> dict[str, Any]:
    (record,) = sent(push(kind, **fields))
    assert fault(record.table, record.row) is None
    assert record.event_ms == NOW_MS
    assert record.row["venue"] == "okx"
    return dict(record.row)


def rejected_field(message: Any, received: Received = RECEIVED) -> str | None:
    with pytest.raises(Rejected) as rejected:
        sent(message, received)
    return rejected.value.fault.field


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_message_becomes_a_row_as_its_ddl(kind: str) -> None:
    assert row(kind)["event_at"] == instant_ms(NOW_MS)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("snapshot", ("snapshot", 15, None)),
        ("update", ("change", 15, 9)),
        ("whole", ("snapshot", 15, None)),
        ("update of 2022", ("change", NOW_MS, None)),
    ],
)
def test_a_book_carries_its_numbers_or_else_its_time(kind: str, expected: tuple[str, int, int | None]) -> None:
    book = row(kind)
    assert (book["kind"], book["sequence"], book["prev_sequence"]) == expected


def test_levels_keep_every_digit() -> None:
    book = row("update")
    assert book["bids"] == [[Decimal("100.10"), Decimal("1.50")], [Decimal("100.0"), Decimal(0)]]
    assert b'"bids":[[100.10,1.50],[100.0,0]],"asks":[[100.20,2]],"checksum":-855196043,"depth":null}' in encoded(book)


@pytest.mark.parametrize("given", [{"checksum": 0}, {"checksum": None}])
def test_a_checksum_of_0_is_none(given: dict[str, Any]) -> None:
    assert row("update", **given)["checksum"] is None
    assert row("whole")["checksum"] is None


def test_a_best_price_carries_the_sequence_of_the_book() -> None:
    best = row("best")
    assert [best[name] for name in ("sequence", "bid_price", "bid_size", "ask_price", "ask_size")] == [
        15,
        100.1,
        1.5,
        100.2,
        2.0,
    ]
    empty = row("best", bids=[])
    assert (empty["bid_price"], empty["bid_size"], empty["ask_price"]) == (None, None, 100.2)


@pytest.mark.parametrize("none", ["", "0"])
def test_a_ticker_says_which_side_is_empty(none: str) -> None:
    ticker = row("ticker", askPx=none, askSz=none, last="")
    assert [ticker[name] for name in ("bid_price", "bid_size", "ask_price", "ask_size", "last_price")] == [
        100.1,
        1.5,
        *[None] * 3,
    ]


def test_a_mark_and_a_summary_say_only_what_they_know() -> None:
    mark, summary = row("mark"), row("summary")
    assert told(mark) == {"mark_price", "has_quote"}
    names = ("mark_iv", "bid_iv", "ask_iv", "forward_usd", "mark_price")
    assert [summary[name] for name in names] == [0.3675503331, None, 1.1669998535, 62604.6993093463, None]


@pytest.mark.parametrize(("kind", "speaks"), [("ticker", True), ("best", True), *((name, False) for name in QUIET)])
def test_a_ticker_says_whether_it_speaks_of_best_prices(kind: str, speaks: bool) -> None:
    assert row(kind)["has_quote"] is speaks
    if not speaks:
        assert not told(row(kind)) & {"bid_price", "bid_size", "ask_price", "ask_size"}


def test_limits_and_open_interest_say_only_what_they_know() -> None:
    assert told(row("limits")) == {"min_price", "max_price", "has_quote"}
    assert (row("limits")["min_price"], row("limits")["max_price"]) == (97.5, 102.5)
    assert told(row("limits", buyLmt="", sellLmt="", enabled=False)) == {"has_quote"}
    assert told(row("interest")) == {"open_interest", "has_quote"}
    assert row("interest")["open_interest"] == 2125419.0


@pytest.mark.parametrize(
    ("channel", "action", "kind", "depth"),
    [
        ("books", "snapshot", "snapshot", None),
        ("books", "update", "change", None),
        ("books-l2-tbt", "snapshot", "snapshot", None),
        ("books-l2-tbt", "update", "change", None),
        ("books50-l2-tbt", "snapshot", "snapshot", 50),
        ("books50-l2-tbt", "update", "change", 50),
        ("books5", None, "snapshot", 5),
    ],
)
def test_a_book_says_how_deep_its_channel_is(channel: str, action: str | None, kind: str, depth: int | None) -> None:
    message = {"arg": {"channel": channel, "instId": "BTC-USDT"}, "data": [BOOK]}
    (record,) = sent(message if action is None else {**message, "action": action})
    assert (record.row["kind"], record.row["depth"]) == (kind, depth)
    assert fault("order_books", record.row) is None


NUMBERS = st.integers(0, 2**63 - 1)


@given(NUMBERS, NUMBERS)
def test_the_numbers_of_a_change_are_passed_on_as_they_are(number: int, previous: int) -> None:
    """Also where nothing has changed, and where the venue begins to count anew."""
    book = row("update", seqId=number, prevSeqId=previous)
    assert (book["sequence"], book["prev_sequence"]) == (number, previous)


@pytest.mark.parametrize(
    ("channel", "fields", "reason"),
    [
        ("trades", {}, None),
        ("trades", {"source": "1"}, None),
        ("trades-all", {"source": "0"}, None),
        ("option-trades", {"fillVol": "0.5", "fwdPx": "1", "idxPx": "1", "markPx": "1", "optType": "C"}, None),
        ("public-block-trades", {"fillVol": "", "fwdPx": "", "idxPx": "1", "markPx": "1", "groupId": ""}, "block"),
        ("public-block-trades", {"fillVol": "5", "fwdPx": "1", "idxPx": "1", "markPx": "1"}, "block"),
    ],
)
def test_every_channel_of_trades_is_read_and_a_block_is_no_trade_of_the_market(
    channel: str, fields: dict[str, str], reason: str | None
) -> None:
    trade = {**TRADE, **fields}
    answer = {"code": "0", "msg": "", "data": [trade]}
    for message in ({"arg": {"channel": channel, "instId": "BTC-USDT"}, "data": [trade]}, answer):
        (record,) = sent(message)
        assert (record.table, record.row["trade_id"], record.row["off_market"]) == ("trades", "130639474", reason)
        assert fault("trades", record.row) is None


NOT_READ = ["liquidation-orders", "adl-warning", "estimated-price", "status", "candle1m", "index-candle1m"]
NOT_READ += [
    "mark-price-candle1m",
    "books-elp",
    "sprd-books5",
    "orders",
    "account",
    "positions",
    "fills",
    "public-struc-block-trades",
]


@pytest.mark.parametrize("channel", NOT_READ)
@pytest.mark.parametrize("data", [[TRADE], [["1597026383085", "8533.02"]], []])
def test_a_channel_that_is_not_read_is_named(channel: str, data: list[Any]) -> None:
    with pytest.raises(Rejected) as rejected:
        sent({"arg": {"channel": channel, "instId": "BTC-USDT"}, "data": data})
    assert rejected.value.fault.field == "channel"
    assert rejected.value.fault.got == repr(channel)


def test_a_trade_that_was_asked_for_among_blocks_is_one() -> None:
    answer = {"code": "0", "msg": "", "data": [TRADE]}
    for method, reason in (("block-trades", "block"), ("trades", None), ("history-trades", None)):
        url = f"https://www.okx.com/api/v5/market/{method}?instId=BTC-USDT"
        (record,) = sent(answer, RECEIVED._replace(url=url))
        assert record.row["off_market"] == reason


@pytest.mark.parametrize("kind", ["ticker", "trade", "index", "mark", "summary", "limits", "interest"])
def test_an_answer_is_read_as_its_channel_is(kind: str) -> None:
    _, _, data = GOOD[kind]
    answer = {"code": "0", "msg": "", "data": [data]}
    assert sent(answer) == sent(push(kind))
    assert letters({**answer, "data": [data, {**data, "ts": "soon"}]}) == ["ts"]


@pytest.mark.parametrize(
    "item",
    [
        {"ordId": "5", "instId": "BTC-USDT", "tradeId": "6", "px": "1", "sz": "1", "side": "buy", **TS},
        {"posId": "5", "instType": "SWAP", "instId": "BTC-USD-SWAP", "markPx": "1", "idxPx": "1", **TS},
        {"instType": "SWAP", "instId": "BTC-USD-SWAP", "fundingRate": "0.0001", **TS},
        {"sprdId": "BTC-USDT_BTC-USDT-SWAP", "state": "live", "tickSz": "0.1"},
        ["1597026383085", "8533.02"],
        5,
    ],
)
def test_an_answer_that_no_table_holds_is_one_dead_letter(item: Any) -> None:
    assert letters({"code": "0", "msg": "", "data": [item, item]}) == ["data"]
    assert letters({"code": "0", "msg": "", "data": [TRADE, item]}) == ["data"]


def test_a_trade_and_an_index() -> None:
    trade, index = row("trade"), row("index")
    assert [trade[name] for name in ("trade_id", "side", "price", "size")] == ["130639474", "buy", 100.1, 0.12]
    assert [index[name] for name in ("underlying", "price_usd")] == ["BTC", 100.1]


def test_every_item_of_a_message_becomes_a_row() -> None:
    message = push("trade")
    message["data"] *= 3
    assert len(sent(message)) == 3


@pytest.mark.parametrize(
    "message",
    [
        b"pong",
        b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}',
        b'{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"}}',
        b'{"event":"channel-conn-count","channel":"books","connCount":"2"}',
        b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}',
        b'{"event":"login","code":"0","msg":"","connId":"a4d3ae55"}',
        b'{"code":"0","data":[],"msg":""}',
    ],
)
def test_an_acknowledgement_is_no_data(message: bytes) -> None:
    assert parse(message, RECEIVED) == []


SPOT = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "baseCcy": "BTC",
    "quoteCcy": "USDT",
    "tickSz": "0.1",
    "ctVal": "",
    "expTime": "",
}
LINEAR = {
    "instType": "SWAP",
    "instId": "BTC-USDT-SWAP",
    "uly": "BTC-USDT",
    "settleCcy": "USDT",
    "ctType": "linear",
    "ctVal": "0.01",
    "ctMult": "1",
    "ctValCcy": "BTC",
    "tickSz": "0.1",
}
INVERSE = {**LINEAR, "instId": "BTC-USD-SWAP", "uly": "BTC-USD", "settleCcy": "BTC", "ctType": "inverse", "ctVal": "100"}
INVERSE["ctValCcy"] = "USD"
FUTURE = {**INVERSE, "instType": "FUTURES", "instId": "BTC-USD-220527", "expTime": "1653638400000"}
OPTION = {
    **FUTURE,
    "instType": "OPTION",
    "instId": "BTC-USD-220527-30000-C",
    "ctType": "",
    "ctVal": "1",
    "ctMult": "0.01",
    "ctValCcy": "BTC",
    "optType": "C",
    "stk": "30000",
}


X_PERP = {"instId": "BTC-USD_UM_XPERP-310404", "settleCcy": "USDG", "ctType": "linear", "ctVal": "0.01", "ctValCcy": "BTC"}
X_PERP |= {"expTime": "1933056000000", "ruleType": "xperp"}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (SPOT, {"kind": "spot", "underlying": "BTC", "quote_currency": "USDT", "contract_size": 1.0, "tick_size": 0.1}),
        (LINEAR, {"kind": "perpetual", "settlement_currency": "USDT", "is_inverse": False, "contract_size": 0.01}),
        (INVERSE, {"kind": "perpetual", "settlement_currency": "BTC", "is_inverse": True, "contract_size": 100.0}),
        (FUTURE, {"kind": "future", "quote_currency": "USD", "expiry_at": "2022-05-27T08:00:00.000Z", "is_inverse": True}),
        (
            OPTION,
            {
                "kind": "option",
                "underlying": "BTC",
                "quote_currency": "BTC",
                "is_inverse": True,
                "option_type": "call",
                "strike_usd": 30000.0,
                "contract_size": 0.01,
                "last_trading_at": "2022-05-27T08:00:00.000Z",
            },
        ),
        ({**SPOT, "instType": "MARGIN"}, {"kind": "spot", "underlying": "BTC", "contract_size": 1.0}),
        (
            {**FUTURE, **X_PERP},
            {
                "kind": "future",
                "underlying": "BTC",
                "quote_currency": "USD",
                "settlement_currency": "USDG",
                "is_inverse": False,
                "contract_size": 0.01,
                "expiry_at": "2031-04-04T08:00:00.000Z",
            },
        ),
        ({**LINEAR, "expTime": "1653638400000"}, {"kind": "perpetual", "expiry_at": None}),
        ({**LINEAR, "ctVal": ""}, {"contract_size": None}),
        ({**LINEAR, "ctValCcy": "USDT"}, {"contract_size": None}),
    ],
)
@pytest.mark.parametrize("is_answer", [False, True])
def test_a_listing_gives_the_terms_of_each_contract(item: dict[str, Any], expected: dict[str, Any], is_answer: bool) -> None:
    head = {"code": "0", "msg": ""} if is_answer else {"arg": {"channel": "instruments", "instType": item["instType"]}}
    (record,) = sent({**head, "data": [item]})
    assert fault("instruments", record.row) is None
    assert record.event_ms == NOW_MS - 86_400_000
    assert {name: record.row[name] for name in expected} == expected


@pytest.mark.parametrize("item", [SPOT, LINEAR, INVERSE, FUTURE, OPTION])
@pytest.mark.parametrize("state", ["live", "suspend", "expired", "settling", "preopen", "test", "post_only", "rebase"])
def test_whole_terms_hold_in_whatever_state_a_contract_is(item: dict[str, Any], state: str) -> None:
    terms, halt = sent({"code": "0", "data": [{**item, "state": state}]})
    assert [terms] == sent({"code": "0", "data": [item]})
    assert (halt.table, fault("trading_halts", halt.row)) == ("trading_halts", None)
    names = ("instrument", "event_at", "is_halted", "reason")
    told = (False, None) if state == "live" else (True, state)
    assert tuple(halt.row[name] for name in names) == (item["instId"], instant_ms(NOW_MS), *told)


@pytest.mark.parametrize(
    ("odd", "field"),
    [
        (
            {**SPOT, "instId": "LISTING-SPOT-SLX-USDT", "baseCcy": "", "quoteCcy": "", "tickSz": "", "state": "preopen"},
            "instId",
        ),
        ({**SPOT, "instId": "LISTING-SPOT-SLX-USDT", "baseCcy": "SLX", "tickSz": "", "state": "preopen"}, "instId"),
        ({**SPOT, "instId": "LISTING-SPOT-SLX-USDT", "baseCcy": "SLX", "tickSz": "0.1", "state": "live"}, "instId"),
        ({**SPOT, "instId": "SLX-USDT", "baseCcy": "SLX", "tickSz": "", "state": "preopen"}, "state"),
        ({**LINEAR, "instId": "SLX-USDT-SWAP", "uly": "", "state": "preopen"}, "uly"),
        ({**LINEAR, "instId": "SLX-USDT-SWAP", "ctVal": "", "state": "preopen"}, "state"),
        ({**SPOT, "state": "delivering"}, "state"),
        ({**FUTURE, "state": ""}, "state"),
        ({**OPTION, "state": None}, "state"),
        ({**LINEAR, "ctType": ""}, "ctType"),
        ({**LINEAR, "ctType": "quanto"}, "ctType"),
        ({**FUTURE, "expTime": "0"}, "expTime"),
        ({**FUTURE, "expTime": str(NO_EXPIRY_MS)}, "expTime"),
        (
            {"instType": "EVENTS", "instId": "BTC-ABOVE-70000-260709", "uly": "", "settleCcy": "USDT", "state": "live"},
            "instType",
        ),
        ({**SPOT, "instType": "PREDICTION"}, "instType"),
        ({**OPTION, "stk": "0"}, "stk"),
        ({}, "data"),
        ([], "data"),
        (None, "data"),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_odd_instrument_is_one_dead_letter_and_the_others_are_listed(odd: Any, field: str, position: int) -> None:
    items: list[Any] = [SPOT, LINEAR]
    items.insert(position, odd)
    for message in ({"code": "0", "data": items}, {"arg": {"channel": "instruments", "instType": "ANY"}, "data": items}):
        result = converted(message)
        assert result.fault is None
        assert [record.row["instrument"] for record in result.records if record.table == "instruments"] == [
            "BTC-USDT",
            "BTC-USDT-SWAP",
        ]
        if "code" in message:
            assert letters(message) == [field]
        else:
            assert len(letters(message)) == 1


BOOKS_URL = "https://www.okx.com/api/v5/market/books"


@pytest.mark.parametrize(
    ("url", "depth"),
    [
        (f"{BOOKS_URL}?instId=BTC-USDT&sz=400", None),
        (f"{BOOKS_URL}?sz=399&instId=BTC-USDT", 399),
        (f"{BOOKS_URL}?instId=BTC-USDT&sz=20", 20),
        (f"{BOOKS_URL}?instId=BTC-USDT", 1),
        (f"{BOOKS_URL}-full?instId=BTC-USDT&sz=5000", None),
    ],
)
def test_a_rest_book_says_what_was_asked_for(url: str, depth: int | None) -> None:
    item = {**LEVELS, **TS, "seqId": 15}
    (record,) = sent({"code": "0", "msg": "", "data": [item]}, RECEIVED._replace(url=url, symbol="ETH-USDT"))
    assert (record.row["instrument"], record.row["kind"], record.row["depth"]) == ("BTC-USDT", "snapshot", depth)
    assert fault("order_books", record.row) is None


def test_a_rest_book_without_a_number_begins_no_whole_book() -> None:
    """Updates that are numbered could not join it."""
    message = {"code": "0", "msg": "", "data": [{**LEVELS, **TS}]}
    (record,) = sent(message, RECEIVED._replace(url=f"{BOOKS_URL}-full?instId=BTC-USDT&sz=5000"))
    assert (record.row["sequence"], record.row["depth"]) == (NOW_MS, 5000)


@given(st.integers(1, 450))
def test_a_rest_book_of_which_the_request_is_not_known_is_as_deep_as_it_shows(count: int) -> None:
    bids = [[f"{1000 - i}.5", "1", "0", "1"] for i in range(count)]
    message = {"code": "0", "data": [{"bids": bids, "asks": [], **TS, "seqId": 15}]}
    (record,) = sent(message, RECEIVED._replace(symbol="BTC-USDT"))
    assert record.row["depth"] == (count if count < 400 else None)


def test_a_rest_book_takes_its_symbol_from_the_connection() -> None:
    message = {"code": "0", "msg": "", "data": [{**LEVELS, **TS, "seqId": 15}]}
    (record,) = sent(message, RECEIVED._replace(symbol="BTC-USDT"))
    assert [record.row[name] for name in ("instrument", "kind", "sequence")] == ["BTC-USDT", "snapshot", 15]
    assert rejected_field(message) == "instId"


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b"\xff", b"null", b"ping"])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "arg"),
        ({"event": "error", "code": "60012", "msg": "Invalid request"}, "event"),
        ({"event": ["subscribe"]}, "event"),
        ({"code": "50011", "data": [], "msg": "Too Many Requests"}, "code"),
        ({"code": "0", "data": {}}, "data"),
        ({"code": "0", "data": [5]}, "data"),
        ({"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [["1597026383085", "8533.02"]]}, "channel"),
        ({"arg": {"channel": ["books"]}, "data": []}, "channel"),
        ({"arg": {}, "data": []}, "channel"),
        ({"arg": [], "data": []}, "arg"),
        ({"arg": {"channel": "trades"}, "data": {}}, "data"),
        ({"arg": {"channel": "trades"}, "data": [5]}, "data"),
        ({"arg": {"channel": "instruments"}, "data": [{**SPOT, "instType": "EVENTS"}]}, "instType"),
        ({"arg": {"channel": "instruments"}, "data": [{**SPOT, "baseCcy": ""}]}, "baseCcy"),
        ({"arg": {"channel": "instruments"}, "data": [{**LINEAR, "uly": "BTC"}]}, "uly"),
        ({"arg": {"channel": "instruments"}, "data": [{**FUTURE, "expTime": ""}]}, "expTime"),
        ({"arg": {"channel": "instruments"}, "data": [{**OPTION, "stk": ""}]}, "stk"),
        ({"arg": {"channel": "instruments"}, "data": [{**OPTION, "optType": ""}]}, "optType"),
    ],
)
def test_an_error_or_an_unknown_message_is_rejected(message: dict[str, Any], field: str | None) -> None:
    assert rejected_field(message) == field


NEEDED = {
    "update": "ts bids asks prevSeqId",
    "snapshot": "ts bids asks",
    "best": "ts bids asks",
    "ticker": "ts last askPx bidPx",
    "trade": "ts tradeId px sz side",
    "index": "ts idxPx",
    "mark": "ts markPx",
    "limits": "ts buyLmt sellLmt",
    "interest": "ts oi",
    "summary": "ts markVol bidVol askVol",
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, names in NEEDED.items() for field in names.split()])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    message = push(kind)
    del message["data"][0][field]
    assert rejected_field(message) == field


def test_a_missing_action_or_symbol_is_named() -> None:
    book = push("update")
    assert rejected_field({**book, "action": "replace"}) == "action"
    assert rejected_field({name: value for name, value in book.items() if name != "action"}) == "action"
    assert rejected_field({**book, "arg": {"channel": "books"}}) == "instId"


@pytest.mark.parametrize("kind", [*NEEDED])
@pytest.mark.parametrize("ahead_ms", [60_001, -86_400_001, 10**15, "soon", 1.5, None, True, ""])
def test_a_wild_event_time_is_named(kind: str, ahead_ms: Any) -> None:
    value = str(NOW_MS + ahead_ms) if type(ahead_ms) is int else ahead_ms
    assert rejected_field(push(kind, ts=value)) == "ts"


BAD_NUMBERS: list[Any] = [
    "NaN",
    "Infinity",
    "-1",
    "+1",
    "1e3",
    "1E-5",
    "01",
    "1.",
    ".5",
    "1_0",
    "١",
    "9" * 20,
    "abc",
    1,
    1.5,
    [],
    {},
]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_bad_number_is_named(bad: Any) -> None:
    for side in ("bids", "asks"):
        for level in ([bad, "1", "0", "1"], ["100", bad, "0", "1"]):
            assert rejected_field(push("update", **{side: [["100", "1", "0", "1"], level]})) == side
            assert rejected_field(push("best", **{side: [level]})) == side
    for kind, names in {"ticker": "bidPx bidSz askPx askSz last", "trade": "px sz", "index": "idxPx", "mark": "markPx"}.items():
        for name in names.split():
            assert rejected_field(push(kind, **{name: bad})) == name


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("update", "bids", [["0", "1", "0", "1"]]),
        ("update", "bids", [["1"]]),
        ("update", "bids", ["12"]),
        ("update", "asks", {}),
        ("update", "seqId", -1),
        ("update", "seqId", 2**63),
        ("update", "prevSeqId", -1),
        ("update", "checksum", 2**31),
        ("update", "checksum", "5"),
        ("update", "checksum", True),
        ("ticker", "bidPx", "1000000000001"),
        ("ticker", "bidPx", "0"),
        ("trade", "sz", "0"),
        ("trade", "side", "BUY"),
        ("trade", "tradeId", ""),
        ("index", "instId", "ETH-BTC"),
        ("index", "idxPx", "0"),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(push(kind, **{field: value})) == field


@pytest.mark.parametrize("bid", ["100.20", "100.3"])
@pytest.mark.parametrize("kind", ["snapshot", "whole"])
def test_a_crossed_snapshot_is_rejected(kind: str, bid: str) -> None:
    assert rejected_field(push(kind, bids=[["99", "1", "0", "1"], [bid, "1", "0", "1"]])) == "bids"


DIGITS = st.from_regex(r"(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,12})?", fullmatch=True)
SIDE = st.lists(st.tuples(DIGITS.filter(lambda text: float(text) > 0), DIGITS).map(list))


@given(SIDE, SIDE)
def test_a_written_row_has_every_level_with_the_digits_that_were_sent(bids: list[list[str]], asks: list[list[str]]) -> None:
    written = encoded(row("update", bids=bids, asks=asks))
    text = ",".join(
        f'"{side}":[{",".join(f"[{price},{size}]" for price, size in levels)}]'
        for side, levels in (("bids", bids), ("asks", asks))
    )
    assert text.encode() in written
    levels = [[float(price), float(size)] for price, size in bids]
    assert orjson.loads(written)["bids"] == levels


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(kind: str, data: st.DataObject) -> None:
    message = push(kind)
    place = data.draw(st.sampled_from([message, message["arg"], message["data"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    try:
        results = sent(message)
    except Rejected:
        return
    assert all(isinstance(result, Rejected) or fault(result.table, result.row) is None for result in results)


@given(st.sampled_from([SPOT, LINEAR, FUTURE, OPTION]), st.data())
def test_a_listing_with_anything_in_a_field_gives_good_rows_or_is_rejected(item: dict[str, Any], data: st.DataObject) -> None:
    message = {"code": "0", "data": [{**item, data.draw(st.sampled_from(sorted(item))): data.draw(JSON)}]}
    try:
        records = sent(message, RECEIVED._replace(symbol="BTC-USDT"))
    except Rejected:
        return
    assert all(fault(record.table, record.row) is None for record in records)


@pytest.mark.parametrize(
    ("symbol", "terms"),
    [
        ("BTC-USDT", {"kind": "spot", "underlying": "BTC", "quote_currency": "USDT", "contract_size": 1.0}),
        ("BTC-USD", {"kind": "spot", "settlement_currency": "USD", "is_inverse": False}),
        ("BTC-USD-SWAP", {"kind": "perpetual", "settlement_currency": "BTC", "is_inverse": True, "contract_size": 100.0}),
        ("UNI-USD-SWAP", {"underlying": "UNI", "contract_size": 10.0, "expiry_at": None}),
        ("BTC-USDT-SWAP", {"kind": "perpetual", "settlement_currency": "USDT", "is_inverse": False, "contract_size": None}),
        ("BTC-USD-220527", {"kind": "future", "expiry_at": "2022-05-27T08:00:00.000Z", "quote_currency": "USD"}),
        (
            "BTC-USD-220527-30000-P",
            {
                "kind": "option",
                "quote_currency": "BTC",
                "settlement_currency": "BTC",
                "option_type": "put",
                "strike_usd": 30000.0,
                "expiry_at": "2022-05-27T08:00:00.000Z",
                "contract_size": None,
            },
        ),
    ],
)
def test_a_symbol_tells_its_terms(symbol: str, terms: dict[str, Any]) -> None:
    record = describe("okx", symbol, RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert {name: record.row[name] for name in terms} == terms


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC-USD-220532", "BTC-USD_UM-260626-61000-P", "BTC-USD-SWAP-1", "btc-usdt"])
def test_a_symbol_that_tells_nothing_is_described_by_nothing(symbol: str) -> None:
    assert describe("okx", symbol, RECEIVED) is None


ANSWERS = [TRADE, TICKER, INDEX, MARK, SUMMARY, LIMITS, INTEREST, SPOT, LINEAR, FUTURE, OPTION, {**LEVELS, **TS, "seqId": 15}]


@given(
    st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3), st.data(), st.none() | st.text().map("https://x/books?".__add__)
)
def test_an_answer_with_anything_in_it_gives_good_rows_and_dead_letters(
    items: list[dict[str, Any]], data: st.DataObject, url: str | None
) -> None:
    odd = dict(items[0])
    odd[data.draw(st.sampled_from([*sorted(odd), "ordId", "state", "instId", "sz"]))] = data.draw(JSON)
    anything = data.draw(JSON)
    result = converted({"code": "0", "data": [*items[1:], odd, anything]}, url)
    assert all(fault(record.table, record.row) is None for record in result.records)
    rows = [record for record in result.records if record.table not in ("dead_letters", "instruments")]
    listed = [record for record in result.records if record.table == "instruments"]
    assert len(rows) >= sum("instType" not in item and "bids" not in item for item in items[1:])
    assert len(listed) >= sum("tickSz" in item for item in items[1:])


ROOT = Path(__file__).resolve().parents[2]


def test_every_channel_that_is_read_is_documented() -> None:
    with pytest.raises(Rejected) as rejected:
        sent({"arg": {"channel": "no-such-channel"}, "data": []})
    documented = (ROOT / "docs" / "venues" / "okx.md").read_text()
    for channel in rejected.value.fault.expected.removeprefix("a channel that is read: ").split(", "):
        assert f"`{channel}`" in documented


READ = {
    "http_get_index_price.json": {"index_prices": 1},
    "http_get_instruments_futures.json": {"instruments": 6, "trading_halts": 6},
    "http_get_instruments_margin.json": {"instruments": 4, "trading_halts": 4},
    "http_get_instruments_option.json": {"instruments": 4, "trading_halts": 4},
    "http_get_instruments_spot.json": {"instruments": 5, "trading_halts": 5},
    "http_get_instruments_swap.json": {"instruments": 3, "trading_halts": 3},
    "http_get_mark_price.json": {"instruments": 1, "tickers": 1},
    "http_get_option_summary.json": {"instruments": 4, "tickers": 4},
    "http_get_order_book.json": {"instruments": 1, "order_books": 1},
    "http_get_trades.json": {"instruments": 1, "trades": 2},
    "ws_bbo_tbt.json": {"instruments": 1, "tickers": 1},
    "ws_books_snapshot.json": {"instruments": 1, "order_books": 1},
    "ws_books_update.json": {"instruments": 1, "order_books": 1},
    "ws_funding_rate.json": {"instruments": 1, "tickers": 1},
    "ws_instruments.json": {"instruments": 1, "trading_halts": 1},
    "ws_tickers.json": {"instruments": 1, "tickers": 1},
    "ws_trades.json": {"instruments": 1, "trades": 1},
}


def test_every_sample_gives_what_its_name_says_or_dead_letters_alone(check_samples: CheckSamples) -> None:
    urls = {"http_get_order_book.json": f"{BOOKS_URL}?instId=BTC-USDT&sz=3"}
    check_samples("okx", READ, newest_ms, urls)


def newest_ms(message: Any) -> int:
    """The newest of the times that a message tells."""
    items = message["data"] if isinstance(message, dict) else message
    return max(int(item.get("ts", NOW_MS)) for item in items)
