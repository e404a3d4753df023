"""A writer among several: it reports the time up to which its rows are in the log; the keeper writes the heartbeats."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from feeds.times import JOIN_MS, JOINS, LEAVES, LIVES, Report

ALIVE_MS = 1_000
"""A writer whose time does not advance reports this often that it is alive."""

Delivered = Callable[[Any, Any], None]
"""The delivery callback of the producer: an error or None, and the record."""


class _Span:
    """The rows that the producer got between two reported times."""

    def __init__(self, reported: Delivered) -> None:
        self.time_ms = 0  # once it is over
        self.left = 0  # rows that the broker has not acknowledged
        self._reported = reported

    def delivered(self, error: Any, message: Any) -> None:
        self.left -= 1
        self._reported(error, message)


class Reports:
    """Reports the time of a writer once the broker has acknowledged all rows before it.

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
        """Report this time as soon as all rows so far are acknowledged."""
        self._open.time_ms = time_ms
        self._spans.append(self._open)
        self._open = _Span(self._reported)

    @property
    def delivered(self) -> Delivered:
        """The delivery callback for the next record; call `handed_over` once the producer has accepted it."""
        return self._open.delivered

    def handed_over(self) -> None:
        """Count a record that the producer has accepted."""
        self._open.left += 1

    def advance(self) -> None:
        """Report how far all rows are acknowledged; if that has not advanced, report once a second that the writer is alive."""
        time_ms = self._time_ms
        while self._spans and not self._spans[0].left:
            time_ms = max(time_ms, self._spans.popleft().time_ms)
        if time_ms > self._time_ms or self._clock_ms() >= self._reported_ms + ALIVE_MS:
            self._time_ms = time_ms
            self._report(LIVES)

    def leave(self, time_ms: int) -> None:
        """Report that this writer ends; all its rows are acknowledged.  After the last one the time advances to `time_ms`."""
        self._time_ms = max(self._time_ms, time_ms)
        self._report(LEAVES)

    def _report(self, kind: str) -> None:
        self._reported_ms = self._clock_ms()
        self._send(Report(self._writer, kind, self._time_ms))
