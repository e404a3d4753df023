"""A session of Bybit, played by its documented rules: what a listener rebuilds is the book that the venue has.

A subscription is answered with a snapshot, each change with one more `u`; a size of 0 deletes; a service that begins anew
sends a whole book with `u` 1; a contract that is taken off sends an empty one.
"""

import random
from typing import Any

import orjson
import pytest

from engine.contract import Message, Output
from feeds.bybit import MARKETS, session
from feeds.capture import Converter, Line
from kernels import books

T0 = 1_700_000_000_000
SYMBOLS = {
    "bybit_spot": "BTCUSDT",
    "bybit_linear": "BTCUSDT",
    "bybit_inverse": "BTCUSD",
    "bybit_options": "BTC-17NOV23-40000-C",
}


class Venue:
    """A book as the venue has it, and the messages of its deepest channel."""

    def __init__(self, market: str, seed: int) -> None:
        self.chance, self.ms, self.number = random.Random(seed), T0, 4_321
        self.said = session(market, url="ws://127.0.0.1:9", rest_url="http://127.0.0.1:9")
        self.symbol = SYMBOLS[market]
        (self.topic,) = (
            topic
            for request in self.said.subscribe([self.symbol])
            for topic in request["args"]
            if topic.startswith("orderbook.")
        )
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        self.fill()

    def fill(self) -> None:
        """A book of its own making: prices of both sides apart."""
        for side, lowest in (("b", 900), ("a", 1000)):
            prices = self.chance.sample(range(lowest, lowest + 100), 20)
            self.sides[side] = {f"{price / 10:.1f}": self.size() for price in prices}

    def size(self) -> str:
        return f"{self.chance.randrange(1, 10_000) / 1000:.3f}"

    def message(self, kind: str, levels: dict[str, dict[str, str]]) -> bytes:
        self.ms += 200
        sides = {side: [[price, size] for price, size in levels[side].items()] for side in "ba"}
        data = {"s": self.symbol, **sides, "u": self.number, "seq": 7 * self.number}
        return orjson.dumps({"topic": self.topic, "type": kind, "ts": self.ms, "data": data, "cts": self.ms - 3})

    def snapshot(self) -> bytes:
        return self.message("snapshot", self.sides)

    def change(self) -> bytes:
        """Some levels set, some deleted."""
        self.number += 1
        changed: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        for side, lowest in (("b", 900), ("a", 1000)):
            for price in self.chance.sample(range(lowest, lowest + 100), self.chance.randrange(4)):
                changed[side][f"{price / 10:.1f}"] = self.size()
            for gone in self.chance.sample(sorted(self.sides[side]), self.chance.randrange(2)):
                changed[side][gone] = "0"
            self.sides[side] |= changed[side]
            self.sides[side] = {price: size for price, size in self.sides[side].items() if size != "0"}
        return self.message("delta", changed)

    def restart(self) -> bytes:
        """The service begins anew: another book, and the number 1."""
        self.number = 1
        self.fill()
        return self.snapshot()

    def delist(self) -> bytes:
        self.number, self.sides = 1, {"b": {}, "a": {}}
        return self.snapshot()

    def levels(self) -> list[list[list[float]]]:
        """The book by its definition: a dict of each side, in ascending order of price."""
        return [sorted([float(price), float(size)] for price, size in self.sides[side].items()) for side in "ba"]


class Listener:
    """What becomes of the messages: rows by the adapter, books by the kernel."""

    def __init__(self, venue: Venue) -> None:
        self.venue, self.converter, self.state = venue, Converter(), books.new()
        self.count = 0

    def hear(self, *messages: bytes) -> list[Output]:
        outputs: list[Output] = []
        for message in messages:
            self.count += 1
            said = self.venue.said
            ms = orjson.loads(message)["ts"]
            line = Line(said.venue, said.url, self.count, ms * 1000 + 500, message, "message", url=said.url)
            rows = [record for record in self.converter.convert(line).records if record.table == "order_books"]
            assert len(rows) == 1
            batch = [Message("order_books", 0, self.count, dict(rows[0].row))]
            outputs += books.step(self.state, batch, ms + 100)
        return outputs

    def wait(self, ms: int) -> list[Output]:
        """Let time pass."""
        self.venue.ms += ms
        return books.step(self.state, [], self.venue.ms)

    @property
    def book(self) -> books.Book:
        return self.state.books[f"{self.venue.said.market}:{self.venue.symbol}"]

    def has_the_book(self) -> bool:
        return not self.book.is_stale and [*self.book.levels()] == self.venue.levels()


def kinds(outputs: list[Output]) -> list[str]:
    return [output.row["kind"] for output in outputs if output.table == "feed_faults"]


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("seed", range(3))
def test_a_played_session_gives_the_book_that_the_venue_has(market: str, seed: int) -> None:
    venue = Venue(market, seed)
    listener = Listener(venue)
    assert kinds(listener.hear(venue.snapshot())) == []
    assert listener.has_the_book()
    for _ in range(40):
        assert kinds(listener.hear(venue.change())) == []
        assert listener.has_the_book()
    # A message is lost: the book is stale, says so, asks for itself, and stays so.
    venue.change()
    outputs = listener.hear(venue.change()) + listener.wait(1000)
    assert kinds(outputs) == ["gap"]
    assert [output.row["instrument"] for output in outputs if output.table == "resync_requests"] == [venue.symbol]
    listener.hear(venue.change())
    assert listener.book.is_stale
    # The subscription anew is answered with a snapshot, which the changes join.
    asked = venue.said.resubscribe(venue.symbol)
    assert [(request["op"], request["args"]) for request in asked] == [
        (op, [venue.topic]) for op in ("unsubscribe", "subscribe")
    ]
    listener.hear(venue.snapshot())
    for _ in range(20):
        assert listener.has_the_book()
        assert kinds(listener.hear(venue.change())) == []
    # The service begins anew.
    venue.ms += 1000
    assert kinds(listener.hear(venue.restart())) == []
    for _ in range(20):
        assert listener.has_the_book()
        assert kinds(listener.hear(venue.change())) == []
    # The contract is taken off.
    venue.ms += 1000
    assert kinds(listener.hear(venue.delist())) == []
    assert listener.has_the_book()
    assert venue.levels() == [[], []]


def test_a_restart_at_once_is_seen_by_the_changes_that_follow() -> None:
    """A lower number within the grace might be late; the changes after it show that it is not."""
    venue = Venue("bybit_linear", 5)
    listener = Listener(venue)
    listener.hear(venue.snapshot(), *(venue.change() for _ in range(5)))
    assert kinds(listener.hear(venue.restart(), *(venue.change() for _ in range(5)))) == []
    assert listener.has_the_book()
    assert kinds(listener.wait(1000)) == []


def test_a_snapshot_that_is_sent_once_more_changes_nothing() -> None:
    venue = Venue("bybit_linear", 6)
    listener = Listener(venue)
    listener.hear(venue.snapshot(), venue.change(), venue.snapshot(), venue.snapshot(), venue.change())
    assert listener.has_the_book()


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("count", [1, 7, 200])
def test_what_is_subscribed_keeps_the_limits_of_the_venue(market: str, count: int) -> None:
    """10 args a request on spot; 21,000 characters of args on a connection; each topic once."""
    said = session(market)
    names = [
        f"BTC-26DEC25-{100_000 + n}-C-USDT" if market == "bybit_options" else f"1000000COIN{n:03d}USDT" for n in range(count)
    ]
    assert count <= said.limits.symbols_per_connection
    requests = said.subscribe(names)
    topics = [topic for request in requests for topic in request["args"]]
    assert len(topics) == len(set(topics))
    assert {request["op"] for request in requests} == {"subscribe"}
    assert sum(len(orjson.dumps(request["args"])) for request in requests) <= 21_000
    if market == "bybit_spot":
        assert all(len(request["args"]) <= 10 for request in requests)
    trades = ["publicTrade.BTC"] if market == "bybit_options" else [f"publicTrade.{name}" for name in names]
    assert sorted(topic for topic in topics if topic.startswith("publicTrade.")) == sorted(trades)
    assert {topic.partition(".")[2] for topic in topics if topic.startswith("tickers.")} == set(names)
    taken_back = [topic for request in said.unsubscribe(names) for topic in request["args"]]
    assert set(topics) - set(taken_back) == (set(trades) if market == "bybit_options" else set())


@pytest.mark.parametrize("market", MARKETS)
def test_the_addresses_tell_the_market(market: str) -> None:
    said: Any = session(market, url="ws://127.0.0.1:9/", rest_url="http://127.0.0.1:9/")
    category = {"bybit_options": "option"}.get(market, market.removeprefix("bybit_"))
    assert said.url == f"ws://127.0.0.1:9/v5/public/{category}"
    assert said.listings
    for ask in said.listings:
        assert ask.body is None
        assert ask.url.startswith(f"http://127.0.0.1:9/v5/market/instruments-info?category={category}")
    assert (said.ping, said.ping_s) == ('{"op":"ping"}', 20.0)
    assert session(market).url.startswith("wss://stream.bybit.com/v5/public/")


def test_another_market_is_none() -> None:
    with pytest.raises(KeyError):
        session("bybit")
