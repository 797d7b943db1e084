"""A training with given values as a stage: one trial, or several that differ by their seed alone.

The seed is a hyperparameter of the structural kind (`train.seed`), so each seed is trained in a pack of its own: all
trials of a pack start from the same weights and see the same minibatches and noise, and seeds differ in all three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from typing_extensions import override

from hpsearch.analysis import attributes
from hpsearch.config import IntRange, Range, StageConfig, StudyConfig
from hpsearch.config.identity import identified
from hpsearch.stages.plan import StagePlan

SEED = "train.seed"


@dataclass(frozen=True)
class TrainingPlan(StagePlan):
    """The study of a training. Its config searches nothing; ranges of the study file are kept for what comes after."""

    grows: ClassVar[bool] = True

    num_seeds: int = 1
    unused: dict[str, Range] = field(default_factory=dict)
    """Ranges of the study file."""

    @property
    def seeds(self) -> range:
        """Of the runs, by number of the trial."""
        first = self.config.train.seed
        return range(first, first + self.num_seeds)

    @property
    @override
    def space(self) -> dict[str, Range]:
        return {SEED: IntRange(self.seeds[0], self.seeds[-1])}

    @property
    def settings(self) -> StageConfig:
        """A trial per seed, for the epochs of [train]."""
        return StageConfig(trials=self.num_seeds, epochs=self.config.train.epochs)

    @property
    def trial_config(self) -> StudyConfig:
        """Of the first seed."""
        return self.config

    @override
    def drawn(self) -> list[dict[str, Any] | None]:
        return [{SEED: seed} for seed in self.seeds]

    @override
    def own_attributes(self) -> dict[str, Any]:
        return {attributes.CONFIG: self.config.model_copy(update={"space": self.unused}).plain()}

    def identity(self, data_fingerprint: str) -> dict[str, Any]:
        """All that decides what the run of each seed gives; how many seeds there are does not."""
        plain = identified(self.config.plain())
        sections = {section: plain[section] for section in ("data", "model", "train")}
        return {"stage": self.kind, "from": None, "images": data_fingerprint, **sections}

    @override
    def ranges(self) -> list[dict[str, Any]]:
        ends = [self.seeds[0], self.seeds[-1]]
        return [{"param": SEED, "old": None, "new": ends, "reason": "each seed once, all else as given"}]


def plan_training(config: StudyConfig, name: str = attributes.TRAIN, num_seeds: int = 1) -> TrainingPlan:
    """The training of [train] and [model] with train.seed and those that follow it.

    Args:
        config: whose ranges are not used.
        name: of the study.
        num_seeds: at least 1.
    """
    fixed = config.model_copy(update={"space": {}})
    return TrainingPlan(name, attributes.TRAIN, fixed, num_seeds=num_seeds, unused=dict(config.space))
