"""Optuna with the expert's loop: one process per core, one thread each, all of them on one study in SQLite."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.peers.ended import Ended, of_study
from benchmarks.peers.trainable import load, train
from benchmarks.peers.work import Work

NAME = "search"


def search(work: Work, folder: Path) -> Ended:
    url = f"sqlite:///{folder}/study.db"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=NAME, storage=url, direction="maximize")
    if work.num_processes == 1:
        optimize(work, url, 0, None)
    else:
        # Forked, the processes need not import everything again; CUDA does not survive a fork.
        context = multiprocessing.get_context("fork" if work.device == "cpu" else "spawn")
        barrier = context.Barrier(work.num_processes)
        ranks = range(work.num_processes)
        processes = [context.Process(target=optimize, args=(work, url, rank, barrier)) for rank in ranks]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert not any(process.exitcode for process in processes), "a process of the peer failed"
    return of_study(study)


def optimize(work: Work, url: str, rank: int, barrier: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(work.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(work.seed * 1000 + rank)
    data = load(work)
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    sampler = samplers[work.sampler](seed=work.seed * 1000 + rank)
    study = optuna.load_study(study_name=NAME, storage=url, sampler=sampler, pruner=optuna.pruners.NopPruner())

    def objective(trial: optuna.Trial) -> float:
        lr, reg = trial.suggest_float("lr", *work.lr, log=True), trial.suggest_float("reg", *work.reg, log=True)
        return train(work, data, lr, reg, lambda epoch, accuracy: trial.report(accuracy, epoch))

    if barrier is not None:
        barrier.wait()  # so that the clock of the first trial does not run while others still read images
    study.optimize(objective, n_trials=None if work.seconds else work.share(rank), timeout=work.seconds)
