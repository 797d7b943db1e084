"""How often each unit of a trained net is silent: dead units show as 1, useless ones near it.

Shapes: B = batch, C = channels or units, H, W = height and width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.models import build
from hpsearch.models.nets import ACTIVATIONS

CHUNK = 250  # images at a time


@torch.no_grad()
def unit_sparsity(
    config: ModelConfig, state: Mapping[str, Tensor], x_BCHW: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """By activation layer: the share of images (and places, in a convolution) at which each unit gives exactly 0.

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
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: zeros[name].append(_share(output)))
        for name, layer in net.named_modules()
        if type(layer) in ACTIVATIONS.values() and type(layer) is not nn.Identity
    ]
    try:
        for chunk in torch.split(x_BCHW, CHUNK):
            net(chunk)
    finally:
        for hook in hooks:
            hook.remove()
    # A layer used at places of several widths (ResNet's ReLUs) is looked at where it was used last.
    return {
        name: torch.stack([share for share in shares if len(share) == len(shares[-1])]).mean(0)
        for name, shares in zeros.items()
    }


def _share(output: Tensor) -> Tensor:
    """Share of zeros of each unit, of shape [C]."""
    units = output.transpose(0, 1).flatten(1)
    return (units == 0).float().mean(1)


def first_layer(state: Mapping[str, Tensor], shape: tuple[int, int, int]) -> Tensor | None:
    """The weights that look at the image, as pictures (units, C, H, W); None where they do not look at pixels."""
    weight = next((tensor for tensor in state.values() if tensor.ndim in (2, 4)), None)
    if weight is None:
        return None
    if weight.ndim == 2:
        channels, height, width = shape
        return weight.reshape(-1, channels, height, width) if weight.shape[1] == channels * height * width else None
    return weight
