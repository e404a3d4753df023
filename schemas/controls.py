"""What a row of `trading_controls` may say: its scopes, its modes, and what is wrong with one that breaks these rules.

Those who write controls (`gammaflow halt`), those who receive them (`engine/controls.py`) and those who obey them
(`kernels/gate.py`) read this module.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.rows import Fault, fault, shown, to_ms

RUN, REDUCE_ONLY, HALT, CANCEL_ALL = "run", "reduce-only", "halt", "cancel-all"
MODES = (RUN, REDUCE_ONLY, HALT, CANCEL_ALL)
"""From the mildest to the strictest.  `run` ends a control of the same scope and no other: of all, the strictest counts."""
ALL = "all"
KINDS = ("venue", "underlying", "instrument", "desk", "client", "account", "algo", "trader")
"""What a scope can be, beside `all`: the kind, a colon and a name."""
GATE = "gate"
"""In `controls_applied` alone: the topic of controls itself, closed as long as it has not been read lately."""
NAME = re.compile(r"\S(?:[^\x00-\x1f\x7f]{0,198}\S)?")
EXPECTED_SCOPE = (
    f"{ALL}, or one of {', '.join(f'{kind}:<name>' for kind in KINDS if kind != 'instrument')}, instrument:<venue>:<name>"
)


def scope_fault(scope: object) -> Fault | None:
    """What is wrong with a scope, if anything."""
    if scope == ALL:
        return None
    kind, _, name = scope.partition(":") if isinstance(scope, str) else ("", "", "")
    if kind not in KINDS or not NAME.fullmatch(name):
        return Fault("scope", EXPECTED_SCOPE, shown(scope))
    if kind == "instrument" and not all(name.partition(":")):
        return Fault("scope", "instrument:<venue>:<name>, as in instrument:deribit:BTC-PERPETUAL", shown(scope))
    return None


def control_fault(row: object, key: str | None = None) -> Fault | None:
    """What is wrong with a row of `trading_controls`, if anything; `key` is its record's, where it has come from the topic."""
    if (wrong := fault("trading_controls", row)) is not None:
        return wrong
    assert isinstance(row, Mapping)
    if (wrong := scope_fault(row["scope"])) is not None:
        return wrong
    if row["mode"] not in MODES:
        return Fault("mode", ", ".join(MODES), shown(row["mode"]))
    for column, what in (("who", "who says so"), ("why", "a reason, in words")):
        if not row[column].strip():
            return Fault(column, what, shown(row[column]))
    ends_at = row.get("ends_at")
    if ends_at is not None and to_ms(ends_at) <= to_ms(row["event_at"]):
        return Fault("ends_at", f"later than event_at, {row['event_at']}, or NULL", shown(ends_at))
    if key is not None and key != row["scope"]:
        return Fault("scope", f"the record's key, {shown(key)}: of each key the newest record is kept", shown(row["scope"]))
    return None


def strictest(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row with the strictest mode, and of several the first by scope; None if there is none but `run`."""
    acting = [row for row in rows if row["mode"] != RUN]
    return min(acting, key=lambda row: (-MODES.index(row["mode"]), row["scope"]), default=None)
