"""An ensemble of finished trials: the mean of what several nets say, measured beside the best of them.

All is measured on the validation images, by train.metric; on the test images where that is asked for, which counts as a
use of the test set.

Shape suffixes: T = nets, N = images, C = classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from hpsearch.analysis import attributes
from hpsearch.analysis.kept_ensembles import KeptMember
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.uses_of_test_images import TEST_IMAGES, TestImageUses, count_uses, family_of
from hpsearch.config import RunConfig
from hpsearch.config.metric import Metric
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.results import plain
from hpsearch.search.ensemble_answers import Answers, EnsembleListener, all_answers
from hpsearch.search.ensemble_choice import refuse_other_images, wanted_members
from hpsearch.search.ensemble_members import Member, Wanted, is_kept
from hpsearch.search.ensemble_selection import Array, averaged, greedy_weights
from hpsearch.search.final_result import wilson_interval
from hpsearch.search.paired_difference import Difference, log_probabilities, measured, paired_difference
from hpsearch.storage import Database, StudyRow, find_study, list_studies, write_attrs
from hpsearch.training.metrics import all_measures


@dataclass(frozen=True, eq=False)
class JudgedMember:
    """A net that was considered: its value alone, and its weight in the average, 0 for one that was not taken."""

    member: Member
    value: float
    weight: float

    def kept(self) -> KeptMember:
        """As it is kept with the study."""
        wanted = self.member.wanted
        return KeptMember(
            wanted.stored.study.name,
            wanted.stored.trial.number,
            wanted.seed,
            wanted.bagged,
            self.member.epoch,
            self.value,
            self.weight,
            self.member.path,
        )


@dataclass(frozen=True)
class Measured:
    """The ensemble and the best single net on the same images."""

    value: float
    """Of the ensemble, by the metric."""
    single: float
    difference: Difference
    measures: Mapping[str, float]
    """All that we measure, of the ensemble."""
    single_measures: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "value": self.value,
            "single": self.single,
            "difference": self.difference.as_dict(),
            "measures": dict(self.measures),
            "single_measures": dict(self.single_measures),
        }


@dataclass(frozen=True, eq=False)
class Ensemble:
    """An ensemble, and what it gains."""

    studies: tuple[str, ...]
    """The first one keeps it."""
    metric: Metric
    members: tuple[JudgedMember, ...]
    """All that were considered, the best single net first."""
    is_greedy: bool
    is_of_snapshots: bool
    """Whether those of each training are averaged; its best epoch, if it is none of them, is only compared with."""
    val: Measured
    test: Measured | None = None
    uses: TestImageUses = field(default_factory=TestImageUses)
    """Of these test images, this one included; none where it did not look at them."""
    exploded: tuple[Wanted, ...] = ()
    """Trainings that gave no net."""

    @property
    def chosen(self) -> list[JudgedMember]:
        """The members that are averaged."""
        return [member for member in self.members if member.weight > 0]

    @property
    def best(self) -> JudgedMember:
        """The best single net, on validation images."""
        return self.members[0]

    def as_dict(self) -> dict[str, Any]:
        """As JSON; `members` as they are kept."""
        return {
            "studies": list(self.studies),
            "metric": self.metric.name,
            "greedy": self.is_greedy,
            "snapshots": self.is_of_snapshots,
            "members": [member.kept().as_dict() for member in self.members],
            "validation": self.val.as_dict(),
            "test": self.test.as_dict() if self.test is not None else None,
            "uses": dict(self.uses.by_family),
            "images_use": self.uses.num,
            "exploded": [wanted.text for wanted in self.exploded],
        }


def make_ensemble(
    db: Database,
    run: RunConfig,
    studies: Sequence[str],
    *,
    top: int | None = None,
    number: int | None = None,
    num_seeds: int = 1,
    bagged: bool = False,
    snapshots: bool = False,
    greedy: bool = False,
    kept_only: bool = False,
    test: bool = False,
    listener: EnsembleListener | None = None,
) -> Ensemble:
    """Average the best trials of one or several stages, measure that, and keep it with the first one.

    Args:
        db: the storage; what is trained, the ensemble and a use of the test set are written to their studies.
        run: where and how to train and measure, and where weights are kept.
        studies: stages of ours with the same images, split and metric.
        top: the best trials of each study; None: 5 where there are so many, and 1 with several seeds or snapshots.
        number: this trial instead, of the one study.
        num_seeds: trainings of each of them, with its own seed and those that follow.
        bagged: each training has its own draw, with replacement, of the training images.
        snapshots: of each training its states at the ends of the cycles of its rate. They are compared with the best
            single state, which may be another one: that of a training's best epoch.
        greedy: weigh by forward selection with replacement on the validation images, instead of all alike; among
            snapshots and best epochs.
        kept_only: train nothing.
        test: measure on the test images, too.
        listener: hears of trainings and images.

    Raises:
        ConfigError: there are not so many trials, or it would be one net.
        RefusedError: no trial has finished; the studies' images differ; weights are missing and may not be trained.
        DataError: images cannot be read; there is no test split.
    """
    names, hears = tuple(dict.fromkeys(studies)), listener or EnsembleListener()
    if number is not None and (top is not None or len(names) > 1):
        other = "--top" if top is not None else f"several studies, {', '.join(names)}"
        raise ConfigError(f"--trial {number} is a trial of one study, and {other} names others.\nAllowed: one of both.")
    evidences = [read_study(db, name) for name in names]
    wanted = [
        each
        for evidence in evidences
        for each in wanted_members(
            evidence, run, top=top, number=number, num_seeds=num_seeds, bagged=bagged, snapshots=snapshots,
            kept_only=kept_only,
        )
    ]  # fmt: skip
    if len(wanted) < 2 and not snapshots:
        raise ConfigError(
            f"{wanted[0].text} is one net, and an ensemble has two or more.\n"
            "Allowed: --top 2 or more, --seeds 2 or more, --snapshots, or several studies."
        )
    refuse_other_images(wanted)
    missing = [each for each in wanted if not is_kept(each, run)]
    if missing and kept_only:
        what = "snapshots" if snapshots else "weights"
        raise RefusedError(
            f"the {what} of {missing[0].text} are not kept.\nAllowed: the same without --kept, which trains them."
        )
    if missing:
        hears.to_train(missing, len(wanted))
    answers = all_answers(db, run, wanted, test=test, hears=hears)
    result = _judged(names, evidences[0].metric, answers, greedy=greedy, snapshots=snapshots)
    if result.test is not None:
        result = _with_use(db, result, answers.test_images[0])
    kept = {**result.as_dict(), "time": _now()}
    write_attrs(db, find_study(db, names[0]), {attributes.ENSEMBLE: plain(kept)})
    return result


def _judged(names: tuple[str, ...], metric: Metric, answers: Answers, *, greedy: bool, snapshots: bool) -> Ensemble:
    """The ensemble of what nets said."""
    p_val, y_N = np.array(answers.p_val), answers.y_val
    values = [measured(metric, p_NC, y_N) if np.isfinite(p_NC).all() else math.nan for p_NC in p_val]
    numbers = [t for t, value in enumerate(values) if math.isfinite(value)]
    ranked = sorted(numbers, key=lambda t: -metric.goodness(values[t]))
    averaged_T = np.array([answers.members[t].is_averaged for t in ranked])
    if averaged_T.sum() < 2:
        raise RefusedError(
            f"{averaged_T.sum()} of {len(values) + len(answers.exploded)} nets gave a value: the others exploded, or "
            "give no numbers.\nAllowed: an ensemble of two or more."
        )
    counts_T = averaged_T.astype(np.int64)
    if greedy:
        counts_T = greedy_weights(p_val[ranked], y_N, lambda p_NC, y: metric.goodness(measured(metric, p_NC, y)))
    weights = (counts_T / counts_T.sum()).tolist()
    judged = [JudgedMember(answers.members[t], values[t], weight) for t, weight in zip(ranked, weights, strict=True)]
    test = None
    if answers.p_test:
        test = _measured(metric, np.array(answers.p_test)[ranked], counts_T, answers.y_test)
    return Ensemble(
        studies=names,
        metric=metric,
        members=tuple(judged),
        is_greedy=greedy,
        is_of_snapshots=snapshots,
        val=_measured(metric, p_val[ranked], counts_T, y_N),
        test=test,
        exploded=tuple(answers.exploded),
    )


def _measured(metric: Metric, p_TNC: Array, counts_T: Array, y_N: Array) -> Measured:
    """Of the average, and of the first net."""
    together_NC, single_NC, labels_N = averaged(p_TNC, counts_T), p_TNC[0], torch.from_numpy(y_N)
    return Measured(
        measured(metric, together_NC, y_N),
        measured(metric, single_NC, y_N),
        paired_difference(metric, together_NC, single_NC, y_N),
        all_measures(log_probabilities(together_NC), labels_N),
        all_measures(log_probabilities(single_NC), labels_N),
    )


def _with_use(db: Database, result: Ensemble, test_images: str) -> Ensemble:
    """Keep the use of the test set, as `final_test` does, once for all studies of a family; it says which use it is."""
    assert result.test is not None
    num_images = result.test.difference.num_images
    accuracy = result.test.measures.get("accuracy")
    use = {
        "trial": f"ensemble of {len(result.chosen)}",
        "metric": result.metric.name,
        "value": result.val.value,
        "score": result.test.value,
        "single": result.test.single,
        "measures": dict(result.test.measures),
        "val_acc": result.val.measures.get("accuracy"),
        "mean": accuracy,
        "interval": list(wilson_interval(accuracy, num_images)) if accuracy is not None else None,
        "num_test": num_images,
        "time": _now(),
        TEST_IMAGES: test_images,
    }
    studies = list_studies(db)
    keeping: dict[str, StudyRow] = {}
    for study in (find_study(db, name) for name in result.studies):
        keeping.setdefault(family_of(study, studies)[0].name, study)
    uses = count_uses([*keeping.values()], studies, test_images).with_next
    for study in keeping.values():
        write_attrs(db, study, {attributes.TESTS: [*stage_record(study).tests, plain(use)]})
    return replace(result, uses=uses)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
