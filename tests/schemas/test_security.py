"""How our Kafka clients are told who they are: the file, and what each of the two dialects is given."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import schemas
from schemas import security
from schemas.security import SecurityError

PASSWORD = "correct/horse$battery'staple"
Told = Callable[..., Path]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Writes a file of settings, and one of passwords beside it, and names the first to whoever asks."""

    def write(text: str, passwords: str = f"gammaflow-books={PASSWORD}\n") -> Path:
        (tmp_path / "kafka.properties").write_text(text)
        secret = tmp_path / "passwords.properties"
        secret.touch(mode=0o600)
        secret.write_text(passwords)
        monkeypatch.setenv(security.VARIABLE, str(tmp_path / "kafka.properties"))
        return tmp_path

    return write


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_file_everything_stays_as_it_was(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(security.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(security.VARIABLE, value)
    assert security.settings() is None
    assert security.librdkafka("books") == {}
    assert security.java("books") == {}
    assert security.sql_options("books") == ""


def test_each_dialect_gets_the_same_user_and_authority_and_only_librdkafka_the_password(told: Told) -> None:
    folder = told("# ours\nprotocol = SASL_SSL\nca = ca.pem\n")
    (folder / "ca.pem").touch()
    assert security.librdkafka("books") == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(folder / "ca.pem"),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "gammaflow-books",
        "sasl.password": PASSWORD,
    }
    java = security.java("books")
    assert java["security.protocol"] == "SASL_SSL"
    assert java["ssl.truststore.location"] == str(folder / "ca.pem")
    assert java["sasl.mechanism"] == "SCRAM-SHA-512"
    reference = f"${{file:{folder / 'passwords.properties'}:gammaflow-books}}"
    assert f'username="gammaflow-books" password="{reference}";' in java["sasl.jaas.config"]
    assert PASSWORD not in str(java)


def test_the_reference_to_the_password_reaches_the_statement_whole(told: Told) -> None:
    folder = told("protocol=SASL_SSL\n")
    text = schemas.ddl("_connectors")
    text = schemas.substituted(
        text, KAFKA="broker:9093", GROUP="books", FEED_TOPICS="", DELAY="0", DRIFT="1", SECURITY=security.sql_options("books")
    )
    statement = schemas.without_comments(schemas.statements(text)[0])
    assert statement.startswith("CREATE TEMPORARY TABLE kafka WITH (")
    assert f"${{file:{folder}/passwords.properties:gammaflow-books}}" in statement
    assert re.findall(r"\$\{(?!file:)", statement) == []
    assert PASSWORD not in text


def test_a_job_is_submitted_from_where_its_password_is_not(told: Told) -> None:
    folder = told("protocol=SASL_SSL\npasswords=/on/the/cluster/alone\n")
    assert "${file:/on/the/cluster/alone:gammaflow-books}" in security.java("books")["sasl.jaas.config"]
    with pytest.raises(SecurityError, match="/on/the/cluster/alone: expected a file that can be read"):
        security.librdkafka("books")
    assert not (folder / "passwords").exists()


def test_encryption_alone_has_no_user(told: Told) -> None:
    told("protocol=SSL\n")
    assert security.librdkafka("feed") == {"security.protocol": "SSL"}
    assert security.java("feed") == {"security.protocol": "SSL"}
    assert security.manner("feed") == "encrypted, without a name"


def test_users_are_named_as_the_file_says(told: Told) -> None:
    told("protocol=SASL_SSL\nuser=risk.{}\n")
    assert security.user("books") == "risk.books"
    told("protocol=SASL_SSL\nuser=risk\n")
    assert security.user("books") == security.user("feed") == "risk"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("protocol=SASL_PLAINTEXT\n", "protocol: expected SSL or SASL_SSL, got 'SASL_PLAINTEXT'"),
        ("ca=ca.pem\n", "protocol: expected SSL or SASL_SSL, got ''"),
        ("protocol=SASL_SSL\nmechanism=PLAIN\n", "mechanism: expected SCRAM-SHA-512 or SCRAM-SHA-256, got 'PLAIN'"),
        ("protocol=SASL_SSL\npasword=x\n", "pasword: expected only ca, mechanism, passwords, protocol, user"),
        ("protocol=SASL_SSL\nca=missing.pem\n", "missing.pem: expected a file that can be read"),
        ("protocol=SASL_SSL\nuser=a b\n", "user: expected letters, digits, and any of . _ - {}, got 'a b'"),
        ("protocol=SASL_SSL\npasswords=/a:b\n", "passwords: expected a path without : and }, got /a:b"),
        ("protocol=SASL_SSL\nhunter2\n", "line 2: expected key=value"),
    ],
)
def test_what_the_file_must_not_say_is_refused_by_name_and_without_a_secret(told: Told, text: str, complaint: str) -> None:
    told(text)
    with pytest.raises(SecurityError) as refused:
        security.librdkafka("books")
    assert complaint in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("password", ["", "two words", 'quo"te', "back\\slash", "naïve"])
def test_a_password_that_the_two_dialects_would_read_differently_is_refused_unseen(told: Told, password: str) -> None:
    told("protocol=SASL_SSL\n", f"gammaflow-books={password}\n")
    with pytest.raises(SecurityError, match="the password of gammaflow-books: expected visible ASCII") as refused:
        security.librdkafka("books")
    assert not password or password not in str(refused.value)


def test_a_user_without_a_password_is_named(told: Told) -> None:
    told("protocol=SASL_SSL\n")
    with pytest.raises(SecurityError, match="no password of gammaflow-feed"):
        security.librdkafka("feed")


def test_passwords_that_others_may_read_are_refused(told: Told) -> None:
    folder = told("protocol=SASL_SSL\n")
    (folder / "passwords.properties").chmod(0o644)
    with pytest.raises(SecurityError, match="others may read"):
        security.librdkafka("books")
