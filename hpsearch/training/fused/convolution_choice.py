"""Which of two ways a convolution goes on CUDA, with what follows it: operators or kernels for K trials.

Which is the quicker one depends on the sizes, the precision, the card and its libraries, so both are timed, once
in a process for each shape, in the first step on a whole batch: before any step is recorded.

Shapes: K = trials in the pack, B = batch, O, I = channels out and in, M = K * O, H, W = height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.logs import get_logger
from hpsearch.training.fused.batched_convolutions import BatchedConvolution, Run
from hpsearch.training.fused.layers import Layer
from hpsearch.training.layout import Stacked

REPEATS = 5  # timed calls, of which the quickest counts
HEAD_START = 5_000_000  # cycles in which the device waits, about 3 ms, so that it never waits for the host afterwards
# How far outputs may be apart, as a share of their norm. Of gradients behind a pool it is the root of that: where two
# numbers are nearly the same, the other one may be the maximum.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.03}
TF32_TOLERANCE = 0.02

Work = Callable[[], list[Tensor]]
"""Forward and back: the output and all derivatives."""
Timer = Callable[[Work], float]

logger = get_logger(__name__)


class Chooser:
    """Remembers what was the quicker way for each shape.

    Args:
        timer: of one call, in any unit.
    """

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._found: dict[Hashable, bool] = {}

    def prefers_kernels(self, key: Hashable, operators: Work, kernels: Work, tolerance: float) -> bool:
        """Whether kernels are quicker and do the same; both are called, if nothing was called for this key before."""
        if key not in self._found:
            self._found[key] = self._compare(key, operators, kernels, tolerance)
        return self._found[key]

    def _compare(self, key: Hashable, operators: Work, kernels: Work, tolerance: float) -> bool:
        try:
            if not agree(kernels(), operators(), tolerance):
                logger.debug("kernels give another outcome than operators, which go on: %s", key)
                return False
            ours, theirs = self._timer(kernels), self._timer(operators)
        except Exception as error:  # Triton's are of many kinds; or there is no memory for both
            logger.debug("operators do convolutions: %s: %s: %s", type(error).__name__, error, key)
            return False
        logger.debug("a convolution takes %.4g by kernels and %.4g by operators: %s", ours, theirs, key)
        return ours < theirs


@cache
def chooser_for(device: torch.device) -> Chooser | None:
    """That of the process; None where operators are all there is."""
    return Chooser(cuda_ms) if device.type == "cuda" else None


def cuda_ms(work: Work) -> float:
    """Milliseconds on the current device, without the host's part, which a recorded step does not have."""
    work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]  # type: ignore[no-untyped-call]
    torch.cuda._sleep(HEAD_START)  # type: ignore[no-untyped-call]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    marks[-1].synchronize()
    return min(float(begun.elapsed_time(ended)) for begun, ended in pairwise(marks))


class ChosenConvolution(Layer):
    """A convolution and what follows it, by operators until a whole batch has shown which way is quicker.

    Args:
        run: that which kernels do.
        operators: the layers that do the same.
        chooser: of the device.
        is_first: whether nobody needs the derivative by its input.
    """

    def __init__(self, run: Run, operators: list[Layer], chooser: Chooser, *, is_first: bool) -> None:
        super().__init__(run.conv._state, run.conv._name, run.conv._trials)
        self.operators: Layer = InTurn(operators)
        self.kernels: Layer = BatchedConvolution(run)
        self.is_first = is_first
        self._run, self._chooser = run, chooser
        self._chosen: Layer = self.operators
        self._is_settled = False

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        whole = buffers is not None and len(a) >= self._state.train.batch_size
        if whole and not self._is_settled and not (a.is_cuda and torch.cuda.is_current_stream_capturing()):
            self._settle(a)
        return self._chosen.forward(a, buffers)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        return self._chosen.backward(delta, gradients)

    @override
    def take(self, delta: Tensor, gradients: Stacked) -> None:
        self._chosen.take(delta, gradients)

    def work(self, layer: Layer, like: Tensor) -> Work:
        """One of the two ways there and back, from noise like this input; it changes nothing that lasts.

        In plain areas of images many numbers are the maximum, and rounding decides which of them it is.
        """
        noise: list[Tensor] = []  # once it is called

        def there_and_back() -> list[Tensor]:
            if not noise:
                noise.append(_noise(like))
            output = layer.forward(noise[0], {})
            if len(noise) == 1:
                noise.append(_noise(output))
            gradients: Stacked = {}
            backs = []
            if self.is_first:
                layer.take(noise[1].clone(), gradients)
            else:
                backs.append(layer.backward(noise[1].clone(), gradients))
            return [output, *(gradients[name] for name in sorted(gradients)), *backs]

        return there_and_back

    def tolerance(self, a: Tensor) -> float:
        """How far outputs of the two ways may be apart for an input like this, as a share of their norm."""
        if self._state.train.precision == "bfloat16":
            return TOLERANCES[torch.bfloat16]
        return TF32_TOLERANCE if a.dtype == torch.float32 and a.is_cuda and _tf32() else TOLERANCES[a.dtype]

    def _settle(self, a: Tensor) -> None:
        works = self.work(self.operators, a), self.work(self.kernels, a)
        prefers_kernels = self._chooser.prefers_kernels(self._key(a), *works, self.tolerance(a))
        self._chosen = self.kernels if prefers_kernels else self.operators
        self._is_settled = True
        self.operators = self.kernels = self._chosen  # the other one keeps an input and an output

    def _key(self, a: Tensor) -> Hashable:
        """Packs shrink by a trial or two at a time, which is no reason to look again: K is rounded."""
        weight = self._parameter("weight")
        assert weight is not None
        run, num_trials = self._run, 1 << (len(weight) - 1).bit_length()
        sizes = (num_trials, len(a), *weight.shape[1:], *a.shape[2:], self._parameter("bias") is not None)
        precision = (a.dtype, self._state.train.precision, _tf32())
        activation = None if run.activation is None else run.activation.__name__
        return (str(a.device), self.is_first, run.conv.geometry, run.pools, activation, *sizes, *precision)


class InTurn(Layer):
    """Several layers as one."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__(layers[0]._state, layers[0]._name, layers[0]._trials)
        self._layers = layers

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        for layer in self._layers:
            a = layer.forward(a, buffers)
        return a

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        for layer in reversed(self._layers):
            delta = layer.backward(delta, gradients)
        return delta

    @override
    def take(self, delta: Tensor, gradients: Stacked) -> None:
        first, *others = self._layers
        for layer in reversed(others):
            delta = layer.backward(delta, gradients)
        first.take(delta, gradients)


def with_choices(layers: list[Layer], chooser: Chooser | None) -> list[Layer]:
    """The same net; with a chooser, convolutions and what kernels do with them are layers that choose."""
    if chooser is None:
        return layers
    found: list[Layer] = []
    place = 0
    while place < len(layers):
        run = Run.of(layers[place:])
        if run is None:
            found.append(layers[place])
            place += 1
        else:
            operators = layers[place : place + run.num_layers]
            found.append(ChosenConvolution(run, operators, chooser, is_first=place == 0))
            place += run.num_layers
    return found


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    """Whether an output and its derivatives are the same but for rounding; what is no number is none in both."""
    bounds = [tolerance] + [tolerance**0.5] * (len(expected) - 1)
    return len(found) == len(expected) and all(_is_near(*each) for each in zip(found, expected, bounds, strict=True))


def _is_near(found: Tensor, expected: Tensor, bound: float) -> bool:
    if found.shape != expected.shape:
        return False
    known = expected.isfinite()
    if not torch.equal(known, found.isfinite()):
        return False
    off, size = (
        torch.linalg.vector_norm(t.double().where(known, 0)) for t in (found.double() - expected.double(), expected)
    )
    return bool(off <= bound * size)


def _noise(like: Tensor) -> Tensor:
    """Always the same, and none that the step would draw."""
    generator = torch.Generator(like.device).manual_seed(0)
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    return noise.contiguous(memory_format=torch.channels_last)


def _tf32() -> bool:
    """Whether convolutions may round float32 to it, by operators and kernels."""
    return torch.backends.cudnn.allow_tf32
