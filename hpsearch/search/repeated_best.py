"""The best trials of a stage that is finished, trained again with other seeds: see `analysis.repeats`.

None of it is a trial of the stage, whose budget stays what it was. Each training is written to the study as it ends; a
pack that is stopped is trained anew by the same command.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpsearch.analysis import attributes
from hpsearch.analysis.records import KeptWeights, stage_record
from hpsearch.analysis.repeats import Repeats, by_mean
from hpsearch.analysis.study_trials import StudyTrials, observe, read_study
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import DataConfig, RunConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.results import EpochResult, TrialSpec, best_epoch
from hpsearch.search.stored_trials import retrain
from hpsearch.space.observation import rank
from hpsearch.stages.listener import Listener
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, find_study, write_attrs
from hpsearch.training import group
from hpsearch.training.early_stopping import stopped_early
from hpsearch.training.folds import make_pack
from hpsearch.training.images import images_key, load_images
from hpsearch.wording import count_text
from hpsearch.worker.best_weights import announce_portrait
from hpsearch.worker.kept_weights import write_kept
from hpsearch.worker.stopping import Stop

REPEATED_KINDS = ("coarse", "fine")

ImagesKey = tuple[DataConfig, str, str]
Values = Mapping[int, Mapping[int, float | None]]


def repeat_best(
    db: Database, plan: StagePlan, run: RunConfig, data: TrainingData, listener: Listener, stop: Stop
) -> StudyTrials:
    """Train the best trials of a stage again, those that the stage asks for and that have not been; the stage then.

    The weights of the winner are kept, if weights are.

    Args:
        db: an open database.
        plan: of the stage, with its precision.
        run: how to train.
        data: images of the stage.
        listener: hears what is done.
        stop: asked after each epoch.

    Raises:
        Stopped: a stop was asked for; what is trained is kept.
    """
    evidence = read_study(db, plan.name)
    if plan.kind not in REPEATED_KINDS or not plan.settings.repeat_best:
        return evidence
    if evidence.num_finished < len(evidence.trials):
        return evidence
    images: dict[ImagesKey, TrainingData] = {images_key(plan.trial_config): data}
    repeats = wanted(evidence, plan.settings.repeat_best, plan.settings.repeat_seeds)
    if missing := _missing(plan.trial_config, evidence, repeats):
        listener.note(
            f"the {count_text(len(repeats.first), 'best trial')} of {plan.name} again, "
            f"with {count_text(repeats.num_seeds, 'other seed')} each: {count_text(len(missing), 'training')}"
        )
        width = run.width or len(missing)
        for config, specs in group(plan.trial_config, missing):
            for first in range(0, len(specs), width):
                part = specs[first : first + width]
                values = _train(config, _images(images, config, run), part, run, stop)
                _keep(db, plan.name, repeats, {number: {config.train.seed: v} for number, v in values.items()})
    elif stage_record(evidence.study).repeats != repeats:
        _keep(db, plan.name, repeats, {})
    evidence = read_study(db, plan.name)
    _keep_weights(db, evidence, plan.trial_config, run, images)
    return read_study(db, plan.name)


def wanted(evidence: StudyTrials, num_best: int, num_seeds: int) -> Repeats:
    """The trials to train again: so many of the best by their first values, and those of an earlier wish."""
    before = evidence.record.repeats or Repeats(num_seeds, {}, {})
    observations = [observe(trial, evidence.direction) for trial in evidence.trials]
    ranked = rank(observations, "complete", evidence.direction)
    chosen = {o.number: o.value for o in ranked[:num_best] if o.value is not None}
    return Repeats(max(num_seeds, before.num_seeds), {**before.first, **chosen}, before.values)


def _missing(config: StudyConfig, evidence: StudyTrials, repeats: Repeats) -> list[TrialSpec]:
    """A training for each trial and seed that has none yet: the seeds that follow the trial's own."""
    params = {trial.number: trial.params for trial in evidence.trials}
    missing = []
    for number in repeats.first:
        own = config.with_params(params[number]).train.seed
        seeds = [own + 1 + k for k in range(repeats.num_seeds)]
        done = repeats.values.get(number, {})
        missing += [TrialSpec(number, {**params[number], "train.seed": seed}) for seed in seeds if seed not in done]
    return missing


def _train(
    config: StudyConfig, data: TrainingData, specs: Sequence[TrialSpec], run: RunConfig, stop: Stop
) -> dict[int, float | None]:
    """The value of each trial, None if it exploded."""
    pack = make_pack(config, data, specs, engine=run.engine, keeps_best=False)
    results: defaultdict[int, list[EpochResult]] = defaultdict(list)
    exploded: set[int] = set()
    patience, direction = config.train.patience, pack.metric.direction
    while not pack.done:
        stop.raise_if_requested()
        with stop.epoch():
            report = pack.run_epoch()
        exploded |= {explosion.number for explosion in report.explosions}
        for result in report.results:
            results[result.number].append(result)
        if patience is not None and not pack.done:
            curves = {number: [each.val_score for each in results[number]] for number in pack.numbers}
            pack.drop([number for number, values in curves.items() if stopped_early(values, patience, direction)])
    values: dict[int, float | None] = {}
    for spec in specs:
        found = None if spec.number in exploded else best_epoch(results[spec.number], direction).val_score
        values[spec.number] = found if found is not None and math.isfinite(found) else None
    return values


def _images(images: dict[ImagesKey, TrainingData], config: StudyConfig, run: RunConfig) -> TrainingData:
    key = images_key(config)
    if key not in images:
        images[key] = load_images(config, run)
    return images[key]


def _keep(db: Database, name: str, repeats: Repeats, new: Values) -> None:
    """Add to what the study has by now, which another process may have added to."""
    study = find_study(db, name)
    there = stage_record(study).repeats
    merged = repeats if there is None else repeats.with_values(there.values)
    write_attrs(db, study, {attributes.REPEATS: merged.with_values(new).as_dict()})


def _keep_weights(
    db: Database,
    evidence: StudyTrials,
    config: StudyConfig,
    run: RunConfig,
    images: dict[ImagesKey, TrainingData],
) -> None:
    """Those of the winner, where others are kept: the file that it has, or one of a training with its own seed."""
    order = by_mean(evidence.record.repeats, evidence.direction)
    kept = evidence.record.weights
    if not order or run.keep == "none" or kept is None or kept.number == order[0].number:
        return
    winner = next(trial for trial in evidence.trials if trial.number == order[0].number)
    record = trial_record(winner)
    if record.weights is not None:
        new = KeptWeights(record.weights, winner.number, winner.value or 0.0, record.best_epoch, record.measures)
    else:
        own = config.with_params(winner.params)
        data = _images(images, own, run)
        training = retrain(own, data, own.train.seed, engine=run.engine)
        if training.state is None or training.best is None:
            return
        best = EpochResult.of_plain({**training.best.as_plain(), "number": winner.number})
        written = write_kept(Path(run.artifact_dir), training.state, own, data, best, training.updates)
        if written is None:
            return
        new = KeptWeights(written.path, winner.number, best.val_score, best.epoch, written.measures)
    announce_portrait(db, evidence.study, new, replaces=run.keep == "best", chosen=True)
