"""Which of several timed ways to train a search is taken, and which of them are timed at all: arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hpsearch.logs import get_logger
from hpsearch.training.device_memory import free_memory
from hpsearch.tuning.timing import Candidate, Clock, Timing
from hpsearch.tuning.workload import balanced

MIN_GAIN = 1.10  # times as fast as the default; two runs of one program on a busy machine differ by less
LOOP_MARGIN = 1.05  # times as slow as plain training, one trial after the other: more is never taken
REPEATS = 5
MIN_REPEATS = 3  # fewer have no median worth the name
HOPELESS = 1.5  # times as slow as the default: no repetition will make that good
SLOWER = 2.5  # times as slow as the default that another way is expected to be, at worst
# Of a first epoch's predicted seconds that its first step may take: a way that is so much slower than thought is left
# at once (products in bfloat16 take 17 times as long where the processor has none).
FIRST_STEP = 1.0
WARM_UP = 0.3  # seconds that it may take, whatever was predicted: first calls trace, allocate and import

log = get_logger(__name__)


@dataclass(frozen=True)
class Workload:
    """What a stage has to do, however it is done."""

    num_trials: int
    epochs: int
    num_batches: int
    num_evaluated: int
    """Images on which each epoch's end measures."""
    workers: int = 1

    def pack_epoch(self, timing: Timing) -> float:
        """Seconds of one epoch of a full pack."""
        return timing.step * self.num_batches + timing.evaluation * self.num_evaluated

    def seconds(self, timing: Timing) -> float:
        """Of the whole stage; workers that have no pack left wait for the others."""
        packs = math.ceil(self.num_trials / timing.width)
        return math.ceil(packs / self.workers) * self.epochs * self.pack_epoch(timing)


@dataclass(frozen=True)
class Tuning:
    """How a stage will be trained here, and how long that takes."""

    engine: str
    width: int
    threads: int
    workers: int
    seconds_per_trial_epoch: float
    seconds: float
    """Of the whole stage."""
    step: float
    """Seconds of one minibatch for a whole pack."""
    num_compared: int = 1
    """Ways that were timed; the default alone, where the search is too small to look for a better one."""
    is_default: bool = True
    bfloat16: float | None = None
    """Times as fast that the pack is in bfloat16, where that was measured; never taken unasked: it is less exact."""

    def in_bfloat16(self) -> Tuning:
        """The same engine and width, as fast as it was measured to be."""
        factor = self.bfloat16 or 1.0
        return replace(
            self,
            seconds_per_trial_epoch=self.seconds_per_trial_epoch / factor,
            seconds=self.seconds / factor,
            step=self.step / factor,
            bfloat16=None,
        )


def choose(timings: Sequence[Timing], work: Workload, threads: int) -> Tuning:
    """The default, unless another way is clearly faster, or loop shows that the default loses by more than 5%.

    Args:
        timings: at least one; the first is that of the default.
        work: what is to be done.
        threads: of each worker.
    """
    default, best = timings[0], min(timings, key=work.seconds)
    loop = min((work.seconds(timing) for timing in timings if timing.engine == "loop"), default=math.inf)
    keeps = work.seconds(default) <= min(MIN_GAIN * work.seconds(best), LOOP_MARGIN * loop)
    chosen = default if keeps else best
    return Tuning(
        engine=chosen.engine,
        width=chosen.width,
        threads=threads,
        workers=work.workers,
        seconds_per_trial_epoch=work.pack_epoch(chosen) / chosen.width,
        seconds=work.seconds(chosen),
        step=chosen.step,
        num_compared=len(timings),
        is_default=keeps,
    )


def candidates(
    default: Candidate,
    engines: Sequence[str],
    num_trials: int,
    *,
    on_cpu: bool,
    workers: int = 1,
    any_width: bool = True,
) -> list[Candidate]:
    """What is worth timing, in the order in which it is if time is short: the default, loop, then the others.

    Args:
        default: what is taken without a measurement; no pack is wider.
        engines: by preference.
        num_trials: of the stage.
        on_cpu: half and a quarter of the default's width are tried there, elsewhere the powers of 2 below it.
        workers: a width at which all of them have something to do until the end is tried, too.
        any_width: False where the width is settled.
    """
    widths = [default.width]
    if any_width:
        smaller = [default.width // 2, default.width // 4] if on_cpu else [64, 32, 16, 8, 4, 2]
        rounds = -(-num_trials // (workers * default.width))
        shares = [-(-num_trials // (workers * rounds))] if workers > 1 else []
        widths += [balanced(num_trials, width) for width in shares + smaller if 0 < width < default.width]
    found = [default]
    if "loop" in engines:
        found.append(Candidate("loop", default.width))
    found += [Candidate(default.engine, width) for width in widths]
    found += [Candidate(engine, width) for width in widths for engine in engines]
    return list(dict.fromkeys(each for each in found if each.engine in (default.engine, *engines)))


class Timed(Protocol):
    """What `TimedPack` does."""

    def run_epoch(self, most_seconds: float = math.inf) -> float:
        """Train a short epoch; seconds. A first step that takes longer than `most_seconds` ends it with an error."""

    def timing(self) -> Timing:
        """Medians over the epochs but the first."""


def compare(
    makes: Sequence[Callable[[], Timed]],
    predicted: Sequence[float],
    seconds: float,
    clock: Clock,
    cost: Callable[[Timing], float],
) -> list[Timing]:
    """Time several packs in turns, so that noise of the machine hits all alike, within so many seconds.

    What raises, whatever it is, is left out: it is a way that does not exist for this net or this device. So is what
    is expected, or seen after its first epoch, to leave no time for the others that were let in before.

    Args:
        makes: give the packs; the first is that of the default, without which there is nothing to compare.
        predicted: seconds that the first epoch of each takes, at worst.
        seconds: for all of them, building included.
        clock: seconds.
        cost: what is to be small; what costs far more than the default is timed once only.
    """
    end = clock() + seconds
    timed: list[Timed] = []
    in_turns: list[Timed] = []
    round_seconds = 0.0
    for make, prediction in zip(makes, predicted, strict=True):
        if clock() + 2 * prediction + MIN_REPEATS * round_seconds <= end:  # one round more than needed: to spare
            try:
                pack = make()
                took = pack.run_epoch(max(WARM_UP, FIRST_STEP * prediction))
                if clock() + took + (MIN_REPEATS - 1) * round_seconds <= end:
                    took = pack.run_epoch()
                    timed.append(pack)
            except Exception as error:
                log.info("not to be compared: %s", error)
                free_memory()
            else:
                if timed and pack is timed[-1] and cost(pack.timing()) <= HOPELESS * cost(timed[0].timing()):
                    if clock() + (MIN_REPEATS - 1) * (round_seconds + took) <= end:
                        in_turns.append(pack)
                        round_seconds += took
                    else:
                        timed.pop()
        if not in_turns:
            return []
    num_rounds = 1
    while num_rounds < REPEATS and clock() + round_seconds <= end:
        for pack in in_turns:
            pack.run_epoch()
        num_rounds += 1
    return [pack.timing() for pack in timed] if num_rounds >= MIN_REPEATS else []
