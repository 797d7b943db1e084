"""The process in which the user's code runs, one trial after the other; `programs.program` is its other end.

It leads a group of processes, to which all belong that the code starts, and ends with the worker, whatever ended that.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from hpsearch.config import usercode
from hpsearch.config.schema.objective import ObjectiveConfig
from hpsearch.errors import HpsearchError
from hpsearch.programs import messages, program
from hpsearch.programs.calling import TrialEnded, as_epoch, as_value, call, refuse_other_forms, taken
from hpsearch.programs.command import KilledError, run_command
from hpsearch.programs.given import given
from hpsearch.programs.messages import (
    Answer,
    Broken,
    Ended,
    Left,
    Noted,
    Pruned,
    Ready,
    Reported,
    Suggest,
    Suggested,
    Task,
    Unready,
    send,
)
from hpsearch.programs.objective_forms import refuse_other_objectives
from hpsearch.programs.startable import refuse_unstartable

MAX_TRACEBACK = 4000  # characters, the last ones


def main(received: int, sent: int, printed: int) -> None:
    """Be told the objective, and then trials, until nobody tells any more."""
    program.inside = True
    own = os.getpid()
    with os.fdopen(received, "rb") as lines:
        first = json.loads(lines.readline())
        inbox: queue.SimpleQueue[messages.Message] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(lines, inbox), daemon=True).start()
        usercode.trust(*filter(None, first["trusted"].split(",")))
        try:
            objective, takes = _loaded(ObjectiveConfig.model_validate(first["objective"]))
        except HpsearchError as error:
            send(sent, Unready(str(error)))
            return
        send(sent, Ready(takes))
        while isinstance(task := inbox.get(), Task):
            with _printing_to(printed):
                outcome = _run(objective, task, _Reporter(inbox, sent, task))
                if os.getpid() != own:  # a process that the code has forked, and that came back
                    os._exit(0)
            send(sent, outcome)


def _loaded(objective: ObjectiveConfig) -> tuple[Callable[[Task, _Reporter], float], tuple[str, ...]]:
    """What is called for a trial, and what it takes by name."""
    name = objective.function
    if name is None:
        refuse_unstartable(objective.command)
        return lambda task, report: run_command(objective, task, report), objective.command_takes()
    function = given(name) or usercode.load(name)
    if objective.defines:
        from hpsearch.programs.optuna_trial import call_with_trial

        refuse_other_objectives(f"objective.function = {name!r}", function)
        return lambda task, report: call_with_trial(objective, name, function, task, report), taken(function, 1)
    refuse_other_forms(name, function)
    return lambda task, report: call(name, function, task, report), taken(function)


def _listen(lines: Iterator[bytes], inbox: queue.SimpleQueue[messages.Message]) -> None:
    """Hear the worker also while the code runs: without one, nobody wants to know any more."""
    for line in lines:
        inbox.put(messages.read(line))
    os.killpg(0, signal.SIGKILL)


class _Reporter:
    """What the function calls as `report(value, epoch)`, and all else that it has to say."""

    def __init__(self, inbox: queue.SimpleQueue[messages.Message], sent: int, task: Task) -> None:
        self._inbox, self._sent = inbox, sent
        self._last = max((epoch for epoch, _ in task.earlier), default=0)
        self._seen: set[int] = set()
        """Epochs that this attempt has reported; it may go back behind what an earlier one did."""
        self._why = self.advice = ""
        self._process = os.getpid()

    def __call__(self, value: float, epoch: int | None = None) -> None:
        """Tell a value; the epochs count by themselves where none is given: from 1, or on from an earlier attempt.

        Epochs may come in any order; of one that comes a second time, the first value stays, with a warning.

        Raises:
            TrialEnded: the trial is to end.
            UserCodeError: the value is no number, or the epoch no whole one from 0 on.
        """
        if os.getpid() != self._process:  # what the code has forked has no trial
            return
        if not self._why:
            number, place = as_value(value), self._last + 1 if epoch is None else as_epoch(epoch)
            if place in self._seen:  # as Optuna does
                warnings.warn(f"epoch {place} is reported already; the value {number!r} is ignored", stacklevel=2)
                return
            self._seen.add(place)
            self._last = max(self._seen)
            send(self._sent, Reported(number, place))
            answer = self._inbox.get()
            why = answer.why if isinstance(answer, Answer) else "stopped"
            is_advice = isinstance(answer, Answer) and answer.advice
            self._why, self.advice = ("", why) if is_advice else (why, why)
        if self._why:
            raise TrialEnded(f"the trial is to end: {self._why}")

    def ask(self, name: str, distribution: str) -> Any:
        """A value of a parameter; see `optuna_trial.Line`."""
        from hpsearch.programs.optuna_trial import SuggestionError

        if os.getpid() != self._process:
            raise SuggestionError(
                f"trial.suggest_... of {name!r} was called in a process that the objective has forked.\n"
                "Allowed: ask for values first, and fork then."
            )
        send(self._sent, Suggest(name, distribution))
        answer = self._inbox.get()
        wrong = answer.wrong if isinstance(answer, Suggested) else "the worker has gone"
        if wrong or not isinstance(answer, Suggested):
            raise SuggestionError(wrong)
        return answer.chosen

    def note(self, name: str, kept: Any) -> None:
        """Keep something with the trial."""
        if os.getpid() == self._process:
            send(self._sent, Noted(name, kept))

    @property
    def is_over(self) -> bool:
        """Whether the trial was told to end."""
        return bool(self._why)


def _run(
    objective: Callable[[Task, _Reporter], float], task: Task, report: _Reporter
) -> Ended | Broken | Left | Pruned:
    try:
        value = objective(task, report)
    except BaseException as error:  # sys.exit of a script is no end of ours
        if report.is_over:
            return Left()
        if (optuna := sys.modules.get("optuna")) is not None and isinstance(error, optuna.TrialPruned):
            return Pruned()
        cause = error if not isinstance(error, usercode.UserCodeError) or error.__cause__ is None else error.__cause__
        lines = str(cause).strip().splitlines()
        if isinstance(cause, HpsearchError):  # in our words
            return Broken(lines[0].rstrip("."), "\n".join(lines[1:]), isinstance(cause, KilledError))
        said = f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
        return Broken(said, "".join(traceback.format_exception(cause))[-MAX_TRACEBACK:])
    return Left() if report.is_over else Ended(value)


@contextlib.contextmanager
def _printing_to(target: int) -> Iterator[None]:
    """What is printed meanwhile, by whatever code, goes to the worker, which keeps it."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            os.dup2(target, descriptor)
        yield
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
