"""Networks: what a study file's [model] section can name, how their weights start, how much work they are."""

from hpsearch.models.initialization import drawn_weight_names, initialize, weight_names
from hpsearch.models.layers import Dropout
from hpsearch.models.multiplications import num_multiplications
from hpsearch.models.nets import build, build_initialized

__all__ = [
    "Dropout",
    "build",
    "build_initialized",
    "drawn_weight_names",
    "initialize",
    "num_multiplications",
    "weight_names",
]
