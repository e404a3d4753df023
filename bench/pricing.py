"""How fast are prices, volatilities, Greeks and surfaces, beside QuantLib, vollib and fast-vollib?  `make bench BENCH=pricing`.

The mathematics, in this process and on one core, with compiled code warm:

  iv_per_s          implied volatilities of options out of the money, one call for all
  greeks_per_s      delta, gamma, vega, theta and rho of the same options; all five count as one
  all_greeks_per_s  value and all thirteen Greeks in USD
  surface_*_ms      from the prices of 1,508 options on 13 expiries to a fitted surface: bid and ask volatilities and the fit,
                    from nothing (cold) and from the last surface after every quote has moved (warm)
  surface_*_real_like
                    over 100 chains as a venue quotes them (`bench/real_like.py`), fitted from nothing: the share of quotes
                    inside, the share of slices with less than half of their quotes inside, and of slices marked as far from
                    their quotes; and the time for a chain with given volatilities

The job `chains`, Kafka to Kafka, on a broker and a cluster of its own (`bench/repricing.py`):

  job_rows_per_s              rows of `chain_greeks` written while the job catches up with ticks of all futures
  reprice_p99_ms              from a tick of all futures to the last of 2,002 options' rows, read back, at two ticks a second
  reprice_without_wait_*_ms   the same from the end of the tick's window: the time of the job itself

The peers value the same options in an environment of their own (`peers/pricing.py`), on the same core right afterwards; the
names of their figures contain theirs.  A rate is the best of a few rounds, when nothing else runs; the time of a surface is a
median.  An error is the greatest relative error against the volatility from which the price was made.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from bench import real_like, repricing
from bench.passes import BenchError, peers_python
from bench.report import Figures, run_chosen
from udfs import black76, black_scholes, svi, vol_surface
from udfs.black76 import FloatArray
from udfs.implied_vol import implied_vol
from udfs.vol_surface import Surface

HERE = Path(__file__).parent
ROUNDS = 15
CHAINS = 100
FORWARD, YEARS = 60_000.0, 30 / 365
EXPIRIES = np.array([1, 2, 3, 7, 14, 21, 30, 60, 90, 150, 240, 330, 500]) / 365
STRIKES = 58


class Options(NamedTuple):
    """Options out of the money on one forward and one expiry."""

    K: FloatArray
    v: FloatArray
    price: FloatArray
    is_call: Any


class Quotes(NamedTuple):
    """The chain that a surface is fitted to, in USD."""

    expiry: Any  # index in `EXPIRIES`
    K: FloatArray
    is_call: Any
    bid: FloatArray
    ask: FloatArray


def options(number: int) -> Options:
    """Strikes within three standard deviations."""
    rng = np.random.default_rng(1)
    v = rng.uniform(0.2, 1.5, number)
    K = FORWARD * np.exp(rng.uniform(-3.0, 3.0, number) * v * np.sqrt(YEARS))
    is_call = K >= FORWARD
    return Options(K, v, black76.price(FORWARD, K, YEARS, v, is_call), is_call)


def chain(seed: int) -> Quotes:
    """Calls and puts on a surface of SSVI, the middle off by up to half of a half-spread."""
    rng = np.random.default_rng(seed)
    theta = 0.5 * EXPIRIES
    phi = 0.9 / (theta**0.45 * (1 + theta) ** 0.55)
    rho, root = -0.3, np.sqrt(1 - 0.3**2)
    raw = svi.Slice(theta * root**2 / 2, theta * phi / 2, np.full(theta.shape, rho), -rho / phi, root / phi)
    expiry = np.repeat(np.arange(EXPIRIES.size), 2 * STRIKES)
    k = np.tile(np.repeat(np.linspace(-3.0, 3.0, STRIKES), 2), EXPIRIES.size) * np.sqrt(theta[expiry])
    T, K, is_call = EXPIRIES[expiry], FORWARD * np.exp(k), np.arange(k.size) % 2 == 0
    v = np.sqrt(svi.total_variance(svi.Slice(*(x[expiry] for x in raw)), k) / T)
    half = rng.uniform(0.003, 0.015, k.size)
    v += half * rng.uniform(-0.5, 0.5, k.size)
    bid, ask = (black76.price(FORWARD, K, T, x, is_call) for x in (v - half, v + half))
    return Quotes(expiry, K, is_call, bid, ask)


def fit(quotes: Quotes, last: Surface | None = None) -> Surface:
    """A surface from prices."""
    T = EXPIRIES[quotes.expiry]
    bid, ask = (implied_vol(price, FORWARD, quotes.K, T, quotes.is_call).vol for price in (quotes.bid, quotes.ask))
    k = np.log(quotes.K / FORWARD)
    return vol_surface.fit(EXPIRIES, quotes.expiry, k, bid, ask, last.slices if last else None)


def per_s(number: int, work: Callable[[], Any]) -> float:
    """The best rate of `ROUNDS`, after one that compiles."""
    work()
    return number / min(seconds(work) for _ in range(ROUNDS))


def seconds(work: Callable[[], Any]) -> float:
    """The time of a call."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def mathematics(number: int) -> dict[str, Any]:
    """Our own figures."""
    o = options(number)
    answer = implied_vol(o.price, FORWARD, o.K, YEARS, o.is_call)
    chains = [chain(seed) for seed in range(ROUNDS + 1)]
    surfaces = [fit(quotes) for quotes in chains]
    if any(surface.reason.any() or np.average(surface.inside_share) < 0.99 for surface in surfaces):
        raise BenchError("a surface does not fit its quotes")
    cold_s = [seconds(partial(fit, quotes)) for quotes in chains]
    warm_s = [seconds(partial(fit, chains[i + 1], surfaces[i])) for i in range(ROUNDS)]
    return {
        "iv_per_s": round(per_s(number, lambda: implied_vol(o.price, FORWARD, o.K, YEARS, o.is_call))),
        "iv_error": float(np.max(np.abs(answer.vol / o.v - 1.0))),
        "greeks_per_s": round(per_s(number, lambda: black76.greeks(FORWARD, o.K, YEARS, o.v, o.is_call))),
        "all_greeks_per_s": round(per_s(number, lambda: black_scholes.usd_greeks(FORWARD, o.K, YEARS, o.v, o.is_call))),
        "surface_warm_ms": round(1e3 * median(warm_s), 2),
        "surface_cold_ms": round(1e3 * median(cold_s), 2),
        "surface_inside_share": round(float(np.mean([np.mean(surface.inside_share) for surface in surfaces])), 4),
        "surface_options": int(chains[0].K.size),
        "surface_expiries": int(EXPIRIES.size),
        "options": number,
    }


def real_likeness() -> dict[str, Any]:
    """The quality of surfaces for quotes like a venue's."""
    chains = [real_like.chain(seed) for seed in range(CHAINS)]
    surfaces = [vol_surface.fit(*chain) for chain in chains]
    fit_s = [seconds(partial(vol_surface.fit, *chain)) for chain in chains]
    shares, quotes, reasons = (
        np.concatenate([getattr(surface, name)[surface.is_fitted] for surface in surfaces])
        for name in ("inside_share", "quotes", "reason")
    )
    return {
        "surface_inside_share_real_like": round(float(np.average(shares, weights=quotes)), 4),
        "surface_under_half_share_real_like": round(float(np.mean(shares < 0.5)), 4),
        "surface_far_share_real_like": round(float(np.mean(reasons != vol_surface.Reason.NONE)), 4),
        "surface_ms_real_like": round(1e3 * median(fit_s), 2),
        "surface_slices_real_like": int(shares.size),
    }


def peers(number: int) -> dict[str, Any]:
    """The figures of the peers for the same options."""
    o = options(number)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "options.npz"
        np.savez(path, F=FORWARD, T=YEARS, **o._asdict())
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        command = [peers_python(), str(HERE / "peers" / "pricing.py"), str(path)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"the peers have failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


PARTS = ("job", "mathematics", "peers")


def main(
    number: Annotated[int, typer.Option("--options", min=20_000, help="Options in one call.")] = 100_000,
    parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure the job, then the mathematics and the peers on one core; other parts keep their figures."""
    every: dict[str, Callable[[], Figures]] = {
        "job": repricing.measured,
        "mathematics": lambda: on_one_core(lambda: mathematics(number) | real_likeness()),
        "peers": lambda: on_one_core(lambda: peers(number)),
    }
    run_chosen("pricing", every, parts)


def on_one_core(measure: Callable[[], Figures]) -> Figures:
    """The figures of a function while this process and its children are bound to one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        return measure()
    finally:
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    typer.run(main)
