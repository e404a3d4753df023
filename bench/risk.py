"""What does the risk of all accounts cost?  `make bench BENCH=risk`.

The mathematics, in this process and on one core, with compiled code warm: 100,000 accounts with 1,000,000 positions in 2,000
instruments, nine of ten of them options.

  var_full_s_<scenarios>               VaR and ES at 99 % of every account, by its worst scenarios
  var_three_levels_s_<scenarios>       the same at 95, 97.5 and 99 %
  components_s_<scenarios>             what each position adds to VaR and ES at 99 %
  book_s                               the book, from positions in any order
  value_matrix_<scenarios>_ms          every instrument valued anew in every scenario, Black (1976)
  numpy_var_full_s_<scenarios>         VaR and ES at 99 % with numpy, account by account: gather, product, partition; measured
                                       on a tenth of the accounts and multiplied
  greatest_difference                  between both, in units of VaR

A time is the best of a few rounds, when nothing else runs.
"""

from typing import Annotated, Any

import numpy as np
import typer

from bench.passes import BenchError
from bench.pricing import on_one_core, seconds
from bench.report import Figures, run_chosen
from udfs import risk_pass, risk_values
from udfs.risk_measures import tail_rank
from udfs.risk_pass import Book, FloatArray
from udfs.risk_values import CALL, COIN, Contracts, Moves

ACCOUNTS, POSITIONS, INSTRUMENTS = 100_000, 1_000_000, 2_000
SCENARIOS = (512, 1_000)
PRICES = np.array([60_000.0, 3_000.0, 150.0, 1.0])
ROUNDS, LEVEL, LEVELS = 7, 0.99, (0.95, 0.975, 0.99)


def instruments(count: int) -> Contracts:
    """Options of four underlyings, and a tenth of other contracts."""
    rng = np.random.default_rng(1)
    is_option = rng.random(count) < 0.9
    kind = np.where(is_option, rng.integers(CALL, CALL + 2, count), rng.integers(COIN, CALL, count))
    underlying = rng.integers(0, len(PRICES), count)
    price = PRICES[underlying]
    strike, vol = price * np.exp(rng.normal(0.0, 0.3, count)), rng.uniform(0.3, 1.5, count)
    return risk_values.contracts(
        kind, underlying, price, strike=strike, vol=vol, expiry_s=rng.uniform(0.1, 300.0, count) * 86_400
    )


def shocks(count: int) -> Moves:
    """Joint moves of four underlyings."""
    rng = np.random.default_rng(2)
    spot = rng.standard_t(4, (len(PRICES), count)) * 0.03
    return risk_values.moves(np.maximum(spot, -0.9), -spot + rng.normal(0.0, 0.05, spot.shape))


def kernel(accounts: int, positions: int) -> Figures:
    """All figures."""
    rng = np.random.default_rng(3)
    columns = rng.integers(0, accounts, positions), rng.integers(0, INSTRUMENTS, positions), rng.normal(size=positions)
    held = risk_pass.book(accounts, *columns)
    listed = instruments(INSTRUMENTS)
    figures: dict[str, Any] = {"book_s": round(best(lambda: risk_pass.book(accounts, *columns)), 4)}
    difference = 0.0
    for count in SCENARIOS:
        moved = shocks(count)
        matrix = risk_values.changes(listed, moved)
        matrix_s = best(lambda: risk_values.fill(matrix, listed, moved, 0, INSTRUMENTS))  # noqa: B023, called at once
        if not np.isfinite(matrix).all():
            raise BenchError("a value is not known")
        worst = risk_pass.worst_losses(held, matrix, risk_pass.kept_losses(count, [LEVEL]))
        figures |= {
            f"var_full_s_{count}": round(best(lambda: answered(held, matrix, (LEVEL,))), 4),  # noqa: B023
            f"var_three_levels_s_{count}": round(best(lambda: answered(held, matrix, LEVELS)), 4),  # noqa: B023
            f"components_s_{count}": round(best(lambda: risk_pass.components(held, matrix, worst, LEVEL)), 4),  # noqa: B023
            f"value_matrix_{count}_ms": round(1e3 * matrix_s, 2),
        }
        few = accounts // 10
        plain_s = seconds(lambda: by_account(held, matrix, few))  # noqa: B023
        figures[f"numpy_var_full_s_{count}"] = round(plain_s * accounts / few, 2)
        ours, theirs = answered(held, matrix, (LEVEL,)), by_account(held, matrix, few)
        both = np.stack([ours.var[:few, 0], ours.es[:few, 0]], axis=1)
        difference = max(difference, float(np.max(np.abs(both - theirs) / np.maximum(np.abs(theirs), 1.0))))
    if not difference < 1e-9:
        raise BenchError(f"numpy's answer differs by {difference}")
    sizes = {"accounts": accounts, "positions": len(held.size), "instruments": INSTRUMENTS}
    return figures | {"greatest_difference": difference} | sizes


def answered(held: Book, matrix: FloatArray, levels: tuple[float, ...]) -> risk_pass.Tails:
    """VaR and ES of all accounts."""
    kept = risk_pass.kept_losses(matrix.shape[1], levels)
    return risk_pass.tails(risk_pass.worst_losses(held, matrix, kept), levels)


def by_account(held: Book, matrix: FloatArray, accounts: int) -> FloatArray:
    """VaR and ES of the first accounts with numpy, one by one."""
    count = matrix.shape[1]
    rank, size = tail_rank(count, LEVEL), count * (1.0 - LEVEL)
    answers = np.empty((accounts, 2))
    for account in range(accounts):
        rows = slice(held.first[account], held.first[account + 1])
        losses = -(held.size[rows] @ matrix[held.instrument[rows]])
        worst = np.sort(np.partition(losses, count - rank)[count - rank :])
        answers[account] = worst[0], (worst[1:].sum() + (size - rank + 1) * worst[0]) / size
    return answers


def best(work: Any) -> float:
    """The least time of `ROUNDS` calls, after one that compiles."""
    work()
    return min(seconds(work) for _ in range(ROUNDS))


def main(
    accounts: Annotated[int, typer.Option(min=100, help="Accounts.")] = ACCOUNTS,
    positions: Annotated[int, typer.Option(min=1_000, help="Positions of all accounts.")] = POSITIONS,
    parts: Annotated[str, typer.Option(help="Which parts, of kernel.")] = "kernel",
) -> None:
    """Measure the pass over all accounts on one core; other parts keep their figures."""
    run_chosen("risk", {"kernel": lambda: on_one_core(lambda: kernel(accounts, positions))}, parts)


if __name__ == "__main__":
    typer.run(main)
