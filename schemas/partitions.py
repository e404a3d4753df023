"""Which partition a key belongs to."""

from functools import lru_cache


@lru_cache(maxsize=100_000)
def partition_of(key: str, partitions: int) -> int:
    """The partition that Kafka's own producers, and Flink's sinks, choose for a key."""
    from kafka.partitioner.default import murmur2  # a client of its own, which takes a second to load

    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
