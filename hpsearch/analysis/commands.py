"""Commands as one types them, from what studies keep: to go on with a stage, and to search anew with a change.

Pure. Each is a list of words; `shlex.join` quotes them for a shell. Paths stay as they were given.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpsearch.analysis.left_keys import with_decided
from hpsearch.analysis.stage_names import fine_name
from hpsearch.config import StudyConfig
from hpsearch.config.default_ranges import default_space
from hpsearch.config.net_names import has_given_weights, trains_given_body
from hpsearch.config.ranges import dump_range, flag_text, freeze, parse_value
from hpsearch.config.schema.objective import ObjectiveConfig
from hpsearch.errors import ConfigError
from hpsearch.programs.value_pattern import value_of

Words = list[str]
Plain = Mapping[str, Any]

SECTIONS = ("data", "model", "train", "coarse", "fine")
SECTIONS_OF_CODE = ("objective", "coarse", "fine")
OWN_FLAGS = {"data.source": "--data", "model.name": "--model"}
LEFT_TO_AUTO = ("auto", "float32", "bfloat16")  # train.precision as a stage keeps it, where auto took one of them


def whole(config: Plain | None) -> dict[str, Any] | None:
    """A stored config with the keys that are newer than it; None where it is none, or not all of one."""
    if config is None or not {"data", "model", "train", "space"} <= config.keys():
        return None
    defaults = StudyConfig().plain()
    sections = {name: {**defaults[name], **config.get(name, {})} for name in SECTIONS}
    return {**sections, "space": dict(config["space"])}


def whole_of_code(config: Plain | None) -> dict[str, Any] | None:
    """The same of a search over an objective of the user's own."""
    if config is None or not {"objective", "space"} <= config.keys():
        return None
    defaults = _defaults_of_code()
    sections = {name: {**defaults[name], **config.get(name, {})} for name in SECTIONS_OF_CODE}
    return {**sections, "space": dict(config["space"])}


def usual_space(config: Plain) -> dict[str, Any]:
    """The ranges that are searched where none are given, with the net and the optimizer of a config."""
    default = {"model": StudyConfig().model.name, "train": StudyConfig().train.optimizer}
    model = config.get("model", {}).get("name", default["model"])
    optimizer = config.get("train", {}).get("optimizer", default["train"])
    plain = config.get("model", {})
    pretrained, trains_body = has_given_weights(plain), trains_given_body(plain)
    space = default_space(model, optimizer, pretrained=pretrained, trains_body=trains_body)
    return {name: dump_range(range_) for name, range_ in space.items()}


def config_flags(config: Plain, base: Plain | None = None, *, sections: Collection[str] = SECTIONS) -> Words:
    """The flags that make `config` of `base`, both in their plain form; `base` is the defaults if not given.

    What is searched has no value to set, so its key is left out.
    """
    base = StudyConfig().plain() if base is None else base
    if "coarse" in sections and "objective" not in config:  # over code rungs decide nothing else
        base = with_decided(base, config)
    searched = {_path(name) for name in config.get("space", {})}
    words: Words = []
    for section in sections:
        for key, value in config.get(section, {}).items():
            path = f"{section}.{key}"
            if value == base.get(section, {}).get(key) or path in searched or _is_auto(path, value):
                continue
            if key == "trials" and config[section].get("epochs_budget") is not None:
                continue  # as many as fit
            words += [OWN_FLAGS[path], value] if path in OWN_FLAGS else ["--set", f"{path}={value_word(value)}"]
    return words


def space_flags(space: Plain, base: Plain) -> Words:
    """The flags that make the ranges `space` of `base`, both as a study file has them."""
    words: Words = []
    for name, range_ in space.items():
        if range_ != base.get(name):
            words += ["--space", f"{name}={flag_text(range_)}"]
    for name in base:
        if name not in space:
            words += ["--space", f"{name}=none"]
    return words


def value_word(value: Any) -> str:
    """A value as `--set` reads it: JSON, and plain words where they are read as what they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return value if isinstance(value, str) and parse_value(value) == value else json.dumps(value)


def resume_command(
    study: str, kind: str, source: str | None, config: Plain, source_config: Plain | None, code: Sequence[str]
) -> Words | None:
    """What goes on with a stage that is not finished; None where it cannot be told from what is kept.

    Args:
        study: its name.
        kind: coarse, fine or train.
        source: the study that it came from.
        config: its own, plain.
        source_config: that of the source; None where another program made it.
        code: the user's code that the config names.
    """
    if kind == "train":
        return train_command(config, {}, study)
    if "objective" in config:
        return _resume_code(study, kind, source, config, source_config, code)
    base = source_config if source is not None else {**StudyConfig().plain(), "space": usual_space(config)}
    if base is None or _hides_a_value(config, base):
        return None
    if kind == "coarse":
        # The range of lr that a check gave is taken from it again.
        space = {n: r for n, r in config["space"].items() if source is None or n != "lr"}
        kept = {n: r for n, r in base["space"].items() if source is None or n != "lr"}
        words = ["hpsearch", "coarse", *(["--from", source] if source is not None else [])]
        words += ["--name", study] if study != "coarse" else []
        return [*words, *config_flags(config, base), *space_flags(space, kept), *_trusts(code, source)]
    if kind == "fine" and source is not None:
        words = ["hpsearch", "fine", "--from", source]
        words += ["--name", study] if study != fine_name(source) else []
        flags = config_flags(config, base, sections=("data", "model", "train", "fine"))
        removed = [name for name in base["space"] if name not in config["space"]]
        given = {name: range_ for name, range_ in config["space"].items() if name not in base["space"]}
        ranges = [word for name in removed for word in ("--space", f"{name}=none")] + space_flags(given, {})
        return [*words, *flags, *ranges, *_trusts(code, source)]
    return None


def _resume_code(
    study: str, kind: str, source: str | None, config: Plain, source_config: Plain | None, code: Sequence[str]
) -> Words | None:
    """The same of a stage over an objective."""
    words = ["hpsearch", kind, *(["--from", source] if source is not None else [])]
    if kind == "coarse" and source is None and (wrapped := _wrap_command(study, config)) is not None:
        return wrapped
    if kind == "coarse" and source is None:
        words += ["--name", study] if study != "coarse" else []
        own = {**config["objective"]}
        if own["function"] is not None:
            form = own.pop("form", None)
            words += ["--optuna-objective" if form == "optuna" else "--objective", own.pop("function")]
        flags = config_flags({**config, "objective": own}, _defaults_of_code(), sections=SECTIONS_OF_CODE)
        return [*words, *flags, *space_flags(config["space"], {})]
    if kind == "fine" and source is not None and source_config is not None:
        words += ["--name", study] if study != fine_name(source) else []
        own = {key: value for key, value in config["objective"].items() if key != "narrowed"}
        flags = config_flags({**config, "objective": own}, source_config, sections=("objective", "fine"))
        narrowed = {*source_config["space"], *config["objective"].get("narrowed", ())}
        removed = [name for name in source_config["space"] if name not in config["space"]]
        given = {name: range_ for name, range_ in config["space"].items() if name not in narrowed}
        ranges = [word for name in removed for word in ("--space", f"{name}=none")] + space_flags(given, {})
        return [*words, *flags, *ranges, *_trusts(code, source)]
    return None


def _wrap_command(study: str, config: Plain) -> Words | None:
    """A search over a program as `hpsearch wrap` begins it; None over a function, or where it has no words for it."""
    own = dict(config["objective"])
    command, metric, pattern, direction = (own.pop(key) for key in ("command", "metric", "pattern", "direction"))
    said = metric if pattern is None else pattern
    with contextlib.suppress(ConfigError):  # a name that wrap takes for a pattern
        if command and value_of(said) == (metric, pattern):
            words = ["hpsearch", "wrap", *(["--name", study] if study != "wrapped" else [])]
            words += ["--metric", said] if said != "value" else []
            words += ["--direction", direction] if direction != "maximize" else []
            flags = config_flags({**config, "objective": own}, _defaults_of_code(), sections=SECTIONS_OF_CODE)
            return [*words, *flags, *space_flags(config["space"], {}), "--", *command]
    return None


def _defaults_of_code() -> dict[str, Any]:
    """The keys that an objective takes, as where nobody sets them."""
    defaults = StudyConfig(objective=ObjectiveConfig(function="module:function")).plain()
    return {**defaults, "objective": {**defaults["objective"], "function": None}}


def train_command(config: Plain, changes: Plain, name: str, num_seeds: int = 1) -> Words:
    """A training like that of `config`, but for `changes` by dotted path."""
    changed = {section: dict(config[section]) for section in ("data", "model", "train")}
    for section, key, value in ((*path.split(".", 1), value) for path, value in changes.items()):
        if section in changed:  # ranges are not used
            changed[section][key] = value
    if changed["data"].get("source") != "synthetic":
        changed["data"].pop("synthetic", None)
    words = ["hpsearch", "train", *(["--name", name] if name != "train" else [])]
    words += ["--seeds", str(num_seeds)] if num_seeds > 1 else []
    return [*words, "--epochs", str(changed["train"].pop("epochs")), *config_flags(changed)]


def look_command(config: Plain) -> Words:
    """What shows the images of a config."""
    source = config["data"]["source"]
    left_out = {"source"} if source == "synthetic" else {"source", "synthetic"}
    data = {key: value for key, value in config["data"].items() if key not in left_out}
    return ["hpsearch", "data", "show", source, *config_flags({"data": data}, sections=("data",))]


def fine_command(source: str, code: Sequence[str], *, epochs: int | None = None) -> Words:
    """The stage after a study."""
    longer = ["--epochs", str(epochs)] if epochs is not None else []
    return ["hpsearch", "fine", "--from", source, *longer, *_trusts(code, source)]


def final_test_command(study: str, code: Sequence[str]) -> Words:
    """The use of the test set."""
    return ["hpsearch", "test", study, *_trusts(code, study)]


def rerun_command(study: str, number: int, code: Sequence[str]) -> Words:
    """A trial again, with other seeds."""
    return ["hpsearch", "rerun", study, str(number), *_trusts(code, study)]


def changed_config(config: Plain, changes: Plain) -> dict[str, dict[str, Any]]:
    """A search like that of `config`, but for `changes` by dotted path, or by name for ranges: "space.lr".

    A key that is changed is not searched any more, nor is what is searched beside other values of it alone. Ranges that
    nobody chose become those that fit the other net.
    """
    changed = {section: dict(config.get(section, {})) for section in (*SECTIONS, "space")}
    chosen = {n for n, r in changed["space"].items() if r != usual_space(config).get(n)}
    for path, value in changes.items():
        section, key = path.split(".", 1)
        changed[section][key] = value
        for searched in [n for n in changed["space"] if section != "space" and _path(n) == path]:
            del changed["space"][searched]
        for searched in [n for n, r in changed["space"].items() if not _may_be(r.get("when", {}), path, value)]:
            del changed["space"][searched]
    usual = usual_space(changed)
    for name in usual.keys() & changed["space"].keys() - chosen - {p.removeprefix("space.") for p in changes}:
        changed["space"][name] = usual[name]
    if changed["data"].get("source") != "synthetic":
        changed["data"].pop("synthetic", None)
    return changed


def _may_be(when: Plain, path: str, value: Any) -> bool:
    """Whether a condition can be met where the key at `path` has this value."""
    if path not in when:
        return True
    return freeze(value) in (freeze(when[path]) if isinstance(when[path], list) else (when[path],))


def run_command(config: Plain, name: str, taken: Collection[str]) -> Words:
    """A new search; its name is `name`, or the first of name-2, name-3, ... of which no stage is `taken` yet."""
    words = ["hpsearch", "run", "--name", free_name(name, taken)]
    return [*words, *config_flags(config), *space_flags(config["space"], usual_space(config))]


def is_same_search(config: Plain, other: Plain) -> bool:
    """Whether two configs make the same trials, but for their number, epochs and sampler."""
    return _searched(config) == _searched(other)


def free_name(name: str, taken: Collection[str]) -> str:
    """A name under which `hpsearch run` finds nothing begun."""
    number, found = 1, name
    while any(study == found or study.startswith((f"{found}-coarse", f"{found}-fine")) for study in taken):
        number += 1
        found = f"{name}-{number}"
    return found


def _path(name: str) -> str:
    """The key of a hyperparameter: `train.lr` of `lr`."""
    return name if "." in name else f"train.{name}"


def _searched(config: Plain) -> dict[str, Any]:
    """The keys that have a value, and the ranges."""
    ranges = {_path(name): range_ for name, range_ in config["space"].items()}
    values = {f"{part}.{key}": value for part in SECTIONS[:3] for key, value in config[part].items()}
    unused = {path for path, value in values.items() if _is_auto(path, value)}
    unused |= {"data.synthetic"} if values["data.source"] != "synthetic" else set()
    return {**{path: value for path, value in values.items() if path not in unused}, **ranges}


def _hides_a_value(config: Plain, base: Plain) -> bool:
    """Whether a study file gave a value to what it searches, too: that is kept, but no flag can give it."""
    keys = [_path(name).split(".", 1) for name in config["space"]]
    return any(config.get(part, {}).get(key) != base.get(part, {}).get(key) for part, key in keys)


def _is_auto(path: str, value: Any) -> bool:
    return path == "train.precision" and value in LEFT_TO_AUTO


def _trusts(code: Sequence[str], source: str | None) -> Words:
    """Code that only the database names has to be trusted by name."""
    return [word for name in code if source is not None for word in ("--trust", name)]
