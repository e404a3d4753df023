"""The Kubernetes manifests agree with the schema of each kind, the jobs, and the settings of other deployments.

There is no cluster to validate them.  The schema of a FlinkDeployment is the operator's own, in a locked jar; the schemas of
other kinds are here, as far as we use them, from the API reference of Kubernetes 1.32.
"""

import re
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import jobs
from deploy import cluster, jars, manifests, topics

FOLDER = cluster.ROOT / "deploy" / "kubernetes"
BASE, EXAMPLE = FOLDER / "base", FOLDER / "example"
Document = dict[str, Any]

TEXT: Document = {"type": "string"}
TEXTS: Document = {"type": "array", "items": TEXT}
MAP: Document = {"type": "object", "additionalProperties": TEXT}


def object_of(**properties: Document) -> Document:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties}


def list_of(schema: Document) -> Document:
    """The schema of a list."""
    return {"type": "array", "items": schema}


METADATA = object_of(name=TEXT, namespace=TEXT, labels=MAP, annotations=MAP)
PEERS = list_of(object_of(podSelector=object_of(matchLabels=MAP), namespaceSelector=object_of(matchLabels=MAP)))
PORTS = list_of(object_of(protocol={"type": "string", "enum": ["TCP", "UDP"]}, port={"type": "integer"}))
KINDS: dict[tuple[str, str], Document] = {
    ("v1", "Namespace"): object_of(),
    ("v1", "ServiceAccount"): object_of(),
    ("v1", "ConfigMap"): object_of(data=MAP),
    ("rbac.authorization.k8s.io/v1", "Role"): object_of(
        rules=list_of(object_of(apiGroups=TEXTS, resources=TEXTS, verbs=TEXTS))
    ),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): object_of(
        roleRef=object_of(apiGroup=TEXT, kind=TEXT, name=TEXT),
        subjects=list_of(object_of(kind=TEXT, name=TEXT, namespace=TEXT)),
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): object_of(
        spec=object_of(
            podSelector=object_of(matchLabels=MAP),
            policyTypes=list_of({"type": "string", "enum": ["Ingress", "Egress"]}),
            ingress=list_of(object_of(**{"from": PEERS}, ports=PORTS)),
            egress=list_of(object_of(to=PEERS, ports=PORTS)),
        )
    ),
}
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
}


def violations(value: Any, schema: Document, path: str = "") -> list[str]:
    """Where a value violates its schema; an unknown field is a violation, for Kubernetes drops it."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, int | str) else [f"{path}: {value!r} is neither number nor text"]
    expected = TYPES[schema["type"]]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is none of {', '.join(schema['enum'])}"]
    wrong: list[str] = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            wrong += violations(item, schema["items"], f"{path}[{index}]")
    elif isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            wrong += [f"{path}.{key}: unknown"] if inner is None else violations(item, inner, f"{path}.{key}")
    return wrong


@cache
def flink_deployment() -> Document:
    """The operator's schema of a FlinkDeployment."""
    jar = next(jar for jar in jars.fetch("kubernetes")["kubernetes"] if "operator-api" in jar.name)
    with zipfile.ZipFile(jar) as archive:
        text = archive.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    (version,) = YAML(typ="safe").load(text)["spec"]["versions"]
    assert version["name"] == "v1beta1"
    schema: Document = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    # The schema is of 1.10, which knew Flink to 1.20.
    schema["properties"]["flinkVersion"]["enum"].append("v2_3")
    return object_of(spec=schema)


def refused(document: Document) -> list[str]:
    """The violations of a document against the schema of its kind."""
    if (document["apiVersion"], document["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment"):
        schema = flink_deployment()
    else:
        schema = KINDS[document["apiVersion"], document["kind"]]
    return violations(document, object_of(apiVersion=TEXT, kind=TEXT, metadata=METADATA, **schema["properties"]))


def documents(text: str) -> list[Document]:
    """The documents of a YAML text."""
    return list(YAML(typ="safe").load_all(text))


def merged(into: Any, patch: Any) -> Any:
    """A JSON merge patch, which kustomize applies to a kind that it does not know."""
    if not isinstance(into, dict) or not isinstance(patch, dict):
        return patch
    return {**into, **{key: merged(into.get(key), value) for key, value in patch.items()}}


@cache
def deployments() -> dict[str, Document]:
    """The FlinkDeployments of base/, by job."""
    patches = [documents((BASE / name).read_text())[0]["spec"] for name in ("settings.yaml", "pods.yaml")]
    by_job: dict[str, Document] = {}
    for document in documents((BASE / "jobs.yaml").read_text()):
        for patch in patches:
            document = {**document, "spec": merged(document["spec"], patch)}
        by_job[document["spec"]["job"]["args"][-1]] = document
    return by_job


@cache
def kustomized(folder: Path) -> list[Document]:
    """The output of `kubectl kustomize` for a folder; it needs no cluster."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: the output of kustomize is not checked")
    return documents(subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True).stdout)


def plain(folder: Path) -> list[Document]:
    """The documents of a folder's files that are neither kustomize's own nor patches."""
    listed = documents((folder / "kustomization.yaml").read_text())[0]["resources"]
    return [document for name in listed if name.endswith(".yaml") for document in documents((folder / name).read_text())]


def flink_settings(name: str) -> dict[str, str]:
    """The Flink settings of one deployment, of those that all deployments have."""
    return manifests.flat(cluster.layered(["config", name]))


def test_what_is_generated_is_not_stale() -> None:
    for name, text in manifests.render().items():
        assert (BASE / name).read_text() == text, f"{name} is stale: run `python -m deploy.manifests`"


def test_a_stale_file_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "BASE", tmp_path)
    with pytest.raises(SystemExit, match=r"base/jobs\.yaml is stale"):
        manifests.main(["--check"])
    manifests.main([])
    manifests.main(["--check"])
    with (tmp_path / "settings.yaml").open("a") as file:
        file.write("# by hand\n")
    with pytest.raises(SystemExit, match=r"base/settings\.yaml is stale"):
        manifests.main(["--check"])


def test_every_manifest_is_what_its_kind_allows() -> None:
    every = [*deployments().values(), *plain(BASE), *plain(EXAMPLE)]
    assert {document["kind"] for document in every} == {"FlinkDeployment", *(kind for _, kind in KINDS)}
    assert [(document["metadata"]["name"], refused(document)) for document in every if refused(document)] == []


@pytest.mark.parametrize(
    ("path", "value", "ending"),
    [
        (["job", "parallelism"], "1", ".spec.job.parallelism: '1' is no integer"),
        (["job", "upgradeMode"], "none", ".spec.job.upgradeMode: 'none' is none of last-state, savepoint, stateless"),
        (["job", "arguments"], [], ".spec.job.arguments: unknown"),
        (["flinkConfiguration", "pipeline.max-parallelism"], 128, ".max-parallelism: 128 is no string"),
        (["podTemplate", "spec", "containers"], [{"probe": {}}], ".spec.podTemplate.spec.containers[0].probe: unknown"),
    ],
)
def test_what_a_flink_deployment_may_not_have_is_seen(path: list[str], value: Any, ending: str) -> None:
    *outer, last = path
    patch = {last: value}
    for key in reversed(outer):
        patch = {key: patch}
    (only,) = refused({**deployments()["books"], "spec": merged(deployments()["books"]["spec"], patch)})
    assert only.endswith(ending)


def test_every_job_has_a_deployment_that_starts_it_as_flink_run_does() -> None:
    assert list(deployments()) == jobs.FLOW
    names = [document["metadata"]["name"] for document in deployments().values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?", name) for name in names), "Flink takes no others, of 45 at most"
    for job, document in deployments().items():
        spec = document["spec"]["job"]
        assert spec["args"] == ["-pyfs", manifests.BUNDLE, "-pym", "engine.run", job]
        assert spec["entryClass"] == "org.apache.flink.client.python.PythonDriver"
        assert 1 <= spec["parallelism"] <= topics.PARTITIONS
        assert topics.PARTITIONS % spec["parallelism"] == 0
        assert spec["upgradeMode"] == "savepoint" and spec["allowNonRestoredState"] is False


def test_settings_are_those_of_every_place() -> None:
    common = manifests.flat(cluster.layered(["config"]))
    for document in deployments().values():
        settings = document["spec"]["flinkConfiguration"]
        assert {key: settings[key] for key in common} == common
        assert settings["pipeline.max-parallelism"] == str(topics.MAX_PARTITIONS) == "128"
        assert settings["job.autoscaler.vertex.max-parallelism"] == str(topics.PARTITIONS)


def test_max_parallelism_is_the_one_that_shards_are_numbered_for() -> None:
    (number,) = re.findall(r"^MAX_PARALLELISM = (\d+)$", (cluster.ROOT / "engine" / "run.py").read_text(), re.MULTILINE)
    assert (
        flink_settings("local")["pipeline.max-parallelism"]
        == flink_settings("kubernetes")["pipeline.max-parallelism"]
        == number
    )


def test_images_are_pinned() -> None:
    images = {document["spec"]["image"] for document in deployments().values()}
    images |= set(
        re.findall(r"^ *(?:image|value): *(gammaflow.*)$", (EXAMPLE / "kustomization.yaml").read_text(), re.MULTILINE)
    )
    assert len(images) == 1
    name, _, tag = images.pop().partition(":")
    assert name == "gammaflow"
    assert f'version = "{tag}"' in (cluster.ROOT / "pyproject.toml").read_text()


def test_pods_are_told_what_jobs_ask_of_the_environment() -> None:
    texts = "".join(jobs.job(name).sql for name in jobs.FLOW)
    asked = set(re.findall(r"\$\{(KAFKA|PARTITIONS|ARCHIVE|ARCHIVE_INTERVAL)\}", texts))
    asked |= {"KAFKA", "PARTITIONS"}
    (settings,) = [
        document
        for document in plain(EXAMPLE)
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == "gammaflow"
    ]
    assert set(settings["data"]) == {f"GAMMAFLOW_{name}" for name in asked}
    for document in deployments().values():
        (container,) = document["spec"]["podTemplate"]["spec"]["containers"]
        assert container["name"] == "flink-main-container"
        assert container["envFrom"] == [{"configMapRef": {"name": "gammaflow"}}]


def test_pods_run_as_the_account_that_has_the_rights_and_not_as_root() -> None:
    named = {document["kind"]: document for document in plain(BASE)}
    account = named["ServiceAccount"]["metadata"]["name"]
    assert named["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert named["RoleBinding"]["roleRef"]["name"] == named["Role"]["metadata"]["name"]
    selector = named["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for document in deployments().values():
        template = document["spec"]["podTemplate"]
        assert document["spec"]["serviceAccount"] == account
        assert template["metadata"]["labels"].items() >= selector.items()
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_memory_leaves_room_for_python() -> None:
    for document in deployments().values():
        settings = document["spec"]["flinkConfiguration"]
        for process, whole in (("jobManager", "2g"), ("taskManager", "3g")):
            assert document["spec"][process]["resource"]["memory"] == whole
            prefix = f"{process.lower()}.memory.jvm-overhead"
            assert settings[f"{prefix}.min"] == settings[f"{prefix}.max"]
            assert 512 <= int(settings[f"{prefix}.max"].removesuffix("m")) <= 1024


def test_kustomize_makes_of_the_base_what_is_checked_here() -> None:
    made = {document["metadata"]["name"]: document for document in kustomized(BASE) if document["kind"] == "FlinkDeployment"}
    assert made == {document["metadata"]["name"]: document for document in deployments().values()}


def test_the_example_puts_a_place_into_every_manifest() -> None:
    made = kustomized(EXAMPLE)
    assert [(document["metadata"]["name"], refused(document)) for document in made if refused(document)] == []
    assert {document["metadata"].get("namespace") for document in made if document["kind"] != "Namespace"} == {"gammaflow"}
    assert "BUCKET" not in str(made)
    flink = [document for document in made if document["kind"] == "FlinkDeployment"]
    assert len(flink) == len(jobs.FLOW)
    for document in flink:
        settings = document["spec"]["flinkConfiguration"]
        for key in ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "high-availability.storageDir"):
            assert settings[key].startswith("s3://example-bucket/gammaflow/")
    (data,) = [document["data"] for document in made if document["kind"] == "ConfigMap"]
    assert data["GAMMAFLOW_ARCHIVE"] == "s3://example-bucket/gammaflow/archive"
    assert {document["spec"]["flinkConfiguration"]["job.autoscaler.vertex.max-parallelism"] for document in flink} == {
        data["GAMMAFLOW_PARTITIONS"]
    }
    assert {
        one["metadata"]["name"]: one["spec"]["job"]["parallelism"] for one in flink if one["spec"]["job"]["parallelism"] > 1
    } == {
        "liquidations": 2,
    }
