"""Decisions: which accounts must be liquidated, how much of each now, and what holds their orders?

Entries    case/<account>: an account that is not healthy; freed when it is and the longest pause after its last round is over
           depth/<venue:instrument>: the newest depth of one book
           guard/<series>: the average of one quantity in one unit, with which the next value is compared: `price of
           <venue:instrument>`, the mark of a future or perpetual; `forward of <venue:instrument>`, the forward in USD of an
           option; `index of <underlying>`, with the currency behind it where that is not USD.  Freed with its contract
           halt/<venue> or halt/<venue:instrument>: its newest row of trading_halts; freed a day later if trading has resumed or
           the contract is gone
           control/<scope>: a control in force (`kernels.gate`); freed with its end
           break/<break_id>: a circuit break (`kernels.gate`); freed a day after its end
Order      books, guards, halts, breaks and controls are applied before accounts are valued

An account goes through these states, each change of which is an event with its numbers:

    healthy      initial margin within equity
    margin_call  initial margin exceeds equity
    locked       maintenance margin exceeds equity: it must be liquidated
    liquidating  rounds have begun: one order each, on the position with the largest maintenance margin that has no order
                 yet, of the size of `Rules`, no more than the book shows within the limit, at the fillable price
                 (udfs/liquidation.py, within the band around mark); the next after the pause.  It ends as soon as maintenance
                 margin is within equity again: open orders must be cancelled then.  An account that falls again waits for the
                 rest of the pause
    bankrupt     equity is gone: everything that is left is ordered at once, after the answer of the fund
    settling     equity is below zero and nothing is held any more.  It ends when the loss has been paid

Every loss is claimed from the fund (`kernels.liquidations.claims`): all that equity is below zero, when it is gone and with
every later change of the account's holdings.  A price that falls further is a loss when something is closed at it, and until
then it may recover.  The fund pays what is missing once nothing is held any more, and deleverages others where it has not
enough; it knows what it has answered, so each claim has the whole amount.  Its answer comes `answer_ms` of event time after the
claim.  Until then nothing more is ordered of a bankrupt account: who is deleveraged is not sold as well.

Orders only reduce risk: open orders never exceed the position.  A position that has become smaller has filled that much of
them.  Where reports of the venue are read, what is left of an order that is over is not open any more: the next round orders it
again.

Held: no order is emitted for an account, and no loss is claimed, while one of these is true (`kernels.gate`), in this order,
for anything that it holds; the hold, its end and every change of its reason are events:
    controls unread   the topic of controls has not been read, or not lately
    control …         an operator stops liquidations of all that it holds; a kill cancels open orders as well.  Where some
                      contracts are left, those are liquidated
    halted            trading of it, or on its whole venue, is halted: prices are not checked, since none may come
    circuit break     one of our own breakers stops it, its underlying or its venue: prices are not checked either
    no valuation      a price is missing
(of an index that is an oracle's, its validity and what that holds by the rules of `oracles` count instead of these)
    non-positive      an index or mark price is zero or less (of an option, its forward's)
    too volatile      it is further from its own average (`average_s`) than `volatile` times, either way (of an option, its
                      forward); or an option's mark is more than the option can be worth
    too uncertain     the publisher's confidence interval is more than `uncertain` of the index price
    stale             an index that has been published, the mark of what is held (of a future without one, its substitute), or
                      an option's forward is more than `stale_s` old, whether it came before the contract's terms or after.  A
                      ticker without a mark is no new mark
    insufficient      fewer than `points` prices of it have been seen
and for contracts to be ordered:
    stale book        updates were lost, or the newest depth is older than `stale_s`
    unknown unit      the terms do not tell what a contract is in the amounts of the book
    no depth          the book shows nothing within the limit
"""

import math
from collections import Counter
from typing import Any, ClassVar

from engine.contract import Message, Output
from engine.entries import packed, unpacked
from kernels import gate
from kernels.halts import Halt, Halts
from kernels.liquidations.account import Account
from kernels.liquidations.accounts import Accounts
from kernels.liquidations.cases import (
    BROKE,
    LIQUIDATING,
    LOCKED,
    MARGIN_CALL,
    MIGRATIONS,
    VERSION,
    Case,
    Standing,
    no_standing,
    standing_of,
)
from kernels.liquidations.guards import Depth, Guard
from kernels.liquidations.market import KEPT_MS
from kernels.liquidations.quotes import DecisionBatch
from kernels.liquidations.rules import RULES
from kernels.liquidations.stage import Batch
from kernels.market import indices
from kernels.orders.order import ENDINGS
from schemas.rows import key, to_ms

OVER = ("filled", *ENDINGS)
"""The states in which an order is over."""
FUND = "fund"
"""An entry of earlier versions, in which each shard had a fund: it is freed."""


class Decisions:
    """The liquidations in progress: rows of `liquidation_orders` and `liquidation_events`."""

    KINDS: ClassVar[frozenset[str]] = frozenset({"case", "depth", "guard", "halt", FUND, gate.KIND, gate.BREAK})

    def __init__(self, accounts: Accounts) -> None:
        self.market = accounts
        self.touched = accounts.touched
        self.cases: dict[str, Case] = {}
        self.depths: dict[str, Depth] = {}
        self.guards: dict[str, Guard] = {}
        self.halts = Halts()
        self.gate = gate.Gate()
        self.breaks = gate.Breaks()
        self.unsure: set[str] = set()  # guards of version 1, which may have mixed an option's mark and its forward
        self._standing = Standing.without_cases(0)

    def standing(self) -> Standing:
        """The standing of each account."""
        rows = self.market.account_columns.rows
        if len(self._standing.case) < len(rows):
            self._standing = Standing.without_cases(2 * len(rows))
            for name in self.cases:
                self.note(name)
        return Standing(*(column[: len(rows)] for column in self._standing))

    def note(self, name: str) -> None:
        """Store the standing of an account."""
        row, case = self.market.account_columns.rows[name], self.cases.get(name)
        noted = no_standing() if case is None else standing_of(case)
        for column, number in zip(self._standing, noted, strict=True):
            column[row] = number

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, key = name.partition("/")
        if kind == FUND:
            return None
        if kind in (gate.KIND, gate.BREAK):
            return (self.gate if kind == gate.KIND else self.breaks).encode(key)
        if kind == "case":
            case = self.cases.get(key)
            return None if case is None else packed(VERSION, vars(case))
        entries: dict[str, dict[str, Any]] = {"depth": self.depths, "guard": self.guards, "halt": self.halts.rows}
        stored = entries[kind].get(key)
        return None if stored is None else packed(VERSION, list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, key = name.partition("/")
        if kind in (gate.KIND, gate.BREAK):
            (self.gate if kind == gate.KIND else self.breaks).decode(key, data)
            return
        stored = unpacked("liquidations", name, data, VERSION, MIGRATIONS)
        if kind == "case":
            self.cases[key] = case = Case()
            vars(case).update(stored)
        elif kind == "depth":
            self.depths[key] = Depth(*stored)
        elif kind == "guard":
            self.guards[key] = Guard(*stored)
            if data[0] < 2 and key.startswith("price of "):
                self.unsure.add(key)
        elif kind == "halt":
            self.halts.put(key, Halt(*stored))
        else:
            self.touched.add(FUND)

    def gauges(self) -> dict[str, float]:
        """Accounts that are not healthy, by state; those that are held; the gate."""
        states = Counter(case.state for case in self.cases.values())
        return {
            **{f"accounts_{state}": states[state] for state in (MARGIN_CALL, LOCKED, LIQUIDATING, *BROKE)},
            "accounts_held": sum(case.held is not None for case in self.cases.values()),
            **self.gate.gauges(),
        }

    def learn(self, messages: list[Message]) -> None:
        """Apply books, halts, and the prices of guards."""
        _drop_unsure(self)
        for message in messages:
            row = message.row
            if message.table == "book_depth":
                _learn_depth(self, row)
            elif message.table == "trading_halts":
                self.touched.add(self.halts.learn(row))
            elif message.table == "controls_applied":
                self.touched.add(self.gate.learn(row))
            elif message.table == "circuit_breaks":
                self.touched.add(self.breaks.learn(row))
            elif message.table == "execution_reports":
                self._learn_report(row)
            elif message.table == "tickers":
                _learn_price(self, row)
            elif message.table == "index_prices":
                price, width = row["price_usd"], row.get("confidence_usd") or 0.0
                series = f"index of {indices.named(row['underlying'], indices.quoted_in(row))}"
                _watch(self, series, row, price, width / price if price > 0 else 0.0)

    def _learn_report(self, row: dict[str, Any]) -> None:
        case = self.cases.get(row["account"])
        if case is None or row.get("order_status") not in OVER:
            return
        if case.note_end(row.get("client_order_id") or "", float(row.get("cum_quantity") or 0)):
            self.touched.add(f"case/{row['account']}")

    def rows(self, batch: Batch) -> list[Output]:
        """Advance the cases of the accounts that are not healthy."""
        decisions = DecisionBatch(self, batch.valuation, batch.until_ms)
        return [output for name in decisions.concerned() for output in Account(self, decisions, name).advanced()]

    def forget(self, contracts: set[str], until_ms: int) -> None:
        """Free guards, books and halts of contracts that are gone."""
        for name in contracts:
            for series in (f"price of {name}", f"forward of {name}"):
                if self.guards.pop(series, None):
                    self.touched.add(f"guard/{series}")
        for name in self.depths.keys() - self.market.terms.keys():
            if self.depths[name].event_ms + KEPT_MS <= until_ms:
                del self.depths[name]
                self.touched.add(f"depth/{name}")
        self.touched.update(self.halts.forget(until_ms, lambda name: name not in self.market.terms))
        self.touched.update(self.breaks.forget(until_ms))


def _learn_depth(state: Decisions, row: dict[str, Any]) -> None:
    name, event_ms = key("book_depth", row), to_ms(row["event_at"])
    known = state.depths.get(name)
    if known is None or known.event_ms <= event_ms:
        state.depths[name] = Depth(event_ms, row["is_stale"], row["bids"], row["asks"])
        state.touched.add(f"depth/{name}")


def _learn_price(state: Decisions, row: dict[str, Any]) -> None:
    """Update the guard of a contract with its price in a ticker, if there is one."""
    name = key("tickers", row)
    terms = state.market.terms.get(name)
    if terms is None:
        return  # no account can be valued with it yet
    # An option's mark may jump; its forward may not.
    quantity, column = ("forward", "forward_usd") if terms.kind == "option" else ("price", "mark_price")
    if (price := row.get(column)) is not None:
        _watch(state, f"{quantity} of {name}", row, price, 0.0)


def _drop_unsure(state: Decisions) -> None:
    """Free the guards of version 1 that are of options, or of unknown contracts."""
    for series in state.unsure:
        terms = state.market.terms.get(series.removeprefix("price of "))
        if terms is None or terms.kind == "option":
            state.guards.pop(series, None)
            state.touched.add(f"guard/{series}")
    state.unsure.clear()


def _watch(state: Decisions, series: str, row: dict[str, Any], price: float, uncertainty: float) -> None:
    """Store a price, and update its average."""
    event_ms, known = to_ms(row["event_at"]), state.guards.get(series)
    if known is None:
        state.guards[series] = Guard(event_ms, price, price, 1, uncertainty)
    elif known.event_ms <= event_ms:
        weight = -math.expm1(-(event_ms - known.event_ms) / 1000 / RULES.average_s)
        # The average follows the price that was valid until now: a new price has had no duration yet.
        stood = min(max(known.price, known.average / RULES.volatile), known.average * RULES.volatile)
        average = known.average + weight * (stood - known.average)
        state.guards[series] = Guard(event_ms, price, average, known.points + 1, uncertainty)
    else:
        return
    state.touched.add(f"guard/{series}")
