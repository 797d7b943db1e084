"""TensorBoard: scalars by epoch and the table of the HParams plugin, a folder for each trial."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpsearch.analysis.trackers.runs import VALUE, Exported, Plain, Run, RunState, plain_param
from hpsearch.config import Choice, IntRange, Range
from hpsearch.errors import ConfigError, MissingExtraError

SUFFIX = ".hpsearch"  # of the files that are ours, and that a second export replaces
STATE = "state"  # a column of the table: the plugin has no word for what is pruned or exploded
ENDS: dict[RunState, str] = {
    "finished": "STATUS_SUCCESS",
    "pruned": "STATUS_SUCCESS",
    "exploded": "STATUS_FAILURE",
    "failed": "STATUS_FAILURE",
    "running": "STATUS_RUNNING",
}


def write_events(runs: Sequence[Run], ranges: Mapping[str, Range], column: str, study: str, place: Path) -> Exported:
    """Write PLACE/STUDY/NUMBER, over what an earlier export wrote there.

    Args:
        runs: of a study.
        ranges: that were searched.
        column: the metric's name.
        study: its name.
        place: the folder that TensorBoard is told.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        ConfigError: the folder cannot be written.
    """
    try:
        from tensorboard.plugins.hparams import summary_v2
    except ModuleNotFoundError:
        raise MissingExtraError("export --to tensorboard", "tensorboard", "tensorboard") from None
    root = place / folder_name(study)
    hparams = [*(summary_v2.HParam(name, _domain(range_)) for name, range_ in ranges.items()), summary_v2.HParam(STATE)]
    metrics = [summary_v2.Metric(name) for name in (VALUE, column)]
    created = min((time for run in runs if (time := run.time_of(0)) is not None), default=0.0)
    try:
        head = summary_v2.hparams_config_pb(hparams, metrics, time_created_secs=created)
        _write(root, [(created, 0, head)])
        replaced = sum(_write(root / str(run.number), _events(run)) for run in runs)
    except OSError as error:
        raise ConfigError(f"--output {place} cannot be written: {error.strerror or error}.") from None
    return Exported(str(root), len(runs) - replaced, replaced)


def folder_name(study: str) -> str:
    """Names of studies are data: what would be a path is none."""
    quoted = urllib.parse.quote(study, safe=" ")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _domain(range_: Range) -> Any:
    from tensorboard.plugins.hparams import summary_v2

    if not isinstance(range_, Choice):
        interval = summary_v2.IntInterval if isinstance(range_, IntRange) else summary_v2.RealInterval
        return interval(range_.low, range_.high)
    values = [plain_param(value) for value in range_.values]
    if len({*map(type, values)}) > 1:  # of one type alone
        values = [str(value) for value in values]
    return summary_v2.Discrete(values)


def _events(run: Run) -> Iterable[tuple[float, int, Any]]:
    """Times, steps and summaries."""
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import summary_v2

    began = run.time_of(0) or 0.0
    params: dict[str, Plain] = {**run.params, STATE: run.state}
    yield began, 0, summary_v2.hparams_pb(params, trial_id=run.name, start_time_secs=began)
    for epoch, point in (*run.history, (0, run.numbers)):
        values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in point.items()]
        yield run.time_of(epoch) or 0.0, epoch, summary_pb2.Summary(value=values)
    if run.completed is not None:
        yield run.completed.timestamp(), 0, _end(run)


def _end(run: Run) -> Any:
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    assert run.completed is not None
    info = plugin_data_pb2.SessionEndInfo(
        status=getattr(api_pb2, ENDS[run.state]), end_time_secs=run.completed.timestamp()
    )
    kept = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
    value = summary_pb2.Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=kept, tensor=metadata.NULL_TENSOR)
    return summary_pb2.Summary(value=[value])


def _write(folder: Path, events: Iterable[tuple[float, int, Any]]) -> bool:
    """Whether there was one of ours already, which goes when the new one is whole."""
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    earlier = list(folder.glob(f"events.out.tfevents.*{SUFFIX}"))
    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    for time, step, summary in events:
        writer.add_event(event_pb2.Event(wall_time=time, step=step, summary=summary))
    writer.close()
    for path in earlier:
        path.unlink(missing_ok=True)
    return bool(earlier)
