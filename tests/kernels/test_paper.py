"""Orders for a real venue on paper: what is shown is taken once, queues move by what is seen, no fill is better than that."""

import random
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from bench.order_flow import T0, listing
from engine.contract import Message, Output
from kernels.market.terms import tradable
from kernels.matching import KERNEL, State
from kernels.matching.fees import fee
from kernels.matching.numbers import UNIT, text, whole
from kernels.matching.rules import DERIBIT, RULES, Fees, Paper, Rules
from schemas.rows import instant_ms, instant_us
from tests.kernels import venue as own
from tests.kernels.venue import Venue, cancel, order, position, reasons, replace, told, trades

REAL = "real"
FEES = MappingProxyType({"perpetual": Fees(whole("-0.0001"), whole("0.0005"))})
PAPER = RULES._replace(paper={REAL: Paper(FEES)})
Levels = list[list[float]]
BOOK: tuple[Levels, Levels] = ([[99.5, 4.0], [99.0, 2.0]], [[100.0, 3.0], [100.5, 5.0]])


class Street(Venue):
    """A real venue on paper: terms and mark are those of the own one."""

    def __init__(self, rules: Rules = PAPER, is_open: bool = True) -> None:
        super().__init__(rules)
        self.count = 0
        self.window(*(message._replace(row=message.row | {"venue": REAL}) for message in listing()))
        if is_open:
            self.see(*BOOK)

    def numbered(self, message: Message) -> Message:
        return super().numbered(message._replace(row=message.row | {"venue": REAL}))

    def row(self, **more: Any) -> dict[str, Any]:
        self.count += 1
        ms = self.until_ms + 10
        return {"venue": REAL, "instrument": "P", "event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)} | more

    def depth(self, bids: Levels, asks: Levels, is_stale: bool = False) -> Message:
        return Message("book_depth", 0, self.count, self.row(sequence=1, bids=bids, asks=asks, is_stale=is_stale))

    def trade(self, side: str, price: float, size: float, name: str | None = None) -> Message:
        row = self.row(trade_id=name or f"t{self.count}", side=side, price=price, size=size, off_market=None)
        return Message("trades", 0, self.count, row)

    def see(self, bids: Levels, asks: Levels, is_stale: bool = False) -> list[Output]:
        return self.window(self.depth(bids, asks, is_stale))

    def halt(self, is_halted: bool) -> Message:
        return Message("trading_halts", 0, 0, self.row(is_halted=is_halted, reason="flood"))

    def ahead(self) -> dict[str, str | None]:
        book = self.state.books.get(f"{REAL}:P")
        orders = book.open.values() if book else ()
        return {each.client_order_id: None if each.ahead is None else text(each.ahead) for each in orders}


def filled(outputs: list[Output]) -> list[tuple[str, str, str]]:
    return trades(outputs)


def test_an_order_takes_what_is_shown_best_first_and_what_is_left_of_it_rests() -> None:
    street = Street()
    outputs = street.window(order("A", "a", quantity="10", price="100.5"))
    assert filled(outputs) == [("A", "3", "100"), ("A", "5", "100.5")]
    assert [row["fee"] for table, _, row in outputs if table == "venue_fills"] == ["0.15", "0.25125"], "5 bp of a taker"
    assert told(outputs)[-1] == ("A", "trade") and street.ahead() == {"A": "0"}


def test_what_was_taken_is_not_taken_again_until_the_book_shows_more() -> None:
    street = Street()
    street.window(order("A", "a", quantity="2", time_in_force="ioc"))
    assert filled(street.window(order("B", "b", quantity="9", time_in_force="ioc"))) == [("B", "1", "100")]
    street.see(*BOOK)
    assert filled(street.window(order("C", "c", quantity="9", time_in_force="ioc"))) == [], "the same book shows nothing anew"
    street.see(BOOK[0], [[100.0, 1.0]])
    street.see(BOOK[0], [[100.0, 2.5]])
    assert filled(street.window(order("D", "d", quantity="9", time_in_force="ioc"))) == [("D", "1.5", "100")]


def test_an_order_rests_behind_all_that_is_shown_at_its_price_and_trades_there_move_it_forward() -> None:
    street = Street()
    street.window(order("A", "a", quantity="2", price="99.5"), order("B", "b", quantity="2", price="99.5"))
    assert street.ahead() == {"A": "4", "B": "4"}
    assert filled(street.window(street.trade("sell", 99.5, 3))) == [] and street.ahead() == {"A": "1", "B": "1"}
    assert filled(street.window(street.trade("sell", 99.5, 2))) == [("A", "1", "99.5")]
    outputs = street.window(street.trade("sell", 99.5, 2))
    assert filled(outputs) == [("A", "1", "99.5"), ("B", "1", "99.5")]
    assert {row["is_maker"] for table, _, row in outputs if table == "venue_reports" and row["exec_type"] == "trade"} == {True}
    assert filled(street.window(street.trade("buy", 99.5, 9))) == [], "a taker who buys meets no order that buys"


def test_of_what_is_cancelled_the_part_was_before_an_order_that_was_before_it_of_all() -> None:
    street = Street()
    street.window(order("A", "a", price="99.5"))
    street.see([[99.5, 8.0]], BOOK[1])
    assert street.ahead() == {"A": "4"}, "what comes later is behind"
    street.see([[99.5, 6.0]], BOOK[1])
    assert street.ahead() == {"A": "3"}, "of two that are gone, half"
    street.window(street.trade("sell", 99.5, 1))
    street.see([[99.5, 5.0]], BOOK[1])
    assert street.ahead() == {"A": "2"}, "what has traded was not cancelled"
    street.see([[99.0, 5.0]], BOOK[1])
    assert street.ahead() == {"A": "0"}, "no more is before it than is shown"


def test_a_trade_through_the_price_fills_and_no_more_than_its_size_the_better_price_first() -> None:
    street = Street()
    street.window(order("A", "a", quantity="2", price="99"), order("B", "b", quantity="2", price="99.5"))
    assert filled(street.window(street.trade("sell", 98.5, 3))) == [("B", "2", "99.5"), ("A", "1", "99")]


def test_an_order_is_filled_at_its_own_price_once_the_other_side_shows_that() -> None:
    street = Street()
    street.window(order("A", "a", quantity="2", price="99.5"))
    assert filled(street.see([[98.0, 1.0]], [[99.0, 1.5]])) == [("A", "1.5", "99.5")]
    assert filled(street.see([[98.0, 1.0]], [[99.0, 1.5]])) == []


def test_an_order_beyond_what_is_shown_is_behind_all_that_is_seen_there_first() -> None:
    street = Street(is_open=False)
    deep: Levels = [[99.5 - 0.5 * at, 1.0] for at in range(20)]
    street.see(deep, [[100.0, 1.0]])
    street.window(order("A", "a", price="89"), order("B", "b", price="99.5"))
    assert street.ahead() == {"A": None, "B": "1"}
    street.see([[90.0 - 0.5 * at, 7.0] for at in range(5)], [[100.0, 1.0]])
    assert street.ahead() == {"A": "7", "B": "0"}


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({"time_in_force": "ioc", "quantity": "9"}, ["new", "trade", "cancelled"]),
        ({"time_in_force": "fok", "quantity": "9"}, ["new", "cancelled"]),
        ({"time_in_force": "fok", "quantity": "3"}, ["new", "trade"]),
        ({"time_in_force": "post_only"}, ["rejected"]),
        ({"time_in_force": "post_only", "price": "99.5"}, ["new"]),
        (
            {"order_type": "market", "time_in_force": "ioc", "price": None, "quantity": "9"},
            ["new", "trade", "trade", "cancelled"],
        ),
        ({"price": "99.5", "quantity": "0.05"}, ["rejected"]),  # no multiple of the lot
        ({"side": "sell", "is_reduce_only": True}, ["rejected"]),  # there is no position
    ],
)
def test_an_order_on_paper_is_checked_and_ends_like_any_other(asked: dict[str, Any], kinds: list[str]) -> None:
    assert [kind for _, kind in told(Street().window(order("T", "t", **asked)))] == kinds


def test_a_halted_a_stale_and_an_unknown_book_take_no_order_fill_none_and_say_why() -> None:
    # https://github.com/QuantConnect/Lean/issues/5275: halts look like missing data, orders fill on stale prices
    street = Street(is_open=False)
    assert reasons(street.window(order("A", "a"))) == ["the venue's book is not known"]
    street.see(*BOOK)
    street.window(order("B", "b", quantity="1", price="99.5"))
    outputs = street.window(street.halt(True), order("C", "c"), order("D", "d", price="98"), street.trade("sell", 90, 50))
    assert told(outputs) == [("C", "rejected"), ("D", "rejected")] and "halted" in reasons(outputs)[0]
    assert filled(street.see([[80.0, 1.0]], [[81.0, 9.0]])) == []
    street.window(street.halt(False))
    assert filled(street.see([[99.5, 1.0]], BOOK[1], is_stale=True)) == []
    outputs = street.window(order("E", "e"), replace("F", "B", "b", price="98"), street.trade("sell", 90, 50))
    assert set(reasons(outputs)) == {"the venue's book is stale"} and not filled(outputs)
    assert told(street.window(cancel("G", "B", "b"))) == [("G", "cancelled")], "to cancel is possible"


def test_an_order_meets_the_book_that_is_shown_when_its_way_is_over() -> None:
    slow = RULES._replace(paper={REAL: Paper(FEES, RULES.latency_ms + 100)})
    street = Street(slow)
    asked_ms = street.until_ms + 49
    assert told(street.window(order("A", "a", quantity="9", time_in_force="ioc"))) == []
    assert told(street.see(BOOK[0], [[100.0, 0.5]])) == []
    outputs = street.window()
    assert filled(outputs) == [("A", "0.5", "100")]
    assert {output.event_ms for output in outputs} == {asked_ms + RULES.latency_ms + 100}


def test_a_repeated_row_of_the_market_or_of_orders_fills_nothing_again() -> None:
    # https://github.com/hummingbot/hummingbot/issues/2945: the same fills twice after a restart
    street = Street()
    again = street.numbered(order("A", "a", quantity="9", price="99.5"))
    street.until_ms += 50
    assert told(_unnumbered(street, [again, again], street.until_ms)) == [("A", "new")]
    trade = street.trade("sell", 99.5, 5, "once")
    assert filled(street.window(trade, trade)) == [("A", "1", "99.5")]
    assert filled(street.window(trade)) == []
    street.until_ms += 50
    assert told(_unnumbered(street, [again], street.until_ms)) == []
    depth = street.depth([[98.0, 1.0]], [[99.0, 2.0]])
    assert filled(street.window(depth)) == [("A", "2", "99.5")]
    assert filled(street.window(depth)) == []


def random_market(seed: int, count: int) -> list[tuple[list[Message], int]]:
    """Windows of a book that moves about, its trades, and orders."""
    chance, street, middle = random.Random(seed), Street(is_open=False), 200
    windows = []
    for number in range(count):
        middle += chance.choice((-1, 0, 0, 1))
        bids = [[(middle - at) / 2, float(chance.randint(1, 8))] for at in range(1, 6)]
        asks = [[(middle + at) / 2, float(chance.randint(1, 8))] for at in range(1, 6)]
        messages = [street.depth(bids, asks)]
        for _ in range(chance.randint(0, 3)):
            side, away = chance.choice((("sell", -1), ("buy", 1)))
            messages.append(street.trade(side, (middle + away * chance.randint(1, 2)) / 2, float(chance.randint(1, 6))))
        for at in range(chance.randint(0, 2)):
            side = chance.choice(("buy", "sell"))
            price = f"{(middle + chance.randint(-2, 2)) / 2:g}"
            name, account = f"o{number}x{at}", f"a{chance.randint(0, 3)}"
            messages.append(street.numbered(order(name, account, side, str(chance.randint(1, 6)), price)))
        street.until_ms += 50
        windows.append((messages, street.until_ms))
    return windows


@pytest.mark.parametrize("seed", range(5))
def test_no_more_is_filled_than_was_shown_or_traded_nothing_better_than_shown_and_nobody_falls_back(seed: int) -> None:
    street = Street(is_open=False)
    shown: dict[tuple[str, float], float] = {}
    given: dict[tuple[str, float], float] = {}  # what a price has shown, and shown anew
    taken: dict[tuple[str, float], float] = {}
    ahead: dict[str, Decimal] = {}
    passed = filled_by_makers = 0.0
    for messages, until_ms in random_market(seed, 400):
        street.until_ms = until_ms - 50
        before = dict(shown)
        for message in messages:
            if message.table == "book_depth":
                shown = {(side, price): size for side in ("bids", "asks") for price, size in message.row[side]}
                for place, size in shown.items():
                    given[place] = given.get(place, 0.0) + max(0.0, size - before.get(place, 0.0))
            elif message.table == "trades":
                passed += message.row["size"]
        outputs = _unnumbered(street, messages, until_ms)
        for row in (row for table, _, row in outputs if table == "venue_reports" and row["exec_type"] == "trade"):
            price, size = float(row["last_price"]), float(row["last_quantity"])
            limit = float(row["price"])
            assert price <= limit if row["side"] == "buy" else price >= limit
            if row["is_maker"]:
                filled_by_makers += size
                assert price == limit
            else:
                place = ("asks" if row["side"] == "buy" else "bids"), price
                assert place in shown, "a taker trades at a price that is shown"
                taken[place] = taken.get(place, 0.0) + size
        assert all(size <= given[place] for place, size in taken.items())
        for name, each in street.ahead().items():
            now = Decimal(each or 0)
            assert now <= ahead.get(name, now), "nobody falls back"
            ahead[name] = now
        _check_queue(street)
    assert taken and filled_by_makers
    assert filled_by_makers <= passed + sum(given.values()) - sum(taken.values())


def _unnumbered(street: Street, messages: list[Message], until_ms: int) -> list[Output]:
    outputs = KERNEL.step(street.state, messages, until_ms)
    assert KERNEL.end_window is not None
    return outputs + own.rows_of(KERNEL.end_window(street.state, until_ms))


def _check_queue(street: Street) -> None:
    """Of two orders at one price the earlier one has no more before it."""
    book = street.state.books.get(f"{REAL}:P")
    for side in (book.bids, book.asks) if book else ():
        for level in side.levels.values():
            queue = [each.ahead for each in level.values() if each.ahead is not None]
            assert queue == sorted(queue)


@pytest.mark.parametrize("cut", [1, 40, 77, 150])
def test_what_follows_is_the_same_after_a_restore(cut: int) -> None:
    slow = RULES._replace(paper={REAL: Paper(FEES, RULES.latency_ms + 50)})
    assert _played(slow, cut) == _played(slow, None)


def _played(rules: Rules, cut: int | None) -> list[Output]:
    street, outputs, entries = Street(rules, is_open=False), [], dict[str, bytes]()
    for number, (messages, until_ms) in enumerate(random_market(9, 200)):
        for name in street.state.touched:
            if (content := street.state.encode(name)) is None:
                entries.pop(name, None)
            else:
                entries[name] = content
        street.state.touched.clear()
        if number == cut:
            street.state = State(rules)
            for name, content in sorted(entries.items(), reverse=number % 2 == 0):
                street.state.decode(name, content)
        outputs += _unnumbered(street, messages, until_ms)
    assert any(output.table == "venue_fills" for output in outputs)
    return outputs


def test_a_paper_trade_is_none_of_a_market() -> None:
    street = Street()
    outputs = street.window(order("A", "a"), ms=1_000) + street.window(ms=60_000)
    assert {output.table for output in outputs} == {"venue_reports", "venue_fills"}


def test_reduce_only_holds_on_paper_too() -> None:
    street = Street()
    held = position("t", "1")
    street.window(held._replace(row=held.row | {"venue": REAL}))
    assert filled(street.window(order("T", "t", "sell", "3", "99.5", is_reduce_only=True))) == [("T", "1", "99.5")]


def terms(**more: Any) -> Any:
    return tradable(listing()[0].row | {"contract_size": 1.0} | more)


@pytest.mark.parametrize(
    ("kind", "more", "price", "contracts", "is_maker", "expected"),
    [
        # https://support.deribit.com/hc/en-us/articles/25944746248989-Fees: the examples of the page
        ("perpetual", {"is_inverse": True, "contract_size": 10.0}, "100000", "5000", False, "0.00025"),
        ("perpetual", {"is_inverse": True, "contract_size": 10.0}, "100000", "5000", True, "0"),
        ("option", {"is_inverse": True}, "0.0001", "1", False, "0.0000125"),
        ("option", {"is_inverse": True}, "0.05", "1", True, "0.0003"),
        ("option", {}, "1000", "2", False, "60"),  # 3 bp of an index of 100,000
        ("option", {}, "100", "2", False, "25"),  # an eighth of the price is less
    ],
)
def test_the_fee_is_that_of_the_venues_schedule(
    kind: str, more: Mapping[str, Any], price: str, contracts: str, is_maker: bool, expected: str
) -> None:
    listed, fees = terms(kind=kind, **more), DERIBIT.fees[kind]
    rate = fees.maker if is_maker else fees.taker
    amount = whole(contracts) * int((listed.contract_size or 1) * UNIT)
    assert text(fee(listed, rate, fees.cap, whole(price), amount, lambda _: 100_000.0)) == expected


def relisted(**more: Any) -> Message:
    return Message("instruments", 0, 0, listing()[0].row | {"venue": REAL, "event_at": instant_ms(T0 + 1)} | more)


def test_sizes_of_a_venue_that_shows_amounts_are_turned_into_contracts() -> None:
    street = Street()
    street.window(relisted(contract_size=10.0, amount_per_contract=10.0))
    street.see([[99.5, 40.0]], [[100.0, 30.0]])
    assert filled(street.window(order("A", "a", quantity="9", time_in_force="ioc"))) == [("A", "3", "100")]


@pytest.mark.parametrize("each", [0.001, 0.1, 10.0, 3.0])
def test_a_market_in_amounts_fills_as_the_same_market_in_contracts_does(each: float) -> None:
    def reports(each: float) -> list[Output]:
        street = Street(is_open=False)
        street.window(relisted(amount_per_contract=each))
        some = [float(count * Decimal(repr(each))) for count in range(10)]
        levels = ([[99.5, some[4]], [99.0, some[2]]], [[100.0, some[3]], [100.5, some[5]]])
        outputs = street.see(*levels) + street.window(order("A", "a", quantity="5", price="100.5"), order("B", "b", "buy", "6"))
        for number in range(3):
            outputs += street.window(street.trade("sell", 99.5, some[number + 1]))
        return outputs + street.see([[99.5, each]], [[100.0, some[9]]])

    in_amounts = reports(each)
    assert in_amounts == reports(1.0) and len(filled(in_amounts)) > 3


def test_a_venue_whose_unit_is_not_told_fills_nothing_and_the_refusal_says_so() -> None:
    street = Street()
    street.window(order("A", "a", "buy", "1", "99.5"))
    ahead = street.ahead()
    street.window(relisted(amount_per_contract=None))
    assert filled(street.window(street.trade("sell", 99.0, 1e6))) == [] and filled(street.see([], [[99.0, 1e6]])) == []
    refused = street.window(order("B", "b"))
    assert reasons(refused) == ["what one contract is in the venue's amounts is not told"]
    assert street.ahead() == ahead, "nothing moves a queue that cannot be counted"
