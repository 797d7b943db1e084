"""What a stage is before anything is written: its name, its config, its ranges and where they came from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from hpsearch.analysis import attributes
from hpsearch.analysis.records import Fitted, StageKind
from hpsearch.analysis.together import Together
from hpsearch.config import (
    Range,
    StageConfig,
    StudyConfig,
    dump_range,
    fingerprint,
)
from hpsearch.config.conditions import Conditions, conditions_of
from hpsearch.config.identity import identified
from hpsearch.space import Narrowing
from hpsearch.stages.continued import Continued
from hpsearch.stages.drawn import drawn_params, num_trials
from hpsearch.stages.enqueued import completed, named_values
from hpsearch.stages.halving import Halving
from hpsearch.stages.sampler_choice import SamplerChoice

AFTERWARDS = ("repeat_best", "repeat_seeds")  # keys of a stage that say what is done when its trials have ended


@dataclass(frozen=True)
class StagePlan:
    """One Optuna study to be: a fixed space, a budget, a provenance."""

    grows: ClassVar[bool] = False
    """Whether trials may join those that the study has already: the budget is no part of its identity then."""

    name: str
    kind: StageKind
    config: StudyConfig
    source: str | None = None
    """The study whose trials gave the ranges."""
    changes: tuple[Narrowing, ...] = ()
    problem: str | None = None
    """Why this plan can be shown but not run."""
    notes: tuple[str, ...] = ()
    """What became of parameters that are not searched on: a sentence for each."""
    fitted: Fitted | None = None
    """What was asked for, where the stage has fewer trials or epochs to fit a time."""
    going_on: tuple[Continued, ...] = ()
    """Trials of the source that were chosen to go on here."""
    chosen: SamplerChoice | None = None
    """The sampler, where it was left to hpsearch; the settings have it."""
    together: Together | None = None
    """What counts together by the trials of the source, or of a stage before it, where a Gaussian process looked."""
    seconds_before: float | None = None
    """What as many trials took in the stage whose trials gave the ranges, where these say it."""

    @property
    def settings(self) -> StageConfig:
        """Trials, epochs, sampler."""
        return self.config.stage(self.kind)

    @property
    def trial_config(self) -> StudyConfig:
        """The config of a trial before its own hyperparameters are set."""
        return self.config.for_stage(self.kind)

    @property
    def space(self) -> dict[str, Range]:
        """The range of each hyperparameter that a trial has of its own."""
        return self.config.space

    @cached_property
    def conditions(self) -> Conditions:
        """Under which hyperparameters are searched."""
        return conditions_of(self.trial_config)

    @property
    def num_trials(self) -> int:
        """Trials that the stage will have: the budget, or the points of the grid that fits into it."""
        first = len(self.enqueued) + len(self.continued)
        if first == self.settings.trials or self.defines or self.settings.sampler != "grid":
            return self.settings.trials
        return first + num_trials(self.config.space, self._without(first), self.conditions)

    @property
    def num_whole_trials(self) -> int:
        """Trials that took as many epochs as the stage, if each went through all of them: rungs and budgets end some.

        What is stopped by a pruner, explodes or gets no better counts as whole: nobody knows how many these are.
        """
        if not self.settings.has_rungs:
            return self.num_trials
        return math.ceil(Halving.of(self.settings).expected_epochs(self.num_trials) / self.settings.epochs)

    @property
    def defines(self) -> bool:
        """Whether trials say themselves, as they run, what they want values of."""
        return self.config.objective is not None and self.config.objective.defines

    def _without(self, first: int) -> StageConfig:
        """The settings of what comes after the first trials; only a grid is another one then."""
        if self.settings.sampler != "grid" or not first:
            return self.settings
        return self.settings.model_copy(update={"trials": self.settings.trials - first, "enqueue": ()})

    @cached_property
    def enqueued(self) -> list[dict[str, Any]]:
        """What the first trials were given, by name."""
        return named_values(self.config, self.kind)[: self.settings.trials]  # a time may have cut them

    @cached_property
    def continued(self) -> tuple[Continued, ...]:
        """The trials of the source that go on here, after what is enqueued; fewer where a time cut trials or epochs."""
        longer = [each for each in self.going_on if each.origin.epoch < self.settings.epochs]
        return tuple(longer[: self.settings.trials - len(self.enqueued)])

    def drawn(self) -> list[dict[str, Any] | None]:
        """One entry per trial: its hyperparameters, or None where a sampler proposes them later."""
        if self.defines:
            return [None] * self.settings.trials
        enqueued = completed(self.config.space, self.enqueued, self.settings.seed, self.conditions)
        first = [*enqueued, *(dict(each.params) for each in self.continued)]
        if len(first) == self.settings.trials:
            return [*first]
        rest = drawn_params(self.config.space, self._without(len(first)), self.conditions)
        return [*first, *(rest if self.settings.sampler == "grid" else rest[len(first) :])]

    def own_attributes(self) -> dict[str, Any]:
        """What the study keeps beside that of every stage."""
        return {attributes.FITTED: self.fitted.as_dict()} if self.fitted is not None else {}

    def with_precision(self, precision: str) -> Self:
        """The same stage, trained in this precision."""
        train = self.config.train.model_copy(update={"precision": precision})
        return replace(self, config=self.config.model_copy(update={"train": train}))

    def identity(self, data_fingerprint: str) -> dict[str, Any]:
        """All that decides what this stage finds; two plans of one identity are the same search."""
        plain = identified(self.config.plain())
        if self.config.objective is not None:
            what = {section: plain[section] for section in ("objective", "space")}
        else:
            what = {
                "images": data_fingerprint,
                **{section: plain[section] for section in ("data", "model", "train", "space")},
            }
        return {
            "stage": self.kind,
            "from": self.source,
            **what,
            self.kind: {key: value for key, value in plain[self.kind].items() if key not in AFTERWARDS},
        }

    def fingerprint(self, data_fingerprint: str) -> str:
        """A hash of the identity."""
        return fingerprint(self.identity(data_fingerprint))

    def ranges(self) -> list[dict[str, Any]]:
        """Each range with the one it came from and why."""
        changed = {change.param: change.as_dict() for change in self.changes}
        if self.kind == "fine":
            return list(changed.values())
        return [
            changed.get(name, {"param": name, "old": None, "new": bounds(range_), "reason": "given"})
            for name, range_ in self.config.space.items()
        ]

    def provenance(self) -> dict[str, Any]:
        """Where each range came from, as stored with the study."""
        going_on = {"continued": [each.as_dict() for each in self.continued]} if self.continued else {}
        chosen = {"sampler": self.chosen.as_dict()} if self.chosen is not None else {}
        together = {"together": self.together.as_dict()} if self.together is not None else {}
        return {"from": self.source, "ranges": self.ranges(), **going_on, **chosen, **together}

    def with_sampler(self, chosen: SamplerChoice) -> Self:
        """The same stage with the sampler that was chosen for it."""
        return replace(self.with_given_sampler(chosen.sampler), chosen=chosen)

    def with_given_sampler(self, name: str) -> Self:
        """The same stage with a sampler that somebody gave: it was not chosen, so no reason is kept."""
        stage = self.settings.model_copy(update={"sampler": name})
        return replace(self, config=self.config.model_copy(update={self.kind: stage}), chosen=None)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON."""
        settings = self.settings
        return {
            "from": self.source,
            "study": self.name,
            "trials": settings.trials,
            "epochs": settings.epochs,
            "sampler": settings.sampler,
            "sampler_reason": self.chosen and self.chosen.reason,
            "pruner": settings.pruner,
            "halving": settings.halving,
            "epochs_budget": settings.epochs_budget,
            "epochs_expected": Halving.of(settings).expected_epochs(self.num_trials),
            "ranges": self.ranges(),
            "together": self.together and self.together.as_dict(),
            "continued": [each.as_dict() for each in self.continued],
            "fitted_from": self.fitted and self.fitted.as_dict(),
            "problem": self.problem,
        }


def bounds(range_: Range) -> list[Any]:
    """[low, high], or the values of a choice."""
    listed: list[Any] = next(iter(dump_range(range_).values()))
    return listed
