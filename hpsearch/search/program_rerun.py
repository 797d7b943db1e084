"""A trial of an [objective] called again: whether it follows what it reported, and how much the seed alone moves it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpsearch.config import Choice, RunConfig
from hpsearch.config.metric import Metric
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.errors import ConfigError, HpsearchError
from hpsearch.programs.messages import Broken, Ended, Pruned, Reported, Suggest, Suggested, Task
from hpsearch.programs.program import Program, UnreadyError
from hpsearch.results import EpochResult, Explosion
from hpsearch.runtime import resolve_device
from hpsearch.search.program_run import objective_of
from hpsearch.search.stored_trials import Training
from hpsearch.space import range_from_json
from hpsearch.space.scale import choice_index
from hpsearch.stages.confirming import seed_of_call
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import TrialRow
from hpsearch.worker.suggesting import known_value

LOOK_SECONDS = 0.5


def call_again(
    plan: StagePlan,
    trial: TrialRow,
    metric: Metric,
    run: RunConfig,
    num_seeds: int,
    seed_ended: Callable[[Training], None] | None,
) -> tuple[list[Training], bool]:
    """Calls with the stage's seed and those that follow, each in a folder of its own that is removed; and whether the
    code takes a seed at all.

    Raises:
        ConfigError: the code cannot be imported.
        HpsearchError: it raises.
    """
    objective = objective_of(plan)
    program = Program(objective)
    trainings = []
    try:
        program.start()
        own = seed_of_call(objective.seed, trial.number, trial.attrs)
        for seed in range(own, own + num_seeds):
            with tempfile.TemporaryDirectory(prefix="hpsearch-rerun-") as folder:
                task = Task(
                    number=trial.number,
                    params={**objective.params, **trial.params},
                    epochs=plan.settings.epochs,
                    seed=seed,
                    device=str(resolve_device(run.device)),
                    checkpoint=folder,
                    output=str(Path(folder) / "output.txt"),
                )
                training = _training(program, objective, task, metric)
                trainings.append(replace(training, takes_seed="seed" in program.takes))
            if seed_ended is not None:
                seed_ended(trainings[-1])
    except UnreadyError as error:
        raise ConfigError(str(error)) from None
    finally:
        program.end()
    return trainings, "seed" in program.takes


def recorded_values(trial: TrialRow) -> list[EpochResult]:
    """What it reported then."""
    return [EpochResult.of_value(trial.number, epoch, value) for epoch, value in sorted(trial.intermediate.items())]


def _training(program: Program, objective: ObjectiveConfig, task: Task, metric: Metric) -> Training:
    program.begin(task)
    results: list[EpochResult] = []
    while True:
        match program.next(LOOK_SECONDS):
            case Reported(value, epoch):
                program.answer()
                if objective.has_exploded(value, results[0].val_score if results else value):
                    return _exploded(program, task, results, value, epoch, metric)
                results.append(EpochResult.of_value(task.number, epoch, value))
            case Suggest() as call:
                program.suggest(_again(call, task.params))
            case Pruned():
                return Training(task.seed, results, None, {}, metric)
            case Ended(value):
                if not math.isfinite(value):
                    return _exploded(program, task, results, value, results[-1].epoch if results else 0, metric)
                return Training(task.seed, results, None, {}, metric, value)
            case Broken(reason, trace):
                which = f"seed {task.seed}" if "seed" in program.takes else f"trial {task.number}, called again"
                raise HpsearchError(f"{which}: {reason}.\n{trace}".rstrip())


def _again(call: Suggest, params: Mapping[str, Any]) -> Suggested:
    """The value that a call gave then."""
    called = range_from_json(call.distribution)
    try:
        if call.name not in params:
            raise ConfigError(
                f"the objective asks for {call.name!r}, which the trial had no value of: its code, or what it depends "
                "on, is another now.\nAllowed: the code that the trial was called with."
            )
        value = known_value(f"{call.name} of the trial", called, params[call.name])
    except ConfigError as error:
        return Suggested(wrong=str(error))
    return Suggested(choice_index(called, value) if isinstance(called, Choice) else value)


def _exploded(
    program: Program, task: Task, results: list[EpochResult], value: float, epoch: int, metric: Metric
) -> Training:
    program.end()
    first = results[0].val_score if results else value
    return Training(task.seed, results, Explosion(task.number, epoch, 0, value, first), None, metric)
