"""Rows from Kafka: read back when somebody looks, followed, and read anew from another broker."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from deploy.topics import TopicError
from page import listening
from page.listening import Listening, decoded
from page.store import Store
from page.tables import TABLES as KEPT
from schemas.records import TABLES
from tests.page.given import PERP, T0, VENUE, control, margin, trade


class Broker:
    """Topics of two partitions in memory, each a list of (key, value); its consumers are those that `Listening` asks for."""

    def __init__(self, name: str) -> None:
        self.name, self.is_away = name, False
        self.logs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
        for table in ("trades", "account_margin", "trading_controls"):
            self.logs |= {(TABLES[table].topic, part): [] for part in range(2)}
        self.read: list[tuple[str, int, int]] = []  # where reading began

    def append(self, table: str, row: Any, key: str | None = None, part: int = 0) -> None:
        value = row if row is None or isinstance(row, bytes) else orjson.dumps(row)
        self.logs[TABLES[table].topic, part].append((None if key is None else key.encode(), value))


class Consumer:
    def __init__(self, brokers: list[Broker]) -> None:
        self.brokers, self.next = brokers, {}  # type: ignore[var-annotated]

    @property
    def broker(self) -> Broker:
        if self.brokers[-1].is_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return self.brokers[-1]

    def list_topics(self, timeout: float) -> Any:
        topics = {topic: SimpleNamespace(partitions=[0, 1]) for topic, _ in self.broker.logs}
        return SimpleNamespace(cluster_id=self.broker.name, topics=topics)

    def get_watermark_offsets(self, part: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, len(self.broker.logs[part.topic, part.partition])

    def incremental_assign(self, parts: list[TopicPartition]) -> None:
        self.next |= {(part.topic, part.partition): part.offset for part in parts}
        self.broker.read += [(part.topic, part.partition, part.offset) for part in parts]

    def incremental_unassign(self, parts: list[TopicPartition]) -> None:
        for part in parts:
            del self.next[part.topic, part.partition]

    def consume(self, count: int, timeout: float) -> list[Any]:
        told: list[Any] = []
        if not self.brokers[-1].is_away:
            for part, offset in self.next.items():
                log = self.brokers[-1].logs[part]
                told += [message(part, at, log[at]) for at in range(offset, len(log))]
                self.next[part] = max(offset, len(log))
        if not told:
            time.sleep(0.002)
        return told

    def close(self) -> None:
        pass


def message(at: tuple[str, int], offset: int, record: tuple[bytes | None, bytes | None]) -> Any:
    (topic, part), (key, value) = at, record
    told = {"topic": topic, "partition": part, "offset": offset, "key": key, "value": value, "error": None}
    return SimpleNamespace(
        **{name: (lambda value=value: value) for name, value in told.items()}, timestamp=lambda: (1, T0 + offset)
    )


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[Broker]:
    """The broker that is reached is the last one."""
    found = [Broker("one")]

    def consuming(servers: str, group: str, settings: Any, role: str) -> tuple[Consumer, dict[str, int]]:
        assert role == "page"
        if found[-1].is_away:
            raise TopicError("no Kafka broker answers")
        return Consumer(found), {topic: 2 for topic, _ in found[-1].logs}

    monkeypatch.setattr("deploy.topics.consuming", consuming)
    monkeypatch.setattr(listening, "ASK_S", 0.02)
    monkeypatch.setattr(listening, "RETRY_S", 0.01)
    monkeypatch.setattr(listening, "LEFT_S", 0.05)
    return found


def soon(condition: Callable[[], Any]) -> bool:
    deadline_s = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline_s:
        threading.Event().wait(0.003)
    return bool(condition())


def accounts(store: Store) -> dict[str, float]:
    return {row["account"]: row["margin_ratio"] for row in store.newest("account_margin")}


def test_a_topic_is_read_back_when_somebody_looks_and_not_before(
    brokers: list[Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "KEPT", {**KEPT, "account_margin": KEPT["account_margin"]._replace(tail=3)})
    for n in range(5):
        brokers[0].append("account_margin", margin(f"a{n}", n, 0.1))
    store, heard = Store(), None
    try:
        heard = Listening("broker", store)
        assert brokers[0].read == []
        heard.watch({"account_margin", "_second"})
        assert soon(lambda: accounts(store).keys() == {"a2", "a3", "a4"})
        assert set(brokers[0].read) == {(TABLES["account_margin"].topic, 0, 2), (TABLES["account_margin"].topic, 1, 0)}
        brokers[0].append("account_margin", margin("b", 9, 0.7), part=1)
        assert soon(lambda: accounts(store).get("b") == 0.7)
    finally:
        if heard is not None:
            heard.close()


def test_what_nobody_looks_at_any_more_is_left_and_forgotten_a_while_later(brokers: list[Broker]) -> None:
    store = Store()
    brokers[0].append("account_margin", margin("ann", 1, 0.1))
    heard = Listening("broker", store)
    try:
        heard.watch({"account_margin"})
        assert soon(lambda: accounts(store))
        heard.watch({"trades"})
        assert soon(lambda: not accounts(store))
        brokers[0].append("account_margin", margin("bob", 2, 0.1))
        brokers[0].append("trades", trade(5, 100.0))
        assert soon(lambda: store.since("trades", 0, venue=VENUE, instrument=PERP)[0])
        assert accounts(store) == {}
    finally:
        heard.close()


def test_a_broker_that_is_away_is_told_and_one_that_comes_back_is_read_anew(brokers: list[Broker]) -> None:
    store = Store()
    brokers[0].append("account_margin", margin("ann", 1, 0.1))
    heard = Listening("broker", store)
    try:
        heard.watch({"account_margin"})
        assert soon(lambda: accounts(store) == {"ann": 0.1})
        brokers[0].is_away = True
        assert soon(lambda: store.trouble)
        assert accounts(store) == {"ann": 0.1}, "the last known rows stay, under the word that they are old"
        brokers[0].append("account_margin", margin("ann", 2, 0.2))
        brokers[0].is_away = False
        assert soon(lambda: store.trouble is None and accounts(store) == {"ann": 0.2})
    finally:
        heard.close()


def test_another_broker_at_the_same_address_has_other_rows(brokers: list[Broker]) -> None:
    store = Store()
    brokers[0].append("account_margin", margin("ann", 9_000, 0.1))
    heard = Listening("broker", store)
    try:
        heard.watch({"account_margin"})
        assert soon(lambda: accounts(store))
        epoch = store.epoch
        other = Broker("two")
        other.append("account_margin", margin("bob", 1, 0.3))
        brokers.append(other)
        assert soon(lambda: accounts(store) == {"bob": 0.3})
        assert store.epoch > epoch
    finally:
        heard.close()


def test_a_control_that_is_taken_back_is_not_in_force(brokers: list[Broker]) -> None:
    store = Store()
    heard = Listening("broker", store)
    try:
        heard.watch({"trading_controls"})
        brokers[0].append("trading_controls", control("all", "halt", 1), "all")
        assert soon(lambda: store.newest("trading_controls"))
        brokers[0].append("trading_controls", None, "all")
        assert soon(lambda: not store.newest("trading_controls"))
    finally:
        heard.close()


def test_what_is_no_row_is_left_out_and_the_rows_beside_it_are_kept() -> None:
    good, bad = trade(1, 100.0), trade(2, 100.0) | {"price": "much"}
    assert decoded("trades", orjson.dumps([good, bad, good])) == [good, good]
    assert decoded("trades", b"{not json") == []
    assert decoded("trading_controls", orjson.dumps(control("all", "halt", 1) | {"mode": "sing"})) == []
