"""compose.yaml by itself: its form, what waits for what, and that no secret stands in it."""

import shutil
import subprocess

import pytest
from composed import FILE, ROOT, read_compose

from hpsearch.config import RunConfig

SERVICE_KEYS = {  # those of the Compose specification that are used here, with their types
    "build": dict,
    "cap_drop": list,
    "command": list,
    "depends_on": dict,
    "deploy": dict,
    "environment": dict,
    "healthcheck": dict,
    "image": str,
    "init": bool,
    "ports": list,
    "profiles": list,
    "restart": str,
    "secrets": list,
    "security_opt": list,
    "stop_grace_period": str,
    "volumes": list,
}
OURS = ("schema", "worker", "worker-gpu", "search", "dashboard")
COMPOSE = ["docker", "compose"]


@pytest.fixture(scope="module")
def compose():
    return read_compose()


def test_only_keys_of_the_specification_in_their_types(compose):
    top = {key for key in compose if not key.startswith("x-")}
    assert top == {"name", "services", "volumes", "secrets"}
    for name, service in compose["services"].items():
        for key, value in service.items():
            assert isinstance(value, SERVICE_KEYS[key]), (name, key)
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"]
        for other, how in service.get("depends_on", {}).items():
            assert other in compose["services"]
            assert how["condition"] in ("service_started", "service_healthy", "service_completed_successfully")


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command")
@pytest.mark.parametrize("profile", ["gpu", "search", "*"])
def test_compose_itself_takes_the_file(profile):
    if subprocess.run([*COMPOSE, "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose")
    done = subprocess.run(
        [*COMPOSE, "-f", str(FILE), "--profile", profile, "config", "--quiet"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_waits_for_what(compose):
    services = compose["services"]
    assert services["schema"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    for name in ("worker", "worker-gpu", "search", "dashboard"):
        assert services[name]["depends_on"] == {"schema": {"condition": "service_completed_successfully"}}


def test_who_runs_without_being_asked(compose):
    assert {name for name, service in compose["services"].items() if not service.get("profiles")} == {
        "postgres",
        "schema",
        "worker",
        "dashboard",
    }
    [device] = compose["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}


def test_a_stopped_worker_has_time_for_its_epoch_and_gets_the_signal(compose):
    from hpsearch.fleet.processes import KILL_SECONDS
    from hpsearch.worker.stopping import DRAIN_SECONDS

    for name in ("worker", "worker-gpu", "search"):
        service = compose["services"][name]
        assert service["init"] is True
        assert int(service["stop_grace_period"].removesuffix("s")) > KILL_SECONDS + DRAIN_SECONDS


def test_volumes_are_the_folders_that_hpsearch_writes_to(compose):
    run = RunConfig()
    wanted = [f"data:/hpsearch/{run.data_dir}", f"artifacts:/hpsearch/{run.artifact_dir}"]
    assert all(compose["services"][name]["volumes"] == wanted for name in OURS)


def test_secrets_are_files_alone(compose):
    assert all(list(secret) == ["file"] for secret in compose["secrets"].values())
    assert compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"].startswith("/run/secrets/")
    for name, service in compose["services"].items():
        for key, value in service["environment"].items():
            secret = any(word in key for word in ("PASSWORD", "TOKEN"))
            assert not secret or (key.endswith("_FILE") and str(value).startswith("/run/secrets/")), (name, key)
            assert ":" not in str(value).partition("://")[2].partition("@")[0], (name, key)
    ignored = subprocess.run(
        ["git", "check-ignore", *(secret["file"].replace("./", "docker/") for secret in compose["secrets"].values())],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert len(ignored.stdout.splitlines()) == len(compose["secrets"])


def test_the_dashboard_is_for_this_machine_and_asks_for_a_token(compose):
    dashboard = compose["services"]["dashboard"]
    assert dashboard["ports"] == ["127.0.0.1:8080:8080"]
    assert "HPSEARCH_DASHBOARD_TOKEN_FILE" in dashboard["environment"]
    assert "--writable" not in dashboard["command"]
