"""option_greeks: what is each option worth, and what are its Greeks, at each of its tickers?

Entries  venue:instrument, the terms of one option, from `instruments`; freed a day after its expiry
         told/<venue:instrument>, the newest mark volatility and forward of its tickers, each with its own time; freed with it
Order    the instruments of a batch are applied before its tickers; terms and parts of tickers by the rules of `kernels.market`
Late     tickers behind the watermark get rows like any other, from their own parts, and the known parts for the missing ones

A row for each option and instant of its tickers, in the exchange's convention: a message may have only some parts; the others
stay unchanged.  A ticker whose terms are unknown is a dead letter if it has mark_iv; without it, it is not of an option and is
skipped.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from engine.checks import checked, dead_letter, in_common_time
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels.market import tickers
from kernels.market.terms import Listing
from kernels.market.tickers import Ticker
from schemas.rows import Fault, key, shown, to_ms
from udfs import black76

VERSION = 2
KEPT_MS = 86_400_000


class Terms(NamedTuple):
    """The terms of a contract that the Greeks need."""

    published_ms: int
    underlying: str
    option_type: str
    strike_usd: float
    expiry_at: str
    expiry_ms: int


class Marks(NamedTuple):
    """The newest mark volatility and forward of an option, each with the event time of its message; -1 before the first."""

    mark_ms: int = -1
    mark_iv: float | None = None
    forward_ms: int = -1
    forward_usd: float | None = None


class State:
    """The options of one shard."""

    def __init__(self) -> None:
        self.listing: Listing[Terms] = Listing()
        self.marks: dict[str, Marks] = {}
        self.touched: set[str] = set()

    @property
    def options(self) -> dict[str, Terms]:
        """The terms of each option."""
        return self.listing.terms

    def free(self, until_ms: int) -> set[str]:
        """Forget options that expired a day or more before `until_ms`; returns their names."""
        expired = self.listing.free(until_ms - KEPT_MS)
        for name in expired:
            if self.marks.pop(name, None):
                self.touched.add("told/" + name)
        self.touched |= expired
        return expired

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, instrument = name.partition("/")
        stored = self.marks.get(instrument) if kind == "told" else self.options.get(name)
        return None if stored is None else packed(VERSION, list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        stored = unpacked("option_greeks", name, data, VERSION, MIGRATIONS)
        kind, _, instrument = name.partition("/")
        if kind == "told":
            self.marks[instrument] = Marks(*stored)
        else:
            self.listing.put(name, Terms(*stored))


MIGRATIONS: dict[int, Migration] = {1: lambda _, stored: stored}
"""Before version 2 no parts of tickers were stored."""


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: a row per option and instant of its tickers, by event time."""
    good, outputs = checked(messages, until_ms)
    for message in good:
        if message.table == "instruments":
            learn(state, message.row)
    priced: list[tuple[dict[str, Any], Terms]] = []
    for ticker in tickers.by_instant(good):
        if terms := state.options.get(ticker.name):
            priced.append((dict(ticker.row) | _take(state, ticker), terms))
        else:
            wrong = Fault("instrument", "an option whose terms are known", shown(ticker.row["instrument"]))
            marks = (message for message in ticker.messages if message.row.get("mark_iv") is not None)
            outputs += [dead_letter(message, wrong, until_ms) for message in marks]
    if priced:
        outputs += in_common_time(_answers(priced), until_ms)
    if until_ms is not None:
        state.free(until_ms)
    return outputs


def _take(state: State, ticker: Ticker) -> dict[str, float | None]:
    """Keep the newest parts of a ticker; returns the parts for its row: its own, else the known ones."""
    event_ms, name, row, _ = ticker
    known = state.marks.get(name, Marks())
    mark_iv, forward_usd = row.get("mark_iv"), row.get("forward_usd")
    marks = Marks(
        *tickers.newest((known.mark_ms, known.mark_iv), event_ms, mark_iv),
        *tickers.newest((known.forward_ms, known.forward_usd), event_ms, forward_usd),
    )
    if marks != known:
        state.marks[name] = marks
        state.touched.add("told/" + name)
    return {
        "mark_iv": known.mark_iv if mark_iv is None else mark_iv,
        "forward_usd": known.forward_usd if forward_usd is None else forward_usd,
    }


def learn(state: State, row: dict[str, Any]) -> str | None:
    """Keep the newest terms of an option, from a row of `instruments`; returns its name if they changed."""
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
    if not state.listing.learn(name, terms):
        return None
    state.touched.add(name)
    return name


def _answers(priced: list[tuple[dict[str, Any], Terms]]) -> list[Output]:
    """One row per ticker, its numbers from one vectorised call."""
    event_ms = [to_ms(row["event_at"]) for row, _ in priced]
    reasons = [_no_answer(row, terms, ms) for (row, terms), ms in zip(priced, event_ms, strict=True)]
    numbers = black76.deribit_greeks(
        F=floats(row.get("forward_usd") for row, _ in priced),
        K=floats(terms.strike_usd for _, terms in priced),
        T=floats((terms.expiry_ms - ms) / black76.MS_PER_YEAR for (_, terms), ms in zip(priced, event_ms, strict=True)),
        v=floats(row.get("mark_iv") for row, _ in priced),
        is_call=[terms.option_type == "call" for _, terms in priced],
    )
    columns = [column.tolist() for column in numbers]
    outputs: list[Output] = []
    for (row, terms), ms, reason, *values in zip(priced, event_ms, reasons, *columns, strict=True):
        if reason is None and not all(map(math.isfinite, values)):
            reason = "The formula has no finite answer for these inputs."
        output_row = {
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
        outputs.append(Output("option_greeks", ms, output_row))
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


def floats(values: Any) -> black76.FloatArray:
    """Numbers as an array, NaN for None."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


KERNEL = Kernel(
    name="option_greeks",
    version=VERSION,
    new=new,
    step=step,
    migrations=MIGRATIONS,
)
