"""OKX messages: what each becomes, and which field is named when one cannot be used."""

from decimal import Decimal
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Received, Record, Rejected
from feeds.okx import describe, parse
from schemas.rows import encoded, fault, instant_ms

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
GOOD: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "update": ("books", "update", BOOK),
    "update of 2022": ("books", "update", BOOK_OF_2022),
    "snapshot": ("books", "snapshot", SNAPSHOT),
    "whole": ("books5", None, {**LEVELS, **TS, "instId": "BTC-USD-SWAP", "seqId": 15}),
    "best": ("bbo-tbt", None, BEST),
    "ticker": ("tickers", None, TICKER),
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
    assert {name for name, value in mark.items() if value is not None} - {"venue", "instrument", "event_at", "received_at"} == {
        "mark_price"
    }
    names = ("mark_iv", "bid_iv", "ask_iv", "forward_usd", "mark_price")
    assert [summary[name] for name in names] == [0.3675503331, None, 1.1669998535, 62604.6993093463, None]


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
        ({"code": "0", "data": [5]}, "instId"),
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
        records = sent(message)
    except Rejected:
        return
    assert all(fault(record.table, record.row) is None for record in records)


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
