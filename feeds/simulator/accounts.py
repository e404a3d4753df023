"""Who trades: makers that cannot fail, accounts built to be liquidated in the crash, and accounts built not to be."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from feeds.simulator.listing import ALPHA, BETA, UNDERLYINGS, Contract, Underlying, Venue, option_marks
from feeds.simulator.scenario import Scenario
from udfs.black76 import MS_PER_YEAR


class Leg(NamedTuple):
    """A position or an order; a short or a sale is negative."""

    instrument: int  # its place in the listing
    lots: int


class Account(NamedTuple):
    """One simulated account and what it starts with."""

    name: str
    deposits: dict[str, float]  # by currency
    legs: tuple[Leg, ...] = ()


MAKERS = tuple(Account(f"maker-{n}", {"USDC": 1e10, "BTC": 1e6, "ETH": 1e7}) for n in range(2))


def expected_liquidations(scenario: Scenario) -> frozenset[str]:
    """The accounts that standard margin must liquidate in the crash, and no others: known from how they are built.

    That holds while prices beside the crash move little: for hours of event time, not for days.
    """
    return frozenset(map(_doomed_name, range(scenario.doomed))) if scenario.crash_size else frozenset()


def clients(scenario: Scenario, contracts: Sequence[Contract]) -> list[Account]:
    """The doomed accounts, then the safe ones."""
    rng = np.random.default_rng([scenario.seed, 1])
    desk = _Desk(scenario, contracts)
    doomed = (desk.doomed(n, *rng.random(2).tolist()) for n in range(scenario.doomed))
    safe = (desk.safe(n, rng.random()) for n in range(scenario.accounts - scenario.doomed))
    return [*doomed, *safe]


def _doomed_name(n: int) -> str:
    return f"doomed-{n:04d}"


class _Desk:
    """Builds accounts with margins so wide that fees, spreads and a model's details cannot turn an outcome."""

    def __init__(self, scenario: Scenario, contracts: Sequence[Contract]) -> None:
        self.scenario = scenario
        self.contracts = contracts

    def doomed(self, n: int, size: float, hardiness: float) -> Account:
        """Four kinds in turn, on BTC and ETH in turn; `size` and `hardiness` are from 0 to 1.

        A perpetual's collateral is gone after 40 to 65 % of the fall (never under three times the initial margin); a
        short put's is 1.3 times its initial margin, when the fall more than doubles what is due.
        """
        u = n // 4 % len(UNDERLYINGS)
        units, notional_usd = self._position(UNDERLYINGS[u], size)
        borne = (0.4 + 0.25 * hardiness) * max(self.scenario.crash_size, 0.15)
        perpetual_usd = (borne + 0.012) * notional_usd
        put = self._option(u, "put", moneyness=1.0, furthest=False)
        put_usd = 1.3 * (0.15 + self._first_mark(put)) * notional_usd
        kinds: tuple[tuple[float, tuple[Leg, ...]], ...] = (
            (perpetual_usd, (self._leg(self._perpetual(ALPHA, u), units),)),
            (perpetual_usd, (self._leg(self._perpetual(BETA, u), units),)),
            (put_usd, (self._leg(put, -units),)),
            (perpetual_usd + put_usd, (self._leg(self._perpetual(BETA, u), units), self._leg(put, -units))),
        )
        deposit_usd, legs = kinds[n % len(kinds)]
        return Account(_doomed_name(n), {"USDC": deposit_usd}, legs)

    def safe(self, n: int, size: float) -> Account:
        """Five kinds in turn, on BTC and ETH in turn, each with equity to spare after a fall of 40 %.

        Long calls that are paid for; a perpetual long, and short, at 1.5 times; covered calls; a long with puts bought.
        """
        u = n // 5 % len(UNDERLYINGS)
        coin = UNDERLYINGS[u].currency
        units, notional_usd = self._position(UNDERLYINGS[u], size)
        perpetual = self._perpetual((ALPHA, BETA)[n // 10 % 2], u)
        call = self._option(u, "call", moneyness=1.1, furthest=True)
        put = self._option(u, "put", moneyness=0.95, furthest=False)
        collateral = {"USDC": notional_usd / 1.5}
        kinds: tuple[tuple[dict[str, float], tuple[Leg, ...]], ...] = (
            ({coin: units}, (self._leg(call, units),)),
            (collateral, (self._leg(perpetual, units),)),
            (collateral, (self._leg(perpetual, -units),)),
            ({coin: 1.2 * units}, (self._leg(call, -units),)),
            (collateral | {coin: 0.3 * units}, (self._leg(perpetual, units), self._leg(put, units))),
        )
        deposits, legs = kinds[n % len(kinds)]
        return Account(f"safe-{n:04d}", deposits, legs)

    def _position(self, underlying: Underlying, size: float) -> tuple[float, float]:
        units = underlying.position_units * (0.5 + 2.5 * size)
        return units, units * underlying.price_usd

    def _leg(self, instrument: int, units: float) -> Leg:
        contract = self.contracts[instrument]
        return Leg(instrument, round(units / contract.contract_size * contract.lots_per_contract))

    def _perpetual(self, venue: Venue, u: int) -> int:
        return next(i for i, c in self._of(u) if c.kind == "perpetual" and c.venue is venue)

    def _option(self, u: int, option_type: str, moneyness: float, furthest: bool) -> int:
        """The strike nearest to `moneyness` times the first price, at the nearest or furthest expiry."""
        target_usd = moneyness * UNDERLYINGS[u].price_usd
        return min(
            (abs(c.strike_usd - target_usd), -c.expiry_ms if furthest else c.expiry_ms, i)
            for i, c in self._of(u)
            if c.option_type == option_type and c.strike_usd is not None and c.expiry_ms is not None
        )[2]

    def _of(self, u: int) -> Iterator[tuple[int, Contract]]:
        return ((i, c) for i, c in enumerate(self.contracts) if c.underlying == u)

    def _first_mark(self, instrument: int) -> float:
        c = self.contracts[instrument]
        underlying = UNDERLYINGS[c.underlying]
        years = ((c.expiry_ms or 0) - self.scenario.start_ms) / MS_PER_YEAR
        terms = (underlying.price_usd, c.strike_usd, c.option_type == "call", years, underlying.vol)
        return float(option_marks(*(np.array(term) for term in terms))[0])
