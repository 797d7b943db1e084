"""The commands as Python functions: `hpsearch.train(...)`, `hpsearch.coarse(...)`, `hpsearch.fine(...)`, and `load`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.config import StudyConfig, load_settings
from hpsearch.config.schema.objective import refuse_objective
from hpsearch.errors import ConfigError
from hpsearch.results import Direction, EpochResult
from hpsearch.search.listener import SearchListener
from hpsearch.search.python_settings import (
    ConfigLike,
    Enqueued,
    ObjectiveLike,
    objective_flags,
    python_settings,
    tell,
)
from hpsearch.search.stage_run import open_search, run_stage
from hpsearch.search.training_run import run_training
from hpsearch.space import Verdict
from hpsearch.stages.continued import handed_on
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.next_ranges import planned_summary, planned_verdicts
from hpsearch.stages.opening import keep_stored_ranges
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.training_plan import plan_training
from hpsearch.storage import Database, TrialRow, find_study, open_database, read_epochs

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Stage:
    """A study in the storage, as it stood when it was read."""

    database: Database
    evidence: StudyTrials

    @property
    def name(self) -> str:
        """Of the study."""
        return self.evidence.study.name

    @property
    def trials(self) -> list[TrialRow]:
        """All trials, by number."""
        return self.evidence.trials

    @property
    def best(self) -> TrialRow | None:
        """The finished trial with the best value; None if none has finished."""
        return self.evidence.best

    @property
    def config(self) -> StudyConfig | None:
        """What was searched; None when another program made the study."""
        stored = self.evidence.record.config
        return load_settings(stored=stored).study if stored is not None else None

    def boundary(self) -> list[Verdict]:
        """Per parameter: where the best trial lies in its range, and what to search next."""
        return planned_verdicts(self.evidence)

    def curves(self, number: int) -> list[EpochResult]:
        """What a trial looked like after each epoch."""
        return read_epochs(self.database, self.evidence.study, [number]).get(number, [])

    def summary(self) -> dict[str, Any]:
        """Counts, best, boundary: what `hpsearch status NAME --json` prints."""
        return planned_summary(self.evidence).as_dict()

    def optuna_study(self) -> optuna.Study:
        """The same study through Optuna, for its plots and samplers."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self.database.optuna_storage())


def coarse(
    config: ConfigLike = None,
    *,
    objective: ObjectiveLike = None,
    optuna_objective: ObjectiveLike = None,
    direction: Direction | None = None,
    metric: str | None = None,
    enqueue: Enqueued = None,
    source: str | None = None,
    name: str = "coarse",
    storage: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    sampler: str | None = None,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: SearchListener | None = None,
    skip_checks: bool = False,
) -> Stage:
    """Search wide and short, or go on with the search of that name.

    Args:
        config: a study file, a StudyConfig, a dict in the form of a study file, or None for the defaults.
        objective: what is searched over in place of a net: a function of (params, report) that returns a number, or its
            name, MODULE:FUNCTION. What cannot be imported, a lambda or a notebook's, is called in a fork of this
            process, by one worker.
        optuna_objective: or an Optuna objective, a function of (trial), which says its ranges itself; `space` may
            replace them.
        direction: of an objective's values: maximize or minimize.
        metric: what an objective's value is called, or train.metric.
        enqueue: values to try first, of some hyperparameters or all, as [{"lr": 0.1}]; each is one of the trials.
        source: a study made by `check`, to take the range of lr from, or by `train`, to search around its values; and
            the config, where none is given.
        name: of the study.
        storage: database URL; the study file's, or sqlite:///studies/hpsearch.db.
        trials: the budget.
        epochs: of each trial.
        sampler: random, qmc, grid, tpe, gp, cmaes or auto.
        sets: other keys by dotted path, as {"train.batch_size": 50}.
        space: ranges that replace or join those of the config, as {"lr": "log(1e-6, 1e-3)"}, {"lr": {"log": [1e-6,
            1e-3]}} or a distribution of Optuna's without a step; {"reg": "none"} takes one out.
        listener: hears of each finished trial.
        skip_checks: search even where the net cannot learn 20 images by heart, or the like.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command.
    """
    own = objective_flags(objective, optuna_objective, direction, metric)
    flags = _stage_flags("coarse", trials, epochs, sampler, storage, {**own, "coarse.enqueue": enqueue, **(sets or {})})
    begun, stored = None, None
    if source is not None:
        begun = find_study(open_database(python_settings(config, {"run.storage": storage}).run.storage), source)
        stored = stage_record(begun).config if config is None else None
    settings = python_settings(config, flags, space, stored)
    plan = plan_coarse(settings, name, begun)
    db = open_search(settings.run, settings.study)
    tell(settings.notes, listener)
    evidence = run_stage(db, plan, settings.run, listener=listener, checks=not skip_checks)
    return Stage(db, evidence)


def fine(
    source: str = "coarse",
    config: ConfigLike = None,
    *,
    objective: ObjectiveLike = None,
    optuna_objective: ObjectiveLike = None,
    direction: Direction | None = None,
    metric: str | None = None,
    enqueue: Enqueued = None,
    name: str | None = None,
    storage: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    sampler: str | None = None,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: SearchListener | None = None,
) -> Stage:
    """Narrow the study `source` to where its trials did well, and search there with longer trials.

    Arguments and errors as for `coarse`; without `config`, data, model and training, or the objective, are those of the
    source. A function that cannot be imported has to be given again.
    """
    db = open_database(python_settings(config, {"run.storage": storage}).run.storage)
    evidence = read_study(db, source)
    stored = handed_on(evidence.record) if config is None else None
    own = objective_flags(objective, optuna_objective, direction, metric)
    if stored is None and config is None and "objective.function" in own and direction is None:
        own["objective.direction"] = evidence.direction
    flags = _stage_flags("fine", trials, epochs, sampler, storage, {**own, "fine.enqueue": enqueue, **(sets or {})})
    settings = python_settings(config, flags, space, stored)
    plan = plan_fine(evidence, settings, name, db=db)
    tell((*settings.notes, *plan.notes), listener)
    db = open_search(settings.run, settings.study)  # with our tables, where another program made it
    plan, _ = keep_stored_ranges(db, plan, settings.ranges_given)
    return Stage(db, run_stage(db, plan, settings.run, listener=listener))


def train(
    config: ConfigLike = None,
    *,
    seeds: int = 1,
    name: str = "train",
    storage: str | None = None,
    epochs: int | None = None,
    sets: Mapping[str, Any] | None = None,
    listener: SearchListener | None = None,
) -> Stage:
    """Train with the values of [train] and [model] once, or once per seed, or go on with the training of that name.

    Trial k of the study has the seed train.seed + k. More seeds than before join those that are there.

    Args:
        config: as for `coarse`; its ranges are not used.
        seeds: runs that differ by their seed alone: initial weights, order of the minibatches, noise.
        name: of the study.
        storage: as for `coarse`.
        epochs: of each run.
        sets: other keys by dotted path, as {"train.lr": 1e-3}.
        listener: hears of each epoch.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command.
    """
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds} is not allowed.\nAllowed: a whole number from 1 on.")
    flags = {"train.epochs": epochs, "run.storage": storage, **(sets or {})}
    settings = python_settings(config, flags, searches=False)
    refuse_objective(settings.study.objective, "hpsearch.train")
    db = open_search(settings.run, settings.study)
    return Stage(db, run_training(db, plan_training(settings.study, name, seeds), settings.run, listener=listener))


def load(name: str, storage: str | None = None) -> Stage:
    """A study in the storage, whoever made it.

    Raises:
        StudyNotFoundError: none is called so.
    """
    db = open_database(python_settings(None, {"run.storage": storage}).run.storage)
    return Stage(db, read_study(db, name))


def _stage_flags(
    kind: str,
    trials: int | None,
    epochs: int | None,
    sampler: str | None,
    storage: str | None,
    sets: Mapping[str, Any] | None,
) -> dict[str, Any]:
    given = {f"{kind}.trials": trials, f"{kind}.epochs": epochs, f"{kind}.sampler": sampler, "run.storage": storage}
    return {**given, **(sets or {})}
