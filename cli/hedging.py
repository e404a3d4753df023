"""`gammaflow hedge <account> --dry-run`: what the job hedges would trade now, by its own kernel, and why.

It reads the newest records of the job's topics, and writes nothing.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.contract import Message
from kernels.hedges import KERNEL
from kernels.hedges.desk import Desk
from kernels.hedges.state import State
from kernels.limits import ACCOUNT, GROUP
from schemas.rows import to_ms
from udfs.exposures import BREACHED

COUNTS = {
    # Terms, groups and limits are compacted: all that is left of them.
    "instruments": sys.maxsize >> 2,
    "account_groups": sys.maxsize >> 2,
    "risk_limits": sys.maxsize >> 2,
    "trading_halts": 30_000,
    "tickers": 30_000,
    "venue_tickers": 30_000,
    "book_depth": 30_000,
    "risk_exposures": 30_000,
}
"""How many of the newest records of each partition are read: of books and exposures about half a minute."""
READ_AS = {"venue_tickers": "tickers"}

Row = Mapping[str, Any]


def planned(rows: Mapping[str, Sequence[Row]], subject: str, is_group: bool = False) -> list[Row]:
    """The rows of `hedge_decisions` that follow from the newest rows of each table; none where no limit is breached.

    Raises `ValueError` where the subject has no exposures, or no limit that is hedged.
    """
    whose = (GROUP if is_group else ACCOUNT, subject)
    exposures = [row for row in rows.get("risk_exposures", ()) if (row["subject_kind"], row["subject"]) == whose]
    if not exposures:
        raise ValueError(f"no exposures of {whose[0]} {subject} are known: has it a limit, and does liquidations run?")
    now_ms = max(to_ms(row["event_at"]) for row in exposures)
    state: State = KERNEL.new()
    state.partition_of, state.part = _everywhere, 0
    others = {table: of_table for table, of_table in rows.items() if table != "risk_exposures"}
    # Limits come first: prices are looked at only of what they are about.
    for table in sorted(others, key=lambda table: table not in ("instruments", "risk_limits", "account_groups")):
        KERNEL.step(state, _messages(READ_AS.get(table, table), others[table]), None)
    KERNEL.step(state, _messages("risk_exposures", exposures), None)
    limits = [state.limits[name] for name in sorted(state.by_subject.get(whose, ()))]
    if not any(limit.is_hedged for limit in limits):
        raise ValueError(f"{whose[0]} {subject} has no limit with is_hedged")
    state.standing(whose).known_ms = 0
    desk = Desk(state, now_ms + 1)
    desk.judge()
    if not any(state.states.get(limit.name) == BREACHED and limit.is_hedged for limit in limits):
        return []
    return [output.row for output in desk.decide() if output.table == "hedge_decisions"]


def show(console: Console, subject: str, decisions: Sequence[Row]) -> None:
    """Print what would be traded."""
    if not decisions:
        console.print(f"{subject}: no limit that is hedged is breached, so nothing would be traded", markup=False)
        return
    first = decisions[0]
    console.print(
        f"{subject}: {first['breaches']} breached; {first['worst_measure']} {first['exposure_before']:,.2f}"
        f" → {first['exposure_after']:,.2f}; {first['reason']}",
        markup=False,
        soft_wrap=True,
    )
    if first["instrument"] is None:
        return
    table = Table("account", "instrument", "side", "contracts", "limit", "delta USD", "gamma USD", "vega USD", "cost USD")
    for row in decisions:
        figures = (f"{row[name]:,.2f}" for name in ("delta_usd", "gamma_usd", "vega_usd", "cost_usd"))
        market = f"{row['venue']}:{row['instrument']}"
        table.add_row(row["account"], market, row["side"], row["quantity"], row["price"], *figures)
    console.print(table, markup=False)


def _messages(table: str, rows: Iterable[Row]) -> list[Message]:
    return [Message(table, 0, number, dict(row)) for number, row in enumerate(rows)]


def _everywhere(_: str) -> int:
    return 0
