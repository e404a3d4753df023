"""forwards: what is the forward of each expiry, and what is it taken from?

Entries  quote/<venue:instrument>: see `kernels.quotes`
         chain/<venue:underlying>: the index and the forwards that the venue's tickers tell, and the forwards that were put out;
         freed with the last contract
         index/<venue:underlying>, with the currency behind it where that is not USD: the newest of `index_prices`; freed after
         a quiet day
Order    the newest quote of each contract, the newest index and the newest forward that is told stand, whatever their order
         within a batch
Late     what is behind the watermark counts if it is still the newest; its rows bear its own event time
Bound    a forward is put out again when it has moved by `MOVED` or its source has changed
Index    by the rule of `kernels.indices`: the venue's own, of `index_prices` or its tickers, else the newest of the others', of
         two at one instant the last by name
Currency the contracts of an expiry that are valued in one currency give one forward.  What is put out is that in USD, else in
         USDC, else in USDT, where such contracts tell one; that of quoted options goes before that of a future alone, for it
         is to price them; a bare index comes last
Told     the forward that the venue marks options with, the newest of an expiry.  It moves with the venue's index from when it
         was told: a basis lasts longer than a price
"""

import math
from typing import Any, NamedTuple

import numpy as np

from engine.checks import checked
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels import indices, tickers
from kernels.indices import Series
from kernels.quotes import QUIET_MS, Quotes, Underlying, with_currency
from kernels.tickers import Ticker
from schemas.rows import instant_ms, to_ms
from udfs import forwards
from udfs.forwards import Source

VERSION = 2
MOVED = 1e-5
"""Of the forward: a tenth of a basis point.  Each row prices a whole expiry anew."""

Published = tuple[float | None, int, str]  # forward, source, currency
Price = tuple[int, float]  # event time in ms, price


class Told(NamedTuple):
    """A forward of the venue, with the index that the same ticker told, else the venue's of then; 0 where there was none."""

    event_ms: int
    forward_usd: float
    index_usd: float


class Chain:
    """What is kept of a whole chain."""

    def __init__(self) -> None:
        self.published: dict[int, Published] = {}  # by expiry in ms
        self.index: dict[str, Price] = {}  # by currency, as the venue's tickers tell it
        self.told: dict[tuple[int, str], Told] = {}  # by expiry in ms and currency


class State:
    """The underlyings of one shard."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.quotes = Quotes(self.touched)
        self.chains: dict[Underlying, Chain] = {}
        self.indices: dict[str, dict[Series, Price]] = {}  # by underlying

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        if kind == "quote":
            quote = self.quotes.stored(of)
            return None if quote is None else packed(VERSION, quote)
        if kind == "index":
            series = Series.of_name(of)
            index = self.indices.get(series.underlying, {}).get(series)
            return None if index is None else packed(VERSION, index)
        venue, _, currency = of.partition(":")
        underlying = Underlying(venue, currency)
        if underlying not in self.quotes.chains:
            return None
        chain = self.chains.get(underlying, Chain())
        published = [[expiry_ms, *row] for expiry_ms, row in chain.published.items()]
        told = [[*key, *forward] for key, forward in chain.told.items()]
        return packed(VERSION, [chain.index, published, told])

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back.  Raises `ValueError` if the bytes are of no version that this code reads."""
        stored = unpacked("forwards", name, data, VERSION, MIGRATIONS)
        kind, _, of = name.partition("/")
        if kind == "quote":
            self.quotes.put(of, stored)
        elif kind == "index":
            *venue, event_ms, price = stored
            if venue:  # as of version 1, which kept the newest of all venues under the name of the underlying
                self.touched |= {name, f"index/{venue[0]}:{of}"}
                of = f"{venue[0]}:{of}"
            self.put_index(Series.of_name(of), event_ms, price)
        else:
            venue, _, currency = of.partition(":")
            chain = self.chains[Underlying(venue, currency)] = Chain()
            index, published, told = stored
            chain.index = {quote: (event_ms, price) for quote, (event_ms, price) in index.items()}
            chain.published = {expiry_ms: tuple(row) for expiry_ms, *row in published}
            chain.told = {(expiry_ms, quote): Told(*forward) for expiry_ms, quote, *forward in told}

    def put_index(self, series: Series, event_ms: int, price: float) -> None:
        """Set the newest price of an index."""
        self.indices.setdefault(series.underlying, {})[series] = event_ms, price


def _with_currencies(name: str, stored: Any) -> Any:
    """As of version 2, which knows the currencies of contracts and indices, and what the venue's tickers tell of forwards."""
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
    # Before the tickers: a forward that one tells without an index is compared to that of now.
    moved = {one.row["underlying"] for one in good if one.table == "index_prices" and _take_index(state, one.row)}
    changed |= {of for one in tickers.by_instant(good) if (of := _take_ticker(state, one))}
    changed |= {of for of in state.quotes.chains if of.currency in moved}
    if until_ms is not None:
        state.quotes.free(until_ms)
        now_ms = until_ms - 1
        if is_sweep:
            _forget_quiet(state, until_ms)
    elif good:
        now_ms = max(to_ms(message.row["event_at"]) for message in good)
    for of in state.chains.keys() - state.quotes.chains.keys():
        del state.chains[of]
    for of in sorted(changed & state.quotes.chains.keys()):
        outputs += _forwards(state, of, now_ms)
    return outputs


def _take_ticker(state: State, ticker: Ticker) -> Underlying | None:
    """Keep the newest index and forward that a venue's tickers tell; the underlying whose they are where one changed."""
    event_ms, name, row, _ = ticker
    index, forward = row.get("index_price_usd") or 0.0, row.get("forward_usd") or 0.0
    of = state.quotes.of.get(name)
    if of is None or (index <= 0 and forward <= 0):
        return None
    contracts, chain = state.quotes.chains[of], state.chains.setdefault(of, Chain())
    terms = contracts.rows[contracts.slots[name]]
    quote, is_changed = str(terms["currency"]), False
    if index > 0 and (event_ms, float(index)) > chain.index.get(quote, (-1, 0.0)):
        chain.index[quote] = event_ms, float(index)
        is_changed = True
    if forward > 0 and terms["is_option"]:
        if index <= 0:
            _, index = _own_index(state, of, quote) or (0, 0.0)
        expiry, told = (int(terms["expiry_ms"]), quote), Told(event_ms, float(forward), float(index))
        if told > chain.told.get(expiry, Told(-1, 0.0, 0.0)):
            chain.told[expiry] = told
            is_changed = True
    if not is_changed:
        return None
    state.touched.add(of.entry)
    return of


def _take_index(state: State, row: dict[str, Any]) -> bool:
    """Keep the newest price of an index."""
    series, index = Series.of_row(row), (to_ms(row["event_at"]), float(row["price_usd"]))
    known = state.indices.get(series.underlying, {}).get(series)
    if known is not None and index <= known:
        return False
    state.put_index(series, *index)
    state.touched.add("index/" + series.name)
    return True


def _forget_quiet(state: State, until_ms: int) -> None:
    for of in state.quotes.quiet(until_ms):
        if state.chains.pop(of, None):
            state.touched.add(of.entry)
    for of, chain in state.chains.items():
        for key in [key for key, told in chain.told.items() if told.event_ms <= until_ms - QUIET_MS]:
            del chain.told[key]
            state.touched.add(of.entry)
    for underlying, known in list(state.indices.items()):
        for series in [series for series, (event_ms, _) in known.items() if event_ms <= until_ms - QUIET_MS]:
            del known[series]
            state.touched.add("index/" + series.name)
        if not known:
            del state.indices[underlying]


def _index(state: State, of: Underlying, own: str) -> float | None:
    """The index that values what is valued in a currency."""
    told = state.chains.get(of, Chain()).index
    known = [(of.venue, quote, index) for quote, index in told.items()]
    known += [(series.venue, series.quote, index) for series, index in state.indices.get(of.currency, {}).items()]
    found = indices.chosen((((index[0], venue, index[1]), quote, index[0]) for venue, quote, index in known), own)
    mine = [index for index in found if index[1] == of.venue]
    return max(mine or found)[2] if found else None


def _forwards(state: State, of: Underlying, now_ms: int) -> list[Output]:
    """The rows of one underlying whose forward moved, from one vectorised call over expiries and currencies."""
    contracts, chain = state.quotes.chains[of], state.chains.setdefault(of, Chain())
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
    future_bid, future_ask = np.full((2, count), np.nan)
    for slot in order.slots[~rows["is_option"][order.slots]]:
        at = group[slot]
        # Of several futures of one expiry the one with the least distance between bid and ask.
        if bid[slot] > 0 and ask[slot] >= bid[slot] and not ask[slot] - bid[slot] >= future_ask[at] - future_bid[at]:
            future_bid[at], future_ask[at] = bid[slot], ask[slot]
    index = [_index(state, of, quote) for quote in order.currencies]
    told = [_told(state, of, chain, expiry_ms, quote) for quote in order.currencies for expiry_ms in expiries.tolist()]
    by_group = np.repeat([math.nan if price is None else price for price in index], expiries.size)
    chosen = forwards.choose(future_bid, future_ask, parity.forward_usd, by_group, told, parity.half_width_usd)
    half_widths = {
        Source.FUTURE: 0.5 * (future_ask - future_bid),
        Source.PARITY: parity.half_width_usd,
    }
    has_contracts, has_options = np.zeros((2, count), dtype=np.bool_)
    has_contracts[group] = True
    has_options[group[rows["is_option"] & (bid > 0) & (ask > 0)]] = True
    outputs: list[Output] = []
    for place, expiry_ms in enumerate(expiries.tolist()):
        if expiry_ms <= now_ms:
            continue
        groups = [at for at in range(place, count, expiries.size) if has_contracts[at]]
        # The first choice of currency that its contracts tell more of than the index.
        at = min(groups, key=lambda at: (forwards.RANKS[Source(int(chosen.source[at]))], not has_options[at]))
        source, quote = Source(int(chosen.source[at])), order.currencies[at // expiries.size]
        forward = None if source == Source.NONE else float(chosen.forward_usd[at])
        if _is_near(chain.published.get(expiry_ms), (forward, int(source), quote)):
            continue
        chain.published[expiry_ms] = forward, int(source), quote
        row = {
            "venue": of.venue,
            "underlying": of.currency,
            "expiry_at": instant_ms(expiry_ms),
            "event_at": instant_ms(now_ms),
            "forward_usd": forward,
            "source": source.name.lower(),
            "half_width_usd": float(half_widths[source][at]) if source in half_widths else None,
            "strikes": int(parity.strikes[at]),
            "index_usd": index[at // expiries.size],
            "reason": forwards.TEXTS[Source.NONE] if source == Source.NONE else None,
            "quote_currency": quote,
        }
        outputs.append(Output("forwards", now_ms, row))
    live = set(expiries.tolist())
    gone = chain.published.keys() - live
    for expiry_ms in gone:
        del chain.published[expiry_ms]
    untold = [key for key in chain.told if key[0] not in live]
    for key in untold:
        del chain.told[key]
    if outputs or gone or untold:
        state.touched.add(of.entry)
    return outputs


def _told(state: State, of: Underlying, chain: Chain, expiry_ms: int, quote: str) -> float:
    """The venue's forward of an expiry as it is with the venue's index of now; NaN where none was told."""
    told = chain.told.get((expiry_ms, quote))
    if told is None:
        return math.nan
    index = _own_index(state, of, quote)
    return told.forward_usd * (index[1] / told.index_usd) if told.index_usd > 0 and index else told.forward_usd


def _own_index(state: State, of: Underlying, quote: str) -> Price | None:
    """The newest of the venue's own in one currency, by `index_prices` or its tickers."""
    of_rows = state.indices.get(of.currency, {}).get(Series(of.venue, of.currency, quote))
    of_tickers = state.chains.get(of, Chain()).index.get(quote)
    return max((index for index in (of_rows, of_tickers) if index), default=None)


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
