"""What is known of the jobs on the cluster, asked every few seconds while somebody looks at the flow."""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

import jobs
from deploy.rest import Flink, FlinkError, Job
from page.store import Store
from schemas.clients import Unreachable, reached
from schemas.records import TABLES
from schemas.security import PAGE

EVERY_S = 5.0
ANSWERED_S = 10.0
CHECKPOINTS = 60
"""Of each job, how many of the newest are shown."""


class Cluster:
    """Puts into a store what broker and cluster say of the jobs, in a thread, while somebody looks.

    flink  host:port of the REST interface; None: only the broker is asked
    """

    def __init__(self, servers: str, flink: str | None, store: Store) -> None:
        self._servers, self._rest, self._store = servers, None if flink is None else Flink(flink), store
        self._is_watched, self._stop = Event(), Event()
        self._admin: AdminClient | None = None
        self._existing: dict[str, int] = {}
        self._thread = Thread(target=self._run, name="page-flink", daemon=True)
        self._thread.start()

    def watch(self, is_watched: bool) -> None:
        """Somebody looks, or nobody does."""
        if is_watched:
            self._is_watched.set()
        else:
            self._is_watched.clear()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._is_watched.set()
        self._thread.join(timeout=0.3)

    def _run(self) -> None:
        while self._is_watched.wait() and not self._stop.is_set():
            begun_s = time.monotonic()
            self._store.put_cluster(self.asked())
            self._stop.wait(max(0.5, EVERY_S - (time.monotonic() - begun_s)))

    def asked(self) -> dict[str, Any]:
        """What is known now; where something does not answer, `trouble` says so."""
        known: dict[str, Any] = {"jobs": {}, "topics": {}, "trouble": None}
        try:
            ends, newest_ms = self._topics()
            known["topics"] = newest_ms
            if self._rest is not None:
                for name, job in self._newest_jobs().items():
                    known["jobs"][name] = self._job(job) | {"lag": self._lag(name, ends)}
        except (Unreachable, KafkaException, FlinkError) as error:
            self._admin = None
            known["trouble"] = str(error)
        if self._rest is None:
            known["trouble"] = known["trouble"] or "no cluster is known: GAMMAFLOW_FLINK says where it is"
        return known

    def _newest_jobs(self) -> dict[str, Job]:
        assert self._rest is not None
        newest: dict[str, Job] = {}
        for job in self._rest.jobs():
            newest.setdefault(job.name, job)
        return newest

    def _job(self, job: Job) -> dict[str, Any]:
        assert self._rest is not None
        told = self._rest.checkpoints(job)
        restarts = self._rest.get(f"/jobs/{job.id}/metrics?get=numRestarts")
        is_active = job.state not in ("FINISHED", "FAILED", "CANCELED")
        cause = ""
        if job.state in ("FAILED", "RESTARTING", "FAILING"):
            with suppress(FlinkError):
                cause = self._rest.failure(job)
        return {
            "state": job.state,
            "tasks": [job.running, job.tasks],
            "up_s": job.duration_s,
            "watermark_ms": self._rest.watermark_ms(job) if is_active else None,
            "restarts": int(float(restarts[0]["value"])) if restarts else None,
            "cause": cause,
            **checkpoints(told),
        }

    def _topics(self) -> tuple[dict[tuple[str, int], int], dict[str, int]]:
        """The end of every partition, and by table the time of its newest record."""
        if self._admin is None:
            self._admin, self._existing = reached(AdminClient, self._servers, PAGE, {"log_level": 2}, timeout_s=ANSWERED_S)
        admin: AdminClient = self._admin
        names = {table.topic: name for name, table in TABLES.items() if table.topic in self._existing}
        parts = [TopicPartition(topic, part) for topic in names for part in range(self._existing[topic])]
        asked = {kind: admin.list_offsets(dict.fromkeys(parts, spec)) for kind, spec in _ASKED.items()} if parts else {}
        ends: dict[tuple[str, int], int] = {}
        newest_ms: dict[str, int] = {}
        for kind, answers in asked.items():
            for part, answer in answers.items():
                told = answer.result(timeout=ANSWERED_S)
                if kind == "end":
                    ends[part.topic, part.partition] = told.offset
                else:
                    name = names[part.topic]
                    newest_ms[name] = max(newest_ms.get(name, 0), told.timestamp)
        return ends, newest_ms

    def _lag(self, name: str, ends: Mapping[tuple[str, int], int]) -> int | None:
        """How many records of its topics a job has not yet read and checkpointed; None for a job that we do not know."""
        assert self._admin is not None
        if not jobs.is_known(name):
            return None
        topics = {TABLES[table].topic for table in jobs.job(name).reads}
        (future,) = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)]).values()
        told: list[TopicPartition] = future.result(timeout=ANSWERED_S).topic_partitions
        done: dict[tuple[str, int], int] = {(part.topic, part.partition): part.offset for part in told}
        return sum(max(0, end - max(0, done.get(part, 0))) for part, end in ends.items() if part[0] in topics)


_ASKED = {"end": OffsetSpec.latest(), "newest": OffsetSpec.max_timestamp()}


def checkpoints(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a job's checkpoint statistics (Flink's /jobs/<id>/checkpoints)."""
    history = deque(told.get("history", []), CHECKPOINTS)
    newest = told["latest"]["completed"]
    return {
        "done": told["counts"]["completed"],
        "failed": told["counts"]["failed"],
        "took_ms": newest["end_to_end_duration"] if newest else None,
        "bytes": newest["state_size"] if newest else None,
        "ended_ms": newest["latest_ack_timestamp"] if newest else None,
        "history": [[row["trigger_timestamp"], row["end_to_end_duration"], row["status"]] for row in history],
    }
