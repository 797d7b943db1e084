"""Whole steps, recorded once and started as one: from the batch, whose place the device counts, to the update.

A small or middling net spends its time starting kernels: an eager step of ResNet-18 takes 10.8 ms on an H100, the same
one as a graph 3.0 (batches of 100 images of 32 pixels in bfloat16, torch 2.11, a prototype).

A step has parts, a trial each, which are done beside each other, and an end, the update of all. Where the parts draw no
noise, several steps are one recording. Noise is drawn from the device's generator, which takes a seed between two
recordings alone: where it is needed, each part is a recording of its own, so that all trials see the same noise.

Shapes: B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.mixing import Labels
from hpsearch.logs import get_logger
from hpsearch.training.accumulation import ALONE, Accumulation, Place
from hpsearch.training.noise import noise_state, seed_noise
from hpsearch.training.recorder import Recorder, Work

WARM_UP = 3  # steps before a recording, so that libraries have their handles, workspaces and choices
MAX_STEPS = 8  # in one recording
MAX_OPERATORS = 8000  # in one recording of several steps: it takes as long as they do, and memory for each

Part = Callable[[Tensor, Labels], None]

logger = get_logger(__name__)


@dataclass
class Recording:
    """Steps on batches of one size."""

    num_steps: int = 0
    """That were done as they are."""
    one: list[Work] = field(default_factory=list)
    """The step: as a whole, or by part and at last the end."""
    several: Work | None = None


class RecordedSteps:
    """Trains by steps that are recorded; the first ones are done as they are, and all where recording fails.

    For tensors that stay: make a new one after `Engine.keep`.

    Args:
        recorder: of the device.
        parts: what each trial does with its batch (x_BCHW, y_B), in the same memory each time.
        end: what follows on all of them.
        like: a tensor of the device and precision in which batches are wanted.
        num_operators: of a step, about; 0: unknown, and small.
        is_first: whether the next step is the first of some trial, which does more than others.
        agree: does a step as it is and as it was recorded, from the same state; whether both led to the same. The state
            is that after one step then.
        places: told where a step is among those of its update: steps at unlike places are unlike recordings.
    """

    def __init__(
        self,
        recorder: Recorder,
        parts: Sequence[Part],
        end: Work,
        like: Tensor,
        *,
        num_operators: int = 0,
        is_first: Callable[[], bool] = lambda: False,
        agree: Callable[[Work, Work], bool] | None = None,
        places: Accumulation | None = None,
    ) -> None:
        self._recorder = recorder
        self._parts = parts
        self._end = end
        self._like = like
        self._is_first, self._agree, self._places = is_first, agree, places
        self._at_once = max(1, min(MAX_STEPS, MAX_OPERATORS // max(1, num_operators)))
        self._place = torch.zeros((), dtype=torch.int64, device=like.device)  # of the next batch's first image
        self._epochs: list[Epoch] = []  # of each part, in memory that stays
        self._taken: list[Epoch] = []
        self._recordings: dict[tuple[int, Place], Recording] = {}  # by size of the batch
        self._draws_noise = False
        self._refused = False

    def run(self, epochs: Sequence[Epoch], steps: range) -> None:
        """These steps of each part's epoch; the epochs have batches of the same sizes."""
        self._take(epochs)
        bounds = epochs[0].bounds
        self._place.fill_(bounds[steps.start][0])
        step = steps.start
        while step < steps.stop:
            size, place = epochs[0].size(step), self._place_of(epochs[0], step)
            if self._places is not None:
                self._places.place = place
            alike = 1
            while step + alike < steps.stop and epochs[0].size(step + alike) == size:
                if self._place_of(epochs[0], step + alike) != place:
                    break
                alike += 1
            step += self._do(bounds[step][0], (size, place), [epoch.noise_seed(step) for epoch in epochs], alike)

    def _place_of(self, epoch: Epoch, step: int) -> Place:
        return ALONE if self._places is None else self._places.place_of(step, epoch.num_batches)

    def _take(self, epochs: Sequence[Epoch]) -> None:
        for part, epoch in enumerate(epochs):
            if len(self._epochs) <= part:
                self._epochs.append(epoch.copy())
                self._taken.append(epoch)
            elif not self._epochs[part].fits(epoch):
                self._epochs[part], self._taken[part] = epoch.copy(), epoch
                self._recordings.clear()
            elif self._taken[part] is not epoch:
                self._epochs[part].take(epoch)
                self._taken[part] = epoch

    def _do(self, first: int, kind: tuple[int, Place], seeds: Sequence[int], alike: int) -> int:
        """At least one of so many steps of this kind, from the place of this image on; how many were done."""
        size, _ = kind
        recording = self._recordings.setdefault(kind, Recording())
        if self._refused or recording.num_steps < WARM_UP or self._is_first():
            recording.num_steps += 1
            self._as_it_is(size, seeds)
            return 1
        try:
            if not recording.one:
                recording.one = self._record_parts(size, seeds) if self._draws_noise else [self._record(size, 1)]
                if self._agree is not None:
                    return self._compare(self._agree, first, kind, seeds)
            many = 1 < self._at_once <= alike and not self._draws_noise
            if many and recording.several is None:
                recording.several = self._record(size, self._at_once)
        except RuntimeError as error:
            self._refused = True
            logger.warning("the step cannot be recorded, so it goes on as in run.engine = loop: %s", error)
            self._as_it_is(size, seeds)
            return 1
        if many and recording.several is not None:
            recording.several()
            return self._at_once
        self._again(recording, seeds)
        return 1

    def _compare(
        self, agree: Callable[[Work, Work], bool], first: int, kind: tuple[int, Place], seeds: Sequence[int]
    ) -> int:
        """One step, in both ways; recordings are done with where they differ."""

        def from_here(work: Work) -> Work:
            def step() -> None:
                self._place.fill_(first)
                work()

            return step

        plain = from_here(partial(self._as_it_is, kind[0], seeds))
        if not agree(plain, from_here(partial(self._again, self._recordings[kind], seeds))):
            self._refused = True
            logger.warning("a recorded step differs from a plain one here, so it goes on as in run.engine = loop")
        return 1

    def _again(self, recording: Recording, seeds: Sequence[int]) -> None:
        """The recorded step."""
        if self._draws_noise:
            self._beside(recording.one, seeds)
        recording.one[-1]()

    def _as_it_is(self, size: int, seeds: Sequence[int]) -> None:
        for part, seed in enumerate(seeds):
            seed_noise(self._like.device, seed)
            before = noise_state(self._like.device)
            self._part(part, size)
            self._draws_noise |= not torch.equal(before, noise_state(self._like.device))
        self._finish(size)

    def _record(self, size: int, num_steps: int) -> Work:
        """Whole steps as one recording."""

        def work() -> None:
            for _ in range(num_steps):
                self._beside([partial(self._part, part, size) for part in range(len(self._parts))])
                self._finish(size)

        return self._recorder.record(work)

    def _record_parts(self, size: int, seeds: Sequence[int]) -> list[Work]:
        recorded = []
        for part, seed in enumerate(seeds):
            seed_noise(self._like.device, seed)
            recorded.append(self._recorder.record(partial(self._part, part, size), lane=part))
        return [*recorded, self._recorder.record(partial(self._finish, size))]

    def _beside(self, works: Sequence[Work], seeds: Sequence[int] = ()) -> None:
        """The parts, on lanes."""
        self._recorder.part()
        for lane in range(len(self._parts)):
            with self._recorder.on(lane):
                if seeds:
                    seed_noise(self._like.device, seeds[lane])
                works[lane]()
        self._recorder.meet()

    def _part(self, part: int, size: int) -> None:
        places_B = self._place + torch.arange(size, device=self._place.device)
        x_BCHW, y_B = self._epochs[part].gather(places_B)
        self._parts[part](x_BCHW.to(self._like.dtype), y_B)

    def _finish(self, size: int) -> None:
        self._end()
        self._place.add_(size)
