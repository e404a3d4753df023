"""liquidations: which accounts must be closed, how much of each now, and what keeps it from being done?

Entries    those of kernels/margin.py, which values the accounts here too
           case/<account>: an account that is not healthy; freed when it is and the longest pause after its last round is over
           depth/<venue:instrument>: the newest depth of one book
           guard/<of>: the average of one price, by which the next is judged
           halt/<venue> or halt/<venue:instrument>: its newest row of trading_halts; freed a day later where trading goes on or
           the contract is gone
           fund: what this shard's insurance fund has left
Order      as margin, with its factors that follow volatility; books, guards and halts are applied before accounts are valued
Late       as margin

An account goes through these states, each change of which is an event with its numbers:

    healthy      initial margin within equity
    margin_call  initial margin exceeds equity
    locked       maintenance margin exceeds equity: it must be liquidated
    liquidating  rounds have begun: one order each, on the position with the largest maintenance margin that is not ordered
                 already, of the size that `Rules` say, no more than the book shows within the limit, at the fillable price
                 (udfs/liquidation.py, within the band around mark); the next after the pause.  It ends as soon as maintenance
                 margin is within equity again: what of the orders is open then is to be cancelled.  Who falls again waits for
                 the rest of the pause
    bankrupt     equity is gone: all that is left is ordered at once.  The insurance fund pays what is missing; where it has not
                 enough, positions on the other side are closed against it at the bankruptcy price, in the order of their score
                 (auto-deleveraging), and it pays nothing

Orders reduce risk only: what is ordered and not filled yet never exceeds the position.  A position that has become smaller has
filled that much of its orders.  Orders and payments are decisions: they become true when fills and transfers say so.

Held: no order goes out for an account while one of these is so, in this order, for anything that it holds; the hold, its
end and every change of its reason are events:
    halted            trading of it, or on its whole venue, is halted: no price is asked for, none may come
    no valuation      a price is missing
    non-positive      an index or mark price is zero or less (of an option, its forward's)
    too volatile      it is further from its own average (`average_s`) than `volatile` times, either way (of an option, its
                      forward); or an option's mark is more than the option can be worth
    too uncertain     the publisher's confidence interval is more than `uncertain` of the index price
    stale             an index that has been published, or the mark of what is held, is older than `stale_s`
    insufficient      fewer than `points` prices of it have been seen
and for what is to be ordered:
    stale book        updates were lost
    no depth          the book shows nothing within the limit
"""

import math
from collections import Counter
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kernels import Message, Output, indices, margin
from kernels.checks import checked
from kernels.entries import packed, unpacked
from kernels.margin import Array, Valuation
from schemas.rows import instant_ms, key, to_ms
from udfs import liquidation, standard_margin

VERSION = 1
PARTS = (margin,)
SHARED: frozenset[str] = margin.SHARED | {"book_depth", "trading_halts"}


class Rules(NamedTuple):
    """What liquidation follows; those of the formulae are in `orders`."""

    orders: liquidation.Rules = liquidation.DEFAULT
    volatile: float = 5.0
    uncertain: float = 0.05  # Drift has 0.02, which a crash of 25 % in three seconds exceeds by itself
    stale_s: float = 30.0
    points: int = 1
    average_s: float = 60.0
    fund_usd: float = 1_000_000.0  # of each shard, at the start


RULES = Rules()
STORE_SHARE = 1.0
"""An account seldom trades again before its entry is stored: what waits becomes a long pause, in which no order goes out."""
HEALTHY, MARGIN_CALL, LOCKED, LIQUIDATING, BANKRUPT = "healthy", "margin_call", "locked", "liquidating", "bankrupt"
NO_CASE, PLAIN_CALL, IN_ROUNDS, ALL_ORDERED, RECOVERED, UNSERVED, OTHER_CASE = range(7)
"""Which case an account has: none; a margin call, which nothing but another status ends; rounds of a liquidation; those of what
is bankrupt; what is healthy again, and remembers its last round; one that is held for want of depth; another."""
NO_DEPTH = "no depth"


class Case:
    """An account that is not healthy."""

    def __init__(self) -> None:
        self.state = HEALTHY
        self.events = 0
        self.round = 0
        self.round_ms: int | None = None  # when the last one was
        self.held: str | None = None  # what holds it
        self.is_paid = False  # the fund or others have borne its loss
        self.open: dict[str, float] = {}  # contracts ordered and not filled yet
        self.sizes: dict[str, float] = {}  # positions when these were last looked at

    def copied(self) -> dict[str, Any]:
        """All of it as it stands, to compare with what it becomes."""
        return vars(self) | {"open": self.open.copy(), "sizes": self.sizes.copy()}

    def standing(self) -> int:
        """What of the case tells whether it is to be looked at."""
        if self.held:
            return UNSERVED if self.held.startswith(NO_DEPTH) else OTHER_CASE
        if self.state == LOCKED:
            return OTHER_CASE if self.round_ms is None else IN_ROUNDS
        return {MARGIN_CALL: PLAIN_CALL, LIQUIDATING: IN_ROUNDS, BANKRUPT: ALL_ORDERED, HEALTHY: RECOVERED}[self.state]


class Guard(NamedTuple):
    """What one price is judged by."""

    event_ms: int
    price: float
    average: float
    points: int
    uncertainty: float  # of the price, as a fraction


class Depth(NamedTuple):
    """What a book shows."""

    event_ms: int
    is_stale: bool
    bids: list[list[float]]
    asks: list[list[float]]

    def visible(self, size: float, limit: float) -> float:
        """How much can be had against a position of this size, at no worse a price than the limit."""
        if size > 0:
            return sum(level[1] for level in self.bids if level[0] >= limit)
        return sum(level[1] for level in self.asks if level[0] <= limit)


class Halt(NamedTuple):
    """Whether trading is halted, and since when."""

    event_ms: int
    is_halted: bool
    reason: str | None


class State:
    """The accounts of one shard, the whole market, and what is being done about whom."""

    def __init__(self) -> None:
        self.market = margin.new()
        self.touched = self.market.touched
        self.cases: dict[str, Case] = {}
        self.depths: dict[str, Depth] = {}
        self.guards: dict[str, Guard] = {}
        self.halts: dict[str, Halt] = {}  # by venue, or venue:instrument
        self.fund_usd = RULES.fund_usd
        self._standing = np.zeros(0, dtype=np.int8)  # of each account by its row: which case it has
        self._round_ms = np.zeros(0)  # likewise: when its last round was

    def standing(self) -> tuple[Array, Array]:
        """Which case each account has, by its row, as `Case.standing` says; and when its last round was, or -∞."""
        rows = self.market.account_columns.rows
        if len(self._standing) < len(rows):
            self._standing, self._round_ms = np.zeros(2 * len(rows), dtype=np.int8), np.full(2 * len(rows), -math.inf)
            for name in self.cases:
                self.note(name)
        return self._standing[: len(rows)], self._round_ms[: len(rows)]

    def note(self, name: str) -> None:
        """Put down where an account stands."""
        row, case = self.market.account_columns.rows[name], self.cases.get(name)
        self._standing[row] = NO_CASE if case is None else case.standing()
        self._round_ms[row] = -math.inf if case is None or case.round_ms is None else case.round_ms

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any = None
        if kind == "case":
            stored = vars(self.cases[of]) if of in self.cases else None
        elif kind == "depth":
            stored = list(self.depths[of]) if of in self.depths else None
        elif kind == "guard":
            stored = list(self.guards[of]) if of in self.guards else None
        elif kind == "halt":
            stored = list(self.halts[of]) if of in self.halts else None
        elif kind == "fund":
            stored = [self.fund_usd]
        else:
            return self.market.encode(name)
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back.  Raises `ValueError` if the bytes are of no version that this code reads."""
        kind, _, of = name.partition("/")
        if kind not in ("case", "depth", "guard", "halt", "fund"):
            self.market.decode(name, data)
            return
        stored = unpacked("liquidations", name, data, VERSION)
        if kind == "case":
            self.cases[of] = case = Case()
            vars(case).update(stored)
        elif kind == "depth":
            self.depths[of] = Depth(*stored)
        elif kind == "guard":
            self.guards[of] = Guard(*stored)
        elif kind == "halt":
            self.halts[of] = Halt(*stored)
        else:
            (self.fund_usd,) = stored


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """Accounts; those that are not healthy, by state; those that are held; and what this shard's fund has left in USD."""
    states = Counter(case.state for case in state.cases.values())
    return {
        "accounts": len(state.market.accounts),
        **{f"accounts_{of}": states[of] for of in (MARGIN_CALL, LOCKED, LIQUIDATING, BANKRUPT)},
        "accounts_held": sum(case.held is not None for case in state.cases.values()),
        "insurance_fund_usd": state.fund_usd,
    }


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `liquidation_orders`, `liquidation_events` and `dead_letters`."""
    good, outputs = checked(messages, until_ms)
    good.sort(key=margin.in_time)
    outputs += margin.learn(state.market, good, until_ms)
    for message in good:
        if message.table == "book_depth":
            _learn_depth(state, message.row)
        elif message.table == "trading_halts":
            _learn_halt(state, message.row)
        elif message.table == "tickers":
            row = message.row
            # An option's mark may rightly jump; what it is the mark of may not.
            price = row.get("mark_price") if row.get("forward_usd") is None else row["forward_usd"]
            if price is not None:
                _watch(state, f"price of {key('tickers', row)}", row, price, 0.0)
        elif message.table == "index_prices":
            row = message.row
            price, width = row["price_usd"], row.get("confidence_usd") or 0.0
            of = _index_guard(indices.named(row["underlying"], indices.quoted_in(row)))
            _watch(state, of, row, price, width / price if price > 0 else 0.0)
    if until_ms is not None:
        outputs += _decide(state, until_ms)
    return outputs


def _learn_depth(state: State, row: dict[str, Any]) -> None:
    name, event_ms = key("book_depth", row), to_ms(row["event_at"])
    known = state.depths.get(name)
    if known is None or known.event_ms <= event_ms:
        state.depths[name] = Depth(event_ms, row["is_stale"], row["bids"], row["asks"])
        state.touched.add(f"depth/{name}")


def _learn_halt(state: State, row: dict[str, Any]) -> None:
    of = row["venue"] if row.get("instrument") is None else f"{row['venue']}:{row['instrument']}"
    event_ms, known = to_ms(row["event_at"]), state.halts.get(of)
    if known is None or known.event_ms <= event_ms:
        state.halts[of] = Halt(event_ms, row["is_halted"], row.get("reason"))
        state.touched.add(f"halt/{of}")


def _index_guard(name: str) -> str:
    """How the guard of an index is called: one for each currency that it is quoted in."""
    coin, quote = indices.parted(name)
    return f"index of {coin}" if quote == indices.USD else f"index of {coin} in {quote}"


def _watch(state: State, of: str, row: dict[str, Any], price: float, uncertainty: float) -> None:
    """Note a price, and let its average follow."""
    event_ms, known = to_ms(row["event_at"]), state.guards.get(of)
    if known is None:
        state.guards[of] = Guard(event_ms, price, price, 1, uncertainty)
    elif known.event_ms <= event_ms:
        weight = -math.expm1(-(event_ms - known.event_ms) / 1000 / RULES.average_s)
        # The price that has stood until now is what the average follows: a new one has not stood at all.
        stood = min(max(known.price, known.average / RULES.volatile), known.average * RULES.volatile)
        average = known.average + weight * (stood - known.average)
        state.guards[of] = Guard(event_ms, price, average, known.points + 1, uncertainty)
    else:
        return
    state.touched.add(f"guard/{of}")


def _decide(state: State, until_ms: int) -> list[Output]:
    """Value all accounts and advance the cases of those that are not healthy."""
    market = state.market
    if margin.is_past(market, until_ms // 1000):
        return []
    margin.keep_time(market, until_ms // 1000)
    margin.follow_vol(market, until_ms)  # the job margin writes what changes
    batch = _Batch(state, margin.value(market), until_ms)
    market.touched |= {f"account/{name}" for name in market.due}
    market.due.clear()
    outputs: list[Output] = []
    for name in batch.concerned():
        outputs += _Account(state, batch, name).advanced()
    market.free(until_ms)
    for name in state.depths.keys() - market.terms.keys():
        if state.depths[name].event_ms + margin.KEPT_MS <= until_ms:
            del state.depths[name]
            state.touched.add(f"depth/{name}")
    for of, halt in list(state.halts.items()):
        is_over = not halt.is_halted or (":" in of and of not in market.terms)
        if is_over and halt.event_ms + margin.KEPT_MS <= until_ms:
            del state.halts[of]
            state.touched.add(f"halt/{of}")
    return outputs


class _Objection(NamedTuple):
    """Why a price must not be acted upon."""

    rank: int  # the number of the check
    reason: str


class _Quote(NamedTuple):
    """What one contract is worth and requires in a batch; prices in the quote currency."""

    mark: float
    low: float  # the band around mark
    high: float
    unit_usd: float  # of one contract
    maintenance_long: float  # as of `standard_margin.Rates`
    maintenance_short: float
    square: float

    def required(self, size: float) -> float:
        """Maintenance margin of a position by itself, in USD."""
        return standard_margin.one_required(self.maintenance_long if size > 0 else self.maintenance_short, self.square, size)

    def limit(self, size: float, equity: float, maintenance: float) -> float:
        """The worst price at which a position's order may fill, given what its account has and requires."""
        needs = self.required(size) * (self.mark / self.unit_usd if self.unit_usd else 0.0)  # of price
        price = liquidation.one_fillable_price(size, size * self.mark, needs, equity, maintenance, *RULES.orders.spread)
        return max(min(price, self.high), self.low) if not math.isnan(price) else self.low if size > 0 else self.high


class _Batch:
    """The market in one batch: whom it concerns, and what of it speaks against liquidating anyone."""

    def __init__(self, state: State, found: Valuation, until_ms: int) -> None:
        self.state, self.found, self.now_ms = state, found, until_ms - 1
        self.changed = frozenset(state.market.due)  # accounts whose positions or cash are not what they were
        self._quotes: dict[str, _Quote] = {}
        with np.errstate(invalid="ignore"):
            self.must_close = (found.maintenance > 0) & (found.maintenance > found.equity)

    def concerned(self) -> list[str]:
        """The accounts, by name, about which there may be something to decide."""
        found, (standing, round_ms) = self.found, self.state.standing()
        with np.errstate(invalid="ignore"):
            is_called = (found.initial > found.equity) & ~self.must_close
            is_solvent = found.equity > 0
        is_as_it_was = is_called & (standing == PLAIN_CALL)
        is_recent = self.now_ms - round_ms < 1000 * RULES.orders.longest_pause_s
        is_as_it_was |= is_recent & (standing == RECOVERED) & ~self.must_close & ~is_called
        if self.is_quiet:
            # Who waits for the next round, or for depth, and nothing has come between.
            is_pausing = self.must_close & (self.now_ms - round_ms < 1000 * RULES.orders.round_s)
            is_pausing &= (standing == ALL_ORDERED) | ((standing == IN_ROUNDS) & is_solvent)
            rows = self.state.market.account_columns.rows
            is_pausing[[rows[name] for name in self.changed]] = False
            is_as_it_was |= is_pausing
            for row in np.flatnonzero((standing == UNSERVED) & self.must_close & is_solvent).tolist():
                is_as_it_was[row] = self._is_unserved(row, (self.now_ms - round_ms.item(row)) / 1000)
        names = self.state.market.account_names
        concerned = np.flatnonzero((self.must_close | is_called | (standing != NO_CASE)) & ~is_as_it_was)
        return sorted(names[row] for row in concerned)

    def _is_unserved(self, row: int, since_s: float) -> bool:
        """Whether an account that was held for want of depth, and holds one contract as it did then, is so still.

        Its last round was `since_s` ago, infinite where there was none.
        """
        name = self.state.market.account_names[row]
        held = [(of, size) for of, (_, size, _) in self.state.market.accounts[name].positions.items() if size]
        if name in self.changed or len(held) != 1:
            return False
        of, size = held[0]
        depth, quote = self.state.depths.get(of), self.quote(of)
        if liquidation.one_round_size(size, quote.unit_usd, since_s, *RULES.orders.rounds) == 0.0:
            return False
        limit = quote.limit(size, self.found.equity.item(row), self.found.maintenance.item(row))
        return depth is not None and not depth.is_stale and depth.visible(size, limit) <= 0

    def quote(self, of: str) -> _Quote:
        """One contract's."""
        if of not in self._quotes:
            market, rates = self.state.market, self.found.rates
            row, terms = market.contract_columns.row(of), market.terms[of]
            mark = float(self.found.mark[row])
            usd = float(market.currency_columns["usd"][market.currency(terms.settlement_currency)])
            each = terms.contract_size or 0.0
            low, high = liquidation.band(mark, RULES.orders)
            self._quotes[of] = _Quote(
                mark=mark,
                low=float(low),
                high=float(high),
                unit_usd=each * usd / mark if terms.is_inverse and terms.kind != "option" else each * mark * usd,
                maintenance_long=float(rates.maintenance_long[row]),
                maintenance_short=float(rates.maintenance_short[row]),
                square=float(rates.square[row]),
            )
        return self._quotes[of]

    @cached_property
    def is_quiet(self) -> bool:
        """Whether nothing speaks against liquidating anyone."""
        is_halted = any(halt.is_halted for halt in self.state.halts.values())
        return not is_halted and not self.objections and not self._too_dear.any()

    @cached_property
    def objections(self) -> dict[str, _Objection]:
        """By price, the first check that speaks against it."""
        first = {}
        for of, guard in self.state.guards.items():
            for rank, check in enumerate(CHECKS):
                if reason := check(guard, self.now_ms):
                    first[of] = _Objection(rank, reason)
                    break
        return first

    def impossible(self, of: str) -> str | None:
        """Why no option can be worth its mark."""
        row = self.state.market.contract_columns.row(of)
        if not self._too_dear[row]:
            return None
        usd, most = (float(amounts[row]) for amounts in self._worth)
        return f"is {usd:.6g} USD, more than the {most:.6g} USD that it can be worth"

    @cached_property
    def _worth(self) -> tuple[Array, Array]:
        """What each option is worth in USD by its mark, and the most that it can be."""
        columns = self.state.market.contract_columns
        forward, mark = columns["forward_usd"], self.found.mark
        most = np.where(columns["is_call"] > 0, forward, np.nan_to_num(columns["strike_usd"]))
        return np.where(columns["is_inverse"] > 0, mark * forward, mark), most

    @cached_property
    def _too_dear(self) -> Array:
        columns, (usd, most) = self.state.market.contract_columns, self._worth
        return np.asarray((columns["is_option"] > 0) & (columns["forward_usd"] > 0) & (usd > most))


class _Planned(NamedTuple):
    """An order to be made."""

    instrument: str
    size: float  # contracts
    limit_price: float
    visible: float | None  # contracts


class _Account:
    """One account in one batch: what is decided about it."""

    def __init__(self, state: State, batch: _Batch, name: str) -> None:
        self.state, self.batch, self.found, self.name, self.now_ms = state, batch, batch.found, name, batch.now_ms
        self.case = state.cases.get(name) or Case()
        found, row = self.found, state.market.account_columns.row(name)
        self.equity: float = found.equity.item(row)
        self.initial: float = found.initial.item(row)
        self.maintenance: float = found.maintenance.item(row)
        self.sizes = {of: size for of, (_, size, _) in state.market.accounts[name].positions.items() if size}
        self.outputs: list[Output] = []
        self.orders = 0  # among these

    def advanced(self) -> list[Output]:
        """The events and orders of this batch."""
        case, before = self.case, self.case.copied()
        self._note_fills()
        is_known = not math.isnan(self.equity + self.initial + self.maintenance)
        if is_known and not (self.maintenance > 0 and self.maintenance > self.equity):
            self._recover()
        elif is_known or case.state not in (HEALTHY, MARGIN_CALL):
            self._liquidate(is_known)
        if vars(case) != before:
            self.state.touched.add(f"case/{self.name}")
            self.state.cases[self.name] = case
        is_over = case.state == HEALTHY and not case.held and self._since_s >= RULES.orders.longest_pause_s
        if is_over and self.name in self.state.cases:
            del self.state.cases[self.name]
            self.state.touched.add(f"case/{self.name}")
        self.state.note(self.name)
        return self.outputs

    @property
    def _since_s(self) -> float:
        """How long ago the last round was."""
        return math.inf if self.case.round_ms is None else (self.now_ms - self.case.round_ms) / 1000

    def _note_fills(self) -> None:
        """What has gone from a position has filled that much of its orders."""
        case = self.case
        for of, ordered in list(case.open.items()):
            was, size = case.sizes.get(of, 0.0), self.sizes.get(of, 0.0)
            gone = abs(was) if was * size < 0 else max(abs(was) - abs(size), 0.0)
            left = min(ordered - gone, abs(size)) if was * size > 0 else 0.0
            case.sizes[of] = size
            case.open[of] = left
            if left <= 1e-12 * abs(was):
                del case.open[of], case.sizes[of]

    def _recover(self) -> None:
        case, now = self.case, MARGIN_CALL if self.initial > self.equity else HEALTHY
        if case.state == now and not case.held:
            return
        was, was_held, ordered = case.state, case.held, case.open
        case.held, case.open, case.sizes = None, {}, {}
        case.state, case.round, case.is_paid = now, 0, False
        if was == now and was_held:
            self._event("resumed", f"no longer held ({was_held}), and no longer to be liquidated: {self._numbers()}")
        elif now == MARGIN_CALL and was == HEALTHY:
            self._event("margin_call", f"initial margin {self.initial:.2f} USD exceeds equity {self.equity:.2f} USD")
        else:
            told = "".join(f"; cancel what is open of {size:g} {of}" for of, size in sorted(ordered.items()))
            self._event("recovered", f"from {was} to {now}: {self._numbers()}{told}")

    def _liquidate(self, is_known: bool) -> None:
        case = self.case
        if not (is_known and self.batch.is_quiet):
            missing = "no valuation", "the account cannot be valued: a price is missing"
            if held := self._halted() or (self._held() if is_known else missing):
                self._hold(*held)
                return
        if case.state == LIQUIDATING and not case.held and self.equity > 0 and self._since_s < RULES.orders.round_s:
            return  # nothing is ordered before the next round
        if case.state in (HEALTHY, MARGIN_CALL):
            self._resume()
            case.state = LOCKED
            self._event("locked", f"maintenance margin {self.maintenance:.2f} USD exceeds equity {self.equity:.2f} USD")
        orders, blocked = self._planned()
        if blocked and not orders:
            self._hold(*blocked)
            return
        self._resume()
        if self.equity <= 0 and case.state != BANKRUPT:
            case.state = BANKRUPT
            self._event("bankrupt", f"equity {self.equity:.2f} USD is gone: all that is left is to be closed")
            if not case.is_paid:
                self._bear_loss()
        for order in orders:
            self._order(order)

    def _resume(self) -> None:
        if self.case.held:
            was, self.case.held = self.case.held, None
            self._event("resumed", f"no longer held ({was})")

    def _hold(self, kind: str, reason: str) -> None:
        if self.case.held != kind:
            self.case.held = kind
            self._event("held", f"held: {reason}")

    def _halted(self) -> tuple[str, str] | None:
        """The first halt, by name, of what is held or of its venue."""
        if not self.state.halts:
            return None
        for of in sorted(self.sizes.keys() | {name.partition(":")[0] for name in self.sizes}):
            if (halt := self.state.halts.get(of)) and halt.is_halted:
                told = "" if halt.reason is None else f": {halt.reason}"
                return f"halted: {of}", f"trading of {of} is halted since {instant_ms(halt.event_ms)}{told}"
        return None

    def _held(self) -> tuple[str, str] | None:
        """The first thing that speaks against liquidating this account now, in the order of the checks."""
        objections = self.batch.objections
        if objections and (mine := [(objections[of], of) for of in self._watched() if of in objections]):
            (rank, told), first = min(mine, key=lambda one: (one[0].rank, one[1]))
            return f"{CHECKS[rank].__name__[1:].replace('_', ' ')}: {first}", f"the {first} {told}"
        for of in sorted(self.sizes):
            if reason := self.batch.impossible(of):
                return f"too volatile: mark of {of}", f"the mark of {of} {reason}"
        return None

    def _watched(self) -> set[str]:
        """The prices on which the account's value rests, as they are called in `guards`."""
        market = self.state.market
        coins = {(coin, indices.USD) for coin, (_, amount) in market.accounts[self.name].balances.items() if amount}
        for of in self.sizes:
            if terms := market.terms.get(of):
                coins |= {(terms.underlying, terms.index_currency), (terms.settlement_currency, indices.USD)}
        watched = {_index_guard(market.index_name(*coin)) for coin in coins}
        return {f"price of {of}" for of in self.sizes} | watched

    def _ordered_by_requirement(self) -> list[str]:
        """What is held, the largest maintenance margin first."""
        if len(self.sizes) == 1:
            return list(self.sizes)
        requirements = self._requirements
        return sorted(self.sizes, key=lambda of: (-requirements[of], of))

    @cached_property
    def _requirements(self) -> dict[str, float]:
        """Maintenance margin of each position by itself, in USD."""
        return {of: self.batch.quote(of).required(size) for of, size in self.sizes.items()}

    def _planned(self) -> tuple[list["_Planned"], tuple[str, str] | None]:
        """What to order now: one part of a position, or of all where equity is gone; and what keeps something from it."""
        case, rules, rounds = self.case, RULES.orders, RULES.orders.rounds
        since_s = self._since_s
        orders: list[_Planned] = []
        blocked = None
        for of in self._ordered_by_requirement():
            size = self.sizes[of]
            free = abs(size) - case.open.get(of, 0.0)
            if free <= 1e-12 * abs(size):
                continue
            if self.equity <= 0:
                wanted = free if since_s >= rules.round_s else 0.0
            else:
                wanted = min(free, abs(liquidation.one_round_size(size, self.batch.quote(of).unit_usd, since_s, *rounds)))
            if wanted == 0:
                break  # the pause is not over
            limit = self.batch.quote(of).limit(size, self.equity, self.maintenance)
            depth, visible = self.state.depths.get(of), None
            if depth and depth.is_stale:
                blocked = (
                    f"stale book: {of}",
                    f"updates of the book of {of} were lost; it is as of {instant_ms(depth.event_ms)}",
                )
                continue
            if depth:
                visible = depth.visible(size, limit)
                if visible <= 0:
                    blocked = f"{NO_DEPTH}: {of}", f"the book of {of} shows nothing within {limit:.6g}, the fillable price"
                    continue
            orders.append(_Planned(of, wanted if visible is None else min(wanted, visible), limit, visible))
            if self.equity > 0:
                break
        return orders, blocked

    def _order(self, order: "_Planned") -> None:
        """Order a part of a position."""
        case, (of, ordered, limit, visible) = self.case, order
        size, mark = self.sizes[of], self.batch.quote(of).mark
        case.round += 1
        case.round_ms = self.now_ms
        if case.state == LOCKED:
            case.state = LIQUIDATING
        case.open[of] = case.open.get(of, 0.0) + ordered
        case.sizes[of] = size
        venue, _, instrument = of.partition(":")
        self.orders += 1
        order_id = f"{self.name}/{instant_ms(self.now_ms)}/{self.orders}"
        by_book = "" if visible is None else f", of {visible:g} that the book shows within the limit"
        reason = (
            f"maintenance margin {self.maintenance:.2f} USD exceeds equity {self.equity:.2f} USD; round {case.round} closes "
            f"{ordered:g} of {abs(size):g} {instrument}{by_book}"
        )
        row = {
            "order_id": order_id,
            "account": self.name,
            "event_at": instant_ms(self.now_ms),
            "venue": venue,
            "instrument": instrument,
            "side": "sell" if size > 0 else "buy",
            "size": ordered,
            "mark_price": mark,
            "equity_usd": self.equity,
            "maintenance_margin_usd": self.maintenance,
            "reason": reason,
            "limit_price": limit,
            "round": case.round,
            "visible_size": visible,
        }
        self.outputs.append(Output("liquidation_orders", self.now_ms, row))
        self._event("round", reason, order_id=order_id, instrument=of, amount_usd=ordered * self.batch.quote(of).unit_usd)

    def _bear_loss(self) -> None:
        """Let the fund pay what is missing, or else those on the other side."""
        state, missing = self.state, max(-self.equity, 0.0)
        self.case.is_paid = True
        if missing <= state.fund_usd:
            if missing > 0:
                left = round(state.fund_usd - missing, 6)
                self._event(
                    "insurance",
                    f"the insurance fund pays {missing:.2f} USD, what equity is below zero; it has {left:.2f} USD left",
                    amount_usd=missing,
                )
                state.fund_usd = left
                state.touched.add("fund")
            return
        for of in self._ordered_by_requirement():
            self._deleverage(of, missing)

    def _deleverage(self, of: str, missing: float) -> None:
        """Close a position against those on the other side who gain most on the most leverage."""
        market, found = self.state.market, self.found
        contract, columns = market.contract_columns.row(of), market.position_columns
        size, unit = self.sizes[of], self.batch.quote(of).unit_usd
        mine = np.flatnonzero((columns["contract"] == contract) & (columns["size"] * size < 0))
        if not len(mine):
            return
        held, account = columns["size"][mine], columns["account"][mine]
        mark, entry = found.mark[contract], columns["average"][mine]
        is_inverse = bool(market.contract_columns["is_inverse"][contract] and market.contract_columns["is_future"][contract])
        gain = (mark / entry - 1 if is_inverse else 1 - entry / mark) * held * unit
        value = held * unit
        score = liquidation.adl_score(gain, value - gain, value, value - found.equity[account])
        names = market.account_names
        order = sorted(range(len(mine)), key=lambda n: (-float(score[n]), names[int(account[n])]))
        price = mark * (1 + missing / abs(unit * size) * (1 if size > 0 else -1)) if unit else mark
        left = abs(size)
        for rank, n in enumerate(order, start=1):
            if left <= 0:
                return
            part, other = min(left, abs(float(held[n]))), names[int(account[n])]
            left -= part
            price_told = f"at {price:.6g}, the bankruptcy price: rank {rank}, score {float(score[n]):.4g}"
            why = f"the fund has {self.state.fund_usd:.2f} USD for a loss of {missing:.2f} USD"
            told = f"{why}; closes {part:g} {of} of {self.name} against {other} {price_told}"
            self._event("deleveraging", told, instrument=of, amount_usd=part * unit, counter_account=other)
            theirs = self.state.cases.get(other) or Case()
            row = dict(self.outputs[-1].row) | {
                "event_id": f"{other}/{instant_ms(self.now_ms)}/{self.name}/{of}",
                "account": other,
                "number": theirs.events,
                "kind": "deleveraged",
                "state": theirs.state,
                "equity_usd": float(found.equity[account[n]]),
                "initial_margin_usd": float(found.initial[account[n]]),
                "maintenance_margin_usd": float(found.maintenance[account[n]]),
                "counter_account": self.name,
            }
            self.outputs.append(Output("liquidation_events", self.now_ms, row))

    def _numbers(self) -> str:
        told = f"equity {self.equity:.2f} USD, initial margin {self.initial:.2f} USD"
        return f"{told}, maintenance margin {self.maintenance:.2f} USD"

    def _event(self, kind: str, reason: str, **more: Any) -> None:
        case = self.case
        case.events += 1
        amounts = {"equity_usd": self.equity, "initial_margin_usd": self.initial, "maintenance_margin_usd": self.maintenance}
        row = {
            "event_id": f"{self.name}/{instant_ms(self.now_ms)}/{case.events}",
            "account": self.name,
            "event_at": instant_ms(self.now_ms),
            "number": case.events,
            "kind": kind,
            "state": case.state,
            **{of: None if math.isnan(amount) else amount for of, amount in amounts.items()},
            "order_id": None,
            "instrument": None,
            "amount_usd": None,
            "counter_account": None,
            "reason": reason,
        }
        self.outputs.append(Output("liquidation_events", self.now_ms, row | more))


def _non_positive(guard: Guard, now_ms: int) -> str | None:
    return None if guard.price > 0 else f"is {guard.price:g}"


def _too_volatile(guard: Guard, now_ms: int) -> str | None:
    low, high = sorted((guard.price, guard.average))
    if low > 0 and high / low <= RULES.volatile:
        return None
    return f"is {guard.price:.6g}, more than {RULES.volatile:g} times away from its average {guard.average:.6g}"


def _too_uncertain(guard: Guard, now_ms: int) -> str | None:
    if guard.uncertainty <= RULES.uncertain:
        return None
    return f"has a confidence interval of {guard.uncertainty:.2%}, more than {RULES.uncertain:.2%}"


def _stale(guard: Guard, now_ms: int) -> str | None:
    age_s = (now_ms - guard.event_ms) / 1000
    return None if age_s <= RULES.stale_s else f"is {age_s:.1f} s old, more than {RULES.stale_s:g} s"


def _insufficient(guard: Guard, now_ms: int) -> str | None:
    return None if guard.points >= RULES.points else f"has been seen {guard.points} times, less than {RULES.points}"


CHECKS = (_non_positive, _too_volatile, _too_uncertain, _stale, _insufficient)
"""In this order; each gives the reason why a price must not be acted upon."""
