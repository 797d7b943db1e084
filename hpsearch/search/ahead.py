"""The trials of the next pack, taken while the last epoch of the present one runs, and the pack made of them.

So a device does not wait for the database, for checkpoints on disk, or for initial weights. All of it happens in a
thread, and what it got ready is collected between two packs, by the thread that trains. No trial's numbers depend on
any of this. The rules:

- Trials are taken ahead in the last AHEAD_SECONDS of a pack, and only where more wait than all workers together take
  next (`Queue.take_ahead`): at the end of a stage nobody holds what another worker could train at once.
- Their leases are the writer's to renew from that moment on; whatever ends the worker gives them back, too.
- What a sampler learns from finished trials is proposed after the present pack has ended, as ever: being a pack ahead
  would mean knowing a pack less. Such trials are taken ahead, and nothing more.
- A pack is made ahead on an accelerator alone: on a CPU the making takes from the training what it would save.
- And only where neither the making nor the training touches what all threads of a process share: PyTorch's global
  random numbers (dropout, a user's own net), and a CUDA graph that is being captured (the engine `fused` on CUDA).
- And only where memory is known to hold both packs; one that did not fit is forgotten, and there is no second try.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from hpsearch.config import StudyConfig
from hpsearch.config.schema import DataConfig
from hpsearch.config.usercode import is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.logs import get_logger
from hpsearch.results import TrialSpec
from hpsearch.search.failures import first_line, free_memory, is_out_of_memory
from hpsearch.search.pack_run import HeldTrial, create_pack
from hpsearch.search.plan import StagePlan
from hpsearch.search.writer import Writer
from hpsearch.storage import Lease, Queue
from hpsearch.training import Pack, group
from hpsearch.training.checkpoints import Checkpoints

AHEAD_SECONDS = 2.0  # before the expected end of a pack: more than database, disk and weights take
PATIENCE = 5.0  # seconds that the end of a worker waits for the thread

log = get_logger(__name__)


@dataclass
class Next:
    """What was got ready: trials that were taken, as `hold` gives them; the pack of all of them, if one was made."""

    leases: list[Lease] = field(default_factory=list)
    held: dict[int, HeldTrial] = field(default_factory=dict)
    pack: Pack | None = None


def hold(leases: Sequence[Lease], checkpoints: Checkpoints) -> dict[int, HeldTrial]:
    """Trials that were just taken, with the checkpoints from which they go on."""
    held = {lease.number: HeldTrial(lease) for lease in leases}
    for number, trial in held.items():
        if trial.lease.attempt > 1 and (found := checkpoints.load(number)) is not None:
            trial.checkpoint = found
    return held


def packs_of(config: StudyConfig, held: Mapping[int, HeldTrial]) -> list[tuple[StudyConfig, list[int]]]:
    """Which trials train together: those of one structure and one epoch."""
    packs = []
    for shared, members in group(config, [TrialSpec(n, t.lease.params) for n, t in held.items()]):
        by_epoch: dict[int, list[int]] = {}
        for spec in members:
            checkpoint = held[spec.number].checkpoint
            by_epoch.setdefault(checkpoint.snapshot.epoch if checkpoint else 0, []).append(spec.number)
        packs += [(shared, numbers) for numbers in by_epoch.values()]
    return packs


class Ahead:
    """Gets the next pack ready in a thread.

    Args:
        queue: from which trials are taken.
        writer: renews their leases.
        checkpoints: of the stage.
        plan: of the stage.
        images: those at hand, by what they were made from.
        engine: of the packs.
        keeps_best: see `Pack`.
    """

    def __init__(
        self,
        queue: Queue,
        writer: Writer,
        checkpoints: Checkpoints,
        plan: StagePlan,
        images: Mapping[DataConfig, TrainingData],
        engine: str,
        *,
        keeps_best: bool = True,
    ) -> None:
        self._keeps_best = keeps_best
        self._queue, self._writer, self._checkpoints = queue, writer, checkpoints
        self._plan, self._images, self._engine = plan, images, engine
        self._next = Next()
        self._lost: set[Lease] = set()
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._has_noise = has_noise(plan)
        self._fits = True

    def begin(self, width: int, seconds: float, present: Pack) -> None:
        """Get up to `width` trials ready; the `present` pack is expected to end in so many seconds."""
        if self._thread is not None:
            return  # the present pack is a part of one that failed when this had begun already
        self._cancelled.clear()
        device = self._images[self._plan.trial_config.data].x_train_NCHW.device
        creates = self._fits and not self._has_noise and may_create(device, present.engine)
        arguments = (width, max(0.0, seconds - AHEAD_SECONDS), device if creates else None)
        self._thread = threading.Thread(target=self._run, args=arguments, name="hpsearch-ahead", daemon=True)
        self._thread.start()

    def collect(self) -> Next:
        """What is ready, or will be in a moment: from here on it is the caller's. Empty if there is nothing."""
        return self._end(None)

    def lose(self, lease: Lease) -> None:
        """A trial that is another worker's now; or any other lease, which changes nothing."""
        self._lost.add(lease)

    def free(self) -> None:
        """Memory is short: no pack is made ahead any more, and one that is there is let go."""
        self._fits = False
        if self._thread is not None:
            self._thread.join()
        self._next.pack = None

    def close(self) -> list[Lease]:
        """End the thread; leases to give back. A thread that is stuck leaves its own to run out."""
        return self._end(PATIENCE).leases

    def _end(self, timeout: float | None) -> Next:
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None
        ready, self._next = self._next, Next()
        if self._lost.intersection(ready.leases):
            kept = [lease for lease in ready.leases if lease not in self._lost]
            ready = Next(kept, {lease.number: ready.held[lease.number] for lease in kept if ready.held})
        self._lost.clear()
        return ready

    def _run(self, width: int, delay: float, device: torch.device | None) -> None:
        if self._cancelled.wait(delay):
            return
        ready = self._next
        try:
            ready.leases = self._queue.take_ahead(width)
            self._writer.hold(ready.leases)
            ready.held = hold(ready.leases, self._checkpoints)
            if device is not None and ready.held:
                with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                    ready.pack = self._create(ready.held)
        except Exception as error:  # whatever it is, the thread that trains meets it again, and knows what to do
            log.info("the next pack could not be got ready: %s", first_line(error))
            if is_out_of_memory(error):
                self._fits = False
                free_memory()

    def _create(self, held: dict[int, HeldTrial]) -> Pack | None:
        if not all(trial.lease.params for trial in held.values()):
            return None  # not proposed yet
        [(config, numbers), *others] = packs_of(self._plan.trial_config, held)
        if others or config.data not in self._images:
            return None
        images = self._images[config.data]
        return create_pack(config, images, numbers, held, self._engine, keeps_best=self._keeps_best)


def has_noise(plan: StagePlan) -> bool:
    """Whether nets of this stage may draw from PyTorch's global random numbers, as they are made or trained."""
    model = plan.trial_config.model
    searched = {"model.dropout", "model.name"} & set(plan.config.space)
    return bool(is_user_code(model.name) or model.dropout or searched)


def may_create(device: torch.device, engine: str) -> bool:
    """Whether a pack may be made on this device while another one trains there with this engine."""
    if device.type != "cuda":
        return device.type != "cpu"
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return engine != "fused" and free > torch.cuda.max_memory_allocated(device)  # as much again as ever was in use
