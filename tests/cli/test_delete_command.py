"""`hpsearch delete` says what belongs to a study, and deletes that and nothing else."""

import os
import pty

import pytest
from held_searches import go, wait_until_held
from warm_commands import warm_commands

SMALL = ("--trials", "3", "--epochs", "1", "-q")


def files(folder):
    """All but the database's own."""
    return {path for path in (folder / "studies" / "artifacts").rglob("*") if path.is_file()}


@pytest.mark.slow
def test_weights_states_and_trials_go_and_those_of_other_studies_stay(hpsearch):
    hpsearch("coarse", "-c", "tiny.toml", *SMALL, "--keep", "all")
    others = files(hpsearch.folder)
    kept = ("--keep", "all", "--keep-top", "1", "--seed", "5", "--skip-checks")
    hpsearch("coarse", "-c", "tiny.toml", *SMALL, *kept, "--name", "goes")
    hpsearch("fine", "--from", "goes", *SMALL, "--keep", "none", "--name", "fine")
    own = files(hpsearch.folder) - others
    assert len(own) >= 3
    refused = hpsearch("delete", "goes", code=2)
    assert refused.stdout.splitlines()[0].endswith("studies/hpsearch.db: 3 trials")
    assert refused.stdout.splitlines()[-1] == "stays    what came from it: fine"
    assert refused.stderr.endswith("Allowed: --yes.\n")
    assert files(hpsearch.folder) == own | others
    deleted = hpsearch.json("delete", "goes", "--yes")
    assert (deleted["trials"], deleted["later"]) == (3, ["fine"])
    assert files(hpsearch.folder) == others
    assert [row["study"] for row in hpsearch.json("status")] == ["coarse", "fine"]
    hpsearch("status", "fine")
    hpsearch("coarse", "-c", "tiny.toml", *SMALL, *kept, "--name", "goes")  # as if it had never been


def test_uses_of_test_images_that_are_forgotten_are_named(hpsearch):
    hpsearch("coarse", "-c", "tiny.toml", *SMALL)
    hpsearch("test", "coarse", "-q")
    assert "tests    1 use of test images, which are counted no more\n" in hpsearch("delete", "coarse", code=2).stdout
    assert hpsearch.json("delete", "coarse", "-y")["tests"] == 1


def test_folders_of_trials_of_a_function_go(hpsearch):
    (hpsearch.folder / "own.py").write_text("def f(params, report):\n    return params['x']\n")
    hpsearch("coarse", "--objective", "own:f", "--space", "x=uniform(0,1)", "--trials", "2", "-q")
    [folder] = (hpsearch.folder / "studies" / "artifacts" / "trials").iterdir()
    assert f"folder   {folder.relative_to(hpsearch.folder)}\n" in hpsearch("delete", "coarse", "-y").stdout
    assert not folder.exists()


def test_a_study_at_work_is_not_deleted(hpsearch):
    process = hpsearch.held("coarse", "-c", "tiny.toml", "-q", "--epochs", "6", "--workers", "1")
    wait_until_held(hpsearch.folder)
    refused = hpsearch("delete", "coarse", "--yes", code=3)
    assert "'coarse' is at work" in refused.stderr
    assert refused.stderr.endswith("hpsearch stop coarse\n")
    go(hpsearch.folder)
    process.communicate()
    assert process.returncode == 0
    assert hpsearch.json("status")[0]["finished"] == 12


@pytest.mark.slow
def test_a_terminal_is_asked(hpsearch):
    hpsearch("coarse", "-c", "tiny.toml", *SMALL)
    for answer, code, left in (("n", 1, ["coarse"]), ("y", 0, [])):
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        where = {"keyboard": os.ttyname(theirs), "timeout": 600}
        done = warm_commands().run(["delete", "coarse"], hpsearch.folder, hpsearch.environment, **where)
        os.close(ours)
        os.close(theirs)
        assert done.returncode == code, done.stderr
        assert "Delete all of this? [y/N]" in done.stderr
        assert [row["study"] for row in hpsearch.json("status")] == left
