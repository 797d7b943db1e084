"""All checks of a config, kept as a study, so that a coarse search can take its learning rates from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import override

from hpsearch.analysis import attributes
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.trial_records import TrialRecord
from hpsearch.config import FloatRange, StageConfig, StudyConfig
from hpsearch.config.identity import identified
from hpsearch.config.net_names import has_given_weights, is_library_net
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import StudyNotFoundError
from hpsearch.results import EXPLODED_VALUE
from hpsearch.search.checks.advice import activation_advice
from hpsearch.search.checks.body_rate import BODY_SECONDS, body_finding, few_images, has_body_rate
from hpsearch.search.checks.findings import CheckReport, Finding
from hpsearch.search.checks.findings import Outcome as FindingOutcome
from hpsearch.search.checks.gate import quick_checks
from hpsearch.search.checks.gates import NUM_SAMPLE, check_initial_cost, checked_config
from hpsearch.search.checks.learning_rate import LOOKS, RATES, STEPS, RateTrial, rate_finding, try_rates
from hpsearch.search.checks.overfit import CHECK_SECONDS
from hpsearch.search.checks.transfer import transfer_findings
from hpsearch.stages.opening import find_stage, stage_attributes
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import (
    STRUCTURE,
    Database,
    Lease,
    NewTrial,
    Outcome,
    Queue,
    StudyExistsError,
    StudyRow,
    count_states,
    create_stage,
    new_worker_id,
)
from hpsearch.storage.creation import check_name
from hpsearch.training import structure_key
from hpsearch.training.activations import Activations, compare_inits

KIND: Literal["check"] = "check"
SPACE = {"lr": FloatRange(RATES[0], RATES[-1], log=True)}

NOTED_DEAD = 0.2  # share of a layer's units that are 0 for every image: said, though many deep nets learn with it
ACTIVATION_OUTCOMES: dict[str, FindingOutcome] = {
    "dead": "failed",
    "saturated": "failed",
    "collapsing": "note",
    "growing": "note",
    "dead units": "note",
}


@dataclass(frozen=True)
class CheckPlan(StagePlan):
    """The study of a check. What it finds does not depend on budgets and samplers, nor on [space], but for one thing:
    where that has train.body_lr, a net that has trained before is tried head first.
    """

    steps: int = STEPS
    """Of each learning rate."""

    @property
    def settings(self) -> StageConfig:
        """One trial per rate."""
        return StageConfig(trials=len(RATES), epochs=LOOKS, sampler="grid")

    @property
    def trial_config(self) -> StudyConfig:
        """The net, images and training of the coarse stage, which this check is for."""
        return self.config.for_stage("coarse")

    @override
    def identity(self, data_fingerprint: str) -> dict[str, Any]:
        plain = identified(self.trial_config.plain())
        sections = {section: plain[section] for section in ("data", "model", "train")}
        del sections["train"]["epochs"]
        apart = {"body_rate": True} if has_body_rate(self.config) else {}
        return {"stage": KIND, "images": data_fingerprint, "steps": self.steps, **apart, **sections}

    @override
    def provenance(self) -> dict[str, Any]:
        rates = [RATES[0], RATES[-1]]
        return {"from": None, "ranges": [{"param": "lr", "old": None, "new": rates, "reason": "a grid of all rates"}]}


@dataclass(frozen=True)
class Check:
    """What was found, and whether it is in the storage: a check that failed is not."""

    report: CheckReport
    study: StudyRow | None
    fresh: bool
    """Whether it was made now; else it was read."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        stored = self.study.name if self.study is not None else None
        return {"study": stored, "fresh": self.fresh, **self.report.as_dict()}


def plan_check(config: StudyConfig, name: str = KIND, steps: int = STEPS) -> CheckPlan:
    """The check of a config."""
    return CheckPlan(name, KIND, config, steps=steps)


def run_check(
    db: Database,
    plan: CheckPlan,
    data: TrainingData,
    *,
    engine: str = "auto",
    listener: Callable[[str], None] = lambda _check: None,
    images: Callable[[], TrainingData] | None = None,
) -> Check:
    """Make all checks and keep them, or read those that were kept under this name.

    A check that failed is not kept: mend the config and check again. `listener` hears what is being checked. Where
    `data` is features, `images` gives the images themselves; without, earlier stages of the net are not looked at.

    Raises:
        RefusedError: a study of that name is something else, or the check of another config.
        ConfigError: the net does not fit the images, or the name is not allowed.
    """
    check_name(plan.name)
    try:
        study = find_stage(db, plan, data)
        if _is_finished(db, study):
            return Check(CheckReport.from_dict(stage_record(study).checks or {}), study, fresh=False)
    except StudyNotFoundError:
        pass
    config = checked_config(plan.trial_config)
    listener("images and initial loss")
    quick = quick_checks(config, data, seconds=CHECK_SECONDS, listener=listener)
    listener("activations")
    x_BCHW, _ = data.train_sample(NUM_SAMPLE)
    inits = compare_inits(data.trained_net(config.model)[0], config.train.seed, x_BCHW, data.num_classes)
    initial_loss = float(quick["initial loss"].measured["loss"])
    few, bodies = None, list[Finding]()
    if has_body_rate(config) and data.body is None:
        listener("features of the body")
        few = few_images(config, data)
    if few is not None:
        initial_loss = float(check_initial_cost(config, few.features)[0].measured["loss"])
    tried = data if few is None else few.features
    search = try_rates(config, tried, initial_loss, steps=plan.steps, engine=engine, listener=listener)
    if few is not None:
        bodies = [body_finding(config, few, search, seconds=BODY_SECONDS, engine=engine, listener=listener)]
    known = list[Finding]()
    if has_given_weights(dict(config.model)) and (data.body is None or images is not None):
        listener("neighbours on features")
        known = transfer_findings(config, data if data.body is None or images is None else images())
    rates = rate_finding(search, config, of_head=tried.body is not None)
    report = CheckReport((*quick.findings, activation_finding(inits, config), rates, *bodies, *known))
    return Check(report, _store(db, plan, data, report, search.trials) if report.ok else None, fresh=True)


def activation_finding(inits: Sequence[Activations], config: StudyConfig) -> Finding:
    """The verdict of the config's own initialization; `inits` has it first."""
    chosen = inits[0]
    stds = [layer.std for layer in chosen.layers]
    worst = max(chosen.layers, key=lambda layer: layer.dead, default=None)
    noted = worst if worst is not None and worst.dead >= NOTED_DEAD else None
    text = f"activations of {chosen.init} {chosen.verdict}"
    if noted is not None and chosen.verdict == "healthy":  # one verdict, not two that contradict each other
        text += f" but for dead units ({noted.dead:.0%} of {noted.layer} are 0 for every image)"
    if stds:
        text += f", std {stds[0]:.2g}" + (f" to {stds[-1]:.2g} in {len(stds)} layers" if len(stds) > 1 else "")
        if noted is not None and chosen.verdict != "healthy":
            text += f", {noted.dead:.0%} of the units of {noted.layer} are 0 for every image"
    measured = {"inits": [each.as_dict() for each in inits]}
    outcome = ACTIVATION_OUTCOMES.get(chosen.verdict, "ok")
    if is_library_net(config.model.name) and outcome == "failed":
        outcome = "note"  # its layers have trained before, or are known to train
    return Finding("activations", outcome, text, activation_advice(chosen.verdict, config), measured)


def _is_finished(db: Database, study: StudyRow) -> bool:
    counts = count_states(db, study)
    return not (counts["WAITING"] or counts["RUNNING"])


def _store(
    db: Database, plan: CheckPlan, data: TrainingData, report: CheckReport, trials: Sequence[RateTrial]
) -> StudyRow:
    """A study with one trial per rate. It is written after the training, so its trials never wait for long."""
    structure = {STRUCTURE: structure_key(plan.trial_config, {})}
    attrs = {**stage_attributes(plan, data), attributes.CHECKS: report.as_dict()}
    try:
        new = [NewTrial({"lr": trial.lr}, structure) for trial in trials]
        study = create_stage(db, plan.name, "maximize", attrs, SPACE, new)
    except StudyExistsError:  # another process was faster, or one died here
        study = find_stage(db, plan, data)
    queue = Queue(db, study, new_worker_id())
    queue.release_dead()
    leases = queue.take(len(trials))
    held = [(lease, trials[lease.number]) for lease in leases]
    looks = max((len(trial.looks) for _, trial in held), default=0)
    for index in range(looks):  # a write is of one epoch of the pack
        queue.record([(lease, trial.looks[index]) for lease, trial in held if index < len(trial.looks)])
    queue.finish([_outcome(lease, trial) for lease, trial in held])
    return study


def _outcome(lease: Lease, trial: RateTrial) -> Outcome:
    if (explosion := trial.explosion) is not None:
        attrs = TrialRecord.of_explosion(explosion).as_attributes()
        return Outcome(lease, "PRUNED", EXPLODED_VALUE, attrs, last=(explosion.epoch, EXPLODED_VALUE))
    best = trial.best
    assert best is not None, "a rate that did not explode was looked at"
    ending = TrialRecord(best_epoch=best.epoch, last_value=trial.looks[-1].val_acc)
    return Outcome(lease, "COMPLETE", best.val_acc, ending.as_attributes())
