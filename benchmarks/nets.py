"""Nets as hpsearch's user writes them, for `model.name = "benchmarks.nets:vit"`: plain torch, nothing of hpsearch.

Shapes: B = batch, C = channels, H, W = image height and width, T = tokens, N = heads, D = width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q_BNTD, k_BNTD, v_BNTD = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(scaled_dot_product_attention(q_BNTD, k_BNTD, v_BNTD).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(x_BTD)
        return x_BTD + self.mlp(x_BTD)


class VisionTransformer(nn.Module):
    """Patches, pre-norm blocks, the mean of all tokens (Dosovitskiy et al. 2021, without a class token and dropout)."""

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int, patch: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        channels, height, image_width = shape
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (height // patch) * (image_width // patch), width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BTD = self.patches(x_BCHW).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.blocks(x_BTD).mean(dim=1))


def vit(
    shape: tuple[int, int, int], num_classes: int, patch: int = 4, width: int = 192, depth: int = 6, heads: int = 3
) -> nn.Module:
    return VisionTransformer(shape, num_classes, patch, width, depth, heads)


def convnet(shape: tuple[int, int, int], num_classes: int, widths: tuple[int, ...] = (64, 128, 256)) -> nn.Module:
    """Two 3x3 convolutions with batch norm to a block, a pool behind each, the mean of what is left."""
    layers: list[nn.Module] = []
    channels = shape[0]
    for width in widths:
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
