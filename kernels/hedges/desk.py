"""What is hedged at the end of a micro-batch: which limits are breached, and the trades that mend them."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

import numpy as np

from engine.contract import Output
from kernels.execution.parameters import digits
from kernels.hedges.candidates import Choice, Instrument, Piece, chosen
from kernels.hedges.rules import RULES, Rules
from kernels.hedges.state import Order, Standing, State, Subject, entry
from kernels.hedges.sums import figure
from kernels.limits import GROUP, HEDGED, STATES, Limit, breach_row
from kernels.orders.executions import EXACT
from kernels.orders.ids import client_order_id
from kernels.orders.intake import on_grid
from schemas.rows import instant_ms
from udfs.black76 import FloatArray
from udfs.exposures import BREACHED, WITHIN, judged
from udfs.hedging import Bands, cheapest, whole_lots

TIE = 1e-5
"""By so much of its cost each piece is dearer than the one before it by name: the solver tells no smaller difference."""
ALL_KNOWN_MS = 2_000
"""So long after its first exposures a group is judged: by then every shard has told its part."""


class Trade(NamedTuple):
    """An order of a decision."""

    instrument: Instrument
    side: int
    quantity: Decimal
    price: float
    cost: float  # USD


class Desk:
    """The subjects of a shard at the end of one micro-batch."""

    def __init__(self, state: State, now_ms: int, rules: Rules = RULES) -> None:
        self.state, self.now_ms, self.rules = state, now_ms, rules
        self.outputs: list[Output] = []

    def judge(self) -> None:
        """Look at the limits of subjects whose exposures are new."""
        waits = set()
        for subject in sorted(self.state.moved):
            parts = self.state.parts.get(subject)
            names = sorted(self.state.by_subject.get(subject, ()))
            if parts is None or not names or not self.state.is_mine(subject):
                continue
            if subject[0] == GROUP and self.now_ms < self.state.standing(subject).known_ms + ALL_KNOWN_MS:
                waits.add(subject)
                continue
            for name in names:
                limit = self.state.limits[name]
                assert limit.enter is not None
                exposure, before = figure(limit, parts), self.state.states.get(name, WITHIN)
                now = int(judged(before, exposure, limit.target, limit.enter, limit.leave))
                if now != before:
                    self.state.put_state(name, now)
                    self.state.touched.add(f"limit/{name}")
                    if subject[0] == GROUP:
                        row = breach_row(limit, STATES[now], STATES[before], exposure, self.now_ms)
                        self.outputs.append(Output("group_breaches", self.now_ms, row))
        self.state.moved = waits

    def decide(self) -> list[Output]:
        """Hedge what is breached: of many subjects a few in each batch, in turn."""
        state = self.state
        breached = (state.limits[name] for name, now in state.states.items() if now == BREACHED)
        due = sorted({limit.whose for limit in breached if limit.is_hedged and state.is_mine(limit.whose)})
        due = [subject for subject in due if subject > state.turn] + [subject for subject in due if subject <= state.turn]
        decided = 0
        for subject in due:
            if self._is_waiting(subject):
                continue
            self._hedge(subject)
            decided += 1
            if decided == self.rules.decisions:
                state.turn = subject
                state.touched.add("turn")
                break
        return self.outputs

    def _is_waiting(self, subject: Subject) -> bool:
        """Whether orders, their fills, a pause or a refusal are waited for."""
        standing, state = self.state.standing(subject), self.state
        for name in sorted(name for name in state.open if state.orders[name].subject == subject):
            order = state.orders[name]
            if self.now_ms < order.decided_ms + self.rules.answer_ms:
                return True
            order.done_ms = standing.done_ms = self.now_ms
            state.open.discard(name)
            state.touched |= {entry("order", name), entry("standing", subject)}
        if self.now_ms < max(standing.retry_ms, standing.decided_ms + self.rules.pause_ms):
            return True
        parts = state.parts.get(subject, {})
        oldest_ms = min((part.event_ms for part in parts.values()), default=-1)
        return oldest_ms < standing.done_ms + self.rules.settled_ms or oldest_ms < self.now_ms - self.rules.old_ms

    def _hedge(self, subject: Subject) -> None:
        state, standing = self.state, self.state.standing(subject)
        parts = state.parts[subject]
        limits = [state.limits[name] for name in sorted(state.by_subject[subject])]
        known = [(limit, figure(limit, parts)) for limit in limits if limit.measure in HEDGED]
        known = [(limit, exposure) for limit, exposure in known if math.isfinite(exposure)]
        is_due = [self._is_breached(limit) and limit.is_hedged for limit, _ in known]
        if not any(is_due):
            return
        account = state.groups.trader(*subject)
        hedged = [limit for (limit, _), due in zip(known, is_due, strict=True) if due]
        if account is None:
            self._nothing(subject, subject[1], hedged, known, "no account of the group is its hedger")
            return
        bands, needs = self._bands(known, is_due)
        cells = {coin for part in parts.values() for coin, _ in part.cells}
        underlyings = {limit.underlying for limit in hedged if limit.underlying is not None}
        if any(limit.underlying is None for limit in hedged):
            underlyings |= cells
        choice = chosen(
            state,
            self.rules,
            self.now_ms,
            account,
            [limit for limit, _ in known],
            needs,
            sorted(underlyings),
            None if any(limit.hedge_venue is None for limit in hedged) else {str(limit.hedge_venue) for limit in hedged},
            min(limit.participation for limit in hedged),
        )
        trades, after = self._trades(choice, bands)
        if not trades:
            self._nothing(subject, account, hedged, known, _why_nothing(choice))
            return
        standing.told = None
        self._order(subject, account, hedged, known, trades, bands, after, choice.faults)

    def _is_breached(self, limit: Limit) -> bool:
        return self.state.states.get(limit.name) == BREACHED

    def _bands(self, known: list[tuple[Limit, float]], is_due: list[bool]) -> tuple[Bands, FloatArray]:
        """Where each exposure may be after the trade; and how far each has to go, in parts of `enter`.

        A breached one that is hedged within `leave`; others no further out than they are, but always within `leave`.
        """
        exposure = np.array([each for _, each in known])
        target = np.array([limit.target for limit, _ in known])
        leave, enter = (np.array([getattr(limit, name) for limit, _ in known]) for name in ("leave", "enter"))
        room = np.where(is_due, leave, np.maximum(leave, np.abs(exposure - target)))
        bands = Bands(exposure, target - room, target + room, enter)
        needs = np.sign(exposure - target) * bands.beyond(exposure)
        return bands, needs

    def _trades(self, choice: Choice, bands: Bands) -> tuple[list[Trade], FloatArray]:
        """The orders, in the order of names; and the exposures after them."""
        cost = np.array([piece.cost * (1 + TIE * rank) for rank, piece in enumerate(choice.pieces)])
        most = np.array([piece.most for piece in choice.pieces])
        solved = cheapest(cost, most, choice.effect, bands)
        by_order: dict[tuple[int, int], list[int]] = {}
        for rank, piece in enumerate(choice.pieces):
            by_order.setdefault((piece.instrument, piece.side), []).append(rank)
        keys = sorted(by_order)
        if not keys:
            return [], bands.exposure
        lot = np.array([choice.instruments[number].terms.lot_size for number, _ in keys], dtype=np.float64)
        wanted = np.array([solved.quantity[by_order[key]].sum() for key in keys]) / lot
        room = np.array([most[by_order[key]].sum() for key in keys]) / lot
        per_lot = np.array([cost[by_order[key][0]] for key in keys]) * lot
        effect = np.array([choice.effect[:, by_order[key][0]] for key in keys]).T * lot
        # An instrument is not bought and sold at once.
        for at, (number, side) in enumerate(keys):
            if (number, -side) in by_order and wanted[keys.index((number, -side))] > wanted[at]:
                room[at] = wanted[at] = 0.0
        lots = whole_lots(wanted, room, per_lot, effect, bands)
        trades = [
            _trade(choice, [choice.pieces[rank] for rank in by_order[key]], int(count))
            for key, count in zip(keys, lots, strict=True)
            if count > 0
        ]
        return trades, np.asarray(bands.exposure + effect @ lots)

    def _order(
        self,
        subject: Subject,
        account: str,
        hedged: list[Limit],
        known: list[tuple[Limit, float]],
        trades: list[Trade],
        bands: Bands,
        after: FloatArray,
        faults: list[str],
    ) -> None:
        state, standing = self.state, self.state.standing(subject)
        head = self._head(subject, account, hedged, known, after)
        left = bands.beyond(after)
        total = sum(trade.cost for trade in trades)
        if left.any():
            beyond = [limit.words for (limit, _), each in zip(known, left, strict=True) if each]
            why = f"books, lots and other limits leave {', '.join(beyond)} outside"
            why += f"; not traded: {', '.join(faults[:3])}" if faults else ""
        else:
            why = "the cheapest trade that brings all exposures within leave"
        for trade in trades:
            venue, _, instrument = trade.instrument.name.partition(":")
            name, signed = client_order_id(head["decision_id"], trade.instrument.name), trade.side * float(trade.quantity)
            price = digits(Decimal(repr(trade.price)))
            order = {"venue": venue, "instrument": instrument, "client_order_id": name}
            order |= {"side": "buy" if trade.side > 0 else "sell", "quantity": digits(trade.quantity), "price": price}
            adds = dict(
                zip(("delta_usd", "gamma_usd", "vega_usd"), (signed * each for each in trade.instrument.each), strict=True)
            )
            row = head | order | adds | {"cost_usd": trade.cost, "total_cost_usd": total, "reason": why}
            self.outputs.append(Output("hedge_decisions", self.now_ms, row | {"state": "partial" if left.any() else "hedged"}))
            self._request(account, head["decision_id"], order, f"{head['breaches']} of {subject[0]} {subject[1]}")
            state.put_order((account, name), Order(subject, trade.instrument.name, self.now_ms))
            state.touched.add(entry("order", (account, name)))
        standing.decided_ms = self.now_ms
        state.touched.add(entry("standing", subject))

    def _request(self, account: str, decision: str, order: dict[str, Any], reason: str) -> None:
        at_ms = self.now_ms + self.rules.latency_ms
        row = {
            "account": account,
            **order,
            "event_at": instant_ms(at_ms),
            "orig_client_order_id": None,
            "parent_client_order_id": decision,
            "request": "new",
            "source": "hedge",
            "owner_group": None,
            "order_type": "limit",
            "time_in_force": "ioc",
            "is_reduce_only": False,
            "expires_at": None,
            "max_notional_usd": None,
            "reason": reason,
        }
        self.outputs.append(Output("hedge_requests", at_ms, row))

    def _head(
        self,
        subject: Subject,
        account: str,
        hedged: list[Limit],
        known: list[tuple[Limit, float]],
        after: FloatArray | None,
    ) -> dict[str, Any]:
        """The columns that all rows of a decision have."""
        standing = self.state.standing(subject)
        standing.decisions += 1
        ranks = [
            ((abs(exposure - limit.target) - limit.leave) / (limit.enter or 1.0), -at)
            for at, (limit, exposure) in enumerate(known)
            if limit in hedged
        ]
        worst = -max(ranks)[1]
        blank = ("venue", "instrument", "client_order_id", "side", "quantity", "price", "delta_usd", "gamma_usd", "vega_usd")
        return {
            "account": account,
            "event_at": instant_ms(self.now_ms),
            "decision_id": client_order_id("hedge", *subject, standing.decisions),
            "subject_kind": subject[0],
            "subject": subject[1],
            "state": "nothing",
            "breaches": ",".join(limit.words for limit in hedged),
            **dict.fromkeys(blank),
            "cost_usd": None,
            "worst_measure": known[worst][0].words,
            "exposure_before": known[worst][1],
            "exposure_after": known[worst][1] if after is None else float(after[worst]),
            "total_cost_usd": None,
        }

    def _nothing(self, subject: Subject, account: str, hedged: list[Limit], known: list[tuple[Limit, float]], why: str) -> None:
        """Say once why nothing is ordered."""
        standing = self.state.standing(subject)
        standing.decided_ms = self.now_ms
        self.state.touched.add(entry("standing", subject))
        if standing.told == why:
            return
        standing.told = why
        row = self._head(subject, account, hedged, known, None) | {"reason": why}
        self.outputs.append(Output("hedge_decisions", self.now_ms, row))

    def refuse(self, subject: Subject, account: str, row: dict[str, Any], standing: Standing) -> None:
        """Say that an order came back."""
        limits = [self.state.limits[name] for name in sorted(self.state.by_subject.get(subject, ()))]
        breached = [limit for limit in limits if self._is_breached(limit)]
        head = {
            "account": account,
            "event_at": instant_ms(self.now_ms),
            "decision_id": client_order_id("hedge", *subject, standing.decisions),
            "subject_kind": subject[0],
            "subject": subject[1],
            "state": "refused",
            "breaches": ",".join(limit.words for limit in breached),
            **{column: row[column] for column in ("venue", "instrument")},
            "client_order_id": row["order_key"],
            "side": row.get("side"),
        }
        blank = ("quantity", "price", "delta_usd", "gamma_usd", "vega_usd", "cost_usd", "worst_measure", "exposure_before")
        figures = dict.fromkeys((*blank, "exposure_after", "total_cost_usd"))
        why = f"{row.get('rule') or 'the venue'}: {row.get('reason') or 'refused'}"
        why += f"; the next try is after {instant_ms(standing.retry_ms)}"
        self.outputs.append(Output("hedge_decisions", self.now_ms, head | figures | {"reason": why}))


def _trade(choice: Choice, pieces: list[Piece], count: int) -> Trade:
    """An order for so many lots: its limit is the price of the last piece that it needs."""
    instrument, side = choice.instruments[pieces[0].instrument], pieces[0].side
    lot = instrument.terms.lot_size or 0.0
    left, cost, price = count * lot, 0.0, pieces[0].price
    for piece in pieces:
        if left <= 1e-9 * lot:
            break
        taken = min(left, piece.most)
        left, cost, price = left - taken, cost + taken * piece.cost, piece.price
    rounding = ROUND_CEILING if side > 0 else ROUND_FLOOR
    limit = on_grid(Decimal(repr(price)), instrument.terms.tick_size, rounding)
    return Trade(instrument, side, EXACT.multiply(Decimal(count), Decimal(repr(lot))), float(limit), cost)


def _why_nothing(choice: Choice) -> str:
    if choice.pieces:
        return "a lot is too much, or takes another exposure out of its band"
    why = "nothing can be traded that brings the exposure back"
    return f"{why}: {', '.join(choice.faults[:5])}" if choice.faults else why
