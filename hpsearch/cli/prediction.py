"""predict: what the net of a search says of new images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import TrustOption, ViewsOption, read_settings
from hpsearch.errors import ConfigError, DataError
from hpsearch.wording import count_text

if TYPE_CHECKING:
    from hpsearch.config import RunConfig
    from hpsearch.datasets.images import Progress
    from hpsearch.search.prediction import Classifier
    from hpsearch.storage import Database


@with_groups
def predict(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Image files, folders of them, npz files.")],
    storage: Storage,
    output: Output,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="Not the best trial, but this one.")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="The nets that hpsearch ensemble made of the study, averaged.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="The K likeliest classes of each image.")] = 1,
    file: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; stdout if not given.")] = None,
    views: ViewsOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    trust: TrustOption = None,
) -> None:
    """Classify new images with the kept weights of the best trial of a stage: file, class, probability, as CSV.

    Images of any size are decoded as the training images were; those need not be there any more. A folder stands for
    all images in it, in any depth. npz files hold an array x of images like those that the net was trained on. A file
    that gives no image is named on stderr and has no row; the exit code is 1 only if no image could be read.

    Example: `hpsearch predict fine new-photos --top 3 -o predictions.csv`
    """
    from hpsearch.cli.output import plain_line
    from hpsearch.cli.prediction_rows import CsvRows, JsonRows
    from hpsearch.cli.waiting import data_progress
    from hpsearch.datasets.notes import left_out_note
    from hpsearch.runtime import resolve_device, set_threads
    from hpsearch.search.prediction import Prediction, Unreadable, find_images, predict_images
    from hpsearch.search.trained_net import threshold_text, uncalibrated_text
    from hpsearch.storage import open_database

    if ensemble and trial is not None:
        raise ConfigError("--ensemble and --trial name other nets.\nAllowed: one of them.")
    run = read_settings(storage=storage.storage, flags={"run.device": device}, trusted=trust).run
    images = find_images(paths)
    if images.left_out and not output.quiet:
        typer.echo(f"note: {left_out_note(images.left_out)}", err=True)
    set_threads(run.threads)
    db = open_database(run.storage)
    num_read, unreadable = 0, list[Unreadable]()
    rows_are_seen = file is None and sys.stdout.isatty()  # and show by themselves how far it is
    with data_progress(output.silent or rows_are_seen) as progress:
        net, whose = _asked(db, study, trial, ensemble, run, progress)
        batches = predict_images(net, images, resolve_device(run.device), top, progress, views=views)
        first = next(batches)  # what is wrong with net or device is said before anything is written
        names = net.preprocessing.class_names
        about: dict[str, Any] = {"study": study, **whose, "classes": list(names)}
        if net.threshold is not None:
            about["threshold"] = {"class": names[1], "value": net.threshold.value}
        if any(loss != "cross-entropy" for loss in net.losses):
            about["losses"] = list(net.losses)
        for said in (threshold_text(net.threshold, names), uncalibrated_text(net.losses)):
            if said and not output.quiet:
                typer.echo(f"note: {plain_line(said)}", err=True)
        with _written(file) as out:
            rows = JsonRows(out, about) if output.as_json else CsvRows(out, min(top, net.num_classes))
            for batch in chain([first], batches):
                read = [each for each in batch if isinstance(each, Prediction)]
                failed = [each for each in batch if isinstance(each, Unreadable)]
                rows.add(read)
                num_read, unreadable = num_read + len(read), unreadable + failed
                for each in failed:
                    typer.echo(f"{plain_line(each.name)} cannot be decoded: {plain_line(each.why)}", err=True)
            rows.end(unreadable)
            if not num_read:  # and a file that was there stays
                raise DataError(f"no image could be read of {count_text(len(unreadable), 'file')}.")
    if file is not None and not output.quiet:
        typer.echo(f"{count_text(num_read, 'image')} in {file}", err=True)


def _asked(
    db: Database, study: str, trial: int | None, ensemble: bool, run: RunConfig, progress: Progress | None
) -> tuple[Classifier, dict[str, Any]]:
    """The net or nets that are asked, and which they are."""
    from hpsearch.analysis.study_trials import read_study
    from hpsearch.search.trained_ensemble import load_ensemble
    from hpsearch.search.trained_net import load_net

    if not ensemble:
        net = load_net(read_study(db, study), run, trial, progress)
        return net, {"trial": net.stored.trial.number}
    nets = load_ensemble(db, study, run, progress)
    members = [
        {"study": each.stored.study.name, "trial": each.stored.trial.number, "weight": weight}
        for each, weight in zip(nets.nets, nets.weights, strict=True)
    ]
    return nets, {"ensemble": members}


@contextmanager
def _written(file: Path | None) -> Iterator[BinaryIO]:
    """Where rows go: stdout, or a file that takes its place once it is whole."""
    if file is None:
        try:
            yield sys.stdout.buffer
        finally:
            sys.stdout.buffer.flush()
        return
    from hpsearch.datasets.atomic import replacing

    try:
        with replacing(file) as out:
            yield out
    except OSError as error:
        raise ConfigError(f"--output {file} cannot be written: {error.strerror}.") from None
