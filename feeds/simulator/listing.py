"""What is listed: spot and perpetuals on both venues, and inverse option chains on the first."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.simulator.scenario import MAX_EXPIRIES, Scenario
from feeds.simulator.surface import slice_at
from schemas.rows import instant_ms, instant_us
from udfs import black76
from udfs.black76 import FloatArray
from udfs.svi import total_variance

BoolArray = NDArray[np.bool_]

CARRY = 0.08  # forward over index, a year
OPTION_TICKS_PER_COIN = 2_000
OPTION_LOTS_PER_CONTRACT = 10
WEEKS_AHEAD = (1, 2, 6, 14, 27, 40)[:MAX_EXPIRIES]


class Underlying(NamedTuple):
    """A coin and how it is traded; a unit is one coin."""

    currency: str
    price_usd: float  # at the start
    vol: float  # fraction
    strike_step_usd: float
    ticks_per_usd: int
    lots_per_unit: int
    position_units: float  # a typical one


class Venue(NamedTuple):
    """One simulated exchange."""

    name: str
    spot: str  # how it writes a symbol
    perpetual: str
    latency_us: int  # the least
    spot_basis: float  # fraction of the index
    perpetual_basis: float
    is_contract_a_lot: bool  # of perpetuals; otherwise it is a unit


class Contract(NamedTuple):
    """An instrument's terms.  Prices are whole ticks and sizes whole lots, so that both are exact in decimals."""

    venue: Venue
    name: str
    kind: str
    underlying: int  # its place in UNDERLYINGS
    ticks_per_unit: int  # of the quote currency
    lots_per_contract: int
    contract_size: float  # units
    basis: float
    option_type: str | None = None
    strike_usd: float | None = None
    expiry_ms: int | None = None

    @property
    def settlement_currency(self) -> str:
        """What prices are quoted and profit is paid in."""
        return UNDERLYINGS[self.underlying].currency if self.kind == "option" else "USDC"

    def row(self, event_ms: int, received_us: int) -> dict[str, Any]:
        """The row of `instruments`."""
        expiry_at = None if self.expiry_ms is None else instant_ms(self.expiry_ms)
        return {
            "venue": self.venue.name,
            "instrument": self.name,
            "event_at": instant_ms(event_ms),
            "received_at": instant_us(received_us),
            "kind": self.kind,
            "underlying": UNDERLYINGS[self.underlying].currency,
            "quote_currency": self.settlement_currency,
            "settlement_currency": self.settlement_currency,
            "is_inverse": self.kind == "option",
            "option_type": self.option_type,
            "strike_usd": self.strike_usd,
            "expiry_at": expiry_at,
            "last_trading_at": expiry_at,
            "contract_size": self.contract_size,
            "tick_size": 1 / self.ticks_per_unit,
            "amount_per_contract": 1.0,
        }


UNDERLYINGS = (
    Underlying("BTC", 60_000.0, 0.55, 500.0, ticks_per_usd=2, lots_per_unit=100, position_units=1.0),
    Underlying("ETH", 3_000.0, 0.70, 25.0, ticks_per_usd=20, lots_per_unit=10, position_units=20.0),
)
ALPHA = Venue("sim_alpha", "{}_USDC", "{}_USDC-PERPETUAL", 12_000, 0.0, 0.0003, is_contract_a_lot=False)
BETA = Venue("sim_beta", "{}-USDC", "{}-PERP", 22_000, -0.0001, 0.0005, is_contract_a_lot=True)
VENUES = (ALPHA, BETA)


def listing(scenario: Scenario) -> list[Contract]:
    """All contracts of a scenario."""
    linear = [
        contract for u in range(len(UNDERLYINGS)) for venue in VENUES for contract in (_spot(venue, u), _perpetual(venue, u))
    ]
    options = [
        _option(u, expiry_ms, strike_usd, option_type)
        for u, underlying in enumerate(UNDERLYINGS)
        for expiry_ms in _expiries_ms(scenario)
        for strike_usd in _strikes_usd(scenario, underlying)
        for option_type in ("call", "put")
    ]
    return linear + options


def option_marks(
    index_usd: FloatArray, strike_usd: FloatArray, is_call: BoolArray, years: FloatArray, atm_vol: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mark price in coin, mark volatility, and forward in USD, of options on an index."""
    forward_usd = index_usd * np.exp(CARRY * years)
    vol = np.sqrt(total_variance(slice_at(years, atm_vol), np.log(strike_usd / forward_usd)) / years)
    return black76.price(forward_usd, strike_usd, years, vol, is_call) / forward_usd, vol, forward_usd


def _spot(venue: Venue, u: int) -> Contract:
    coin = UNDERLYINGS[u]
    name = venue.spot.format(coin.currency)
    return Contract(venue, name, "spot", u, coin.ticks_per_usd, coin.lots_per_unit, 1.0, venue.spot_basis)


def _perpetual(venue: Venue, u: int) -> Contract:
    coin = UNDERLYINGS[u]
    name = venue.perpetual.format(coin.currency)
    lots = 1 if venue.is_contract_a_lot else coin.lots_per_unit
    size = lots / coin.lots_per_unit
    return Contract(venue, name, "perpetual", u, coin.ticks_per_usd, lots, size, venue.perpetual_basis)


def _option(u: int, expiry_ms: int, strike_usd: float, option_type: str) -> Contract:
    expiry = datetime.fromtimestamp(expiry_ms // 1000, UTC)
    currency = UNDERLYINGS[u].currency
    name = f"{currency}-{expiry.day}{expiry:%b%y}-{strike_usd:.0f}-{option_type[0]}".upper()
    ticks, lots = OPTION_TICKS_PER_COIN, OPTION_LOTS_PER_CONTRACT
    return Contract(ALPHA, name, "option", u, ticks, lots, 1.0, 0.0, option_type, strike_usd, expiry_ms)


def _expiries_ms(scenario: Scenario) -> list[int]:
    """Fridays at 08:00 UTC, the first at least three days after the start."""
    earliest = datetime.fromtimestamp(scenario.start_ms // 1000, UTC) + timedelta(days=4)
    friday = earliest + timedelta(days=(4 - earliest.weekday()) % 7)
    first = datetime(friday.year, friday.month, friday.day, 8, tzinfo=UTC)
    return [int((first + timedelta(weeks=weeks - 1)).timestamp()) * 1000 for weeks in WEEKS_AHEAD[: scenario.expiries]]


def _strikes_usd(scenario: Scenario, underlying: Underlying) -> list[float]:
    """About 5 % apart, centred on the first price."""
    steps = np.arange(scenario.strikes) - scenario.strikes // 2
    step_usd = underlying.strike_step_usd
    strikes: list[float] = (np.rint(underlying.price_usd * np.exp(0.05 * steps) / step_usd) * step_usd).tolist()
    return strikes
