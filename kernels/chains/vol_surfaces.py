"""vol_surfaces: what is the volatility surface of each underlying, and how good is it?

Entries  quote/<venue:instrument>: see `kernels.chains.contracts`
         chain/<venue:underlying>: forwards, the slices of the last fit and its time; freed with the last contract
Refit    when the middle volatilities of an expiry have moved by `MOVED_VOL` on average since the last fit, or the number of
         quotes by `MOVED_QUOTES`, or the surface is `AGED_MS` old.  All expiries are fitted at once, because no calendar
         spread may be an arbitrage, and each starts from its last slice
Left out quotes of stale books and one-sided quotes; `udfs.vol_surface` leaves out quotes that are crossed or have no
         volatility, such as those in another currency than the forward
Reason   why an expiry has no slice, or, beside a slice, why that is far from its quotes: `udfs.vol_surface` has the bounds
Late     messages behind the watermark count if they are still the newest; the next batch fits them
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.checks import checked
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels.chains.contracts import Quotes, Underlying, with_currency
from kernels.market import indices
from schemas.rows import instant_ms, to_ms
from udfs import vol_surface
from udfs.black76 import MS_PER_YEAR, FloatArray
from udfs.implied_vol import implied_vol
from udfs.svi import Slice
from udfs.vol_surface import Surface

VERSION = 2
MOVED_VOL = 0.001
"""A tenth of a vol point."""
GREATEST_MOVE = 0.05
"""The most that the move of one quote counts for: one erratic quote must not cause endless fits."""
MOVED_QUOTES = 0.1
AGED_MS = 60_000

NO_SLICE = (math.nan,) * 5


class Last:
    """The state of a whole chain."""

    def __init__(self) -> None:
        self.forwards: dict[int, tuple[int, float | None, str, str]] = {}
        """By expiry in ms: event time in ms, forward, source, currency."""
        self.slices: dict[int, tuple[float, ...]] = {}  # a, b, ρ, m, σ
        self.fitted_ms: int | None = None


class State:
    """The underlyings of one shard."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.quotes = Quotes(self.touched)
        self.last: dict[Underlying, Last] = {}

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        if kind == "quote":
            quote = self.quotes.stored(subject)
            return None if quote is None else packed(VERSION, quote)
        venue, _, currency = subject.partition(":")
        last = self.last.get(Underlying(venue, currency))
        if last is None:
            return None
        forwards = [[expiry_ms, *forward] for expiry_ms, forward in last.forwards.items()]
        slices = [[expiry_ms, *raw] for expiry_ms, raw in last.slices.items()]
        return packed(VERSION, [last.fitted_ms, forwards, slices])

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        stored = unpacked("vol_surfaces", name, data, VERSION, MIGRATIONS)
        kind, _, subject = name.partition("/")
        if kind == "quote":
            self.quotes.put(subject, stored)
            return
        venue, _, currency = subject.partition(":")
        last = self.last[Underlying(venue, currency)] = Last()
        last.fitted_ms, forwards, slices = stored
        last.forwards = {expiry_ms: tuple(forward) for expiry_ms, *forward in forwards}
        last.slices = {expiry_ms: tuple(raw) for expiry_ms, *raw in slices}


def _with_currencies(name: str, stored: Any) -> Any:
    """To version 2, which has the currencies of contracts and forwards."""
    if name.startswith("quote/"):
        return with_currency(stored)
    fitted_ms, forwards, slices = stored
    return [fitted_ms, [[*forward, indices.USD] for forward in forwards], slices]


MIGRATIONS: dict[int, Migration] = {1: _with_currencies}


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: a row for each expiry of the surfaces that were fitted."""
    good, letters = checked(messages, until_ms)
    return letters + apply(state, good, until_ms, is_sweep=not messages)


def apply(state: State, good: list[Message], until_ms: int | None, *, is_sweep: bool) -> list[Output]:
    """As `step`, of messages that are checked."""
    outputs: list[Output] = []
    changed = state.quotes.take(good, until_ms)
    for message in sorted((message for message in good if message.table == "forwards"), key=_when):
        _take_forward(state, message.row, changed)
    if until_ms is None:
        return outputs
    state.quotes.free(until_ms)
    if is_sweep:
        for underlying in state.quotes.quiet(until_ms):
            if state.last.pop(underlying, None):
                state.touched.add(underlying.entry)
        for underlying, last in state.last.items():
            for expiry_ms in [ms for ms in last.forwards.keys() | last.slices.keys() if ms <= until_ms]:
                last.forwards.pop(expiry_ms, None)
                last.slices.pop(expiry_ms, None)
                state.touched.add(underlying.entry)
    for underlying in [
        underlying for underlying, last in state.last.items() if underlying not in state.quotes.chains and not last.forwards
    ]:
        del state.last[underlying]
        state.touched.add(underlying.entry)
    for underlying in sorted(changed & state.quotes.chains.keys()):
        outputs += _surface(state, underlying, until_ms - 1)
    return outputs


def _when(message: Message) -> tuple[int, int, int]:
    return to_ms(message.row["event_at"]), message.partition, message.offset


def _take_forward(state: State, row: dict[str, Any], changed: set[Underlying]) -> None:
    underlying, expiry_ms = Underlying(row["venue"], row["underlying"]), to_ms(row["expiry_at"])
    forward = to_ms(row["event_at"]), row.get("forward_usd"), row["source"], indices.quoted_in(row)
    last = state.last.setdefault(underlying, Last())
    if expiry_ms not in last.forwards or forward[0] >= last.forwards[expiry_ms][0]:
        last.forwards[expiry_ms] = forward
        state.touched.add(underlying.entry)
        changed.add(underlying)


def _surface(state: State, underlying: Underlying, now_ms: int) -> list[Output]:
    """The rows of one underlying if its surface must be fitted."""
    chain = state.quotes.chains[underlying]
    last = state.last.setdefault(underlying, Last())
    slots = chain.sorted().slots
    slots = slots[chain.rows["is_option"][slots] & (chain.rows["expiry_ms"][slots] > now_ms)]
    if not slots.size:
        return []
    rows = chain.rows[slots]
    expiries, at = np.unique(rows["expiry_ms"], return_inverse=True)
    nothing = (0, None, None, indices.USD)
    known = [last.forwards.get(expiry_ms, nothing) for expiry_ms in expiries.tolist()]
    # A price in one currency is useless with a forward in another.
    is_of_forward = rows["currency"] == np.array([known_forward[3] for known_forward in known])[at]
    forward = np.where(
        is_of_forward, np.array([known_forward[1] or math.nan for known_forward in known], dtype=np.float64)[at], math.nan
    )
    years = (expiries - now_ms) / MS_PER_YEAR
    is_stale = rows["is_stale"]
    is_one_sided = ~is_stale & ~((rows["bid"] > 0) & (rows["ask"] > 0))
    usable = np.flatnonzero(~is_stale & ~is_one_sided)
    bid_iv, ask_iv = _volatilities(rows[usable], forward[usable], years[at[usable]])
    middle = np.full(slots.size, math.nan)
    middle[usable] = np.where(ask_iv >= bid_iv, 0.5 * (bid_iv + ask_iv), math.nan)
    if not _has_moved(last, now_ms, rows["fit_iv"], middle, at, expiries.size):
        return []
    start = Slice(*np.array([last.slices.get(expiry_ms, NO_SLICE) for expiry_ms in expiries.tolist()]).T)
    with np.errstate(all="ignore"):
        k = np.log(rows["strike_usd"] / forward)
    surface = vol_surface.fit(years, at[usable], k[usable], bid_iv, ask_iv, start)
    chain.rows["fit_iv"][slots] = middle
    state.touched.update("quote/" + chain.names[slot] for slot in slots)
    last.fitted_ms = now_ms
    parameters = np.column_stack(surface.slices).tolist()
    last.slices = {
        expiry_ms: tuple(raw)
        for expiry_ms, raw, is_fitted in zip(expiries.tolist(), parameters, surface.is_fitted, strict=True)
        if is_fitted
    }
    state.touched.add(underlying.entry)
    counts = {
        "stale": np.bincount(at[is_stale], minlength=expiries.size),
        "one_sided": np.bincount(at[is_one_sided], minlength=expiries.size),
    }
    ages = [_median_age(rows["quote_ms"][np.isfinite(middle) & (at == i)], now_ms) for i in range(expiries.size)]
    outputs: list[Output] = []
    for i, expiry_ms in enumerate(expiries.tolist()):
        row = {
            "venue": underlying.venue,
            "underlying": underlying.currency,
            "expiry_at": instant_ms(expiry_ms),
            "event_at": instant_ms(now_ms),
            "forward_usd": known[i][1],
            "forward_source": known[i][2],
            **_slice(surface, i),
            **{name: int(count[i]) for name, count in counts.items()},
            "quote_age_ms": ages[i],
        }
        outputs.append(Output("vol_surfaces", now_ms, row))
    return outputs


def _volatilities(rows: NDArray[Any], forward: FloatArray, years: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bid and ask volatility from one call; a price in coin is one over the forward."""
    unit = np.where(rows["in_coin"], forward, 1.0)
    prices = np.concatenate([rows["bid"] * unit, rows["ask"] * unit])
    twice = [np.concatenate([x, x]) for x in (forward, rows["strike_usd"], years, rows["is_call"])]
    bid, ask = np.split(implied_vol(prices, *twice).vol, 2)
    return bid, ask


def _has_moved(last: Last, now_ms: int, before: FloatArray, after: FloatArray, at: NDArray[np.int64], expiries: int) -> bool:
    """Whether quotes have changed since the last fit by more than the bounds, or it has aged."""
    if last.fitted_ms is None or now_ms - last.fitted_ms >= AGED_MS:
        return True
    had, has = np.isfinite(before), np.isfinite(after)
    both = had & has
    moves = np.minimum(np.abs(after[both] - before[both]), GREATEST_MOVE)
    number = np.bincount(at[both], minlength=expiries)
    if np.any(np.bincount(at[both], moves, expiries) > MOVED_VOL * number):
        return True
    changes = np.bincount(at[had != has], minlength=expiries)
    return bool(np.any(changes > MOVED_QUOTES * np.bincount(at[had], minlength=expiries)))


def _median_age(quote_ms: NDArray[np.int64], now_ms: int) -> int | None:
    return max(now_ms - int(np.median(quote_ms)), 0) if quote_ms.size else None


def _slice(surface: Surface, i: int) -> dict[str, Any]:
    """The columns from the fit."""
    a, b, rho, m, sigma = (float(x[i]) for x in surface.slices)
    reason = vol_surface.TEXTS[vol_surface.Reason(int(surface.reason[i]))] or None
    years = float(surface.T[i])
    row: dict[str, Any] = {
        "years": years,
        "svi_a": a,
        "svi_b": b,
        "svi_rho": rho,
        "svi_m": m,
        "svi_sigma": sigma,
        "atm_vol": None,
        "atm_skew": None,
        "quotes": int(surface.quotes[i]),
        "excluded": int(surface.excluded[i]),
        "inside_share": _number(surface.inside_share[i]),
        "rmse_vol_points": _number(surface.rmse_vol_points[i]),
        "durrleman_min": _number(surface.g_min[i]),
        "calendar_min": _number(surface.calendar_min[i]),
        "is_arbitrage_free": None,
        "is_repaired": None,
        "reason": reason,
    }
    if not surface.is_fitted[i]:
        return row | dict.fromkeys(("svi_a", "svi_b", "svi_rho", "svi_m", "svi_sigma"))
    root = math.hypot(m, sigma)
    w, slope = a + b * (root - rho * m), b * (rho - m / root)
    row["atm_vol"], row["atm_skew"] = math.sqrt(w / years), slope / (2.0 * math.sqrt(w * years))
    row["is_arbitrage_free"] = bool(surface.g_min[i] >= 0.0 and not surface.calendar_min[i] < 0.0)
    row["is_repaired"] = bool(surface.is_repaired[i])
    return row


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


KERNEL = Kernel(
    name="vol_surfaces",
    version=VERSION,
    new=new,
    step=step,
    migrations=MIGRATIONS,
)
