"""What the suite tells of itself: counted exactly, shown by `gammaflow status`, and all that alerts and dashboards ask for."""

import json
import re
import subprocess
import sys
from itertools import takewhile
from typing import Any

import pytest

from deploy import cluster
from tests.deploy.test_monitoring import asked_gauges, expressions, gauges, is_of_feeds, is_of_gateways, unanswered
from tests.e2e.observed import EXPECTED

UNSHARED = ["unshare", "--user", "--map-root-user", "--net"]
LOOPBACK_UP = "ip link set lo up && exec"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What there was to see of the suite after a known input; a scrape too where a network of its own can be had."""
    out = tmp_path_factory.mktemp("observed") / "seen.json"
    own = [sys.executable, "-m", "tests.e2e.observed", str(out)]
    if subprocess.run([*UNSHARED, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0:
        own = [*UNSHARED, "sh", "-c", f'{LOOPBACK_UP} "$@"', "sh", *own, "--own-network"]
    with subprocess.Popen(own, cwd=cluster.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said, _ = process.communicate(timeout=240)
        finally:
            process.terminate()  # which stops what it has started
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.fixture
def scrape(seen: dict[str, Any]) -> str:
    if not seen["scrape"]:
        pytest.skip("no network of its own can be had here, and the reporter would listen on every interface")
    return str(seen["scrape"])


@pytest.mark.parametrize("job", EXPECTED)
def test_a_known_input_is_counted_exactly(job: str, seen: dict[str, Any]) -> None:
    assert seen["metrics"][job] == EXPECTED[job]


def test_status_shows_what_kernels_have_done(seen: dict[str, Any]) -> None:
    lines = seen["status"].splitlines()
    heading = next(index for index, line in enumerate(lines) if line.split()[:2] == ["kernel", "messages"])
    table = takewhile(str.strip, lines[heading + 1 :])
    shown = {line.split()[0]: line.split() for line in table}
    assert set(shown) == set(EXPECTED)
    assert shown["books"][1:5] == ["35", "1", "1", "1"]
    assert shown["positions"][1:5] == ["10", "0", "0", "–"]
    for row in shown.values():
        assert re.search(r"[\d.]+ ms > 1 h$", " ".join(row))  # a market of 2023
    assert "Halted  nothing, by venues or by circuit breakers" in lines


def test_prometheus_gets_the_same_numbers(scrape: str) -> None:
    own = "flink_taskmanager_job_task_operator_gammaflow_"
    counted: dict[tuple[str, str, str], float] = {}
    for name, labels, value in re.findall(rf"^{own}(\w+){{(.*)}} (\S+)$", scrape, re.MULTILINE):
        of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        place = of["job_name"], name.removeprefix("shard_").removeprefix("table_"), of.get("table") or of.get("quantile") or ""
        counted[place] = counted.get(place, 0.0) + float(value)
    for job, expected in EXPECTED.items():
        for name, number in expected.items():
            table, _, what = name.rpartition(".")
            assert counted[job, what, table] == number, (job, name)
        assert 0 < counted[job, "kernel_us", "0.5"] <= counted[job, "kernel_us", "0.99"]


def test_all_that_alerts_and_dashboards_ask_for_is_there(scrape: str) -> None:
    exported = [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))
        for name, labels in re.findall(r"^(\w+)(?:{(.*)})? \S+$", scrape, re.MULTILINE)
    ]
    exported.append(("up", {"job": "flink", "instance": "127.0.0.1:9250"}))  # Prometheus' own
    # Of kernels that do not run here, tests/deploy/test_monitoring.py looks at the gauges.
    shown = {"journal_messages"}.union(*(names for kernel, names in gauges().items() if kernel in EXPECTED))
    asked = [
        expression
        for expression in expressions()
        if not (is_of_feeds(expression) or is_of_gateways(expression)) and asked_gauges(expression) <= shown
    ]
    assert any(asked_gauges(expression) for expression in asked)
    assert unanswered(asked, exported) == []
