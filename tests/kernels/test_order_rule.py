"""The state of an order by the rule of FIX 4.4: its matrices, faults that others had, and any order of messages."""

from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.orders.order import ENDINGS, Order, Report, Request
from kernels.orders.orders import Orders


def venue(quantity: int = 10_000, time_in_force: str = "gtc") -> Orders:
    """The orders of an account with one, X, that was sent."""
    orders = Orders()
    orders.add(Order("X", side="buy", quantity=Decimal(quantity), time_in_force=time_in_force))
    return orders


def ask(orders: Orders, name: str, orig: str, kind: str, quantity: int | None = None) -> None:
    order = orders.get(orig)
    assert order is not None
    order.ask(name, Request(kind, orig, 0, None if quantity is None else Decimal(quantity)))
    orders.add(order)


def say(orders: Orders, exec_type: str, name: str | None = "X", **fields: Any) -> tuple[str | None, int, int, int]:
    """Status, OrderQty, CumQty and LeavesQty with a report; without a status where it says nothing new."""
    say.count = getattr(say, "count", 0) + 1  # type: ignore[attr-defined]
    numbers = {key: Decimal(str(value)) for key, value in fields.items() if key.endswith(("quantity", "price"))}
    exec_id = fields.pop("exec_id", f"e{say.count}")  # type: ignore[attr-defined]
    event_ms = fields.pop("event_ms", say.count)  # type: ignore[attr-defined]
    report = Report(exec_id, exec_type, event_ms, name, **fields | numbers)
    order, change, _ = orders.apply(report)
    return change and change.status, int(order.quantity or 0), int(order.cum_quantity), int(order.leaves_quantity)


def trade(orders: Orders, size: float, name: str = "X", price: float = 100, **fields: Any) -> tuple[str | None, int, int, int]:
    return say(orders, "trade", name, last_quantity=size, last_price=price, **fields)


def test_an_order_cancelled_before_it_is_acknowledged() -> None:  # B.1.d
    orders = venue()
    ask(orders, "Y", "X", "cancel")
    assert say(orders, "pending_cancel", "Y") == ("pending_cancel", 10_000, 0, 10_000)
    assert say(orders, "new") == ("new", 10_000, 0, 10_000)
    assert say(orders, "cancelled", "Y") == ("cancelled", 10_000, 0, 0)


def test_a_replace_to_less_than_has_traded_is_one_to_what_has_traded() -> None:  # C.3.c
    orders = venue()
    say(orders, "new")
    ask(orders, "Y", "X", "replace", 7_000)
    assert trade(orders, 8_000) == ("partially_filled", 10_000, 8_000, 2_000)
    assert say(orders, "replaced", "Y") == ("filled", 8_000, 8_000, 0)


def test_a_refused_replace_leaves_a_filled_order_filled() -> None:  # C.2.a
    orders = venue()
    say(orders, "new")
    trade(orders, 1_000)
    ask(orders, "Y", "X", "replace", 10_000)
    assert trade(orders, 9_000) == ("filled", 10_000, 10_000, 0)
    assert say(orders, "cancel_rejected", "Y") == ("filled", 10_000, 10_000, 0)


def test_two_open_replaces_are_refused_one_after_the_other() -> None:  # D.2.c
    orders = venue()
    say(orders, "new")
    trade(orders, 1_000)
    ask(orders, "Y", "X", "replace", 8_000)
    ask(orders, "Z", "Y", "replace", 7_000)
    statuses = [say(orders, kind, name)[0] for name in ("Y", "Z") for kind in ("pending_replace", "cancel_rejected")]
    assert statuses == ["pending_replace", "partially_filled"] * 2
    assert trade(orders, 2_000) == ("partially_filled", 10_000, 3_000, 7_000)


def test_a_status_request_by_an_earlier_id_tells_of_the_replaced_order() -> None:  # G.1.c
    orders = venue()
    say(orders, "new")
    trade(orders, 10_000)
    ask(orders, "Y", "X", "replace", 12_000)
    assert say(orders, "pending_replace", "Y") == ("pending_replace", 10_000, 10_000, 0)
    assert say(orders, "replaced", "Y") == ("partially_filled", 12_000, 10_000, 2_000)
    assert say(orders, "status", "X")[1:] == (12_000, 10_000, 2_000)


def test_corrections_of_two_days_of_an_order_that_was_restated() -> None:  # J.1.c
    orders = venue()
    say(orders, "new")
    trade(orders, 2_000, exec_id="B")
    assert say(orders, "done_for_day") == ("done_for_day", 10_000, 2_000, 8_000)
    assert say(orders, "restated", quantity=10_000) == ("partially_filled", 10_000, 2_000, 8_000)
    trade(orders, 1_000, exec_id="E")
    assert say(orders, "trade_correct", last_quantity=1_500, exec_ref_id="B") == ("partially_filled", 10_000, 2_500, 7_500)
    assert say(orders, "trade_correct", last_quantity=500, exec_ref_id="E") == ("partially_filled", 10_000, 2_000, 8_000)


def test_more_traded_than_ordered_is_a_reason_and_leaves_nothing() -> None:
    orders = venue(5)
    order, change, _ = orders.apply(Report("e", "trade", 1, "X", last_quantity=Decimal("5.012345"), last_price=Decimal(1)))
    assert change is not None and change.reason == "traded 5.012345 of 5"
    assert order.leaves_quantity == 0 and order.status() == "filled"


def test_what_a_venue_tells_as_a_sum_never_adds_quantity() -> None:
    orders = venue(20)
    order, change, _ = orders.apply(Report("s", "status", 1, "X", order_status="filled", cum_quantity=Decimal(20)))
    assert order.cum_quantity == 0 and change is not None and "tells 20 traded" in str(change.reason)
    assert trade(orders, 20) == ("filled", 20, 20, 0)


def test_the_same_fill_by_the_session_and_by_a_drop_copy_is_one() -> None:
    orders = venue()
    assert trade(orders, 400, exec_id="E") == ("partially_filled", 10_000, 400, 9_600)
    assert trade(orders, 400, exec_id="E") == (None, 10_000, 400, 9_600)


def test_one_exec_id_with_two_contents_is_an_alarm_and_the_first_counts() -> None:
    orders = venue()
    trade(orders, 400, exec_id="E")
    order, change, _ = orders.apply(Report("E", "trade", 9, "X", last_quantity=Decimal(500), last_price=Decimal(100)))
    assert change is not None and change.event == "conflict" and "500" in str(change.reason)
    assert order.cum_quantity == 400


def test_a_later_row_may_tell_what_the_first_left_open() -> None:
    orders = venue()
    say(orders, "trade", last_quantity=400, exec_id="E")
    order = orders.get("X")
    assert order is not None and order.executions.average() is None
    assert trade(orders, 400, exec_id="E")[1:] == (10_000, 400, 9_600)
    assert order.executions.average() == 100


def test_a_fill_before_the_answer_to_a_replace_stays_counted() -> None:
    orders = venue(1_000)
    say(orders, "new")
    ask(orders, "Y", "X", "replace", 1_000)
    trade(orders, 165)
    assert say(orders, "replaced", "Y") == ("partially_filled", 1_000, 165, 835)


def test_a_fill_that_bears_the_id_of_a_replace_says_that_it_was_accepted() -> None:
    orders = venue()
    say(orders, "new")
    ask(orders, "Y", "X", "replace", 12_000)
    assert trade(orders, 100, "Y") == ("partially_filled", 12_000, 100, 11_900)
    order = orders.get("X")
    assert order is not None and order.client_order_id == "Y" and not order.requests
    assert say(orders, "replaced", "Y") == ("partially_filled", 12_000, 100, 11_900)


def test_a_fill_that_bears_the_id_of_a_cancel_is_one_of_the_order() -> None:
    orders = venue()
    say(orders, "new")
    ask(orders, "Y", "X", "cancel")
    say(orders, "pending_cancel", "Y")
    assert trade(orders, 10_000, "Y") == ("pending_cancel", 10_000, 10_000, 0)
    assert say(orders, "cancel_rejected", "Y")[0] == "filled"


def test_a_replaced_order_and_its_replacement_are_one() -> None:
    orders = venue(19)
    trade(orders, 15)
    ask(orders, "Y", "X", "replace", 19)
    say(orders, "replaced", "Y", cum_quantity=15)
    assert trade(orders, 4, "Y") == ("filled", 19, 19, 0)
    assert len(orders.by_key) == 1


def test_a_replace_of_an_open_replace_that_is_accepted_first_accepts_both() -> None:
    orders = venue()
    say(orders, "new")
    ask(orders, "Y", "X", "replace", 8_000)
    ask(orders, "Z", "Y", "replace", 7_000)
    assert say(orders, "replaced", "Z") == ("new", 7_000, 0, 7_000)
    assert say(orders, "replaced", "Y") == ("new", 7_000, 0, 7_000)


def test_a_fill_after_a_cancel_counts_and_the_order_stays_cancelled() -> None:  # J.1.b
    orders = venue()
    say(orders, "new")
    say(orders, "cancelled")
    assert trade(orders, 4_000) == ("cancelled", 10_000, 4_000, 0)
    assert say(orders, "new")[1:] == (10_000, 4_000, 0)


def test_the_cancel_of_an_unknown_order_puts_none_back_to_work() -> None:  # B.1.f
    orders = venue()
    say(orders, "cancelled")
    ask(orders, "Y", "X", "cancel")
    assert say(orders, "cancel_rejected", "Y", reason="unknown order")[0] == "cancelled"


def test_a_correction_that_comes_before_its_trade_waits_for_it() -> None:
    orders = venue()
    assert say(orders, "trade_correct", last_quantity=300, exec_ref_id="E", last_price=90)[2] == 0
    assert trade(orders, 400, exec_id="E", event_ms=0)[2] == 300


def test_a_fill_by_the_venues_id_alone_belongs_to_the_order_that_turns_out_to_have_it() -> None:
    orders = venue()
    say(orders, "trade", None, order_id="o1", last_quantity=100, last_price=1)
    assert len(orders.by_key) == 2
    assert say(orders, "new", order_id="o1") == ("partially_filled", 10_000, 100, 9_900)
    assert len(orders.by_key) == 1


def test_a_stop_ends_with_the_order() -> None:
    orders = venue()
    say(orders, "new")
    assert say(orders, "stopped", last_quantity=1_000, last_price=50)[0] == "stopped"
    assert trade(orders, 1_000)[0] == "stopped"
    assert say(orders, "expired") == ("expired", 10_000, 1_000, 0)


def story(chance: Random) -> list[Report]:
    """What a venue may say of an order of 1,000, and of replaces to 1,500 and 800."""
    reports = [Report("n", "new", 0, "X", order_id="o")]
    for number in range(chance.randint(0, 5)):
        trade_id, size, price = f"t{number}", Decimal(chance.randint(1, 700)) / 8, Decimal(chance.randint(1, 700)) / 4
        name = chance.choice("XC")
        reports.append(Report(trade_id, "trade", number + 1, name, order_id="o", last_quantity=size, last_price=price))
        kind = chance.randint(0, 3)
        if kind == 0:
            reports.append(Report(f"b{number}", "trade_cancel", number + 9, "X", exec_ref_id=trade_id))
        elif kind == 1:
            fixed = Report(f"c{number}", "trade_correct", number + 9, "X", exec_ref_id=trade_id)
            reports.append(fixed._replace(last_quantity=Decimal(chance.randint(1, 700)), last_price=price))
            if chance.random() < 0.5:
                reports.append(Report(f"d{number}", "trade_cancel", number + 20, "X", exec_ref_id=f"c{number}"))
    for number in range(chance.randint(0, 3)):
        told = chance.choice(["pending_replace", "replaced", "cancel_rejected"])
        reports.append(Report(f"r{number}", told, 30 + number, chance.choice("YZ"), "X"))
    if chance.random() < 0.5:
        reports.append(Report("p", "pending_cancel", 40, "C", "X"))
    if (ending := chance.choice(["", "cancelled", "expired", "done_for_day", "stopped", "status"])) != "":
        reports.append(Report("z", ending, 41, "X", order_status="partially_filled"))
    return reports


def after(reports: list[Report]) -> Order:
    """The order after these reports; what must hold after each of them is checked."""
    orders = venue(1_000, "day")
    ask(orders, "Y", "X", "replace", 1_500)
    ask(orders, "Z", "Y", "replace", 800)
    ask(orders, "C", "X", "cancel")
    seen: set[str] = set()
    for report in reports:
        before = orders.by_key["X"].cum_quantity
        order, change, _ = orders.apply(report)
        assert order.key == "X" and len(orders.by_key) == 1
        assert order.leaves_quantity >= 0
        assert order.leaves_quantity in (0, max((order.quantity or 0) - order.cum_quantity, 0))
        assert change is None or change.traded == order.cum_quantity - before
        assert report.exec_type.startswith("trade") or order.cum_quantity == before
        assert report.exec_id not in seen or (change is None and order.cum_quantity == before)
        assert order.ending is None or order.leaves_quantity == 0
        seen.add(report.exec_id)
    return orders.by_key["X"]


def counted(reports: list[Report]) -> Decimal:
    """What has traded: of each trade its last correction, by the time of each."""
    by_id = {report.exec_id: report for report in reports if report.exec_type.startswith("trade")}
    total = Decimal(0)
    for trade_id in [name for name in by_id if name.startswith("t")]:
        number = trade_id[1:]
        newest = next(by_id[kind + number] for kind in "dcbt" if kind + number in by_id)
        total += newest.last_quantity or 0
    return total


@settings(max_examples=1_000, deadline=None, database=None)
@given(st.integers(0, 2**32))
def test_sums_and_endings_are_the_same_in_whatever_order_and_however_often_messages_come(seed: int) -> None:
    chance = Random(seed)
    reports = story(chance)
    in_order = after(reports)
    for _ in range(10):
        messages = reports + chance.choices(reports, k=chance.randint(0, 4))
        chance.shuffle(messages)
        order = after(messages)
        assert order.cum_quantity == in_order.cum_quantity == counted(reports)
        assert order.executions.average() == in_order.executions.average()
        assert order.ending == in_order.ending
        assert order.ending not in ENDINGS or order.status() in (order.ending, "filled", "done_for_day")
