"""Halts of trading, as venues announce them in `trading_halts`: which of them stops an order?"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from kernels.gate import Held, Reason
from schemas.rows import instant_ms, to_ms

KIND = "halt"
"""The first part of the names of entries, up to the slash."""
KEPT_MS = 24 * 60 * 60 * 1000
"""How long the end of a halt is kept, in case one of its rows comes late."""


class Halt(NamedTuple):
    """Whether trading is halted, and since when."""

    event_ms: int
    is_halted: bool
    reason: str | None


class Halts:
    """The newest row of each venue, instrument or pattern of instruments, by event time."""

    def __init__(self) -> None:
        self.rows: dict[str, Halt] = {}  # by venue, venue:instrument, or venue:pattern
        self._patterns: set[str] = set()  # those of them with a star

    def learn(self, row: Mapping[str, Any]) -> str:
        """Take a row; returns the name of the entry that it may change."""
        name = row["venue"] if row.get("instrument") is None else f"{row['venue']}:{row['instrument']}"
        event_ms, known = to_ms(row["event_at"]), self.rows.get(name)
        if known is None or known.event_ms <= event_ms:
            self.put(name, Halt(event_ms, row["is_halted"], row.get("reason")))
        return f"{KIND}/{name}"

    def put(self, name: str, halt: Halt) -> None:
        """Set the newest row of a name."""
        self.rows[name] = halt
        if "*" in name:
            self._patterns.add(name)

    def is_quiet(self) -> bool:
        """Whether nothing is halted."""
        return not any(halt.is_halted for halt in self.rows.values())

    def held(self, venue: str, instrument: str = "") -> Held | None:
        """The halt that stops an order: of its venue, of its instrument, or of a pattern that the instrument matches."""
        if not self.rows:
            return None
        contract = f"{venue}:{instrument}"
        names = [venue, contract] if instrument else [venue]
        names += sorted(name for name in self._patterns if instrument and fnmatchcase(contract, name))
        for name in names:
            if (halt := self.rows.get(name)) and halt.is_halted:
                reason = "" if halt.reason is None else f": {halt.reason}"
                return Held(Reason.HALTED, name, f"trading of {name} is halted since {instant_ms(halt.event_ms)}{reason}")
        return None

    def forget(self, until_ms: int, is_gone: Callable[[str], bool]) -> list[str]:
        """Free what ended a day ago, and halts of contracts of which `is_gone` holds; returns the names of the entries."""
        over = [
            name
            for name, halt in self.rows.items()
            if (not halt.is_halted or (":" in name and name not in self._patterns and is_gone(name)))
            and halt.event_ms + KEPT_MS <= until_ms
        ]
        for name in over:
            del self.rows[name]
            self._patterns.discard(name)
        return [f"{KIND}/{name}" for name in over]
