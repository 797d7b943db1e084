"""A pack: K trials of one structure that train in lockstep, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpsearch.config import StudyConfig
from hpsearch.config.structure import structure_key
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import EngineError
from hpsearch.models import build_initialized
from hpsearch.results import EpochResult, Explosion, TrialSpec, best_epoch
from hpsearch.training.choice import make_engine
from hpsearch.training.explosion import CHECK_STEPS
from hpsearch.training.noise import preserved_rng
from hpsearch.training.precision import PRECISIONS
from hpsearch.training.schedules import learning_rate
from hpsearch.training.snapshot import Snapshot
from hpsearch.training.state import BEST, PackState
from hpsearch.training.update_ratio import UpdateRatio
from hpsearch.training.vectors import Vectors


@dataclass(frozen=True)
class PackReport:
    """What one epoch brought: the trials that went through it, and those that exploded in it and are gone."""

    results: list[EpochResult]
    explosions: list[Explosion]


class Pack:
    """Trains the trials of `specs` under one config; they may differ in vector hyperparameters only.

    All of them start from the same weights (times their own init_scale) and see the same minibatches and noise, so
    what a trial gives depends on its hyperparameters and on train.seed, not on its neighbours. A trial's weights are
    those of its best epoch, whose validation accuracy is its value.

    Args:
        config: with the structural values of these trials; also the default of any vector value that a spec lacks.
        data: on the device on which to train.
        specs: at least one.
        engine: auto, loop, vmap, fused or graph.
        snapshots: where trials are to go on from, by number; of all trials and from one epoch, or of none.
        keeps_best: whether anybody will ask for the weights of best epochs, which are one more copy of all weights.

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
    ) -> None:
        self.config = config
        self.epoch = 0
        """Epochs done."""
        self._numbers = [spec.number for spec in specs]
        self._keeps_best = keeps_best
        self._best: dict[int, EpochResult] = {}  # so far, by number
        self._data = data
        self._check(specs)
        trial_configs = [config.with_params(spec.params) for spec in specs]
        vectors = Vectors.of(trial_configs)
        # Dropout layers are there as soon as one trial needs them; its rate is the trial's own.
        highest_rate = {"model.dropout": float(vectors.dropout.max())}
        model = config.with_params(highest_rate).model
        module = build_initialized(model, data.shape, data.num_classes, config.train.seed)
        like = torch.empty(0, dtype=PRECISIONS[config.train.precision], device=data.x_train_NCHW.device)
        state = PackState(module, vectors, config.train, data.num_classes, like)
        # A tensor may have several names, as tied weights have; slots hold it under the first of them.
        first_names = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
        everything = module.state_dict(keep_vars=True).items()
        self._persistent = {name: first_names[id(t)] for name, t in everything if id(t) in first_names}
        self._num_steps = data.num_batches(config.train.batch_size)
        self._train_sample = data.train_sample()
        self._update_ratio = UpdateRatio()
        x_sample, y_sample = self._train_sample
        with preserved_rng(like.device):
            self._engine = make_engine(
                engine, config.model.name, module.to(like), state, (x_sample[:2].to(like), y_sample[:2])
            )

        if snapshots:
            self._go_on(snapshots)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the trials that are still in the pack, by slot."""
        return tuple(self._numbers)

    @property
    def num_epochs(self) -> int:
        """Epochs of each trial."""
        return self.config.train.epochs

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.epoch >= self.num_epochs or not self._numbers

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
        if self.done:
            raise EngineError(
                f"the pack is done after {self.epoch} of {self.num_epochs} epochs; {len(self.numbers)} trials."
            )
        epoch = self.epoch + 1
        with preserved_rng(self._state.cost_sum_K.device):
            explosions = self._train(epoch)
        results = self._measure(epoch) if self._numbers else []
        lost = {
            result.number
            for result in results
            if not (math.isfinite(result.train_loss) and math.isfinite(result.val_loss))
        }
        if lost:  # the epoch's last update did it, and no step follows that would see
            explosions += self._remove(epoch, lost)
            results = [result for result in results if result.number not in lost]
        self.epoch = epoch
        self._keep_best(results)
        return PackReport(results, explosions)

    def drop(self, numbers: Iterable[int]) -> None:
        """Let trials go, as after pruning; nothing changes for the others.

        Raises:
            EngineError: one of them is not in the pack.
        """
        leaving = set(numbers)
        if missing := leaving - set(self._numbers):
            raise EngineError(f"trials {sorted(missing)} are not in the pack.\nIn it: {list(self._numbers)}.")
        self._keep([slot for slot, number in enumerate(self._numbers) if number not in leaving])

    def state(self, number: int, which: Literal["best", "last"] = "best") -> dict[str, Tensor]:
        """A copy of a trial's weights and buffers, ready for `build(...).load_state_dict`.

        Args:
            number: of the trial.
            which: those of its best epoch (before the first one has ended: as they are), or as they are now.

        Raises:
            EngineError: the trial is not in the pack, or the pack keeps no best weights.
        """
        if which == "best" and not self._keeps_best:
            raise EngineError("this pack keeps no weights of best epochs.\nAllowed: which='last', or keeps_best=True.")
        index = self._slot(number)
        best = self._best.get(number)
        apart = which == "best" and best is not None and best.epoch < self.num_epochs
        slot = self._state.best_slot(index) if apart else self._state.slot(index)
        return {name: slot[first].clone() for name, first in self._persistent.items()}

    def snapshot(self, number: int) -> Snapshot:
        """A copy of all that a live trial is made of, to go on from with `Pack(..., snapshots=...)`.

        Raises:
            EngineError: the trial is not in the pack.
        """
        slot, best = self._slot(number), self._best.get(number)
        is_best = best is not None and best.epoch == self.epoch  # then nothing is written twice
        stacked = {n: t for n, t in self._state.everything().items() if not (is_best and n.startswith(BEST))}
        return Snapshot(self.epoch, {name: tensor[slot].cpu().clone() for name, tensor in stacked.items()}, best)

    def _slot(self, number: int) -> int:
        if number not in self._numbers:
            raise EngineError(f"trial {number} is not in the pack.\nIn it: {list(self._numbers)}.")
        return self._numbers.index(number)

    def _go_on(self, snapshots: Mapping[int, Snapshot]) -> None:
        epochs = {snapshot.epoch for snapshot in snapshots.values()}
        if set(snapshots) != set(self._numbers) or len(epochs) != 1:
            raise EngineError(f"snapshots of trials {sorted(snapshots)} at epochs {sorted(epochs)} are not one pack's.")
        stacked = self._state.everything()
        for slot, number in enumerate(self._numbers):
            tensors = snapshots[number].present
            if {name: t.shape for name, t in tensors.items()} != {name: t.shape[1:] for name, t in stacked.items()}:
                raise EngineError(f"the snapshot of trial {number} is of another net or optimizer.")
            for name, tensor in stacked.items():
                tensor[slot].copy_(tensors[name])
        self._state.watch.go_on()
        self._engine.weights_changed()
        self.epoch = epochs.pop()
        self._best = {number: snapshot.best for number, snapshot in snapshots.items() if snapshot.best is not None}
        if not self._keeps_best:
            return
        self._state.keep_best(range(len(self._numbers)))
        for slot, number in enumerate(self._numbers):
            if not snapshots[number].has_best:
                raise EngineError(f"the snapshot of trial {number} is without the weights of its best epoch.")
            for name, tensor in snapshots[number].best_weights.items():
                self._state.best[name][slot].copy_(tensor)

    @property
    def _state(self) -> PackState:
        return self._engine.state

    def _check(self, specs: Sequence[TrialSpec]) -> None:
        if not specs:
            raise EngineError("a pack must have at least one trial.")
        if len(set(self._numbers)) < len(specs):
            raise EngineError(f"a trial is in the pack twice: {self._numbers}.")
        structure = structure_key(self.config, {})
        for spec in specs:
            if structure_key(self.config, spec.params) != structure:
                raise EngineError(
                    f"trial {spec.number} has another structure than its pack: {dict(spec.params)}.\n"
                    "Allowed: trials that differ in vector hyperparameters only; see hpsearch.training.group."
                )

    def _train(self, epoch: int) -> list[Explosion]:
        """All steps of an epoch, as long as there are trials; the others are returned as they leave."""
        train, state = self.config.train, self._state
        state.set_learning_rate(self._learning_rates(epoch))
        state.cost_sum_K.zero_()
        explosions: list[Explosion] = []
        images = self._data.epoch(train.seed, epoch, train.batch_size)
        for steps in self._data.stretches(images.num_batches, CHECK_STEPS):
            last = steps.stop == images.num_batches
            if last:
                self._update_ratio.begin(list(state.weights.values()))
            self._engine.run([images] * len(self._numbers), steps)
            if last:
                state.update_ratio_K.copy_(self._update_ratio.end(list(state.weights.values())))
            if last or steps.stop % CHECK_STEPS == 0:
                explosions += self._remove_exploded(epoch)
                if not self._numbers:
                    break
        return explosions

    def _remove_exploded(self, epoch: int) -> list[Explosion]:
        """Look at who has frozen, and let those go."""
        active = self._state.watch.active_K.tolist()
        frozen = {number for number, survives in zip(self._numbers, active, strict=True) if not survives}
        return self._remove(epoch, frozen) if frozen else []

    def _remove(self, epoch: int, exploded: set[int]) -> list[Explosion]:
        watch = self._state.watch
        columns = [
            column.tolist() for column in (watch.num_updates_K, watch.cost_K, watch.first_cost_K, watch.active_K)
        ]
        explosions = [
            # A trial that has not frozen was lost by its last update: the next step would see a cost that is no number.
            Explosion(number, epoch, step, math.nan if active else cost, first_cost)
            for number, step, cost, first_cost, active in zip(self._numbers, *columns, strict=True)
            if number in exploded
        ]
        self._keep([slot for slot, number in enumerate(self._numbers) if number not in exploded])
        return explosions

    def _measure(self, epoch: int) -> list[EpochResult]:
        state, data = self._state, self._data
        cost_K = state.cost_sum_K / self._num_steps
        train_measured = self._engine.evaluate(*self._train_sample)
        val_measured = self._engine.evaluate(data.x_val_NCHW, data.y_val_N)
        on_device = torch.stack([cost_K, *train_measured, *val_measured, state.update_ratio_K], dim=1)
        rows = on_device.tolist()  # waits for the device once
        num_sample, num_val = len(self._train_sample[1]), len(data.y_val_N)
        return [
            EpochResult(
                number=number,
                epoch=epoch,
                cost=cost,
                train_loss=train_loss,
                train_acc=train_correct / num_sample,
                val_loss=val_loss,
                val_acc=val_correct / num_val,
                update_ratio=ratio,
                lr=lr,
            )
            for number, lr, (cost, train_loss, train_correct, val_loss, val_correct, ratio) in zip(
                self._numbers, self._learning_rates(epoch).tolist(), rows, strict=True
            )
        ]

    def _keep_best(self, results: Sequence[EpochResult]) -> None:
        """Of the trials that have just had their best epoch."""
        better = {r.number: r for r in results if best_epoch([self._best.get(r.number, r), r]) is r}
        self._best |= better
        if better and self._keeps_best and self.epoch < self.num_epochs:  # after the last one they are there anyway
            self._state.keep_best([slot for slot, number in enumerate(self._numbers) if number in better])

    def _learning_rates(self, epoch: int) -> Tensor:
        vectors = self._state.vectors
        return learning_rate(self.config.train, vectors.lr, vectors.lr_decay, epoch)

    def _keep(self, slots: list[int]) -> None:
        self._numbers = [self._numbers[slot] for slot in slots]
        self._engine.keep(slots)
