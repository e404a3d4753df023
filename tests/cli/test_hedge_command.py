"""`gammaflow hedge --dry-run`: the decision of the kernel, by the newest rows alone."""

from typing import Any

import pytest
from rich.console import Console

from cli import hedging
from engine.contract import Message
from tests.kernels.hedging import T0, book, delta, limit, member, terms


def rows_of(*messages: Message) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {table: [] for table in hedging.COUNTS}
    for message in messages:
        rows[message.table].append(message.row)
    return rows


def test_it_shows_the_orders_that_the_job_would_request() -> None:
    rows = rows_of(*delta(T0 + 50, 1.0), *delta(T0 + 90, 12_000.0), limit(), book(T0 + 40), terms())
    (decision,) = hedging.planned(rows, "mm")
    assert (decision["side"], decision["quantity"], decision["state"]) == ("sell", "50", "hedged")
    console = Console(record=True, width=140)
    hedging.show(console, "mm", [decision])
    text = console.export_text()
    assert "delta:BTC breached" in text
    assert "12,000.00 → 9,000.00" in text
    assert "v:P" in text


def test_within_its_limits_nothing_would_be_traded() -> None:
    assert hedging.planned(rows_of(*delta(T0, 5_000.0), limit(), terms()), "mm") == []


def test_a_group_is_named_as_such() -> None:
    whole = {"subject_kind": "group", "subject": "desk"}
    rows = rows_of(*delta(T0, -12_000.0, **whole), limit(**whole), book(T0), terms(), member("a", is_hedger=True))
    (decision,) = hedging.planned(rows, "desk", is_group=True)
    assert (decision["account"], decision["side"]) == ("a", "buy")


@pytest.mark.parametrize(
    ("messages", "why"),
    [([limit()], "no exposures of account mm"), ([*delta(T0, 1.0), limit(is_hedged=False)], "no limit with is_hedged")],
)
def test_what_is_missing_is_said(messages: list[Message], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        hedging.planned(rows_of(*messages), "mm")
