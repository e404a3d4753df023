"""What clients want and are told, and what a copy says: no Java, no broker."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Record
from gateway import Message, message
from gateway.clients import ClientDesk, RiskDesk
from gateway.config import Risk
from gateway.ledger import Ledger
from gateway.requests import mass_cancel, own_id
from kernels.orders import wrong_request
from schemas.rows import fault
from tests.gateway.gateway_rows import NOW, NOW_US, client, state


class Client:
    """A client's desk, with what it publishes and tells."""

    def __init__(self, path: Path | None = None, **values: Any) -> None:
        self.records: list[Record] = []
        self.told: list[Message] = []
        self.session = client(**values)
        self.desk = ClientDesk(self.session, self.records.append, self._send, lambda: NOW_US, Ledger(path))

    def _send(self, found: Message) -> int:
        self.told.append(found)
        return len(self.told)

    def say(self, kind: str = "D", **values: str) -> None:
        fields = {11: "a-1", 55: "BTC-PERP", 54: "1", 60: NOW, 38: "3", 40: "2", 44: "100.5", 59: "1"}
        own = {int(tag.removeprefix("t")): value for tag, value in values.items()}
        self.desk.message(message(kind, (fields | own).items()))

    def rows(self) -> list[Any]:
        return [record.row for record in self.records]

    def key(self, cl_ord_id: str = "a-1") -> str:
        return own_id(self.session, cl_ord_id)


def test_an_order_of_a_client_is_a_request_like_any_other() -> None:
    own = Client(source="person")
    own.say(t18="6 E")
    (row,) = own.rows()
    assert fault("order_requests", row) is None and wrong_request(dict(row)) is None
    assert (row["request"], row["source"], row["time_in_force"], row["is_reduce_only"]) == ("new", "person", "post_only", True)
    assert row["event_at"] == "2026-11-30T12:00:00.000Z"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64))
def test_our_id_is_up_to_32_letters_and_digits_and_follows_from_the_clients(cl_ord_id: str) -> None:
    name = own_id(client(), cl_ord_id)
    assert len(name) <= 32 and name.isalnum() and name.isascii()
    assert name == own_id(client(), cl_ord_id) != own_id(client(target="BOB"), cl_ord_id)


def test_a_repeat_is_the_same_request_and_another_use_of_its_id_is_refused() -> None:
    own = Client()
    own.say()
    own.say(t43="Y")
    assert own.rows()[0] == own.rows()[1] and own.told == []
    own.say()
    own.say(t38="5", t43="Y")
    assert [(told.get(39), told.get(103)) for told in own.told] == [("8", "6"), ("8", "6")]
    assert len(own.rows()) == 2


@pytest.mark.parametrize(
    ("tag", "value", "code", "words"),
    [
        ("t1", "other", "15", "Account (1): expected desk, got 'other'"),
        ("t54", "5", "11", "Side (54): expected 1 or 2"),
        ("t40", "3", "11", "OrdType (40): expected 1, 2"),
        ("t59", "2", "11", "TimeInForce (59)"),
        ("t38", "-1", "13", "OrderQty (38): expected a number above 0"),
        ("t38", "many", "99", "OrderQty (38): expected a number"),
        ("t44", "", "99", "Price (44): expected a number of a limit order"),
        ("t44", "1e40", "99", "price: expected a decimal as text, below 1e20"),
        ("t38", "1e999999999", "99", "OrderQty (38): expected a number"),
        ("t18", "G", "11", "ExecInst (18): expected 6 or E"),
        ("t60", "noon", "99", "60: expected a UTCTimestamp"),
    ],
)
def test_what_cannot_be_wanted_is_refused_at_once_and_names_the_field(tag: str, value: str, code: str, words: str) -> None:
    own = Client()
    own.say(**{tag: value})
    (told,) = own.told
    assert (told.kind, told.get(150), told.get(39), told.get(103), told.get(11)) == ("8", "8", "8", code, "a-1")
    assert words in (told.get(58) or "") and own.rows() == []


def test_a_cancel_of_an_order_that_nobody_knows_is_rejected_as_unknown() -> None:
    own = Client()
    own.say("F", t11="a-2", t41="a-1")
    (told,) = own.told
    assert (told.kind, told.get(37), told.get(41), told.get(434), told.get(102)) == ("9", "NONE", "a-1", "1", "1")


def test_a_symbol_and_quantities_of_the_client_are_ours_inside_and_its_own_outside() -> None:
    own = Client(instruments={"deribit:BTC-PERPETUAL": {"symbol": "XBT", "multiplier": "10"}})
    own.say(t55="XBT", t38="30")
    (row,) = own.rows()
    assert (row["venue"], row["instrument"], row["quantity"]) == ("deribit", "BTC-PERPETUAL", "3")
    own.desk.state(state("new", key=own.key(), venue="deribit", instrument="BTC-PERPETUAL"))
    assert (own.told[0].get(55), own.told[0].get(38), own.told[0].get(151)) == ("XBT", "30", "30")


def test_an_order_is_told_from_request_to_fill_in_the_clients_own_names() -> None:
    own = Client()
    own.say()
    key = own.key()
    own.desk.state(state("requested", 1, key=key, cause="request", cause_id=key, from_status=None, order_status="pending_new"))
    own.desk.state(state("new", 2, key=key))
    own.desk.state(
        state("trade", 3, key=key, order_status="partially_filled", cum_quantity="1", leaves_quantity="2", last_price="100.5")
        | {"last_quantity": "1", "average_price": "100.5"}
    )
    assert [(told.get(150), told.get(39), told.get(11)) for told in own.told] == [
        ("A", "A", "a-1"),
        ("0", "0", "a-1"),
        ("F", "1", "a-1"),
    ]
    last = own.told[-1]
    assert (last.get(32), last.get(31), last.get(14), last.get(151), last.get(6)) == ("1", "100.5", "1", "2", "100.5")
    assert (last.get(17), last.get(527)) == (f"desk:{key}:3", "exch:20261130:x3:buy")


def test_each_row_is_told_once_and_what_an_earlier_run_has_told_not_again() -> None:
    own = Client()
    own.say()
    row = state("new", 2, key=own.key())
    own.desk.state(row)
    own.desk.state(row)
    assert len(own.told) == 1
    again = Client()
    again.say()
    again.desk.sent.keep(f"desk:{own.key()}:2")
    again.desk.state(row)
    assert again.told == []


def test_a_replace_and_a_cancel_are_told_with_their_own_id_and_that_of_the_order() -> None:
    own = Client()
    own.say()
    own.say("G", t11="a-2", t41="a-1", t38="5")
    own.say("F", t11="a-3", t41="a-2")
    key, second, third = own.key(), own.key("a-2"), own.key("a-3")
    assert [row["orig_client_order_id"] for row in own.rows()] == [None, key, second]
    asked = {"cause": "request", "from_status": "new"}
    own.desk.state(state("replace_requested", 3, key=key, cause_id=second, order_status="pending_replace", **asked))
    own.desk.state(state("replaced", 4, key=key, client_order_id=second, orig_client_order_id=key, quantity="5"))
    own.desk.state(
        state("cancel_requested", 5, key=key, client_order_id=second, cause_id=third, order_status="pending_cancel", **asked)
    )
    own.desk.state(
        state("cancelled", 6, key=key, client_order_id=second, orig_client_order_id=second, order_status="cancelled")
    )
    assert [(told.get(150), told.get(11), told.get(41)) for told in own.told] == [
        ("E", "a-2", "a-1"),
        ("5", "a-2", None),
        ("6", "a-3", "a-2"),
        ("4", "a-3", "a-2"),
    ]


def test_a_refusal_by_a_check_is_rejected_for_an_order_and_a_cancel_reject_for_a_cancel() -> None:
    own = Client()
    own.say()
    own.say("F", t11="a-2", t41="a-1")
    key = own.key()
    refused = {"cause": "request", "rule": "credit", "reason": "needs 500 USD, has 3"}
    own.desk.state(state("refused", 1, key=key, cause_id=key, from_status=None, order_status="rejected", **refused))
    own.desk.state(
        state("refused", 2, key=key, cause_id=own.key("a-2"), from_status="rejected", order_status="rejected", **refused)
    )
    first, second = own.told
    assert (first.kind, first.get(150), first.get(103), first.get(58)) == ("8", "8", "99", "needs 500 USD, has 3")
    assert (second.kind, second.get(11), second.get(41), second.get(434)) == ("9", "a-2", "a-1", "1")


def test_a_venues_refusal_of_a_cancel_names_the_cancel() -> None:
    own = Client()
    own.say()
    own.say("F", t11="a-2", t41="a-1")
    own.desk.state(state("cancel_rejected", 3, key=own.key(), order_status="filled", reason="too late"))
    (told,) = own.told
    assert (told.kind, told.get(11), told.get(41), told.get(39), told.get(58)) == ("9", "a-2", "a-1", "2", "too late")


def test_names_of_orders_outlive_a_crash_also_one_in_the_middle_of_a_line(tmp_path: Path) -> None:
    before = Client(tmp_path / "names")
    before.say()
    with (tmp_path / "names").open("ab") as file:
        file.write(b'["half')
    after = Client(tmp_path / "names")
    after.say("F", t11="a-2", t41="a-1")
    assert after.rows()[0]["orig_client_order_id"] == after.key()
    again = Ledger(tmp_path / "names")
    assert again.get(after.key()) and [own.cl_ord_id for own in again.order(after.key())] == ["a-1", "a-2"]


def test_who_asks_how_an_order_stands_is_told_without_an_execution() -> None:
    own = Client()
    own.say()
    own.desk.state(state("new", 2, key=own.key()))
    own.say("H")
    told = own.told[-1]
    assert (told.get(150), told.get(17), told.get(39), told.get(11)) == ("I", "0", "0", "a-1")
    own.say("H", t11="never")
    assert (own.told[-1].get(39), own.told[-1].get(103)) == ("8", "5")
    own.say("AF", t584="m1", t585="7")
    assert (own.told[-1].get(584), own.told[-1].get(911), own.told[-1].get(912)) == ("m1", "1", "Y")
    own.desk.state(state("cancelled", 3, key=own.key(), order_status="cancelled"))
    own.say("AF", t584="m2", t585="7")
    assert (own.told[-1].get(584), own.told[-1].get(911), own.told[-1].get(39)) == ("m2", "0", "8")


def test_a_lost_connection_cancels_all_where_the_session_says_so() -> None:
    own, other = Client(cancel_on_disconnect=True), Client()
    for one in (own, other):
        one.desk.logged_out(was_on=True)
        one.desk.logged_out(was_on=False)
    assert other.rows() == []
    (row,) = own.rows()
    assert (row["request"], row["account"], row["venue"]) == ("cancel_all", "desk", "exch")
    assert row["reason"] == "cancel on disconnect of alice" and row["instrument"] is None


def test_a_mass_cancel_of_a_client_is_answered_and_requested_once() -> None:
    own = Client()
    own.say("q", t530="7")
    assert (own.told[0].kind, own.told[0].get(531)) == ("r", "7")
    wanted = mass_cancel(own.session, "desk", "OrderMassCancelRequest a-1", NOW_US, "a-1")
    assert own.rows() == [wanted]
    own.say("q", t530="1")
    assert (own.told[1].get(531), own.told[1].get(532)) == ("0", "99")


def test_a_copy_has_every_order_of_its_accounts_in_our_own_names_and_says_that_it_is_one() -> None:
    told: list[Message] = []
    session = Risk.model_validate(
        {"name": "risk", "sender": "HOUSE", "target": "RISK", "accept": "127.0.0.1:9", "accounts": ["desk"]}
    )

    def send(found: Message) -> int:
        told.append(found)
        return len(told)

    own = RiskDesk(session, send)
    for row in (state("new"), state("new"), state("new", account="other")):
        own.state(row)
    (copy,) = told
    assert (copy.get(1), copy.get(11), copy.get(797), copy.get(17)) == ("desk", "k1", "Y", "desk:k1:1")


def test_a_bust_names_the_execution_as_the_client_knows_it() -> None:
    own = Client()
    own.say()
    key = own.key()
    own.desk.state(state("trade", 2, key=key, cause_id="exch:d:x2:buy", last_quantity="1", last_price="100.5"))
    own.desk.executions.report({"exec_type": "trade_cancel", "exec_id": "exch:d:x3:buy", "exec_ref_id": "exch:d:x2:buy"})
    own.desk.state(state("trade_cancel", 3, key=key, cause_id="exch:d:x3:buy"))
    assert (own.told[-1].get(150), own.told[-1].get(19)) == ("H", f"desk:{key}:2")
