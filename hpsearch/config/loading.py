"""From defaults, a study file, the environment and flags to one checked config; the later ones win."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpsearch.config.augmentation_fit import misfits
from hpsearch.config.augmentations import AUGMENT, with_strengths
from hpsearch.config.cheap_trials import forget_defaults
from hpsearch.config.conditions import conditions_of
from hpsearch.config.default_ranges import default_space
from hpsearch.config.hyperparameters import SHORT_NAMES, name_in, resolve_path
from hpsearch.config.messages import nearest
from hpsearch.config.net_names import has_given_weights, trains_given_body
from hpsearch.config.ranges import Range, dotted, dump_range, parse_range, parse_value
from hpsearch.config.schema import ModelConfig, RunConfig, TrainConfig
from hpsearch.config.secret_files import PASSWORD_FILE, SECRET_FILES, add_password, read_storage_file
from hpsearch.config.study import StudyConfig, validate
from hpsearch.config.usage import refuse_unused_ranges, unused_keys
from hpsearch.config.usercode import names_in, trust
from hpsearch.errors import ConfigError
from hpsearch.logs import get_logger

log = get_logger(__name__)

ENVIRONMENT = {
    "HPSEARCH_STORAGE": "run.storage",
    "HPSEARCH_DATA_DIR": "run.data_dir",
    "HPSEARCH_DEVICE": "run.device",
    "HPSEARCH_DATA": "data.source",
    "HPSEARCH_MODEL": "model.name",
}
"""Short names. Any key can be set as HPSEARCH_SECTION__KEY, e.g. HPSEARCH_TRAIN__BATCH_SIZE."""

RESERVED = ("HPSEARCH_TEST_", "HPSEARCH_DASHBOARD_TOKEN", "HPSEARCH_TRUST", *SECRET_FILES)  # not settings


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command works with."""

    study: StudyConfig
    run: RunConfig
    ranges_given: frozenset[str]
    """Hyperparameters whose range came from a flag."""
    ranges_removed: frozenset[str]
    """Hyperparameters that a flag took out of the space."""
    notes: tuple[str, ...] = ()
    """What was given and does nothing: a sentence for each key."""


def load_settings(
    file: str | Path | None = None,
    *,
    document: Mapping[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    spaces: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    searches: bool = True,
) -> Settings:
    """Put a config together; each argument wins over those before it.

    Args:
        file: a study file; a name without ending is looked up in studies/; `-` is standard input.
        document: what a study file holds, from a caller who has it already; not with `file`.
        stored: the plain config of an earlier stage, used where no file is given.
        environment: HPSEARCH_* variables, those that name files with secrets among them.
        sets: `section.key=value`, as given to --set.
        spaces: `name=log(a, b)`, as given to --space; `name=none` takes a hyperparameter out of the space.
        flags: values by dotted path; None means not given.
        searches: whether ranges are used; where they are not, nothing is said of them.

    User code that any of these names is trusted from then on, but for what only `stored` names. Nor is anything said
    of keys that only `stored` has and that do nothing: whoever made that study was told.

    Raises:
        ConfigError: anything that is not allowed, by key, value and what is; a range that nothing uses is not.
    """
    if file is not None:
        document = _read(file)
    if document is not None and isinstance(space := document.get("space"), Mapping):
        document = {**document, "space": dotted(space)}
    values: dict[str, Any] = deepcopy(dict(document if document is not None else stored or {}))
    assigned: list[str] = []
    if document is not None:
        trust(*names_in(values))
        assigned += _keys(values)
    trust(*filter(None, map(str.strip, (environment or {}).get("HPSEARCH_TRUST", "").split(","))))
    environment = environment or {}
    for name, text in sorted(environment.items()):
        if (path := _environment_path(name)) is not None:
            assigned.append(_assign(values, path, parse_value(text), where=name))
    storage_is_flag = (flags or {}).get("run.storage") is not None
    if not storage_is_flag and (url := read_storage_file(environment)) is not None:
        _assign(values, "run.storage", url, where="HPSEARCH_STORAGE_FILE")
    flagged: list[str] = []
    for text in sets:
        path, sign, value = text.partition("=")
        if not sign or not path.strip():
            raise ConfigError(
                f"--set {text} has no {'key' if sign else 'value'}.\n"
                "Allowed: --set section.key=value, as --set train.batch_size=50."
            )
        flagged.append(_assign(values, path.strip(), parse_value(value), where=f"--set {text}"))
    for path, value in (flags or {}).items():
        if value is not None:
            flagged.append(_assign(values, path, value, where=path))
    for stage in ("coarse", "fine"):  # the one budget that a flag gives takes the place of the other
        if f"{stage}.trials" in flagged and f"{stage}.epochs_budget" not in flagged and isinstance(values[stage], dict):
            values[stage].pop("epochs_budget", None)
    if document is None:
        forget_defaults(values, {*assigned, *flagged})
    given, removed = _assign_spaces(values, spaces)
    run = validate(RunConfig, values.pop("run", {}), prefix="run")
    if PASSWORD_FILE in environment:
        url = add_password(run.storage, environment[PASSWORD_FILE], is_flag=storage_is_flag)
        run = run.model_copy(update={"storage": url})
    study: StudyConfig = validate(StudyConfig, values)
    for path in flagged:
        name = SHORT_NAMES.get(path, path)
        if searches and name in study.space:
            raise ConfigError(
                f"{path} is set, but space.{name} searches it.\nTake it out of the space: --space {name}=none."
            )
    if searches:
        searched = given | {name_in(values, name) for name in (document or {}).get("space", {})}
        refuse_unused_ranges(study, searched)
        conditions_of(study)
    used_in = study if searches else study.model_copy(update={"space": {}})
    notes = tuple(map(str, unused_keys(used_in, [*assigned, *flagged])))
    if any(path.startswith(("data.augment", "data.source")) for path in (*assigned, *flagged, *given)):
        notes += tuple(misfits(used_in))
    for note in notes:
        log.info(note)
    return Settings(study, run, frozenset(given), frozenset(removed), notes)


def _keys(values: Mapping[str, Any]) -> list[str]:
    """The dotted paths of all keys in the tables of a study file."""
    return [f"{name}.{key}" for name, table in values.items() if isinstance(table, Mapping) for key in table]


def _read(file: str | Path) -> dict[str, Any]:
    if str(file) == "-":
        return _parse(sys.stdin.read(), "standard input")
    path = Path(file)
    if not path.exists() and not path.suffix and (named := Path("studies") / f"{path}.toml").exists():
        path = named
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        known = sorted(found.stem for found in Path("studies").glob("*.toml"))
        hint = f"\nIn studies/: {', '.join(known)}." if known else "\nWrite one with: hpsearch init study.toml"
        raise ConfigError(f"the study file {path} does not exist.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the study file {path} cannot be read: {error}.") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}.") from None


def _environment_path(name: str) -> str | None:
    if not name.startswith("HPSEARCH_") or name.startswith(RESERVED):
        return None
    if name in ENVIRONMENT:
        return ENVIRONMENT[name]
    section, sign, key = name.removeprefix("HPSEARCH_").partition("__")
    if not sign:
        raise ConfigError(
            f"the environment variable {name} is not known.{nearest(name, [*ENVIRONMENT, 'HPSEARCH_SECTION__KEY'])}"
        )
    return f"{section}.{key}".lower()


def _assign(values: dict[str, Any], path: str, value: Any, where: str) -> str:
    """Set one dotted key in nested tables; `lr` and other clear names of hyperparameters may stand for their path."""
    sections = [*StudyConfig.model_fields, "run"]
    if "." not in path:
        path = resolve_path(path)
    if path.startswith(f"data.{AUGMENT}"):
        return _assign_strength(values, path, value)
    *tables, key = path.split(".")
    if tables[0] not in sections:
        raise ConfigError(f"{where}: {tables[0]!r} is not a section of a study file.{nearest(tables[0], sections)}")
    if tables[0] == "space":
        raise ConfigError(f"{where}: ranges are given with --space, as --space 'lr=log(1e-6, 1e-3)'.")
    table = values
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {path} is not a key of a study file.")
    table[key] = value
    trust(*names_in({path: value}))
    return path


def _assign_strength(values: dict[str, Any], path: str, value: Any) -> str:
    """Set that of one kind in the list of data.augment."""
    data = values.setdefault("data", {})
    kinds = data.get("augment", []) if isinstance(data, dict) else None
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds):  # else it is refused as it is
        data["augment"] = list(with_strengths(kinds, {path.removeprefix(f"data.{AUGMENT}"): value}))
    return path


def _default_space(values: Mapping[str, Any]) -> dict[str, Range]:
    """That of a document that has none, as far as it can be understood before it is validated."""
    if values.get("objective") is not None:
        return {}
    said = {}
    for section, key, default in (
        ("model", "name", ModelConfig().name),
        ("train", "optimizer", TrainConfig().optimizer),
    ):
        table = values.get(section)
        found = table.get(key, default) if isinstance(table, Mapping) else default
        said[section] = found if isinstance(found, str) else default
    model = values.get("model")
    plain = model if isinstance(model, Mapping) else {}
    pretrained, trains_body = has_given_weights(plain), trains_given_body(plain)
    return default_space(said["model"], said["train"], pretrained=pretrained, trains_body=trains_body)


def _assign_spaces(values: dict[str, Any], spaces: Sequence[str]) -> tuple[set[str], set[str]]:
    given: set[str] = set()
    removed: set[str] = set()
    if not spaces:
        return given, removed
    space = values["space"] if "space" in values else _default_space(values)
    if not isinstance(space, Mapping):
        raise ConfigError(f"space takes a table of ranges, but got {space!r}.")
    merged = {name_in(values, name): range_ for name, range_ in space.items()}
    for text in spaces:
        name, sign, form = text.partition("=")
        if not sign:
            raise ConfigError(f"--space {text} has no range.\nAllowed: --space 'lr=log(1e-6, 1e-3)', --space lr=none.")
        canonical = name_in(values, name.strip())
        if form.strip() == "none":
            merged.pop(canonical, None)
            removed.add(canonical)
        else:
            merged[canonical] = parse_range(name.strip(), form)
            trust(*names_in({canonical: dump_range(merged[canonical])}))
            given.add(canonical)
    values["space"] = merged
    return given, removed
