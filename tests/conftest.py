"""What every test may use: an embedded broker and cluster."""

from collections.abc import Iterator

import pytest

from deploy import runtime
from deploy.runtime import Runtime


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python's import is two hundred warnings about a standard library function."""
    config.addinivalue_line("filterwarnings", r"ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def suite() -> Iterator[Runtime]:
    """A broker and a cluster for one module's tests: what others publish would move its time."""
    with runtime.temporary(is_brief=True) as place:
        yield place
