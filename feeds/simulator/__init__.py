"""A simulated market: two venues, sources of an oracle and accounts that trade, reproducible from a seed.

One price path per underlying drives every instrument on both venues, through a scripted crash, so that what a consumer
derives (books, surfaces, margin, liquidations) hangs together and its outcome is known beforehand.  Sources may be harmed by a
script, which says what must be found of it.
"""

from feeds.simulator.accounts import expected_liquidations
from feeds.simulator.flow import ARRIVAL_DISORDER_MS
from feeds.simulator.harm import Harm
from feeds.simulator.scenario import Quoting, Scenario
from feeds.simulator.sources import SOURCES
from feeds.simulator.stream import simulate

__all__ = ["ARRIVAL_DISORDER_MS", "SOURCES", "Harm", "Quoting", "Scenario", "expected_liquidations", "simulate"]
