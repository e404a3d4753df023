"""Entries as bytes: the version of the kernel that stored them, then JSON; and how to read entries of older versions.

A kernel that changes the layout of its entries increments its `version`, and adds to `migrations` the function that turns an
entry of the previous version into one of the new version.  It reads the entries of every version, unless the changelog says
that the state was dropped.
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
