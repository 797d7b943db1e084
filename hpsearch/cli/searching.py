"""What coarse and fine have in common: a stage is opened, checked, worked on and shown; or its plan is."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from hpsearch.cli.opening import storage_flag
from hpsearch.cli.signals import stopped

if TYPE_CHECKING:
    from hpsearch.config import Settings
    from hpsearch.search.checks.findings import CheckReport
    from hpsearch.search.evidence import Evidence
    from hpsearch.search.plan import StagePlan
    from hpsearch.storage import Database


def run_stage(
    planned: Callable[[Database], StagePlan],
    settings: Settings,
    as_json: bool,
    quiet: bool,
    workers: int,
    devices: Sequence[str],
    skip_checks: bool = False,
) -> None:
    """Create or resume a stage, work on it, show what came out."""
    start = time.monotonic()
    try:
        evidence, checks = _search(planned, settings, as_json or quiet, quiet, workers, devices, skip_checks)
    except KeyboardInterrupt as stop:
        raise stopped(stop) from None

    from hpsearch.cli.output import print_stage
    from hpsearch.search import attributes
    from hpsearch.search.lineage import advise
    from hpsearch.search.summary import stage_summary
    from hpsearch.storage import open_database

    is_coarse = evidence.study.attrs[attributes.STAGE] == "coarse"
    summary = stage_summary(evidence, seconds=time.monotonic() - start)
    db = open_database(settings.run.storage)
    advice = advise(db, evidence, again=["hpsearch", *sys.argv[1:]]).at(storage_flag(settings.run.storage))
    if as_json:
        found = {"checks": checks.as_dict() if checks is not None else None} if is_coarse else {}
        typer.echo(json.dumps({**summary.as_dict(), **found, **advice.as_dict()}))
    else:
        print_stage(summary, None if quiet else advice)
    if summary.counts.get("FAIL", 0) == summary.num_trials:
        raise typer.Exit(code=1)


def show_plan(plan: StagePlan, settings: Settings, as_json: bool, workers: int, devices: Sequence[str]) -> None:
    """What the stage would do, for --dry-run."""
    from hpsearch.cli.output import print_plan
    from hpsearch.search.session import look_ahead

    outlook = look_ahead(plan, settings.run, workers, devices)
    described = {**plan.as_dict(), **outlook.as_dict()}
    if as_json:
        typer.echo(json.dumps(described))
    else:
        print_plan(plan, outlook)


def _search(
    planned: Callable[[Database], StagePlan],
    settings: Settings,
    silent: bool,
    quiet: bool,
    workers: int,
    devices: Sequence[str],
    skip_checks: bool,
) -> tuple[Evidence, CheckReport | None]:
    # A pool of threads, for small matrices of samplers, would not let this process fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from hpsearch.__main__ import main
    from hpsearch.cli.output import line, print_changes
    from hpsearch.cli.progress import data_progress, make_listener, waiting
    from hpsearch.search.checks.gate import check_before_search
    from hpsearch.search.fleet import check_request, run_fleet
    from hpsearch.search.fork_server import ForkServer
    from hpsearch.search.forking import may_fork
    from hpsearch.search.images import load_data
    from hpsearch.search.stopping import Stop
    from hpsearch.search.width import choose_devices
    from hpsearch.storage import open_database

    with ExitStack() as stack:
        on_ray = settings.run.fleet == "ray"
        # Now or never: reading images starts threads. It costs 15 ms where no workers follow.
        server = stack.enter_context(ForkServer(main)) if may_fork() and not on_ray else None
        if server and (workers > 1 or len(devices) > 1):
            server.get_ready()
        run = check_request(settings.run, devices)
        db = open_database(run.storage, create=True)
        plan = planned(db)
        if plan.changes and not silent:
            print_changes(plan.changes)
        with data_progress(silent) as progress:
            data = load_data(plan.trial_config, run, progress)
        if not on_ray:
            devices = choose_devices(plan, data, run, workers, devices)
            if len(devices) > 1:
                server = server or stack.enter_context(ForkServer())
                server.get_ready()  # while this process checks
            elif server:
                server.hang_up()
                server = None
        with waiting("checking", silent):
            checks = None if skip_checks else check_before_search(db, plan, data)
        if checks is not None:
            checks.refuse_if_failed()
            if not silent:
                line("checks", checks.line())
        stop = Stop()
        with make_listener(quiet=quiet, as_json=silent) as listener, stop.on_signals():
            return run_fleet(db, plan, settings.run, data, workers, devices, listener, stop, server), checks
