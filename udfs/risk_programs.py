"""Quadratic programs: the cheapest point of a convex parabola under linear conditions, by scipy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog, minimize

FloatArray = NDArray[np.float64]

SMALL = 1e-9


class Solution(NamedTuple):
    """A minimum."""

    x: FloatArray
    value: float  # ½ x'Px + q'x


def quadratic_program(
    P: ArrayLike,
    q: ArrayLike,
    G: ArrayLike | None = None,
    h: ArrayLike | None = None,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
) -> Solution:
    """The x that minimises ½ x'Px + q'x under G x <= h, A x = b and lower <= x <= upper; P is positive semi-definite.

    Scipy's SLSQP, a sequential method whose first step is the whole program; the conditions that hold then as equations give
    the last digits.  Raises `ValueError` where shapes do not fit, P is not positive semi-definite, no x meets the conditions,
    or no minimum was reached.
    """
    P, q = np.asarray(P, dtype=np.float64), np.asarray(q, dtype=np.float64)
    n = len(q)
    if P.shape != (n, n) or not np.allclose(P, P.T):
        raise ValueError(f"expected a symmetric matrix of {n} rows, got the shape {P.shape}")
    if np.linalg.eigvalsh(P).min() < -SMALL * max(1.0, float(np.abs(P).max())):
        raise ValueError("expected a positive semi-definite matrix")
    G, h = _conditions(G, h, n)
    A, b = _conditions(A, b, n)
    for limit, sign in ((lower, -1.0), (upper, 1.0)):
        if limit is not None:
            limits = np.broadcast_to(np.asarray(limit, dtype=np.float64), (n,))
            is_given = np.isfinite(limits)
            G, h = np.vstack([G, sign * np.eye(n)[is_given]]), np.append(h, sign * limits[is_given])
    start = linprog(np.zeros(n), G, h, A, b, bounds=(None, None), method="highs")
    if start.status == 2:
        raise ValueError("no x meets the conditions")
    scale = 1.0 / max(float(np.abs(P).max(initial=0.0)), float(np.abs(q).max(initial=0.0)), 1e-300)
    conditions = []
    if len(G):
        conditions.append({"type": "ineq", "fun": lambda x: h - G @ x, "jac": lambda x: -G})
    if len(A):
        conditions.append({"type": "eq", "fun": lambda x: A @ x - b, "jac": lambda x: A})
    answer = minimize(
        lambda x: scale * (0.5 * x @ P @ x + q @ x),
        start.x if start.x is not None else np.zeros(n),
        jac=lambda x: scale * (P @ x + q),
        constraints=conditions,
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1_000},
    )
    x = _polished(np.asarray(answer.x, dtype=np.float64), P, q, G, h, A, b)
    is_met = (G @ x <= h + 1e-7 * (1.0 + np.abs(h))).all() and (np.abs(A @ x - b) <= 1e-7 * (1.0 + np.abs(b))).all()
    if not is_met or not np.isfinite(x).all() or answer.status not in (0, 8):
        raise ValueError(f"no minimum was reached: {answer.message}")
    return Solution(x, float(0.5 * x @ P @ x + q @ x))


def _conditions(matrix: ArrayLike | None, bounds: ArrayLike | None, n: int) -> tuple[FloatArray, FloatArray]:
    if matrix is None or bounds is None:
        return np.empty((0, n)), np.empty(0)
    rows, limits = np.atleast_2d(np.asarray(matrix, dtype=np.float64)), np.atleast_1d(np.asarray(bounds, dtype=np.float64))
    if rows.shape != (len(limits), n):
        raise ValueError(f"expected {len(limits)} conditions on {n} numbers, got the shape {rows.shape}")
    return rows, limits


def _polished(
    x: FloatArray, P: FloatArray, q: FloatArray, G: FloatArray, h: FloatArray, A: FloatArray, b: FloatArray
) -> FloatArray:
    """The point where the conditions that bind hold exactly, if it is one of the same program and no worse."""
    binds = h - G @ x < 1e-6 * (1.0 + np.abs(h))
    rows, limits = np.vstack([A, G[binds]]), np.append(b, h[binds])
    n, m = len(q), len(limits)
    system = np.block([[P, rows.T], [rows, np.zeros((m, m))]])
    better = np.linalg.lstsq(system, np.append(-q, limits), rcond=None)[0][:n]
    is_same = np.abs(better - x).max(initial=0.0) <= 1e-4 * (1.0 + np.abs(x).max(initial=0.0))
    is_met = (G @ better <= h + SMALL * (1.0 + np.abs(h))).all() and np.allclose(A @ better, b, atol=SMALL)
    return np.asarray(better, dtype=np.float64) if is_same and is_met else x
