"""The steps of docs/add_a_job.md work in a copy of the project."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from deploy import cluster

BLOCK = re.compile(r"^`([\w/.]+)`\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A file's path, alone in a line, and its text."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the files of the page, and the generated files."""
    copy = tmp_path_factory.mktemp("project")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=cluster.ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (cluster.ROOT / name).is_file() and not name.startswith(("tests/golden/", "docs/pictures/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((cluster.ROOT / name).read_bytes())
    files = BLOCK.findall((cluster.ROOT / "docs" / "add_a_job.md").read_text())
    assert len(files) == 6
    for name, text in files:
        assert not (copy / name).exists(), "nothing that there is already is edited"
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    for module in (["deploy.java", "schemas.generate"], ["deploy.listed"], ["deploy.manifests"]):
        run(copy, "-m", *module)
    return copy


def run(project: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_its_files_are_as_ours_have_to_be_and_its_tests_pass(project: Path) -> None:
    written = ["kernels/taker_flow.py", "tests/kernels/test_taker_flow.py"]
    run(project, "-m", "ruff", "check", *written)
    run(project, "-m", "ruff", "format", "--check", *written)
    run(project, "-m", "pytest", "tests/kernels/test_taker_flow.py", "-p", "no:cacheprovider")


def test_what_is_generated_lists_it(project: Path) -> None:
    assert "| `taker_flow` | How much have takers bought" in (project / "README.md").read_text()
    assert "taker_flow" in (project / "deploy/docker/compose.yaml").read_text()
    assert "taker-flow" in (project / "deploy/kubernetes/base/jobs.yaml").read_text()


def test_it_runs_and_its_last_rows_are_the_sums_of_the_market(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(project, "-m", "cli.main", "demo", "--jobs", "taker_flow", "--speed", "max", "--out", str(out))
    trades = parquet.read_table(out / "trades").to_pylist()
    rows = sorted(parquet.read_table(out / "taker_flow").to_pylist(), key=lambda row: row["event_at"])
    last = {(row["venue"], row["instrument"]): (row["bought"], row["sold"]) for row in rows}
    sums: dict[tuple[str, str], list[float]] = {}
    for trade in trades:
        if trade["off_market"] is None:
            both = sums.setdefault((trade["venue"], trade["instrument"]), [0.0, 0.0])
            both[trade["side"] == "sell"] += trade["size"]
    assert last.keys() == sums.keys()
    for name, (bought, sold) in last.items():
        assert [bought, sold] == pytest.approx(sums[name])
