"""A live trial between two epochs, taken out of its pack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hpsearch.results import EpochResult
from hpsearch.training.state import BEST


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Enough of a trial to go on with it in another pack, on another device."""

    epoch: int  # epochs done
    tensors: dict[str, Tensor]  # on the CPU
    best: EpochResult | None  # its best epoch so far

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
