"""What the trials of a pack own on the device, and the part of a step that is the same for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hpsearch.config import TrainConfig
from hpsearch.config.losses import guessing_loss
from hpsearch.datasets.mixing import Labels
from hpsearch.errors import EngineError
from hpsearch.models import NOISY, drawn_weight_names, weight_names
from hpsearch.models.stages import parts_of
from hpsearch.training.accumulation import Accumulation
from hpsearch.training.averages import AVERAGES, Averages
from hpsearch.training.clipping import Clipping
from hpsearch.training.cost import Penalty
from hpsearch.training.data_loss import DataLoss
from hpsearch.training.distillation import DistilledLoss, Taught
from hpsearch.training.explosion import ExplosionWatch
from hpsearch.training.layout import Kind, Stacked, layout_of
from hpsearch.training.loss_scaling import LossScaling
from hpsearch.training.one_pass import make_updater
from hpsearch.training.optimizers import IN_ONE_PASS, make_optimizer
from hpsearch.training.own_step import OwnStep
from hpsearch.training.rates import Rates, differ
from hpsearch.training.schedules import has_step_factors, step_factor
from hpsearch.training.unchanging import unchanging_names
from hpsearch.training.updater import Updated, Updater
from hpsearch.training.vectors import Vectors, columns, unless_zero

BEST = "best/"  # before the names of the best weights, in `everything`


class PackState:
    """Parameters, buffers and optimizer state of K trials, stacked along dimension 0; engines change them in place.

    No tensor is replaced by another between two calls of `keep`. Names are those of the net, whatever blocks the
    tensors lie in; an engine gives gradients and buffers by block (see `layout`).

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
        num_trials = len(vectors.lr)
        weights = frozenset(weight_names(module))
        drawn = frozenset(drawn_weight_names(module))
        parameters: Stacked = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            scales = vectors.init_scale.tolist() if name in drawn else [1.0] * num_trials
            scaled = [(parameter.detach() * scale).to(like.dtype) for scale in scales]
            parameters[name] = torch.stack(scaled).to(like.device)
        buffers: Stacked = {}
        unchanging = unchanging_names(module)  # the module's own serve all trials
        for name, buffer in module.named_buffers():
            if name in unchanging:
                continue
            stacked = buffer.expand(num_trials, *buffer.shape)
            buffers[name] = stacked.to(like.device, like.dtype if buffer.is_floating_point() else None, copy=True)
        for name, layer in module.named_modules():
            if isinstance(layer, NOISY):
                rate_K = getattr(vectors, layer.key) * layer.share
                buffers[f"{name}.rate" if name else "rate"] = rate_K.to(like, copy=True)
        self.vectors = vectors
        self.train = train
        self._class_weights = class_weights
        self._taught = taught
        self._weight_names = weights
        self._depths = parts_of(module).depths if has_rates or differ(vectors) else {}
        self._num_steps = num_steps
        self.lr_K = vectors.lr.to(like, copy=True)  # of the step
        self._scheduled_lr_K = self.lr_K.clone()  # of the epoch, where the step's is another
        self.parameter_blocks: Stacked
        self.buffer_blocks: Stacked
        self._best_blocks: tuple[Stacked, Stacked]
        self._made_updater: Updater | None = None
        self._lay_out(parameters, buffers, "single")
        self.watch = ExplosionWatch(num_trials, train.explosion, guessing_loss(train.loss, num_classes), like)
        self.cost_sum_K = torch.zeros(num_trials, dtype=like.dtype, device=like.device)  # over the epoch's steps
        self.own_step: OwnStep | None = None
        """What gives the losses in place of `loss`; None where there is none."""
        self.penalty: Penalty
        self.loss: DataLoss | DistilledLoss
        self._warmup_K: Tensor | None  # epochs; None where all steps of an epoch have the same rate
        self._clip_norm_K: Tensor | None
        self.update_ratio_K = torch.zeros_like(self.cost_sum_K)  # |update| / |weights| of the epoch's last step
        self._set_coefficients()

    @property
    def num_trials(self) -> int:
        """K."""
        return len(self.cost_sum_K)

    @property
    def weights(self) -> Stacked:
        """The blocks of parameters that are weights."""
        return {name: tensor for name, tensor in self.parameter_blocks.items() if name in self._weight_blocks}

    def lay_out(self, kind: Kind) -> None:
        """Each tensor by itself, or all in a few blocks; before anything is trained."""
        self._lay_out(self.parameters, self.buffers, kind)

    def parameters_in(self, blocks: Stacked) -> Stacked:
        """What lies in blocks like those of the parameters, by name: views."""
        return self._layouts[0].parted(blocks)

    def buffers_in(self, blocks: Stacked) -> Stacked:
        """What lies in blocks like those of the buffers, by name: views."""
        return self._layouts[1].parted(blocks)

    def set_learning_rate(self, lr_K: Tensor) -> None:
        """Use these rates of an epoch from the next step on, or what that step makes of them."""
        self.lr_K.copy_(lr_K)
        if self._warmup_K is not None:
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
                self.store(buffers, self._frozen(self.watch.active_K))
                return
        frozen_K = self.admit(loss_K, self.penalty.cost(self.weights, self.squares()))
        left_K = frozen_K if self.scaling is None else self._unscale(gradients, self.scaling)
        self.update(gradients, left_K)
        self.store(buffers, frozen_K)
        self.average(left_K)

    def weigh(self, y_B: Labels, slots: slice = slice(None)) -> None:
        """Say what the images of a minibatch count in these slots, before `advance`; of use to accumulation alone."""
        if self.accumulation is not None:
            self.accumulation.weight_K[slots] = self.loss.weight(y_B)

    def admit(self, loss_K: Tensor, penalty_K: Tensor | float) -> Tensor | None:
        """Take in the costs before the update; returns who must not make it, a mask, or None: nobody, for certain."""
        cost_K = loss_K + penalty_K
        active_K = self.watch.observe(cost_K)
        self.cost_sum_K += cost_K
        if self._warmup_K is not None:
            factor_K = step_factor(self.train, self.watch.num_updates_K, self._num_steps, self._warmup_K)
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
        return self._clip_norm_K is None and self.train.optimizer in IN_ONE_PASS

    @property
    def takes_bfloat16(self) -> bool:
        """See `Updater`."""
        return self._updater.takes_bfloat16

    def weights_changed(self) -> None:
        """Something else has written to the weights; what was derived from them is no longer true."""
        self._updater.weights_changed()

    def store(self, buffers: Stacked, frozen_K: Tensor | None) -> None:
        """Take over the buffers of all trials but the frozen."""
        for name, buffer in buffers.items():
            own = self.buffer_blocks[name]
            own.copy_(buffer if frozen_K is None else torch.where(columns(frozen_K, own), own, buffer))

    def average(self, frozen_K: Tensor | None) -> None:
        """Let the averages, if there are any, follow an update; its buffers are stored already."""
        if self.averages is not None:
            self.averages.follow(self.parameter_blocks, self.buffer_blocks, self.watch.num_updates_K, frozen_K)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, parameters and buffers are what is measured and kept: the averages, where there are any."""
        if self.averages is None:
            yield
            return
        own = self.parameter_blocks, self.buffer_blocks
        self.parameter_blocks, self.buffer_blocks = self._shown
        self.shows_averages = True
        self._part()
        try:
            yield
        finally:
            self.parameter_blocks, self.buffer_blocks = own
            self.shows_averages = False
            self._part()

    def slot(self, index: int) -> dict[str, Tensor]:
        """One trial's parameters and buffers by their names in the net, as views."""
        return {name: tensor[index] for name, tensor in {**self.parameters, **self.buffers}.items()}

    def keep_best(self, slots: Sequence[int]) -> None:
        """Take these trials' parameters and buffers, as `averaged` has them now, for the best; at first, of all."""
        current = self._shown
        if not self.best:
            parameters, buffers = ({name: t.clone() for name, t in blocks.items()} for blocks in current)
            self._best_blocks = parameters, buffers
            self._part()
            return
        for blocks, best_blocks in zip(current, self._best_blocks, strict=True):
            for name, block in blocks.items():
                own, best = block.unbind(), best_blocks[name].unbind()
                # One kernel for all slots on a GPU; on a CPU, a fifth of the time of index_copy and index_select.
                torch._foreach_copy_([best[slot] for slot in slots], [own[slot] for slot in slots])

    def best_slot(self, index: int) -> dict[str, Tensor]:
        """As `slot`, of the trial's best epoch."""
        return {name: tensor[index] for name, tensor in self.best.items()}

    def everything(self) -> Stacked:
        """All that a trial is made of, stacked, by a name of its own: what has to be kept to go on with it later."""
        state = {key: self._layouts[0].parted(blocks) for key, blocks in self.optimizer.state.items()}
        averages = {f"optimizer/{key}/{name}": t for key, s in state.items() for name, t in s.items()}
        return {
            **{f"parameters/{name}": tensor for name, tensor in self.parameters.items()},
            **{f"buffers/{name}": tensor for name, tensor in self.buffers.items()},
            **averages,
            **{f"{AVERAGES}{name}": tensor for name, tensor in self._parted_averages().items()},
            **{f"optimizer/{key}": vector_K for key, vector_K in self.optimizer.products.items()},
            **{f"watch/{name}": tensor for name, tensor in self.watch.everything().items()},
            **{f"scaling/{n}": tensor for n, tensor in (self.scaling.everything() if self.scaling else {}).items()},
            **{f"{BEST}{name}": tensor for name, tensor in self.best.items()},
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
        if differ(other.vectors) and not self._depths:
            raise EngineError("trials with train.body_lr or train.layer_decay do not fit into a pack without.")
        begins = self.averages is None and other.averages is not None
        if begins:
            self._begin_averages()
        elif self.averages is not None and other.averages is None:
            other._begin_averages()
        given = other.everything()
        for name, own in self.everything().items():
            if not name.startswith(BEST):
                own[list(slots)] = given[name]
        self.watch.admit(slots, other.watch)
        self.vectors = self.vectors.replaced(slots, other.vectors)
        self.optimizer.set_coefficients(self.vectors)
        if self.averages is not None:
            self.averages.set_coefficients(self.vectors)
        before = self._coefficients
        self._set_coefficients()
        old, new = (
            (penalty.reg, penalty.l1, *loss.by_trial, *others)
            for penalty, loss, *others in (before, self._coefficients)
        )
        if [each is None for each in old] != [each is None for each in new]:
            self._made_updater = None
            return True
        for own_K, new_K in zip(old, new, strict=True):
            if own_K is not None and new_K is not None:
                own_K.copy_(new_K)
        self.penalty, self.loss, self._warmup_K, self._clip_norm_K = before
        self._updater.set_coefficients(self.vectors)
        return begins

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials; the kept ones move together in this order."""
        self._made_updater = None
        for blocks in (self.parameter_blocks, self.buffer_blocks, *self._best_blocks):
            for name, block in blocks.items():
                blocks[name] = block[list(slots)]
        self._part()
        self.vectors = self.vectors.keep(slots)
        for name in ("lr_K", "_scheduled_lr_K", "cost_sum_K", "update_ratio_K"):
            setattr(self, name, getattr(self, name)[list(slots)])
        self.optimizer.keep(slots)
        self.watch.keep(slots)
        for each in (self.averages, self.accumulation, self.scaling):
            if each is not None:
                each.keep(slots)
        self._set_coefficients()

    @property
    def _updater(self) -> Updater:
        """For the blocks that there are now; made when it is needed, since its kernels are compiled for them."""
        if self._made_updater is None:
            updated = Updated(
                blocks=self.parameter_blocks,
                weights=frozenset(self._weight_blocks),
                optimizer=self.optimizer,
                rule=self.train.optimizer,
                penalty=self.penalty,
                vectors=self.vectors,
                lr=self.lr_K,
                num_updates=self.watch.num_updates_K,
            )
            clip_norm_K = self._clip_norm_K
            made = make_updater(updated) if clip_norm_K is None else Clipping(updated, clip_norm_K, make_updater)
            self._made_updater = made
        return self._made_updater

    def _lay_out(self, parameters: Stacked, buffers: Stacked, kind: Kind) -> None:
        self._layouts = layout_of(parameters, self._weight_names, kind, self._depths), layout_of(buffers, (), kind)
        self.parameter_blocks, self.buffer_blocks = (
            own.joined(stacked) for own, stacked in zip(self._layouts, (parameters, buffers), strict=True)
        )
        self._best_blocks = {}, {}
        self._weight_blocks = {self._layouts[0].block(name) for name in self._weight_names}
        self._part()
        depths = {self._layouts[0].block(name): depth for name, depth in self._depths.items() if name in parameters}
        self.optimizer = make_optimizer(
            self.train.optimizer,
            self.parameter_blocks,
            self._weight_blocks,
            self.vectors,
            Rates(depths, self.vectors, self.lr_K),
        )
        self._made_updater = None
        self.averages: Averages | None = None
        """Of the weights; None where no trial has any."""
        self.shows_averages = False
        """Whether parameters and buffers are the averages now."""
        if bool(self.vectors.ema.any()):
            self._begin_averages()
        num, like = self.train.accumulate, self.lr_K
        self.accumulation = Accumulation(num, self.parameter_blocks, like) if num > 1 else None
        """Of the minibatches of an update; None where that is one."""
        self.scaling = LossScaling(like) if self.train.precision == "float16" else None
        """Of the losses whose gradients an engine gives; None where nothing is scaled."""

    def _begin_averages(self) -> None:
        self.averages = Averages(self.parameter_blocks, self.buffer_blocks, self.vectors, self.lr_K)

    @property
    def _shown(self) -> tuple[Stacked, Stacked]:
        """Blocks of parameters and buffers that are measured and kept."""
        if self.averages is None:
            return self.parameter_blocks, self.buffer_blocks
        return self.averages.parameter_blocks, {**self.buffer_blocks, **self.averages.buffer_blocks}

    def _parted_averages(self) -> Stacked:
        if self.averages is None:
            return {}
        of_parameters, of_buffers = self._layouts
        return {
            **of_parameters.parted(self.averages.parameter_blocks),
            **of_buffers.parted(self.averages.buffer_blocks),
        }

    def _part(self) -> None:
        """Find the tensors in their blocks."""
        of_parameters, of_buffers = self._layouts
        self.parameters: Stacked = of_parameters.parted(self.parameter_blocks)
        self.buffers: Stacked = of_buffers.parted(self.buffer_blocks)
        self.best: Stacked = {
            **of_parameters.parted(self._best_blocks[0]),
            **of_buffers.parted(self._best_blocks[1]),
        }
        """Parameters and buffers of each trial's best epoch; empty until `keep_best` is called."""

    def _unscale(self, gradients: Stacked, scaling: LossScaling) -> Tensor | None:
        """Who must not make the update, as `admit` says it: also those whose gradients are not finite."""
        updating_K = scaling.unscale(gradients, self.watch.active_K)
        self.watch.skip(self.watch.active_K & ~updating_K)
        return self._frozen(updating_K)

    def _frozen(self, active_K: Tensor) -> Tensor | None:
        # Reading a flag is free on a CPU and saves the masks; elsewhere it would wait for the whole queue.
        return None if active_K.device.type == "cpu" and bool(active_K.all()) else ~active_K

    def _set_coefficients(self) -> None:
        self.penalty = Penalty.of(self.vectors, self.cost_sum_K)
        self.loss = DataLoss.of(self.vectors, self._class_weights, self.cost_sum_K, self.train.loss)
        if self._taught is not None:
            self.loss = DistilledLoss.of(self.loss, self._taught, self.vectors, self.cost_sum_K)
        numbers_KM = self.vectors.step_options
        if self.own_step is not None and len(self.own_step.numbers_KM) == len(numbers_KM):
            self.own_step.numbers_KM.copy_(numbers_KM)  # in place, as recorded steps read it
        elif self.train.step is not None:
            self.own_step = OwnStep(self.train, self.vectors, self._class_weights, self.cost_sum_K)
        warmup_K = self.vectors.warmup
        self._warmup_K = warmup_K.to(self.cost_sum_K, copy=True) if has_step_factors(self.train, warmup_K) else None
        self._clip_norm_K = unless_zero(self.vectors.clip_norm, self.cost_sum_K)

    @property
    def _coefficients(self) -> tuple[Penalty, DataLoss | DistilledLoss, Tensor | None, Tensor | None]:
        return self.penalty, self.loss, self._warmup_K, self._clip_norm_K
