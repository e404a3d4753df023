"""The same prices and volatilities in QuantLib and vollib, one call for each option, and in fast-vollib, one call for all.

Run by `python -m bench.pricing` with the file of the options as its argument; the answer is JSON on the standard output.
fast-vollib gets one forward and one expiry for all strikes, its fastest way, and a warm compiler.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import fast_vollib  # type: ignore[import-not-found]
import numpy as np
import QuantLib  # type: ignore[import-not-found]
from fast_vollib.jackel import jackel_iv_black  # type: ignore[import-not-found]
from vollib.black.greeks import analytical as vollib_greeks  # type: ignore[import-not-found]
from vollib.black.implied_volatility import (  # type: ignore[import-not-found]
    implied_volatility_of_undiscounted_option_price as vollib_iv,
)

ROUNDS = 5
SCALAR = 20_000


def per_s(number: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """The best rate of a few rounds, and the answer of the last."""
    answer = work()
    best = float("inf")
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        answer = work()
        best = min(best, time.perf_counter() - start_s)
    return number / best, answer


def quantlib_greeks(F: float, T: float, K: float, v: float, is_call: bool) -> tuple[float, ...]:
    kind = QuantLib.Option.Call if is_call else QuantLib.Option.Put
    calculator = QuantLib.BlackCalculator(QuantLib.PlainVanillaPayoff(kind, K), F, v * T**0.5, 1.0)
    return calculator.deltaForward(), calculator.gammaForward(), calculator.vega(T), calculator.theta(F, T), calculator.rho(T)


def quantlib_iv(F: float, T: float, K: float, price: float, is_call: bool) -> float:
    kind = QuantLib.Option.Call if is_call else QuantLib.Option.Put
    guess = QuantLib.nullDouble()
    return float(QuantLib.blackFormulaImpliedStdDev(kind, K, F, price, 1.0, 0.0, guess, 1e-12, 1000) / T**0.5)


def main() -> None:
    data = np.load(sys.argv[1])
    F, T = float(data["F"]), float(data["T"])
    K, v, price, is_call = data["K"], data["v"], data["price"], data["is_call"]
    flags = np.where(is_call, "c", "p")
    some = list(zip(K[:SCALAR].tolist(), v[:SCALAR].tolist(), price[:SCALAR].tolist(), is_call[:SCALAR].tolist(), strict=True))
    result: dict[str, float] = {}

    def iv(name: str, number: int, work: Callable[[], Any]) -> None:
        rate, answer = per_s(number, work)
        result[f"{name}_iv_per_s"] = round(rate)
        error = np.abs(np.asarray(answer) / v[:number] - 1.0)
        result[f"{name}_iv_error"] = float(np.max(np.where(np.isnan(error), np.inf, error)))

    def greeks(name: str, number: int, work: Callable[[], Any]) -> None:
        result[f"{name}_greeks_per_s"] = round(per_s(number, work)[0])

    iv("quantlib", SCALAR, lambda: [quantlib_iv(F, T, k, p, c) for k, _, p, c in some])
    greeks("quantlib", SCALAR, lambda: [quantlib_greeks(F, T, k, vol, c) for k, vol, _, c in some])
    iv("vollib", SCALAR, lambda: [vollib_iv(p, F, k, T, "c" if c else "p") for k, _, p, c in some])
    five = [getattr(vollib_greeks, name) for name in ("delta", "gamma", "vega", "theta", "rho")]
    greeks("vollib", SCALAR, lambda: [[greek("c" if c else "p", F, k, T, 0.0, vol) for greek in five] for k, vol, _, c in some])
    iv("fast_vollib", K.size, lambda: jackel_iv_black(price, F, K, T, is_call))
    greeks(
        "fast_vollib",
        K.size,
        lambda: fast_vollib.get_all_greeks(flags, F, K, T, 0.0, v, model="black", return_as="dict"),
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
