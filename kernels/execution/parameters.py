"""What is wanted of a large order: its parameters, checked, and the slices that follow from them."""

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import accumulate
from typing import Any, NamedTuple

from kernels.market.terms import Tradable
from kernels.matching.rules import RULES as OWN_VENUE
from kernels.orders.executions import EXACT
from kernels.orders.ids import LENGTH
from kernels.orders.intake import on_grid
from schemas.rows import instant_ms, to_ms
from udfs import execution_schedules as schedules

ALGORITHMS = ("twap", "vwap", "pov", "iceberg")
REQUESTS = ("new", "pause", "resume", "cancel")
SIDES = ("buy", "sell")
URGENCIES = REST, TAKE = ("rest", "take")
END_RULES = ("cancel", TAKE)
MINUTE_MS, DAY_MS = 60_000, 86_400_000
SLICE_MS = 1_000
"""No two slices of a schedule are closer, for parents are looked at once a second."""
POV_SLICES = 20
TAKING_PART = 20
"""With the end rule `take`, an order without slices takes in the last of so many parts of its time."""
MOST_SLICES = 100_000


class Refusal(NamedTuple):
    """Which column is wrong, and why."""

    rule: str
    reason: str


class Plan(NamedTuple):
    """A large order whose parameters are good.  Quantities are in lots, each `lot` contracts."""

    algorithm: str
    side: str
    lots: int
    lot: Decimal
    tick: float | None
    least: int  # the smallest order that the venue takes
    start_ms: int
    end_ms: int
    limit: Decimal | None  # on the grid of prices
    urgency: str
    taking_ms: int | None  # from when on it takes, whatever its urgency; None: never
    rate: Decimal | None  # of what others trade
    usual: int  # a slice of pov, or what an iceberg shows
    starts: tuple[int, ...]  # of slices, in ms; of pov and an iceberg none
    sizes: tuple[int, ...]
    targets: tuple[int, ...]  # the lots of all up to each
    depth_share: float | None
    wide_spread: float | None
    is_reduce_only: bool
    has_own_trades: bool  # whether the venue's trades have our own among them

    @property
    def quantity(self) -> Decimal:
        """Contracts."""
        return self.lots * self.lot

    def slot(self, now_ms: int) -> int:
        """The slice whose time it is; -1 before the first.  Without slices each second is one."""
        if not self.starts:
            return now_ms // SLICE_MS
        low, high = 0, len(self.starts)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.starts[middle] <= now_ms else (low, middle)
        return low - 1

    def usual_size(self, slot: int) -> int:
        """The lots of a slice that is in time."""
        return (self.sizes[slot] if slot >= 0 else 0) if self.starts else self.usual

    def most(self, slot: int) -> int:
        """The most lots of one slice: more than usual where it is behind."""
        if self.algorithm == "iceberg":
            return self.usual
        return schedules.catch_up(self.usual_size(slot))

    @property
    def bucket(self) -> Decimal:
        """How much participation that is not used piles up, in contracts: no burst follows a stall."""
        return schedules.catch_up(max(self.sizes, default=self.usual)) * self.lot


def wrong_form(row: Mapping[str, Any]) -> Refusal | None:
    """What a request of any kind lacks."""
    name = row["parent_client_order_id"]
    if not (0 < len(name) <= LENGTH and name.isascii() and name.isalnum()):
        return Refusal("parent_client_order_id", f"expected up to {LENGTH} letters and digits, got {name!r}")
    if row["request"] not in REQUESTS:
        return Refusal("request", f"expected new, pause, resume or cancel, got {row['request']!r}")
    return None


def planned(row: Mapping[str, Any], contract: Tradable | None, now_ms: int) -> Plan | Refusal:
    """The plan of a checked row of `execution_parents`, or the first column that is wrong.

    now_ms  when the request is taken: an order whose time is over then is refused
    """
    if contract is None:
        return Refusal("instrument", f"the terms of {row['venue']}:{row['instrument']} are not known")
    for column, allowed in (("algorithm", ALGORITHMS), ("side", SIDES)):
        if row.get(column) not in allowed:
            return Refusal(column, f"expected {', '.join(allowed[:-1])} or {allowed[-1]}, got {row.get(column)!r}")
    for column, allowed in (("urgency", URGENCIES), ("end_rule", END_RULES)):
        if row.get(column) is not None and row[column] not in allowed:
            return Refusal(column, f"expected {', '.join(allowed)} or NULL, got {row[column]!r}")
    sizes = _sizes(row, contract)
    if isinstance(sizes, Refusal):
        return sizes
    lot, lots, least, shown = sizes
    times = _times(row, contract, now_ms)
    if isinstance(times, Refusal):
        return times
    if (wrong := _wrong_figure(row) or _wrong_limit(row, contract)) is not None:
        return wrong
    slices = _slices(row, lots, least, *times)
    if isinstance(slices, Refusal):
        return slices
    return _plan(row, contract, (lots, lot, least, shown), times, slices)


def _plan(
    row: Mapping[str, Any],
    contract: Tradable,
    sizes: tuple[int, Decimal, int, int],
    times: tuple[int, int],
    slices: tuple[tuple[int, ...], tuple[int, ...]],
) -> Plan:
    lots, lot, least, shown = sizes
    starts, of_slices = slices
    start_ms, end_ms = times
    is_pov, limit, rate = row["algorithm"] == "pov", _limit(row, contract), row.get("participation")
    taking_ms = starts[-1] if starts else end_ms - (end_ms - start_ms) // TAKING_PART
    return Plan(
        row["algorithm"],
        row["side"],
        lots,
        lot,
        contract.tick_size,
        least,
        start_ms,
        end_ms,
        limit,
        REST if row["algorithm"] == "iceberg" else row.get("urgency") or REST,
        taking_ms if row.get("end_rule") == TAKE else None,
        None if rate is None else Decimal(repr(rate)),
        max(-(-lots // (row.get("slice_count") or POV_SLICES)), least) if is_pov else shown,
        starts,
        of_slices,
        tuple(accumulate(of_slices)),
        row.get("depth_share"),
        row.get("wide_spread"),
        bool(row.get("is_reduce_only")),
        row["venue"] not in OWN_VENUE.fees,  # its orders trade among themselves
    )


def _sizes(row: Mapping[str, Any], contract: Tradable) -> tuple[Decimal, int, int, int] | Refusal:
    """The lot in contracts; and in lots the order, the smallest order, and what is shown."""
    quantity, least, shown = (_number(row.get(name)) for name in ("quantity", "min_quantity", "display_quantity"))
    if quantity is None or quantity <= 0:
        return Refusal("quantity", f"expected contracts above zero, got {quantity}")
    if contract.lot_size:
        lot = Decimal(repr(contract.lot_size))
    elif least is not None and least > 0:
        lot = least
    else:
        return Refusal("min_quantity", "the venue publishes no lot size: expected the smallest order, which is taken for it")
    least = lot if least is None else least
    shown = least if shown is None else shown
    for name, number in (("quantity", quantity), ("min_quantity", least), ("display_quantity", shown)):
        if number <= 0 or EXACT.remainder(number, lot):
            return Refusal(name, f"expected a multiple of the lot, {lot:f}, above zero, got {number:f}")
    if quantity < least:
        return Refusal("quantity", f"{quantity:f} is below the smallest order, {least:f}")
    if row["algorithm"] == "iceberg":
        if row.get("display_quantity") is None:
            return Refusal("display_quantity", "an iceberg needs one, got NULL")
        if not least <= shown <= quantity:
            return Refusal("display_quantity", f"expected from {least:f} to the quantity, {quantity:f}, got {shown:f}")
    return lot, int(EXACT.divide(quantity, lot)), int(EXACT.divide(least, lot)), int(EXACT.divide(shown, lot))


def _times(row: Mapping[str, Any], contract: Tradable, now_ms: int) -> tuple[int, int] | Refusal:
    """Start and end in ms."""
    start_ms = to_ms(row["event_at"] if row.get("start_at") is None else row["start_at"])
    end_ms = (start_ms // DAY_MS + 1) * DAY_MS if row.get("end_at") is None else to_ms(row["end_at"])
    if contract.end_ms is not None and contract.end_ms < end_ms:
        end_ms = contract.end_ms
    if end_ms <= start_ms:
        return Refusal("end_at", f"{instant_ms(end_ms)} is not after the start, {instant_ms(start_ms)}")
    if end_ms <= now_ms:
        return Refusal("end_at", f"{instant_ms(end_ms)} is over")
    return start_ms, end_ms


_FIGURES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "limit_price": ("above zero", lambda value: value > 0),
    "decision_price": ("above zero", lambda value: value > 0),
    "participation": ("a fraction above 0, up to 1", lambda value: 0 < value <= 1),
    "slice_count": (f"from 1 to {MOST_SLICES:,}", lambda value: 1 <= value <= MOST_SLICES),
    "depth_share": ("a fraction above 0, up to 1", lambda value: 0 < value <= 1),
    "wide_spread": ("above zero", lambda value: value > 0),
}


def _wrong_figure(row: Mapping[str, Any]) -> Refusal | None:
    for column, (expected, is_good) in _FIGURES.items():
        number = row.get(column)
        if number is not None and not is_good(float(number)):
            return Refusal(column, f"expected {expected}, got {number}")
    for column, algorithm in (("participation", "pov"), ("limit_price", "iceberg")):
        if row["algorithm"] == algorithm and row.get(column) is None:
            return Refusal(column, f"{algorithm} needs one, got NULL")
    return None


def _limit(row: Mapping[str, Any], contract: Tradable) -> Decimal | None:
    """The limit on the grid of prices, towards less."""
    if (limit := row.get("limit_price")) is None:
        return None
    return on_grid(Decimal(str(limit)), contract.tick_size, ROUND_FLOOR if row["side"] == "buy" else ROUND_CEILING)


def _wrong_limit(row: Mapping[str, Any], contract: Tradable) -> Refusal | None:
    if (limit := _limit(row, contract)) is None or limit > 0:
        return None
    return Refusal("limit_price", f"expected at least a tick, {contract.tick_size:g}, got {row['limit_price']}")


def _slices(
    row: Mapping[str, Any], lots: int, least: int, start_ms: int, end_ms: int
) -> tuple[tuple[int, ...], tuple[int, ...]] | Refusal:
    """When each slice begins, in ms, and its lots."""
    length_ms = end_ms - start_ms
    if row["algorithm"] == "twap":
        count = row.get("slice_count") or -(-length_ms // MINUTE_MS)
        sizes = schedules.even(lots, min(count, -(-length_ms // SLICE_MS), MOST_SLICES), least)
        return tuple(start_ms + length_ms * number // len(sizes) for number in range(len(sizes))), tuple(sizes)
    if row["algorithm"] != "vwap":
        return (), ()
    profile = row.get("volume_profile") or []
    is_within = all(0 <= seconds * 1000 < length_ms for seconds, _ in profile)
    starts = [start_ms + round(seconds * 1000) for seconds, _ in profile] if is_within else [end_ms]
    volumes = [volume for _, volume in profile]
    gaps = [later - earlier for earlier, later in zip(starts, [*starts[1:], end_ms], strict=False)]
    if not profile or starts[0] != start_ms or min(gaps) < SLICE_MS or min(volumes) < 0 or not sum(volumes):
        expected = "expected [seconds, volume] of parts of a second at least, from 0 on, before the end, not all without volume"
        return Refusal("volume_profile", f"{expected}; got {str(profile)[:60]}")
    return tuple(starts), tuple(schedules.slices(lots, volumes, least))


def digits(number: Decimal) -> str:
    """A number as rows have it."""
    return f"{number.normalize(EXACT):f}"


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))
