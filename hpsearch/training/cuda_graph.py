"""A training step as a CUDA graph: small nets spend their time starting kernels; a graph starts all of them at once.

Nothing here is about fused nets: any step fits that waits for nothing, leaves its results in the same tensors each
time, and draws its noise from the device's global generator, seeded before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # steps before the capture, so that libraries have their handles, workspaces and choices

Step = Callable[[Tensor, Tensor], None]
Replay = Callable[[], None]


class GraphedStep:
    """Runs a step on (x, y): a few times as it is, then as a graph of its own inputs. Other shapes run as they are.

    For one set of tensors: make a new one after `Engine.keep`.

    Args:
        step: what to capture.
        capture: takes a function, notes what it would do on the device without doing it, and returns what does it.
    """

    def __init__(self, step: Step, capture: Callable[[Replay], Replay] | None = None) -> None:
        self._step = step
        self._capture = capture or capture_cuda_graph
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._replay: Replay | None = None
        self._num_steps = 0

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """One step; the warm-up's are steps like all others."""
        if self._inputs is None:
            self._inputs = (torch.empty_like(x), torch.empty_like(y))
        own_x, own_y = self._inputs
        if x.shape != own_x.shape or self._num_steps < WARM_UP:  # the last batch of an epoch may be smaller
            self._num_steps += x.shape == own_x.shape
            self._step(x, y)
            return
        own_x.copy_(x)
        own_y.copy_(y)
        if self._replay is None:
            self._replay = self._capture(lambda: self._step(own_x, own_y))
        self._replay()


def capture_cuda_graph(work: Replay) -> Replay:
    """The kernels that `work` starts on the current device, as a graph; nothing is computed yet."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
