"""The records of a scenario, in order of arrival."""

from bisect import bisect_left
from collections.abc import Iterator
from operator import itemgetter

from feeds import Record
from feeds.simulator.flow import Market
from feeds.simulator.harm import harmed
from feeds.simulator.own_venue import OwnVenue
from feeds.simulator.scenario import Scenario


def simulate(scenario: Scenario) -> Iterator[Record]:
    """The records in order of arrival: contract terms, deposits, a snapshot of each book, then the flow.

    Exchange times are in order within one instrument and table, and within `ARRIVAL_DISORDER_MS` across them.  A ticker
    shows the book as all updates up to its own exchange time have left it.  Harms to sources may break what is said here of
    exchange times.

    Where the venues are our own there are requests in place of books, trades and fills (`feeds.simulator.own_venue`).
    """
    records = _arrived(OwnVenue(scenario) if scenario.quoting else Market(scenario))
    return harmed(records, scenario.harms) if scenario.harms else records


def _arrived(market: Market) -> Iterator[Record]:
    scenario = market.scenario
    pending = market.opening()
    for second in range(scenario.duration_s):
        pending += market.second(second)
        pending.sort(key=itemgetter(0))
        # Nothing of a later second arrives before that second begins.
        next_second_us = (scenario.start_ms + 1000 * (second + 1)) * 1000
        complete = bisect_left(pending, next_second_us, key=itemgetter(0))
        yield from (record for _, record in pending[:complete])
        pending = pending[complete:]
    yield from (record for _, record in pending)
