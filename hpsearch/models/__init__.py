"""Networks: what a study file's [model] section can name, and how their weights start."""

from hpsearch.models.initialization import initialize, weight_names
from hpsearch.models.layers import Dropout
from hpsearch.models.nets import build

__all__ = ["Dropout", "build", "initialize", "weight_names"]
