"""Entries as bytes: the version of the kernel that stored them, then JSON; and how what older versions stored is read.

A kernel that changes what it stores counts its `VERSION` up and says in `MIGRATIONS` how an entry of the version before is
made one of the next.  What it has stored once it reads for ever, unless the changelog says that the state was dropped.
"""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import orjson

Migration = Callable[[str, Any], Any]
"""Takes an entry's name and what one version stored of it; gives what the next version would have stored."""


def packed(version: int, content: Any) -> bytes:
    """An entry as bytes; keys of objects may be numbers."""
    return bytes([version]) + orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def unpacked(kernel: str, name: str, data: bytes, version: int, migrations: Mapping[int, Migration] | None = None) -> Any:
    """What an entry holds, as `version` would have stored it.  Raises `ValueError` if no migration leads there."""
    content, stored = orjson.loads(data[1:]), data[0]
    while stored != version:
        migrate = (migrations or {}).get(stored)
        if migrate is None:
            raise ValueError(f"{kernel}: {name} is stored as version {data[0]}, this code reads version {version}")
        content, stored = migrate(name, content), stored + 1
    return content


def readable(kernel: ModuleType) -> dict[str, list[int]]:
    """The versions of entries, the newest first, that a kernel can read: its own, and those of the kernels it is made of."""
    return {one.__name__.rpartition(".")[2]: _readable(one) for one in _parts(kernel)}


def _parts(kernel: ModuleType) -> Iterator[ModuleType]:
    yield kernel
    for part in getattr(kernel, "PARTS", ()):
        yield from _parts(part)


def _readable(kernel: ModuleType) -> list[int]:
    versions = [kernel.VERSION]
    while versions[-1] - 1 in getattr(kernel, "MIGRATIONS", {}):
        versions.append(versions[-1] - 1)
    return versions
