from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.udfs import smiles
from udfs import svi
from udfs.svi import Slice

VOGT = Slice(*(np.asarray(x) for x in (-0.041, 0.1331, 0.306, 0.3586, 0.4153)))

slices = st.builds(
    lambda level, b, rho, m, sigma: Slice(
        *(np.asarray(x) for x in (level * b * sigma - b * sigma * np.sqrt(1 - rho * rho), b, rho, m, sigma))
    ),
    st.floats(0.01, 10.0),
    st.floats(1e-3, 1.5),
    st.floats(-0.95, 0.95),
    st.floats(-1.0, 1.0),
    st.floats(1e-3, 2.0),
)


def row(raw: Slice) -> Any:
    return np.array([float(x) for x in raw])


def test_vogts_arbitrage_is_found(published: Any) -> None:
    case = published["svi_vogt"]
    raw = Slice(*(np.asarray(case["raw"][name]) for name in ("a", "b", "rho", "m", "sigma")))
    k = np.linspace(-1.5, 1.5, 3001)
    g = smiles.durrleman(raw, k)
    assert g.min() == pytest.approx(case["durrleman_g_min"], abs=1e-12)
    assert (k[g < 0][[0, -1]]) == pytest.approx(case["g_neg_range"], abs=1e-9)
    assert svi.g_min(row(raw)) == pytest.approx(case["durrleman_g_min"], abs=1e-6)


def test_vogts_jump_wings_are_the_published_ones(published: Any) -> None:
    wings = smiles.jump_wings(VOGT, 1.0)
    jw = published["svi_vogt"]["jw"]
    assert wings == pytest.approx([jw["v"], jw["psi"], jw["p"], jw["c"], jw["vt"]], rel=1e-12)


def test_the_end_of_the_repair_of_vogts_example_is_the_published_one(published: Any) -> None:
    free = published["svi_vogt"]["arbfree"]
    wings = smiles.jump_wings(VOGT, 1.0)
    end = smiles.from_jump_wings(wings._replace(c=np.asarray(free["c"]), least_v=np.asarray(free["vt"])), 1.0)
    half_way = np.empty(5)
    svi._towards(row(VOGT), svi.NO_SLICE, 1, 1.0, half_way)
    assert half_way == pytest.approx(row(end), rel=1e-9)
    assert svi.g_min(half_way) > 0


def test_vogts_example_is_repaired() -> None:
    repaired = smiles.without_butterflies(VOGT)
    assert smiles.durrleman(repaired, np.linspace(-5.0, 5.0, 20_001)).min() >= 0
    old, new = smiles.jump_wings(VOGT, 1.0), smiles.jump_wings(repaired, 1.0)
    assert (new.v, new.psi, new.p) == pytest.approx((old.v, old.psi, old.p), rel=1e-9)


@given(slices)
def test_a_repaired_slice_has_no_butterfly_arbitrage(raw: Slice) -> None:
    repaired = smiles.without_butterflies(raw)
    k = np.concatenate([np.linspace(-5, 5, 4001), float(raw.m) + float(raw.sigma) * np.linspace(-5, 5, 2001)])
    assert smiles.durrleman(repaired, k).min() >= 0
    assert svi.total_variance(repaired, k).min() > 0
    assert repaired.b * (1 + abs(repaired.rho)) <= svi.MAX_SLOPE
    if svi.is_free(row(raw), svi.NO_SLICE):
        assert row(repaired).tolist() == row(raw).tolist()


@given(slices, slices)
def test_a_repaired_slice_is_below_the_next_expirys(raw: Slice, after: Slice) -> None:
    later = smiles.without_butterflies(after)
    here = row(raw)
    svi.repair(here, row(later))
    k = np.concatenate([np.linspace(-5, 5, 4001), float(raw.m) + float(raw.sigma) * np.linspace(-5, 5, 2001)])
    repaired = Slice(*(np.asarray(x) for x in here))
    assert (svi.total_variance(later, k) >= svi.total_variance(repaired, k)).all()
    assert smiles.durrleman(repaired, k).min() >= 0


@given(slices, st.floats(0.0, 1.0))
def test_on_the_way_to_a_flat_smile_total_variance_is_linear(raw: Slice, share: float) -> None:
    k, mixed = np.linspace(-2, 2, 41), np.empty(5)
    svi._towards(row(raw), svi.NO_SLICE, 2, share, mixed)
    w, w0 = svi.total_variance(raw, k), svi.total_variance(raw, 0.0)
    assert svi.total_variance(Slice(*mixed), k) == pytest.approx((1 - share) * w + share * w0, rel=1e-9, abs=1e-12)


@given(slices)
def test_a_repaired_slice_keeps_its_variance_at_the_money(raw: Slice) -> None:
    expected = float(svi.total_variance(raw, 0.0))
    assert svi.total_variance(smiles.without_butterflies(raw), 0.0) == pytest.approx(expected, rel=1e-9)


@given(slices, slices)
def test_a_slice_without_butterflies_is_lowered_as_a_whole(raw: Slice, after: Slice) -> None:
    own, later = smiles.without_butterflies(raw), smiles.without_butterflies(after)
    here, k = row(own), np.linspace(-3, 3, 61)
    svi.repair(here, row(later))
    ratio = svi.total_variance(Slice(*here), k) / svi.total_variance(own, k)
    assert ratio == pytest.approx(np.full(k.size, ratio[0]), rel=1e-9) and ratio[0] <= 1.0


@given(slices, st.floats(0.01, 3.0))
def test_jump_wings_come_back(raw: Slice, T: float) -> None:
    assume(abs(raw.m) > 1e-2 * raw.sigma)  # at m = 0 they do not determine σ
    back = smiles.from_jump_wings(smiles.jump_wings(raw, T), T)
    k = np.linspace(-1, 1, 21)
    assert svi.total_variance(back, k) == pytest.approx(svi.total_variance(raw, k), rel=1e-5)


@given(slices, st.floats(-1.0, 1.0))
def test_durrlemans_function_is_of_the_slopes_of_the_variance(raw: Slice, k: float) -> None:
    h = 1e-3 * float(raw.sigma)
    low, w, high = svi.total_variance(raw, [k - h, k, k + h])
    w1, w2 = (high - low) / (2 * h), (high - 2 * w + low) / h**2
    g = (1 - k * w1 / (2 * w)) ** 2 - w1**2 / 4 * (1 / w + 0.25) + w2 / 2
    size = (1 + abs(k * w1 / w)) ** 2 + w1**2 / w + abs(w2)
    assert smiles.durrleman(raw, k) == pytest.approx(g, abs=1e-4 * (1 + size) + 1e-15 * abs(w) / h**2 * 100)
    assert svi.durrleman_at(row(raw), k) == pytest.approx(smiles.durrleman(raw, k), rel=1e-9, abs=1e-9 * size)
