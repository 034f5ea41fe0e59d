"""`--scheduler kubernetes` against a fake API: what is submitted, what it asks for, and that nothing stays."""

import pytest

from pipeline.cluster import connect
from pipeline.core.options import ClusterOptions

from ..dask_processes import processes, start_cluster
from .fake_kubernetes import FakeKubernetes
from .schemas import as_dask_takes_it

pytestmark = pytest.mark.deploy


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    """A fake API, the driver's way to it, and a scheduler that stands for the pods."""
    from dask_kubernetes.operator.kubecluster import kubecluster

    fake = FakeKubernetes()
    (tmp_path / "kubeconfig").write_text(fake.kubeconfig())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with processes() as start:
        scheduler, *_ = start_cluster(start, tmp_path)

        async def address(*args, port_name="tcp-comm", **kwargs) -> str:
            return scheduler if port_name == "tcp-comm" else "http://127.0.0.1:8787"

        monkeypatch.setattr(kubecluster, "get_scheduler_address", address)
        yield fake
    fake.server.shutdown()


def test_a_run_makes_its_cluster_works_on_it_and_removes_it(kubernetes, manifests):
    options = ClusterOptions(min_workers=2)
    with connect("kubernetes", 6, options=options) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        (name,) = [n for k, n in kubernetes.objects if k == "daskclusters"]
        assert name.startswith("carboncube-")
    submitted = {o["kind"]: o for o in kubernetes.posted}
    assert set(submitted) == {"DaskCluster", "DaskAutoscaler"}
    for resource in submitted.values():
        as_dask_takes_it(resource)
        assert resource["metadata"].get("namespace", "carboncube") == "carboncube"
    assert submitted["DaskAutoscaler"]["spec"] == {"cluster": name, "minimum": 2, "maximum": 6}
    assert submitted["DaskCluster"]["spec"]["worker"]["replicas"] == 2
    assert ("daskclusters", name) not in kubernetes.objects
    assert not kubernetes.unknown
    (role,) = [r for _, r in manifests if r["kind"] == "Role"]
    allowed = {(kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}
    assert kubernetes.asked <= allowed
    assert ("daskclusters", "delete") in kubernetes.asked


def test_the_cluster_is_removed_when_the_run_fails(kubernetes):
    with pytest.raises(ZeroDivisionError), connect("kubernetes", 3):
        1 / 0  # noqa: B018
    assert not [n for k, n in kubernetes.objects if k == "daskclusters"]
    assert kubernetes.posted[0]["spec"]["worker"]["replicas"] == 3
