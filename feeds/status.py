"""What a feed says of itself, in the topic `feed_status`, to people who look from elsewhere."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable

from feeds import Record
from feeds.publish import Publisher, PublishError
from feeds.service import Feed
from schemas.records import TABLES, FeedStatusRow
from schemas.rows import instant_ms, instant_us

VERSION = "0.1.0"
"""Of what runs: in a container our code is not an installed package that could be asked."""
EVERY_S = 5.0
"""Between two rows."""

_log = logging.getLogger(__name__)


class StatusWriter:
    """Writes how a feed is, every `EVERY_S`, and how it ended."""

    def __init__(self, name: str | None, feed: Feed, publisher: Publisher) -> None:
        """`name` is the feed's, unique among the feeds of a broker; None: its market and this host."""
        self.name = name or f"{feed.session.market}@{socket.gethostname()}"
        self._feed, self._publisher = feed, publisher
        self._started_ms = time.time_ns() // 1_000_000
        self._before = time.monotonic(), 0  # when the last row was written, and the messages then
        self._is_writable = publisher.is_writable("feed_status")
        if not self._is_writable:
            topic = TABLES["feed_status"].topic
            _log.warning("no topic %s that we may see: `gammaflow status` will not show %s", topic, self.name)

    def row(self, state: str, reason: str | None = None) -> FeedStatusRow:
        """How the feed is now."""
        counts, now_s = self._feed.counts, time.monotonic()
        messages = sum(connection.messages for connection in counts)
        newest_us = max((connection.newest_us for connection in counts if connection.messages), default=None)
        (before_s, before), self._before = self._before, (now_s, messages)
        return {
            "feed": self.name,
            "market": self._feed.session.market,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": VERSION,
            "started_at": instant_ms(self._started_ms),
            "event_at": instant_ms(time.time_ns() // 1_000_000),
            "state": state,
            "reason": reason,
            "symbols": len(self._feed.names),
            "connections_needed": sum(connection.is_needed() for connection in counts),
            "connections_open": sum(connection.is_open for connection in counts),
            "messages": messages,
            "messages_per_s": round((messages - before) / max(now_s - before_s, 0.001), 1),
            "newest_at": None if newest_us is None else instant_us(newest_us),
        }

    def write(self, state: str, reason: str | None = None) -> None:
        """Write how the feed is now.  Raises `PublishError`."""
        if self._is_writable:
            self._publisher.publish(Record("feed_status", time.time_ns() // 1_000_000, dict(self.row(state, reason))))

    async def watch(self, tick: Callable[[], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Write until it is cancelled; call `tick` each second."""
        while True:
            try:
                self.write("running" if self._feed.names else "starting")
            except PublishError as error:
                _log.warning("%s", error)  # the feed finds it too
            for _ in range(int(EVERY_S)):
                tick()
                await sleep(1.0)
