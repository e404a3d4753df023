"""forwards: what is the forward of each expiry, and what is its source?

Entries  quote/<venue:instrument>: see `kernels.chains.contracts`
         chain/<venue:underlying>: the index and the forwards from the venue's tickers, and the forwards that were emitted;
         freed with the last contract
         index/<venue:underlying>, with the currency behind it where that is not USD: the newest of `index_prices`; freed after
         a quiet day
Newest   quotes and indices by the rules of `kernels.market`.  The newest forward of an expiry counts, of two at one instant the
         greater
Late     late messages count if they are still the newest; the rows that they cause have the newest event time among them
Bound    a forward is emitted again when it has moved by `MOVED` or its source has changed
Index    by the rule of `kernels.market.indices`: the venue's own, of `index_prices` or its tickers, else the middle one of the
         others'
Currency the contracts of an expiry that are valued in one currency give one forward.  The row has the forward in USD, else in
         USDC, else in USDT, if such contracts give one.  A currency with quoted options comes before one with only a future,
         because the forward must price options.  The bare index comes last
Venue    the forward with which the venue marks its options, the newest of an expiry.  Between two tickers it moves with the
         venue's index: a basis lasts longer than a price
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.checks import checked
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels.chains.contracts import QUIET_MS, Quotes, Underlying, with_currency
from kernels.market import indices, tickers
from kernels.market.indices import Indices, Price, Series
from kernels.market.tickers import Ticker
from schemas.rows import instant_ms, to_ms
from udfs import forwards
from udfs.black76 import FloatArray
from udfs.forwards import Source

VERSION = 2
MOVED = 1e-5
"""Of the forward: a tenth of a basis point.  Each row reprices a whole expiry."""

Published = tuple[float | None, int, str]  # forward, source, currency


class VenueForward(NamedTuple):
    """A forward of the venue, with the index of the same ticker, else the venue's index at that time; 0 if there was none."""

    event_ms: int
    forward_usd: float
    index_usd: float


class Chain:
    """The state of a whole chain."""

    def __init__(self) -> None:
        self.published: dict[int, Published] = {}  # by expiry in ms
        self.index: dict[str, Price] = {}  # by currency, from the venue's tickers
        self.venue_forwards: dict[tuple[int, str], VenueForward] = {}  # by expiry in ms and currency


class State:
    """The underlyings of one shard."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.quotes = Quotes(self.touched)
        self.chains: dict[Underlying, Chain] = {}
        self.indices = Indices()

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        if kind == "quote":
            quote = self.quotes.stored(subject)
            return None if quote is None else packed(VERSION, quote)
        if kind == "index":
            index = self.indices.get(Series.of_name(subject))
            return None if index is None else packed(VERSION, list(index))
        venue, _, currency = subject.partition(":")
        underlying = Underlying(venue, currency)
        if underlying not in self.quotes.chains:
            return None
        chain = self.chains.get(underlying, Chain())
        published = [[expiry_ms, *row] for expiry_ms, row in chain.published.items()]
        venue_forwards = [[*key, *forward] for key, forward in chain.venue_forwards.items()]
        index_prices = {quote: list(price) for quote, price in chain.index.items()}
        return packed(VERSION, [index_prices, published, venue_forwards])

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        stored = unpacked("forwards", name, data, VERSION, MIGRATIONS)
        kind, _, subject = name.partition("/")
        if kind == "quote":
            self.quotes.put(subject, stored)
        elif kind == "index":
            *venue, event_ms, price = stored
            if venue:  # as of version 1, which kept the newest of all venues under the name of the underlying
                self.touched |= {name, f"index/{venue[0]}:{subject}"}
                subject = f"{venue[0]}:{subject}"
            self.indices.put(Series.of_name(subject), Price(event_ms, price))
        else:
            venue, _, currency = subject.partition(":")
            chain = self.chains[Underlying(venue, currency)] = Chain()
            index, published, venue_forwards = stored
            chain.index = {quote: Price(*price) for quote, price in index.items()}
            chain.published = {expiry_ms: tuple(row) for expiry_ms, *row in published}
            chain.venue_forwards = {(expiry_ms, quote): VenueForward(*forward) for expiry_ms, quote, *forward in venue_forwards}


def _with_currencies(name: str, stored: Any) -> Any:
    """To version 2, which has the currencies of contracts and indices, and the forwards from the venue's tickers."""
    kind, _, _ = name.partition("/")
    if kind == "quote":
        return with_currency(stored)
    if kind == "index":
        event_ms, venue, price = stored
        return [venue, event_ms, price]
    index, published = stored
    return [{} if index is None else {indices.USD: index}, [[*row, indices.USD] for row in published], []]


MIGRATIONS: dict[int, Migration] = {1: _with_currencies}


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
    # Before the tickers: a forward in a ticker without an index belongs to the current index.
    moved = {
        message.row["underlying"] for message in good if message.table == "index_prices" and _take_index(state, message.row)
    }
    changed |= {underlying for message in tickers.by_instant(good) if (underlying := _take_ticker(state, message))}
    changed |= {underlying for underlying in state.quotes.chains if underlying.currency in moved}
    if until_ms is not None:
        state.quotes.free(until_ms)
        now_ms = until_ms - 1
        if is_sweep:
            _forget_quiet(state, until_ms)
    elif good:
        now_ms = max(to_ms(message.row["event_at"]) for message in good)
    for underlying in state.chains.keys() - state.quotes.chains.keys():
        del state.chains[underlying]
    for underlying in sorted(changed & state.quotes.chains.keys()):
        outputs += _forwards(state, underlying, now_ms)
    return outputs


def _take_ticker(state: State, ticker: Ticker) -> Underlying | None:
    """Keep the newest index and forward of a venue's tickers; returns their underlying if one changed."""
    event_ms, name, row, _ = ticker
    index, forward = row.get("index_price_usd") or 0.0, row.get("forward_usd") or 0.0
    underlying = state.quotes.underlyings.get(name)
    if underlying is None or (index <= 0 and forward <= 0):
        return None
    contracts, chain = state.quotes.chains[underlying], state.chains.setdefault(underlying, Chain())
    terms = contracts.rows[contracts.slots[name]]
    quote, is_changed = str(terms["currency"]), False
    if index > 0 and indices.supersedes(event_ms, float(index), *chain.index.get(quote, (-1, 0.0))):
        chain.index[quote] = Price(event_ms, float(index))
        is_changed = True
    if forward > 0 and terms["is_option"]:
        if index <= 0:
            _, index = _own_index(state, underlying, quote) or (0, 0.0)
        expiry, venue_forward = (int(terms["expiry_ms"]), quote), VenueForward(event_ms, float(forward), float(index))
        if venue_forward > chain.venue_forwards.get(expiry, VenueForward(-1, 0.0, 0.0)):
            chain.venue_forwards[expiry] = venue_forward
            is_changed = True
    if not is_changed:
        return None
    state.touched.add(underlying.entry)
    return underlying


def _take_index(state: State, row: dict[str, Any]) -> bool:
    """Keep the newest price of an index."""
    series = Series.of_row(row)
    if not state.indices.learn(series, Price(to_ms(row["event_at"]), float(row["price_usd"]))):
        return False
    state.touched.add("index/" + series.name)
    return True


def _forget_quiet(state: State, until_ms: int) -> None:
    for underlying in state.quotes.quiet(until_ms):
        if state.chains.pop(underlying, None):
            state.touched.add(underlying.entry)
    for underlying, chain in state.chains.items():
        for key in [
            key for key, venue_forward in chain.venue_forwards.items() if venue_forward.event_ms <= until_ms - QUIET_MS
        ]:
            del chain.venue_forwards[key]
            state.touched.add(underlying.entry)
    state.touched.update("index/" + series.name for series in state.indices.forget(until_ms - QUIET_MS))


def _index(state: State, underlying: Underlying, own: str) -> float | None:
    """The index that values contracts in the currency `own`."""
    prices = state.indices.of_underlying(underlying.currency)
    by_tickers = state.chains.get(underlying, Chain()).index
    prices += [(Series(underlying.venue, underlying.currency, quote), *price) for quote, price in by_tickers.items()]
    return indices.value(prices, own, underlying.venue)


def _forwards(state: State, underlying: Underlying, now_ms: int) -> list[Output]:
    """The rows of one underlying whose forward moved, from one vectorised call over expiries and currencies."""
    contracts, chain = state.quotes.chains[underlying], state.chains.setdefault(underlying, Chain())
    rows, order = contracts.rows, contracts.sorted()
    expiries = np.unique(rows["expiry_ms"])
    count = len(order.currencies) * expiries.size
    group = order.currency * expiries.size + np.searchsorted(expiries, rows["expiry_ms"])
    bid, ask = (np.where(rows["is_stale"], np.nan, rows[side]) for side in ("bid", "ask"))
    puts, calls = order.puts, order.calls
    parity = forwards.parity(
        group[puts],
        count,
        rows["strike_usd"][puts],
        bid[calls],
        ask[calls],
        bid[puts],
        ask[puts],
        rows["in_coin"][puts],
    )
    future_bid, future_ask = _future_quotes(bid, ask, group, count, order.slots[~rows["is_option"][order.slots]])
    index = [_index(state, underlying, quote) for quote in order.currencies]
    venue_forwards = [
        _moved_forward(state, underlying, chain, expiry_ms, quote)
        for quote in order.currencies
        for expiry_ms in expiries.tolist()
    ]
    by_group = np.repeat([math.nan if price is None else price for price in index], expiries.size)
    chosen = forwards.choose(future_bid, future_ask, parity.forward_usd, by_group, venue_forwards, parity.half_width_usd)
    half_widths = {
        Source.FUTURE: 0.5 * (future_ask - future_bid),
        Source.PARITY: parity.half_width_usd,
    }
    has_contracts, has_options = np.zeros((2, count), dtype=np.bool_)
    has_contracts[group] = True
    has_options[group[rows["is_option"] & (bid > 0) & (ask > 0)]] = True
    outputs: list[Output] = []
    for column, expiry_ms in enumerate(expiries.tolist()):
        if expiry_ms <= now_ms:
            continue
        groups = [group_index for group_index in range(column, count, expiries.size) if has_contracts[group_index]]
        # The first choice of currency in which its contracts give more than the index.
        group_index = min(
            groups,
            key=lambda group_index: (forwards.RANKS[Source(int(chosen.source[group_index]))], not has_options[group_index]),
        )
        source, quote = Source(int(chosen.source[group_index])), order.currencies[group_index // expiries.size]
        forward = None if source == Source.NONE else float(chosen.forward_usd[group_index])
        if _is_near(chain.published.get(expiry_ms), (forward, int(source), quote)):
            continue
        chain.published[expiry_ms] = forward, int(source), quote
        row = {
            "venue": underlying.venue,
            "underlying": underlying.currency,
            "expiry_at": instant_ms(expiry_ms),
            "event_at": instant_ms(now_ms),
            "forward_usd": forward,
            "source": source.name.lower(),
            "half_width_usd": float(half_widths[source][group_index]) if source in half_widths else None,
            "strikes": int(parity.strikes[group_index]),
            "index_usd": index[group_index // expiries.size],
            "reason": forwards.TEXTS[Source.NONE] if source == Source.NONE else None,
            "quote_currency": quote,
        }
        outputs.append(Output("forwards", now_ms, row))
    live = set(expiries.tolist())
    ended = chain.published.keys() - live
    for expiry_ms in ended:
        del chain.published[expiry_ms]
    expired = [key for key in chain.venue_forwards if key[0] not in live]
    for key in expired:
        del chain.venue_forwards[key]
    if outputs or ended or expired:
        state.touched.add(underlying.entry)
    return outputs


def _future_quotes(
    bid: FloatArray, ask: FloatArray, group: NDArray[np.int64], count: int, futures: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Bid and ask of the future of each group; of several futures the one with the smallest spread."""
    future_bid, future_ask = np.full((2, count), np.nan)
    for slot in futures:
        own = group[slot]
        if bid[slot] > 0 and ask[slot] >= bid[slot] and not ask[slot] - bid[slot] >= future_ask[own] - future_bid[own]:
            future_bid[own], future_ask[own] = bid[slot], ask[slot]
    return future_bid, future_ask


def _moved_forward(state: State, underlying: Underlying, chain: Chain, expiry_ms: int, quote: str) -> float:
    """The venue's forward of an expiry, moved with the venue's current index; NaN if there is none."""
    venue_forward = chain.venue_forwards.get((expiry_ms, quote))
    if venue_forward is None:
        return math.nan
    index = _own_index(state, underlying, quote)
    return (
        venue_forward.forward_usd * (index[1] / venue_forward.index_usd)
        if venue_forward.index_usd > 0 and index
        else venue_forward.forward_usd
    )


def _own_index(state: State, underlying: Underlying, quote: str) -> Price | None:
    """The newest of the venue's own indices in one currency, from `index_prices` or its tickers."""
    by_rows = state.indices.get(Series(underlying.venue, underlying.currency, quote))
    by_tickers = state.chains.get(underlying, Chain()).index.get(quote)
    return max((price for price in (by_rows, by_tickers) if price), default=None)


def _is_near(before: Published | None, after: Published) -> bool:
    if before is None or before[1:] != after[1:]:
        return False
    return before[0] == after[0] or bool(before[0] and after[0] and abs(after[0] / before[0] - 1.0) < MOVED)


KERNEL = Kernel(
    name="forwards",
    version=VERSION,
    new=new,
    step=step,
    migrations=MIGRATIONS,
)
