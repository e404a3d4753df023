"""Plays cases side by side: one submission of the jobs, four hours of event time for each pass."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from time import time

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

import jobs
from cli.play import DETERMINISTIC
from deploy import processes, runtime, topics
from deploy.runtime import Runtime
from drills.suite import Suite
from feeds import Record
from feeds.clocks import Clocks
from feeds.publish import END_MS, FEED_TABLES, SPOKEN, Publisher
from schemas.clients import to_end
from schemas.partitions import partition_of
from schemas.records import TABLES
from schemas.rows import to_ms
from tests.jobs.cases import (
    AFTER_MS,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    MINUTE_OF_DAY_MS,
    PASSES,
    SUFFIX,
    Case,
    Play,
    Row,
    Rows,
    readable,
)

PARTITIONED = {
    "instrument_partition": ("venue", "instrument"),
    "account_partition": ("account",),
    "owner_partition": ("subject",),
}
"""Columns with the partition of another key, and that key."""
SETTINGS = {**DETERMINISTIC, "gammaflow.window": "0.05", "gammaflow.drift": "1000000"}
"""Of the jobs.  Times that follow from a micro-batch's end stand in the cases, whatever the default is.  No source waits for
another where time goes on by hours."""
PARALLELISM, OTHER_PARALLELISM = 2, 1
CUT_MS = 1000
"""How far into its minute a pass is cut."""
UNREAD = 20
"""About how many rows before a crash are not in a checkpoint."""
PASS_MS = 4 * HOUR_MS
"""From one pass to the next: whole hours, so that minutes and hours end alike.  In a day `books` would sweep 8,640 times."""
FIRST_DAY_MS = to_ms("2026-03-02T00:00:00Z")

Event = tuple[int, Play, str, Row, bool]
"""A row and when it comes, in common time; whether it is late."""


class Written:
    """What the jobs wrote."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Case, str], Rows] = defaultdict(lambda: defaultdict(list))  # by case and pass
        self.strays: list[str] = []  # rows of no case


class Runner:
    """Plays the selected cases."""

    producer: Producer  # while it plays

    def __init__(self, place: Runtime, selected: Sequence[tuple[Case, str]], first_day_ms: int = FIRST_DAY_MS) -> None:
        self.selected = selected
        needed = {name for case in dict.fromkeys(case for case, _ in selected) for name in case.needed}
        self.names = [name for name in jobs.FLOW if name in needed]
        self.suite = Suite(place, self.names, PARALLELISM, settings=SETTINGS)
        self.days_ms = {way: first_day_ms + number * PASS_MS for number, way in enumerate(PASSES)}
        told = {table for name in self.names for table in jobs.job(name).tells_time}
        reads = {table for name in self.names for table in jobs.job(name).reads}
        # In these nobody else tells the time.
        self.silent = sorted(reads - told - set(FEED_TABLES))
        self.newest_ms = 0
        self.known_ms = 0  # what is a second behind this is late for certain: every job has read as far

    def run(self) -> Written:
        """Play all passes and return what was written, put back under the files' names and times."""
        place = self.suite.up
        sinks = self.suite.written
        starts = topics.ends(place.kafka, sinks)
        self.suite.submit()
        self.producer = Producer({"bootstrap.servers": place.kafka, "partitioner": "murmur2_random"})
        with Publisher(place.kafka) as publisher:
            for way in PASSES:
                plays = self.plays(way)
                if plays:
                    self._play(publisher, way, plays)
        self._tell_time(self.newest_ms + END_MS)
        del self.producer  # it would look for the broker when that has gone
        runtime.drain(place, self.names)
        return self._read(sinks, starts)

    def plays(self, way: str) -> list[Play]:
        """One pass's cases, each in its place in time.

        A job of SQL alone takes the time in topics of other jobs from every row.  Rows given there would be ahead of those that
        come through a job: their cases have an hour of their own.  So have those that are played in a minute of their own.
        """
        plain = {table for name in self.names if jobs.job(name).kernel is None for table in jobs.job(name).reads}
        ahead = plain - set(FEED_TABLES)
        cases = [case for case, wanted in self.selected if wanted == way]
        own = [case for case in cases if case.has_own_minute]
        later_ms = {case: HOUR_MS * int(bool(case.tables & ahead)) for case in cases}
        # Two minutes, for one may go on into the next.
        later_ms |= {case: 2 * HOUR_MS + 2 * MINUTE_MS * number for number, case in enumerate(own)}
        return [Play(case, way, self.days_ms[way], later_ms[case]) for case in cases]

    def _play(self, publisher: Publisher, way: str, plays: list[Play]) -> None:
        self.known_ms = 0
        for hour in sorted({play.later_ms // HOUR_MS for play in plays}):
            events = merged([play for play in plays if play.later_ms // HOUR_MS == hour])
            self._wait(publisher)
            cut = self._cut(events, self.days_ms[way] + MINUTE_OF_DAY_MS + CUT_MS) if hour == 0 and way != "straight" else None
            for number, event in enumerate(events):
                if cut is not None and number == max(cut - UNREAD, 1):
                    self._wait(publisher)
                if number == cut:
                    publisher.flush()
                    (self._crash if way == "crash" else self._rescale)()
                    self.known_ms = 0
                self._publish(publisher, event)
        self._wait(publisher)

    @staticmethod
    def _cut(events: list[Event], at_ms: int) -> int:
        """Before which row a pass is cut: the first at an instant, or after it, that has no late one shortly before."""
        numbers = range(1, len(events))
        return next(
            (n for n in numbers if events[n][0] >= at_ms and not any(event[4] for event in events[max(n - UNREAD, 0) : n])),
            len(events) // 2,
        )

    def _publish(self, publisher: Publisher, event: Event) -> None:
        at_ms, _, table, row, is_late = event
        event_ms = to_ms(row["event_at"])
        for column, parts in PARTITIONED.items():
            if column in TABLES[table].columns and "raw" not in row:
                # Which one it is depends on the names that a case has been given.
                name = ":".join(str(row[part]) for part in parts)
                row = {column: partition_of(name, topics.PARTITIONS), **row}
        if is_late and event_ms >= self.known_ms - AFTER_MS:
            self._wait(publisher)
        if "raw" in row:
            publisher.flush()
            value = row["raw"].encode("latin-1")
            self.producer.produce(TABLES[table].topic, value, row["key"], timestamp=max(event_ms, 1))
            assert self.producer.flush(30) == 0
        else:
            publisher.publish(Record(table, event_ms, row))
            if table not in FEED_TABLES:
                # It must be there before the job that tells the time in its topic has read what follows.
                publisher.flush()
        self.newest_ms = max(self.newest_ms, at_ms)

    def _wait(self, publisher: Publisher) -> None:
        """Return when the jobs have read, and checkpointed, all there is, in the order of their flow."""
        if not self.newest_ms:
            return
        publisher.flush()
        self._tell_time(self.newest_ms)
        runtime.in_flow(self.names, lambda name: runtime.wait_read(self.suite.up, name))
        self.known_ms = self.newest_ms

    def _tell_time(self, ms: int) -> None:
        for topic, partition in topics.ends(self.suite.up.kafka, self.silent):
            self.producer.produce(topic, None, "heartbeat", partition, timestamp=ms)
        assert self.producer.flush(30) == 0

    def _crash(self) -> None:
        """Kill the TaskManagers and start others; the jobs go on from their last checkpoints."""
        began_ms = time() * 1000
        names = list(self.suite.up.taskmanagers)
        for pid in list(self.suite.up.taskmanagers.values()):
            processes.kill(pid)
        self.suite.start_again(names)
        self.suite.wait(lambda: self.suite.have_restarted(self.names, began_ms), "the jobs run again")

    def _rescale(self) -> None:
        """Stop every job with a savepoint and go on from there at another parallelism."""
        savepoints = self.suite.stop()
        self.suite.parallelism = OTHER_PARALLELISM
        self.suite.submit(savepoints)

    def _read(self, sinks: list[str], starts: dict[tuple[str, int], int]) -> Written:
        written = Written()
        played = {play.suffix: play for way in PASSES for play in self.plays(way)}
        for table, value in read(self.suite.up.kafka, sinks, starts):
            text = readable(table, value)
            plays = {match[0] for match in SUFFIX.finditer(text)}
            play = played.get(next(iter(plays))) if len(plays) == 1 else None
            if play is None:
                play = self._giver(text, played)
            if play is None:
                written.strays.append(f"{table} {text}")
            else:
                written.rows[play.case, play.way][table].append(play.read(text))
        return written

    def _giver(self, text: str, played: dict[str, Play]) -> Play | None:
        """Whose raw value stands in a dead letter without a name.  Passes give the same values, each at hours of its own."""
        letter = json.loads(text)
        if "original" not in letter:
            return None
        at_ms = to_ms(letter["event_at"])
        for play in played.values():
            start_ms = self.days_ms[play.way] + MINUTE_OF_DAY_MS
            raws = (play.published(row)["raw"] for _, row in play.case.given if "raw" in row)
            if start_ms <= at_ms < start_ms + PASS_MS and letter["original"] in {*raws}:
                return play
        return None


def _table(topic: str) -> str:
    return next(table for table, known in TABLES.items() if known.topic == topic)


def merged(plays: list[Play]) -> list[Event]:
    """The rows of cases side by side, each in its own order.

    A row comes when, by its case's own rows, it is time: what is on time in its case is on time beside the others.
    """
    rows = [
        (to_ms(row.get("received_at") or row["event_at"]), play, table, row)
        for play in plays
        for table, row in ((table, play.published(row)) for table, row in play.case.given)
    ]
    clocks = Clocks()
    newest_ms: dict[Play, int] = defaultdict(int)  # event time
    now_ms: dict[Play, int] = defaultdict(int)  # common time
    events: list[Event] = []
    for received_ms, play, table, row in sorted(rows, key=lambda item: item[0]):
        event_ms = to_ms(row["event_at"])
        # Not what is only behind a venue whose clock is ahead.
        is_late = event_ms < min(newest_ms[play], received_ms) - AFTER_MS
        common_ms = event_ms if "raw" in row else clocks.timestamp_ms(row, event_ms, table in SPOKEN)
        newest_ms[play] = max(newest_ms[play], event_ms)
        now_ms[play] = max(now_ms[play], common_ms)
        events.append((now_ms[play], play, table, row, is_late))
    return sorted(events, key=lambda event: event[0])


def newest_day_ms(servers: str) -> int:
    """A day after the newest record in any topic of feeds: time in them has gone on to there."""
    admin = AdminClient({"bootstrap.servers": servers})
    ends = topics.ends(servers, sorted(FEED_TABLES))
    asked = {TopicPartition(topic, part): OffsetSpec.max_timestamp() for topic, part in ends}
    newest = [result.result().timestamp for result in admin.list_offsets(asked).values()]
    return int(max([FIRST_DAY_MS, *((ms // DAY_MS + 2) * DAY_MS for ms in newest if ms > 0)]))


def read(servers: str, tables: list[str], starts: dict[tuple[str, int], int]) -> Iterator[tuple[str, bytes]]:
    """The rows of topics with their tables; heartbeats, which have no value, left out."""
    consumer, _ = topics.consuming(servers, "gammaflow-cases", {"enable.partition.eof": True})
    try:
        for message in to_end(consumer, [TopicPartition(*part, starts[part]) for part in topics.ends(servers, tables)]):
            if message.value() is not None:
                yield _table(message.topic()), message.value()
    finally:
        consumer.close()
