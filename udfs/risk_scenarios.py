"""Sets of scenarios: joint moves of spots and vols, named or from history, drawn, or from a user's file.

A set has a name and a version, which every answer tells.  Moves are fractions: -0.37 is 37 % down; that of a vol is a fraction
of the vol.  An underlying without history has no moves (NaN) and a reason, or those of a proxy that is named; never zero.

    stresses      what happened on a day: to its close, and to its low, which closes hide (2021-05-19: -14 % and -29 %)
    historical    the log-returns of the last `WINDOW` days, as they were
    filtered      each scaled from the vol forecast for its day to today's (Hull and White 1998, "Incorporating volatility
                  updating into the historical simulation method"), with the correlations likewise (`joint_filter`)
    monte_carlo   drawn from covariances, normal or Student

Where no history of vols is known their moves are assumed, and marked: by `VOL_PER_SPOT` a vol rises by as large a share of
itself as its spot falls.

A file of stresses, in `udfs/scenario_sets/` or a user's, has `version`, `scenarios` and, if it wishes, `about` and
`vol_per_spot`.  A scenario has a `name`, `spot`, and maybe `vol` and `source`; both map underlyings to moves.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import ArrayLike, NDArray

from udfs.margin_parameters import Entry
from udfs.risk_correlations import DECAY, ewma_covariances, root
from udfs.risk_values import Moves, moves

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SETS = {
    file.name.removesuffix(".json"): file.read_text(encoding="utf-8")
    for file in sorted((files("udfs") / "scenario_sets").iterdir(), key=lambda file: file.name)
    if file.name.endswith(".json")
}
"""Every set's text by its name.  Read at import: a job's files are deleted when it ends, while its modules stay loaded."""
WINDOW, LEAST_DAYS = 500, 100
"""Below a hundred days 99 % is beyond the worst of them."""
NOISE = 0.05
"""How much of the correlations that scale a day is taken to be noise: our own choice.  Without it a day on which two coins did
not move as one, though they usually do, would be blown up; see docs/risk.md for what the backtests say."""
VOL_PER_SPOT = -1.0
"""Relative move of a vol for each unit of the spot's: our own choice, for want of a history."""


class ScenarioSet(NamedTuple):
    """Joint moves, underlyings × scenarios."""

    name: str
    version: str
    underlyings: tuple[str, ...]
    scenarios: tuple[str, ...]
    spot: FloatArray  # NaN where an underlying has no move
    vol: FloatArray
    is_vol_assumed: BoolArray
    reasons: Mapping[str, str]  # why an underlying has no moves
    sources: tuple[str, ...] = ()  # of each scenario, where told


class Fitted(NamedTuple):
    """A set for the underlyings that are held."""

    moves: Moves  # NaN for an underlying without
    sources: dict[str, str]  # by underlying: its own name, or that of its proxy
    missing: dict[str, str]  # by underlying, the reason


class History(NamedTuple):
    """Daily log-returns, days × underlyings; NaN where there is none."""

    days: tuple[str, ...]  # the end of each return
    underlyings: tuple[str, ...]
    returns: FloatArray
    vol_returns: FloatArray | None = None  # of implied vols, likewise


def names() -> list[str]:
    """The named sets there are."""
    return list(SETS)


def scenario_set(name: str) -> ScenarioSet:
    """The set of that name.  Raises `KeyError` where there is none, `ValueError` naming file and field where it is wrong."""
    if name not in SETS:
        raise KeyError(f"no scenario set {name!r}; there are {', '.join(names())}")
    return from_file(Entry.of_text(SETS[name], f"{name}.json"), name)


def from_file(entry: Entry, name: str) -> ScenarioSet:
    """A set from the content of a file.  Raises `ValueError` naming file and field where it is wrong."""
    per_spot = entry["vol_per_spot"].number() if "vol_per_spot" in entry else VOL_PER_SPOT
    listed = entry["scenarios"].items()
    if not listed:
        raise entry["scenarios"].wrong("at least one scenario")
    titles = [item["name"].text() for item in listed]
    if doubled := sorted({title for title in titles if titles.count(title) > 1}):
        raise ValueError(f"{entry['scenarios'].where} two scenarios are named {doubled[0]!r}")
    spots = [_moves(item["spot"]) for item in listed]
    vols = [_moves(item["vol"]) if "vol" in item else {} for item in listed]
    for item, spot, vol in zip(listed, spots, vols, strict=True):
        if not spot:
            raise item["spot"].wrong("at least one move")
        if alone := sorted(vol.keys() - spot.keys()):
            raise ValueError(f"{item['vol'].where}.{alone[0]} has no move of its spot")
    underlyings = tuple(sorted({underlying for spot in spots for underlying in spot}))
    spot_moves = _matrix(underlyings, spots)
    vol_moves = _matrix(underlyings, vols)
    is_assumed = np.isnan(vol_moves) & ~np.isnan(spot_moves)
    vol_moves = np.where(is_assumed, _assumed(spot_moves, per_spot), vol_moves)
    sources = tuple(item["source"].text() if "source" in item else "" for item in listed)
    version = entry["version"].text()
    return ScenarioSet(name, version, underlyings, tuple(titles), spot_moves, vol_moves, is_assumed, {}, sources)


def fitted(given: ScenarioSet, held: Sequence[str], proxies: Mapping[str, str] | None = None) -> Fitted:
    """The moves of the underlyings that are held, in their order.

    One that the set does not have in every scenario takes the moves of its proxy; without one, it is missing, with a reason.
    """
    rows, sources, missing = [], {}, {}
    for underlying in held:
        own = _row(given, underlying)
        proxy = (proxies or {}).get(underlying)
        if own is None and proxy is not None:
            own, sources[underlying] = _row(given, proxy), proxy
        elif own is not None:
            sources[underlying] = underlying
        if own is None:
            sources.pop(underlying, None)
            reason = given.reasons.get(underlying, f"not in every scenario of the set {given.name} {given.version}")
            missing[underlying] = reason if proxy is None else f"{reason}; nor its proxy {proxy}"
        rows.append(own)
    count = len(given.scenarios)
    spot, vol = np.full((len(rows), count), np.nan), np.full((len(rows), count), np.nan)
    for at, row in enumerate(rows):
        if row is not None:
            spot[at], vol[at] = given.spot[row], given.vol[row]
    return Fitted(moves(spot, vol), sources, missing)


def historical(
    history: History,
    *,
    name: str = "filtered",
    version: str | None = None,
    window: int = WINDOW,
    decay: float | None = DECAY,
    noise: float | None = NOISE,
    horizon_days: float = 1.0,
    least_days: int = LEAST_DAYS,
) -> ScenarioSet:
    """The last `window` days as scenarios for the next: filtered; with `noise=None` by vols alone, with `decay=None` not.

    An underlying with a return missing in these days has no moves, with a reason.  Longer horizons are scaled by the root
    of time.  The version is the last day, if not told.  Raises `ValueError` where the history has less than `least_days`.
    """
    count = min(window, len(history.days))
    if count < least_days:
        raise ValueError(f"expected a history of at least {least_days} days, got {count}")
    returns = np.asarray(history.returns, dtype=np.float64)
    recent = returns[-count:]
    reasons = {}
    for column, underlying in enumerate(history.underlyings):
        is_known = np.isfinite(recent[:, column])
        if not is_known.all():
            first = history.days[len(returns) - count + int(np.flatnonzero(~is_known)[0])]
            reasons[underlying] = f"has {int(is_known.sum())} of {count} days of history, none on {first}"
    known = [column for column, underlying in enumerate(history.underlyings) if underlying not in reasons]
    spot, vol = np.full((2, len(history.underlyings), count), np.nan)
    is_assumed = np.zeros(spot.shape, dtype=np.bool_)
    if known:
        # What comes before the window warms the forecasts up; it starts where all have it.
        complete = np.flatnonzero(~np.isfinite(returns[:, known]).all(axis=1))
        usable = returns[complete[-1] + 1 if len(complete) else 0 :, known]
        scaled = usable[-count:] if decay is None else joint_filter(usable, count, decay, noise)
        spot[known] = np.expm1(scaled * math.sqrt(horizon_days)).T
        vol[known], is_assumed[known] = _assumed(spot[known], VOL_PER_SPOT), True
    if history.vol_returns is not None:
        measured = np.asarray(history.vol_returns, dtype=np.float64)[-count:].T
        has_vol = np.isfinite(measured).all(axis=1) & np.isfinite(spot).all(axis=1)
        vol[has_vol] = np.expm1(measured[has_vol] * math.sqrt(horizon_days))
        is_assumed[has_vol] = False
    days = tuple(history.days[-count:])
    return ScenarioSet(name, version or days[-1], history.underlyings, days, spot, vol, is_assumed, reasons)


def joint_filter(returns: ArrayLike, count: int, decay: float = DECAY, noise: float | None = NOISE) -> FloatArray:
    """The last `count` of returns (days × series), each as it would be with the covariances forecast for the next day.

    By vols alone (`noise=None`): r_t σ_T/σ_t, Hull and White's.  With correlations, whose off-diagonal is taken at 1 - noise:

        r_t → L_T L_t⁻¹ r_t,   L = D S,   S the symmetric root of (1 - noise) R + noise 1

    after Duffie and Pan (1997), "An overview of value at risk", Journal of Derivatives 4.  σ_t and R_t are the forecasts for
    day t from the days before it, and D has the σ_t on its diagonal; T is the day after the last.
    """
    array = np.asarray(returns, dtype=np.float64)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    return rescaled(array[-count:], ewma_covariances(array, decay)[-count - 1 :], noise)


def rescaled(returns: FloatArray, covariances: FloatArray, noise: float | None) -> FloatArray:
    """Returns of some days with the covariances of the day after; `covariances` are those of each of the days and of that one.

    The return of a series that stood still before, so that its vol was forecast as 0, is not scaled by vols.
    """
    vols = np.sqrt(np.einsum("tii->ti", covariances))
    scale = np.where(vols[:-1] > 0.0, vols[:-1], np.where(vols[-1] > 0.0, vols[-1], 1.0))
    unit = returns / scale
    if noise is not None and returns.shape[1] > 1:
        white, colour = _roots(covariances, vols, noise)
        unit = np.einsum("tij,tj->ti", white[:-1], unit) @ colour[-1].T
    return np.asarray(unit * np.where(vols[-1] > 0.0, vols[-1], 1.0), dtype=np.float64)


def monte_carlo(
    underlyings: Sequence[str],
    covariance: ArrayLike,
    scenarios: int,
    seed: int,
    *,
    name: str = "monte_carlo",
    version: str = "1",
    freedom: float | None = None,
    horizon_days: float = 1.0,
) -> ScenarioSet:
    """Scenarios drawn from daily covariances of the spots' log-returns, or of spots and then vols, twice as many.

    Every draw is used with both signs, so `scenarios` is even.  With `freedom` above 2, a common factor makes the tails
    Student's, of the same covariance.  The same arguments give the same set.  Raises `ValueError` where the covariance is not
    positive semi-definite or does not fit.
    """
    count = len(underlyings)
    factors = root(covariance)
    if len(factors) not in (count, 2 * count) or scenarios < 2 or scenarios % 2:
        raise ValueError(f"expected covariances of {count} or {2 * count} factors and an even number of scenarios")
    if freedom is not None and not freedom > 2.0:
        raise ValueError(f"expected more than 2 degrees of freedom, got {freedom}")
    random = Generator(Philox(key=seed))
    half = random.standard_normal((scenarios // 2, len(factors))) @ factors.T
    if freedom is not None:
        half *= np.sqrt((freedom - 2.0) / random.chisquare(freedom, scenarios // 2))[:, np.newaxis]
    drawn = np.expm1(np.concatenate([half, -half]).T * math.sqrt(horizon_days))
    spot, is_assumed = drawn[:count], np.full((count, scenarios), len(factors) == count)
    vol = _assumed(spot, VOL_PER_SPOT) if len(factors) == count else drawn[count:]
    titles = tuple(f"draw {number}" for number in range(1, scenarios + 1))
    return ScenarioSet(name, version, tuple(underlyings), titles, spot, vol, is_assumed, {})


def _roots(covariances: FloatArray, vols: FloatArray, noise: float) -> tuple[FloatArray, FloatArray]:
    """Inverse symmetric roots and symmetric roots of the correlations of each day."""
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = covariances / (vols[:, :, np.newaxis] * vols[:, np.newaxis, :])
    correlations = (1.0 - noise) * np.nan_to_num(correlations, nan=0.0)
    index = np.arange(vols.shape[1])
    correlations[:, index, index] = 1.0
    values, vectors = np.linalg.eigh(correlations)
    sizes = np.sqrt(np.maximum(values, 1e-12))[:, np.newaxis, :]
    turned = vectors.transpose(0, 2, 1)
    return (vectors / sizes) @ turned, (vectors * sizes) @ turned


def _assumed(spot: FloatArray, per_spot: float) -> FloatArray:
    # No vol falls below a tenth of itself.
    return np.asarray(np.maximum(per_spot * spot, -0.9), dtype=np.float64)


def _row(given: ScenarioSet, underlying: str) -> int | None:
    if underlying not in given.underlyings:
        return None
    row = given.underlyings.index(underlying)
    return row if np.isfinite(given.spot[row]).all() else None


def _moves(entry: Entry) -> dict[str, float]:
    return {underlying: move.number(above=-1.0) for underlying, move in entry.fields()}


def _matrix(underlyings: tuple[str, ...], given: list[dict[str, float]]) -> FloatArray:
    return np.array([[scenario.get(underlying, math.nan) for scenario in given] for underlying in underlyings])
