"""Rows of the fault matrix: workers that share a fine stage die while they call its leader again."""

import json
import os
import signal
import sys

import pytest
from fleet_at_work import wait_for

CODE = """
import json, math, os, random, sys, time
from pathlib import Path

def noisy(params, report, seed, trial):
    if 0 < seed == trial:  # a call: the first two wait for their worker's death
        with open("calls.jsonl", "a") as file:
            file.write(json.dumps([trial, seed, params]) + "\\n")
        waiting = Path("waiting")
        waiting.mkdir(exist_ok=True)
        if (attempt := len(os.listdir(waiting))) < 2:
            (waiting / f"{attempt}-{trial}").touch()
            time.sleep(600)
    drawn = random.Random(f"{seed} {params['rate']}").gauss(0, 0.1)
    return 1 - (math.log10(params["rate"]) + 2) ** 2 / 10 + drawn

if __name__ == "__main__":
    rate, seed, trial = sys.argv[1:]
    print("value=" + repr(noisy({"rate": float(rate)}, None, int(seed), int(trial))))
"""
RATE = ("--space", "rate=log(1e-4,1)")
FORMS = {
    "function": ("coarse", "--objective", "mine:noisy", *RATE),
    "program": ("wrap", "--name", "coarse", *RATE, "--metric", "value=([-0-9.e]+)"),
}
NUM = 20


def worker_of(fleet, number):
    """The process that holds a trial of the fine stage."""
    trials = {row.trial_id: row.number for row in fleet.trials("fine") if row.state == "RUNNING"}
    held = [worker for trial_id, worker in fleet.holders() if trials.get(trial_id) == number and worker]
    return int(held[0].split("/")[1]) if held else None


def kill_in_calls(fleet, process):
    """Kill a worker in the midst of a call, and all of the search in the midst of the next, or of the same again."""

    def waiting():
        return sorted(file.name for file in (fleet.folder / "waiting").glob("*"))

    number = int(wait_for(waiting, "a call")[0].partition("-")[2])
    os.kill(wait_for(lambda: worker_of(fleet, number), "its worker"), signal.SIGKILL)
    wait_for(lambda: len(waiting()) >= 2, "another call")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_calls_are_exact_whichever_workers_die(fleet):
    calls_are_exact(fleet, "function")


@pytest.mark.slow
def test_calls_of_programs_are_exact_whichever_workers_die(sqlite_fleet):
    calls_are_exact(sqlite_fleet, "program")


def calls_are_exact(fleet, form):
    (fleet.folder / "mine.py").write_text(CODE)
    program = ("--", sys.executable, "mine.py", "{rate}", "{seed}", "{trial}") if form == "program" else ()
    out, _ = fleet.run(*FORMS[form], "--trials", "12", *program)
    trust = out.partition("--trust ")[2].split()[0]
    fine = ("fine", "--from", "coarse", "--trust", trust, "--trials", str(NUM), "--workers", "3")
    process = fleet.start(*fine)
    kill_in_calls(fleet, process)
    fleet.finish(fleet.start(*fine))

    rows, coarse = fleet.trials("fine"), fleet.trials("coarse")
    assert [(row.number, row.state) for row in rows] == [(number, "COMPLETE") for number in range(NUM)]
    again = {row.number: row.attrs["again"] for row in rows if "again" in row.attrs}
    tried = [row.number for row in rows if "tried in" in row.attrs]
    assert len(set(again.values())) == len(again)  # each leader once
    assert len(again) + len(tried) >= 1
    assert len({rows[number].params["rate"] for number in tried}) == len(tried)
    assert {rows[number].params["rate"] for number in tried} <= {row.params["rate"] for row in coarse}
    for number, of in again.items():
        assert rows[number].params == rows[of].params
    calls = [json.loads(line) for line in (fleet.folder / "calls.jsonl").read_text().splitlines()]
    assert {number for number, _, _ in calls} == {*again, *tried}
    for number, seed, params in calls:  # whoever took a call over made the same one
        assert (seed, params) == (number, rows[number].params)
    assert (
        len(calls) <= len(again) + len(tried) + 4
    )  # those that were killed: two of a worker each, and two more that another one had begun

    means = {of: (rows[of].value + rows[number].value) / 2 for number, of in again.items()}
    best = json.loads(fleet.run("best", "fine", "--json")[0])
    by_mean = sorted(means, key=lambda number: -means[number])
    repeated = best.get("repeated") or []  # none where all calls were of coarse's trials
    assert [each["trial"] for each in repeated] == by_mean
    assert [each["mean"] for each in repeated] == pytest.approx([means[number] for number in by_mean])
    firsts = {row.number: row.value for row in rows if row.number not in again}
    # One of the last trials may have led in the one call that it had: it is named beside the best, see `ahead_once`.
    winner = by_mean[0] if by_mean else max(firsts, key=lambda number: (firsts[number], -number))
    assert best["number"] == winner
    assert f"best     trial {winner} " in fleet.run("status", "fine")[0]
    assert fleet.run("trial", "fine")[0].startswith(f"trial    {winner} of fine: COMPLETE")
    fleet.run("report", "coarse", "fine", "-o", "report.html")
    assert f"best trial of fine</td><td>{winner}:" in (fleet.folder / "report.html").read_text()
