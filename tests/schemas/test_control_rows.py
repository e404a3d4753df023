"""What a row of trading_controls may say."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import controls
from schemas.controls import MODES, control_fault, scope_fault, strictest

GOOD = {
    "scope": "venue:deribit",
    "mode": "halt",
    "who": "ops",
    "why": "its clock jumps",
    "event_at": "2026-03-01T12:00:00.000Z",
    "ends_at": None,
    "liquidations": False,
}


@pytest.mark.parametrize(
    "scope",
    [
        "all",
        *("venue:deribit", "underlying:BTC", "instrument:deribit:BTC-PERPETUAL", "instrument:v:A:B"),
        *("desk:options", "client:a b", "account:acct-00001", "algo:twap", "trader:ann"),
    ],
)
def test_a_scope_is_everything_or_a_kind_with_a_name(scope: str) -> None:
    assert scope_fault(scope) is None
    assert control_fault(GOOD | {"scope": scope}, scope) is None


@pytest.mark.parametrize(
    "scope", ["", "ALL", "all:x", "venue", "venue:", "venue: deribit", "exchange:deribit", "gate", None, 3]
)
def test_an_unknown_scope_is_refused_with_those_there_are(scope: object) -> None:
    wrong = scope_fault(scope)
    assert wrong is not None and wrong.field == "scope"
    assert all(f"{kind}:<" in wrong.expected for kind in controls.KINDS)


def test_an_instrument_is_named_with_its_venue() -> None:
    wrong = scope_fault("instrument:BTC-PERPETUAL")
    assert wrong is not None and "instrument:<venue>:<name>" in wrong.expected


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"why": ""}, "why", "a reason"),
        ({"why": " \n"}, "why", "a reason"),
        ({"why": None}, "why", "not NULL"),
        ({"who": " "}, "who", "who says so"),
        ({"mode": "stop"}, "mode", "run, reduce-only, halt, cancel-all"),
        ({"liquidations": None}, "liquidations", "not NULL"),
        ({"ends_at": "2026-03-01T12:00:00.000Z"}, "ends_at", "later than event_at"),
        ({"ends_at": "soon"}, "ends_at", "ISO-8601"),
    ],
)
def test_a_control_that_breaks_a_rule_is_refused_by_field(change: dict[str, Any], field: str, expected: str) -> None:
    wrong = control_fault(GOOD | change)
    assert wrong is not None
    assert (wrong.field, bool(re.search(re.escape(expected), wrong.expected))) == (field, True)


def test_a_row_that_is_not_of_its_records_key_is_refused_for_compaction_goes_by_the_key() -> None:
    wrong = control_fault(GOOD, "all")
    assert wrong is not None and "the record's key, 'all'" in wrong.expected
    assert control_fault([1], "all") is not None


@given(st.lists(st.tuples(st.sampled_from(MODES), st.text(max_size=3))), st.randoms())
def test_the_strictest_wins_in_whatever_order_they_come(told: list[tuple[str, str]], chance: Any) -> None:
    rows = [{"mode": mode, "scope": scope} for mode, scope in told]
    first = strictest(rows)
    chance.shuffle(rows)
    assert strictest(rows) == first
    strength = max((MODES.index(row["mode"]) for row in rows), default=0)
    assert (0 if first is None else MODES.index(first["mode"])) == strength
