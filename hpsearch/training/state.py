"""What the trials of a pack own on the device, and the part of a step that is the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hpsearch.config import TrainConfig
from hpsearch.config.losses import guessing_loss
from hpsearch.datasets.mixing import Labels
from hpsearch.errors import EngineError
from hpsearch.training.accumulation import Accumulation
from hpsearch.training.clipping import Clipping
from hpsearch.training.coefficients import Coefficients
from hpsearch.training.distillation import Taught
from hpsearch.training.explosion import ExplosionWatch
from hpsearch.training.layout import Kind, Stacked
from hpsearch.training.loss_scaling import LossScaling
from hpsearch.training.one_pass import make_updater
from hpsearch.training.optimizers import IN_ONE_PASS, make_optimizer
from hpsearch.training.rates import Rates, differ
from hpsearch.training.schedules import step_factor
from hpsearch.training.stacked_nets import BEST, StackedNets
from hpsearch.training.updater import Updated, Updater
from hpsearch.training.vectors import Vectors


class PackState:
    """The nets of K trials, their optimizer's state and all that a step goes by; engines change them in place.

    No tensor is replaced by another between two calls of `keep`.

    Args:
        module: the net with initial weights, in float64 on the CPU; its numbers are copied.
        vectors: the vector hyperparameters of the K trials.
        train: the structural ones.
        num_classes: for the least first cost, that of guessing.
        num_steps: of an epoch.
        like: any tensor of the precision and on the device in which to train.
        class_weights: of shape [C], where images do not count alike.
        taught: where there is a teacher; the labels that engines are given are rows of it then.
        has_rates: whether parts of the net have rates of their own, or will have in trials that are still to come.
    """

    def __init__(
        self,
        module: nn.Module,
        vectors: Vectors,
        train: TrainConfig,
        num_classes: int,
        num_steps: int,
        like: Tensor,
        class_weights: Tensor | None = None,
        taught: Taught | None = None,
        *,
        has_rates: bool = False,
    ) -> None:
        self.nets = StackedNets(module, vectors, like, has_rates=has_rates)
        self.vectors = vectors
        self.train = train
        self._num_steps = num_steps
        self.lr_K = vectors.lr.to(like, copy=True)  # of the step
        self._scheduled_lr_K = self.lr_K.clone()  # of the epoch, where the step's is another
        self.watch = ExplosionWatch(len(vectors.lr), train.explosion, guessing_loss(train.loss, num_classes), like)
        self.cost_sum_K = torch.zeros_like(self.lr_K)  # over the epoch's steps
        self.update_ratio_K = torch.zeros_like(self.cost_sum_K)  # |update| / |weights| of the epoch's last step
        self.coefficients = Coefficients(train, vectors, like, class_weights, taught)
        self._made_updater: Updater | None = None
        self._begin()

    @property
    def num_trials(self) -> int:
        """K."""
        return len(self.cost_sum_K)

    def lay_out(self, kind: Kind) -> None:
        """Each tensor by itself, or all in a few blocks; before anything is trained."""
        self.nets.lay_out(kind)
        self._begin()

    def set_learning_rate(self, lr_K: Tensor) -> None:
        """Use these rates of an epoch from the next step on, or what that step makes of them."""
        self.lr_K.copy_(lr_K)
        if self.coefficients.warmup_K is not None:
            self._scheduled_lr_K.copy_(lr_K)

    def advance(self, loss_K: Tensor, gradients: Stacked, buffers: Stacked) -> None:
        """Finish a step: cost, explosions, regularization, update. Uses up the gradients.

        Args:
            loss_K: data loss of each trial.
            gradients: of the data loss, by block.
            buffers: as the forward pass left them, by block; those that it does not change may be missing.
        """
        if self.accumulation is not None:
            loss_K, gradients = self.accumulation.add(loss_K, gradients)
            if not self.accumulation.place.ends:
                self.nets.store(buffers, self._frozen(self.watch.active_K))
                return
        frozen_K = self.admit(loss_K, self.coefficients.penalty.cost(self.nets.weights, self.squares()))
        left_K = frozen_K if self.scaling is None else self._unscale(gradients, self.scaling)
        self.update(gradients, left_K)
        self.nets.store(buffers, frozen_K)
        self.nets.average(self.watch.num_updates_K, left_K)

    def weigh(self, y_B: Labels, slots: slice = slice(None)) -> None:
        """Say what the images of a minibatch count in these slots, before `advance`; of use to accumulation alone."""
        if self.accumulation is not None:
            self.accumulation.weight_K[slots] = self.coefficients.loss.weight(y_B)

    def admit(self, loss_K: Tensor, penalty_K: Tensor | float) -> Tensor | None:
        """Take in the costs before the update; returns who must not make it, a mask, or None: nobody, for certain."""
        cost_K = loss_K + penalty_K
        active_K = self.watch.observe(cost_K)
        self.cost_sum_K += cost_K
        if (warmup_K := self.coefficients.warmup_K) is not None:
            factor_K = step_factor(self.train, self.watch.num_updates_K, self._num_steps, warmup_K)
            torch.mul(self._scheduled_lr_K, factor_K, out=self.lr_K)
        return self._frozen(active_K)

    def squares(self) -> Stacked:
        """Sums of the squares of those blocks of weights where the last update left them behind, of shape [K]."""
        return self._updater.squares()

    def update(self, gradients: Stacked, frozen_K: Tensor | None, rounded: Mapping[str, Tensor] | None = None) -> None:
        """Regularize and update those parameters that have a gradient of the data loss here; see `Updater.update`."""
        self._updater.update(gradients, frozen_K, rounded)

    @property
    def updates_apart(self) -> bool:
        """Whether kernels that know the rule may update weight by weight; clipping needs the whole gradient first."""
        return self.coefficients.clip_norm_K is None and self.train.optimizer in IN_ONE_PASS

    @property
    def takes_bfloat16(self) -> bool:
        """See `Updater`."""
        return self._updater.takes_bfloat16

    def weights_changed(self) -> None:
        """Something else has written to the weights; what was derived from them is no longer true."""
        self._updater.weights_changed()

    def everything(self) -> Stacked:
        """All that a trial is made of, stacked, by a name of its own: what has to be kept to go on with it later."""
        state = {key: self.nets.parameters_in(blocks) for key, blocks in self.optimizer.state.items()}
        return {
            **self.nets.everything(),
            **{f"optimizer/{key}/{name}": t for key, stacked in state.items() for name, t in stacked.items()},
            **{f"optimizer/{key}": vector_K for key, vector_K in self.optimizer.products.items()},
            **{f"watch/{name}": tensor for name, tensor in self.watch.everything().items()},
            **{f"scaling/{n}": tensor for n, tensor in (self.scaling.everything() if self.scaling else {}).items()},
        }

    def vacate(self, slots: Sequence[int]) -> None:
        """Leave these trials as they are from now on, until others take their places."""
        self.watch.vacate(slots)

    def admit_trials(self, slots: Sequence[int], other: PackState) -> bool:
        """Copy the trials of another state into these slots; whether other operations follow from it than before.

        No tensor is replaced, unless so.

        Raises:
            EngineError: parts of their nets have rates of their own, and none here has.
        """
        if differ(other.vectors) and not self.nets.depths:
            raise EngineError("trials with train.body_lr or train.layer_decay do not fit into a pack without.")
        begins = self.nets.averages is None and other.nets.averages is not None
        if begins:
            self.nets.begin_averages(self.vectors)
        elif self.nets.averages is not None and other.nets.averages is None:
            other.nets.begin_averages(other.vectors)
        given = other.everything()
        for name, own in self.everything().items():
            if not name.startswith(BEST):
                own[list(slots)] = given[name]
        self.watch.admit(slots, other.watch)
        self.vectors = self.vectors.replaced(slots, other.vectors)
        self.optimizer.set_coefficients(self.vectors)
        if self.nets.averages is not None:
            self.nets.averages.set_coefficients(self.vectors)
        if self.coefficients.replace(self.vectors):
            self._made_updater = None
            return True
        self._updater.set_coefficients(self.vectors)
        return begins

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials; the kept ones move together in this order."""
        self._made_updater = None
        self.nets.keep(slots)
        self.vectors = self.vectors.keep(slots)
        for name in ("lr_K", "_scheduled_lr_K", "cost_sum_K", "update_ratio_K"):
            setattr(self, name, getattr(self, name)[list(slots)])
        self.optimizer.keep(slots)
        self.watch.keep(slots)
        for each in (self.accumulation, self.scaling):
            if each is not None:
                each.keep(slots)
        self.coefficients.make(self.vectors)

    @property
    def _updater(self) -> Updater:
        """For the blocks that there are now; made when it is needed, since its kernels are compiled for them."""
        if self._made_updater is None:
            updated = Updated(
                blocks=self.nets.parameter_blocks,
                weights=self.nets.weight_blocks,
                optimizer=self.optimizer,
                rule=self.train.optimizer,
                penalty=self.coefficients.penalty,
                vectors=self.vectors,
                lr=self.lr_K,
                num_updates=self.watch.num_updates_K,
            )
            clip_norm_K = self.coefficients.clip_norm_K
            made = make_updater(updated) if clip_norm_K is None else Clipping(updated, clip_norm_K, make_updater)
            self._made_updater = made
        return self._made_updater

    def _begin(self) -> None:
        """All that goes by how the nets lie."""
        nets, rule = self.nets, self.train.optimizer
        rates = Rates(nets.block_depths, self.vectors, self.lr_K)
        self.optimizer = make_optimizer(rule, nets.parameter_blocks, nets.weight_blocks, self.vectors, rates)
        self._made_updater = None
        if bool(self.vectors.ema.any()):
            nets.begin_averages(self.vectors)
        num, like = self.train.accumulate, self.lr_K
        self.accumulation = Accumulation(num, nets.parameter_blocks, like) if num > 1 else None
        """Of the minibatches of an update; None where that is one."""
        self.scaling = LossScaling(like) if self.train.precision == "float16" else None
        """Of the losses whose gradients an engine gives; None where nothing is scaled."""

    def _unscale(self, gradients: Stacked, scaling: LossScaling) -> Tensor | None:
        """Who must not make the update, as `admit` says it: also those whose gradients are not finite."""
        updating_K = scaling.unscale(gradients, self.watch.active_K)
        self.watch.skip(self.watch.active_K & ~updating_K)
        return self._frozen(updating_K)

    def _frozen(self, active_K: Tensor) -> Tensor | None:
        # Reading a flag is free on a CPU and saves the masks; elsewhere it would wait for the whole queue.
        return None if active_K.device.type == "cpu" and bool(active_K.all()) else ~active_K
