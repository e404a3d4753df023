"""What a large order has cost so far: sums that grow with each book, trade and fill, and the figures that follow from them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kernels.execution.parameters import digits
from schemas.rows import instant_ms
from udfs import execution_quality as formulas

if TYPE_CHECKING:
    from kernels.execution.parent import Parent

HORIZON_MS = 60_000
"""So long after a fill the realised spread looks at the mid."""


class Quality:
    """The sums of one parent."""

    def __init__(self, decision: float | None) -> None:
        self.decision = decision
        self.arrival: float | None = None
        self.mid: float | None = None
        self.mid_ms = 0
        self.by_time = [0.0, 0.0]  # ms, and mid × ms
        self.by_size = [0.0, 0.0]  # contracts, and price × contracts
        self.effective = [0.0, 0.0]  # contracts, and effective spread × contracts
        self.realised = [0.0, 0.0]
        self.against_book = [0.0, 0.0]
        self.ahead: list[list[float]] = []  # fills that are not a minute old: when they will be, price, contracts, mid
        self.fees: dict[str, float] = {}  # by currency
        self.lacks_fees = False  # whether a venue told none

    def pass_time(self, now_ms: int, mid: float | None, start_ms: int, end_ms: int, side: str) -> bool:
        """Time has passed, and the mid is this now; returns whether a sum has changed."""
        if mid is None:
            return False
        if self.decision is None:
            self.decision = mid
        if self.mid is not None and (lasted := min(now_ms, end_ms) - max(self.mid_ms, start_ms)) > 0:
            self.by_time = [self.by_time[0] + lasted, self.by_time[1] + self.mid * lasted]
        if now_ms >= start_ms and self.arrival is None:
            self.arrival = mid
        if now_ms < end_ms:
            self.mid = mid
        self.mid_ms = now_ms
        while self.ahead and self.ahead[0][0] <= now_ms:
            _, price, contracts, then = self.ahead.pop(0)
            _add(self.realised, contracts, formulas.realised_spread(side, price, then, mid))
        return True

    def see(self, price: float, contracts: float) -> None:
        """A trade of the market."""
        _add(self.by_size, contracts, price)

    def trade(
        self, side: str, event_ms: int, row: Mapping[str, Any], contracts: float, mid: float | None, offered: float | None
    ) -> None:
        """A row of `order_states` of a child by which so many contracts are traded."""
        if row["event"] != "trade" or contracts <= 0 or row.get("last_price") is None:
            return
        price, fee = float(row["last_price"]), row.get("last_fee")
        if fee is None:
            self.lacks_fees = True
        else:
            currency = row.get("fee_currency") or ""
            self.fees[currency] = self.fees.get(currency, 0.0) + float(fee)
        if mid:
            _add(self.effective, contracts, formulas.effective_spread(side, price, mid))
            self.ahead.append([event_ms + HORIZON_MS, price, contracts, mid])
        if offered:
            _add(self.against_book, contracts, formulas.slippage(side, price, offered))

    def stored(self) -> list[Any]:
        """As an entry has it."""
        sums = [self.by_time, self.by_size, self.effective, self.realised, self.against_book]
        return [self.decision, self.arrival, self.mid, self.mid_ms, sums, self.ahead, self.fees, self.lacks_fees]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> "Quality":
        """What `stored` returned."""
        quality = cls(stored[0])
        _, quality.arrival, quality.mid, quality.mid_ms, sums, quality.ahead, quality.fees, quality.lacks_fees = stored
        quality.by_time, quality.by_size, quality.effective, quality.realised, quality.against_book = sums
        return quality


def row_of(parent: "Parent", now_ms: int) -> dict[str, Any]:
    """The row of `execution_quality` of a parent as it stands."""
    plan, sums = parent.plan, parent.quality
    assert plan is not None
    filled, quantity, others = float(parent.traded), float(plan.quantity), float(parent.others_volume)
    average = float(parent.worth / parent.traded) if parent.traded else None
    by_time, by_size = _mean(sums.by_time), _mean(sums.by_size)
    row = {column: parent.row[column] for column in ("account", "venue", "instrument", "parent_client_order_id")}
    row |= {
        "event_at": instant_ms(now_ms),
        "algorithm": plan.algorithm,
        "side": plan.side,
        "is_final": parent.is_settled,
        "start_at": instant_ms(plan.start_ms),
        "quantity": digits(plan.quantity),
        "traded_quantity": digits(parent.traded),
        "fill_rate": formulas.fill_rate(filled, quantity),
        "child_count": parent.child_count,
        "decision_price": sums.decision,
        "arrival_price": sums.arrival,
        "average_price": average,
        "last_price": sums.mid,
        **_shortfall(parent, filled, average),
        "interval_twap": by_time,
        "interval_vwap": by_size,
        "against_twap": formulas.slippage(plan.side, average, by_time) if average is not None and by_time else None,
        "against_vwap": formulas.slippage(plan.side, average, by_size) if average is not None and by_size else None,
        "effective_spread": _mean(sums.effective),
        "realised_spread": _mean(sums.realised),
        "against_book": _mean(sums.against_book),
        "participation": formulas.participation(filled, others),
        "market_volume": others,
    }
    return row


def _shortfall(parent: "Parent", filled: float, average: float | None) -> dict[str, Any]:
    plan, sums, contract = parent.plan, parent.quality, parent.contract
    assert plan is not None
    assert contract is not None
    names = ("decision_value", "value_currency", "delay", "realised", "missed", "fees", "shortfall", "wagner_delay")
    parts: dict[str, Any] = dict.fromkeys(names)
    parts["value_currency"] = contract.settlement_currency
    decision, quantity = sums.decision, float(plan.quantity)
    if not decision:
        return parts
    size = contract.contract_size or 1.0
    is_reciprocal = contract.is_inverse and contract.kind in ("perpetual", "future")
    value = quantity * size / decision if is_reciprocal else quantity * size * decision
    parts["decision_value"] = value
    if not sums.lacks_fees and set(sums.fees) <= {contract.settlement_currency}:
        parts["fees"] = sum(sums.fees.values()) / value
    arrival, last = sums.arrival, sums.mid
    if arrival is None or last is None:
        return parts
    fills = [(filled, average)] if average is not None else []
    whole = quantity * decision
    cost = formulas.shortfall(plan.side, quantity, decision, fills, released=arrival, last=last)
    parts |= {"delay": cost.delay / whole, "realised": cost.realised / whole, "missed": cost.missed / whole}
    parts["wagner_delay"] = formulas.wagner(plan.side, quantity, decision, arrival, fills, last).delay / whole
    parts["shortfall"] = None if parts["fees"] is None else cost.total / whole + parts["fees"]
    return parts


def _add(sums: list[float], weight: float, value: float) -> None:
    sums[0] += weight
    sums[1] += weight * value


def _mean(sums: list[float]) -> float | None:
    return sums[1] / sums[0] if sums[0] else None
