"""Sources of an oracle, each with habits of its own: how often it speaks, of when its price is, and in which currency.

All of them see the one price path of the market, and none draws from the market's randomness: with sources or without, it is
the same market.  Coins that are meant to be a dollar wander around one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from feeds import Record
from schemas.rows import instant_ms, instant_us
from udfs.black76 import FloatArray

Arrival = tuple[int, Record]  # receiver's clock in us

JITTER_US = 8_000
"""Of the way of a message."""
SECOND_MS = 1000
RATES = {"USDC": 2e-5, "USDT": 1e-4}
"""How far each coin is from a dollar, as a rule: the standard deviation, a fraction."""
REVERTS_S = 60.0
"""The time in which most of that is gone again."""


class Habits(NamedTuple):
    """How a source publishes.  It is a series of prices of each of its underlyings."""

    venue: str
    table: str  # index_prices, or oracle_updates of a publisher
    underlyings: tuple[str, ...]
    quote: str  # USD, USDC or USDT
    every_ms: int  # between two looks at the market
    jitter_ms: int = 0  # of these instants; less than `every_ms`
    lag_ms: int = 0  # its price is that of so long before, at most a second
    travel_us: int = 10_000
    noise: float = 0.0  # standard deviation of its own error, as a fraction
    confidence: float | None = None  # fraction of the price; None where it states none
    least_move: float = 0.0  # it publishes where its price has moved by this fraction, …
    heartbeat_ms: int = 0  # … or so much time has passed since its last one
    digits: int = 12  # about so many digits its price has, always as many of them decimals

    def source(self, underlying: str) -> str:
        """The name of a series, as `oracle_sources` has it: venue:kind:feed."""
        if self.table == "oracle_updates":
            return f"{self.venue}:publisher:{underlying}/{self.quote}"
        return f"{self.venue}:index:{underlying}" + ("" if self.quote == "USD" else f":{self.quote}")


COINS = ("BTC", "ETH")
SOURCES = (
    Habits("sim_beta", "index_prices", COINS, "USDT", 500, jitter_ms=20, lag_ms=150, travel_us=22_000, noise=1e-5),
    Habits("sim_gamma", "index_prices", COINS, "USDT", 1_000, jitter_ms=60, lag_ms=400, travel_us=15_000, digits=5),
    Habits("sim_slots", "oracle_updates", COINS, "USD", 400, jitter_ms=30, lag_ms=100, noise=1e-5, confidence=4e-4),
    Habits("sim_rounds", "oracle_updates", COINS, "USD", 2_000, jitter_ms=200, least_move=0.005, heartbeat_ms=60_000),
    *(
        Habits(venue, "index_prices", tuple(RATES), "USD", 1_000, jitter_ms=40, lag_ms=lag_ms, noise=5e-6, digits=digits)
        for venue, lag_ms, digits in (("sim_oracle", 0, 8), ("sim_beta", 150, 6), ("sim_gamma", 400, 4))
    ),
)
"""Beside `sim_oracle` and the books: the indices of two venues, a publisher that speaks in slots with its confidence, one that
speaks in rounds, and the rates of the coins in which others are quoted.

No index here is in a currency that a simulated contract is valued in: what margin and liquidations take is `sim_oracle` alone.
"""


class Publishing:
    """What sources have yet to say, and what they said last."""

    def __init__(self, seed: int, start_ms: int, sources: Sequence[Habits]) -> None:
        self._series = [
            _Series(habits, underlying, start_ms, np.random.default_rng([seed, 2, number, place]))
            for number, habits in enumerate(sources)
            for place, underlying in enumerate(habits.underlyings)
        ]
        self._rng = np.random.default_rng([seed, 3])
        self._rates = dict.fromkeys(RATES, 1.0)
        self._paths: dict[str, FloatArray] = {}  # of the second before and of this one

    def second(self, second_ms: int, prices_usd: Mapping[str, FloatArray]) -> list[Arrival]:
        """What they publish in the second from `second_ms` on, series by series.

        `prices_usd` has the price of each underlying in each of its 1000 milliseconds.
        """
        if not self._series:
            return []
        for name, path in {**prices_usd, **self._coins()}.items():
            before = self._paths.get(name)
            self._paths[name] = np.concatenate([path[:1].repeat(SECOND_MS) if before is None else before[SECOND_MS:], path])
        return [arrival for series in self._series for arrival in series.second(second_ms, self._paths)]

    def _coins(self) -> dict[str, FloatArray]:
        """USD per coin, in each millisecond of the next second."""
        paths = {}
        for coin, deviation in RATES.items():
            before, kept = self._rates[coin], np.exp(-1 / REVERTS_S)
            noise = deviation * np.sqrt(1 - kept * kept) * float(self._rng.standard_normal())
            self._rates[coin] = 1 + (before - 1) * kept + noise
            paths[coin] = np.linspace(before, self._rates[coin], SECOND_MS + 1)[1:]
        return paths


class _Series:
    """The prices of one underlying by one source."""

    def __init__(self, habits: Habits, underlying: str, start_ms: int, rng: np.random.Generator) -> None:
        self.habits = habits
        self.underlying = underlying
        self.rng = rng
        self.count = 0
        self.published_ms = -1
        self.published: float | None = None
        self.decimals: int | None = None
        self.planned_ms = start_ms + int(rng.integers(0, habits.every_ms))
        self.due_ms = self._jittered()

    def _jittered(self) -> int:
        return self.planned_ms + int(self.rng.integers(0, self.habits.jitter_ms + 1))

    def second(self, second_ms: int, paths: Mapping[str, FloatArray]) -> list[Arrival]:
        """What it publishes in the second from `second_ms` on."""
        arrivals = []
        while self.due_ms < second_ms + SECOND_MS:
            at_ms, place = self.due_ms, self.due_ms - second_ms + SECOND_MS - self.habits.lag_ms
            rate = 1.0 if self.habits.quote == "USD" else float(paths[self.habits.quote][place])
            price = float(paths[self.underlying][place]) / rate * (1 + self.habits.noise * float(self.rng.standard_normal()))
            if self.decimals is None:
                self.decimals = self.habits.digits - round(math.log10(price))
            price = round(price, self.decimals)
            if self._speaks(at_ms, price):
                self.count += 1
                self.published_ms, self.published = at_ms, price
                us = at_ms * 1000 + self.habits.travel_us + int(self.rng.integers(0, JITTER_US))
                arrivals.append((us, Record(self.habits.table, at_ms, self._row(at_ms, us, price))))
            self.planned_ms += self.habits.every_ms
            self.due_ms = self._jittered()
        return arrivals

    def _speaks(self, at_ms: int, price: float) -> bool:
        if self.published is None or not self.habits.least_move:
            return True
        has_moved = abs(price / self.published - 1) >= self.habits.least_move
        return has_moved or at_ms - self.published_ms >= self.habits.heartbeat_ms

    def _row(self, at_ms: int, us: int, price: float) -> dict[str, Any]:
        habits = self.habits
        confidence = None if habits.confidence is None else habits.confidence * price
        row: dict[str, Any] = {
            "venue": habits.venue,
            "underlying": self.underlying,
            "quote_currency": habits.quote,
            "event_at": instant_ms(at_ms),
            "received_at": instant_us(us),
        }
        if habits.table == "index_prices":
            return row | {"price_usd": price, "confidence_usd": confidence}
        instrument = f"{self.underlying}/{habits.quote}"
        return row | {"instrument": instrument, "price": price, "confidence": confidence, "sequence": self.count}
