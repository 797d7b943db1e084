"""run, test and rerun from end to end, as subprocesses in an empty folder."""

import inspect
import json
import re
import shlex
import signal
import typing

import pytest
from held_searches import go, wait_until_held, wait_until_told

from hpsearch.analysis import attributes
from hpsearch.analysis.decision import MAX_STAGES
from hpsearch.analysis.gain import MIN_GAIN
from hpsearch.cli import procedure, procedure_run
from hpsearch.cli.rerun import _meaning
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, open_database


@pytest.fixture(scope="module")
def ran(searched):
    """The tiny search as `hpsearch run` finds it: coarse and fine are there already."""
    searched.run = searched("run", "-c", "tiny.toml", "--max-stages", "2")
    return searched


@pytest.mark.slow
def test_run_goes_on_from_what_the_commands_made_by_hand(ran):
    assert re.search(r"^go on +coarse trained 2 epochs", ran.run.stdout, re.MULTILINE)
    assert re.search(r"^stop ", ran.run.stdout, re.MULTILINE)
    assert re.search(r"^next +hpsearch test (coarse|fine)$", ran.run.stdout, re.MULTILINE)
    assert "(1 / 12)" not in ran.run.stdout
    assert {row["study"] for row in ran.json("status")} == {"coarse", "fine"}


def test_run_from_an_empty_folder(hpsearch):
    done = hpsearch("run", "-c", "tiny.toml", "--name", "mine", "--max-stages", "2")
    assert "(12 / 12)" in done.stdout
    assert re.search(r"^checks +\S", done.stdout, re.MULTILINE)
    assert re.search(r"^lr +\[.*\] -> \[", done.stdout, re.MULTILINE)
    studies = {row["study"]: row["finished"] for row in hpsearch.json("status")}
    assert studies == {"mine-coarse": 12, "mine-fine": 6}


def test_run_as_json_says_what_it_decided(ran):
    document = ran.json("run", "-c", "tiny.toml", "--max-stages", "2")
    assert [stage["study"] for stage in document["stages"]] == ["coarse", "fine"]
    assert [stage["go_on"] for stage in document["stages"]] == [True, False]
    assert document["reason"] == document["stages"][-1]["reason"]
    assert document["ending"] in ("settled", "stages")
    best = document["best"]
    assert best["value"] == max(stage["best"]["value"] for stage in document["stages"])
    assert best["epochs"] == {"coarse": 2, "fine": 3}[best["study"]]
    assert document["next"] == f"hpsearch test {best['study']}"


@pytest.mark.slow
def test_run_draws_the_report_when_asked(ran):
    ran("run", "-c", "tiny.toml", "--max-stages", "2", "--report", "report.html")
    assert "<html" in (ran.folder / "report.html").read_text()[:500]
    refused = ran("run", "-c", "tiny.toml", "--report", "nowhere/report.html", code=2)
    assert "--report nowhere/report.html" in refused.stderr


def test_a_time_budget_leaves_a_stage_and_the_same_command_goes_on(hpsearch):
    arguments = ("run", "-c", "tiny.toml", "--max-stages", "1", "--set", "run.width=3")
    stopped = hpsearch(*arguments, "--time", "0.001s")
    assert "the time is up; coarse is left at" in stopped.stdout
    again = stopped.stdout.splitlines()[-1]
    assert again == f"next     hpsearch {shlex.join(arguments)} --time 0.001s"
    assert "hpsearch test" not in stopped.stdout
    standing = hpsearch.json("status", "coarse")
    assert standing["states"]["WAITING"] > 0
    assert "none of them" in standing["advice"] or "0 of 8" in standing["advice"]
    hpsearch(*shlex.split(standing["next"])[1:])  # without the study file: all of it is in the flags
    assert hpsearch.json("status", "coarse")["states"].get("WAITING", 0) == 0
    done = hpsearch.json(*arguments, "--time", "10m")
    assert done["ending"] == "stages"
    assert done["next"] == "hpsearch fine --from coarse"


def test_nothing_is_said_of_rates_before_a_trial_has_finished(hpsearch):
    """Explosions end first; the command that makes a stage whole again, found by its study alone."""
    db = open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db", create=True)
    settings = load_settings(hpsearch.folder / "tiny.toml")
    attrs = {attributes.STAGE: "coarse", attributes.CONFIG: settings.study.plain()}
    study = create_stage(db, "coarse", "maximize", attrs, settings.study.space, [NewTrial({"lr": 1.0})] * 100)
    queue = Queue(db, study, "vm-abc/1/x")
    queue.finish([Outcome(x, "PRUNED", 0.0, {attributes.REASON: attributes.EXPLODED}) for x in queue.take(3)])
    shown = hpsearch("status", "coarse").stdout
    assert re.search(r"^coarse +3 of 100 trials x 2 epochs · 3 exploded$", shown, re.MULTILINE)
    assert re.search(r"^best +none yet: no trial has finished$", shown, re.MULTILINE)
    assert "rates" not in shown
    queue.finish([Outcome(x, "PRUNED", 0.0, {attributes.REASON: attributes.EXPLODED}) for x in queue.take(97)])
    db.close()
    shown = hpsearch("status", "coarse").stdout
    assert "search lower learning rates" in shown
    assert re.search(r"^next +hpsearch run --name lower .*--space 'lr=log\(1e-09, 1e-05\)'$", shown, re.MULTILINE)


@pytest.mark.slow
def test_a_search_that_ends_low_says_what_to_try(hpsearch):
    """Classes that no small net tells apart, on images large enough for convolutions; the file by a relative path."""
    import numpy as np

    draw = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = draw.normal(size=(300, 8, 8, 1)) + 0.13 * draw.normal(size=(3, 8, 8, 1))[y]
    np.savez(hpsearch.folder / "x.npz", x_train=x.astype(np.float32), y_train=y, x_test=x, y_test=y)
    flags = ("--data", "npz:x.npz", "-c", "tiny.toml", "--set", "data.val=0.5", "--set", "fine.sampler=random")
    words = ("run", *flags, "--max-stages", "9", "--gain", "0.5", "--skip-checks")
    done = hpsearch(*words).stdout
    command = re.search(
        r"^next +(hpsearch run --name convnet --data npz:x.npz .*--model convnet.*)$", done, re.MULTILINE
    )
    assert command, done
    assert re.search(r"^advice +the best trial, \d+ of .* try a convnet; if 0\.\d+ is enough", done, re.MULTILINE)
    assert re.search(r"^or +hpsearch test (coarse|fine)", done, re.MULTILINE)
    planned = hpsearch.json("coarse", *shlex.split(command[1])[4:], "--dry-run")
    assert (planned["trials"], planned["epochs"]) == (12, 2)
    timed = hpsearch(*words, "--time", "10m").stdout  # all is done: it only says what to do next
    assert f"\nnext     {command[1]} --time 10m\n" in timed

    last = re.search(r"^or +hpsearch test (\S+)", done, re.MULTILINE)[1]
    hpsearch("coarse", *shlex.split(command[1])[4:], "--name", "convnet-coarse", "--skip-checks")
    again = hpsearch("status", last).stdout
    assert "convnet-coarse did that: " in again
    assert re.search(r"^next +hpsearch status convnet-coarse$", again, re.MULTILINE)


def test_an_interrupted_run_says_how_to_go_on(hpsearch):
    arguments = ("run", "-c", "tiny.toml", "--set", "coarse.epochs=5", "--set", "run.width=3")
    process = hpsearch.held(*arguments, packs=1)
    wait_until_held(hpsearch.folder)
    process.send_signal(signal.SIGTERM)
    wait_until_told(hpsearch.folder)
    go(hpsearch.folder)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143, errors
    assert "Go on with: hpsearch run -c tiny.toml" in errors
    assert hpsearch.json("status", "coarse")["states"].get("RUNNING", 0) == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("1m30s", 90)]
)
def test_times(text, seconds):
    assert procedure_run.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "10x", "m", "-5", "10 m s", "nan"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ConfigError, match="90s, 10m, 1h30m"):
        procedure_run.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "5s"), (37.5, "40s"), (94, "95s"), (100, "2m"), (3590, "1h"), (9000, "2h30m"), (7210, "2h")],
)
def test_a_time_that_is_proposed_is_round_and_can_be_given(seconds, text):
    assert procedure_run.round_duration(seconds) == text
    assert procedure_run.parse_duration(text) == pytest.approx(seconds, rel=0.2, abs=5)


def test_the_documented_defaults_are_the_real_ones():
    parameters = inspect.signature(procedure.run).parameters
    assert parameters["max_stages"].default == MAX_STAGES
    [_, option] = typing.get_args(typing.get_type_hints(procedure.run, include_extras=True)["gain"])
    assert f"default: {MIN_GAIN}" in option.help


def test_test_reports_and_counts_its_uses(ran):
    first = ran("test", "fine", "--seeds", "2")
    assert re.search(r"^test_acc 0\.\d{4}|1\.0000 +95% \[.*\(Wilson, 9 test images\)", first.stdout, re.MULTILINE)
    assert "seed 1: test_acc" in first.stderr
    assert re.search(r"^seeds +2: std", first.stdout, re.MULTILINE)
    assert "this is use" not in first.stdout
    assert re.search(r"^trained .*; the weights of the best epochs, \d, \d$", first.stdout, re.MULTILINE)
    second = ran.json("test", "fine", "--train-on-val")
    assert second["measured_epochs"] == second["trained_epochs"] == [second["epochs"]]
    assert (second["use"], second["family_use"], second["family"]) == (2, 2, "coarse")
    assert len(second["confusion"]) == len(second["per_class"]) == 3
    third = ran("test", "coarse")
    assert (
        "this is use 3 of these test images (use 1 by coarse, use 3 by all that descends from coarse): an"
        in third.stdout
    )
    said = r"^test +these test images have been used 3 times by the searches here, 2 times by fine$"
    assert re.search(said, ran("status", "fine").stdout, re.MULTILINE)
    assert ran.json("status", "coarse")["test_images_uses"] == 3


def test_a_use_of_the_test_set_is_known_to_all_that_descends_from_the_same_coarse(ran):
    ran("test", "coarse")
    assert "hpsearch test" not in ran("status", "fine").stdout


def test_test_of_data_without_a_test_split_fails_plainly(hpsearch):
    import numpy as np

    np.savez(hpsearch.folder / "x.npz", x_train=np.random.default_rng(0).random((60, 16)), y_train=np.arange(60) % 3)
    hpsearch("run", "--data", "npz:x.npz", "-c", "tiny.toml", "--max-stages", "1", "--skip-checks")
    failed = hpsearch("test", "coarse", code=1)
    assert "x.npz has no x_test" in failed.stderr


def test_rerun_follows_the_curve_and_weighs_the_seeds(ran):
    number = ran.json("best", "fine")["number"]
    done = ran("rerun", "fine", number, "--seeds", "3")
    assert re.search(rf"^trial +{number} of fine followed its recorded curve", done.stdout, re.MULTILINE)
    assert re.search(r"^seeds +3: val_acc \d\.\d{4}, std", done.stdout, re.MULTILINE)
    meant = r"^meaning +the (best trial leads the second by|two best trials have the same value)"
    assert re.search(meant, done.stdout, re.MULTILINE)


def test_rerun_of_an_explosion(ran):
    trials = json.loads(ran("export", "coarse", "-f", "json").stdout)["trials"]
    exploded = next(trial for trial in trials if trial["state"] == "PRUNED")
    done = ran("rerun", "coarse", exploded["number"], "--seeds", "2")
    document = ran.json("rerun", "coarse", exploded["number"], "--seeds", "1")
    assert document["explosion"] == document["recorded_explosion"] == [1, exploded["attributes"]["step"]]
    step = exploded["attributes"]["step"]
    assert f"in epoch {exploded['attributes']['epoch']}, step {step}, as recorded" in done.stdout
    assert "2 of 2 exploded" in done.stdout


@pytest.mark.parametrize("command", ["run", "test", "rerun"])
def test_the_help_has_an_example(hpsearch, command):
    assert f"hpsearch {command}" in hpsearch(command, "--help").stdout.split("Example:")[1]


def test_two_trials_of_one_value_are_no_lead():
    assert "which of them is first is luck" in _meaning(0.0, 0.0, "{:.4f}".format, "seeds")
    assert "less than seeds move" in _meaning(0.02, 0.01, "{:.4f}".format, "seeds")
    assert "more than twice" in _meaning(0.001, 0.01, "{:.4f}".format, "seeds")
    assert "seeds move nothing" in _meaning(0.0, 0.01, "{:.4f}".format, "seeds")
