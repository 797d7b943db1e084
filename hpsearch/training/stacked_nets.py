"""The nets of K trials, stacked along dimension 0: as they train, their averages, and as they were in best epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hpsearch.models import NOISY, drawn_weight_names, weight_names
from hpsearch.models.stages import parts_of
from hpsearch.training.averages import AVERAGES, Averages
from hpsearch.training.layout import Kind, Stacked, layout_of
from hpsearch.training.rates import differ
from hpsearch.training.unchanging import unchanging_names
from hpsearch.training.vectors import Vectors, columns

BEST = "best/"  # before the names of the best weights, in `PackState.everything`


class StackedNets:
    """Parameters and buffers of K trials, which are changed in place.

    No tensor is replaced by another between two calls of `keep`. Names are those of the net, whatever blocks the
    tensors lie in; an engine gives gradients and buffers by block (see `layout`).

    Args:
        module: the net with initial weights, in float64 on the CPU; its numbers are copied.
        vectors: the vector hyperparameters of the K trials.
        like: any tensor of the precision and on the device in which to train.
        has_rates: whether parts of the net have rates of their own, or will have in trials that are still to come.
    """

    def __init__(self, module: nn.Module, vectors: Vectors, like: Tensor, *, has_rates: bool) -> None:
        self._like = like
        self._weight_names = frozenset(weight_names(module))
        self.depths = parts_of(module).depths if has_rates or differ(vectors) else {}
        """Of parameters, where parts of the net have rates of their own (see `rates`)."""
        self.weight_blocks: frozenset[str]
        """Names of the blocks of parameters that are weights."""
        self.parameter_blocks: Stacked
        self.buffer_blocks: Stacked
        self.averages: Averages | None
        """Of the weights; None where no trial has any."""
        self.shows_averages = False
        """Whether parameters and buffers are the averages now."""
        self._best_blocks: tuple[Stacked, Stacked]
        self._lay_out(_parameters(module, vectors, like), _buffers(module, vectors, like), "single")

    @property
    def weights(self) -> Stacked:
        """The blocks of parameters that are weights."""
        return {name: tensor for name, tensor in self.parameter_blocks.items() if name in self.weight_blocks}

    @property
    def block_depths(self) -> dict[str, int]:
        """As `depths`, by block."""
        return {self._layouts[0].block(name): depth for name, depth in self.depths.items() if name in self.parameters}

    def lay_out(self, kind: Kind) -> None:
        """Each tensor by itself, or all in a few blocks; before anything is trained, and averages begin."""
        self._lay_out(self.parameters, self.buffers, kind)

    def parameters_in(self, blocks: Stacked) -> Stacked:
        """What lies in blocks like those of the parameters, by name: views."""
        return self._layouts[0].parted(blocks)

    def buffers_in(self, blocks: Stacked) -> Stacked:
        """What lies in blocks like those of the buffers, by name: views."""
        return self._layouts[1].parted(blocks)

    def store(self, buffers: Stacked, frozen_K: Tensor | None) -> None:
        """Take over the buffers of all trials but the frozen."""
        for name, buffer in buffers.items():
            own = self.buffer_blocks[name]
            own.copy_(buffer if frozen_K is None else torch.where(columns(frozen_K, own), own, buffer))

    def begin_averages(self, vectors: Vectors) -> None:
        """From the weights and buffers as they are, with the decays of these trials."""
        self.averages = Averages(self.parameter_blocks, self.buffer_blocks, vectors, self._like)

    def average(self, num_updates_K: Tensor, frozen_K: Tensor | None) -> None:
        """Let the averages, if there are any, follow an update; its buffers are stored already."""
        if self.averages is not None:
            self.averages.follow(self.parameter_blocks, self.buffer_blocks, num_updates_K, frozen_K)

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
        """All of it, by a name of its own (see `PackState.everything`)."""
        return {
            **{f"parameters/{name}": tensor for name, tensor in self.parameters.items()},
            **{f"buffers/{name}": tensor for name, tensor in self.buffers.items()},
            **{f"{AVERAGES}{name}": tensor for name, tensor in self._parted_averages().items()},
            **{f"{BEST}{name}": tensor for name, tensor in self.best.items()},
        }

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials; the kept ones move together in this order."""
        for blocks in (self.parameter_blocks, self.buffer_blocks, *self._best_blocks):
            for name, block in blocks.items():
                blocks[name] = block[list(slots)]
        self._part()
        if self.averages is not None:
            self.averages.keep(slots)

    def _lay_out(self, parameters: Stacked, buffers: Stacked, kind: Kind) -> None:
        self._layouts = layout_of(parameters, self._weight_names, kind, self.depths), layout_of(buffers, (), kind)
        self.parameter_blocks, self.buffer_blocks = (
            own.joined(stacked) for own, stacked in zip(self._layouts, (parameters, buffers), strict=True)
        )
        self._best_blocks = {}, {}
        self.averages = None
        self.weight_blocks = frozenset(self._layouts[0].block(name) for name in self._weight_names)
        self._part()

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


def _parameters(module: nn.Module, vectors: Vectors, like: Tensor) -> Stacked:
    """Those that train, times each trial's init_scale where they are drawn."""
    drawn, num_trials = frozenset(drawn_weight_names(module)), len(vectors.init_scale)
    stacked: Stacked = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        scales = vectors.init_scale.tolist() if name in drawn else [1.0] * num_trials
        scaled = [(parameter.detach() * scale).to(like.dtype) for scale in scales]
        stacked[name] = torch.stack(scaled).to(like.device)
    return stacked


def _buffers(module: nn.Module, vectors: Vectors, like: Tensor) -> Stacked:
    """Those that training changes, and each trial's rates of noise."""
    stacked: Stacked = {}
    unchanging = unchanging_names(module)  # the module's own serve all trials
    for name, buffer in module.named_buffers():
        if name in unchanging:
            continue
        expanded = buffer.expand(len(vectors.lr), *buffer.shape)
        stacked[name] = expanded.to(like.device, like.dtype if buffer.is_floating_point() else None, copy=True)
    for name, layer in module.named_modules():
        if isinstance(layer, NOISY):
            rate_K = getattr(vectors, layer.key) * layer.share
            stacked[f"{name}.rate" if name else "rate"] = rate_K.to(like, copy=True)
    return stacked
