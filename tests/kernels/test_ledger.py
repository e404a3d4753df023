"""The ledger against a plain reference that shares no code with it: fractions instead of decimals, and no memory.

The reference takes all events at once, settles what they say by event time, and gives what everybody must have at the end.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import positions
from schemas.rows import fault, instant_ms, instant_us

T0 = 1_699_999_200_000
MINUTE = 60_000
EXPIRY = T0 + 60 * MINUTE
END = T0 + 90 * MINUTE
LEGS = {
    "LINEAR": ("linear", "0.1", "USDC"),
    "INVERSE": ("inverse", "10", "BTC"),
    "CALL": ("option", "1", "BTC"),
    "FUTURE": ("linear", "0.5", "USDC"),
    "SPOT": ("spot", "1", "USDT"),
}


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 7)}


def instrument(name: str, **changed: Any) -> Message:
    _, each, settlement = LEGS.get(name, LEGS["FUTURE"])
    kinds = {"CALL": "option", "FUTURE": "future", "SPOT": "spot"}
    kind = kinds.get(name, "perpetual")
    row: dict[str, Any] = {
        "venue": "v",
        "instrument": name,
        **at(T0),
        "kind": kind,
        "underlying": "BTC",
        "quote_currency": settlement,
        "settlement_currency": settlement,
        "is_inverse": settlement == "BTC",
        "contract_size": float(each),
    }
    if kind in ("future", "option"):
        row["expiry_at"] = instant_ms(EXPIRY)
    if kind == "option":
        row |= {"option_type": "call", "strike_usd": 50_000.0}
    return Message("instruments", 0, 0, row | changed)


def index(ms: int, price: float, venue: str = "v") -> Message:
    return Message("index_prices", 0, ms - T0, {"venue": venue, "underlying": "BTC", **at(ms), "price_usd": price})


def fill(name: str, size: str, price: str, ms: int, id: str, account: str = "a", **more: Any) -> Message:
    row = {
        "account": account,
        "venue": "v",
        "instrument": name,
        **at(ms),
        "fill_id": id,
        "side": "sell" if size.startswith("-") else "buy",
        "price": price,
        "size": size.removeprefix("-"),
        "fee": "0.25",
    }
    return Message("fills", 0, 0, row | more)


def transfer(ms: int, id: str, amount: str, account: str = "a", **more: Any) -> Message:
    row = {"account": account, **at(ms), "transfer_id": id, "currency": "USDC", "amount": amount}
    return Message("transfers", 0, 0, row | more)


INSTRUMENTS = [instrument(name) for name in LEGS]
INDEX = [index(T0, 40_000.0), index(EXPIRY - 20 * MINUTE, 60_000.0), index(EXPIRY + MINUTE, 1.0)]
SETTLED = Fraction(10 * 40_000 + 20 * 60_000, 30)


class Ledger:
    """A state that is watched: every row keeps its DDL, every sum is zero after each batch, and the log says all."""

    def __init__(self) -> None:
        self.state = positions.new()
        self.entries: list[dict[str, Any]] = []
        self.newest: dict[tuple[str, str, str], Any] = {}
        self.letters: list[dict[str, Any]] = []
        self.stored: dict[str, bytes | None] = {}
        self.until_ms = T0
        self.step(*INSTRUMENTS)

    def step(self, *messages: Message, until_ms: int | None = None, is_late: bool = False) -> list[Output]:
        self.until_ms = until_ms or self.until_ms
        outputs = positions.step(self.state, list(messages), None if is_late else self.until_ms)
        assert [fault(one.table, one.row) for one in outputs] == [None] * len(outputs)
        for one in outputs:
            row = dict(one.row)
            if one.table == "ledger_entries":
                self.entries.append(row)
            elif one.table == "dead_letters":
                self.letters.append(row)
            else:
                asset = f"v:{row['instrument']}" if one.table == "positions" else row["currency"]
                known = self.newest.get((one.table, row["account"], asset))
                assert known is None or known["event_at"] <= row["event_at"]
                self.newest[one.table, row["account"], asset] = row
        assert set(positions.totals(self.state).values()) <= {Decimal(0)}
        return outputs

    def cut(self) -> None:
        """Go on from what was stored."""
        self.stored |= {name: self.state.encode(name) for name in self.state.touched}
        self.state = positions.new()
        for name, data in random.Random(1).sample(sorted(self.stored.items()), len(self.stored)):
            if data is not None:
                self.state.decode(name, data)

    def held(self) -> dict[tuple[str, str], Decimal]:
        """What everybody has, by the newest rows of positions and balances."""
        found = {
            (account, asset): Decimal(row["size" if table == "positions" else "amount"])
            for (table, account, asset), row in self.newest.items()
        }
        return {name: amount for name, amount in found.items() if amount}

    def realised(self) -> dict[tuple[str, str], Decimal]:
        return {key[1:]: Decimal(row["realised_pnl"]) for key, row in self.newest.items() if key[0] == "positions"}

    def rebuilt(self, until: str = "9999") -> dict[tuple[str, str], Decimal]:
        """What everybody has, the house too, by the log alone."""
        sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        exact = Context(prec=80)
        for entry in self.entries:
            if entry["event_at"] <= until:
                amount, asset = Decimal(entry["amount"]), entry["asset"]
                account, counter = entry["account"], entry["counter_account"]
                sums[account, asset] = exact.add(sums[account, asset], amount)
                sums[counter, asset] = exact.subtract(sums[counter, asset], amount)
        return {name: amount for name, amount in sums.items() if amount}

    def check_log(self) -> None:
        """The log says what the rows say, entry by entry, and nothing twice."""
        assert len({entry["entry_id"] for entry in self.entries}) == len(self.entries)
        running: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        numbers: dict[str, int] = defaultdict(int)
        exact = Context(prec=80)
        for entry in self.entries:
            account = entry["account"]
            numbers[account] += 1
            assert entry["number"] == numbers[account]
            running[account, entry["asset"]] = exact.add(running[account, entry["asset"]], Decimal(entry["amount"]))
            assert Decimal(entry["balance"]) == running[account, entry["asset"]]
        mine = {name: amount for name, amount in self.rebuilt().items() if not name[0].startswith("house:")}
        assert mine == self.held()
        by_asset: dict[str, Decimal] = defaultdict(Decimal)
        for (_, asset), amount in self.rebuilt().items():
            by_asset[asset] = exact.add(by_asset[asset], amount)
        assert set(by_asset.values()) <= {Decimal(0)}


def rounded(value: Fraction, decimals: int = 18) -> Fraction:
    """Half to even."""
    return Fraction(round(value * 10**decimals), 10**decimals)


def reference(events: Iterable[Message], settled: Fraction | None) -> tuple[dict[Any, Fraction], dict[Any, Fraction]]:
    """What everybody has at the end, and what each position realised."""
    have: dict[Any, Fraction] = defaultdict(Fraction)
    won: dict[Any, Fraction] = {}
    unique = {(m.table, m.row["account"], m.row.get("fill_id") or m.row["transfer_id"]): m.row for m in events}
    fills = {name: row for name, row in unique.items() if name[0] == "fills" and not row.get("corrects_id")}
    changes = sorted((row["event_at"], name[2], row) for name, row in unique.items() if row.get("corrects_id"))
    effective = {name: dict(row) for name, row in fills.items()}
    for _, _, row in changes:
        name = ("fills", row["account"], row["corrects_id"])
        if name not in fills:
            continue
        effective[name] = {**row, "event_at": fills[name]["event_at"]}
    for (table, account, _), row in unique.items():
        if table == "transfers":
            have[account, row["currency"]] += Fraction(row["amount"])
    trades: dict[Any, list[Any]] = defaultdict(list)
    for (_, account, of), row in effective.items():
        if row.get("kind") != "bust":
            trades[account, row["instrument"]].append((row["event_at"], of, row))
        else:
            trades[account, row["instrument"]] += []
    for (account, name), rows in trades.items():
        style, each, currency = LEGS[name][0], Fraction(LEGS[name][1]), LEGS[name][2]
        size, basis, realised = Fraction(), Fraction(), Fraction()
        todo = [
            (Fraction(r["size"]) * (1 if r["side"] == "buy" else -1), Fraction(r["price"]), r)
            for _, _, r in sorted(rows, key=lambda x: x[:2])
        ]
        if settled is not None and name in ("CALL", "FUTURE"):
            last = settled if name == "FUTURE" else rounded(max(settled - 50_000, Fraction()) / settled)
            todo.append((-sum((change for change, _, _ in todo), Fraction()), last, {"fee": "0"}))
        for change, price, row in todo:
            have[account, currency] -= Fraction(row["fee"])
            if style == "spot":
                have[account, "BTC"] += rounded(change * each)
                have[account, currency] -= rounded(change * each * price)
                continue
            worth = rounded(-change * each / price, 60) if style == "inverse" else change * each * price
            if style == "option":
                have[account, currency] -= rounded(worth)
            pnl = Fraction()
            if size * change < 0:
                closes = min(abs(change), abs(size))
                pnl = rounded(-(basis * closes / abs(size) + worth * closes / abs(change)))
                if abs(change) > abs(size):
                    basis = rounded(worth * (abs(change) - abs(size)) / abs(change), 60)
                else:
                    basis = rounded(basis * (size + change) / size, 60)
            else:
                basis += worth
            size += change
            realised += pnl
            if style in ("linear", "inverse"):
                have[account, currency] += pnl
        if style != "spot":
            have[account, f"v:{name}"] += size
            won[account, f"v:{name}"] = realised
    return {key: amount for key, amount in have.items() if amount}, won


def same(actual: dict[Any, Decimal], expected: dict[Any, Fraction]) -> None:
    assert {key: Fraction(amount) for key, amount in actual.items()} == expected


sizes = st.sampled_from(
    ["1", "-1", "2.5", "-3", "0.000000000000000001", "-7", "1000000000000", "-1000000000000.000000000000000003"]
)
events = st.lists(
    st.one_of(
        st.builds(
            fill,
            st.sampled_from(sorted(LEGS)),
            sizes,
            st.sampled_from(["40000", "50000", "62500", "0.125"]),
            st.integers(T0, EXPIRY - 1),
            st.integers(0, 99).map("f{}".format),
            st.sampled_from("ab"),
        ),
        st.builds(
            transfer,
            st.integers(T0, END),
            st.integers(0, 99).map("t{}".format),
            st.sampled_from(["7", "-0.000000000000000001"]),
        ),
    ),
    max_size=14,
    unique_by=lambda m: (m.table, m.row["account"], m.row.get("fill_id") or m.row["transfer_id"]),
)


@st.composite
def histories(draw: Any) -> list[Message]:
    """Events, and corrections and busts of some of the fills."""
    made: list[Message] = draw(events)
    fills = [message for message in made if message.table == "fills"]
    for number in range(draw(st.integers(0, 4)) if fills else 0):
        row = draw(st.sampled_from(fills)).row
        kind = draw(st.sampled_from(["correction", "bust"]))
        size = draw(sizes)
        ms = draw(st.integers(EXPIRY, END))
        made.append(
            fill(row["instrument"], size, "45000", ms, f"c{number}", row["account"], kind=kind, corrects_id=row["fill_id"])
        )
    return made


@settings(max_examples=150)
@given(histories(), st.randoms(use_true_random=False), st.booleans())
def test_any_order_and_repeats_end_in_what_the_reference_says(
    made: list[Message], chance: random.Random, is_settled: bool
) -> None:
    """Shuffled over batches, late or not, repeated, cut at any place: the same to the last digit."""
    ledger = Ledger()
    todo = made + chance.choices(made, k=len(made) // 2) if made else []
    chance.shuffle(todo)
    if is_settled:
        ledger.step(*INDEX, until_ms=END)
    while todo:
        count = chance.randint(1, 5)
        ledger.step(*todo[:count], until_ms=END, is_late=chance.random() < 0.3)
        todo = todo[count:]
        if chance.random() < 0.3:
            ledger.cut()
    if is_settled:
        ledger.step(until_ms=END)
    assert ledger.letters == []
    have, won = reference(made, rounded(SETTLED) if is_settled else None)
    same(ledger.held(), have)
    same(
        ledger.realised(),
        {key: value for key, value in won.items() if key in ledger.realised()},
    )
    assert {key for key, value in won.items() if value} <= set(ledger.realised())
    ledger.check_log()


def test_in_order_and_a_minute_late_are_the_same_rows_at_the_end() -> None:
    made = [
        fill("LINEAR", size, price, T0 + n * 1000, f"f{n}")
        for n, (size, price) in enumerate(
            [("2", "100"), ("1", "130"), ("-1", "150"), ("-5", "100"), ("3", "90"), ("1", "80")] * 10
        )
    ]
    straight, late = Ledger(), Ledger()
    straight.step(*made, until_ms=T0 + 61_000)
    late.step(*made[1:], until_ms=T0 + 61_000)
    late.step(made[0], is_late=True)
    assert late.held() == straight.held()
    assert late.realised() == straight.realised()
    row, wanted = (ledger.newest["positions", "a", "v:LINEAR"] for ledger in (late, straight))
    assert row["average_price"] == wanted["average_price"]
    late.check_log()
    first = next(entry for entry in late.entries if entry["cause_id"] == "f0" and entry["kind"] == "pnl")
    assert first["entry_id"] == "a/fills/f0/pnl/USDC"
    assert (first["caused_at"], first["event_at"]) == (instant_ms(T0), instant_ms(T0 + 59_000))


def test_every_entry_names_cause_and_counterparty() -> None:
    ledger = Ledger()
    ledger.step(transfer(T0, "t1", "100"), fill("LINEAR", "2", "100", T0 + 1, "f1"), until_ms=T0 + 10)
    ledger.step(fill("LINEAR", "-1", "150", T0 + 20, "f2"), transfer(T0 + 30, "p1", "-0.5", kind="funding"), until_ms=T0 + 50)
    told = [
        (e["number"], e["kind"], e["asset"], e["amount"], e["balance"], e["counter_account"], e["cause_id"])
        for e in ledger.entries
    ]
    assert told == [
        (1, "transfer", "USDC", "100", "100", "house:outside", "t1"),
        (2, "trade", "v:LINEAR", "2", "2", "house:exchange", "f1"),
        (3, "fee", "USDC", "-0.25", "99.75", "house:fees", "f1"),
        (4, "trade", "v:LINEAR", "-1", "1", "house:exchange", "f2"),
        (5, "pnl", "USDC", "5", "104.75", "house:exchange", "f2"),
        (6, "fee", "USDC", "-0.25", "104.5", "house:fees", "f2"),
        (7, "funding", "USDC", "-0.5", "104", "house:exchange", "p1"),
    ]
    assert ledger.rebuilt(instant_ms(T0 + 1))["a", "USDC"] == Decimal("99.75")
    assert ledger.rebuilt()["house:fees", "USDC"] == Decimal("0.5")


def test_a_bust_leaves_nothing_but_its_entries_and_a_correction_what_it_says() -> None:
    ledger = Ledger()
    ledger.step(fill("LINEAR", "2", "100", T0, "f1"), fill("LINEAR", "-2", "160", T0 + 9, "f2"), until_ms=T0 + 10)
    corrected = fill("LINEAR", "2", "110", T0 + 60_000, "c1", kind="correction", corrects_id="f1", fee="0.5")
    ledger.step(corrected, until_ms=T0 + 61_000)
    assert ledger.held() == {("a", "USDC"): Decimal("9.25")}
    told = [(e["kind"], e["amount"], e["cause_id"], e["corrected_id"]) for e in ledger.entries[-2:]]
    assert told == [("pnl", "-2", "c1", "f1"), ("fee", "-0.25", "c1", "f1")]
    ledger.step(fill("LINEAR", "2", "0", T0 + 70_000, "c2", kind="bust", corrects_id="f2"), until_ms=T0 + 71_000)
    ledger.step(fill("LINEAR", "2", "0", T0 + 80_000, "c3", kind="bust", corrects_id="f1"), until_ms=T0 + 81_000)
    assert ledger.held() == {}
    ledger.check_log()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"corrects_id": None}, "corrects_id"),
        ({"corrects_id": "c1"}, "corrects_id"),
        ({"kind": "undo"}, "kind"),
        ({"kind": "fill"}, "corrects_id"),
        ({"instrument": "INVERSE"}, "instrument"),
        ({"size": "0"}, "size"),
        (at(T0 - 1), "event_at"),
        ({"account": "house:fees"}, "account"),
    ],
)
def test_a_correction_without_sense_is_a_dead_letter(changed: dict[str, Any], field: str) -> None:
    ledger = Ledger()
    ledger.step(fill("LINEAR", "2", "100", T0, "f1"), until_ms=T0 + 10)
    before = ledger.held()
    message = fill("LINEAR", "2", "110", T0 + 9, "c1", kind="correction", corrects_id="f1")
    message = message._replace(row=message.row | changed)
    ledger.step(message, until_ms=T0 + 50)
    assert [letter["field"] for letter in ledger.letters] == [field]
    assert ledger.held() == before


def test_a_correction_whose_fill_never_comes_is_a_dead_letter_after_a_week() -> None:
    ledger = Ledger()
    bust = fill("LINEAR", "2", "110", T0, "c1", kind="bust", corrects_id="f1")
    ledger.step(bust, until_ms=T0 + 10)
    ledger.step(bust, until_ms=T0 + 20)
    ledger.cut()
    week = 7 * 24 * 60 * MINUTE
    ledger.step(transfer(T0 + week + 120 * MINUTE, "t", "1"), until_ms=T0 + week + 121 * MINUTE)
    assert [letter["field"] for letter in ledger.letters] == ["corrects_id"]
    assert ledger.letters[0]["got"] == "f1"


def test_expiry_settles_at_the_average_of_the_last_half_hour() -> None:
    ledger = Ledger()
    ledger.step(fill("FUTURE", "2", "50000", T0, "f1"), fill("CALL", "-3", "0.05", T0, "f2"), until_ms=T0 + 50)
    for message in (*INDEX[:2], index(EXPIRY - MINUTE, 999.0, "another")):
        ms = datetime.fromisoformat(message.row["event_at"]).timestamp() * 1000
        ledger.step(message, until_ms=int(ms) + 50)
        ledger.cut()
    assert {row["size"] for key, row in ledger.newest.items() if key[0] == "positions"} == {"2", "-3"}
    ledger.step(until_ms=EXPIRY)
    price = Decimal(SETTLED.numerator) / SETTLED.denominator
    won = (price - 50_000) * 2 * Decimal("0.5")
    assert abs(ledger.held()["a", "USDC"] - won + Decimal("0.25")) < Decimal("1e-15")
    value = Context(prec=40, rounding=ROUND_HALF_EVEN).quantize((price - 50_000) / price, Decimal("1e-18"))
    assert abs(ledger.held()["a", "BTC"] - (Decimal("0.15") - Decimal("0.25") - 3 * value)) < Decimal("1e-15")
    assert {key for key in ledger.held() if ":" in key[1]} == set()
    entry = next(e for e in ledger.entries if e["kind"] == "settlement" and e["asset"] == "v:FUTURE")
    assert (entry["amount"], entry["balance"], entry["cause_id"], entry["caused_at"]) == (
        "-2",
        "0",
        "v:FUTURE",
        instant_ms(EXPIRY),
    )
    assert entry["price"].startswith("53333.33333333333333")
    assert ledger.step(until_ms=EXPIRY + MINUTE) == []
    ledger.check_log()


def test_without_any_index_price_a_contract_waits_for_one() -> None:
    ledger = Ledger()
    ledger.step(fill("FUTURE", "2", "50000", T0, "f1"), until_ms=T0 + 50)
    assert ledger.step(until_ms=EXPIRY) == []
    ledger.step(index(EXPIRY + MINUTE, 51_000.0, "another"), until_ms=EXPIRY + MINUTE + 50)
    assert ledger.held() == {("a", "USDC"): Decimal("999.75")}


def test_what_is_delivered_comes_from_the_exchange() -> None:
    ledger = Ledger()
    coin = transfer(T0, "d1", "1.5", currency="BTC", kind="delivery")
    ledger.step(coin, transfer(T0, "d2", "-60000", kind="delivery"), until_ms=T0 + 50)
    assert ledger.rebuilt()["house:exchange", "BTC"] == Decimal("-1.5")
    assert ledger.rebuilt()["house:exchange", "USDC"] == Decimal(60_000)
    ledger.check_log()


def test_a_fee_that_comes_by_itself_goes_where_fees_of_fills_go() -> None:
    ledger = Ledger()
    ledger.step(transfer(T0, "fee:f1", "-0.0004", currency="ETH", kind="fee"), until_ms=T0 + 50)
    assert ledger.rebuilt()["house:fees", "ETH"] == Decimal("0.0004")
    assert ledger.held() == {("a", "ETH"): Decimal("-0.0004")}
    ledger.check_log()


def test_a_position_of_1e12_and_18_decimals_stays_exact() -> None:
    ledger = Ledger()
    made = [
        fill("LINEAR", "999999999999.123456789012345678", "60000.000000000000000001", T0, "f1", fee="0"),
        fill("LINEAR", "-999999999999.123456789012345677", "60000.000000000000000003", T0 + 1, "f2", fee="0"),
    ]
    ledger.step(*made, until_ms=T0 + 50)
    have, _ = reference(made, None)
    same(ledger.held(), have)
    assert ledger.held()["a", "v:LINEAR"] == Decimal("0.000000000000000001")
    assert ledger.newest["positions", "a", "v:LINEAR"]["average_price"] == "60000.000000000000000001"
