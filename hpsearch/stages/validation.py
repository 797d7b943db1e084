"""What can be known to be wrong with a stage before anything is written."""

from __future__ import annotations

from typing import Any

from hpsearch.config import Choice, StudyConfig, is_vector
from hpsearch.config.losses import CROSS_ENTROPY
from hpsearch.config.metric import metric_of
from hpsearch.config.net_names import has_given_weights
from hpsearch.config.schema.stage import FineConfig
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.own_augmentation import refuse_unfit
from hpsearch.errors import ConfigError
from hpsearch.models import build, build_initialized
from hpsearch.space.scale import num_values
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.pruners import make_pruner
from hpsearch.stages.repeat_plan import RepeatPlan
from hpsearch.stages.sampler_choice import MOST_VALUES_OF_GP, too_many_values
from hpsearch.stages.suggestions import refuse_samplers_in_advance
from hpsearch.training.metric_limits import refuse_undefined
from hpsearch.training.teacher import refuse_missing, taught

MAX_GP_TRIALS = 500  # a Gaussian process proposal takes 15 s at 1,000 trials


def validate_plan(plan: StagePlan, data: TrainingData) -> None:
    """Build each net once, and the pruner, if there is one; ask a metric of the user's for its value of a guess,
    and try augmentations of the user's.

    Raises:
        ConfigError: a net does not fit the images, the user's code fails, the pruner does not exist, the sampler cannot
            take the budget, the metric says nothing about these images, the teacher is not of them.
        RefusedError: the plan names code of the user's that is not trusted.
    """
    refuse_untrusted(names_in(plan.config.plain()))
    validate_proposals(plan)
    config = plan.trial_config
    refuse_missing(config.train.teacher is not None, _largest_share(plan))
    taught(config, data.folds[0])
    refuse_undefined(config, metric_of(config.train.metric), data)
    structural = {name: range_ for name, range_ in plan.config.space.items() if not is_vector(name)}
    variants: list[dict[str, Any]] = [{}]
    variants += [{name: value} for name, r in structural.items() if isinstance(r, Choice) for value in r.values]
    for params in variants:
        varied = config.with_params(params)
        make = build_initialized if has_given_weights(dict(varied.model)) else build
        make(varied.model, data.shape, data.num_classes, varied.train.seed)
        refuse_unfit(varied.data.augment, data.shape, data.num_classes, data.x_val_NCHW, one_class(varied))


def one_class(config: StudyConfig) -> str | None:
    """The key that goes by one class for each image, as `train.loss = 'hinge'`; None where none does."""
    if config.train.loss != CROSS_ENTROPY:
        return f"train.loss = {config.train.loss!r}"
    if config.train.step is not None:
        return f"train.step = {config.train.step!r}"
    return "train.teacher" if config.train.teacher is not None else None


def _largest_share(plan: StagePlan) -> float:
    """That a trial may learn from a teacher."""
    range_ = plan.config.space.get("train.distill")
    if range_ is None:
        return plan.trial_config.train.distill
    return float(max(range_.values) if isinstance(range_, Choice) else range_.high)


def validate_proposals(plan: StagePlan) -> None:
    """Whether there are such a sampler and pruner, and they can do what is asked for.

    Raises:
        ConfigError: not so.
    """
    if plan.defines and plan.config.objective is not None:
        refuse_samplers_in_advance(f"{plan.kind}.sampler", plan.settings.sampler, plan.config.objective.name)
    if plan.settings.pruner != "none":  # or Optuna would be imported for nothing
        make_pruner(plan.settings)
    _validate_rungs(plan)
    if plan.settings.sampler == "gp" and plan.settings.trials > MAX_GP_TRIALS:
        key = "trials" if plan.settings.epochs_budget is None else "epochs_budget"  # of which a trial may take but one
        raise ConfigError(
            f"{plan.kind}.{key} = {plan.settings.trials} is too many for the sampler gp (15 s a proposal at 1,000 "
            f"trials).\nAllowed: up to {MAX_GP_TRIALS}, or another sampler."
        )
    if plan.settings.sampler == "gp" and (name := too_many_values(plan.space)) is not None:
        raise ConfigError(
            f"space.{name} has {num_values(plan.space[name]):,} values, and the sampler gp has them all in memory.\n"
            f"Allowed: up to {MOST_VALUES_OF_GP:,}, or another sampler."
        )


def _validate_rungs(plan: StagePlan) -> None:
    settings, own = plan.settings, plan.config.objective
    if settings.has_rungs and isinstance(plan, RepeatPlan):
        budget = settings.epochs_budget
        key = f"halving = {settings.halving!r}" if budget is None else f"epochs_budget = {budget}"
        raise ConfigError(
            f"coarse.{key}: a comparison gives every sampler the same trials, with all their epochs.\n"
            "Allowed: coarse.halving = 'none', and coarse.trials in place of epochs_budget."
        )
    if settings.has_rungs and isinstance(settings, FineConfig) and settings.continue_top:
        raise ConfigError(
            f"{plan.kind}.continue_top = {settings.continue_top} begins with epochs of another stage, "
            "which are not counted here.\nAllowed: continue_top = 0, or halving = 'none' without epochs_budget."
        )
    if own is not None and settings.halving == "promote":
        raise ConfigError(
            f"{plan.kind}.halving = 'promote' goes on from our own checkpoints, and {own.name} keeps its own.\n"
            "Allowed: stop, which ends a trial through the answer to its report; or none."
        )
    if own is not None and settings.epochs_budget is not None:
        raise ConfigError(
            f"{plan.kind}.epochs_budget = {settings.epochs_budget} counts epochs that we train, and not those of "
            f"{own.name}.\nAllowed: trials, which are counted exactly."
        )
