"""data list, show, fetch: which images there are, and what a training split looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output
from hpsearch.cli.options import read_settings

app = typer.Typer(
    no_args_is_help=True,
    help="The images to train on.\n\nExample: `hpsearch data list`, `hpsearch data show digits`",
)


@app.command("list")
@with_groups
def list_(output: Output) -> None:
    """List the data sets and where they come from.

    Example: `hpsearch data list`
    """

    from dataclasses import asdict

    from hpsearch.cli.output import show_table
    from hpsearch.datasets.catalog import list_sources

    sources = list_sources(Path(read_settings().run.data_dir))
    if output.as_json:
        typer.echo(json.dumps([asdict(source) for source in sources]))
        return
    rows = (
        (
            source.name,
            source.description,
            "-" if source.classes is None else source.classes,
            "-" if source.shape is None else "x".join(map(str, source.shape)),
            "-" if source.num_train is None else source.num_train,
            "-" if source.num_test is None else source.num_test,
            source.origin,
            "yes" if source.present else "no",
        )
        for source in sources
    )
    columns = ("source", "what", "classes", "shape", "train", "test", "from", "here")
    show_table(columns, rows, right=frozenset({"classes", "train", "test"}))


@app.command()
@with_groups
def show(
    output: Output,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="As in data.source.")] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="Study file (TOML); - reads standard input.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the study file: data.size=64. Repeatable."),
    ] = None,
    augment: Annotated[
        Path | None,
        typer.Option("--augment", metavar="FILE.png", help="Write a sheet of images before and after data.augment."),
    ] = None,
) -> None:
    """Show a training split: shape, images per class, mean and std before and after normalization. Of the test split,
    images per class are counted, and no more.

    With --augment, a picture as well: images as they are and, below, as the first steps of three epochs see them; then
    the mean image, and the standard deviation of each pixel, the largest as white.

    Example: `hpsearch data show folder:photos --set data.size=64`
    """

    from hpsearch.cli.output import line, show_table
    from hpsearch.cli.waiting import data_progress
    from hpsearch.datasets.catalog import describe

    settings = read_settings(config, sets, flags={"data.source": name})
    with data_progress(output.quiet or output.as_json) as progress:
        shown = describe(settings.study.data, Path(settings.run.data_dir), progress)
        if augment is not None:
            from hpsearch.datasets.augmentation_sheet import write_sheet
            from hpsearch.training.images import load_images

            train = settings.study.train
            data = load_images(settings.study, settings.run, progress, as_features=False)
            write_sheet(augment, data, train.seed, train.batch_size)
            shown["augment"], shown["sheet"] = list(settings.study.data.augment), str(augment)
    if output.as_json:
        typer.echo(json.dumps(shown))
        return
    line("source", shown["source"])
    line("shape", f"{' x '.join(map(str, shown['shape']))} {shown['dtype']}")
    tests: dict[str, int] | None = shown["per_class_test"]
    test = f", {sum(tests.values())} to test" if tests is not None else ", no test split"
    line("split", f"{shown['num_train']} to train, {shown['num_val']} held out for validation{test}")
    for note in shown["notes"]:
        line("images", note)
    for when in ("before", "after"):
        numbers = shown[when]
        line(when, f"mean {numbers['mean']:.4g}, std {numbers['std']:.4g}  (normalize = {shown['normalize']})")
    if augment is not None:
        line("sheet", f"{augment}: {', '.join(shown['augment']) or 'no data.augment'}")
    if tests is None:
        show_table(("class", "images"), shown["per_class"].items(), right=frozenset({"images"}))
        return
    rows = ((name, num, tests.get(name, 0)) for name, num in shown["per_class"].items())
    show_table(("class", "images", "test"), rows, right=frozenset({"images", "test"}))


@app.command()
@with_groups
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cifar10, cifar100, mnist, fashion-mnist or svhn.")],
    output: Output,
) -> None:
    """Download a data set and check it against its checksum.

    Example: `hpsearch data fetch cifar10`
    """

    from hpsearch.cli.waiting import data_progress
    from hpsearch.datasets.catalog import fetch as fetch_files

    with data_progress(output.quiet or output.as_json) as progress:
        files = fetch_files(name, Path(read_settings().run.data_dir), progress)
    if output.as_json:
        typer.echo(json.dumps({"name": name, "files": [str(file) for file in files]}))
    elif not files:
        typer.echo(f"{name} needs no download")
    else:
        for file in files:
            typer.echo(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
