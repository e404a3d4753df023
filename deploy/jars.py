"""The Java side, without Java tools: `jars.lock` names every jar by Maven coordinate and sha256.

`fetch()` downloads the locked jars into the cache and checks each, so a second call needs no network.  `python -m deploy.jars
lock` resolves `ROOTS` again and rewrites the lock.  `python -m deploy.jars copy flink <folder>` copies the jars of one class
path into a folder.
"""

import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from jgo.maven import MavenContext, PythonResolver
from rich.progress import Progress

LOCK = Path(__file__).with_name("jars.lock")

# For each class path: the artifacts asked for, and whether their dependencies come along.  Flink's SQL connectors are
# self-contained jars; the Kafka broker is an ordinary project with dependencies.
ROOTS: dict[str, tuple[list[str], bool]] = {
    "flink": (
        [
            "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",
            "org.apache.flink:flink-sql-parquet:2.3.0",
            "org.apache.flink:flink-dstl-dfs:2.3.0",
            "org.apache.hadoop:hadoop-client-api:3.4.1",
            "org.apache.hadoop:hadoop-client-runtime:3.4.1",
            "com.github.luben:zstd-jni:1.5.6-10",
        ],
        False,
    ),
    "kafka": (["org.apache.kafka:kafka_2.13:4.1.1"], True),
    "fix": (
        [
            "org.quickfixj:quickfixj-core:2.3.2",
            "org.quickfixj:quickfixj-messages-fix44:2.3.2",
            "org.quickfixj:quickfixj-messages-fix50sp2:2.3.2",
            "org.quickfixj:quickfixj-messages-fixt11:2.3.2",
            "org.slf4j:slf4j-jdk14:2.0.17",
        ],
        True,
    ),
    # Nothing runs with these: tests compare our manifests with the schema and the options in them.
    "kubernetes": (
        [
            "org.apache.flink:flink-kubernetes-operator-api:1.10.0",
            "org.apache.flink:flink-autoscaler:1.10.0",
        ],
        False,
    ),
    # What browsers load from the page: page/webjar.py takes the files out of it.
    "page": (["org.webjars.npm:uplot:1.6.30"], False),
}


class Jar(NamedTuple):
    """One locked file."""

    classpath: str
    coordinate: str  # group:artifact:version
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name in any repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


class JarError(RuntimeError):
    """A jar could not be downloaded, or is not the locked one."""


def cache_dir() -> Path:
    """The folder of downloads, which checkouts share: `GAMMAFLOW_CACHE`, or else the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GAMMAFLOW_CACHE") or Path(base) / "gammaflow")


def locked() -> list[Jar]:
    """The lock file's rows."""
    rows = (line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(*row) for row in rows]


def fetch(*classpaths: str) -> dict[str, list[Path]]:
    """The locked jars of these class paths, or of all, downloaded unless cached, and verified: class path name -> files.

    Raises `JarError` with the coordinate and both sha256 sums.
    """
    jars = [jar for jar in locked() if jar.classpath in classpaths or not classpaths]
    missing = [jar for jar in jars if not _path(jar).exists()]
    if missing:
        with (
            Progress() as progress,
            ThreadPoolExecutor(8) as pool,
        ):
            task = progress.add_task(f"jars into {cache_dir()}", total=len(missing))
            for _ in pool.map(_download, missing):
                progress.advance(task)
    paths: dict[str, list[Path]] = {}
    for jar in jars:
        paths.setdefault(jar.classpath, []).append(_path(jar))
    return paths


def _path(jar: Jar) -> Path:
    return cache_dir() / "jars" / jar.sha256[:12] / jar.file_name


def _context() -> MavenContext:
    return MavenContext(repo_cache=cache_dir() / "maven", local_repos=[], resolver=PythonResolver(), timeout=60)


def _download(jar: Jar) -> None:
    group, artifact, version = jar.coordinate.split(":")
    try:
        source = _context().project(group, artifact).at_version(version).artifact().resolve()
    except Exception as error:
        raise JarError(f"{jar.coordinate}: download failed ({error}); set-up needs the network once") from error
    actual = _sha256(source)
    if actual != jar.sha256:
        source.unlink()
        raise JarError(f"{jar.coordinate}: expected sha256 {jar.sha256}, got {actual}; the file was removed, try again")
    target = _path(jar)
    target.parent.mkdir(parents=True, exist_ok=True)
    # With the name of this process, so that two set-ups at once do not overwrite each other's files.
    source.replace(partial := target.with_suffix(f".{os.getpid()}"))
    partial.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock() -> None:
    """Resolve `ROOTS` and write `jars.lock`."""
    lines = ["# Made by `python -m deploy.jars lock`: class path, Maven coordinate, sha256."]
    for classpath, (roots, transitive) in ROOTS.items():
        context = _context()
        dependencies = [context.create_dependency(root) for root in roots]
        inputs, others = context.resolver.resolve(dependencies, transitive=True)
        for dependency in inputs + (others if transitive else []):
            artifact = dependency.artifact
            if artifact.packaging != "jar" or dependency.scope not in ("compile", "runtime", None):
                continue
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.append(f"{classpath} {coordinate} {_sha256(artifact.resolve())}")
    LOCK.write_text("\n".join(lines) + "\n")


def copy(classpath: str, folder: Path) -> None:
    """Put the jars of one class path into a folder.  Raises `JarError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for jar in fetch(classpath)[classpath]:
        shutil.copy(jar, folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["lock"]:
            lock()
        case ["copy", classpath, folder]:
            copy(classpath, Path(folder))
        case _:
            fetch()
