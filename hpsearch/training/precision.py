"""What train.precision means: the type of the numbers, and that of the matrix products."""

from __future__ import annotations

import torch

# Of data, parameters and all that is computed from them. bfloat16 has too few digits to add small updates up
# (Micikevicius et al. 2017), so there only products and convolutions use it.
PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,
    "auto": torch.float32,  # until a stage settles it, and where none does
}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Within it autograd's products and convolutions are of that precision."""
    # The cache would keep the converted weights of one trial for the next.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)
