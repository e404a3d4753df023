"""The order path: what is sent to venues, and the story of each order."""

from engine.contract import Message, Output
from kernels.orders import KERNEL
from kernels.orders.ids import LENGTH, client_order_id
from schemas.controls import GATE
from tests.kernels.obeying import READ, applied
from tests.kernels.order_path import (
    DAY,
    T0,
    Path,
    at,
    broken,
    fill,
    held,
    liquidation,
    margin,
    market,
    refusals,
    report,
    request,
    sent,
    transitions,
)


def test_an_order_is_sent_once_however_often_it_is_requested() -> None:
    path = Path()
    assert sent(path.step(request(), request())) == [("new", "X", None)]
    assert path.step(request()) == []


def test_a_client_order_id_with_other_contents_is_refused_once() -> None:  # F.1.a
    path = Path()
    path.step(request())
    path.step(report("1", "new"), fill("2", "1"))
    outputs = path.step(request(quantity="15"))
    assert (sent(outputs), refusals(outputs)) == ([], ["client_order_id"])
    assert transitions(outputs) == [("refused", "partially_filled")]
    assert path.step(request(quantity="15")) == []
    assert path.step(request(quantity="10.0")) == [], "the same number"


def test_the_story_of_an_order_from_request_to_fill() -> None:
    path = Path()
    assert transitions(path.step(request())) == [("requested", "pending_new")]
    assert transitions(path.step(report("1", "new", order_id="o"), fill("2", "4", T0 + 1))) == [
        ("new", "new"),
        ("trade", "partially_filled"),
    ]
    assert sent(path.step(request("Y", "replace", "X", quantity="12"))) == [("replace", "Y", "X")]
    outputs = path.step(report("3", "replaced", "Y", orig_client_order_id="X"), fill("4", "8", T0 + 2, "Y", "110"))
    assert transitions(outputs) == [("replaced", "partially_filled"), ("trade", "filled")]
    row = outputs[-1].row
    assert (row["order_key"], row["client_order_id"], row["number"]) == ("X", "Y", 6)
    assert (row["cum_quantity"], row["leaves_quantity"], row["from_status"]) == ("12", "0", "partially_filled")
    assert str(row["average_price"]).startswith("106.666666666666666667")
    assert path.step(fill("4", "8", T0 + 2, "Y", "110")) == [], "a repeat"


def test_an_exec_id_with_two_contents_is_an_alarm() -> None:
    path = Path()
    path.step(request())
    path.step(fill("2", "4"))
    assert transitions(path.step(fill("2", "5"))) == [("conflict", "partially_filled")]


def test_a_refused_order_is_told_with_rule_and_figures_and_not_sent() -> None:
    path = Path()
    outputs = path.step(request(quantity="101"))
    assert (sent(outputs), transitions(outputs), refusals(outputs)) == ([], [("refused", "rejected")], ["credit"])
    assert outputs[-1].row["reason"] == "it needs 1010.00 USD, of which 1000.00 is free"
    assert path.step(request(quantity="101")) == [], "a repeat"


def test_credit_keeps_back_each_open_order() -> None:
    path = Path()
    path.step(request("A", quantity="60"))
    assert refusals(path.step(request("B", quantity="50"))) == ["credit"]
    path.step(report("1", "cancelled", "A"))
    assert refusals(path.step(request("C", quantity="50"))) == []


def test_credit_keeps_back_a_fill_until_a_row_of_margin_includes_it() -> None:
    path = Path()
    path.step(request("A", quantity="60"))
    path.step(fill("1", "60", name="A"))
    assert refusals(path.step(request("B", quantity="50"))) == ["credit"]
    path.step(margin(path.until_ms))
    assert refusals(path.step(request("C", quantity="50"))) == ["credit"], "positions does not have the fill yet"
    path.step(held("60", "1"))
    assert refusals(path.step(request("D", quantity="50"))) == ["credit"], "margin is older than the position"
    outputs = path.step(margin(path.until_ms, initial=300.0), request("E", quantity="70"))
    assert refusals(outputs) == []


def test_a_position_that_comes_before_the_report_of_its_fill_counts_once() -> None:
    path = Path()
    path.step(request("A", quantity="60"))
    path.step(held("60", "1"))
    path.step(fill("1", "60", name="A"))
    assert path.state.accounts["a"].position("v:P") == 60


def test_a_pending_replace_counts_the_larger_quantity() -> None:
    path = Path()
    path.step(request("A", quantity="40"))
    path.step(report("1", "new", "A"))
    path.step(request("B", "replace", "A", quantity="80"))
    assert refusals(path.step(request("C", quantity="30"))) == ["credit"]
    path.step(report("2", "cancel_rejected", "B", orig_client_order_id="A"))
    assert refusals(path.step(request("D", quantity="30"))) == []
    path.step(request("E", "replace", "A", quantity="10"))
    assert refusals(path.step(request("F", quantity="50"))) == ["credit"], "until it is accepted it is for 40"


def test_a_cancel_goes_to_the_order_by_whatever_id_the_chain_has() -> None:
    path = Path()
    path.step(request("A"))
    path.step(request("B", "replace", "A"))
    path.step(fill("1", "1", name="B"))  # the answer to the replace was lost
    assert sent(path.step(request("C", "cancel", "B"))) == [("cancel", "C", "B")]


def test_the_cancel_of_an_unknown_order_is_refused_and_its_id_stays_free() -> None:  # B.1.f
    path = Path()
    assert refusals(path.step(request("C", "cancel", "A"))) == ["unknown order"]
    assert sent(path.step(request("A"))) == [("new", "A", None)]


def test_a_cancel_of_what_is_over_is_refused_and_changes_nothing() -> None:
    path = Path()
    path.step(request("A", quantity="1"))
    path.step(fill("1", "1", name="A"))
    outputs = path.step(request("C", "cancel", "A"))
    assert (refusals(outputs), transitions(outputs)) == (["too late"], [("refused", "filled")])


def test_a_request_without_an_answer_is_told_once_and_no_state_is_made_up() -> None:
    path = Path()
    path.step(request())
    path.step(report("1", "new"))
    path.step(request("C", "cancel", "X"))
    assert path.step(ms=4_900) == []
    outputs = path.step(ms=200)
    assert transitions(outputs) == [("unanswered", "new")] and outputs[0].row["cause_id"] == "C"
    assert path.step(ms=DAY) == []
    assert transitions(path.step(report("2", "cancelled", "C", path.until_ms, orig_client_order_id="X"))) == [
        ("cancelled", "cancelled")
    ]


def test_an_old_request_is_declined_and_reported() -> None:
    path = Path()
    assert refusals(path.step(request(ms=T0 - 11_000))) == ["age"]


def test_a_halted_instrument_takes_no_order_and_lets_cancels_through() -> None:
    path = Path()
    path.step(request("A"))
    halt = Message("trading_halts", 0, 0, {"venue": "v", "instrument": None, **at(T0), "is_halted": True, "reason": "flood"})
    outputs = path.step(halt, request("B"), request("C", "cancel", "A"))
    assert (refusals(outputs), sent(outputs)) == (["gate"], [("cancel", "C", "A")])
    assert "flood" in str(next(output.row["reason"] for output in outputs if output.row.get("rule")))


def test_a_liquidation_cancels_the_accounts_own_orders_first_and_keeps_to_its_limit() -> None:
    path = Path()
    path.step(request("A"), held("10", "0"))
    outputs = path.step(liquidation(), margin(T0, -1.0))
    kinds = [(row["request"], row["source"], row["price"], row["quantity"]) for table, _, row in outputs if table == "orders"]
    assert kinds == [("cancel", "gate", None, None), ("new", "liquidation", "95.5", "4")], "the limit on the grid"
    order = [output.row for output in outputs if output.table == "orders"][-1]
    assert order["is_reduce_only"] and order["time_in_force"] == "ioc"
    assert order["client_order_id"] == client_order_id("liquidation", "a/1/1")
    assert path.step(liquidation()) == [], "decided once"


def test_client_order_ids_are_the_same_for_the_same_decision_and_fit_every_venue() -> None:
    assert client_order_id("hedge", "a", 1) == client_order_id("hedge", "a", 1) != client_order_id("hedge", "a1", "")
    assert len(client_order_id("x")) == LENGTH == 32 and client_order_id("x").isalnum()


def test_a_kill_cancels_every_working_order_of_its_scope_and_lets_none_out() -> None:
    path = Path()
    path.step(request("A"), request("B", price="99"), request("O", account="b", price="99"))  # no position anywhere
    outputs = path.step(applied("account:a", "cancel-all"), request("C"))
    assert refusals(outputs) == ["gate"]
    assert {orig for kind, _, orig in sent(outputs) if kind == "cancel"} == {"A", "B"}
    assert sent(path.step()) == [], "asked for once"
    assert sent(path.step(applied("account:a", "run"), request("D"))) == [("new", "D", None)]


def test_nothing_but_a_cancel_leaves_before_the_topic_of_controls_is_read() -> None:
    path = Path()
    path.step(request("A"))
    outputs = path.step(applied(GATE, "halt"), request("B"), request("C", "cancel", "A"), liquidation())
    assert refusals(outputs) == ["gate", "gate"]
    assert {kind for kind, _, _ in sent(outputs)} == {"cancel"}


def test_reduce_only_lets_an_exit_out_and_a_circuit_break_only_where_its_rule_does() -> None:
    path = Path()
    path.step(held("10", "0"))
    outputs = path.step(applied("underlying:BTC", "reduce-only"), request("A"), request("B", side="sell", quantity="10"))
    assert (refusals(outputs), sent(outputs)) == (["gate"], [("new", "B", None)])
    path.step(applied("underlying:BTC", "run"), report("1", "cancelled", "B", side="sell"))
    for name, passes_exits, leave in (("C", False, []), ("D", True, [("new", "D", None)])):
        outputs = path.step(broken(passes_exits), request(name, side="sell", quantity="10"), request(f"{name}1"))
        assert sent(outputs) == leave
        assert "circuit break: v:P" in str(outputs[-1].row["reason"])


def test_a_circuit_break_holds_no_order_that_only_offers() -> None:
    path = Path()
    path.step(broken(False))
    assert sent(path.step(request("Q", time_in_force="post_only"))) == [("new", "Q", None)]
    assert refusals(path.step(request("T"))) == ["gate"]
    path.step(applied("underlying:BTC", "reduce-only"))
    assert refusals(path.step(request("R", time_in_force="post_only"))) == ["gate"], "a control does"


def test_a_liquidation_obeys_a_control_that_names_it_alone() -> None:
    path = Path()
    path.step(held("10", "0"))
    outputs = path.step(applied("algo:liquidations", "halt"), liquidation())
    assert [kind for kind, _, _ in sent(outputs)] == ["new"]
    later = liquidation()
    later.row["order_id"] = "a/1/2"
    assert refusals(path.step(applied("algo:liquidations", "halt", liquidations=True), later)) == ["gate"]


def test_an_order_that_was_not_requested_here_is_followed_all_the_same() -> None:  # E.1.a
    path = Path()
    outputs = path.step(report("1", "new", None, order_id="o", quantity="10"), fill("2", "4", T0 + 1, name=None, order_id="o"))  # type: ignore[arg-type]
    assert transitions(outputs) == [("new", "new"), ("trade", "partially_filled")]
    assert outputs[-1].row["order_key"] == "o"


def test_what_is_no_request_is_a_dead_letter_and_costs_the_others_nothing() -> None:
    path = Path()
    outputs = path.step(
        request("A-1"),
        request("B", kind="amend"),
        request("C", "cancel"),
        request("D", source="me"),
        request("E"),
        request("F", quantity="1e-19"),
    )
    wrong = {output.row["field"] for output in outputs if output.table == "dead_letters"}
    assert wrong == {"client_order_id", "request", "orig_client_order_id", "source", "quantity"}
    assert sent(outputs) == [("new", "E", None)]


def test_an_order_is_forgotten_when_a_request_of_its_id_would_be_too_old() -> None:
    path = Path()
    path.step(request("A"), request("B"))
    path.step(report("1", "cancelled", "A"), fill("2", "1", name="B"), report("3", "cancelled", "B", T0 + 1))
    path.step(ms=61_000)
    assert list(path.state.accounts["a"].orders.by_key) == ["B"]
    assert refusals(path.step(request("A"))) == ["age"]
    path.step(ms=DAY)
    path.step(ms=61_000)
    assert path.state.accounts["a"].orders.by_key == {}


STORY = [
    [READ, *market(), request("A", quantity="20"), request("B", price="99")],
    [
        report("1", "new", "A", order_id="o"),
        fill("2", "3", T0 + 60, "A"),
        request("C", "replace", "A", ms=T0 + 70, quantity="25"),
    ],
    [held("3", "2", T0 + 60), report("3", "pending_replace", "C", T0 + 110, orig_client_order_id="A")],
    [margin(T0 + 149, 1_000.0, 30.0), fill("4", "2", T0 + 160, "C"), request("D", "cancel", "B", ms=T0 + 170)],
    [
        report("5", "trade_correct", "A", T0 + 210, last_quantity="1", last_price="101", exec_ref_id="2"),
        fill("4", "2", T0 + 160, "C"),
    ],
    [liquidation(ms=T0 + 260), request("E", ms=T0 + 270), request("A", quantity="21")],
    [report("6", "cancelled", "D", T0 + 310, orig_client_order_id="B")],
]


def play(cut: int | None = None) -> list[Output]:
    """Every row of the story; from the cut on by a state that was restored."""
    state, outputs, entries = KERNEL.new(), [], dict[str, bytes]()
    for number, messages in enumerate(STORY):
        if number == cut:
            state = KERNEL.new()
            for name, data in sorted(entries.items(), reverse=True):
                state.decode(name, data)
        outputs += KERNEL.step(state, messages, T0 + 50 * (number + 1))
        for name in state.touched:
            if (data := state.encode(name)) is None:
                entries.pop(name, None)
            else:
                entries[name] = data
        state.touched.clear()
    outputs += KERNEL.step(state, [], T0 + 20_000)
    return outputs


def test_what_follows_is_the_same_after_a_restore_at_any_cut() -> None:
    whole = play()
    assert len(whole) > 15
    for cut in range(1, len(STORY)):
        assert play(cut) == whole


def test_rows_do_not_depend_on_the_order_within_a_batch() -> None:
    whole = play()
    for messages in STORY:
        messages.reverse()
    assert play() == whole
