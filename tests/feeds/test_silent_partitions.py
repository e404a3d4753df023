"""Heartbeats tell the time where no record does."""

from feeds.heartbeats import Heartbeats


def told(beats: list[tuple[str, int, int]]) -> tuple[Heartbeats, list[tuple[str, int, int]]]:
    """Heartbeats of a topic of two partitions, each 20 ms."""
    return Heartbeats([("t", 0), ("t", 1)], 20, lambda *beat: beats.append(beat)), beats


def test_only_a_silent_partition_is_told_the_time() -> None:
    heartbeats, beats = told([])
    heartbeats.note("t", 0, 1_000)
    heartbeats.tell(1_010)
    assert beats == [("t", 1, 1_010)]
    heartbeats.tell(1_030)
    assert beats[1:] == [("t", 0, 1_030), ("t", 1, 1_030)]


def test_heartbeats_are_due_when_their_time_is_over() -> None:
    heartbeats, _ = told([])
    assert heartbeats.is_due(1_000)
    heartbeats.tell(1_000)
    assert not heartbeats.is_due(1_019)
    assert heartbeats.is_due(1_020)


def test_a_record_of_another_topic_or_an_earlier_time_changes_nothing() -> None:
    heartbeats, beats = told([])
    heartbeats.note("other", 0, 5_000)
    heartbeats.note("t", 0, 1_000)
    heartbeats.note("t", 0, 10)
    heartbeats.tell(1_005)
    assert beats == [("t", 1, 1_005)]
