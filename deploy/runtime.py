"""Where the suite runs: the embedded broker and cluster, or the user's own, behind one object.

`GAMMAFLOW_KAFKA` (host:port, …) and `GAMMAFLOW_FLINK` (host:port of the REST interface) point to the user's own, which are
neither started nor stopped here.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jobs
from deploy import broker, cluster, processes, topics, zookeeper
from deploy import savepoints as contracts
from deploy.processes import StartError
from deploy.rest import POLL_S, Flink, FlinkError
from schemas import TABLE_OF, security

PORTS = (9092, 8081)
"""The ports that a user tries first for broker and cluster."""
ANY_PORTS = (0, 0)
"""Any free ports, for a brief runtime: several may start at the same moment."""
MAX_TASKMANAGERS = 8
"""Of an embedded cluster: each may need 4.9 GB of memory."""
FREE_S = 10.0
"""How long to wait for free slots: a stopped job returns them a moment later."""
TOLD_WITHIN_MS = 1_000
"""How far behind the newest time of feeds the jobs of a loop may be when it ends: windows, and delays of what feeds write."""
REPEAT_S = 5.0
"""How often the time is repeated to a job that has been restored, once the feeds have ended."""
SHIPPED = ("engine", "jobs", "kernels", "schemas", "udfs")


@dataclass(frozen=True)
class Runtime:
    """A broker and a cluster that run."""

    kafka: str  # host:port
    flink: str  # host:port of the REST interface
    home: str  # logs and, where embedded, data
    started: dict[str, int]  # process ids of embedded processes: broker, zookeeper, jobmanager, taskmanager-0 …
    is_brief: bool = False  # it runs for minutes, and is not tuned for long runs

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that we started, the broker first."""
        return tuple(self.started.values())

    @property
    def taskmanagers(self) -> dict[str, int]:
        """The TaskManagers among them."""
        return {name: pid for name, pid in self.started.items() if name.startswith("taskmanager")}

    @property
    def rest(self) -> Flink:
        """The cluster's REST interface."""
        return Flink(self.flink)

    @property
    def logs(self) -> Path:
        """The folder with every log."""
        return Path(self.home) / "logs"


def default_home() -> Path:
    """The folder of data and logs of `gammaflow up`: `GAMMAFLOW_HOME`, or else .run beside the code."""
    return Path(os.environ.get("GAMMAFLOW_HOME") or cluster.ROOT / ".run").resolve()


def up(
    home: Path,
    conf: dict[str, Any] | None = None,
    taskmanagers: int = 1,
    say: Callable[[str], None] = lambda _: None,
    ports: tuple[int, int] = PORTS,
    is_highly_available: bool = False,
    is_brief: bool = False,
) -> Runtime:
    """Start the embedded broker and cluster, create the topics, and note the runtime under `home`.

    With `is_highly_available`, a restarted JobManager finds its jobs through an embedded ZooKeeper.  With `is_brief`, the
    runtime is up sooner, but slower in a long run.  `ports` are the preferred ports of broker and cluster.  If they are taken,
    or 0, it uses other ports, unless GAMMAFLOW_KAFKA_PORT or GAMMAFLOW_FLINK_PORT set them.  Raises `StartError`, and leaves
    nothing behind.
    """
    kafka, flink = os.environ.get("GAMMAFLOW_KAFKA"), os.environ.get("GAMMAFLOW_FLINK")
    if kafka is None and security.settings() is not None:
        raise StartError(f"{security.VARIABLE} is for a broker of your own; GAMMAFLOW_KAFKA does not say where it is")
    state = home / "runtime.json"
    if state.exists():
        if any(processes.is_alive(pid) for pid in json.loads(state.read_text())["started"].values()):
            raise StartError(f"a runtime is up already ({state}); `gammaflow down` stops it")
        down(home)
    home.mkdir(parents=True, exist_ok=True)
    started: dict[str, int] = {}
    try:
        if kafka is None:
            say("Kafka broker")
            port = processes.free_port(ports[0], os.environ.get("GAMMAFLOW_KAFKA_PORT"))
            started["broker"] = broker.start(home / "broker", port, is_brief=is_brief)
            kafka = f"127.0.0.1:{port}"
        say("topics")
        topics.create(kafka, partitions_wanted())
        if flink is None:
            say("Flink cluster")
            layers = conf or {}
            if is_highly_available:
                started["zookeeper"], settings = zookeeper.start(home / "zookeeper")
                layers = {**layers, **settings}
            port = processes.free_port(ports[1], os.environ.get("GAMMAFLOW_FLINK_PORT"))
            started |= cluster.start(home / "flink", port, taskmanagers, layers, is_brief)
            flink = f"127.0.0.1:{port}"
        else:
            cluster.write_conf(home / "flink", ["config"], conf or {})
        runtime = Runtime(kafka, flink, str(home), started, is_brief)
        _remember(runtime)
    except BaseException:
        processes.stop(list(started.values()))
        raise
    return runtime


def _remember(runtime: Runtime) -> None:
    (Path(runtime.home) / "runtime.json").write_text(json.dumps(asdict(runtime)))


def restart(runtime: Runtime, name: str) -> None:
    """Start a process of the runtime that has ended again, with its old address and its stored data."""
    home = Path(runtime.home)
    if name == "broker":
        port = int(runtime.kafka.rpartition(":")[2])
        runtime.started[name] = broker.start(home / "broker", port, is_brief=runtime.is_brief)
    else:
        runtime.started[name] = cluster.start_process(home / "flink", name)
    _remember(runtime)


def partitions_wanted() -> int:
    """The number of partitions of new topics.  Raises `StartError` if GAMMAFLOW_PARTITIONS is not a valid number."""
    text = os.environ.get("GAMMAFLOW_PARTITIONS", str(topics.PARTITIONS))
    if not text.isdecimal() or not 0 < int(text) <= topics.MAX_PARTITIONS:
        raise StartError(f"GAMMAFLOW_PARTITIONS: expected a number from 1 to {topics.MAX_PARTITIONS}, got {text!r}")
    return int(text)


def down(home: Path) -> bool:
    """Stop the runtime that `up` started under `home` and remove its data, except the logs.  False if there was none."""
    state = home / "runtime.json"
    if not state.exists():
        return False
    with processes.uninterrupted():
        processes.stop(list(json.loads(state.read_text())["started"].values()))
        for name in ("broker", "zookeeper", "flink", "checkpoints", "changelog", "savepoints"):
            shutil.rmtree(home / name, ignore_errors=True)
        state.unlink()
    return True


def current(home: Path) -> Runtime:
    """The runtime that is up: the user's own, or the embedded one under `home`.  Raises `StartError` if there is none."""
    state = home / "runtime.json"
    if state.exists():
        runtime = Runtime(**json.loads(state.read_text()))
        if all(processes.is_alive(pid) for pid in runtime.pids):
            return runtime
        raise StartError(f"a process of the runtime has died (logs in {runtime.logs}); `gammaflow down`, then up again")
    kafka, flink = os.environ.get("GAMMAFLOW_KAFKA"), os.environ.get("GAMMAFLOW_FLINK")
    if kafka and flink:
        cluster.write_conf(home / "flink", ["config"])
        return Runtime(kafka, flink, str(home), {})
    raise StartError("nothing is up: `gammaflow up` starts the embedded runtime")


@contextmanager
def temporary(
    conf: dict[str, Any] | None = None,
    taskmanagers: int = 1,
    say: Callable[[str], None] = lambda _: None,
    ports: tuple[int, int] = ANY_PORTS,
    is_highly_available: bool = False,
    is_brief: bool = False,
) -> Iterator[Runtime]:
    """A runtime in a temporary folder, stopped and removed at the end; arguments as in `up`."""
    home = Path(tempfile.mkdtemp(prefix="gammaflow-"))
    try:
        yield up(home, conf, taskmanagers, say, ports, is_highly_available, is_brief)
    finally:
        with processes.uninterrupted():
            down(home)
            shutil.rmtree(home, ignore_errors=True)


def slots_needed(names: Sequence[str], parallelism: int) -> int:
    """How many task slots jobs need: each as many as the parallelism, for all operators of a job share them."""
    return len(names) * parallelism


def taskmanagers_needed(names: Sequence[str], parallelism: int) -> int:
    """How many TaskManagers an embedded cluster needs for these jobs.  Raises `StartError` for too many.

    A cluster of the user's own is not changed.
    """
    if os.environ.get("GAMMAFLOW_FLINK"):
        return 1
    slots, each = slots_needed(names, parallelism), cluster.slots_of_taskmanager()
    count = -(-slots // each)
    if count > MAX_TASKMANAGERS:
        raise StartError(
            f"{len(names)} jobs at parallelism {parallelism} need {slots} task slots; an embedded cluster has at most "
            f"{MAX_TASKMANAGERS * each}. Lower the parallelism, name fewer jobs, or let GAMMAFLOW_FLINK name a larger cluster"
        )
    return count


def submit(
    runtime: Runtime,
    names: list[str],
    parallelism: int = 1,
    settings: dict[str, str] | None = None,
    archive: Path | None = None,
    archive_interval: str = "60 s",
    savepoints: dict[str, str] | None = None,
    changed: Mapping[str, str] | None = None,
) -> None:
    """Submit jobs with `flink run`, as to any cluster, and wait until their tasks run.

    `settings` are Flink options for these jobs; `archive` is the folder of the archive job; `savepoints` are those to restore,
    by job; `changed` is as in `bundle`.  Raises `StartError`, also if the embedded cluster has not enough task slots, and
    `FlinkError` for a job that does not start; the cluster goes on trying.
    """
    for name in names:
        jobs.job(name)
    partitions = topics.partitions(runtime.kafka)
    if parallelism > partitions:
        raise StartError(f"parallelism {parallelism}: a job has at most as many tasks as topics have partitions, {partitions}")
    if runtime.taskmanagers:
        _await_slots(runtime, names, parallelism)
    home = Path(runtime.home)
    paths = savepoints or {}
    for name, path in paths.items():
        contracts.check(path, name, partitions)
    variables = {
        "GAMMAFLOW_ARCHIVE": (archive or home / "archive").resolve().as_uri(),
        "GAMMAFLOW_ARCHIVE_INTERVAL": archive_interval,
    }
    arguments = ["-pym", "engine.run", *(f"{name}={paths[name]}" if name in paths else name for name in names)]
    try:
        flink_run(runtime, names, arguments, parallelism, settings, variables, changed)
    except FlinkError as error:
        if missing := _slots_missing(runtime, names, parallelism):
            raise FlinkError(f"{error}; {missing}") from error
        users = ", ".join(dict.fromkeys(security.manner(name) for name in names))
        raise FlinkError(f"{error}; to Kafka at {runtime.kafka} they speak {users}") from error


def _await_slots(runtime: Runtime, names: Sequence[str], parallelism: int) -> None:
    """Return once there are task slots for these jobs.  Raises `StartError` if there are none after `FREE_S`."""
    deadline = time.monotonic() + FREE_S
    needed = slots_needed(names, parallelism)
    while (overview := runtime.rest.get("/overview"))["slots-available"] < needed:
        if time.monotonic() > deadline:
            taken = overview["slots-total"] - overview["slots-available"]
            taskmanagers = -(-(needed + taken) // cluster.slots_of_taskmanager())
            raise StartError(
                f"{len(names)} jobs at parallelism {parallelism} need {needed} task slots; the cluster at {runtime.flink} has "
                f"{overview['slots-available']} of {overview['slots-total']} free. Lower the parallelism, name fewer jobs, "
                f"or start it with more: `gammaflow up --taskmanagers {taskmanagers}`"
            )
        time.sleep(POLL_S)


def _slots_missing(runtime: Runtime, names: Sequence[str], parallelism: int) -> str:
    """A message, if submitted jobs wait for task slots; otherwise an empty text."""
    with suppress(FlinkError):
        overview, active = runtime.rest.get("/overview"), runtime.rest.active()
        is_waiting = any(name not in active or not active[name].is_running for name in names)
        if is_waiting and not overview["slots-available"]:
            needed = slots_needed(names, parallelism)
            return (
                f"{len(names)} jobs at parallelism {parallelism} need {needed} task slots, and of the "
                f"{overview['slots-total']} of the cluster at {runtime.flink} none is free"
            )
    return ""


def flink_run(
    runtime: Runtime,
    names: list[str],
    arguments: list[str],
    parallelism: int = 1,
    settings: dict[str, str] | None = None,
    variables: dict[str, str] | None = None,
    changed: Mapping[str, str] | None = None,
) -> None:
    """Call `flink run` with our code, and wait until the tasks of the submitted jobs, `names`, run.

    `arguments` say what to run; `settings` are Flink options, `variables` are for the environment; `changed` is as in `bundle`.
    Raises `StartError`.
    """
    home = Path(runtime.home)
    env = {
        **cluster.environment(home / "flink"),
        "GAMMAFLOW_KAFKA": runtime.kafka,
        "GAMMAFLOW_PARTITIONS": str(topics.partitions(runtime.kafka)),
        **(variables or {}),
    }
    options = [f"-D{key}={value}" for key, value in (settings or {}).items()]
    command = [
        f"{env['FLINK_BIN_DIR']}/flink",
        *("run", "-d", "-m", runtime.flink, "-p", str(parallelism), *options),
        *("-pyfs", str(bundle(home, changed)), *arguments),
    ]
    log = runtime.logs / "submit.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        # From a folder without our code, which Python would import instead of the bundle's; the two may differ.
        code = subprocess.run(command, cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode
    if code:
        raise StartError(f"submitting {', '.join(names)} failed; the end of {log}:\n{_cause(log)}")
    runtime.rest.wait_running(names)


def stop(runtime: Runtime, name: str) -> str:
    """Stop a job with a savepoint, and note what it holds; returns its path.  Raises `FlinkError`, `KeyError` if none runs."""
    savepoint = runtime.rest.stop(runtime.rest.active()[name], (Path(runtime.home) / "savepoints").as_uri())
    if jobs.is_known(name):
        contracts.note(savepoint, name, topics.partitions(runtime.kafka))
    return savepoint


def bundle(home: Path, changed: Mapping[str, str] | None = None) -> Path:
    """Our code as the zip file that is submitted with a job; `changed` are texts of other or new files, by path."""
    path = home / "gammaflow.zip"
    files: dict[str, str | bytes] = {}
    for folder in SHIPPED:
        for file in sorted((cluster.ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".sql", ".json"):
                files[file.relative_to(cluster.ROOT).as_posix()] = file.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, **(changed or {})}.items():
            archive.writestr(name, content)
    return path


def _cause(log: Path) -> str:
    causes = [line for line in log.read_text(errors="replace").splitlines() if "Caused by" in line or "Exception" in line]
    return "\n".join(causes[-4:]) or processes.tail(log)


def wait_read(runtime: Runtime, name: str, timeout_s: float = 600.0, is_end: bool = False) -> None:
    """Return once a job has read and checkpointed all records that its topics have now.  Raises `StartError`, `FlinkError`.

    `is_end` says that the feeds have ended, and write no more heartbeats.  A job that is restored then does not remember the
    time of partitions that it has read to their ends, and would wait for them.  So the last time is repeated to it.

    Its metrics show the read position.  So does its consumer group, but 10 s later if topics are quiet: a source that waits for
    records does not commit the offsets of a checkpoint.
    """
    declared = jobs.job(name)
    # Named as in metrics; also topics of earlier versions, which a job goes on reading.
    topic_of = {topic.replace(".", "_"): topic for topic in TABLE_OF}
    deadline = time.monotonic() + timeout_s
    repeated = time.monotonic()
    ends: dict[tuple[str, int], int] = {}
    while True:
        job = runtime.rest.active().get(name)
        if job is None:
            raise StartError(f"job {name} is no longer running; logs in {runtime.logs}")
        read = {(topic_of[topic], part): offset for (topic, part), offset in runtime.rest.read(job).items()}
        also = [table for table in declared.may_read if any(TABLE_OF.get(topic) == table for topic, _ in read)]
        tables = [*declared.reads, *also]
        # Those that a loop writes never rest: its jobs repeat their heartbeats.
        ends = ends or topics.ends(runtime.kafka, tables)
        is_read = all(end <= read.get(part, 0) for part, end in ends.items())
        if (is_read or not topics.lag(runtime.kafka, name, tables, read, ends)) and runtime.rest.checkpoint(job):
            return
        if time.monotonic() > deadline:
            raise StartError(f"job {name} has not read its topics after {timeout_s:.0f} s; logs in {runtime.logs}")
        if is_end and time.monotonic() > repeated + REPEAT_S and runtime.rest.is_restored(job):
            topics.repeat_time(runtime.kafka, [*declared.reads, *declared.may_read])
            repeated = time.monotonic()
        time.sleep(0.3)


def drain(runtime: Runtime, names: list[str], timeout_s: float = 600.0, also_read: Collection[str] = ()) -> None:
    """Let each job read all records within `timeout_s`, and finish after the jobs whose rows it reads.

    Jobs of a loop finish when all of them have told the time that feeds told last.  `also_read` is their setting.
    """
    circle = [name for name in jobs.loop(also_read) if name in names]
    if circle:
        wait_told(runtime, circle, timeout_s)

    def finish(name: str) -> None:
        wait_read(runtime, name, timeout_s, is_end=True)
        runtime.rest.drain(runtime.rest.active()[name], (Path(runtime.home) / "savepoints").as_uri())

    in_flow(names, finish)


def in_flow(names: Collection[str], do: Callable[[str], None]) -> None:
    """Do something with each job, after those whose rows it reads; with others side by side."""
    done: dict[str, Future[None]] = {}

    def after(name: str, before: list[Future[None]]) -> None:
        for job in before:
            job.result()
        do(name)

    with ThreadPoolExecutor(len(names)) as pool:
        for name in sorted(names, key=jobs.position):
            reads = {*jobs.job(name).reads, *jobs.job(name).may_read}
            before = [future for job, future in done.items() if not set(jobs.job(job).writes).isdisjoint(reads)]
            done[name] = pool.submit(after, name, before)
    for job in done.values():
        job.result()


def wait_told(runtime: Runtime, names: list[str], timeout_s: float = 600.0) -> None:
    """Return once the jobs of a loop have told the newest time of feeds, less `TOLD_WITHIN_MS`.

    Raises `StartError`, `TopicError`.
    """
    reads = {table for name in names for table in jobs.job(name).reads}
    feeds = reads & {TABLE_OF[topic] for topic in jobs.feed_topics()}
    until_ms = max(topics.newest_ms(runtime.kafka, feeds).values(), default=-1) - TOLD_WITHIN_MS
    deadline = time.monotonic() + timeout_s
    for name in names:
        tables = jobs.job(name).tells_time
        while slow := [part for part, at_ms in topics.newest_ms(runtime.kafka, tables).items() if at_ms < until_ms]:
            if name not in runtime.rest.active():
                raise StartError(f"job {name} is no longer running; logs in {runtime.logs}")
            if time.monotonic() > deadline:
                where = f"{slow[0][0]}/{slow[0][1]} after {timeout_s:.0f} s"
                raise StartError(f"job {name} has not told the time in {where}; logs in {runtime.logs}")
            time.sleep(0.3)
