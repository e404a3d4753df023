"""The time of one writer among several: it reports up to when its rows are in the log, and leaves heartbeats to the keeper."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from feeds.times import JOIN_MS, JOINS, LEAVES, LIVES, Report

ALIVE_MS = 1_000
"""How long a writer whose time stands still says nothing."""

Delivered = Callable[[Any, Any], None]
"""Takes what became of a record, from the producer: an error or None, and the record."""


class _Span:
    """The rows that were handed over from one time to the next."""

    def __init__(self, reported: Delivered) -> None:
        self.time_ms = 0  # once it is over
        self.left = 0  # rows that the broker has not acknowledged
        self._reported = reported

    def delivered(self, error: Any, message: Any) -> None:
        self.left -= 1
        self._reported(error, message)


class Reports:
    """Reports the time of a writer, no sooner than the broker has acknowledged all rows of before.

    Rows and reports go into different partitions, between which there is no order.  So a time is reported when the last of the
    rows that were handed over before it has been acknowledged: whoever reads the report finds them in the log.
    """

    def __init__(
        self,
        writer: str,
        send: Callable[[Report], None],
        reported: Delivered,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`send` sends a report; `reported` gets what the producer reports of each row.  Joins at once."""
        self._writer, self._send, self._reported, self._clock_ms = writer, send, reported, clock_ms
        self._spans: deque[_Span] = deque()  # those that are over, and were not reported yet
        self._open = _Span(reported)
        self._time_ms = clock_ms() - JOIN_MS
        self._report(JOINS)

    def tell(self, time_ms: int) -> None:
        """Report this time as soon as all that has been handed over is acknowledged."""
        self._open.time_ms = time_ms
        self._spans.append(self._open)
        self._open = _Span(self._reported)

    @property
    def delivered(self) -> Delivered:
        """What the producer is to call for the next record; `handed_over` says that it will."""
        return self._open.delivered

    def handed_over(self) -> None:
        """Take notice of a record that the producer has taken."""
        self._open.left += 1

    def advance(self) -> None:
        """Report how far all is acknowledged; where that is no further than before, once a second that the writer lives."""
        time_ms = self._time_ms
        while self._spans and not self._spans[0].left:
            time_ms = max(time_ms, self._spans.popleft().time_ms)
        if time_ms > self._time_ms or self._clock_ms() >= self._reported_ms + ALIVE_MS:
            self._time_ms = time_ms
            self._report(LIVES)

    def leave(self, time_ms: int) -> None:
        """Report that nothing more comes; it was all acknowledged, and nobody who is alone need wait before `time_ms`."""
        self._time_ms = max(self._time_ms, time_ms)
        self._report(LEAVES)

    def _report(self, kind: str) -> None:
        self._reported_ms = self._clock_ms()
        self._send(Report(self._writer, kind, self._time_ms))
