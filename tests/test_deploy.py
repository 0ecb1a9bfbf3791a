"""What deploy/ holds is what the platforms' own schemas allow, and what the image and the settings are."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from bentoml_cli.deployment import deploy_command

from settings import PREFIX, Settings
from tests.serving import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = "1.37"
KNATIVE = json.loads((ROOT / "tests" / "knative-service.schema.json").read_text(encoding="utf-8"))
POD = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
REVISION = yaml.safe_load((DEPLOY / "knative.yaml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["bentolens"]
DOCS = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def composes(path: Path) -> bool:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_compose_is_valid(tmp_path: Path) -> None:
    assert composes(DEPLOY / "compose.yaml")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text(encoding="utf-8").replace("read_only", "readonly"))
    assert not composes(wrong)


@pytest.mark.parametrize("one", POD, ids=lambda one: one["kind"])
def test_kubernetes_objects_are_valid(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(one, KUBERNETES, strict=True)
    wrong = copy.deepcopy(one)
    wrong["spec"]["selectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_kubernetes_has_what_a_service_needs() -> None:
    assert {one["kind"] for one in POD} == {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    labels = POD[0]["spec"]["template"]["metadata"]["labels"]
    assert POD[0]["spec"]["selector"]["matchLabels"] == POD[1]["spec"]["selector"] == labels
    assert POD[3]["spec"]["selector"]["matchLabels"] == labels
    assert POD[2]["spec"]["scaleTargetRef"]["name"] == POD[0]["metadata"]["name"]
    assert POD[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 5 + 10


def test_the_knative_service_is_valid() -> None:
    jsonschema.validate(REVISION, KNATIVE)
    for place in ("spec", "template"):
        wrong = copy.deepcopy(REVISION)
        wrong["spec"].setdefault(place, {})["containerConcurency"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, KNATIVE)
    assert REVISION["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "0"


@pytest.mark.parametrize("spec", [POD[0]["spec"]["template"]["spec"], REVISION["spec"]["template"]["spec"]])
def test_containers_are_run_as_the_image_is_made(spec: dict[str, Any]) -> None:
    (container,) = spec["containers"]
    security = spec.get("securityContext", {}) | container["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 1034  # BentoML's, which deploy/Dockerfile.j2 takes
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["ports"][0]["containerPort"] == 3000
    assert [(mount["mountPath"], mount.get("readOnly")) for mount in container["volumeMounts"]] == [
        ("/tmp", None),
        ("/keys", True),
    ]
    told = {one["name"]: one["value"] for one in container["env"]}
    Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in told.items()})
    assert all(name.removeprefix(PREFIX).lower() in Settings.model_fields for name in told)
    assert told["LENS_KEYS_FILE"].startswith("/keys/")
    assert "LENS_ALLOW_ANONYMOUS" not in told


def test_compose_runs_it_likewise() -> None:
    assert COMPOSE["read_only"]
    assert COMPOSE["tmpfs"] == ["/tmp"]
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert COMPOSE["ports"][0].endswith(":3000")
    assert COMPOSE["environment"]["LENS_KEYS_FILE"] == "/run/secrets/keys"
    assert COMPOSE["secrets"] == ["keys"]


def test_bentoclouds_command_is_one_that_bentoml_takes() -> None:
    (line,) = re.findall(r"^bentoml (deploy .*)$", DOCS, re.MULTILINE)
    deploy_command.make_context("bentoml", shlex.split(line)[1:])
