"""What is in a trial's slot as the state dict of its net."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from hpsearch.config import StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.training.features import whole_state


class StateDicts:
    """Of the trials of a pack.

    Args:
        config: of all of them.
        data: behind a frozen body, which stands in front of each trial's head.
        module: the net that is trained; has what no trial changes.
    """

    def __init__(self, config: StudyConfig, data: TrainingData, module: nn.Module) -> None:
        self._config, self._data, self._module = config, data, module
        # A tensor may have several names, as tied weights have; slots hold it under the first of them.
        first_names = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
        everything = module.state_dict(keep_vars=True).items()
        self._first_names = {name: first_names[id(t)] for name, t in everything if id(t) in first_names}

    def of(self, slot: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy, ready for `build(...).load_state_dict`.

        Args:
            slot: the trial's parameters and buffers by their first names.
        """
        shared = self._module.state_dict()
        own = {n: (slot[first] if first in slot else shared[first]).clone() for n, first in self._first_names.items()}
        return own if self._data.body is None else whole_state(self._config, self._data, own)
