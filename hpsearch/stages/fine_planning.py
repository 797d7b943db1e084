"""From the trials of a study to the plan of the fine stage after it: which ranges, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from hpsearch.analysis.advice import NEARLY
from hpsearch.analysis.called_limits import called_limits, replaced_ranges, with_whole_choices
from hpsearch.analysis.limits import limits_of
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.records import StageRecord
from hpsearch.analysis.stage_names import fine_name
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.together import Together
from hpsearch.config import (
    Range,
    Settings,
    StudyConfig,
    canonical_name,
)
from hpsearch.config.conditions import conditions_of
from hpsearch.config.study import validate
from hpsearch.config.usage import unused_ranges
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.space import Narrowing, narrow
from hpsearch.stages.code_changes import changed_code
from hpsearch.stages.continued import Continued, choose_continued, with_precision_of
from hpsearch.stages.earlier_trials import MOST_OF_GP, SEARCHES
from hpsearch.stages.enqueued import refuse_other_values
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.planning import under_condition
from hpsearch.stages.sampler_choice import (
    AUTO,
    SamplerChoice,
    choose_fine_sampler,
    partial_params,
    seconds_at_rungs,
    seconds_of_call,
    seconds_per_trial,
    too_many_values,
)
from hpsearch.stages.unexplained import MOST as MOST_UNEXPLAINED
from hpsearch.stages.unexplained import compared_trials, explain
from hpsearch.storage import Database, TrialRow
from hpsearch.wording import count_text


def plan_fine(
    evidence: StudyTrials,
    settings: Settings,
    name: str | None = None,
    *,
    strict: bool = True,
    db: Database | None = None,
) -> StagePlan:
    """The fine stage after a study: its ranges narrowed to where its trials did well.

    Before a Gaussian process that knows each of these trials, no range becomes narrower but where trials explode: it
    keeps away from what is bad by itself, and a range that stays leaves out no trial that it can learn from. Unless it
    explains too little of them, see `stages.unexplained`: then it finds more in narrower ranges.

    Args:
        evidence: the study to narrow, made by whatever program.
        settings: data, model and training of the new stage; ranges given with --space win over narrowed ones.
        name: of the new stage; `fine`, `fine-2`, ... where not given.
        strict: refuse parameters that hpsearch cannot train with; False only to show the plan.
        db: where the study is: a refusal names the command to go on with.

    A parameter that nothing in the new stage uses is left out, with a note: its trials say nothing of it.

    Raises:
        RefusedError: no trial finished, or nothing was searched, so there is nothing to narrow by.
        ConfigError: a parameter of the study is no hyperparameter of hpsearch, or nothing is left to search.
    """
    if not evidence.record.is_training and not any(
        observation.value is not None for observation in evidence.observations
    ):
        raise _nothing_finished(evidence, db)
    plan = _narrowed_plan(evidence, settings, name, strict)
    chosen = _chosen_sampler(evidence, plan) if plan.settings.sampler == AUTO else None
    sampler = plan.settings.sampler if chosen is None else chosen.sampler
    notes = _drawn_notes(evidence, plan, sampler)
    kept = evidence.record.together  # trials that all lie along a line do not show it again, and do not deny it
    together = kept.among(plan.space) if kept is not None else None
    if sampler == "gp" and _is_told_all(evidence, plan):
        explained = explain(evidence.ranges, evidence.observations, evidence.direction)
        if explained.left <= MOST_UNEXPLAINED:
            plan = _narrowed_plan(evidence, settings, name, strict, stays_as=_why_it_stays(plan, chosen))
        else:
            plan = _with_reason(plan, _why_narrower(evidence, explained.left), settings.ranges_given)
        together = Together(explained.together, evidence.study.name).among(plan.space) or together
        if together is not None:
            notes = (f"{together}, so gp proposes along lines that no range follows", *notes)
    plan = replace(plan, together=together, notes=(*plan.notes, *notes))
    return plan if chosen is None else plan.with_sampler(chosen)


def _why_it_stays(plan: StagePlan, chosen: SamplerChoice | None) -> str:
    """With the budget for which gp was chosen: a preview knows no other one, and of fewer trials it may not be."""
    budget = count_text(plan.settings.trials, "trial")
    return "gp knows its trials" + (f"; gp is the choice for {budget}" if chosen is not None else "")


def _why_narrower(evidence: StudyTrials, left: float) -> str:
    explained = f"{1 - left / len(compared_trials(evidence.ranges, evidence.observations)):.0%}"
    return f"narrower, as gp explains no more than {explained} of how the trials differ"


def _with_reason(plan: StagePlan, reason: str, given: Collection[str]) -> StagePlan:
    """The same with one reason more for each range that changes, and is not given."""
    changes = [
        replace(change, reason=f"{change.reason}; {reason}")
        if change.new != change.old and change.param not in given
        else change
        for change in plan.changes
    ]
    return replace(plan, changes=tuple(changes))


def _drawn_notes(evidence: StudyTrials, plan: StagePlan, sampler: str) -> tuple[str, ...]:
    """Of a sampler that learns of what all trials ask for, and draws the rest."""
    partial = [name for name in plan.space if name in partial_params(evidence.observations)]
    if sampler not in ("gp", "cmaes") or not plan.defines or not partial:
        return ()
    names, verb = ", ".join(partial), "are" if len(partial) > 1 else "is"
    return (f"{names} {verb} drawn at random, as not all trials ask for it: {sampler} learns of the rest, tpe of all",)


def _narrowed_plan(
    evidence: StudyTrials, settings: Settings, name: str | None, strict: bool, stays_as: str = ""
) -> StagePlan:
    source = evidence.study.name
    if evidence.record.is_training:
        raise RefusedError(
            f"{source!r} was trained with given values, so it has no range to narrow.\n"
            "Search around these values first: ",
            Typed(("hpsearch", "coarse", "--from", source)),
        )
    objective = settings.study.objective
    own, defines = objective is not None, objective is not None and objective.defines
    if objective is not None and objective.direction != evidence.direction:
        raise ConfigError(
            f"objective.direction = {objective.direction!r} is not that of {source!r}.\nAllowed: {evidence.direction}."
        )
    limits = called_limits(evidence) if defines else limits_of(evidence.record, own=own)
    narrowed = narrow(evidence.ranges, evidence.observations, evidence.direction, limits, stays_as)
    whole_choices = with_whole_choices(evidence.record, defines=defines)
    changes = {change.param: change for change in map(whole_choices, narrowed)}
    for param in settings.ranges_removed:
        changes.pop(param, None)
    for param in sorted(settings.ranges_given):
        given = settings.study.space[param]
        changes[param] = Narrowing(param, evidence.ranges.get(param, given), given, "given with --space")
    if not changes:
        raise ConfigError(f"{source!r} has no parameter left to search.\nGive a range: --space 'lr=log(1e-6, 1e-3)'.")
    config, problem, unused = settings.study, None, {}
    searched = stored_space(evidence.record)
    try:
        space = {param: change.new for param, change in changes.items()}
        if not own:
            space = _named_as_hyperparameters(source, space)
        space = {
            param: under_condition(range_, searched.get(param)) if param not in settings.ranges_given else range_
            for param, range_ in space.items()
        }
        if objective is not None and defines:
            bounds = tuple(sorted(space.keys() - settings.ranges_given - replaced_ranges(evidence.record)))
            config = config.model_copy(update={"objective": objective.model_copy(update={"narrowed": bounds})})
        config = validate(StudyConfig, {**dict(config), "space": space})
        if unused := unused_ranges(config):
            changes = {param: change for param, change in changes.items() if canonical_name(param) not in unused}
            config = config.model_copy(update={"space": {n: r for n, r in config.space.items() if n not in unused}})
        refuse_other_values(config, "fine", conditions_of(config.for_stage("fine")))
        if not config.space:
            raise ConfigError(f"{source!r} has no parameter left to search: {'; '.join(map(str, unused.values()))}.")
    except ConfigError as error:
        if strict:
            raise
        problem = str(error)
    notes = tuple(f"{each}, so it is not searched on" for each in unused.values())
    if own:
        notes += tuple(
            f"{name} has changed since {source!r}, whose trials gave the ranges, was begun"
            for name in changed_code(evidence.study)
        )
    going_on: tuple[Continued, ...] = ()
    if problem is None and config.fine.continue_top:
        config = with_precision_of(evidence.record, config)
        going_on, said = choose_continued(evidence, config)
        notes += tuple(said)
    plan = StagePlan(name or fine_name(source), "fine", config, source, tuple(changes.values()), problem, notes)
    as_many = _seconds_of(evidence, plan, seconds_per_trial)
    return replace(plan, going_on=going_on, seconds_before=as_many and as_many * plan.settings.trials)


def _chosen_sampler(evidence: StudyTrials, plan: StagePlan) -> SamplerChoice:
    """That of a fine stage which leaves it to hpsearch."""
    seconds = _seconds_of(evidence, plan, seconds_per_trial if plan.config.objective is None else seconds_of_call)
    known = 0 if plan.config.fine.forget else min(len(evidence.observations), MOST_OF_GP)
    partial = partial_params(evidence.observations)
    return choose_fine_sampler(plan.space, plan.settings.trials, seconds, known, partial)


def _is_told_all(evidence: StudyTrials, plan: StagePlan) -> bool:
    """Whether the sampler of a fine stage learns from each trial that gave its ranges, by values as its own trials'."""
    record, own = evidence.record, plan.config.plain().get("objective")
    if own is None or record.kind not in SEARCHES or plan.config.fine.forget:
        return False
    if evidence.lacks_source:
        return False  # the ranges may be as wide as they are for trials that nobody knows any more
    if any(record.config_value("objective", key) != own.get(key) for key in ("function", "command")):
        return False
    epochs, halving = (record.config_value(record.kind, key) for key in ("epochs", "halving"))
    if (record.has_epochs and epochs != plan.settings.epochs) or halving not in (None, "none"):
        return False
    if len(evidence.observations) > MOST_OF_GP or partial_params(evidence.observations):
        return False
    if too_many_values(evidence.ranges) is not None:
        return False  # in narrower ranges it may have them all in memory
    if any(seen.outcome == "pruned" and seen.value is not None for seen in evidence.observations):
        return False  # of what a pruner ended it is told nothing
    return not any(range_.when for range_ in plan.space.values())


def _seconds_of(
    evidence: StudyTrials, plan: StagePlan, measure: Callable[[Sequence[TrialRow], float], float | None]
) -> float | None:
    """What a trial of a fine stage will take, by those that gave its ranges; None where they do not say it."""
    if not evidence.record.has_epochs:
        return measure(evidence.trials, 1.0)
    halving = evidence.record.config_value(str(evidence.record.kind), "halving")
    if measure is seconds_per_trial and halving not in (None, "none"):
        return seconds_at_rungs(evidence.trials, plan.settings.epochs)
    epochs = evidence.record.config_value(str(evidence.record.kind), "epochs")
    return measure(evidence.trials, plan.settings.epochs / epochs) if epochs else None


def stored_space(record: StageRecord) -> dict[str, Range]:
    """The ranges of a study of ours, with their conditions, which its trials do not say; of another one, none."""
    stored = record.config_value("space")
    if not isinstance(stored, Mapping):
        return {}
    objective = record.config_value("objective")
    own = {"objective": objective} if isinstance(objective, Mapping) else {}
    config: StudyConfig = validate(StudyConfig, {**own, "space": stored})
    return config.space


def _nothing_finished(evidence: StudyTrials, db: Database | None) -> RefusedError:
    """With the command that `hpsearch status` advises, where it is known in which database to look."""
    name, total = evidence.study.name, len(evidence.trials)
    words = advise(db, evidence).words if db is not None else None
    advised: list[str | Typed] = [": ", Typed(words)] if words is not None else ["."]
    if evidence.num_exploded and evidence.num_finished >= NEARLY * total:
        said = f"{name!r} has no finished trial to narrow by: {evidence.num_exploded} of {total} exploded.\n"
        if evidence.metric.is_own:
            return RefusedError(f"{said}Search other ranges, under another --name.")
        return RefusedError(f"{said}Search it again with lower learning rates, under another --name", *advised)
    said = f"{name!r} has no finished trial to narrow by ({evidence.num_finished} of {total} trials ended).\n"
    if words is None:
        return RefusedError(f"{said}Finish it first, with the command that started it.")
    if words[1] == "status":
        return RefusedError(f"{said}Workers are at it", *advised)
    how = "Look at why" if evidence.num_finished == total else "Finish it first"
    return RefusedError(f"{said}{how}", *advised)


def _named_as_hyperparameters(source: str, space: Mapping[str, Range]) -> dict[str, Range]:
    named: dict[str, Range] = {}
    for param, range_ in space.items():
        try:
            named[canonical_name(param)] = range_
        except ConfigError as error:
            raise ConfigError(
                f"{source!r} has a parameter {param!r} that hpsearch cannot train with; say what it is with "
                f"--rename {param}=NAME, or leave it out with --rename {param}=none.\n{str(error).splitlines()[-1]}"
            ) from None
    return named
