"""Who asks Ray for what: options, room on the nodes, what a worker is told and answers. No cluster is needed."""

import sys
import threading
import time

import pytest

from hpsearch.cli.option_groups import Training
from hpsearch.config import RunConfig
from hpsearch.errors import ConfigError, MissingExtraError
from hpsearch.fleet.ray import worker as ray_worker
from hpsearch.fleet.ray.cluster import Demand, check_request, choose_demand, choose_workers, room
from hpsearch.fleet.ray.launcher import make_job
from hpsearch.worker.failures import PoisonedDeviceError


def test_devices_by_number_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="--devices cuda:0,cuda:1 is not for --engine ray"):
        check_request(RunConfig(fleet="ray", devices=("cuda:0", "cuda:1")))
    with pytest.raises(ConfigError, match=r"run.device = 'cuda:1'(.|\n)*Allowed: auto, cpu, cuda\."):
        check_request(RunConfig(fleet="ray", device="cuda:1"))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError):
        check_request(RunConfig(fleet="ray"))


def test_engine_takes_the_engines_of_packs_and_ray():
    loop, ray = Training(engine="loop").flags(), Training(engine="ray").flags()
    assert (loop["run.engine"], loop["run.fleet"]) == ("loop", None)
    assert (ray["run.engine"], ray["run.fleet"]) == (None, "ray")
    both = Training(engine="vmap", ray_address="head:6379", keep="all").flags()
    given = {key: value for key, value in both.items() if value is not None}
    assert given == {
        "run.engine": "vmap",
        "run.fleet": "ray",
        "run.ray_address": "head:6379",
        "run.keep": "all",
    }
    with pytest.raises(ConfigError, match=r"--engine rey is not known\.\nAllowed: auto, .*ray\."):
        Training(engine="rey").flags()


@pytest.mark.parametrize("epoch_seconds", [0.01, 1e6])
def test_a_long_epoch_is_not_waited_for_when_a_worker_is_drained(monkeypatch, epoch_seconds):
    begun, ended = threading.Event(), []

    def work(_job, stop):
        stop.epoch_seconds = epoch_seconds
        begun.set()
        while epoch_seconds > 1:  # an epoch without end
            time.sleep(0.001)
        while True:
            stop.raise_if_requested()

    monkeypatch.setattr(ray_worker, "_work", work)
    actor = ray_worker.WorkerActor()
    thread = threading.Thread(target=lambda: ended.append(actor.work(None)), daemon=True)
    thread.start()
    begun.wait()
    actor.drain()
    thread.join(30)
    assert ended == [ray_worker.Ending("stopped")]


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (ConfigError("no"), ray_worker.Ending("gave up", "no")),
        (PoisonedDeviceError("no"), ray_worker.Ending("poisoned", "no")),
        (ValueError("no"), ray_worker.Ending("gave up", "ValueError: no")),
    ],
)
def test_a_worker_s_errors_are_told_not_raised(monkeypatch, error, ended):
    """Ray keeps what is raised, with its traceback."""

    def work(_job, _stop):
        raise error

    monkeypatch.setattr(ray_worker, "_work", work)
    assert ray_worker.WorkerActor().work(None) == ended


def test_a_job_has_absolute_paths_and_hides_its_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = make_job("coarse", RunConfig(storage="sqlite:///studies/a.db"), Demand(3, 1))
    assert job.run.storage == f"sqlite:///{tmp_path}/studies/a.db"
    assert (job.run.data_dir, job.run.artifact_dir) == (f"{tmp_path}/data", f"{tmp_path}/studies/artifacts")
    assert (job.run.device, job.run.threads) == ("cuda:0", 3)
    job = make_job("coarse", RunConfig(storage="postgresql://me:canary@db/x"), Demand(1, 0))
    assert "canary" in job.run.storage
    assert "canary" not in repr(job)


NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {"CPU": 1.0, "GPU": 4.0}, {"memory": 1.0}]


@pytest.mark.parametrize(
    ("demand", "most"),
    [(Demand(1, 0), 12), (Demand(2, 0), 5), (Demand(1, 1), 3), (Demand(4, 1), 2), (Demand(9, 0), 0)],
)
def test_room_is_counted_node_by_node(demand, most):
    assert room(demand, NODES) == most


def test_workers_take_a_gpu_each_where_there_are_some():
    assert choose_demand(RunConfig(), NODES) == Demand(1, 1)
    assert choose_demand(RunConfig(device="cpu", threads=3), NODES) == Demand(3, 0)
    assert choose_demand(RunConfig(), NODES[1:2]) == Demand(1, 0)
    with pytest.raises(ConfigError, match="no node of the Ray cluster has a GPU"):
        choose_demand(RunConfig(device="cuda"), NODES[1:2])


def test_as_many_workers_as_there_is_room_for_and_trials():
    assert choose_workers(0, Demand(1, 0), NODES, num_trials=100) == 12
    assert choose_workers(0, Demand(1, 0), NODES, num_trials=5) == 5
    assert choose_workers(7, Demand(1, 0), NODES, num_trials=5) == 7
