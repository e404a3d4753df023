"""Controls on their way into a job: what stands in the topic, what a shard is told, and what a replay takes from the record."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import listening
from engine.controls import APPLIED, LIVE, RECORDED, Log, Source, recorded
from engine.listening import Live, Recorded
from schemas.controls import GATE, MODES
from schemas.records import TABLES
from schemas.rows import fault, instant_ms
from tests.engine.topics_in_memory import SAID_MS, Broker, Consumer

UNTIL_MS = SAID_MS + 100
SOURCE = Source("here:9092", "liquidations", "", "liquidations", LIVE)
GOOD = {"scope": "all", "mode": "run", "who": "ann", "why": "a drill", "event_at": instant_ms(SAID_MS), "liquidations": False}
Told = list[tuple[str, str]]


class Listener:
    """A job that listens, by a clock of its own and without a thread; what it has been told it obeys."""

    def __init__(self, broker: Broker, in_force: dict[str, Any] | None = None) -> None:
        self.broker, self.now_s, self.wall_ms = broker, 100.0, SAID_MS
        self.live = Live(SOURCE, broker.consumer, lambda: self.now_s, lambda: self.wall_ms * 1000)
        self.consumer: Consumer = broker.consumer({})
        self.in_force: dict[str, Any] = in_force or {}
        self.rows: list[Any] = []
        self.letters: list[Any] = []
        self.written: list[Any] = []

    def begin(self) -> "Listener":
        self.live.begin(self.consumer)
        return self.turn()

    def turn(self, after_s: float = 0.3) -> "Listener":
        self.now_s += after_s
        self.live.turn(self.consumer)
        return self

    def told(self, shard: int = 0, until_ms: int = UNTIL_MS) -> Told:
        rows, written = self.live.words(shard, until_ms, self.in_force)
        assert [fault(output.table, output.row) for output in written] == [None] * len(written)
        assert [fault(APPLIED, row) for row in rows] == [None] * len(rows)
        self.letters += [output.row for output in written if output.table == "dead_letters"]
        self.written += [output.row for output in written if output.table == APPLIED]
        self.rows += rows
        for row in rows:
            if row["mode"] == "run" and row["scope"] != GATE:
                self.in_force.pop(row["scope"])
            else:
                self.in_force[row["scope"]] = row
        return [(row["scope"], row["mode"]) for row in rows]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "START_S", 0.0)
    monkeypatch.setattr(listening, "GRACE_S", 0.0)


@pytest.fixture
def broker() -> Broker:
    return Broker(listening.TOPIC)


def test_before_the_topic_has_been_read_the_gate_is_closed_and_says_so(broker: Broker) -> None:
    broker.say("all", "halt")
    job = Listener(broker)
    assert job.told() == [(GATE, "halt")]
    assert "has not been read yet" in job.rows[0]["why"] and job.rows[0]["liquidations"]
    job.begin()
    assert job.told() == [(GATE, "run"), ("all", "halt")]
    assert (job.rows[-1]["control_partition"], job.rows[-1]["control_offset"]) == (0, 0)
    assert job.rows[-1]["event_at"] == instant_ms(UNTIL_MS - 1)


def test_an_empty_topic_that_has_been_read_opens_the_gate_and_is_told_once(broker: Broker) -> None:
    job = Listener(broker).begin()
    assert job.told() == [(GATE, "run")]
    assert job.told() == [] == job.turn().told()
    assert [row["is_start"] for row in job.rows] == [True]
    assert job.told(shard=1) == [(GATE, "run")]  # each shard has a kernel of its own


def test_a_control_is_told_in_the_next_batch_however_far_behind_that_is(broker: Broker) -> None:
    job = Listener(broker).begin()
    job.told()
    offset = broker.say("venue:deribit", "cancel-all", partition=1, liquidations=True)
    job.turn(0.01)
    hours_ago_ms = UNTIL_MS - 5 * 3_600_000
    assert job.told(until_ms=hours_ago_ms) == [("venue:deribit", "cancel-all")]
    row = job.rows[-1]
    assert (row["control_partition"], row["control_offset"], row["is_start"]) == (1, offset, False)
    assert (row["event_at"], row["said_at"]) == (instant_ms(hours_ago_ms - 1), instant_ms(SAID_MS))
    broker.say("venue:deribit", "run", partition=1, why="the drill is over")
    assert job.turn(0.01).told() == [("venue:deribit", "run")]
    assert job.rows[-1]["why"] == "the drill is over"


def test_a_record_without_value_takes_a_control_back(broker: Broker) -> None:
    broker.say("desk:options", "halt")
    job = Listener(broker).begin()
    job.told()
    broker.append("desk:options", None)
    assert job.turn().told() == [("desk:options", "run")]
    assert job.rows[-1]["why"] == "taken back"


def test_a_control_ends_by_itself_when_its_time_is_over(broker: Broker) -> None:
    broker.say("all", "halt", ends_at=instant_ms(SAID_MS + 1000))
    job = Listener(broker).begin()
    assert job.told()[-1] == ("all", "halt")
    job.wall_ms += 999
    assert job.turn(0.9).told() == []
    job.wall_ms += 1
    assert job.turn(0.1).told() == [("all", "run")]
    assert job.rows[-1]["why"] == f"over since {instant_ms(SAID_MS + 1000)}"


def test_what_has_not_been_known_for_more_than_a_second_closes_the_gate_and_keeps_what_was_said(broker: Broker) -> None:
    broker.say("all", "reduce-only")
    job = Listener(broker).begin()
    job.told()
    broker.is_away = True
    assert job.turn(0.5).told() == [] == job.turn(0.5).told()
    assert job.turn(0.01).told() == [(GATE, "halt")]
    assert "was last known 1.0 s ago, more than 1 s" in job.rows[-1]["why"]
    assert job.in_force["all"]["mode"] == "reduce-only"
    broker.is_away = False
    assert job.turn().told() == [(GATE, "run")]


def test_that_a_client_has_nothing_new_proves_nothing(broker: Broker) -> None:
    job = Listener(broker).begin()
    job.told()
    broker.is_slow = True
    broker.say("all", "cancel-all")  # the broker says that there is more than what has come
    job.turn(0.6).turn(0.6)
    assert job.told() == [(GATE, "halt")]
    broker.is_slow = False
    assert job.turn().told() == [(GATE, "run"), ("all", "cancel-all")]


def test_a_reconnection_forgets_nothing_while_it_reads_from_the_beginning(broker: Broker) -> None:
    broker.say("all", "halt")
    job = Listener(broker).begin()
    job.told()
    job.consumer = broker.consumer({})
    job.live.begin(job.consumer)
    assert job.told() == []
    broker.is_slow = True
    job.turn(0.1)
    assert job.told() == [] and job.in_force["all"]["mode"] == "halt"
    broker.is_slow = False
    assert job.turn().told() == [] and job.in_force["all"]["mode"] == "halt"


def test_a_restart_keeps_what_the_kernel_obeys_until_the_topic_says_otherwise(broker: Broker) -> None:
    broker.say("all", "halt")
    broker.say("desk:a", "halt")
    before = Listener(broker).begin()
    before.told()
    broker.append("desk:a", None)
    after = Listener(broker, dict(before.in_force))
    assert after.told() == [(GATE, "halt")]
    assert after.in_force.keys() == {GATE, "all", "desk:a"}
    after.begin()
    assert after.told() == [(GATE, "run"), ("desk:a", "run")]
    assert after.in_force["all"]["mode"] == "halt"


def test_a_start_is_told_even_where_nothing_has_changed(broker: Broker) -> None:
    before = Listener(broker).begin()
    before.told()
    after = Listener(broker, dict(before.in_force)).begin()
    assert after.told() == [(GATE, "run")] and after.rows[0]["is_start"]


@pytest.mark.parametrize(
    ("key", "row", "scope", "expected"),
    [
        ("venue:deribit", b"stop!", "venue:deribit", "a JSON object"),
        ("venue:deribit", {"scope": "venue:deribit"}, "venue:deribit", "not NULL"),
        ("exchange:deribit", GOOD | {"scope": "exchange:deribit"}, "all", "all, or one of venue:<name>"),
        ("all", GOOD | {"why": ""}, "all", "a reason"),
        ("venue:a", GOOD | {"scope": "venue:b"}, "venue:a", "the record's key"),
        ("all", GOOD | {"mode": "stop"}, "all", "run, reduce-only, halt, cancel-all"),
    ],
)
def test_what_is_no_control_is_a_dead_letter_and_halts_until_it_is_said_rightly(
    broker: Broker, key: str, row: Any, scope: str, expected: str
) -> None:
    broker.append(key, row)
    job = Listener(broker).begin()
    assert {output.table for output in job.live.words(1, UNTIL_MS, {}).outputs} == {APPLIED}  # one shard answers for it
    assert job.told()[1:] == [(scope, "halt")]
    (letter,) = job.letters
    assert (letter["source"], letter["partition"], letter["offset"]) == ("trading_controls.v1", 0, 0)
    assert expected in letter["expected"] and expected in job.rows[-1]["why"]
    assert job.turn().told() == [] and len(job.letters) == 1
    broker.append(key, None)
    assert job.turn().told() == [(scope, "run")]


SAID = st.lists(
    st.tuples(st.sampled_from(["all", "desk:a", "venue:v"]), st.sampled_from([*MODES, None]), st.booleans()), max_size=15
)


def taken(records: list[tuple[int, int, str, Any]]) -> dict[str, Any]:
    log, broker = Log(), Broker("t")
    for part, offset, scope, mode in records:
        if mode is None:
            broker.append(scope, None)
        else:
            broker.say(scope, mode)
        log.take(part, offset, *broker.logs[0][-1])
    return log.in_force(SAID_MS)


@given(SAID, st.data())
def test_compaction_and_the_order_of_partitions_change_nothing(said: list[tuple[str, Any, bool]], data: Any) -> None:
    records = [(int(is_second), offset, scope, mode) for offset, (scope, mode, is_second) in enumerate(said)]
    whole = taken(records)
    newest = {(part, scope): offset for part, offset, scope, _ in records}
    kept = [one for one in records if newest[one[0], one[2]] == one[1] or data.draw(st.booleans())]
    apart = [one for one in kept if one[0] == 1] + [one for one in kept if one[0] == 0]
    assert taken(kept) == whole == taken(apart)


@given(SAID)
def test_of_one_scope_the_newest_record_counts(said: list[tuple[str, Any, bool]]) -> None:
    records = [(0, offset, scope, mode) for offset, (scope, mode, _) in enumerate(said)]
    newest = {scope: mode for _, _, scope, mode in records}
    wanted = {scope: mode for scope, mode in newest.items() if mode not in (None, "run")}
    assert {scope: word.row["mode"] for scope, word in taken(records).items()} == wanted


class Replay(Listener):
    """A job that obeys what is recorded."""

    def __init__(self, rows: list[Any], in_force: dict[str, Any] | None = None) -> None:
        broker = Broker(TABLES[APPLIED].topic)
        for row in rows:
            broker.append(f"{row['job']}:{row['shard']}", row, row["shard"] % 2)
        super().__init__(broker, in_force)
        self.live = Recorded(SOURCE._replace(mode=RECORDED), broker.consumer)  # type: ignore[assignment]


def test_without_a_record_everything_runs_and_no_row_depends_on_a_clock() -> None:
    one, other = Replay([]), Replay([])
    assert one.told() == other.told() == [(GATE, "run")]
    assert one.rows == other.rows and one.written == []
    assert one.told(until_ms=UNTIL_MS + 100) == []


def test_a_replay_obeys_at_the_same_batches(broker: Broker) -> None:
    job, heard = Listener(broker).begin(), []
    for number, (scope, mode) in enumerate([("all", "halt"), ("desk:a", "halt"), ("all", "run"), ("desk:a", "run")]):
        heard.append(job.told(until_ms=UNTIL_MS + 200 * number))
        broker.say(scope, mode)
        job.turn()
    heard.append(job.told(until_ms=UNTIL_MS + 800))
    assert job.written == job.rows
    assert [scope for told in heard for scope, _ in told] == [GATE, "all", "desk:a", "all", "desk:a"]
    replay = Replay(job.rows)
    for number, told in enumerate(heard):
        assert replay.told(until_ms=UNTIL_MS + 200 * number) == told
        assert replay.told(until_ms=UNTIL_MS + 200 * number + 100) == []
    for copied, row in zip(replay.rows, job.rows, strict=True):
        assert {**copied, "is_start": None} == {**row, "is_start": None}


def test_what_a_shard_did_before_it_started_anew_is_not_replayed(broker: Broker) -> None:
    first = Listener(broker).begin()
    first.told()
    broker.say("all", "halt")
    first.turn().told(until_ms=UNTIL_MS + 500)
    broker.say("all", "run")
    second = Listener(broker, {}).begin()  # from a checkpoint before the halt
    second.told(until_ms=UNTIL_MS + 200)
    kept = recorded("liquidations", first.rows + second.rows)
    assert [(row["scope"], row["mode"]) for row in kept[0]] == [(GATE, "run"), (GATE, "run")]
    assert recorded("hedges", first.rows) == {}


def test_a_record_that_cannot_be_read_is_not_guessed() -> None:
    replay = Replay([])
    replay.broker.is_away = True
    with pytest.raises(RuntimeError, match=r"controls_applied\.v1"):
        replay.told()


@pytest.fixture
def listening_job(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(listening, "START_S", 10.0)
    monkeypatch.setattr(listening, "RETRY_S", 0.01)
    attempts = iter([True, True])

    def make(settings: dict[str, Any]) -> Consumer:
        broker.is_away = next(attempts, False)  # when it is asked for its topics
        return broker.consumer(settings)

    live = Live(SOURCE, make)
    live.start()
    yield live
    live.close()


def test_the_thread_reads_by_itself_and_outlives_its_troubles(broker: Broker, listening_job: Live) -> None:
    broker.say("all", "halt")
    rows, _ = listening_job.words(0, UNTIL_MS, {})
    assert [(row["scope"], row["mode"]) for row in rows] == [(GATE, "run"), ("all", "halt")]
    assert broker.settings["isolation.level"] == "read_uncommitted" and broker.settings["group.id"] == "liquidations"
    assert broker.made == 3
    listening_job.close()
    assert not listening_job._thread.is_alive()
