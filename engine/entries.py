"""Entries as bytes: the version of the kernel that stored them, then JSON; and how entries of older versions are read.

A kernel that changes what it stores increments its `version` and says in `migrations` how an entry of the version before
becomes one of the next.  It reads what it has ever stored, unless the changelog says that the state was dropped.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from engine.contract import Migration


def packed(version: int, content: Any) -> bytes:
    """An entry as bytes; keys of objects may be numbers."""
    return bytes([version]) + orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def unpacked(kernel: str, name: str, data: bytes, version: int, migrations: Mapping[int, Migration] | None = None) -> Any:
    """The content of an entry, as `version` would have stored it.  Raises `ValueError` if no migration leads there."""
    content, stored = orjson.loads(data[1:]), data[0]
    while stored != version:
        migrate = (migrations or {}).get(stored)
        if migrate is None:
            raise ValueError(f"{kernel}: {name} is stored as version {data[0]}, this code reads version {version}")
        content, stored = migrate(name, content), stored + 1
    return content
