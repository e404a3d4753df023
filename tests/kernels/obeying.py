"""What a host tells a kernel that puts out orders: the controls that it obeys from now on."""

from typing import Any

from engine.contract import Message
from schemas.controls import GATE, RUN
from schemas.rows import instant_ms, instant_us

LONG_AGO_MS = 1_600_000_000_000


def applied(scope: str, mode: str, at_ms: int = LONG_AGO_MS, **more: Any) -> Message:
    """A control that holds from now on, or with the mode `run` one that has ended."""
    row = {"job": "liquidations", "shard": 0, "event_at": instant_ms(at_ms), "scope": scope, "mode": mode}
    row |= {"who": "ops", "why": "a drill", "said_at": instant_ms(at_ms), "ends_at": None, "liquidations": False}
    row |= {"control_partition": 0, "control_offset": 1, "applied_at": instant_us(at_ms * 1000), "is_start": False}
    return Message("controls_applied", 0, 1, row | more)


READ = applied(GATE, RUN)
"""The topic of controls has been read: without this nothing is put out."""
