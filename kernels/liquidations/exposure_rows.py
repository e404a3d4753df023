"""What the contracts in one batch expose a holder to, and the rows of `risk_exposures`."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from engine.contract import Output
from kernels.limits import ACCOUNT
from kernels.liquidations.accounts import Accounts
from kernels.liquidations.columns import Array
from kernels.liquidations.pricing import Valuation, forward_prices
from kernels.liquidations.stage import Batch
from kernels.market.indices import DOLLARS
from schemas.rows import instant_ms
from udfs import exposures
from udfs.exposures import BUCKETS, DELTA, GAMMA, GROSS, VEGA


class Measured(NamedTuple):
    """The exposure of one of each contract and coin."""

    rates: Array  # by contract
    cell: Array  # by contract
    coin_cell: Array  # by currency; -1 where it is no coin
    cells: int

    def holdings(self, accounts: Accounts, slot: Array, slots: int) -> tuple[Array, Array, Array]:
        """What the accounts of some slots hold: `exposures.Holdings`."""
        held, balances = accounts.position_columns, accounts.balance_columns
        return exposures.held(
            slot,
            slots,
            held["account"],
            held["contract"],
            held["size"],
            held["average"],
            self.rates,
            self.cell,
            balances["account"],
            balances["currency"],
            balances["amount"],
            np.ascontiguousarray(accounts.currency_columns["usd"]),
            self.coin_cell,
        )


def measured(accounts: Accounts, valuation: Valuation) -> Measured:
    """The exposure of one of each contract and coin, by the prices of a valuation."""
    contracts, second = accounts.contract_columns, accounts.second or 0
    each = exposures.sensitivities(
        exposures.Contracts(
            contracts["is_future"] > 0,
            contracts["is_option"] > 0,
            contracts["is_inverse"] > 0,
            contracts["contract_size"],
            valuation.mark,
            accounts.currency_columns["usd"][contracts["settlement"]],
            forward_prices(accounts),
            contracts["strike_usd"],
            contracts["vol"],
            contracts["is_call"] > 0,
            np.asarray(contracts["expiry_s"] - second, dtype=np.float64),
        )
    )
    rates, cell = exposures.columns_of(each, contracts["underlying"])
    names = accounts.currency_columns.rows
    coin_cell = np.full(len(accounts.currency_columns["usd"]), -1, dtype=np.int64)
    coins = [row for name, row in names.items() if name not in DOLLARS]
    coin_cell[coins] = np.array(coins, dtype=np.int64) * len(BUCKETS)
    return Measured(rates, cell, coin_cell, len(coin_cell) * len(BUCKETS))


def rows_of(
    accounts: Accounts,
    batch: Batch,
    market: Measured,
    subjects: list[tuple[str, str, list[str]]],
    part: int,
    owner: Callable[[str, str], int],
) -> list[Output]:
    """The rows of some subjects, each with its kind, name and accounts: its sums, then each cell with something in it."""
    rows = accounts.account_columns.rows
    accounts_of = [np.array([rows[name] for name in names if name in rows], dtype=np.int64) for _, _, names in subjects]
    coins = {row: name for name, row in accounts.currency_columns.rows.items()}
    alone = [number for number, (kind, _, _) in enumerate(subjects) if kind == ACCOUNT]
    slot = np.full(len(rows), -1, dtype=np.int64)
    for number in alone:
        slot[accounts_of[number]] = number
    start, cell, amount = market.holdings(accounts, slot, len(subjects))
    event_at, outputs = instant_ms(batch.now_ms), []
    for number, (kind, subject, _) in enumerate(subjects):
        own = accounts_of[number]
        if kind == ACCOUNT:
            at = slice(start[number], start[number + 1])
            cells, amounts = cell[at], amount[at]
        else:
            members = np.full(len(rows), -1, dtype=np.int64)
            members[own] = 0
            _, cells, amounts = market.holdings(accounts, members, 1)
        sums = exposures.by_cell(cells, amounts, market.cells)
        chosen = sorted((coins[at // len(BUCKETS)], at % len(BUCKETS), at) for at in np.unique(cells).tolist())
        equity = float(np.rint(batch.valuation.equity[own] * 1e6).sum()) / 1e6
        head = {
            "subject_kind": kind,
            "subject": subject,
            "event_at": event_at,
            "part": part,
            "owner_partition": owner(kind, subject),
        }
        lines: list[tuple[str | None, str | None, Array, float | None]] = [(None, None, sums.sum(axis=0), _known(equity))]
        lines += [(coin, BUCKETS[bucket], sums[at], None) for coin, bucket, at in chosen]
        for coin, bucket, line, worth in lines:
            row = head | {
                "underlying": coin,
                "expiry_bucket": bucket,
                "delta_usd": _known(line[DELTA]),
                "gamma_usd": _known(line[GAMMA]),
                "vega_usd": _known(line[VEGA]),
                "gross_usd": _known(line[GROSS]),
                "equity_usd": worth,
                "rows_count": len(lines),
            }
            outputs.append(Output("risk_exposures", batch.now_ms, row))
    return outputs


def _known(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
