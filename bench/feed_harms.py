"""Does a feed stand an hour of what venues and brokers do to it?  `make bench BENCH=feed_harms`.

`gammaflow feed binance_usdm --redundant --record …` listens to a venue on this machine (`bench.harmed_venue`) and writes to a
broker of its own.  Every `SLOT_S` comes one of these, in turn:

  cut        the connection breaks within a message, and the next two whole books break off
  half_open  the connection stays open and says nothing more, every second time not even to pings
  slow       the feed itself stands still for a while
  burst      50,000 messages at once
  listing    a contract joins, and expires later
  clock      the venue's clock jumps half a minute ahead, then 20 s behind, then back, and at each jump messages are lost
  refused    a connection whose subscriptions are refused
  forbidden  connections get 403, requests 401 and 403
  limited    connections get 429, requests 429 and 418, with the time after which to come again
  broker     the broker is stopped and started again
  outage     all connections break at once

At the end the run fails unless

  - the rows in Kafka are those of an offline conversion of the recorded messages, each message once, in the same order
  - each message that surely reached a connection is there, and none is there twice
  - each book, by its rows in their order, is the venue's own
  - no request came sooner than the venue had said, and no healthy connection was closed, unless it was far behind the other
  - the keeper of the time never takes a broker that was restarted for an older one
  - the feed stops when it is told, leaving no task and no file beside its recording
"""

import multiprocessing
import os
import queue
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import orjson
import psutil
import typer

from bench import harmed_rows, harmed_venue
from bench.harmed_market import Plan, Slot
from bench.harmed_rows import Chains, Written
from bench.harmed_venue import Truth
from bench.passes import BenchError
from bench.report import Figures, console, run
from deploy import broker, processes, topics

HARMS = ("cut", "half_open", "slow", "burst", "listing", "clock", "refused", "forbidden", "limited", "broker", "outage")
SLOT_S = 45.0
FIRST_S, LAST_S = 10.0, 60.0
"""Before the first harm, and after the last one."""
SAMPLE_S = 5.0
STOP_S = 30.0
QUIET_S, SETTLED_S = 5.0, 30.0
"""What is written is complete once nothing has come for so long; where a book is not the venue's yet, its snapshot may come."""


class Sample(NamedTuple):
    """What the feed held at one moment."""

    at_s: float
    resident_mb: float
    files: int
    tasks: int


class Times(NamedTuple):
    """Times of the feed in s, where they are not those of the product: see `bench.harmed_feed`."""

    silence: float = 60.0
    listing: float = 60.0
    pause: float = 1.0


def slots(seconds: float, slot_s: float, first_s: float, last_s: float) -> list[Slot]:
    """Which harm is done when: all of them in turn, as long as there is time."""
    number = int((seconds - first_s - last_s) / slot_s) + 1
    return [Slot(first_s + at * slot_s, HARMS[at % len(HARMS)], at // len(HARMS)) for at in range(max(number, len(HARMS)))]


class Stage:
    """The processes: broker, venue, feed, and the one that converts what the feed records."""

    def __init__(self, folder: Path, plan: Plan, times: Times, is_brief: bool, options: Sequence[str] | None) -> None:
        self.folder, self.plan, self.is_brief = folder, plan, is_brief
        self.port = processes.free_port(0)
        self.kafka = f"127.0.0.1:{self.port}"
        self.home = folder / "broker"
        self.broker = broker.start(self.home, self.port, is_brief=is_brief)
        self.others: list[Any] = []
        topics.create(self.kafka)
        context = multiprocessing.get_context("spawn")
        port, self.has_ended = context.Value("i", 0), context.Event()
        self.venue = self._start(context, harmed_venue.run, plan, folder / "truth.json", port, self.has_ended)
        while not port.value:
            if not self.venue.is_alive():
                raise BenchError("the venue has failed")
            time.sleep(0.05)
        self.counts, self.log = folder / "counts.json", folder / "feed.log"
        self.recording = folder / "recording" / "feed"
        wanted = ["--redundant", "--record", str(self.recording)] if options is None else options
        command = ["feed", "binance_usdm", *wanted]
        own = [str(port.value), str(self.counts), str(times.silence), str(times.listing), str(times.pause)]
        environment = {**os.environ, "GAMMAFLOW_KAFKA": self.kafka}
        self.feed = processes.start([sys.executable, "-m", "bench.harmed_feed", *own, "--", *command], self.log, environment)
        self.process = psutil.Process(self.feed)
        self.files, self.results = context.Queue(), context.Queue()
        self.converter = self._start(context, harmed_rows.follow, self.files, self.results)
        self.given: list[str] = []

    def _start(self, context: Any, target: Any, *arguments: Any) -> Any:
        process = context.Process(target=target, args=arguments, daemon=True)
        process.start()
        self.others.append(process)
        return process

    def recorded(self, is_over: bool = False) -> None:
        """Give on the files that are complete."""
        names = sorted(str(path) for path in self.recording.parent.glob("*"))
        for name in names[len(self.given) : None if is_over else -1]:
            self.given.append(name)
            self.files.put(name)
        if is_over:
            self.files.put(None)

    def sample(self, at_s: float) -> Sample:
        """What the feed holds.  Raises `BenchError` where it has ended."""
        self.check()
        tasks = orjson.loads(self.counts.read_bytes() or b"{}").get("tasks", 0) if self.counts.exists() else 0
        return Sample(at_s, self.process.memory_info().rss / 1e6, self.process.num_fds(), tasks)

    def check(self) -> None:
        """Raises `BenchError` where the feed or the venue has ended."""
        if not processes.is_alive(self.feed):
            raise BenchError(f"the feed has ended:\n{processes.tail(self.log, 40)}")
        if not self.venue.is_alive():
            raise BenchError("the venue has failed")

    def harm(self, name: str) -> None:
        """Do what does not come from the venue."""
        print(f"{name}", flush=True)
        if name == "slow":
            self.process.suspend()
            time.sleep(min(6.0, self.plan.slot_s / 2))
            self.process.resume()
        else:
            processes.stop([self.broker])
            time.sleep(min(5.0, self.plan.slot_s / 4))
            self.broker = broker.start(self.home, self.port, is_brief=self.is_brief)

    def stop_feed(self) -> float:
        """Let the feed stop; how long that took, in s.  Raises `BenchError` where it does not, or leaves something."""
        start_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_S)
        except psutil.TimeoutExpired:
            raise BenchError(f"the feed has not stopped within {STOP_S:g} s") from None
        left = orjson.loads(self.counts.read_bytes())["left"]
        if status or left:
            raise BenchError(f"the feed has ended with {status}, tasks left {left}:\n{processes.tail(self.log, 40)}")
        return time.monotonic() - start_s

    def close(self) -> None:
        """Stop what is left."""
        for process in self.others:
            process.kill()
            process.join()
        processes.stop([self.feed, self.broker])


@contextmanager
def stage(plan: Plan, times: Times, is_brief: bool, options: Sequence[str] | None = None) -> Iterator[Stage]:
    """A stage in a folder of its own, until the block ends; `options` of the feed are to record two connections unless told."""
    with TemporaryDirectory(prefix="gammaflow-harms-") as folder:
        up = Stage(Path(folder), plan, times, is_brief, options)
        try:
            yield up
        except BaseException:
            console.print(f"the end of the feed's log:\n{processes.tail(up.log, 300)}", markup=False)
            raise
        finally:
            up.close()


def played(up: Stage, written: Written) -> list[Sample]:
    """Play the plan to its end, until all that was sent has been read."""
    pending = [slot for slot in up.plan.slots if slot.harm in ("slow", "broker")]
    samples: list[Sample] = []
    start_s = sampled_s = quiet_s = time.monotonic()
    # The venue begins once the feed has subscribed: the harms of both may be as far apart as that.
    truth: Truth | None = None
    while truth is None or time.monotonic() < quiet_s + (SETTLED_S if written.stale(truth) else QUIET_S):
        now_s = time.monotonic()
        if now_s > start_s + 2 * up.plan.seconds + 300:
            raise BenchError("the venue has not come to its end: a feed does not come back")
        if written.read(0.2) or truth is None:
            quiet_s = time.monotonic()
        if truth is None and up.has_ended.is_set():
            truth = Truth(up.folder / "truth.json")
        if pending and now_s - start_s >= pending[0].at_s:
            up.harm(pending.pop(0).harm)
        if now_s >= sampled_s + SAMPLE_S:
            sampled_s = now_s
            up.recorded()
            samples.append(up.sample(now_s - start_s))
            if len(samples) % 12 == 0:
                print(
                    " ".join(f"{name} {value:,.0f}" for name, value in samples[-1]._asdict().items()), written.rows, flush=True
                )
    return samples


def figures(samples: list[Sample], plan: Plan) -> Figures:
    """What the feed held, by quarters of the time."""
    result: Figures = {}
    for number in range(4):
        part = [one for one in samples if number <= 4 * one.at_s / plan.seconds < number + 1] or samples[-1:]
        result |= {
            f"resident_mb_quarter_{number + 1}": round(median(one.resident_mb for one in part), 1),
            f"resident_mb_most_quarter_{number + 1}": round(max(one.resident_mb for one in part), 1),
            f"open_files_quarter_{number + 1}": round(median(one.files for one in part)),
            f"tasks_quarter_{number + 1}": round(median(one.tasks for one in part)),
        }
    return result


def checked(written: Written, expected: Chains, truth: Truth, log: str) -> Figures:
    """What was compared; `log` is the feed's.  Raises `BenchError` for a difference."""
    faults = written.chains.differences(expected)
    faults += [f"{name}: not the venue's book" for name in written.stale(truth)]
    missing, lost = written.missing(truth)
    told = dict(truth.told)
    harms = told.pop("harms")
    result = {
        **told,
        **{f"harms_{name}": number for name, number in sorted(harms.items())},
        "rows": written.rows,
        "books": len(truth.books),
        "dead_letters": written.dead_letters,
        "messages_lost_in_outages": lost,
        "messages_missing": missing,
        "messages_twice": written.doubled(),
        "timestamp_ahead_of_receipt_ms": written.ahead_ms,
        "closed_as_far_behind": log.count("far behind the other connection"),
        "requests_to_an_older_leader": log.count("FENCED_LEADER_EPOCH"),
    }
    result["closed_by_the_feed"] -= result["closed_as_far_behind"]
    must_be_none = ("messages_missing", "messages_twice", "http_requests_too_soon", "requests_to_an_older_leader")
    if result["closed_by_the_feed"] > 0:
        faults.append(f"closed_by_the_feed: {result['closed_by_the_feed']}")
    faults += [f"{name}: {result[name]}" for name in must_be_none if result[name]]
    if faults:
        raise BenchError("\n".join([*faults[:40], f"{len(faults)} faults; {result}"]))
    return result


def measured(plan: Plan, times: Times, is_brief: bool = False) -> Figures:
    """The whole run.  Raises `BenchError` for anything that is not as it must be."""
    with stage(plan, times, is_brief) as up:
        written = Written(up.kafka)
        samples = played(up, written)
        stopped_s = up.stop_feed()
        while written.read(2.0):
            pass
        written.close()
        up.recorded(is_over=True)
        expected = Chains()
        try:
            rows, expected.listed, lines = up.results.get(timeout=600 + plan.seconds)
        except queue.Empty:
            raise BenchError("the recording was not converted") from None
        expected.rows.update(rows)
        compared = checked(written, expected, Truth(up.folder / "truth.json"), up.log.read_text(errors="replace"))
        if odd := [path.name for path in up.recording.parent.iterdir() if not path.name.endswith(".gz")]:
            raise BenchError(f"files are left: {odd}")
        counted = {name: sum(slot.harm == name for slot in plan.slots) for name in ("slow", "broker")}
        return {
            "seconds": plan.seconds,
            "messages_per_s": plan.per_s,
            "symbols": plan.symbols,
            "burst_messages": plan.burst,
            "recorded_lines": lines,
            "stopped_s": round(stopped_s, 1),
            **{f"harms_{name}": number for name, number in counted.items()},
            **compared,
            **figures(samples, plan),
        }


def main(
    seconds: Annotated[float, typer.Option(min=10.0, help="How long the venue plays.")] = 3_600.0,
    per_s: Annotated[int, typer.Option(min=100, help="Messages a second, on each of two connections.")] = 2_000,
    symbols: Annotated[int, typer.Option(min=1, max=40, help="Contracts.")] = 20,
    burst: Annotated[int, typer.Option(min=1, help="Messages of a burst.")] = 50_000,
) -> None:
    """Harm a feed for an hour."""
    plan = Plan(per_s, seconds, symbols, burst, slots(seconds, SLOT_S, FIRST_S, LAST_S), 5, SLOT_S)
    run("feed_soak", {"feed_soak": lambda: measured(plan, Times())})


if __name__ == "__main__":
    typer.run(main)
