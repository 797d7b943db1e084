"""Initial weights: distributions whose width follows from the layer's fans.

Sources: LeCun et al. 1998, "Efficient backprop" (lecun98; lecun is the same with the variance of its inputs kept),
Glorot & Bengio 2010 (xavier), He et al. 2015 (he, he-out; he-avg is theirs with the mean of both fans), Saxe et al.
2014 (orthogonal), Mishkin & Matas 2016 (lsuv), Zhang et al. 2019 (fixup).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hpsearch.config.schema.model import INIT_FORMS
from hpsearch.errors import ConfigError
from hpsearch.models.fixup import scale_branches
from hpsearch.models.lsuv import give_unit_variance

UNIFORM = "-uniform"  # at the end of a name: as wide, but with ends
SLOPE = 0.01  # of nn.LeakyReLU below 0
ORTHOGONAL = {"relu": math.sqrt(2), "leaky_relu": nn.init.calculate_gain("leaky_relu", SLOPE), "tanh": 5 / 3}
"""Gains of orthogonal weights by the activation behind them, as nn.init.calculate_gain has them; 1 for others."""


def weight_names(module: nn.Module) -> list[str]:
    """Names of the weights: trained parameters of 2 or more dimensions, so neither biases nor scales of norm layers."""
    return [name for name, p in module.named_parameters() if p.ndim >= 2 and p.requires_grad]


def drawn_weight_names(module: nn.Module) -> list[str]:
    """Those of the weights that model.init says: of a library's net the head's, of any other all."""
    said = getattr(module, "head_names", None)
    names = weight_names(module)
    return names if said is None else [name for name in names if name.startswith(tuple(f"{head}." for head in said))]


def standard_deviation(init: str, weight: Tensor, activation: str = "relu") -> float:
    """Width of the distribution that `init` asks for, for one weight of shape [out, in, ...].

    He's is that of ReLU for all activations but leaky_relu, which lets a little more through; the gain of another one
    is what model.init_scale is for.

    Raises:
        ConfigError: `init` has no width.
    """
    receptive_field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
    gain = 2 / (1 + SLOPE**2) if activation == "leaky_relu" else 2.0
    match init.removesuffix(UNIFORM).partition(":"):
        case ("small", ":", std):
            return float(std)
        case ("lecun", "", ""):
            return math.sqrt(1 / fan_in)
        case ("lecun98", "", ""):
            return math.sqrt(1 / (3 * fan_in))
        case ("xavier", "", ""):
            return math.sqrt(2 / (fan_in + fan_out))
        case ("he" | "fixup", "", ""):
            return math.sqrt(gain / fan_in)
        case ("he-out", "", ""):
            return math.sqrt(gain / fan_out)
        case ("he-avg", "", ""):
            return math.sqrt(2 * gain / (fan_in + fan_out))
    raise ConfigError(f"model.init = {init!r} is not allowed.\nAllowed: {INIT_FORMS}.")


@torch.no_grad()
def initialize(
    module: nn.Module,
    init: str,
    seed: int,
    *,
    activation: str = "relu",
    bias: float = 0.0,
    x_BCHW: Tensor | None = None,
) -> None:
    """Set all parameters in place: weights drawn, biases 0 or drawn, norm layers 1 and 0 with fresh statistics.

    The numbers depend on these arguments and the order of the parameters alone: they are drawn on the CPU in float64
    and then cast, so that every device and precision starts from the same weights.

    Args:
        module: of any precision.
        init: as model.init has it.
        seed: of what is drawn.
        activation: as model.activation has it.
        bias: standard deviation of the biases of layers with weights; they are drawn after all weights.
        x_BCHW: training images, which lsuv needs.

    Raises:
        ConfigError: `init` is not known, or needs images.
    """
    if init == "lsuv" and x_BCHW is None:
        raise ConfigError("model.init = 'lsuv' needs images.\nAllowed: another init where there are none.")
    generator = torch.Generator().manual_seed(seed)
    weights = set(weight_names(module))
    for name, parameter in module.named_parameters():
        if name in weights:
            parameter.copy_(_drawn(init, parameter, activation, generator))
        else:
            parameter.zero_()
    _reset_norms(module)
    if init == "fixup":
        scale_branches(module)
    if init == "lsuv":
        assert x_BCHW is not None
        give_unit_variance(module, x_BCHW)
        _reset_norms(module)
    if bias > 0:
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
                layer.bias.copy_(bias * torch.randn(layer.bias.shape, generator=generator, dtype=torch.float64))


def _drawn(init: str, weight: Tensor, activation: str, generator: torch.Generator) -> Tensor:
    if init in ("orthogonal", "lsuv"):
        # Those of lsuv get the width that images ask for.
        return _orthogonal(weight, ORTHOGONAL.get(activation, 1.0) if init == "orthogonal" else 1.0, generator)
    width = standard_deviation(init, weight, activation)
    if init.endswith(UNIFORM):
        uniform = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        return (2 * uniform - 1) * (math.sqrt(3) * width)
    return torch.randn(weight.shape, generator=generator, dtype=torch.float64) * width


def _orthogonal(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    """Rows, or where there are more of these the columns, of length `gain` and orthogonal; uniform among such."""
    rows, columns = len(weight), weight[0].numel()
    normal = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    unique: Tensor = q * r.diagonal().sign()
    return gain * (unique if rows >= columns else unique.T).reshape(weight.shape)


def _reset_norms(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            layer.reset_parameters()
