"""HEBO (Cowen-Rivers et al. 2022), which minimizes and knows no conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.search.problem import Run
from hpsearch.config import Choice, IntRange, Range


def hebo(run: Run) -> None:
    """With its defaults, one proposal at a time."""
    import torch
    from hebo.design_space.design_space import DesignSpace
    from hebo.optimizers.hebo import HEBO

    problem = run.problem
    np.random.seed(run.seed)
    torch.manual_seed(run.seed)
    space = DesignSpace().parse([_parameter(name, range_) for name, range_ in problem.space.items()])
    optimizer = HEBO(space, scramble_seed=run.seed)
    while run.left:
        proposed = optimizer.suggest(n_suggestions=1)
        params = {name: _plain(problem.space[name], proposed.iloc[0][name]) for name in problem.space}
        value = run.begin(params).train()
        told = problem.exploded_value if value is None else value
        optimizer.observe(proposed, np.array([[-told]]))


def _parameter(name: str, range_: Range) -> Mapping[str, Any]:
    if isinstance(range_, Choice):
        return {"name": name, "type": "cat", "categories": list(range_.values)}
    kind = {
        (False, False): "num",
        (False, True): "pow",
        (True, False): "int",
        (True, True): "pow_int",
    }[isinstance(range_, IntRange), range_.log]
    return {"name": name, "type": kind, "lb": range_.low, "ub": range_.high, **({"base": 10} if "pow" in kind else {})}


def _plain(range_: Range, value: Any) -> Any:
    if isinstance(range_, Choice):
        return value
    return int(value) if isinstance(range_, IntRange) else float(value)
