"""Bands and breakers: what the product answers to the cases of breakers_and_bands.json."""

import re
from collections.abc import Callable
from typing import Any

from udfs import bands, breaker_rules
from udfs.bands import Band
from udfs.breakers import Deviation, Dynamic, MarketWide, Prices, Protection, SessionLimit, Variation

LULD = {"2012 plan": "luld_2012", "since 2019": "luld_2019"}
RULES = {rule.name: rule for rule in breaker_rules.rule_set("published")}


def limits(band: Band) -> dict[str, Any]:
    return {"lower": band.lower, "upper": band.upper}


def luld(given: dict[str, Any]) -> dict[str, Any]:
    steps = breaker_rules.luld_steps(LULD[given.get("rule", "since 2019")])
    band = bands.luld_band(given["reference"], steps, given["tier"], given["period"], given.get("leverage", 1))
    return {**limits(band), "breached": "price" in given and band.is_broken(given["price"])}


def market_wide_level(given: dict[str, Any]) -> float:
    condition = RULES["market-wide"].condition
    assert isinstance(condition, MarketWide)
    fraction, _ = condition.levels[given["level"] - 1]
    return bands.fallen(given["close"], fraction, given.get("rounding", "nearest"))


def price_band(given: dict[str, Any]) -> dict[str, Any]:
    band = bands.around(given["mark"] if "mark" in given else given["index"], given["band"])
    return {**limits(band), "highest_buy": band.upper, "lowest_sell": band.lower}


def price_band_order(given: dict[str, Any]) -> Any:
    """What becomes of an order; of one without a price with the limit that it gets."""
    limit = bands.capped(bands.around(given["mark"], given["band"]), given["side"], given.get("price"))
    result = "rejected" if limit is None else "accepted"
    return result if "price" in given else {"result": result, "limit_price": limit}


def order_price_protection(given: dict[str, Any]) -> dict[str, Any]:
    most, low, high = map(float, re.findall(r"(\d+(?:\.\d+)?)(?=:| %)", given["rule"]))
    is_buy = given["side"] == "buy"
    steps = Protection(((most, low / 100), (None, high / 100))).steps
    band = bands.protection(given["ask" if is_buy else "bid"], given["side"], steps)
    result = "rejected" if band.is_broken(given["price"], given["side"]) else "accepted"
    return {"threshold": band.upper if is_buy else band.lower, "result": result}


def price_range(given: dict[str, Any]) -> dict[str, Any]:
    sides = {side: bands.multiplied(given["reference"], given[f"{side}_mult"]) for side in ("bid", "ask")}
    return {side: [band.lower, band.upper] for side, band in sides.items()}


def maker_band(given: dict[str, Any]) -> dict[str, Any]:
    return {"breached": bands.maker_band(given["oracle"], given["band"]).is_broken(given["limit_price"], given["side"])}


def fill_band(given: dict[str, Any]) -> dict[str, Any]:
    band = bands.fill_band(given["oracle"], given["twap_5min"], given["band_oracle"], given["band_twap"])
    return {"valid": not band.is_broken(given["fill_price"])}


def deviation_breaker(given: dict[str, Any]) -> dict[str, Any]:
    """The breaker stays broken until it is reset by hand."""
    condition, last, broken = Deviation(given["factor"]), None, [False]
    for price in given["steps"]:
        is_broken = broken[-1] or condition.check(Prices(price=price, last=last)) is not None
        broken.append(is_broken)
        last = last if is_broken else price
    return {"broken": broken[1:]}


def advantage_limit_in_ticks(given: dict[str, Any]) -> dict[str, Any]:
    ticks = tuple((start, end, tick) for start, end, tick in given["tick_table"])
    condition = Variation(given["limit_ticks"], given["at"], ticks)
    distance, counts = bands.variation(given["side"], given["reference"], given["price"], given["at"], ticks)
    return {"ticks": distance, "alert": condition.is_beyond(distance, counts)}


def disadvantage_limit(given: dict[str, Any]) -> dict[str, Any]:
    prices = Prices(price=given["price"], last=given["reference"], side=given["side"])
    return {"alert": Variation(given["limit"], bands.DISADVANTAGE, None).check(prices) is not None}


def dynamic_circuit_breaker(given: dict[str, Any]) -> dict[str, Any]:
    variant = bands.whole_ticks(given["settlement"], given["percent"], given["tick"])
    band = bands.dynamic_band(variant, given["window_high"], given["window_low"])
    condition = RULES["cme-dynamic"].condition
    assert isinstance(condition, Dynamic)
    halts = {"halt_seconds": condition.halt_s, "halt_seconds_last_5_minutes": condition.late_halt_s}
    return {"variant": variant, "highest_bid": band.upper, "lowest_ask": band.lower, **halts}


def equity_index_limit(given: dict[str, Any]) -> dict[str, Any]:
    references = {name.removeprefix("reference_"): price for name, price in given.items() if name.startswith("reference_")}
    condition = RULES[f"es {given['period']}"].condition
    assert isinstance(condition, SessionLimit)
    band = bands.session_band(references, condition.up, condition.down)
    return {"up": band.upper, "down": band.lower}


ANSWERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "luld_band": luld,
    "luld_breach": luld,
    "market_wide_level": market_wide_level,
    "price_band": price_band,
    "price_band_order": price_band_order,
    "order_price_protection": order_price_protection,
    "price_range": price_range,
    "maker_band": maker_band,
    "fill_band": fill_band,
    "deviation_breaker": deviation_breaker,
    "advantage_limit_in_ticks": advantage_limit_in_ticks,
    "disadvantage_limit": disadvantage_limit,
    "dynamic_circuit_breaker": dynamic_circuit_breaker,
    "equity_index_limit": equity_index_limit,
}
"""By the kind of a case, what answers it."""
