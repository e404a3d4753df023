"""A feed as a command: which market, and until when."""

import asyncio
import difflib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from feeds import live, resync
from feeds.capture import Tally
from feeds.keeper import Keeper
from feeds.publish import Publisher
from feeds.service import Feed
from feeds.times import writer_name
from feeds.venues import VENUES


def market_feed(market: str, patterns: list[str], publisher: Publisher, **options: Any) -> Feed:
    """A feed of a venue's market.  Raises `ValueError` for an unknown market, and for a proxy that is none of HTTP."""
    if odd := [path for path in options.get("paths", ()) if not path.startswith(("http://", "https://"))]:
        raise ValueError(f"--via: expected http://host:port, got {odd[0]!r}")
    venues = {name: venue for venue in VENUES.values() for name in venue.MARKETS}
    if market not in venues:
        near = difflib.get_close_matches(market, venues, 3, 0.4)
        raise ValueError(f"no market {market!r}; there are {', '.join(sorted(venues))}{f'. Is it {near[0]}?' if near else ''}")
    return Feed(venues[market].session(market), patterns, publisher, **options)


@contextmanager
def publishing(servers: str, subject: str) -> Iterator[Publisher]:
    """A publisher among others: it reports its time, and its process may become the keeper.  Raises `PublishError`."""
    with Keeper(servers), Publisher(servers, writer=writer_name(subject)) as publisher:
        yield publisher


async def serve(running: Feed, publisher: Publisher, seconds: float | None = None) -> Tally:
    """Publish an exchange's messages, for `seconds` or until SIGTERM or Ctrl-C, and serve requests for fresh books."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = asyncio.create_task(live.keep_time(publisher))
    clock.add_done_callback(lambda _: stop.set())  # what cannot be told stops the feed
    try:
        with resync.requests(publisher.servers) as resyncs:
            running.resyncs = resyncs
            await running.serve(stop)
        if clock.done():
            clock.result()
    finally:
        clock.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return running.tally
