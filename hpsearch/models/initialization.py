"""Initial weights: normal distributions whose width follows from the layer's fans.

Sources: LeCun et al. 1998 (lecun), Glorot & Bengio 2010 (xavier), He et al. 2015 (he).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hpsearch.errors import ConfigError


def weight_names(module: nn.Module) -> list[str]:
    """Names of the weights: trained parameters of 2 or more dimensions, so neither biases nor scales of norm layers."""
    return [name for name, p in module.named_parameters() if p.ndim >= 2 and p.requires_grad]


def drawn_weight_names(module: nn.Module) -> list[str]:
    """Those of the weights that model.init says: of a library's net the head's, of any other all."""
    said = getattr(module, "head_names", None)
    names = weight_names(module)
    return names if said is None else [name for name in names if name.startswith(tuple(f"{head}." for head in said))]


def standard_deviation(init: str, weight: Tensor) -> float:
    """Width of the normal distribution that `init` asks for, for one weight of shape [out, in, ...].

    Raises:
        ConfigError: `init` is not small:STD, lecun, xavier or he.
    """
    receptive_field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
    match init.partition(":"):
        case ("small", ":", std):
            return float(std)
        case ("lecun", "", ""):
            return math.sqrt(1 / fan_in)
        case ("xavier", "", ""):
            return math.sqrt(2 / (fan_in + fan_out))
        case ("he", "", ""):
            return math.sqrt(2 / fan_in)
    raise ConfigError(f"model.init = {init!r} is not allowed.\nAllowed: small:STD (as small:1e-4), lecun, xavier, he.")


@torch.no_grad()
def initialize(module: nn.Module, init: str, seed: int) -> None:
    """Set all parameters in place: weights normal, biases 0, norm layers 1 and 0 with fresh statistics.

    The numbers depend on `init`, `seed` and the order of the parameters alone: they are drawn on the CPU in
    float64 and then cast, so that every device and precision starts from the same weights.

    Raises:
        ConfigError: `init` is not known.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = set(weight_names(module))
    for name, parameter in module.named_parameters():
        if name in weights:
            normal = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(normal * standard_deviation(init, parameter))
        else:
            parameter.zero_()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            layer.reset_parameters()
