"""Alerts and dashboards are valid: by Prometheus' own checker if it is installed, and by reading the files."""

import json
import re
import shutil
import subprocess
from typing import Any
from unittest import mock

import promql_parser
import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from promql_parser import Expr, VectorSelector
from ruamel.yaml import YAML

import jobs
from deploy import cluster
from engine import contract
from feeds import bitget
from feeds.metrics import ConnectionCounts, FeedMetrics, Latencies
from feeds.service import Feed
from gateway.service import Counts
from gateway.status import GatewayMetrics

FOLDER = cluster.ROOT / "deploy" / "monitoring"
RUNBOOK = cluster.ROOT / "docs" / "runbook.md"
PROMTOOL = shutil.which("promtool")
PANELS = {"timeseries", "stat"}
SHARD = "flink_taskmanager_job_task_operator_gammaflow_shard_"


def yaml(name: str) -> Any:
    return YAML(typ="safe").load(FOLDER / name)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml("alerts.yml")["groups"] for rule in group["rules"]]


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}


def selectors(expression: str) -> list[VectorSelector]:
    """Every series in an expression.  Raises `ValueError` for an invalid one."""
    nodes: list[Expr] = []
    promql_parser.walk(promql_parser.parse(expression), nodes.append)
    return [node for node in nodes if isinstance(node, VectorSelector)]


def expressions() -> list[str]:
    """The expressions of all alerts and panels."""
    panels = [panel for board in dashboards().values() for panel in board["panels"]]
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels for target in panel["targets"]]


def is_of_feeds(expression: str) -> bool:
    """Whether an expression asks feeds, not Flink."""
    return "gammaflow_feed_" in expression or 'job="feeds"' in expression


def is_of_gateways(expression: str) -> bool:
    """Whether an expression asks gateways, not Flink."""
    return "gammaflow_gateway_" in expression or 'job="gateways"' in expression


def gauges() -> dict[str, set[str]]:
    """The names of each kernel's gauges."""
    kernels = {name for job in jobs.FLOW for name in jobs.job(job).kernels}
    return {name: set(contract.kernel(name).gauges(contract.kernel(name).new())) for name in kernels}


def asked_gauges(expression: str) -> set[str]:
    """The gauges of kernels that an expression asks for."""
    names = {selector.name or "" for selector in selectors(expression)}
    return {name.removeprefix(SHARD) for name in names if name.startswith(SHARD)}


def unanswered(asked: list[str], exported: list[tuple[str, dict[str, str]]]) -> list[str]:
    """The expressions that ask for a series, or for a label, that is not among these."""
    missing = []
    for expression in asked:
        found = selectors(expression)
        names = {selector.name for selector in found}
        for selector in found:
            equal = {(label.name, label.value) for label in selector.matchers.matchers if str(label.op) == "MatchOp.Equal"}
            if not any(name == selector.name and set(labels.items()) >= equal for name, labels in exported):
                missing.append(expression)
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            if not all(set(labels.split(", ")) <= set(own) for name, own in exported if name in names):
                missing.append(expression)
    return missing


@pytest.mark.parametrize(
    "arguments", [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]]
)
def test_promtool_finds_nothing_wrong(arguments: list[str]) -> None:
    if PROMTOOL is None:
        pytest.skip("no promtool on the PATH; it comes with Prometheus, in Debian with the package of that name")
    done = subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_how_long_how_bad_what_and_where_to_read_on() -> None:
    headings = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    names = [rule["alert"] for rule in rules()]
    assert sorted(names) == sorted(headings)
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[sm]", rule["for"])
        assert set(rule["labels"]) == {"severity"} and rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_every_alert_has_a_case_in_which_it_fires_beside_one_in_which_it_does_not() -> None:
    cases = {case["alertname"]: (test, case) for test in yaml("alerts_test.yml")["tests"] for case in test["alert_rule_test"]}
    assert set(cases) == {rule["alert"] for rule in rules()}
    for rule in rules():
        test, case = cases[rule["alert"]]
        (fires,) = case["exp_alerts"]
        assert fires["exp_labels"]["severity"] == rule["labels"]["severity"]
        labels = {name: value for name, value in fires["exp_labels"].items() if name != "severity"}
        given = [selectors(series["series"])[0] for series in test["input_series"]]
        silent = [
            series
            for series in given
            if not {(label.name, label.value) for label in series.matchers.matchers} >= set(labels.items())
        ]
        assert silent and len(silent) < len(given)
        asked = {selector.name for selector in selectors(rule["expr"])}
        assert {selector.name for selector in given} == asked


def test_the_configuration_reads_the_rules_and_the_ports_that_the_reporter_takes() -> None:
    config = yaml("prometheus.yml")
    assert config["rule_files"] == ["alerts.yml"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert set(targets) == {"flink", "feeds", "gateways"}
    first, last = map(int, cluster.layered(["prometheus"])["metrics"]["reporter"]["prom"]["port"].split("-"))
    ports = [int(target.removeprefix("127.0.0.1:")) for target in targets["flink"]]
    assert ports == [first, first + 1] and last > first
    for target in (*targets["feeds"], *targets["gateways"]):
        assert not first <= int(target.removeprefix("127.0.0.1:")) <= last


def test_what_is_asked_of_feeds_is_what_feeds_show() -> None:
    feed = Feed(bitget.session("bitget_spot"), ["*"], mock.Mock(), recording=mock.Mock(kept_bytes=1))
    feed.listed_s = 1.0
    feed.counts.append(ConnectionCounts("1"))
    publisher: Any = mock.Mock(counts={}, waiting=lambda: 0, offsets_ms=lambda: {"bitget_spot": 0})
    registry = CollectorRegistry()
    registry.register(FeedMetrics(feed, publisher, Latencies(), "1"))
    ProcessCollector(registry=registry)
    # Prometheus adds where it has a sample from.
    own = {"job": "feeds", "instance": "127.0.0.1:9260"}
    exported = [(one.name, {**one.labels, **own}) for family in registry.collect() for one in family.samples]
    asked = [expression for expression in expressions() if is_of_feeds(expression)]
    assert len(asked) > 20
    assert unanswered(asked, [*exported, ("up", own)]) == []


def test_what_is_asked_of_gateways_is_what_gateways_show() -> None:
    state = mock.Mock(is_on=True, is_time=True, next_out=1, next_in=1)
    desk = mock.Mock(stale=0, declined=0, refusals=0, held=lambda: 0, unknown=lambda: 0, once=mock.Mock(repeats=0))
    session = mock.Mock()
    session.name = "exch"
    service: Any = mock.Mock(counts={"exch": Counts()}, venues={"exch": desk}, clients={"exch": desk}, state=lambda _: state)
    service.gateway.sessions, service.gateway.name = [session], "desk"
    registry = CollectorRegistry()
    registry.register(GatewayMetrics(service))
    own = {"job": "gateways", "instance": "127.0.0.1:9270"}
    exported = [(one.name, {**one.labels, **own}) for family in registry.collect() for one in family.samples]
    asked = [expression for expression in expressions() if is_of_gateways(expression)]
    assert len(asked) >= 5
    assert unanswered(asked, [*exported, ("up", own)]) == []


def test_what_is_asked_of_kernels_is_what_their_gauges_show() -> None:
    asked = {name for expression in expressions() for name in asked_gauges(expression)}
    assert {"is_gate_closed", "breaks_in_force", "underlyings_short_of_sources"} <= asked
    assert asked <= {"journal_messages"}.union(*gauges().values())


def test_each_dashboard_has_panels_that_ask_prometheus_and_lie_beside_each_other() -> None:
    boards = dashboards()
    assert set(boards) == {"overview", "books", "margin", "trading", "feeds"}
    for name, board in boards.items():
        assert board["uid"] == f"gammaflow-{name}" and board["title"].startswith("Gammaflow: ")
        (variable,) = board["templating"]["list"]
        assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            assert panel["type"] in PANELS and panel["targets"] and panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken
            taken |= cells


def test_every_expression_is_one_and_asks_for_something() -> None:
    for expression in expressions():
        assert selectors(expression), expression
