"""Lightning: a callback that reports each validation, and the checkpoint from which a killed trial goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpsearch.adapters.reported import monitored
from hpsearch.errors import MissingExtraError

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint
except ModuleNotFoundError as error:
    if error.name != "lightning":
        raise
    raise MissingExtraError("hpsearch.adapters.lightning", "lightning", "lightning") from None

NAME = "last"


class ReportCallback(Callback):
    """Reports a value at the end of each validation, but for the sanity check.

    Where the trial is to end, `report` raises TrialEnded: it goes through `Trainer.fit`, which finishes its loggers and
    tears down on the way, and out of the objective.

    Args:
        report: as the objective is given it.
        monitor: what is reported, as validation logs it: `self.log("val_acc", ...)`.
    """

    def __init__(self, report: Callable[..., None], monitor: str = "val_acc") -> None:
        self.monitor = monitor
        self.reported: dict[int, float] = {}
        """By epoch, from 1; after several validations within one, the last. Comes back with a checkpoint."""
        self._report = report

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report.

        Raises:
            ConfigError: nothing of that name is logged.
            TrialEnded: the trial is to end.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        value = monitored(self.monitor, trainer.callback_metrics, "it is what validation_step gives self.log")
        epoch = trainer.current_epoch + 1
        self.reported[epoch] = value
        self._report(value, epoch)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"reported": dict(self.reported)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.reported = dict(state_dict["reported"])


def keep_last(checkpoint: Path) -> ModelCheckpoint:
    """A callback that keeps the trial's last epoch in its folder, and nothing else there.

    Args:
        checkpoint: as the objective is given it.
    """
    return ModelCheckpoint(checkpoint, filename=NAME, save_top_k=1, enable_version_counter=False)


def last_kept(checkpoint: Path) -> str | None:
    """What `keep_last` of an earlier attempt kept, for `Trainer.fit(ckpt_path=...)`; None at the first attempt."""
    path = Path(checkpoint) / f"{NAME}.ckpt"
    return str(path) if path.exists() else None
