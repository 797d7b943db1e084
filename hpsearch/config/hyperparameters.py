"""Names of hyperparameters: which keys can be searched, what they are called in a study, which fit one pack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import annotated_types

from hpsearch.config.augmentations import AUGMENT, KINDS, limits
from hpsearch.config.fields import Positive, Section, Vector
from hpsearch.config.messages import nearest
from hpsearch.config.schema import DataConfig, ModelConfig, TrainConfig
from hpsearch.config.wishes import wish_of_key
from hpsearch.errors import ConfigError

SEARCHABLE: dict[str, type[Section]] = {"train": TrainConfig, "model": ModelConfig, "data": DataConfig}
"""Sections whose keys may be hyperparameters, in the order in which bare names are looked up."""

NOT_SEARCHABLE = {
    "data.source",
    "data.val",
    "data.seed",
    "data.limit",
    "data.folds",
    "data.synthetic",
    "data.options",
    "model.options",  # as a whole; its keys are, see OPTION
    "train.epochs",
    "train.explosion",
    "train.metric",
    "train.teacher",
    "train.step",
    "train.step_options",  # as a whole, too
}
"""Keys that say what is compared or how long; a search over them would compare unlike things."""

SHORT_NAMES = {"train.lr": "lr", "train.reg": "reg"}

OPTION = "model.options."
"""Before the name of an argument of the user's function: a structural hyperparameter, too."""

STEP_OPTION = "train.step_options."
"""Before the name of a number of the user's step: a hyperparameter in which the trials of a pack may differ."""

OPTIONS = {"options": OPTION, "step_options": STEP_OPTION}
"""Keys that are tables of the user's own names, and what stands before these."""


def option_of(key: str) -> tuple[str, str] | None:
    """Of a key such as `options.width`: the table and the name; None for any other."""
    table, sign, name = key.partition(".")
    return (table, name) if sign and table in OPTIONS else None


def hyperparameter_paths() -> list[str]:
    """Dotted paths of all keys that [space] may give a range."""
    paths = [f"{section}.{key}" for section, model in SEARCHABLE.items() for key in model.model_fields]
    return [path for path in paths if path not in NOT_SEARCHABLE] + [f"data.{AUGMENT}{kind}" for kind in KINDS]


def resolve_path(name: str) -> str:
    """The dotted path of a hyperparameter named in full or, where only one key is called so, by its key alone.

    Raises:
        ConfigError: no hyperparameter is called so; the message has the nearest names.
    """
    paths = hyperparameter_paths()
    if name in paths or any(name.startswith(o) and name.removeprefix(o).isidentifier() for o in OPTIONS.values()):
        return name
    found = [path for path in paths if path.split(".", 1)[1] == name]
    if not found and name in KINDS:
        return f"data.{AUGMENT}{name}"
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"space.{name}: the name is not clear. Allowed: {', '.join(found)}.")
    wish = wish_of_key(name)
    allowed = f"\n{wish[:1].upper()}{wish[1:]}." if wish else nearest(name, [*paths, *SHORT_NAMES.values()])
    raise ConfigError(f"space.{name}: no hyperparameter is called {name!r}.{allowed}")


def canonical_name(name: str) -> str:
    """The name a hyperparameter has in a study: `lr` and `reg`, else its dotted path."""
    path = resolve_path(name)
    return SHORT_NAMES.get(path, path)


def name_in(study: Mapping[str, Any], name: str) -> str:
    """What a hyperparameter is called in a study, by its tables: its canonical name; as it is, where [objective] is."""
    return name if study.get("objective") is not None else canonical_name(name)


def is_vector(name: str) -> bool:
    """Whether trials may differ in this hyperparameter and still train in one pack."""
    return is_vector_key(*resolve_path(name).split(".", 1))


def is_vector_key(section: str, key: str) -> bool:
    """As `is_vector`, for any key of [data], [model] and [train], searchable or not."""
    if (option := option_of(key)) is not None:
        key = option[0]
    return not key.startswith(AUGMENT) and Vector in SEARCHABLE[section].model_fields[key].metadata


def hard_limits(name: str) -> tuple[float | None, float | None]:
    """What the hyperparameter can be at all, whatever was searched: (lowest, highest), None where there is no end.

    An open end is moved inwards by one part in a million, so that the limit itself can be used.
    """
    try:
        section, key = resolve_path(name).split(".", 1)
    except ConfigError:
        return None, None
    if option_of(key) is not None:
        return None, None
    if key.startswith(AUGMENT):
        return limits(key.removeprefix(AUGMENT))
    low: float | None = None
    high: float | None = None
    field = SEARCHABLE[section].model_fields[key]
    metadata = [*field.metadata, *(annotated_types.Ge(1) for each in get_args(field.annotation) if each == Positive)]
    for bound in metadata:
        match bound:
            case annotated_types.Ge(ge=value):
                low = float(value)  # type: ignore[arg-type]
            case annotated_types.Gt(gt=value):
                low = float(value) + 1e-12  # type: ignore[arg-type]
            case annotated_types.Le(le=value):
                high = float(value)  # type: ignore[arg-type]
            case annotated_types.Lt(lt=value):
                high = float(value) * (1 - 1e-6)  # type: ignore[arg-type]
    return low, high
