"""Spaces as pure functions: places in a range, draws, narrowing, boundary verdicts; then their Optuna face."""

from hpsearch.space.boundary import Verdict, boundary_verdicts
from hpsearch.space.called import holds, searched_range
from hpsearch.space.distributions import (
    from_internal,
    from_optuna,
    from_optuna_value,
    range_from_json,
    range_to_json,
    to_internal,
    to_optuna,
    to_optuna_value,
)
from hpsearch.space.draws import draw_grid, draw_one, draw_qmc, draw_random
from hpsearch.space.interval import Limits
from hpsearch.space.narrowing import Narrowing, narrow
from hpsearch.space.observation import Direction, Observation, Outcome
from hpsearch.space.scale import describe_width, format_range, format_value, from_unit, to_unit

__all__ = [
    "Direction",
    "Limits",
    "Narrowing",
    "Observation",
    "Outcome",
    "Verdict",
    "boundary_verdicts",
    "describe_width",
    "draw_grid",
    "draw_one",
    "draw_qmc",
    "draw_random",
    "format_range",
    "format_value",
    "from_internal",
    "from_optuna",
    "from_optuna_value",
    "from_unit",
    "holds",
    "narrow",
    "range_from_json",
    "range_to_json",
    "searched_range",
    "to_internal",
    "to_optuna",
    "to_optuna_value",
    "to_unit",
]
