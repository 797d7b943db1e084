"""How often each unit of a trained net is silent: dead units show as 1, useless ones near it.

Shapes: B = batch, C = channels or units, H, W = height and width.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.models import build
from hpsearch.models.nets import ACTIVATIONS
from hpsearch.training.unit_statistics import DYING

CHUNK = 250  # images at a time


@torch.no_grad()
def unit_sparsity(
    config: ModelConfig, state: Mapping[str, Tensor], x_BCHW: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """By activation layer: the share of images (and places, in a convolution) at which each unit gives exactly 0.

    A layer that is called again in a pass is another one then, as `look_at_layers` names it: act, act#2.

    Args:
        config: of the net.
        state: a trial's weights and buffers, as `Pack.state` gives them.
        x_BCHW: images, on the device of the weights.
        num_classes: of the net.
    """
    net = build(config, (x_BCHW.shape[1], x_BCHW.shape[2], x_BCHW.shape[3]), num_classes).to(x_BCHW)
    net.load_state_dict(dict(state))
    net.eval()
    zeros: defaultdict[str, list[Tensor]] = defaultdict(list)
    calls: Counter[str] = Counter()

    def observe(name: str, output: Tensor) -> None:
        calls[name] += 1  # a ResNet calls one module twice in a block
        zeros[name if calls[name] == 1 else f"{name}#{calls[name]}"].append(_share(output) * len(output))

    kinds: tuple[type[nn.Module], ...] = (*ACTIVATIONS.values(), *DYING)
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: observe(name, output))
        for name, layer in net.named_modules()
        if type(layer) is not nn.Identity and isinstance(layer, kinds)
    ]
    try:
        for chunk in torch.split(x_BCHW, CHUNK):
            calls.clear()
            net(chunk)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (torch.stack(counts).sum(0) / len(x_BCHW)).float() for name, counts in zeros.items()}


def _share(output: Tensor) -> Tensor:
    """Share of zeros of each unit, of shape [C]."""
    units = output.transpose(0, 1).flatten(1)
    return (units == 0).double().mean(1)


def first_layer(state: Mapping[str, Tensor], shape: tuple[int, int, int]) -> Tensor | None:
    """The weights that look at the image, as pictures (units, C, H, W); None where they do not look at pixels."""
    weight = next((tensor for tensor in state.values() if tensor.ndim in (2, 4)), None)
    if weight is None:
        return None
    if weight.ndim == 2:
        channels, height, width = shape
        return weight.reshape(-1, channels, height, width) if weight.shape[1] == channels * height * width else None
    return weight
