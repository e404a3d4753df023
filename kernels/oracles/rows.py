"""Rows of `oracle_prices` and `oracle_sources`."""

from typing import Any

from engine.contract import Output
from kernels.market.indices import DOLLARS, USD
from kernels.oracles.pools import Pool, Reading
from kernels.oracles.sources import gap_ms
from schemas.rows import instant_ms
from udfs.oracle_rules import Rules
from udfs.oracle_validity import ACTIONS, holds, validity

CONSENSUS = "consensus"
STEPS = 2
"""A price of few digits stands still until the market is a step away, and its own error and lag come on top."""


def price_row(pool: Pool, until_ms: int, rules: Rules) -> Output:
    """The price of an underlying that has one."""
    assert pool.price is not None
    age_ms = until_ms - pool.priced_ms + pool.age_ms
    is_sufficient = pool.venue_count >= rules.sources.least
    state = validity(pool.price, pool.average, pool.confidence, age_ms, rules.limits, is_sufficient)
    row = {
        "underlying": pool.underlying,
        "event_at": instant_ms(until_ms),
        "price_usd": pool.price,
        "confidence_usd": pool.confidence,
        "average_usd": pool.average,
        "age_ms": age_ms,
        "source_count": pool.source_count,
        "venue_count": pool.venue_count,
        "validity": state,
        "held": ",".join(action for action in ACTIONS if holds(rules.holds, state, action)) or None,
        "rules": rules.label,
    }
    return Output("oracle_prices", until_ms - 1, row)


def source_row(pool: Pool, reading: Reading, until_ms: int, offset_ms: int, rules: Rules) -> Output:
    """One source of an underlying."""
    source = reading.source
    changed_ms = source.changes[-1] if source.changes else source.published_ms
    still_ms = float(until_ms - changed_ms + offset_ms)
    gap, change_gap = gap_ms(source.times), gap_ms(source.changes)
    moved = None
    if source.consensus and pool.price is not None:
        moved = source.moved if abs(source.moved) > STEPS * source.step else 0.0
    row: dict[str, Any] = {
        "underlying": pool.underlying,
        "source": source.name,
        "venue": source.venue,
        "kind": source.kind,
        "quote_currency": source.quote,
        "event_at": instant_ms(until_ms),
        "published_at": instant_ms(source.published_ms),
        "price_usd": reading.price,
        "confidence_usd": reading.confidence,
        "consensus_usd": pool.price,
        "age_ms": reading.age_ms,
        "silent_ms": max(0.0, until_ms - source.received_us // 1000),
        "gap_ms": gap,
        "limit_ms": rules.habits.limit_ms(gap) if source.kind in ("index", "publisher") else None,
        "still_ms": still_ms,
        "still_limit_ms": None if source.kind == "last" else rules.habits.limit_ms(change_gap),
        "moved": moved,
        "lag_ms": reading.lag_ms,
        "jitter_ms": source.jitter_ms,
        "deviation": reading.deviation,
        "step_back_ms": source.step_back_ms,
        "weight": reading.weight,
        "reason": reading.reason or (None if reading.weight else "too far from the others"),
    }
    return Output("oracle_sources", until_ms - 1, row)


def consensus_row(pool: Pool, until_ms: int) -> Output:
    """The price itself, as a source: of a coin that is meant to be a dollar with its deviation from one."""
    assert pool.price is not None
    row: dict[str, Any] = {
        "underlying": pool.underlying,
        "source": CONSENSUS,
        "venue": "",
        "kind": CONSENSUS,
        "quote_currency": USD,
        "event_at": instant_ms(until_ms),
        "published_at": instant_ms(pool.priced_ms),
        "price_usd": pool.price,
        "confidence_usd": pool.confidence,
        "consensus_usd": pool.price,
        "age_ms": until_ms - pool.priced_ms + pool.age_ms,
        "silent_ms": float(until_ms - pool.priced_ms),
        "gap_ms": None,
        "limit_ms": None,
        "still_ms": 0.0,
        "still_limit_ms": None,
        "moved": None,
        "lag_ms": 0.0,
        "jitter_ms": None,
        "deviation": pool.price - 1.0 if pool.underlying in DOLLARS else None,
        "step_back_ms": 0,
        "weight": 1.0,
        "reason": None,
    }
    return Output("oracle_sources", until_ms - 1, row)
