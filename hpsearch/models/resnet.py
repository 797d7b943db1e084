"""Residual nets (He et al. 2015): torchvision's for any image, and those of section 4.2 for images of 32 pixels.

Names of layers are torchvision's. The nets are spelt out here, since importing torchvision takes a second, and its
blocks have no place for stochastic depth. Shapes: B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.schema.model import SMALL_RESNET_DEPTHS
from hpsearch.models.fixup import with_scalars
from hpsearch.models.layers import DropConnect, Dropout, StochasticDepth
from hpsearch.models.norms import norm_of_channels

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTH, SMALL_WIDTH = 64, 16  # channels of the first stage
BOTTLENECKS = 50  # from this depth on
EXPANSION = 4  # of a bottleneck's channels
SMALL_IMAGE = 64  # pixels a side; up to here a ResNet keeps the full resolution in its stem

Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, num_inputs: int, width: int, stride: int, norm: Norm, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = _conv(num_inputs, width, 3, stride)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = norm(width)
        self.downsample = downsample
        self.drop: nn.Module | None = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The branch plus the shortcut."""
        out = self.relu(self.bn1(self.conv1(x_BCHW)))
        return joined(self, x_BCHW, self.bn2(self.conv2(out)))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1 that have four times as many channels outside, beside a shortcut."""

    def __init__(self, num_inputs: int, width: int, stride: int, norm: Norm, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = _conv(num_inputs, width, 1)
        self.bn1 = norm(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = norm(width)
        self.conv3 = _conv(width, EXPANSION * width, 1)
        self.bn3 = norm(EXPANSION * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.drop: nn.Module | None = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The branch plus the shortcut."""
        out = self.relu(self.bn1(self.conv1(x_BCHW)))
        out = self.relu(self.bn2(self.conv2(out)))
        return joined(self, x_BCHW, self.bn3(self.conv3(out)))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over all places, one fully connected layer."""

    def __init__(self, config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        is_small = config.depth in SMALL_RESNET_DEPTHS
        keeps_size = is_small or max(height, width) <= SMALL_IMAGE
        kernel, stride = (3, 1) if keeps_size else (7, 2)
        blocks = ((config.depth - 2) // 6,) * 3 if is_small else BLOCKS[config.depth]
        self._kind = Bottleneck if not is_small and config.depth >= BOTTLENECKS else BasicBlock
        self._expansion = EXPANSION if self._kind is Bottleneck else 1
        self._pads = is_small
        self._norm: Norm = lambda num_channels: norm_of_channels(config, num_channels) or nn.Identity()
        first = SMALL_WIDTH if is_small else WIDTH
        self.conv1 = _conv(channels, first, kernel, stride)
        self.bn1 = self._norm(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if keeps_size else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        num_channels = first
        for stage, num_blocks in enumerate(blocks):
            layer = self._stage(num_channels, first << stage, num_blocks, 1 if stage == 0 else 2)
            self.add_module(f"layer{stage + 1}", layer)
            num_channels = (first << stage) * self._expansion
        if is_small:
            self.layer4 = nn.Identity()
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d((1, 1))
        if config.dropconnect > 0:
            self.fc: nn.Linear = DropConnect(num_channels, num_classes, bias=True, rate=config.dropconnect)
        else:
            self.fc = nn.Linear(num_channels, num_classes)
        if config.stochastic_depth > 0:
            residual = blocks_of(self)
            for index, block in enumerate(residual, start=1):
                block.drop = StochasticDepth(config.stochastic_depth, index / len(residual))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """logits_BC."""
        x_BCHW = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        for stage in stages_of(self):
            x_BCHW = stage(x_BCHW)
        logits_BC: Tensor = self.fc(torch.flatten(self.avgpool(x_BCHW), 1))
        return logits_BC

    def _stage(self, num_inputs: int, width: int, num_blocks: int, stride: int) -> nn.Sequential:
        num_outputs = width * self._expansion
        downsample: nn.Module | None = None
        if self._pads and stride > 1:
            downsample = _padded(num_inputs, num_outputs, stride)
        elif stride > 1 or num_inputs != num_outputs:
            downsample = nn.Sequential(_conv(num_inputs, num_outputs, 1, stride), self._norm(num_outputs))
        first = self._kind(num_inputs, width, stride, self._norm, downsample)
        others = (self._kind(num_outputs, width, 1, self._norm, None) for _ in range(1, num_blocks))
        return nn.Sequential(first, *others)


def build_resnet(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """ResNet-18 to -152 as torchvision has them, but with a 3x3 stem of stride 1 for small images; or -8 to -56.

    Raises:
        ConfigError: the channels are no multiple of model.groups.
    """
    net = ResNet(config, shape, num_classes)
    if config.init == "fixup":
        with_scalars(net)
    if config.dropout > 0:  # in a sequence, so that fc keeps its name
        around = [*net.avgpool] if isinstance(net.avgpool, nn.Sequential) else [net.avgpool]
        net.avgpool = nn.Sequential(*around, Dropout(config.dropout))
    return net


def stages_of(net: nn.Module) -> list[nn.Module]:
    """In the order in which images go through."""
    return [module for name, module in net.named_children() if name.startswith("layer")]


def blocks_of(net: nn.Module) -> list[BasicBlock | Bottleneck]:
    """The residual blocks, from the images on."""
    return [module for module in net.modules() if isinstance(module, BasicBlock | Bottleneck)]


def joined(block: BasicBlock | Bottleneck, x_BCHW: Tensor, out: Tensor) -> Tensor:
    """A branch's output with the shortcut of its input."""
    if block.drop is not None:
        out = block.drop(out)
    shortcut = x_BCHW if block.downsample is None else block.downsample(x_BCHW)
    out += shortcut
    return cast(Tensor, block.relu(out))


def _conv(num_inputs: int, num_outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(num_inputs, num_outputs, kernel, stride, padding=kernel // 2, bias=False)


def _padded(num_inputs: int, num_outputs: int, stride: int) -> nn.Module:
    """The paper's option A: every other place, and channels of zeros, half of them on each side."""
    more = num_outputs - num_inputs
    pad = nn.ConstantPad3d((0, 0, 0, 0, more // 2, more - more // 2), 0.0)
    return nn.Sequential(nn.AvgPool2d(1, stride), pad)
