"""Ray Tune with the expert's loop as its trainable: as many concurrent trials as cores, images in the object store.

By default Ray starts a process for each trial, which imports torch again; `reuse_actors` keeps them.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.ended import Ended
from benchmarks.peers.trainable import load, train
from benchmarks.peers.work import Work
from hpsearch.errors import MissingExtraError

SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


def require() -> None:
    """Raise MissingExtraError where Ray Tune is not installed, or not with all that it needs."""
    try:
        import ray.tune  # noqa: F401
    except ImportError:
        raise MissingExtraError("the peer ray-tune", "ray[tune]", "bench") from None


def search(work: Work, folder: Path, reuse_actors: bool = False) -> Ended:
    require()
    os.environ.update(SILENT)
    import ray
    from ray import tune

    ray.init(num_cpus=work.num_processes, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    arrays = [tensor.cpu().numpy() for tensor in load(work)]
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, work=work, arrays=arrays), _resources(work)),
        param_space={"lr": tune.loguniform(*work.lr), "reg": tune.loguniform(*work.reg)},
        tune_config=tune.TuneConfig(
            num_samples=work.num_trials,
            max_concurrent_trials=work.num_processes,
            reuse_actors=reuse_actors,
            metric="val_acc",
            mode="max",
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    )
    results = tuner.fit()
    assert not results.errors, results.errors
    last = [result.metrics for result in results]
    ray.shutdown()
    return Ended.of(min(each["started"] for each in last), [(each["ended"], each["best"]) for each in last])


def _resources(work: Work) -> dict[str, float]:
    return {"cpu": 1, "gpu": 1 / work.num_processes} if work.device.startswith("cuda") else {"cpu": 1}


def trainable(config: dict[str, Any], work: Work, arrays: list[Any]) -> None:
    from ray import tune

    started, best = time.time(), 0.0
    torch.set_num_threads(work.threads)
    torch.set_flush_denormal(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the object store's memory is read-only, and nothing writes to it
        data = tuple(torch.from_numpy(array).to(work.device) for array in arrays)

    def report(epoch: int, accuracy: float) -> None:
        nonlocal best
        best = max(best, accuracy)
        tune.report({"val_acc": accuracy, "best": best, "started": started, "ended": time.time()})

    train(work, data, config["lr"], config["reg"], report)


def search_with_reuse(work: Work, folder: Path) -> Ended:
    return search(work, folder, reuse_actors=True)
