"""The limits of the checks before a trade, as data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

COLLARS = MappingProxyType({"spot": 0.05, "perpetual": 0.05, "future": 0.05, "option": 0.5})
MARGIN_RATES = MappingProxyType({"spot": 1.0, "perpetual": 0.1, "future": 0.1, "option": 0.15})


class Limits(NamedTuple):
    """What an account's orders must keep, each by the check of that name.  Fractions, seconds, USD and counts."""

    max_age_s: float = 10.0  # a request that was decided longer ago is declined
    max_ahead_s: float = 1.0  # nor may its time, or that of a mark, be in the future
    collars: Mapping[str, float] = COLLARS  # by kind: how far a buyer's limit may be above the mark, a seller's below
    max_mark_age_s: float = 30.0
    mark_ages_s: Mapping[str, float] = MappingProxyType({})  # likewise by venue:underlying, for feeds that have their own
    max_quantity: float = 1_000_000.0  # contracts
    max_notional_usd: float = 5_000_000.0
    max_position_usd: float = 50_000_000.0  # of an instrument, were every open order on one side to fill
    max_open_orders: int = 1_000
    requests_a_second: int = 500
    same_orders_a_second: int = 10  # alike but for their ids
    margin_rates: Mapping[str, float] = MARGIN_RATES  # by kind: what credit keeps back, a fraction of the notional


class Rules(NamedTuple):
    """Whose orders keep which limits."""

    limits: Limits = Limits()
    accounts: Mapping[str, Limits] = MappingProxyType({})  # which have their own
    restricted: frozenset[str] = frozenset()  # venue:instrument
    exempt: Mapping[str, frozenset[str]] = MappingProxyType(
        # An account that is liquidated has no credit, and its way out must not be barred by how often it is taken.
        {"liquidation": frozenset({"credit", "position", "notional", "size", "rate", "duplicate"})}
    )
    answer_s: float = 5.0  # a request that has no answer by then is reported

    def limits_of(self, account: str) -> Limits:
        """The limits of an account."""
        return self.accounts.get(account, self.limits)


RULES = Rules()
