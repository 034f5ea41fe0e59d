"""The schemas of Kubernetes, strictly, and of the Dask operator. They come with `cluster-test`."""

import importlib.resources

import yaml


class RefusedError(Exception):
    """A resource is not what its schema says."""


def as_kubernetes_takes_it(resource: dict, version: str) -> None:
    """Fail unless a version of Kubernetes knows every field of a resource and its type."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise RefusedError(str(error)) from error


def as_dask_takes_it(resource: dict) -> None:
    """Fail unless a resource is what the operator's own definition says."""
    import jsonschema

    folder = importlib.resources.files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds"
    definition = yaml.safe_load((folder / f"{resource['kind'].lower()}.yaml").read_text())
    try:
        jsonschema.validate(resource, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    except jsonschema.ValidationError as error:
        raise RefusedError(str(error)) from error
