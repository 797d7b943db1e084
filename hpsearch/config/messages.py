"""What is wrong in a study file, in words of ours: the key, the value, what is allowed, and the nearest of it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from hpsearch.config.data_sources import meant
from hpsearch.config.fields import Known, Section
from hpsearch.config.ranges import thaw
from hpsearch.config.wishes import wish_of_key, wish_of_value

MAX_SHOWN = 12  # names in a message; of more, those that are like the wrong one
MAX_ALIKE = 4  # of those
MAX_VALUE = 60  # characters of a value in a message
NUMBERS = {2: "two", 3: "three", 4: "four"}
LENGTHS = ("missing", "too_long", "too_short")  # pydantic's names of what is wrong with a list as a whole


def nearest(name: str, allowed: Iterable[str]) -> str:
    """` Did you mean ...?` and what is allowed, as the end of a message; of a long list only what is like `name`."""
    options = list(allowed)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if len(options) <= MAX_SHOWN:
        ranked = [*close, *(option for option in options if option not in close)]
        return f"{hint}\nAllowed: {', '.join(ranked)}."
    alike = difflib.get_close_matches(name, options, n=MAX_ALIKE, cutoff=0.0)
    return f"{hint}\nNearest: {', '.join(alike)}; hpsearch init shows all keys."


def describe(model: type[Section], values: Mapping[str, Any], error: ValidationError, prefix: str) -> str:
    """The first thing that pydantic has to say of `model(**values)`, as two lines."""
    first = error.errors(include_url=False)[0]
    names, field, rest = _find(model, first["loc"])
    key = ".".join([*([prefix] if prefix else []), *names])
    if first["type"] == "extra_forbidden":
        return _no_key(model, key, str(rest[-1]), field)
    assert field is not None, "only a key that is not there has no field"
    wrong = first["input"]
    whole = reduce(lambda table, name: table[name], names, values) if rest else wrong
    refused = f"{key} = {_shown(whole)} is not allowed"
    if isinstance(whole, list | tuple) and whole is not wrong and first["type"] not in LENGTHS:
        refused += f": {_shown(wrong)}"
    allowed = _allowed(key, field, finite=first["type"] == "finite_number")
    if first["type"] == "value_error":
        allowed = first["msg"].removeprefix("Value error, ")
    if wish := wish_of_value(key, wrong):
        return f"{refused}.\n{_sentence(wish)} {_sentence(allowed)}"
    known = _known(field) if isinstance(wrong, str) else []
    if first["type"] == "literal_error" and known:
        return f"{refused}.{nearest(wrong, known)}"
    path = meant(wrong) if key.endswith("data.source") and isinstance(wrong, str) else None
    known = [] if ":" in str(wrong) else known  # values are without; a form with its amount is not like one
    close = [path] if path else difflib.get_close_matches(str(wrong), known, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{refused}.{hint}\n{_sentence(allowed)}"


def _no_key(model: type[Section], table: str, name: str, field: FieldInfo | None) -> str:
    """Of a key that is not there: what is said of it, the table that has it, or its likes in its own."""
    key = f"{table}.{name}" if table else name
    refused = f"{key} is not a key of a study file."
    if wish := wish_of_key(key):
        return f"{refused}\n{_sentence(wish)}"
    owner: Any = (field and _table(field.annotation)) or model
    allowed = nearest(name, owner.model_fields)
    tables = {other: _table(each.annotation) for other, each in model.model_fields.items()}
    elsewhere = [f"{other}.{name}" for other, keys in tables.items() if keys is not None and name in keys.model_fields]
    if elsewhere:
        return f"{refused} Did you mean {elsewhere[0]!r}?\n{allowed.rpartition(chr(10))[2]}"
    return f"{refused}{allowed}"


def _find(model: type[Section], location: Sequence[int | str]) -> tuple[list[str], FieldInfo | None, tuple[Any, ...]]:
    """The names of keys along a location, the field that it ends in, and what of it lies inside that field's value."""
    section: Any = model
    names: list[str] = []
    field: FieldInfo | None = None
    for index, part in enumerate(location):
        if section is None or part not in section.model_fields:
            return names, field, tuple(location[index:])
        names.append(str(part))
        field = section.model_fields[str(part)]
        section = _table(field.annotation)
    return names, field, ()


def _table(annotation: Any) -> type[Section] | None:
    """The table that a field is, or may be."""
    kind = _bare(annotation, [])[0]
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(thaw(value))
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith("?") else ".")


def _known(field: FieldInfo) -> list[str]:
    """The values of a key that can be listed, or some of them; of a list, those of its elements."""
    annotation, metadata = _bare(field.annotation, field.metadata)
    if get_origin(annotation) is tuple:
        annotation, metadata = _bare(get_args(annotation)[0], [])
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [value for each in metadata if isinstance(each, Known) for value in each.values]


def _allowed(key: str, field: FieldInfo, *, finite: bool = False) -> str:
    if _table(field.annotation) is not None:
        return f"allowed: a table, as [{key}] with its keys below it"
    words = _words(field.annotation, field.metadata, finite=finite)
    if get_origin(_bare(field.annotation, [])[0]) is tuple:
        example = (field.examples or [field.get_default()])[0]
        words += f": {json.dumps(thaw(example))}"
    return f"allowed: {words}"


def _bare(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A type without `Annotated` and `| None` around it, and what was said of it there."""
    said = list(metadata)
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            said += [bound for each in more for bound in (each.metadata if isinstance(each, FieldInfo) else [each])]
        elif get_origin(annotation) in (Union, UnionType):
            annotation = next(each for each in get_args(annotation) if each is not type(None))
        else:
            return annotation, said


def _words(annotation: Any, metadata: Sequence[Any], *, finite: bool = False, plural: bool = False) -> str:
    annotation, metadata = _bare(annotation, metadata)
    inner = get_args(annotation)
    match get_origin(annotation) or annotation:
        case origin if origin is Literal:
            return ", ".join(map(str, inner))
        case origin if origin is tuple:
            count = "a list of" if inner[-1] is ... else NUMBERS[len(inner)]
            return f"{count} {_words(inner[0], [], plural=True)}"
        case origin if origin is dict:
            return "a table, as { name = value }"
        case number if number in (int, float):
            kind = ("whole " if number is int else "finite " if finite else "") + "number"
            return (f"{kind}s" if plural else f"a {kind}") + _bounds(metadata)
        case kind if kind is bool:
            return "true or false"
    return next((str(each) for each in metadata if isinstance(each, Known)), "text")


def _bounds(metadata: Sequence[Any]) -> str:
    bounds: list[str] = []
    for bound in metadata:
        match bound:
            case annotated_types.Ge(ge=value):
                bounds.append(f"of at least {value}")
            case annotated_types.Gt(gt=value):
                bounds.append(f"above {value}")
            case annotated_types.Le(le=value):
                bounds.append(f"at most {value}")
            case annotated_types.Lt(lt=value):
                bounds.append(f"below {value}")
    return f" {' and '.join(bounds)}" if bounds else ""


def true_for_a_number(model: type[Section], values: Mapping[str, Any], prefix: str = "") -> str | None:
    """What to say of the first number that is given as true or false, which Python would take for 1 and 0."""
    for name, value in values.items():
        field = model.model_fields.get(name)
        key = f"{prefix}.{name}" if prefix else name
        if field is not None and isinstance(value, bool) and _bare(field.annotation, [])[0] in (int, float):
            return f"{key} = {_shown(value)} is not allowed.\n{_sentence(_allowed(key, field))}"
        section = _table(field.annotation) if field is not None else None
        if section is None or not isinstance(value, Mapping):
            continue
        if wrong := true_for_a_number(section, value, key):
            return wrong
    return None
