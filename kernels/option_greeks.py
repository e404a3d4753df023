"""option_greeks: what are each option's Greeks, each time its venue marks it, its forward moves or its surface does?

Entries  venue:instrument, the terms of one option, from `instruments`; freed a day after its expiry
         mark/<venue:instrument>, its newest mark volatility, from `tickers`; freed with it
         expiry/<venue:underlying:expiry_at>, forward and slice of an expiry, from `forwards` and `vol_surfaces`; freed a
         day after it
Order    instruments, forwards and slices of a batch are applied before its tickers; the newest of each stands
Late     tickers behind the watermark are answered like any other: an answer depends on terms and ticker alone.  What else is
         late counts if it is still the newest

`option_greeks` has a row for each option ticker, in the exchange's convention.  `chain_greeks` has one for each option whose
forward, slice or mark has moved in the batch, priced together (`kernels.chain`); an option has rows there once its expiry has
had a forward or a slice, or the lack of one was told.

A ticker whose terms are unknown is a dead letter if it has mark_iv; without, it is not an option's and is passed over.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import orjson

from kernels import Message, Output, chain
from kernels.batch import Lines
from kernels.chain import Chain, Expiry, Option
from kernels.checks import checked, dead_letter
from schemas.rows import Fault, instant_ms, key, shown, to_ms
from udfs import black76

VERSION = 1
SHARED: frozenset[str] = frozenset()
EXPIRIES = ("forwards", "vol_surfaces")
"""The tables that tell of a whole expiry."""
KEPT_MS = 86_400_000


class Terms(NamedTuple):
    """What the Greeks need of a contract."""

    published_ms: int
    underlying: str
    option_type: str
    strike_usd: float
    expiry_at: str
    expiry_ms: int


class State:
    """The options of one shard."""

    def __init__(self) -> None:
        self.options: dict[str, Terms] = {}
        self.marks: dict[str, tuple[int, float | None]] = {}  # event time in ms, volatility
        self.expiries: dict[str, Expiry] = {}  # by venue:underlying:expiry_at
        self.expiry_ms: dict[str, int] = {}  # of those
        self.first_expiry_ms: float = math.inf
        self.touched: set[str] = set()
        self._chain: Chain | None = None

    def put(self, name: str, terms: Terms) -> None:
        """Set the terms of an option."""
        self.options[name] = terms
        self.first_expiry_ms = min(self.first_expiry_ms, terms.expiry_ms)
        self._chain = None

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
            names = sorted(self.options)
            groups: dict[str, int] = {}
            group = [groups.setdefault(_group(name, self.options[name]), len(groups)) for name in names]
            marks = [self.marks[name][1] if name in self.marks else None for name in names]
            options = [_option(name, self.options[name]) for name in names]
            self._chain = Chain(options, _floats(marks), groups, group)
            for name in groups.keys() & self.expiries.keys():
                self._chain.put(name, self.expiries[name])
        return self._chain

    def free(self, until_ms: int) -> None:
        """Forget what expired a day and more before `until_ms`."""
        if self.first_expiry_ms + KEPT_MS > until_ms:
            return
        gone = {name for name, terms in self.options.items() if terms.expiry_ms + KEPT_MS <= until_ms}
        for name in gone:
            del self.options[name]
        marks = gone & self.marks.keys()
        for name in marks:
            del self.marks[name]
        expiries = {name for name, expiry_ms in self.expiry_ms.items() if expiry_ms + KEPT_MS <= until_ms}
        for name in expiries:
            del self.expiries[name], self.expiry_ms[name]
        self.touched |= gone | {"mark/" + name for name in marks} | {"expiry/" + name for name in expiries}
        left = [terms.expiry_ms for terms in self.options.values()] + list(self.expiry_ms.values())
        self.first_expiry_ms = min(left, default=math.inf)
        self._chain = None

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any
        if kind == "mark":
            stored = self.marks.get(of)
        elif kind == "expiry":
            stored = None if of not in self.expiries else (self.expiry_ms[of], *self.expiries[of])
        else:
            stored = self.options.get(name)
        return None if stored is None else bytes([VERSION]) + orjson.dumps(list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back."""
        if data[0] != VERSION:
            raise ValueError(f"option_greeks: {name} is stored as version {data[0]}, this code reads version {VERSION}")
        kind, _, of = name.partition("/")
        stored = orjson.loads(data[1:])
        if kind == "mark":
            self.marks[of] = stored[0], stored[1]
        elif kind == "expiry":
            self.put_expiry(of, stored[0], Expiry(*stored[1:]))
        else:
            self.put(name, Terms(*stored))


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: an `option_greeks` row per option ticker, by event time, and `chain_greeks` rows."""
    good, letters = checked(messages, until_ms)
    rows, lines = apply(state, good, until_ms)
    return letters + rows + outputs(lines)


def apply(state: State, good: list[Message], until_ms: int | None) -> tuple[list[Output], list[Lines]]:
    """As `step`, of messages that are checked, with the `chain_greeks` rows as lines."""
    slices = [_quoted(message.table, message.row) for message in good if message.table in EXPIRIES]
    return _apply(state, [message for message in good if message.table not in EXPIRIES], slices, until_ms)


def outputs(lines: list[Lines]) -> list[Output]:
    """Lines as single rows."""
    return [Output(one.table, to_ms(row["event_at"]), row) for one in lines for row in chain.parsed(one)]


class Quoted(NamedTuple):
    """A forward, or a slice, of an expiry."""

    table: str
    event_ms: int
    group: str
    expiry_ms: int
    values: tuple[float | None, ...]


_SLICE = ("years", "svi_a", "svi_b", "svi_rho", "svi_m", "svi_sigma")


def _quoted(table: str, row: dict[str, Any]) -> Quoted:
    expiry_ms = to_ms(row["expiry_at"])
    group = f"{row['venue']}:{row['underlying']}:{instant_ms(expiry_ms)}"
    names = ("forward_usd",) if table == "forwards" else _SLICE
    return Quoted(table, to_ms(row["event_at"]), group, expiry_ms, tuple(row.get(name) for name in names))


def _apply(state: State, good: list[Message], slices: list[Quoted], until_ms: int | None) -> tuple[list[Output], list[Lines]]:
    outputs: list[Output] = []
    good.sort(key=lambda m: (to_ms(m.row["event_at"]), key(m.table, m.row), m.partition, m.offset))
    moved = {name for message in good if message.table == "instruments" and (name := _learn(state, message.row))}
    moved_groups = {quoted.group for quoted in sorted(slices, key=_place) if _take(state, quoted)}
    asked: list[tuple[dict[str, Any], Terms]] = []
    for message in good:
        if message.table != "tickers":
            continue
        row = message.row
        name = key("tickers", row)
        if terms := state.options.get(name):
            asked.append((row, terms))
            if _mark(state, name, row):
                moved.add(name)
        elif row.get("mark_iv") is not None:
            wrong = Fault("instrument", "an option whose terms are known", shown(row["instrument"]))
            outputs.append(dead_letter(message, wrong, until_ms))
    if asked:
        outputs += _answers(asked)
    lines: list[Lines] = []
    if moved or moved_groups:
        now_ms = until_ms - 1 if until_ms is not None else _newest_ms(good, slices)
        if (slots := _moved_slots(state, moved, moved_groups)).size:
            lines.append(state.chain.lines(slots, now_ms))
    if until_ms is not None:
        state.free(until_ms)
    return outputs, lines


def _place(quoted: Quoted) -> tuple[str, int, str]:
    return quoted.group, quoted.event_ms, repr(quoted.values)


def _newest_ms(good: list[Message], slices: list[Quoted]) -> int:
    return max([to_ms(message.row["event_at"]) for message in good] + [quoted.event_ms for quoted in slices])


def _take(state: State, quoted: Quoted) -> bool:
    """Keep the newest forward or slice; whether it moved."""
    known = state.expiries.get(quoted.group, Expiry())
    is_forward = quoted.table == "forwards"
    if quoted.event_ms < (known.forward_ms if is_forward else known.surface_ms):
        return False
    if is_forward:
        expiry = known._replace(forward_ms=quoted.event_ms, forward_usd=quoted.values[0])
    else:
        expiry = Expiry(known.forward_ms, known.forward_usd, quoted.event_ms, *quoted.values)
    if expiry == known:
        return False
    state.put_expiry(quoted.group, quoted.expiry_ms, expiry)
    state.touched.add("expiry/" + quoted.group)
    return True


def _mark(state: State, name: str, row: dict[str, Any]) -> bool:
    """Keep the newest mark; whether it moved."""
    event_ms, vol = to_ms(row["event_at"]), row.get("mark_iv")
    if vol is not None and vol <= 0:
        vol = None
    known = state.marks.get(name, (-1, None))
    if event_ms < known[0]:
        return False
    state.put_mark(name, event_ms, vol)
    state.touched.add("mark/" + name)
    return bool(vol != known[1])


def _moved_slots(state: State, moved: Iterable[str], groups: Iterable[str]) -> Any:
    """The places of the options whose mark or expiry moved, where their expiry is known."""
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


def _learn(state: State, row: dict[str, Any]) -> str | None:
    """Keep the newest terms of an option; its name where they changed."""
    if row["kind"] != "option":
        return None
    name = key("instruments", row)
    terms = Terms(
        to_ms(row["event_at"]),
        row["underlying"],
        row["option_type"],
        float(row["strike_usd"]),
        row["expiry_at"],
        to_ms(row["expiry_at"]),
    )
    known = state.options.get(name)
    # Of two rows of one instant the greater stands, so that the order within a batch does not matter.
    if known is not None and known >= terms:
        return None
    state.put(name, terms)
    state.touched.add(name)
    return name


def _answers(asked: list[tuple[dict[str, Any], Terms]]) -> list[Output]:
    """One row per ticker, its numbers from one vectorised call."""
    event_ms = [to_ms(row["event_at"]) for row, _ in asked]
    reasons = [_no_answer(row, terms, ms) for (row, terms), ms in zip(asked, event_ms, strict=True)]
    numbers = black76.deribit_greeks(
        F=_floats(row.get("forward_usd") for row, _ in asked),
        K=_floats(terms.strike_usd for _, terms in asked),
        T=_floats((terms.expiry_ms - ms) / black76.MS_PER_YEAR for (_, terms), ms in zip(asked, event_ms, strict=True)),
        v=_floats(row.get("mark_iv") for row, _ in asked),
        is_call=[terms.option_type == "call" for _, terms in asked],
    )
    columns = [column.tolist() for column in numbers]
    outputs: list[Output] = []
    for (row, terms), ms, reason, *values in zip(asked, event_ms, reasons, *columns, strict=True):
        if reason is None and not all(map(math.isfinite, values)):
            reason = "The formula has no finite answer for these inputs."
        answer = {
            "venue": row["venue"],
            "instrument": row["instrument"],
            "event_at": row["event_at"],
            "received_at": row["received_at"],
            "underlying": terms.underlying,
            "option_type": terms.option_type,
            "strike_usd": terms.strike_usd,
            "expiry_at": terms.expiry_at,
            "forward_usd": row.get("forward_usd"),
            "mark_iv": row.get("mark_iv"),
            **dict(zip(numbers._fields, values if reason is None else [None] * len(values), strict=True)),
            "reason": reason,
        }
        outputs.append(Output("option_greeks", ms, answer))
    return outputs


def _no_answer(row: dict[str, Any], terms: Terms, event_ms: int) -> str | None:
    if event_ms >= terms.expiry_ms:
        return f"The option expired at {terms.expiry_at}."
    if (iv := row.get("mark_iv")) is None:
        return "The ticker has no mark volatility."
    if iv <= 0:
        return f"The mark volatility {iv} is not above zero."
    if (forward := row.get("forward_usd")) is None:
        return "The ticker has no forward price."
    if forward <= 0:
        return f"The forward price {forward} is not above zero."
    return None


def _floats(values: Any) -> black76.FloatArray:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
