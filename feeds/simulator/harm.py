"""Scripted harm to sources of an oracle, as data: what is done to which source, and from when until when.

freeze      it goes on speaking, but its price stays the one before
withhold    nothing of it arrives
delay       its price is that of `size` ms before, though it says that it is of now: the move alone is late
spike       its price is multiplied by `size`
step_back   its clock is `size` ms behind
depeg       a coin loses `size` of its worth within ten seconds, and regains it in the last ten: its rates fall, and what is
            quoted in it rises
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from feeds import Record
from schemas.rows import instant_ms

FAULTS = {
    "freeze": "frozen",
    "withhold": "withheld",
    "delay": "delayed",
    "spike": "deviating",
    "step_back": "stepping_back",
    "depeg": "depegged",
}
"""The kind of `oracle_faults` by which each harm is found."""
SIZES = {"freeze": 0.0, "withhold": 0.0, "delay": 5_000.0, "spike": 100.0, "step_back": 5_000.0, "depeg": 0.05}
DEPEG_MS = 10_000
CONSENSUS = "consensus"
PRICES = {"index_prices": "price_usd", "oracle_updates": "price"}
"""The column with the price, by table."""


class Harm(NamedTuple):
    """What is done to one source."""

    kind: str  # of `FAULTS`
    source: str  # as in `oracle_sources`: venue:kind:feed; of a depeg the coin
    from_ms: int  # event time
    until_ms: int
    size: float | None = None  # None for that of `SIZES`

    @property
    def amount(self) -> float:
        """Its size."""
        return SIZES[self.kind] if self.size is None else self.size

    @property
    def fault(self) -> tuple[str, str]:
        """By which source, and as what, `oracle_faults` must name it."""
        return CONSENSUS if self.kind == "depeg" else self.source, FAULTS[self.kind]

    def worth(self, event_ms: int) -> float:
        """What a coin is worth in a depeg, as a part of before."""
        lost = min(event_ms - self.from_ms, self.until_ms - event_ms) / DEPEG_MS
        return 1 - self.amount * min(max(lost, 0.0), 1.0)


def source_of(table: str, row: Any) -> str:
    """The name of the source that published a row of `PRICES`, as in `oracle_sources`."""
    if table == "oracle_updates":
        return f"{row['venue']}:publisher:{row['instrument']}"
    quote = row.get("quote_currency") or "USD"
    return f"{row['venue']}:index:{row['underlying']}" + ("" if quote == "USD" else f":{quote}")


def harmed(records: Iterable[Record], harms: Sequence[Harm]) -> Iterator[Record]:
    """The records with the harms done to them, in the order given; all else is as it was, and in the same order."""
    said: list[deque[tuple[int, float]]] = [deque() for _ in harms]  # by each harm's source, as long as it may be needed
    for record in records:
        changed: Record | None = record
        if record.table in PRICES:
            source = source_of(record.table, record.row)
            for harm, heard in zip(harms, said, strict=True):
                if harm.kind == "depeg":
                    changed = changed and _depegged(changed, harm)
                elif harm.source == source:
                    _hear(harm, heard, record)
                    if changed is not None and harm.from_ms <= record.event_ms < harm.until_ms:
                        changed = _done(changed, harm, heard[0][1])
        if changed is not None:
            yield changed


def _hear(harm: Harm, heard: deque[tuple[int, float]], record: Record) -> None:
    """Remember what a source says, so that the oldest of it is what the harm lets it say."""
    if harm.kind == "freeze" and heard and record.event_ms >= harm.from_ms:
        return
    heard.append((record.event_ms, record.row[PRICES[record.table]]))
    wanted_ms = record.event_ms - (int(harm.amount) if harm.kind == "delay" else 0)
    while len(heard) > 1 and heard[1][0] <= wanted_ms:
        heard.popleft()


def _done(record: Record, harm: Harm, before: float) -> Record | None:
    row, column = dict(record.row), PRICES[record.table]
    if harm.kind == "withhold":
        return None
    if harm.kind == "step_back":
        event_ms = record.event_ms - int(harm.amount)
        return record._replace(event_ms=event_ms, row=row | {"event_at": instant_ms(event_ms)})
    return record._replace(row=row | {column: row[column] * harm.amount if harm.kind == "spike" else before})


def _depegged(record: Record, harm: Harm) -> Record:
    row, column, worth = dict(record.row), PRICES[record.table], harm.worth(record.event_ms)
    if row["underlying"] == harm.source:
        return record._replace(row=row | {column: row[column] * worth})
    if (row.get("quote_currency") or "USD") == harm.source:
        return record._replace(row=row | {column: row[column] / worth})
    return record
