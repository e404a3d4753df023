"""What is kept of each table, and how the views ask for it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Row = dict[str, Any]


class Kept(NamedTuple):
    """What is kept of a table.

    key       columns; the newest row of each key by event time is kept; () for none
    ring      how many of the newest rows are kept, too
    ring_by   columns; a ring for each of their values; () for one ring
    every_ms  a row enters a ring only so long after the one before it
    tail      how many records of each partition are read back when somebody begins to look, heartbeats included
    """

    key: tuple[str, ...]
    ring: int = 0
    ring_by: tuple[str, ...] = ()
    every_ms: int = 0
    tail: int = 5_000


BOOK = ("venue", "instrument")
ALL = 100_000
"""For topics without heartbeats that are compacted: practically all of them."""

TABLES: Mapping[str, Kept] = {
    "account_margin": Kept(("account",), 300, ("account",)),
    "book_depth": Kept(BOOK, 240, BOOK, every_ms=250, tail=4_000),
    "book_metrics": Kept((*BOOK, "interval_s"), tail=2_000),
    "chain_greeks": Kept(BOOK, tail=50_000),
    "circuit_breaks": Kept(("break_id",), 200, tail=20_000),
    "controls_applied": Kept(("job", "shard", "scope"), tail=ALL),
    "dead_letters": Kept((), 200, tail=20_000),
    "feed_faults": Kept((), 1_000, tail=20_000),
    "feed_status": Kept(("feed",), tail=ALL),
    "forwards": Kept(("venue", "underlying", "expiry_at"), tail=20_000),
    "fund_entries": Kept(("currency",), 300, tail=20_000),
    "gateway_sessions": Kept(("gateway", "session"), tail=ALL),
    "instruments": Kept(BOOK, tail=50_000),
    "liquidation_events": Kept((), 400, tail=20_000),
    "liquidation_orders": Kept((), 200, tail=20_000),
    "margin_scalings": Kept(("underlying",), tail=20_000),
    "oracle_faults": Kept(("underlying", "source", "kind"), 200, tail=20_000),
    "oracle_prices": Kept(("underlying",), 300, ("underlying",), every_ms=200, tail=3_000),
    "oracle_sources": Kept(("underlying", "source"), tail=2_000),
    "position_margin": Kept(("account", *BOOK)),
    "trades": Kept((), 80, BOOK),
    "trading_controls": Kept(("scope",), tail=ALL),
    "trading_halts": Kept(BOOK, tail=30_000),
    "venue_clocks": Kept(("venue",), 120, ("venue",)),
    "venue_trades": Kept((), 80, BOOK),
    "vol_surfaces": Kept(("venue", "underlying", "expiry_at"), tail=20_000),
}

SECOND, CLUSTER = "_second", "_cluster"
"""What changes beside tables: each second, and what is known of the cluster."""


class Rows(Protocol):
    """What is known, now or at an instant of a finished run."""

    @property
    def epoch(self) -> int:
        """It changes where all that was told before no longer holds: rows of rings come again then."""

    @property
    def clock_ms(self) -> int:
        """The event time that has been reached, in ms since 1970; 0 where nothing is known."""

    def version(self, names: Sequence[str]) -> int:
        """A number that changes whenever one of these tables has changed, or one of `SECOND` and `CLUSTER`."""

    def newest(self, table: str, **equal: Any) -> list[Row]:
        """The newest row of each key, of those keys whose columns are as told."""

    def since(self, table: str, mark: int, **equal: Any) -> tuple[list[Row], int]:
        """The rows of a ring behind a mark, oldest first, and the next mark; mark 0 is the beginning."""

    def reached(self) -> dict[str, tuple[int, int]]:
        """By table, up to which time it is known (ms since 1970), and how many rows of it have been seen."""

    def cluster(self) -> dict[str, Any]:
        """What is known of Flink's jobs, by `page.flink`; empty where nothing is."""
