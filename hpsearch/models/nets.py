"""The nets of the lectures, fitted to any image: linear, mlp, LeNet-5, convnet, VGG and ResNet.

Shapes: B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.net_names import is_library_net
from hpsearch.config.usercode import is_user_code
from hpsearch.errors import ConfigError
from hpsearch.models.given_weights import load_given
from hpsearch.models.initialization import initialize
from hpsearch.models.layers import DropConnect, Dropout
from hpsearch.models.library_nets import Head, build_library_net
from hpsearch.models.norms import SUBTRACTING, norm_of_channels, norm_of_units
from hpsearch.models.resnet import build_resnet
from hpsearch.models.stages import head_names
from hpsearch.models.user import build_user_net

Shape = tuple[int, int, int]  # channels, height, width
Layers = list[tuple[str, nn.Module]]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}
POOLS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}

# Configurations A, B, D and E of Simonyan & Zisserman 2015: 3x3 convolutions in each block.
VGG_CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG_CHANNELS = (64, 128, 256, 512, 512)


def build(config: ModelConfig, shape: Shape, num_classes: int, seed: int = 0) -> nn.Module:
    """The net that `config` names, from x_BCHW to logits_BC, in float32 on the CPU.

    Its weights are not those of `config.init` yet: see `initialize`. A net of the user's has its own, drawn from
    `seed`, and so has one of a library, without the weights of a training before. Layers of noise are left out at
    rate 0, and no name of a parameter depends on them. The caller's random state stays as it is.

    Raises:
        ConfigError: the net does not fit images of this shape, or the user's function fails.
        RefusedError: the user's function is not trusted; see `config.usercode`.
    """
    if is_user_code(config.name):
        return build_user_net(config, shape, num_classes, seed)
    if is_library_net(config.name):
        return build_library_net(config, shape, seed, partial(_new_head, config, num_classes))
    builders = {
        "linear": _linear,
        "mlp": _mlp,
        "lenet": _lenet,
        "convnet": _convnet,
        "vgg": _vgg,
        "resnet": build_resnet,
    }
    with torch.random.fork_rng(devices=[]):  # PyTorch's own initialization draws from the global state
        return builders[config.name](config, shape, num_classes)


def build_initialized(
    config: ModelConfig, shape: Shape, num_classes: int, seed: int, x_BCHW: Tensor | None = None
) -> nn.Module:
    """The net with its initial weights, in float64 on the CPU: by `config.init`, or the user's own.

    A net of a library has the weights that it is given, or the library's initial ones, and a head by `config.init`,
    drawn from `seed`. `x_BCHW` are training images, of which `lsuv` looks at the first `lsuv.NUM_IMAGES`.

    Raises:
        ConfigError, RefusedError: as `build`.
    """
    net = build(config, shape, num_classes, seed).double()
    if is_library_net(config.name):
        load_given(net, config, shape)
        for name in head_names(net):
            initialize(net.get_submodule(name), config.init, seed, activation=config.activation)
    elif not is_user_code(config.name):
        given = {"activation": config.activation} if config.name != "resnet" else {}
        initialize(net, config.init, seed, bias=config.init_bias, x_BCHW=x_BCHW, **given)
    return net


def _new_head(config: ModelConfig, num_classes: int, num_features: int) -> nn.Module:
    """Of a library's net: as `linear`, or as `mlp` where there are hidden layers."""
    if not config.hidden:
        return Head(num_features, num_classes, config.dropout)
    config = config.model_copy(update={"dropconnect": 0.0})
    layers = _fully_connected(config, num_features, config.hidden, num_classes)
    return _sequential([("flatten", nn.Flatten()), *layers])


def _linear(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    return _sequential([("flatten", nn.Flatten()), *_fully_connected(config, math.prod(shape), (), num_classes)])


def _mlp(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    head = _fully_connected(config, math.prod(shape), config.hidden, num_classes, normalizes=True)
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
    """`[(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K`: convolutions that keep the size but for their stride, 2x2 pools.

    In factors, a convolution is one down and one across, each with its normalization and activation, as in Inception-v3
    (Szegedy et al. 2016, who found that better than no activation in between).
    """
    channels, height, width = shape
    layers: Layers = []
    blocks = zip(config.channels, *(config.per_block(key) for key in ("convs", "kernel", "stride")), strict=True)
    for block, (out_channels, num_convs, kernel, stride) in enumerate(blocks, start=1):
        for index in range(1, num_convs + 1):
            place = f"{block}_{index}"
            step = stride if index == num_convs else 1
            bias = config.normalization not in SUBTRACTING
            sides = (
                {f"{place}_down": ((kernel, 1), (step, 1)), f"{place}_across": ((1, kernel), (1, step))}
                if config.factor and kernel > 1
                else {place: ((kernel, kernel), (step, step))}
            )
            for name, (sizes, steps) in sides.items():
                padding = (sizes[0] // 2, sizes[1] // 2)
                conv = nn.Conv2d(channels, out_channels, sizes, steps, padding=padding, bias=bias)
                layers.append((f"conv{name}", conv))
                if (norm := norm_of_channels(config, out_channels)) is not None:
                    layers.append((f"norm{name}", norm))
                layers.append((f"act{name}", _activation(config)))
                channels = out_channels
            height, width = -(-height // step), -(-width // step)
        if config.pooling != "none":
            if min(height, width) < 2:
                raise _pooled_to_nothing(config, shape, block)
            layers.append((f"pool{block}", POOLS[config.pooling](2)))
            height, width = height // 2, width // 2
        if config.dropout > 0 and config.dropout_at != "fc":
            layers.append((f"dropout{block}", Dropout(config.dropout)))
    head = _fully_connected(config, channels * height * width, config.hidden, num_classes, normalizes=True)
    return _sequential([*layers, ("flatten", nn.Flatten()), *head])


def _vgg(config: ModelConfig, shape: Shape, num_classes: int) -> nn.Module:
    """VGG (Simonyan & Zisserman 2015), which is a convnet; for small images with `hidden` of fewer units, or none."""
    blocks = {"channels": VGG_CHANNELS, "convs": VGG_CONVS[config.depth], "kernel": 3, "stride": 1}
    return _convnet(config.model_copy(update=blocks), shape, num_classes)


def _pooled_to_nothing(config: ModelConfig, shape: Shape, block: int) -> ConfigError:
    """What a pool at the end of this block has no image left for."""
    if config.name == "vgg":
        side = 2 ** len(VGG_CHANNELS)
        return ConfigError(
            f"model.name = 'vgg': {len(VGG_CHANNELS)} pools shrink a {_size(shape)} image to nothing.\n"
            f"Allowed: images of at least {side}x{side}, or model.pool = 'none'."
        )
    return ConfigError(
        f"model.channels = {list(config.channels)}: {len(config.channels)} pools shrink a {_size(shape)} image "
        f"to nothing.\nAllowed: up to {block - 1} blocks, or pool = false."
    )


def _fully_connected(
    config: ModelConfig, num_inputs: int, hidden: tuple[int, ...], num_classes: int, *, normalizes: bool = False
) -> Layers:
    """(FC-RELU)*K-FC, with dropout before each FC but the first, or before the only one.

    A layer in front of a batch normalization has no bias: it would be subtracted again.
    """
    layers: Layers = []
    for index, num_outputs in enumerate([*hidden, num_classes], start=1):
        is_noisy = index > 1 or not hidden
        if config.dropout > 0 and is_noisy and config.dropout_at != "blocks":
            layers.append((f"fc_dropout{index}", Dropout(config.dropout)))
        norm = norm_of_units(config, num_outputs) if normalizes and index <= len(hidden) else None
        bias = norm is None or config.normalization not in SUBTRACTING
        if config.dropconnect > 0 and is_noisy:
            layers.append((f"fc{index}", DropConnect(num_inputs, num_outputs, bias=bias, rate=config.dropconnect)))
        else:
            layers.append((f"fc{index}", nn.Linear(num_inputs, num_outputs, bias=bias)))
        if index <= len(hidden):
            if norm is not None:
                layers.append((f"fc_norm{index}", norm))
            layers.append((f"fc_act{index}", _activation(config)))
        num_inputs = num_outputs
    return layers


def _activation(config: ModelConfig) -> nn.Module:
    return ACTIVATIONS[config.activation]()


def _sequential(layers: Iterable[tuple[str, nn.Module]]) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


def _size(shape: Shape) -> str:
    return f"{shape[1]}x{shape[2]}"
