"""What every test may use: the embedded broker and cluster, one for all."""

from collections.abc import Iterator

import pytest

from deploy import runtime
from deploy.runtime import Runtime


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python's import is two hundred warnings about a standard library function."""
    config.addinivalue_line("filterwarnings", r"ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def suite() -> Iterator[Runtime]:
    """A broker and a cluster, started for the first test that asks and stopped after the last."""
    with runtime.temporary() as place:
        yield place
