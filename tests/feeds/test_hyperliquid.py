"""Hyperliquid messages: what each becomes, and which field is named when one cannot be used."""

import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import Message
from feeds import Received, Record, Rejected
from feeds.capture import Converter, Line
from feeds.hyperliquid import MARKETS, describe, parse, session
from feeds.venues import VENUES
from kernels import books
from schemas.rows import encoded, fault, instant_ms
from tests.feeds.conftest import CheckSamples

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
RECEIVED = Received(NOW_MS * 1000, None, None)
BOOK: dict[str, Any] = {
    "coin": "BTC",
    "time": NOW_MS,
    "levels": [
        [{"px": "100.10", "sz": "1.50", "n": 2}, {"px": "100.0", "sz": "3", "n": 1}],
        [{"px": "100.20", "sz": "2", "n": 1}],
    ],
}
BEST = {"coin": "BTC", "time": NOW_MS, "bbo": [{"px": "100.1", "sz": "1.5", "n": 2}, {"px": "100.2", "sz": "2", "n": 1}]}
TRADE = {"coin": "BTC", "side": "B", "px": "100.1", "sz": "0.12", "hash": "0x01", "time": NOW_MS, "tid": 907359904431134}
CONTEXT = {
    "funding": "-0.0000125",
    "openInterest": "688.11",
    "prevDayPx": "98.3",
    "dayNtlVlm": "1169046.2",
    "premium": "0.00031774",
    "oraclePx": "100.32",
    "markPx": "100.3",
    "midPx": None,
}
SPOT_CONTEXT = {"dayNtlVlm": "8906.0", "markPx": "0.14", "midPx": "0.209265", "prevDayPx": "0.20432"}
GOOD: dict[str, dict[str, Any]] = {
    "book": {"channel": "l2Book", "data": BOOK},
    "best": {"channel": "bbo", "data": BEST},
    "trade": {"channel": "trades", "data": [TRADE]},
    "worth": {"channel": "activeAssetCtx", "data": {"coin": "BTC", "ctx": CONTEXT}},
    "spot worth": {"channel": "activeSpotAssetCtx", "data": {"coin": "@107", "ctx": SPOT_CONTEXT}},
}
PERPETUAL = {"name": "BTC", "szDecimals": 5, "maxLeverage": 50}
META = {"universe": [PERPETUAL, {"name": "kPEPE", "szDecimals": 0}, {"name": "MATIC", "szDecimals": 1, "isDelisted": True}]}
TOKENS = [{"name": "USDC", "index": 0}, {"name": "HYPE", "index": 150}, {"name": "PURR", "index": 1}]
PAIRS = [{"name": "PURR/USDC", "tokens": [1, 0], "index": 0}, {"name": "@107", "tokens": [150, 0], "index": 107}]
SPOT_META = {"universe": PAIRS, "tokens": TOKENS}


def place(message: dict[str, Any]) -> dict[str, Any]:
    """Where the fields of a message stand."""
    data = message["data"]
    inner = data[0] if type(data) is list else data.get("ctx", data)
    return cast(dict[str, Any], inner)


def push(kind: str, **fields: Any) -> dict[str, Any]:
    """A good message, with other fields in its data."""
    message: dict[str, Any] = orjson.loads(orjson.dumps(GOOD[kind]))
    place(message).update(fields)
    return message


def sent(message: Any, received: Received = RECEIVED) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(message), received))


def letters(message: Any) -> list[str | None]:
    """The fields that the dead letters of a message name."""
    line = Line("hyperliquid", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message")
    return [record.row["field"] for record in Converter().convert(line).records if record.table == "dead_letters"]


def rows(message: Any, table: str, received: Received = RECEIVED) -> list[dict[str, Any]]:
    records = sent(message, received)
    assert all(fault(record.table, record.row) is None for record in records)
    return [dict(record.row) for record in records if record.table == table]


def told(row: dict[str, Any]) -> set[str]:
    """What a row says beside its head."""
    return {name for name, value in row.items() if value is not None} - {"venue", "instrument", "event_at", "received_at"}


def rejected_field(message: Any) -> str | None:
    with pytest.raises(Rejected) as rejected:
        sent(message)
    return rejected.value.fault.field


def test_the_venue_is_in_both_registries_with_a_session_for_each_market() -> None:
    assert VENUES["hyperliquid"].MARKETS == MARKETS


@pytest.mark.parametrize("message", [GOOD["book"], BOOK])
def test_every_book_is_the_whole_top_of_it_and_numbered_by_its_block_s_time(message: Any) -> None:
    (row,) = rows(message, "order_books")
    assert (row["kind"], row["sequence"], row["prev_sequence"], row["depth"]) == ("snapshot", NOW_MS, None, 20)
    assert (row["venue"], row["instrument"], row["event_at"]) == ("hyperliquid", "BTC", instant_ms(NOW_MS))
    assert row["bids"] == [[Decimal("100.10"), Decimal("1.50")], [Decimal("100.0"), Decimal(3)]]
    assert b'"bids":[[100.10,1.50],[100.0,3]],"asks":[[100.20,2]]' in encoded(row)


def test_a_book_that_shows_more_than_20_levels_is_as_deep_as_it_shows() -> None:
    bids = [{"px": str(100 - level), "sz": "1", "n": 1} for level in range(30)]
    assert rows(push("book", levels=[bids, []]), "order_books")[0]["depth"] == 30


@pytest.mark.parametrize(
    ("coin", "venue"),
    [("BTC", "hyperliquid"), ("kPEPE", "hyperliquid"), ("@107", "hyperliquid_spot"), ("PURR/USDC", "hyperliquid_spot")],
)
def test_the_whole_grammar_of_a_name_tells_the_market(coin: str, venue: str) -> None:
    for kind in ("book", "best", "trade"):
        (record,) = sent(push(kind, coin=coin))
        assert (record.row["venue"], record.row["instrument"]) == (venue, coin)


@pytest.mark.parametrize("coin", ["xyz:TSLA", "#12", "@", "@1a", "A/B/C", "/USDC", "", "BTC-USD", None, 5, ["BTC"], {}])
def test_a_coin_of_no_market_that_is_read_is_named(coin: Any) -> None:
    for kind in ("book", "best", "trade"):
        assert rejected_field(push(kind, coin=coin)) == "coin"


def test_the_best_prices_say_which_side_is_empty() -> None:
    (row,) = rows(GOOD["best"], "tickers")
    names = ("bid_price", "bid_size", "ask_price", "ask_size", "has_quote")
    assert [row[name] for name in names] == [100.1, 1.5, 100.2, 2.0, True]
    (row,) = rows(push("best", bbo=[None, {"px": "100.2", "sz": "2", "n": 1}]), "tickers")
    assert [row[name] for name in names] == [None, None, 100.2, 2.0, True]


@pytest.mark.parametrize("message", [GOOD["trade"], [TRADE]])
@pytest.mark.parametrize(("side", "taker"), [("B", "buy"), ("A", "sell")])
def test_a_trade_has_an_id_of_its_block_s_time_and_tid(message: Any, side: str, taker: str) -> None:
    """The venue says that `tid` alone may come again."""
    message = [{**TRADE, "side": side}] if type(message) is list else push("trade", side=side)
    (row,) = rows(message, "trades")
    assert [row[name] for name in ("trade_id", "side", "price", "size", "off_market", "block_height")] == [
        f"{NOW_MS}-907359904431134",
        taker,
        100.1,
        0.12,
        None,
        None,
    ]


def test_trades_of_one_block_keep_the_order_of_their_list_whatever_their_ids() -> None:
    """A `tid` is a hash: it tells no order."""
    trades = [{**TRADE, "tid": tid} for tid in (9, 3, 7)]
    line = Line("hyperliquid", "capture", 1, NOW_MS * 1000, orjson.dumps(trades), "message")
    ids = [record.row["trade_id"] for record in Converter().convert(line).records if record.table == "trades"]
    assert [trade_id.rpartition("-")[2] for trade_id in ids] == ["9", "3", "7"]


def test_an_odd_trade_costs_the_others_nothing() -> None:
    assert letters([TRADE, {**TRADE, "px": "0"}, TRADE]) == ["px"]


def test_a_perpetual_s_worth_is_a_ticker_and_an_index() -> None:
    message = GOOD["worth"]
    (ticker,), (index,) = rows(message, "tickers"), rows(message, "index_prices")
    assert told(ticker) == {
        "mark_price",
        "index_price_usd",
        "open_interest",
        "funding_rate",
        "next_funding_at",
        "has_quote",
    }
    assert (ticker["mark_price"], ticker["open_interest"], ticker["has_quote"]) == (100.3, 688.11, False)
    assert (index["underlying"], index["price_usd"], index["quote_currency"]) == ("BTC", 100.32, "USDC")


@given(st.integers(-HOUR_MS, HOUR_MS))
def test_funding_is_a_fraction_an_hour_and_paid_at_the_next_full_one(ms: int) -> None:
    (row,) = rows(GOOD["worth"], "tickers", RECEIVED._replace(newest_event_ms=NOW_MS + min(ms, 0)))
    assert row["funding_rate"] == -0.0000125
    paid_ms = next(
        t for t in range((NOW_MS // HOUR_MS - 2) * HOUR_MS, NOW_MS + 2 * HOUR_MS, HOUR_MS) if t > NOW_MS + min(ms, 0)
    )
    assert row["next_funding_at"] == instant_ms(paid_ms)


def test_what_has_no_time_takes_the_newest_of_its_connection_or_that_of_receipt() -> None:
    for newest_ms, expected_ms in ((None, NOW_MS), (NOW_MS - 700, NOW_MS - 700)):
        for record in sent(GOOD["worth"], RECEIVED._replace(newest_event_ms=newest_ms)):
            assert record.event_ms == expected_ms


def test_the_worth_of_a_spot_pair_is_its_mark() -> None:
    (row,) = rows(GOOD["spot worth"], "tickers")
    assert (row["venue"], row["instrument"], row["mark_price"]) == ("hyperliquid_spot", "@107", 0.14)
    assert told(row) == {"mark_price", "has_quote"}


def test_a_listing_gives_the_terms_of_each_perpetual_and_says_whether_it_is_traded() -> None:
    terms, halts = rows(META, "instruments"), rows(META, "trading_halts")
    assert [row["instrument"] for row in terms] == ["BTC", "kPEPE", "MATIC"]
    for row in terms:
        names = ("kind", "underlying", "quote_currency", "settlement_currency", "is_inverse", "contract_size", "tick_size")
        assert [row[name] for name in names] == ["perpetual", row["instrument"], "USDC", "USDC", False, 1.0, None]
    assert [(row["instrument"], row["is_halted"], row["reason"]) for row in halts] == [
        ("BTC", False, None),
        ("kPEPE", False, None),
        ("MATIC", True, "delisted"),
    ]


def test_a_listing_with_contexts_says_what_each_perpetual_is_worth_too() -> None:
    message = [META, [CONTEXT, {**CONTEXT, "oraclePx": "7"}, {**CONTEXT, "markPx": "odd"}]]
    line = Line("hyperliquid", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message")
    records = Converter().convert(line).records
    assert [record.row["instrument"] for record in records if record.table == "instruments"] == ["BTC", "kPEPE", "MATIC"]
    assert [record.row["price_usd"] for record in records if record.table == "index_prices"] == [100.32, 7.0]
    assert letters(message) == ["markPx"]
    assert rejected_field([META, [CONTEXT]]) == "universe"
    assert rejected_field([META, {}]) == "answer"


def test_a_spot_listing_names_tokens_by_their_number() -> None:
    terms = rows(SPOT_META, "instruments")
    names = ("venue", "instrument", "kind", "underlying", "quote_currency", "contract_size")
    assert [[row[name] for name in names] for row in terms] == [
        ["hyperliquid_spot", "PURR/USDC", "spot", "PURR", "USDC", 1.0],
        ["hyperliquid_spot", "@107", "spot", "HYPE", "USDC", 1.0],
    ]
    worth = [{**SPOT_CONTEXT, "coin": "PURR/USDC"}, {**SPOT_CONTEXT, "coin": "@107"}]
    assert [row["instrument"] for row in rows([SPOT_META, worth], "tickers")] == ["PURR/USDC", "@107"]


@pytest.mark.parametrize(
    ("listing", "fields"),
    [
        ({"universe": [PERPETUAL, {**PERPETUAL, "name": "xyz:TSLA"}]}, ["name"]),
        ({"universe": [PERPETUAL, {**PERPETUAL, "isDelisted": "yes"}]}, ["isDelisted"]),
        ({"universe": [PERPETUAL, {}, 5]}, ["name", None]),
        ({"universe": [PERPETUAL], "collateralToken": 360}, ["collateralToken"]),
        ({"universe": {}}, ["universe"]),
        ({**SPOT_META, "universe": [*PAIRS, {"name": "@5", "tokens": [9, 0]}]}, ["tokens"]),
        ({**SPOT_META, "universe": [*PAIRS, {"name": "@5", "tokens": [1]}]}, ["tokens"]),
        ({**SPOT_META, "universe": [*PAIRS, {"name": "5", "tokens": [1, 0]}]}, ["name"]),
        ({**SPOT_META, "tokens": 5}, ["tokens"]),
    ],
)
def test_an_odd_contract_is_one_dead_letter_and_the_others_are_listed(listing: Any, fields: list[str | None]) -> None:
    assert letters(listing) == fields


@pytest.mark.parametrize(
    "message",
    [
        b"Websocket connection established.",
        b'{"channel":"pong"}',
        b'{"channel":"subscriptionResponse","data":{"method":"subscribe","subscription":{"type":"trades","coin":"SOL"}}}',
        b"[]",
    ],
)
def test_an_acknowledgement_is_no_data(message: bytes) -> None:
    assert parse(message, RECEIVED) == []


@pytest.mark.parametrize("message", [b"", b"{", b"7", b"\xff", b"null", b"[1", b"ping"])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    "channel", ["allMids", "candle", "user", "userFills", "orderUpdates", "webData2", "error", 5, ["l2Book"]]
)
def test_a_channel_that_is_not_read_is_named(channel: Any) -> None:
    assert rejected_field({"channel": channel, "data": BOOK}) == "channel"


@pytest.mark.parametrize(
    ("message", "field"),
    [({}, "channel"), ({"mids": {}}, "channel"), ({"channel": "trades", "data": {}}, "data"), ([5], None), ([{}], "coin")],
)
def test_an_unknown_answer_is_rejected(message: Any, field: str | None) -> None:
    assert rejected_field(message) == field


NEEDED = {
    "book": "coin time levels",
    "best": "coin time bbo",
    "trade": "coin time tid side px sz",
    "worth": "markPx oraclePx openInterest funding",
    "spot worth": "markPx",
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, names in NEEDED.items() for field in names.split()])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    message = push(kind)
    del place(message)[field]
    assert rejected_field(message) == field


@pytest.mark.parametrize("data", [None, 5, [], "BTC", {}, {"ctx": CONTEXT}, {"coin": "BTC"}, {"coin": "BTC", "ctx": []}])
def test_data_without_its_parts_is_rejected(data: Any) -> None:
    for channel in ("l2Book", "bbo", "activeAssetCtx", "activeSpotAssetCtx"):
        with pytest.raises(Rejected):
            sent({"channel": channel, "data": data})


@pytest.mark.parametrize("kind", ["book", "best", "trade"])
@pytest.mark.parametrize("value", [NOW_MS + 60_001, NOW_MS - 86_400_001, 10**18, "soon", str(NOW_MS), 1.5, None, True])
def test_a_wild_block_time_is_named(kind: str, value: Any) -> None:
    assert rejected_field(push(kind, time=value)) == "time"


BAD_NUMBERS: list[Any] = [
    "NaN",
    "Infinity",
    "-1",
    "+1",
    "1e3",
    "01",
    "1.",
    ".5",
    "1_0",
    "١",
    "9" * 20,
    "abc",
    "",
    1,
    1.5,
    [],
    {},
]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_bad_number_is_named(bad: Any) -> None:
    for level in ({"px": bad, "sz": "1", "n": 1}, {"px": "99", "sz": bad, "n": 1}):
        assert rejected_field(push("book", levels=[[level], []])) == "levels"
        assert rejected_field(push("best", bbo=[level, None])) == "bbo"
    for kind, names in {"trade": "px sz", "worth": "markPx oraclePx openInterest", "spot worth": "markPx"}.items():
        for name in names.split():
            assert rejected_field(push(kind, **{name: bad})) == name
    if bad != "-1":
        assert rejected_field(push("worth", funding=bad)) == "funding"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("book", "levels", [[]]),
        ("book", "levels", [[], [], []]),
        ("book", "levels", {}),
        ("book", "levels", [{}, []]),
        ("book", "levels", [[["1", "2"]], []]),
        ("best", "bbo", [None]),
        ("trade", "sz", "0"),
        ("trade", "side", "buy"),
        ("trade", "side", []),
        ("trade", "tid", -1),
        ("worth", "oraclePx", "0"),
        ("worth", "funding", "-1.1"),
        ("worth", "funding", "--1"),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(push(kind, **{field: value})) == field


@pytest.mark.parametrize("bid", ["100.20", "100.3"])
def test_a_crossed_book_is_rejected(bid: str) -> None:
    assert rejected_field(push("book", levels=[[{"px": bid, "sz": "1", "n": 1}], BOOK["levels"][1]])) == "bids"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
ANSWERS: list[Any] = [BOOK, META, SPOT_META]


@given(st.sampled_from([*GOOD.values(), *ANSWERS]), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(good: Any, data: st.DataObject) -> None:
    message = orjson.loads(orjson.dumps(good))
    parts = [message]
    if "data" in message:
        parts += [part for part in (message["data"], place(message)) if type(part) is dict]
    for name in ("universe", "tokens"):
        parts += message.get(name, [])
    part = data.draw(st.sampled_from(parts))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    try:
        results = sent(message)
    except Rejected:
        return
    assert all(isinstance(result, Rejected) or fault(result.table, result.row) is None for result in results)


@pytest.mark.parametrize(
    ("venue", "symbol", "kind", "quote"),
    [("hyperliquid", "BTC", "perpetual", "USDC"), ("hyperliquid_spot", "PURR/USDC", "spot", "USDC")],
)
def test_a_name_tells_the_terms(venue: str, symbol: str, kind: str, quote: str) -> None:
    record = describe(venue, symbol, RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert (record.row["kind"], record.row["quote_currency"]) == (kind, quote)
    assert record.row == next(
        row.row for row in sent(META if kind == "perpetual" else SPOT_META) if row.row["instrument"] == symbol
    )


@pytest.mark.parametrize(("venue", "symbol"), [("hyperliquid_spot", "@107"), ("hyperliquid", "xyz:TSLA"), ("okx", "BTC")])
def test_a_name_that_tells_nothing_is_not_guessed_at(venue: str, symbol: str) -> None:
    assert describe(venue, symbol, RECEIVED) is None


@pytest.mark.parametrize("market", MARKETS)
def test_a_session_asks_for_each_channel_that_is_read_and_takes_it_back(market: str) -> None:
    talk = session(market)
    asked = [request["subscription"] for request in talk.subscribe(["BTC", "ETH"])]
    assert {(one["type"], one["coin"]) for one in asked} == {
        (channel, coin) for channel in ("l2Book", "bbo", "trades", "activeAssetCtx") for coin in ("BTC", "ETH")
    }
    assert [request["subscription"] for request in talk.unsubscribe(["BTC", "ETH"])] == asked
    assert [request["method"] for request in talk.resubscribe("BTC")] == ["unsubscribe", "subscribe"]
    assert talk.snapshot("BTC") is None  # the stream sends whole books
    assert orjson.loads(talk.ping or "") == {"method": "ping"}
    assert len(asked) // 2 * talk.limits.symbols_per_connection <= 1000
    assert 60 * talk.limits.requests_per_s <= 2000
    assert 60 * 20 * talk.limits.asks_per_s <= 1200


def test_a_session_takes_other_addresses_and_knows_no_other_market() -> None:
    talk = session("hyperliquid_spot", url="ws://here", rest_url="http://there")
    assert (talk.url, talk.listings[0].url) == ("ws://here", "http://there/info")
    with pytest.raises(KeyError):
        session("hyperliquid_options")


def test_a_refusal_is_told_in_the_venue_s_words() -> None:
    refusal = session("hyperliquid").refusal
    assert refusal(b'{"channel":"error","data":"Invalid subscription"}') == "Invalid subscription"
    assert refusal(b'{"error') is None
    assert refusal(orjson.dumps({"channel": "l2Book", "data": {"coin": "error"}})) is None


class Exchange:
    """A book on a chain: a block at a time, of which every message shows the best 20 levels."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.time_ms = NOW_MS
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def block(self) -> None:
        self.time_ms += self.random.randint(70, 600)
        middle = 1000 + self.random.randint(-5, 5)
        for side, sign in zip(self.sides, (-1, 1), strict=True):
            for price in [price for price in side if sign * (price - middle) <= 0]:
                del side[price]
            for _ in range(self.random.randint(1, 30)):
                side[middle + sign * self.random.randint(1, 60)] = self.random.randint(1, 99)

    def top(self) -> list[list[list[float]]]:
        bids, asks = (sorted(side.items(), reverse=best) for side, best in zip(self.sides, (True, False), strict=True))
        return [[[float(price), float(size)] for price, size in side[:20]] for side in (bids, asks)]

    def message(self) -> bytes:
        levels = [[{"px": str(int(price)), "sz": str(int(size)), "n": 1} for price, size in side] for side in self.top()]
        return orjson.dumps({"channel": "l2Book", "data": {"coin": "BTC", "time": self.time_ms, "levels": levels}})


def taken(state: books.State, converter: Converter, messages: Sequence[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """What a books kernel makes of messages, each with its time of receipt in ms."""
    outputs = []
    for received_ms, message in messages:
        line = Line("hyperliquid", "socket", 1, received_ms * 1000, message, "message")
        for record in converter.convert(line).records:
            assert record.table in ("order_books", "instruments")
            if record.table == "order_books":
                row = orjson.loads(encoded(record.row))
                outputs += books.step(state, [Message("order_books", 0, received_ms, row)], received_ms + 1)
    assert not [output for output in outputs if output.table in ("feed_faults", "dead_letters")]
    return [dict(output.row) for output in outputs if output.table == "book_tops"]


@given(st.integers(0, 2**32))
def test_a_played_session_rebuilds_the_book_over_a_gap_a_resync_and_a_delisting(seed: int) -> None:
    venue, state, converter = Exchange(seed), books.new(), Converter()
    for number in range(25):
        venue.block()
        if number in (7, 8, 9):
            continue  # lost: the next message shows the whole top again
        messages = [(venue.time_ms + 50, venue.message())]
        if number == 15:  # a book that was asked for anew is of the same block, or of a later one
            messages *= 2
        tops = taken(state, converter, messages)
        book = state.shown("hyperliquid:BTC")
        assert book is not None
        assert not book.is_stale
        bids, asks = book.levels()
        assert [bids[::-1], asks] == venue.top()
        assert all(not top["is_stale"] for top in tops)
    meta = orjson.dumps({"universe": [{"name": "BTC", "szDecimals": 5, "isDelisted": True}]})
    line = Line("hyperliquid", "socket", 1, venue.time_ms * 1000 + 90_000, meta, "message")
    (halt,) = [record for record in converter.convert(line).records if record.table == "trading_halts"]
    assert (halt.row["instrument"], halt.row["is_halted"]) == ("BTC", True)
    assert halt.event_ms == venue.time_ms


ROOT = Path(__file__).resolve().parents[2]


def test_every_channel_that_is_read_is_documented() -> None:
    with pytest.raises(Rejected) as rejected:
        sent({"channel": "no-such-channel", "data": []})
    documented = (ROOT / "docs" / "venues" / "hyperliquid.md").read_text()
    for channel in rejected.value.fault.expected.removeprefix("a channel that is read: ").split(", "):
        assert f"`{channel}`" in documented


READ = {
    "http_l2_book_btc.json": {"instruments": 1, "order_books": 1},
    "http_l2_book_snapshot.json": {"instruments": 1, "order_books": 1},
    "http_meta_perp_sample.json": {"instruments": 3, "trading_halts": 3},
    "http_recent_trades_btc.json": {"instruments": 1, "trades": 3},
    "http_spot_meta_non_usdc_collateral.json": {},
    "ws_book_data.json": {"instruments": 1, "order_books": 1},
}


def test_every_sample_gives_what_its_name_says_or_dead_letters_alone(check_samples: CheckSamples) -> None:
    check_samples("hyperliquid", READ, newest_ms, {})


def newest_ms(message: Any) -> int:
    """The newest of the times that a message tells."""
    items = message if isinstance(message, list) else [message]
    return max(int(item.get("time", NOW_MS)) for item in items)
