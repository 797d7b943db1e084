"""The nets of the lectures, fitted to any image: linear, mlp, LeNet-5, convnet and ResNet.

Shapes: B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import cast

import torch
from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.config.net_names import is_library_net
from hpsearch.config.usercode import is_user_code
from hpsearch.errors import ConfigError
from hpsearch.models.given_weights import load_given
from hpsearch.models.initialization import initialize
from hpsearch.models.layers import Dropout
from hpsearch.models.library_nets import Head, build_library_net
from hpsearch.models.stages import head_names
from hpsearch.models.user import build_user_net

Shape = tuple[int, int, int]  # channels, height, width
Layers = list[tuple[str, nn.Module]]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}

SMALL_IMAGE = 64  # pixels a side; up to here a ResNet keeps the full resolution in its stem


def build(config: ModelConfig, shape: Shape, num_classes: int, seed: int = 0) -> nn.Module:
    """The net that `config` names, from x_BCHW to logits_BC, in float32 on the CPU.

    Its weights are not those of `config.init` yet: see `initialize`. A net of the user's has its own, drawn from
    `seed`, and so has one of a library, without the weights of a training before. Dropout layers are left out at
    rate 0, and no name of a parameter depends on them. The caller's random state stays as it is.

    Raises:
        ConfigError: the net does not fit images of this shape, or the user's function fails.
        RefusedError: the user's function is not trusted; see `config.usercode`.
    """
    if is_user_code(config.name):
        return build_user_net(config, shape, num_classes, seed)
    if is_library_net(config.name):
        return build_library_net(config, shape, seed, partial(_new_head, config, num_classes))
    builders = {"linear": _linear, "mlp": _mlp, "lenet": _lenet, "convnet": _convnet, "resnet": _resnet}
    with torch.random.fork_rng(devices=[]):  # PyTorch's own initialization draws from the global state
        return builders[config.name](config, shape, num_classes)


def build_initialized(config: ModelConfig, shape: Shape, num_classes: int, seed: int) -> nn.Module:
    """The net with its initial weights, in float64 on the CPU: by `config.init`, or the user's own.

    A net of a library has the weights that it is given, or the library's initial ones, and a head by `config.init`,
    drawn from `seed`.

    Raises:
        ConfigError, RefusedError: as `build`.
    """
    net = build(config, shape, num_classes, seed).double()
    if is_library_net(config.name):
        load_given(net, config, shape)
        for name in head_names(net):
            initialize(net.get_submodule(name), config.init, seed)
    elif not is_user_code(config.name):
        initialize(net, config.init, seed)
    return net


def _new_head(config: ModelConfig, num_classes: int, num_features: int) -> nn.Module:
    """Of a library's net: as `linear`, or as `mlp` where there are hidden layers."""
    if not config.hidden:
        return Head(num_features, num_classes, config.dropout)
    layers = _fully_connected(config, num_features, config.hidden, num_classes)
    return _sequential([("flatten", nn.Flatten()), *layers])


def _linear(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    return _sequential([("flatten", nn.Flatten()), *_fully_connected(config, math.prod(shape), (), num_classes)])


def _mlp(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    head = _fully_connected(config, math.prod(shape), config.hidden, num_classes, batch_norm=config.batch_norm)
    return _sequential([("flatten", nn.Flatten()), *head])


def _lenet(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) with max pooling; exactly its shapes for 28x28 and 32x32.

    A 5x5 convolution is padded, so that it keeps the size, along a side shorter than the paper's: below 32 pixels
    before the first one, below 10 before the second.
    """
    channels, *sides = shape
    if min(sides) < 4:
        raise ConfigError(f'model.name = "lenet" pools a {_size(shape)} image to nothing.\nAllowed: at least 4x4.')
    layers: Layers = []
    for index, (out_channels, full_size) in enumerate([(6, 32), (16, 10)], start=1):
        padding = [2 if side < full_size else 0 for side in sides]
        conv = nn.Conv2d(channels, out_channels, kernel_size=5, padding=(padding[0], padding[1]))
        layers += [(f"conv{index}", conv), (f"act{index}", _activation(config)), (f"pool{index}", nn.MaxPool2d(2))]
        sides = [(side + 2 * pad - 4) // 2 for side, pad in zip(sides, padding, strict=True)]
        channels = out_channels
    head = _fully_connected(config, channels * math.prod(sides), (120, 84), num_classes)
    return _sequential([*layers, ("flatten", nn.Flatten()), *head])


def _convnet(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    """`[(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K`: 3x3 convolutions that keep the size, 2x2 max pools."""
    channels, height, width = shape
    most_blocks = int(math.log2(min(height, width)))
    if config.pool and len(config.channels) > most_blocks:
        raise ConfigError(
            f"model.channels = {list(config.channels)}: {len(config.channels)} pools shrink a {_size(shape)} image "
            f"to nothing.\nAllowed: up to {most_blocks} blocks, or pool = false."
        )
    layers: Layers = []
    for block, out_channels in enumerate(config.channels, start=1):
        for index in range(1, config.convs + 1):
            place = f"{block}_{index}"
            conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=not config.batch_norm)
            layers.append((f"conv{place}", conv))
            if config.batch_norm:
                layers.append((f"norm{place}", nn.BatchNorm2d(out_channels)))
            layers.append((f"act{place}", _activation(config)))
            channels = out_channels
        if config.pool:
            layers.append((f"pool{block}", nn.MaxPool2d(2)))
            height, width = height // 2, width // 2
    num_inputs = channels * height * width
    head = _fully_connected(config, num_inputs, config.hidden, num_classes, batch_norm=config.batch_norm)
    return _sequential([*layers, ("flatten", nn.Flatten()), *head])


def _resnet(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    """torchvision's ResNet without weights; small images get a 3x3 stem of stride 1 (He et al. 2015, section 4.2)."""
    import torchvision  # a second of import that no other net needs

    net: torchvision.models.ResNet = getattr(torchvision.models, f"resnet{config.depth}")(num_classes=num_classes)
    channels, height, width = shape
    small = max(height, width) <= SMALL_IMAGE
    kernel, stride = (3, 1) if small else (7, 2)
    net.conv1 = nn.Conv2d(channels, 64, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False)
    if small:
        net.maxpool = nn.Identity()
    if config.dropout > 0:
        net.avgpool = nn.Sequential(net.avgpool, Dropout(config.dropout))  # so that fc keeps its name
    return cast(nn.Module, net)


def _fully_connected(
    config: ModelConfig, num_inputs: int, hidden: tuple[int, ...], num_classes: int, *, batch_norm: bool = False
) -> Layers:
    """(FC-RELU)*K-FC, with dropout before each FC but the first, or before the only one.

    A layer in front of a batch normalization has no bias: it would be subtracted again.
    """
    layers: Layers = []
    for index, num_outputs in enumerate([*hidden, num_classes], start=1):
        if config.dropout > 0 and (index > 1 or not hidden):
            layers.append((f"fc_dropout{index}", Dropout(config.dropout)))
        normalized = batch_norm and index <= len(hidden)
        layers.append((f"fc{index}", nn.Linear(num_inputs, num_outputs, bias=not normalized)))
        if index <= len(hidden):
            if normalized:
                layers.append((f"fc_norm{index}", nn.BatchNorm1d(num_outputs)))
            layers.append((f"fc_act{index}", _activation(config)))
        num_inputs = num_outputs
    return layers


def _activation(config: ModelConfig) -> nn.Module:
    return ACTIVATIONS[config.activation]()


def _sequential(layers: Iterable[tuple[str, nn.Module]]) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


def _size(shape: Shape) -> str:
    return f"{shape[1]}x{shape[2]}"
