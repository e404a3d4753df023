"""What every test may use: an embedded broker and cluster."""

from collections.abc import Iterator

import pytest

from deploy import runtime
from deploy.runtime import Runtime


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python's import is two hundred warnings about a standard library function."""
    config.addinivalue_line("filterwarnings", r"ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a cluster takes turns in one process, and first, for it takes longest; the rest is shared out by file."""
    clusters = {item for item in items if _needs_cluster(item)}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("cluster" if item in clusters else item.path.stem))
    items.sort(key=lambda item: item not in clusters)


def _needs_cluster(item: pytest.Item) -> bool:
    return item.path.parent.name in ("e2e", "jobs") or "suite" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="module")
def suite() -> Iterator[Runtime]:
    """A broker and a cluster for one module's tests: what others publish would move its time."""
    with runtime.temporary(is_brief=True) as place:
        yield place
