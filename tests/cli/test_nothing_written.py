"""What is known to be wrong before a search begins leaves an empty folder empty."""

import logging

import pytest

from hpsearch.cli.app import app
from hpsearch.errors import ConfigError, DataError, RefusedError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in an empty folder, which stays empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPSEARCH_RUN__THREADS", "1")
    logger = logging.getLogger("hpsearch")
    before = logger.level, logger.handlers.copy(), logger.propagate

    def run(*arguments):
        try:
            app(list(arguments), standalone_mode=False)
        finally:
            assert list(tmp_path.iterdir()) == []

    yield run
    logger.setLevel(before[0])
    logger.handlers[:], logger.propagate = before[1:]


@pytest.mark.parametrize("command", [["coarse"], ["run"], ["compare", "--samplers", "random,qmc"]])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--devices", "cpu,cuda:99"], "cuda:99"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--engine", "graph", "--device", "cpu"], "'graph' does not run on cpu"),
        (["--engine", "rey"], "rey"),
        (["--set", "train.lrr=1"], "lrr"),
        (["--space", "lr=log(0,1)"], "lr"),
        (["--data", "folder:not-there"], "not-there"),
        (["-c", "not-there.toml"], "not-there.toml"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(run, command, wrong, named):
    with pytest.raises((ConfigError, DataError), match=named):
        run(*command, *wrong)


RANGE = ("--space", "a=log(0.1,1)")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["coarse", "--objective", "json:nope", *RANGE], "nope"),
        (["run", "--objective", "operator:setitem", *RANGE], "required argument"),
        (["compare", "--objective", "json:nope", *RANGE], "nope"),
        (["wrap", *RANGE, "--", "not-there", "{a}"], "not-there"),
        (["coarse", "--set", "model.init=small:100"], "initial loss"),
    ],
)
def test_what_is_refused_once_it_was_tried_has_written_nothing_either(run, command, named):
    with pytest.raises((ConfigError, RefusedError), match=named):
        run(*command, "--quiet")


def test_images_that_cannot_be_decoded_leave_no_cache(run, tmp_path_factory):
    photos = tmp_path_factory.mktemp("photos")
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        for split in ("train", "val", "test"):
            path = photos / split / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("no image")
    with pytest.raises(DataError, match="cannot be decoded"):
        run("coarse", "--data", f"folder:{photos}")


@pytest.mark.parametrize("command", [["coarse", "--dry-run"], ["run", "--dry-run", "--time", "5m"]])
def test_a_dry_run_writes_nothing(run, command, capsys):
    run(*command, "--data", "digits", "--quiet")
    assert "trials" in capsys.readouterr().out
