"""Each execution once, whichever session tells it, and however often."""

from collections.abc import Mapping
from typing import Any

from feeds import Record

REMEMBERED = 200_000
"""The number of executions and reports whose ids are remembered."""
_CONTENTS = ("account", "instrument", "exec_type", "side", "last_price", "last_quantity")
_OPEN = ("order_id", "client_order_id", "order_status", "fee", "fee_currency", "is_maker", "last_price", "last_quantity")
"""What the first report of an execution may leave open and a later one tell."""


class Recent(dict[str, str]):
    """Values by key, of which the newest `REMEMBERED` are kept."""

    def keep(self, key: str, value: str = "") -> None:
        """Take a value."""
        self[key] = value
        if len(self) > REMEMBERED:
            del self[next(iter(self))]


class Once:
    """Accepts what is new: a report's first row, one that tells what the first left open, and one that contradicts it.

    A fill is accepted once, by its id alone.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._reports: dict[tuple[str, str], tuple[tuple[Any, ...], frozenset[str]]] = {}
        self._fills: dict[tuple[str, str], None] = {}
        self._told: dict[tuple[str, str], str] = {}  # exec_ids by the venue's own, and side
        self.repeats = 0

    def remember(self, table: str, row: Mapping[str, Any]) -> None:
        """Take a row that an earlier run has published."""
        self.is_new(Record(table, 0, row))
        self.repeats = 0

    def is_new(self, record: Record) -> bool:
        """Whether a row is to be published."""
        row = record.row
        if record.table == "fills":
            return self._is_new(self._fills, (row["account"], row["fill_id"]), None)
        key = row["account"], row["exec_id"]
        contents = tuple(row[column] for column in _CONTENTS)
        left = frozenset(column for column in _OPEN if row[column] is None)
        known = self._reports.get(key)
        if known is None:
            self._keep(self._reports, key, (contents, left))
            _, _, told = row["exec_id"].partition(":")
            date, _, own = told.partition(":")
            if date.isdecimal():
                self._keep(self._told, (own.rpartition(":")[0], row["side"]), row["exec_id"])
            return True
        before, open_before = known
        is_other = any(a != b for a, b in zip(contents, before, strict=True) if a is not None and b is not None)
        if is_other or open_before - left:
            self._reports[key] = (contents if is_other else before, open_before & left)
            return True
        self.repeats += 1
        return False

    def execution(self, exec_id: str, side: str) -> str | None:
        """The newest execution with a venue's own id and side."""
        return self._told.get((exec_id, side))

    def _is_new(self, kept: dict[tuple[str, str], None], key: tuple[str, str], value: None) -> bool:
        if key in kept:
            self.repeats += 1
            return False
        self._keep(kept, key, value)
        return True

    def _keep(self, kept: dict[Any, Any], key: tuple[str, str], value: Any) -> None:
        kept[key] = value
        if len(kept) > self._remembered:
            del kept[next(iter(kept))]
