"""Networks: what a study file's [model] section can name, and how their weights start."""

from hpsearch.models.initialization import initialize, weight_names
from hpsearch.models.layers import Dropout
from hpsearch.models.nets import build, build_initialized

__all__ = ["Dropout", "build", "build_initialized", "initialize", "weight_names"]
