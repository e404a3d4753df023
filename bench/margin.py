"""How fast is margin, and how soon does a price become a liquidation order?  `make bench BENCH=margin`.

The kernel, on one core: 100,000 accounts hold a million positions in 2,000 instruments (the options, a perpetual and a coin of
each of four underlyings), and are revalued in the 31 scenarios of `scenario_grid`.

  full         every instrument valued, every account's requirement on every underlying, and their sum
  incremental  the same when one underlying has moved: the one with most positions, four in ten of them
  pandas       the full work by a data frame of positions, grouped by account and expiry
  account loop the full work account by account, each with numpy; measured on `LOOP_ACCOUNTS` and scaled up

Both peers start from the same values of instruments, and their times include the valuation.  If their requirements differ, the
run fails.  Times are medians.

The jobs: from a price in Kafka to the order in Kafka, and a crash (`bench.crash`).
"""

import gc
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import typer
from numpy.typing import NDArray

from bench import crash
from bench.passes import BenchError
from bench.report import Figures, console, has_default_settings, run_chosen
from udfs import margin_parameters, portfolio_margin, portfolio_positions, portfolio_values
from udfs.margin_parameters import Parameters
from udfs.portfolio_margin import Requirements
from udfs.portfolio_positions import Instruments, Positions
from udfs.portfolio_values import Market

SHARES = (0.4, 0.3, 0.2, 0.1)
"""The share of the positions on each underlying."""
EXPIRIES = 10
FUTURES_SHARE = 0.2
PARAMETERS = "scenario_grid"
REPEATS = 7
LOOP_ACCOUNTS = 2_000
PARTS = ("jobs", "kernel")

FloatArray = NDArray[np.float64]


class Book(NamedTuple):
    """One underlying."""

    instruments: Instruments
    market: Market
    positions: Positions


def make(accounts: int, positions: int, instruments: int, seed: int = 1) -> list[Book]:
    """A random load; no two positions of an account are in one instrument."""
    rng = np.random.default_rng(seed)
    each = instruments // len(SHARES)
    options = each - 2
    underlying = rng.choice(len(SHARES), size=2 * positions, p=SHARES)
    column = np.where(rng.random(2 * positions) < FUTURES_SHARE, options, rng.integers(0, each, 2 * positions))
    key = np.unique((rng.integers(0, accounts, 2 * positions) * len(SHARES) + underlying) * each + column)
    key = rng.permutation(key)[:positions]
    if len(key) < positions:
        raise BenchError(f"only {len(key)} different positions could be drawn")
    column, held = key % each, key // each
    account, underlying = held // len(SHARES), held % len(SHARES)
    amount = np.where(column == each - 1, rng.uniform(0.0, 1.0, positions), rng.normal(0.0, 1.0, positions))
    books = []
    for number in range(len(SHARES)):
        expiry = np.sort(rng.integers(0, EXPIRIES, options))
        expiry_s = 86_400.0 * np.geomspace(0.5, 365.0, EXPIRIES)
        strikes = np.exp(rng.normal(0.0, 0.3, options)) * 100.0
        one = np.ones(1)
        made = Instruments(expiry, strikes, rng.random(options) < 0.5, EXPIRIES, 1, 1)
        market = Market(
            spot=100.0,
            spot_confidence=1.0,
            stable=1.0,
            expiry_s=expiry_s,
            forward=100.0 * np.exp(0.05 * expiry_s / portfolio_values.SECONDS_PER_YEAR),
            rate=np.full(EXPIRIES, 0.05),
            expiry_confidence=np.ones(EXPIRIES),
            vol=rng.uniform(0.4, 1.2, options),
            future_price=100.0 * one,
            future_confidence=one,
            collateral_usd=100.0 * one,
            collateral_confidence=one,
            collateral_threshold=0.55 * one,
            mmhaircut=0.02 * one,
            imhaircut=0.01 * one,
            is_risk_cancelling=np.array([True]),
        )
        mine = underlying == number
        books.append(Book(made, market, portfolio_positions.hold(made, account[mine], column[mine], amount[mine])))
    return books


def full(parameters: Parameters, books: list[Book], cash: FloatArray) -> list[Requirements]:
    """Revalue everything."""
    required = [portfolio_margin.requirements(parameters, book.market, book.positions) for book in books]
    total(books, required, cash)
    return required


def total(books: list[Book], required: list[Requirements], cash: FloatArray) -> portfolio_margin.Margins:
    """The total requirements of accounts."""
    return portfolio_margin.margins(
        len(cash), cash, [(book.positions, requirements) for book, requirements in zip(books, required, strict=True)]
    )


def median_ms(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median time of a call, without garbage collection."""
    times = []
    for _ in range(repeats):
        gc.collect()
        start_s = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start_s))
    return float(np.median(times))


def pandas_worst(parameters: Parameters, books: list[Book]) -> list[FloatArray]:
    """The worst loss of every account on every underlying, by grouped data frames."""
    answer = []
    for book in books:
        worth, held = portfolio_values.values(parameters, book.market, book.instruments), book.positions
        factor, basis = factors(parameters, worth), worth.netted.shape[1] - 3
        frame = pd.DataFrame(held.amount[:, np.newaxis] * worth.netted[held.column])
        frame["account"], frame["expiry"] = held.row, held.group_expiry[held.group]
        grouped = frame.groupby(["account", "expiry"], sort=False).sum()
        expiry, value = grouped.index.get_level_values("expiry").to_numpy(), grouped.to_numpy()
        shocked, now = value[:, :basis], value[:, basis, np.newaxis]
        gain = np.where(shocked >= 0, worth.longs[expiry, np.newaxis], worth.shorts[expiry, np.newaxis]) * shocked - now
        gain[:, basis - worth.skews :] = -np.abs(gain[:, basis - worth.skews :])
        lower = np.minimum((value[:, basis + 1 :] - now).min(axis=1), 0.0) * worth.basis_factor[expiry]
        pnl = pd.DataFrame(np.column_stack([gain, lower]) * factor, index=grouped.index).groupby(level="account").sum()
        answer.append(np.minimum(pnl.to_numpy().min(axis=1), 0.0))
    return answer


def loop_worst(parameters: Parameters, books: list[Book], accounts: int) -> list[list[float]]:
    """The same of the first accounts of each underlying, one after the other."""
    answer = []
    for book in books:
        worth, held = portfolio_values.values(parameters, book.market, book.instruments), book.positions
        factor, basis = factors(parameters, worth), worth.netted.shape[1] - 3
        worst = []
        for row in range(accounts):
            pnl = np.zeros(basis + 1)
            for group in range(held.row_at[row], held.row_at[row + 1]):
                part = slice(held.group_at[group], held.group_at[group + 1])
                value = held.amount[part] @ worth.netted[held.column[part]]
                expiry, shocked, now = held.group_expiry[group], value[:basis], value[basis]
                gain = np.where(shocked >= 0, worth.longs[expiry], worth.shorts[expiry]) * shocked - now
                gain[basis - worth.skews :] = -np.abs(gain[basis - worth.skews :])
                pnl[:basis] += gain
                pnl[basis] += min(value[basis + 1 :].min() - now, 0.0) * worth.basis_factor[expiry]
            worst.append(min(float((pnl * factor).min()), 0.0))
        answer.append(worst)
    return answer


def factors(parameters: Parameters, worth: portfolio_values.Values) -> FloatArray:
    """The dampening of every scenario, in the order of its values."""
    return np.append([scenario.dampening_factor for scenario in parameters.scenarios], 1.0)[worth.order]


def agree(name: str, theirs: Any, ours: FloatArray) -> None:
    """Raises `BenchError` if a peer's worst losses differ."""
    if not np.allclose(np.asarray(theirs), ours, rtol=1e-9, atol=1e-7):
        raise BenchError(f"{name} computes other losses")


def kernel(accounts: int, positions: int, instruments: int) -> dict[str, Any]:
    """The figures of this process, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    parameters = margin_parameters.parameter_set(PARAMETERS)
    growth = {}
    for smaller in (positions // 100, positions // 10):
        books, cash = make(accounts * smaller // positions, smaller, instruments), np.zeros(accounts * smaller // positions)
        full(parameters, books, cash)
        growth[smaller] = median_ms(lambda: full(parameters, books, cash))  # noqa: B023 - called at once
    books, cash = make(accounts, positions, instruments), np.zeros(accounts)
    required = full(parameters, books, cash)
    full_ms = growth[positions] = median_ms(lambda: full(parameters, books, cash))

    def incremental() -> None:
        moved = books[0].market._replace(spot=101.0, forward=1.01 * books[0].market.forward)
        again = portfolio_margin.requirements(parameters, moved, books[0].positions)
        total(books, [again, *required[1:]], cash)

    incremental_ms = median_ms(incremental)
    tracemalloc.start()
    full(parameters, books, cash)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    start_s = time.perf_counter()
    by_pandas = pandas_worst(parameters, books)
    pandas_ms = 1e3 * (time.perf_counter() - start_s)
    some = min(LOOP_ACCOUNTS, accounts // 2)
    start_s = time.perf_counter()
    by_loop = loop_worst(parameters, books, some)
    rows = sum(len(book.positions.accounts) for book in books)
    loop_ms = 1e3 * (time.perf_counter() - start_s) * rows / (some * len(books))
    for one, frame, listed in zip(required, by_pandas, by_loop, strict=True):
        agree("pandas", frame, one.worst_pnl)
        agree("the account loop", listed, one.worst_pnl[:some])
    return {
        "full_ms": round(full_ms, 1),
        "incremental_ms": round(incremental_ms, 1),
        "pandas_full_ms": round(pandas_ms),
        "account_loop_full_ms": round(loop_ms),
        **{f"full_ms_at_{count}_positions": round(took_ms, 2) for count, took_ms in growth.items()},
        "positions_mb": round(sum(book.positions.nbytes for book in books) / 1e6, 1),
        "revaluation_peak_mb": round(peak / 1e6, 1),
        "positions": positions,
        "moved_positions": len(books[0].positions.amount),
        "accounts": accounts,
        "instruments": instruments,
        "scenarios": len(parameters.scenarios),
    }


def jobs(accounts: int) -> dict[str, Any]:
    """The figures of the jobs."""
    result = crash.measured(accounts)
    console.print(result)
    return {
        "default_settings": has_default_settings(),
        "margin_rows": True,
        "margin_rows_written": result.margin_rows,
        "price_to_order_p50_ms": result.p50_ms,
        "price_to_order_p99_ms": result.p99_ms,
        "price_to_committed_order_p99_ms": result.committed_p99_ms,
        "orders_measured": result.orders,
        "cascade_accounts": result.crashed,
        "cascade_worst_ms": result.worst_ms,
        "cascade_catch_up_s": result.catch_up_s,
        "cascade_last_late_s": result.last_late_s,
        "writer_behind_s": result.behind_s,
        "job_accounts": accounts,
    }


def main(
    accounts: Annotated[int, typer.Option(min=100, help="Accounts.")] = 100_000,
    positions: Annotated[int, typer.Option(min=1_000, help="Positions of all accounts.")] = 1_000_000,
    instruments: Annotated[int, typer.Option(min=80, help="Number of instruments.")] = 2_000,
    parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure margin; other parts keep the figures of an earlier run."""
    every: dict[str, Callable[[], Figures]] = {
        "jobs": lambda: jobs(accounts),
        "kernel": lambda: kernel(accounts, positions, instruments),
    }
    run_chosen("margin", every, parts)


if __name__ == "__main__":
    typer.run(main)
