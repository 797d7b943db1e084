"""Each convolution of packs of small nets in both ways that the engine fused chooses from, there and back.

Shapes: B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.turns import Run, Way, as_rows, in_turns
from benchmarks.gpu.work import Bench
from hpsearch.errors import EngineError
from hpsearch.models import build_initialized
from hpsearch.training.fused.convolution_choice import Chooser, ChosenConvolution, agree, cuda_ms, with_choices
from hpsearch.training.fused.nets import convolutional_operators
from hpsearch.training.precision import PRECISIONS
from hpsearch.training.state import PackState
from hpsearch.training.vectors import Vectors
from hpsearch.tuning.timing import harmless

WHAT = "convolutions of K trials: operators against batched kernels"
NETS = {"lenet": 100, "own convnet": 32}
"""Trials of a pack, at most."""
OPERATORS, KERNELS = "operators", "kernels"


def both_ways(bench: Bench) -> list[dict[str, Any]]:
    """A line for each way of each layer; operators are what kernels are compared with."""
    return [
        line
        for precision, net in itertools.product(("float32", "bfloat16"), NETS)
        for line in layers_of(bench, net, precision)
    ]


def layers_of(bench: Bench, net: str, precision: str) -> list[dict[str, Any]]:
    width = min(NETS[net], bench.sizes.trials)
    lines = []
    for number, (layer, a) in enumerate(_layers(bench, net, precision, width), start=1):
        ways = [
            Way(f"{net} {number}: {way}", _timed(bench, layer, way, a), precision, width, is_peer=way == OPERATORS)
            for way in (OPERATORS, KERNELS)
        ]
        lines += as_rows("convolutions", in_turns(ways, bench.sizes.rounds, bench.watch.now, bench.is_over))
    for line in lines:
        line["unit"] = "layer"
        if "median" in line:
            line["us_per_trial_and_step"] = 1e6 * line["median"] / width
    return lines


@torch.no_grad()
def _layers(bench: Bench, net: str, precision: str, width: int) -> Iterator[tuple[ChosenConvolution, Tensor]]:
    """With the input of each."""
    config = harmless(bench.study(net, precision), None)
    data = bench.images
    module = build_initialized(config.model, data.shape, data.num_classes, config.train.seed)
    like = torch.empty(0, dtype=PRECISIONS[precision], device=bench.device)
    state = PackState(module, Vectors.of([config] * width), config.train, data.num_classes, 1, like)
    named = list(itertools.takewhile(lambda each: type(each[1]) is not nn.Flatten, module.named_children()))
    operators = convolutional_operators(named, state, slice(None))
    a = data.train_images()[: bench.sizes.batch].to(like).contiguous(memory_format=torch.channels_last)
    for layer in with_choices(operators, Chooser(lambda _work: 0.0)):
        if isinstance(layer, ChosenConvolution):
            yield layer, a
        a = layer.forward(a, None)


def _timed(bench: Bench, layer: ChosenConvolution, way: str, a: Tensor) -> Callable[[], Run]:
    """Forward and back; kernels once beside operators first.

    Raises:
        EngineError: with the first run, the two do not agree.
    """

    def make() -> Run:
        work = layer.work(layer.operators if way == OPERATORS else layer.kernels, a)

        @torch.no_grad()
        def run() -> float:
            if bench.device.type == "cuda":  # as the engine times them
                return cuda_ms(work) / 1e3
            begun = bench.watch.now()
            work()
            return bench.watch.now() - begun

        if way != OPERATORS:
            with torch.no_grad():
                if not agree(work(), layer.work(layer.operators, a)(), layer.tolerance(a)):
                    raise EngineError("its outcome is another than that of operators")
        return run

    return make
