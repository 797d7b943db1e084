"""SMAC3 (Lindauer et al. 2022), which minimizes: asked for one trial after the other, told its value."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.problem import Run
from hpsearch.config import Choice, IntRange, Range


@dataclass(frozen=True)
class Smac:
    """One of its facades, with its defaults: a random forest over hyperparameters, a process over a black box."""

    facade: str

    def __call__(self, run: Run) -> None:
        import smac
        from smac.runhistory.dataclasses import TrialValue

        problem = run.problem
        with tempfile.TemporaryDirectory() as folder:
            scenario = smac.Scenario(
                _config_space(problem.space, run.seed),
                deterministic=True,
                n_trials=run.budget // problem.epochs,
                seed=run.seed,
                output_directory=Path(folder),
            )
            optimizer: Any = getattr(smac, self.facade)(scenario, _never_called, overwrite=True, logging_level=False)
            while run.left:
                asked = optimizer.ask()
                value = run.begin({name: _plain(given) for name, given in asked.config.items()}).train()
                told = problem.exploded_value if value is None else value
                optimizer.tell(asked, TrialValue(cost=-told), save=False)


def _never_called(config: Any, seed: int = 0) -> float:
    raise AssertionError("trials are asked for")


def _config_space(space: Mapping[str, Range], seed: int) -> Any:
    from ConfigSpace import AndConjunction, ConfigurationSpace, InCondition

    found = ConfigurationSpace(seed=seed)
    parameters = {name: _parameter(name, range_) for name, range_ in space.items()}
    found.add(list(parameters.values()))
    for name, range_ in space.items():
        clauses = [InCondition(parameters[name], parameters[of], list(values)) for of, values in range_.when]
        if clauses:
            found.add(clauses[0] if len(clauses) == 1 else AndConjunction(*clauses))
    return found


def _parameter(name: str, range_: Range) -> Any:
    from ConfigSpace import Categorical, Float, Integer

    if isinstance(range_, Choice):
        return Categorical(name, list(range_.values))
    return (Integer if isinstance(range_, IntRange) else Float)(name, (range_.low, range_.high), log=range_.log)


def _plain(value: Any) -> Any:
    """Without NumPy's types."""
    return value.item() if hasattr(value, "item") else value
