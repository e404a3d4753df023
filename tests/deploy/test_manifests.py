"""Kubernetes' manifests: what the schema of each kind allows, what the jobs need, and what the settings of every place say.

There is no cluster to ask.  The schema of a FlinkDeployment is the operator's own, in a locked jar; those of the other kinds
are kept here, as much of them as we use, after the API reference of Kubernetes 1.32.
"""

import inspect
import re
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

import jobs
from deploy import cluster, jars, manifests, topics
from feeds.publish import Publisher
from feeds.venues import VENUES
from tests.deploy.test_image import options_of_feed

FOLDER = cluster.ROOT / "deploy" / "kubernetes"
BASE, FEEDS, EXAMPLE = FOLDER / "base", FOLDER / "feeds", FOLDER / "example"
Document = dict[str, Any]

TEXT: Document = {"type": "string"}
TEXTS: Document = {"type": "array", "items": TEXT}
MAP: Document = {"type": "object", "additionalProperties": TEXT}


def of(**properties: Document) -> Document:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties}


def many(schema: Document) -> Document:
    """The schema of a list."""
    return {"type": "array", "items": schema}


METADATA = of(name=TEXT, namespace=TEXT, labels=MAP, annotations=MAP)
PEERS = many(of(podSelector=of(matchLabels=MAP), namespaceSelector=of(matchLabels=MAP)))
PORTS = many(of(protocol={"type": "string", "enum": ["TCP", "UDP"]}, port={"type": "integer"}))
WHOLE: Document = {"type": "integer"}
TRUTH: Document = {"type": "boolean"}
PROBE = of(
    httpGet=of(path=TEXT, port=WHOLE),
    **dict.fromkeys(["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"], WHOLE),
)
CONTAINERS = many(
    of(
        **dict.fromkeys(["name", "image", "imagePullPolicy"], TEXT),
        **dict.fromkeys(["command", "args"], TEXTS),
        securityContext=of(
            allowPrivilegeEscalation=TRUTH, readOnlyRootFilesystem=TRUTH, capabilities=of(drop=TEXTS), runAsNonRoot=TRUTH
        ),
        env=many(of(name=TEXT, value=TEXT)),
        envFrom=many(of(configMapRef=of(name=TEXT))),
        ports=many(of(name=TEXT, containerPort=WHOLE)),
        readinessProbe=PROBE,
        livenessProbe=PROBE,
        resources=of(requests=MAP, limits=MAP),
        volumeMounts=many(of(name=TEXT, mountPath=TEXT, readOnly=TRUTH)),
    )
)
POD = of(
    terminationGracePeriodSeconds=WHOLE,
    automountServiceAccountToken=TRUTH,
    enableServiceLinks=TRUTH,
    securityContext=of(
        runAsNonRoot=TRUTH, **dict.fromkeys(["runAsUser", "runAsGroup", "fsGroup"], WHOLE), seccompProfile=of(type=TEXT)
    ),
    initContainers=CONTAINERS,
    containers=CONTAINERS,
    volumes=many(
        of(
            name=TEXT,
            secret=of(secretName=TEXT, optional=TRUTH, defaultMode=WHOLE),
            emptyDir=of(medium=TEXT, sizeLimit=TEXT),
            persistentVolumeClaim=of(claimName=TEXT),
        )
    ),
)
KINDS: dict[tuple[str, str], Document] = {
    ("v1", "Namespace"): of(),
    ("v1", "ServiceAccount"): of(),
    ("v1", "ConfigMap"): of(data=MAP),
    ("rbac.authorization.k8s.io/v1", "Role"): of(rules=many(of(apiGroups=TEXTS, resources=TEXTS, verbs=TEXTS))),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): of(
        roleRef=of(apiGroup=TEXT, kind=TEXT, name=TEXT), subjects=many(of(kind=TEXT, name=TEXT, namespace=TEXT))
    ),
    ("v1", "PersistentVolumeClaim"): of(spec=of(accessModes=TEXTS, resources=of(requests=MAP))),
    ("apps/v1", "Deployment"): of(
        spec=of(
            replicas=WHOLE,
            strategy=of(type={"type": "string", "enum": ["Recreate", "RollingUpdate"]}),
            selector=of(matchLabels=MAP),
            template=of(metadata=METADATA, spec=POD),
        )
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): of(
        spec=of(
            podSelector=of(matchLabels=MAP),
            policyTypes=many({"type": "string", "enum": ["Ingress", "Egress"]}),
            ingress=many(of(**{"from": PEERS}, ports=PORTS)),
            egress=many(of(to=PEERS, ports=PORTS)),
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
    """Where a value is not what its schema says; a field that the schema does not name counts, for Kubernetes drops it."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, int | str) else [f"{path}: {value!r} is neither number nor text"]
    expected = TYPES[schema["type"]]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is none of {', '.join(schema['enum'])}"]
    found: list[str] = []
    if isinstance(value, list):
        for place, item in enumerate(value):
            found += violations(item, schema["items"], f"{path}[{place}]")
    elif isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            found += [f"{path}.{key}: unknown"] if inner is None else violations(item, inner, f"{path}.{key}")
    return found


@cache
def flink_deployment() -> Document:
    """The operator's schema of what a FlinkDeployment says."""
    jar = next(jar for jar in jars.fetch("kubernetes")["kubernetes"] if "operator-api" in jar.name)
    with zipfile.ZipFile(jar) as archive:
        text = archive.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    (version,) = YAML(typ="safe").load(text)["spec"]["versions"]
    assert version["name"] == "v1beta1"
    schema: Document = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    # The schema is of 1.10, which knew Flink to 1.20.
    schema["properties"]["flinkVersion"]["enum"].append("v2_3")
    return of(spec=schema)


def refused(document: Document) -> list[str]:
    """What its kind does not allow in a document."""
    if (document["apiVersion"], document["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment"):
        schema = flink_deployment()
    else:
        schema = KINDS[document["apiVersion"], document["kind"]]
    return violations(document, of(apiVersion=TEXT, kind=TEXT, metadata=METADATA, **schema["properties"]))


def documents(text: str) -> list[Document]:
    """The documents of a YAML text."""
    return list(YAML(typ="safe").load_all(text))


def merged(into: Any, patch: Any) -> Any:
    """A JSON merge patch, which is what kustomize does to a kind that it does not know."""
    if not isinstance(into, dict) or not isinstance(patch, dict):
        return patch
    return {**into, **{key: merged(into.get(key), value) for key, value in patch.items()}}


@cache
def deployments() -> dict[str, Document]:
    """Each job's FlinkDeployment as base/ has it, by the job."""
    patches = [documents((BASE / name).read_text())[0]["spec"] for name in ("settings.yaml", "pods.yaml")]
    found: dict[str, Document] = {}
    for document in documents((BASE / "jobs.yaml").read_text()):
        for patch in patches:
            document = {**document, "spec": merged(document["spec"], patch)}
        found[document["spec"]["job"]["args"][-1]] = document
    return found


@cache
def kustomized(folder: Path) -> list[Document]:
    """What `kubectl kustomize` makes of a folder; it asks no cluster."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here: what kustomize makes of the manifests is not seen")
    return documents(subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True).stdout)


def plain(folder: Path) -> list[Document]:
    """The documents of a folder's files that are neither kustomize's own nor patches."""
    listed = documents((folder / "kustomization.yaml").read_text())[0]["resources"]
    return [one for name in listed if name.endswith(".yaml") for one in documents((folder / name).read_text())]


def flink_settings(place: str) -> dict[str, str]:
    """A place's Flink settings, of those that all places have."""
    return manifests.flat(cluster.layered(["config", place]))


def test_what_is_generated_is_not_stale() -> None:
    for name, text in manifests.render().items():
        assert (FOLDER / name).read_text() == text, f"{name} is stale: run `python -m deploy.manifests`"


def test_a_stale_file_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"base/jobs\.yaml is stale"):
        manifests.main(["--check"])
    manifests.main([])
    manifests.main(["--check"])
    with (tmp_path / "base" / "settings.yaml").open("a") as file:
        file.write("# by hand\n")
    with pytest.raises(SystemExit, match=r"base/settings\.yaml is stale"):
        manifests.main(["--check"])


def test_every_manifest_is_what_its_kind_allows() -> None:
    patch = documents((FEEDS / "pods.yaml").read_text())
    every = [*deployments().values(), *plain(BASE), *plain(FEEDS), *patch, *plain(EXAMPLE)]
    assert {one["kind"] for one in every} == {"FlinkDeployment", *(kind for _, kind in KINDS)}
    assert [(one["metadata"]["name"], refused(one)) for one in every if refused(one)] == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["job", "parallelism"], "1", ".spec.job.parallelism: '1' is no integer"),
        (["job", "upgradeMode"], "none", ".spec.job.upgradeMode: 'none' is none of last-state, savepoint, stateless"),
        (["job", "arguments"], [], ".spec.job.arguments: unknown"),
        (["flinkConfiguration", "pipeline.max-parallelism"], 128, ".max-parallelism: 128 is no string"),
        (["podTemplate", "spec", "containers"], [{"probe": {}}], ".spec.podTemplate.spec.containers[0].probe: unknown"),
    ],
)
def test_what_a_flink_deployment_may_not_have_is_seen(path: list[str], value: Any, told: str) -> None:
    *outer, last = path
    patch = {last: value}
    for key in reversed(outer):
        patch = {key: patch}
    (only,) = refused({**deployments()["books"], "spec": merged(deployments()["books"]["spec"], patch)})
    assert only.endswith(told)


def test_every_job_has_a_deployment_that_starts_it_as_flink_run_does() -> None:
    assert list(deployments()) == jobs.FLOW
    names = [one["metadata"]["name"] for one in deployments().values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?", name) for name in names), "Flink takes no others, of 45 at most"
    for job, document in deployments().items():
        told = document["spec"]["job"]
        assert told["args"] == ["-pyfs", manifests.BUNDLE, "-pym", "engine.run", job]
        assert told["entryClass"] == "org.apache.flink.client.python.PythonDriver"
        assert 1 <= told["parallelism"] <= topics.PARTITIONS
        assert topics.PARTITIONS % told["parallelism"] == 0
        assert told["upgradeMode"] == "savepoint" and told["allowNonRestoredState"] is False


def test_settings_are_those_of_every_place() -> None:
    common = manifests.flat(cluster.layered(["config"]))
    for document in deployments().values():
        settings = document["spec"]["flinkConfiguration"]
        assert {key: settings[key] for key in common} == common
        assert settings["pipeline.max-parallelism"] == str(topics.MAX_PARTITIONS) == "128"
        assert settings["job.autoscaler.vertex.max-parallelism"] == str(topics.PARTITIONS)


def test_max_parallelism_is_the_one_that_shards_are_numbered_for() -> None:
    (told,) = re.findall(r"^MAX_PARALLELISM = (\d+)$", (cluster.ROOT / "engine" / "run.py").read_text(), re.MULTILINE)
    assert (
        flink_settings("local")["pipeline.max-parallelism"] == flink_settings("kubernetes")["pipeline.max-parallelism"] == told
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
    (told,) = [one for one in plain(EXAMPLE) if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "gammaflow"]
    assert set(told["data"]) == {f"GAMMAFLOW_{name}" for name in asked}
    for document in deployments().values():
        (container,) = document["spec"]["podTemplate"]["spec"]["containers"]
        assert container["name"] == "flink-main-container"
        assert container["envFrom"] == [{"configMapRef": {"name": "gammaflow"}}]


def test_pods_run_as_the_account_that_has_the_rights_and_not_as_root() -> None:
    named = {one["kind"]: one for one in plain(BASE)}  # of each kind one, but for the deployments
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


def test_every_feed_is_told_what_gammaflow_feed_understands_and_records_on_its_own_volume() -> None:
    made = documents((FEEDS / "feeds.yaml").read_text())
    claims = {one["metadata"]["name"] for one in made if one["kind"] == "PersistentVolumeClaim"}
    feeds = [one for one in made if one["kind"] == "Deployment"]
    assert len(feeds) == len(claims) == len(manifests.FEEDS) > 1
    (patched,) = documents((FEEDS / "pods.yaml").read_text())
    for one in feeds:
        name, spec = one["metadata"]["name"], one["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == {"app.kubernetes.io/name": name}
        (container,), (volume,) = spec["template"]["spec"]["containers"], spec["template"]["spec"]["volumes"]
        assert container["name"] == patched["spec"]["template"]["spec"]["containers"][0]["name"]
        assert volume["persistentVolumeClaim"]["claimName"] == name and name in claims
        told = options_of_feed(container["args"])
        assert told["name"] == name
        (mount,) = [
            mount["mountPath"]
            for mount in patched["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
            if mount["name"] == volume["name"]
        ]
        assert told["record"].parent == Path(mount)


def test_feeds_run_without_rights_with_probes_and_with_time_to_stop() -> None:
    (patch,) = documents((FEEDS / "pods.yaml").read_text())
    assert patch["spec"]["replicas"] == 1 and patch["spec"]["strategy"]["type"] == "Recreate", "two would write each row twice"
    pod = patch["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
    (container,) = pod["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    port = int(variables["GAMMAFLOW_METRICS_PORT"])
    assert [one["containerPort"] for one in container["ports"]] == [port]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": port}
    assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": port}
    assert pod["terminationGracePeriodSeconds"] > inspect.signature(Publisher).parameters["delivery_s"].default
    (policy,) = [one for one in plain(FEEDS) if one["kind"] == "NetworkPolicy"]
    labels = patch["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port}]
    allowed = {one["port"] for rule in policy["spec"]["egress"] for one in rule["ports"]}
    urls = [urlsplit(venue.session(market).url) for venue in VENUES.values() for market in venue.MARKETS]
    assert {url.port or 443 for url in urls} <= allowed


def test_keys_reach_a_feed_as_files_that_only_its_user_reads() -> None:
    (patch,) = documents((FEEDS / "pods.yaml").read_text())
    pod = patch["spec"]["template"]["spec"]
    (copies,), (feed,) = pod["initContainers"], pod["containers"]
    assert "install -m 600" in copies["command"][-1]
    assert "secret" not in {mount["name"] for mount in feed["volumeMounts"]}
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "keys"]
    assert volume["emptyDir"]["medium"] == "Memory"


def test_kustomize_puts_what_is_written_by_hand_into_every_feed() -> None:
    made = [one for one in kustomized(FEEDS) if one["kind"] == "Deployment"]
    (patch,) = documents((FEEDS / "pods.yaml").read_text())
    assert len(made) == len(manifests.FEEDS)
    for one in made:
        pod, wanted = one["spec"]["template"]["spec"], patch["spec"]["template"]["spec"]
        assert refused(one) == []
        assert {volume["name"] for volume in pod["volumes"]} == {
            mount["name"] for part in (*pod["containers"], *pod["initContainers"]) for mount in part["volumeMounts"]
        }
        (container,) = pod["containers"]
        assert {key: container[key] for key in wanted["containers"][0]} == wanted["containers"][0]
        assert one["spec"]["template"]["metadata"]["labels"].items() >= one["spec"]["selector"]["matchLabels"].items()


def test_kustomize_makes_of_the_base_what_is_checked_here() -> None:
    made = {one["metadata"]["name"]: one for one in kustomized(BASE) if one["kind"] == "FlinkDeployment"}
    assert made == {document["metadata"]["name"]: document for document in deployments().values()}


def test_the_example_puts_a_place_into_every_manifest() -> None:
    made = kustomized(EXAMPLE)
    assert [(one["metadata"]["name"], refused(one)) for one in made if refused(one)] == []
    assert {one["metadata"].get("namespace") for one in made if one["kind"] != "Namespace"} == {"gammaflow"}
    assert "BUCKET" not in str(made)
    assert {one["metadata"]["name"] for one in made if one["kind"] == "Deployment"} == {
        f"feed-{market.replace('_', '-')}" for market in manifests.FEEDS
    }
    flink = [one for one in made if one["kind"] == "FlinkDeployment"]
    assert len(flink) == len(jobs.FLOW)
    for one in flink:
        settings = one["spec"]["flinkConfiguration"]
        for key in ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "high-availability.storageDir"):
            assert settings[key].startswith("s3://example-bucket/gammaflow/")
    (data,) = [one["data"] for one in made if one["kind"] == "ConfigMap"]
    assert data["GAMMAFLOW_ARCHIVE"] == "s3://example-bucket/gammaflow/archive"
    assert {one["spec"]["flinkConfiguration"]["job.autoscaler.vertex.max-parallelism"] for one in flink} == {
        data["GAMMAFLOW_PARTITIONS"]
    }
    assert {
        one["metadata"]["name"]: one["spec"]["job"]["parallelism"] for one in flink if one["spec"]["job"]["parallelism"] > 1
    } == {
        "liquidations": 2,
    }
