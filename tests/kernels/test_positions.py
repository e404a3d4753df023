import random
from base64 import b64decode
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import positions
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels.stored import Stored

T0 = 1_700_000_000_000
DAY = 86_400_000
EXPIRY = T0 + 30 * DAY


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 7)}


def instrument(name: str, kind: str, is_inverse: bool, size: float | None, quote: str, settlement: str) -> Message:
    row = {
        "venue": "v",
        "instrument": name,
        **at(T0),
        "kind": kind,
        "underlying": "BTC",
        "quote_currency": quote,
        "settlement_currency": settlement,
        "is_inverse": is_inverse,
        "contract_size": size,
    }
    if kind == "option":
        row |= {"option_type": "put", "strike_usd": 60_000.0}
    if kind in ("option", "future"):
        row |= {"expiry_at": instant_ms(EXPIRY)}
    return Message("instruments", 0, 0, row)


INSTRUMENTS = [
    instrument("LINEAR", "perpetual", False, 0.1, "USDC", "USDC"),
    instrument("INVERSE", "perpetual", True, 10.0, "USD", "BTC"),
    instrument("OPTION", "option", True, 1.0, "BTC", "BTC"),
    instrument("SPOT", "spot", False, None, "USDT", "USDT"),
    instrument("UNSIZED", "future", False, None, "USDC", "USDC"),
]


def fill(
    side: str,
    size: str,
    price: str,
    instrument: str = "LINEAR",
    ms: int = T0,
    id: str = "",
    account: str = "a",
    **more: Any,
) -> Message:
    row = {
        "account": account,
        "venue": "v",
        "instrument": instrument,
        **at(ms),
        "fill_id": id or f"{ms}/{side}/{size}/{price}/{instrument}",
        "side": side,
        "price": price,
        "size": size,
        "fee": "0",
    }
    return Message("fills", 1, ms - T0, row | more)


def transfer(currency: str, amount: str, ms: int = T0, id: str = "t", **more: Any) -> Message:
    row = {"account": "a", **at(ms), "transfer_id": id, "currency": currency, "amount": amount}
    return Message("transfers", 2, 5, row | more)


def step(state: positions.State, *messages: Message, until_ms: int | None = T0 + 1000) -> list[Output]:
    outputs = positions.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


def begun() -> positions.State:
    state = positions.new()
    assert step(state, *INSTRUMENTS) == []
    return state


def held(outputs: Iterable[Output]) -> list[tuple[str, str | None, str]]:
    rows = [output.row for output in outputs if output.table == "positions"]
    return [(row["size"], row["average_price"], row["realised_pnl"]) for row in rows]


def cash(outputs: Iterable[Output]) -> list[tuple[str, str]]:
    return [(output.row["currency"], output.row["amount"]) for output in outputs if output.table == "balances"]


def letters(outputs: Iterable[Output]) -> list[str | None]:
    return [output.row["field"] for output in outputs if output.table == "dead_letters"]


def test_a_linear_position_by_average_cost() -> None:
    outputs = step(
        begun(),
        fill("buy", "2", "100", ms=T0 + 1),
        fill("buy", "1", "130", ms=T0 + 2),
        fill("sell", "1", "150", ms=T0 + 3),  # (150 - 110) x 0.1
        fill("sell", "5", "100", ms=T0 + 4),  # closes 2 at a loss of 10 x 0.1 each and turns short 3 at 100
        fill("buy", "3", "90", ms=T0 + 5),
    )
    assert held(outputs) == [
        ("2", "100", "0"),
        ("3", "110", "0"),
        ("2", "110", "4"),
        ("-3", "100", "2"),
        ("0", None, "5"),
    ]
    assert cash(outputs) == [("USDC", "4"), ("USDC", "2"), ("USDC", "5")]
    assert outputs[0].event_ms == T0 + 1
    assert outputs[0].row["received_at"] == at(T0 + 1)["received_at"]


def test_an_inverse_position_averages_its_cost_in_coin() -> None:
    outputs = step(
        begun(),
        fill("buy", "100", "50000", "INVERSE", T0 + 1),
        fill("buy", "100", "100000", "INVERSE", T0 + 2),  # 0.02 + 0.01 coin for 200 contracts of 10 USD
        fill("sell", "200", "80000", "INVERSE", T0 + 3),  # 0.03 - 0.025
    )
    sizes, averages, realised = zip(*held(outputs), strict=True)
    assert sizes == ("100", "200", "0")
    assert averages == ("50000", "66666.666666666666666667", None)
    assert realised == ("0", "0", "0.005")
    assert cash(outputs) == [("BTC", "0.005")]


def test_an_options_premium_moves_the_balance_and_its_profit_is_not_counted_twice() -> None:
    outputs = step(
        begun(),
        transfer("BTC", "1", T0),
        fill("sell", "2", "0.05", "OPTION", T0 + 1, fee="0.0006"),
        fill("buy", "2", "0.02", "OPTION", T0 + 2, fee="0.0006"),
    )
    assert held(outputs) == [("-2", "0.05", "0"), ("0", None, "0.06")]
    assert cash(outputs) == [("BTC", "1"), ("BTC", "1.0994"), ("BTC", "1.0588")]


def test_spot_moves_both_balances_and_is_no_position() -> None:
    outputs = step(begun(), fill("buy", "0.5", "60000", "SPOT", fee="3"))
    assert held(outputs) == []
    assert cash(outputs) == [("BTC", "0.5"), ("USDT", "-30003")]


def test_a_fee_alone_moves_the_balance_and_a_rebate_raises_it() -> None:
    outputs = step(begun(), fill("buy", "1", "100", fee="0.25"), fill("buy", "1", "100", ms=T0 + 1, fee="-0.05"))
    assert cash(outputs) == [("USDC", "-0.25"), ("USDC", "-0.2")]


def test_amounts_keep_all_38_digits() -> None:
    outputs = step(
        begun(),
        transfer("USDC", "12345678901234567890.123456789012345678"),
        transfer("USDC", "-0.000000000000000001", T0 + 1, "u"),
        fill("buy", "1", "1", ms=T0 + 2, fee="12345678901234567890.123456789012345677"),
    )
    assert [amount for _, amount in cash(outputs)] == [
        "12345678901234567890.123456789012345678",
        "12345678901234567890.123456789012345677",
        "0",
    ]


def test_a_repeat_is_applied_once_however_it_is_written() -> None:
    state = begun()
    first = step(state, fill("buy", "1", "100", id="x"), fill("buy", "1.0", "1e2", id="x"), transfer("BTC", "1", id="x"))
    again = step(
        state, fill("buy", "1", "100", id="x", received_at=instant_us(T0 * 1000 + 99)), transfer("BTC", "1.00", id="x")
    )
    assert held(first) == [("1", "100", "0")]
    assert again == []


def test_a_known_id_with_other_contents_is_a_dead_letter() -> None:
    state = begun()
    step(state, fill("buy", "1", "100", id="x"), transfer("BTC", "1"))
    outputs = step(state, fill("buy", "2", "100", id="x"), transfer("BTC", "2"))
    assert letters(outputs) == ["transfer_id", "fill_id"]
    assert len(outputs) == 2
    assert held(step(state, fill("buy", "2", "100", id="x", account="b"))) == [("2", "100", "0")]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (fill("buy", "1", "100", "UNHEARD-OF"), "instrument"),
        (fill("buy", "1", "100", "UNSIZED"), "instrument"),
        (fill("hold", "1", "100"), "side"),
        (fill("buy", "0", "100"), "size"),
        (fill("buy", "-1", "100"), "size"),
        (fill("buy", "1e-19", "100"), "size"),
        (fill("buy", "1", "-1"), "price"),
        (fill("buy", "1", "0", "INVERSE"), "price"),
        (fill("buy", "1", "1e20"), "price"),
        (fill("buy", "1", "1e999999999"), "price"),
        (fill("buy", "1e19", "1e19", "SPOT"), None),
        (fill("buy", "1", "0.1", "OPTION", EXPIRY), "event_at"),
        (fill("buy", "1", "NaN"), "price"),
        (fill("buy", "1", 100.5), "price"),  # type: ignore[arg-type]
        (fill("buy", "1", "100", event_at="now"), "event_at"),
        (fill("buy", "1", "100", account=None), "account"),  # type: ignore[arg-type]
        (transfer("BTC", "all"), "amount"),
        (transfer("BTC", "1e20"), "amount"),
        (Message("transfers", 0, 1, None), None),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_what_cannot_be_booked_is_a_dead_letter_and_changes_nothing(message: Message, field: str | None, is_late: bool) -> None:
    state = begun()
    step(state, fill("buy", "1", "100"))
    entries = {name: state.encode(name) for name in state.touched}
    state.touched.clear()
    (letter,) = step(state, message, until_ms=None if is_late else EXPIRY + 1000)
    assert letter.table == "dead_letters" and letter.row["field"] == field
    assert orjson.loads(b64decode(letter.row["original"])) == message.row
    assert state.touched == set()
    assert {name: state.encode(name) for name in entries} == entries


def test_a_sum_beyond_the_type_is_a_dead_letter() -> None:
    most = "99999999999999999999"
    outputs = step(begun(), transfer("BTC", most), transfer("BTC", most, T0 + 1, "u"), transfer("BTC", "-1", T0 + 2, "w"))
    assert cash(outputs) == [("BTC", most), ("BTC", "99999999999999999998")]
    assert letters(outputs) == [None]


def test_ids_are_forgotten_after_a_week_and_what_is_older_is_refused() -> None:
    state = begun()
    first = fill("buy", "1", "100", id="x")
    step(state, first)
    applied = next(name for name in state.touched if name.startswith("applied/"))
    step(state, fill("buy", "1", "100", ms=T0 + 6 * DAY), until_ms=T0 + 6 * DAY + 1)
    assert state.encode(applied) is not None
    assert step(state, first, until_ms=None) == []
    state.touched.clear()
    step(state, fill("buy", "1", "100", ms=T0 + 8 * DAY), until_ms=T0 + 8 * DAY + 1)
    assert applied in state.touched and state.encode(applied) is None
    assert letters(step(state, first, until_ms=None)) == ["event_at"]


def test_a_first_transfer_may_be_old() -> None:
    outputs = step(begun(), transfer("BTC", "1", T0 - 90 * DAY), transfer("BTC", "1", T0 - 80 * DAY, "u"))
    assert cash(outputs) == [("BTC", "1"), ("BTC", "2")]


def test_the_row_after_a_late_fill_is_the_newest() -> None:
    state = begun()
    step(state, fill("buy", "1", "100", ms=T0 + 9))
    outputs = step(state, fill("buy", "1", "100", ms=T0 + 3, fee="1"), until_ms=None)
    assert held(outputs) == [("2", "100", "0")]
    assert [(output.table, output.row["event_at"]) for output in outputs] == [
        ("positions", instant_ms(T0 + 9)),
        ("balances", instant_ms(T0 + 3)),
        ("ledger_entries", instant_ms(T0 + 9)),
        ("ledger_entries", instant_ms(T0 + 9)),
    ]


def test_terms_are_freed_a_week_after_expiry() -> None:
    state = begun()
    state.touched.clear()
    step(state, until_ms=EXPIRY + 7 * DAY)
    assert state.touched == {"instrument/v:OPTION", "instrument/v:UNSIZED"}
    assert state.encode("instrument/v:OPTION") is None


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version 9, this code reads version 3"):
        positions.new().decode("account/a", b"\x09[]")


def test_a_fill_stores_the_position_that_it_changes_and_no_other() -> None:
    state = begun()
    step(state, fill("buy", "1", "100", "LINEAR"), fill("buy", "1", "100", "INVERSE", id="other"))
    state.touched.clear()
    step(state, fill("sell", "1", "100", "LINEAR", ms=T0 + 1, id="third"))
    assert {name for name in state.touched if name.startswith("book/")} == {'book/["a","v:LINEAR"]'}


def test_positions_that_version_2_stored_with_their_account_are_read_and_then_stored_apart() -> None:
    contract = ["linear", "2", "USDC", "BTC", "USDC"]
    book = [contract, ["0", "0", "0", "0", [0, ""]], ["3", "600", "7", "7", [T0, "f"]], ["0", "0", "0"], T0]
    stored = [{"v:LINEAR": book}, {"USDC": ["7", T0]}, {}, 2, T0, 0, 0]
    state = begun()
    state.touched.clear()
    state.decode("account/a", b"\x02" + orjson.dumps(stored))
    assert state.touched == {'book/["a","v:LINEAR"]'}

    again = begun()
    for name in ("account/a", *state.touched):
        data = state.encode(name)
        assert data is not None and data[0] == positions.VERSION
        again.decode(name, data)
    for one in (state, again):
        assert held(step(one, fill("sell", "1", "100", "LINEAR", ms=T0 + 1, id="g"))) == [("2", "100", "7")]


trades = st.lists(
    st.tuples(
        st.sampled_from(["LINEAR", "INVERSE", "OPTION"]),
        st.permutations("abc"),
        st.decimals("0.001", "1000", places=3),
        st.decimals("0.5", "100000", places=2),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100)
@given(trades)
def test_what_one_side_wins_the_other_loses(deals: list[tuple[str, list[str], Decimal, Decimal]]) -> None:
    state = begun()
    last: dict[tuple[str, str], Any] = {}
    balance: dict[tuple[str, str], Decimal] = {}
    for n, (name, (buyer, seller, _), size, price) in enumerate(deals):
        for account, side in ((buyer, "buy"), (seller, "sell")):
            for output in step(state, fill(side, str(size), str(price), name, T0 + n, account=account)):
                row = output.row
                if output.table == "positions":
                    last[account, name] = row
                elif output.table == "balances":
                    balance[account, row["currency"]] = Decimal(row["amount"])
    mark, each = Decimal("777"), {"LINEAR": Decimal("0.1"), "INVERSE": Decimal(10), "OPTION": Decimal(1)}
    for name in each:
        rows = [row for (_, of), row in last.items() if of == name]
        assert sum(Decimal(row["size"]) for row in rows) == 0
        total = Decimal(0)
        for row in rows:
            total += Decimal(row["realised_pnl"])
            if row["average_price"] is not None:
                size, average = Decimal(row["size"]), Decimal(row["average_price"])
                total += each[name] * size * (1 / average - 1 / mark if name == "INVERSE" else mark - average)
        assert abs(total) < Decimal("1e-9")
    for currency in ("USDC", "BTC"):
        options = sum(
            Decimal(row["realised_pnl"]) - Decimal(row["size"]) * Decimal(row["average_price"] or 0)
            for (_, name), row in last.items()
            if name == "OPTION" and currency == "BTC"
        )
        realised = sum(
            Decimal(row["realised_pnl"])
            for (_, name), row in last.items()
            if name != "OPTION" and row["settlement_currency"] == currency
        )
        booked: Decimal = sum((amount for (_, of), amount in balance.items() if of == currency), Decimal(0))
        assert abs(booked - Decimal(realised) - Decimal(options)) < Decimal("1e-9")


events = st.lists(
    st.one_of(
        st.builds(
            fill,
            st.sampled_from(["buy", "sell", "?"]),
            st.sampled_from(["1", "2", "3.5", "0"]),
            st.sampled_from(["90", "110", "0.5"]),
            st.sampled_from(["LINEAR", "INVERSE", "OPTION", "SPOT", "UNHEARD-OF"]),
            st.integers(T0, T0 + 5),
            st.sampled_from(["", "x", "y"]),
            st.sampled_from("ab"),
            fee=st.sampled_from(["0", "0.1"]),
        ),
        st.builds(
            transfer,
            st.sampled_from(["USDC", "BTC"]),
            st.sampled_from(["5", "-2"]),
            st.integers(T0, T0 + 5),
            st.sampled_from("xyz"),
        ),
    ),
    max_size=10,
)


@given(events, st.randoms(use_true_random=False))
def test_the_order_within_a_batch_does_not_matter(batch: list[Message], chance: random.Random) -> None:
    batch = [message._replace(offset=n) for n, message in enumerate(batch)]
    assert step(begun(), *batch) == step(begun(), *chance.sample(batch, len(batch)))


@given(events)
def test_nothing_is_lost(batch: list[Message]) -> None:
    """Every event is booked, or a repeat of one that is, or a dead letter."""
    outputs = step(begun(), *batch)
    causes = {output.row.get("fill_id") or output.row.get("cause_id") for output in outputs}
    refused = [orjson.loads(b64decode(o.row["original"])) for o in outputs if o.table == "dead_letters"]
    for message in batch:
        assert message.row in refused or (message.row.get("fill_id") or message.row["transfer_id"]) in causes


@settings(max_examples=100)
@given(st.lists(st.tuples(events, st.integers(0, 9 * DAY), st.booleans(), st.booleans()), max_size=6))
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(
    batches: list[tuple[list[Message], int, bool, bool]],
) -> None:
    straight, cut, until_ms = begun(), Stored(positions, begun()), T0 + 1000
    for batch, passed, is_late, is_cut in batches:
        until_ms += passed
        until = None if is_late else until_ms
        assert positions.step(straight, batch, until) == positions.step(cut.state, batch, until)
        cut.store()
        if is_cut:
            cut.restart()


def test_the_gauge_counts_accounts_that_have_moved() -> None:
    state = begun()
    assert positions.gauges(state) == {"accounts": 0}
    step(state, transfer("USDC", "5"), fill("buy", "1", "100", account="b"), fill("sell", "1", "100", account="b", ms=T0 + 1))
    assert positions.gauges(state) == {"accounts": 2}
