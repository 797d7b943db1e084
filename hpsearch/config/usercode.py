"""The user's own code, named `module:function` in model.name, data.source, train.metric: whom to trust, how to load it.

The rule: a name is imported only if whoever started this process gave it, in a study file, a flag or an environment
variable, or said that it may be (`--trust`, HPSEARCH_TRUST, `hpsearch.trust`). A name that is in the database alone is
refused before anything is imported: whoever can write the database must not gain code execution.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpsearch.config.augmentations import is_own
from hpsearch.config.data_sources import PREFIXES
from hpsearch.config.data_sources import is_user_code as is_user_code  # the form; here is what follows from it
from hpsearch.config.module_files import module_file
from hpsearch.errors import ConfigError, HpsearchError, RefusedError, Typed

KEYS = ("name", "source", "metric", "function", "augment", "step")
"""Keys that may name code: model.name, data.source, train.metric, train.step, objective.function, data.augment, also as
a range and in a stage's `set`."""
COMMAND = "command"
"""In place of a module, of a program that a study calls."""
MAX_FRAMES = 4  # of a user's traceback in a message, the innermost ones

_trusted: set[str] = set()
_in_memory: dict[str, str] = {}
"""Hashes of functions that have no file of their own, by name."""


class UserCodeError(ConfigError):
    """The user's code cannot be imported, raises, or gives something else than it should."""


def trust(*names: str) -> None:
    """Let this process import them: `module` for all functions that it defines, or `module:function`.

    Raises:
        ConfigError: it is no such name.
    """
    for name in names:
        if (prefix := name.partition(":")[0]).lower() in PREFIXES:
            raise ConfigError(f"{name!r} is no code, so it need not be trusted: {prefix!r} is a prefix, not a module.")
        if not is_user_code(name if ":" in name else f"{name}:x"):
            raise ConfigError(f"{name!r} cannot be trusted.\nAllowed: a module (mynets) or a function (mynets:small).")
    _trusted.update(names)


def trusted() -> str:
    """All that this process trusts, as HPSEARCH_TRUST has it: for the workers that it starts."""
    return ",".join(sorted(_trusted))


def names_in(values: Any) -> set[str]:
    """The user's code in plain values of a study file: named under one of the KEYS, or as one of several choices."""
    return set(_named(values, ()))


def _named(values: Any, path: tuple[str, ...]) -> Iterator[str]:
    if path[-2:] == ("objective", "command") and values:
        yield command_name(values)
    elif isinstance(values, Mapping):
        for key, value in values.items():
            if key not in ("options", "params"):
                yield from _named(value, path if key == "choice" else (*path, *str(key).split(".")))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _named(value, path)
    elif isinstance(values, str) and path and path[-1] in KEYS and "options" not in path and _names(path[-1], values):
        yield values


def _names(key: str, value: str) -> bool:
    return is_own(value) if key == "augment" else is_user_code(value)


def command_name(words: Sequence[str]) -> str:
    """What a program with its arguments is trusted by: `command:x` and a hash of them."""
    return f"{COMMAND}:x{hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:16]}"


def refuse_untrusted(names: Iterable[str]) -> None:
    """Say no to names that nobody has vouched for; imports nothing.

    Raises:
        RefusedError: the first one, and how to allow it.
    """
    for name in sorted(names):
        module = name.partition(":")[0]
        if module == COMMAND and name not in _trusted:
            raise RefusedError(
                f"a program ({name}) is named by the database, not by you, so it is not started.\nSee what it is with ",
                Typed(("hpsearch", "best", "STUDY", "-f", "toml")),
                f"; if it is yours, allow it: --trust {name}.",
            )
        if not {name, module} & _trusted:
            raise RefusedError(
                f"the code {name!r} is named by the database, not by you, so it is not imported.\n"
                f"If it is yours, allow it: --trust {module}, HPSEARCH_TRUST={module} in the environment, "
                f"or hpsearch.trust({module!r}) in Python."
            )


def load(name: str) -> Callable[..., Any]:
    """The function of that name; its module may lie in the working folder, as with `python -m`.

    Raises:
        RefusedError: the name is not trusted; nothing has been imported.
        UserCodeError: the module is not there or raises, or has no such function.
    """
    refuse_untrusted([name])
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") and module_file(module_name) is None:  # a package may have a module named py
        dotted = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise UserCodeError(f"{name}: code is named by its module, not by its file.\nAllowed: {dotted}:{attribute}.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        with blame(name, "importing it"):
            module = importlib.import_module(module_name)
    except UserCodeError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{module_name}.".startswith(f"{cause.name}."):
            raise UserCodeError(
                f"{name}: there is no module {cause.name!r}.\nLooked in {here} and among the installed packages."
            ) from cause
        raise
    function = getattr(module, attribute, None)
    if not callable(function):
        own = sorted(key for key, value in vars(module).items() if callable(value) and _defines(module_name, value))
        close = difflib.get_close_matches(attribute, own, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        found = f"is a {type(function).__name__}, no function," if hasattr(module, attribute) else "is not there"
        raise UserCodeError(
            f"{name}: {attribute!r} {found} in {getattr(module, '__file__', None) or module_name}.{hint}\n"
            f"It defines: {', '.join(own) or 'nothing to call'}."
        )
    if name not in _trusted and not _defines(module_name, function):
        # A module that imports, say, subprocess.run has it as an attribute; that was not what --trust meant.
        raise RefusedError(f"{name} is defined elsewhere than in {module_name}.\nAllow it by its name: --trust {name}.")
    return function  # type: ignore[no-any-return]


def _defines(module: str, value: Any) -> bool:
    return getattr(value, "__module__", None) == module and not getattr(value, "__name__", "_").startswith("_")


@contextmanager
def blame(name: str, doing: str) -> Iterator[None]:
    """What is raised within is the user's: said in one line, with the frames of their code alone.

    Raises:
        UserCodeError: whatever was raised, but for hpsearch's own errors, a lack of memory and interruptions.
    """
    try:
        yield
    except (MemoryError, HpsearchError):
        raise
    except (Exception, SystemExit) as error:
        said = traceback.format_exception_only(error)
        detail = "".join([*_frames(error), *(said[:-1] if isinstance(error, SyntaxError) else [])]).rstrip()
        raise UserCodeError(f"{name}: {doing} raised {said[-1].strip()}" + (f"\n{detail}" if detail else "")) from error


def _frames(error: BaseException) -> list[str]:
    """The innermost frames that are neither hpsearch's nor torch's nor the import system's."""
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    foreign = tuple(f"{Path(file).parent}{os.sep}" for file in (str(Path(__file__).parent), torch) if file)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*foreign, "<frozen importlib"))
        and Path(frame.filename).parent != Path(importlib.__file__ or "").parent
    ]
    return traceback.format_list(frames[-MAX_FRAMES:])


def their_frames(error: BaseException) -> str:
    """Where in the user's code an error came about, as a traceback shows it; empty where that was not in it."""
    modules = (sys.modules.get(name.partition(":")[0]) for name in _trusted)
    files = {getattr(module, "__file__", None) for module in modules if module is not None}
    if not any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__)):
        return ""
    while (top := error.__traceback__) is not None and top.tb_frame.f_code.co_filename not in files:
        error = error.with_traceback(top.tb_next)  # the command's own frames
    return "".join(_frames(error)).rstrip()


def note_hash(name: str, digest: str) -> None:
    """What tells this function, which has no file of its own, from another one of its name."""
    _in_memory[name] = digest


def source_hashes(names: Iterable[str]) -> dict[str, str]:
    """By module: the start of a hash of its file, so that a change can be noted; only of modules that are loaded."""
    names = list(names)
    hashes = {name: _in_memory[name] for name in names if name in _in_memory}
    for module_name in sorted({name.partition(":")[0] for name in names if name not in _in_memory}):
        file = getattr(sys.modules.get(module_name), "__file__", None)
        if file and Path(file).is_file():
            hashes[module_name] = f"sha256:{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
    return hashes
