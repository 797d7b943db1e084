"""Work on a device, recorded once and started as a whole, on lanes beside each other: CUDA graphs and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from hpsearch.errors import EngineError

MAX_LANES = 16  # streams beside each other; a device with room for more small kernels has not been seen

Work = Callable[[], None]


class Recorder(Protocol):
    """Takes work apart from doing it, and does it again and again.

    Between `part` and `meet`, work goes to lanes; whether it is done or recorded there makes no difference.
    """

    def record(self, work: Work, lane: int | None = None) -> Work:
        """What does what `work` would do; it is to be started on the lane for which it was recorded."""

    def part(self) -> None:
        """What is started on lanes from now on waits for all that was started before."""

    def on(self, lane: int) -> AbstractContextManager[None]:
        """Within it, work goes to that lane."""

    def meet(self) -> None:
        """What is started from now on waits for the lanes."""


class CudaRecorder:
    """CUDA graphs on streams of one device.

    Graphs that run at the same time must share no memory: each has a pool of its own, and each stream workspaces of its
    own. Within one graph, memory that was freed on one stream is taken on that stream alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: list[torch.cuda.Stream] = []
        self._used: list[torch.cuda.Stream] = []
        self._parted: torch.cuda.Event | None = None

    def record(self, work: Work, lane: int | None = None) -> Work:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=None if lane is None else self._stream(lane)):
            work()
        return graph.replay

    def part(self) -> None:
        """See `Recorder`."""
        self._parted = torch.cuda.current_stream(self._device).record_event()
        self._used = []

    @contextmanager
    def on(self, lane: int) -> Iterator[None]:
        """See `Recorder`."""
        stream = self._stream(lane)
        if stream not in self._used:
            assert self._parted is not None, "lanes are taken after `part`"
            stream.wait_event(self._parted)
            self._used.append(stream)
        with torch.cuda.stream(stream):
            yield

    def meet(self) -> None:
        """See `Recorder`."""
        current = torch.cuda.current_stream(self._device)
        for stream in self._used:
            current.wait_stream(stream)

    def _stream(self, lane: int) -> torch.cuda.Stream:
        while len(self._streams) <= lane % MAX_LANES:
            self._streams.append(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
        return self._streams[lane % MAX_LANES]


def recorder_for(device: torch.device) -> Recorder:
    """That of the device.

    Raises:
        EngineError: it has none.
    """
    if device.type != "cuda":
        raise EngineError(f"run.engine = 'graph' does not run on {device.type}.\nAllowed: a CUDA device, or loop.")
    return CudaRecorder(device)
