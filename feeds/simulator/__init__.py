"""A simulated market: two venues, an oracle and accounts that trade, reproducible from a seed.

One price path per underlying drives every instrument on both venues, through a scripted crash, so that what a consumer
derives (books, surfaces, margin, liquidations) hangs together and its outcome is known beforehand.
"""

from feeds.simulator.accounts import expected_liquidations
from feeds.simulator.flow import ARRIVAL_DISORDER_MS, simulate
from feeds.simulator.scenario import Scenario

__all__ = ["ARRIVAL_DISORDER_MS", "Scenario", "expected_liquidations", "simulate"]
