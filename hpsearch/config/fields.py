"""What the keys of a study file are made of: their tables, and what is said of a key beside its type."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hpsearch.config.ranges import thaw

Vector = "vector"
"""Metadata of a field that packs hold as one tensor of shape [K]."""

CameLater = "came later"
"""Metadata of a field that younger versions have: at its default it is left out of what is kept with a study, so that
studies from before stay the same."""


class UsedBy:
    """Metadata of a field that does nothing unless the key `by` is one of `users`, named as messages name them."""

    def __init__(self, by: str, *users: str) -> None:
        self.by = by
        self.users = users


@dataclass(frozen=True, slots=True)
class Known:
    """Metadata of a text that is one of these values, or has one of these forms; `str()` of it is what is allowed."""

    values: tuple[str, ...]
    forms: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((*self.values, *self.forms))


def _as_list(given: Any) -> Any:
    return (given,) if isinstance(given, str | int | float) and not isinstance(given, bool) else given


OneOrMore = BeforeValidator(_as_list)
"""Of a field that is a list: one value alone is a list of one."""

Positive = Annotated[int, Field(ge=1)]

MAX_SEED = 2**63 - 1  # what torch's generators take


class Section(BaseModel):
    """A frozen table of a study file: unknown keys are errors, numbers are finite.

    The default of a key that is a table is a factory, so that nothing is validated, and no validator built, at import.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,
        use_attribute_docstrings=True,  # for `hpsearch init`; 4 ms of a command's start
    )


class Options(dict[str, Any]):
    """Keyword arguments of the user's function: a table that is not changed, so that it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def _plain_options(given: dict[str, Any]) -> Options:
    for key, value in given.items():
        if not key.isidentifier():
            raise ValueError(f"{key!r} cannot be the name of an argument")
        flat = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(v, bool | int | str) or (isinstance(v, float) and math.isfinite(v)) for v in flat):
            raise ValueError(
                f"allowed: finite numbers, text, true, false, and lists of these, so not {key} = {value!r}"
            )
    return Options({key: thaw(value) for key, value in given.items()})


OptionsField = Annotated[dict[str, Any], AfterValidator(_plain_options)]
