"""FIX acceptance behaviour of a session, against a peer that is a plain socket: QuickFIX/J as the gateway sets it up."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.gateway.conftest import Running, Start
from tests.gateway.gateway_rows import gateway, state
from tests.gateway.peer import Peer, free_port, until

ORDER = {11: "a-1", 55: "BTC-PERP", 54: "1", 60: "20261130-12:00:00.000", 38: "3", 40: "2", 44: "100.5", 59: "1"}


class Accepting:
    """A gateway that a client's peer connects to."""

    def __init__(self, start: Start, store: Path, version: str = "FIX.4.4", **values: object) -> None:
        self.port = free_port()
        self.begin = "FIXT.1.1" if version.startswith("FIX.5") else version
        own = {"name": "alice", "sender": "HOUSE", "target": "ALICE", "accept": f"127.0.0.1:{self.port}"}
        self.gateway = gateway(store, client=[own | {"accounts": ["desk"], "venue": "exch", "version": version} | values])
        self.start = start
        self.running: Running = start(self.gateway)

    def peer(self, sender: str = "ALICE") -> Peer:
        return Peer(sender, "HOUSE", self.begin).connect(self.port)

    def on(self, heartbeat_s: int = 30) -> Peer:
        peer = self.peer()
        peer.logon(heartbeat_s=heartbeat_s)
        return peer

    def requests(self) -> list[str]:
        return [row["reason"].rpartition(" ")[2] for row in self.running.sink.rows("order_requests")]

    def has(self, *names: str) -> Callable[[], bool]:
        return lambda: self.requests() == list(names)


@pytest.fixture
def accepting(start: Start, tmp_path: Path) -> Accepting:
    return Accepting(start, tmp_path / "store")


@pytest.mark.parametrize("version", ["FIX.4.4", "FIX.5.0SP2"])
def test_a_logon_is_answered_and_an_order_becomes_a_request(start: Start, tmp_path: Path, version: str) -> None:
    own = Accepting(start, tmp_path / "store", version)
    with own.peer() as peer:
        answer = peer.logon()
        assert (answer.number, answer.get(49), answer.get(56), answer.get(108)) == (1, "HOUSE", "ALICE", "30")
        peer.send("D", ORDER)
        until(own.has("a-1"), "the request")
        (row,) = own.running.sink.rows("order_requests")
        assert (row["request"], row["side"], row["quantity"], row["price"], row["venue"]) == (
            "new",
            "buy",
            "3",
            "100.5",
            "exch",
        )


def test_a_quiet_session_has_heartbeats(accepting: Accepting) -> None:
    with accepting.on(heartbeat_s=1) as peer:

        def has_heard() -> bool:
            peer.send("0")  # it hears from us all the time, so it has no reason to ask
            return peer.poll(0.2) is not None

        until(has_heard, "a heartbeat")
        assert (peer.heard.kind, peer.heard.get(112)) == ("0", None)


def test_a_silent_peer_is_asked_and_then_cut(accepting: Accepting) -> None:
    with accepting.on(heartbeat_s=1) as peer:
        asked = [message for message in peer.expect_close() if message.kind == "1"]
    assert asked and asked[0].get(112)


def test_a_test_request_is_answered_with_its_id(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("1", {112: "are you there"})
        assert peer.expect("0").get(112) == "are you there"


def test_a_number_too_high_is_asked_for_and_what_comes_again_counts_once(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.number = 4
        peer.send("D", ORDER | {11: "a-4"})
        asked = peer.expect("2")
        assert (asked.get(7), accepting.requests()) == ("2", [])
        peer.send("D", ORDER | {11: "a-2"}, number=2, header={43: "Y", 122: "20261130-12:00:00.000"})
        # A gap fill in the middle of a replay: https://github.com/connamara/quickfixn/issues/309
        peer.send("4", {123: "Y", 36: "4"}, number=3, header={43: "Y", 122: "20261130-12:00:00.000"})
        peer.send("D", ORDER | {11: "a-4"}, number=4, header={43: "Y", 122: "20261130-12:00:00.000"})
        peer.send("D", ORDER | {11: "a-5"})
        until(lambda: "a-5" in accepting.requests(), "the last request")
        assert sorted(set(accepting.requests())) == ["a-2", "a-4", "a-5"]
        assert len({row["client_order_id"] for row in accepting.running.sink.rows("order_requests")}) == 3


def test_a_connection_that_is_lost_in_the_middle_of_recovery_asks_again(accepting: Accepting) -> None:
    """https://github.com/quickfix-j/quickfixj/issues/1114"""
    with accepting.on() as peer:
        peer.number = 4
        peer.send("D", ORDER | {11: "a-4"})
        assert peer.expect("2").get(7) == "2"
    until(lambda: not accepting.running.is_on("alice"), "the loss is seen")
    again = accepting.peer()
    again.number = 5
    with again:
        again.send("A", {98: "0", 108: "30"})
        assert again.expect("A").kind == "A"
        assert again.expect("2").get(7) == "2"
        for number in (2, 3, 4):
            again.send("D", ORDER | {11: f"a-{number}"}, number=number, header={43: "Y", 122: "20261130-12:00:00.000"})
        again.send("4", {123: "Y", 36: "6"}, number=5, header={43: "Y", 122: "20261130-12:00:00.000"})
        until(lambda: set(accepting.requests()) == {"a-2", "a-3", "a-4"}, "all that was missed")


def test_a_number_too_low_ends_the_session_with_a_reason(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("D", ORDER, number=1)
        (logout,) = [message for message in peer.expect_close() if message.kind == "5"]
    assert "MsgSeqNum too low" in (logout.get(58) or "")
    assert accepting.requests() == []


def test_a_possible_duplicate_with_an_old_number_is_left_out_and_harms_nothing(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("D", ORDER)
        peer.send("D", ORDER, number=2, header={43: "Y", 122: "20261130-12:00:00.000"})
        peer.send("D", ORDER | {11: "a-2"})
        until(accepting.has("a-1", "a-2"), "both requests, once each")


def test_a_garbled_message_is_as_if_it_had_not_come(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("D", ORDER | {11: "bad"}, checksum=1)
        peer.send("D", ORDER)
        until(accepting.has("a-1"), "the good one alone")


@pytest.mark.parametrize("sender", ["MALLORY", "alice"])
def test_a_logon_with_wrong_comp_ids_is_cut_without_a_word(accepting: Accepting, sender: str) -> None:
    with accepting.peer(sender) as peer:
        peer.send("A", {98: "0", 108: "30"})
        assert peer.expect_close() == []


def test_wrong_comp_ids_in_a_session_are_rejected_and_end_it(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("D", ORDER, header={49: "MALLORY"})
        told = peer.expect_close()
    assert [message.kind for message in told] == ["3", "5"]
    assert told[0].get(373) == "9"
    assert accepting.requests() == []


@pytest.mark.parametrize(("tag", "reason"), [(4001, "0"), (434, "2")])
def test_an_unknown_tag_and_one_of_another_message_are_rejected_and_the_next_order_is_taken(
    accepting: Accepting, tag: int, reason: str
) -> None:
    with accepting.on() as peer:
        peer.send("D", ORDER | {tag: "1"})
        rejected = peer.expect("3")
        assert (rejected.get(45), rejected.get(371)) == ("2", str(tag))
        assert rejected.get(373) in (reason, "0", "2")
        peer.send("D", ORDER)
        until(accepting.has("a-1"), "the good one alone")


def test_a_tag_of_ones_own_is_let_pass(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("D", ORDER | {9001: "x"})
        until(accepting.has("a-1"), "the request")


def test_a_message_that_we_do_not_serve_is_a_business_reject(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("V", {262: "1", 263: "1", 264: "1", 267: "1", 269: "0", 146: "1", 55: "BTC-PERP"})
        told = peer.expect("j")
        assert (told.get(45), told.get(372), told.get(380)) == ("2", "V", "3")


def told_twice(accepting: Accepting, peer: Peer) -> str:
    """An order of the client with two reports: numbers 2 and 3 of the gateway."""
    peer.send("D", ORDER)
    until(accepting.has("a-1"), "the request")
    key = str(accepting.running.sink.rows("order_requests")[0]["client_order_id"])
    accepting.running.source.put("order_states", state("requested", 1, key=key, order_status="pending_new"))
    accepting.running.source.put("order_states", state("new", 2, key=key))
    assert [peer.expect("8").get(150) for _ in range(2)] == ["A", "0"]
    return key


def test_a_resend_brings_each_report_again_marked_and_fills_the_gap_of_the_logon(accepting: Accepting) -> None:
    with accepting.on() as peer:
        told_twice(accepting, peer)
        peer.send("2", {7: "1", 16: "0"})
        gap = peer.expect("4")
        assert (gap.number, gap.get(123), gap.get(36), gap.get(43)) == (1, "Y", "2", "Y")
        again = [peer.expect("8") for _ in range(2)]
        assert [(message.number, message.get(43), message.get(150)) for message in again] == [(2, "Y", "A"), (3, "Y", "0")]
        assert all(message.get(122) for message in again)


def test_a_resend_up_to_a_number_sends_no_more_and_the_next_number_is_right(accepting: Accepting) -> None:
    """Numbers of gap fills, and the one after the last.

    https://github.com/quickfix-j/quickfixj/issues/344: a gap fill with a number that was used already.
    https://github.com/quickfix/quickfix/pull/374: one after the last application message that bears its number.
    https://github.com/paritytrading/philadelphia/issues/231: the next number wrong after an own gap fill.
    """
    with accepting.on() as peer:
        key = told_twice(accepting, peer)
        peer.send("1", {112: "x"})
        assert peer.expect("0").number == 4
        peer.send("2", {7: "3", 16: "4"})
        assert (peer.expect("8").number, (gap := peer.expect("4")).number, gap.get(36)) == (3, 4, "5")
        accepting.running.source.put("order_states", state("cancelled", 3, key=key, order_status="cancelled"))
        assert peer.expect("8").number == 5


def test_a_reset_sequence_from_the_peer_is_obeyed(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("4", {123: "Y", 36: "10"})
        peer.number = 10
        peer.send("D", ORDER)
        until(accepting.has("a-1"), "the order with the new number")


def test_a_logon_with_reset_begins_both_numbers_again(accepting: Accepting) -> None:
    with accepting.on() as peer:
        peer.send("1", {112: "x"})
        peer.expect("0")
    until(lambda: not accepting.running.is_on("alice"), "the loss is seen")
    with accepting.peer() as peer:
        answer = peer.logon({141: "Y"})
        assert (answer.number, answer.get(141)) == (1, "Y")
        peer.send("D", ORDER)
        until(accepting.has("a-1"), "number 2")


def test_a_wrong_password_is_refused_with_a_reason(start: Start, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("tell-nobody\n")
    secret.chmod(0o600)
    own = Accepting(start, tmp_path / "store", username="alice", password_file=str(secret))
    with own.peer() as peer:
        peer.send("A", {98: "0", 108: "30", 553: "alice", 554: "wrong"})
        told = peer.expect_close()
    assert [message.kind for message in told] == ["5"]
    assert "Password is wrong" in (told[0].get(58) or "")

    numbers = count(2)  # a logon whose answer is late has used its number

    def is_welcome() -> bool:
        with own.peer() as peer:
            peer.send("A", {98: "0", 108: "30", 553: "alice", 554: "tell-nobody"}, number=next(numbers))
            answer = peer.read()  # None while the refused connection is not quite gone
            return answer is not None and answer.kind == "A"

    until(is_welcome, "a logon with the right password")
