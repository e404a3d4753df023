"""The chains kernel as plain Python: three stages as one, over batches of a small chain."""

from typing import Any

import numpy as np
import orjson
import pytest

from engine import batch
from engine.contract import Lines, Message, Output
from kernels import chains
from kernels.chains import chain_greeks, forwards, vol_surfaces
from schemas.records import TABLES
from schemas.rows import encoded, fault, instant_ms
from tests.kernels.market import DAY, T0, at, index, ticker, top
from tests.kernels.stored import Stored
from udfs import black76

EXPIRIES = [T0 + 7 * DAY, T0 + 30 * DAY]
FORWARD, VOL, HALF = 60_000.0, 0.6, 0.01
STRIKES = [48_000.0, 52_000.0, 56_000.0, 60_000.0, 64_000.0, 68_000.0, 72_000.0]

Batch = tuple[list[Message], int | None]


def contract(name: str, expiry: int, quote: str = "BTC", **terms: Any) -> Message:
    row = {"venue": "deribit", "instrument": name, **at(T0), "underlying": "BTC", "expiry_at": instant_ms(expiry)}
    rest = {"quote_currency": quote, "settlement_currency": quote, "is_inverse": quote == "BTC", "contract_size": 1.0}
    return Message("instruments", 0, 0, row | rest | terms)


def option(expiry: int, strike: float, kind: str) -> str:
    return f"BTC-{(expiry - T0) // DAY}-{strike:.0f}-{kind[0].upper()}"


def future(expiry: int) -> str:
    return f"BTC-{(expiry - T0) // DAY}"


def listed() -> list[Message]:
    futures = [contract(future(expiry), expiry, "USD", kind="future") for expiry in EXPIRIES]
    return futures + [
        contract(option(expiry, strike, kind), expiry, kind="option", option_type=kind, strike_usd=strike)
        for expiry in EXPIRIES
        for strike in STRIKES
        for kind in ("call", "put")
    ]


def quotes(ms: int, usd: float = FORWARD, vol: float = VOL) -> list[Message]:
    tops = [top(future(expiry), usd - 1, usd + 1, ms) for expiry in EXPIRIES]
    for expiry in EXPIRIES:
        years = (expiry - ms) / black76.MS_PER_YEAR
        for strike in STRIKES:
            for kind in ("call", "put"):
                sides = vol - HALF, vol + HALF
                bid, ask = (float(black76.price(usd, strike, years, v, kind == "call")) / usd for v in sides)
                tops.append(top(option(expiry, strike, kind), bid, ask, ms))
    return tops


def days() -> list[Batch]:
    """Batches in which all happens that a chain knows: it is quoted, moves, is marked, is late, is cut off, ends, is swept."""
    one, other = option(EXPIRIES[0], STRIKES[2], "put"), option(EXPIRIES[1], STRIKES[4], "call")
    given: list[Batch] = [
        ([*listed(), index(59_900.0, T0)], T0 + 50),
        (quotes(T0 + 60), T0 + 100),
        ([top(future(EXPIRIES[0]), 60_099.0, 60_101.0, T0 + 110)], T0 + 150),
        ([ticker(one, T0 + 160, mark_iv=0.61), ticker(other, T0 + 170, mark_iv=0.59, index_price_usd=59_950.0)], T0 + 200),
        ([top(one, 0.9, 0.1, T0 + 20), ticker(other, T0 + 190, mark_iv=0.58)], None),
        (quotes(T0 + 210, 60_100.0, 0.65), T0 + 250),
        ([top(future(EXPIRIES[1]), None, None, T0 + 260), index(60_200.0, T0 + 261)], T0 + 300),
        ([top(one, 0.01, 0.02, T0 + 310, is_stale=True)], T0 + 350),
        ([], T0 + 3_600_000),
        ([top(future(EXPIRIES[0]), 60_199.0, 60_201.0, EXPIRIES[0] - 100)], EXPIRIES[0] - 50),
        ([top(future(EXPIRIES[1]), 61_000.0, 61_001.0, EXPIRIES[0] + 100)], EXPIRIES[0] + 150),
        ([], EXPIRIES[0] + DAY),
        ([one for one in quotes(EXPIRIES[0] + DAY + 10) if "BTC-30" in one.row["instrument"]], EXPIRIES[0] + DAY + 50),
    ]
    return [([message._replace(offset=place) for place, message in enumerate(messages)], until) for messages, until in given]


def recorded(messages: list[Message]) -> bytes:
    records = ([TABLES[m.table].topic.encode(), b"%d" % m.partition, b"%d" % m.offset, encoded(m.row)] for m in messages)
    return batch.RECORD.join(map(batch.FIELD.join, records))


def written(lines: list[Lines]) -> list[tuple[str, bytes, bytes]]:
    return [
        (one.table, head, value)
        for one in lines
        for head, value in zip(one.heads.split(b"\n"), one.values.split(b"\n"), strict=True)
    ]


def parted(rows: list[tuple[str, bytes, bytes]]) -> list[tuple[str, bytes, Any]]:
    return sorted(((table, head, orjson.loads(value)) for table, head, value in rows), key=lambda row: row[:2])


def run(state: chains.State, messages: list[Message], until_ms: int | None) -> list[tuple[str, bytes, bytes]]:
    return written(batch.run(chains.KERNEL, state, recorded(messages), until_ms))


def by_hand(states: tuple[Any, Any, Any], messages: list[Message], until_ms: int | None) -> list[Output]:
    """The stages in turn, each given the rows of those before."""

    def handed(outputs: list[Output]) -> list[Message]:
        return [Message(row.table, 0, n, dict(row.row)) for n, row in enumerate(outputs) if row.table != "dead_letters"]

    def of(*tables: str) -> list[Message]:
        return [message for message in messages if message.table in tables]

    moved = forwards.step(states[0], messages, until_ms)
    fitted: list[Output] = []
    priced: list[Output] = []
    if own := handed(moved) + of("instruments", "tickers", "book_tops"):
        fitted = [one for one in vol_surfaces.step(states[1], own, until_ms) if one.table == "vol_surfaces"]
    elif not messages:
        fitted = vol_surfaces.step(states[1], [], until_ms)
    if own := handed(moved) + handed(fitted) + of("instruments", "tickers"):
        priced = [one for one in chain_greeks.step(states[2], own, until_ms) if one.table == "chain_greeks"]
    elif not messages:
        priced = chain_greeks.step(states[2], [], until_ms)
    return moved + fitted + priced


def test_the_rows_are_those_of_the_three_stages_called_by_hand() -> None:
    state, step_state, states = chains.new(), chains.new(), (forwards.new(), vol_surfaces.new(), chain_greeks.new())
    tables = set()
    for messages, until_ms in days():
        expected = by_hand(states, messages, until_ms)
        assert [fault(row.table, row.row) for row in expected] == [None] * len(expected)
        parsed = [(row.table, row.event_ms, row.row) for row in expected]
        stepped = chains.step(step_state, messages, until_ms)
        assert [(row.table, row.event_ms, row.row) for row in stepped] == parsed
        assert parted(run(state, messages, until_ms)) == parted(written(batch.encode(expected)))
        tables |= {row.table for row in expected}
    assert tables == {"forwards", "vol_surfaces", "chain_greeks"}


def test_a_whole_chain_has_an_answer_at_once() -> None:
    state = chains.new()
    rows = chains.step(state, [*listed(), *quotes(T0)], T0 + 50)
    assert {row.row["reason"] for row in rows} == {None}
    assert [row.table for row in rows] == ["forwards"] * 2 + ["vol_surfaces"] * 2 + ["chain_greeks"] * 28
    assert all(row.row["surface_iv"] == pytest.approx(VOL, abs=HALF) for row in rows if row.table == "chain_greeks")
    assert np.ptp([row.event_ms for row in rows]) == 0


@pytest.mark.parametrize("cut", range(1, len(days())))
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(cut: int) -> None:
    straight, back = chains.new(), Stored(chains)
    for messages, until_ms in days()[:cut]:
        run(straight, messages, until_ms)
        run(back.state, messages, until_ms)
        back.store()
    back.restart()
    for messages, until_ms in days()[cut:]:
        assert run(back.state, messages, until_ms) == run(straight, messages, until_ms)


def test_what_has_ended_leaves_no_entry() -> None:
    stored = Stored(chains)
    names: set[str] = set()
    for messages, until_ms in [*days(), ([], EXPIRIES[1] + DAY), ([], EXPIRIES[1] + 2 * DAY)]:
        run(stored.state, messages, until_ms)
        stored.store()
        names |= stored.entries.keys()
    assert names and stored.entries == {}


def test_a_bad_row_has_one_dead_letter() -> None:
    bad = contract("BTC-bad", EXPIRIES[0], kind="option", option_type="call", strike_usd=-1.0)
    wrong = [bad, ticker("BTC-7", T0, mark_iv=0.5)._replace(row={"venue": "deribit"}), index(-1.0, T0)]
    wrong.append(top("BTC-7", 1.0, 2.0)._replace(row={**top("BTC-7", 1.0, 2.0).row, "is_stale": "no"}))
    wrong = [message._replace(offset=n) for n, message in enumerate(wrong)]
    for until_ms in (T0 + 50, None):
        rows = run(chains.new(), [*wrong, *[one._replace(offset=99) for one in listed()]], until_ms)
        assert [table for table, _, _ in rows if table == "dead_letters"] == ["dead_letters"] * len(wrong)


def test_bytes_of_another_version_are_refused() -> None:
    state = chains.new()
    run(state, [*listed(), *quotes(T0)], T0 + 50)
    for name in state.touched:
        data = state.encode(name)
        assert data is not None
        with pytest.raises(ValueError, match="this code reads version"):
            chains.new().decode(name, bytes([99]) + data[1:])
