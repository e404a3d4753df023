"""dYdX v4 messages: what each becomes, and which field is named when one cannot be used."""

import random
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import batch
from engine.contract import Message
from feeds import Received, Record, Rejected
from feeds.capture import Converter, Line
from feeds.dydx import MARKETS, describe, parse, session
from feeds.venues import VENUES
from kernels import books
from schemas.rows import encoded, fault, instant_ms, to_ms
from tests.feeds.conftest import CheckSamples

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
RECEIVED = Received(NOW_MS * 1000, None, None)
HEAD = {"connection_id": "ee5c4696", "message_id": 3, "version": "1.0.0"}
LEVELS = {"bids": [{"price": "100.10", "size": "1.50"}], "asks": [{"price": "100.20", "size": "2"}]}
CHANGES = {"bids": [["100.10", "1.50"], ["100.0", "0"]], "asks": [["100.20", "2", "17"]]}
TRADE = {
    "id": "03f89a550000000200000002",
    "side": "BUY",
    "size": "0.12",
    "price": "100.1",
    "type": "LIMIT",
    "createdAt": instant_ms(NOW_MS),
    "createdAtHeight": "66624085",
}
MARKET = {
    "clobPairId": "0",
    "ticker": "BTC-USD",
    "status": "ACTIVE",
    "oraclePrice": "100.15",
    "priceChange24H": "7.1",
    "nextFundingRate": "-0.00000254545454545455",
    "openInterest": "381.7348",
    "tickSize": "0.1",
    "stepSize": "0.0001",
}
ORACLE = {"oraclePrice": "100.15", "effectiveAt": instant_ms(NOW_MS), "effectiveAtHeight": "66624085", "marketId": 0}


def push(channel: str, kind: str, contents: Any, symbol: str | None = "BTC-USD") -> dict[str, Any]:
    message = {**HEAD, "type": kind, "channel": channel, "contents": contents}
    return message if symbol is None else {**message, "id": symbol}


GOOD: dict[str, dict[str, Any]] = {
    "whole": push("v4_orderbook", "subscribed", LEVELS),
    "change": push("v4_orderbook", "channel_data", CHANGES),
    "batch": push("v4_orderbook", "channel_batch_data", [CHANGES]),
    "trade": push("v4_trades", "channel_data", {"trades": [TRADE]}),
    "trades": push("v4_trades", "channel_batch_data", [{"trades": [TRADE]}]),
    "market": push("v4_markets", "subscribed", {"markets": {"BTC-USD": MARKET}}, None),
    "trading": push("v4_markets", "channel_data", {"trading": {"BTC-USD": MARKET}}, None),
    "oracle": push("v4_markets", "channel_batch_data", [{"oraclePrices": {"BTC-USD": ORACLE}}], None),
}


def place(message: dict[str, Any]) -> dict[str, Any]:
    """Where the fields of a message stand."""
    contents = message["contents"]
    part = contents[0] if type(contents) is list else contents
    if "trades" in part:
        return cast(dict[str, Any], part["trades"][0])
    markets = next((part[name] for name in ("markets", "trading", "oraclePrices") if name in part), None)
    return cast(dict[str, Any], part if markets is None else markets["BTC-USD"])


def changed(kind: str, **fields: Any) -> dict[str, Any]:
    """A good message, with other fields in its data."""
    message: dict[str, Any] = orjson.loads(orjson.dumps(GOOD[kind]))
    place(message).update(fields)
    return message


def sent(message: Any, received: Received = RECEIVED) -> list[Record]:
    return cast(list[Record], parse(orjson.dumps(message), received))


def rows(message: Any, table: str, received: Received = RECEIVED) -> list[dict[str, Any]]:
    records = sent(message, received)
    assert all(fault(record.table, record.row) is None for record in records)
    assert {record.row["venue"] for record in records} <= {"dydx"}
    return [dict(record.row) for record in records if record.table == table]


def letters(message: Any) -> list[str | None]:
    """The fields that the dead letters of a message name."""
    line = Line("dydx", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message")
    return [record.row["field"] for record in Converter().convert(line).records if record.table == "dead_letters"]


def told(row: dict[str, Any]) -> set[str]:
    """What a row says beside its head."""
    return {name for name, value in row.items() if value is not None} - {"venue", "instrument", "event_at", "received_at"}


def rejected_field(message: Any, received: Received = RECEIVED) -> str | None:
    with pytest.raises(Rejected) as rejected:
        sent(message, received)
    return rejected.value.fault.field


def test_the_venue_is_in_both_registries_with_a_session_for_its_market() -> None:
    assert VENUES["dydx"].MARKETS == MARKETS == ("dydx",)


@pytest.mark.parametrize(("kind", "expected"), [("whole", "snapshot"), ("change", "change"), ("batch", "change")])
def test_a_book_is_numbered_by_receipt_for_its_messages_chain_nothing(kind: str, expected: str) -> None:
    received = Received(NOW_MS * 1000 + 5_999, NOW_MS - 800, None)
    (row,) = rows(GOOD[kind], "order_books", received)
    assert [row[name] for name in ("kind", "sequence", "prev_sequence", "depth", "checksum", "block_height")] == [
        expected,
        NOW_MS + 5,
        *[None] * 4,
    ]
    assert (row["instrument"], row["event_at"]) == ("BTC-USD", instant_ms(NOW_MS - 800))


def test_levels_keep_every_digit_and_an_offset_beside_them_is_none() -> None:
    (row,) = rows(GOOD["change"], "order_books")
    assert b'"bids":[[100.10,1.50],[100.0,0]],"asks":[[100.20,2]]' in encoded(row)
    (row,) = rows(GOOD["whole"], "order_books")
    assert row["bids"] == [[Decimal("100.10"), Decimal("1.50")]]


def test_a_change_may_speak_of_one_side() -> None:
    (row,) = rows(push("v4_orderbook", "channel_data", {"asks": [["7", "1"]]}), "order_books")
    assert (row["bids"], row["asks"]) == ([], [[7, 1]])


def test_of_a_batch_the_last_change_of_a_level_stands() -> None:
    parts = [{"bids": [["5", "1"], ["4", "2"]]}, {"bids": [["5.0", "0"]], "asks": [["7", "1"]]}, {"asks": [["7", "3"]]}]
    (row,) = rows(push("v4_orderbook", "channel_batch_data", parts), "order_books")
    assert (row["bids"], row["asks"]) == ([[5, 0], [4, 2]], [[7, 3]])


SIDE = st.dictionaries(st.integers(1, 12), st.integers(1, 9), max_size=8)


@given(SIDE, SIDE)
def test_a_whole_book_that_is_crossed_is_uncrossed_by_its_sizes(bids: dict[int, int], asks: dict[int, int]) -> None:
    """What the venue says of levels that were set at the same time."""
    contents = {
        "bids": [{"price": str(price), "size": str(size)} for price, size in bids.items()],
        "asks": [{"price": str(price), "size": str(size)} for price, size in asks.items()],
    }
    (row,) = rows(push("v4_orderbook", "subscribed", contents), "order_books")
    naive = Naive()
    naive.take(bids.items(), asks.items(), 1)
    assert [dict(row["bids"]), dict(row["asks"])] == naive.sizes()


@pytest.mark.parametrize("kind", ["trade", "trades"])
def test_a_trade_carries_its_block(kind: str) -> None:
    (row,) = rows(GOOD[kind], "trades")
    assert [row[name] for name in ("instrument", "event_at", "trade_id", "side", "price", "size", "off_market")] == [
        "BTC-USD",
        instant_ms(NOW_MS),
        "03f89a550000000200000002",
        "buy",
        100.1,
        0.12,
        None,
    ]
    assert row["block_height"] == 66624085
    message = changed(kind)
    del place(message)["createdAtHeight"], place(message)["type"]
    assert rows(message, "trades")[0]["block_height"] is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("LIMIT", None), ("MARKET", None), ("LIQUIDATED", None), ("TWAP_SUBORDER", None), ("DELEVERAGED", "adl")],
)
def test_deleveraging_alone_is_no_trade_of_the_market(kind: str, reason: str | None) -> None:
    assert rows(changed("trade", type=kind), "trades")[0]["off_market"] == reason


@given(st.lists(st.integers(0, 2**96 - 1), min_size=1, max_size=6, unique=True))
def test_trades_of_one_block_come_in_the_order_of_their_events(numbers: list[int]) -> None:
    trades = [{**TRADE, "id": f"{number:024x}"} for number in numbers]
    message = push("v4_trades", "subscribed", {"trades": trades})
    line = Line("dydx", "capture", 1, NOW_MS * 1000, orjson.dumps(message), "message")
    ids = [record.row["trade_id"] for record in Converter().convert(line).records if record.table == "trades"]
    assert ids == sorted(ids)


@pytest.mark.parametrize("kind", ["market", "trading"])
def test_a_market_tells_terms_worth_index_and_status(kind: str) -> None:
    (terms,), (ticker,) = rows(GOOD[kind], "instruments"), rows(GOOD[kind], "tickers")
    (index,), (status,) = rows(GOOD[kind], "index_prices"), rows(GOOD[kind], "trading_halts")
    names = ("kind", "underlying", "quote_currency", "settlement_currency", "is_inverse", "contract_size", "tick_size")
    assert [terms[name] for name in names] == ["perpetual", "BTC", "USD", "USDC", False, 1.0, 0.1]
    assert [ticker[name] for name in ("mark_price", "index_price_usd", "open_interest", "funding_rate", "has_quote")] == [
        100.15,
        100.15,
        381.7348,
        -0.00000254545454545455,
        False,
    ]
    assert ticker["next_funding_at"] == instant_ms((NOW_MS // HOUR_MS + 1) * HOUR_MS)
    assert (index["underlying"], index["price_usd"], index["quote_currency"]) == ("BTC", 100.15, "USD")
    assert (status["instrument"], status["is_halted"], status["reason"]) == ("BTC-USD", False, None)


def test_an_oracle_price_has_the_time_of_its_block() -> None:
    effective = {"effectiveAt": instant_ms(NOW_MS - 900)}
    records = sent(changed("oracle", **effective))
    assert [(record.table, record.event_ms) for record in records] == [
        ("index_prices", NOW_MS - 900),
        ("tickers", NOW_MS - 900),
    ]
    assert told(dict(records[1].row)) == {"mark_price", "index_price_usd", "has_quote"}


def test_a_change_of_a_market_says_only_what_it_tells() -> None:
    message = push("v4_markets", "channel_data", {"trading": {"BTC-USD": {"nextFundingRate": "0.0001", "trades24H": 5}}}, None)
    (record,) = sent(message)
    assert told(dict(record.row)) == {"funding_rate", "next_funding_at", "has_quote"}
    message["contents"]["trading"]["BTC-USD"] = {"volume24H": "5"}
    assert sent(message) == []


@pytest.mark.parametrize("status", ["PAUSED", "CANCEL_ONLY", "POST_ONLY", "INITIALIZING", "FINAL_SETTLEMENT"])
def test_a_market_that_is_not_active_is_halted(status: str) -> None:
    (row,) = rows(changed("trading", status=status), "trading_halts")
    assert (row["is_halted"], row["reason"]) == (True, status)


def test_a_market_without_an_oracle_price_yet_is_listed() -> None:
    message = changed("market", oraclePrice="0", status="INITIALIZING")
    assert [record.table for record in sent(message)] == ["instruments", "tickers", "trading_halts"]
    assert rows(message, "tickers")[0]["mark_price"] is None


def test_an_odd_market_or_trade_costs_the_others_nothing() -> None:
    markets = {"BTC-USD": MARKET, "ETH-USD": {**MARKET, "tickSize": "odd"}, "SOL-USD": 5, "X-EUR": MARKET, "A-USD": MARKET}
    message = push("v4_markets", "subscribed", {"markets": markets}, None)
    assert letters(message) == ["tickSize", "markets", "ticker"]
    results = parse(orjson.dumps(message), RECEIVED)
    assert len([result for result in results if isinstance(result, Record)]) == 8
    assert letters(push("v4_trades", "subscribed", {"trades": [TRADE, {**TRADE, "size": "0"}, 5]})) == ["size", None]


REST = "https://indexer.dydx.trade/v4"


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_an_answer_takes_its_market_from_its_address(is_wrapped: bool) -> None:
    def answer(result: Any) -> Any:
        return {"requestId": "1", "status": "success", "result": result} if is_wrapped else result

    received = RECEIVED._replace(url=f"{REST}/orderbooks/perpetualMarket/ETH-USD", symbol="BTC-USD")
    (row,) = rows(answer(LEVELS), "order_books", received)
    assert (row["instrument"], row["kind"], row["depth"]) == ("ETH-USD", "snapshot", 1)
    received = RECEIVED._replace(url=f"{REST}/trades/perpetualMarket/ETH-USD")
    assert rows(answer({"trades": [TRADE]}), "trades", received)[0]["instrument"] == "ETH-USD"
    assert sent(answer({"markets": {"BTC-USD": MARKET}})) == sent(GOOD["market"])
    assert rejected_field(answer(LEVELS)) == "id"
    assert rejected_field(answer({"trades": [TRADE]})) == "market"


@pytest.mark.parametrize("kind", ["connected", "unsubscribed", "pong"])
def test_an_acknowledgement_is_no_data(kind: str) -> None:
    assert sent({**HEAD, "type": kind, "channel": "v4_orderbook", "id": "BTC-USD"}) == []


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"7", b"\xff", b"null", b"ping"])
def test_what_is_no_json_message_is_rejected_whole(message: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(message, RECEIVED)
    assert rejected.value.fault[:2] == (None, "a JSON message")


@pytest.mark.parametrize(
    "channel", ["v4_candles", "v4_block_height", "v4_subaccounts", "v4_parent_subaccounts", 5, ["x"], None]
)
def test_a_channel_that_is_not_read_is_named(channel: Any) -> None:
    assert rejected_field({**GOOD["trade"], "channel": channel}) == "channel"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "type"),
        ({"type": "error", "message": "Invalid channel: x"}, "type"),
        ({"type": ["subscribed"]}, "type"),
        ({"height": "5", "time": instant_ms(NOW_MS)}, "type"),
        ({"status": "success", "result": 5}, "result"),
        ({"errors": [{"msg": "Too many requests"}]}, "type"),
        ({"trades": {}}, "trades"),
        ({"markets": []}, "markets"),
        (push("v4_orderbook", "channel_batch_data", CHANGES), "contents"),
        (push("v4_orderbook", "channel_data", [CHANGES]), "contents"),
        (push("v4_orderbook", "channel_data", {"bids": 5}), "bids"),
        (push("v4_orderbook", "subscribed", {"bids": []}), "asks"),
        (push("v4_orderbook", "subscribed", LEVELS, None), "id"),
        (push("v4_orderbook", "channel_data", CHANGES, "BTC"), "id"),
        (push("v4_trades", "channel_data", {}), "trades"),
        (push("v4_trades", "channel_data", {"trades": [TRADE]}, None), "market"),
        (push("v4_markets", "subscribed", {"markets": 5}, None), "markets"),
        (push("v4_markets", "channel_data", {"trading": {"BTC": MARKET}}, None), "ticker"),
    ],
)
def test_an_unknown_or_a_broken_message_is_rejected(message: dict[str, Any], field: str) -> None:
    assert rejected_field(message) == field


NEEDED = {"trade": "createdAt id side price size", "oracle": "effectiveAt oraclePrice", "whole": "bids asks"}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, names in NEEDED.items() for field in names.split()])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    message = changed(kind)
    del place(message)[field]
    assert rejected_field(message) == field


WILD_TIMES = [instant_ms(NOW_MS + 60_001), instant_ms(NOW_MS - 86_400_001), "soon", "2024-01-01", NOW_MS, 1.5, None, True, ""]


@pytest.mark.parametrize(
    "value", [*WILD_TIMES, "2023-11-14T22:13:20.000", "2023-11-14T23:13:20.000+01:00", "2024-13-01T00:00:00Z"]
)
def test_a_wild_block_time_is_named(value: Any) -> None:
    assert rejected_field(changed("trade", createdAt=value)) == "createdAt"
    assert rejected_field(changed("oracle", effectiveAt=value)) == "effectiveAt"


BAD_NUMBERS: list[Any] = ["NaN", "Infinity", "-1", "+1", "1e3", "01", "1.", ".5", "1_0", "١", "9" * 20, "abc", 1, 1.5, [], {}]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_bad_number_is_named(bad: Any) -> None:
    for side in ("bids", "asks"):
        for level in ([bad, "1"], ["100", bad]):
            assert rejected_field(changed("change", **{side: [["100", "1"], level]})) == side
        for whole in ({"price": bad, "size": "1"}, {"price": "100", "size": bad}):
            assert rejected_field(changed("whole", **{side: [whole]})) == side
    for kind, names in {"trade": "price size", "market": "tickSize oraclePrice openInterest", "oracle": "oraclePrice"}.items():
        for name in names.split():
            assert rejected_field(changed(kind, **{name: bad})) == name
    if bad != "-1":
        assert rejected_field(changed("trading", nextFundingRate=bad)) == "nextFundingRate"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("change", "bids", [["0", "1"]]),
        ("change", "bids", [["1"]]),
        ("change", "asks", {}),
        ("trade", "size", "0"),
        ("trade", "side", "buy"),
        ("trade", "side", []),
        ("trade", "id", ""),
        ("trade", "type", "OFFSETTING"),
        ("trade", "type", []),
        ("trade", "createdAtHeight", "-1"),
        ("trade", "createdAtHeight", 2**63),
        ("market", "tickSize", "0"),
        ("market", "status", "CLOSED"),
        ("market", "status", []),
        ("market", "nextFundingRate", "-1.1"),
        ("oracle", "oraclePrice", "0"),
    ],
)
def test_a_bad_value_is_named(kind: str, field: str, value: Any) -> None:
    assert rejected_field(changed(kind, **{field: value})) == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
ANSWERS: list[Any] = [LEVELS, {"trades": [TRADE]}, {"markets": {"BTC-USD": MARKET}}]


@given(st.sampled_from([*GOOD.values(), *ANSWERS]), st.data())
def test_a_message_with_anything_in_a_field_gives_good_rows_or_is_rejected(good: Any, data: st.DataObject) -> None:
    message = orjson.loads(orjson.dumps(good))
    inner = place(message if "contents" in message else {"contents": message})
    part = data.draw(st.sampled_from([message, inner]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    try:
        results = sent(message, RECEIVED._replace(symbol="BTC-USD"))
    except Rejected:
        return
    assert all(isinstance(result, Rejected) or fault(result.table, result.row) is None for result in results)


def test_a_name_tells_the_terms() -> None:
    record = describe("dydx", "ETH-USD", RECEIVED)
    assert record is not None
    assert fault("instruments", record.row) is None
    assert (record.row["kind"], record.row["underlying"], record.row["tick_size"]) == ("perpetual", "ETH", None)
    assert describe("dydx", "ETH-EUR", RECEIVED) is None


def test_a_session_asks_for_markets_first_and_for_one_book_anew() -> None:
    talk = session("dydx", url="ws://here", rest_url="http://there")
    assert (talk.url, talk.listings[0].url) == ("ws://here", "http://there/v4/perpetualMarkets")
    assert [request["channel"] for request in talk.opening] == ["v4_markets"]
    asked = talk.subscribe(["BTC-USD", "ETH-USD"])
    assert {(one["channel"], one["id"]) for one in asked} == {
        (channel, symbol) for channel in ("v4_orderbook", "v4_trades") for symbol in ("BTC-USD", "ETH-USD")
    }
    assert [{**one, "type": "subscribe"} for one in talk.unsubscribe(["BTC-USD", "ETH-USD"])] == asked
    again = talk.resubscribe("BTC-USD")
    assert [(one["type"], one["channel"], one["id"]) for one in again] == [
        ("unsubscribe", "v4_orderbook", "BTC-USD"),
        ("subscribe", "v4_orderbook", "BTC-USD"),
    ]
    assert talk.snapshot("BTC-USD") is None
    assert session("dydx").url.startswith("wss://")
    with pytest.raises(KeyError):
        session("dydx_spot")


def test_a_refusal_is_told_in_the_venue_s_words() -> None:
    refusal = session("dydx").refusal
    assert refusal(orjson.dumps({**HEAD, "type": "error", "message": "Invalid channel: x"})) == "Invalid channel: x"
    assert refusal(b'{"error') is None
    assert refusal(orjson.dumps(push("v4_trades", "channel_data", {"trades": [], "error": 5}))) is None


class Naive:
    """A book as the venue says that it is to be kept: each level with the number of the message that set it last.

    While the best bid is not below the best ask, the one of the older message goes; of one message, the smaller size is taken
    off the larger.
    """

    def __init__(self) -> None:
        self.bids: dict[int, tuple[int, int]] = {}
        self.asks: dict[int, tuple[int, int]] = {}

    def take(self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], number: int) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                if size:
                    side[price] = (size, number)
                else:
                    side.pop(price, None)
        while self.bids and self.asks and max(self.bids) >= min(self.asks):
            bid, ask = max(self.bids), min(self.asks)
            (bid_size, bid_number), (ask_size, ask_number) = self.bids[bid], self.asks[ask]
            if bid_number < ask_number:
                del self.bids[bid]
            elif bid_number > ask_number:
                del self.asks[ask]
            else:
                least = min(bid_size, ask_size)
                self.bids[bid], self.asks[ask] = (bid_size - least, bid_number), (ask_size - least, ask_number)
                for side, price in ((self.bids, bid), (self.asks, ask)):
                    if not side[price][0]:
                        del side[price]

    def sizes(self) -> list[dict[int, int]]:
        return [{price: size for price, (size, _) in side.items()} for side in (self.bids, self.asks)]


class Indexer:
    """A venue whose book crosses, with connections that number their messages, and one reader of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.venue, self.reader = Naive(), Naive()  # the reader knows what it was sent
        self.received_us = NOW_MS * 1000
        self.connection, self.number = 0, 0
        self.sent: list[tuple[int, bytes]] = []

    def send(self, kind: str, channel: str, contents: Any, symbol: str | None = "BTC-USD") -> None:
        self.received_us += self.random.randint(1_000, 90_000)
        message = {**push(channel, kind, contents, symbol), "connection_id": str(self.connection), "message_id": self.number}
        self.sent.append((self.received_us, orjson.dumps(message)))
        self.number += 1

    def connect(self) -> None:
        self.connection, self.number = self.connection + 1, 0
        self.send("connected", "", None, None)
        self.subscribe()

    def subscribe(self) -> None:
        """The whole book, as the venue keeps it."""
        whole, self.reader = self.venue.sizes(), Naive()
        self.reader.take(whole[0].items(), whole[1].items(), self.number)
        sides = ([{"price": str(price), "size": str(size)} for price, size in side.items()] for side in whole)
        self.send("subscribed", "v4_orderbook", dict(zip(("bids", "asks"), sides, strict=True)))

    def block(self) -> None:
        at = instant_ms(self.received_us // 1000 - self.random.randint(0, 800))
        self.send("channel_data", "v4_markets", {"oraclePrices": {"BTC-USD": {**ORACLE, "effectiveAt": at}}}, None)

    def change(self, *, is_lost: bool = False) -> None:
        bids, asks = (
            [(self.random.randint(*prices), self.random.choice((0, 0, 1, 5, 9))) for _ in range(self.random.randint(0, 3))]
            for prices in ((1, 13), (9, 21))
        )
        bids, asks = list(dict(bids).items()), list(dict(asks).items())
        for book in (self.venue,) if is_lost else (self.venue, self.reader):
            book.take(bids, asks, self.number)
        if is_lost:
            return
        contents = {name: [[str(price), str(size)] for price, size in side] for name, side in (("bids", bids), ("asks", asks))}
        if self.random.random() < 0.5:
            self.send("channel_data", "v4_orderbook", contents)
        else:
            self.send("channel_batch_data", "v4_orderbook", [{"bids": contents["bids"]}, {"asks": contents["asks"]}])


class Reader:
    """A books kernel that is fed with messages, once as rows and once as bytes."""

    def __init__(self) -> None:
        self.converter = Converter()
        self.states = books.new(), books.new()
        self.offset = 0

    def take(self, messages: Iterable[tuple[int, bytes]]) -> list[Record]:
        others = []
        for received_us, message in messages:
            line = Line("dydx", "socket", 1, received_us, message, "message")
            for record in self.converter.convert(line).records:
                if record.table == "order_books":
                    self._step(encoded(record.row), received_us // 1000 + 1)
                else:
                    others.append(record)
        return others

    def _step(self, value: bytes, until_ms: int) -> None:
        by_rows, by_bytes = self.states
        self.offset += 1
        outputs = books.step(by_rows, [Message("order_books", 0, self.offset, orjson.loads(value))], until_ms)
        assert not [output for output in outputs if output.table in ("feed_faults", "dead_letters")]
        assert not [output for output in outputs if output.table == "book_tops" and output.row["is_stale"]]
        batch.run(books.KERNEL, by_bytes, b"order_books.v1\x1f0\x1f%d\x1f%s" % (self.offset, value), until_ms)

    def sizes(self) -> list[dict[float, float]]:
        sides = [
            [{price: size for price, size in side} for side in self._book(state).levels()]  # noqa: C416 - of lists
            for state in self.states
        ]
        assert sides[0] == sides[1]
        return sides[0]

    def _book(self, state: books.State) -> books.Book:
        book = state.shown("dydx:BTC-USD")
        assert book is not None
        assert not book.is_stale
        return book


@given(st.integers(0, 2**32))
def test_a_played_session_rebuilds_the_book_over_crossings_a_gap_a_resync_and_a_delisting(seed: int) -> None:
    venue, reader = Indexer(seed), Reader()
    venue.connect()
    for number in range(40):
        if number == 15:  # the connection is lost, and with it what is said until there is another
            for _ in range(5):
                venue.change(is_lost=True)
            venue.connect()
        elif number == 27:  # asked for anew on the same connection
            venue.send("unsubscribed", "v4_orderbook", None)
            venue.subscribe()
        elif number % 4 == 0:
            venue.block()
        else:
            venue.change()
        reader.take(venue.sent)
        venue.sent.clear()
        assert reader.sizes() == venue.reader.sizes()
    venue.send("channel_data", "v4_markets", {"trading": {"BTC-USD": {"status": "FINAL_SETTLEMENT"}}}, None)
    (halt,) = reader.take(venue.sent)
    assert (halt.table, halt.row["is_halted"], halt.row["reason"]) == ("trading_halts", True, "FINAL_SETTLEMENT")


def test_a_book_that_never_crosses_stays_as_it_was_set() -> None:
    """And other venues' books are not uncrossed: there a crossing is a fault."""
    crossed = {"bids": [["100.25", "1"]], "asks": []}
    rows_of = [dict(sent(message)[0].row) for message in (GOOD["whole"], push("v4_orderbook", "channel_data", crossed))]
    for venue, is_stale in (("dydx", False), ("other", True)):
        state = books.new()
        for offset, row in enumerate(rows_of):
            row = orjson.loads(encoded({**row, "venue": venue, "sequence": offset + 1}))
            row["prev_sequence"] = offset or None
            books.step(state, [Message("order_books", 0, offset, row)], NOW_MS + 1)
        book = state.shown(f"{venue}:BTC-USD")
        assert book is not None
        assert book.is_stale is is_stale


ROOT = Path(__file__).resolve().parents[2]


def test_every_channel_that_is_read_is_documented() -> None:
    with pytest.raises(Rejected) as rejected:
        sent({**GOOD["trade"], "channel": "no-such-channel"})
    documented = (ROOT / "docs" / "venues" / "dydx.md").read_text()
    for channel in rejected.value.fault.expected.removeprefix("a channel that is read: ").split(", "):
        assert f"`{channel}`" in documented


READ = {
    "http_get_orderbook.json": {"instruments": 1, "order_books": 1},
    "http_get_perpetual_markets.json": {"instruments": 3, "tickers": 3, "index_prices": 3, "trading_halts": 3},
    "http_get_trades.json": {"instruments": 1, "trades": 3},
    "ws_markets_status_update.json": {"instruments": 2, "tickers": 2, "trading_halts": 2},
    "ws_markets_subscribed.json": {"instruments": 2, "tickers": 2, "index_prices": 2, "trading_halts": 2},
    "ws_markets_update.json": {"instruments": 2, "tickers": 2, "index_prices": 2},
    "ws_orderbook_subscribed.json": {"instruments": 1, "order_books": 1},
    "ws_orderbook_update.json": {"instruments": 1, "order_books": 1},
    "ws_trades_subscribed.json": {"instruments": 1, "trades": 1},
    "ws_trades_update.json": {"instruments": 1, "trades": 2},
}


def test_every_sample_gives_what_its_name_says_or_dead_letters_alone(check_samples: CheckSamples) -> None:
    urls = {
        "http_get_orderbook.json": f"{REST}/orderbooks/perpetualMarket/BTC-USD",
        "http_get_trades.json": f"{REST}/trades/perpetualMarket/BTC-USD",
    }
    check_samples("dydx", READ, newest_ms, urls)


def newest_ms(message: Any) -> int:
    """The newest of the times that a message tells."""
    if type(message) is dict:
        times = [to_ms(message[name]) for name in ("createdAt", "effectiveAt") if name in message]
        return max([*times, *map(newest_ms, message.values())], default=NOW_MS)
    return max(map(newest_ms, message), default=NOW_MS) if type(message) is list else NOW_MS
