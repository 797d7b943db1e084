"""export --to: runs of nets, of objectives and of other programs, as the trackers' own readers see them."""

import csv
import math
import re
import sys
from pathlib import Path

import pytest

from hpsearch.analysis.trackers.mlflow import log_runs
from hpsearch.analysis.trackers.tensorboard import write_events
from hpsearch.errors import MissingExtraError

COMMANDS = {
    command.split()[command.split().index("--to") + 1]: command.split()
    for command in re.findall(
        r"^\$ hpsearch (.*)$", (Path(__file__).parents[2] / "docs/exports.md").read_text(), re.MULTILINE
    )
}
FOREIGN = pytest.mark.filterwarnings("ignore")  # MLflow's own, on its tables

CODE = """
def objective(params, report, epochs):
    if params["rate"] > 0.6:
        raise ValueError("rate too large")
    for epoch in range(1, epochs + 1):
        report(float("nan") if params["rate"] > 0.4 and epoch == 2 else params["rate"] * epoch, epoch)
    return params["rate"] * epochs
"""
DRAW = ("--sampler", "grid", "--space", "rate=choice(0.1,0.2,0.5,0.7)")
STATES = {"0.1": "finished", "0.2": "finished", "0.5": "exploded", "0.7": "failed"}
KILLED = {"exploded": "KILLED", "failed": "FAILED", "finished": "FINISHED"}


@pytest.fixture(scope="module")
def objective(tmp_path_factory, command_line):
    """A stage whose trials end in three ways."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "mine.py").write_text(CODE)
    place = command_line(folder)
    place("coarse", "--objective", "mine:objective", *DRAW, "--trials", "4", "--epochs", "3", "-q")
    return place


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_tables_of_nets_and_of_objectives(searched, objective):
    first = searched(*COMMANDS["csv"]).stderr
    assert "6 runs of 'fine' in tables\n" in first
    again = searched.json(*COMMANDS["csv"])
    assert (again["new"], again["replaced"]) == (0, 6)
    trials = {f"fine-{trial['number']}": trial for trial in searched.json("export", "fine")["trials"]}
    runs, history = (table(searched.folder / "tables" / f"{name}.csv") for name in ("runs", "history"))
    assert {run["Name"] for run in runs} == trials.keys()
    for run in runs:
        trial = trials[run["Name"]]
        assert float(run["config.lr"]) == trial["params"]["lr"]
        if run["State"] == "finished":
            assert float(run["summary.val_acc"]) == trial["value"]
            assert float(run["Runtime"]) > 0
            curve = [float(r["Value"]) for r in history if (r["Name"], r["Metric"]) == (run["Name"], "val_acc")]
            assert curve == list(trial["intermediate"].values())
    assert {"cost", "train_loss", "val_loss", "lr"} <= {row["Metric"] for row in history}

    objective("export", "coarse", "--to", "csv", "-o", "tables")
    runs, history = (table(objective.folder / "tables" / f"{name}.csv") for name in ("runs", "history"))
    assert {run["config.rate"]: run["State"] for run in runs} == STATES
    exploded = next(run for run in runs if run["State"] == "exploded")
    assert exploded["summary.value"] == ""
    assert [row["Value"] for row in history if row["Name"] == exploded["Name"]] == ["0.5", "nan"]


def test_tables_are_pandas_own(objective):
    pandas = pytest.importorskip("pandas")
    objective("export", "coarse", "--to", "csv", "-o", "tables")
    runs, history = (pandas.read_csv(objective.folder / "tables" / f"{name}.csv") for name in ("runs", "history"))
    assert sorted(runs["config.rate"]) == [0.1, 0.2, 0.5, 0.7]
    assert runs["summary.value"].count() == 2
    assert history.groupby("Name")["Value"].count().max() == 3


def test_the_place_and_the_form_are_said_where_they_must_be(searched):
    assert "--output FOLDER" in searched("export", "fine", "--to", "csv", code=2).stderr
    assert "one of them" in searched("export", "fine", "--to", "csv", "-f", "json", "-o", "x", code=2).stderr


@FOREIGN
def test_mlflow_reads_an_experiment_with_what_became_of_each_run(objective):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    said = objective.json("export", "coarse", "--to", "mlflow", "-o", "ml", **quiet)
    assert (said["new"], said["replaced"], said["unchanged"]) == (4, 0, 0)
    client = MlflowClient(tracking_uri=said["place"])
    assert said["place"] == f"sqlite:///{objective.folder}/ml/mlflow.db"
    experiment = client.get_experiment_by_name("coarse")

    def read():
        found = client.search_runs([experiment.experiment_id])
        return {run.data.params["rate"]: run for run in found}

    runs = read()
    assert {rate: run.data.tags["hpsearch.state"] for rate, run in runs.items()} == STATES
    assert {rate: run.info.status for rate, run in runs.items()} == {r: KILLED[s] for r, s in STATES.items()}
    best = runs["0.2"]
    assert best.data.tags["hpsearch.best"] == "true"
    assert best.data.metrics["trial_value"] == pytest.approx(0.6)
    curve = [(m.step, m.value) for m in client.get_metric_history(best.info.run_id, "value")]
    assert curve == [(1, 0.2), (2, 0.4), (3, pytest.approx(0.6))]
    assert best.info.end_time >= best.info.start_time > 1.6e12  # milliseconds
    exploded = client.get_metric_history(runs["0.5"].info.run_id, "value")
    assert [math.isnan(metric.value) for metric in exploded] == [False, True]
    assert {file.path for file in client.list_artifacts(best.info.run_id)} == {"best.toml"}
    assert {file.path for file in client.list_artifacts(runs["0.7"].info.run_id)} == {"traceback.txt"}

    client.set_tag(best.info.run_id, "hpsearch.digest", "of another state")
    again = objective.json("export", "coarse", "--to", "mlflow", "-o", "ml", **quiet)
    assert (again["new"], again["replaced"], again["unchanged"]) == (0, 1, 3)
    assert read().keys() == runs.keys()
    refused = objective("export", "coarse", "--to", "mlflow", "-o", "file:ml/old", code=2, **quiet).stderr
    assert "MLflow says" in refused


@FOREIGN
def test_mlflow_has_the_weights_of_the_best_net(searched):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    said = searched.json(*COMMANDS["mlflow"], MLFLOW_DISABLE_TELEMETRY="true")
    client = MlflowClient(tracking_uri=said["place"])
    experiment = client.get_experiment_by_name("fine")
    (best,) = client.search_runs([experiment.experiment_id], "tags.`hpsearch.best` = 'true'")
    assert {file.path for file in client.list_artifacts(best.info.run_id)} == {"best.toml", "weights.safetensors"}
    assert best.data.metrics["trial_value"] == searched.json("best", "fine")["value"]
    assert {"train_loss", "val_loss", "macro_f1"} <= best.data.metrics.keys()


def test_tensorboard_reads_scalars_and_the_table_of_hyperparameters(objective):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import api_pb2, metadata

    for _ in range(2):  # the second replaces the first
        said = objective.json(*("coarse" if word == "fine" else word for word in COMMANDS["tensorboard"]))
    assert (said["new"], said["replaced"]) == (0, 4)
    root = objective.folder / "runs" / "coarse"
    assert len(list(root.rglob("events.*"))) == 5

    def read(folder):
        found = EventAccumulator(str(folder))
        found.Reload()
        return found

    def content(found, tag):
        return found.SummaryMetadata(tag).plugin_data.content

    experiment = metadata.parse_experiment_plugin_data(content(read(root), metadata.EXPERIMENT_TAG))
    assert [info.name for info in experiment.hparam_infos] == ["rate", "state"]
    assert [info.name.tag for info in experiment.metric_infos] == ["trial_value", "value"]
    states = {}
    for number in range(4):
        run = read(root / str(number))
        start = metadata.parse_session_start_info_plugin_data(content(run, metadata.SESSION_START_INFO_TAG))
        end = metadata.parse_session_end_info_plugin_data(content(run, metadata.SESSION_END_INFO_TAG))
        rate, state = start.hparams["rate"].number_value, start.hparams["state"].string_value
        states[f"{rate}"] = state
        assert (end.status == api_pb2.STATUS_SUCCESS) == (state == "finished")
        if state == "finished":
            points = [(event.step, event.value) for event in run.Scalars("value")]
            assert points == [(epoch, pytest.approx(rate * epoch)) for epoch in (1, 2, 3)]
            assert run.Scalars("trial_value")[0].value == pytest.approx(3 * rate)
    assert states == STATES


@pytest.mark.parametrize("library", ["mlflow", "tensorboard"])
def test_a_tracker_that_is_missing_is_named_with_its_extra(library, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    exports = {
        "mlflow": lambda: log_runs([], "coarse", "key", str(tmp_path), {}),
        "tensorboard": lambda: write_events([], {}, "value", "coarse", tmp_path),
    }
    with pytest.raises(MissingExtraError) as raised:
        exports[library]()
    assert str(raised.value).splitlines() == [
        f"export --to {library} needs the package {library}.",
        f'Install it with: pip install "hpsearch[{library}]"',
    ]
    assert not list(tmp_path.iterdir())
