"""Rows to FIX and back, as pure functions: no Java, no broker."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Rejected
from gateway import Message, message, parsed
from gateway.config import Instrument
from gateway.dialect import dialect
from gateway.orders import ordered, status_request, timestamp
from gateway.reports import Known, Source, fees, from_timestamp, reported
from schemas.rows import fault
from tests.gateway.gateway_rows import NOW, NOW_US, Desk, order, report, trade, venue

SOURCE = Source("exch", dialect("standard"), {}, {"SUB1": "desk"}, None)
KNOWN = Known("desk", "BTC-PERP", "buy")


def rows(found: Message, source: Source = SOURCE, known: Known | None = KNOWN) -> dict[str, dict[str, object]]:
    return {record.table: dict(record.row) for record in reported(found, source, known, NOW_US)}


def test_a_new_order_names_what_it_is_in_the_codes_of_fix() -> None:
    found = ordered(order(time_in_force="post_only", is_reduce_only=True), venue(accounts={"desk": "SUB1"}), NOW)
    assert found.kind == "D"
    wanted = {11: "o1", 1: "SUB1", 55: "BTC-PERP", 54: "1", 38: "3", 40: "2", 44: "100.5", 59: "1", 18: "6 E", 60: NOW}
    assert dict(found.pairs) == wanted


def test_a_market_order_has_no_price_and_a_gtd_order_its_end() -> None:
    found = dict(ordered(order(order_type="market", price=None, time_in_force="ioc"), venue(), NOW).pairs)
    assert 44 not in found and found[40] == "1" and found[59] == "3"
    found = dict(ordered(order(time_in_force="gtd", expires_at="2026-12-01T08:00:00.000Z"), venue(), NOW).pairs)
    assert found[59] == "6" and found[126] == "20261201-08:00:00.000"


def test_a_replace_and_a_cancel_name_the_order_that_they_change() -> None:
    for kind, code in (("replace", "G"), ("cancel", "F")):
        found = ordered(order("o2", kind, orig_client_order_id="o1", order_id="v1"), venue(), NOW)
        assert found.kind == code
        assert (found.get(11), found.get(41), found.get(37)) == ("o2", "o1", "v1")


def test_quantities_are_in_the_units_of_the_venue_and_symbols_its_own() -> None:
    session = venue(instruments={"BTC-PERP": {"symbol": "BTCUSD", "multiplier": "10"}})
    found = ordered(order(), session, NOW)
    assert (found.get(55), found.get(38)) == ("BTCUSD", "30")
    source = Source("exch", dialect("standard"), session.instruments, {}, None)
    row = rows(report(further={55: "BTCUSD", 38: "30", 151: "30"}), source)["execution_reports"]
    assert (row["instrument"], row["quantity"], row["leaves_quantity"]) == ("BTC-PERP", "3", "3")


def test_deribit_cancels_by_its_own_id_and_reports_ours_as_orig_cl_ord_id() -> None:
    deribit = venue(dialect="deribit", username="id", password_file="secret")
    found = ordered(order("o2", "cancel", orig_client_order_id="o1", order_id="BTC-77"), deribit, NOW)
    assert (found.get(11), found.get(41)) == ("o1", "BTC-77")
    asked = status_request(order("o1"), deribit)
    assert asked.kind == "AF" and (asked.get(584), asked.get(9014)) == ("o1", "0")
    told = report("0", "I", "4", "BTC-77", {41: "o1", 527: "9"})
    row = rows(told, Source("deribit", dialect("deribit"), {}, {}, None))["execution_reports"]
    assert (row["exec_type"], row["client_order_id"], row["orig_client_order_id"]) == ("cancelled", "o1", None)


def test_a_trade_is_a_report_and_a_fill_with_the_same_id() -> None:
    told = rows(trade())
    assert told["execution_reports"]["exec_id"] == told["fills"]["fill_id"] == "exch:20261130:x2:buy"
    assert (told["fills"]["price"], told["fills"]["size"], told["fills"]["fee"], told["fills"]["kind"]) == (
        "100.5",
        "1",
        "0.02",
        None,
    )
    assert all(fault(table, row) is None for table, row in told.items())


@pytest.mark.parametrize(("code", "kind"), [("H", "bust"), ("G", "correction")])
def test_a_bust_and_a_correction_name_the_trade_that_they_undo(code: str, kind: str) -> None:
    own = Desk(account="desk")
    own.hear(trade("x2"), trade("x3", t150=code, t19="x2", t60="20261201-00:00:01.000"))
    busts = [row for row in own.rows("fills") if row["kind"] == kind]
    # The trade is of yesterday: the id is that of the trade, not of today.
    assert [(row["fill_id"], row["corrects_id"]) for row in busts] == [("exch:20261201:x3:buy", "exch:20261130:x2:buy")]
    assert own.rows("execution_reports")[-1]["exec_ref_id"] == "exch:20261130:x2:buy"


@pytest.mark.parametrize("told", [trade("0"), report("7", "I", "1", further={14: "2"}), report("0", "I", "1")])
def test_an_exec_id_of_zero_and_an_order_status_are_no_fill(told: Message) -> None:
    """A status never adds to what is traded.  https://github.com/nautechsystems/nautilus_trader/issues/3770"""
    found = rows(told)
    assert set(found) == {"execution_reports"}
    assert found["execution_reports"]["exec_type"] == "status"
    assert found["execution_reports"]["last_quantity"] is None


def test_more_traded_than_ordered_is_a_reason_and_never_leaves_below_zero() -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/3221"""
    row = rows(trade(t14="5.012345", t38="5", t39="2", t151="-0.012345"))["execution_reports"]
    assert row["leaves_quantity"] == "0"
    assert row["reason"] == "traded 5.012345 of 5"


def test_a_trade_without_a_fee_waits_for_another_message_unless_the_venue_never_tells_one() -> None:
    told = trade(t12="", t13="")
    assert set(rows(told)) == {"execution_reports"}
    assert rows(told, Source("exch", dialect("simulated"), {}, {}, None))["fills"]["fee"] == "0"


def test_fees_are_the_commission_and_all_misc_fees() -> None:
    found = parsed("35=8\x0112=0.5\x0113=3\x01479=USD\x01136=2\x01137=0.25\x01138=USD\x01137=-0.1\x01138=USD\x01")
    assert fees(found) == (Decimal("0.65"), "USD")
    with pytest.raises(Rejected, match="138"):
        fees(parsed("35=8\x01137=1\x01138=USD\x01137=1\x01138=EUR\x01"))


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (150, "Z", "150: expected an ExecType"),
        (54, "7", "54: expected 1 or 2"),
        (60, "yesterday", "60: expected a UTCTimestamp"),
        (38, "three", "38: expected a number"),
        (38, "1e40", "38: expected a number below 1e20"),
        (1, "SUB9", "1: expected an order of ours"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(tag: int, value: str, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        rows(report(further={1: "SUB1", tag: value}), known=None)


def test_a_cancel_reject_says_which_request_is_refused_and_leaves_the_order_alone() -> None:
    told = message("9", [(37, "v1"), (11, "o2"), (41, "o1"), (39, "2"), (434, "1"), (102, "1"), (60, NOW)])
    row = rows(told)["execution_reports"]
    assert (row["exec_type"], row["client_order_id"], row["orig_client_order_id"]) == ("cancel_rejected", "o2", "o1")
    assert (row["reason"], row["cum_quantity"]) == ("unknown order", None)


def test_the_largest_fill_keeps_every_digit_and_a_larger_one_is_rejected() -> None:
    quantity, price = "98765432109876543210.123456789012345678", "12345678901.123456789012345678"
    found = rows(trade("e1", t32=quantity, t31=price, t14=quantity, t38=quantity))
    fill, told = found["fills"], found["execution_reports"]
    assert (fill["size"], fill["price"]) == (told["last_quantity"], told["last_price"]) == (quantity, price)
    assert (told["cum_quantity"], told["leaves_quantity"]) == (quantity, "0")
    sent = ordered(order(quantity=quantity, price=price), venue(), NOW)
    assert (sent.get(38), sent.get(44)) == (quantity, price)
    session = venue(instruments={"BTC-PERP": {"symbol": "BTC-PERP", "multiplier": "0.001"}})
    with pytest.raises(ArithmeticError):
        rows(trade("e1", t32="1e19"), Source("exch", dialect("standard"), session.instruments, {}, None))


@given(st.integers(0, 4_102_444_799_999))
def test_a_timestamp_is_read_back_as_it_was_written(ms: int) -> None:
    assert from_timestamp(timestamp(ms * 1000)) == ms * 1000


@given(st.lists(st.tuples(st.integers(11, 9999), st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))))
def test_a_message_is_read_back_as_it_was_written(pairs: list[tuple[int, str]]) -> None:
    kept = [(tag, value) for tag, value in pairs if tag != 35]
    text = "".join(f"{tag}={value}\x01" for tag, value in [(35, "D"), *kept])
    assert parsed(text) == Message("D", tuple(kept))


def test_an_instrument_is_found_by_its_symbol() -> None:
    own = Source("exch", dialect("standard"), {"a": Instrument(symbol="A", multiplier=Decimal(2))}, {}, None)
    assert own.instrument("A") == ("a", Decimal(2))
    assert own.instrument("B") == ("B", Decimal(1))
