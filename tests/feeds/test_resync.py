"""Requests for fresh books: what is one, and that each reaches the reader once."""

import asyncio
import logging
import time
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from deploy.runtime import Runtime
from feeds import Record, resync
from feeds.publish import Publisher
from feeds.resync import Resync, ResyncError, parsed, requests
from schemas.rows import encoded, instant_ms

NOW_MS = time.time_ns() // 1_000_000


def row(instrument: str, **fields: Any) -> dict[str, Any]:
    told = {"venue": "resync_venue", "instrument": instrument, "event_at": instant_ms(NOW_MS), "sequence": 5, "reason": "gap"}
    return {**told, **fields}


def test_a_row_is_a_request_and_a_heartbeat_is_none() -> None:
    assert parsed(encoded(row("BTCUSDT"))) == Resync("resync_venue", "BTCUSDT", NOW_MS, "gap")
    assert parsed(encoded(row("BTCUSDT", sequence=None))) == Resync("resync_venue", "BTCUSDT", NOW_MS, "gap")
    assert parsed(None) is None


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"{", "None"),
        (b"7", "None"),
        (encoded(row("A", event_at="soon")), "event_at"),
        (encoded(row("A", venue=None)), "venue"),
    ],
    ids=["half of JSON", "a number", "no time", "no venue"],
)
def test_what_is_no_request_is_said_and_passed_over(value: bytes, named: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert parsed(value) is None
    assert f"resync_requests.v1: {named}: expected" in caplog.text


def test_without_a_broker_the_error_names_it() -> None:
    async def scenario() -> None:
        with requests("127.0.0.1:1", timeout_s=0.5):
            pass

    with pytest.raises(ResyncError, match=r"resync_requests.v1 on 127.0.0.1:1"):
        asyncio.run(scenario())


def test_a_broker_that_has_just_started_is_asked_again() -> None:
    answers: list[Any] = [KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)), (0, 7)]
    consumer = mock.Mock()
    consumer.get_watermark_offsets.side_effect = answers
    assert resync._end(consumer, TopicPartition("topic", 0), time.monotonic() + 10) == 7
    consumer.get_watermark_offsets.side_effect = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        resync._end(consumer, TopicPartition("topic", 0), time.monotonic() + 10)


def test_every_request_from_now_on_is_heard_and_none_of_before(suite: Runtime) -> None:
    def publish(*rows: dict[str, Any]) -> None:
        with Publisher(suite.kafka) as publisher:
            for one in rows:
                publisher.publish(Record("resync_requests", NOW_MS, one))

    async def scenario() -> list[str]:
        async with asyncio.timeout(60):
            with requests(suite.kafka) as queue:
                await asyncio.to_thread(publish, row("B"), row("bad", event_at="soon"), row("B"), row("C"))
                heard = [await queue.get() for _ in range(3)]
        return [resync.instrument for resync in heard if resync.venue == "resync_venue"]

    publish(row("A"))
    assert sorted(asyncio.run(scenario())) == ["B", "B", "C"]
