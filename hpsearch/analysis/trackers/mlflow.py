"""MLflow: an experiment for a study, a run for each trial, in a folder or wherever a tracking server is."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpsearch.analysis.trackers.runs import Exported, Run, RunState
from hpsearch.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

STATUS: dict[RunState, str] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "exploded": "KILLED",
    "failed": "FAILED",
    "running": "RUNNING",
}
"""As MLflow calls them; the tag hpsearch.state has our own words."""
PREFIX = "hpsearch."  # of tags
OF_STUDY, DIGEST = f"{PREFIX}study_key", f"{PREFIX}digest"
NOISY = ("mlflow", "alembic")  # they say how they make their database
BATCH = 100  # in a request; of metrics alone it would take 1000
ODD = re.compile(r"[^\w\-. :/]")  # in no name of MLflow's
PASSWORD = re.compile(r"//[^/@]*@")
URI = re.compile(r"[a-z][a-z0-9+\-]+:|databricks$")


def log_runs(
    runs: Sequence[Run], study: str, key: str, place: str | None, artifacts: Mapping[str, str | Path]
) -> Exported:
    """Write what is not there yet, and replace what has changed.

    Args:
        runs: of a study.
        study: its name, the experiment's.
        key: `study_key`.
        place: a tracking URI, or a folder, which gets a database and the artifacts; None: where MLflow itself looks.
        artifacts: of the best run, by name: text, or files.

    Raises:
        MissingExtraError: MLflow is not installed.
        ConfigError: MLflow says no.
    """
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mlflow":
            raise
        raise MissingExtraError("export --to mlflow", "mlflow", "mlflow") from None
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    uri, kept_in = _uri(place)
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(study)
        experiment = found.experiment_id if found else client.create_experiment(study, artifact_location=kept_in)
        return _log_all(client, experiment, runs, key, artifacts)
    except (MlflowException, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise ConfigError(f"--output {place or 'as MLflow has it'}: MLflow says: {said}") from None


def _uri(place: str | None) -> tuple[str | None, str | None]:
    """The tracking URI, and where artifacts are kept; None: as MLflow has it."""
    if place is None or URI.match(place):
        return place, None
    folder = Path(place).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {place} cannot be written: {error.strerror or error}.") from None
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def _log_all(
    client: MlflowClient, experiment: str, runs: Sequence[Run], key: str, artifacts: Mapping[str, str | Path]
) -> Exported:
    there = _runs_there(client, experiment, key)
    new = replaced = 0
    for run in runs:
        earlier = there.get(str(run.number))
        if earlier is not None and earlier.data.tags.get(DIGEST) == run.digest:
            continue
        if earlier is not None:
            client.delete_run(earlier.info.run_id)
        _log(client, experiment, run, key, artifacts if run.is_best else {})
        new, replaced = new + (earlier is None), replaced + (earlier is not None)
    return Exported(PASSWORD.sub("//", client.tracking_uri), new, replaced, len(runs) - new - replaced)


def _runs_there(client: MlflowClient, experiment: str, key: str) -> dict[str, Any]:
    """Those of the study, by the number of their trial."""
    found: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`{OF_STUDY}` = '{key}'", page_token=token)
        found |= {run.data.tags[f"{PREFIX}trial"]: run for run in page}
        token = page.token
        if not token:
            return found


def _log(client: MlflowClient, experiment: str, run: Run, key: str, artifacts: Mapping[str, str | Path]) -> None:
    from mlflow.entities import Metric, Param

    began = _milliseconds(run.time_of(0)) or 0
    tags = {f"{PREFIX}{name}": value for name, value in run.tags.items()}
    made = client.create_run(experiment, began, {**tags, OF_STUDY: key}, run.name)
    number = made.info.run_id
    params = [Param(_name(name), str(value)) for name, value in run.params.items()]
    for some in _batches(params):
        client.log_batch(number, params=some)
    metrics = [
        Metric(_name(name), value, _milliseconds(run.time_of(epoch)) or 0, epoch)
        for epoch, point in (*run.history, (0, run.numbers))
        for name, value in point.items()
    ]
    for some in _batches(metrics):
        client.log_batch(number, metrics=some)
    if run.traceback is not None:
        client.log_text(number, run.traceback, "traceback.txt")
    for name, artifact in artifacts.items():
        if isinstance(artifact, Path):
            with tempfile.TemporaryDirectory() as folder:  # a file goes by its own name
                client.log_artifact(number, shutil.copy(artifact, Path(folder) / name))
        else:
            client.log_text(number, artifact, name)
    client.set_tag(number, DIGEST, run.digest)  # the last: a run without it is written again
    if run.state != "running":
        ended = run.completed.timestamp() if run.completed is not None else None
        client.set_terminated(number, STATUS[run.state], _milliseconds(ended))


def _batches(values: Sequence[Any]) -> Iterator[list[Any]]:
    return (list(values[first : first + BATCH]) for first in range(0, len(values), BATCH))


def _name(name: str) -> str:
    return ODD.sub("_", name)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)
