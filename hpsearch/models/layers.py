"""Layers that PyTorch has only in a form that cannot differ from trial to trial."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout whose rate is a buffer, so that every trial of a pack can have its own.

    The noise is one uniform number per unit, compared with the rate: trials of different rates share it, and the
    units that a low rate drops are among those that a higher one drops. `F.dropout` takes a Python float only.
    The rate is a hyperparameter, not a result of training, so it is left out of `state_dict`.
    """

    rate: Tensor  # 0-dim; share of units dropped

    def __init__(self, rate: float) -> None:
        super().__init__()
        # float64 until the whole net is cast: 0.1 rounded to float32 would stay rounded after .double()
        self.register_buffer("rate", torch.tensor(rate, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop units in training mode; the identity in evaluation mode."""
        if not self.training:
            return x
        precise = torch.promote_types(x.dtype, torch.float32)  # x may be in bfloat16, whose noise would be another
        kept = torch.rand(x.shape, device=x.device, dtype=precise) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)

    def extra_repr(self) -> str:
        """The rate, for `print(module)`."""
        return f"rate={self.rate.tolist()}"
