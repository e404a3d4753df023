"""The generated Kubernetes manifests: `python -m deploy.manifests` writes them, --check says whether they are stale.

These are a FlinkDeployment for each job of `jobs.FLOW` (base/jobs.yaml); Flink's settings for all jobs, flink-conf/config.yaml
overridden by kubernetes.yaml (base/settings.yaml); and for each feed of `FEEDS` a Deployment and the volume of its recording
(feeds/feeds.yaml).  The other files of the folder are written by hand.
"""

import io
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import jobs
from deploy import cluster

FOLDER = Path(__file__).parent / "kubernetes"
BUNDLE = "/opt/gammaflow"
"""The folder of our code in the image."""
FEEDS: dict[str, list[str]] = {
    "deribit": ["--symbols", "BTC-*", "--symbols", "ETH-*"],
    "binance_usdm": ["--symbols", "*USDT", "--redundant"],
    "okx": ["--symbols", "BTC-*"],
}
"""Example feeds by market: the arguments of each besides its name and its recording."""
RECORDED_GB = 100
HEADER = "# Made by `python -m deploy.manifests`: do not edit.\n"


def render() -> dict[str, str]:
    """The text that each generated file should have, by its path."""
    deployments = [_deployment(_name(job), {"job": {"args": arguments(job)}}) for job in jobs.FLOW]
    # Kustomize ignores the name of a patch for all deployments.
    settings = _deployment("every-job", {"flinkConfiguration": flat(cluster.layered(["config", "kubernetes"]))})
    feeds = [document for market in FEEDS for document in (_feed(market), _recording(market))]
    return {
        "base/jobs.yaml": HEADER + _dumped(*deployments),
        "base/settings.yaml": HEADER + _dumped(settings),
        "feeds/feeds.yaml": HEADER + _dumped(*feeds),
    }


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


def _feed(market: str) -> dict[str, Any]:
    name = f"feed-{_name(market)}"
    labels = {"app.kubernetes.io/name": name}
    told = [market, *FEEDS[market], "--name", name, "--record", f"/recordings/{market}.log"]
    pod = {
        "containers": [{"name": "feed", "args": told}],
        "volumes": [{"name": "recordings", "persistentVolumeClaim": {"claimName": name}}],
    }
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels.copy()}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _recording(market: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{RECORDED_GB}Gi"}}}
    metadata = {"name": f"feed-{_name(market)}"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


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
        path = FOLDER / name
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            raise SystemExit(f"deploy/kubernetes/{name} is stale: run `python -m deploy.manifests`")


if __name__ == "__main__":
    main(sys.argv[1:])
