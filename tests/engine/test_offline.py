"""Jobs offline answer as they do on a cluster: in windows of event time, writers before readers."""

from typing import Any

import pytest

from engine.offline import Given, Offline
from schemas.rows import instant_ms, instant_us

T0 = 1_772_445_600_000


def trade(account: str, ms: int, number: int, size: str = "1") -> Given:
    at = T0 + ms
    row: dict[str, Any] = {"account": account, "venue": "v", "instrument": "P", "event_at": instant_ms(at)}
    row |= {
        "received_at": instant_us(1000 * at),
        "fill_id": f"f{number}",
        "side": "buy",
        "price": "100",
        "size": size,
        "fee": "0",
    }
    return Given("fills", at, row)


def terms() -> Given:
    row: dict[str, Any] = {"venue": "v", "instrument": "P", "event_at": instant_ms(T0), "received_at": instant_us(1000 * T0)}
    row |= {
        "kind": "perpetual",
        "underlying": "BTC",
        "quote_currency": "USDC",
        "settlement_currency": "USDC",
        "is_inverse": False,
        "contract_size": 1.0,
    }
    return Given("instruments", T0, row)


def sizes(market: list[Given]) -> list[tuple[int, str]]:
    written = Offline(["positions"]).play(market)
    answered = [(row.event_ms - T0, str(row.row["size"])) for row in written if row.table == "positions"]
    assert answered
    return answered


def test_a_row_is_answered_in_the_window_of_its_own_time() -> None:
    answered = sizes([terms(), trade("a", 10, 1), trade("a", 170, 2)])
    assert [size for _, size in answered] == ["1", "2"]
    assert [ms for ms, _ in answered] == [10, 170]


def test_the_order_within_a_window_changes_nothing() -> None:
    first, second = trade("a", 10, 1), trade("a", 20, 2, "3")
    assert sizes([terms(), first, second]) == sizes([terms(), second, first])


def test_a_row_behind_a_window_that_is_over_is_refused_with_its_table() -> None:
    with pytest.raises(ValueError, match="fills: expected a row at"):
        list(Offline(["positions"]).play([terms(), trade("a", 500, 1), trade("a", 900, 2), trade("a", 10, 3)]))


def test_a_row_of_a_job_behind_the_windows_of_its_reader_is_late_and_turns_no_time_back() -> None:
    flow = Offline(["positions", "orders"])
    began = Given("fills", T0 + 5_000, trade("a", 4_950, 2).row)
    late = Given("fills", T0 + 5_120, trade("a", 10, 1).row)
    seen: list[int] = []
    for _ in flow.play([terms(), began, late], T0 + 6_000):
        seen.append(flow.kernel_state("orders").now_ms)
    assert seen == sorted(seen)
    held = flow.kernel_state("orders").accounts["a"]
    assert held.position("v:P") == 2, "the newest row counts"
    assert held.booked.keys() == {"f1", "f2"}, "and the late one is known"


def test_a_job_of_sql_alone_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="bars: only jobs with a kernel"):
        Offline(["bars", "positions"])
