"""What guards all open orders of an account: timers, and market-maker protection.

Timer       a dead man's switch, as `cancelAllAfter` of BitMEX and Kraken: it runs out `after_s` after the event time of its
            request, unless a later request of the same scope sets it again or clears it.  It runs out once; then none is set
Protection  for one underlying, as at Deribit, Derive and Paradex: it counts the fills of marked orders within a sliding window
            of event time, but not those that took.  More than a limit is a hit: marked orders are cancelled, and new ones
            refused, for the frozen time or until it is reset.  Then the count begins anew, without the fills of that time
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from kernels.orders.requests import LIMITS
from schemas.rows import instant_ms

KEPT_MS = 60_000
"""So long a request of these kinds is remembered, so that a repeat does nothing; an older one is refused."""

Scope = tuple[str, str]
"""Venue and instrument; empty: all."""


class Timer(NamedTuple):
    """What the newest request of a scope has set."""

    set_ms: int  # event time of the request
    ends_ms: int | None  # None: it is cleared, or has run out
    client_order_id: str


class Fill(NamedTuple):
    """What counts of a fill, in units of the underlying."""

    event_ms: int
    quantity: float
    delta: float


class Protection:
    """Market-maker protection of one underlying."""

    def __init__(self, set_ms: int, window_ms: int, frozen_ms: int, limits: Mapping[str, float | None]) -> None:
        self.limits: dict[str, float | None] = {}
        self.fills: dict[str, Fill] = {}  # by exec_id, within the window
        self.hit: str | None = None  # why it is frozen
        self.ends_ms: int | None = None  # until when it is frozen; None: until it is reset
        self.set(set_ms, window_ms, frozen_ms, limits)

    def set(self, set_ms: int, window_ms: int, frozen_ms: int, limits: Mapping[str, float | None]) -> None:
        """Other limits from now on; what is frozen stays so."""
        self.set_ms, self.window_ms, self.frozen_ms = set_ms, window_ms, frozen_ms
        self.limits = {column: limits.get(column) for column in LIMITS}

    @property
    def is_on(self) -> bool:
        """Whether it protects anything."""
        return self.window_ms > 0

    def refuses(self, now_ms: int) -> str | None:
        """Why a marked order is refused now."""
        if not self.is_on:
            return "no protection is set"
        if not self._is_frozen(now_ms):
            return None
        end = "it is reset" if self.ends_ms is None else instant_ms(self.ends_ms)
        return f"frozen until {end}, for {self.hit}"

    def count(self, exec_id: str, fill: Fill, now_ms: int) -> str | None:
        """Count a fill, once by its id; returns why it hits a limit, with figures, else None."""
        if not self.is_on or self._is_frozen(now_ms):
            return None
        self.fills[exec_id] = fill
        newest_ms = max(kept.event_ms for kept in self.fills.values())
        self.fills = {name: kept for name, kept in self.fills.items() if kept.event_ms > newest_ms - self.window_ms}
        fills = self.fills.values()
        # fsum: the same sum in whatever order.
        delta = abs(math.fsum(kept.delta for kept in fills))
        sums = {"max_fills": len(fills), "max_quantity": math.fsum(kept.quantity for kept in fills), "max_delta": delta}
        for column, limit in self.limits.items():
            if limit is not None and sums[column] > limit:
                what = column.removeprefix("max_")
                return f"{sums[column]:.12g} {what} within {self.window_ms / 1000:g} s, more than {limit:g}"
        return None

    def freeze(self, why: str, now_ms: int) -> None:
        """Refuse marked orders from now on."""
        self.reset()
        self.hit = why
        self.ends_ms = now_ms + self.frozen_ms if self.frozen_ms else None

    def reset(self) -> None:
        """Begin anew."""
        self.fills, self.hit, self.ends_ms = {}, None, None

    def stored(self) -> list[Any]:
        """As an entry has it."""
        fills = {exec_id: list(fill) for exec_id, fill in self.fills.items()}
        return [[self.set_ms, self.window_ms, self.frozen_ms, self.limits], fills, self.hit, self.ends_ms]

    def _is_frozen(self, now_ms: int) -> bool:
        return self.hit is not None and (self.ends_ms is None or now_ms < self.ends_ms)


class Guards:
    """What guards the orders of one account."""

    def __init__(self) -> None:
        self.timers: dict[Scope, Timer] = {}
        self.protections: dict[str, Protection] = {}  # by underlying
        self.rows = 0  # of `order_guards`
        self.taken: dict[str, tuple[int, str]] = {}  # requests of the last minute by client_order_id: when, and their contents

    def take(self, name: str, digest: str, now_ms: int) -> str | None:
        """Remember a request; returns the contents of the first of this id, None where it is new."""
        self.taken = {kept: (ms, its) for kept, (ms, its) in self.taken.items() if ms > now_ms - KEPT_MS}
        first = self.taken.get(name)
        if first is None:
            self.taken[name] = now_ms, digest
        return None if first is None else first[1]

    def stored(self) -> list[Any]:
        """As an entry has them."""
        timers = [[list(scope), list(timer)] for scope, timer in self.timers.items()]
        protections = {name: protection.stored() for name, protection in self.protections.items()}
        return [timers, protections, self.rows, self.taken]

    def restore(self, stored: list[Any]) -> None:
        """What `stored` returned."""
        timers, protections, self.rows, taken = stored
        self.timers = {(venue, instrument): Timer(*timer) for (venue, instrument), timer in timers}
        for name, (limits, fills, hit, ends_ms) in protections.items():
            self.protections[name] = protection = Protection(*limits)
            protection.fills = {exec_id: Fill(*fill) for exec_id, fill in fills.items()}
            protection.hit, protection.ends_ms = hit, ends_ms
        self.taken = {name: (ms, digest) for name, (ms, digest) in taken.items()}
