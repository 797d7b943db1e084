"""Who works on a stage, as `hpsearch status` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpsearch.cli.output import line, plain_line
from hpsearch.wording import count_text

if TYPE_CHECKING:
    from hpsearch.storage.activity import WorkerActivity


def print_workers(workers: Sequence[WorkerActivity], taken_again: int) -> None:
    """One line per worker with its trials, their attempts and its lease; and how many trials began again."""
    for worker in workers:
        host, _, rest = worker.worker.partition("/")
        numbers = ", ".join(
            f"{number} (attempt {attempt})" if attempt > 1 else str(number)
            for number, attempt in worker.attempts.items()
        )
        lease = f"lease {worker.seconds_left:.0f} s" if worker.seconds_left >= 0 else "silent: its lease has run out"
        if worker.is_dead:
            lease = "dead: its process is gone, and the next worker takes its trials up"
        line(
            "worker",
            plain_line(f"{host} pid {rest.partition('/')[0]}  trials {numbers}  {lease}"),
            "red" if worker.is_dead else "",
        )
    if taken_again:
        were = f"{count_text(taken_again, 'trial')} {'was' if taken_again == 1 else 'were'}"
        line("again", f"{were} taken up more than once: a worker died, stopped or was silent")
