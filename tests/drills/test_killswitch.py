"""What the drill of the kill switch finds wrong."""

from collections import Counter
from typing import Any

import orjson

from drills.harms import obeyed
from drills.rows import Row, Rows
from schemas.rows import instant_ms

T0 = 1_700_000_000_000
KILL = {"scope": "all", "mode": "cancel-all", "event_at": instant_ms(T0 + 99), "is_start": False}
STARTED = {"scope": "gate", "mode": "run", "event_at": instant_ms(T0 + 199), "is_start": True}
HELD = {"kind": "held", "reason": "held: drill said cancel-all of all", "event_at": instant_ms(T0 + 99)}


def rows(orders_ms: list[int], applied: list[Any], events: list[Any]) -> Rows:
    tables: dict[str, list[Any]] = {
        "liquidation_orders": [{"event_at": instant_ms(ms)} for ms in orders_ms],
        "liquidation_events": events,
        "controls_applied": applied,
    }
    return {table: Counter(Row(b"a", T0, orjson.dumps(row)) for row in own) for table, own in tables.items()}


def test_orders_up_to_the_kill_and_none_behind_it_are_green() -> None:
    assert obeyed(rows([T0, T0 + 99], [KILL, STARTED], [HELD]), []) == []


def test_an_order_behind_the_kill_is_a_fault() -> None:
    (fault,) = obeyed(rows([T0, T0 + 199], [KILL, STARTED], [HELD]), [])
    assert fault.startswith("liquidation_orders: 1 after the kill")


def test_a_kill_that_nobody_has_felt_is_a_fault() -> None:
    assert obeyed(rows([T0], [], [HELD]), []) == ["controls_applied: no shard has obeyed the kill"]
    assert obeyed(rows([T0], [KILL, STARTED], []), []) == ["liquidation_events: nobody was held by the kill"]
    assert obeyed(rows([T0], [KILL], [HELD]), []) == ["controls_applied: no shard has started again after the kill"]
