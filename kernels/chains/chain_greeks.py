"""chain_greeks: what is every option worth, and what are its Greeks, each time its forward, its slice or its mark moves?

Entries  venue:instrument, the terms of one option, from `instruments`; freed a day after its expiry
         mark/<venue:instrument>, its newest mark volatility, from the `tickers` that have one; freed with it
         expiry/<venue:underlying:expiry_at>, forward and slice of an expiry, from `forwards` and `vol_surfaces`; freed a
         day after it
Order    the newest of each counts, whatever their order within a batch
Late     messages behind the watermark count if they are still the newest; the rows have the newest time of the late messages

All options that moved are priced together (`kernels.chains.chain`).  An option has rows once its expiry has had a row of
`forwards` or `vol_surfaces`, even one without a forward or slice.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.checks import checked
from engine.contract import Kernel, Lines, Message, Output
from engine.entries import packed, unpacked
from kernels import option_greeks
from kernels.chains import chain
from kernels.chains.chain import Chain, Expiry, Option
from kernels.market import tickers
from kernels.market.tickers import Ticker
from kernels.option_greeks import KEPT_MS, Terms, floats
from schemas.rows import instant_ms, to_ms

VERSION = 1
EXPIRIES = ("forwards", "vol_surfaces")
"""The tables whose rows are about a whole expiry."""


class State:
    """The options of one shard."""

    def __init__(self) -> None:
        self.terms = option_greeks.new()
        self.touched = self.terms.touched
        self.marks: dict[str, tuple[int, float | None]] = {}  # event time in ms, volatility
        self.expiries: dict[str, Expiry] = {}  # by venue:underlying:expiry_at
        self.expiry_ms: dict[str, int] = {}  # of those
        self.first_expiry_ms: float = math.inf  # of those
        self._chain: Chain | None = None

    def learn(self, row: dict[str, Any]) -> str | None:
        """Keep the newest terms of an option; returns its name if they changed."""
        if name := option_greeks.learn(self.terms, row):
            self._chain = None
        return name

    def put_mark(self, name: str, event_ms: int, vol: float | None) -> None:
        """Set the mark of an option whose terms are known."""
        self.marks[name] = event_ms, vol
        if self._chain:
            self._chain.marks[self._chain.slots[name]] = math.nan if vol is None else vol

    def put_expiry(self, name: str, expiry_ms: int, expiry: Expiry) -> None:
        """Set forward and slice of an expiry."""
        self.expiries[name], self.expiry_ms[name] = expiry, expiry_ms
        self.first_expiry_ms = min(self.first_expiry_ms, expiry_ms)
        if self._chain and name in self._chain.groups:
            self._chain.put(name, expiry)

    @property
    def chain(self) -> Chain:
        """All options in arrays."""
        if self._chain is None:
            terms = self.terms.options
            names = sorted(terms)
            groups: dict[str, int] = {}
            group = [groups.setdefault(_group(name, terms[name]), len(groups)) for name in names]
            marks = [self.marks[name][1] if name in self.marks else None for name in names]
            options = [_option(name, terms[name]) for name in names]
            self._chain = Chain(options, floats(marks), groups, group)
            for name in groups.keys() & self.expiries.keys():
                self._chain.put(name, self.expiries[name])
        return self._chain

    def free(self, until_ms: int) -> None:
        """Forget options and expiries that expired a day or more before `until_ms`."""
        if expired := self.terms.free(until_ms):
            self._chain = None
        for name in expired & self.marks.keys():
            del self.marks[name]
            self.touched.add("mark/" + name)
        if self.first_expiry_ms + KEPT_MS > until_ms:
            return
        for name in [name for name, expiry_ms in self.expiry_ms.items() if expiry_ms + KEPT_MS <= until_ms]:
            del self.expiries[name], self.expiry_ms[name]
            self.touched.add("expiry/" + name)
        self.first_expiry_ms = min(self.expiry_ms.values(), default=math.inf)

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        stored: Any
        if kind == "mark":
            stored = self.marks.get(subject)
        elif kind == "expiry":
            stored = None if subject not in self.expiries else (self.expiry_ms[subject], *self.expiries[subject])
        else:
            return self.terms.encode(name)
        return None if stored is None else packed(VERSION, list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if the bytes are of another version."""
        kind, _, subject = name.partition("/")
        if kind not in ("mark", "expiry"):
            self.terms.decode(name, data)
            self._chain = None
            return
        stored = unpacked("chain_greeks", name, data, VERSION)
        if kind == "mark":
            self.marks[subject] = stored[0], stored[1]
        else:
            self.put_expiry(subject, stored[0], Expiry(*stored[1:]))


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: a row for each option whose price may have moved."""
    good, letters = checked(messages, until_ms)
    return letters + outputs(apply(state, good, until_ms))


def outputs(lines: list[Lines]) -> list[Output]:
    """Lines as single rows."""
    return [Output(line.table, to_ms(row["event_at"]), row) for line in lines for row in chain.parsed(line)]


def apply(state: State, good: list[Message], until_ms: int | None) -> list[Lines]:
    """As `step`, of messages that are checked; the rows as lines."""
    good = sorted(good, key=_when)
    moved = {name for message in good if message.table == "instruments" and (name := state.learn(message.row))}
    groups = {group for message in good if message.table in EXPIRIES and (group := _take(state, message))}
    moved |= {ticker.name for ticker in tickers.by_instant(good) if _mark(state, ticker)}
    lines: list[Lines] = []
    if moved or groups:
        now_ms = until_ms - 1 if until_ms is not None else to_ms(good[-1].row["event_at"])
        if (slots := _moved_slots(state, moved, groups)).size:
            lines.append(state.chain.lines(slots, now_ms))
    if until_ms is not None:
        state.free(until_ms)
    return lines


def _when(message: Message) -> tuple[int, str, bytes]:
    # Messages of one instant are sorted by their contents: where they were read does not matter.
    return to_ms(message.row["event_at"]), message.table, orjson.dumps(message.row, option=orjson.OPT_SORT_KEYS)


_SLICE = ("years", "svi_a", "svi_b", "svi_rho", "svi_m", "svi_sigma")


def _take(state: State, message: Message) -> str | None:
    """Keep the newest forward or slice; returns its expiry if it moved."""
    row = message.row
    event_ms, expiry_ms = to_ms(row["event_at"]), to_ms(row["expiry_at"])
    group = f"{row['venue']}:{row['underlying']}:{instant_ms(expiry_ms)}"
    known = state.expiries.get(group, Expiry())
    is_forward = message.table == "forwards"
    if event_ms < (known.forward_ms if is_forward else known.surface_ms):
        return None
    if is_forward:
        expiry = known._replace(forward_ms=event_ms, forward_usd=row.get("forward_usd"))
    else:
        expiry = Expiry(known.forward_ms, known.forward_usd, event_ms, *(row.get(name) for name in _SLICE))
    if expiry == known:
        return None
    state.put_expiry(group, expiry_ms, expiry)
    state.touched.add("expiry/" + group)
    return group


def _mark(state: State, ticker: Ticker) -> bool:
    """Keep the newest mark of an option; returns whether it moved."""
    event_ms, name, row, _ = ticker
    known, mark_iv = state.marks.get(name, (-1, None)), row.get("mark_iv")
    if mark_iv is None or name not in state.terms.options or event_ms < known[0]:
        return False
    # A venue may send 0 where it has none.
    vol = mark_iv if mark_iv > 0 else None
    state.put_mark(name, event_ms, vol)
    state.touched.add("mark/" + name)
    return vol != known[1]


def _moved_slots(state: State, moved: Iterable[str], groups: Iterable[str]) -> NDArray[np.int64]:
    """The slots of the options whose mark or expiry moved and whose expiry is known."""
    options = state.chain
    is_moved = np.zeros(options.group.size, dtype=np.bool_)
    is_moved[[options.slots[name] for name in moved]] = True
    is_known, is_moved_group = np.zeros((2, len(options.groups)), dtype=np.bool_)
    is_known[[options.groups[group] for group in state.expiries.keys() & options.groups.keys()]] = True
    is_moved_group[[options.groups[group] for group in groups if group in options.groups]] = True
    return np.flatnonzero((is_moved & is_known[options.group]) | is_moved_group[options.group])


def _group(name: str, terms: Terms) -> str:
    return f"{name.partition(':')[0]}:{terms.underlying}:{instant_ms(terms.expiry_ms)}"


def _option(name: str, terms: Terms) -> Option:
    venue, _, instrument = name.partition(":")
    return Option(venue, instrument, terms.underlying, terms.option_type, terms.strike_usd, terms.expiry_at, terms.expiry_ms)


KERNEL = Kernel(
    name="chain_greeks",
    version=VERSION,
    new=new,
    step=step,
    parts=(option_greeks.KERNEL,),
)
