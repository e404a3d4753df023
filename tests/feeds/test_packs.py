"""Rows that share a record are of its instant, and nothing of them is lost, moved or told apart from the others."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.packs import MAX_BYTES, Packs
from schemas.partitions import partition_of
from schemas.rows import instant_us, parted

PARTITIONS = 4
T0 = 1_700_000_000_000

Sent = list[tuple[int, str | None, bytes, int]]
# Name, event time and time of receipt in microseconds, since a start.
rows = st.lists(st.tuples(st.sampled_from("ABCDEFGH"), st.integers(0, 3), st.integers(0, 4_000)), max_size=40)


def packed(given_rows: list[tuple[str, int, int]], partitions: int = PARTITIONS) -> tuple[Sent, list[dict[str, object]]]:
    sent: Sent = []
    packs = Packs(partitions, lambda *record: sent.append(record))
    made: list[dict[str, object]] = []
    for number, (name, ms, us) in enumerate(given_rows):
        made.append({"name": name, "number": number, "received_at": instant_us(T0 * 1000 + us)})
        packs.add(made[-1], name, orjson.dumps(made[-1]), T0 + ms)
    packs.ship()
    packs.ship()
    return sent, made


@given(rows)
def test_every_row_is_in_its_partition_in_its_order(given_rows: list[tuple[str, int, int]]) -> None:
    sent, made = packed(given_rows)
    for partition in range(PARTITIONS):
        found = [orjson.loads(row) for part, _, value, _ in sent for row in parted(value) if part == partition]
        assert found == [row for row in made if partition_of(str(row["name"]), PARTITIONS) == partition]


@given(rows)
def test_the_rows_of_a_record_are_of_its_instant_and_its_key(given_rows: list[tuple[str, int, int]]) -> None:
    for _, key, value, event_ms in packed(given_rows)[0]:
        found = [orjson.loads(row) for row in parted(value)]
        assert {T0 + given_rows[row["number"]][1] for row in found} == {event_ms}
        assert len({row["received_at"][:23] for row in found}) == 1
        names = {row["name"] for row in found}
        assert key == (names.pop() if len(names) == 1 else None)
        assert value == orjson.dumps(found if len(found) > 1 else found[0])


def test_rows_of_one_instant_share_a_record_for_each_partition() -> None:
    sent, _ = packed([(name, 0, 10 * number) for number, name in enumerate("ABCDEFGH" * 3)])
    assert len(sent) == len({partition_of(name, PARTITIONS) for name in "ABCDEFGH"})


def test_where_partitions_are_not_known_each_row_is_sent_alone() -> None:
    sent, made = packed([("A", 0, 0), ("B", 0, 0)], partitions=0)
    assert sent == [(-1, row["name"], orjson.dumps(row), T0) for row in made]


def test_a_record_has_no_more_bytes_than_a_broker_takes() -> None:
    sent: Sent = []
    packs = Packs(1, lambda *record: sent.append(record))
    for size in (MAX_BYTES // 2, MAX_BYTES // 2, 100, 3 * MAX_BYTES, 100):
        packs.add({}, "A", b'{"a":"%s"}' % (b"x" * size), T0)
    packs.ship()
    assert [len(parted(value)) for _, _, value, _ in sent] == [1, 2, 1, 1]
    assert all(len(value) < MAX_BYTES + 100 or len(parted(value)) == 1 for _, _, value, _ in sent)


@pytest.mark.parametrize(
    ("key", "murmur2"),
    # Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2.
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_a_key_is_where_the_producers_of_kafka_put_it(key: str, murmur2: int) -> None:
    assert partition_of(key, 2**31) == murmur2 & 0x7FFFFFFF
    assert partition_of(key, 7) == (murmur2 & 0x7FFFFFFF) % 7
