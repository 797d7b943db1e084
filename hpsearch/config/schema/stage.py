"""[coarse] and [fine]: how many trials, how long, who proposes them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hpsearch.config.fields import MAX_SEED, CameLater, Section
from hpsearch.errors import ConfigError

SAMPLERS = ("random", "qmc", "grid", "tpe", "gp", "cmaes")
LEARNING_SAMPLERS = ("tpe", "gp", "cmaes")  # from finished trials


class StageConfig(Section):
    """One stage: how many trials, how long, who proposes them."""

    TABLE: ClassVar[str] = "coarse"  # of a study file, for messages

    trials: int = Field(100, ge=1)
    """The budget, exact."""
    epochs: int = Field(5, ge=1)
    """Epochs of each trial. Where coarse has an epochs_budget, they are those of fine if not said."""
    sampler: Literal["random", "qmc", "grid", "tpe", "gp", "cmaes", "auto"] = "random"
    """Who proposes. random, qmc and grid are drawn from the seed before the first trial. auto, the
    default over an [objective], is tpe where trials are not of fewer epochs than in fine; else random, as over nets."""
    pruner: str = "none"
    """none, extrapolation, or an Optuna pruner at epoch ends: median, successive-halving, hyperband, patient, ..."""
    pruner_options: dict[str, Any] = Field(default_factory=dict)
    """Its arguments, as Optuna names them; of extrapolation, probability, min_epochs and n_startup_trials."""
    halving: Annotated[Literal["none", "stop", "promote"], CameLater] = "none"
    """Successive halving at epoch ends: stop ends what is not among the best 1/reduction, promote pauses it. Not said,
    it is promote where coarse has an epochs_budget."""
    reduction: Annotated[int, CameLater, Field(ge=2)] = 3
    """Of the trials at a rung, one in so many goes on; the next rung is after so many times the epochs."""
    min_epochs: Annotated[int, CameLater, Field(ge=1)] = 1
    """Epochs until the first rung."""
    epochs_budget: Annotated[int | None, CameLater, Field(ge=1)] = None
    """Epochs that all trials together train, exact; there are as many trials as fit then, whatever `trials` says."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Draws the hyperparameters."""
    repeat_best: Annotated[int, CameLater, Field(ge=0)] = 0
    """At its end, train so many of the best trials again, with other seeds: the best mean is the winner."""
    repeat_seeds: Annotated[int, CameLater, Field(ge=2, le=30)] = 3
    """Other seeds of each of those."""
    confirm: Annotated[int | None, CameLater, Field(ge=0, le=30)] = None
    """Over an [objective]: in the last 3 of 10 trials call the best one again, up to so many times, before another is
    tried. Not said, it is 1 in fine, 0 in coarse. Needs 10 trials and a sampler that learns."""
    enqueue: Annotated[tuple[dict[str, Any], ...], CameLater] = ()
    """Values to try first, of some hyperparameters or all, as [{ lr = 0.1 }]; each is one of the trials."""
    keep_top: Annotated[int, CameLater, Field(ge=0)] = 0
    """Of so many of the best trials keep the whole state on disk, for `fine --continue-top`."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of [data], [model] and [train] that differ in this stage: `{ "train.lr_decay" = 0.9 }`."""

    @property
    def has_rungs(self) -> bool:
        """Whether trials ask at epochs' ends whether they may go on."""
        return self.halving != "none" or self.epochs_budget is not None

    @model_validator(mode="after")
    def _has_as_many_trials_as_fit(self) -> StageConfig:
        """A trial takes an epoch at least, so no more than this ever begin. The rest is dropped at the end."""
        if self.epochs_budget is not None:
            if self.sampler == "grid":
                raise ConfigError(
                    f"{self.TABLE}.epochs_budget = {self.epochs_budget} ends before a grid's points are through.\n"
                    "Allowed: another sampler, or sampler = 'grid' with trials in place of epochs_budget."
                )
            if self.repeat_best:
                raise ConfigError(
                    f"{self.TABLE}.repeat_best = {self.repeat_best} trains more than epochs_budget"
                    f" = {self.epochs_budget}.\nAllowed: one of them."
                )
            object.__setattr__(self, "trials", self.epochs_budget)
        return self

    @model_validator(mode="after")
    def _is_judged_once(self) -> StageConfig:
        if self.halving == "none":
            return self
        if self.pruner != "none":
            raise ConfigError(
                f"{self.TABLE}.halving = {self.halving!r} and pruner = {self.pruner!r} both end trials at epochs'"
                " ends.\nAllowed: one of them, the other none."
            )
        if self.min_epochs >= self.epochs:
            fewer = f"min_epochs below {self.epochs}, or " if self.epochs > 1 else ""
            raise ConfigError(
                f"{self.TABLE}.min_epochs = {self.min_epochs} leaves no rung before the end, at epochs ="
                f" {self.epochs}.\nAllowed: {fewer}more epochs, or halving = 'none'."
            )
        return self

    @model_validator(mode="after")
    def _is_in_budget(self) -> StageConfig:
        if len(self.enqueue) > self.trials:
            key, more = ("trials", "trials") if self.epochs_budget is None else ("epochs_budget", "epochs")
            raise ConfigError(
                f"{self.TABLE}.enqueue has values for {len(self.enqueue)} trials, and the budget is {key} ="
                f" {self.trials}.\nAllowed: at most {self.trials}, or more {more}."
            )
        return self

    @field_validator("set", mode="before")
    @classmethod
    def _flatten(cls, given: Any) -> Any:
        """TOML reads `train.lr_decay = 0.9` under [fine.set] as a table in a table."""
        if not isinstance(given, dict):
            return given
        flat: dict[str, Any] = {}
        for key, value in given.items():
            nested = isinstance(value, dict) and "." not in key
            flat.update({f"{key}.{inner}": item for inner, item in value.items()} if nested else {key: value})
        return flat


class FineConfig(StageConfig):
    """The fine stage: fewer trials, trained longer, proposed by a sampler that learns from them."""

    TABLE: ClassVar[str] = "fine"

    trials: int = Field(50, ge=1)
    """The budget, exact."""
    epochs: int = Field(20, ge=1)
    """Epochs of each trial."""
    sampler: Literal["random", "qmc", "grid", "tpe", "gp", "cmaes", "auto"] = "tpe"
    """Who proposes. auto, the default over an [objective] and after a coarse stage with halving, is gp where the trials
    take longer than its proposals, else tpe."""
    forget: Annotated[bool, CameLater] = False
    """Whether tpe, gp and cmaes begin without the trials of the stages before."""
    continue_top: Annotated[int, CameLater, Field(ge=0)] = 0
    """So many of the best trials of the stage before go on from their kept states; each is one of the trials."""

    @model_validator(mode="after")
    def _has_room_for_those_that_go_on(self) -> FineConfig:
        if len(self.enqueue) + self.continue_top > self.trials:
            raise ConfigError(
                f"fine.continue_top = {self.continue_top} does not fit into the budget: trials = {self.trials},"
                f" {len(self.enqueue)} of them enqueued.\n"
                f"Allowed: at most {self.trials - len(self.enqueue)}, or more trials."
            )
        return self
