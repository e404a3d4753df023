"""Jars that are not the locked ones are refused; no network."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import jars
from deploy.jars import JarError

GOOD = b"a jar"
SHA256 = hashlib.sha256(GOOD).hexdigest()
COORDINATE = "org.example:thing:1.2.3"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a lock of one jar, and a file that takes the part of the network."""
    lock = tmp_path / "jars.lock"
    lock.write_text(f"# a comment\nflink {COORDINATE} {SHA256}\n")
    source = tmp_path / "downloaded" / "thing-1.2.3.jar"
    source.parent.mkdir()

    def resolve() -> Path:
        if not source.exists():
            raise OSError("no network")
        return source

    artifact = SimpleNamespace(artifact=lambda: SimpleNamespace(resolve=resolve))
    project = SimpleNamespace(at_version=lambda _: artifact)
    context: Any = SimpleNamespace(project=lambda *_: project)
    monkeypatch.setenv("GAMMAFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setattr(jars, "_context", lambda: context)
    return source


def test_a_jar_with_another_checksum_is_refused_and_removed(repository: Path) -> None:
    repository.write_bytes(b"another jar")
    actual = hashlib.sha256(b"another jar").hexdigest()
    with pytest.raises(JarError, match=rf"{COORDINATE}: expected sha256 {SHA256}, got {actual}"):
        jars.fetch()
    assert not repository.exists()
    assert list(jars.cache_dir().rglob("*.jar")) == []


def test_a_good_jar_is_kept_and_not_fetched_again(repository: Path) -> None:
    repository.write_bytes(GOOD)
    paths = jars.fetch()
    assert [path.name for path in paths["flink"]] == ["thing-1.2.3.jar"]
    assert paths["flink"][0].read_bytes() == GOOD
    assert not repository.exists()
    assert jars.fetch() == paths


def test_a_download_that_fails_names_the_jar_and_the_cause(repository: Path) -> None:
    with pytest.raises(JarError, match=rf"{COORDINATE}: download failed \(no network\)"):
        jars.fetch()


def test_every_locked_jar_has_a_full_checksum_and_every_root_is_locked() -> None:
    locked = jars.locked()
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in locked)
    coordinates = {(jar.classpath, jar.coordinate) for jar in locked}
    assert {(path, root) for path, (roots, _) in jars.ROOTS.items() for root in roots} <= coordinates
    assert len({(jar.classpath, jar.file_name) for jar in locked}) == len(locked)
