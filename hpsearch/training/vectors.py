"""Vector hyperparameters: one number per trial of a pack, as tensors of shape [K]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hpsearch.config import StudyConfig


@dataclass(frozen=True)
class Vectors:
    """All of them under their keys in [train] and [model]; float64 on the CPU, so that asking never waits."""

    lr: Tensor
    body_lr: Tensor
    layer_decay: Tensor
    warmup: Tensor
    clip_norm: Tensor
    lr_decay: Tensor
    momentum: Tensor
    beta2: Tensor
    reg: Tensor
    l1: Tensor
    weight_decay: Tensor
    label_smoothing: Tensor
    focal: Tensor
    distill: Tensor
    distill_temperature: Tensor
    ema: Tensor
    dropout: Tensor
    dropconnect: Tensor
    stochastic_depth: Tensor
    init_scale: Tensor
    step_options: Tensor
    """Of shape [K, M]: the numbers of the user's step, by name in the order of the alphabet."""

    @classmethod
    def of(cls, configs: Sequence[StudyConfig]) -> Vectors:
        """Read them from the resolved configs of K trials."""

        def column(key: str) -> Tensor:
            sections = [config.train if hasattr(config.train, key) else config.model for config in configs]
            if key == "step_options":
                rows = [[float(number) for _, number in sorted(c.train.step_options.items())] for c in configs]
                return torch.tensor(rows, dtype=torch.float64).reshape(len(configs), -1)
            return torch.tensor([getattr(section, key) for section in sections], dtype=torch.float64)

        return cls(**{field.name: column(field.name) for field in fields(cls)})

    def keep(self, slots: Sequence[int]) -> Vectors:
        """Those of some slots only."""
        return Vectors(**{field.name: getattr(self, field.name)[list(slots)] for field in fields(self)})

    def replaced(self, slots: Sequence[int], other: Vectors) -> Vectors:
        """With those of others in these slots."""
        return Vectors(
            **{
                field.name: getattr(self, field.name).index_copy(0, torch.tensor(slots), getattr(other, field.name))
                for field in fields(self)
            }
        )


def unless_zero(vector_K: Tensor, like: Tensor) -> Tensor | None:
    """A copy in the precision and on the device of `like`; None where it is zero for all trials."""
    return vector_K.to(like, copy=True) if vector_K.any() else None


def columns(vector_K: Tensor, like: Tensor) -> Tensor:
    """As [K, 1, ...], to multiply a stacked tensor trial by trial."""
    return vector_K.view(-1, *(1,) * (like.ndim - 1))
