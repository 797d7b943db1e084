"""What a net's layers put out before any training: whether the signal gets through, by initialization.

Source: the activation statistics of CS231n, lecture 6; Glorot & Bengio 2010. Shapes: B = batch, C = channels, H, W =
image height and width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.net_names import is_library_net
from hpsearch.config.usercode import is_user_code
from hpsearch.models import NOISES, build_initialized, drawn_weight_names

Verdict = Literal["healthy", "collapsing", "growing", "dead", "saturated", "dead units"]

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
INITS = ("small:0.01", "lecun", "xavier", "he")
"""Those that are compared with the chosen one."""

OWN = "its own"  # initialization of a net of the user's

COLLAPSING = 0.1  # std of the last hidden layer over that of the first: below, learning starts late
DEAD = 1e-6  # std of the last hidden layer over that of the input: below, nothing of the image reaches the classes
GROWING = 10.0  # std of a hidden layer over that of the first or of the input: above, the signal blows up
SATURATED = 0.5  # share of a tanh or sigmoid layer's outputs at their ends, where gradients vanish
END = 0.01  # of the activation's span: nearer to an end is at it
# Share of a layer's units that are 0 for every image. Fresh MLPs and convnets of up to 12 layers have 0.36 at most, on
# digits, faces and CIFAR-10, 5 seeds, whatever the size of their weights; MLPs of 20 layers up to 0.43, and as much
# where all inputs are far from 0 on one side.
DEAD_UNITS = 0.4
NORMALIZING = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class LayerActivations:
    """One layer's outputs over some images.

    `std` is over the images, root mean square over the units: what is the same for every image carries no signal.
    """

    layer: str
    mean: float
    std: float
    at_ends: float
    """Share of outputs at the ends of a tanh or sigmoid; 0 for unbounded activations."""
    dead: float = 0.0
    """Share of ReLU units (channels, in a convolution) that are 0 for every image, and everywhere in it."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, to three digits."""
        numbers = ("mean", "std", "at_ends", "dead")
        return {"layer": self.layer, **{key: float(f"{getattr(self, key):.3g}") for key in numbers}}


@dataclass(frozen=True)
class Activations:
    """A net's hidden layers under one initialization, and what they say."""

    init: str
    verdict: Verdict
    layers: tuple[LayerActivations, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"init": self.init, "verdict": self.verdict, "layers": [layer.as_dict() for layer in self.layers]}


@torch.no_grad()
def activations(config: ModelConfig, seed: int, x_BCHW: Tensor, num_classes: int) -> Activations:
    """Send images through a freshly initialized net and look at what follows each activation function.

    In training mode, so that batch normalization takes its statistics from these images, and without dropout.

    Raises:
        ConfigError: the net does not fit the images.
    """
    _, *shape = x_BCHW.shape
    channels, height, width = shape
    config = config.model_copy(update=dict.fromkeys(NOISES, 0.0))
    net = fresh_net(config, (channels, height, width), num_classes, seed, x_BCHW).to(x_BCHW).train()
    layers: list[LayerActivations] = []
    calls: Counter[str] = Counter()

    def observe(name: str, module: nn.Module, output: Tensor) -> None:
        calls[name] += 1  # a ResNet calls one module twice in a block
        found = _measure(name if calls[name] == 1 else f"{name}#{calls[name]}", module, output)
        # Fixup's branches begin at 0, and with them the channels that a shortcut pads: they wait for the first steps.
        layers.append(replace(found, dead=0.0) if config.init == "fixup" else found)

    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: observe(name, module, output))
        for name, module in net.named_modules()
        if isinstance(module, ACTIVATIONS) or _is_none(name, module)
    ]
    try:
        net(x_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    init = OWN if _has_its_own(config) else config.init
    normalized = any(isinstance(module, NORMALIZING) for module in net.modules())
    input_std = layers[0].std if normalized and layers else spread(x_BCHW)  # which says nothing behind a normalization
    return Activations(init, judge(layers, input_std), tuple(layers))


@torch.no_grad()
def fresh_net(
    config: ModelConfig, shape: tuple[int, int, int], num_classes: int, seed: int, x_BCHW: Tensor | None = None
) -> nn.Module:
    """The net as its training begins, in float64 on the CPU: with its initial weights times their init_scale.

    `x_BCHW` are images for an initialization that looks at some.

    Raises:
        ConfigError, RefusedError: as `models.build`.
    """
    net = build_initialized(config, shape, num_classes, seed, x_BCHW)
    weights = set(drawn_weight_names(net))
    for name, parameter in net.named_parameters():
        if name in weights:
            parameter.mul_(config.init_scale)
    return net


def compare_inits(config: ModelConfig, seed: int, x_BCHW: Tensor, num_classes: int) -> list[Activations]:
    """The chosen initialization first, with its init_scale, then the well-known ones without.

    A net of the user's, or of a library, has its own initialization alone.
    """
    if _has_its_own(config):
        return [activations(config, seed, x_BCHW, num_classes)]
    others = [config.model_copy(update={"init": init, "init_scale": 1.0}) for init in INITS if init != config.init]
    return [activations(each, seed, x_BCHW, num_classes) for each in (config, *others)]


def _is_none(name: str, module: nn.Module) -> bool:
    """Whether it is where model.activation = none leaves out an activation function."""
    return type(module) is nn.Identity and name.startswith(("act", "fc_act"))


def _has_its_own(config: ModelConfig) -> bool:
    return is_user_code(config.name) or is_library_net(config.name)


def judge(layers: Sequence[LayerActivations], input_std: float) -> Verdict:
    """What the hidden layers say, in order.

    saturated: half of a tanh or sigmoid layer sits at its ends; growing: a layer has more than 10 times the std of the
    first one or of the input; dead: the last one has less than a millionth of the input's std; collapsing: it has less
    than a tenth of the first one's; dead units: 40% of a layer's are 0 for every image; else healthy. A net without
    hidden layers is healthy: its initial loss says the rest.
    """
    if not layers:
        return "healthy"
    first, last = layers[0].std, layers[-1].std
    if any(layer.at_ends >= SATURATED for layer in layers):
        return "saturated"
    if not all(layer.std <= GROWING * input_std and layer.std <= GROWING * first for layer in layers):  # true for nan
        return "growing"
    if last <= DEAD * input_std:
        return "dead"
    if last < COLLAPSING * first:
        return "collapsing"
    return "dead units" if any(layer.dead >= DEAD_UNITS for layer in layers) else "healthy"


def spread(x_B: Tensor) -> float:
    """Std over the first dimension, root mean square over all others."""
    return float(x_B.flatten(1).std(0, correction=0).square().mean().sqrt())


def _measure(name: str, module: nn.Module, output: Tensor) -> LayerActivations:
    at_ends = 0.0
    if isinstance(module, nn.Tanh | nn.Sigmoid):
        low = -1.0 if isinstance(module, nn.Tanh) else 0.0
        near = END * (1.0 - low)
        at_ends = float(((output < low + near) | (output > 1.0 - near)).double().mean())
    dead = 0.0
    if isinstance(module, nn.ReLU):
        dead = float((output.transpose(0, 1).flatten(1) == 0).all(1).double().mean())
    return LayerActivations(name, float(output.mean()), spread(output), at_ends, dead)
