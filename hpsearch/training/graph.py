"""The graph engine: any net on CUDA, its steps recorded once and started as a whole (see `recorded_steps`).

Shapes: K = trials in the pack, B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.mixing import Labels
from hpsearch.errors import EngineError
from hpsearch.training.layout import Stacked
from hpsearch.training.loop import LoopEngine
from hpsearch.training.recorded_steps import RecordedSteps
from hpsearch.training.recorder import Work, recorder_for
from hpsearch.training.stacked_nets import BEST
from hpsearch.training.state import PackState

# What reads a number back to decide on the host, or gives as many numbers as the data say.
WAITING = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        "_local_scalar_dense", "nonzero", "nonzero_static", "masked_select", "_unique", "_unique2", "unique_dim",
        "unique_consecutive", "bincount", "equal", "is_nonzero", "histc",
    )
)  # fmt: skip

# Of what a step changes: kernels that add in any order, in bfloat16, are off by a few parts in a thousand.
MAX_DIFFERENCE = 0.05


class GraphEngine(LoopEngine):
    """The loop engine's step, recorded.

    Raises:
        EngineError: the device records nothing, or the net decides something on the host in the middle of a step.
    """

    name = "graph"
    refills = True

    def __init__(self, module: nn.Module, state: PackState, *, channels_last: bool = True) -> None:
        self._recorder = recorder_for(state.lr_K.device)
        super().__init__(module, state, channels_last=channels_last)
        self._num_operators = 0
        self._steps = self._record_steps()

    @override
    def gradients(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        watched = _Watched()  # type: ignore[no-untyped-call]
        with _same_on_the_host(), watched:
            found = super().gradients(x_BCHW, y_B, noise_seed)
        self._num_operators = watched.num_operators
        self._steps = self._record_steps()
        return found

    @override
    def run(self, epochs: Sequence[Epoch], steps: range) -> None:
        self.module.train()
        self._steps.run(epochs, steps)

    @override
    def keep(self, slots: Sequence[int]) -> None:
        del self._steps  # first: graphs hold the memory of the trials that leave
        self._num_operators = self._num_operators * len(slots) // self.state.num_trials
        super().keep(slots)
        self._steps = self._record_steps()

    @override
    def operations_changed(self) -> None:
        self._steps = self._record_steps()

    def _record_steps(self) -> RecordedSteps:
        watch = self.state.watch
        return RecordedSteps(
            self._recorder,
            [partial(self._part, slot) for slot in range(self.state.num_trials)],
            self._end,
            self.state.cost_sum_K,
            num_operators=self._num_operators,
            is_first=lambda: watch.fresh_K is not None,
            agree=self._agree,
            places=self.state.accumulation,
        )

    def _agree(self, plain: Work, recorded: Work) -> bool:
        """Whether a recorded step does what it shows: it is code of the driver's, on a device that we do not know."""
        state = self.state
        changed = [t for name, t in state.everything().items() if not name.startswith(BEST)]
        changed += [state.cost_sum_K, state.watch.active_K]
        changed += state.accumulation.tensors if state.accumulation is not None else []
        begun = [tensor.clone() for tensor in changed]
        plain()
        expected = [tensor.clone() for tensor in changed]
        _put(begun, changed)
        state.weights_changed()
        recorded()
        worst = torch.stack([_difference(*each) for each in zip(begun, expected, changed, strict=True)]).max()
        agrees = bool(worst <= MAX_DIFFERENCE)
        if not agrees:
            _put(expected, changed)
            state.weights_changed()
        return agrees

    def _part(self, slot: int, x_BCHW: Tensor, y_B: Labels) -> None:
        self._go_through(slot, x_BCHW.contiguous(memory_format=self._memory_format), y_B)
        self.state.weigh(y_B, slice(slot, slot + 1))

    def _end(self) -> None:
        self.state.advance(self._loss_K, self._gradients, self._buffers)


def _put(numbers: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    for own, given in zip(into, numbers, strict=True):
        own.copy_(given)


def _difference(begun: Tensor, expected: Tensor, found: Tensor) -> Tensor:
    """Of two outcomes of a step, as a share of what it changed; what is no number in either counts for nothing."""
    change, off = (_distance(*each) for each in ((expected, begun), (found, expected)))
    return (off / change).nan_to_num(0.0)  # nothing changed, and nothing was off


def _distance(one: Tensor, other: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm((one.float() - other.float()).nan_to_num(0, 0, 0))
    return distance


@contextmanager
def _same_on_the_host() -> Iterator[None]:
    """What draws on the host decides there, and a recording would repeat the first decision for ever."""
    python, numpy = random.getstate(), _numpy_state()
    yield
    if random.getstate() != python:
        raise EngineError("the net draws from Python's random in the middle of a step.")
    if _numpy_state() != numpy:
        raise EngineError("the net draws from NumPy's random in the middle of a step.")


def _numpy_state() -> str:
    return repr(np.random.get_state(legacy=False))


class _Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, an operator for whose outcome the host would have to wait is an error that names it."""

    num_operators = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_operators += 1
        by_mask = operator.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_) and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if operator.overloadpacket in WAITING or by_mask:
            raise EngineError(f"{operator} waits for the device, or gives as many numbers as the data say.")
        return operator(*args, **(kwargs or {}))
