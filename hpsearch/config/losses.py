"""The losses of `train.loss`, and what of each a net that knows nothing has: pure numbers, no torch.

Of C classes, guessing costs ln C in cross-entropy, which is what all classes equally likely give; 1 - 1/C in squared
error against targets of 0 and 1, which is what scores of 1/C give; and C - 1 as multi-class hinge, which is what equal
scores give.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias

Loss: TypeAlias = Literal["cross-entropy", "squared", "hinge"]
CROSS_ENTROPY: Final = "cross-entropy"

# Healthy nets begin at up to 3.9 times ln C: linear, mlp, LeNet and convnets of up to 4 blocks, all inits, inputs of
# std 1, 3 seeds, on digits, faces and images like CIFAR-10's (he doubles the second moment of a layer's outputs, and
# max pooling takes the larger ones). Bytes from 0 to 255 give 7 to 290 times ln C there, unless the weights are small.
# As hinge they begin at up to 4 times C - 1 (he and five others, 2 to 100 classes, noise of std 1).
MAX_INITIAL = 5.0  # times the loss of guessing
MIN_INITIAL = 0.5  # times that; healthy nets on a small sample begin at 0.78 of it or above
MAX_SQUARE = 64.0  # mean square of the scores: 8 is the std at which hinge is at 5 times guessing; those have up to 39

RIGHT = {"cross-entropy": math.log(2), "squared": 0.5, "hinge": 1.0}
"""An image of less is one whose class is the likeliest, whatever the number of classes."""
LEARNED = {"cross-entropy": 0.05, "squared": 0.15, "hinge": 0.2}
"""A mean of less over images that are all right: they are learned, by a third of the above or less."""


def guessing_loss(loss: Loss, num_classes: int) -> float:
    """What a net that knows nothing has on images whose classes are equally frequent."""
    if loss == "squared":
        return 1 - 1 / num_classes
    return float(num_classes - 1) if loss == "hinge" else math.log(num_classes)


def guessing_text(loss: Loss, num_classes: int) -> str:
    """`ln 10`, `1 - 1/10`, `10 - 1`."""
    return {"squared": f"1 - 1/{num_classes}", "hinge": f"{num_classes} - 1"}.get(loss, f"ln {num_classes}")


def healthy_first_losses(loss: Loss, num_classes: int) -> tuple[float, float]:
    """Lowest and highest of a net with sound initial weights."""
    guessing = guessing_loss(loss, num_classes)
    highest = 1 + num_classes * MAX_SQUARE if loss == "squared" else MAX_INITIAL * guessing
    return MIN_INITIAL * guessing, highest


def known_loss(name: Any) -> Loss:
    """Of a stored config, which may be older than this key, or another program's."""
    return name if name in RIGHT else CROSS_ENTROPY
