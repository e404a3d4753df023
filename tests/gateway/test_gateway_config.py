"""The gateway's file: what is right, and one line that names what is wrong.  No Java."""

import base64
from hashlib import sha256
from pathlib import Path

import pytest

from feeds.private.keys import Secret
from gateway.config import Secrets, load, secrets
from gateway.dialect import FOLDER, ConfigError, dialect
from tests.gateway.gateway_rows import client, venue

GOOD = """
name = "desk"
store = "store"

[[venue]]
name = "exch"
sender = "DESK"
target = "EXCH"
connect = ["localhost:9880"]
venue = "exch"

[venue.instruments]
BTC-PERP = { symbol = "BTCUSD", multiplier = "0.1" }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_with_paths_relative_to_itself(tmp_path: Path) -> None:
    found = load(written(tmp_path, GOOD))
    assert found.store == tmp_path / "store"
    (session,) = found.venue
    assert (session.begin, session.instruments["BTC-PERP"].symbol, session.heartbeat_s) == ("FIX.4.4", "BTCUSD", 30)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "desk"', "", "name: expected a value, got none"),
        ('target = "EXCH"', 'target = "EX CH"', "venue.0.target: string should match"),
        ('"localhost:9880"', '"localhost"', "venue.0.connect.0: expected host:port, got 'localhost'"),
        ('connect = ["localhost:9880"]', "", "venue.0: expected either connect, a list of addresses, or accept"),
        ('venue = "exch"', 'venue = "exch"\nheart = 1', "venue.0.heart: no such field"),
        ('venue = "exch"', 'venue = "exch"\nversion = "FIX.4.2"', "venue.0.version: input should be 'FIX.4.4' or 'FIX.5.0SP2'"),
        ('venue = "exch"', 'venue = "exch"\nmax_age_s = 0', "venue.0.max_age_s: input should be greater than 0"),
        ('"0.1"', '"0"', "venue.0.instruments.BTC-PERP.multiplier: input should be greater than 0"),
        ("[[venue]]", "[[venue", "expected TOML"),
        ('venue = "exch"', 'venue = "exch"\nschedule = {start = "7:00:00", end = "17:00:00"}', "venue.0.schedule.start"),
        (
            'venue = "exch"',
            'venue = "exch"\ntls = {key_store = "a"}',
            "expected key_store and key_store_password_file, or neither",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line_with_file_field_and_what_was_expected(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and words in text and "\n" not in text.split("expected TOML")[0]


def test_a_file_that_is_not_there_and_an_unknown_dialect_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: expected a file that can be read"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match=r"dialect: expected one of deribit, simulated, standard, or the path"):
        dialect("klingon")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_dialect_is_a_valid_file(path: Path) -> None:
    found = dialect(path.stem)
    assert found.client_order_id_tags and found.exec_id_tags


def test_two_sessions_of_the_same_comp_ids_and_a_copy_of_no_venue_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("[[venue]]") : GOOD.index("[venue.")].replace('name = "exch"', 'name = "other"')
    with pytest.raises(ConfigError, match="the same name or comp ids: exch and other"):
        load(written(tmp_path, twice))
    copy = '\n[[drop_copy]]\nname = "c"\nsender = "A"\ntarget = "B"\nconnect = ["h:1"]\nof_venue = "x"\n'
    with pytest.raises(ConfigError, match=r"drop_copy c: of_venue: expected the name of a \[\[venue\]\]"):
        load(written(tmp_path, GOOD + copy))


def test_a_secret_that_others_can_read_is_refused_and_none_is_ever_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("tell-nobody\n")
    path.chmod(0o644)
    session = client(username="alice", password_file=str(path))
    with pytest.raises(ConfigError, match=r"session alice: .*only its owner can read"):
        secrets(session)
    path.chmod(0o600)
    found = secrets(session)
    assert found.password is not None and found.password.reveal() == "tell-nobody"
    assert "tell-nobody" not in repr(found)
    with pytest.raises(ConfigError, match="expected username and password_file"):
        secrets(venue(dialect="deribit"))


def test_a_logon_at_deribit_is_signed_and_asks_for_cancel_on_disconnect() -> None:
    pytest.importorskip("jpype", reason="jpype1 is not installed: requirements.txt")
    from gateway.engine import logon_fields

    session = venue(dialect="deribit", username="id", password_file="secret")
    fields = logon_fields(session, Secrets(Secret("s3cret"), None, None), now_ms=1_700_000_000_000, nonce=bytes(32))
    raw = f"1700000000000.{base64.b64encode(bytes(32)).decode()}"
    assert (fields[96], fields[95], fields[553]) == (raw, str(len(raw)), "id")
    assert fields[554] == base64.b64encode(sha256(f"{raw}s3cret".encode()).digest()).decode()
    assert fields[9001] == "Y" and fields[9015] == "Y"
