"""liquidations: which accounts must be closed, how much of each now, and what keeps it from being done?

Entries    those of kernels/margin.py, which values the accounts here too
           case/<account>: an account that is not healthy, or for which something is still to be paid or closed; freed when
           neither is so and the longest pause after its last round is over
           depth/<venue:instrument>: the newest depth of one book
           guard/<series>: the average of one quantity in one unit, by which the next value is judged: `price of
           <venue:instrument>`, the mark of a future or perpetual; `forward of <venue:instrument>`, the forward in USD of an
           option; `index of <underlying>`, with the currency behind it where that is not USD.  Freed with its contract
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
    bankrupt     equity is gone: all that is left is ordered at once
    settling     equity is below zero and nothing is held any more.  It ends when what is missing has been paid

Every loss has a bearer.  What equity is below zero is missing.  It is borne by the first of these that can when equity is
gone, and what is missing beyond that with every later change of what the account has: a price that falls further is a loss
when something is closed at it, and until then may come back:
    1. the insurance fund, which pays all of it (`insurance`), or else nothing as long as
    2. positions on the other side can be closed against the account's at its bankruptcy price, in the order of their score
       (auto-deleveraging).  Each position bears the share of its requirement.  Orders on what is closed so are to be cancelled
    3. the insurance fund, with what it has left
    4. nobody: the row says how much (`uncovered`)
Orders, payments and deleveraging are decisions: they become true when fills and transfers say so.  Until then what is to be
paid or closed counts as if it had been, so no loss is borne twice.  A payment has come when a balance names its event as
cause or rises by just its amount, or when the account is richer by just that than prices explain.

Orders reduce risk only: what is ordered, or to be closed by deleveraging, and not filled yet never exceeds the position.  A
position that has become smaller has filled that much of it.

Held: no order goes out for an account, and no loss is borne, while one of these is so, in this order, for anything that it
holds; the hold, its end and every change of its reason are events:
    halted            trading of it, or on its whole venue, is halted: no price is asked for, none may come
    no valuation      a price is missing
    non-positive      an index or mark price is zero or less (of an option, its forward's)
    too volatile      it is further from its own average (`average_s`) than `volatile` times, either way (of an option, its
                      forward); or an option's mark is more than the option can be worth
    too uncertain     the publisher's confidence interval is more than `uncertain` of the index price
    stale             an index that has been published, the mark of what is held (of a future without one, what stands for it),
                      or an option's forward was told more than `stale_s` ago, whether before the contract's terms or after.
                      A ticker that says nothing of the mark tells none
    insufficient      fewer than `points` prices of it have been seen
and for what is to be ordered:
    stale book        updates were lost, or what is known of the book is older than `stale_s`
    no depth          the book shows nothing within the limit
"""

import math
from collections import Counter
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from engine.checks import checked
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels import indices, margin
from kernels.margin import Array, Valuation
from schemas.rows import instant_ms, key, to_ms
from udfs import liquidation, standard_margin

VERSION = 2


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
HEALTHY, MARGIN_CALL, LOCKED, LIQUIDATING = "healthy", "margin_call", "locked", "liquidating"
BROKE = BANKRUPT, SETTLING = "bankrupt", "settling"
NO_CASE, PLAIN_CALL, IN_ROUNDS, ALL_ORDERED, AWAITING, RECOVERED, UNSERVED, OTHER_CASE = range(8)
"""Which case an account has: none; a margin call, which nothing but another status ends; rounds of a liquidation; those of what
is bankrupt; payments that are to come after all is closed; what is healthy, and remembers its last round or what is to come;
one that is held for want of depth; another."""
NO_DEPTH = "no depth"
CENT = 0.01
"""What is missing is borne from this amount in USD on."""
UNTOLD = "before"
"""Stands for the payments of version 1, which did not store how much they were."""


class Seen(NamedTuple):
    """What an account had when it was last looked at."""

    balances: dict[str, float]  # by currency
    positions: dict[str, tuple[float, float]]  # size and average price


class Case:
    """An account that is not healthy, or for which something is still to be paid or closed."""

    def __init__(self) -> None:
        self.state = HEALTHY
        self.events = 0
        self.round = 0
        self.round_ms: int | None = None  # when the last one was
        self.held: str | None = None  # what holds it
        self.open: dict[str, float] = {}  # contracts ordered and not filled yet
        self.sizes: dict[str, float] = {}  # positions when these were last looked at
        self.closing: dict[str, list[tuple[float, float]]] = {}
        """Contracts that deleveraging is to close and has not yet, each part with its price; the oldest first."""
        self.due: dict[str, float] = {}  # by event, what the fund is to pay in USD and has not yet; the oldest first
        self.paid_usd: float | None = 0.0  # what the fund has been told to pay, come or not; None: not known yet
        self.uncovered_usd = 0.0  # what nobody bears
        self.borne_ms: int | None = None  # when a payment or a closing of it was last decided
        self.seen: Seen | None = None  # where something is due
        self.has_changed = False  # what it has, since its loss was last borne

    @property
    def is_paid(self) -> bool:
        """Whether the fund has paid for it."""
        return self.paid_usd != 0.0

    @property
    def is_pending(self) -> bool:
        """Whether something is still to be paid or closed."""
        return bool(self.due or self.closing)

    def copied(self) -> dict[str, Any]:
        """All of it as it stands, to compare with what it becomes."""
        closing = {of: parts.copy() for of, parts in self.closing.items()} if self.closing else {}
        changing = {"open": self.open.copy(), "sizes": self.sizes.copy(), "closing": closing, "due": self.due.copy()}
        return vars(self) | changing

    def to_close(self, of: str) -> float:
        """Contracts of one position that deleveraging is to close."""
        return sum(contracts for contracts, _ in self.closing.get(of, ()))

    def standing(self) -> int:
        """What of the case tells whether it is to be looked at."""
        if self.held:
            return UNSERVED if self.held.startswith(NO_DEPTH) else OTHER_CASE
        if self.state == LOCKED:
            return OTHER_CASE if self.round_ms is None else IN_ROUNDS
        return {
            HEALTHY: RECOVERED,
            MARGIN_CALL: PLAIN_CALL,
            LIQUIDATING: IN_ROUNDS,
            BANKRUPT: ALL_ORDERED,
            SETTLING: AWAITING,
        }[self.state]


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

    def doubt(self, of: str, now_ms: int) -> str | None:
        """Why the book of a contract must not be acted upon.  A venue's clock may be ahead: what it says later is not old."""
        if self.is_stale:
            return f"updates of the book of {of} were lost; it is as of {instant_ms(self.event_ms)}"
        age_s = (now_ms - self.event_ms) / 1000
        return None if age_s <= RULES.stale_s else f"the book of {of} {_too_old(age_s)}"

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
        self.unsure: set[str] = set()  # guards of version 1, which may have mixed an option's mark and its forward
        self._standing = _Standing.of(0)

    def standing(self) -> "_Standing":
        """Where each account stands."""
        rows = self.market.account_columns.rows
        if len(self._standing.case) < len(rows):
            self._standing = _Standing.of(2 * len(rows))
            for name in self.cases:
                self.note(name)
        return _Standing(*(column[: len(rows)] for column in self._standing))

    def note(self, name: str) -> None:
        """Put down where an account stands."""
        row, case = self.market.account_columns.rows[name], self.cases.get(name)
        noted = _NO_STANDING if case is None else _standing_of(case)
        for column, number in zip(self._standing, noted, strict=True):
            column[row] = number

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any = None
        if kind == "case":
            stored = vars(self.cases[of]) | {"seen": _listed(self.cases[of].seen)} if of in self.cases else None
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
        stored = unpacked("liquidations", name, data, VERSION, MIGRATIONS)
        if kind == "case":
            self.cases[of] = case = Case()
            vars(case).update(stored)
            case.closing = {of: [(contracts, price) for contracts, price in parts] for of, parts in case.closing.items()}
            case.seen = _seen(stored["seen"])
        elif kind == "depth":
            self.depths[of] = Depth(*stored)
        elif kind == "guard":
            self.guards[of] = Guard(*stored)
            if data[0] < 2 and of.startswith("price of "):
                self.unsure.add(of)
        elif kind == "halt":
            self.halts[of] = Halt(*stored)
        else:
            (self.fund_usd,) = stored


class _Standing(NamedTuple):
    """Where accounts stand, by their rows."""

    case: Array  # as `Case.standing` says
    round_ms: Array  # when the last round was, or -∞
    rests_ms: Array  # until when one that has recovered need not be looked at if nothing changes, or -∞

    @classmethod
    def of(cls, accounts: int) -> "_Standing":
        """That of accounts without a case."""
        case, *numbers = (np.full(accounts, number) for number in _NO_STANDING)
        return cls(case.astype(np.int8), *numbers)


_NO_STANDING = NO_CASE, -math.inf, -math.inf


def _standing_of(case: Case) -> tuple[int, float, float]:
    """The row of `_Standing` of one account."""
    round_ms = -math.inf if case.round_ms is None else case.round_ms
    rests_ms = round_ms + 1000 * RULES.orders.longest_pause_s
    if case.is_pending and case.borne_ms is not None:
        rests_ms = max(rests_ms, case.borne_ms + margin.KEPT_MS)
    return case.standing(), round_ms, rests_ms


def _listed(seen: Seen | None) -> list[Any] | None:
    return None if seen is None else list(seen)


def _seen(stored: Any) -> Seen | None:
    if stored is None:
        return None
    balances, positions = stored
    return Seen(balances, {of: (size, average) for of, (size, average) in positions.items()})


def _with_amounts(name: str, stored: Any) -> Any:
    """As of version 2, where a case tells how much of its loss others bear."""
    if not name.startswith("case/"):
        return stored
    is_paid = stored.pop("is_paid")
    fresh = vars(Case()) | {"paid_usd": None if is_paid else 0.0, "due": {UNTOLD: 0.0} if is_paid else {}}
    return fresh | stored


MIGRATIONS: dict[int, Migration] = {1: _with_amounts}


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """Accounts; those that are not healthy, by state; those that are held; and what this shard's fund has left in USD."""
    states = Counter(case.state for case in state.cases.values())
    return {
        "accounts": len(state.market.accounts),
        **{f"accounts_{of}": states[of] for of in (MARGIN_CALL, LOCKED, LIQUIDATING, *BROKE)},
        "accounts_unpriced": margin.gauges(state.market)["accounts_unpriced"],
        "accounts_held": sum(case.held is not None for case in state.cases.values()),
        "insurance_fund_usd": state.fund_usd,
    }


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: decisions first, then the rows of margin; and dead letters."""
    good, outputs = checked(messages, until_ms)
    good.sort(key=margin.in_time)
    outputs += margin.learn(state.market, good, until_ms)
    cash: dict[tuple[str, str], float] = {}
    _drop_unsure(state)
    for message in good:
        if message.table == "book_depth":
            _learn_depth(state, message.row)
        elif message.table == "trading_halts":
            _learn_halt(state, message.row)
        elif message.table == "balances":
            _learn_payment(state, message.row, cash)
        elif message.table == "tickers":
            _learn_price(state, message.row)
        elif message.table == "index_prices":
            row = message.row
            price, width = row["price_usd"], row.get("confidence_usd") or 0.0
            series = f"index of {indices.named(row['underlying'], indices.quoted_in(row))}"
            _watch(state, series, row, price, width / price if price > 0 else 0.0)
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


def _learn_payment(state: State, row: dict[str, Any], cash: dict[tuple[str, str], float]) -> None:
    """Note that a payment of the fund has come: the balance names its event as cause, or rises by just its amount.

    `cash` has what the balances of this batch said before, by account and currency.
    """
    case = state.cases.get(row["account"])
    if case is None or not case.due:
        return
    if case.due.pop(row["cause_id"], None) is not None:
        case.seen = None  # what has come with it explains the rest of what has changed
        state.touched.add(f"case/{row['account']}")
    if case.seen is None:
        return
    account, currency = row["account"], row["currency"]
    before, amount = cash.get((account, currency), case.seen.balances.get(currency, 0.0)), float(row["amount"])
    cash[account, currency] = amount
    usd = state.market.currency_columns["usd"].item(state.market.currency(currency))
    for event, due in case.due.items():
        if abs((amount - before) * usd - due) < CENT:
            del case.due[event]
            balances = case.seen.balances | {currency: case.seen.balances.get(currency, 0.0) + amount - before}
            case.seen = case.seen._replace(balances=balances)
            state.touched.add(f"case/{account}")
            return


def _learn_price(state: State, row: dict[str, Any]) -> None:
    """Let the guard of a contract follow what a ticker tells of it, if it does."""
    name = key("tickers", row)
    terms = state.market.terms.get(name)
    if terms is None:
        return  # nobody can be valued by it yet
    # An option's mark may rightly jump; what it is the mark of may not.
    of, column = ("forward", "forward_usd") if terms.kind == "option" else ("price", "mark_price")
    if (price := row.get(column)) is not None:
        _watch(state, f"{of} of {name}", row, price, 0.0)


def _drop_unsure(state: State) -> None:
    """Drop the guards of version 1 that are of options, or of what is not known."""
    for of in state.unsure:
        terms = state.market.terms.get(of.removeprefix("price of "))
        if terms is None or terms.kind == "option":
            state.guards.pop(of, None)
            state.touched.add(f"guard/{of}")
    state.unsure.clear()


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
    """Value all accounts once; advance the cases of those that are not healthy, then report the margin of all."""
    market = state.market
    if margin.is_past(market, until_ms // 1000):
        return []
    is_new_second = margin.keep_time(market, until_ms // 1000)
    scalings = margin.follow_vol(market, until_ms)
    valuation = margin.value(market)
    batch = _Batch(state, valuation, until_ms)
    outputs: list[Output] = []
    for name in batch.concerned():
        outputs += _Account(state, batch, name).advanced()
    outputs += scalings + margin.report(market, valuation, until_ms, is_new_second)
    market.due.clear()
    for name in market.free(until_ms):
        for of in (f"price of {name}", f"forward of {name}"):
            if state.guards.pop(of, None):
                state.touched.add(f"guard/{of}")
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
    each_usd: float  # what one contract moves by with a price of one, of an inverse with one over the price
    is_inverse: bool  # whose profit goes with one over the price
    maintenance_long: float  # as of `standard_margin.Rates`
    maintenance_short: float
    square: float

    def required(self, size: float) -> float:
        """Maintenance margin of a position by itself, in USD."""
        rate = self.maintenance_long if size > 0 else self.maintenance_short
        return standard_margin.position_required(rate, self.square, size)

    def gain_usd(self, size: float, price: float) -> float:
        """What who closes a position of this size gains at this price, against the mark."""
        moved = 1 / self.mark - 1 / price if self.is_inverse else price - self.mark
        return size * self.each_usd * moved

    def price_gaining(self, size: float, gain_usd: float) -> float:
        """The price at which closing a position of this size gains so much against the mark; NaN where no price does."""
        if not (amount := size * self.each_usd):
            return math.nan
        moved = gain_usd / amount
        if self.is_inverse:
            over = 1 / self.mark - moved
            return 1 / over if over > 0 else math.nan
        return self.mark + moved if self.mark + moved > 0 else math.nan

    def limit(self, size: float, equity: float, maintenance: float) -> float:
        """The worst price at which a position's order may fill, given what its account has and requires."""
        needs = self.required(size) * (self.mark / self.unit_usd if self.unit_usd else 0.0)  # of price
        price = liquidation.fillable_price(size, size * self.mark, needs, equity, maintenance, *RULES.orders.spread)
        return max(min(price, self.high), self.low) if not math.isnan(price) else self.low if size > 0 else self.high


class _Batch:
    """The market in one batch: whom it concerns, and what of it speaks against liquidating anyone."""

    def __init__(self, state: State, found: Valuation, until_ms: int) -> None:
        self.state, self.found, self.now_ms = state, found, until_ms - 1
        self.changed = frozenset(state.market.due)  # accounts whose positions or cash are not what they were
        self._quotes: dict[str, _Quote] = {}
        with np.errstate(invalid="ignore"):
            self.must_close = liquidation.is_liquidatable(found.equity, found.maintenance)
            self.is_broke = found.equity < -CENT

    def concerned(self) -> list[str]:
        """The accounts, by name, about which there may be something to decide."""
        found, standing = self.found, self.state.standing()
        case, must_close, is_broke = standing.case, self.must_close, self.is_broke
        with np.errstate(invalid="ignore"):
            is_called = (found.initial > np.maximum(found.equity, 0.0)) & ~must_close & ~is_broke
            is_solvent = found.equity > 0
        is_as_it_was = is_called & (case == PLAIN_CALL)
        is_as_it_was |= (case == RECOVERED) & (self.now_ms < standing.rests_ms) & ~must_close & ~is_called & ~is_broke
        is_as_it_was |= (case == AWAITING) & is_broke & ~must_close
        if self.is_quiet:
            # Who waits for the next round, or for depth, and nothing has come between.
            is_pausing = must_close & (self.now_ms - standing.round_ms < 1000 * RULES.orders.round_s)
            is_as_it_was |= is_pausing & ((case == ALL_ORDERED) | ((case == IN_ROUNDS) & is_solvent))
            for row in np.flatnonzero((case == UNSERVED) & must_close & is_solvent).tolist():
                is_as_it_was[row] = self._is_unserved(row, (self.now_ms - standing.round_ms.item(row)) / 1000)
        rows, names = self.state.market.account_columns.rows, self.state.market.account_names
        is_as_it_was[[rows[name] for name in self.changed]] = False
        concerned = np.flatnonzero((must_close | is_called | is_broke | (case != NO_CASE)) & ~is_as_it_was)
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
        if liquidation.round_size(size, quote.unit_usd, since_s, *RULES.orders.rounds) == 0.0:
            return False
        limit = quote.limit(size, self.found.equity.item(row), self.found.maintenance.item(row))
        return depth is not None and depth.doubt(of, self.now_ms) is None and depth.visible(size, limit) <= 0

    def quote(self, of: str) -> _Quote:
        """One contract's."""
        if of not in self._quotes:
            market, rates = self.state.market, self.found.rates
            row, terms = market.contract_columns.row(of), market.terms[of]
            mark = float(self.found.mark[row])
            usd = float(market.currency_columns["usd"][market.currency(terms.settlement_currency)])
            each, is_inverse = terms.contract_size or 0.0, terms.is_inverse and terms.kind != "option"
            low, high = liquidation.band(mark, RULES.orders)
            self._quotes[of] = _Quote(
                mark=mark,
                low=float(low),
                high=float(high),
                unit_usd=each * usd / mark if is_inverse else each * mark * usd,
                each_usd=each * usd,
                is_inverse=is_inverse,
                maintenance_long=float(rates.maintenance_long[row]),
                maintenance_short=float(rates.maintenance_short[row]),
                square=float(rates.square[row]),
            )
        return self._quotes[of]

    @cached_property
    def is_quiet(self) -> bool:
        """Whether nothing speaks against liquidating anyone."""
        is_halted = any(halt.is_halted for halt in self.state.halts.values())
        return not is_halted and not self.objections

    @cached_property
    def objections(self) -> dict[str, _Objection]:
        """By price, the first check that speaks against it."""
        first = {}
        for of, guard in self.state.guards.items():
            for rank, check in enumerate(CHECKS):
                if reason := check(guard, self.now_ms):
                    first[of] = _Objection(rank, reason)
                    break
        # A guard begins with the terms of its contract; the price itself may be older.
        return self._too_old() | first | self._too_dear()

    def _too_dear(self) -> dict[str, _Objection]:
        """The marks of options that are more than the option can be worth."""
        columns, mark = self.state.market.contract_columns, self.found.mark
        forward = columns["forward_usd"]
        most = np.where(columns["is_call"] > 0, forward, np.nan_to_num(columns["strike_usd"]))
        usd = np.where(columns["is_inverse"] > 0, mark * forward, mark)
        is_too_dear = (columns["is_option"] > 0) & (forward > 0) & (usd > most)
        rank = CHECKS.index(_too_volatile)
        return {
            f"mark of {name}": _Objection(
                rank, f"is {usd[row]:.6g} USD, more than the {most[row]:.6g} USD that it can be worth"
            )
            for row, name in self._names(is_too_dear)
        }

    def _too_old(self) -> dict[str, _Objection]:
        """The prices of contracts that were told too long ago, each by the one that values the contract."""
        columns, mark = self.state.market.contract_columns, self.found.mark
        is_option, forward = columns["is_option"] > 0, columns["forward_usd"]
        told_ms = np.where(is_option | ~np.isnan(columns["mark"]), columns["mark_ms"], columns["traded_ms"])
        prices = (
            ("mark", told_ms, is_option & ~np.isnan(mark)),
            ("price", told_ms, ~is_option & ~np.isnan(mark)),
            ("forward", columns["forward_ms"], is_option & (forward > 0)),
        )
        rank, oldest_ms = CHECKS.index(_stale), self.now_ms - 1000 * RULES.stale_s
        return {
            f"{price} of {name}": _Objection(rank, _too_old((self.now_ms - event_ms.item(row)) / 1000))
            for price, event_ms, is_told in prices
            for row, name in self._names(is_told & (event_ms < oldest_ms))
        }

    def _names(self, is_meant: Array) -> list[tuple[int, str]]:
        """The rows of contracts that are meant, with their names."""
        rows = set(np.flatnonzero(is_meant).tolist())
        return [(row, name) for name, row in self.state.market.contract_columns.rows.items() if row in rows] if rows else []

    def worth_usd(self, seen: Seen) -> float:
        """What an account would have now if it still had what it was seen with; NaN where a price is missing."""
        market, rates, usd = self.state.market, self.found.rates, self.state.market.currency_columns["usd"]
        total = sum(amount * usd.item(market.currency(of)) for of, amount in seen.balances.items())
        for of, (size, average) in seen.positions.items():
            row = market.contract_columns.rows.get(of)
            if row is None:
                return math.nan
            basis = size / average if rates.is_inverse[row] else size * average
            total += rates.unit.item(row) * size - rates.basis_unit.item(row) * basis
        return float(total)


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
        case, before, has_changed = self.case, self.case.copied(), self.name in self.batch.changed
        closed_usd = self._note_fills() if has_changed else 0.0
        is_known = not math.isnan(self.equity + self.initial + self.maintenance)
        if has_changed and (case.state in BROKE or case.due):
            case.has_changed = True
        if is_known and case.due and (case.has_changed or case.paid_usd is None):
            self._note_payments(closed_usd)
        must_close = self.maintenance > 0 and self.maintenance > self.equity
        if is_known and not must_close and self.equity >= -CENT:
            self._recover()
        elif is_known or case.state not in (HEALTHY, MARGIN_CALL):
            self._liquidate(is_known)
        if not case.due:
            case.seen = None
        elif is_known and (has_changed or case.seen is None):
            case.seen = self._seen()
        is_over = case.state == HEALTHY and not case.held and self.now_ms >= _standing_of(case)[2]
        if is_over and self.name in self.state.cases:
            del self.state.cases[self.name]
        elif is_over or vars(case) == before:
            return self.outputs
        else:
            self.state.cases[self.name] = case
        self.state.touched.add(f"case/{self.name}")
        self.state.note(self.name)
        return self.outputs

    @property
    def _since_s(self) -> float:
        """How long ago the last round was."""
        return math.inf if self.case.round_ms is None else (self.now_ms - self.case.round_ms) / 1000

    def _note_fills(self) -> float:
        """What has gone from a position has been closed by deleveraging, and then by orders.

        Gives what the account has gained, in USD, by the prices of the former, against the marks.
        """
        case, gained = self.case, 0.0
        for of in sorted({*case.open, *case.closing}):
            was, size = case.sizes.get(of, 0.0), self.sizes.get(of, 0.0)
            stays = abs(size) if was * size > 0 else 0.0
            gone = max(abs(was) - stays, 0.0)
            parts, left = case.closing.pop(of, []), stays
            for contracts, price in parts:
                done = min(gone, contracts)
                gone -= done
                if done and of in self.state.market.terms:
                    gained += self.batch.quote(of).gain_usd(math.copysign(done, was), price)
                rest = min(contracts - done, left)
                left -= rest
                if rest > 1e-12 * abs(was):
                    case.closing.setdefault(of, []).append((rest, price))
            ordered = min(case.open.pop(of, 0.0) - gone, left)
            if ordered > 1e-12 * abs(was):
                case.open[of] = ordered
            if of in case.open or of in case.closing:
                case.sizes[of] = size
            else:
                case.sizes.pop(of, None)
        return gained

    def _note_payments(self, closed_usd: float) -> None:
        """Note the payments that have come without being named: the account is richer by just what they are."""
        case = self.case
        if case.paid_usd is None:
            # Version 1 had the fund pay what was missing; how much, and whether it has come, is told by nothing.
            case.paid_usd = case.due[UNTOLD] = max(-self.equity, 0.0)
        if case.seen is None or case.seen == self._seen():
            return
        rise = self.equity - self.batch.worth_usd(case.seen) - closed_usd
        several = list(accumulate(case.due.values()))
        for number, (event, amount) in enumerate(list(case.due.items())):
            if abs(rise - amount) < CENT:
                del case.due[event]
                return
            if abs(rise - several[number]) < CENT:
                case.due = dict(list(case.due.items())[number + 1 :])
                return

    def _seen(self) -> Seen:
        """What the account has."""
        account = self.state.market.accounts[self.name]
        return Seen(
            {currency: amount for currency, (_, amount) in account.balances.items() if amount},
            {of: (size, average) for of, (_, size, average) in account.positions.items() if size},
        )

    def _recover(self) -> None:
        case, now = self.case, MARGIN_CALL if self.initial > max(self.equity, 0.0) else HEALTHY
        if case.state == now and not case.held:
            return
        was, was_held, ordered = case.state, case.held, case.open
        case.held, case.open, case.sizes = None, {}, {of: case.sizes[of] for of in case.closing}
        case.state, case.round, case.paid_usd, case.uncovered_usd = now, 0, 0.0, 0.0
        if was == now and was_held:
            self._event("resumed", f"no longer held ({was_held}), and no longer to be liquidated: {self._numbers()}")
        elif now == MARGIN_CALL and was == HEALTHY:
            self._event("margin_call", f"initial margin {self.initial:.2f} USD exceeds equity {self.equity:.2f} USD")
        else:
            told = "".join(f"; cancel what is open of {size:g} {of}" for of, size in sorted(ordered.items()))
            self._event("recovered", f"from {was} to {now}: {self._numbers()}{told}")

    def _liquidate(self, is_known: bool) -> None:
        case = self.case
        if is_known and case.state in BROKE and not self.sizes:
            case.has_changed = case.has_changed and self._missing_usd() >= CENT
            if not case.has_changed:
                self._resume()
                self._go_broke()
                return  # what is missing is borne, and nothing is left to be closed
        if not (is_known and self.batch.is_quiet):
            missing = "no valuation", "the account cannot be valued: a price is missing"
            if held := self._halted() or (self._held() if is_known else missing):
                self._hold(*held)
                return
        if case.state == LIQUIDATING and not case.held and self.equity > 0 and self._since_s < RULES.orders.round_s:
            return  # nothing is ordered before the next round
        if case.state in (HEALTHY, MARGIN_CALL) and self.sizes and self.maintenance > 0:
            self._resume()
            case.state = LOCKED
            self._event("locked", f"maintenance margin {self.maintenance:.2f} USD exceeds equity {self.equity:.2f} USD")
        orders, blocked = self._planned()
        if orders or not blocked:
            self._resume()
        if self.equity <= 0 and self._go_broke():
            orders, blocked = self._planned()
        if blocked and not orders:
            self._hold(*blocked)
        for order in orders:
            self._order(order)

    def _go_broke(self) -> bool:
        """Note that equity is gone, and have what is missing borne; whether that changes what is to be ordered."""
        case, state = self.case, BANKRUPT if self.sizes else SETTLING
        is_due = case.state not in BROKE or case.has_changed
        if case.state != state:
            case.state = state
            rest = "all that is left is to be closed" if self.sizes else "nothing is left to be closed"
            self._event("bankrupt", f"equity {self.equity:.2f} USD is gone: {rest}")
        case.has_changed = False
        return is_due and self._bear_loss()

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
        return None

    def _watched(self) -> set[str]:
        """The prices on which the account's value rests, as they are called in `guards` and `objections`."""
        market = self.state.market
        coins = {(coin, indices.USD) for coin, (_, amount) in market.accounts[self.name].balances.items() if amount}
        watched = set()
        for of in self.sizes:
            terms = market.terms.get(of)
            if terms is not None:
                coins |= {(terms.underlying, terms.index_currency), (terms.settlement_currency, indices.USD)}
            is_option = terms is not None and terms.kind == "option"
            watched |= {f"forward of {of}", f"mark of {of}"} if is_option else {f"price of {of}"}
        return watched | {f"index of {market.index_name(*coin)}" for coin in coins}

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
            free = abs(size) - case.open.get(of, 0.0) - (case.to_close(of) if case.closing else 0.0)
            if free <= 1e-12 * abs(size):
                continue
            if self.equity <= 0:
                wanted = free if since_s >= rules.round_s else 0.0
            else:
                wanted = min(free, abs(liquidation.round_size(size, self.batch.quote(of).unit_usd, since_s, *rounds)))
            if wanted == 0:
                break  # the pause is not over
            limit = self.batch.quote(of).limit(size, self.equity, self.maintenance)
            depth, visible = self.state.depths.get(of), None
            if depth and (doubt := depth.doubt(of, self.now_ms)):
                blocked = f"stale book: {of}", doubt
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

    def _missing_usd(self) -> float:
        """What is missing and nobody bears yet.  What is to be paid and closed counts as if it had been."""
        closing = (
            self.batch.quote(of).gain_usd(math.copysign(contracts, self.sizes[of]), price)
            for of, parts in self.case.closing.items()
            for contracts, price in parts
        )
        return max(-self.equity - sum(self.case.due.values()) - sum(closing) - self.case.uncovered_usd, 0.0)

    def _bear_loss(self) -> bool:
        """Have somebody bear what is missing; whether deleveraging does some of it."""
        case, missing = self.case, self._missing_usd()
        if missing < CENT:
            return False
        case.borne_ms = self.now_ms
        fund_usd = self.state.fund_usd
        if missing <= fund_usd:
            self._pay(missing, "what equity is below zero" if not case.is_paid else "what equity has fallen by since it paid")
            return False
        shared = self._deleverage(missing)
        if (rest := missing - shared) >= CENT:
            if fund_usd >= CENT:
                self._pay(fund_usd, f"all that it had, of the {rest:.2f} USD that are missing")
            if (left := rest - max(fund_usd, 0.0)) >= CENT:
                case.uncovered_usd += left
                told = f"of a loss of {missing:.2f} USD the insurance fund pays {max(fund_usd, 0.0):.2f} USD"
                self._event(
                    "uncovered", f"{told} and others bear {shared:.2f} USD: nobody bears {left:.2f} USD", amount_usd=left
                )
        return shared > 0

    def _pay(self, amount: float, what: str) -> None:
        """Let the fund pay."""
        case, state = self.case, self.state
        state.fund_usd = round(state.fund_usd - amount, 6)
        state.touched.add("fund")
        told = f"the insurance fund pays {amount:.2f} USD, {what}; it has {state.fund_usd:.2f} USD left"
        self._event("insurance", told, amount_usd=amount)
        case.due[self.outputs[-1].row["event_id"]] = amount
        case.paid_usd = (case.paid_usd or 0.0) + amount

    def _deleverage(self, missing: float) -> float:
        """Close positions against the other side, so that they bear what is missing; how much of it they do, in USD.

        Each position bears the share of its requirement in that of all (of its value, where nothing is required), if it is
        worth that much.
        """
        open_to = {of: abs(size) - self.case.to_close(of) for of, size in self.sizes.items()}
        open_to = {of: contracts for of, contracts in open_to.items() if contracts > 1e-12 * abs(self.sizes[of])}
        weights = {of: self._requirements[of] for of in open_to}
        if not sum(weights.values()) > 0:
            weights = {of: abs(self.batch.quote(of).unit_usd * contracts) for of, contracts in open_to.items()}
        total, shared = sum(weights.values()), 0.0
        for of in self._ordered_by_requirement():
            if of in open_to and weights[of] > 0:
                shared += self._deleverage_one(of, open_to[of], missing * weights[of] / total, missing)
        return shared

    def _deleverage_one(self, of: str, contracts: float, share: float, missing: float) -> float:
        """Close one position against those on the other side who gain most on the most leverage; what they bear, in USD."""
        market, found, quote = self.state.market, self.found, self.batch.quote(of)
        contract, columns = market.contract_columns.row(of), market.position_columns
        size, unit, mark = self.sizes[of], quote.unit_usd, quote.mark
        price = quote.price_gaining(math.copysign(contracts, size), share)
        mine = np.flatnonzero((columns["contract"] == contract) & (columns["size"] * size < 0))
        # Who has nothing cannot bear anything.
        mine = mine[found.equity[columns["account"][mine].astype(int)] > 0]
        if not len(mine) or math.isnan(price) or share > contracts * unit:
            return 0.0
        held, account = columns["size"][mine], columns["account"][mine].astype(int)
        entry = columns["average"][mine]
        gain = (mark / entry - 1 if quote.is_inverse else 1 - entry / mark) * held * unit
        value = held * unit
        score = liquidation.adl_score(gain, value - gain, value, value - found.equity[account])
        names = market.account_names
        order = sorted(range(len(mine)), key=lambda n: (-float(score[n]), names[int(account[n])]))
        left, rank = contracts, 0
        for n in order:
            other = names[int(account[n])]
            theirs = self.state.cases.get(other) or Case()
            part = min(left, abs(float(held[n])) - theirs.to_close(of))
            if part <= 1e-12 * abs(size):
                continue
            left -= part
            rank += 1
            price_told = f"at {price:.6g}, the bankruptcy price: rank {rank}, score {float(score[n]):.4g}"
            why = f"the fund has {self.state.fund_usd:.2f} USD for a loss of {missing:.2f} USD"
            ordered = self.case.open.pop(of, 0.0)
            cancel = f"; cancel what is open of {ordered:g} {of}" if ordered else ""
            told = f"{why}; closes {part:g} {of} of {self.name} against {other} {price_told}{cancel}"
            closing = {"instrument": of, "amount_usd": part * unit, "size": math.copysign(part, -size), "price": price}
            self._event("deleveraging", told, counter_account=other, **closing)
            theirs.events += 1
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
                "size": math.copysign(part, size),
            }
            self.outputs.append(Output("liquidation_events", self.now_ms, row))
            for case, name, position in ((self.case, self.name, size), (theirs, other, float(held[n]))):
                case.closing.setdefault(of, []).append((part, price))
                case.sizes.setdefault(of, position)
                case.borne_ms = self.now_ms
                self.state.cases[name] = case
                self.state.touched.add(f"case/{name}")
                self.state.note(name)
            if left <= 1e-12 * abs(size):
                break
        return share * (contracts - left) / contracts

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
            "size": None,
            "price": None,
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
    return None if age_s <= RULES.stale_s else _too_old(age_s)


def _too_old(age_s: float) -> str:
    return f"is {age_s:.1f} s old, more than {RULES.stale_s:g} s"


def _insufficient(guard: Guard, now_ms: int) -> str | None:
    return None if guard.points >= RULES.points else f"has been seen {guard.points} times, less than {RULES.points}"


CHECKS = (_non_positive, _too_volatile, _too_uncertain, _stale, _insufficient)
"""In this order; each gives the reason why a price must not be acted upon."""


KERNEL = Kernel(
    name="liquidations",
    version=VERSION,
    new=new,
    step=step,
    gauges=gauges,
    migrations=MIGRATIONS,
    parts=(margin.KERNEL,),
    common=margin.KERNEL.common,
    store_share=STORE_SHARE,
)
