"""docs/operations.md for Docker and Kubernetes.

No container runs here: tests/test_release.py follows the image's steps, and tests/test_systemd.py runs the server with
a read-only file system and no capability.
"""

import itertools
import os
import re
import shlex
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerfile import read_steps
from driver import Server
from examples import example

from chatapi import __version__
from chatapi.config import ConfigError, load_config

pytestmark = pytest.mark.slow  # also because each process that collects it imports for 0.2 s

BUILD_AND_RUN = example("docs/operations.md", "sh", "docker build")
DOCKER_COMMANDS = example("docs/operations.md", "sh", "docker exec")
MANIFEST = example("docs/operations.md", "yaml", "kind: Deployment")
KUBECTL = example("docs/operations.md", "sh", "kubectl create secret")

RESOURCES = {resource["kind"]: resource for resource in yaml.safe_load_all(MANIFEST)}
POD = RESOURCES["Deployment"]["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]


def join_lines(script: str) -> list[str]:
    return script.replace("\\\n", " ").splitlines()


def read_docker_variables() -> dict[str, str]:
    [line] = [line for line in join_lines(BUILD_AND_RUN) if line.startswith("docker run")]
    words = shlex.split(line)
    given = [word for before, word in itertools.pairwise(words) if before == "-e"]
    return {name: value for name, _, value in (variable.partition("=") for variable in given)}


def test_the_settings_in_the_environment_are_accepted() -> None:
    for given in (
        read_docker_variables(),
        {variable["name"]: variable.get("value", "$MASTER_KEY") for variable in CONTAINER["env"]},
    ):
        key = given.pop("CHATAPI_AUTH_MASTER_KEY")
        assert key == "$MASTER_KEY"
        server = load_config(None, given, {}).config.server
        assert (server.public_url, server.allowed_origins) == ("https://chat.example.com", ("https://app.example.com",))


@pytest.mark.parametrize("kind", RESOURCES)
def test_the_manifest_is_one_for_kubernetes(kind: str) -> None:
    kubernetes_validate.validate(RESOURCES[kind], kubernetes_validate.latest_version(), strict=True)


def test_there_is_never_a_second_server() -> None:
    spec = RESOURCES["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert RESOURCES["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert POD["terminationGracePeriodSeconds"] > load_config(None, {}, {}).config.server.shutdown_grace_seconds


def test_it_may_run_where_the_restricted_standard_is_enforced() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/ lists the fields."""
    pod, own = POD["securityContext"], CONTAINER["securityContext"]
    assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert (own["allowPrivilegeEscalation"], own["capabilities"]) == (False, {"drop": ["ALL"]})
    assert own["readOnlyRootFilesystem"] is True
    user, group = read_steps("USER")[-1].removeprefix("USER ").split(":")
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (int(user), int(group), int(group))


def test_mounts_volumes_labels_and_ports_of_the_manifest_match() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert set(mounts) == {"/data", "/tmp"}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert set(volumes) == set(mounts.values())
    assert volumes[mounts["/data"]]["persistentVolumeClaim"]["claimName"] == name_of("PersistentVolumeClaim")
    labels = RESOURCES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert RESOURCES["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["Service"]["spec"]["selector"] == labels
    [port] = CONTAINER["ports"]
    assert [way["targetPort"] for way in RESOURCES["Service"]["spec"]["ports"]] == [port["name"]]
    assert f'"--port", "{port["containerPort"]}"' in read_steps("CMD")[-1]
    assert CONTAINER["image"].endswith(f"/chatapi:{__version__}")


def name_of(kind: str) -> str:
    return str(RESOURCES[kind]["metadata"]["name"])


async def test_probes_of_the_manifest_are_answered(server: Server) -> None:
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert CONTAINER[probe]["httpGet"] == {"path": path, "port": CONTAINER["ports"][0]["name"]}
        assert (await server.request("GET", path)).status == 200


def test_the_variables_of_a_service_would_stop_the_start() -> None:
    assert POD["enableServiceLinks"] is False
    with pytest.raises(ConfigError, match="CHATAPI_SERVER_SERVICE_HOST"):
        load_config(None, {"CHATAPI_SERVER_SERVICE_HOST": "10.0.0.1"}, {})


# What the tools themselves make of the lines


def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=250)


@pytest.mark.deploy
@pytest.mark.parametrize("line", [line for line in join_lines(BUILD_AND_RUN + DOCKER_COMMANDS) if "docker " in line])
def test_docker_understands_each_line(line: str) -> None:
    """Up to where it would need its daemon."""
    asked = run(line, DOCKER_HOST="unix:///nonexistent", MASTER_KEY="key")
    assert "Cannot connect to the Docker daemon" in asked.stderr, f"this takes docker's client\n{asked.stderr}"
    assert not re.search("unknown|invalid|requires", asked.stderr), asked.stderr


@pytest.mark.deploy
def test_kubectl_makes_the_secret_that_the_manifest_names() -> None:
    create, execute = KUBECTL.splitlines()
    made = run(f"{create} --dry-run=client -o yaml")
    assert made.returncode == 0, f"this takes kubectl\n{made.stderr}"
    secret: dict[str, Any] = yaml.safe_load(made.stdout)
    wanted = CONTAINER["env"][0]["valueFrom"]["secretKeyRef"]
    assert (secret["metadata"]["name"], list(secret["data"])) == (wanted["name"], [wanted["key"]])
    asked = run(f"KUBECONFIG=/nonexistent {execute.replace('kubectl', 'kubectl --server=http://127.0.0.1:1')}")
    assert "refused" in asked.stderr, asked.stderr
    assert execute.split()[2] == f"deploy/{name_of('Deployment')}"
