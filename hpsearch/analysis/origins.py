"""Where a trial began: as all do, or with the state of a trial of an earlier stage. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpsearch.analysis import attributes


@dataclass(frozen=True)
class Origin:
    """The trial whose training goes on in another one, and how far it was."""

    study: str
    trial: int
    """Its number there."""
    epoch: int
    """Epochs that it had done."""
    states: str = ""
    """The folder, among those of kept states, in which that stage keeps them."""

    def __str__(self) -> str:
        return f"continued from {self.study} trial {self.trial} at epoch {self.epoch}"

    def as_dict(self) -> dict[str, Any]:
        """As kept with the trial."""
        return asdict(self)


def origin_of(attrs: Mapping[str, Any]) -> Origin | None:
    """Of a trial with these attributes; None where it began by itself."""
    return as_origin(attrs.get(attributes.CONTINUED))


def as_origin(stored: Any) -> Origin | None:
    """From what was kept; None where that is none of ours."""
    match stored:
        case {"study": str(study), "trial": int(trial), "epoch": int(epoch), "states": str(states)}:
            return Origin(study, trial, epoch, states)
    return None
