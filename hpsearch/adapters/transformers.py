"""Hugging Face's Trainer: a callback that reports each evaluation, and from where a killed trial goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpsearch.adapters.reported import monitored
from hpsearch.errors import MissingExtraError
from hpsearch.programs.calling import TrialEnded

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise MissingExtraError("hpsearch.adapters.transformers", "transformers", "transformers") from None

PREFIX = "eval_"  # before each name that an evaluation gives
STATE = "trainer_state.json"  # what the Trainer writes last


class ReportCallback(TrainerCallback):
    """Reports a value after each evaluation within training.

    Where the trial is to end, the Trainer is told to stop; it ends its step as it always does, with the checkpoint that
    is due, and TrialEnded is raised when training is over.

    Args:
        report: as the objective is given it.
        monitor: what is reported, as `compute_metrics` calls it, with or without "eval_" in front.
    """

    def __init__(self, report: Callable[..., None], monitor: str = "eval_accuracy") -> None:
        self.monitor = monitor if monitor.startswith(PREFIX) else PREFIX + monitor
        self.reported: dict[int, float] = {}
        """By epoch, or where `eval_strategy` is "steps" by the number of the evaluation, from 1; those of earlier
        attempts as well."""
        self._report = report
        self._ended: TrialEnded | None = None
        self._trains = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up what a checkpoint has."""
        self._trains, self._ended = True, None
        self.reported = {
            _place(args, entry["epoch"], entry["step"]): float(entry[self.monitor])
            for entry in state.log_history
            if self.monitor in entry
        }

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report.

        Raises:
            ConfigError: an evaluation gives nothing of that name.
        """
        if not self._trains or self._ended is not None or not state.is_world_process_zero:
            return
        value = monitored(self.monitor, metrics or {}, "it is what compute_metrics returns")
        place = _place(args, state.epoch or 0.0, state.global_step)
        self.reported[place] = value
        try:
            self._report(value, place)
        except TrialEnded as ended:
            self._ended, control.should_training_stop = ended, True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the trial, if it is to end.

        Raises:
            TrialEnded: it is.
        """
        self._trains = False
        if self._ended is not None:
            raise self._ended


def _place(args: TrainingArguments, epoch: float, step: int) -> int:
    """What is reported as the epoch: the same number after a checkpoint as without."""
    return round(step / args.eval_steps) if args.eval_strategy == "steps" and args.eval_steps else max(1, round(epoch))


def last_kept(checkpoint: Path) -> str | None:
    """The last whole checkpoint that an earlier attempt left, for `Trainer.train(resume_from_checkpoint=...)`.

    None at the first attempt. One that was being written when the trial was killed is no checkpoint.

    Args:
        checkpoint: as the objective is given it, and as `TrainingArguments(output_dir=...)` is.
    """
    kept = [file.parent for file in Path(checkpoint).glob(f"checkpoint-*/{STATE}") if file.stat().st_size]
    return str(max(kept, key=lambda folder: int(folder.name.rpartition("-")[2]))) if kept else None
