"""compare from end to end, as a subprocess in an empty folder."""

import signal

import pytest
from held_searches import go, wait_until_held, wait_until_told

TINY = ("-c", "tiny.toml", "--repeats", "2")


@pytest.mark.slow
def test_one_command_one_page_and_again_without_training(hpsearch):
    arguments = ("compare", *TINY, "--trials", "10", "-o", "pages/compare.html")
    out = hpsearch(*arguments).stdout
    lines = out.splitlines()
    assert [line for line in lines if line.endswith("(4 / 4)")]
    assert any(line.startswith("random ") and line.split()[-2:] == ["9", "9"] for line in lines)
    assert any(line.startswith("grid ") and line.split()[-2:] == ["3", "3"] for line in lines)
    assert "largest balanced grid within them leaves 9" in out
    assert "paired   random - grid: " in out
    page = (hpsearch.folder / "pages" / "compare.html").read_text()
    assert "Random against grid" in page
    assert "Content-Security-Policy" in page

    again = hpsearch.json(*arguments)
    assert again["comparison"] == "compare"
    assert (again["repeats"], again["trials"], again["trials_asked"]) == (2, 9, 10)
    assert sum(found["wins"] for found in again["samplers"].values()) == 2
    assert again["samplers"]["grid"]["distinct_values"] == {"lr": 3, "reg": 3}
    assert len(again["samplers"]["random"]["best_so_far"]) == 9
    assert again["page"] == "pages/compare.html"
    studies = {row["study"]: (row["stage"], row["trials"]) for row in hpsearch.json("status")}
    assert studies == {
        f"compare/{sampler}/{repeat}": ("compare", 9) for sampler in ("random", "grid") for repeat in (0, 1)
    }


@pytest.mark.slow
def test_samplers_are_asked_for_by_name(hpsearch):
    found = hpsearch.json("compare", *TINY, "--samplers", "random, qmc,tpe", "--trials", "6", "--name", "mine")
    assert list(found["samplers"]) == ["random", "qmc", "tpe"]
    assert found["comparison"] == "mine"
    assert found["trials"] == 6
    refused = hpsearch("compare", *TINY, "--samplers", "random,best", code=2)
    assert "random,best" in refused.stderr
    assert "cmaes" in refused.stderr


def test_a_dry_run_writes_nothing(hpsearch):
    plan = hpsearch.json("compare", *TINY, "--trials", "10", "--dry-run")
    assert (plan["trials"], plan["trials_asked"], plan["repeats"]) == (9, 10, 2)
    assert plan["studies"] == ["compare/random/0", "compare/grid/0", "compare/random/1", "compare/grid/1"]
    assert plan["estimated_seconds"] > 0
    assert [path.name for path in hpsearch.folder.iterdir()] == ["tiny.toml"]


@pytest.mark.slow
def test_a_signal_leaves_a_comparison_that_the_same_command_finishes(hpsearch):
    arguments = ("compare", *TINY, "--trials", "4", "--epochs", "5")
    process = hpsearch.held(*arguments, packs=1)
    wait_until_held(hpsearch.folder)
    process.send_signal(signal.SIGTERM)
    wait_until_told(hpsearch.folder)
    go(hpsearch.folder)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143, errors
    assert "Go on with: hpsearch compare -c tiny.toml" in errors
    done = hpsearch(*arguments)
    assert "(1 / 4)" not in done.stdout
    assert "(4 / 4)" in done.stdout
    for row in hpsearch.json("status"):
        assert (row["finished"], row["running"]) == (4, 0)
