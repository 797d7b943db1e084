"""In what order the training images come in an epoch.

Shape suffixes: N = images.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Sampling: TypeAlias = Literal["shuffled", "balanced"]


def draw_order(sampling: Sampling, y_N: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of N images, drawn on the CPU: each once; or, balanced, of each class as many.

    Balanced, those of a class come in turns: none for another time before all have come. Where N is not a multiple of
    the number of classes, chance says which have one more.
    """
    num = len(y_N)
    if sampling == "shuffled":
        return torch.randperm(num, generator=generator)
    labels = y_N.cpu()
    classes = labels.bincount().nonzero().flatten()
    wanted = torch.full((len(classes),), num // len(classes))
    wanted[torch.randperm(len(classes), generator=generator)[: num % len(classes)]] += 1
    parts = []
    for label, count in zip(classes, wanted.tolist(), strict=True):
        own = torch.nonzero(labels == label).flatten()
        turns = [own[torch.randperm(len(own), generator=generator)] for _ in range(-(-count // len(own)))]
        parts.append(torch.cat(turns)[:count] if turns else own[:0])
    return torch.cat(parts)[torch.randperm(num, generator=generator)]
