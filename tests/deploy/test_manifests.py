"""The manifests hold against the schemas of Kubernetes and of the Dask operator, and keep what they promise."""

import re
import subprocess
import tomllib

import pytest
import yaml

import pipeline
from pipeline import prune
from pipeline.cluster import cluster_manifest
from pipeline.command import parser
from pipeline.core.options import ClusterOptions
from pipeline.settings import load

from .conftest import DEPLOY, resources
from .schemas import RefusedError, as_dask_takes_it, as_kubernetes_takes_it

pytestmark = pytest.mark.deploy
VERSIONS = ("1.29.0", "1.33.0")


def named(resource: dict) -> str:
    metadata = resource["metadata"]
    return f"{resource['kind']}/{metadata.get('name', metadata.get('generateName'))}"


def pod_specs(manifests) -> list[tuple[str, dict]]:
    found = []
    for _, resource in manifests:
        spec = resource.get("spec", {})
        if resource["kind"] == "DaskCluster":
            found += [(f"{part} of {named(resource)}", spec[part]["spec"]) for part in ("scheduler", "worker")]
        elif resource["kind"] == "Job":
            found.append((named(resource), spec["template"]["spec"]))
        elif resource["kind"] == "CronJob":
            found.append((named(resource), spec["jobTemplate"]["spec"]["template"]["spec"]))
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("file", "resource"), resources(), ids=lambda v: v if isinstance(v, str) else named(v))
def test_every_resource_is_what_kubernetes_takes(file, resource, version):
    if resource["apiVersion"].startswith("kubernetes.dask.org"):
        as_dask_takes_it(resource)
    else:
        as_kubernetes_takes_it(resource, version)


def test_pods_of_the_dask_cluster_are_what_kubernetes_takes(manifests):
    """The operator's schema lets unknown fields pass: the pods inside are checked as pods, the service as a service."""
    (cluster,) = [r for _, r in manifests if r["kind"] == "DaskCluster"]
    for part in ("scheduler", "worker"):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": part}, "spec": cluster["spec"][part]["spec"]}
        as_kubernetes_takes_it(pod, VERSIONS[-1])
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    as_kubernetes_takes_it({**service, "spec": cluster["spec"]["scheduler"]["service"]}, VERSIONS[-1])


def test_the_schemas_do_catch_mistakes(manifests):
    (job,) = [r for _, r in manifests if r["kind"] == "Job"]
    for broken in ({**job["spec"], "backoffLimt": 1}, {**job["spec"], "backoffLimit": "six"}):
        with pytest.raises(RefusedError):
            as_kubernetes_takes_it({**job, "spec": broken}, VERSIONS[-1])
    (cluster,) = [r for _, r in manifests if r["kind"] == "DaskCluster"]
    with pytest.raises(RefusedError):
        as_dask_takes_it({**cluster, "spec": {"worker": cluster["spec"]["worker"]}})


def test_all_that_a_cluster_needs_is_there(manifests):
    kinds = {r["kind"] for _, r in manifests}
    assert kinds >= {"DaskCluster", "Job", "CronJob", "Secret", "Role", "RoleBinding", "ServiceAccount"}
    assert kinds >= {"NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Namespace"}
    assert {r["metadata"].get("namespace") for _, r in manifests if r["kind"] != "Namespace"} == {"carboncube"}


def test_pods_are_as_small_as_they_can_be(manifests):
    specs = pod_specs(manifests)
    assert len(specs) == 5
    for name, spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            resources = container["resources"]
            assert resources["limits"]["memory"] == resources["requests"]["memory"], name
            assert not re.search(r":latest$|^[^:]+$", container["image"]), name


def test_images_are_of_this_version(manifests):
    images = {c["image"] for _, spec in pod_specs(manifests) for c in spec["containers"]}
    assert images == {f"carboncube:{pipeline.__version__}"}


def test_workers_may_go_to_spot_nodes_and_nobody_else(manifests):
    specs = dict(pod_specs(manifests))
    tolerant = {name for name, spec in specs.items() if spec.get("tolerations")}
    assert tolerant == {"worker of DaskCluster/carboncube"}


def test_a_worker_holds_a_unit_of_the_whole_country(manifests):
    """The request is what `--preview` says of a national month, with room for what reading and writing takes."""
    from pipeline.preview import unit_memory

    need = unit_memory(load({"year": 2022}, environ={}))
    (worker,) = [s for n, s in pod_specs(manifests) if n.startswith("worker")]
    asked = worker["containers"][0]["resources"]["requests"]["memory"]
    assert asked.endswith("Gi")
    assert need <= int(asked[:-2]) * 2**30 <= 2 * need
    assert worker["containers"][0]["args"][worker["containers"][0]["args"].index("--nthreads") + 1] == "1"


def test_rights_are_the_least(manifests):
    (role,) = [r for _, r in manifests if r["kind"] == "Role"]
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]
    writes = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    writes = {(r, v) for r, v in writes if v not in ("get", "list", "watch")}
    assert writes == {
        ("daskclusters", "create"),
        ("daskclusters", "delete"),
        ("daskautoscalers", "create"),
        ("daskautoscalers", "patch"),
    }
    assert not [r for _, r in manifests if r["kind"].startswith("ClusterRole")]


def test_nobody_reaches_dask_but_who_must(manifests):
    policies = {r["metadata"]["name"]: r["spec"] for _, r in manifests if r["kind"] == "NetworkPolicy"}
    assert policies["closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    peers = [peer for rule in policies["dask"]["ingress"] for peer in rule["from"]]
    assert all("podSelector" in peer or "namespaceSelector" in peer for peer in peers)
    for rule in policies["dask"]["ingress"]:
        elsewhere = any("namespaceSelector" in peer for peer in rule["from"])
        assert not elsewhere or {p["port"] for p in rule["ports"]} <= {8786, 8787, 8788}


def test_no_secret_is_in_the_template(manifests):
    (secret,) = [r for _, r in manifests if r["kind"] == "Secret"]
    assert all("CHANGE-ME" in value for value in secret["stringData"].values())


def cron_container(manifests, name: str) -> dict:
    (cron,) = [r for _, r in manifests if r["kind"] == "CronJob" and r["metadata"]["name"] == name]
    return cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]


def test_pruning_calls_the_command_line_that_there_is(manifests):
    arguments = cron_container(manifests, "carboncube-prune")["args"]
    assert arguments[:3] == ["python", "-m", "pipeline.prune"]
    parsed = prune.parser().parse_args(arguments[3:])
    # Nobody reads one product for so long, and no run is resumed later.
    assert (parsed.keep, parsed.yes, parsed.older_than >= 30) == (3, True, True)


def build_arguments(manifests) -> list[list[str]]:
    (job,) = [r for _, r in manifests if r["kind"] == "Job"]
    return job["spec"]["template"]["spec"]["containers"][0]["args"]


def test_the_job_calls_the_command_line_that_there_is(manifests):
    arguments = build_arguments(manifests)
    assert arguments[:3] == ["python", "-m", "pipeline.build"]
    parsed = parser().parse_args(arguments[3:])
    assert (parsed.scheduler, parsed.workers, parsed.resume) == ("kubernetes", 16, True)
    (settings,) = [r for _, r in manifests if r["kind"] == "ConfigMap"]
    loaded = load({"year": parsed.year, "scheduler": parsed.scheduler}, environ=settings["data"])
    assert loaded.store == settings["data"]["CARBONCUBE_STORE"]
    assert loaded.year == (2019, 2020, 2021, 2022, 2023)


@pytest.mark.parametrize(
    ("today", "expected"),
    [("2026-03-20", "2026 2"), ("2026-01-20", "2025 12"), ("2026-03-31", "2026 2"), ("2024-12-20", "2024 11")],
)
def test_the_newest_month_is_the_one_before(manifests, tmp_path, today, expected):
    """The script of the CronJob under a clock of ours; what it would run is printed instead."""
    (script,) = cron_container(manifests, "carboncube-newest-month")["args"]
    clock = f'date() {{ case "$*" in *-d*) command date "$@";; *) command date -d {today} "$@";; esac; }}\n'
    script = clock + script.replace("exec python", "echo python")
    done = subprocess.run(["/bin/sh", "-euc", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    parsed = parser().parse_args(words[3:])
    months = load({"year": parsed.year, "months": parsed.months}, environ={}).months
    assert f"{parsed.year} {months[-1]}" == expected
    assert months == tuple(range(1, months[-1] + 1))


def test_a_run_makes_a_cluster_of_its_own_name():
    made = cluster_manifest(ClusterOptions(), 12, "carboncube-1234")
    as_dask_takes_it(made)
    assert made["metadata"]["name"] == "carboncube-1234"
    assert made["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == "carboncube-1234"
    assert made["spec"]["worker"]["replicas"] == 12
    adaptive = cluster_manifest(ClusterOptions(min_workers=2, namespace="other"), 12, "c")
    assert adaptive["spec"]["worker"]["replicas"] == 2
    assert adaptive["metadata"]["namespace"] == "other"
    assert cluster_manifest(ClusterOptions(), None, "c")["spec"]["worker"]["replicas"] == 8


def test_another_manifest_must_be_one(tmp_path):
    from pipeline.core.errors import InputError

    (tmp_path / "pod.yaml").write_text("kind: Pod\n")
    for path, words in ((tmp_path / "pod.yaml", "no DaskCluster"), (tmp_path / "none.yaml", "cannot be read")):
        with pytest.raises(InputError, match=words):
            cluster_manifest(ClusterOptions(manifest=str(path)), None, "c")


def test_compose_file_keeps_ports_on_this_machine_and_secrets_out():
    text = (DEPLOY / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    assert compose["networks"]["inside"] == {"internal": True}
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert not service["image"].endswith(":latest"), name
        for other in service.get("depends_on", []):
            assert other in compose["services"], name
        for key, value in (service.get("environment") or {}).items():
            assert not re.search("KEY|PASSWORD|SECRET", key) or value.startswith("${"), (name, key)
    build = compose["services"]["build"]
    assert parser().parse_args(build["command"][3:]).resume
    environ = {k: v for k, v in build["environment"].items() if k.startswith("CARBONCUBE_")}
    loaded = load({"year": "2022"}, environ=environ)
    assert loaded.cluster.allow_plain is True
    assert loaded.scheduler == "tcp://scheduler:8786"


def test_the_wheel_carries_the_manifest():
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["deploy/kubernetes/dask-cluster.yaml"] == "pipeline/dask-cluster.yaml"
