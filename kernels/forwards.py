"""forwards: what is the forward of each expiry, and what is it taken from?

Entries  quote/<venue:instrument>: see `kernels.quotes`
         chain/<venue:underlying>: the venue's index, and the forwards that were put out; freed with the last contract
         index/<underlying>: the newest of `index_prices`, whoever published it; freed after a quiet day
Order    the newest quote of each contract and the newest index stand, whatever their order within a batch
Late     what is behind the watermark counts if it is still the newest; its rows bear its own event time
Bound    a forward is put out again when it has moved by `MOVED` or its source has changed
"""

import math
from typing import Any

import numpy as np

from kernels import Message, Output
from kernels.checks import checked
from kernels.entries import packed, unpacked
from kernels.quotes import QUIET_MS, Quotes, Underlying
from schemas.rows import instant_ms, to_ms
from udfs import forwards
from udfs.forwards import Source

VERSION = 1
SHARED: frozenset[str] = frozenset({"index_prices"})
MOVED = 1e-5
"""Of the forward: a tenth of a basis point.  Each row prices a whole expiry anew."""

Published = tuple[float | None, int]  # forward in USD, source


class State:
    """The underlyings of one shard."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.quotes = Quotes(self.touched)
        self.published: dict[Underlying, dict[int, Published]] = {}  # by expiry in ms
        self.own_index: dict[Underlying, tuple[int, float]] = {}  # the venue's own, by its tickers: event time in ms, price
        self.indices: dict[str, tuple[int, str, float]] = {}  # event time in ms, venue and price

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        if kind == "quote":
            quote = self.quotes.stored(of)
            return None if quote is None else packed(VERSION, quote)
        if kind == "index":
            index = self.indices.get(of)
            return None if index is None else packed(VERSION, index)
        venue, _, currency = of.partition(":")
        underlying = Underlying(venue, currency)
        if underlying not in self.quotes.chains:
            return None
        published = [[expiry_ms, *row] for expiry_ms, row in self.published.get(underlying, {}).items()]
        return packed(VERSION, [self.own_index.get(underlying), published])

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back.  Raises `ValueError` if the bytes are not this version's."""
        stored = unpacked("forwards", name, data, VERSION)
        kind, _, of = name.partition("/")
        if kind == "quote":
            self.quotes.put(of, stored)
        elif kind == "index":
            event_ms, venue, price = stored
            self.indices[of] = event_ms, venue, price
        else:
            venue, _, currency = of.partition(":")
            underlying = Underlying(venue, currency)
            index, published = stored
            if index is not None:
                self.own_index[underlying] = index[0], index[1]
            self.published[underlying] = {expiry_ms: tuple(row) for expiry_ms, *row in published}


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: a row for each expiry whose forward moved."""
    good, letters = checked(messages, until_ms)
    return letters + apply(state, good, until_ms, is_sweep=not messages)


def apply(state: State, good: list[Message], until_ms: int | None, *, is_sweep: bool) -> list[Output]:
    """As `step`, of messages that are checked."""
    outputs: list[Output] = []
    changed = state.quotes.take(good, until_ms)
    changed |= {of for one in good if one.table == "tickers" and (of := _take_own_index(state, one.row))}
    moved = {one.row["underlying"] for one in good if one.table == "index_prices" and _take_index(state, one.row)}
    changed |= {of for of in state.quotes.chains if of.currency in moved}
    if until_ms is not None:
        state.quotes.free(until_ms)
        now_ms = until_ms - 1
        if is_sweep:
            _forget_quiet(state, until_ms)
    elif good:
        now_ms = max(to_ms(message.row["event_at"]) for message in good)
    for of in (state.published.keys() | state.own_index.keys()) - state.quotes.chains.keys():
        state.published.pop(of, None)
        state.own_index.pop(of, None)
    for of in sorted(changed & state.quotes.chains.keys()):
        outputs += _forwards(state, of, now_ms)
    return outputs


def _take_own_index(state: State, row: dict[str, Any]) -> Underlying | None:
    """Keep the newest index that a venue's tickers tell; the underlying whose it is where it changed."""
    of, price = state.quotes.of.get(row["venue"] + ":" + row["instrument"]), row.get("index_price_usd")
    if of is None or price is None or price <= 0:
        return None
    index, known = (to_ms(row["event_at"]), float(price)), state.own_index.get(of)
    if known is not None and index <= known:
        return None
    state.own_index[of] = index
    state.touched.add(of.entry)
    return of


def _take_index(state: State, row: dict[str, Any]) -> bool:
    """Keep the newest index of an underlying; of several venues at one instant the last by name."""
    index = to_ms(row["event_at"]), row["venue"], float(row["price_usd"])
    known = state.indices.get(row["underlying"])
    if known is not None and index <= known:
        return False
    state.indices[row["underlying"]] = index
    state.touched.add("index/" + row["underlying"])
    return True


def _forget_quiet(state: State, until_ms: int) -> None:
    for of in state.quotes.quiet(until_ms):
        state.published.pop(of, None)
        state.own_index.pop(of, None)
        state.touched.add(of.entry)
    for currency, (event_ms, *_) in list(state.indices.items()):
        if event_ms <= until_ms - QUIET_MS:
            del state.indices[currency]
            state.touched.add("index/" + currency)


def _forwards(state: State, of: Underlying, now_ms: int) -> list[Output]:
    """The rows of one underlying whose forward moved, from one vectorised call."""
    chain = state.quotes.chains[of]
    rows, order = chain.rows, chain.sorted()
    expiries = np.unique(rows["expiry_ms"])
    bid, ask = (np.where(rows["is_stale"], np.nan, rows[side]) for side in ("bid", "ask"))
    place = np.searchsorted(expiries, rows["expiry_ms"])
    puts, calls = order.puts, order.calls
    parity = forwards.parity(
        place[puts],
        expiries.size,
        rows["strike_usd"][puts],
        bid[calls],
        ask[calls],
        bid[puts],
        ask[puts],
        rows["in_coin"][puts],
    )
    future_bid, future_ask = np.full((2, expiries.size), np.nan)
    for slot in order.slots[~rows["is_option"][order.slots]]:
        at = place[slot]
        # Of several futures of one expiry the one with the least distance between bid and ask.
        if bid[slot] > 0 and ask[slot] >= bid[slot] and not ask[slot] - bid[slot] >= future_ask[at] - future_bid[at]:
            future_bid[at], future_ask[at] = bid[slot], ask[slot]
    own, of_any = state.own_index.get(of), state.indices.get(of.currency)
    index = own[1] if own else of_any[2] if of_any else None
    chosen = forwards.choose(future_bid, future_ask, parity.forward_usd, math.nan if index is None else index)
    half_widths = {
        Source.FUTURE: 0.5 * (future_ask - future_bid),
        Source.PARITY: parity.half_width_usd,
    }
    published = state.published.setdefault(of, {})
    outputs: list[Output] = []
    for at, expiry_ms in enumerate(expiries.tolist()):
        if expiry_ms <= now_ms:
            continue
        source = Source(int(chosen.source[at]))
        forward = None if source == Source.NONE else float(chosen.forward_usd[at])
        if _is_near(published.get(expiry_ms), (forward, int(source))):
            continue
        published[expiry_ms] = forward, int(source)
        row = {
            "venue": of.venue,
            "underlying": of.currency,
            "expiry_at": instant_ms(expiry_ms),
            "event_at": instant_ms(now_ms),
            "forward_usd": forward,
            "source": source.name.lower(),
            "half_width_usd": float(half_widths[source][at]) if source in half_widths else None,
            "strikes": int(parity.strikes[at]),
            "index_usd": index,
            "reason": forwards.TEXTS[Source.NONE] if source == Source.NONE else None,
        }
        outputs.append(Output("forwards", now_ms, row))
    gone = published.keys() - set(expiries.tolist())
    for expiry_ms in gone:
        del published[expiry_ms]
    if outputs or gone:
        state.touched.add(of.entry)
    return outputs


def _is_near(before: Published | None, after: Published) -> bool:
    if before is None or before[1] != after[1]:
        return False
    return before[0] == after[0] or bool(before[0] and after[0] and abs(after[0] / before[0] - 1.0) < MOVED)
