"""`StudyConfig`: the whole of a study file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_serializer, field_validator, model_validator

from hpsearch.config.augmentations import AUGMENT, KINDS, strength_of, with_strengths
from hpsearch.config.beginnings import begun
from hpsearch.config.cheap_trials import after_rungs, with_rungs
from hpsearch.config.default_ranges import default_space
from hpsearch.config.fields import CameLater, Options, Positive, Section
from hpsearch.config.hyperparameters import OPTIONS, SEARCHABLE, name_in, option_of, resolve_path
from hpsearch.config.library_recipes import filled_in
from hpsearch.config.messages import describe, true_for_a_number
from hpsearch.config.net_names import has_given_weights, trains_given_body
from hpsearch.config.ranges import Choice, FloatRange, IntRange, Range, dump_range, parse_range, thaw
from hpsearch.config.schema import (
    DataConfig,
    FineConfig,
    ModelConfig,
    ObjectiveConfig,
    StageConfig,
    TrainConfig,
)
from hpsearch.config.schema.model import renamed
from hpsearch.config.schema.objective import refuse_beside, refuse_other_names
from hpsearch.errors import ConfigError


def _default_space(given: Mapping[str, Any]) -> dict[str, Range]:
    """The ranges that fit the sections that are validated already; without them, whatever is wrong there is told."""
    if given.get("objective") is not None:  # nobody knows what it takes
        return {}
    model, train = given.get("model", ModelConfig()), given.get("train", TrainConfig())
    plain = dict(model)
    pretrained, trains_body = has_given_weights(plain), trains_given_body(plain)
    return default_space(model.name, train.optimizer, pretrained=pretrained, trains_body=trains_body)


class StudyConfig(Section):
    """Everything that decides what a search finds; where and how it runs is `RunConfig`."""

    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    objective: ObjectiveConfig | None = None
    """What a trial is in place of these three, where it is not ours: parameters have names of its own then."""
    space: dict[str, Range] = Field(default_factory=lambda given: _default_space(given))
    coarse: StageConfig = Field(default_factory=StageConfig)
    fine: FineConfig = Field(default_factory=FineConfig)

    @model_validator(mode="before")
    @classmethod
    def _as_pretrained(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("objective") is not None:
            refuse_beside(given, SEARCHABLE)
            return given
        return filled_in(begun(given))

    @field_validator("space", mode="before")
    @classmethod
    def _parse_space(cls, space: Any, info: ValidationInfo) -> dict[str, Range]:
        if not isinstance(space, Mapping):
            raise ConfigError(f"space takes a table of ranges, but got {space!r}.")
        parsed: dict[str, Range] = {}
        # An [objective] that is wrong is not here, and is what is to be told.
        named = info.data if "objective" in info.data else {"objective": "wrong"}
        for name, value in space.items():
            canonical = name_in(named, name)
            if canonical in parsed:
                raise ConfigError(f"space.{name}: {canonical} has a range already.")
            range_ = parse_range(name, value)
            try:
                when = tuple((name_in(named, key), values) for key, values in range_.when)
            except ConfigError as error:
                raise ConfigError(f"the condition of space.{name}: {error}") from None
            parsed[canonical] = replace(range_, when=when) if when else range_
        return parsed

    @field_serializer("space")
    def _dump_space(self, space: dict[str, Range]) -> dict[str, Any]:
        return {name: dump_range(range_) for name, range_ in space.items()}

    @model_validator(mode="after")
    def _placeholders_are_there(self) -> StudyConfig:
        if self.objective is not None:
            refuse_other_names(self.objective, self.space)
        return self

    @model_validator(mode="after")
    def _stage_settings_fit_their_keys(self) -> StudyConfig:
        for stage in ("coarse", "fine"):
            self.for_stage(stage)
        return self

    @model_validator(mode="after")
    def _ranges_fit_their_keys(self) -> StudyConfig:
        if self.objective is not None:
            return self
        for name, range_ in self.space.items():
            ends = range_.values if isinstance(range_, Choice) else (range_.low, range_.high)
            used = [(name, end) for end in ends]
            used += [(key, value) for key, values in range_.when for value in values]
            for key, value in used:
                try:
                    self.with_params({key: value})
                except ConfigError as error:
                    raise ConfigError(f"space.{name}: {error}") from None
            if isinstance(range_, IntRange | FloatRange) and not self._is_number(
                name, whole=isinstance(range_, IntRange)
            ):
                kind = "an int range" if isinstance(range_, IntRange) else "a float range"
                raise ConfigError(f"space.{name}: {kind} does not fit this key.\nAllowed: {{ choice = [...] }}.")
        return self

    @model_validator(mode="after")
    def _code_is_searched_by_what_learns(self) -> StudyConfig:
        """Nobody who does not ask gets random draws of an [objective]: its trials are one after the other."""
        for key, stage in (("coarse", self.coarse), ("fine", self.fine)):
            if self.objective is not None and "sampler" not in stage.model_fields_set:
                object.__setattr__(self, key, stage.model_copy(update={"sampler": "auto"}))
        return self

    @model_validator(mode="after")
    def _epochs_are_spent_on_the_best(self) -> StudyConfig:
        if self.objective is None:
            object.__setattr__(self, "coarse", with_rungs(self.coarse, self.fine))
            object.__setattr__(self, "fine", after_rungs(self.coarse, self.fine))
        return self

    @model_validator(mode="after")
    def _states_are_ours(self) -> StudyConfig:
        asked = {"coarse.keep_top": self.coarse.keep_top, "fine.keep_top": self.fine.keep_top}
        asked |= {"fine.continue_top": self.fine.continue_top}
        for key, number in asked.items():
            if number and self.objective is not None:
                raise ConfigError(
                    f"{key} = {number}: the state of a trial of an [objective] is its own.\n"
                    f"Allowed: {key} = 0; the best values can be tried again with --enqueue NAME=VALUE,..."
                )
        return self

    @model_validator(mode="after")
    def _code_is_called_again(self) -> StudyConfig:
        for key, stage in (("coarse", self.coarse), ("fine", self.fine)):
            if self.objective is None and stage.confirm is not None:
                raise ConfigError(
                    f"{key}.confirm = {stage.confirm} is for an [objective] of yours.\n"
                    f"Allowed: {key}.repeat_best = N trains the N best nets again, with other seeds."
                )
        return self

    @model_validator(mode="after")
    def _losses_compare(self) -> StudyConfig:
        by_loss = self.objective is None and any(self.for_stage(s).train.metric == "loss" for s in ("coarse", "fine"))
        if by_loss and "train.loss" in self.space:
            raise ConfigError(
                "train.metric = 'loss' compares no losses of different kinds, as space.train.loss would have it.\n"
                "Allowed: another metric, as accuracy; or one train.loss."
            )
        return self

    @staticmethod
    def _is_number(name: str, *, whole: bool) -> bool:
        section, key = resolve_path(name).split(".", 1)
        if option_of(key) is not None:
            return True
        if key.startswith(AUGMENT):
            return KINDS[key.removeprefix(AUGMENT)].number is (int if whole else float)
        annotation = SEARCHABLE[section].model_fields[key].annotation
        return annotation in ((int, float, int | None, Positive | tuple[Positive, ...]) if whole else (float,))

    def with_params(self, params: Mapping[str, Any]) -> StudyConfig:
        """This config with some hyperparameters set, by canonical name or dotted path.

        Raises:
            ConfigError: a value is not allowed; the message names key, value and what is allowed.
        """
        if self.objective is not None:
            merged = Options({**self.objective.params, **params})
            return self.model_copy(update={"objective": self.objective.model_copy(update={"params": merged})})
        sections: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            section, key = resolve_path(name).split(".", 1)
            sections.setdefault(section, {})[key] = value
        updated = {}
        for section, values in sections.items():
            current: Section = getattr(self, section)
            for key in list(values):
                if (option := option_of(key)) is not None:
                    table, own_name = option
                    values[table] = {**values.get(table, getattr(current, table)), own_name: values.pop(key)}
            strengths = {key: values.pop(key) for key in list(values) if key.startswith(AUGMENT)}
            if strengths:
                kinds = validate(DataConfig, {"augment": values.get("augment", self.data.augment)}, "data").augment
                own = {key.removeprefix(AUGMENT): value for key, value in strengths.items()}
                values["augment"] = with_strengths(kinds, own)
            before = current.model_dump()
            if section == "model" and "name" in values:
                before = renamed(before, values["name"])
            updated[section] = validate(type(current), {**before, **values}, prefix=section)
        return self.model_copy(update=updated)

    def value(self, name: str) -> Any:
        """What a hyperparameter is where a trial does not say; None for an option that is not given."""
        if self.objective is not None:
            return self.objective.params.get(name)
        section, key = resolve_path(name).split(".", 1)
        if (option := option_of(key)) is not None:
            return getattr(getattr(self, section), option[0]).get(option[1])
        if key.startswith(AUGMENT):
            return strength_of(self.data.augment, key.removeprefix(AUGMENT))
        return getattr(getattr(self, section), key)

    def stage(self, kind: str) -> StageConfig:
        """The settings of the stage `coarse` or `fine`."""
        settings: StageConfig = getattr(self, kind)
        return settings

    def for_stage(self, kind: str) -> StudyConfig:
        """This config as the trials of a stage see it: with its epochs and its own settings.

        Raises:
            ConfigError: a key under `set` is not known, or its value not allowed.
        """
        settings = self.stage(kind)
        if self.objective is not None:
            return self.with_params(settings.set)
        try:
            config = self.with_params(settings.set)
        except ConfigError as error:
            raise ConfigError(f"{kind}.set: {error}") from None
        # An argument that is only searched has no value yet, but nets are built before the first trial.
        own = tuple(OPTIONS.values())
        searched = [name for name in self.space if name.startswith(own) and config.value(name) is None]
        if searched:
            config = config.with_params({name: _within(self.space[name]) for name in searched})
        return config.model_copy(update={"train": config.train.model_copy(update={"epochs": settings.epochs})})

    def plain(self) -> dict[str, Any]:
        """As JSON and TOML would hold it: plain dicts, lists, numbers and text."""
        plain: dict[str, Any] = thaw_all(self.model_dump(mode="json"))
        for section in SEARCHABLE if self.objective is not None else ("objective",):
            del plain[section]
        for section in (name for name in (*SEARCHABLE, "objective", "coarse", "fine") if name in plain):
            own: Section = getattr(self, section)
            for key, field in type(own).model_fields.items():
                if CameLater in field.metadata and getattr(own, key) == field.get_default(call_default_factory=True):
                    del plain[section][key]
        if self.coarse.epochs_budget is not None:
            plain["coarse"]["halving"] = self.coarse.halving  # of which "none" is not the default then
        return plain


def _within(range_: Range) -> Any:
    """A value of the range: the first choice, or the lowest number."""
    return range_.values[0] if isinstance(range_, Choice) else range_.low


def thaw_all(value: Any) -> Any:
    """Tuples as lists and enums as text inside dicts, too."""
    if isinstance(value, Mapping):
        return {key: thaw_all(item) for key, item in value.items()}
    return thaw(value)


def validate(model: type[Section], values: Mapping[str, Any], prefix: str = "") -> Any:
    """`model(**values)`, with pydantic's complaint turned into ours: key, value, what is allowed.

    Raises:
        ConfigError: of the first thing that is wrong.
    """
    if wrong := true_for_a_number(model, values, prefix):
        raise ConfigError(wrong)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(describe(model, values, error, prefix)) from None


def fingerprint(plain: Mapping[str, Any]) -> str:
    """A hash of plain data that does not depend on the order of keys: 16 hexadecimal digits."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line per key that differs between two plain configs: `train.batch_size: 100 -> 50`."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        path = f"{prefix}{key}"
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{path}.")
        elif before != after:
            shown = [json.dumps(side) if side is not None else "-" for side in (before, after)]
            lines.append(f"{path}: {shown[0]} -> {shown[1]}")
    return lines
