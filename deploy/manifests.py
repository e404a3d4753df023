"""What Kubernetes' manifests have from elsewhere: `python -m deploy.manifests` writes it, --check says whether it is stale.

Made are a FlinkDeployment for each job of `jobs.FLOW` (base/jobs.yaml) and Flink's settings for all of them, from
flink-conf/config.yaml with kubernetes.yaml laid over it (base/settings.yaml); and for each feed of `FEEDS` a Deployment and the
volume of its recording (feeds/feeds.yaml).  What is written by hand stands beside these.
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
"""Where the image has our code."""
FEEDS: dict[str, list[str]] = {
    "deribit": ["--symbols", "BTC-*", "--symbols", "ETH-*"],
    "binance_usdm": ["--symbols", "*USDT", "--redundant"],
    "okx": ["--symbols", "BTC-*"],
}
"""Feeds by their market, as an example: what each is told beside its name and its recording."""
RECORDED_GB = 100
HEADER = "# Made by `python -m deploy.manifests`: do not edit.\n"


def render() -> dict[str, str]:
    """The text that each generated file should have, by its path."""
    deployments = [_deployment(_name(job), {"job": {"args": arguments(job)}}) for job in jobs.FLOW]
    # Of a patch for all of them kustomize does not read the name.
    settings = _deployment("every-job", {"flinkConfiguration": flat(cluster.layered(["config", "kubernetes"]))})
    feeds = [document for market in FEEDS for document in (_feed(market), _recording(market))]
    return {
        "base/jobs.yaml": HEADER + _dumped(*deployments),
        "base/settings.yaml": HEADER + _dumped(settings),
        "feeds/feeds.yaml": HEADER + _dumped(*feeds),
    }


def arguments(job: str) -> list[str]:
    """What PythonDriver is told to run a job: as `flink run` is, but for the bundle, which the image has unpacked."""
    return ["-pyfs", BUNDLE, "-pym", "engine.run", job]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as Flink's own keys and texts: {"a": {"b": True}} is {"a.b": "true"}."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


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
