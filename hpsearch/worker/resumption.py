"""Where trials go on that somebody had begun before, in words."""

from __future__ import annotations

from collections.abc import Mapping


def resumption(epochs: Mapping[int, int]) -> str:
    """First epochs of trials by number, in words: `trials 7, 9 resume at epoch 3, trial 8 resumes at epoch 1`."""
    by_epoch: dict[int, list[int]] = {}
    for number, epoch in epochs.items():
        by_epoch.setdefault(epoch, []).append(number)
    parts = []
    for epoch, numbers in sorted(by_epoch.items()):
        noun, verb = ("trials", "resume") if len(numbers) > 1 else ("trial", "resumes")
        parts.append(f"{noun} {', '.join(map(str, numbers))} {verb} at epoch {epoch}")
    return ", ".join(parts)
