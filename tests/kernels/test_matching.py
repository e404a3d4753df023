"""Matching: who trades with whom on the own venue, at which price, and what each account is told."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest

from bench.order_flow import T0, Flow, differing, halt, listing
from engine import batch
from engine.contract import Message, Output
from kernels.matching import KERNEL
from kernels.matching.auction import uncrossing
from kernels.matching.numbers import divided, text, whole
from kernels.matching.rules import Fees
from schemas.rows import instant_ms, instant_us, to_ms
from tests.kernels.venue import (
    DAY,
    SECOND,
    VENUE,
    Venue,
    cancel,
    circuit_break,
    order,
    position,
    reasons,
    replace,
    told,
    trades,
)


def test_an_order_expires_also_in_a_window_without_a_message_and_once() -> None:
    venue = Venue()
    expires_ms = venue.until_ms + 200
    venue.step(order("G", "a", time_in_force="gtd", expires_at=instant_ms(expires_ms)))
    assert KERNEL.end_window is not None
    assert not [part for part in KERNEL.end_window(venue.state, expires_ms) if part.table == "venue_reports"]
    (reports,) = [part for part in KERNEL.end_window(venue.state, expires_ms + 50) if part.table == "venue_reports"]
    assert [orjson.loads(row)["exec_type"] for row in reports.values.split(b"\n")] == ["expired"]
    assert not [part for part in KERNEL.end_window(venue.state, expires_ms + 50) if part.table == "venue_reports"]


def test_the_best_price_trades_first_and_at_one_price_the_earliest_order() -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "2", "100.5"), order("B", "b", "sell", "2", "100"), order("C", "c", "sell", "2", "100"))
    outputs = venue.step(order("T", "t", "buy", "5", "100.5"))
    assert trades(outputs) == [
        *(("B", "2", "100"), ("T", "2", "100"), ("C", "2", "100"), ("T", "2", "100"), ("A", "1", "100.5"), ("T", "1", "100.5")),
    ]
    last = [row for table, _, row in outputs if table == "venue_reports"][-1]
    assert (last["order_status"], last["cum_quantity"], last["leaves_quantity"], last["average_price"]) == (
        *("filled", "5", "0", "100.1"),
    )


def test_each_trade_is_a_fill_of_both_accounts_with_the_fee_of_the_schedule() -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "2", "100"))
    outputs = venue.step(order("B", "b", "buy", "2", "100"))
    reports = {row["exec_id"]: row for table, _, row in outputs if table == "venue_reports" and row["exec_type"] == "trade"}
    fills = {row["fill_id"]: row for table, _, row in outputs if table == "venue_fills"}
    assert fills.keys() == reports.keys() and len(fills) == 2
    assert {(row["account"], row["side"], row["size"], row["fee"]) for row in fills.values()} == {
        ("a", "sell", "2", "0"),
        ("b", "buy", "2", "0.06"),  # 0.03 % of 200
    }
    assert {(row["account"], row["is_maker"], row["fee_currency"]) for row in reports.values()} == {
        ("a", True, "USDC"),
        ("b", False, "USDC"),
    }


def test_a_request_counts_once_however_often_it_comes() -> None:
    venue = Venue()
    message = venue.numbered(order("A", "a"))
    assert [told(KERNEL.step(venue.state, [message, message], T0 + 100)), told(KERNEL.step(venue.state, [message], None))] == [
        [("A", "new")],
        [],
    ]


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({"time_in_force": "ioc"}, ["new", "trade", "cancelled"]),
        ({"time_in_force": "fok"}, ["new", "cancelled"]),  # FIX 4.4, matrix K.1.b
        ({"time_in_force": "fok", "quantity": "2"}, ["new", "trade"]),
        ({"time_in_force": "post_only"}, ["rejected"]),
        ({"time_in_force": "post_only", "price": "99.5"}, ["new"]),
        ({"order_type": "market", "time_in_force": "ioc", "price": None}, ["new", "trade", "cancelled"]),
        ({"time_in_force": "gtc"}, ["new", "trade"]),
    ],
)
def test_what_is_left_of_an_order_follows_from_its_time_in_force(asked: dict[str, Any], kinds: list[str]) -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "2", "100"))
    outputs = venue.step(order("T", "t", **({"quantity": "3"} | asked)))
    assert [kind for name, kind in told(outputs) if name == "T"] == kinds


def test_two_orders_of_one_owner_do_not_trade_the_one_that_rests_is_cancelled() -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "1", "100", owner_group="g"), order("B", "b", "sell", "1", "100.5"))
    outputs = venue.step(order("T", "t", "buy", "1", "100.5", owner_group="g"))
    assert told(outputs) == [("T", "new"), ("A", "cancelled"), ("B", "trade"), ("T", "trade")]
    assert reasons(outputs) == ["self-trade: it met an order of its own owner"]


def test_reduce_only_brings_a_position_to_zero_and_never_round() -> None:
    venue = Venue()
    venue.step(position("t", "2"), order("A", "a", "buy", "5", "100"))
    outputs = venue.step(order("T", "t", "sell", "5", "100", is_reduce_only=True))
    assert trades(outputs) == [("A", "2", "100"), ("T", "2", "100")]
    assert told(outputs)[-1] == ("T", "cancelled")
    assert told(venue.step(order("U", "t", "sell", "1", "100", is_reduce_only=True))) == [("U", "rejected")]


def test_a_position_counts_own_fills_once_whether_or_not_positions_has_told_of_them() -> None:
    venue = Venue()
    venue.step(position("t", "5"), order("A", "a", "buy", "1", "100"), order("B", "b", "buy", "1", "100"))
    outputs = venue.step(order("T", "t", "sell", "2", "100"))
    first = next(row["fill_id"] for table, _, row in outputs if table == "venue_fills" and row["account"] == "t")
    seat = venue.state.books[f"{VENUE}:P"].seats["t"]
    assert text(seat.position) == "3"
    venue.step(position("t", "4", first, T0 + 150))
    assert text(seat.position) == "3"
    venue.step(position("t", "9", "other", T0 + 160))
    assert text(seat.position) == "8"


@pytest.mark.parametrize(
    ("quantity", "price", "is_first"), [("1", "100", True), ("2", "100", True), ("3", "100", False), ("2", "99.5", False)]
)
def test_a_replace_keeps_its_time_where_the_price_stays_and_the_quantity_does_not_rise(
    quantity: str, price: str, is_first: bool
) -> None:
    venue = Venue()
    venue.step(order("A", "a", quantity="2"), order("B", "b", quantity="1"))
    venue.step(replace("C", "A", "a", quantity=quantity, price=price))
    outputs = venue.step(order("T", "t", "sell", "1", "99.5"))
    assert trades(outputs)[0][0] == ("C" if is_first else "B")


def test_a_replace_that_crosses_trades_and_one_to_what_has_traded_ends_the_order() -> None:
    venue = Venue()
    venue.step(order("A", "a", quantity="3"), order("B", "b", "sell", "1", "100"), order("S", "s", "sell", "1", "101"))
    outputs = venue.step(replace("C", "A", "a", quantity="3", price="101"))
    assert told(outputs) == [("C", "replaced"), ("S", "trade"), ("C", "trade")]
    outputs = venue.step(replace("D", "C", "a", quantity="1", price="101"))
    row = outputs[0].row
    assert (row["exec_type"], row["order_status"], row["quantity"], row["leaves_quantity"]) == ("replaced", "filled", "2", "0")
    assert told(venue.step(cancel("E", "D", "a"))) == [("E", "cancel_rejected")]


def test_a_race_of_a_cancel_and_a_fill_is_decided_by_the_sequence_of_the_book() -> None:
    for is_cancel_first in (True, False):
        venue = Venue()
        venue.step(order("A", "a"))
        both = [cancel("C", "A", "a"), order("T", "t", "sell", "1", "100", time_in_force="ioc")]
        outputs = venue.step(*(both if is_cancel_first else both[::-1]))
        assert (("C", "cancelled") in told(outputs)) == is_cancel_first
        assert (("C", "cancel_rejected") in told(outputs)) != is_cancel_first
        assert bool(trades(outputs)) != is_cancel_first


def test_a_cancel_finds_the_order_by_any_id_that_its_chain_has_had() -> None:
    for orig in ("A", "B", "C"):
        venue = Venue()
        venue.step(order("A", "a"), replace("B", "A", "a", quantity="2"), replace("C", "B", "a", quantity="0"))
        assert told(venue.step(cancel("D", orig, "a"))) == [("D", "cancelled")], "also of a replace that was refused"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"price": "100.2"}, "no multiple of 0.5"),
        ({"quantity": "0.05"}, "no multiple of 0.1"),
        ({"quantity": "0"}, "above zero"),
        ({"price": "105.5"}, "above its band, up to 105"),  # mark ± 5 %: Paradex
        ({"side": "sell", "price": "94"}, "below its band, from 95"),
        ({"time_in_force": "forever"}, "time_in_force: expected"),
        ({"time_in_force": "gtd"}, "expires_at"),
        ({"price": "1e30"}, "20 digits"),
    ],
)
def test_an_order_that_the_venue_does_not_take_is_rejected_with_the_reason(wrong: dict[str, Any], reason: str) -> None:
    outputs = Venue().step(order("A", **({"account": "a"} | wrong)))
    assert told(outputs) == [("A", "rejected")] and reason in reasons(outputs)[0]


def test_a_band_stops_aggressive_prices_alone_and_is_the_limit_of_a_market_order() -> None:
    venue = Venue()
    assert told(venue.step(order("A", "a", "buy", "1", "90"), order("B", "b", "sell", "1", "105.5"))) == [
        ("A", "new"),
        ("B", "new"),
    ]
    outputs = venue.step(order("T", "t", "buy", "1", None))
    assert told(outputs) == [("T", "new"), ("T", "cancelled")], "a market buy is capped at 105"


def test_a_halted_instrument_trades_nothing_and_an_auction_begins_it_again() -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "2", "99"))
    outputs = venue.step(halt(T0 + 60, True), order("B", "b", "buy", "3", "101"), order("I", "i", time_in_force="ioc"))
    assert told(outputs) == [("B", "new"), ("I", "rejected")] and trades(outputs) == []
    venue.step(order("C", "c", "sell", "2", "100"), order("D", "d"), cancel("E", "D", "d"))
    outputs = venue.step(halt(T0 + 160, False))
    # At 100 and 101 three trade and one sale is left over; 100 is the mark.
    assert trades(outputs) == [("A", "2", "100"), ("B", "2", "100"), ("B", "1", "100"), ("C", "1", "100")]
    assert trades(venue.step(order("T", "t", "buy", "1", "100"))) == [("C", "1", "100"), ("T", "1", "100")]


@pytest.mark.parametrize(("kind", "passes_exits", "is_halted"), [("dynamic", True, False), ("deviation", False, True)])
def test_a_book_trades_on_while_a_circuit_break_lets_exits_pass(kind: str, passes_exits: bool, is_halted: bool) -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell"))
    outputs = venue.step(circuit_break(kind, passes_exits), order("B", "b"))
    assert trades(outputs) == ([] if is_halted else [("A", "1", "100"), ("B", "1", "100")])


@pytest.mark.parametrize("kind", ["spread", "depth"])
def test_a_break_that_watches_the_book_itself_halts_no_book(kind: str) -> None:
    venue = Venue()
    venue.step(circuit_break(kind, passes_exits=False), order("A", "a", "sell"))
    assert trades(venue.step(order("B", "b"))) == [("A", "1", "100"), ("B", "1", "100")]


def test_a_post_only_order_with_an_expiry_expires() -> None:
    venue = Venue()
    expires_ms = venue.until_ms + 100
    venue.step(order("A", "a", "sell", time_in_force="post_only", expires_at=instant_ms(expires_ms)))
    while venue.until_ms < expires_ms:
        venue.step()
    assert told(venue.step(order("B", "b", time_in_force="ioc"))) == [
        *(("A", "expired"), ("B", "new"), ("B", "cancelled")),
    ]
    assert reasons(venue.step(order("C", "c", time_in_force="post_only", expires_at=instant_ms(expires_ms))))


@pytest.mark.parametrize(
    ("buys", "sales", "reference", "price"),
    [
        ([(101, 3)], [(99, 2), (100, 2)], 100, 100),  # most can be executed
        ([(102, 2), (101, 1)], [(99, 2)], 105, 102),  # the least surplus
        ([(102, 2)], [(98, 2)], 100, 100),  # nearest to the reference
        ([(102, 2)], [(98, 2)], 97, 98),
        ([(102, 2)], [(98, 2)], 110, 102),
        ([(102, 2)], [(98, 2)], None, 102),
        ([(99, 2)], [(100, 2)], 100, None),
        ([], [(100, 2)], 100, None),
    ],
)
def test_an_auction_trades_at_the_price_of_most_volume_then_least_surplus_then_nearest_to_the_reference(
    buys: list[tuple[int, int]], sales: list[tuple[int, int]], reference: int | None, price: int | None
) -> None:
    assert uncrossing(buys, sales, reference) == price


def test_orders_end_at_their_time_at_midnight_and_with_the_contract() -> None:
    venue = Venue()
    at = instant_ms(T0 + 10 * SECOND)
    venue.step(order("G", "a", time_in_force="gtd", expires_at=at), order("D", "b", time_in_force="day"), order("A", "c"))
    assert told(venue.step(ms=9 * SECOND)) == []
    assert told(venue.step(ms=2 * SECOND)) == [("G", "expired")]
    assert told(venue.step(ms=DAY)) == [("D", "expired")]
    terms = listing()[0]
    expiry = terms.row | {
        "kind": "future",
        "event_at": instant_ms(venue.until_ms),
        "received_at": instant_us(venue.until_ms * 1000),
    }
    expiry |= {"expiry_at": instant_ms(venue.until_ms + SECOND), "last_trading_at": None}
    venue.step(terms._replace(row=expiry))
    outputs = venue.step(ms=2 * SECOND)
    assert told(outputs) == [("A", "expired")] and reasons(outputs) == ["trading of the contract has ended"]
    assert told(venue.step(order("B", "a"))) == [("B", "rejected")]


def test_no_trade_is_told_at_the_expiry_of_its_contract_or_later() -> None:
    venue, (terms, _) = Venue(), listing()
    expiry_ms = venue.until_ms + SECOND
    ending = {"kind": "future", "expiry_at": instant_ms(expiry_ms), "last_trading_at": None}
    venue.step(terms._replace(row=terms.row | ending | {"event_at": instant_ms(venue.until_ms)}))
    told_at: list[str] = []
    number = 0
    while venue.until_ms < expiry_ms + SECOND:
        number += 1
        outputs = venue.window(order(f"B{number}", "a"), order(f"S{number}", "b", "sell"))
        told_at += [row["event_at"] for table, _, row in outputs if table == "venue_fills"]
    assert expiry_ms - SECOND < to_ms(max(told_at)) < expiry_ms


def test_an_order_for_another_venue_is_left_to_it() -> None:
    assert Venue().step(order("A", "a", venue="elsewhere")) == []


def test_a_fee_is_exact_also_of_an_inverse_contract_and_a_rebate() -> None:
    venue = Venue()
    book = venue.state.book(VENUE, "P")
    assert text(book._fee(whole("0.1"), whole("3"), is_maker=False)) == "0.00009"
    book.fees = Fees(whole("-0.0001"), whole("0.0005"))
    assert book.terms is not None
    book.list_as(book.terms._replace(is_inverse=True, contract_size=10.0))
    assert text(book._fee(whole("60000"), whole("6"), is_maker=True)) == "-0.0000001"
    assert text(book._fee(whole("30000"), whole("1"), is_maker=False)) == "0.000000166666666667"


def test_numbers_keep_every_digit() -> None:
    assert text(whole("12345678901234567890.123456789012345678")) == "12345678901234567890.123456789012345678"
    assert text(whole("-0.50")) == "-0.5" and text(whole("1e3")) == "1000"
    assert [divided(5, 2), divided(7, 2), divided(-5, 2), divided(8, 3)] == [2, 4, -2, 3]
    with pytest.raises(ValueError, match="18 after it"):
        whole("1e-19")


@pytest.mark.parametrize("seed", [1, 2])
def test_it_tells_the_same_as_the_simplest_book_there_is(seed: int) -> None:
    reports, difference = differing(seed, 10_000)
    assert difference is None and reports > 10_000


def story() -> Iterator[tuple[list[Message], int]]:
    flow = Flow(7, accounts=6)
    yield listing(), T0
    for start in range(0, 600, 20):
        messages = [Message("orders", 0, n, flow.row(T0 + start + n)) for n in range(20)]
        if start % 100 == 40:
            messages.append(halt(T0 + start, start % 200 == 40))
        if start == 200:
            messages.append(position("a1", "5", ms=T0 + start))
        yield messages, T0 + start + 20


def play(cut: int | None = None, is_reversed: bool = False) -> list[Output]:
    """Every row of the story; from the cut on by a state that was restored."""
    state, outputs, entries = KERNEL.new(), [], dict[str, bytes]()
    for number, (messages, until_ms) in enumerate(story()):
        if number == cut:
            state = KERNEL.new()
            for name, data in sorted(entries.items(), reverse=number % 2 == 0):
                state.decode(name, data)
        outputs += KERNEL.step(state, messages[::-1] if is_reversed else messages, until_ms)
        for name in state.touched:
            if (data := state.encode(name)) is None:
                entries.pop(name, None)
            else:
                entries[name] = data
        state.touched.clear()
    return outputs


def test_what_follows_is_the_same_after_a_restore_at_any_cut_and_in_any_order_within_a_batch() -> None:
    whole_story = play()
    assert len([output for output in whole_story if output.table == "venue_fills"]) > 100
    for cut in range(1, 31, 3):
        assert play(cut) == whole_story
    assert play(is_reversed=True) == whole_story


def test_a_batch_as_bytes_gives_the_same_rows_and_one_with_anything_odd_is_left_to_the_step() -> None:
    one, other = KERNEL.new(), KERNEL.new()
    for messages, until_ms in story():
        data = batch.RECORD.join(batch.record(m.table, m.partition, m.offset, m.row) for m in messages)
        outputs = KERNEL.step(other, messages, until_ms)
        lines = {part.table: part for part in batch.run(KERNEL, one, data, until_ms)}
        for part in batch.encode(outputs):
            assert lines[part.table] == part
    assert KERNEL.take_plain is not None
    odd = batch.record("orders", 0, 0, {"venue": VENUE})
    assert KERNEL.take_plain(one, odd, T0 + SECOND) == ([], odd)
    letters, *_ = batch.run(KERNEL, one, odd, T0 + SECOND)
    assert letters.table == "dead_letters"


def test_every_account_is_told_of_what_it_traded_and_the_sums_are_zero() -> None:
    sizes: dict[str, Decimal] = {}
    for table, _, row in play():
        if table == "venue_fills":
            change = Decimal(row["size"]) * (1 if row["side"] == "buy" else -1)
            sizes[row["account"]] = sizes.get(row["account"], Decimal(0)) + change
    assert sum(sizes.values()) == 0 and any(sizes.values())


@pytest.mark.parametrize("seed", range(3))
def test_no_order_trades_more_than_its_quantity_and_its_reports_count_what_has_traded(seed: int) -> None:
    # https://github.com/nautechsystems/nautilus_trader/issues/3221: a fill beyond the quantity, leaves below zero
    # https://github.com/nautechsystems/nautilus_trader/issues/3770: a status that counts a fill which comes after it
    venue, flow = Venue(), Flow(seed)
    traded: dict[str, Decimal] = {}
    for _ in range(40):
        for table, _, row in venue.step(*(Message("orders", 0, 0, flow.row(T0)) for _ in range(50))):
            if table == "venue_reports" and row["order_id"] is not None and row["cum_quantity"] is not None:
                before = traded.get(row["order_id"], Decimal(0))
                traded[row["order_id"]] = before + Decimal(row["last_quantity"] or 0)
                assert Decimal(row["cum_quantity"]) == traded[row["order_id"]] <= Decimal(row["quantity"])
                assert Decimal(row["leaves_quantity"]) >= 0
    assert sum(traded.values()) > 0


def test_a_fill_has_the_same_id_whenever_it_is_told_and_no_other_fill_has_it() -> None:
    # https://github.com/nautechsystems/nautilus_trader/issues/3317: the same fill again with a new id
    # https://github.com/hummingbot/hummingbot/issues/2945: fills twice after a restart
    ids = [row["fill_id"] for table, _, row in play() if table == "venue_fills"]
    assert len(ids) == len(set(ids))
    assert [row["fill_id"] for table, _, row in play(cut=15) if table == "venue_fills"] == ids
