"""The Dockerfile: linted, exact, not root, and made of files that are there. No image is built here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import DEPLOY

pytestmark = pytest.mark.deploy
TEXT = (DEPLOY / "Dockerfile").read_text()


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint comes with: pip install -e '.[cluster-test]'"
    # DL3003 wants WORKDIR for a `cd` inside one RUN, where a layer of its own would say less.
    done = subprocess.run(
        [hadolint, "--no-color", "--ignore", "DL3003", str(DEPLOY / "Dockerfile")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    bad = subprocess.run([hadolint, "-"], input="FROM debian\nRUN cd x\n", capture_output=True, text=True)
    assert bad.returncode != 0


def test_what_is_copied_is_there_and_sent_to_the_builder():
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [w for line in re.findall(r"^COPY (.*)$", TEXT, re.M) for w in line.split()[1:-1]]
    assert {"pipeline", "constraints.txt"} <= set(copied)
    for path in copied:
        assert (DEPLOY.parent / path).exists(), path
    assert set(copied) == sent


def test_versions_are_exact_and_esmf_is_native():
    assert re.search(r"^FROM \S+:\d+\.\d+\.\d+$", TEXT, re.M)
    assert "-c constraints.txt" in TEXT
    packages = yaml.safe_load((DEPLOY / "environment.yml").read_text())["dependencies"]
    assert all(re.fullmatch(r"[a-z]+=\d+(\.\d+)+(=nompi\*)?", package) for package in packages), packages
    assert {"python", "esmf", "esmpy"} <= {p.split("=")[0] for p in packages}
    minor = next(p for p in packages if p.startswith("python=")).split("=")[1].rsplit(".", 1)[0]
    assert minor == "3.11"


def test_the_image_is_not_root_and_its_user_is_the_pods():
    users = re.findall(r"^USER (\d+):(\d+)$", TEXT, re.M)
    assert users
    assert all(int(u) > 0 for pair in users for u in pair)
    cluster = yaml.safe_load((DEPLOY / "kubernetes" / "dask-cluster.yaml").read_text())
    assert cluster["spec"]["worker"]["spec"]["securityContext"]["runAsUser"] == int(users[-1][0])


def test_it_is_said_that_the_image_was_not_built_here():
    assert "was not built" in " ".join((DEPLOY / "README.md").read_text().split())
