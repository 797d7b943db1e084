"""How much of a GPU's memory a pack of ResNet-18 takes, and how wide one may be.

Packs are those that hpsearch times: without the weights of best epochs, which are one more copy of all weights where
they are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.turns import free_all, in_words, noted
from benchmarks.gpu.work import Bench
from hpsearch.errors import EngineError
from hpsearch.training.device_memory import is_out_of_memory

ROOM = 0.95  # of the memory that is left: a pack needs some that no smaller one had, as cuDNN's workspaces
SMALLER = 0.8  # times as wide is the next attempt where one did not fit
NUM_STEPS = {"loop": 2, "graph": 6}  # enough to have all that a step needs; a graph is recorded after three steps


@dataclass(frozen=True)
class Peak:
    """Of one pack."""

    allocated: int
    """Bytes of tensors, at most at a time."""
    reserved: int
    """Bytes that the process held for them; those of graphs stay theirs."""
    seconds: float
    """To make it and to train so much that all of it is there."""


def packs(bench: Bench) -> list[dict[str, Any]]:
    """For both engines and precisions."""
    if bench.device.type != "cuda":
        refused = f"memory is counted on CUDA, not on {bench.device.type}"
        return [{"row": "memory", "way": "loop, graph", "repetitions": 0, "refused": refused, "notes": []}]
    kinds = [(engine, precision) for precision in ("bfloat16", "float32") for engine in ("graph", "loop")]
    return [line for engine, precision in kinds for line in _lines(bench, engine, precision)]


def _lines(bench: Bench, engine: str, precision: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []

    def told(width: int, **what: Any) -> dict[str, Any]:
        about = {"row": "memory", "way": engine, "precision": precision, "width": width, "repetitions": 1}
        return {**about, "refused": None, "notes": [], **what}

    peaks: dict[int, Peak] = {}
    for width in (bench.sizes.widths[0], bench.sizes.widths[-1]):
        if bench.is_over():
            return [*lines, told(width, repetitions=0, refused="left out: the time is over")]
        try:
            peaks[width] = _peak(bench, engine, precision, width)
        except Exception as error:
            return [*lines, told(width, repetitions=0, refused=in_words(error))]
        lines.append(told(width, **_gib(peaks[width])))
    free, _ = torch.cuda.mem_get_info(bench.device)
    predicted = predict({width: peak.reserved for width, peak in peaks.items()}, ROOM * free)
    widest, seen = max(peaks), {}

    def fits(width: int) -> bool | None:
        if bench.left() < peaks[widest].seconds * width / widest:
            return None
        try:
            seen[width] = _peak(bench, engine, precision, width)
        except Exception as error:
            if ran_out(error):
                return False
            raise
        return True

    try:
        found = find_widest(fits, min(predicted, bench.sizes.most_width), widest)
    except Exception as error:
        return [*lines, told(widest, repetitions=0, refused=in_words(error), predicted_widest=predicted)]
    notes = [f"by its growth {predicted} fit; the widest that was seen to fit is {found}"]
    if found == bench.sizes.most_width:
        notes = [f"by its growth {predicted} fit; {found}, the most that hpsearch takes by itself, was seen to fit"]
    memory = _gib(seen.get(found, peaks[widest]))
    return [*lines, told(found, **memory, predicted_widest=predicted, widest_seen=found, notes=notes)]


def _peak(bench: Bench, engine: str, precision: str, width: int) -> Peak:
    free_all()
    torch.cuda.reset_peak_memory_stats(bench.device)
    begun = bench.watch.now()
    run = bench.engine("resnet", engine, precision, width, NUM_STEPS[engine]).make()
    notes: list[str] = []
    try:
        with noted(notes):
            run()
        if notes:  # a step that could not be recorded is no longer this engine's
            raise EngineError("; ".join(notes))
        allocated, reserved = (
            counter(bench.device) for counter in (torch.cuda.max_memory_allocated, torch.cuda.max_memory_reserved)
        )
        return Peak(allocated, reserved, bench.watch.now() - begun)
    finally:
        del run
        free_all()


def ran_out(error: BaseException) -> bool:
    """Whether memory was missing, also where an engine says in its own words what torch said in its."""
    return (isinstance(error, Exception) and is_out_of_memory(error)) or "out of memory" in str(error)


def predict(bytes_by_width: dict[int, int], room: float) -> int:
    """The widest pack that fits, if memory grows as it did from the least of these widths to the greatest."""
    least, most = min(bytes_by_width), max(bytes_by_width)
    growth = max(1.0, (bytes_by_width[most] - bytes_by_width[least]) / max(1, most - least))
    return max(most, int(most + (room - bytes_by_width[most]) / growth))


def find_widest(fits: Callable[[int], bool | None], width: int, known: int) -> int:
    """The first that fits of `width` and ever smaller ones; `known` does. None: no time is left to see."""
    while width > known:
        answer = fits(width)
        if answer is not False:
            return width if answer else known
        width = int(SMALLER * width)
    return known


def _gib(peak: Peak) -> dict[str, float]:
    return {"peak_allocated_gib": peak.allocated / 2**30, "peak_reserved_gib": peak.reserved / 2**30}
