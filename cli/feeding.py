"""A feed as a command: which market or account, and until when."""

import asyncio
import difflib
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from feeds import live, resync
from feeds.capture import Tally
from feeds.private.keys import Keys, KeysError, read_file, read_keys
from feeds.private.resume import resume
from feeds.private.service import OVERLAP_MS, PrivateFeed, Published
from feeds.private.venues import SESSIONS
from feeds.publish import Publisher
from feeds.service import Feed
from feeds.venues import VENUES


def market_feed(market: str, patterns: list[str], publisher: Publisher, **options: Any) -> Feed:
    """A feed of a venue's market.  Raises `ValueError` for an unknown market, and for a proxy that is none of HTTP."""
    _check_paths(options.get("paths", ()))
    venues = {name: venue for venue in VENUES.values() for name in venue.MARKETS}
    _check_market(market, venues, "no market")
    return Feed(venues[market].session(market), patterns, publisher, **options)


def account_keys(market: str, path: Path | None) -> Keys:
    """The keys in a file, else those of the venue in the environment.  Raises `ValueError`, as does an unknown market."""
    _check_market(market, SESSIONS, "no private channel of")
    if path is not None:
        return read_file(path)
    name = market.partition("_")[0].upper()
    try:
        return read_keys(name)
    except KeysError as error:
        raise ValueError(f"{error}; name a file with --keys or in GAMMAFLOW_{name}_KEYS") from None


def account_feed(
    market: str, account: str, keys: Keys, publisher: Publisher, symbols: list[str], since: str | None, paths: list[str]
) -> PrivateFeed:
    """A feed of an account's orders and executions.

    It resumes after the newest fill of the account in Kafka, or at `since`.  Raises `ValueError` for symbols that the venue
    does not need, a time that is none, and a proxy that is none of HTTP; `PublishError` if Kafka cannot be read.
    """
    _check_paths(paths)
    session = SESSIONS[market](keys, account)
    if symbols and not session.needs_symbols:
        raise ValueError(f"--symbols: a private channel of {market} has all instruments; leave the option out")
    if odd := [symbol for symbol in symbols if set(symbol) & set("*?[")]:
        raise ValueError(f"--symbols: with --private expected whole symbols, got {odd[0]!r}")
    published = Published()
    since_ms = None if since is None else _time_ms(since)
    last_day = resume(publisher.servers, market, account, published)
    if since_ms is None and last_day.newest_ms is not None:
        since_ms = last_day.newest_ms - OVERLAP_MS
    names = [*(symbol.upper() for symbol in symbols), *last_day.instruments]
    return PrivateFeed(session, keys, publisher, names, since_ms, published, paths)


def _time_ms(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or instant.timestamp() > time.time():
        raise ValueError(f"--since: expected a time of the past with its zone, such as 2026-05-01T07:30Z, got {text!r}")
    return int(instant.timestamp() * 1000)


def _check_paths(paths: list[str]) -> None:
    if odd := [path for path in paths if not path.startswith(("http://", "https://"))]:
        raise ValueError(f"--via: expected http://host:port, got {odd[0]!r}")


def _check_market(market: str, known: dict[str, Any], complaint: str) -> None:
    if market not in known:
        near = difflib.get_close_matches(market, known, 3, 0.4)
        raise ValueError(f"{complaint} {market!r}; there are {', '.join(sorted(known))}{f'. Is it {near[0]}?' if near else ''}")


async def serve(running: Feed | PrivateFeed, publisher: Publisher, seconds: float | None = None) -> Tally:
    """Publish an exchange's messages, for `seconds` or until SIGTERM or Ctrl-C, and serve requests for fresh books."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = asyncio.create_task(live.keep_time(publisher.tell_time))
    try:
        if isinstance(running, PrivateFeed):
            await running.serve(stop)
        else:
            with resync.requests(publisher.servers) as resyncs:
                running.resyncs = resyncs
                await running.serve(stop)
    finally:
        clock.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return running.tally
