"""Options of the cases."""

import pytest

from tests.jobs.cases import PASSES


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Cases that are chosen by -k are played straight alone, unless -k names a pass."""
    keyword = config.getoption("keyword")
    if not keyword or any(way in keyword for way in PASSES):
        return
    cut = [item for item in items if item.name.endswith(tuple(f"-{way}]" for way in PASSES[1:]))]
    items[:] = [item for item in items if item not in cut]
    config.hook.pytest_deselected(items=cut)
