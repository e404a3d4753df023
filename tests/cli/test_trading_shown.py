"""How `gammaflow status` shows oracles, halts and circuit breaks, from the newest rows of their topics."""

from typing import Any, NamedTuple

import pytest
from rich.console import Console

from cli.trading_shown import COUNTS, MOST_LINES, Newest, Row, collected, halts_table, oracles_table, show
from schemas.clients import before_ends
from schemas.records import TABLES
from schemas.rows import encoded, instant_ms, instant_us

NOW_MS = 1_700_000_000_000  # 2023-11-14 22:13:20
TOPICS = {TABLES[table].topic: table for table in COUNTS}


def price(underlying: str = "BTC", age_s: float = 0.0, **other: Any) -> Row:
    row: dict[str, Any] = {"underlying": underlying, "event_at": at(age_s), "price_usd": 64_210.5, "confidence_usd": 4.125}
    row |= {"average_usd": 64_000.0, "age_ms": 120.0, "source_count": 2, "venue_count": 2, "validity": "valid"}
    return row | {"rules": "default/1"} | other


def source(name: str, reason: str | None = None, age_s: float = 0.0, underlying: str = "BTC", **other: Any) -> Row:
    row: dict[str, Any] = {
        "underlying": underlying,
        "source": name,
        "venue": name.split(":")[0],
        "kind": "index",
        "quote_currency": "USD",
    }
    row |= {"event_at": at(age_s), "published_at": at(age_s), "age_ms": 10.0, "silent_ms": 10.0, "still_ms": 10.0}
    return row | {"step_back_ms": 0, "weight": 0.0 if reason else 0.5, "reason": reason} | other


def trouble(name: str, kind: str = "frozen", age_s: float = 5.0, is_over: bool = False, **other: Any) -> Row:
    row: dict[str, Any] = {"underlying": "BTC", "source": name, "kind": kind, "event_at": at(age_s), "is_over": is_over}
    return row | {"measured": 30_500.0, "allowed": 2_000.0, "unit": "ms"} | other


def halt(instrument: str | None, age_s: float = 5.0, is_halted: bool = True, reason: str | None = "BREAK") -> Row:
    row = {"venue": "binance_spot", "event_at": at(age_s), "received_at": instant_us(NOW_MS * 1000), "is_halted": is_halted}
    return row | {"instrument": instrument, "reason": reason}


def broken(number: int = 1, age_s: float = 5.0, state: str = "halted", **other: Any) -> Row:
    row: dict[str, Any] = {
        "break_id": f"spread/deribit:BTC-PERPETUAL/{number}",
        "subject": "deribit:BTC-PERPETUAL",
        "event_at": at(age_s),
    }
    row |= {"rule": "spread", "kind": "spread", "state": state, "is_halted": state == "halted", "venue": "deribit"}
    return row | {"instrument": "BTC-PERPETUAL", "reason": "a spread of 3 %, allowed 1 %"} | other


def at(age_s: float) -> str:
    return instant_ms(NOW_MS - round(age_s * 1000))


def lines(table: Any) -> list[str]:
    """What is printed below the headings, with single spaces."""
    console = Console(width=300, emoji=False)
    with console.capture() as capture:
        console.print(table, markup=False)
    return [" ".join(line.split()) for line in capture.get().splitlines()[1:]]


def printed(shown: Newest) -> str:
    console = Console(width=300, emoji=False)
    with console.capture() as capture:
        show(console, shown)
    return capture.get()


def test_an_oracle_has_its_price_its_validity_and_what_each_source_does() -> None:
    sources = [source("deribit:index:BTC"), source("bybit:mid:BTCUSDT"), source("consensus", kind="consensus", venue="")]
    assert lines(oracles_table([price()], sources, [])) == ["BTC 64,210.50 4.125 valid – 2023-11-14 22:13:20 2 of 2 – –"]


def test_a_source_that_is_left_out_is_named_with_its_reason_and_a_fault_with_its_figures() -> None:
    sources = [source("deribit:index:BTC"), source("okx:index:BTC-USD", "older than 10 s")]
    first, *rest = lines(oracles_table([price()], sources, [trouble("okx:index:BTC-USD")]))
    assert "1 of 2 okx:index:BTC-USD: older than 10 s okx:index:BTC-USD: frozen since 2023-11-14 22:13:15" in first
    assert "(30 s, allowed 2.0 s)" in first and rest == []


def test_a_deviation_is_a_percentage_and_a_figure_that_is_unknown_a_dash() -> None:
    fault = trouble("okx:index:BTC-USD", "deviating", unit="fraction", measured=None, allowed=0.01)
    assert "(–, allowed 1.00%)" in lines(oracles_table([price()], [source("okx:index:BTC-USD")], [fault]))[0]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_fault_that_is_over_is_not_shown_in_whatever_order_its_rows_of_one_instant_come(backwards: bool) -> None:
    faults = [trouble("a:index:BTC"), trouble("a:index:BTC", is_over=True), trouble("a:index:BTC", "delayed", age_s=9)]
    (line,) = lines(oracles_table([price()], [source("a:index:BTC")], faults[::-1] if backwards else faults))
    assert "frozen" not in line and "delayed since 2023-11-14 22:13:11" in line


def test_the_newest_row_of_each_source_counts_and_one_that_has_been_forgotten_is_not_shown() -> None:
    sources = [source("a:index:BTC"), source("a:index:BTC", "older than 10 s", age_s=0.1), source("b:index:BTC", age_s=0.1)]
    (line,) = lines(oracles_table([price(), price(age_s=0.1, price_usd=1.0)], sources, []))
    assert "64,210.50" in line and "1 of 1 – –" in line


def test_an_underlying_without_a_price_has_a_line_with_the_reasons() -> None:
    (line,) = lines(oracles_table([], [source("a:index:BTC", "no price of USDT in USD")], []))
    assert line == "BTC – – no price yet – 2023-11-14 22:13:20 0 of 1 a:index:BTC: no price of USDT in USD –"


def test_what_a_price_that_is_not_valid_holds_is_named() -> None:
    (line,) = lines(oracles_table([price(validity="too_uncertain", held="increase,reduce")], [], []))
    assert "too_uncertain increase, reduce" in line


def test_a_break_that_holds_has_its_rule_its_planned_end_and_its_reason() -> None:
    for end, text in ((at(-300), "2023-11-14 22:18:20"), (None, "its condition ends")):
        (line,) = lines(halts_table([], [broken(planned_end_at=end, passes_exits=True)]))
        where = "deribit:BTC-PERPETUAL breaker spread; exits pass 2023-11-14 22:13:15"
        assert line == f"{where} {text} a spread of 3 %, allowed 1 %"


def test_a_break_that_has_ended_or_is_a_limit_state_stops_nothing() -> None:
    rows = [broken(1), broken(1, age_s=1, state="resumed"), broken(2, state="limit")]
    assert lines(halts_table([], rows)) == []


def test_a_venue_that_halts_many_instruments_for_one_reason_has_one_line_and_another_reason_its_own() -> None:
    halts = [halt(f"S{number}") for number in range(1_000)] + [halt("X", reason=None), halt(None, reason="maintenance")]
    many, unknown, whole = lines(halts_table(halts, []))
    assert many == "binance_spot:S0, S1, S10 and 997 more the venue 2023-11-14 22:13:15 – BREAK"
    assert unknown.startswith("binance_spot:X the venue") and unknown.endswith("no reason is known")
    assert whole == "binance_spot the venue 2023-11-14 22:13:15 – maintenance"


def test_an_instrument_that_trades_again_is_not_halted_though_an_older_row_comes_later() -> None:
    assert lines(halts_table([halt("A", age_s=1, is_halted=False), halt("A", age_s=5)], [])) == []


def test_more_breaks_than_a_screen_has_lines_are_counted_the_newest_are_shown() -> None:
    shown = lines(halts_table([], [broken(number, age_s=1_000 - number) for number in range(MOST_LINES + 7)]))
    assert len(shown) == MOST_LINES + 1
    assert shown[-1] == "and 7 more: gammaflow tail circuit_breaks, trading_halts"
    assert at(1_000 - MOST_LINES - 6)[11:19] in shown[0]


class Record(NamedTuple):
    """A message as Kafka's client gives it."""

    table: str
    part: int
    row: Row | bytes | None
    age_s: float = 0.0

    def topic(self) -> str:
        return TABLES[self.table].topic

    def partition(self) -> int:
        return self.part

    def value(self) -> bytes | None:
        return self.row if self.row is None or isinstance(self.row, bytes) else encoded(self.row)

    def timestamp(self) -> tuple[int, int]:
        return 1, NOW_MS - round(self.age_s * 1000)


def read(records: list[Record], cut: list[tuple[str, int]]) -> Newest:
    messages: Any = records
    return collected(TOPICS, cut, messages)


def test_heartbeats_and_what_is_no_row_are_left_out() -> None:
    bad: list[Row | bytes | None] = [None, b"", b"{", b"[]", {"underlying": "BTC"}]
    shown = read([*(Record("oracle_prices", 0, row) for row in bad), Record("oracle_prices", 1, price())], [])
    assert shown.rows == {**{table: [] for table in COUNTS}, "oracle_prices": [price()]}
    assert shown.since_ms == {}


def test_where_older_records_were_left_out_it_says_from_when_on_every_partition_was_read() -> None:
    records = [
        Record("trading_halts", 0, None, 600),
        Record("trading_halts", 1, None, 900),
        Record("trading_halts", 0, None, 1),
    ]
    topic = TABLES["trading_halts"].topic
    assert read(records, []).since_ms == {}
    both = read(records, [(topic, 0), (topic, 1)])
    assert both.since_ms == {"trading_halts": NOW_MS - 600_000}
    assert "halts and breaks told before 2023-11-14 22:03:20 are not shown" in printed(both)
    assert "not shown" not in printed(read(records, []))


def test_where_nothing_is_halted_it_says_so_and_without_oracles_there_is_no_table_of_them() -> None:
    assert printed(read([], [])).strip() == "Halted  nothing, by venues or by circuit breakers"


def test_what_others_wrote_is_printed_as_it_is() -> None:
    rows = {**{table: [] for table in COUNTS}, "circuit_breaks": [broken(reason="[red] :dog: [/red]")]}
    assert "[red] :dog: [/red]" in printed(Newest(rows, {}))


@pytest.mark.parametrize(
    ("first", "end", "start", "is_cut"), [(0, 10, 0, False), (0, 11, 1, True), (5, 10, 5, False), (0, 0, 0, False)]
)
def test_no_more_of_a_partition_is_read_than_is_wanted_nor_what_has_been_deleted(
    first: int, end: int, start: int, is_cut: bool
) -> None:
    class Broker:
        def get_watermark_offsets(self, part: Any, timeout: float) -> tuple[int, int]:
            return first, end

    consumer: Any = Broker()
    (begun,), cut = before_ends(consumer, [("t", 3, 10)])
    assert (begun.topic, begun.partition, begun.offset) == ("t", 3, start)
    assert cut == ([("t", 3)] if is_cut else [])
