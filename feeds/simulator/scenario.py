"""What is simulated, and its script."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from feeds.simulator.harm import FAULTS, Harm
from feeds.simulator.prices import BROWNIAN, Dynamics
from feeds.simulator.sources import COINS, Habits
from udfs.black76 import FloatArray

ORACLE = "sim_oracle"

MAX_EXPIRIES = 6
CRASH_LASTS_S = 3.0
RECOVERY_LASTS_S = 10.0
RECOVERED_SHARE = 0.4  # of the fall
DEEPEST_CRASH = 0.4


class Quoting(NamedTuple):
    """How makers quote on the own venue; each quotes every second contract."""

    makers: int = 4
    linear_ms: int = 500  # from one quote of a contract to the next
    option_ms: int = 2_000
    overlap_ms: int = 400  # how long the quotes before stay beside the new ones
    linear_levels: int = 5  # a side
    option_levels: int = 2
    linear_width: float = 0.001  # of the mark: from one level to the next, and between the best ones
    option_width: float = 0.04
    size: float = 2.0  # of the best level, in typical positions; each further one is twice as large


@dataclass(frozen=True)
class Scenario:
    """What is simulated; rates are per second of event time over all instruments.  `ValueError` if impossible."""

    seed: int = 1
    start_ms: int = 1_734_696_000_000  # Friday 2024-12-20 12:00 UTC
    duration_s: int = 60
    book_updates_per_s: int = 2_800
    tickers_per_s: int = 800  # each with a book update; of one instrument at most one a millisecond
    trades_per_s: int = 300  # of strangers, each with a book update
    fills_per_s: int = 60  # two an execution, whose trade and book update come on top, as do entries into positions
    index_prices_per_s: int = 5  # of each underlying
    strikes: int = 9  # an expiry
    expiries: int = 4
    depth: int = 10  # levels a side
    accounts: int = 40  # beside the market makers
    doomed: int = 8  # of the accounts
    crash_size: float = 0.25  # fraction of the price; 0 for none
    crash_at_s: float | None = None  # None for 60 % of the duration
    sources: tuple[Habits, ...] = ()  # of the oracle, beside `sim_oracle` and the books
    harms: tuple[Harm, ...] = ()  # to any of them
    dynamics: Dynamics = BROWNIAN
    quoting: Quoting | None = None  # where the venues are our own: makers and clients send requests

    def __post_init__(self) -> None:
        rates = (self.book_updates_per_s, self.tickers_per_s, self.trades_per_s, self.fills_per_s)
        crash_fits = 2 <= self.crash_from_s <= self.duration_s - CRASH_LASTS_S
        rules = {
            "seed and start_ms are not negative": self.seed >= 0 and self.start_ms >= 0,
            "duration_s is from 1 to 86400": 1 <= self.duration_s <= 86_400,
            "rates are not negative": min(rates) >= 0,
            "index_prices_per_s is from 1 to 1000": 1 <= self.index_prices_per_s <= 1_000,
            "strikes is from 1 to 41": 1 <= self.strikes <= 41,
            f"expiries is from 1 to {MAX_EXPIRIES}": 1 <= self.expiries <= MAX_EXPIRIES,
            "depth is 1 or more": self.depth >= 1,
            "doomed is from 0 to accounts": 0 <= self.doomed <= self.accounts,
            f"crash_size is 0, or from 0.15 to {DEEPEST_CRASH}, or less where none is doomed": not self.crash_size
            or (0.15 if self.doomed else 0.0) <= self.crash_size <= DEEPEST_CRASH,
            f"the crash begins after 2 s or more and its {CRASH_LASTS_S:g} s fit": not self.crash_size or crash_fits,
        }
        rules |= {
            "vol_of_vol, reversion and jumps are not negative": min(
                self.dynamics.vol_of_vol, self.dynamics.reversion, self.dynamics.jumps
            )
            >= 0,
            "leverage is from -1 to 1": -1 <= self.dynamics.leverage <= 1,
        }
        # A coin falls only where no simulated book is quoted in it.
        harmable = {*self.source_names, "USDT"}
        rules |= {
            f"a harm is one of {', '.join(FAULTS)}": all(harm.kind in FAULTS for harm in self.harms),
            "a harm is done to a source, a depeg to USDT": all(
                harm.source in harmable and (harm.kind == "depeg") == (harm.source == "USDT") for harm in self.harms
            ),
            "a harm ends after it begins": all(harm.from_ms < harm.until_ms for harm in self.harms),
            "a source looks no more often than each ms, and its lag is at most a second": all(
                0 <= habits.jitter_ms < habits.every_ms and 0 <= habits.lag_ms <= 1_000 for habits in self.sources
            ),
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError(f"{'; '.join(broken)}: {self}")

    @property
    def crash_from_s(self) -> float:
        """Seconds from the start to the crash."""
        return 0.6 * self.duration_s if self.crash_at_s is None else self.crash_at_s

    @property
    def source_names(self) -> tuple[str, ...]:
        """The sources that speak by themselves, as `oracle_sources` names them."""
        own = (f"{ORACLE}:index:{coin}" for coin in COINS)
        return (*own, *(habits.source(underlying) for habits in self.sources for underlying in habits.underlyings))

    def price_factor(self, seconds: FloatArray) -> FloatArray:
        """What the script multiplies all prices by, `seconds` after the start: 1, the fall, then part of it back."""
        after = seconds - self.crash_from_s
        fallen = np.clip(after / CRASH_LASTS_S, 0, 1)
        recovered = np.clip((after - CRASH_LASTS_S) / RECOVERY_LASTS_S, 0, 1)
        factor: FloatArray = 1 - self.crash_size * (fallen - RECOVERED_SHARE * recovered)
        return factor
