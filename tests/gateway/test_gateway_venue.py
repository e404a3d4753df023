"""What a venue's session sends and publishes: each execution once, nothing of unknown fate twice.  No Java, no broker."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Message, message
from gateway.config import DropCopy
from tests.gateway.gateway_rows import NOW, Desk, order, report, trade

COPY = DropCopy.model_validate(
    {"name": "copy", "sender": "DESK", "target": "COPY", "connect": ["127.0.0.1:9"], "of_venue": "exch"}
)
UNKNOWN = report("0", "I", "8", further={103: "5", 58: "unknown order"})
TRADES = [trade(f"x{number}", t32=str(number), t14=str(number)) for number in range(1, 6)]


def on(**values: Any) -> Desk:
    own = Desk(**values)
    own.desk.logged_on()
    return own


def test_an_order_is_sent_once_however_often_its_row_comes() -> None:
    own = on()
    for _ in range(3):
        own.desk.order(order())
    assert own.kinds() == ["D"]


def test_the_answer_of_a_venue_is_a_row_once() -> None:
    own = on()
    own.desk.order(order())
    own.hear(report(), report())
    assert [row["exec_type"] for row in own.rows("execution_reports")] == ["new"]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["session", "copy", "resend", "possdup"])), max_size=40), st.data()
)
def test_session_drop_copy_and_resend_yield_each_fill_once(told: list[tuple[int, str]], data: st.DataObject) -> None:
    """Fills by ExecID, not by PossDup alone.

    https://github.com/quickfix/quickfix/issues/268: the same report once with and once without PossDupFlag.
    https://github.com/hummingbot/hummingbot/issues/1663: two feeds of the same fills race.
    https://github.com/nautechsystems/nautilus_trader/issues/3317: the same fill has the same id.
    """
    own = on()
    own.desk.order(order())
    for number, way in told:
        found = TRADES[number]
        if way != "session":
            found = message(
                "8", [*found.pairs, (43, "Y" if way == "possdup" else None), (34, str(data.draw(st.integers(2, 99))))]
            )
        own.desk.message(found, own.now_us + number, COPY if way == "copy" else None)
    wanted = {f"exch:20261130:x{number + 1}:buy" for number, _ in told}
    fills = [row["fill_id"] for row in own.rows("fills")]
    assert sorted(fills) == sorted(wanted)
    reports = [row["exec_id"] for row in own.rows("execution_reports")]
    assert sorted(reports) == sorted(wanted)


@given(st.permutations([trade("x1"), trade("x1", t54="2"), trade("x1", t60="20261201-12:00:00.000")]))
def test_venue_trade_date_exec_id_and_side_identify_a_fill(told: list[Message]) -> None:
    """One's own two sides of a trade, and an ExecID that is used again the next day, are other fills."""
    own = on(account="desk")
    own.hear(*told, *told)
    assert len(own.rows("fills")) == 3


def test_after_a_restart_no_fill_is_told_again() -> None:
    """https://github.com/hummingbot/hummingbot/issues/2945"""
    before = on()
    before.desk.order(order())
    before.hear(report(), trade())
    after = Desk()
    after.desk.order(order(), is_backlog=True)
    for table in ("execution_reports", "fills"):
        for row in before.rows(table):
            after.desk.told_before(table, row)
    after.desk.logged_on()
    after.hear(report(), trade())
    assert after.records == []


def test_a_fill_whose_report_alone_was_safe_at_a_crash_is_told() -> None:
    before, after = on(), Desk()
    for own in (before, after):
        own.desk.order(order(), is_backlog=own is after)
    before.hear(trade())
    after.desk.told_before("execution_reports", before.rows("execution_reports")[0])
    after.hear(trade())
    assert after.rows("fills") == before.rows("fills") and after.rows("execution_reports") == []


def test_a_drop_copy_that_has_the_fee_completes_the_fill_and_one_that_contradicts_is_a_row() -> None:
    own = on()
    own.desk.order(order())
    own.hear(trade(t12="", t13=""))
    assert own.rows("fills") == []
    own.desk.message(trade(), own.now_us, COPY)
    assert [row["fee"] for row in own.rows("fills")] == ["0.02"]
    own.hear(trade(t31="101"))
    assert [row["last_price"] for row in own.rows("execution_reports")] == ["100.5", "100.5", "101"]
    assert len(own.rows("fills")) == 1


def test_an_order_of_unknown_fate_is_asked_for_before_anything_is_sent() -> None:
    own = Desk()
    own.desk.order(order("o1"), is_backlog=True)
    own.desk.order(order("o2"))
    own.desk.logged_on()
    assert own.kinds() == ["H"]
    assert own.sent[0].get(11) == "o1"
    own.hear(report("0", "I", "0"))
    assert own.kinds() == ["H", "D"]
    assert own.sent[1].get(11) == "o2"


def test_an_order_that_the_venue_does_not_know_is_sent_if_it_is_young_and_reported_if_it_is_stale() -> None:
    young, stale = Desk(), Desk()
    for own, age_ms in ((young, 1_000), (stale, 60_000)):
        own.desk.order(order(age_ms=age_ms), is_backlog=True)
        own.desk.logged_on()
        own.hear(UNKNOWN)
    assert young.kinds() == ["H", "D"] and young.records == []
    assert stale.kinds() == ["H"]
    (row,) = stale.rows("execution_reports")
    assert (row["exec_type"], row["client_order_id"], row["leaves_quantity"]) == ("rejected", "o1", "0")
    assert "never reached the venue" in row["reason"]


def test_what_waited_too_long_while_the_venue_was_away_is_reported_but_a_cancel_goes_out() -> None:
    own = Desk()
    own.desk.order(order("o1", age_ms=6_000))
    own.desk.order(order("o2", "cancel", orig_client_order_id="o0", age_ms=6_000))
    own.desk.logged_on()
    assert own.kinds() == ["F"]
    assert [row["client_order_id"] for row in own.rows("execution_reports")] == ["o1"]


def test_a_stale_order_is_declined_on_purpose_and_reported_not_dropped() -> None:
    """The gap is filled instead of the order: https://github.com/connamara/quickfixn/issues/825."""
    own = on()
    own.desk.order(order())
    own.desk.logged_out()
    own.now_us += 60_000_000
    own.desk.logged_on()
    own.desk.gap_filled(own.sent[0])
    assert own.kinds() == ["D", "H", "H"] and own.desk.declined == 1
    own.hear(UNKNOWN)
    assert [row["exec_type"] for row in own.rows("execution_reports")] == ["rejected"]


def test_a_venue_that_does_not_answer_leaves_the_order_unknown_and_ends_nothing() -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4152: no end without the venue's word."""
    own = Desk()
    own.desk.order(order("o1"), is_backlog=True)
    own.desk.order(order("o2"))
    own.desk.logged_on()
    own.now_us += 4_000_000
    own.desk.tick()
    assert own.kinds() == ["H"]
    own.now_us += 2_000_000
    own.desk.tick()
    assert own.desk.unknown() == 1
    assert [row["client_order_id"] for row in own.rows("execution_reports")] == ["o2"]  # it waited too long meanwhile


def test_a_cancel_of_unknown_fate_is_refused_where_the_venue_says_that_the_order_works() -> None:
    own = on()
    own.desk.order(order("o1"))
    own.hear(report())
    own.desk.order(order("o2", "cancel", orig_client_order_id="o1", order_id="v1"))
    own.desk.logged_out()
    own.desk.logged_on()
    assert own.sent[-1].kind == "H" and own.sent[-1].get(11) == "o1"
    own.hear(report("0", "I", "0"))
    last = own.rows("execution_reports")[-1]
    assert (last["exec_type"], last["client_order_id"]) == ("cancel_rejected", "o2")


def test_a_status_that_bears_the_id_of_a_replace_says_that_it_was_accepted() -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4270: the replacement's acknowledgement was dropped."""
    own = on()
    own.desk.order(order("o1"))
    own.hear(report())
    own.desk.order(order("o2", "replace", orig_client_order_id="o1", order_id="v1", quantity="5"))
    own.desk.logged_out()
    own.desk.logged_on()
    own.hear(report("0", "I", "0", "o2", {41: "o1", 38: "5", 151: "5"}))
    last = own.rows("execution_reports")[-1]
    assert (last["exec_type"], last["client_order_id"], last["orig_client_order_id"], last["quantity"]) == (
        "replaced",
        "o2",
        "o1",
        "5",
    )


def test_open_orders_are_asked_for_all_at_once_where_the_venue_has_that_and_the_rest_one_by_one() -> None:
    own = Desk(dialect="simulated")
    for name in ("o1", "o2"):
        own.desk.order(order(name), is_backlog=True)
    own.desk.logged_on()
    assert own.kinds() == ["AF"]
    asked = own.sent[0].get(584)
    own.hear(report("0", "I", "0", "o1", {584: asked, 911: "1", 912: "Y"}))
    assert own.kinds() == ["AF", "H"]
    assert own.sent[1].get(11) == "o2"


def test_a_venue_gets_no_more_orders_a_second_than_it_may() -> None:
    own = on(orders_per_s=2)
    for number in range(5):
        own.desk.order(order(f"o{number}"))
    assert len(own.sent) == 2 and own.desk.held() == 3
    own.now_us += 1_000_000
    own.desk.tick()
    assert len(own.sent) == 4


def test_an_order_that_fix_cannot_say_is_reported_and_the_next_one_goes_out() -> None:
    own = on()
    own.desk.order(order("o1", order_type="pegged"))
    own.desk.order(order("o2"))
    assert own.kinds() == ["D"]
    (row,) = own.rows("execution_reports")
    assert row["reason"].startswith("order_type: expected market, limit")


@pytest.mark.parametrize("fields", [{45: "1", 373: "1", 58: "tag missing"}, {379: "o1", 380: "0", 58: "tag missing"}])
def test_an_order_whose_message_the_venue_rejects_is_reported_as_rejected(fields: dict[int, str]) -> None:
    own = on()
    own.desk.order(order("o1"))
    own.hear(message("3" if 373 in fields else "j", fields.items()))
    (row,) = own.rows("execution_reports")
    assert (row["exec_type"], row["client_order_id"]) == ("rejected", "o1")
    assert row["reason"] == "the venue rejects the message: tag missing"


@pytest.mark.parametrize("code", ["1", "0"])
def test_a_cancel_reject_leaves_the_order_to_be_asked_for_at_the_next_logon(code: str) -> None:
    """https://github.com/deepentropy/ibx/pull/379: CxlRejReason 1 says nothing of how the order stands."""
    own = on()
    own.desk.order(order("o1"))
    own.hear(report())
    own.desk.order(order("o2", "cancel", orig_client_order_id="o1"))
    own.hear(message("9", [(37, "v1"), (11, "o2"), (41, "o1"), (39, "8"), (434, "1"), (102, code), (60, NOW)]))
    assert own.rows("execution_reports")[-1]["order_status"] is None
    own.desk.logged_out()
    own.desk.logged_on()
    assert (own.sent[-1].kind, own.sent[-1].get(11)) == ("H", "o1")
