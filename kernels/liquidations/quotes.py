"""The market in one batch, as decisions need it: values of contracts, accounts to check, prices that must not be used."""

import math
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from kernels.gate import Act, Breaks, Gate, Reason
from kernels.halts import Halts
from kernels.liquidations.accounts import Accounts
from kernels.liquidations.cases import (
    ALL_ORDERED,
    AWAITING,
    CENT,
    IN_ROUNDS,
    NO_CASE,
    PLAIN_CALL,
    RECOVERED,
    UNSERVED,
    Case,
    Standing,
)
from kernels.liquidations.columns import Array
from kernels.liquidations.guards import Depth, Guard, Objection, age_text, first_objection, oracle_objection
from kernels.liquidations.pricing import Valuation
from kernels.liquidations.rules import RULES
from udfs import liquidation, standard_margin


class Standings(Protocol):
    """What is known about accounts and their holds; implemented by `Decisions`."""

    market: Accounts
    touched: set[str]
    cases: dict[str, Case]
    depths: dict[str, Depth]
    guards: dict[str, Guard]
    halts: Halts
    gate: Gate
    breaks: Breaks

    def standing(self) -> Standing:
        """The standing of each account."""

    def note(self, name: str) -> None:
        """Store the standing of an account."""


class Quote(NamedTuple):
    """Value and requirement of one contract in a batch; prices in the quote currency."""

    mark: float
    low: float  # the band around mark
    high: float
    unit_usd: float  # of one contract
    each_usd: float  # change of one contract's value with a price change of one; for an inverse, with one over the price
    is_inverse: bool  # its profit is linear in one over the price
    maintenance_long: float  # as of `standard_margin.Rates`
    maintenance_short: float
    square: float

    def required(self, size: float) -> float:
        """Maintenance margin of a position alone, in USD."""
        rate = self.maintenance_long if size > 0 else self.maintenance_short
        return standard_margin.position_required(rate, self.square, size)

    def gain_usd(self, size: float, price: float) -> float:
        """The gain, in USD against the mark, of closing a position of this size at this price."""
        moved = 1 / self.mark - 1 / price if self.is_inverse else price - self.mark
        return size * self.each_usd * moved

    def price_gaining(self, size: float, gain_usd: float) -> float:
        """The price at which closing a position of this size gains this amount against the mark; NaN if there is none."""
        if not (amount := size * self.each_usd):
            return math.nan
        moved = gain_usd / amount
        if self.is_inverse:
            over = 1 / self.mark - moved
            return 1 / over if over > 0 else math.nan
        return self.mark + moved if self.mark + moved > 0 else math.nan

    def limit(self, size: float, equity: float, maintenance: float) -> float:
        """The worst price at which a position's order may fill, given equity and requirement of its account."""
        needs = self.required(size) * (self.mark / self.unit_usd if self.unit_usd else 0.0)  # of price
        price = liquidation.fillable_price(size, size * self.mark, needs, equity, maintenance, *RULES.orders.spread)
        return max(min(price, self.high), self.low) if not math.isnan(price) else self.low if size > 0 else self.high


def quoted(market: Accounts, valuation: Valuation, contract: str) -> Quote:
    """The quote of one contract whose terms are known."""
    rates, row, terms = valuation.rates, market.contract_columns.row(contract), market.terms[contract]
    mark = float(valuation.mark[row])
    usd = float(market.currency_columns["usd"][market.currency(terms.settlement_currency)])
    contract_size, is_inverse = terms.contract_size or 0.0, terms.is_inverse and terms.kind != "option"
    low, high = liquidation.band(mark, RULES.orders)
    return Quote(
        mark=mark,
        low=float(low),
        high=float(high),
        unit_usd=contract_size * usd / mark if is_inverse else contract_size * mark * usd,
        each_usd=contract_size * usd,
        is_inverse=is_inverse,
        maintenance_long=float(rates.maintenance_long[row]),
        maintenance_short=float(rates.maintenance_short[row]),
        square=float(rates.square[row]),
    )


class DecisionBatch:
    """The market in one batch: the accounts that it concerns, and the objections to liquidating anyone."""

    def __init__(self, state: "Standings", valuation: Valuation, until_ms: int) -> None:
        self.state, self.valuation, self.now_ms = state, valuation, until_ms - 1
        self.changed = frozenset(state.market.due)  # accounts whose positions or cash have changed
        self._quotes: dict[str, Quote] = {}
        self._depths: dict[str, Depth | None] = {}
        with np.errstate(invalid="ignore"):
            self.must_close = liquidation.is_liquidatable(valuation.equity, valuation.maintenance)
            self.is_broke = valuation.equity < -CENT

    def concerned(self) -> list[str]:
        """The names of accounts that may need a decision."""
        valuation, standing = self.valuation, self.state.standing()
        case, must_close, is_broke = standing.case, self.must_close, self.is_broke
        with np.errstate(invalid="ignore"):
            is_called = (valuation.initial > np.maximum(valuation.equity, 0.0)) & ~must_close & ~is_broke
            is_solvent = valuation.equity > 0
        is_as_it_was = is_called & (case == PLAIN_CALL)
        is_as_it_was |= (case == RECOVERED) & (self.now_ms < standing.rests_ms) & ~must_close & ~is_called & ~is_broke
        is_as_it_was |= (case == AWAITING) & is_broke & ~must_close
        waits = must_close & ((case == ALL_ORDERED) | (case == IN_ROUNDS) | (case == UNSERVED))
        if waits.any() and self.is_quiet:
            # Accounts that wait for the next round, or for depth, without any change in between.
            is_pausing = must_close & (self.now_ms - standing.round_ms < 1000 * RULES.orders.round_s)
            is_as_it_was |= is_pausing & ((case == ALL_ORDERED) | ((case == IN_ROUNDS) & is_solvent))
            for row in np.flatnonzero((case == UNSERVED) & must_close & is_solvent).tolist():
                is_as_it_was[row] = self._is_unserved(row, (self.now_ms - standing.round_ms.item(row)) / 1000)
        rows, names = self.state.market.account_columns.rows, self.state.market.account_names
        is_as_it_was[[rows[name] for name in self.changed]] = False
        concerned = np.flatnonzero((must_close | is_called | is_broke | (case != NO_CASE)) & ~is_as_it_was)
        return sorted(names[row] for row in concerned)

    def _is_unserved(self, row: int, since_s: float) -> bool:
        """Whether an account that was held for lack of depth, and still holds the same one contract, is still held.

        Its last round was `since_s` ago; infinite if there was none.
        """
        name = self.state.market.account_names[row]
        held = [(contract, size) for contract, (_, size, _) in self.state.market.accounts[name].positions.items() if size]
        if name in self.changed or len(held) != 1:
            return False
        contract, size = held[0]
        depth, quote = self.state.depths.get(contract), self.quote(contract)
        if liquidation.round_size(size, quote.unit_usd, since_s, *RULES.orders.rounds) == 0.0:
            return False
        limit = quote.limit(size, self.valuation.equity.item(row), self.valuation.maintenance.item(row))
        if depth is None or depth.doubt(contract, self.now_ms) is not None:
            return False
        visible = self.visible(contract, size, limit)
        return visible is not None and visible <= 0

    def quote(self, contract: str) -> Quote:
        """The quote of one contract."""
        if contract not in self._quotes:
            self._quotes[contract] = quoted(self.state.market, self.valuation, contract)
        return self._quotes[contract]

    def visible(self, contract: str, size: float, limit: float) -> float | None:
        """Contracts that a known book offers for closing a position of this size, at the limit or a better price.

        None where it is not known what a contract is in the amounts of the book.
        """
        if contract not in self._depths:
            terms = self.state.market.terms[contract]
            self._depths[contract] = self.state.depths[contract].counted(terms.amount_per_contract)
        depth = self._depths[contract]
        return None if depth is None else depth.visible(size, limit)

    @cached_property
    def is_quiet(self) -> bool:
        """Whether there is no objection to liquidating anyone."""
        if not self.state.gate.is_quiet(Act.LIQUIDATE) or not self.state.breaks.is_quiet():
            return False
        return self.state.halts.is_quiet() and not self.objections

    @cached_property
    def objections(self) -> dict[str, Objection]:
        """By price, the first check that it fails."""
        checked = ((price, first_objection(guard, self.now_ms)) for price, guard in self.state.guards.items())
        first = {price: objection for price, objection in checked if objection}
        judged = ((name, oracle_objection(oracle)) for name, oracle in self.state.market.oracles.items())
        oracles = {f"oracle price of {name}": objection for name, objection in judged if objection}
        # A guard starts with the terms of its contract; the price itself may be older.
        return self._too_old() | first | self._too_dear() | oracles

    def _too_dear(self) -> dict[str, Objection]:
        """The marks of options that are more than the option can be worth."""
        columns, mark = self.state.market.contract_columns, self.valuation.mark
        forward = columns["forward_usd"]
        most = np.where(columns["is_call"] > 0, forward, np.nan_to_num(columns["strike_usd"]))
        usd = np.where(columns["is_inverse"] > 0, mark * forward, mark)
        is_too_dear = (columns["is_option"] > 0) & (forward > 0) & (usd > most)
        return {
            f"mark of {name}": Objection(
                Reason.TOO_VOLATILE, f"is {usd[row]:.6g} USD, more than the {most[row]:.6g} USD that it can be worth"
            )
            for row, name in self._names(is_too_dear)
        }

    def _too_old(self) -> dict[str, Objection]:
        """The prices of contracts that are too old, each by the price that values the contract."""
        columns, mark = self.state.market.contract_columns, self.valuation.mark
        is_option, forward = columns["is_option"] > 0, columns["forward_usd"]
        newest_ms = np.where(is_option | ~np.isnan(columns["mark"]), columns["mark_ms"], columns["traded_ms"])
        prices = (
            ("mark", newest_ms, is_option & ~np.isnan(mark)),
            ("price", newest_ms, ~is_option & ~np.isnan(mark)),
            ("forward", columns["forward_ms"], is_option & (forward > 0)),
        )
        oldest_ms = self.now_ms - 1000 * RULES.stale_s
        return {
            f"{price} of {name}": Objection(Reason.STALE, age_text((self.now_ms - event_ms.item(row)) / 1000))
            for price, event_ms, has_price in prices
            for row, name in self._names(has_price & (event_ms < oldest_ms))
        }

    def _names(self, is_selected: Array) -> list[tuple[int, str]]:
        """The rows of the selected contracts, with their names."""
        rows = set(np.flatnonzero(is_selected).tolist())
        return [(row, name) for name, row in self.state.market.contract_columns.rows.items() if row in rows] if rows else []
