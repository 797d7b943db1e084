"""More commands as Python functions: `hpsearch.check`, `compare`, `ensemble`, and `studies`, which `status` lists.

The searches themselves are in `search.api` and `search.procedure`. Whatever a command prints, its function returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpsearch.analysis.sampler_comparison import Comparison
from hpsearch.analysis.study_list import ListedStudy, listed_studies
from hpsearch.config.schema.objective import refuse_objective
from hpsearch.results import Direction
from hpsearch.search.checks.learning_rate import STEPS
from hpsearch.search.checks.study import KIND, Check, plan_check, run_check
from hpsearch.search.compare_samplers import plan_comparison, run_comparison
from hpsearch.search.ensemble import Ensemble, make_ensemble
from hpsearch.search.ensemble_folder import FILES, write_ensemble
from hpsearch.search.listener import SearchListener
from hpsearch.search.python_settings import (
    ConfigLike,
    Enqueued,
    ObjectiveLike,
    objective_flags,
    python_settings,
    tell,
)
from hpsearch.search.stage_run import open_search
from hpsearch.search.weights_folder import refuse_replacing
from hpsearch.storage import open_database
from hpsearch.training.images import load_images


def check(
    config: ConfigLike = None,
    *,
    name: str = KIND,
    storage: str | None = None,
    steps: int = STEPS,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: SearchListener | None = None,
) -> Check:
    """Check a net before a search: images, initial loss, regularization, 20 images by heart, activations, rates.

    What passes is kept as a study, from which `coarse(source="check")` takes its learning rates; a check that failed is
    not kept. `report.ok` says which it was, `report.findings` what was found and what to do.

    Args:
        config: a study file, a StudyConfig, a dict in the form of a study file, or None for the defaults.
        name: of the study.
        storage: database URL; the study file's, or sqlite:///studies/hpsearch.db.
        steps: of each learning rate.
        sets: other keys by dotted path, as {"model.name": "convnet"}.
        space: ranges that replace or join those of the config; where train.body_lr is searched, it is tried, too.
        listener: hears what is being checked.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command; a check that fails raises nothing.
    """
    settings = python_settings(config, {"run.storage": storage, **(sets or {})}, space)
    refuse_objective(settings.study.objective, "hpsearch.check")
    hears = listener or SearchListener()
    plan = plan_check(settings.study, name, steps)
    db = open_search(settings.run, settings.study)
    tell(settings.notes, listener)
    return run_check(
        db,
        plan,
        load_images(plan.trial_config, settings.run, hears.reading_images),
        engine=settings.run.engine,
        listener=hears.checking,
        images=lambda: load_images(plan.trial_config, settings.run, as_features=False),
    )


def compare(
    config: ConfigLike = None,
    *,
    objective: ObjectiveLike = None,
    optuna_objective: ObjectiveLike = None,
    direction: Direction | None = None,
    metric: str | None = None,
    enqueue: Enqueued = None,
    samplers: Sequence[str] = ("random", "grid"),
    repeats: int = 10,
    name: str = "compare",
    storage: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: SearchListener | None = None,
) -> Comparison:
    """Compare samplers on your data or objective: equal budgets, equal seeds, several repeats; or go on with that.

    `finals` has the best value of each repeat by sampler, `wins` who was best how often, `difference(one, other)` the
    paired difference with its interval. Each search is a study of its own, NAME/SAMPLER/REPEAT.

    Args:
        config, objective, optuna_objective, direction, metric: as for `coarse`.
        enqueue: values that each search tries first, as for `coarse`.
        samplers: two or more of random, grid, qmc, tpe, gp, cmaes.
        repeats: searches of each sampler, with seeds of their own.
        name: of the comparison.
        storage: as for `coarse`.
        trials: of each search; fewer where the largest balanced grid has fewer points.
        epochs, sets, space, listener: as for `coarse`.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command.
    """
    own = objective_flags(objective, optuna_objective, direction, metric)
    budget = {"coarse.trials": trials, "coarse.epochs": epochs, "coarse.enqueue": enqueue}
    settings = python_settings(config, {**own, **budget, "run.storage": storage, **(sets or {})}, space)
    plan = plan_comparison(settings, samplers, repeats, name)
    db = open_search(settings.run, settings.study)
    tell(settings.notes, listener)
    return run_comparison(db, plan, settings.run, listener)


def ensemble(
    *studies: str,
    storage: str | None = None,
    top: int | None = None,
    trial: int | None = None,
    seeds: int = 1,
    bagging: bool = False,
    snapshots: bool = False,
    greedy: bool = False,
    kept: bool = False,
    test: bool = False,
    weights: str | Path | None = None,
    force: bool = False,
    sets: Mapping[str, Any] | None = None,
) -> Ensemble:
    """Average what the best nets say, measured beside the best single one, and keep that with the first study.

    `val.value` is the ensemble's, `val.single` that of the best net, `val.difference` the gain with its interval, and
    `test` has the same of the test images. Nets whose weights are not kept are trained again.

    Args:
        studies: of the same images, split and metric.
        storage: database URL, or sqlite:///studies/hpsearch.db.
        top: the best trials of each study; None: 5, or 1 with several seeds or snapshots.
        trial: this one instead of the best ones.
        seeds: trainings of each trial, with its own seed and the next.
        bagging: train each on its own draw of the training images, with replacement.
        snapshots: of each, its states at the ends of the cycles of its rate.
        greedy: choose and weigh the nets by what each adds on the validation images.
        kept: only nets whose weights are kept.
        test: measure on the test images, too: a use of the test set.
        weights: a folder, into which its nets are written for use without hpsearch.
        force: replace files that are there.
        sets: keys of [run] by dotted path, as {"run.device": "cpu"}.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command. Code of yours that a study names has to be
            trusted before: `hpsearch.trust("mynets")`.
    """
    run = python_settings(None, {"run.storage": storage, **(sets or {})}).run
    if weights is not None:
        refuse_replacing(Path(weights), force=force, files=FILES)
    result = make_ensemble(
        open_database(run.storage),
        run,
        studies,
        top=top,
        number=trial,
        num_seeds=seeds,
        bagged=bagging,
        snapshots=snapshots,
        greedy=greedy,
        kept_only=kept,
        test=test,
    )
    if weights is not None:
        write_ensemble(result, Path(weights))
    return result


def studies(storage: str | None = None) -> list[ListedStudy]:
    """All studies in the storage, of whatever program, in the order in which they were made; `load` reads one.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    return listed_studies(open_database(python_settings(None, {"run.storage": storage}).run.storage))
