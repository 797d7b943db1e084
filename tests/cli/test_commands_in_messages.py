"""Commands that a refusal names can be copied: they find the storage that the refused command was about."""

import shlex

import pytest

OWN = """
def raises(params):
    raise ValueError("no")
"""
TRIALS = ("--trials", "2", "--epochs", "1", "-q")


def named(done):
    """The command at the end of a message, without the program's name."""
    words = shlex.split(done.stderr.strip().splitlines()[-1].partition(": ")[2])
    assert words[0] == "hpsearch"
    return words[1:]


def test_a_search_around_given_values(hpsearch):
    elsewhere = ("--storage", "sqlite:///a place/studies.db")
    hpsearch("train", "-c", "tiny.toml", "--name", "given", "-q", *elsewhere)
    for refused in (("fine", "--from", "given"), ("boundary", "given")):
        command = named(hpsearch(*refused, *elsewhere, code=3))
        assert command == ["coarse", "--from", "given", *elsewhere]
    hpsearch(*command, *TRIALS)


@pytest.mark.parametrize("how", ["option", "file", "environment"])
def test_the_first_search_of_a_storage(hpsearch, how):
    url, options, environment = "sqlite:///there.db", (), {}
    study_file = (hpsearch.folder / "tiny.toml").read_text()
    if how == "option":
        options = ("--storage", url)
    elif how == "file":
        study_file += f'[run]\nstorage = "{url}"\n'
    else:
        environment = {"HPSEARCH_STORAGE": url}
    (hpsearch.folder / "mine.toml").write_text(study_file)
    refused = hpsearch("fine", "--from", "coarse", "-c", "mine.toml", *options, code=1, **environment)
    command = named(refused)
    assert command == ["coarse", "--config", "mine.toml", *(() if environment else ("--storage", url))]
    hpsearch(*command, *TRIALS, **environment)
    assert (hpsearch.folder / "there.db").exists()


def test_an_objective_of_which_nothing_was_found(hpsearch):
    (hpsearch.folder / "own.py").write_text(OWN)
    elsewhere = ("--storage", "sqlite:///other.db")
    objective = ("--objective", "own:raises", "--space", "rate=uniform(0,1)")
    first = hpsearch("fine", "--from", "coarse", *objective[:2], *elsewhere, code=1)
    assert named(first) == ["coarse", *objective[:2], *elsewhere]
    hpsearch("coarse", *objective, "--trials", "2", "-q", *elsewhere, code=1)
    command = named(hpsearch("fine", "--from", "coarse", *elsewhere, code=3))
    assert "ValueError: no" in hpsearch(*command).stdout


def test_a_stage_of_explosions(hpsearch):
    elsewhere = ("--storage", "sqlite:///other.db")
    hpsearch("coarse", "-c", "tiny.toml", "-q", *elsewhere, "--space", "lr=log(1e6,1e7)", "--trials", "2")
    command = named(hpsearch("fine", "--from", "coarse", *elsewhere, code=3))
    assert command[0] == "run"
    assert command[-2:] == list(elsewhere)
    assert "train.batch_size=20" in command
    assert command == shlex.split(hpsearch.json("status", "coarse", *elsewhere)["next"])[1:]
