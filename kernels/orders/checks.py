"""The checks before a trade: whether an order may leave, by rules that are data.

Each check is a function of the order, of what is known at that moment, and of the limits; it returns why not, with the figures,
or None.  They come in one order, and the first that refuses is the one that is told.  A cancel passes all of them.

What is not known refuses: no mark, no margin, no terms, a gate that fails.  An order that provably makes the position smaller
needs neither credit nor room for a position.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from kernels.gate import Act, Held, Request
from kernels.market.terms import Tradable
from kernels.orders.executions import EXACT
from kernels.orders.requests import SIDES
from kernels.orders.rules import Limits
from kernels.orders.worth import Mark, notional_usd, reserve_usd
from udfs.bands import Band, around, capped

TYPES = ("market", "limit")
ALGOS = {"liquidation": "liquidations", "algorithm": "execution"}
"""By source, the algo that decides, for controls of a scope algo:…"""
TIMES = ("gtc", "ioc", "fok", "gtd", "day", "post_only")
EXPIRING = ("gtd", "post_only")
"""The times in force of orders that may end at an instant of their own."""


class Intent(NamedTuple):
    """An order that is about to be sent, or what a replace makes of one."""

    account: str
    venue: str
    instrument: str
    source: str
    side: str | None
    order_type: str | None
    time_in_force: str
    price: Decimal | None
    quantity: Decimal | None
    is_reduce_only: bool = False
    decided_ms: int = 0
    expires_ms: int | None = None
    max_notional_usd: float | None = None
    traded: Decimal = Decimal(0)  # of a replace: what has traded already
    is_mmp: bool = False

    @property
    def left(self) -> Decimal:
        """What it may trade."""
        return max((self.quantity or Decimal(0)) - self.traded, Decimal(0))

    @property
    def signed(self) -> Decimal:
        """Likewise, negative to sell."""
        return self.left if self.side == "buy" else -self.left


class View(NamedTuple):
    """What is known when an order is checked."""

    now_ms: int
    contract: Tradable | None = None
    mark: Mark = Mark()
    held: Held | None = None  # why the gate holds the order
    is_restricted: bool = False
    position: Decimal = Decimal(0)  # contracts, with fills that are not booked yet; short is negative
    buying: Decimal = Decimal(0)  # contracts of the other open orders on the instrument
    selling: Decimal = Decimal(0)
    free_usd: float | None = None  # equity less initial margin less what is kept back for others
    kept_usd: float = 0.0  # what is kept back for the order already, of which a replace changes something
    open_orders: int = 0
    lately: int = 0  # requests within the last second
    alike_lately: int = 0
    unprotected: str | None = None  # why market-maker protection refuses the order

    def is_exit(self, intent: Intent) -> bool:
        """Whether the order makes the position smaller for certain, whatever else fills."""
        against = self.selling if intent.side == "sell" else self.buying
        return self.position * intent.signed < 0 and intent.left + against <= abs(self.position)

    def limit(self, intent: Intent, limits: Limits) -> float | None:
        """The worst price at which the order may fill, of a market order that of the collar; None where there is none."""
        price = None if intent.price is None else float(intent.price)
        band = self.collar(limits)
        return price if band is None or intent.side is None else capped(band, intent.side, price)

    def collar(self, limits: Limits) -> Band | None:
        """The prices at which orders may be; None without a mark."""
        if self.contract is None or self.mark.price is None or self.mark.price <= 0:
            return None
        return around(self.mark.price, limits.collars[self.contract.kind])


class Refusal(NamedTuple):
    """Which check refuses, and why."""

    rule: str
    reason: str


def act_of(intent: Intent, view: View) -> Act:
    """What an order does, in the words of the gate."""
    if intent.source == "liquidation":
        return Act.LIQUIDATE
    return Act.REDUCE if view.is_exit(intent) else Act.INCREASE


def request_of(intent: Intent, view: View) -> Request:
    """What the gate is asked about an order."""
    underlying = "" if view.contract is None else view.contract.underlying
    algo = ALGOS.get(intent.source, "")
    return Request(act_of(intent, view), intent.venue, intent.instrument, underlying, intent.account, algo)


def refusal(intent: Intent, view: View, limits: Limits, exempt: frozenset[str] = frozenset()) -> Refusal | None:
    """The first check that refuses an order, of those that it is not exempt from; None where it may leave."""
    for rule, check in CHECKS.items():
        if rule not in exempt and (reason := check(intent, view, limits)) is not None:
            return Refusal(rule, reason)
    return None


def _gate(_: Intent, view: View, __: Limits) -> str | None:
    return None if view.held is None else f"{view.held.kind}: {view.held.why}"


def _form(intent: Intent, _: View, __: Limits) -> str | None:
    if intent.side not in SIDES:
        return f"side {intent.side}, not buy or sell"
    if intent.order_type not in TYPES:
        return f"order_type {intent.order_type}, not market or limit"
    if intent.time_in_force not in TIMES:
        return f"time_in_force {intent.time_in_force}, not {', '.join(TIMES[:-1])} or {TIMES[-1]}"
    if intent.quantity is None or intent.quantity <= 0:
        return f"quantity {_shown(intent.quantity)}, not above zero"
    if intent.order_type == "limit" and (intent.price is None or intent.price <= 0):
        return f"a limit order at {_shown(intent.price)}, not above zero"
    if intent.order_type == "market" and (intent.price is not None or intent.time_in_force == "post_only"):
        return "a market order with a limit, or that never takes"
    if intent.time_in_force == "gtd" and intent.expires_ms is None:
        return "gtd without expires_at"
    if intent.expires_ms is not None and intent.time_in_force not in EXPIRING:
        return f"expires_at of {intent.time_in_force}: it is for {' and '.join(EXPIRING)}"
    if intent.left <= 0:
        return f"quantity {_shown(intent.quantity)}, of which {_shown(intent.traded)} has traded"
    return None


def _age(intent: Intent, view: View, limits: Limits) -> str | None:
    age_s = (view.now_ms - intent.decided_ms) / 1000
    if age_s > limits.max_age_s:
        return f"decided {age_s:g} s ago, more than {limits.max_age_s:g} s"
    if age_s < -limits.max_ahead_s:
        return f"decided {-age_s:g} s in the future, more than {limits.max_ahead_s:g} s"
    if intent.expires_ms is not None and intent.expires_ms <= view.now_ms:
        return f"expired {(view.now_ms - intent.expires_ms) / 1000:g} s ago"
    return None


def _instrument(_: Intent, view: View, __: Limits) -> str | None:
    if view.contract is None:
        return "its terms are not known"
    if view.is_restricted:
        return "it is restricted"
    end_ms = view.contract.end_ms
    if end_ms is not None and end_ms <= view.now_ms:
        return f"its trading ended {(view.now_ms - end_ms) / 1000:g} s ago"
    return None


def _mmp(_: Intent, view: View, __: Limits) -> str | None:
    return view.unprotected


def _grid(intent: Intent, view: View, _: Limits) -> str | None:
    assert view.contract is not None
    for what, number, step in (
        ("price", intent.price, view.contract.tick_size),
        ("quantity", intent.quantity, view.contract.lot_size),
    ):
        if number is not None and step and EXACT.remainder(number, Decimal(repr(step))):
            return f"{what} {number:f} is no multiple of {step:g}"
    return None


def _size(intent: Intent, _: View, limits: Limits) -> str | None:
    assert intent.quantity is not None
    too_much = float(intent.quantity) > limits.max_quantity
    return f"{intent.quantity:f} contracts, more than {limits.max_quantity:g}" if too_much else None


def _collar(intent: Intent, view: View, limits: Limits) -> str | None:
    mark, band = view.mark, view.collar(limits)
    if band is None or mark.price is None or mark.price <= 0:
        return "its mark is not known" if mark.price is None else f"its mark {mark.price:g} is not above zero"
    assert view.contract is not None
    age_s = (view.now_ms - mark.event_ms) / 1000
    max_age_s = limits.max_mark_age_s
    if limits.mark_ages_s:
        max_age_s = limits.mark_ages_s.get(f"{intent.venue}:{view.contract.underlying}", max_age_s)
    if age_s > max_age_s:
        return f"its mark is {age_s:g} s old, more than {max_age_s:g} s"
    if age_s < -limits.max_ahead_s:
        return f"its mark is {-age_s:g} s in the future, more than {limits.max_ahead_s:g} s"
    if view.limit(intent, limits) is not None:
        return None
    edge = f"above {band.upper:g}" if intent.side == "buy" else f"below {band.lower:g}"
    return f"limit {_shown(intent.price)} is {edge}, for the mark is {mark.price:g}"


def _notional(intent: Intent, view: View, limits: Limits) -> str | None:
    assert view.contract is not None
    price = view.limit(intent, limits)
    worth = None if price is None else notional_usd(view.contract, view.mark, intent.left, price)
    if worth is None:
        return "no price in USD is known"
    limit = min(
        limits.max_notional_usd, limits.max_notional_usd if intent.max_notional_usd is None else intent.max_notional_usd
    )
    return f"{worth:.2f} USD, more than {limit:.2f}" if worth > limit else None


def _position(intent: Intent, view: View, limits: Limits) -> str | None:
    assert view.contract is not None
    if view.is_exit(intent):
        return None
    if intent.is_reduce_only:
        return None  # matching keeps it from turning the position round
    others = view.buying if intent.side == "buy" else -view.selling
    most, price = abs(view.position + others + intent.signed), view.limit(intent, limits)
    worth = None if price is None else notional_usd(view.contract, view.mark, most, price)
    if worth is None:
        return "no price in USD is known"
    limit = limits.max_position_usd
    return f"it could make a position of {most:f}, {worth:.2f} USD, more than {limit:.2f}" if worth > limit else None


def _credit(intent: Intent, view: View, limits: Limits) -> str | None:
    assert view.contract is not None
    if view.is_exit(intent) or intent.is_reduce_only:
        return None
    if view.free_usd is None:
        return "the account's margin is not known"
    price = view.limit(intent, limits)
    needed = None if price is None else reserve_usd(view.contract, view.mark, intent.side, intent.left, price, limits)
    if needed is None:
        return "no price in USD is known"
    return (
        f"it needs {needed:.2f} USD, of which {view.free_usd:.2f} is free"
        if needed > max(view.free_usd, view.kept_usd)
        else None
    )


def _open(_: Intent, view: View, limits: Limits) -> str | None:
    has_room = view.open_orders < limits.max_open_orders
    return None if has_room else f"{view.open_orders} orders are open, at most {limits.max_open_orders} may be"


def _rate(_: Intent, view: View, limits: Limits) -> str | None:
    most = limits.requests_a_second
    return f"{view.lately} requests within a second, at most {most} may be" if view.lately >= most else None


def _duplicate(_: Intent, view: View, limits: Limits) -> str | None:
    most = limits.same_orders_a_second
    return f"{view.alike_lately} orders like it within a second, at most {most} may be" if view.alike_lately >= most else None


def _shown(number: Decimal | None) -> str:
    return "NULL" if number is None else f"{number:f}"


Check = Callable[[Intent, View, Limits], str | None]
CHECKS: dict[str, Check] = {
    "gate": _gate,
    "form": _form,
    "age": _age,
    "instrument": _instrument,
    "mmp": _mmp,
    "grid": _grid,
    "size": _size,
    "collar": _collar,
    "notional": _notional,
    "position": _position,
    "credit": _credit,
    "open_orders": _open,
    "rate": _rate,
    "duplicate": _duplicate,
}
"""The checks in their order; those behind `instrument` know that there are terms."""
