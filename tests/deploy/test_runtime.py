"""What a runtime is told by its environment."""

import re

import pytest

from deploy import runtime
from deploy.processes import StartError


@pytest.mark.parametrize("text", ["0", "-1", "four", "", "129", "2.0"])
def test_a_number_of_partitions_that_is_none_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_PARTITIONS", text)
    with pytest.raises(
        StartError, match=rf"GAMMAFLOW_PARTITIONS: expected a number from 1 to 128, got {re.escape(repr(text))}"
    ):
        runtime.partitions_wanted()


def test_topics_have_as_many_partitions_as_told_or_else_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_PARTITIONS", "8")
    assert runtime.partitions_wanted() == 8
    monkeypatch.delenv("GAMMAFLOW_PARTITIONS")
    assert runtime.partitions_wanted() == 4
