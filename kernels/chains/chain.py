"""The options of a shard in arrays: priced by one call, and written as JSON by one compiled pass.

Forward   of the expiry, from `forwards`; it is the expected settlement
Surface   the slice of the expiry, from `vol_surfaces`, at k = ln(K/F) with the current forward: the smile moves with the
          forward
Settling  a settlement is the mean of the index over its last `AVERAGING_MS`, L years.  With T years left its variance is,
          to first order in that of the index (Turnbull and Wakeman 1991; Haug 2007, section 4.20), proportional to

              τ(T) = T - 2L/3  where T >= L,      τ(T) = T³/(3L²)  where T < L

          so a slice w of T0 years before expiry is w τ(T)/τ(T0) when T years are left, and decay is that of τ.  The averaged
          part no longer moves: only the share u = min(T/L, 1) of the forward does.  A slope along the price is of that share:
          delta u, gamma u², and so on; the fixed part of the forward is not shocked in a margin scenario either
Mark      the columns mark_… are the venue's: Black (1976) at mark_iv on the same forward, T as it is

The DDL of chain_greeks names the numbers of a row; see docs/choose_the_greeks.md.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.contract import Lines
from schemas.records import TABLES
from schemas.rows import instant_ms
from udfs import black_scholes, svi
from udfs.black76 import MS_PER_YEAR, FloatArray
from udfs.black_scholes import CoinGreeks, UsdGreeks
from udfs.compiled import compiled

TABLE = "chain_greeks"
AVERAGING_MS = 1_800_000
MARK = "mark_"

GREEKS = (*UsdGreeks._fields, *CoinGreeks._fields)
INPUTS = ("forward_usd", "surface_iv", "mark_iv", "moving_share")
NUMBERS = {*INPUTS, *GREEKS, *(MARK + name for name in GREEKS)}
"""The names of all numbers that a row can have."""

_TEXTS = ("venue", "instrument", "event_at", "underlying", "option_type", "strike_usd", "expiry_at", "reason")
COLUMNS = [name for name in TABLES[TABLE].columns if name not in _TEXTS]
"""The numbers that the DDL names."""

if unknown := sorted(set(COLUMNS) - NUMBERS):
    raise ValueError(f"schemas/{TABLE}.sql: no number is called {', '.join(unknown)}; there are {', '.join(sorted(NUMBERS))}")

REASONS = (
    None,
    "The option has expired.",
    "There is no forward for its expiry.",
    "There is no surface for its expiry.",
    "The formula has no finite answer for these inputs.",
)
PRICED, EXPIRED, NO_FORWARD, NO_SURFACE, NO_ANSWER = range(5)

_U1 = NDArray[np.uint8]
_I8 = NDArray[np.int64]


class Expiry(NamedTuple):
    """The forward and the slice of an expiry; None if there is none."""

    forward_ms: int = -1
    forward_usd: float | None = None
    surface_ms: int = -1
    years: float | None = None  # to expiry, when the slice was fitted
    a: float | None = None
    b: float | None = None
    rho: float | None = None
    m: float | None = None
    sigma: float | None = None


class Option(NamedTuple):
    """The columns of an option that do not depend on its price."""

    venue: str
    instrument: str
    underlying: str
    option_type: str
    strike_usd: float
    expiry_at: str
    expiry_ms: int


class Chain:
    """Options in order of their names, one element of an array each."""

    def __init__(self, options: list[Option], marks: FloatArray, groups: dict[str, int], group: list[int]) -> None:
        """`group` is the index of each option's expiry, `groups` the name of each expiry with its index."""
        self.slots = {option.venue + ":" + option.instrument: slot for slot, option in enumerate(options)}
        self.groups = groups
        self.group = np.array(group, dtype=np.int64)
        self.strike = np.array([option.strike_usd for option in options], dtype=np.float64)
        self.is_call = np.array([option.option_type == "call" for option in options], dtype=np.bool_)
        self.expiry_ms = np.array([option.expiry_ms for option in options], dtype=np.int64)
        self.marks = marks
        self.expiries = np.full((len(groups), len(Expiry._fields)), np.nan)
        self._heads = [_head(name) for name in self.slots]
        self._fixed = _Texts([_fixed(option) for option in options])

    def put(self, group: str, expiry: Expiry) -> None:
        """Set the forward and the slice of an expiry."""
        self.expiries[self.groups[group]] = [math.nan if value is None else value for value in expiry]

    def lines(self, slots: _I8, now_ms: int) -> Lines:
        """The rows of these options at this instant."""
        numbers, reasons = self.priced(slots, now_ms)
        json = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
        stamp = np.frombuffer(b',"event_at":"' + instant_ms(now_ms).encode() + b'"', np.uint8)
        fixed = int((self._fixed.starts[slots + 1] - self._fixed.starts[slots]).sum())
        per_row = stamp.size + int(_COLUMN_NAMES.starts[-1]) + _LONGEST_REASON + 2
        out = np.empty(len(json) + fixed + per_row * slots.size, np.uint8)
        size = _written(np.frombuffer(json, np.uint8), slots, *self._fixed, stamp, *_COLUMN_NAMES, reasons, *_REASON_TEXTS, out)
        time = b"%013d" % now_ms
        heads = b"\n".join([time + self._heads[slot] for slot in slots.tolist()])
        return Lines(TABLE, heads, out[:size].tobytes())

    def priced(self, slots: _I8, now_ms: int) -> tuple[FloatArray, _I8]:
        """`COLUMNS` of these options, NaN where there is no answer, and the index in `REASONS` of each."""
        expiry = dict(zip(Expiry._fields, self.expiries[self.group[slots]].T, strict=True))
        F, K, is_call, mark = expiry["forward_usd"], self.strike[slots], self.is_call[slots], self.marks[slots]
        T = (self.expiry_ms[slots] - now_ms) / MS_PER_YEAR
        u = np.clip(T / _L, 0.0, 1.0)
        with np.errstate(all="ignore"):
            k = np.log(K / F)
            w = svi.total_variance(svi.Slice(*(expiry[name] for name in svi.Slice._fields)), k)
            v = np.sqrt(w * _averaged(T) / _averaged(expiry["years"]) / T)
            decay = np.where(T < _L, 3.0, T / (T - 2.0 * _L / 3.0))
        has_mark = any(name.startswith(MARK) and name != "mark_iv" for name in COLUMNS)
        inputs = (F, K, T, v, is_call)
        if has_mark:
            inputs = tuple(np.concatenate(pair) for pair in zip(inputs, (F, K, T, mark, is_call), strict=True))
        greeks: dict[str, FloatArray] = black_scholes.usd_greeks(*inputs)._asdict()
        if _HAS_COIN:
            greeks |= black_scholes.coin_greeks(*inputs)._asdict()
        else:
            with np.errstate(all="ignore"):
                greeks["price_coin"] = greeks["price_usd"] / inputs[0]
        n = slots.size
        known = {"forward_usd": F, "surface_iv": v, "mark_iv": mark, "moving_share": u}
        known |= {name: column[:n] for name, column in greeks.items()}
        if has_mark:
            known |= {MARK + name: column[n:] for name, column in greeks.items()}
        numbers = np.stack([known[name] for name in COLUMNS], axis=1)
        if u.min() < 1.0:
            for i, order in _SLOPES:
                numbers[:, i] *= u**order
        numbers[:, _DECAYS] *= decay[:, None]
        is_good = (T > 0.0) & (F > 0.0) & np.isfinite(numbers[:, _OF_SURFACE]).all(axis=1)
        reasons = np.zeros(n, dtype=np.int64)
        if not is_good.all():
            conditions = [is_good, T <= 0.0, ~(F > 0.0), np.isnan(expiry["a"])]
            reasons = np.select(conditions, [PRICED, EXPIRED, NO_FORWARD, NO_SURFACE], NO_ANSWER)
            numbers[np.ix_(~is_good, _OF_SURFACE)] = np.nan
        return numbers, reasons


_L = AVERAGING_MS / MS_PER_YEAR
_MOVING = {
    "delta": (1, False),
    "premium": (1, False),
    "gamma": (2, False),
    "theta": (0, True),
    "vanna": (1, False),
    "charm": (1, True),
    "speed": (3, False),
    "zomma": (2, False),
    "color": (2, True),
}
"""By the first part of a Greek's name: its order as a slope along the price, and whether it is a slope along time."""
_OWN = [(i, _MOVING.get(name.partition("_")[0], (0, False))) for i, name in enumerate(COLUMNS) if name in GREEKS]
_SLOPES = [(i, order) for i, (order, _) in _OWN if order]
_DECAYS = [i for i, (_, is_decay) in _OWN if is_decay]
_OF_SURFACE = [i for i, name in enumerate(COLUMNS) if name in GREEKS or name == "surface_iv"]
_HAS_COIN = any(name.removeprefix(MARK) in CoinGreeks._fields and name.removeprefix(MARK) != "price_coin" for name in COLUMNS)


def _averaged(T: FloatArray) -> FloatArray:
    """τ(T)."""
    answer: FloatArray = np.where(T < _L, T**3 / (3.0 * _L**2), T - 2.0 * _L / 3.0)
    return answer


class _Texts(tuple[_U1, _I8]):
    """Concatenated texts, and the start of each, with the end as the last."""

    def __new__(cls, texts: list[bytes]) -> "_Texts":
        starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return super().__new__(cls, (np.frombuffer(b"".join(texts), np.uint8), starts))

    @property
    def starts(self) -> _I8:
        return self[1]


def _head(name: str) -> bytes:
    return orjson.dumps(name)[1:-1] if "\n" in name else name.encode()


def _fixed(option: Option) -> bytes:
    row = option._asdict()
    del row["expiry_ms"]
    return orjson.dumps(row)[:-1]


_COLUMN_NAMES = _Texts([f',"{name}":'.encode() for name in COLUMNS])
_REASON_TEXTS = _Texts([b',"reason":' + orjson.dumps(text) + b"}" for text in REASONS])
_LONGEST_REASON = int(np.diff(_REASON_TEXTS.starts).max())
_COMMA, _OPEN, _CLOSE, _NEWLINE = 44, 91, 93, 10


@compiled
def _written(
    json: _U1,
    slots: _I8,
    fixed: _U1,
    fixed_starts: _I8,
    stamp: _U1,
    names: _U1,
    name_starts: _I8,
    reasons: _I8,
    texts: _U1,
    text_starts: _I8,
    out: _U1,
) -> int:
    """Rows from an array of arrays of numbers: the fixed columns, the instant, each number after its name, the reason."""
    at, size = 1, 0
    for i in range(slots.size):
        if i:
            out[size] = _NEWLINE
            size += 1
        size = _copied(fixed, fixed_starts[slots[i]], fixed_starts[slots[i] + 1], out, size)
        size = _copied(stamp, 0, stamp.size, out, size)
        at += 1  # the opening bracket
        for column in range(name_starts.size - 1):
            size = _copied(names, name_starts[column], name_starts[column + 1], out, size)
            while json[at] != _COMMA and json[at] != _CLOSE:
                out[size] = json[at]
                size, at = size + 1, at + 1
            at += 1
        at += 1  # the comma between two rows
        size = _copied(texts, text_starts[reasons[i]], text_starts[reasons[i] + 1], out, size)
    return size


@compiled
def _copied(text: _U1, start: int, end: int, out: _U1, size: int) -> int:
    for i in range(start, end):
        out[size] = text[i]
        size += 1
    return size


def parsed(lines: Lines) -> list[dict[str, Any]]:
    """The rows in lines."""
    return [orjson.loads(line) for line in lines.values.split(b"\n")]
