"""hpsearch: hyperparameter search for PyTorch image classifiers, from coarse to fine.

`check`, `train`, `coarse`, `fine`, `run`, `compare` and `ensemble` are the commands of the same names; `studies` lists
what is in a storage, and `load` reads one; `Objective` is the trainer as an Optuna objective; `TrialEnded` ends a trial
of a function of yours; `trust` allows code of yours that only the database names. They are imported when first used, so
that `import hpsearch` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpsearch.version import __version__

if TYPE_CHECKING:
    from hpsearch.config.usercode import trust
    from hpsearch.programs.calling import TrialEnded
    from hpsearch.search.api import Stage, coarse, fine, load, train
    from hpsearch.search.objective import Objective
    from hpsearch.search.procedure import Procedure, run
    from hpsearch.search.python_commands import check, compare, ensemble, studies

__all__ = [
    "Objective",
    "Procedure",
    "Stage",
    "TrialEnded",
    "__version__",
    "check",
    "coarse",
    "compare",
    "ensemble",
    "fine",
    "load",
    "run",
    "studies",
    "train",
    "trust",
]

_HOMES = {
    "Objective": "search.objective",
    "Procedure": "search.procedure",
    "Stage": "search.api",
    "TrialEnded": "programs.calling",
    "check": "search.python_commands",
    "coarse": "search.api",
    "compare": "search.python_commands",
    "ensemble": "search.python_commands",
    "fine": "search.api",
    "load": "search.api",
    "run": "search.procedure",
    "studies": "search.python_commands",
    "train": "search.api",
    "trust": "config.usercode",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
