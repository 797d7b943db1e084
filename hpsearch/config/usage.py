"""Which keys do nothing, because the net, optimizer, schedule or source that is named has no use for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hpsearch.config.data_sources import FUNCTION, is_user_code, parse_source
from hpsearch.config.fields import UsedBy
from hpsearch.config.hyperparameters import SEARCHABLE, resolve_path
from hpsearch.config.net_names import library_form
from hpsearch.config.ranges import Choice, FloatRange, IntRange
from hpsearch.config.study import StudyConfig
from hpsearch.errors import ConfigError

STAGES = ("coarse", "fine")


@dataclass(frozen=True, slots=True)
class Unused:
    """A key that does nothing, and why; `str()` of it is the sentence."""

    key: str
    by: str
    """The key that decides."""
    values: tuple[str, ...]
    """What that key is, or may be."""
    users: tuple[str, ...]
    """What it would have to be."""

    @property
    def remedy(self) -> str:
        """What would have to be set for the key to do something."""
        return f"{self.by} = {_listed(self.users, 'or')}"

    def __str__(self) -> str:
        use = "use it" if len(self.users) > 1 else "uses it"
        return f"{self.key} is not used by {_listed(self.values, 'or')}; {_listed(self.users, 'and')} {use}"


def unused_keys(config: StudyConfig, given: Iterable[str]) -> list[Unused]:
    """The keys that do nothing among those that somebody set, each once.

    Args:
        config: all of it: a key counts as used where one stage, or one of the choices that are searched, uses it.
        given: dotted paths, as `model.batch_norm`, `data.synthetic.noise`, `fine.set`. One that is as by default
            changes nothing, so there is nothing to say of it.
    """
    found: dict[str, Unused] = {}
    if config.objective is not None:
        return []
    for path in given:
        section, key, *_ = path.split(".")
        if section in SEARCHABLE:
            value = getattr(getattr(config, section), key)
            if value == SEARCHABLE[section].model_fields[key].get_default(call_default_factory=True):
                continue
            if unused := _unused(config, section, key, STAGES):
                found[path] = unused
        elif section in STAGES and key == "set":
            for name in config.stage(section).set:
                if unused := _unused(config, *_split(name), (section,)):
                    found[f"{path}.{name}"] = replace(unused, key=f"{section}.set: {unused.key}")
    return list(dict.fromkeys(found.values()))


def is_used(config: StudyConfig, section: str, key: str) -> bool:
    """Whether a key of [data], [model] or [train] does something in one of the stages."""
    return _unused(config, section, key, STAGES) is None


def unused_ranges(config: StudyConfig) -> dict[str, Unused]:
    """The hyperparameters that are searched and do nothing, by name."""
    if config.objective is not None:
        return {}
    found = {name: _unused(config, *_split(name), STAGES) or _never(config, name) for name in config.space}
    return {name: replace(unused, key=resolve_path(name)) for name, unused in found.items() if unused is not None}


def refuse_unused_ranges(config: StudyConfig, names: Iterable[str]) -> None:
    """Say no to a search over what does nothing, for the hyperparameters `names`.

    Raises:
        ConfigError: the first one, who uses it, and what to do.
    """
    unused = unused_ranges(config)
    for name in sorted(unused.keys() & set(names)):
        raise ConfigError(
            f"space.{unused[name]}.\nTake it out of the space (--space {name}=none), or set {unused[name].remedy}."
        )


def _split(name: str) -> tuple[str, str]:
    section, key, *_ = resolve_path(name).split(".")
    return section, key


def _used_by(section: str, key: str) -> UsedBy | None:
    return next((m for m in SEARCHABLE[section].model_fields[key].metadata if isinstance(m, UsedBy)), None)


def _unused(config: StudyConfig, section: str, key: str, stages: Iterable[str]) -> Unused | None:
    used_by = _used_by(section, key)
    if used_by is None:
        return None
    values = _values(config, used_by.by, stages)
    if any(_kind(used_by.by, value) in used_by.users for value in values):
        return None
    return Unused(f"{section}.{key}", used_by.by, values, used_by.users)


def users_among(config: StudyConfig, name: str) -> tuple[str, tuple[Any, ...]] | None:
    """The searched key that decides whether a hyperparameter is used, and those of its values that use it.

    None where no searched key decides, where all its values use it, or none does.
    """
    if config.objective is not None:  # nobody knows what its parameters are for
        return None
    section, key = _split(name)
    used_by = _used_by(section, key)
    if used_by is None or not isinstance(range_ := config.space.get(used_by.by), Choice):
        return None
    values = range_.values
    if range_.when:  # where it is not drawn, it is as given
        values = tuple(dict.fromkeys((*values, config.value(used_by.by))))
    users = tuple(value for value in values if _kind(used_by.by, str(value)) in used_by.users)
    return (used_by.by, users) if 0 < len(users) < len(values) else None


def _never(config: StudyConfig, name: str) -> Unused | None:
    """Of a hyperparameter whose own condition is never met."""
    for key, allowed in config.space[name].when:
        range_ = config.space.get(key)
        if isinstance(range_, FloatRange | IntRange):
            if any(isinstance(value, int | float) and range_.low <= value <= range_.high for value in allowed):
                continue
            values: tuple[str, ...] = (f"[{range_.low}, {range_.high}]",)
        else:
            values = _values(config, key, STAGES)
        if not {*map(str, allowed)} & {*values}:
            return Unused(resolve_path(name), resolve_path(key), values, tuple(map(str, allowed)))
    return None


def _values(config: StudyConfig, path: str, stages: Iterable[str]) -> tuple[str, ...]:
    """All that the key at `path` will be in these stages."""
    range_, found = config.space.get(path), []
    if isinstance(range_, Choice):
        found = [str(value) for value in range_.values]
        if not range_.when:
            return tuple(found)
    values = [_value(config.for_stage(stage), path) for stage in stages]
    return tuple(dict.fromkeys([*found, *("none" if value is None else str(value) for value in values)]))


def _value(config: StudyConfig, path: str) -> Any:
    """Of a key that may be one that cannot be searched, as data.source."""
    return config.data.source if path == "data.source" else config.value(path)


def _kind(path: str, value: str) -> str:
    """The value as `UsedBy` names it: all folders are one kind, all code of the user's another."""
    if path == "data.source":
        return parse_source(value).kind
    if path != "model.name":
        return value
    return FUNCTION if is_user_code(value) else library_form(value) or value


def _listed(names: tuple[str, ...], word: str) -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
