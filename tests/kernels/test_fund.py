"""The fund: each claim by itself, and the loop of positions, liquidations and fund, in which every loss has a bearer."""

import random
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import fund, liquidations, positions
from kernels.fund.rules import RULES, Rules
from kernels.fund.state import State
from kernels.orders.ids import client_order_id
from schemas import READ_AS
from schemas.partitions import partition_of
from schemas.rows import fault, instant_ms
from tests.kernels.obeying import READ
from tests.kernels.stored import Stored
from tests.kernels.test_liquidations import T0, at, balance, index, instrument, inverse, position, ticker

PERP = "v:AAA-PERP"
LATER = RULES.latency_ms
WINDOW = 100


def opened(usdc: str = "1000000", *messages: Message) -> State:
    """A fund with so much, and one market at 100."""
    state = State(Rules(opening={"USDC": usdc}))
    market = instrument("AAA"), index("AAA", 100.0, T0), ticker("AAA", 100.0, T0)
    assert step(state, T0 + WINDOW, *market, *messages) == []
    return state


def step(state: State, until_ms: int | None, *messages: Message) -> list[Output]:
    """One batch, whose rows are all as their tables say."""
    outputs = fund.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


def claim(account: str, missing: float, ms: int, broke_ms: int = T0, **parts: tuple[float, float, float]) -> list[Message]:
    """The rows of a claim; of each position, by its coin, size, price and share."""
    head: dict[str, Any] = {"claim_id": f"{account}/{instant_ms(ms)}", "account": account, "event_at": instant_ms(ms)}
    head |= {
        "reason": "equity",
        "broke_at": instant_ms(broke_ms),
        "missing_usd": missing,
        "currency": "USDC",
        "is_settled": not parts,
    }
    rows = [
        {"venue": "v", "instrument": f"{coin}-PERP", "size": size, "price": price, "share_usd": share}
        for coin, (size, price, share) in parts.items()
    ]
    nothing = dict.fromkeys(("venue", "instrument", "size", "price", "share_usd"))
    return [Message("loss_claims", 0, n, head | row) for n, row in enumerate(rows or [nothing])]


def rows(outputs: list[Output], table: str = "fund_entries") -> list[Any]:
    return [output.row for output in outputs if output.table == table]


def paid(outputs: list[Output]) -> list[tuple[str, str]]:
    return [(row["account"], row["amount"]) for row in rows(outputs, "fund_transfers")]


def told(outputs: list[Output]) -> list[tuple[str, str, float]]:
    return [(row["kind"], row["account"], round(row["amount_usd"], 6)) for row in rows(outputs)]


def closed(outputs: list[Output]) -> list[tuple[str, str, str, str]]:
    return [(row["account"], row["side"], row["size"], row["price"]) for row in rows(outputs, "fund_fills")]


def booked(account: str, size: str, fill_id: str, ms: int, coin: str = "AAA", average: float = 100.0) -> Message:
    row = position(account, coin, 1.0, average, ms).row | {"size": size, "fill_id": fill_id}
    return Message("positions", 0, ms - T0, row)


def test_a_loss_that_is_realised_is_paid_to_the_last_digit_and_comes_the_latency_later() -> None:
    state, ms = opened("100", balance("a", -50.123456)), T0 + 199
    outputs = step(state, T0 + 200, *claim("a", 50.123456, ms))
    (transfer,), (entry,) = rows(outputs, "fund_transfers"), rows(outputs)
    assert (transfer["account"], transfer["currency"], transfer["amount"]) == ("a", "USDC", "50.123456")
    assert (transfer["transfer_id"], transfer["kind"]) == (f"a/{instant_ms(ms)}/USDC", "insurance")
    assert transfer["event_at"] == instant_ms(ms + LATER)
    assert [output.event_ms for output in outputs if output.table == "fund_transfers"] == [ms + LATER]
    assert (entry["kind"], entry["amount"], entry["balance"], entry["number"]) == ("insurance", "-50.123456", "49.876544", 1)
    assert entry["event_at"] == instant_ms(ms)


@given(st.permutations(["c", "a", "b"]), st.booleans())
def test_claims_of_one_instant_are_answered_by_account_whatever_order_they_come_in(order: list[str], is_cut: bool) -> None:
    missing = {"a": 50.0, "b": 50.0, "c": 10.0}
    state = opened("70", *(balance(name, -usd) for name, usd in missing.items()))
    messages = [row for name in order for row in claim(name, missing[name], T0 + 150)]
    late = [step(state, None, messages.pop(0))] if is_cut else []
    outputs = step(state, T0 + 200, *messages)
    assert late in ([], [[]])
    assert paid(outputs) == [("a", "50"), ("b", "20")]
    assert told(outputs) == [
        ("insurance", "a", 50.0),
        ("insurance", "b", 20.0),
        ("uncovered", "b", 30.0),
        ("uncovered", "c", 10.0),
    ]


def test_an_earlier_claim_is_answered_before_one_of_an_account_that_comes_first_by_name() -> None:
    state = opened("60", balance("a", -50.0), balance("z", -50.0))
    outputs = step(state, T0 + 200, *claim("a", 50.0, T0 + 190), *claim("z", 50.0, T0 + 150))
    assert paid(outputs) == [("z", "50"), ("a", "10")]


def test_a_claim_that_comes_again_counts_once() -> None:
    shard = Stored(fund, opened("1000", balance("a", -50.0)))
    shard.kernel = _with_rules(shard.state)
    again = claim("a", 50.0, T0 + 150)
    assert paid(step(shard.state, T0 + 200, *again, *again)) == [("a", "50")]
    assert step(shard.state, T0 + 300, *again) == step(shard.state, None, *again) == []
    shard.store()
    shard.restart()
    assert step(shard.state, T0 + 400, *again) == []


def test_a_claim_of_an_account_that_nobody_knows_is_a_dead_letter_that_says_so() -> None:
    outputs = step(opened(), T0 + 200, *claim("nobody", 50.0, T0 + 150))
    (letter,) = rows(outputs, "dead_letters")
    assert (letter["source"], letter["field"], letter["got"]) == ("loss_claims.v1", "account", "nobody")
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"missing_usd": 0.0}, "missing_usd"),
        ({"claim_id": "a/another"}, "claim_id"),
        ({"price": None}, "price"),
        ({"price": -1.0}, "price"),
        ({"is_settled": True}, "size"),
    ],
)
def test_a_claim_that_makes_no_sense_is_a_dead_letter_and_its_neighbours_are_answered(
    columns: dict[str, Any], field: str
) -> None:
    state = opened("1000", balance("a", -50.0), balance("b", -5.0))
    (odd,) = claim("a", 50.0, T0 + 150, AAA=(100.0, 85.0, 50.0))
    outputs = step(state, T0 + 200, odd._replace(row=odd.row | columns), *claim("b", 5.0, T0 + 150))
    assert [row["field"] for row in rows(outputs, "dead_letters")] == [field] and paid(outputs) == [("b", "5")]


@pytest.mark.parametrize(("missing", "opening"), [(2e10, "4000000"), (1e300, "4000000"), (2e10, "12345678901234567890.5")])
def test_a_huge_claim_is_paid_as_far_as_the_fund_goes_and_both_sums_agree(missing: float, opening: str) -> None:
    outputs = step(opened(opening, balance("a", -5.0)), T0 + 200, *claim("a", missing, T0 + 150))
    ((_, amount),) = paid(outputs)
    assert Decimal(amount) == min(Decimal(opening), Decimal(repr(missing)))
    (entry, *_) = rows(outputs)
    assert (entry["amount"], Decimal(entry["balance"])) == (f"-{amount}", Decimal(opening) - Decimal(amount))


@pytest.mark.parametrize("part", [(100.0, 1e300, 5e6), (5e-324, 85.0, 5e6)])
def test_a_claim_that_names_numbers_beyond_all_decimals_closes_nothing(part: tuple[float, float, float]) -> None:
    held = booked("a", "100", "f1", T0 + 10), booked("b", "-100", "f2", T0 + 10)
    state = opened("1", balance("a", -5e6), balance("b", 1e9), *held)
    outputs = step(state, T0 + 200, *claim("a", 5e6, T0 + 150, AAA=part))
    assert closed(outputs) == [] and rows(outputs, "dead_letters") == []


def test_a_row_of_a_claim_with_other_contents_than_the_first_is_a_dead_letter() -> None:
    (first,), (other,) = claim("a", 50.0, T0 + 150), claim("a", 60.0, T0 + 150)
    outputs = step(opened("1000", balance("a", -50.0)), T0 + 200, first, other, first)
    assert [row["field"] for row in rows(outputs, "dead_letters")] == ["claim_id"]
    assert paid(outputs) == [("a", "50")]


def test_an_empty_fund_pays_nothing_and_tells_what_nobody_bears() -> None:
    outputs = step(opened("0", balance("a", -50.0)), T0 + 200, *claim("a", 50.0, T0 + 150))
    assert told(outputs) == [("uncovered", "a", 50.0)] and paid(outputs) == []
    assert rows(outputs)[0]["reason"] == "of a loss of 50.00 USD the fund pays 0.00 USD: nobody bears 50.00 USD"


def test_what_is_on_its_way_is_not_paid_again_and_what_is_lost_meanwhile_is() -> None:
    state, first = opened("1000", balance("a", -50.0)), T0 + 199
    assert paid(step(state, T0 + 200, *claim("a", 50.0, first))) == [("a", "50")]
    assert paid(step(state, T0 + 300, *claim("a", 60.0, first + 100))) == [("a", "10")]
    # The first payment is in the equity of this claim, the second is on its way.
    assert paid(step(state, T0 + 400, *claim("a", 13.0, first + LATER))) == [("a", "3")]
    assert paid(step(state, T0 + 900, *claim("a", 7.0, first + 700))) == [("a", "7")]


def test_what_nobody_bears_is_told_once_in_a_case_and_another_case_begins_anew() -> None:
    state = opened("30", balance("a", -50.0))
    assert told(step(state, T0 + 200, *claim("a", 50.0, T0 + 150))) == [("insurance", "a", 30.0), ("uncovered", "a", 20.0)]
    assert step(state, T0 + 500, *claim("a", 20.0, T0 + 450)) == []
    assert step(state, T0 + 600, *claim("a", 15.0, T0 + 550)) == []
    assert told(step(state, T0 + 700, *claim("a", 27.0, T0 + 650))) == [("uncovered", "a", 7.0)]
    assert told(step(state, T0 + 800, *claim("a", 4.0, T0 + 750, T0 + 740))) == [("uncovered", "a", 4.0)]


def test_a_loss_in_coins_is_paid_in_what_the_fund_has_by_value() -> None:
    owed = balance("a", -0.5)
    state = opened("1000", owed._replace(row=owed.row | {"currency": "AAA"}))
    (message,) = claim("a", 50.0, T0 + 150)
    outputs = step(state, T0 + 200, message._replace(row=message.row | {"currency": "AAA"}))
    assert [(row["currency"], row["amount"]) for row in rows(outputs, "fund_transfers")] == [("USDC", "50")]
    both = State(Rules(opening={"USDC": "1000", "AAA": "0.2"}))
    step(both, T0 + WINDOW, instrument("AAA"), index("AAA", 100.0, T0), balance("a", 0.0))
    outputs = step(both, T0 + 200, message._replace(row=message.row | {"currency": "AAA"}))
    assert [(row["currency"], row["amount"]) for row in rows(outputs, "fund_transfers")] == [("AAA", "0.2"), ("USDC", "30")]


def rich(*accounts: str) -> list[Message]:
    return [balance(name, 1e6) for name in accounts]


def fallen(*messages: Message) -> list[Message]:
    """The mark is 80: a long of 100 at 100 with 1,500 of cash lacks 500, and its bankruptcy price is 85."""
    return [ticker("AAA", 80.0, T0 + 120), index("AAA", 80.0, T0 + 120), *messages]


LONG = [position("a", "AAA", 100.0, 100.0), balance("a", 1_500.0)]
CLAIM = claim("a", 500.0, T0 + 150, AAA=(100.0, 85.0, 500.0))


def test_others_close_a_position_by_their_rank_at_the_bankruptcy_price_where_the_fund_has_not_enough() -> None:
    shorts = [position("rich", "AAA", -30.0, 100.0), position("keen", "AAA", -30.0, 100.0)]
    shorts += [position("late", "AAA", -200.0, 81.0), balance("keen", 400.0), *rich("rich", "late")]
    state = opened("499", *LONG, *shorts)
    outputs = step(state, T0 + 200, *fallen(), *CLAIM)
    # The most levered of those who gain is the first; who gains little is the last, and closes what is left.
    assert closed(outputs) == [
        ("a", "sell", "30", "85"),
        ("keen", "buy", "30", "85"),
        ("a", "sell", "30", "85"),
        ("rich", "buy", "30", "85"),
        ("a", "sell", "40", "85"),
        ("late", "buy", "40", "85"),
    ]
    assert told(outputs) == [("deleveraging", "a", 150.0), ("deleveraging", "a", 150.0), ("deleveraging", "a", 200.0)]
    assert paid(outputs) == [] and state.purses["USDC"].balance == 499
    fills = rows(outputs, "fund_fills")
    assert [fills[n]["fill_id"] == fills[n + 1]["fill_id"] for n in (0, 2, 4)] == [True] * 3
    assert {row["event_at"] for row in fills} == {instant_ms(T0 + 199 + LATER)}


def test_where_the_fund_has_enough_it_reserves_it_and_nobody_is_deleveraged() -> None:
    other = [position("b", "AAA", 100.0, 100.0), balance("b", 1_500.0), position("s", "AAA", -500.0, 100.0), *rich("s")]
    state = opened("900", *LONG, *other)
    theirs = claim("b", 500.0, T0 + 150, AAA=(100.0, 85.0, 500.0))
    outputs = step(state, T0 + 200, *fallen(), *theirs, *CLAIM)
    # 900 are enough for one of them, and not for both.
    assert told(outputs) == [("reserved", "a", 500.0), ("deleveraging", "b", 500.0)]
    assert closed(outputs) == [("b", "sell", "100", "85"), ("s", "buy", "100", "85")]
    # It is sold better than at the mark: only what is missing then is paid.
    sold = booked("a", "0", "f", T0 + 250), balance("a", -420.0, T0 + 250)
    assert paid(step(state, T0 + 300, *sold, *claim("a", 420.0, T0 + 299))) == [("a", "420")]


def test_no_position_is_closed_twice_while_a_deleveraging_is_not_booked_and_none_turns() -> None:
    long = [position(name, "AAA", 0.1, 100.0) for name in "abc"] + [balance(name, 1.0) for name in "abc"]
    state = opened("0", *long, booked("s", "-0.25", "f", T0), *rich("s"))
    part = 0.1, 90.0, 1.0
    both = [row for name in "ab" for row in claim(name, 1.0, T0 + 150, AAA=part)]
    assert closed(step(state, T0 + 200, *fallen(), *both))[1::2] == [("s", "buy", "0.1", "90"), ("s", "buy", "0.1", "90")]
    again = claim("a", 1.0, T0 + 250, AAA=part), claim("c", 1.0, T0 + 250, AAA=part)
    # What is being closed of `a` bears its loss already; of `s` 0.05 are left: as many digits as were told.
    assert closed(step(state, T0 + 300, *again[0], *again[1])) == [("c", "sell", "0.05", "90"), ("s", "buy", "0.05", "90")]
    assert state.free_size("s", PERP) == 0


@pytest.mark.parametrize(("cash", "is_closed"), [(251.0, True), (249.0, False)])
def test_nobody_is_deleveraged_whom_it_would_put_below_maintenance(cash: float, is_closed: bool) -> None:
    """A short of 150 at 80 has a requirement of 600 at the mark of 80, a short of 50 one of 200, and the rest costs 500."""
    shorts = [position("s", "AAA", -150.0, 80.0), balance("s", 700.0)]
    state = opened("0", *LONG, *shorts)
    outputs = step(state, T0 + 200, *fallen(balance("s", cash + 450.0, T0 + 130)), *CLAIM)
    assert bool(closed(outputs)) == is_closed


def test_an_account_without_equity_is_not_deleveraged() -> None:
    state = opened("0", *LONG, position("broke", "AAA", -100.0, 70.0), balance("broke", 900.0))
    assert rows(step(state, T0 + 200, *fallen(), *CLAIM), "fund_fills") == []


def deleveraged(*messages: Message) -> tuple[State, str]:
    """One deleveraging of 100 contracts of `a` against `s`, and its id."""
    state = opened("0", *LONG, position("s", "AAA", -150.0, 100.0), *rich("s"), *messages)
    fills = rows(step(state, T0 + 200, *fallen(), *CLAIM), "fund_fills")
    assert [(row["account"], row["side"], row["size"]) for row in fills] == [("a", "sell", "100"), ("s", "buy", "100")]
    return state, fills[0]["fill_id"]


def test_a_deleveraging_that_is_booked_on_both_sides_is_over() -> None:
    state, name = deleveraged()
    ms = T0 + 199 + LATER
    assert step(state, ms + 1, booked("s", "-50", name, ms), booked("a", "0", name, ms)) == []
    assert not state.pending and not state.closing and state.free_size("s", PERP) == -50
    assert state.encode(f"deleveraging/{name}") is None


@pytest.mark.parametrize(
    ("after", "kind", "left"),
    [
        ({"a": "0", "s": "60"}, "correction", "40"),
        ({"a": "-70", "s": "20"}, "correction", "30"),
        ({"a": "-100"}, "bust", "100"),
    ],
)
def test_where_other_fills_came_in_between_both_sides_are_corrected_to_what_was_left(
    after: dict[str, str], kind: str, left: str
) -> None:
    """A position that would have turned, on one side or both, has closed that much less."""
    state, name = deleveraged()
    ms = T0 + 199 + LATER
    made = {"a": "0", "s": "-50"} | after
    outputs = step(state, ms + 1, *(booked(account, size, name, ms) for account, size in made.items()))
    fills = rows(outputs, "fund_fills")
    assert [(row["account"], row["kind"], row["side"], row["size"], row["corrects_id"]) for row in fills] == [
        ("a", kind, "sell", left, name),
        ("s", kind, "buy", left, name),
    ]
    assert {row["fill_id"] for row in fills} == {f"{name}/corrected"}
    assert state.free_size("a", PERP) == state.free_size("s", PERP) == 0
    later = ms + LATER
    assert step(state, later + 1, *(booked(account, "0", f"{name}/corrected", later) for account in "as")) == []
    assert not state.pending


def test_a_deleveraging_that_one_side_refuses_is_busted_on_the_other_and_one_that_both_refuse_is_forgotten() -> None:
    state, name = deleveraged()
    ms = T0 + 199 + LATER
    step(state, ms + 1, booked("a", "0", name, ms))
    outputs = step(state, ms + 60_002, ticker("AAA", 80.0, ms + 60_000))
    assert [(row["account"], row["kind"], row["size"]) for row in rows(outputs, "fund_fills")] == [("a", "bust", "100")]
    state, name = deleveraged()
    outputs = step(state, ms + 60_002, ticker("AAA", 80.0, ms + 60_000))
    assert [row["kind"] for row in rows(outputs)] == ["corrected"] and rows(outputs, "fund_fills") == [] and not state.pending


def test_rows_bear_the_partition_of_their_accounts_and_a_key_of_the_funds_own() -> None:
    state, other = State(Rules(opening={"USDC": "1000"})), State()
    for shard, own in ((state, 0), (other, 3)):
        fund.set_keys(shard, lambda key: partition_of(key, 4), own)
        assert partition_of(shard.name, 4) == own
    step(state, T0 + WINDOW, balance("a", -50.0), balance("b", -50.0))
    transfers = rows(step(state, T0 + 200, *claim("a", 50.0, T0 + 150), *claim("b", 50.0, T0 + 150)), "fund_transfers")
    assert [row["account_partition"] for row in transfers] == [partition_of(name, 4) for name in "ab"]
    assert {row["fund"] for row in transfers} == {state.name}
    assert step(other, T0 + WINDOW) == [] and fund.gauges(other) == {}
    assert fund.gauges(state)["insurance_fund_usd"] == pytest.approx(900.0)


def _with_rules(state: State) -> Any:
    """The kernel, whose new states have the rules of this one."""

    class Kernel:
        @staticmethod
        def new() -> State:
            return State(state.rules)

    return Kernel


class Loop:
    """positions, liquidations and fund in step: what the fund tells ahead is booked in its time."""

    def __init__(self, usdc: str) -> None:
        rules = Rules(opening={"USDC": usdc})
        self.ledger, self.engine = positions.new(), liquidations.new()
        self.fund = Stored(fund, State(rules))
        self.fund.kernel = _with_rules(self.fund.state)
        self.ahead: list[Output] = []
        self.written: list[Output] = []
        self.now_ms = T0
        self.held: dict[tuple[str, str], Decimal] = defaultdict(Decimal)

    def step(self, *market: Message, booked: list[Message] | None = None, window_ms: int = WINDOW) -> list[Output]:
        """One window; `booked` are fills and transfers.  Returns what liquidations decide."""
        self.now_ms += window_ms
        until_ms = self.now_ms
        due = [output for output in self.ahead if output.event_ms < until_ms]
        self.ahead = [output for output in self.ahead if output.event_ms >= until_ms]
        known = [message for message in market if message.table != "tickers"]
        executed = [Message(READ_AS[output.table], 0, n, dict(output.row)) for n, output in enumerate(due)]
        rows_made = positions.step(self.ledger, [*known, *(booked or []), *executed], until_ms)
        assert not [output.row for output in rows_made if output.table == "dead_letters"]
        assert set(positions.totals(self.ledger).values()) <= {Decimal(0)}
        held = [Message(o.table, 1, n, dict(o.row)) for n, o in enumerate(rows_made) if o.table in ("positions", "balances")]
        decided = liquidations.step(self.engine, [READ, *market, *held], until_ms)
        claims = [Message(o.table, 2, n, dict(o.row)) for n, o in enumerate(decided) if o.table == "loss_claims"]
        answers = step(self.fund.state, until_ms, *market, *held, *claims)
        self.fund.store()
        self.ahead += [output for output in answers if output.table in ("fund_transfers", "fund_fills")]
        assert all(output.event_ms == until_ms - 1 + LATER for output in self.ahead if output in answers)
        self.written += answers
        return decided

    def amounts(self, kind: str) -> float:
        return float(sum(row["amount_usd"] for row in rows(self.written) if row["kind"] == kind))

    def size(self, account: str, contract: str = PERP) -> Decimal:
        book = self.ledger.accounts[account].books.get(contract)
        return book.size if book else Decimal(0)

    def cash(self, account: str, currency: str = "USDC") -> Decimal:
        held = self.ledger.accounts[account].balances.get(currency)
        return held.amount if held else Decimal(0)


def trade(name: str, account: str, counter: str, size: Decimal, price: float, ms: int, coin: str = "AAA") -> list[Message]:
    """A fill of both sides; `size` is signed, of the first."""
    row = {"venue": "v", "instrument": f"{coin}-PERP", **at(ms), "fill_id": name, "price": str(price), "size": str(abs(size))}
    sides = ("buy", "sell") if size > 0 else ("sell", "buy")
    return [
        Message("fills", 0, 0, row | {"account": who, "side": side, "fee": "0", "kind": None, "corrects_id": None})
        for who, side in zip((account, counter), sides, strict=True)
    ]


def deposit(account: str, amount: str, ms: int) -> Message:
    row = {"account": account, **at(ms), "transfer_id": "deposit", "currency": "USDC", "amount": amount, "kind": None}
    return Message("transfers", 0, 0, row)


def played(usdc: str, holdings: list[tuple[int, int]], marks: list[int], seed: int, cuts: frozenset[int] = frozenset()) -> Loop:
    """Accounts that are long or short against one maker, prices, and orders that are filled worse than the mark, or late."""
    loop, chance = Loop(usdc), random.Random(seed)
    start = [deposit("maker", "1000000000", T0)]
    for n, (size, cash) in enumerate(holdings):
        exact = Decimal(size) / 10
        start += [deposit(f"acct-{n}", str(cash), T0), *trade(f"o{n}", f"acct-{n}", "maker", exact, 100.0, T0)]
    market = [instrument("AAA"), index("AAA", 100.0, T0), ticker("AAA", 100.0, T0)]
    orders = [output.row for output in loop.step(*market, booked=start) if output.table == "liquidation_orders"]
    for n, mark in enumerate([*marks, *marks[-1:] * DRAIN], start=1):
        ms, is_over = loop.now_ms + 10, n > len(marks) + DRAIN // 6
        filled: list[Message] = []
        left = []
        for order in orders:
            held, account = loop.size(order["account"]), order["account"]
            if chance.random() < 0.5 and not is_over:
                left.append(order)  # waits on
            elif held:
                # Reduce-only, as at the venue.
                part = min(held.copy_abs(), Decimal(repr(order["size"]))).copy_sign(held.copy_negate())
                worse = mark * (1 + (0.004 if part > 0 else -0.004))
                filled += trade(order["order_id"], account, "maker", part, worse, ms)
        prices = ticker("AAA", float(mark), ms), index("AAA", float(mark), ms)
        decided = loop.step(*prices, booked=filled, window_ms=10 * WINDOW if is_over else WINDOW)
        orders = left + [output.row for output in decided if output.table == "liquidation_orders"]
        if n in cuts:
            loop.fund.restart(chance=random.Random(n))
    return loop


DRAIN = 40
HOLDINGS = st.lists(
    st.tuples(st.sampled_from([1000, 333, -1000, -777, 50]), st.sampled_from([120, 700, 1500, 4000, 100_000])),
    min_size=2,
    max_size=7,
)
MARKS = st.lists(st.sampled_from([100, 97, 91, 88, 84, 80, 75, 106, 112, 118, 124]), min_size=3, max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["0", "100", "1000", "1000000"]), HOLDINGS, MARKS, st.integers(0, 5))
def test_every_loss_has_a_bearer_and_nothing_is_made_or_lost(
    usdc: str, holdings: list[tuple[int, int]], marks: list[int], seed: int
) -> None:
    loop = played(usdc, holdings, marks, seed)
    assert not loop.ahead and not loop.fund.state.pending
    assert not loop.ledger.house.get("house:exchange", {}).get(PERP), "one side of a deleveraging"
    # What the fund paid is what the ledger has of it, to the last digit.
    house = loop.ledger.house.get("house:insurance", {}).get("USDC", Decimal(0))
    assert loop.fund.state.purses["USDC"].balance == Decimal(usdc) + house
    assert loop.fund.state.purses["USDC"].balance >= 0
    opening: Decimal = Decimal(usdc)
    for row in rows(loop.written):
        opening += Decimal(row["amount"])
        assert Decimal(row["balance"]) == opening
    below, mark = 0.0, marks[-1]
    for n, (size, _) in enumerate(holdings):
        name = f"acct-{n}"
        assert loop.size(name) * size >= 0, "a position has turned"
        worth = float(loop.cash(name)) + sum(
            float(book.size) * (mark - float(book.held.basis / book.held.size))
            for book in loop.ledger.accounts[name].books.values()
            if book.size
        )
        below += max(-worth, 0.0)
        required = abs(float(loop.size(name))) * mark * 0.05
        assert not loop.size(name) or worth >= required, "below maintenance, and could have been closed"
    # Whoever is below zero at the end is what nobody bears; a deposit that comes by other fills may make it less.
    assert below <= loop.amounts("uncovered") + 0.01 * len(holdings)


@settings(max_examples=40, deadline=None)
@given(HOLDINGS, MARKS, st.integers(0, 3), st.frozensets(st.integers(1, 20), max_size=4))
def test_a_fund_that_is_restored_anywhere_answers_as_one_that_never_stopped(
    holdings: list[tuple[int, int]], marks: list[int], seed: int, cuts: frozenset[int]
) -> None:
    straight = played("500", holdings, marks, seed)
    assert played("500", holdings, marks, seed, cuts).written == straight.written


def test_a_bankrupt_position_that_others_close_leaves_its_account_with_nothing_and_owing_nothing() -> None:
    """Linear and inverse; the fund is empty, and nothing of it is sold."""
    loop = Loop("0")
    coins = [inverse(), ticker("BBB", 2_000.0, T0), index("BBB", 2_000.0, T0)]
    start = [deposit("a", "2000", T0), deposit("x", "1000000", T0), deposit("y", "1000000", T0)]
    start += trade("1", "a", "x", Decimal(-100), 100.0, T0) + trade("2", "a", "y", Decimal(3_000), 2_000.0, T0, "BBB")
    loop.step(instrument("AAA"), index("AAA", 100.0, T0), ticker("AAA", 100.0, T0), *coins, booked=start)
    ms = loop.now_ms + 10
    fall = ticker("AAA", 110.0, ms), index("AAA", 110.0, ms), ticker("BBB", 1_800.0, ms), index("BBB", 1_800.0, ms)
    decided = loop.step(*fall)
    assert [output.row["kind"] for output in decided if output.table == "liquidation_events"] == [
        "locked",
        "bankrupt",
        "claimed",
    ]
    for _ in range(4):
        decided += loop.step()
    assert not [output for output in decided if output.table == "liquidation_orders"]
    assert {loop.size(name, f"v:{coin}-PERP") for name in "axy" for coin in ("AAA", "BBB")} == {Decimal(0)}
    left = float(loop.cash("a")) + float(loop.cash("a", "BBB")) * 1_800.0
    assert left == pytest.approx(0.0, abs=0.01)
    assert loop.amounts("uncovered") == 0.0 and loop.amounts("deleveraging") == pytest.approx(2_000.0)
    assert [output.row["kind"] for output in decided if output.table == "liquidation_events"][-1] == "recovered"


def test_what_nobody_takes_over_is_paid_as_far_as_the_fund_goes_once_it_is_sold() -> None:
    state = opened("30", *LONG)
    assert step(state, T0 + 200, *fallen(), *CLAIM) == []
    outputs = step(
        state, T0 + 300, booked("a", "0", "f", T0 + 250), balance("a", -540.0, T0 + 250), *claim("a", 540.0, T0 + 299)
    )
    assert told(outputs) == [("insurance", "a", 30.0), ("uncovered", "a", 510.0)]


def test_versions_of_other_code_are_refused() -> None:
    with pytest.raises(ValueError, match="version 9, this code reads version 1"):
        fund.new().decode("purse/USDC", b"\x09[1]")


def test_answers_are_freed_a_day_after_the_last_one() -> None:
    state = opened("1000", balance("a", -50.0))
    step(state, T0 + 200, *claim("a", 50.0, T0 + 150))
    step(state, T0 + 150 + 86_400_000 - 1)
    assert set(state.answered) == {"a"}
    state.touched.clear()
    step(state, T0 + 150 + 86_400_000)
    assert not state.answered and state.encode("answered/a") is None and "answered/a" in state.touched


def liquidation(name: str, ms: int, equity: float = 400.0, account: str = "a") -> Message:
    """An order of a long of 100 at 89, which needs 445."""
    row: dict[str, Any] = {"order_id": name, "account": account, "event_at": instant_ms(ms)}
    row |= {
        "venue": "v",
        "instrument": "AAA-PERP",
        "side": "sell",
        "size": 25.0,
        "mark_price": 89.0,
        "equity_usd": equity,
        "maintenance_margin_usd": 445.0,
    }
    return Message("liquidation_orders", 0, ms - T0, row | {"reason": "maintenance margin"})


def executed(name: str, number: int, price: str, size: str, ms: int, account: str = "a", event: str = "trade") -> Message:
    row: dict[str, Any] = {"account": account, "venue": "v", "instrument": "AAA-PERP", "event_at": instant_ms(ms)}
    row |= {
        "order_key": client_order_id("liquidation", name),
        "cause": "report",
        "cause_id": "e",
        "event": event,
        "side": "sell",
    }
    row |= {"number": number, "order_status": "filled", "cum_quantity": size, "leaves_quantity": "0", "reserved_usd": 0.0}
    return Message("order_states", 1, number, row | {"last_price": price, "last_quantity": size})


@pytest.mark.parametrize(
    ("price", "gained"),
    [
        # Closing 25 of 100 uses up a quarter of 400 USD: at 85 nothing is left of it, at 85.2 are 5 USD.
        ("85", None),
        ("85.2", "5"),
        ("84", None),
        # Half a percent of 25 times 89.
        ("89", "11.125"),
    ],
)
def test_of_an_execution_the_fund_gets_what_is_better_than_the_bankruptcy_price_up_to_its_fee(
    price: str, gained: str | None
) -> None:
    state = opened("1000", position("a", "AAA", 75.0, 100.0), balance("a", 1_200.0), ticker("AAA", 89.0, T0 + 50))
    outputs = step(state, T0 + 200, liquidation("1", T0 + 110), executed("1", 3, price, "25", T0 + 150))
    assert [(row["amount"], row["kind"]) for row in rows(outputs, "fund_transfers")] == (
        [(f"-{gained}", "insurance")] if gained else []
    )
    assert [(row["kind"], row["amount"]) for row in rows(outputs)] == ([("fee", gained)] if gained else [])
    assert state.purses["USDC"].balance == 1000 + Decimal(gained or 0)


def test_an_execution_counts_once_a_refused_one_not_at_all_and_nothing_is_taken_from_who_has_nothing() -> None:
    shard = Stored(fund, opened("1000", position("a", "AAA", 75.0, 100.0), balance("a", 1_200.0), ticker("AAA", 89.0, T0 + 50)))
    shard.kernel = _with_rules(shard.state)
    order, first = liquidation("1", T0 + 110), executed("1", 3, "89", "25", T0 + 150)
    assert step(shard.state, None, order, first) == []
    shard.store()
    shard.restart()
    odd = executed("1", 4, "89", "25", T0 + 150, event="conflict"), executed("unknown", 1, "89", "25", T0 + 150)
    assert paid(step(shard.state, T0 + 200, order, first, *odd)) == [("a", "-11.125")]
    assert step(shard.state, T0 + 300, order, first) == []
    broke = balance("a", 828.0, T0 + 310), executed("1", 5, "89", "25", T0 + 320)
    # Of a cash of 828 the 75 have lost 825.
    assert paid(step(shard.state, T0 + 400, *broke)) == [("a", "-3")]
    step(shard.state, T0 + 110 + 86_400_000, ticker("AAA", 89.0, T0 + 86_400_000))
    assert not shard.state.liquidations


def test_what_the_fund_gains_in_coins_it_pays_with() -> None:
    state = State(Rules(opening={"USDC": "0"}))
    cash = balance("a", 100.0)
    cash = cash._replace(row=cash.row | {"currency": "BBB"})
    terms = inverse(), index("BBB", 2_000.0, T0), ticker("BBB", 2_000.0, T0)
    step(state, T0 + WINDOW, *terms, cash, balance("z", -1.0))
    order, fill = liquidation("1", T0 + 110, 1e6), executed("1", 3, "2000", "400", T0 + 150)
    order, fill = (m._replace(row=m.row | {"instrument": "BBB-PERP"}) for m in (order, fill))
    outputs = step(state, T0 + 200, order, fill, *claim("z", 1.0, T0 + 150))
    # 400 contracts of 10 USD are 2 coins.
    assert [(row["currency"], row["amount"]) for row in rows(outputs, "fund_transfers")] == [
        ("BBB", "-0.01"),
        ("BBB", "0.0005"),
    ]
    assert state.purses["BBB"].balance == Decimal("0.0095")
