"""The gate: every kernel that emits orders asks it before each order.

All kernels share its order of reasons and their words, `Reason`.  The first of these that applies holds an order:

    1. controls        of operators (`trading_controls`): the strictest of all scopes that the order is in.  If their topic has
                       not been read, or not lately, everything but a cancel is held
    2. halts           of the venue (`trading_halts`), then circuit breaks of our own (`circuit_breaks`)
    3. prices          their validity, of those that the order depends on
    4. the book        stale, or without depth

A cancel always passes, and so does a post-only order whatever circuit break there is (`kernels/orders`).  A control holds
liquidations and deleveraging only if it includes them.  `reduce-only` holds neither, because both only reduce.  When an order
is held, the kernel emits an event of its own, and asks again with every batch until the reason has ended.

Controls reach a kernel as messages of the table `controls_applied`.  The host adds them to the batch from which they hold
(`engine/controls.py`).  Until a kernel has got the message that the topic of controls has been read, its gate is closed.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from engine.entries import packed, unpacked
from schemas.controls import ALL, CANCEL_ALL, GATE, HALT, REDUCE_ONLY, RUN, strictest
from schemas.rows import instant_ms, to_ms

VERSION = 1
KIND, BREAK = "control", "break"
"""The first part of the names of entries, up to the slash."""
KEPT_MS = 24 * 60 * 60 * 1000
"""A break that has ended is kept for this long, in case one of its rows comes late."""


class Act(StrEnum):
    """What an order does."""

    INCREASE = "increase"
    REDUCE = "reduce"  # a position, and never beyond zero: see `act_of`
    LIQUIDATE = "liquidate"
    DELEVERAGE = "deleverage"
    CANCEL = "cancel"


FORCED = frozenset({Act.LIQUIDATE, Act.DELEVERAGE})
REDUCING = FORCED | {Act.REDUCE}
EVERY = REDUCING | {Act.INCREASE}
"""All acts that may be held: all but a cancel."""


class Reason(StrEnum):
    """Why an order is held, in the order of the gate; a `Held` begins with it."""

    UNREAD = "controls unread"
    CANCEL_ALL = "control cancel-all"
    HALT = "control halt"
    REDUCE_ONLY = "control reduce-only"
    HALTED = "halted"
    CIRCUIT_BREAK = "circuit break"
    NO_VALUATION = "no valuation"
    NON_POSITIVE = "non-positive"
    TOO_VOLATILE = "too volatile"
    TOO_UNCERTAIN = "too uncertain"
    STALE_FOR_MARGIN = "stale for margin"
    INSUFFICIENT = "insufficient"
    STALE = "stale"
    STALE_BOOK = "stale book"
    UNKNOWN_UNIT = "unknown unit"
    NO_DEPTH = "no depth"


ORDER = {reason: rank for rank, reason in enumerate(Reason)}
Holds = Mapping[Reason, frozenset[Act]]
"""The acts that each reason holds.  Controls are not in it: their mode decides."""
PRICES = tuple(reason for reason in Reason if ORDER[Reason.NO_VALUATION] <= ORDER[reason] < ORDER[Reason.STALE_BOOK])
STRICT: Holds = {
    Reason.HALTED: EVERY,
    Reason.CIRCUIT_BREAK: EVERY,
    **dict.fromkeys(PRICES, EVERY),
    # What is deleveraged is closed at the bankruptcy price, whatever a book shows.
    Reason.STALE_BOOK: EVERY - {Act.DELEVERAGE},
    Reason.UNKNOWN_UNIT: EVERY - {Act.DELEVERAGE},
    Reason.NO_DEPTH: EVERY - {Act.DELEVERAGE},
}
"""No order while a price is in doubt."""
DRIFT: Holds = {
    **STRICT,
    Reason.TOO_UNCERTAIN: frozenset({Act.INCREASE}),
    Reason.STALE_FOR_MARGIN: frozenset({Act.INCREASE}),
    Reason.INSUFFICIENT: frozenset({Act.INCREASE}),
    Reason.STALE: frozenset({Act.INCREASE}),
}
"""Drift's table: only a price that is not positive or too volatile holds an order that reduces."""


class Request(NamedTuple):
    """An order that a kernel is about to emit: what it does, and whose order it is.  A field that does not apply is empty."""

    act: Act
    venue: str = ""
    instrument: str = ""
    underlying: str = ""
    account: str = ""
    algo: str = ""
    client: str = ""
    desk: str = ""
    trader: str = ""

    def scopes(self) -> list[str]:
        """All scopes that contain it."""
        named = [f"{kind}:{name}" for kind, name in self._asdict().items() if name and kind not in ("act", "instrument")]
        return [ALL, *named, *([f"instrument:{self.venue}:{self.instrument}"] if self.instrument else [])]


class Held(NamedTuple):
    """Why an order is held."""

    reason: Reason
    thing: str  # what the reason is about: a scope, a venue, venue:instrument, a price; empty where it is the account
    why: str  # with figures, for people
    passes: frozenset[Act] = frozenset()  # acts that pass nevertheless: REDUCING for a rule that lets exits pass

    @property
    def kind(self) -> str:
        """Reason and thing as one text, for events."""
        return f"{self.reason}: {self.thing}" if self.thing else str(self.reason)


class Gate:
    """The controls in force, and the table of what a reason holds."""

    def __init__(self, holds: Holds = STRICT) -> None:
        self.holds = holds
        self.controls: dict[str, dict[str, Any]] = {}  # by scope, as they are in `controls_applied`

    def learn(self, row: Mapping[str, Any]) -> str:
        """Obey a row of `controls_applied` from now on; returns the name of the entry that it changes."""
        scope = row["scope"]
        if row["mode"] == RUN and scope != GATE:
            self.controls.pop(scope, None)
        else:
            kept = ("scope", "mode", "who", "why", "said_at", "ends_at", "liquidations")
            self.controls[scope] = {column: row.get(column) for column in kept}
        return f"{KIND}/{scope}"

    def encode(self, scope: str) -> bytes | None:
        """One control as an entry; None if it no longer exists."""
        return packed(VERSION, self.controls[scope]) if scope in self.controls else None

    def decode(self, scope: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        self.controls[scope] = unpacked("gate", f"{KIND}/{scope}", data, VERSION)

    def gauges(self) -> dict[str, float]:
        """The number of controls in force; and 1 if the gate is closed because controls are unread, else 0."""
        return {
            "controls_in_force": len(self.controls.keys() - {GATE}),
            "is_gate_closed": self._unread(Act.INCREASE) is not None,
        }

    def is_quiet(self, act: Act) -> bool:
        """Whether no control holds any order of this kind."""
        return self._unread(act) is None and not any(_applies(control, act) for control in self.controls.values())

    def control(self, request: Request) -> Held | None:
        """The control that holds an order: the strictest of all scopes that contain it."""
        if (unread := self._unread(request.act)) is not None or len(self.controls) == 1:
            return unread
        own = [control for scope in request.scopes() if (control := self.controls.get(scope))]
        first = strictest(control for control in own if _applies(control, request.act))
        if first is None:
            return None
        mode, scope = first["mode"], first["scope"]
        until = "" if first["ends_at"] is None else f", until {first['ends_at']}"
        why = f"{first['who']} said {mode} of {scope} at {first['said_at']}{until}: {first['why']}"
        return Held(_MODES[mode], scope, why)

    def held(self, request: Request, conditions: Iterable[Held] = ()) -> Held | None:
        """The first reason why an order must not be emitted now; None if it may.

        `conditions` are the halts, prices and books that the kernel knows.  They are looked at only if no control holds the
        order.
        """
        if request.act is Act.CANCEL:
            return None
        if (control := self.control(request)) is not None:
            return control
        return min(
            (condition for condition in conditions if request.act in self.holds[condition.reason] - condition.passes),
            key=lambda condition: (ORDER[condition.reason], condition.thing),
            default=None,
        )

    def to_cancel(self, resting: Iterable[Request]) -> list[bool]:
        """Whether each open order must be cancelled.  `act` is what the order does when it fills.

        A kill cancels open orders.  A topic that cannot be read cancels nothing, because no operator has asked for it.
        """
        return [(held := self.control(order)) is not None and held.reason is Reason.CANCEL_ALL for order in resting]

    def _unread(self, act: Act) -> Held | None:
        topic = self.controls.get(GATE)
        if act is Act.CANCEL or (topic is not None and topic["mode"] == RUN):
            return None
        return Held(Reason.UNREAD, "", "the topic of controls has not been read yet" if topic is None else str(topic["why"]))


class Breaks:
    """Our own circuit breaks: the newest row of each in `circuit_breaks`, by event time."""

    COLUMNS = ("is_halted", "venue", "instrument", "underlying", "rule", "kind", "reason", "planned_end_at", "passes_exits")

    def __init__(self) -> None:
        self.breaks: dict[str, dict[str, Any]] = {}  # by break_id

    def learn(self, row: Mapping[str, Any]) -> str:
        """Take a row; returns the name of the entry that it may change."""
        name, event_ms = row["break_id"], to_ms(row["event_at"])
        if name not in self.breaks or self.breaks[name]["event_ms"] <= event_ms:
            self.breaks[name] = {"event_ms": event_ms} | {column: row.get(column) for column in self.COLUMNS}
        return f"{BREAK}/{name}"

    def is_quiet(self) -> bool:
        """Whether no break stops anything."""
        return not any(known["is_halted"] for known in self.breaks.values())

    def held(self, request: Request, but: Collection[str] = ()) -> Held | None:
        """The first break, by id, that stops an order: every column that it names equals the order's.

        Breaks of the kinds `but` do not count.
        """
        for name in sorted(self.breaks):
            known = self.breaks[name]
            if known.get("kind") in but or (known.get("passes_exits") and request.act in REDUCING):
                continue
            named = [column for column in ("venue", "instrument", "underlying") if known[column] is not None]
            if known["is_halted"] and named and all(known[column] == getattr(request, column) for column in named):
                end = f", until {known['planned_end_at']} as planned" if known["planned_end_at"] is not None else ""
                thing = ":".join(known[column] for column in named)
                why = f"{known['rule']} stops {thing} since {instant_ms(known['event_ms'])}{end}: {known['reason']}"
                return Held(Reason.CIRCUIT_BREAK, thing, why)
        return None

    def forget(self, until_ms: int) -> list[str]:
        """Free breaks that ended long ago; returns the names of the entries."""
        over = [
            name for name, known in self.breaks.items() if not known["is_halted"] and known["event_ms"] + KEPT_MS <= until_ms
        ]
        for name in over:
            del self.breaks[name]
        return [f"{BREAK}/{name}" for name in over]

    def encode(self, name: str) -> bytes | None:
        """One break as an entry; None if it no longer exists."""
        return packed(VERSION, self.breaks[name]) if name in self.breaks else None

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        self.breaks[name] = unpacked("gate", f"{BREAK}/{name}", data, VERSION)


def act_of(position: float, reducing: float, order: float) -> Act:
    """Whether an order certainly reduces a position: together with the open orders it must not reverse the position.

    position    contracts, negative where short
    reducing    contracts of open orders that reduce it, above zero
    order       contracts, negative to sell
    """
    is_exit = position * order < 0 and abs(order) + reducing <= abs(position)
    return Act.REDUCE if is_exit else Act.INCREASE


def _applies(control: Mapping[str, Any], act: Act) -> bool:
    """Whether a control holds this act.  An unread topic is not a control."""
    if control["scope"] == GATE or control["mode"] == RUN or act is Act.CANCEL:
        return False
    if act in FORCED and not control["liquidations"]:
        return False
    return control["mode"] != REDUCE_ONLY or act not in REDUCING


_MODES = {CANCEL_ALL: Reason.CANCEL_ALL, HALT: Reason.HALT, REDUCE_ONLY: Reason.REDUCE_ONLY}
