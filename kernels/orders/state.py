"""The accounts of a shard with their orders, and what orders are checked against, as stored."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from engine.contract import Migration
from engine.entries import packed, unpacked
from kernels import gate
from kernels.halts import Halt, Halts
from kernels.market.terms import Listing, Tradable, contract_with_amount
from kernels.orders.executions import EXACT, ZERO
from kernels.orders.guards import Guards, Timer
from kernels.orders.order import Nature, Order, Request
from kernels.orders.orders import Orders
from kernels.orders.rules import RULES, Rules
from kernels.orders.worth import Mark

VERSION = 2
MIGRATIONS: dict[int, Migration] = {1: contract_with_amount}
"""In version 2 contracts have their `amount_per_contract`."""
MILLION = 1_000_000
GUARDS = "guards"
"""The first part of the names of entries, up to the slash."""
UNTRADED_MS = 60_000
"""So long an order that is done, and has not traded, is remembered: longer than a request may be old."""
TRADED_MS = 24 * 60 * 60 * 1000
"""So long one that has traded is, for busts and corrections; and a contract after its expiry."""
BOOKED_MS = 60_000
"""So long a booked fill is remembered whose execution report has not come."""


class Unbooked(NamedTuple):
    """A fill that the account's margin does not include yet."""

    instrument: str  # venue:instrument
    change: Decimal  # contracts; a sale is negative
    reserved_usd: float
    booked_ms: int | None = None  # when `positions` had it; None before


class Lately:
    """The requests of the last second."""

    def __init__(self, requests: Iterable[tuple[int, str]] = ()) -> None:
        self.requests = deque(requests)  # when, and what alike ones share
        self._alike = Counter(alike for _, alike in self.requests)

    def add(self, now_ms: int, alike: str) -> None:
        """Count a request."""
        self.requests.append((now_ms, alike))
        self._alike[alike] += 1

    def since(self, from_ms: int, alike: str) -> tuple[int, int]:
        """How many there were after an instant, and how many of them alike; earlier ones are forgotten."""
        while self.requests and self.requests[0][0] <= from_ms:
            _, gone = self.requests.popleft()
            self._alike[gone] -= 1
            if not self._alike[gone]:
                del self._alike[gone]
        return len(self.requests), self._alike[alike]


class Account:
    """One account."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.open: dict[str, Order] = {}  # those that may still trade, by key
        self._opened: dict[tuple[str, str | None], Decimal] = {}  # by venue:instrument and side: what they may trade at most
        self._kept = 0  # what credit keeps back for them, in millionths of a USD: whole numbers have one sum in any order
        self.positions: dict[str, tuple[int, Decimal]] = {}  # by venue:instrument: time of the row, contracts
        self.unbooked: dict[str, Unbooked] = {}  # by exec_id
        self.booked: dict[str, int] = {}  # by fill_id of those whose report has not come: when
        self.margin: tuple[int, float | None] = (-1, None)  # time of the row; equity less initial margin in USD
        self.sent = 0  # rows of `orders`
        self.lately = Lately()

    def position(self, instrument: str) -> Decimal:
        """Contracts, with the fills that are not in `positions` yet."""
        changes = [fill.change for fill in self.unbooked.values() if fill.instrument == instrument and fill.booked_ms is None]
        return _total([self.positions.get(instrument, (0, ZERO))[1], *changes])

    def count(self, order: Order) -> None:
        """Count what an order may still trade, and what is kept back for it, among what is open; as it is now."""
        left = order.largest_left
        self._count(order, left, round(order.reserved_usd * MILLION) if left else 0)

    def discount(self, order: Order) -> None:
        """Count nothing of an order any more."""
        self._count(order, ZERO, 0)

    def _count(self, order: Order, left: Decimal, kept: int) -> None:
        market_side = f"{order.venue}:{order.instrument}", order.side
        self._opened[market_side] = EXACT.add(self._opened.get(market_side, ZERO), EXACT.subtract(left, order.counted[0]))
        self._kept += kept - order.counted[1]
        order.counted = left, kept
        if left:
            self.open[order.key] = order
            return
        self.open.pop(order.key, None)
        if not self._opened[market_side]:
            del self._opened[market_side]

    def opened(self, instrument: str, side: str, without: Order) -> Decimal:
        """Contracts that the other open orders on one side of an instrument may still trade at most."""
        left_of_it = without.counted[0] if without.side == side else ZERO
        return EXACT.subtract(self._opened.get((instrument, side), ZERO), left_of_it)

    def free_usd(self, without: Order) -> float | None:
        """Equity less initial margin, less what is kept back for other open orders and for fills that margin lacks."""
        if self.margin[1] is None:
            return None
        kept = (self._kept - without.counted[1]) / MILLION
        # fsum: the same sum in whatever order.
        return self.margin[1] - kept - math.fsum(fill.reserved_usd for fill in self.unbooked.values())

    def book(self, fill_id: str, now_ms: int) -> None:
        """Know that `positions` has a fill."""
        if (fill := self.unbooked.get(fill_id)) is None:
            self.booked[fill_id] = now_ms
        elif fill.booked_ms is None:
            self.unbooked[fill_id] = fill._replace(booked_ms=now_ms)

    def value(self, margin_ms: int, free_usd: float | None, now_ms: int) -> None:
        """Take a row of `account_margin`; an older one changes nothing."""
        if margin_ms < self.margin[0]:
            return
        self.margin = margin_ms, free_usd
        self._include(margin_ms)
        self.booked = {fill_id: ms for fill_id, ms in self.booked.items() if ms > now_ms - BOOKED_MS}

    def _include(self, margin_ms: int) -> None:
        """Release what is kept back for fills that a row of `account_margin` of this instant includes."""
        for exec_id in [e for e, fill in self.unbooked.items() if fill.booked_ms is not None and fill.booked_ms <= margin_ms]:
            del self.unbooked[exec_id]


FORGET, ANSWER, TIMER, OVERDUE = "forget", "answer", "timer", "overdue"


class Due(NamedTuple):
    """What is to be looked at when its time has come."""

    at_ms: int
    what: str
    account: str  # empty of OVERDUE
    subject: tuple[str, str]
    """FORGET: the key of the order, and nothing; ANSWER: likewise, and the client_order_id of the request; TIMER: its scope;
    OVERDUE: venue:instrument, and nothing."""


class State:
    """The accounts of one shard."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.answer_ms = round(rules.answer_s * 1000)  # how long a venue may take to answer
        self.gate = gate.Gate()
        self.breaks = gate.Breaks()
        self.accounts: dict[str, Account] = {}
        self.listing: Listing[Tradable] = Listing()
        self.marks: dict[str, Mark] = {}
        self.guards: dict[str, Guards] = {}  # by account
        self.halts = Halts()
        self.due: list[Due] = []
        self.now_ms = 0  # the last instant of the newest batch
        self.touched: set[str] = set()
        self.partition: Callable[[str], int] = lambda key: 0

    def account(self, name: str) -> Account:
        """An account, new where it is not known."""
        if (account := self.accounts.get(name)) is None:
            account = self.accounts[name] = Account()
        return account

    def guards_of(self, account_name: str) -> Guards:
        """What guards the orders of an account."""
        self.touched.add(f"{GUARDS}/{account_name}")
        return self.guards.setdefault(account_name, Guards())

    def learn_contract(self, name: str, terms: Tradable) -> None:
        """Take the terms of a contract, if they replace the known ones."""
        if self.listing.learn(name, terms):
            self._put_contract(name)
            self.touched.add(f"contract/{name}")

    def _put_contract(self, name: str) -> None:
        overdue_ms = self.overdue_ms(name)
        if overdue_ms is not None:
            self.wake(Due(overdue_ms, OVERDUE, "", (name, "")))

    def overdue_ms(self, name: str) -> int | None:
        """When the venue must have said how the orders for a contract ended."""
        terms = self.listing.terms.get(name)
        return None if terms is None or terms.end_ms is None else terms.end_ms + self.answer_ms

    def hold(self, account_name: str, instrument: str, event_ms: int, size: Decimal, fill_id: str) -> None:
        """Take a row of `positions`."""
        account = self.account(account_name)
        if event_ms >= account.positions.get(instrument, (event_ms, ZERO))[0]:
            account.positions[instrument] = event_ms, size
        account.book(fill_id, self.now_ms)
        self.touched.add(f"account/{account_name}")

    def keep(self, account_name: str, order: Order) -> None:
        """Store an order that has changed, and look at it again when it can be forgotten."""
        account = self.account(account_name)
        account.orders.add(order)
        account.count(order)
        if order.key not in account.open:
            self.wake(Due(order.changed_ms + kept_ms(order), FORGET, account_name, (order.key, "")))
        self.touched.add(order_entry(account_name, order.key))

    def forget(self, account_name: str, order: Order) -> None:
        """Forget an order."""
        account = self.accounts[account_name]
        account.orders.remove(order)
        account.discount(order)
        self.touched.add(order_entry(account_name, order.key))

    def wake(self, due: Due) -> None:
        """Look at something at an instant."""
        heapq.heappush(self.due, due)

    def wake_answers(self, account_name: str, order: Order) -> None:
        """Look at each request of an order that was sent from here when the time for its answer is over."""
        for client_order_id, request in order.requests.items():
            if client_order_id in order.digests and not request.is_unanswered:
                self.wake(Due(request.sent_ms + self.answer_ms, ANSWER, account_name, (order.key, client_order_id)))

    def wake_timer(self, account_name: str, scope: tuple[str, str], timer: Timer) -> None:
        """Look at a timer when it runs out."""
        if timer.ends_ms is not None:
            self.wake(Due(timer.ends_ms, TIMER, account_name, scope))

    def free(self, until_ms: int) -> None:
        """Forget the contracts that expired a day ago, with the orders for them that their venue never ended."""
        freed = self.listing.free(until_ms - TRADED_MS)
        for name in freed:
            self.marks.pop(name, None)
            self.touched |= {f"contract/{name}", f"mark/{name}"}
        if freed:
            for account_name, account in self.accounts.items():
                for order in [order for order in account.open.values() if f"{order.venue}:{order.instrument}" in freed]:
                    self.forget(account_name, order)
        self.touched.update(self.breaks.forget(until_ms))
        self.touched.update(self.halts.forget(until_ms, lambda name: name not in self.listing.terms))

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        if kind in (gate.KIND, gate.BREAK):
            return (self.gate if kind == gate.KIND else self.breaks).encode(subject)
        stored: Any = None
        if kind == "clock":
            stored = self.now_ms
        elif kind == "contract":
            stored = list(terms) if (terms := self.listing.terms.get(subject)) else None
        elif kind == "mark":
            stored = list(mark) if (mark := self.marks.get(subject)) else None
        elif kind == "halt":
            stored = list(halt) if (halt := self.halts.rows.get(subject)) else None
        elif kind == GUARDS:
            stored = guards.stored() if (guards := self.guards.get(subject)) else None
        elif kind == "order":
            account_name, key = orjson.loads(subject)
            account = self.accounts.get(account_name)
            order = account.orders.by_key.get(key) if account else None
            stored = _stored_order(order) if order else None
        elif account := self.accounts.get(subject):
            stored = _stored_account(account)
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, subject = name.partition("/")
        if kind in (gate.KIND, gate.BREAK):
            (self.gate if kind == gate.KIND else self.breaks).decode(subject, data)
            return
        stored = unpacked("orders", name, data, VERSION, MIGRATIONS)
        if kind == "clock":
            self.now_ms = stored
        elif kind == "contract":
            self.listing.put(subject, Tradable(*stored))
            self._put_contract(subject)
        elif kind == "mark":
            self.marks[subject] = Mark(*stored)
        elif kind == "halt":
            self.halts.put(subject, Halt(*stored))
        elif kind == GUARDS:
            self.guards[subject] = guards = Guards()
            guards.restore(stored)
            for scope, timer in guards.timers.items():
                self.wake_timer(subject, scope, timer)
        elif kind == "order":
            account_name, key = orjson.loads(subject)
            self._restore_order(account_name, _restored_order(key, stored))
        else:
            _restore_account(self.account(subject), stored)

    def _restore_order(self, account_name: str, order: Order) -> None:
        account = self.account(account_name)
        account.orders.add(order)
        account.count(order)
        if not order.is_working:
            self.wake(Due(order.changed_ms + kept_ms(order), FORGET, account_name, (order.key, "")))
        self.wake_answers(account_name, order)


def order_entry(account: str, key: str) -> str:
    """The entry of an order."""
    return f"order/{orjson.dumps([account, key]).decode()}"


def kept_ms(order: Order) -> int:
    """How long an order that is done is remembered."""
    return TRADED_MS if order.executions.by_id else UNTRADED_MS


def _total(numbers: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for number in numbers:
        total = EXACT.add(total, number)
    return total


def _text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _stored_order(order: Order) -> list[Any]:
    requests = {
        name: [kind, orig, sent_ms, _text(quantity), _text(price), is_pending, is_unanswered]
        for name, (kind, orig, sent_ms, quantity, price, is_pending, is_unanswered) in order.requests.items()
    }
    seen = {
        exec_id: [kind, side, _text(quantity), _text(price), ref]
        for exec_id, (kind, side, quantity, price, ref) in order.seen.items()
    }
    what: list[Any] = [order.venue, order.instrument, order.side, _text(order.quantity), _text(order.price)]
    what += [order.order_type, order.time_in_force, list(order.nature)]
    flags = [order.is_acknowledged, order.is_done_for_day, order.is_stopped, order.ending]
    counts = [order.rows, order.last_status, order.changed_ms, order.reserved_usd]
    names = [order.client_order_id, order.order_id, list(order.ids), order.digests]
    return [what, names, requests, order.executions.stored(), seen, flags, counts]


def _restored_order(key: str, stored: list[Any]) -> Order:
    what, names, requests, executions, seen, flags, counts = stored
    venue, instrument, side, quantity, price, order_type, time_in_force, nature = what
    order = Order(
        key,
        venue=venue,
        instrument=instrument,
        side=side,
        quantity=_decimal(quantity),
        price=_decimal(price),
        order_type=order_type,
        time_in_force=time_in_force,
        nature=Nature(*nature),
    )
    order.client_order_id, order.order_id, ids, order.digests = names
    order.ids = dict.fromkeys(ids)
    for name, (kind, orig, sent_ms, asked, limit, *flags_of_request) in requests.items():
        order.requests[name] = Request(kind, orig, sent_ms, _decimal(asked), _decimal(limit), *flags_of_request)
    order.executions.restore(executions)
    for exec_id, (kind, its_side, size, paid, ref) in seen.items():
        order.seen[exec_id] = kind, its_side, _decimal(size), _decimal(paid), ref
    order.is_acknowledged, order.is_done_for_day, order.is_stopped, order.ending = flags
    order.rows, order.last_status, order.changed_ms, order.reserved_usd = counts
    return order


def _stored_account(account: Account) -> list[Any]:
    positions = {name: [event_ms, str(size)] for name, (event_ms, size) in account.positions.items()}
    unbooked = {
        exec_id: [instrument, str(change), reserved, booked_ms]
        for exec_id, (instrument, change, reserved, booked_ms) in account.unbooked.items()
    }
    return [positions, unbooked, account.booked, list(account.margin), account.sent, list(account.lately.requests)]


def _restore_account(account: Account, stored: list[Any]) -> None:
    positions, unbooked, account.booked, margin, account.sent, lately = stored
    account.positions = {name: (event_ms, Decimal(size)) for name, (event_ms, size) in positions.items()}
    account.unbooked = {
        exec_id: Unbooked(instrument, Decimal(change), reserved, booked_ms)
        for exec_id, (instrument, change, reserved, booked_ms) in unbooked.items()
    }
    account.margin = margin[0], margin[1]
    account.lately = Lately((ms, alike) for ms, alike in lately)
