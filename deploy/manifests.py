"""The generated Kubernetes manifests: `python -m deploy.manifests` writes them, --check says whether they are stale.

These are a FlinkDeployment for each job of `jobs.FLOW` (base/jobs.yaml), and Flink's settings for all jobs:
flink-conf/config.yaml overridden by kubernetes.yaml (base/settings.yaml).  The other files of the folder are written by hand.
"""

import io
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import jobs
from deploy import cluster

BASE = Path(__file__).parent / "kubernetes" / "base"
BUNDLE = "/opt/gammaflow"
"""The folder of our code in the image."""
HEADER = "# Made by `python -m deploy.manifests`: do not edit.\n"


def render() -> dict[str, str]:
    """The text that each generated file should have, by its name."""
    deployments = [_deployment(_name(job), {"job": {"args": arguments(job)}}) for job in jobs.FLOW]
    # Kustomize ignores the name of a patch for all deployments.
    settings = _deployment("every-job", {"flinkConfiguration": flat(cluster.layered(["config", "kubernetes"]))})
    return {"jobs.yaml": HEADER + _dumped(*deployments), "settings.yaml": HEADER + _dumped(settings)}


def arguments(job: str) -> list[str]:
    """The arguments of PythonDriver: those of `flink run`, without the bundle, for the image has our code."""
    return ["-pyfs", BUNDLE, "-pym", "engine.run", job]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as Flink's own keys and texts: {"a": {"b": True}} is {"a.b": "true"}."""
    by_key: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            by_key |= flat(value, f"{prefix}{key}.")
        else:
            by_key[prefix + key] = str(value).lower() if isinstance(value, bool) else str(value)
    return by_key


def _name(job: str) -> str:
    return job.replace("_", "-")  # Kubernetes takes no underscore


def _deployment(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def _dumped(*documents: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump_all(documents, text)
    return text.getvalue()


def main(arguments: list[str]) -> None:
    """Write the generated files, or with --check exit with a message where one is stale."""
    for name, text in render().items():
        path = BASE / name
        if "--check" not in arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            raise SystemExit(f"deploy/kubernetes/base/{name} is stale: run `python -m deploy.manifests`")


if __name__ == "__main__":
    main(sys.argv[1:])
