"""`gammaflow gateway --check`, and how `gammaflow status` shows sessions; no broker, no Java."""

import re
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from typer.testing import CliRunner

from cli.gateway import newest_of, state_of, table
from cli.main import app
from gateway.config import load
from schemas.rows import to_ms

DOCS = Path(__file__).parents[2] / "docs/gateway.md"
AT = "2026-11-30T12:00:00.000Z"


def row(session: str = "exch", **values: Any) -> dict[str, Any]:
    own = {
        "gateway": "desk",
        "session": session,
        "kind": "venue",
        "counterparty": "FIX.4.4 DESK to EXCH",
        "host": "a",
        "pid": 7,
    }
    own |= {"version": "0.1.0", "started_at": AT, "event_at": AT, "state": "logged_on", "reason": None, "next_out": 12}
    own |= {"next_in": 3400, "messages_in": 3, "messages_out": 4, "orders_held": 0, "orders_unknown": 2, "newest_at": None}
    return own | values


def shown(*rows: dict[str, Any]) -> str:
    console = Console(width=220, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(rows, to_ms(AT) + 1000))
    return console.export_text()


def test_each_session_is_a_line_with_its_numbers_and_orders_of_unknown_fate() -> None:
    line = next(line for line in shown(row()).splitlines() if "exch" in line)
    assert re.search(r"logged on +12 +3,400 +0 +2 ", line)


def test_the_newest_row_of_a_session_counts_and_what_is_no_row_is_left_out() -> None:
    later = row(event_at="2026-11-30T12:00:05.000Z", next_out=20)
    values = [orjson.dumps(one) for one in (row(), later, row("other"), {"gateway": "x"})]
    assert [(one["session"], one["next_out"]) for one in newest_of([*values, None, b"{"])] == [("exch", 20), ("other", 12)]


def test_a_session_without_a_word_is_silent_and_one_that_failed_says_why() -> None:
    assert state_of(row(), 20.0) == "silent since 2026-11-30 12:00:00"
    assert state_of(row(state="failed", reason="no port"), 20.0) == "failed 2026-11-30 12:00:00: no port"
    assert state_of(row(state="stopped"), 20.0) == "stopped 2026-11-30 12:00:00"


def tutorial_files() -> list[str]:
    whole = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    client, venue, copy = whole
    return [client, venue, venue + copy]


def test_the_files_of_the_tutorials_are_right(tmp_path: Path) -> None:
    secret = tmp_path / "deribit.secret"
    secret.write_text("none\n")
    secret.chmod(0o600)
    for number, text in enumerate(tutorial_files()):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        assert load(path).sessions
        done = CliRunner().invoke(app, ["gateway", str(path), "--check"])
        assert done.exit_code == 0, done.output


def test_a_file_that_is_wrong_ends_the_command_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('name = "x"\nstore = "s"\n')
    done = CliRunner().invoke(app, ["gateway", str(path)])
    assert done.exit_code == 1
    (line,) = done.output.replace("\n", " ").strip().splitlines()
    assert line.startswith(f"gammaflow: {path}: ") and "at least one [[venue]]" in line
