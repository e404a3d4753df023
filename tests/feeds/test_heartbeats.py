"""Heartbeats say what time it is in every partition."""

from feeds.heartbeats import Heartbeats


def told(beats: list[tuple[str, int, int]]) -> Heartbeats:
    """Heartbeats of a topic of two partitions, each 20 ms."""
    return Heartbeats([("t", 0), ("t", 1)], 20, lambda *beat: beats.append(beat))


def test_every_partition_is_told_the_time() -> None:
    beats: list[tuple[str, int, int]] = []
    told(beats).tell(1_010)
    assert beats == [("t", 0, 1_010), ("t", 1, 1_010)]


def test_heartbeats_are_due_when_their_time_is_over() -> None:
    heartbeats = told([])
    assert heartbeats.is_due(1_000)
    heartbeats.tell(1_000)
    assert not heartbeats.is_due(1_019)
    assert heartbeats.is_due(1_020)
