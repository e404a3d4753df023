"""Limits on exposures: a row of `risk_limits` and what is wrong with it, which groups accounts are in, and rows of breaches."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.checks import dead_letter
from engine.contract import Message, Output
from schemas.rows import Fault, instant_ms, shown, to_ms
from udfs.exposures import BREACHED, BUCKETS, MEASURES, UNKNOWN, WITHIN

ACCOUNT, GROUP = KINDS = ("account", "group")
HEDGED = ("delta", "gamma", "vega")
"""The measures that hedges may mend."""
STATES = {WITHIN: "within", BREACHED: "breached", UNKNOWN: "unknown"}
LIFTED = "lifted"
LEAVE = 0.9
"""Of `enter`, where a limit does not say when it is over."""
PARTICIPATION = 0.25
"""Where a limit does not say how much of a book an order may take."""


class Limit(NamedTuple):
    """A limit in force, or the time from which on there is none."""

    event_ms: int
    subject_kind: str
    subject: str
    measure: str
    underlying: str | None
    expiry_bucket: str | None
    enter: float | None  # None: it is lifted
    leave: float
    target: float
    is_hedged: bool
    hedge_venue: str | None
    participation: float

    @property
    def whose(self) -> tuple[str, str]:
        """The kind of its subject, and the subject."""
        return self.subject_kind, self.subject

    @property
    def name(self) -> str:
        """The key of its row."""
        parts = (self.subject_kind, self.subject, self.measure, self.underlying or "", self.expiry_bucket or "")
        return ":".join(parts)

    @property
    def words(self) -> str:
        """What it is about, as events name it."""
        return ":".join((self.measure, self.underlying or "", self.expiry_bucket or "")).rstrip(":")


def limit_of(row: Mapping[str, Any]) -> Limit:
    """The limit of a row without a fault."""
    enter = row.get("enter")
    leave = row.get("leave")
    return Limit(
        to_ms(row["event_at"]),
        row["subject_kind"],
        row["subject"],
        row["measure"],
        row.get("underlying"),
        row.get("expiry_bucket"),
        enter,
        leave if leave is not None else LEAVE * (enter or 0.0),
        row.get("target") or 0.0,
        bool(row.get("is_hedged")),
        row.get("hedge_venue"),
        row.get("participation") or PARTICIPATION,
    )


def wrong_limit(row: Mapping[str, Any]) -> Fault | None:
    """What a checked row of `risk_limits` lacks to be one; None where it is one."""
    measure, enter, leave = row["measure"], row.get("enter"), row.get("leave")
    for column, allowed in (("subject_kind", KINDS), ("measure", MEASURES)):
        if row[column] not in allowed:
            return Fault(column, f"{', '.join(allowed[:-1])} or {allowed[-1]}", shown(row[column]))
    if row.get("expiry_bucket") not in (None, *BUCKETS):
        return Fault("expiry_bucket", f"{', '.join(BUCKETS)} or NULL", shown(row["expiry_bucket"]))
    if measure not in HEDGED:
        for column in ("underlying", "expiry_bucket", "target"):
            if row.get(column) is not None:
                return Fault(column, f"NULL: {measure} is of all that is held", shown(row[column]))
        if row.get("is_hedged"):
            return Fault("is_hedged", f"FALSE or NULL: no trade is known to mend {measure}", "True")
    if enter is not None and not enter > 0:
        return Fault("enter", "above zero, or NULL: the limit is lifted", shown(enter))
    if enter is not None and leave is not None and not 0 <= leave < enter:
        return Fault("leave", f"from zero to below enter, {enter:g}", shown(leave))
    if (participation := row.get("participation")) is not None and not 0 < participation <= 1:
        return Fault("participation", "above 0, up to 1", shown(participation))
    return None


def sound(messages: list[Message], until_ms: int | None) -> tuple[list[Message], list[Output]]:
    """Checked messages without the limits that are none, and dead letters for these."""
    faults = [wrong_limit(message.row) if message.table == "risk_limits" else None for message in messages]
    if not any(faults):
        return messages, []
    pairs = list(zip(messages, faults, strict=True))
    letters = [dead_letter(message, wrong, until_ms) for message, wrong in pairs if wrong is not None]
    return [message for message, wrong in pairs if wrong is None], letters


class Groups:
    """Which accounts are in which groups, and on which of them hedges of a group trade."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[int, bool, bool]] = {}  # by account and group: since, is_member, is_hedger
        self.members: dict[str, set[str]] = {}  # by group
        self._hedgers: dict[str, set[str]] = {}

    def learn(self, row: Mapping[str, Any]) -> bool:
        """Take a row of `account_groups`; returns whether it is the newest."""
        name, event_ms = (row["account"], row["group_name"]), to_ms(row["event_at"])
        known = self.rows.get(name)
        if known is not None and known[0] > event_ms:
            return False
        self.put(*name, event_ms, row["is_member"], bool(row.get("is_hedger")))
        return True

    def put(self, account: str, group: str, event_ms: int, is_member: bool, is_hedger: bool) -> None:
        """Set whether an account is in a group."""
        self.rows[account, group] = (event_ms, is_member, is_hedger)
        for sets, is_in in ((self.members, is_member), (self._hedgers, is_member and is_hedger)):
            accounts = sets.setdefault(group, set())
            (accounts.add if is_in else accounts.discard)(account)

    def hedger(self, group: str) -> str | None:
        """The account on which hedges of a group trade; None where there is none."""
        return min(self._hedgers.get(group, ()), default=None)

    def trader(self, kind: str, subject: str) -> str | None:
        """The account on which hedges of a subject trade; None where there is none."""
        return subject if kind == ACCOUNT else self.hedger(subject)

    def owner(self, kind: str, subject: str) -> str:
        """The key whose partition decides about a subject."""
        return self.trader(kind, subject) or subject


def breach_row(limit: Limit, state: str, before: str | None, figure: float, event_ms: int) -> dict[str, Any]:
    """A row of `limit_breaches` or `group_breaches`."""
    is_known = math.isfinite(figure)
    about = f"{limit.words} {figure:.6g}" if is_known or math.isinf(figure) else limit.words
    enter = limit.enter
    reason = {
        "breached": f"{about} is further from {limit.target:g} than {enter if before != 'breached' else limit.leave:g}"
        if enter is not None
        else "",
        "within": f"{about} is no further from {limit.target:g} than {limit.leave if before == 'breached' else enter:g}"
        if enter is not None
        else "",
        "unknown": f"{about} is not known: a price is missing",
        LIFTED: f"{limit.words} is not limited any more",
    }[state]
    return {
        "subject_kind": limit.subject_kind,
        "subject": limit.subject,
        "event_at": instant_ms(event_ms),
        "measure": limit.measure,
        "underlying": limit.underlying,
        "expiry_bucket": limit.expiry_bucket,
        "state": state,
        "from_state": before,
        "exposure": figure if is_known else None,
        "target": limit.target,
        "enter": enter,
        "leave": limit.leave if enter is not None else None,
        "reason": reason,
    }
