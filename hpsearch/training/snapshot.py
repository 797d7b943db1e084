"""A live trial between two epochs, taken out of its pack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hpsearch.errors import EngineError
from hpsearch.results import EpochResult
from hpsearch.training.averages import AVERAGES
from hpsearch.training.stacked_nets import BEST
from hpsearch.training.state import PackState


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Enough of a trial to go on with it in another pack, on another device."""

    epoch: int  # epochs done
    tensors: dict[str, Tensor]  # on the CPU
    best: EpochResult | None  # its best epoch so far

    @classmethod
    def of(cls, state: PackState, slot: int, epoch: int, best: EpochResult | None) -> Snapshot:
        """A copy of the trial in a slot, after so many epochs."""
        is_best = best is not None and best.epoch == epoch  # then nothing is written twice
        stacked = {n: t for n, t in stacked_of(state, slot).items() if not (is_best and n.startswith(BEST))}
        return cls(epoch, {name: tensor[slot].cpu().clone() for name, tensor in stacked.items()}, best)

    @property
    def present(self) -> dict[str, Tensor]:
        """What it goes on with, by the names of `PackState.everything`."""
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith(BEST)}

    @property
    def best_weights(self) -> dict[str, Tensor]:
        """Parameters and buffers of its best epoch by their names in the net; empty where that is the last one."""
        return {name.removeprefix(BEST): t for name, t in self.tensors.items() if name.startswith(BEST)}

    @property
    def has_best(self) -> bool:
        """Whether the weights of its best epoch are in it, apart or because that is the last one."""
        is_last = self.best.epoch == self.epoch if self.best is not None else self.epoch == 0
        return is_last or bool(self.best_weights)


def stacked_of(state: PackState, slot: int) -> dict[str, Tensor]:
    """What makes up the trial in a slot, by name: averages only where it has any, whatever its neighbours have."""
    averaged = bool(state.vectors.ema[slot])
    return {name: t for name, t in state.everything().items() if averaged or not name.startswith(AVERAGES)}


def restore(state: PackState, slot: int, number: int, snapshot: Snapshot) -> None:
    """Put a trial into a slot, without the best that it had.

    Raises:
        EngineError: it is of another net or optimizer.
    """
    stacked = {name: tensor for name, tensor in stacked_of(state, slot).items() if not name.startswith(BEST)}
    if {n: t.shape for n, t in snapshot.present.items()} != {n: t.shape[1:] for n, t in stacked.items()}:
        raise EngineError(f"the snapshot of trial {number} is of another net or optimizer.")
    for name, tensor in stacked.items():
        tensor[slot].copy_(snapshot.present[name])
    if state.nets.averages is not None and not state.vectors.ema[slot]:
        state.nets.averages.begin_again([slot], state.nets.parameter_blocks, state.nets.buffer_blocks)
    state.watch.go_on([slot])
