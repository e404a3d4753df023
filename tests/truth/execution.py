"""Cases of execution: shortfall by Perold, the CFA curriculum and Wagner, and the slices of a schedule."""

from typing import Any

from tests.truth.answers import agrees
from udfs import execution_quality as quality
from udfs import execution_schedules as schedules


def shortfall(given: Any) -> dict[str, Any]:
    """In amounts, and in percent of the order at the decision's price."""
    released, last = given.get("benchmark_day2", given.get("arrival")), given.get("close_of_unfilled", given.get("end_price"))
    size, decision, fees = given["size"], given["decision"], given.get("fees", 0)
    parts = quality.shortfall(given["side"], size, decision, given["fills"], released=released, last=last, fees=fees)
    amounts = {"delay": parts.delay, "realised": parts.realised, "missed": parts.missed, "explicit": parts.fees}
    amounts["total"] = parts.total
    percent = {f"{name}_pct": 100 * amount / (size * decision) for name, amount in amounts.items()}
    return amounts | percent | {"fees": parts.fees, "fees_pct": percent["explicit_pct"], "pct": percent["total_pct"]}


def perold(given: Any) -> dict[str, Any]:
    parts = quality.shortfall(
        given["side"], given["size"], given["decision"], given["fills"], last=given.get("end_price"), fees=given.get("fees", 0)
    )
    execution = parts.delay + parts.realised
    return {"execution": execution, "opportunity": parts.missed, "fees": parts.fees, "total": parts.total}


def wagner(given: Any) -> dict[str, Any]:
    side, arrival, last = given["side"], given["arrival"], given["end_price"]
    parts = quality.wagner(side, given["size"], given["decision"], arrival, given["fills"], last, given.get("fees", 0))
    filled, _ = quality.traded(given["fills"])
    of_traded = parts.delay * filled / given["size"]
    delays = {"delay": parts.delay, "delay_traded": of_traded, "delay_untraded": parts.delay - of_traded}
    return delays | {"trading": parts.realised, "opportunity": parts.missed, "fees": parts.fees, "total": parts.total}


def complete(given: Any) -> dict[str, Any]:
    D, last, size = quality.sign(given["side"]), given["end_price"], given["size"]
    paper = D * size * (last - given["decision"])
    total = quality.shortfall(
        given["side"], size, given["decision"], given["fills"], last=last, fees=given.get("fees", 0)
    ).total
    return {"paper": paper, "actual": paper - total, "total": total}


def market_activity(given: Any) -> dict[str, Any]:
    arrival, last = given["arrival"], given["end_price"]
    parts = quality.wagner(given["side"], given["size"], arrival, arrival, given["fills"], last, given.get("fees", 0))
    return {"trading": parts.realised, "opportunity": parts.missed, "fees": parts.fees, "total": parts.total}


def market_adjusted(given: Any) -> dict[str, Any]:
    side = given.get("side", "buy")
    return {"adjusted_pct": quality.market_adjusted(given["shortfall_pct"], given["market_return_pct"], given["beta"], side)}


def capture(given: Any) -> dict[str, Any]:
    captured, total = quality.capture_shortfall(given["side"], given["size"], given["decision"], given["fills"])
    return {"capture": captured, "total": total}


def vwap_schedule(given: Any) -> dict[str, Any]:
    return _schedule(given, given["volume_curve"])


def twap_schedule(given: Any) -> dict[str, Any]:
    count = next(given[name] for name in ("slices", "slice_count", "count", "n") if name in given)
    lots, lot, least = _lots(given)
    return _told(schedules.even(lots, count, least), lot)


def pov(given: Any) -> dict[str, Any]:
    lots, lot, least = _lots(given)
    sizes = schedules.of_volume(lots, given["rate"], [volume / lot for volume in given["volume_seen"]], least)
    return {"slices": [_number(size * lot) if size else None for size in sizes], "done": sum(sizes) == lots}


def iceberg(given: Any) -> dict[str, Any]:
    lots, lot, least = _lots(given)
    return _told(schedules.shown(lots, round(given["visible"] / lot), least), lot)


def average_price(given: Any) -> dict[str, Any]:
    return {"avg_px": quality.average_price(given["fills"])}


def to_printed_digits(got: Any, expected: Any) -> bool:
    """Percent are printed with two digits after the point; other figures are exact."""
    percent = {name: value for name, value in expected.items() if name.endswith("pct")}
    others = {name: value for name, value in expected.items() if name not in percent}
    return agrees(got, others) and all(abs(got[name] - value) <= 0.005 + 1e-9 for name, value in percent.items())


def _lots(given: Any) -> tuple[int, float, int]:
    lot = given.get("lot", given.get("lot_size", 1))
    return round(given["size"] / lot), lot, max(1, round(given.get("min_slice", given.get("min_size", lot)) / lot))


def _schedule(given: Any, weights: list[float]) -> dict[str, Any]:
    lots, lot, least = _lots(given)
    return _told(schedules.slices(lots, weights, least), lot)


def _told(sizes: list[int], lot: float) -> dict[str, Any]:
    slices = [_number(size * lot) for size in sizes if size]
    return {"slices": slices, "skipped": [number for number, size in enumerate(sizes) if not size], "sum": sum(slices)}


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


ANSWERS = {
    "implementation_shortfall": shortfall,
    "implementation_shortfall_perold": perold,
    "implementation_shortfall_wagner": wagner,
    "implementation_shortfall_complete": complete,
    "market_activity_shortfall": market_activity,
    "market_adjusted_shortfall": market_adjusted,
    "capture_shortfall": capture,
    "vwap_schedule": vwap_schedule,
    "twap_schedule": twap_schedule,
    "twap": twap_schedule,
    "pov": pov,
    "iceberg": iceberg,
    "average_price": average_price,
}
AGREES = {"implementation_shortfall": to_printed_digits}
