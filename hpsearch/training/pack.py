"""A pack: K trials of one structure that train in lockstep, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from hpsearch.config import StudyConfig
from hpsearch.config.metric import metric_of
from hpsearch.config.structure import refuse_other_structures
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.epoch import Epoch
from hpsearch.errors import EngineError
from hpsearch.results import EpochResult, Explosion, TrialSpec
from hpsearch.training.accumulation import num_updates
from hpsearch.training.best_epochs import BestEpochs
from hpsearch.training.choice import make_engine
from hpsearch.training.explosion import CHECK_STEPS
from hpsearch.training.initial_state import InitialState
from hpsearch.training.measuring import epoch_results
from hpsearch.training.membership import Membership
from hpsearch.training.noise import preserved_rng
from hpsearch.training.schedules import slot_rates
from hpsearch.training.slots import Slots
from hpsearch.training.snapshot import Snapshot
from hpsearch.training.state import PackState
from hpsearch.training.state_dicts import StateDicts
from hpsearch.training.update_ratio import LastStep
from hpsearch.training.vectors import Vectors


@dataclass(frozen=True)
class PackReport:
    """What one epoch brought: the trials that went through it, and those that exploded in it and are gone."""

    results: list[EpochResult]
    explosions: list[Explosion]


class Pack:
    """Trains the trials of `specs` under one config; they may differ in vector hyperparameters only.

    All of them start from the same weights (times their own init_scale) and see the same minibatches and noise, so
    what a trial gives depends on its hyperparameters and on train.seed, not on its neighbours, nor, where the pack
    refills, on when it came. A trial's weights are those of its best epoch, whose value of train.metric is the trial's.

    Args:
        config: with the structural values of these trials; also the default of any vector value that a spec lacks.
        data: on the device on which to train.
        specs: at least one.
        engine: auto, loop, vmap, fused or graph.
        snapshots: where trials are to go on from, by number; of all trials and from one epoch, or of none.
        keeps_best: whether anybody will ask for the weights of best epochs, which are one more copy of all weights.
        refills: whether others are to take the places of trials that leave, where the engine can (`num_vacant`).
        falls_back: whether another engine, with a warning, trains nets that auto's first or graph cannot take.
        judged_elsewhere: whether somebody else says which epochs are the best, with `keep_best`.

    Raises:
        ConfigError: a value is not allowed, or the net does not fit the images.
        EngineError: the specs differ in structure, a number is given twice, the snapshots are not theirs, or the
            engine cannot take the net.
    """

    def __init__(
        self,
        config: StudyConfig,
        data: TrainingData,
        specs: Sequence[TrialSpec],
        *,
        engine: str = "auto",
        snapshots: Mapping[int, Snapshot] | None = None,
        keeps_best: bool = True,
        refills: bool = False,
        falls_back: bool = True,
        judged_elsewhere: bool = False,
    ) -> None:
        self.config = config
        self.metric = metric_of(config.train.metric)
        """What counts, and whether more of it is better."""
        self.epoch = 0
        """Epochs done, by the trial that has done most."""
        self._slots = Slots([spec.number for spec in specs])
        self._judged_elsewhere = judged_elsewhere
        self._data = data
        refuse_other_structures(config, specs)
        trial_configs = [config.with_params(spec.params) for spec in specs]
        vectors = Vectors.of(trial_configs)
        self._initial = InitialState.of(config, data, vectors, refills=refills)
        module, state = self._initial.begin(vectors)
        like = state.cost_sum_K
        self._best = BestEpochs(state.nets, self.metric.direction, self.num_epochs, keeps_weights=keeps_best)
        self._state_dicts = StateDicts(config, data, module)
        self._module = module
        self._num_steps = data.num_batches(config.train.batch_size)
        self._train_sample = data.train_sample()
        self._last_step = LastStep()
        x_sample, y_sample = self._train_sample
        with preserved_rng(like.device):
            self._engine = make_engine(
                engine,
                data.trained_net(config.model)[0].name,
                module.to(like),
                state,
                (x_sample[:2].to(like), y_sample[:2]),
                falls_back=falls_back,
                on_disk=data.on_disk,
            )
        self._members = Membership(self._slots, self._engine, self._initial, self._best, refills=refills)
        if snapshots:
            self._members.go_on(snapshots)
            self.epoch = max(self._slots.epochs.values())

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the trials that are still in the pack, by slot."""
        return self._slots.numbers

    @property
    def refills(self) -> bool:
        """Whether others take places here: trials that have gone through all epochs leave at once then."""
        return self._members.stay

    @property
    def num_vacant(self) -> int:
        """Trials that `admit` can take now."""
        return self._members.num_vacant

    @property
    def num_epochs(self) -> int:
        """Epochs of each trial."""
        return self.config.train.epochs

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return all(epochs >= self.num_epochs for epochs in self._slots.epochs.values())

    def epochs_of(self, number: int) -> int:
        """Epochs that a trial in the pack has done."""
        self._slots.check([number])
        return self._slots.epochs[number]

    @property
    def engine(self) -> str:
        """The engine in use: loop, vmap, fused or graph."""
        return self._engine.name

    def run_epoch(self) -> PackReport:
        """Train the next epoch; exploded trials leave at a check, all others are measured at its end.

        An interruption leaves the trials as the last step left them; the epoch does not count as done.

        Raises:
            EngineError: the pack is done.
        """
        if self.done or max(self._slots.epochs.values()) >= self.num_epochs:
            raise EngineError(
                f"the pack is done after {self.epoch} of {self.num_epochs} epochs; {len(self.numbers)} trials."
            )
        with preserved_rng(self._state.cost_sum_K.device):
            explosions = self._train()
        results = self._measure()
        lost = {
            result.number
            for result in results
            if not (math.isfinite(result.train_loss) and math.isfinite(result.val_loss))
        }
        if lost:  # the epoch's last update did it, and no step follows that would see
            explosions += self._remove(lost)
            results = [result for result in results if result.number not in lost]
        self.epoch = max([*(result.epoch for result in results), *(explosion.epoch for explosion in explosions)])
        self._slots.epochs |= {result.number: result.epoch for result in results}
        if not self._judged_elsewhere:
            self.keep_best(results)
        return PackReport(results, explosions)

    def try_step(self) -> None:
        """Find the gradients of two training images, and let everything be as it is; what fails raises."""
        x_BCHW, y_B = self._train_sample
        like = self._state.cost_sum_K
        self._module.train()
        with preserved_rng(like.device):
            self._engine.gradients(x_BCHW[:2].to(like), y_B[:2], noise_seed=0)

    def admit(self, specs: Sequence[TrialSpec], snapshots: Mapping[int, Snapshot] | None = None) -> None:
        """Let trials take the places of those that left, from their first epoch on, or from a snapshot's.

        Raises:
            EngineError: there is no room for so many, or they do not fit this pack.
        """
        self._members.admit(specs, snapshots or {})
        self._last_step.forget(spec.number for spec in specs)

    def close(self) -> None:
        """No more trials come."""
        self._members.close()

    def drop(self, numbers: Iterable[int]) -> None:
        """Let trials go, as after pruning; nothing changes for the others.

        Raises:
            EngineError: one of them is not in the pack.
        """
        leaving = set(numbers)
        self._slots.check(leaving)
        self._members.leave(leaving)

    def state(self, number: int, which: Literal["best", "last"] = "best") -> dict[str, Tensor]:
        """A copy of a trial's weights and buffers, ready for `build(...).load_state_dict`.

        Args:
            number: of the trial.
            which: those of its best epoch (before the first one has ended: as they are), or as they are now; with
                train.ema, their averages.

        Raises:
            EngineError: the trial is not in the pack, or the pack keeps no best weights.
        """
        if which == "best" and not self._best.keeps_weights:
            raise EngineError("this pack keeps no weights of best epochs.\nAllowed: which='last', or keeps_best=True.")
        index = self._slots.slot(number)
        with self._state.nets.averaged():
            slot = self._best.slot(index, number) if which == "best" else self._state.nets.slot(index)
        return self._state_dicts.of(slot)

    def update_ratios(self, number: int) -> dict[str, float]:
        """|update| / |weights before it| of each layer of a trial in the last step of its last epoch.

        By the layers' names in the net, behind a frozen body those of the head alone. Empty where it has trained no
        epoch here. Costs nothing until somebody asks.

        Raises:
            EngineError: the trial is not in the pack.
        """
        return self._last_step.layer_ratios(self._state.nets, self._slots.slot(number), number)

    def snapshot(self, number: int) -> Snapshot:
        """A copy of all that a live trial is made of, to go on from with `Pack(..., snapshots=...)`.

        Raises:
            EngineError: the trial is not in the pack.
        """
        slot, best = self._slots.slot(number), self._best.of(number)
        return Snapshot.of(self._state, slot, self._slots.epochs[number], best)

    @property
    def _state(self) -> PackState:
        return self._engine.state

    def _train(self) -> list[Explosion]:
        """All steps of an epoch, as long as there are trials; the others are returned as they leave."""
        state = self._state
        state.set_learning_rate(slot_rates(state.train, state.vectors, self._slots.next_epochs))
        state.cost_sum_K.zero_()
        explosions: list[Explosion] = []
        images = {n: self._epoch(n) for n in set(self._slots.next_epochs)}
        for steps in self._data.stretches(self._num_steps, CHECK_STEPS):
            last = steps.stop == self._num_steps
            if last:
                self._last_step.begin(state.nets)
            self._engine.run([images[epoch] for epoch in self._slots.next_epochs], steps)
            if last:
                state.update_ratio_K.copy_(self._last_step.end(state.nets, self._slots))
            if last or steps.stop % CHECK_STEPS == 0:
                explosions += self._remove_exploded()
                if not self.numbers:
                    break
        return explosions

    def _measure(self) -> list[EpochResult]:
        if not self.numbers:
            return []
        updates = num_updates(self._num_steps, self.config.train.accumulate)
        return epoch_results(self._engine, self._data, self._train_sample, updates, self.metric, self._slots)

    def _epoch(self, number: int) -> Epoch:
        """With a teacher, rows in the place of labels: see `distillation`."""
        epoch = self._data.epoch(self.config.train.seed, number, self.config.train.batch_size)
        taught = self._initial.taught
        return epoch if taught is None else replace(epoch, y_N=taught.rows_N)

    def _remove_exploded(self) -> list[Explosion]:
        """Look at who has frozen, and let those go."""
        active = self._state.watch.active_K.tolist()
        frozen = {number for slot, number in self._slots.taken if not active[slot]}
        return self._remove(frozen) if frozen else []

    def _remove(self, exploded: set[int]) -> list[Explosion]:
        taken = [(slot, number) for slot, number in self._slots.taken if number in exploded]
        explosions = self._state.watch.explosions(taken, self._slots.epochs)
        self._members.leave(exploded)
        return explosions

    def keep_best(self, results: Sequence[EpochResult]) -> None:
        """Keep the weights of the trials that have just had their best epoch, as these results of it say."""
        self._best.look_at(results, self._slots)
