"""Large orders in slices: what is sent when, and how they stand."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from engine import batch
from engine.contract import Message
from kernels.execution import take_plain
from kernels.execution.parameters import MOST_SLICES, Plan, planned
from kernels.market.terms import tradable
from kernels.orders import wrong_request
from kernels.orders.executions import EXACT
from schemas.rows import instant_ms, to_ms
from tests.jobs.cases import CASES, Case, unmatched
from tests.kernels.executing import T0, Execution, Row, book, depth, fills_all, halt, parent, terms, trade
from udfs.execution_quality import participation

HOUR, MINUTE, SECOND = 3_600_000, 60_000, 1_000
NOTHING = Decimal(0)


def market(ms: int) -> list[Message]:
    return [book(ms)]


def test_a_twap_of_1_000_003_lots_with_a_stall_sums_exactly_and_makes_up_for_it_without_a_burst() -> None:
    end, stalled, share = T0 + 7 * HOUR, (T0 + 2 * HOUR, T0 + 2 * HOUR + 20 * MINUTE), Decimal("0.1")
    given = parent(quantity="1000003", end_at=instant_ms(end), participation=0.1)
    execution = Execution(fills_all, terms(), book(T0), given)
    volume = Decimal(0)

    def trades(ms: int) -> list[Message]:
        nonlocal volume
        volume += 2_500
        return [book(ms), trade(ms, 2_500)]

    step = 5 * SECOND
    while execution.now_ms < end + MINUTE:
        at = execution.now_ms
        if stalled[0] <= at < stalled[1]:  # nothing is stepped, and then all that happened meanwhile comes at once
            missed = [message for ms in range(at, stalled[1], step) for message in trades(ms)]
            execution.run(*missed, ms=stalled[1] - at)
        else:
            execution.run(*(trades(at) if at < end else []), ms=step)
        assert execution.sent <= share * (volume - execution.sent), "what others traded, were all of ours in the trades"
    usual = Decimal(1_000_003) / 420
    slices = execution.slices
    assert max(size for _, size in slices) <= usual * Decimal("1.25") + 1
    assert all(size == int(size) for _, size in slices)
    minutes = [ms // MINUTE for ms, _ in slices]
    assert len(set(minutes)) == len(minutes), "one slice at most in the time of each"
    last = execution.told
    assert (last["status"], last["working_quantity"]) == ("done", "0")
    assert sum(execution.sizes) + Decimal(last["unsent_quantity"]) == 1_000_003
    assert Decimal(last["unsent_quantity"]) == 0, "the stall is made up for"
    behind = [
        Decimal(row["scheduled_quantity"]) - Decimal(row["traded_quantity"]) for row in execution.rows["execution_states"]
    ]
    assert max(behind[:-1]) > 19 * usual, "there was something to make up for"


def test_a_slice_below_one_lot_is_not_sent_there_are_fewer_slices() -> None:
    # https://github.com/nautechsystems/nautilus_trader/issues/1442
    given = parent(quantity="3", end_at=instant_ms(T0 + 10 * SECOND), slice_count=10)
    execution = Execution(fills_all, terms(), book(T0), given)
    execution.until(T0 + 12 * SECOND)
    assert execution.sizes == [1, 1, 1]
    assert execution.told["traded_quantity"] == "3"


def test_slices_are_whole_lots_and_no_dust_is_left() -> None:
    # https://github.com/nautechsystems/nautilus_trader/pull/4544
    given = parent(quantity="1", end_at=instant_ms(T0 + 3 * MINUTE))
    execution = Execution(fills_all, terms(0.000000001), book(T0), given)
    execution.until(T0 + 4 * MINUTE, SECOND)
    assert list(map(str, execution.sizes)) == ["0.333333333", "0.333333333", "0.333333334"]
    assert sum(execution.sizes) == 1


def test_what_is_left_below_the_smallest_order_joins_the_last_slice() -> None:
    # https://github.com/bitfinexcom/bfx-hf-algo/pull/176
    given = parent(quantity="25", end_at=instant_ms(T0 + 3 * MINUTE), min_quantity="10")
    execution = Execution(fills_all, terms(), book(T0), given)
    execution.until(T0 + 4 * MINUTE, SECOND)
    assert execution.sizes == [12, 13]
    assert execution.told["status"] == "done"


def test_a_vwap_follows_its_profile_and_skips_a_part_without_volume() -> None:
    # https://github.com/nautechsystems/nautilus_trader/issues/3839
    profile = [[0, 100.0], [60, 300.0], [120, 0.0], [180, 200.0]]
    given = parent(algorithm="vwap", quantity="600", end_at=instant_ms(T0 + 4 * MINUTE), volume_profile=profile)
    execution = Execution(fills_all, terms(), book(T0), given)
    execution.until(T0 + 5 * MINUTE, SECOND)
    assert [(ms // MINUTE, int(size)) for ms, size in execution.slices] == [(0, 100), (1, 300), (3, 200)]


def test_a_halted_instrument_gets_no_order_but_a_reason_and_goes_on_after_it() -> None:
    # https://github.com/QuantConnect/Lean/issues/5275
    given = parent(quantity="100", end_at=instant_ms(T0 + 10 * MINUTE), urgency="rest")
    execution = Execution(lambda order: NOTHING, terms(), book(T0), given)
    execution.until(T0 + 10 * SECOND)
    execution.run(halt(execution.now_ms))
    execution.until(T0 + 3 * MINUTE, SECOND)
    assert [row["request"] for row in execution.rows["algorithm_requests"]] == ["new", "cancel"]
    assert execution.told["status"] == "halted"
    assert execution.told["held"] == "halted: v:P"
    assert "news" in execution.told["reason"]
    execution.fills = fills_all
    execution.run(halt(execution.now_ms, is_halted=False, reason=None))
    execution.until(T0 + 11 * MINUTE, SECOND)
    assert max(execution.sizes) <= 12
    last = execution.told
    assert Decimal(last["traded_quantity"]) + Decimal(last["unsent_quantity"]) == 100
    assert Decimal(last["traded_quantity"]) >= 80


def test_an_exit_is_requested_as_one_that_only_reduces_so_that_orders_can_prove_it() -> None:
    # https://github.com/nautechsystems/nautilus_trader/pull/4761; the proof: test_orders.py, test_order_checks.py
    execution = Execution(fills_all, terms(), book(T0), parent(is_reduce_only=True, end_at=instant_ms(T0 + MINUTE)))
    execution.run()
    (row,) = execution.rows["algorithm_requests"]
    assert row["is_reduce_only"] is True
    assert row["parent_client_order_id"] == "P1"
    assert wrong_request(row) is None


def test_a_pov_follows_what_others_trade_and_never_more() -> None:
    given = parent(algorithm="pov", quantity="1000", participation=0.1, slice_count=10, end_at=instant_ms(T0 + HOUR))
    execution = Execution(fills_all, terms(), book(T0), given)
    volume = 0
    for number in range(300):
        volume += 17 * (number % 5)
        execution.run(*([trade(execution.now_ms, 17.0 * (number % 5))] if number % 5 else []), ms=SECOND)
        assert execution.sent <= Decimal("0.1") * (volume - execution.sent)
    assert execution.sent > Decimal("0.08") * volume, "and about as much"


def test_a_pov_takes_no_more_than_a_slice_and_a_quarter_after_much_volume() -> None:
    given = parent(algorithm="pov", quantity="1000", participation=0.5, slice_count=10, end_at=instant_ms(T0 + HOUR))
    execution = Execution(fills_all, terms(), book(T0), given)
    execution.run(*[trade(execution.now_ms + number, 1e6, name=f"t{number}") for number in range(50)])
    execution.until(T0 + 30 * SECOND)
    assert execution.sizes == [125]


def test_a_trade_that_comes_twice_counts_once() -> None:
    given = parent(algorithm="pov", quantity="1000", participation=0.5, end_at=instant_ms(T0 + HOUR))
    execution = Execution(fills_all, terms(), book(T0), given)
    for _ in range(3):
        execution.run(trade(T0 + 10, 30.0), trade(T0 + 20, 9e9, name="block", off_market="block"))
    execution.until(T0 + 3 * SECOND)
    assert execution.told["market_volume"] == "20", "less our own ten"
    assert execution.sizes == [10]


def test_an_iceberg_shows_its_part_at_its_limit_and_the_next_once_that_is_filled() -> None:
    given = parent(algorithm="iceberg", quantity="5", display_quantity="2", limit_price="99", end_at=instant_ms(T0 + HOUR))
    execution = Execution(fills_all, terms(), given)
    execution.until(T0 + 3 * SECOND)
    assert execution.sizes == [2, 2, 1]
    assert {(row["price"], row["time_in_force"]) for row in execution.rows["algorithm_requests"]} == {("99", "gtc")}
    assert execution.told["status"] == "done"


def test_what_rests_follows_the_best_price_within_the_limit_and_takes_the_next_slice_with_it() -> None:
    given = parent(quantity="20", end_at=instant_ms(T0 + 2 * MINUTE), urgency="rest", limit_price="100.3")
    execution = Execution(lambda order: NOTHING, terms(), book(T0, 100.0), given)
    execution.run(book(execution.now_ms, 100.0))
    execution.until(T0 + 5 * SECOND)
    execution.run(book(execution.now_ms, 102.0))
    execution.until(T0 + 70 * SECOND)
    requests = [(row["request"], row["price"], row["quantity"]) for row in execution.rows["algorithm_requests"]]
    assert requests == [("new", "99.5", "10"), ("replace", "100", "10"), ("replace", "100", "20")], "100.3 is no tick"


def test_the_end_cancels_what_rests_or_takes_it_by_its_rule() -> None:
    for rule, price in (("cancel", "99.5"), ("take", "100.5")):
        given = parent(quantity="20", end_at=instant_ms(T0 + 2 * MINUTE), urgency="rest", end_rule=rule)
        execution = Execution(lambda order: NOTHING, terms(), given)
        execution.until(T0 + 130 * SECOND, SECOND, market)
        requests = execution.rows["algorithm_requests"]
        assert [row["request"] for row in requests] == ["new", "replace", "cancel"]
        assert requests[1]["price"] == price
        assert (execution.told["status"], execution.told["unsent_quantity"]) == ("done", "20")


def test_an_order_without_an_end_ends_with_the_day_and_none_outlives_its_contract() -> None:
    execution = Execution(lambda order: NOTHING, terms(), book(T0), parent(quantity="5000"))
    plan = execution.state.parents["a", "P1"].plan
    assert plan is not None
    assert plan.end_ms == T0 + 24 * HOUR
    assert len(plan.starts) == 1440
    expiry: dict[str, Any] = {"kind": "future", "expiry_at": instant_ms(T0 + HOUR), "last_trading_at": instant_ms(T0 + HOUR)}
    execution = Execution(lambda order: NOTHING, terms(**expiry), book(T0), parent())
    plan = execution.state.parents["a", "P1"].plan
    assert plan is not None
    assert plan.end_ms == T0 + HOUR


def test_children_are_sized_by_what_the_book_shows_and_by_its_spread() -> None:
    given = parent(quantity="1000", end_at=instant_ms(T0 + 2 * MINUTE), depth_share=0.5, limit_price="101", wide_spread=0.01)
    execution = Execution(fills_all, terms(), given)
    execution.run(depth(execution.now_ms, [[99.5, 9.0]], [[100.5, 40.0], [101.0, 20.0], [101.5, 1e6]]))
    execution.until(T0 + 10 * SECOND)
    assert execution.sizes == [30], "half of what is within the limit"
    assert execution.rows["algorithm_requests"][0]["price"] == "100.5", "40 are there"
    execution.run(depth(execution.now_ms, [[96.0, 9.0]], [[100.0, 1e6]]))
    execution.until(T0 + 70 * SECOND)
    assert execution.sizes[1] == int(625 * 0.01 / (4 / 98)), "the spread is four times as wide"


def test_nothing_is_sent_beyond_the_limit_or_on_a_stale_book_and_the_row_says_so() -> None:
    given = parent(end_at=instant_ms(T0 + HOUR), limit_price="100")
    execution = Execution(fills_all, terms(), given)
    assert execution.told["held"] == "no book"
    execution.run(book(execution.now_ms))
    execution.until(T0 + 2 * SECOND)
    assert execution.told["held"] == "beyond limit"
    execution.run(depth(execution.now_ms, [[99.0, 9.0]], [[99.5, 9.0]], is_stale=True))
    execution.until(T0 + 4 * SECOND)
    assert execution.told["held"] == "stale book"
    assert "algorithm_requests" not in execution.rows


def test_a_refused_child_is_tried_again_later_and_later_and_counts_as_unsent() -> None:
    execution = Execution(fills_all, terms(), parent(end_at=instant_ms(T0 + 10 * MINUTE)))
    execution.refuses = "credit"
    execution.until(T0 + 5 * MINUTE, SECOND, market)
    tried = [ms for ms, _ in execution.slices]
    gaps = [after - before for before, after in pairwise(tried)]
    assert len(tried) < 12
    assert gaps == sorted(gaps)
    assert execution.told["held"] == "refused by credit"
    execution.refuses = None
    execution.until(T0 + 11 * MINUTE, SECOND, market)
    last = execution.told
    assert Decimal(last["traded_quantity"]) + Decimal(last["unsent_quantity"]) == 100


def test_a_parent_pauses_goes_on_and_is_cancelled() -> None:
    execution = Execution(lambda order: NOTHING, terms(), book(T0), parent(urgency="rest", end_at=instant_ms(T0 + HOUR)))
    execution.run(book(execution.now_ms))
    execution.until(T0 + 2 * SECOND)
    for request, status in (("pause", "paused"), ("resume", "working"), ("cancel", "done")):
        execution.run(parent("P1", request, execution.now_ms))
        execution.until(execution.now_ms + 3 * SECOND)
        assert execution.told["status"] == status
    assert "cancelled" in execution.told["reason"]
    execution.run(parent("P1", "resume", execution.now_ms))
    assert (execution.told["status"], execution.told["rule"]) == ("done", "request")


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("algorithm", {"algorithm": "sniper"}),
        ("side", {"side": None}),
        ("quantity", {"quantity": "0"}),
        ("quantity", {"quantity": "1.5"}),
        ("quantity", {"min_quantity": "200"}),
        ("min_quantity", {"min_quantity": "0.5"}),
        ("end_at", {"start_at": instant_ms(T0 + HOUR), "end_at": instant_ms(T0 + HOUR)}),
        ("end_at", {"start_at": instant_ms(T0 - HOUR), "end_at": instant_ms(T0 - MINUTE)}),
        ("limit_price", {"limit_price": "-1"}),
        ("limit_price", {"limit_price": "0.3"}),
        ("limit_price", {"algorithm": "iceberg", "display_quantity": "5"}),
        ("display_quantity", {"algorithm": "iceberg", "limit_price": "100"}),
        ("display_quantity", {"algorithm": "iceberg", "limit_price": "100", "display_quantity": "101"}),
        ("participation", {"algorithm": "pov"}),
        ("participation", {"participation": 1.5}),
        ("slice_count", {"slice_count": 0}),
        ("volume_profile", {"algorithm": "vwap"}),
        ("volume_profile", {"algorithm": "vwap", "volume_profile": [[0, 0.0]]}),
        ("volume_profile", {"algorithm": "vwap", "volume_profile": [[0, 1.0], [0.5, 1.0]]}),
        ("volume_profile", {"algorithm": "vwap", "volume_profile": [[0, -1.0], [60, 2.0]]}),
        ("volume_profile", {"algorithm": "vwap", "volume_profile": [[0, 1.0], [1e308, 2.0]]}),
        ("depth_share", {"depth_share": 0.0}),
        ("urgency", {"urgency": "now"}),
        ("end_rule", {"end_rule": "hope"}),
        ("instrument", {"instrument": "Q"}),
        ("parent_client_order_id", {"parent_client_order_id": "with space"}),
        ("request", {"request": "hurry"}),
    ],
)
def test_a_wrong_parameter_is_refused_in_a_row_that_names_it(rule: str, changed: dict[str, Any]) -> None:
    execution = Execution(fills_all, terms(), book(T0), parent(**changed))
    execution.until(T0 + 3 * SECOND)
    (row,) = execution.rows["execution_states"]
    assert (row["status"], row["rule"]) == ("refused", rule)
    assert row["reason"]
    assert "algorithm_requests" not in execution.rows


def test_an_order_of_as_many_digits_as_there_are_is_sent_and_left_to_the_last_of_them() -> None:
    quantity = "98765432101.123456789012345678"
    execution = Execution(fills_all, terms(lot=1e-18), book(T0), parent(quantity=quantity, end_at=instant_ms(T0 + 10 * SECOND)))
    execution.until(T0 + 20 * SECOND)
    for row in execution.rows["execution_states"]:
        parts = [row[name] for name in ("traded_quantity", "working_quantity", "unsent_quantity")]
        assert EXACT.add(EXACT.add(*map(Decimal, parts[:2])), Decimal(parts[2])) == Decimal(quantity)
    assert Decimal(execution.told["unsent_quantity"]) < Decimal(quantity)


def test_an_order_without_a_near_end_has_no_more_slices_than_anybody_may_ask_for() -> None:
    row = parent(quantity="1e12", start_at="0001-01-01T00:00:00.000Z", end_at="9999-12-31T00:00:00.000Z").row
    plan = planned(row, tradable(terms().row), T0)
    assert isinstance(plan, Plan)
    assert len(plan.sizes) == MOST_SLICES and sum(plan.sizes) == 10**12


def test_books_and_trades_of_numbers_beyond_all_decimals_stop_no_parent() -> None:
    given = parent(end_at=instant_ms(T0 + 10 * SECOND), depth_share=0.5, wide_spread=0.01)
    execution = Execution(fills_all, terms(), book(T0), given)
    wild = [[1e308, 1e308], [100.0, 1e308], [1e300, 5.0]]
    execution.until(T0 + 5 * SECOND, market=lambda ms: [depth(ms, wild, wild), trade(ms, 1e308), trade(ms + 1, 5.0, 1e308)])
    execution.restore()
    execution.until(T0 + 12 * SECOND, market=lambda ms: [book(ms)])
    assert (execution.told["status"], execution.told["traded_quantity"]) == ("done", "100")
    assert execution.told["market_volume"] == "0"


def test_a_request_counts_once_and_the_same_id_with_other_contents_is_refused() -> None:
    given = parent(end_at=instant_ms(T0 + HOUR))
    execution = Execution(fills_all, terms(), book(T0), given, given)
    assert execution.run(given).get("execution_states") is None
    execution.run(parent(quantity="200", end_at=instant_ms(T0 + HOUR)))
    assert (execution.told["rule"], execution.told["quantity"]) == ("parent_client_order_id", "100")
    row = execution.run(parent("nobody", "cancel"))["execution_states"][0]
    assert (row["number"], row["status"], row["rule"]) == (0, "refused", "parent_client_order_id")


def test_a_bust_of_a_fill_is_told_after_the_end_too() -> None:
    given = parent(algorithm="iceberg", quantity="4", display_quantity="4", limit_price="99", end_at=instant_ms(T0 + HOUR))
    execution = Execution(fills_all, terms(), given)
    execution.until(T0 + 2 * MINUTE, SECOND)
    assert (execution.told["status"], execution.quality["is_final"]) == ("done", True)
    (order,) = execution.orders.values()
    order.ending, order.traded, order.worth = "cancelled", Decimal(3), Decimal(297)
    execution.run(order.tell(execution.now_ms, "trade_cancel", "bust"))
    assert (execution.told["traded_quantity"], execution.told["unsent_quantity"]) == ("3", "1")
    assert execution.quality["fill_rate"] == 0.75


def test_what_a_parent_cost_is_told_each_minute_and_at_its_end() -> None:
    given = parent(quantity="30", end_at=instant_ms(T0 + 3 * MINUTE), decision_price="99")
    execution = Execution(lambda order: NOTHING if order.price > 103 else fills_all(order), terms(), given)
    mids = [100.0, 102.0, 104.0]
    for number, mid in enumerate(mids, 1):
        execution.run(book(execution.now_ms, mid), trade(execution.now_ms, 100.0, mid), ms=SECOND)
        execution.until(T0 + number * MINUTE - 3 * SECOND, SECOND)
    execution.until(T0 + 5 * MINUTE, SECOND)
    rows = execution.rows["execution_quality"]
    assert [row["is_final"] for row in rows].count(True) == 1
    last = rows[-1]
    assert last["is_final"]
    assert (last["decision_price"], last["arrival_price"], last["average_price"], last["last_price"]) == (99, 100, 101.5, 104)
    whole = 30 * 99
    assert last["decision_value"] == pytest.approx(whole)
    assert last["delay"] == pytest.approx(20 * 1 / whole)
    assert last["realised"] == pytest.approx(20 * 1.5 / whole)
    assert last["missed"] == pytest.approx(10 * 5 / whole)
    assert last["shortfall"] == pytest.approx(last["delay"] + last["realised"] + last["missed"] + last["fees"])
    assert last["wagner_delay"] == pytest.approx(30 * 1 / whole)
    assert last["interval_vwap"] == 102
    assert last["interval_twap"] == pytest.approx(102, rel=1e-3)
    assert last["effective_spread"] == pytest.approx(2 * (10 * 0.5 / 100 + 10 * 0.5 / 102) / 20)
    assert last["realised_spread"] == pytest.approx(2 * (10 * (100.5 - 102) / 100 + 10 * (102.5 - 104) / 102) / 20)
    assert last["against_book"] == 0
    assert last["fill_rate"] == pytest.approx(2 / 3)
    assert last["participation"] == participation(20, 300 - 20)


@pytest.mark.parametrize("cut", [5, 61, 125])
def test_restored_in_the_middle_it_writes_the_same_rows(cut: int) -> None:
    def played(restores: bool) -> dict[str, list[Row]]:
        profile = [[0, 1.0], [60, 3.0], [120, 2.0]]
        end = instant_ms(T0 + 3 * MINUTE)
        parents = [
            parent("V", algorithm="vwap", urgency="rest", volume_profile=profile, end_at=end),
            parent("O", algorithm="pov", participation=0.2, end_at=end),
            parent("I", algorithm="iceberg", display_quantity="7", limit_price="100", end_at=end),
        ]
        execution = Execution(lambda order: (order.quantity - order.traded) // 2, terms(), book(T0), *parents)
        for second in range(240):
            at = execution.now_ms
            messages = [book(at, 100.0 + second % 7), trade(at, 5.0 + second % 3)]
            if second in (100, 110):
                messages.append(halt(at, is_halted=second == 100))
            execution.run(*messages, ms=SECOND)
            if restores and second == cut:
                execution.restore()
        return execution.rows

    assert played(restores=True) == played(restores=False)


def test_books_and_trades_of_instruments_that_nobody_works_are_left_out_undecoded() -> None:
    execution = Execution(fills_all, terms(), parent(end_at=instant_ms(T0 + HOUR)))
    others = trade(T0, 1.0)
    others.row["instrument"] = "Q"
    data = batch.RECORD.join(batch.record(m.table, 0, 0, m.row) for m in (others, trade(T0, 1.0), terms()))
    _, left = take_plain(execution.state, data, T0 + SECOND)
    assert [topic for topic, *_ in batch.records(left)] == ["trades.v1", "instruments.v1"]


@pytest.mark.parametrize("case", [case for case in CASES if case.folder == "execution"], ids=str)
def test_a_case_of_the_job_is_what_the_kernel_makes_of_its_rows(case: Case) -> None:
    execution = Execution()
    execution.now_ms = case.start_ms // 50 * 50
    left = [Message(table, 0, at, row) for at, (table, row) in enumerate(case.given)]
    while execution.now_ms < case.end_ms:
        until_ms = execution.now_ms + 50
        execution.run(*(message for message in left if to_ms(message.row["event_at"]) < until_ms), ms=50)
        left = [message for message in left if to_ms(message.row["event_at"]) >= until_ms]
        execution.answers.clear()
    for table in case.checked:
        assert unmatched(execution.rows.get(table, []), case.expected.get(table, [])) == ([], [])
