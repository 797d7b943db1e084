"""What a fine stage knows of the stages before it, and how to begin without."""

import json
import re

import pytest

SEARCH = ("coarse", "-c", "tiny.toml", "--trials", "12", "--epochs", "1")
FINE = ("fine", "--from", "coarse", "--trials", "3", "--epochs", "2")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, command_line, tiny_study):
    folder = tmp_path_factory.mktemp("forget")
    (folder / "tiny.toml").write_text(tiny_study)
    line = command_line(folder)
    line(*SEARCH)
    line.fine = line(*FINE)
    return line


@pytest.mark.slow
def test_it_says_how_many_trials_of_which_study_it_knows(searched):
    found = re.search(r"it learns from all that (?:are|have ended), and from (\d+) of coarse", searched.fine.stderr)
    assert found is not None
    assert int(found[1]) >= 1
    status = json.loads(searched("status", "fine", "--json").stdout)
    assert status["learning"]["earlier"] == {"coarse": int(found[1])}


def test_with_forget_it_begins_without_and_is_another_search(searched):
    assert searched(*FINE, "--forget", code=3).stderr.count("forget") >= 1
    fresh = searched(*FINE, "--forget", "--name", "fresh")
    assert re.search(r"it learns from all that (are|have ended)\n", fresh.stderr)


@pytest.mark.slow
def test_a_source_that_was_deleted_since_is_no_reason_to_stop(searched):
    import optuna

    storage = f"sqlite:///{searched.folder}/studies/hpsearch.db"
    stopped = ("fine", "--from", "coarse", "--trials", "4", "--epochs", "2", "--name", "later")
    searched(*stopped)
    optuna.delete_study(study_name="coarse", storage=storage)
    assert "4 of 4 trials" in searched("status", "later").stdout
