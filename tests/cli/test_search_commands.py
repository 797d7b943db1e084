"""coarse and fine from end to end, as subprocesses in an empty folder."""

import json
import re
import signal
import sqlite3

import pytest
from held_searches import go, wait_until_held, wait_until_told


def states(hpsearch, study="coarse"):
    return hpsearch.json("status", study)["states"]


@pytest.mark.slow
def test_two_commands_and_nothing_else(searched):
    lines = searched.coarse.stdout.splitlines()
    finished = [line for line in lines if line.endswith(" / 12)")]
    assert len(finished) == 12
    pattern = r"(val_acc: \d\.\d{6}|exploded in epoch \d), lr: \d\.\d{6}e[-+]\d\d, reg: \d\.\d{6}e[-+]\d\d, \(1 / 12\)"
    assert re.fullmatch(pattern, finished[0])
    assert any(line.startswith("next") and "hpsearch fine --from coarse" in line for line in lines)
    fine = searched.fine.stdout
    assert re.search(r"lr .*\[.*\] -> \[.*\]", fine)
    assert (searched.folder / "studies" / "hpsearch.db").exists()
    assert {row["study"]: row["trials"] for row in searched.json("status")} == {"coarse": 12, "fine": 6}


def test_the_database_is_in_wal_mode(searched):
    with sqlite3.connect(searched.folder / "studies" / "hpsearch.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_several_workers_find_that_nothing_is_left(hpsearch):
    first = hpsearch("coarse", "-c", "tiny.toml", "--workers", 2)
    again = hpsearch("coarse", "-c", "tiny.toml", "--workers", 2)
    best = [line for line in first.stdout.splitlines() if line.startswith("best")]
    assert best
    assert [line for line in again.stdout.splitlines() if line.startswith("best")] == best


def test_the_same_command_again_says_that_the_budget_is_spent(searched):
    again = searched("coarse", "-c", "tiny.toml")
    assert "spent: 12 of 12 trials" in again.stdout
    assert "(1 / 12)" not in again.stdout


def test_another_config_is_refused_with_the_differences(searched):
    refused = searched("coarse", "-c", "tiny.toml", "--set", "train.batch_size=30", code=3)
    assert "train.batch_size: 20 -> 30" in refused.stderr
    assert "--name" in refused.stderr


def test_fine_goes_on_from_fine(searched):
    plan = searched.json("fine", "--from", "fine", "--dry-run")
    assert (plan["from"], plan["study"], plan["trials"], plan["epochs"]) == ("fine", "fine-2", 6, 3)
    assert plan["estimated_seconds"] > 0
    for row in plan["ranges"]:
        assert set(row) == {"param", "old", "new", "reason"}
        assert row["new"][0] < row["new"][1]
    assert {row["study"] for row in searched.json("status")} == {"coarse", "fine"}


def test_a_dry_run_writes_nothing(hpsearch):
    plan = hpsearch.json("coarse", "-c", "tiny.toml", "--dry-run")
    assert (plan["study"], plan["trials"], plan["epochs"], plan["sampler"]) == ("coarse", 12, 2, "random")
    assert {row["param"]: row["new"] for row in plan["ranges"]} == {"lr": [1e-5, 1.0], "reg": [1e-5, 1e5]}
    assert [path.name for path in hpsearch.folder.iterdir()] == ["tiny.toml"]


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(hpsearch):
    refused = hpsearch("coarse", "-c", "tiny.toml", "--devices", "cpu,cuda:99", code=2)
    assert "'cuda:99' is not here" in refused.stderr
    assert "checks" not in refused.stderr
    assert [path.name for path in hpsearch.folder.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_leaves_a_study_that_the_same_command_finishes(hpsearch, sent, code):
    arguments = ("coarse", "-c", "tiny.toml", "--epochs", "5", "--set", "run.width=3")
    process = hpsearch.held(*arguments, packs=1)
    wait_until_held(hpsearch.folder)
    process.send_signal(sent)
    wait_until_told(hpsearch.folder)
    go(hpsearch.folder)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    assert "Go on with: hpsearch coarse -c tiny.toml --epochs 5" in errors
    left = states(hpsearch)
    assert left.get("RUNNING", 0) == 0
    assert left["WAITING"] == 9
    done = hpsearch(*arguments)
    assert "are finished; going on" in done.stderr
    assert sum(states(hpsearch).values()) == 12
    assert "WAITING" not in states(hpsearch)


def test_a_killed_process_loses_no_trial(hpsearch):
    arguments = ("coarse", "-c", "tiny.toml", "--epochs", "5", "--set", "run.width=3")
    process = hpsearch.held(*arguments, packs=1)
    wait_until_held(hpsearch.folder)
    process.kill()
    process.communicate(timeout=600)
    hpsearch(*arguments)
    with sqlite3.connect(hpsearch.folder / "studies" / "hpsearch.db") as connection:
        rows = connection.execute("SELECT number, state FROM trials ORDER BY number").fetchall()
    assert [number for number, _ in rows] == list(range(12))
    assert {state for _, state in rows} <= {"COMPLETE", "PRUNED"}


def test_the_best_trial_can_be_fed_back(searched):
    toml = searched("best", "coarse", "-f", "toml").stdout
    best = searched.json("best", "coarse")
    assert f"lr = {best['params']['lr']!r}" in toml
    done = searched("coarse", "-c", "-", "--name", "again", "--dry-run", "--json", stdin=toml)
    assert json.loads(done.stdout)["study"] == "again"


def test_json_is_one_document_and_the_lines_go_to_stderr(hpsearch):
    done = hpsearch("coarse", "-c", "tiny.toml", "--trials", "3", "--seed", "5", "--json")
    result = json.loads(done.stdout)
    assert result["trials"] == 3
    assert {"study", "best", "boundary", "states", "exploded", "seconds"} <= set(result)
    assert "(3 / 3)" in done.stderr


def test_quiet_prints_no_progress(hpsearch):
    done = hpsearch("coarse", "-c", "tiny.toml", "--trials", "2", "-q")
    assert "(1 / 2)" not in done.stdout
    assert "best" in done.stdout


def test_environment_variables_come_between_file_and_flags(hpsearch):
    environment = {"HPSEARCH_COARSE__TRIALS": "7", "HPSEARCH_COARSE__EPOCHS": "9"}
    plan = hpsearch.json("coarse", "-c", "tiny.toml", "--epochs", "4", "--dry-run", **environment)
    assert (plan["trials"], plan["epochs"]) == (7, 4)
