"""What the benchmarks make of their samples."""

import pytest

from bench import crash
from bench.crash import Order
from bench.passes import MAX_GROWTH, SAMPLE_S, BenchError, Meter, Spread, growth, messages_per_s

BATCHES = int((crash.WARM_S + crash.STEADY_S + crash.CRASH_S + crash.AFTER_S) / crash.BATCH_S)
TIMES = [round(1000 * crash.BATCH_S * number) for number in range(BATCHES)]
CRASH_MS = round(1000 * (crash.WARM_S + crash.STEADY_S))
STEADY_MS = range(round(1000 * crash.WARM_S), CRASH_MS, 100)


def test_a_rate_leaves_out_a_slow_beginning_and_the_wait_at_the_end() -> None:
    slow = [(10.0 * second, second) for second in range(10)]
    steady = [(100.0 + 0.1 * tenth, 10 + tenth) for tenth in range(91)]
    quiet = [(110.0 + second, 100) for second in range(5)]
    assert messages_per_s(slow + steady + quiet, messages=1_000) == pytest.approx(100.0)


def test_a_rate_does_not_depend_on_what_was_there_before() -> None:
    samples = [(float(second), 7_000 + second) for second in range(101)]
    assert messages_per_s(samples, messages=500) == pytest.approx(5.0)


def test_a_count_that_changes_less_often_than_it_is_asked_for_gives_the_same_rate() -> None:
    each = [(0.1 * tenth, 7 * tenth) for tenth in range(201)]
    every_second = [(0.1 * tenth, 70 * (tenth // 10)) for tenth in range(201)]
    assert messages_per_s(every_second, 1_400) == pytest.approx(messages_per_s(each, 1_400)) == pytest.approx(70.0)


def test_a_pass_that_was_over_in_a_moment_is_refused() -> None:
    with pytest.raises(BenchError, match="needs more messages"):
        messages_per_s([(0.0, 0), (0.1, 100), (0.2, 100)], messages=100)
    with pytest.raises(BenchError, match="nothing was counted"):
        messages_per_s([(0.0, 7), (0.1, 7)], messages=100)


@pytest.mark.parametrize("took_s", [0.01, 0.1, 0.3, 0.7, 1.5, 2.99, 3.0, 60.0])
def test_a_load_grows_until_a_pass_is_long_enough_and_no_more(took_s: float) -> None:
    times = growth(took_s, wanted_s=3.0)
    assert 1 <= times <= MAX_GROWTH
    assert times == MAX_GROWTH or times * max(took_s, SAMPLE_S) >= 3.0
    assert times == 1 or (times - 1) * max(took_s, SAMPLE_S) < 3.0


def test_processor_time_is_that_between_the_marks() -> None:
    meter = Meter(iter(range(101)).__next__, [])
    for _ in range(101):
        meter()
    meter.samples = [(number, 5.0 + 0.02 * number) for number, _ in meter.samples]
    assert meter.us_per_message(1_000) == pytest.approx(0.02 * 100 / 1_000 * 1e6)


def test_a_spread_says_the_median_and_both_ends() -> None:
    assert Spread.of_passes([3.0, 1.0, 2.0, 9.0, 8.0]).figures("rate") == {"rate": 3, "rate_min": 1, "rate_max": 9}
    assert Spread.of_passes([0.12345, 0.2]).figures("cost", 2) == {"cost": 0.16, "cost_min": 0.12, "cost_max": 0.2}


def test_an_order_is_as_late_as_it_is_read_after_the_newest_price_that_it_can_have_known() -> None:
    steady = [Order(f"s{at}", 1, at + 20, at + 120) for at in STEADY_MS]
    crashed = [Order("c", 1, CRASH_MS, CRASH_MS + 500)]
    found = crash.figures(steady + crashed, steady, TIMES, crashed=1, behind_s=0.0)
    assert (found.p50_ms, found.p99_ms, found.committed_p99_ms) == (120.0, 120.0, 120.0)
    assert found.orders == len(steady)
    assert found.worst_ms == 500.0


def test_a_job_that_falls_behind_is_told_by_how_much() -> None:
    steady = [Order(f"s{at}", 1, at, at + 100) for at in STEADY_MS[:5]]
    behind_s = (TIMES[-1] - steady[-1].decided_ms) / 1000
    with pytest.raises(BenchError, match=f"only 5 accounts .* {behind_s:.1f} s before the last price"):
        crash.figures(steady, steady, TIMES, crashed=1, behind_s=0.0)


def test_a_crash_in_which_too_few_are_liquidated_says_nothing() -> None:
    steady = [Order(f"s{at}", 1, at, at + 100) for at in STEADY_MS]
    with pytest.raises(BenchError, match="only 1 accounts were liquidated in the crash, not 2"):
        crash.figures([*steady, Order("c", 1, CRASH_MS, CRASH_MS + 500)], steady, TIMES, crashed=2, behind_s=0.0)


@pytest.mark.parametrize(
    ("late", "caught_up_ms"),
    [
        ([(at, 100) for at in range(0, 1000, 10)], 0),  # never late
        ([(at, 900 if at < 500 else 100) for at in range(0, 1000, 10)], 500),
        ([(at, 900) for at in range(0, 1000, 10)], 990),  # not before the last
        ([(at, 900 if at == 5_000 else 100) for at in range(0, 10_000, 10)], 0),  # one in a thousand
    ],
)
def test_a_job_has_caught_up_once_no_more_than_one_order_in_a_hundred_is_late(
    late: list[tuple[int, int]], caught_up_ms: int
) -> None:
    assert crash.caught_up_ms(late, since_ms=0) == caught_up_ms
    assert crash.caught_up_ms(late[::-1], since_ms=0) == caught_up_ms
