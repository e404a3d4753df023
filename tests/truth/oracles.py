"""Cases of oracles: aggregates, validity, and prices with exponents."""

import re
from typing import Any

from udfs import oracle_validity, oracles, scaled_prices
from udfs.scaled_prices import ScaledPrice

UNITS = {"1": 1, "1K": 1_000, "1M": 1_000_000}
DRIFT = {
    "non_positive": "NonPositive",
    "too_volatile": "TooVolatile",
    "too_uncertain": "TooUncertain",
    "stale_for_margin": "StaleForMargin",
    "insufficient_data": "InsufficientDataPoints",
    "stale": "StaleForAMM",
    "valid": "Valid",
}


def pyth_aggregate(inputs: Any) -> Any:
    slot = inputs["current_slot"]
    quotes = [
        oracles.SlotQuote(quote["price"], quote["conf"], quote["status"], slot + (quote.get("slot_diff") or 0))
        for quote in inputs["quotes"]
    ]
    price, confidence, used = oracles.pyth_aggregate(quotes, slot + 1, inputs.get("min_publishers", 1))
    status = "unknown" if price is None else "trading"
    return {"exponent": inputs["exponent"], "price": price or 0, "conf": confidence or 0, "status": status, "used": used}


def capped_median_weighted(inputs: Any) -> Any:
    answer = oracles.capped_mean(inputs["prices"], inputs["cap"], inputs.get("weights"))
    return answer and {"median": answer.median, "capped": answer.capped, "index": answer.mean}


def weighted_by_depth(inputs: Any) -> Any:
    return {"index": oracles.weighted_mean(inputs["prices"], inputs["depth"])}


def validity(inputs: Any) -> Any:
    limits = inputs["limits"]
    answer = oracle_validity.validity(
        inputs["price"],
        inputs["last_twap"],
        inputs["confidence"],
        inputs["delay_slots"],
        oracle_validity.Limits(
            limits["slots_stale_for_amm"],
            limits["slots_stale_for_margin"],
            limits["confidence_max_ratio"],
            limits["too_volatile_ratio"],
        ),
        inputs.get("has_sufficient_number_of_data_points", True),
    )
    return DRIFT[answer]


def scale_to_exponent(inputs: Any) -> Any:
    answer = scaled_prices.at_exponent(ScaledPrice(inputs["price"], inputs["conf"], inputs["expo"]), inputs["target"])
    return answer and list(answer)


def product(inputs: Any) -> Any:
    answer = scaled_prices.product(ScaledPrice(*inputs["a"]), ScaledPrice(*inputs["b"]))
    return answer and list(answer)


def quotient(inputs: Any) -> Any:
    answer = scaled_prices.quotient(ScaledPrice(*inputs["a"]), ScaledPrice(*inputs["b"]))
    return answer and list(answer)


def is_quotient(got: Any, expected: Any) -> bool:
    """To one unit, and the confidence to 2e-5 of itself: the library drops digits first."""
    if got is None or expected is None:
        return got is expected
    price, confidence = abs(got[0] - expected[0]), abs(got[1] - expected[1])
    return bool(price <= 1 and confidence <= max(1, 2e-5 * expected[1]) and got[2] == expected[2])


def posted_update(inputs: Any) -> Any:
    unit, decimals = re.fullmatch(r"per ([\d,]+) tokens?, (\d+) decimals", inputs["unit"]).groups()  # type: ignore[union-attr]
    scale = inputs["exponent"], int(unit.replace(",", "")), int(decimals)
    return {
        "price": scaled_prices.per_unit(inputs["price"], *scale),
        "twap": scaled_prices.per_unit(inputs["ema_price"], *scale),
    }


ANSWERS = {
    "pyth_aggregate": pyth_aggregate,
    "chainlink_median": lambda inputs: oracles.upper_median(inputs["prices"]),
    "capped_median_weighted": capped_median_weighted,
    "capped_median_mean": capped_median_weighted,
    "weighted_by_depth": weighted_by_depth,
    "oracle_validity": validity,
    "too_far_from_twap": lambda inputs: oracle_validity.is_far_from_average(
        inputs["oracle"], inputs["twap_5min"], inputs["limit"]
    ),
    "scale_to_exponent": scale_to_exponent,
    "product_of_two_prices": product,
    "quotient_of_two_prices": quotient,
    "real_posted_update": posted_update,
    "multiple_of_unit": lambda inputs: scaled_prices.per_unit(
        inputs["price"], inputs["exponent"], UNITS[inputs["unit"]], inputs["decimals"]
    ),
}
AGREES = {"quotient_of_two_prices": is_quotient}
