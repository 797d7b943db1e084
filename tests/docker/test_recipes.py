"""The Dockerfile, the Slurm script and the Kubernetes manifests: what the documents promise of them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from composed import ROOT
from typer.main import get_command

from hpsearch.cli.app import app
from hpsearch.config import RunConfig

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))
SBATCH = DOCKER / "slurm" / "hpsearch.sbatch"
UID = int(re.search(r"--uid (\d+)", DOCKERFILE)[1])


def check_command(words):
    """Whether hpsearch has this command, with these options."""
    current = get_command(app)
    words = list(words)
    while words and hasattr(current, "commands"):
        current = current.commands[words.pop(0)]
    options = {name for parameter in current.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def stub(folder, name, script="exit 0"):
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{script}\n')
    path.chmod(0o755)


def run_script(command, folder, **environment):
    calls = folder / "calls"
    calls.write_text("")
    done = subprocess.run(
        command,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done, calls.read_text().splitlines()


# The Dockerfile


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ({"TORCH": "cuda"}, ["pip install torch torchvision"]),
        ({"TORCH": "cpu", "TORCH_INDEX": "file:///w"}, ["pip install --index-url file:///w torch torchvision"]),
        ({"TORCH": "cpu"}, []),
        ({"TORCH": "rocm"}, []),
    ],
)
def test_torch_comes_in_one_kind(tmp_path, arguments, calls):
    [script] = re.findall(r"^RUN --mount.*\\\n((?:    .*\n)+?    +esac)\n", DOCKERFILE, re.MULTILINE)
    stub(tmp_path, "pip")
    done, made = run_script(["sh", "-c", script.replace("\\\n", "")], tmp_path, **arguments)
    assert made == calls
    assert (done.returncode == 0) == bool(calls)
    assert calls or "TORCH" in done.stderr


def test_the_image_runs_hpsearch_as_a_user_of_its_own():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert [stage.partition("\n")[0] for stage in stages] == ["python:${PYTHON}-slim AS build", "python:${PYTHON}-slim"]
    last = stages[-1]
    assert f"\nUSER {UID}:{UID}\n" in last
    assert '\nENTRYPOINT ["hpsearch"]\n' in last
    volumes = re.search(r"^VOLUME (\[.*\])$", last, re.MULTILINE)[1]
    assert yaml.safe_load(volumes) == [f"/hpsearch/{RunConfig().data_dir}", f"/hpsearch/{RunConfig().artifact_dir}"]
    assert not re.search(r"^(ARG|ENV)\b.*(PASSWORD|TOKEN|SECRET)", DOCKERFILE, re.MULTILINE)


def test_what_is_copied_is_let_through_and_nothing_else():
    ignore = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in "#"]
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert {word for words in copied for word in words.split()} == kept
    assert ignore[0] == "*"
    assert all(list(ROOT.glob(pattern)) for pattern in kept)


# Slurm


def test_the_batch_script_parses():
    subprocess.run(["bash", "-n", SBATCH], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SBATCH.read_text(), re.MULTILINE))
    assert options["signal"].startswith("TERM@")
    assert "requeue" in options
    assert options["gpus-per-task"] == "1"


@pytest.mark.parametrize(
    ("code", "seconds_left", "requeued"), [(0, 9999, False), (143, 60, True), (143, 9999, False), (1, 60, False)]
)
def test_the_job_goes_back_into_the_line_when_its_time_is_up(tmp_path, code, seconds_left, requeued):
    stub(tmp_path, "srun", f"exit {code}")
    stub(tmp_path, "scontrol")
    stub(tmp_path, "date", "echo 1000")
    end = str(1000 + seconds_left)
    environment = {"HPSEARCH_STORAGE": "x", "SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": end}
    done, calls = run_script(["bash", SBATCH, "coarse"], tmp_path, **environment)
    assert done.returncode == code, done.stderr
    [srun] = [call for call in calls if call.startswith("srun")]
    check_command(srun.partition("hpsearch ")[2].split())
    assert ("scontrol requeue 7" in calls) == requeued


def test_the_batch_script_says_what_it_needs(tmp_path):
    done, calls = run_script(["bash", SBATCH], tmp_path)
    assert "sbatch hpsearch.sbatch STUDY" in done.stderr
    done, calls = run_script(["bash", SBATCH, "coarse"], tmp_path)
    assert "HPSEARCH_STORAGE" in done.stderr
    assert not calls


# Kubernetes


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def job(request):
    [document] = yaml.safe_load_all(request.param.read_text())
    assert (document["apiVersion"], document["kind"]) == ("batch/v1", "Job")
    return document


def test_pods_run_without_rights_on_the_image_s_own_commands(job):
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"] == dict(runAsNonRoot=True, runAsUser=UID, runAsGroup=UID, fsGroup=UID)  # noqa: C408
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["storage"]["secret"]["defaultMode"] == 0o440
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        if "args" in container:
            assert "command" not in container  # the entry point stays
            check_command(map(str, container["args"]))
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        assert Path(environment["HPSEARCH_STORAGE_FILE"]).parent == Path(mounts["storage"])
        assert set(mounts) <= set(volumes)
        if "artifacts" in mounts:
            assert mounts["artifacts"] == f"/hpsearch/{RunConfig().artifact_dir}"
            assert mounts["data"] == f"/hpsearch/{RunConfig().data_dir}"


def test_workers_are_a_work_queue():
    [document] = yaml.safe_load_all((DOCKER / "kubernetes" / "workers.yaml").read_text())
    spec = document["spec"]
    assert spec["parallelism"] > 1
    assert "completions" not in spec
    assert spec["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 1}


@pytest.mark.parametrize("name", ["search", "workers"])
def test_exit_codes_of_workers_mean_what_they_say(name):
    [document] = yaml.safe_load_all((DOCKER / "kubernetes" / f"{name}.yaml").read_text())
    spec = document["spec"]
    pod = spec["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["shareProcessNamespace"] is True
    disruption, *rules = spec["podFailurePolicy"]["rules"]
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    found = {value: rule["action"] for rule in rules for value in rule["onExitCodes"]["values"]}
    assert found == {143: "Ignore", 2: "FailJob", 3: "FailJob"}
    assert {rule["onExitCodes"]["containerName"] for rule in rules} == {pod["containers"][0]["name"]}
