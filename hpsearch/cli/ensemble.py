"""ensemble: the best trials of one or several studies, averaged, measured beside the best of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import TrustOption, read_settings, storage_flag
from hpsearch.cli.signals import ending_in_order
from hpsearch.wording import count_text, duration_text, value_text

if TYPE_CHECKING:
    from hpsearch.config import RunConfig
    from hpsearch.search.ensemble import Ensemble, Measured
    from hpsearch.search.ensemble_members import Wanted
    from hpsearch.search.stored_trials import Training


@with_groups
def ensemble(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="Of the same images, split and metric.")],
    storage: Storage,
    output: Output,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="The K best trials of each study; 5, or 1 with --seeds or --snapshots."),
    ] = None,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="Trial N instead of the best ones.")] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="S", help="Each trial S times, with its seed and the next.")] = 1,
    bagging: Annotated[
        bool, typer.Option("--bagging", help="Train each on its own draw of the training images, with replacement.")
    ] = False,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Of each, its states at the ends of the cycles of its rate (sgdr).")
    ] = False,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Choose and weigh the nets by what each adds on the validation images.")
    ] = False,
    kept: Annotated[
        bool, typer.Option("--kept", help="Only trials whose weights are kept: nothing is trained.")
    ] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Measure on the test images, too: a use of the test set.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write its nets there, for use without hpsearch.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="--weights: replace files that are there.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    trust: TrustOption = None,
) -> None:
    """Average what the best trials of a stage say, or those of several, and measure the gain over the best single net.

    The nets are those whose weights are kept (`--keep all`); others are trained again, and kept from then on. All are
    averaged alike, or with --greedy by forward selection with replacement (Caruana et al. 2004). The interval of the
    gain is a paired bootstrap over the images, of 95%. --snapshots averages states of one training (Huang et al. 2017),
    which must have had `train.lr_schedule = "sgdr"`, and compares them with its best epoch. `hpsearch predict STUDY
    PATH... --ensemble` uses the last ensemble of a study, its first one where there are several.

    Example: `hpsearch ensemble fine --top 5 --greedy` or `hpsearch ensemble mlp convnet --top 3 --weights net`
    """
    settings = read_settings(storage=storage.storage, flags={"run.device": device}, trusted=trust)
    with ending_in_order("stopped; what has been trained is kept, and no ensemble was written."):
        from hpsearch.cli.waiting import data_progress
        from hpsearch.search.ensemble import make_ensemble
        from hpsearch.search.ensemble_answers import EnsembleListener
        from hpsearch.search.ensemble_folder import FILES, write_ensemble
        from hpsearch.search.weights_folder import refuse_replacing
        from hpsearch.storage import open_database

        if weights is not None:
            refuse_replacing(weights, force=force, files=FILES)
        told = _Told(quiet=output.quiet)
        with data_progress(output.silent) as progress:
            result = make_ensemble(
                open_database(settings.run.storage),
                settings.run,
                studies,
                top=top,
                number=trial,
                num_seeds=seeds,
                bagged=bagging,
                snapshots=snapshots,
                greedy=greedy,
                kept_only=kept,
                test=test,
                listener=EnsembleListener(progress, told.to_train, told.trained),
            )
        files = write_ensemble(result, weights) if weights is not None else []
    more = _everywhere(settings.run, trust)
    if output.as_json:
        written = {"files": list(map(str, files))} if files else {}
        words = next_words(result, settings.run)[1]
        command = shlex.join([*words, *more]) if words else None
        typer.echo(json.dumps({**result.as_dict(), "next": command, **written}))
        return
    print_ensemble(result)
    if not output.quiet:
        _print_next(result, settings.run, _words(studies, top, trial, seeds, bagging, snapshots, greedy, kept), more)
        if files:
            typer.echo(f"weights  in {weights}; without hpsearch: python {files[-1]} IMAGE...", err=True)


class _Told:
    """What people hear on stderr of nets that are trained."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet, self.num_to_train, self.num_trained = quiet, 0, 0

    def to_train(self, missing: Sequence[Wanted], num_all: int) -> None:
        self.num_to_train = len(missing)
        times = [each.seconds for each in missing]
        seconds = sum(time for time in times if time is not None)
        known = "" if None in times else f", in {duration_text(seconds)} at most at the speed of the search"
        nets = count_text(num_all, "net") if self.num_to_train == num_all else f"{self.num_to_train} of {num_all} nets"
        what = f"the weights of {nets} are not kept: they are trained now"
        if missing[0].snapshots:
            whose = missing[0].text if self.num_to_train == 1 else count_text(self.num_to_train, "training")
            what = f"the snapshots of {whose} are not kept: it is trained again now"
            what = what if self.num_to_train == 1 else what.replace("it is", "they are")
        self._say(f"note: {what}{known}")

    def trained(self, wanted: Wanted, training: Training) -> None:
        from hpsearch.results import FoldedResult

        self.num_trained += 1
        value = f"{training.metric.column} {value_text(training.value)}" if training.value is not None else "exploded"
        folds = len(training.best.folds) if isinstance(training.best, FoldedResult) else 0
        mean = f", the mean over {folds} folds" if folds else ""
        self._say(f"trained {self.num_trained} of {self.num_to_train}: {wanted.text}: {value}{mean}")

    def _say(self, text: str) -> None:
        if not self.quiet:
            from hpsearch.cli.output import plain_line

            typer.echo(plain_line(text), err=True)


def print_ensemble(result: Ensemble) -> None:
    """The members, the ensemble beside the best of them, and what that may be worth."""
    from hpsearch.analysis.kept_ensembles import members_table
    from hpsearch.cli.output import line, show_table
    from hpsearch.config.metric import measures_text
    from hpsearch.search.ensemble_snapshots import cut_short

    metric = result.metric
    columns, rows = members_table([member.kept() for member in result.members], metric.column)
    show_table(columns, rows, right=frozenset(columns[1:]))
    if result.exploded:
        line("exploded", "; ".join(wanted.text for wanted in result.exploded), "red")
    num_images = result.val.difference.num_images
    line("ensemble", f"{metric.column} {value_text(result.val.value)}  {_how(result)}, {num_images} validation images")
    best = result.best.member.wanted
    epoch = f", epoch {result.best.member.epoch}" if result.is_of_snapshots else ""
    line("single", f"{metric.column} {value_text(result.val.single)}  {best.text}{epoch}, the best of them")
    line("gain", _gain(result, result.val))
    line("measures", measures_text(result.val.measures))
    if result.is_of_snapshots and (said := cut_short(best.stored)) is not None:
        line("note", f"{best.text}: {said}")
    if (folds := best.stored.config.data.folds or 1) > 1:
        line("folds", f"these are the nets of the first of {folds} folds, on its validation images;")
        line("", f"the value that a stage gives a trial is the mean over all {folds}")
    if result.is_greedy:
        others = "; --test has others" if result.test is None else ""
        line("note", f"the weights were chosen on these validation images, so this gain is too high{others}")
    if result.test is not None:
        _print_test(result, result.test)


def _how(result: Ensemble) -> str:
    num, num_chosen = len(result.members), len(result.chosen)
    if not result.is_greedy:
        return f"the mean of {num_chosen} {'snapshots' if result.is_of_snapshots else 'nets'}"
    return f"{num_chosen} of {num} nets, weighed greedily"


def _gain(result: Ensemble, found: Measured) -> str:
    """`+0.0035  95% [-0.0035, +0.0104] (paired bootstrap): within what chance in the choice of images explains`."""
    number, difference = result.metric.text, found.difference

    def signed(value: float) -> str:
        return f"{'-' if value < 0 else '+'}{number(abs(value))}"

    text = signed(difference.gain)
    if difference.low is None or difference.high is None:
        return f"{text}  (no interval: on draws of the images {result.metric.short} is no number)"
    said = "more than chance in the choice of images explains"
    if difference.low <= 0 <= difference.high:
        said = "chance in the choice of images may explain it"
    elif difference.gain < 0:
        said = f"a loss, {said}"
    return f"{text}  95% [{signed(difference.low)}, {signed(difference.high)}] (paired bootstrap): {said}"


def _print_test(result: Ensemble, test: Measured) -> None:
    from hpsearch.cli.output import line
    from hpsearch.config.metric import measures_text

    column, num_images = result.metric.test_column, test.difference.num_images
    values = f"{value_text(test.value)}, the best single net {value_text(test.single)}"
    line("test", f"{column} {values}, {num_images} test images")
    line("gain", _gain(result, test))
    line("measures", measures_text(test.measures))
    if result.uses.num > 1:
        line("note", f"this is {result.uses.use_text}: what anything was chosen by is too high", "red")


def next_words(result: Ensemble, run: RunConfig) -> tuple[str, list[str]]:
    """Advice, and the command that follows it: the ensemble, or the best single net where that is as good."""
    from hpsearch.search.trained_net import weights_of

    predict = ["hpsearch", "predict", result.studies[0], "IMAGES", "--ensemble"]
    best = result.best.member.wanted
    if result.val.difference.gain <= 0:
        if best.is_own and (path := weights_of(best.stored, run)) is not None and path == result.best.member.path:
            predict[2:] = [best.stored.study.name, "IMAGES", "--trial", str(best.stored.trial.number)]
        return "one net is as good here", predict
    if any(each.member.path is None for each in result.chosen):
        return "its weights are not kept; the same with --weights FOLDER writes them", []
    return "", predict


def _print_next(result: Ensemble, run: RunConfig, again: Sequence[str], more: Sequence[str]) -> None:
    from hpsearch.cli.output import line

    advice, words = next_words(result, run)
    if advice:
        line("advice", advice)
    if words:
        line("next", shlex.join([*words, *more]))
    if result.test is None and result.val.difference.gain > 0:
        line("or", shlex.join([*again, "--test", *more]))


def _everywhere(run: RunConfig, trust: Sequence[str] | None) -> list[str]:
    """What each command goes on needing."""
    storage = storage_flag(run.storage)
    return [*(["--storage", storage] if storage is not None else []), *(w for m in trust or () for w in ("--trust", m))]


def _words(
    studies: Sequence[str],
    top: int | None,
    trial: int | None,
    seeds: int,
    bagging: bool,
    snapshots: bool,
    greedy: bool,
    kept: bool,
) -> list[str]:
    """The command again, without where anything goes."""
    numbers = (("--top", top), ("--trial", trial), ("--seeds", seeds if seeds > 1 else None))
    flags = [word for name, number in numbers if number is not None for word in (name, str(number))]
    given = (("--bagging", bagging), ("--snapshots", snapshots), ("--greedy", greedy), ("--kept", kept))
    flags += [name for name, is_given in given if is_given]
    return ["hpsearch", "ensemble", *studies, *flags]
