"""What the market sees of the own venue: books that can be rebuilt, trades, tickers, and one mark."""

from decimal import Decimal
from typing import Any

import pytest

import jobs
import schemas
from bench.order_flow import MARK, T0, Flow, halt, listing
from engine import batch
from engine.contract import Lines, Message, Output, kernel
from kernels import matching
from kernels.matching import KERNEL, State
from kernels.matching.numbers import UNIT, text
from kernels.matching.rules import RULES
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us
from tests.kernels.stored import Stored
from tests.kernels.venue import SECOND, VENUE, Venue, cancel, order, reasons, rows_of

BOOKS = kernel("books")
NAME = f"{VENUE}:P"


def index(price: float, ms: int = T0) -> Message:
    row: dict[str, Any] = {
        "venue": VENUE,
        "underlying": "BTC",
        "event_at": instant_ms(ms),
        "received_at": instant_us(ms * 1000),
    }
    return Message("index_prices", 0, 0, row | {"price_usd": price, "confidence_usd": None, "quote_currency": "USDC"})


def of(outputs: list[Output], table: str) -> list[Any]:
    return [output.row for output in outputs if output.table == table]


def resting(state: State) -> list[dict[float, float]]:
    """Contracts by price, of bids and asks."""
    sides: list[dict[float, Decimal]] = [{}, {}]
    for each in state.books[NAME].open.values():
        assert each.price is not None
        levels, price = sides[each.side < 0], float(text(each.price))
        levels[price] = levels.get(price, Decimal(0)) + Decimal(text(each.left))
    return [{price: float(size) for price, size in levels.items()} for levels in sides]


def windows(count: int, cut: int | None = None) -> list[list[Output]]:
    """What the kernel tells of random orders, window by window, with halts and an index; from the cut on after a restore."""
    state, flow, told, entries = State(), Flow(3), [], dict[str, bytes]()
    batch.run(KERNEL, state, data(*listing(), index(MARK)), T0)
    for number in range(count):
        for name in state.touched:
            if (content := state.encode(name)) is None:
                entries.pop(name, None)
            else:
                entries[name] = content
        state.touched.clear()
        if number == cut:
            state = State()
            for name, content in sorted(entries.items(), reverse=number % 2 == 0):
                state.decode(name, content)
        until_ms = T0 + 50 * (number + 1)
        messages = [Message("orders", 0, at, flow.row(until_ms - 1)) for at in range(20)]
        if number % 10 in (6, 8):
            messages.append(halt(until_ms - 1, number % 10 == 6))
        told.append(rows_of(batch.run(KERNEL, state, data(*messages), until_ms)))
    return told


def data(*messages: Message) -> bytes:
    return batch.RECORD.join(batch.record(m.table, m.partition, m.offset, m.row) for m in messages)


def read(state: Any, lines: list[Lines], until_ms: int) -> list[Output]:
    """Let `books` read the levels that were told; returns what is wrong with them."""
    told = [value for part in lines if part.table == "venue_order_books" for value in part.values.split(b"\n")]
    records = [batch.FIELD.join((b"venue_order_books.v1", b"0", str(at).encode(), value)) for at, value in enumerate(told)]
    outputs = rows_of(batch.run(BOOKS, state, batch.RECORD.join(records), until_ms)) if records else []
    return [output for output in outputs if output.table in ("feed_faults", "dead_letters")]


@pytest.mark.parametrize("begins", [0, 100])
def test_books_rebuilds_the_book_from_its_rows_and_within_a_minute_who_begins_to_read_later(begins: int) -> None:
    state, reader, flow = State(), BOOKS.new(), Flow(5)
    batch.run(KERNEL, state, data(*listing()), T0)
    for number in range(1_400):
        until_ms = T0 + 50 * (number + 1)
        messages = [Message("orders", 0, 0, flow.row(until_ms - 1))]
        if number % 100 in (60, 80):
            messages.append(halt(until_ms - 1, number % 100 == 60))
        lines = batch.run(KERNEL, state, data(*messages), until_ms)
        if number >= begins:
            assert read(reader, lines, until_ms + RULES.latency_ms + 1) == []
            if NAME in reader.books and (not begins or number > begins + 1_200):
                assert not reader.books[NAME].is_stale
                levels = [dict(map(tuple, side)) for side in reader.books[NAME].levels()]
                assert levels == ([{}, {}] if state.books[NAME].halt else resting(state))
    assert NAME in reader.books


def test_a_book_has_one_row_for_a_batch_in_which_it_changed_and_none_for_another() -> None:
    venue = Venue()
    first = of(venue.step(order("A", "a"), order("B", "b", price="99"), order("C", "c")), "venue_order_books")
    assert [(row["kind"], row["sequence"], row["bids"]) for row in first] == [("snapshot", 1, [[100, 2], [99, 1]])]
    change = of(venue.step(cancel("D", "A", "a"), order("E", "e", price="99")), "venue_order_books")
    assert [(row["kind"], row["sequence"], row["prev_sequence"], row["bids"]) for row in change] == [
        ("change", 2, 1, [[100, 1], [99, 2]])
    ]
    assert of(venue.step(order("F", "f"), cancel("G", "F", "f")), "venue_order_books") == [], "nothing differs at its end"
    assert of(venue.step(), "venue_order_books") == []


def test_while_nothing_trades_no_book_is_shown_and_none_is_ever_crossed() -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "2", "100"))
    (row,) = of(venue.step(halt(T0 + 60, True), order("B", "b", "buy", "3", "101")), "venue_order_books")
    assert (row["bids"], row["asks"]) == ([], [[100, 0]])
    (row,) = of(venue.step(halt(T0 + 120, False)), "venue_order_books")
    assert (row["bids"], row["asks"]) == ([[101, 1]], [])


def test_a_trade_is_told_once_with_the_side_of_who_took_and_in_an_auction_of_who_came_later() -> None:
    venue = Venue()
    venue.step(order("A", "a", "sell", "2", "100"))
    outputs = venue.step(order("T", "t", "buy", "1", "101"))
    (trade,) = of(outputs, "venue_trades")
    assert (trade["side"], trade["price"], trade["size"], trade["off_market"]) == ("buy", 100, 1, None)
    taker = next(row for row in of(outputs, "venue_fills") if row["account"] == "t")
    assert taker["fill_id"] == f"{NAME}:{trade['trade_id']}"
    venue.step(halt(T0 + 120, True), order("B", "b", "buy", "1", "100"), order("S", "s", "sell", "1", "99"))
    (trade,) = of(venue.step(halt(T0 + 170, False)), "venue_trades")
    assert trade["side"] == "sell", "S has the better price of both sales, and came after B"


def test_the_market_sees_half_of_what_accounts_are_told_to_have_traded() -> None:
    outputs = [output for told in windows(60) for output in told]
    assert 2 * sum(row["size"] for row in of(outputs, "venue_trades")) == pytest.approx(
        sum(float(row["size"]) for row in of(outputs, "venue_fills"))
    )


def test_a_ticker_comes_at_most_every_ticker_ms_and_only_with_something_new() -> None:
    for told in windows(100):
        tickers = [output for output in told if output.table == "venue_tickers"]
        if tickers:
            assert len(tickers) == 1 and (tickers[0].event_ms + 1) % RULES.ticker_ms == 0
            assert tickers[0].row["has_quote"] is True
    venue = Venue()
    venue.window(order("A", "a"), order("B", "b", "sell", "3", "101"), ms=100)
    (ticker,) = of(venue.window(order("C", "c", "sell", "1", "100"), ms=100), "venue_tickers")
    assert [ticker[column] for column in ("bid_price", "bid_size", "ask_price", "ask_size", "last_price")] == [
        *(None, None, 101, 3, 100)
    ]
    assert ticker["mark_price"] is None, "without an index the mark is that of tickers"
    assert (ticker["min_price"], ticker["max_price"]) == (95, 105)
    assert of(venue.window(order("D", "d", "sell", "1", "102"), ms=100), "venue_tickers") == [], "no best price has changed"


def test_the_mark_is_the_index_and_a_basis_that_follows_the_middle_slowly_and_no_further_than_its_limit() -> None:
    venue = Venue()
    (ticker,) = of(
        venue.window(index(100.0), order("A", "a", price="101"), order("B", "b", "sell", "1", "103"), ms=100), "venue_tickers"
    )
    assert ticker["mark_price"] == ticker["index_price_usd"] == 100
    marks = [ticker["mark_price"]]
    for _ in range(20 * 15):
        marks += [row["mark_price"] for row in of(venue.window(ms=100), "venue_tickers")]
    assert marks == sorted(marks)
    assert marks[1] - marks[0] < 0.02, "1/150 of 2 %"
    assert marks[-1] == pytest.approx(100 * (1 + RULES.basis_limit), abs=1e-12)
    (ticker,) = of(venue.window(index(90.0, venue.until_ms), ms=100), "venue_tickers")
    assert ticker["mark_price"] == pytest.approx(90 * (1 + RULES.basis_limit)), "it follows the index at once"


def test_a_book_goes_by_the_mark_of_its_own_and_by_that_of_tickers_only_without_one() -> None:
    venue = Venue()
    venue.window(index(50.0), order("A", "a", price="40"), ms=100)
    assert "above its band, up to 52.5" in reasons(venue.window(order("B", "b", price="53"), ms=100))[0]
    (ticker,) = of(venue.window(order("C", "c", price="41"), ms=100), "venue_tickers")
    assert (ticker["mark_price"], ticker["min_price"], ticker["max_price"]) == (50, 47.5, 52.5)
    terms = listing()[0].row | {"event_at": instant_ms(T0 + SECOND), "received_at": instant_us((T0 + SECOND) * 1000)}
    option = terms | {"kind": "option", "option_type": "call", "strike_usd": 1.0, "expiry_at": instant_ms(T0 + 100 * SECOND)}
    venue.window(Message("instruments", 0, 0, option), ms=SECOND)
    (ticker,) = of(venue.window(order("D", "d", price="42"), ms=100), "venue_tickers")
    assert ticker["mark_price"] is None
    assert venue.state.books[NAME].mark == int(MARK) * UNIT


def test_what_the_market_sees_is_the_same_after_a_restore_at_any_cut() -> None:
    whole = windows(40)
    for cut in (1, 7, 8, 13, 20, 33):
        assert windows(40, cut) == whole


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_snapshot_has_the_best_price_first_also_after_a_restore(is_cut: bool) -> None:
    venue = Venue()
    for number, price in enumerate(["98", "100", "97", "99"]):
        venue.window(order(f"B{number}", "a", price=price), order(f"S{number}", "b", "sell", price=str(200 - int(price) + 2)))
    if is_cut:
        shard = Stored(matching, venue.state)
        venue.state.touched |= {f'order/["{NAME}",{number}]' for number in range(1, 9)}
        shard.store()
        shard.restart()
        venue.state = shard.state
    snapshots: list[Any] = []
    while not snapshots:
        snapshots = [row for row in of(venue.window(ms=SECOND), "venue_order_books") if row["kind"] == "snapshot"]
    (row,) = snapshots
    assert [price for price, _ in row["bids"]] == [100, 99, 98, 97]
    assert [price for price, _ in row["asks"]] == [102, 103, 104, 105]


@pytest.mark.parametrize("mark", [1.7e308, 1e20, 5e-324])
def test_a_mark_beyond_all_decimals_is_none(mark: float) -> None:
    venue = Venue()
    at = {"event_at": instant_ms(T0 + 50), "received_at": instant_us((T0 + 50) * 1000)}
    venue.window(Message("tickers", 0, 0, {"venue": VENUE, "instrument": "P", **at, "mark_price": mark}))
    assert venue.state.books[NAME].limits in (None, (0, 0))


@pytest.mark.parametrize(("own", "plain"), schemas.READ_AS.items())
def test_a_table_of_the_own_venue_has_the_columns_of_the_table_as_which_it_is_read(own: str, plain: str) -> None:
    # What only some writers tell may be missing.
    may_miss = {name for name, column in TABLES[plain].columns.items() if column.nullable}
    common = {name: column.sql_type for name, column in TABLES[plain].columns.items() if name in TABLES[own].columns}
    assert {name: TABLES[own].columns[name].sql_type for name in common} == common
    assert TABLES[plain].columns.keys() - common.keys() <= may_miss


def test_a_row_of_the_own_venue_is_read_as_one_of_feeds_and_its_dead_letter_names_its_own_topic() -> None:
    record = batch.FIELD.join((b"venue_tickers.v1", b"3", b"7", b'{"venue":"sim_alpha"}'))
    (message,), _ = batch.decode(record, T0)
    assert (message.table, message.partition, message.offset) == ("tickers", 3, 7)
    (letter,) = of(rows_of(batch.run(KERNEL, KERNEL.new(), record, T0)), "dead_letters")
    assert (letter["source"], letter["partition"], letter["offset"]) == ("venue_tickers.v1", 3, 7)


@pytest.mark.parametrize("name", [name for name in jobs.FLOW if jobs.job(name).kernel and jobs.job(name).may_read])
def test_who_may_read_a_table_of_the_own_venue_reads_or_may_read_the_plain_one_too(name: str) -> None:
    job = jobs.job(name)
    assert {schemas.READ_AS[table] for table in job.may_read if table in schemas.READ_AS} <= {*job.reads, *job.may_read}
