from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from bench import real_like
from tests.udfs import smiles
from udfs import svi, vol_surface
from udfs.svi import Slice
from udfs.vol_surface import TEXTS, Reason, Surface

YEARS = np.array([1, 2, 3, 7, 14, 21, 30, 60, 90, 150, 240, 330, 500]) / 365
GRID = np.linspace(-4.0, 4.0, 3201)


class Chain(NamedTuple):
    expiry: Any
    k: Any
    bid: Any
    ask: Any
    true: Any  # volatility

    def fit(self, last: Surface | None = None) -> Surface:
        return vol_surface.fit(YEARS, self.expiry, self.k, self.bid, self.ask, last.slices if last else None)


def truth(rng: np.random.Generator) -> Slice:
    """A surface of SSVI, which has no arbitrage: Gatheral and Jacquier (2014), with the power law, as raw slices."""
    rho, eta, gamma, vol = rng.uniform(-0.6, 0.5), rng.uniform(0.5, 1.1), rng.uniform(0.3, 0.5), rng.uniform(0.3, 1.2)
    theta = YEARS * vol**2 * (1 + 0.03 * np.log(YEARS / 0.1))
    phi = eta / (theta**gamma * (1 + theta) ** (1 - gamma))
    root = np.sqrt(1 - rho**2)
    return Slice(theta * root**2 / 2, theta * phi / 2, np.full(YEARS.shape, rho), -rho / phi, root / phi)


def chain(seed: int, noise: float, strikes: int = 58) -> Chain:
    """Calls and puts within three deviations; the middle is off by at most `noise` half-spreads."""
    rng = np.random.default_rng(seed)
    raw = truth(rng)
    expiry = np.repeat(np.arange(YEARS.size), 2 * strikes)
    deviation = np.sqrt(svi.total_variance(raw, 0.0))[expiry]
    z = np.tile(np.repeat(np.linspace(-3.3, 3.0, strikes), 2), YEARS.size)
    k = z * deviation
    true = np.sqrt(svi.total_variance(Slice(*(x[expiry] for x in raw)), k) / YEARS[expiry])
    half = rng.uniform(0.003, 0.015, k.size) * (1 + z * z / 2)
    middle = true + half * noise * rng.uniform(-1, 1, k.size)
    return Chain(expiry, k, middle - half, middle + half, true)


def inside(surface: Surface, quotes: Chain) -> float:
    v = smiles.vol(surface, quotes.k, YEARS[quotes.expiry])
    return float(((quotes.bid <= v) & (v <= quotes.ask)).mean())


def assert_free(surface: Surface) -> None:
    fitted = np.flatnonzero(surface.is_fitted)
    rows = [Slice(*(x[i] for x in surface.slices)) for i in fitted]
    w = np.array([svi.total_variance(one, GRID) for one in rows])
    assert w.min() > 0
    assert min(smiles.durrleman(one, GRID).min() for one in rows) >= 0
    assert (np.diff(w, axis=0) >= 0).all()
    assert (surface.g_min[fitted] >= 0).all()
    assert (surface.calendar_min[fitted[1:]] >= 0).all()


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_quotes_about_a_known_surface_are_fitted_inside_their_spreads(seed: int, noise: float) -> None:
    quotes = chain(seed, noise)
    surface = quotes.fit()
    assert (surface.reason == Reason.NONE).all()
    assert inside(surface, quotes) >= 0.99
    assert np.average(surface.inside_share, weights=surface.quotes) == pytest.approx(inside(surface, quotes))
    assert_free(surface)


@pytest.mark.parametrize("seed", range(4))
def test_without_noise_the_surface_comes_back(seed: int) -> None:
    quotes = chain(seed, 0.0)
    error = smiles.vol(quotes.fit(), quotes.k, YEARS[quotes.expiry]) - quotes.true
    half_spreads = error / (0.5 * (quotes.ask - quotes.bid))
    assert np.abs(half_spreads).max() < 0.3
    assert np.sqrt(np.mean(half_spreads**2)) < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_a_warm_start_ends_where_a_cold_one_does(seed: int) -> None:
    quotes, moved = chain(seed, 0.5), chain(seed, 0.5)
    last = quotes.fit()
    moved = moved._replace(bid=moved.bid * 1.01, ask=moved.ask * 1.01)
    cold, warm = moved.fit(), moved.fit(last)
    k, T = moved.k, YEARS[moved.expiry]
    assert np.abs(smiles.vol(cold, k, T) - smiles.vol(warm, k, T)).max() < 0.01
    assert inside(warm, moved) >= 0.99


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_all_vols_doubled_within_a_second_are_followed_by_the_next_fit(factor: float) -> None:
    quotes = chain(3, 0.5)
    crash = quotes._replace(bid=factor * quotes.bid, ask=factor * quotes.ask)
    surface = crash.fit(quotes.fit())
    assert inside(surface, crash) >= 0.99
    assert_free(surface)


def garbage(quotes: Chain, kind: str, share: float) -> Chain:
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    wrong = np.random.default_rng(5).choice(bid.size, int(share * bid.size), replace=False)
    match kind:
        case "ask ten times too high":
            ask[wrong] *= 10
        case "bid ten times too low":
            bid[wrong] /= 10
        case "both ten times too high":
            bid[wrong] *= 10
            ask[wrong] *= 10
        case "both a third":
            bid[wrong] /= 3
            ask[wrong] /= 3
        case "crossed":
            bid[wrong], ask[wrong] = 1.5 * ask[wrong], bid[wrong]
        case "no ask":
            ask[wrong] = 0
        case "no bid":
            bid[wrong] = np.nan
    return quotes._replace(bid=bid, ask=ask)


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "ask ten times too high",
        "bid ten times too low",
        "both ten times too high",
        "both a third",
        "crossed",
        "no ask",
        "no bid",
    ],
)
def test_one_bad_quote_in_ten_leaves_the_surface_inside_the_good_ones(kind: str, is_warm: bool) -> None:
    quotes = chain(3, 0.5)
    clean = quotes.fit()
    surface = garbage(quotes, kind, 0.1).fit(clean if is_warm else None)
    k, T = quotes.k, YEARS[quotes.expiry]
    moved = np.abs(smiles.vol(surface, k, T) - smiles.vol(clean, k, T)) / (0.5 * (quotes.ask - quotes.bid))
    assert moved.max() < 1.0
    assert inside(surface, quotes) >= 0.99
    if kind in ("crossed", "no ask", "no bid"):
        assert surface.excluded.sum() == int(0.1 * k.size)
    assert_free(surface)


def test_quotes_of_vogts_smile_get_the_nearest_without_arbitrage() -> None:
    vogt = Slice(*(np.asarray(x) for x in (-0.041, 0.1331, 0.306, 0.3586, 0.4153)))
    k = np.linspace(-1.5, 1.5, 61)
    v = np.sqrt(svi.total_variance(vogt, k))
    surface = vol_surface.fit([1.0], np.zeros(k.size), k, v - 0.005, v + 0.005)
    assert surface.rmse_vol_points[0] < 1.0
    assert surface.is_repaired[0]
    assert_free(surface)


# Its own best fit has a butterfly arbitrage beyond the quotes.
HOOK = Slice(*(np.asarray(x) for x in (-0.0431, 0.1494, 0.418, 0.1846, 0.323)))
HOOK_T = 0.0767


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("half", [0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02])
def test_a_smile_with_an_arbitrage_beyond_its_quotes_is_kept_at_the_money(half: float, noise: float, is_mirrored: bool) -> None:
    k = np.linspace(-0.105, 0.095, 60)
    middle = np.sqrt(svi.total_variance(HOOK, k) / HOOK_T) + half * noise * np.random.default_rng(1).uniform(-1, 1, k.size)
    if is_mirrored:
        k = -k
    surface = vol_surface.fit([HOOK_T], np.zeros(k.size), k, middle - half, middle + half)
    assert surface.is_fitted[0]
    assert float(smiles.vol(surface, 0.0, HOOK_T)) == pytest.approx(0.1115, abs=0.003)
    # Free of arbitrage the best is a tenth of a point off on average, more than the narrowest spreads allow.
    assert surface.inside_share[0] >= 0.9 or surface.reason[0] == Reason.ARBITRAGE
    assert surface.rmse_vol_points[0] < 0.2 + 100 * half * noise
    assert_free(surface)


Market = list[tuple[real_like.Chain, Surface]]


@pytest.fixture(scope="module")
def market() -> Market:
    """A hundred chains as a venue quotes them, and their surfaces."""
    chains = [real_like.chain(seed) for seed in range(100)]
    return [(chain, vol_surface.fit(*chain)) for chain in chains]


def test_chains_as_the_markets_are_fitted_inside_their_spreads(market: Market) -> None:
    shares = np.concatenate([surface.inside_share[surface.is_fitted] for _, surface in market])
    quotes = np.concatenate([surface.quotes[surface.is_fitted] for _, surface in market])
    assert shares.size >= 1200
    assert np.average(shares, weights=quotes) >= 0.97
    assert (shares < 0.5).mean() < 0.005


def test_an_expiry_has_no_slice_only_for_want_of_quotes(market: Market) -> None:
    without = np.concatenate([surface.reason[~surface.is_fitted] for _, surface in market])
    assert set(without.tolist()) <= {Reason.NO_QUOTES, Reason.TOO_FEW_STRIKES}


def test_chains_as_the_markets_have_no_arbitrage(market: Market) -> None:
    for _, surface in market:
        assert_free(surface)


def test_what_is_off_at_the_money_says_so(market: Market) -> None:
    said = 0
    for chain, surface in market:
        for i in np.flatnonzero(surface.is_fitted):
            quoted = (chain.expiry == i) & (chain.bid_iv > 0) & (chain.ask_iv >= chain.bid_iv)
            quotes = np.column_stack([chain.k, chain.bid_iv, chain.ask_iv])[quoted]
            # Of a call and a put at one strike the narrower.
            quotes = quotes[np.lexsort((quotes[:, 2] - quotes[:, 1], quotes[:, 0]))]
            k, bid, ask = quotes[np.unique(quotes[:, 0], return_index=True)[1]].T
            v = float(smiles.vol(surface, 0.0, chain.T[i]))
            is_outside = not np.interp(0.0, k, bid) <= v <= np.interp(0.0, k, ask)
            is_off = is_outside and abs(v - np.interp(0.0, k, 0.5 * (bid + ask))) > 0.005
            assert not is_off or surface.reason[i] in (Reason.ARBITRAGE, Reason.OFF_AT_MONEY)
            said += surface.reason[i] == Reason.OFF_AT_MONEY
            assert is_off or surface.reason[i] != Reason.OFF_AT_MONEY
    assert 0 < said < 50


def best(T: float, k: Any, bid: Any, ask: Any) -> Any:
    """The volatilities of the raw slice nearest to quotes, whatever its arbitrage, by an optimiser of another kind."""
    middle, half = 0.5 * (bid + ask), 0.5 * (ask - bid)
    span = k[-1] - k[0]

    def vols(x: Any) -> Any:
        return np.sqrt(np.maximum(svi.total_variance(Slice(*x), k), 1e-12) / T)

    def loss(x: Any) -> Any:
        return (vols(x) - middle) / half

    level = T * float(np.median(middle)) ** 2
    starts = [(0.5 * level, 0.5 * level / span, rho, 0.0, 0.3 * span) for rho in (-0.5, 0.0, 0.5)]
    bounds = ([-np.inf, 0.0, -0.999, k[0] - span, 1e-3 * span], [np.inf, 2.0, 0.999, k[-1] + span, 10 * span])
    ends = [optimize.least_squares(loss, x, bounds=bounds, loss="soft_l1", x_scale="jac", max_nfev=200) for x in starts]
    return vols(min(ends, key=lambda end: float(end.cost)).x)


def test_a_slice_is_no_worse_than_one_with_arbitrage_by_more_than_the_bound_or_says_so(market: Market) -> None:
    compared = 0
    for chain, surface in market[:6]:
        for i in np.flatnonzero(surface.reason == Reason.NONE):
            quoted = np.flatnonzero((chain.expiry == i) & (chain.bid_iv > 0) & (chain.ask_iv >= chain.bid_iv))
            quoted = quoted[np.argsort(chain.k[quoted], kind="stable")]
            k, bid, ask = chain.k[quoted], chain.bid_iv[quoted], chain.ask_iv[quoted]
            vols = best(chain.T[i], k, bid, ask)
            share = np.mean((bid <= vols) & (vols <= ask))
            # One quote for what the optimisers differ in.
            assert surface.inside_share[i] >= share - vol_surface.LEAST_SHARE - 1 / k.size
            compared += 1
    assert compared > 50


def test_most_slices_of_chains_as_the_markets_need_no_reason(market: Market) -> None:
    reasons = np.concatenate([surface.reason[surface.is_fitted] for _, surface in market])
    assert (reasons == Reason.NONE).mean() > 0.9


def test_a_chain_fitted_twice_is_the_same_to_the_last_bit(market: Market) -> None:
    for chain, surface in market[:5]:
        again = vol_surface.fit(*chain)
        for name in Surface._fields:
            assert getattr(again, name).tobytes() == getattr(surface, name).tobytes()


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_no_quotes_whatever_make_an_arbitrage_or_a_silent_number(seed: int) -> None:
    rng = np.random.default_rng(seed)
    T = np.sort(np.exp(rng.uniform(-12.0, 1.0, rng.integers(1, 5))))
    n = rng.integers(0, 60)
    expiry, k = rng.integers(0, T.size, n), rng.normal(size=n) * 10 ** rng.uniform(-3.0, 1.0)
    bid = np.exp(2 * rng.normal(size=n))
    surface = vol_surface.fit(T, expiry, k, bid, bid * np.exp(rng.normal(size=n)))
    fitted = np.isin(surface.reason, (Reason.NONE, Reason.ARBITRAGE, Reason.OFF_AT_MONEY))
    assert (fitted == surface.is_fitted).all()
    assert np.isfinite(np.column_stack(surface.slices)[fitted]).all()
    assert np.isnan(np.column_stack(surface.slices)[~fitted]).all()
    assert not (surface.reason == Reason.NOT_FITTED).any()
    if fitted.any():
        assert_free(surface)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reach", [1e90, 1e150, 1e300])
def test_numbers_of_no_market_come_to_an_end_too(reach: float, seed: int) -> None:
    """Log strikes, years and volatilities so far apart that their squares are no numbers."""
    rng = np.random.default_rng(seed)
    T = np.array([1e-10, 1e-4, min(reach, 1e137)])
    expiry, k = rng.integers(0, 3, 45), rng.normal(size=45) * reach
    bid = 10.0 ** rng.uniform(-240.0, 300.0, 45)
    surface = vol_surface.fit(T, expiry, k, bid, bid * (1 + rng.uniform(0.0, 1.0, 45)))
    assert np.isfinite(np.column_stack(surface.slices)[surface.is_fitted]).all()
    assert (surface.reason[~surface.is_fitted] != Reason.NONE).all()


NINE = np.linspace(-0.5, 0.5, 9)


@pytest.mark.parametrize(
    ("T", "k", "bid", "ask", "reason"),
    [
        (0.0, NINE, 0.5, 0.6, Reason.EXPIRED),
        (-0.1, NINE, 0.5, 0.6, Reason.EXPIRED),
        (np.nan, NINE, 0.5, 0.6, Reason.EXPIRED),
        (0.1, np.full(9, np.nan), 0.5, 0.6, Reason.NO_FORWARD),
        (0.1, np.full(9, -np.inf), 0.5, 0.6, Reason.NO_FORWARD),
        (0.1, NINE, np.nan, 0.6, Reason.NO_QUOTES),
        (0.1, NINE, 0.6, 0.0, Reason.NO_QUOTES),
        (0.1, NINE, 0.6, 0.5, Reason.NO_QUOTES),
        (0.1, np.full(9, 0.2), 0.5, 0.6, Reason.TOO_FEW_STRIKES),
        (0.1, NINE[:1], 0.5, 0.6, Reason.TOO_FEW_STRIKES),
        (0.1, NINE[:0], 0.5, 0.6, Reason.NO_QUOTES),
    ],
)
def test_a_chain_that_cannot_be_fitted_has_a_reason(T: float, k: Any, bid: float, ask: float, reason: Reason) -> None:
    surface = vol_surface.fit([T], np.zeros(k.size), k, np.full(k.size, bid), np.full(k.size, ask))
    assert surface.reason.tolist() == [reason]
    assert np.isnan(np.concatenate(surface.slices)).all()


def test_an_expiry_without_a_slice_leaves_the_others_theirs() -> None:
    quotes = chain(2, 0.5)
    broken = quotes._replace(bid=np.where(quotes.expiry == 5, np.nan, quotes.bid))
    surface = broken.fit()
    assert surface.reason.tolist() == [Reason.NO_QUOTES if i == 5 else Reason.NONE for i in range(YEARS.size)]
    assert_free(surface)
    assert (np.isfinite(smiles.vol(surface, quotes.k, YEARS[quotes.expiry])) == (quotes.expiry != 5)).all()


def test_a_chain_twice_over_is_the_same_surface() -> None:
    quotes = chain(4, 0.5)
    twice = Chain(*(np.concatenate([x, x]) for x in quotes))
    k, T = quotes.k, YEARS[quotes.expiry]
    assert smiles.vol(twice.fit(), k, T) == pytest.approx(smiles.vol(quotes.fit(), k, T), abs=5e-3)


def test_the_order_of_quotes_does_not_matter() -> None:
    quotes = chain(4, 0.5)
    order = np.random.default_rng(0).permutation(quotes.k.size)
    shuffled = Chain(*(x[order] for x in quotes))
    assert shuffled.fit().inside_share == pytest.approx(quotes.fit().inside_share, abs=0.02)


def test_an_expiry_out_of_order_has_a_reason() -> None:
    quotes = chain(2, 0.5)
    years = YEARS.copy()
    years[4] = years[3]
    surface = vol_surface.fit(years, quotes.expiry, quotes.k, quotes.bid, quotes.ask)
    assert surface.reason.tolist() == [Reason.NOT_ASCENDING if i == 4 else Reason.NONE for i in range(YEARS.size)]


def test_every_reason_has_a_text() -> None:
    assert set(TEXTS) == set(Reason)
