"""oracles: what is each underlying worth in USD by all its sources, how sure is that, and how good is each source?

Entries  pool/<underlying>: its price, average, and its newest prices of each tick
         source/<underlying>/<venue:kind:feed>: a source's newest price and habits; freed after a day of silence
         terms/<venue:instrument>: of spot and perpetuals
         venue/<venue>: how far its clock is ahead of the common time
Order    a source's latest price by event time counts, of one instant that of the greater sequence, then the greater price; of a
         batch the messages are taken in the order of receipt
Late     a price behind the watermark counts only if it is still the newest of its source
Shards   every shard gets all messages.  It answers for the underlyings whose key is in its partition; USDC and USDT, in which
         others are quoted, are priced by all and written by one
Bad      a price of zero or less, one from more than five seconds in the future, and what breaks its DDL, is a dead letter;
         a confidence of zero or above the price says that the publisher has no price: the source is left out, with its reason
"""

from collections.abc import Callable
from typing import Any

from engine import batch
from engine.checks import checked, dead_letter
from engine.contract import Kernel, Lines, Message, Output
from engine.entries import packed, unpacked
from kernels.market import terms
from kernels.market.indices import DOLLARS, USD
from kernels.market.terms import Listing, Terms
from kernels.oracles.pools import HISTORY, TICK_MS, Pool, Rate, Reading, dollar_rates, follow_basis, read
from kernels.oracles.rows import consensus_row, price_row, source_row
from kernels.oracles.sources import Said, Source, said
from schemas.rows import Fault, key, shown, to_us
from udfs.oracle_rules import Rules, rules
from udfs.oracles import weighted_quantile

VERSION = 1
RULES = rules()
KEPT_MS = 86_400_000
FUTURE_MS = 5_000
"""A price from further in the future would be the newest of its source for too long."""
MOST_TICKS = 100
"""So many ticks without heartbeats are made up for; after more nothing is known of that time, and no rows follow."""
COINS = tuple(quote for quote in DOLLARS if quote != USD)
"""Quote currencies that have a rate."""


class State:
    """The underlyings of one shard."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.is_own: Callable[[str], bool] = lambda underlying: True
        self.pools: dict[str, Pool] = {}
        self.listing: Listing[Terms] = Listing()
        self.offsets_ms: dict[str, int] = {}
        self.touched: set[str] = set()

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, rest = name.partition("/")
        stored: Any = None
        if kind == "pool":
            stored = self.pools[rest].as_list() if rest in self.pools else None
        elif kind == "source":
            underlying, _, source = rest.partition("/")
            pool = self.pools.get(underlying)
            stored = pool.sources[source].as_list() if pool and source in pool.sources else None
        elif kind == "terms":
            stored = list(self.listing.terms[rest]) if rest in self.listing.terms else None
        else:
            stored = self.offsets_ms.get(rest)
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        stored = unpacked("oracles", name, data, VERSION)
        kind, _, rest = name.partition("/")
        if kind == "pool":
            # Its sources may have been restored before.
            sources = self.pool(rest).sources
            self.pools[rest] = Pool(*stored)
            self.pools[rest].sources = sources
        elif kind == "source":
            underlying, _, source = rest.partition("/")
            self.pool(underlying).sources[source] = Source(*stored)
        elif kind == "terms":
            self.listing.put(rest, Terms(*stored))
        else:
            self.offsets_ms[rest] = stored

    def pool(self, underlying: str) -> Pool:
        """The price of an underlying and its sources."""
        return self.pools.get(underlying) or self.pools.setdefault(underlying, Pool(underlying))

    def source(self, said: Said) -> Source:
        """The source of a price, known or new."""
        sources, name = self.pool(said.underlying).sources, said.source
        if name not in sources:
            start = said.venue, said.kind, said.feed, said.underlying, said.quote
            sources[name] = Source(*start, said.event_ms, said.received_us)
        return sources[name]


def new() -> State:
    """An empty state."""
    return State()


def set_keys(state: State, partition: Callable[[str], int], own: int) -> None:
    """Answer for the underlyings whose rows are in the partition `own`."""
    state.is_own = lambda underlying: partition(underlying) == own


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Take the prices of one micro-batch: dead letters, and the rows of ticks before it.  An empty one frees what is silent."""
    good, outputs = checked(messages, until_ms)
    if until_ms is not None and state.pools:
        outputs += _ticks(state, (until_ms - 1) // TICK_MS * TICK_MS)
    for message in good:
        _learn(state, message)
    for message in sorted(good, key=_received):
        heard = said(message, state.listing.terms)
        if heard is None:
            continue
        offset_ms = state.offsets_ms.get(heard.venue, 0)
        if until_ms is not None and heard.event_ms - offset_ms > until_ms + FUTURE_MS:
            expected = f"at most {FUTURE_MS / 1000:g} s after its batch"
            outputs.append(dead_letter(message, Fault("event_at", expected, shown(message.row["event_at"])), until_ms))
        elif state.is_own(heard.underlying) or heard.underlying in COINS:
            source = state.source(heard)
            if source.hear(heard, state.pool(heard.underlying).price):
                state.touched.add(f"source/{heard.underlying}/{source.name}")
    if not messages and until_ms is not None:
        _free(state, until_ms)
    return outputs


def _received(message: Message) -> tuple[int, str, int, int]:
    received_at = message.row.get("received_at")
    return to_us(received_at) if received_at else 0, message.table, message.partition, message.offset


def _learn(state: State, message: Message) -> None:
    """Keep the terms of spot and perpetuals, and how far a venue's clock is off."""
    row = message.row
    if message.table == "instruments" and row["kind"] in ("spot", "perpetual"):
        underlying = row["underlying"]
        if (state.is_own(underlying) or underlying in COINS) and row["quote_currency"] in DOLLARS:
            name = key("instruments", row)
            if state.listing.learn(name, terms.from_row(row)):
                state.touched.add(f"terms/{name}")
    elif message.table == "venue_times" and state.offsets_ms.get(row["venue"], 0) != row["offset_ms"]:
        state.offsets_ms[row["venue"]] = row["offset_ms"]
        state.touched.add(f"venue/{row['venue']}")


def end_window(state: State, until_ms: int) -> list[Lines]:
    """The rows of the ticks until the end of a window."""
    return batch.encode(_ticks(state, until_ms // TICK_MS * TICK_MS))


def _ticks(state: State, last_ms: int) -> list[Output]:
    """The rows of each tick that is due: also of those in which nobody told the time, so that they do not depend on who did."""
    newest_ms = max((pool.tick_ms for pool in state.pools.values()), default=0)
    if newest_ms and last_ms - newest_ms > MOST_TICKS * TICK_MS:
        for name, pool in state.pools.items():
            pool.tick_ms = last_ms
            state.touched.add(f"pool/{name}")
        return []
    first_ms = newest_ms + TICK_MS if newest_ms else last_ms
    return [output for tick_ms in range(first_ms, last_ms + 1, TICK_MS) for output in _tick(state, tick_ms)]


def _tick(state: State, tick_ms: int) -> list[Output]:
    """The rows of a tick: of each underlying its price and its sources."""
    outputs: list[Output] = []
    rates = dollar_rates(state.rules.sources.assumed_rates)
    pools = [pool for _, pool in sorted(state.pools.items())]
    coins = [pool for pool in pools if pool.underlying in COINS]
    # First by what is quoted in USD: so one of these coins gives the rate of another, and never the other way round.
    first = {pool.underlying: rate for pool in coins if (rate := _first_rate(state, pool, tick_ms, rates))}
    for pool in coins:
        others = {name: rate for name, rate in first.items() if name != pool.underlying}
        outputs += _ticked(state, pool, tick_ms, rates | others)
    rates |= {pool.underlying: Rate(pool.price, pool.confidence) for pool in coins if pool.price and pool.source_count}
    for pool in pools:
        if pool.underlying not in COINS:
            outputs += _ticked(state, pool, tick_ms, rates)
    return outputs


def _first_rate(state: State, pool: Pool, tick_ms: int, rates: dict[str, Rate]) -> Rate | None:
    readings = [read(source, tick_ms, _offset_ms(state, source), rates, state.rules) for source in pool.sources.values()]
    return _anchor(state, [reading for reading in readings if reading.source.kind != "perpetual"])


def _anchor(state: State, readings: list[Reading]) -> Rate | None:
    """The median of readings, each venue weighing the same."""
    counted = [reading for reading in readings if reading.reason is None]
    shares: dict[str, int] = {}
    for reading in counted:
        shares[reading.source.venue] = shares.get(reading.source.venue, 0) + 1

    def middle(values: list[float]) -> float:
        weights = [state.rules.sources.weight(one.source.venue) / shares[one.source.venue] for one in counted]
        return weighted_quantile(zip(values, weights, strict=True), 0.5) or 0.0

    if not counted:
        return None
    return Rate(middle([one.price or 0.0 for one in counted]), middle([one.confidence or 0.0 for one in counted]))


def _ticked(state: State, pool: Pool, tick_ms: int, rates: dict[str, Rate]) -> list[Output]:
    """Price one underlying, and the rows of it; none of what another shard writes."""
    chosen, sources = state.rules, [pool.sources[name] for name in sorted(pool.sources)]
    readings = [read(source, tick_ms, _offset_ms(state, source), rates, chosen) for source in sources]
    if any(source.kind == "perpetual" for source in sources):
        anchor = _anchor(state, [reading for reading in readings if reading.source.kind != "perpetual"])
        elapsed_ms = min(tick_ms - pool.tick_ms, 10 * TICK_MS) if pool.tick_ms else TICK_MS
        if anchor is not None:
            for source in follow_basis(readings, anchor.price, elapsed_ms, chosen.basis_half_life_ms):
                state.touched.add(f"source/{pool.underlying}/{source.name}")
    readings = pool.take([_late(pool, reading, tick_ms, chosen) for reading in readings], tick_ms, chosen)
    readings = [_compared(pool, _late(pool, reading, tick_ms, chosen)) for reading in readings]
    pool.tick_ms = tick_ms
    if pool.price is not None:
        pool.history = [*pool.history[1 - HISTORY :], pool.price]
        for source in sources:
            if source.follow(pool.price):
                state.touched.add(f"source/{pool.underlying}/{source.name}")
    state.touched.add(f"pool/{pool.underlying}")
    outputs: list[Output] = []
    if state.is_own(pool.underlying):
        if pool.price is not None:
            outputs += [price_row(pool, tick_ms, chosen), consensus_row(pool, tick_ms)]
        for reading in readings:
            outputs.append(source_row(pool, reading, tick_ms, _offset_ms(state, reading.source), chosen))
    for source in sources:
        if source.step_back_ms:
            source.step_back_ms = 0
            state.touched.add(f"source/{pool.underlying}/{source.name}")
    return outputs


def _late(pool: Pool, reading: Reading, tick_ms: int, rules: Rules) -> Reading:
    """A reading with its lag; before the price of this tick is known, behind that of the tick before."""
    if reading.price is None:
        return reading
    nearness = max(rules.habits.move, (reading.confidence or 0.0) / reading.price)
    lag_ms = 0.0 if pool.price is None else pool.lag_ms(reading.price, tick_ms, nearness)
    return reading._replace(lag_ms=lag_ms)


def _compared(pool: Pool, reading: Reading) -> Reading:
    if reading.price is None or not pool.price:
        return reading
    return reading._replace(deviation=reading.price / pool.price - 1.0)


def _offset_ms(state: State, source: Source) -> int:
    return state.offsets_ms.get(source.venue, 0)


def _free(state: State, until_ms: int) -> None:
    """Forget sources that have been silent for a day, underlyings without sources, and terms whose contracts have none."""
    for underlying, pool in list(state.pools.items()):
        for name, source in list(pool.sources.items()):
            if source.published_ms < until_ms - KEPT_MS:
                del pool.sources[name]
                state.touched.add(f"source/{underlying}/{name}")
        if not pool.sources:
            del state.pools[underlying]
            state.touched.add(f"pool/{underlying}")


def gauges(state: State) -> dict[str, float]:
    """How many underlyings there are, how many of them are short of sources, and how many sources there are."""
    return {
        "underlyings": len(state.pools),
        "sources": sum(len(pool.sources) for pool in state.pools.values()),
        "underlyings_short_of_sources": sum(_is_short(state, pool) for pool in state.pools.values()),
    }


def _is_short(state: State, pool: Pool) -> bool:
    """Whether too few venues count in a price of this shard, although enough had a price within a day."""
    sources = state.rules.sources
    if pool.venue_count >= sources.least or not state.is_own(pool.underlying):
        return False
    return len({source.venue for source in pool.sources.values()} - sources.own_venues) >= sources.least


KERNEL = Kernel("oracles", VERSION, new=new, step=step, set_keys=set_keys, end_window=end_window, gauges=gauges)
