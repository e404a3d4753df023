"""A feed against a venue that does to it all that venues do: `bench.feed_harms` for half a minute instead of an hour."""

from bench.feed_harms import HARMS, Times, measured, slots
from bench.harmed_market import Plan

SLOT_S = 2.0


def test_a_feed_that_is_harmed_in_every_way_writes_each_message_once_and_ends_with_the_venues_own_books() -> None:
    seconds = 2.0 + SLOT_S * len(HARMS) + 2.0
    plan = Plan(500, seconds, 4, 5_000, slots(seconds, SLOT_S, 2.0, 2.0)[: len(HARMS)], 1, SLOT_S)
    figures = measured(plan, Times(silence=4.0, listing=1.0, pause=0.1), is_brief=True)
    assert {name for name in HARMS if figures[f"harms_{name}"] == 1} == set(HARMS)
