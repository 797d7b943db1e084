"""The rows: what is timed beside what, by name, in the order of what one wants to know first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.gpu import convolutions, memory, whole
from benchmarks.gpu.turns import Found, Way, as_rows, in_turns
from benchmarks.gpu.work import MIN_STEPS, Bench
from hpsearch.training import recorded_steps, recorder
from hpsearch.training.choice import default_engine
from hpsearch.tuning.timing import Timing

Rows = list[dict[str, Any]]
PRECISIONS = ("bfloat16", "float32")
LARGE = ("resnet", "vit", "convnet")
COMPILE_MODES = ("default", "reduce-overhead")  # the second one is of CUDA graphs, as is our engine graph
OF_LARGE = ("loop", "graph")  # engines that take any net
# Seconds that a row may take on one H100, where that is known or can be guessed from the steps that it times.
COMPILING = 60.0  # torch.compile for one net in both modes, until one is seen
COMMANDS = 40.0  # two of them, and two processes that only import torch
WHOLE = 25.0
SMALL_NET = 20.0
LARGE_NET = 12.0
MEMORY = 15.0
CONVOLUTIONS = 30.0  # most of it to compile


@dataclass(frozen=True)
class Row:
    """One row, which may be several lines of the table."""

    name: str
    what: str
    measure: Callable[[Bench], Rows]
    seconds: float
    """That it may take."""
    at_any_size: bool = False
    """Whether tiny sizes make it no faster: it starts processes, or compiles."""

    def needs(self, bench: Bench) -> float:
        """Seconds without which it is not begun."""
        expected = max(self.seconds, bench.compile_seconds) if self.name.startswith("compiled") else self.seconds
        return expected if bench.sizes.expected or self.at_any_size else 0.0


def all_rows() -> list[Row]:
    large = {model: [_large(model, precision) for precision in PRECISIONS] for model in LARGE}
    compiled = [_compiled(model, precision) for precision in PRECISIONS for model in LARGE]
    return [
        Row("reference-steps", "reference search, training alone, from timed steps", reference_steps, SMALL_NET),
        Row("reference-search", "reference search, training alone, run as a whole", whole.search, WHOLE),
        Row("command", "hpsearch coarse, a fresh process", whole.command, COMMANDS, at_any_size=True),
        Row("lenet", "LeNet by engine", lenet, SMALL_NET),
        Row("convolutions", convolutions.WHAT, convolutions.both_ways, CONVOLUTIONS),
        *large["resnet"],
        compiled[0],
        *large["vit"],
        *large["convnet"],
        Row("lanes", "engine graph: trials on lanes of their own, several steps a launch", lanes, LARGE_NET),
        Row("memory", "ResNet-18: memory of a pack", memory.packs, MEMORY),
        *compiled[1:],
    ]


def _large(model: str, precision: str) -> Row:
    measure = partial(large_net, model, precision)
    return Row(f"{model}-{precision}", f"{model} at 32x32, {precision}", measure, LARGE_NET)


def _compiled(model: str, precision: str) -> Row:
    what = f"{model} at 32x32, {precision}, the expert's loop under torch.compile"
    measure = partial(compiled_net, model, precision)
    return Row(f"compiled-{model}-{precision}", what, measure, COMPILING, at_any_size=True)


def reference_steps(bench: Bench) -> Rows:
    """3072-50-10, all trials in one pack."""
    trials, steps = bench.sizes.trials, max(bench.sizes.steps, MIN_STEPS)
    ways = [bench.expert("mlp", precision, steps) for precision in PRECISIONS]
    ways += [bench.engine("mlp", "fused", precision, trials, steps) for precision in PRECISIONS]
    ways += [bench.engine("mlp", "vmap", "float32", trials, steps)]
    return _of_search(bench, "reference-steps", "mlp", _timed(bench, ways))


def lenet(bench: Bench) -> Rows:
    """All trials in one pack, by every engine; those that go through it trial by trial get fewer steps."""
    trials, steps = bench.sizes.trials, max(bench.sizes.steps, MIN_STEPS)
    ways = [bench.expert("lenet", precision, steps) for precision in PRECISIONS]
    ways += [bench.engine("lenet", "fused", precision, trials, steps) for precision in PRECISIONS]
    ways += [bench.engine("lenet", engine, "float32", trials, steps) for engine in ("vmap", "graph")]
    ways += [bench.engine("lenet", "loop", "float32", trials, MIN_STEPS)]
    return _of_search(bench, "lenet", "lenet", _timed(bench, ways))


def large_net(model: str, precision: str, bench: Bench) -> Rows:
    """Loop and graph at several widths beside the expert's loop."""
    ways = [bench.expert(model, precision)]
    ways += [bench.engine(model, engine, precision, width) for width in bench.sizes.widths for engine in OF_LARGE]
    return _per_step(as_rows(f"{model}-{precision}", _timed(bench, ways)))


def lanes(bench: Bench) -> Rows:
    """What it is worth that trials run beside each other, and that small nets start several steps at once."""
    width, trials = bench.sizes.widths[-1], bench.sizes.trials
    ways = []
    for model, way in (
        ("resnet", bench.engine("resnet", "graph", "bfloat16", width)),
        ("lenet", bench.engine("lenet", "fused", "float32", trials, max(bench.sizes.steps, MIN_STEPS))),
    ):
        ways += [replace(way, name=f"{model}, {way.name}", is_peer=True)]
        ways += [bench.limited(way, f"{model}, {way.name}, one step a launch", recorded_steps, "MAX_STEPS", 1)]
    resnet = bench.engine("resnet", "graph", "bfloat16", width)
    ways += [bench.limited(resnet, "resnet, graph, one lane", recorder, "MAX_LANES", 1)]
    return _per_step(as_rows("lanes", _timed(bench, ways)))


def compiled_net(model: str, precision: str, bench: Bench) -> Rows:
    """The expert's loop as it is and compiled, and the engine that is meant to beat both, at the largest width."""
    modes = COMPILE_MODES[: None if bench.device.type == "cuda" else 1]
    ways = [bench.expert(model, precision), *(bench.expert(model, precision, compile_mode=mode) for mode in modes)]
    ways += [bench.engine(model, "graph", precision, bench.sizes.widths[-1])]
    found = _timed(bench, ways)
    bench.compile_seconds = max(bench.compile_seconds, sum(each.start or 0.0 for each in found))
    return _per_step(as_rows(f"compiled-{model}-{precision}", found))


def _timed(bench: Bench, ways: list[Way]) -> list[Found]:
    return in_turns(ways, bench.sizes.rounds, bench.watch.now, bench.is_over)


def _per_step(rows: Rows) -> Rows:
    for row in rows:
        row["unit"] = "step"
        if "median" in row:
            row["us_per_trial_and_step"] = 1e6 * row["median"] / row["width"]
    return rows


def _of_search(bench: Bench, name: str, model: str, all_found: list[Found]) -> Rows:
    """With the seconds of the whole search, by all ways, and which of them is the default and which the best.

    The expert's are those of its steps alone; a pack's evaluations are in them.
    """
    work, rows = bench.workload(), _per_step(as_rows(name, all_found))
    default = default_engine(model, bench.device)
    ours = []
    for row, found in zip(rows, all_found, strict=True):
        row["is_default"] = not found.way.is_peer and found.way.name == default and found.way.precision == "float32"
        if not found.seconds:
            continue
        if found.evaluation is None:
            row["seconds_of_search"] = row["median"] * work.num_trials * work.epochs * work.num_batches
        else:
            row["seconds_of_search"] = work.seconds(
                Timing(found.way.name, found.way.width, row["median"], found.evaluation)
            )
            ours.append(row)
    for row in ours:
        row["is_best"] = row["seconds_of_search"] == min(each["seconds_of_search"] for each in ours)
    return rows
