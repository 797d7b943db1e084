"""Update rules over the stacked parameters of K trials."""

from hpsearch.training.optimizers.adam import ADAM_EPS, corrected
from hpsearch.training.optimizers.base import Optimizer
from hpsearch.training.optimizers.making import IN_ONE_PASS, make_optimizer

__all__ = ["ADAM_EPS", "IN_ONE_PASS", "Optimizer", "corrected", "make_optimizer"]
