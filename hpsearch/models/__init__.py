"""Networks: what a study file's [model] section can name, how their weights start, how much work they are."""

from hpsearch.models.initialization import drawn_weight_names, initialize, weight_names
from hpsearch.models.layers import NOISES, NOISY, Dropout
from hpsearch.models.multiplications import NetSize, net_size, num_multiplications
from hpsearch.models.nets import build, build_initialized

__all__ = [
    "NOISES",
    "NOISY",
    "Dropout",
    "NetSize",
    "build",
    "build_initialized",
    "drawn_weight_names",
    "initialize",
    "net_size",
    "num_multiplications",
    "weight_names",
]
