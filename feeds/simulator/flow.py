"""What happens: prices move, books follow, some moments show a ticker or a trade, and every record arrives late."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds import Record
from feeds.simulator.accounts import MAKERS, Leg, clients
from feeds.simulator.listing import UNDERLYINGS, listing, option_marks
from feeds.simulator.prices import Prices
from feeds.simulator.scenario import ORACLE, Scenario
from feeds.simulator.sources import Publishing
from schemas.rows import instant_ms, instant_us
from udfs.black76 import MS_PER_YEAR, FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Levels = list[list[float]]
Arrival = tuple[int, Record]  # receiver's clock in us

ARRIVAL_DISORDER_MS = 40
"""No record arrives after one whose exchange time is later by more than this."""

SNAPSHOT_MS = 200  # from the start; deposits come at half of it
FLOW_MS = 250
ORACLE_LATENCY_US = 4_000
CONFIDENCE = 0.0002  # fraction of the price; the move since the last price comes on top
JITTER_US = 10_000
FLOW_SHARES = {"spot": 0.15, "perpetual": 0.35, "option": 0.5}  # of book updates
VOL_PER_FALL = 2.0  # a fall of 10 % lifts volatility by a fifth of itself
TAKER_FEE = 0.0005  # fraction of notional
OPTION_FEE_COIN = 0.0003  # a contract, at most an eighth of its price
TURNOVER = 50  # a safe account trades one part in so many of its position

BOOKS, TICKERS, TRADES = range(3)  # channels: each keeps its own order


class Order(NamedTuple):
    """A market order of a client."""

    ms: int  # within its second
    account: int
    leg: Leg


class Moment(NamedTuple):
    """An instant of a venue at which one book is requoted."""

    event_ms: int
    event_at: str
    instrument: int
    order: int  # the order that is executed; -1 for none
    has_ticker: bool
    has_trade: bool  # of strangers
    is_buy: bool  # that trade
    index_usd: float
    forward_usd: float  # NaN unless an option, like the next
    mark_iv: float
    mark: float
    bid: int  # ticks; below 1 there is none
    ask: int
    fresh_bid: int  # the level that gets a new size
    fresh_ask: int
    book_us: int  # arrival
    ticker_us: int
    trade_us: int
    book_received_at: str
    ticker_received_at: str
    trade_received_at: str


class _Book:
    """Sizes by price in ticks, each side unbroken from its best price outwards."""

    def __init__(self, sequence: int, ticks_per_unit: int, lots_per_contract: int, depth: int) -> None:
        self.sequence = sequence
        self.ticks_per_unit = ticks_per_unit
        self.lots_per_contract = lots_per_contract
        self.depth = depth
        self.bids: dict[int, float] = {}
        self.asks: dict[int, float] = {}

    def requote(self, bid: int, ask: int, fresh: tuple[int, int], lots: Iterator[int]) -> tuple[Levels, Levels]:
        """Move the best prices and resize one level a side.  Returns the changed bids and asks; size 0 deletes."""
        bids = self._move(self.bids, range(bid, max(bid - self.depth, 0), -1), fresh[0], lots)
        asks = self._move(self.asks, range(ask, ask + self.depth), fresh[1], lots)
        self.sequence += len(bids) + len(asks)
        return bids, asks

    def _move(self, side: dict[int, float], wanted: range, fresh: int, lots: Iterator[int]) -> Levels:
        changes = {tick: 0.0 for tick in side if tick not in wanted}
        for tick in changes:
            del side[tick]
        for tick in wanted:
            if tick not in side:
                side[tick] = changes[tick] = next(lots) / self.lots_per_contract
        if wanted:
            tick = wanted[fresh % len(wanted)]
            side[tick] = changes[tick] = next(lots) / self.lots_per_contract
        return [[tick / self.ticks_per_unit, size] for tick, size in changes.items()]

    def best(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Bid price and size, ask price and size."""
        bid, ask = max(self.bids, default=None), min(self.asks)
        ask_price = ask / self.ticks_per_unit
        if bid is None:
            return None, None, ask_price, self.asks[ask]
        return bid / self.ticks_per_unit, self.bids[bid], ask_price, self.asks[ask]


class Market:
    """What outlives a second: prices, books, last trades and arrivals, and what accounts have yet to do."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = np.random.default_rng([scenario.seed, 0])
        self.publishing = Publishing(scenario.seed, scenario.start_ms, scenario.sources)
        self.contracts = contracts = listing(scenario)
        self.clients = clients(scenario, contracts)
        self.makers = MAKERS
        self.entries = self._entries()
        self.is_adding = [True] * len(self.clients)  # whether the next turnover adds to the position
        self.books = [
            _Book(1000 * (i + 1), c.ticks_per_unit, c.lots_per_contract, scenario.depth) for i, c in enumerate(contracts)
        ]
        self.last_prices: list[float | None] = [None] * len(contracts)
        self.trades = 0
        self.arrived_us = np.zeros((3, len(contracts)), dtype=np.int64)
        self.index_usd = [coin.price_usd for coin in UNDERLYINGS]  # last published
        vol = np.array([coin.vol for coin in UNDERLYINGS])
        self.prices = Prices(self.rng, np.array(self.index_usd), vol, scenario.dynamics)

        kinds = [c.kind for c in contracts]
        self.flow = np.array([FLOW_SHARES[kind] / kinds.count(kind) for kind in kinds])
        self.is_spot = np.array([kind == "spot" for kind in kinds])
        self.is_option = np.array([kind == "option" for kind in kinds])
        self.underlying = np.array([c.underlying for c in contracts])
        self.latency_us = np.array([c.venue.latency_us for c in contracts])
        self.premium = np.array([1 + c.basis for c in contracts])
        self.ticks_per_unit = np.array([c.ticks_per_unit for c in contracts])
        self.strike_usd = np.array([c.strike_usd or np.nan for c in contracts])
        self.is_call = np.array([c.option_type == "call" for c in contracts])
        self.expiry_ms = np.array([c.expiry_ms or 0 for c in contracts])

    @property
    def first_entry_ms(self) -> int:
        """When clients may build positions, after the start."""
        return FLOW_MS

    def opening(self) -> list[Arrival]:
        """Contract terms, deposits, and a snapshot of every book."""
        start_ms = self.scenario.start_ms
        us = start_ms * 1000 + ORACLE_LATENCY_US
        arrivals = [(us, Record("instruments", start_ms, c.row(start_ms, us))) for c in self.contracts]

        event_ms = start_ms + SNAPSHOT_MS // 2
        us = event_ms * 1000 + ORACLE_LATENCY_US
        row: dict[str, Any]
        for account in (*self.makers, *self.clients):
            for number, (currency, amount) in enumerate(account.deposits.items(), start=1):
                row = {
                    "account": account.name,
                    "event_at": instant_ms(event_ms),
                    "received_at": instant_us(us),
                    "transfer_id": f"deposit-{number}",
                    "currency": currency,
                    "amount": f"{amount:.8f}",
                }
                arrivals.append((us, Record("transfers", event_ms, row)))

        return arrivals + self._snapshots()

    def _snapshots(self) -> list[Arrival]:
        """A snapshot of every book."""
        arrivals = []
        event_ms = self.scenario.start_ms + SNAPSHOT_MS
        instruments = np.arange(len(self.contracts))
        unmoved = np.ones(len(instruments))
        index_usd = self.prices.now_usd[self.underlying]
        mark = self._marks(instruments, np.full(len(instruments), event_ms), index_usd, unmoved)[0]
        lots = self._lots()
        for contract, book, bid, ask in zip(self.contracts, self.books, *self._quotes(instruments, mark), strict=True):
            bids, asks = book.requote(int(bid), int(ask), (0, 0), lots)
            us = event_ms * 1000 + contract.venue.latency_us
            row = {
                "venue": contract.venue.name,
                "instrument": contract.name,
                "event_at": instant_ms(event_ms),
                "received_at": instant_us(us),
                "kind": "snapshot",
                "sequence": book.sequence,
                "prev_sequence": None,
                "bids": bids,
                "asks": asks,
            }
            arrivals.append((us, Record("order_books", event_ms, row)))
        return arrivals

    def second(self, second: int) -> list[Arrival]:
        """What the oracle and the venues publish in one second, in no order."""
        second_ms = self.scenario.start_ms + 1000 * second
        from_ms = FLOW_MS if second == 0 else 0
        factor = self.scenario.price_factor(second + np.arange(1000) / 1000)
        path_usd = self.prices.second() * factor
        orders = self.entries.pop(second, []) + self._turnover(from_ms)
        lots = self._lots()
        arrivals = self._index_prices(second_ms, path_usd)
        arrivals += self.publishing.second(second_ms, {c.currency: path_usd[u] for u, c in enumerate(UNDERLYINGS)})
        for moment in self._moments(second_ms, from_ms, path_usd, factor, orders):
            arrivals.append(self._book_change(moment, lots))
            if moment.has_trade:
                arrivals += self._trade(moment, moment.is_buy, next(lots))
            if moment.order >= 0:
                arrivals += self._execution(moment, orders[moment.order])
            if moment.has_ticker:
                arrivals.append(self._ticker(moment))
        return arrivals

    def _entries(self) -> dict[int, list[Order]]:
        """By second, the orders that build all positions: two a leg, before half the time to the crash has passed."""
        entries = defaultdict(list)
        first_ms = self.first_entry_ms
        before_ms = max(min(int(500 * self.scenario.crash_from_s), 1000 * self.scenario.duration_s), first_ms + 1)
        for account, client in enumerate(self.clients):
            for instrument, lots in client.legs:
                for part in (lots // 2, lots - lots // 2):
                    second, ms = divmod(int(self.rng.integers(first_ms, before_ms)), 1000)
                    entries[second].append(Order(ms, account, Leg(instrument, part)))
        return entries

    def _turnover(self, from_ms: int) -> list[Order]:
        """Safe accounts add a little to their first leg, then take it off again: none drifts from its purpose."""
        n_safe = self.scenario.accounts - self.scenario.doomed
        n = self.scenario.fills_per_s // 2 if n_safe else 0
        accounts = self.scenario.doomed + self.rng.integers(0, max(n_safe, 1), n)
        orders = []
        for ms, account in zip(sorted(self.rng.integers(from_ms, 1000, n).tolist()), accounts.tolist(), strict=True):
            instrument, lots = self.clients[account].legs[0]
            is_buy = (lots > 0) == self.is_adding[account]
            self.is_adding[account] = not self.is_adding[account]
            part = max(1, abs(lots) // TURNOVER)
            orders.append(Order(ms, account, Leg(instrument, part if is_buy else -part)))
        return orders

    def _moments(
        self, second_ms: int, from_ms: int, path_usd: FloatArray, factor: FloatArray, orders: list[Order]
    ) -> Iterator[Moment]:
        """One second of the venues in exchange order."""
        rng, scenario = self.rng, self.scenario
        n = scenario.book_updates_per_s
        drawn = rng.choice(len(self.contracts), n, p=self.flow), rng.integers(from_ms, 1000, n), np.full(n, -1)
        ordered = [o.leg.instrument for o in orders], [o.ms for o in orders], range(len(orders))
        instrument, ms, order = (np.append(a, np.array(b, dtype=np.int64)) for a, b in zip(drawn, ordered, strict=True))
        in_time = np.lexsort((order, instrument, ms))
        instrument, ms, order = instrument[in_time], ms[in_time], order[in_time]

        event_ms = second_ms + ms
        index_usd = path_usd[self.underlying[instrument], ms]
        mark, mark_iv, forward_usd = self._marks(instrument, event_ms, index_usd, factor[ms])
        bid, ask = self._quotes(instrument, mark)
        # Only the last update within a millisecond leaves the book that a ticker of that millisecond must show.
        is_last = np.diff(ms * len(self.contracts) + instrument, append=-1) != 0
        book_us, ticker_us, trade_us = (self._arrivals_us(c, instrument, event_ms) for c in (BOOKS, TICKERS, TRADES))
        columns: dict[str, NDArray[Any]] = {
            "event_ms": event_ms,
            "event_at": _texts(event_ms, "ms"),
            "instrument": instrument,
            "order": order,
            "has_ticker": self._some(is_last & ~self.is_spot[instrument], scenario.tickers_per_s),
            "has_trade": self._some(order < 0, scenario.trades_per_s),
            "is_buy": rng.random(len(ms)) < 0.5,
            "index_usd": index_usd,
            "forward_usd": forward_usd,
            "mark_iv": mark_iv,
            "mark": mark,
            "bid": bid,
            "ask": ask,
            "fresh_bid": rng.integers(0, scenario.depth, len(ms)),
            "fresh_ask": rng.integers(0, scenario.depth, len(ms)),
            "book_us": book_us,
            "ticker_us": ticker_us,
            "trade_us": trade_us,
            "book_received_at": _texts(book_us, "us"),
            "ticker_received_at": _texts(ticker_us, "us"),
            "trade_received_at": _texts(trade_us, "us"),
        }
        return map(Moment._make, zip(*(columns[name].tolist() for name in Moment._fields), strict=True))

    def _some(self, eligible: BoolArray, n: int) -> BoolArray:
        chosen = np.zeros(len(eligible), dtype=np.bool_)
        chosen[self.rng.permutation(np.flatnonzero(eligible))[:n]] = True
        return chosen

    def _marks(
        self, instrument: IntArray, event_ms: IntArray, index_usd: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mark in the quote currency; mark volatility and forward, NaN unless an option."""
        mark = index_usd * self.premium[instrument]
        mark_iv, forward_usd = np.full((2, len(mark)), np.nan)
        o = np.flatnonzero(self.is_option[instrument])
        i = instrument[o]
        years = (self.expiry_ms[i] - event_ms[o]) / MS_PER_YEAR
        atm_vol = self.prices.vol[self.underlying[i]] * (1 + VOL_PER_FALL * (1 - factor[o]))
        marks = option_marks(index_usd[o], self.strike_usd[i], self.is_call[i], years, atm_vol)
        mark[o], mark_iv[o], forward_usd[o] = marks
        return mark, mark_iv, forward_usd

    def _quotes(self, instrument: IntArray, mark: FloatArray) -> tuple[IntArray, IntArray]:
        """Best bid and ask in ticks, below and above the mark: a tick or two apart, options wider."""
        ticks = mark * self.ticks_per_unit[instrument]
        half_width = np.where(self.is_option[instrument], 0.5 + 0.02 * ticks, 0.5 * self.rng.random(len(ticks)))
        bid, ask = np.floor(ticks - half_width), np.floor(ticks + half_width) + 1
        return bid.astype(np.int64), ask.astype(np.int64)

    def _lots(self) -> Iterator[int]:
        return cycle((1 + self.rng.lognormal(5.0, 1.0, 4096)).astype(np.int64).tolist())

    def _arrivals_us(self, channel: int, instrument: IntArray, event_ms: IntArray) -> IntArray:
        """Receiver's clock: latency and jitter, but nothing overtakes on one channel of one instrument."""
        us: IntArray = event_ms * 1000 + self.latency_us[instrument] + self.rng.integers(0, JITTER_US, len(event_ms))
        us = np.maximum(us, self.arrived_us[channel, instrument])
        if len(us):
            grouped = np.argsort(instrument, kind="stable")
            # One running maximum serves all instruments when each is lifted clear of the one before it.
            lift = instrument[grouped] * 10_000_000 - event_ms[0] * 1000
            us[grouped] = np.maximum.accumulate(us[grouped] + lift) - lift
            self.arrived_us[channel, instrument[grouped]] = us[grouped]
        return us

    def _index_prices(self, second_ms: int, path_usd: FloatArray) -> list[Arrival]:
        arrivals = []
        n = self.scenario.index_prices_per_s
        for ms in (np.arange(n) * 1000 // n).tolist():
            event_ms = second_ms + ms
            us = event_ms * 1000 + ORACLE_LATENCY_US
            for u, coin in enumerate(UNDERLYINGS):
                price_usd = float(path_usd[u, ms])
                row = {
                    "venue": ORACLE,
                    "underlying": coin.currency,
                    "event_at": instant_ms(event_ms),
                    "received_at": instant_us(us),
                    "price_usd": price_usd,
                    "confidence_usd": CONFIDENCE * price_usd + abs(price_usd - self.index_usd[u]),
                    "quote_currency": "USD",
                }
                self.index_usd[u] = price_usd
                arrivals.append((us, Record("index_prices", event_ms, row)))
        return arrivals

    def _book_change(self, moment: Moment, lots: Iterator[int]) -> Arrival:
        contract, book = self.contracts[moment.instrument], self.books[moment.instrument]
        before = book.sequence
        bids, asks = book.requote(moment.bid, moment.ask, (moment.fresh_bid, moment.fresh_ask), lots)
        row = {
            "venue": contract.venue.name,
            "instrument": contract.name,
            "event_at": moment.event_at,
            "received_at": moment.book_received_at,
            "kind": "change",
            "sequence": book.sequence,
            "prev_sequence": before,
            "bids": bids,
            "asks": asks,
        }
        return moment.book_us, Record("order_books", moment.event_ms, row)

    def _ticker(self, moment: Moment) -> Arrival:
        contract, book = self.contracts[moment.instrument], self.books[moment.instrument]
        bid_price, bid_size, ask_price, ask_size = book.best()
        is_option = contract.kind == "option"
        row = {
            "venue": contract.venue.name,
            "instrument": contract.name,
            "event_at": moment.event_at,
            "received_at": moment.ticker_received_at,
            "sequence": book.sequence,
            "bid_price": bid_price,
            "bid_size": bid_size,
            "ask_price": ask_price,
            "ask_size": ask_size,
            "last_price": self.last_prices[moment.instrument],
            "mark_price": moment.mark,
            "mark_iv": moment.mark_iv if is_option else None,
            "bid_iv": None,
            "ask_iv": None,
            "forward_usd": moment.forward_usd if is_option else None,
            "index_price_usd": moment.index_usd,
            "interest_rate": 0.0 if is_option else None,
            "open_interest": None,
            "min_price": None,
            "max_price": None,
            "has_quote": True,
            "funding_rate": None,
            "next_funding_at": None,
        }
        return moment.ticker_us, Record("tickers", moment.event_ms, row)

    def _trade(self, moment: Moment, is_buy: bool, lots: int) -> list[Arrival]:
        """A trade at the touch, no larger than it; none where nobody bids."""
        contract = self.contracts[moment.instrument]
        bid_price, bid_size, ask_price, ask_size = self.books[moment.instrument].best()
        price, available = (ask_price, ask_size) if is_buy else (bid_price, bid_size)
        if price is None or available is None:
            return []
        return [self._traded(moment, is_buy, price, min(available, lots / contract.lots_per_contract))]

    def _execution(self, moment: Moment, order: Order) -> list[Arrival]:
        """A client's order filled whole at the touch by a market maker; none where nobody bids."""
        contract = self.contracts[moment.instrument]
        bid_price, _, ask_price, _ = self.books[moment.instrument].best()
        is_buy = order.leg.lots > 0
        price = ask_price if is_buy else bid_price
        if price is None:
            return []
        size = abs(order.leg.lots) / contract.lots_per_contract
        trade = self._traded(moment, is_buy, price, size)
        if contract.kind == "option":
            fee = min(OPTION_FEE_COIN, price / 8) * size
        else:
            fee = TAKER_FEE * price * size * contract.contract_size
        maker = MAKERS[self.trades % len(MAKERS)].name
        fills = (self.clients[order.account].name, is_buy, fee), (maker, not is_buy, 0.0)
        return [trade, *(self._filled(moment, *fill, price=price, size=size) for fill in fills)]

    def _traded(self, moment: Moment, is_buy: bool, price: float, size: float) -> Arrival:
        contract = self.contracts[moment.instrument]
        self.trades += 1
        self.last_prices[moment.instrument] = price
        row = {
            "venue": contract.venue.name,
            "instrument": contract.name,
            "event_at": moment.event_at,
            "received_at": moment.trade_received_at,
            "trade_id": str(self.trades),
            "side": "buy" if is_buy else "sell",
            "price": price,
            "size": size,
        }
        return moment.trade_us, Record("trades", moment.event_ms, row)

    def _filled(self, moment: Moment, account: str, is_buy: bool, fee: float, price: float, size: float) -> Arrival:
        contract = self.contracts[moment.instrument]
        row = {
            "account": account,
            "venue": contract.venue.name,
            "instrument": contract.name,
            "event_at": moment.event_at,
            "received_at": moment.trade_received_at,
            "fill_id": str(self.trades),
            "side": "buy" if is_buy else "sell",
            "price": str(price),
            "size": str(size),
            "fee": f"{fee:.8f}",
        }
        return moment.trade_us, Record("fills", moment.event_ms, row)


def _texts(instants: IntArray, unit: str) -> NDArray[np.str_]:
    return np.datetime_as_string(instants.astype(f"datetime64[{unit}]"), timezone="UTC")
