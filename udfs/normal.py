"""The normal distribution for compiled loops: functions of one number that the compiler can run on a whole vector register.

A loop is vectorised only where it neither branches nor calls, so exponential, logarithm and tail are polynomials here, each
within a few units of the last place; scipy's and the C library's are calls.  With φ the density and N the distribution,

    Mills' ratio   Y(x) = N(-x)/φ(x),   Y' = x Y - 1,   Y(0) = √(π/2),   Y → 1/x

holds the whole tail as a smooth number of moderate size: a small probability is φ, which is exact, times Y.
"""

import numpy as np

from udfs.compiled import inlined

ROOT_2_PI = 2.5066282746310002

_LOG2_E = 1.4426950408889634
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUNDING = 1.5 * 2.0**52
"""Added and subtracted again it rounds to an integer, which is in the low bits in between."""
_BITS_OF_ROOT_HALF = int(np.float64(np.sqrt(0.5)).view(np.int64))


@inlined
def exp(x: float) -> float:
    """Exponential, by Taylor's series on |r| <= ln(2)/2; results beyond are the least and greatest finite numbers."""
    x = min(max(x, -708.0), 709.0)
    shifted = x * _LOG2_E + _ROUNDING
    n = shifted - _ROUNDING
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r + 1.0
    p = p * r + 1.0
    return p * float(np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64))


@inlined
def log_ratio(a: float, b: float) -> float:
    """ln(a/b) of normal numbers, as 2 artanh((a - b)/(a + b)): exact where a is close to b too, unlike their quotient."""
    n = (np.float64(a / b).view(np.int64) - _BITS_OF_ROOT_HALF) >> 52
    b = b * float(np.int64((n + 1023) << 52).view(np.float64))
    s = (a - b) / (a + b)
    z = s * s
    p = 1 / 23
    p = p * z + 1 / 21
    p = p * z + 1 / 19
    p = p * z + 1 / 17
    p = p * z + 1 / 15
    p = p * z + 1 / 13
    p = p * z + 1 / 11
    p = p * z + 1 / 9
    p = p * z + 1 / 7
    p = p * z + 1 / 5
    p = p * z + 1 / 3
    p = p * z + 1.0
    return float(n) * _LN_2_HIGH + (float(n) * _LN_2_LOW + 2.0 * s * p)


@inlined
def mills(x: float) -> float:
    """Mills' ratio for x >= 0.

    (x + 4) Y(x) as a polynomial in t = (x - 4)/(x + 4), cut from its Chebyshev series.  The method is that of Shepherd and
    Laframboise (1981), "Chebyshev approximation of (1 + 2x) exp(x²) erfc x", Mathematics of Computation 36.
    """
    y = 1.0 / (x + 4.0)
    t = (x - 4.0) * y
    p = 8.53083886026053e-10
    p = p * t + -3.0073979672398766e-10
    p = p * t + -9.35134044482434e-09
    p = p * t + -1.4722998923746307e-09
    p = p * t + 5.3711037651589576e-08
    p = p * t + 4.473060051450323e-08
    p = p * t + -2.1774195022039326e-07
    p = p * t + -4.00493929251171e-07
    p = p * t + 6.829633831673466e-07
    p = p * t + 2.568755311229722e-06
    p = p * t + -1.5787665654677373e-06
    p = p * t + -1.4843277679080294e-05
    p = p * t + 1.7963971214040778e-06
    p = p * t + 8.809573121072337e-05
    p = p * t + -4.783264259417208e-06
    p = p * t + -0.0005792693046478719
    p = p * t + 0.0003342446162328441
    p = p * t + 0.004087855681200072
    p = p * t + -0.008722295274260125
    p = p * t + -0.018900450861711257
    p = p * t + 0.15139176231244347
    p = p * t + -0.4675409629983325
    p = p * t + 0.9704095548675884
    p = p * t + -1.5237709108199835
    p = p * t + 1.8932190633084853
    return p * y
