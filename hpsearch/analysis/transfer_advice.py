"""How much of a pretrained net to train, by the number of images and how like those of its first training they are.

CS231n's table for transfer learning: few images that are like those, a linear classifier on the features; few others,
one on the features of earlier stages; many, fine-tune a few layers, or more of them where they are other images. Few
and alike are bounds of ours, as the lectures give none. How alike images are is not known, but what follows from it is
measured: how well the features tell the classes apart before any training. Pure, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FEW = 100  # training images of a class, on average: below, they are few
ALIKE = 0.5  # of the way from guessing to all right that neighbours by the last features reach: below, they tell little
CLEARLY = 0.02  # accuracy by which an earlier stage is better: a few of 250 images


@dataclass(frozen=True)
class TransferAdvice:
    """What fits these images."""

    text: str
    """What was measured, and what is read off it."""
    advice: str
    """What to train, and the options of a search that does."""
    fits: bool
    """Whether the search does so already."""


def transfer_advice(
    images_per_class: float,
    accuracies: Mapping[str | int, float],
    guessing: float,
    freeze: str | int,
    searched: Mapping[str, object],
) -> TransferAdvice:
    """By the two measurements.

    Args:
        images_per_class: for training, the mean.
        accuracies: by neighbours, of features after stages; that of "last" counts, an earlier one is named if better.
        guessing: accuracy of always saying the same class.
        freeze: model.freeze of the study file.
        searched: names of what is searched, model.freeze and model.features as they may be.
    """
    last = accuracies["last"]
    few, alike = images_per_class < FEW, last - guessing >= ALIKE * (1 - guessing)
    amount = f"{'few' if few else 'many'} images ({images_per_class:,.0f} a class, few is below {FEW})"
    told = "tell them apart" if alike else "tell little of them"
    text = f"{amount}; its features {told} (neighbours {last:.2f}, guessing {guessing:.2f})"
    earlier = [stage for stage, found in accuracies.items() if stage != "last" and found > last + CLEARLY]
    earlier = sorted(earlier, key=lambda stage: -accuracies[stage])
    tries_stages = "model.features" in searched
    tries_freeze = "model.freeze" in searched
    if few and alike and not earlier:
        what = "a linear head on them is enough to begin with: --set model.freeze=all"
        return TransferAdvice(text, what, freeze == "all" or tries_freeze)
    if few:
        stages = earlier[:2] or sorted((s for s in accuracies if s != "last"), key=lambda s: -accuracies[s])[:2]
        if earlier:
            text += f", those after stage {earlier[0]} better ({accuracies[earlier[0]]:.2f})"
        choice = ",".join(map(str, ["last", *stages]))
        what = f'linear heads on earlier stages: --set model.freeze=all --space "features=choice({choice})"'
        return TransferAdvice(text, what, (freeze == "all" or tries_freeze) and tries_stages)
    if alike:
        what = 'fine-tune the last stages beside the head: --space "freeze=choice(all,1,2)"'
        return TransferAdvice(text, what, freeze not in ("none", "all") or tries_freeze)
    what = 'fine-tune more of it, or all: --space "freeze=choice(2,none)"'
    return TransferAdvice(text, what, freeze != "all" or tries_freeze)
