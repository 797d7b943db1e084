"""What train.precision means: the type of the numbers, and that of the matrix products."""

from __future__ import annotations

import torch

from hpsearch.errors import ConfigError

# Of data, parameters and all that is computed from them. bfloat16 has too few digits to add small updates up
# (Micikevicius et al. 2017), so there only products and convolutions use it.
PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,
    "float16": torch.float32,
    "auto": torch.float32,  # until a stage settles it, and where none does
}

# vmap hides the operators from autocast, and fused rounds its own products, to bfloat16 alone.
ENGINES_OF = {"bfloat16": ("auto", "loop", "fused", "graph"), "float16": ("auto", "loop", "graph")}

ROUNDED = {"bfloat16": torch.bfloat16, "float16": torch.float16}  # of products and convolutions alone


def refuse_engine(precision: str, engine: str) -> None:
    """Whether an engine computes in this precision: known before the first trial fails by it.

    Raises:
        ConfigError: it does not.
    """
    engines = ENGINES_OF.get(precision, (engine,))
    if engine not in engines:
        raise ConfigError(
            f"train.precision = {precision!r} does not run with run.engine = {engine!r}.\n"
            f"Allowed: run.engine = {', '.join(engines)}; or another precision."
        )


def rounding(precision: str, device: torch.device) -> str | None:
    """What products and convolutions are rounded to, where that has fewer digits than the numbers; to be said.

    PyTorch lets convolutions, if not products, of float32 use TF32 on GPUs that have it (10 of 23 digits).
    """
    if precision in ROUNDED:
        return f"{precision} products"
    if device.type != "cuda" or PRECISIONS[precision] != torch.float32:
        return None
    if torch.cuda.get_device_capability(device) < (8, 0):
        return None
    used = [
        name
        for name, allowed in (
            ("convolutions", torch.backends.cudnn.allow_tf32),
            ("products", torch.backends.cuda.matmul.allow_tf32),
        )
        if allowed
    ]
    return f"TF32 {' and '.join(used)}" if used else None


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Within it autograd's products and convolutions are of that precision."""
    # The cache would keep the converted weights of one trial for the next.
    dtype = ROUNDED.get(precision, torch.bfloat16)
    return torch.autocast(device.type, dtype, enabled=precision in ROUNDED, cache_enabled=False)
