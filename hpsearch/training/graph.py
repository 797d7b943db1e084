"""The graph engine: any net on CUDA, its step recorded once and started as a whole.

A small or middling net spends its time starting kernels: an eager step of ResNet-18 takes 10.8 ms on an H100, the same
one as a graph 3.0 (batches of 100 images of 32 pixels in bfloat16, torch 2.11, a prototype). Each trial of the pack has
a graph of its own, forward to gradients, on a stream of its own, so that trials run beside each other where one does
not fill the device; the update of all of them is one more. Graphs that run at the same time must not share memory: each
has its own pool, and each stream its own workspaces, since it is recorded there.

Between two graphs the device's generator is seeded, as for the loop engine: a graph draws from the state that it
finds when it is started, so trials see the same noise, the eager step's own.

Shapes: K = trials in the pack, B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from hpsearch.errors import EngineError
from hpsearch.logs import get_logger
from hpsearch.training.cuda_graph import WARM_UP, Replay
from hpsearch.training.layout import Stacked
from hpsearch.training.loop import LoopEngine
from hpsearch.training.noise import seed_noise
from hpsearch.training.state import PackState

MAX_LANES = 16  # streams beside each other; a device with room for more small kernels has not been seen
# What reads a number back to decide on the host, or gives as many numbers as the data say.
WAITING = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        "_local_scalar_dense", "nonzero", "nonzero_static", "masked_select", "_unique", "_unique2", "unique_dim",
        "unique_consecutive", "bincount", "equal", "is_nonzero", "histc",
    )
)  # fmt: skip

logger = get_logger(__name__)


class Recorder(Protocol):
    """Takes work apart from doing it, and does it again and again, on lanes beside each other."""

    def record(self, work: Replay, lane: int | None = None) -> Replay:
        """What does on that lane what `work` would do on the device; None: on the stream of everything else."""

    def part(self) -> None:
        """What is started on the lanes from now on waits for all that was started before."""

    def meet(self) -> None:
        """What is started from now on waits for the lanes."""


class CudaRecorder:
    """CUDA graphs on streams of one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: list[torch.cuda.Stream] = []

    def record(self, work: Replay, lane: int | None = None) -> Replay:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        if lane is None:
            with torch.cuda.graph(graph):
                work()
            return graph.replay
        while len(self._streams) <= lane % MAX_LANES:
            self._streams.append(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
        stream = self._streams[lane % MAX_LANES]
        with torch.cuda.graph(graph, stream=stream):
            work()

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def part(self) -> None:
        """See `Recorder`."""
        now = torch.cuda.current_stream(self._device).record_event()
        for stream in self._streams:
            stream.wait_event(now)

    def meet(self) -> None:
        """See `Recorder`."""
        current = torch.cuda.current_stream(self._device)
        for stream in self._streams:
            current.wait_stream(stream)


def recorder_for(device: torch.device) -> Recorder:
    """That of the device.

    Raises:
        EngineError: it has none.
    """
    if device.type != "cuda":
        raise EngineError(f"run.engine = 'graph' does not run on {device.type}.\nAllowed: a CUDA device, or loop.")
    return CudaRecorder(device)


@dataclass
class Recorded:
    """The step of the trials that are in the pack now."""

    inputs: tuple[Tensor, ...] = ()
    """x_BCHW and y_B, which each step finds in the same place."""
    num_steps: int = 0
    """That were done as they are."""
    trials: list[Replay] = field(default_factory=list)
    """By slot, from the inputs to loss, gradients and buffers."""
    update: Replay = lambda: None


class GraphEngine(LoopEngine):
    """The loop engine's step, recorded; the first steps, and batches of another size, are done as the loop does them.

    Raises:
        EngineError: the device records nothing, or the net waits for the device in the middle of a step.
    """

    name = "graph"

    def __init__(self, module: nn.Module, state: PackState, *, channels_last: bool = True) -> None:
        self._recorder = recorder_for(state.lr_K.device)
        super().__init__(module, state, channels_last=channels_last)
        self._recorded = Recorded()
        self._refused = False

    @override
    def gradients(self, x_BCHW: Tensor, y_B: Tensor, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        with _Waits():  # type: ignore[no-untyped-call]
            return super().gradients(x_BCHW, y_B, noise_seed)

    @override
    def step(self, x_BCHW: Tensor, y_B: Tensor, noise_seed: int) -> None:
        self.module.train()
        x_BCHW = x_BCHW.contiguous(memory_format=self._memory_format)
        if not self._is_ready(x_BCHW, y_B, noise_seed):
            self.state.advance(*super().gradients(x_BCHW, y_B, noise_seed))
            return
        recorded = self._recorded
        for own, given in zip(recorded.inputs, (x_BCHW, y_B), strict=True):
            own.copy_(given)
        self._recorder.part()
        for replay in recorded.trials:
            seed_noise(x_BCHW.device, noise_seed)
            replay()
        self._recorder.meet()
        recorded.update()

    @override
    def keep(self, slots: Sequence[int]) -> None:
        self._recorded = Recorded()  # first: graphs hold the memory of the trials that leave
        super().keep(slots)

    def _is_ready(self, x_BCHW: Tensor, y_B: Tensor, noise_seed: int) -> bool:
        """Whether the step is recorded for batches like this one; it is as soon as libraries are warm."""
        recorded = self._recorded
        if not recorded.inputs:
            recorded.inputs = torch.empty_like(x_BCHW), torch.empty_like(y_B)
        if self._refused or x_BCHW.shape != recorded.inputs[0].shape:
            return False
        if recorded.num_steps < WARM_UP:
            recorded.num_steps += 1
            return False
        if not recorded.trials:
            try:
                self._record(noise_seed)
            except RuntimeError as error:
                self._refused = True
                logger.warning("the step cannot be recorded, so it goes on as in run.engine = loop: %s", error)
        return not self._refused

    def _record(self, noise_seed: int) -> None:
        """Record the step of the trials that are here now; nothing is computed."""
        x_BCHW, y_B = self._recorded.inputs
        trials = []
        for slot in range(self.state.num_trials):
            seed_noise(x_BCHW.device, noise_seed)
            trials.append(self._recorder.record(partial(self._go_through, slot, x_BCHW, y_B), lane=slot))
        update = partial(self.state.advance, self._loss_K, self._gradients, self._buffers)
        self._recorded.update = self._recorder.record(update)
        self._recorded.trials = trials


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, an operator for whose outcome the host would have to wait is an error that names it."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = operator.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_) and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if operator.overloadpacket in WAITING or by_mask:
            raise EngineError(f"{operator} waits for the device, or gives as many numbers as the data say.")
        return operator(*args, **(kwargs or {}))
