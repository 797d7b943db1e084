"""check: what to know before a search."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Searched, Training, settings_of
from hpsearch.cli.options import storage_flag
from hpsearch.cli.stages import NameOption
from hpsearch.errors import Typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpsearch.search.checks.findings import CheckReport
    from hpsearch.search.checks.study import Check

StepsOption = Annotated[int | None, typer.Option(min=1, help="Steps of each learning rate; 100 if not given.")]
STYLES = {"ok": "green", "note": "yellow", "failed": "bold red"}
MAX_LAYERS = 12  # shown; deeper nets are thinned out


@with_groups
def check(
    searched: Searched,
    training: Training,
    output: Output,
    name: NameOption = None,
    steps: StepsOption = None,
) -> None:
    """Check the net before a search: images, initial loss, regularization, 20 images by heart, activations, rates.

    What passes is kept as the study `check`, so that a coarse search can take its learning rates from it; the same
    command again shows it. When a check fails, nothing is kept, and the exit code is 3.

    Example: `hpsearch check --model convnet` and then `hpsearch coarse --from check`
    """
    settings = settings_of(searched, training, searched.flags())

    from hpsearch.cli.waiting import data_progress, waiting
    from hpsearch.config.schema.objective import refuse_objective
    from hpsearch.search.checks.learning_rate import STEPS
    from hpsearch.search.checks.study import KIND, plan_check, run_check
    from hpsearch.storage import open_late
    from hpsearch.training.images import load_images

    refuse_objective(settings.study.objective, "hpsearch check")
    plan = plan_check(settings.study, name or KIND, steps or STEPS)
    db = open_late(settings.run.storage)
    with data_progress(output.silent) as progress:
        images = load_images(plan.trial_config, settings.run, progress)
    with waiting("checking", output.silent) as tell:
        found = run_check(
            db,
            plan,
            images,
            engine=settings.run.engine,
            listener=tell,
            images=lambda: load_images(plan.trial_config, settings.run, as_features=False),
        )
    if output.as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _print(found, output.quiet, storage_flag(settings.run.storage))
    if not found.report.ok:
        raise typer.Exit(code=3)


def _print(found: Check, quiet: bool, storage: str | None) -> None:
    from rich.text import Text

    from hpsearch.cli.output import line, show_table

    report = found.report
    rows = (
        (each.name, Text(each.outcome, style=STYLES[each.outcome]), each.text, each.advice or "-")
        for each in report.findings
    )
    show_table(("check", "verdict", "found", "what to do"), rows)
    if not quiet:
        _print_curve(report["overfit"].measured)
        _print_activations(report["activations"].measured["inits"])
        _print_rates(report)
        _print_body_rates(report)
    if not report.ok:
        names = ", ".join(each.name for each in report.failed)
        line("failed", f"{names}; nothing is kept: mend the config and check again", "red")
        return
    assert found.study is not None
    if not (found.fresh or quiet):
        line("kept", f"as {found.study.name!r} by an earlier run of this command")
    if not quiet:
        rates = "low" in report["learning rate"].measured
        words = ("hpsearch", "coarse", "--from", found.study.name) if rates else ("hpsearch", "coarse")
        line("next", Typed(words).text(("--storage", storage) if storage is not None else ()))


def _print_curve(measured: Mapping[str, Any]) -> None:
    """The cost of the rate that learned the few images best, over its epochs, on a log scale."""
    from hpsearch.cli.curves import sparkline
    from hpsearch.cli.output import line

    if not (curve := measured.get("curve")):
        return
    costs = [cost for _, cost, _ in curve]
    logs = [math.log(max(cost, 1e-12)) for cost in costs]
    drawn = sparkline(logs, len(logs), min(logs), max(logs))
    epochs = f"epochs {curve[0][0]} to {curve[-1][0]}"
    line("overfit", f"lr {measured['lr']:.1e}, cost {costs[0]:.3g} {drawn} {costs[-1]:.2g}, {epochs}")


def _print_activations(inits: list[dict[str, Any]]) -> None:
    """Mean and std after each hidden layer, the chosen initialization first."""
    from hpsearch.cli.output import console, show_table

    chosen = inits[0]["layers"]
    if not chosen:
        return
    step = -(-len(chosen) // MAX_LAYERS)
    kept = sorted({*range(0, len(chosen), step), len(chosen) - 1})
    console().print()
    rows: list[tuple[str, ...]] = [
        (
            chosen[index]["layer"],
            *(f"{each['layers'][index]['mean']:.2g} ± {each['layers'][index]['std']:.2g}" for each in inits),
        )
        for index in kept
    ]
    rows.append(("verdict", *(each["verdict"] for each in inits)))
    show_table(("activations", f"{inits[0]['init']} (chosen)", *(each["init"] for each in inits[1:])), rows)


def _print_rates(report: CheckReport) -> None:
    """What each learning rate did."""
    from hpsearch.cli.output import console, line, show_table

    console().print()
    measured = report["learning rate"].measured
    rows = [
        (
            f"{rate['lr']:.1e}",
            rate["verdict"],
            f"{rate['loss']:.3f}" if "loss" in rate else f"cost {float(rate['cost']):.3g} in step {rate['step']}",
            f"{rate['val_acc']:.3f}" if "val_acc" in rate else "-",
        )
        for rate in measured["rates"]
    ]
    show_table(("lr of the head" if "of" in measured else "lr", "verdict", "loss", "val_acc"), rows)
    needed, steps = measured["needed"], measured["steps"]
    line("rates", f"goes down: the loss on training images is below {needed:.3f} after {steps} steps")
    if "low" in measured:
        line("", "coarse --from this check goes on to lower rates where its trials take more steps")


def _print_body_rates(report: CheckReport) -> None:
    """What each factor of the body's rate did, where that was tried."""
    from hpsearch.cli.output import console, line, show_table

    found = next((each.measured for each in report.findings if each.name == "body rate"), {})
    if "rates" not in found:
        return
    console().print()
    rows = [
        (f"{rate['body_lr']:.1e}", rate["verdict"], f"{rate['val_loss']:.3f}" if "val_loss" in rate else "-")
        for rate in found["rates"]
    ]
    show_table(("body_lr", "verdict", "val_loss"), rows)
    steps, lr, seconds = found["steps"], found["lr"], found["seconds"]
    line("body", f"{steps} steps at lr {lr:.1e} in {seconds:.3g} s; the lowest validation loss on the way")
    line("", f"a frozen body has {found['frozen']:.3f}; nearer to it than 5% of ln C is as well")
