"""A search that is one of many compared: one sampler's, in one repeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from typing_extensions import override

from hpsearch.analysis import attributes
from hpsearch.analysis.records import ComparedSearch
from hpsearch.config import StageConfig, StudyConfig
from hpsearch.config.identity import identified
from hpsearch.space.shifted_grid import draw_shifted_grid
from hpsearch.stages.enqueued import completed, named_values
from hpsearch.stages.plan import StagePlan

KIND: Literal["compare"] = "compare"


@dataclass(frozen=True)
class RepeatPlan(StagePlan):
    """One sampler's search in one repeat: a stage with the settings of [coarse]."""

    comparison: str = KIND
    repeat: int = 0
    num_repeats: int = 1
    num_asked: int = 1

    @property
    def settings(self) -> StageConfig:
        """Trials, epochs, sampler."""
        return self.config.coarse

    @property
    def trial_config(self) -> StudyConfig:
        """The config of a trial before its own hyperparameters are set."""
        return self.config.for_stage("coarse")

    @classmethod
    def stored(cls, name: str, config: StudyConfig, kept: ComparedSearch) -> Self:
        """The plan of a search in the storage, from what it keeps of its comparison."""
        return cls(
            name,
            KIND,
            config,
            comparison=kept.name,
            repeat=kept.repeat,
            num_repeats=kept.repeats,
            num_asked=kept.trials_asked,
        )

    @property
    def sampler(self) -> str:
        """Who proposes."""
        return self.settings.sampler

    def identity(self, data_fingerprint: str) -> dict[str, Any]:
        """All that decides what this search finds."""
        plain = identified(self.config.plain())
        if self.config.objective is not None:
            return {"stage": KIND, "from": None, **{name: plain[name] for name in ("objective", "space", "coarse")}}
        sections = {section: plain[section] for section in ("data", "model", "train", "space", "coarse")}
        return {"stage": KIND, "from": None, "images": data_fingerprint, **sections}

    @cached_property
    def enqueued(self) -> list[dict[str, Any]]:
        """See StagePlan: those of [coarse], in each search."""
        return named_values(self.config, "coarse")[: self.settings.trials]

    def drawn(self) -> list[dict[str, Any] | None]:
        """See StagePlan; the grid is moved by this repeat's offset."""
        if self.sampler != "grid":
            return super().drawn()
        first = completed(self.config.space, self.enqueued, self.settings.seed, self.conditions)
        if len(first) == self.settings.trials:
            return list(first)
        num_points = self.settings.trials - len(first)
        return [*first, *draw_shifted_grid(self.config.space, num_points, self.settings.seed, self.conditions)]

    @override
    def own_attributes(self) -> dict[str, Any]:
        kept = ComparedSearch(self.comparison, self.sampler, self.repeat, self.num_repeats, self.num_asked)
        return {attributes.COMPARISON: kept.as_dict()}
