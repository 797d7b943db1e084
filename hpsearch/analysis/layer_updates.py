"""How long the last step of each layer was beside its weights, and whether that is usual: pure, without torch.

Source: CS231n, "ratio of weights to updates": somewhere around 1e-3, for every set of parameters by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from hpsearch.analysis.inside import InsideFinding
from hpsearch.analysis.trial_curves import FAR, HEALTHY_RATIO
from hpsearch.wording import count_text

LayerVerdict = Literal["ok", "long steps", "short steps", "does not move", "not judged"]

MOST_SCALING = 1e3  # a rate that has fallen further makes steps that float32 weights round away
MOST_NAMED = 8  # layers in a line


@dataclass(frozen=True)
class LayerUpdate:
    """Of one layer."""

    name: str
    last: float
    """|update| / |weights before it| in the last step."""
    usual: float
    """The same at the rate in the middle of those that the epochs had: a step is as long as its rate."""
    verdict: LayerVerdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"layer": self.name, "last": self.last, "at_middle_rate": self.usual, "verdict": self.verdict}


def judge_updates(ratios: Mapping[str, float], rates: Sequence[float]) -> list[LayerUpdate]:
    """A verdict for each layer.

    Every rule multiplies a step by the rate, so a step at the end of a schedule says how long it would have been in
    the middle, with the gradient of the end.

    Args:
        ratios: of the last step, by layer.
        rates: of the last step of each epoch; the last of them is that of the step.
    """
    middle, last = (median(rates), rates[-1]) if rates else (math.nan, math.nan)
    scaling = middle / last if last > 0 else math.nan
    return [
        LayerUpdate(name, ratio, ratio * scaling, _verdict(ratio * scaling, scaling)) for name, ratio in ratios.items()
    ]


def _verdict(ratio: float, scaling: float) -> LayerVerdict:
    if not (math.isfinite(ratio) and scaling <= MOST_SCALING):
        return "not judged"
    if ratio == 0:
        return "does not move"
    if ratio > FAR * HEALTHY_RATIO:
        return "long steps"
    return "short steps" if ratio < HEALTHY_RATIO / FAR else "ok"


def updates_finding(layers: Sequence[LayerUpdate]) -> InsideFinding | None:
    """All layers in a look; None where none can be judged."""
    judged = [layer for layer in layers if layer.verdict != "not judged"]
    if not judged:
        return None
    least, most = min(judged, key=lambda layer: layer.usual), max(judged, key=lambda layer: layer.usual)
    text = f"{most.usual:.1e} of {most.name}, usual is 1e-3"
    if len(judged) > 1:
        text = f"from {least.usual:.1e} in {least.name} to {most.usual:.1e} in {most.name}, usual is 1e-3"
    return InsideFinding("steps of each layer", all(layer.verdict == "ok" for layer in judged), text, _advice(judged))


def updates_line(layers: Sequence[LayerUpdate]) -> str:
    """Each layer with its verdict where they are few; of many, those that are far from usual."""
    if len(layers) <= MOST_NAMED:
        return " · ".join(f"{layer.name} {layer.usual:.1e} {layer.verdict}" for layer in layers)
    far = [layer for layer in layers if layer.verdict != "ok"]
    named = [f"{layer.name} {layer.usual:.1e} {layer.verdict}" for layer in far[:MOST_NAMED]]
    named += [f"{len(far) - MOST_NAMED} more"] if len(far) > MOST_NAMED else []
    return " · ".join([f"{len(layers) - len(far)} of {count_text(len(layers), 'layer')} ok", *named])


def _advice(judged: Sequence[LayerUpdate]) -> str:
    found = {layer.verdict for layer in judged}
    if found <= {"ok"}:
        return ""
    if found == {"long steps"}:
        return "a lower train.lr: the steps of every layer are long"
    if found == {"short steps"}:
        return "a higher train.lr: the steps of every layer are short"
    advice = []
    if "does not move" in found:
        advice.append("a layer that gets no gradient is behind dead units or frozen: see above, and model.freeze")
    if found & {"long steps", "short steps"}:
        advice.append("layers differ: model.init = he or xavier, model.batch_norm = true, or an optimizer that scales")
        advice[-1] += " each weight's step (adam)"
    return "; ".join(advice)
