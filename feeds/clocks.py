"""How far venues' clocks are from ours, and the common time in which records of all venues are in one order.

Two clocks are compared by messages alone: a message's exchange time less its receipt is the offset of the venue's clock less
the way that the message took.  So the largest of these, the fastest message's, bounds the offset from below, and old news, a
trade of an hour ago sent at subscription, changes nothing.  A second of the receiver's clock says as much as its fastest
message; the estimate is the median of the last seconds in which the venue spoke, once there are two.  One message from the
future is in one second: it moves nothing.  A clock that has jumped and stays there moves the estimate once most of these
seconds say so.

Everything here follows from the rows in their order, never from the clock on the wall: a replay has the timestamps of the
session that it replays, at any speed.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

from feeds import Record
from schemas.rows import to_ms

SECONDS = 9
"""How many seconds with messages the estimate is the median of: a clock that jumps has moved it after five."""
AHEAD_MS = 50
"""How far an exchange time may be ahead of its receipt before a clock is said to be wrong: half of what jobs wait for."""
BEHIND_MS = 250
"""How far it may be behind: the way of a message takes as long, from one continent to another and through a busy exchange."""
FAR_MS = 60_000
"""A time that is further off is no clock's: old news, or what its reader refuses (`feeds.checks.MAX_AHEAD_MS`)."""


def tells_time(record: Record) -> bool:
    """Whether a record tells what time it is at its venue.

    A status in a listing has no time, and bears that of its receipt: older messages of the venue may still be on their way.
    """
    return record.table != "trading_halts" or to_ms(record.row["received_at"]) != record.event_ms


class Clocks:
    """The clocks of all venues of one feed."""

    def __init__(self) -> None:
        self._venues: dict[Any, _Clock] = {}
        self._receiver_ms = 0  # how far ours is ahead of every venue's; 0 unless it is ahead of all of them

    def timestamp_ms(self, row: Mapping[str, Any], event_ms: int, is_sample: bool) -> int:
        """The common time of a row with this event time: what its record bears as its timestamp.

        It is the event time less the venue's offset.  Where that is after the receipt, one message's clock has jumped, or the
        venue's has and is not yet known to stay there: then it is the time of receipt, by which no one else becomes late.
        Where the event time is itself the receipt, for want of another, it is so, too.

        `is_sample` says whether the event time is one that the venue's clock showed.  Timestamps of a venue never step back
        further than its event times do.
        """
        received_at = row.get("received_at")
        if not isinstance(received_at, str):
            return event_ms
        received_ms = to_ms(received_at)
        clock = self._venues.get(row.get("venue"))
        if clock is None:
            clock = self._venues[row.get("venue")] = _Clock()
        if is_sample and clock.sampled(event_ms - received_ms, received_ms // 1000):
            self._estimate()
        now_ms = self.common_ms(received_ms)
        timestamp_ms = event_ms - clock.offset_ms
        if timestamp_ms > now_ms + AHEAD_MS or event_ms == received_ms:
            timestamp_ms = now_ms
        timestamp_ms = max(timestamp_ms, clock.timestamp_ms + min(0, event_ms - clock.event_ms))
        clock.event_ms, clock.timestamp_ms = event_ms, timestamp_ms
        return timestamp_ms

    def common_ms(self, receiver_ms: int) -> int:
        """The common time at an instant of the receiver's clock: that, less what our own clock is ahead of every venue's."""
        return receiver_ms - self._receiver_ms

    def offset_ms(self, venue: str) -> int:
        """How far a venue's clock is ahead of the common time; below 0 where it is behind."""
        clock = self._venues.get(venue)
        return 0 if clock is None else clock.offset_ms

    def offsets_ms(self) -> dict[str, int]:
        """`offset_ms` of each venue that has been heard."""
        return {str(venue): clock.offset_ms for venue, clock in list(self._venues.items())}

    def _estimate(self) -> None:
        known = [(clock, clock.ahead_ms) for clock in self._venues.values() if clock.ahead_ms is not None]
        # No message arrives before it is sent: where every venue is behind, it is our own clock that is ahead.
        self._receiver_ms = -min(0, error_ms(max(ahead_ms for _, ahead_ms in known)))
        for clock, ahead_ms in known:
            clock.offset_ms = error_ms(ahead_ms + self._receiver_ms)


class _Clock:
    """One venue's."""

    def __init__(self) -> None:
        self.ahead_ms: int | None = None  # of ours, less the way of the fastest messages; None until two seconds are over
        self.offset_ms = 0
        self.event_ms = self.timestamp_ms = 0  # of the last row
        self._seconds: deque[int] = deque(maxlen=SECONDS)  # how far the fastest message of each was ahead
        self._second = 0  # the one that is not over yet
        self._fastest_ms: int | None = None  # its fastest message

    def sampled(self, ahead_ms: int, second: int) -> bool:
        """Take how far a message received in that second was ahead; whether the estimate has changed by it."""
        if abs(ahead_ms) > FAR_MS:
            return False
        if second == self._second and self._fastest_ms is not None:
            self._fastest_ms = max(self._fastest_ms, ahead_ms)
            return False
        if self._fastest_ms is not None:
            self._seconds.append(self._fastest_ms)
        self._second, self._fastest_ms = second, ahead_ms
        return self._estimated()

    def _estimated(self) -> bool:
        count = len(self._seconds)
        if count < 2:
            return False
        before_ms = self.ahead_ms
        middle = sorted(self._seconds)[(count - 1) // 2 : count // 2 + 1]
        self.ahead_ms = min(middle, key=abs)  # of two, the one by which the clock is less wrong
        return self.ahead_ms != before_ms


def error_ms(ahead_ms: int) -> int:
    """How much of what a clock seems to be ahead (below 0: behind) is the clock's error.

    Nothing from -`BEHIND_MS` to `AHEAD_MS`, all of it from twice as much on, and evenly more in between: so an estimate near
    a bound that moves a little moves the timestamps a little.
    """
    if ahead_ms > 0:
        return min(ahead_ms, max(0, 2 * (ahead_ms - AHEAD_MS)))
    return max(ahead_ms, min(0, 2 * (ahead_ms + BEHIND_MS)))
