"""The book of one instrument: who trades with whom, at which price.

Price, then time    an order trades with the best price of the other side, at that price with the earliest order, at the price
                    of the order that rests.  https://eurex.com/ex-en/trade/order-book-trading
Replace             keeps its time where the price stays and the quantity does not rise; else it is matched as if it were new.
                    A quantity of no more than has traded ends it (FIX 4.4, matrices C.3.b and C.3.c).
                    https://eurex.com/ex-en/trade/order-book-trading/order-handling
Immediate           what is left of a market order, and of ioc, is cancelled; a fok trades all or nothing
Post-only           is rejected where it would trade at once
Reduce-only         trades no more than brings its account's position to zero, and ends there
Self-trades         two orders of one owner group, or account, do not trade: the one that rests is cancelled, and the other goes
                    on: EXPIRE_MAKER of https://developers.binance.com/docs/binance-spot-api-docs/faqs/stp_faq.  So nobody's
                    liquidation stops at an order of his own
Band                an aggressive price may not be beyond mark ± a fraction; a market order gets that limit, and is rejected
                    where there is no mark.  https://docs.paradex.trade/risk/price-bands
Halt                nothing trades.  Orders that can rest are taken, changed and cancelled; when trading begins again, a call
                    auction trades what crosses (`kernels.matching.auction`)
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.checks import MOST
from kernels.market.terms import Tradable
from kernels.matching.auction import uncrossing
from kernels.matching.display import Display
from kernels.matching.fees import fee
from kernels.matching.intake import IMMEDIATE, SIDES, TIMES, expiry, word
from kernels.matching.numbers import UNIT, divided, text, whole, whole_of
from kernels.matching.reports import Reports, head_of, head_of_market, line_key, told_of
from kernels.matching.rules import Fees
from kernels.matching.side import BUY, SELL, Order, Seat, Side
from udfs.bands import around

UNTOLD_MS = 60_000
"""So long a fill is kept apart from the position until `positions` tells of it."""
REDUCED = "reduce-only, and nothing is left to reduce"


class Book:
    """The open orders of one instrument, and the accounts that trade there."""

    def __init__(
        self,
        market: tuple[str, str],
        fees: Fees,
        touched: set[str],
        changed: set[str],
        partition: Callable[[str], int],
    ) -> None:
        self.market = market  # venue and instrument
        self._partition = partition  # of the rows of an account
        self.name = ":".join(market)
        self._key, self._head = line_key(self.name), head_of_market(market)
        self.fees = fees
        self.terms: Tradable | None = None
        self.end_ms: int | None = None  # when trading ends
        self.tick = self.lot = 0  # in units; 0 where there is none
        self.size = UNIT  # of a contract
        self.mark: int | None = None
        self.limits: tuple[int, int] | None = None  # the band round the mark
        self.index: Callable[[Tradable], float | None] = lambda terms: None  # the price of its underlying
        self.bids, self.asks = Side(BUY), Side(SELL)
        self.seats: dict[str, Seat] = {}
        self.expiring: list[tuple[int, int]] = []  # when, and the number of the order
        self.open: dict[int, Order] = {}  # by number
        self.numbers = 0  # orders so far
        self.told = 0  # reports so far
        self.last_price: int | None = None
        self.halt: str | None = None  # why nothing trades
        self.touched = touched  # names of entries
        self.changed = changed  # names of books whose levels may be others than were told
        self.display: Display | None = Display(self.name, self._key, self._head, self.bids, self.asks)
        self.entry, self.display_entry = book_entry(self.name), f"display/{self.name}"
        self.orders_entry = f"order/{orjson.dumps([self.name]).decode()[:-1]},"  # what the entry of each begins with
        self.report_name = orjson.dumps(f"{self.name}:").decode()[:-1]  # what each exec_id begins with
        self._id_name = orjson.dumps(f"{market[1]}/").decode()[:-1]  # each order_id
        self.currency = "null"

    def list_as(self, terms: Tradable | None) -> None:
        """Go by these terms from now on."""
        self.terms, self.end_ms = terms, None if terms is None else terms.end_ms
        tick, lot = (terms.tick_size, terms.lot_size) if terms is not None else (None, None)
        self.tick, self.lot = whole_of(tick or 0.0), whole_of(lot or 0.0)
        self.currency = "null" if terms is None else orjson.dumps(terms.settlement_currency).decode()
        self.size = whole_of((terms.contract_size if terms is not None else None) or 1.0)

    def value(self, mark: float | None, fraction: float | None) -> None:
        """Go by this mark, and the band round it, from now on."""
        mark = mark if mark is not None and 0 < mark < MOST else None
        self.mark = None if mark is None else whole_of(mark)
        self.limits = None
        if mark is not None and fraction is not None:
            band = around(mark, fraction)
            if band.lower is not None and band.upper is not None:
                self.limits = whole_of(band.lower), whole_of(band.upper)

    def seat(self, account: str) -> Seat:
        """An account's seat, new where it has none."""
        if (seat := self.seats.get(account)) is None:
            head, entry = head_of(self.market, account, self._partition(account)), seat_entry(self.name, account)
            seat = self.seats[account] = Seat(account, self._key, head, entry)
        return seat

    def request(self, row: Mapping[str, Any], reports: Reports) -> None:
        """Take a checked row of `orders`.  A number that is not above the account's last one is a repeat, and does nothing."""
        if self._is_new(seat := self.seat(row["account"]), row):
            self.changed.add(self.name)
            self._act(seat, row, reports)

    def _is_new(self, seat: Seat, row: Mapping[str, Any]) -> bool:
        if row["number"] <= seat.number:
            return False
        seat.number = row["number"]
        self.touched.add(seat.entry)
        return True

    def _act(self, seat: Seat, row: Mapping[str, Any], reports: Reports) -> None:
        try:
            kind = row["request"]
            if kind == "new":
                self._new(seat, row, reports)
            elif kind == "replace":
                self._replace(seat, row, reports)
            else:
                self._cancel(seat, row, reports)
        except ValueError as error:
            reports.refuse(row, seat, self._exec_id(), "rejected" if row["request"] == "new" else "cancel_rejected", str(error))

    def is_due(self, now_ms: int, told_ms: int) -> bool:
        """Whether `expire` has anything to do."""
        has_ended = self.end_ms is not None and self.end_ms <= told_ms and bool(self.open)
        return has_ended or (bool(self.expiring) and self.expiring[0][0] <= now_ms)

    def expire(self, reports: Reports) -> None:
        """End the orders whose time is over, and all where trading of the contract is when it is told."""
        if self.end_ms is not None and self.end_ms <= reports.told_ms:
            for order in [*self.bids, *self.asks]:
                self._end(order, "expired", reports, "trading of the contract has ended")
            self.changed.add(self.name)
        while self.expiring and self.expiring[0][0] <= reports.now_ms:
            expires_ms, number = heapq.heappop(self.expiring)
            order = self.open.get(number)
            if order is not None and order.expires_ms == expires_ms:
                self._end(order, "expired", reports, None)
                self.changed.add(self.name)

    def resume(self, reports: Reports) -> None:
        """Begin to trade again, with an auction of what crosses."""
        self.halt = None
        while (price := self._auction_price(reports)) is not None:
            while (buy := self.bids.best()) is not None and (sale := self.asks.best()) is not None:
                if buy.rank < price or -sale.rank > price:
                    break
                # The later one meets the earlier one, as it would have without the halt.
                early, late = (buy, sale) if buy.priority < sale.priority else (sale, buy)
                self._meet(late, early, price, reports, is_auction=True)

    def restore(self, order: Order) -> None:
        """Take an order back that was stored; `settle` follows when all are there."""
        order.told = told_of(order, f'{self._id_name}{order.number}"')
        self.open[order.number] = order
        order.seat.orders.update(dict.fromkeys(order.ids, order))
        if order.expires_ms is not None:
            heapq.heappush(self.expiring, (order.expires_ms, order.number))

    def settle(self) -> None:
        """Put the open orders in their places."""
        for side in (self.bids, self.asks):
            side.stand([order for order in self.open.values() if order.side == side.sign])
        if self.display is not None:
            self.display.settle(self.halt is not None)

    def _new(self, seat: Seat, row: Mapping[str, Any], reports: Reports) -> None:
        name = row["client_order_id"]
        if name in seat.orders:
            raise ValueError(f"duplicate: an open order has the client_order_id {name}")
        number = self.numbers + 1
        order = Order(seat, row["owner_group"], SIDES[word(row, "side", SIDES)], number, f"{self.orders_entry}{number}]")
        order.order_type = word(row, "order_type", ("limit", "market"))
        order.time_in_force = word(row, "time_in_force", TIMES)
        order.is_reduce_only = bool(row.get("is_reduce_only"))
        order.quantity = order.left = self._whole(row, "quantity", self.lot)
        is_market = order.order_type == "market"
        is_immediate = is_market or order.time_in_force in IMMEDIATE
        order.price = None if is_market else self._price(row, order.side)
        self._admit(order, reports.told_ms, is_immediate)
        limit = self._limit(order)
        order.expires_ms = expiry(row, order.time_in_force, reports.now_ms)
        if order.time_in_force == "post_only" and self.halt is None and self._would_trade(order.side, limit):
            raise ValueError("post-only, and it would trade at once")
        self.numbers += 1
        order.order_id = f"{self.market[1]}/{order.number}"
        order.client_order_id, order.ids = name, [name]
        order.told = told_of(order, f'{self._id_name}{order.number}"')
        self._tell(order, "new", "new", reports)
        if order.time_in_force == "fok" and not self._is_fillable(order, limit):
            self._tell_end(order, "cancelled", reports, "fill or kill: not all of it can trade")
            return
        if self.halt is None:
            self._take(order, limit, reports)
        self._rest(order, is_immediate, reports)

    def _replace(self, seat: Seat, row: Mapping[str, Any], reports: Reports) -> None:
        order, name = self._named(seat, row), row["client_order_id"]
        if name in seat.orders:
            raise ValueError(f"duplicate: an open order has the client_order_id {name}")
        seat.orders[name] = order  # also where it is refused: a cancel of it means the order
        order.ids.append(name)
        self.touched.add(order.entry)
        if row.get("order_type") != order.order_type or SIDES.get(row["side"]) != order.side:
            raise ValueError("a replace changes neither the side nor the type of an order")
        quantity, price = self._whole(row, "quantity", self.lot), self._price(row, order.side)
        rank = price * order.side
        is_earlier = rank == order.rank and quantity <= order.quantity
        if not is_earlier:
            self._check_open(is_immediate=False)
            if order.time_in_force == "post_only" and self.halt is None and self._would_trade(order.side, -rank):
                raise ValueError("post-only, and it would trade at once")
        orig, order.client_order_id = order.client_order_id, name
        if quantity <= order.cum:
            order.quantity, order.left = order.cum, 0
            self._remove(order)
            self._tell(order, "replaced", "filled", reports, orig=orig)
            return
        side = self.bids if order.side == BUY else self.asks
        if not is_earlier:
            side.remove(order)
            del self.open[order.number]
            self.numbers += 1
            order.priority, order.price, order.rank = self.numbers, price, rank
        order.quantity, order.left = quantity, quantity - order.cum
        side.changed.add(rank)
        self._tell(order, "replaced", "partially_filled" if order.cum else "new", reports, orig=orig)
        if not is_earlier:
            if self.halt is None:
                self._take(order, -rank, reports)
            self._rest(order, is_immediate=False, reports=reports)

    def _cancel(self, seat: Seat, row: Mapping[str, Any], reports: Reports) -> None:
        order = self._named(seat, row)
        self._end(order, "cancelled", reports, None, name=row["client_order_id"])

    def _named(self, seat: Seat, row: Mapping[str, Any]) -> Order:
        order = seat.orders.get(row.get("orig_client_order_id") or "")
        if order is None:
            raise ValueError(f"no open order has the client_order_id {row.get('orig_client_order_id')}")
        return order

    def _whole(self, row: Mapping[str, Any], column: str, step: int) -> int:
        number = row.get(column)
        units = 0 if number is None else whole(str(number))
        if units <= 0:
            raise ValueError(f"{column}: expected a number above zero, got {number}")
        if step and units % step:
            raise ValueError(f"{column}: {number} is no multiple of {text(step)}")
        return units

    def _price(self, row: Mapping[str, Any], side: int) -> int:
        price = self._whole(row, "price", self.tick)
        if self.limits is not None:
            lower, upper = self.limits
            if side == BUY and price > upper:
                raise ValueError(f"price {row['price']} is above its band, up to {text(upper)}")
            if side == SELL and price < lower:
                raise ValueError(f"price {row['price']} is below its band, from {text(lower)} on")
        return price

    def _admit(self, order: Order, told_ms: int, is_immediate: bool) -> None:
        """Raise `ValueError` where the venue does not take the order."""
        if self.terms is None:
            raise ValueError("the terms of the contract are not known")
        if self.end_ms is not None and self.end_ms <= told_ms:
            raise ValueError("trading of the contract has ended")
        self._check_open(is_immediate)
        if order.order_type == "market" and order.time_in_force == "post_only":
            raise ValueError("a market order that never takes")
        if order.is_reduce_only and not order.may_trade():
            raise ValueError(REDUCED)

    def _check_open(self, is_immediate: bool) -> None:
        """Raise `ValueError` where the market takes no such order now."""
        if is_immediate and self.halt is not None:
            raise ValueError(f"trading is halted: {self.halt}")

    def _would_trade(self, side: int, limit: int) -> bool:
        """Whether an order with this limit, a rank on the other side, would trade at once."""
        ranks = (self.asks if side == BUY else self.bids).ranks
        return bool(ranks) and ranks[-1] >= limit

    def _limit(self, order: Order) -> int:
        """The rank on the other side that an order takes at worst."""
        price = order.price
        if price is None:
            if self.limits is None:
                raise ValueError("a market order, and there is no mark to limit it by")
            price = self.limits[1] if order.side == BUY else self.limits[0]
        order.rank = price * order.side
        return -order.rank

    def _take(self, order: Order, limit: int, reports: Reports) -> None:
        """Trade with what rests, as far as the limit."""
        other = self.asks if order.side == BUY else self.bids
        ranks = other.ranks
        while order.left and ranks and ranks[-1] >= limit and order.may_trade():
            maker = next(iter(other.levels[ranks[-1]].values()))
            assert maker.price is not None
            self._meet(order, maker, maker.price, reports)

    def _meet(self, taker: Order, maker: Order, price: int, reports: Reports, is_auction: bool = False) -> None:
        """Let two orders trade, or end one that may not."""
        if maker.is_own(taker):
            self._end(maker, "cancelled", reports, "self-trade: it met an order of its own owner")
            return
        for order in (maker, taker):
            if not order.may_trade():
                self._end(order, "cancelled", reports, REDUCED)
                return
        size = min(maker.may_trade(), taker.may_trade())
        self.last_price = price
        self._execute(maker, price, size, True, reports)
        number = self._execute(taker, price, size, is_auction, reports)
        reports.trade(self._head, self._key, number, taker.side, text(price), text(size))

    def _execute(self, order: Order, price: int, size: int, is_maker: bool, reports: Reports) -> int:
        """Let an order trade; returns the number of its report."""
        order.cum += size
        order.left -= size
        order.worth += price * size
        exec_id, number = self._exec_id(), self.told
        order.seat.trade(f"{self.name}:{number}", size * order.side, reports.now_ms, UNTOLD_MS)
        self.touched.add(order.seat.entry)
        status = "partially_filled" if order.left else "filled"
        trade = (text(price), text(size), text(self._fee(price, size, is_maker)), self.currency, is_maker)
        reports.tell(order, exec_id, "trade", status, trade=trade)
        if order.number in self.open:
            self._after(order, reports)
        return number

    def _after(self, order: Order, reports: Reports) -> None:
        """See to an order on the book that has traded."""
        if not order.left:
            self._remove(order)
        elif not order.may_trade():
            self._end(order, "cancelled", reports, REDUCED)
        else:
            self.touched.add(order.entry)
            (self.bids if order.side == BUY else self.asks).changed.add(order.rank)

    def _rest(self, order: Order, is_immediate: bool, reports: Reports) -> None:
        """Put what is left of an order on the book, or end it."""
        if not order.left:
            self._forget(order)
        elif is_immediate:
            self._tell_end(order, "cancelled", reports, "immediate: what is left of it does not rest")
        elif not order.may_trade():
            self._tell_end(order, "cancelled", reports, REDUCED)
        else:
            self.open[order.number] = order
            (self.bids if order.side == BUY else self.asks).add(order)
            order.seat.orders.update(dict.fromkeys(order.ids, order))
            if order.expires_ms is not None:
                heapq.heappush(self.expiring, (order.expires_ms, order.number))
            self.touched.add(order.entry)

    def _is_fillable(self, order: Order, limit: int) -> bool:
        """Whether all of an order can trade at once."""
        missing = order.quantity
        if order.may_trade() < missing:
            return False
        changes: dict[str, int] = {}  # of the positions of those who would trade
        for maker in self.asks if order.side == BUY else self.bids:
            if maker.rank < limit:
                return False
            if maker.is_own(order):
                continue
            account, size = maker.seat.account, maker.left
            if maker.is_reduce_only:
                size = max(0, min(size, -maker.side * (maker.seat.position + changes.get(account, 0))))
            changes[account] = changes.get(account, 0) + maker.side * size
            missing -= size
            if missing <= 0:
                return True
        return False

    def _auction_price(self, reports: Reports) -> int | None:
        """The price of an auction; None where nothing crosses any more."""
        buy, sale = self.bids.best(), self.asks.best()
        if buy is None or sale is None or buy.rank < -sale.rank:
            return None
        for order in [order for order in (*self.bids, *self.asks) if not order.may_trade()]:
            self._end(order, "cancelled", reports, REDUCED)
        reference = self.last_price if self.mark is None else self.mark
        if reference is not None and self.tick:
            reference = divided(reference, self.tick) * self.tick
        buys = [(order.rank, order.may_trade()) for order in self.bids]
        sales = [(-order.rank, order.may_trade()) for order in self.asks]
        return uncrossing(buys, sales, reference)

    def _end(self, order: Order, kind: str, reports: Reports, reason: str | None, *, name: str | None = None) -> None:
        """End an order, also one that rests."""
        if order.number in self.open:
            self._remove(order)
        self._tell_end(order, kind, reports, reason, name=name)

    def _tell_end(self, order: Order, kind: str, reports: Reports, reason: str | None, *, name: str | None = None) -> None:
        order.left = 0
        self._forget(order)
        orig = order.client_order_id if name else None
        reports.tell(order, self._exec_id(), kind, kind, name=name, orig=orig, reason=reason)

    def _remove(self, order: Order) -> None:
        """Take an order off the book."""
        (self.bids if order.side == BUY else self.asks).remove(order)
        del self.open[order.number]
        self._forget(order)

    def _forget(self, order: Order) -> None:
        for name in order.ids:
            order.seat.orders.pop(name, None)
        self.touched.add(order.entry)

    def _tell(self, order: Order, kind: str, status: str, reports: Reports, orig: str | None = None) -> None:
        reports.tell(order, self._exec_id(), kind, status, orig=orig)

    def _exec_id(self) -> str:
        """The next exec_id, as JSON."""
        self.told += 1
        self.touched.add(self.entry)
        return f'{self.report_name}{self.told}"'

    def _fee(self, price: int, size: int, is_maker: bool) -> int:
        """In units of the settlement currency."""
        rate = self.fees.maker if is_maker else self.fees.taker
        return fee(self.terms, rate, self.fees.cap, price, size * self.size, self.index) if rate and self.terms else 0


def book_entry(name: str) -> str:
    """The entry of a book."""
    return f"book/{name}"


def seat_entry(name: str, account: str) -> str:
    """The entry of a seat."""
    return f"seat/{orjson.dumps([name, account]).decode()}"
