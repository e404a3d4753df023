"""A live ladder of one instrument: depth, last trades, staleness, and how old it all is."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli import names
from deploy import topics
from deploy.topics import TopicError
from schemas import TABLE_OF
from schemas.records import TABLES
from schemas.rows import fault, to_us

SHOWN = ("book_depth", "book_tops", "trades")
REFRESH_S = 0.1
_LATELY = 2_000  # records from the end of a partition
_BACK = 200_000  # records that are searched for the last rows, at most
_SILENCE_S = 10.0
_LATE_US = 2_000_000  # above it the delay is shown in colour
_BAR = 18  # characters
_EIGHTHS = " ▏▎▍▌▋▊▉"
_ASK, _BID = "red", "green"


class BookError(RuntimeError):
    """There is nothing to show; the message states why."""


@dataclass
class Ladder:
    """The newest rows of one book, and their drawing."""

    venue: str
    instrument: str
    levels: int = 10
    depth: dict[str, Any] | None = None  # the newest row of book_depth
    top: dict[str, Any] | None = None  # the newest row of book_tops
    trades: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=100))  # the newest last

    def apply(self, table: str, row: dict[str, Any]) -> None:
        """Add one row of one of the tables `SHOWN`."""
        if table == "trades":
            self.trades.append(row)
        elif table == "book_depth":
            self.depth = row
        else:
            self.top = row

    @property
    def is_known(self) -> bool:
        """Whether there is a book to show."""
        return self.depth is not None or self.top is not None

    @property
    def is_stale(self) -> bool:
        """Whether updates were lost, by the newest row of either topic."""
        rows = [row for row in (self.depth, self.top) if row is not None]
        return bool(rows) and bool(max(rows, key=lambda row: to_us(row["event_at"]))["is_stale"])

    def sides(self) -> tuple[list[list[float]], list[list[float]]]:
        """Bids and asks, best first, as many as are shown."""
        if self.depth is not None:
            return self.depth["bids"][: self.levels], self.depth["asks"][: self.levels]
        top = self.top or {}
        bids, asks = (
            [[top[f"{side}_price"], top[f"{side}_size"] or 0.0]] if top.get(f"{side}_price") is not None else []
            for side in ("bid", "ask")
        )
        return bids, asks

    def draw(self, now_us: int) -> RenderableType:
        """The current ladder, at `now_us` of this machine's clock."""
        grid = Table.grid(padding=(0, 4))
        grid.add_row(self._book(), self._last_trades())
        parts: list[RenderableType] = [self._heading(now_us)]
        if self.is_stale:
            parts.append(Padding("STALE: updates were lost; prices are the last known", (0, 1), style="bold white on red"))
        elif not self.is_known:
            parts.append(Padding("no book yet: waiting for the first", (0, 1), style="black on yellow"))
        elif self.depth is None:
            parts.append(Text("best prices only: book_depth has nothing of this instrument", style="yellow"))
        return Group(*parts, Text(), grid)

    def _heading(self, now_us: int) -> Text:
        text = Text(f"{self.venue}:{self.instrument}", style="bold")
        book = self.depth or self.top
        if book is None:
            return text
        event_us = to_us(book["event_at"])
        behind_us = now_us - event_us
        text.append("" if book["sequence"] is None else f"   #{book['sequence']}", style="not bold dim")
        text.append(f"\nexchange time {_instant(event_us, '%Y-%m-%d %H:%M:%S')} UTC", style="not bold")
        text.append(
            f"   {_apart(behind_us, 'behind')} this clock", style="not bold" + (" yellow" if behind_us > _LATE_US else "")
        )
        timed = [row for row in (self.top, *list(self.trades)[-1:]) if row is not None]
        if timed:
            newest = max(timed, key=lambda row: to_us(row["received_at"]))
            took_us = to_us(newest["received_at"]) - to_us(newest["event_at"])
            text.append(f"   received {_apart(took_us, 'after')} it", style="not bold dim")
        return text

    def _book(self) -> Table:
        bids, asks = self.sides()
        prices = decimals([level[0] for level in (*bids, *asks)])
        sizes = decimals([level[1] for level in (*bids, *asks)])
        largest = max([level[1] for level in (*bids, *asks)], default=0.0)
        table = Table(box=None, header_style="dim", padding=(0, 1))
        table.add_column("price", justify="right", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("depth", width=_BAR, no_wrap=True)
        style = " dim" if self.is_stale else ""
        for side, levels, is_best in ((_ASK, asks[::-1], len(asks) - 1), (_BID, bids, 0)):
            for at, (price, size) in enumerate(levels):
                weight = " bold" if at == is_best else ""
                table.add_row(
                    Text(f"{price:,.{prices}f}", style=side + weight + style),
                    Text(f"{size:,.{sizes}f}", style=style.strip()),
                    Text(bar(size, largest), style=side + style),
                )
            if not levels:
                table.add_row(Text("none", style="dim"), "", "")
            if side == _ASK:
                table.add_row(Text("spread", style="dim"), *_spread(bids, asks, prices))
        return table

    def _last_trades(self) -> Table:
        shown = list(self.trades)[::-1][: 2 * self.levels + 1]
        prices, sizes = decimals([row["price"] for row in shown]), decimals([row["size"] for row in shown])
        table = Table(box=None, header_style="dim", padding=(0, 1))
        table.add_column("last trades", no_wrap=True)
        for heading in ("side", "price", "size"):
            table.add_column(heading, justify="left" if heading == "side" else "right", no_wrap=True)
        for row in shown:
            style = _BID if row["side"] == "buy" else _ASK
            figures = f"{row['price']:,.{prices}f}", f"{row['size']:,.{sizes}f}"
            when = Text(_instant(to_us(row["event_at"]), "%H:%M:%S"), style="dim")
            table.add_row(when, Text(row["side"], style=style), Text(figures[0], style=style), figures[1])
        if not shown:
            table.add_row(Text("none yet", style="dim"), "", "", "")
        return table


def show(console: Console, servers: str, instrument: str, venue: str | None, levels: int, is_once: bool) -> None:
    """Draw the ladder of one instrument until interrupted, or once.

    Raises `TopicError` if the broker cannot be asked, `ValueError` for an instrument that is not known and `BookError` where
    one ladder is asked for and there is none.
    """
    try:
        with closing(Reader(servers)) as reader:
            ladder = Ladder(*names.choose(reader.known(), instrument, venue), levels)
            key = f"{ladder.venue}:{ladder.instrument}"
            for table in SHOWN:
                for row in reader.newest(table, key, 100 if table == "trades" else 1):
                    ladder.apply(table, row)
            if is_once:
                if not ladder.is_known:
                    raise BookError(f"no book of {key} has come yet; is the job `books` running? (`gammaflow status`)")
                console.print(ladder.draw(time.time_ns() // 1000))
                return
            with Live(console=console, auto_refresh=False) as live:
                for rows in reader.follow(key):
                    for table, row in rows:
                        ladder.apply(table, row)
                    if console.is_terminal:
                        ladder.levels = max(1, min(levels, (console.height - 6) // 2))
                    live.update(ladder.draw(time.time_ns() // 1000), refresh=True)
    except KafkaException as error:
        raise TopicError(f"Kafka at {servers}: {error.args[0].str()}") from error


class Reader:
    """The rows of one book: the newest, and those that follow."""

    def __init__(self, servers: str) -> None:
        own = {
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,  # else each search waits half a second for more records
        }
        self._consumer, partitions = topics.consuming(servers, "gammaflow-book", own)
        self._bounds = {
            table: {
                part: self._consumer.get_watermark_offsets(TopicPartition(TABLES[table].topic, part), timeout=10)
                for part in range(partitions.get(TABLES[table].topic, 0))
            }
            for table in ("instruments", *SHOWN)
        }
        """The first and the next offset of each partition at the start."""

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def known(self) -> set[names.Book]:
        """Every instrument that has been described, or has changed lately."""
        keys: set[bytes] = set()
        for table, bounds in self._bounds.items():
            back = sys.maxsize if table == "instruments" else _LATELY
            keys |= {message.key() for message in self._read(table, _starts(bounds, back)) if message.key()}
        return {(venue, name) for venue, _, name in (key.decode(errors="replace").partition(":") for key in keys)}

    def newest(self, table: str, key: str, count: int) -> list[dict[str, Any]]:
        """The last `count` rows of a key before the start, the newest last; fewer where the end of the topic has no more."""
        bounds, back = self._bounds[table], _LATELY
        while True:
            starts = _starts(bounds, back)
            rows = [row for message in self._read(table, starts) if (row := _row(table, key, message)) is not None]
            is_all = all(starts[part] == first for part, (first, _) in bounds.items())
            if len(rows) >= count or is_all or back >= _BACK:
                return rows[-count:]
            back *= 10

    def follow(self, key: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
        """Without end, the rows of a key that came since the start, each with its table; none now and then."""
        ends = [(TABLES[table].topic, part, end) for table in SHOWN for part, (_, end) in self._bounds[table].items()]
        self._consumer.assign([TopicPartition(*partition_end) for partition_end in ends])
        while True:
            rows: list[tuple[str, dict[str, Any]]] = []
            for message in self._consumer.consume(10_000, timeout=REFRESH_S):
                table = TABLE_OF[message.topic()]
                row = None if message.error() else _row(table, key, message)
                if row is not None:
                    rows.append((table, row))
            yield rows

    def _read(self, table: str, starts: dict[int, int]) -> Iterator[Message]:
        topic, bounds = TABLES[table].topic, self._bounds[table]
        left = {part for part, start in starts.items() if start < bounds[part][1]}
        self._consumer.assign([TopicPartition(topic, part, starts[part]) for part in left])
        while left:
            message = self._consumer.poll(_SILENCE_S)
            if message is None:
                raise TopicError(f"{topic}: the broker has sent nothing for {_SILENCE_S:g} s")
            error, part = message.error(), message.partition()
            if error and error.code() != KafkaError._PARTITION_EOF:
                raise TopicError(f"{topic}: {error.str()}")
            # Offsets without a visible record, such as the end of a transaction, count too.
            if error or message.offset() + 1 >= bounds[part][1]:
                left.discard(part)
            if not error and message.value() is not None and message.offset() < bounds[part][1]:
                yield message


def _starts(bounds: dict[int, tuple[int, int]], back: int) -> dict[int, int]:
    return {part: max(first, end - back) for part, (first, end) in bounds.items()}


def _row(table: str, key: str, message: Message) -> dict[str, Any] | None:
    if message.value() is None or message.key() != key.encode():
        return None
    try:
        row = orjson.loads(message.value())
    except orjson.JSONDecodeError:
        return None
    return row if fault(table, row) is None else None


def bar(size: float, largest: float) -> str:
    """A size as a bar; the largest fills the column."""
    eighths = round(8 * _BAR * size / largest) if largest > 0 else 0
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).strip() or ("▏" if size else "")


def decimals(values: list[float]) -> int:
    """The number of decimals of the longest of these numbers."""
    exponents = [Decimal(repr(value)).normalize().as_tuple().exponent for value in values]
    return min(10, max([0, *(-exponent for exponent in exponents if isinstance(exponent, int))]))


def _apart(us: int, word: str) -> str:
    """How far one clock is `word` (behind, after) another, in the unit that suits it."""
    seconds, word = abs(us) / 1e6, word if us >= 0 else {"behind": "ahead of", "after": "before"}[word]
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit} {word}"
    return f"{seconds:,.1f} s {word}" if seconds >= 1 else f"{seconds * 1000:,.0f} ms {word}"


def _spread(bids: list[list[float]], asks: list[list[float]], prices: int) -> tuple[Text, Text]:
    if not bids or not asks:
        return Text("–", style="dim"), Text()
    bid, ask = bids[0][0], asks[0][0]
    middle = (bid + ask) / 2
    bps = f"{(ask - bid) / middle * 1e4:.3g} bps" if middle > 0 else ""
    return Text(f"{ask - bid:,.{prices}f}", style="dim"), Text(bps, style="dim")


def _instant(us: int, form: str) -> str:
    seconds, part = divmod(us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):{form}}.{part // 1000:03d}"
