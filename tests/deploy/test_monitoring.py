"""Alerts and dashboards are valid: by Prometheus' own checker if it is installed, and by reading the files."""

import json
import re
import shutil
import subprocess
from typing import Any

import promql_parser
import pytest
from promql_parser import Expr, VectorSelector
from ruamel.yaml import YAML

from deploy import cluster

FOLDER = cluster.ROOT / "deploy" / "monitoring"
RUNBOOK = cluster.ROOT / "docs" / "runbook.md"
PROMTOOL = shutil.which("promtool")
PANELS = {"timeseries", "stat"}


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
        assert set(rule["labels"]) == {"severity"} and rule["labels"]["severity"] in ("critical", "warning")
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
    ((job,),) = [config["scrape_configs"]]
    assert job["job_name"] == "flink"
    first, last = map(int, cluster.layered(["prometheus"])["metrics"]["reporter"]["prom"]["port"].split("-"))
    ports = [int(target.removeprefix("127.0.0.1:")) for target in job["static_configs"][0]["targets"]]
    assert ports == [first, first + 1] and last > first


def test_each_dashboard_has_panels_that_ask_prometheus_and_lie_beside_each_other() -> None:
    boards = dashboards()
    assert set(boards) == {"overview", "books", "margin"}
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
