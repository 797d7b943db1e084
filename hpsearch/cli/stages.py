"""coarse and fine: the commands that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpsearch.cli.fleet_options import (
    DevicesOption,
    EngineOption,
    KeepOption,
    RayAddressOption,
    WorkersOption,
    fleet_flags,
    split_devices,
)
from hpsearch.cli.options import (
    ConfigOption,
    JsonOption,
    QuietOption,
    SeedOption,
    SetOption,
    SpaceOption,
    StorageOption,
    TrustOption,
    VerboseOption,
    read_settings,
    set_verbosity,
)
from hpsearch.cli.searching import run_stage, show_plan
from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    from hpsearch.search.plan import StagePlan
    from hpsearch.storage import Database, StudyRow

TrialsOption = Annotated[int | None, typer.Option(min=1, help="The budget: exactly so many trials.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Epochs of each trial.")]
SamplerOption = Annotated[str | None, typer.Option(help="random, qmc, grid, tpe, gp or cmaes.")]
PrunerOption = Annotated[str | None, typer.Option(help="none, or one of Optuna's: median, hyperband, patient, ...")]
NameOption = Annotated[str | None, typer.Option(help="Name of the study.")]
DataOption = Annotated[
    str | None, typer.Option(help="digits, cifar10, folder:PATH, npz:PATH, ... See: hpsearch data list.")
]
ModelOption = Annotated[str | None, typer.Option(help="linear, mlp, lenet, convnet, resnet, or MODULE:FUNCTION.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
SkipChecksOption = Annotated[bool, typer.Option("--skip-checks", help="Search even where the net cannot learn.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its estimated time; write nothing.")]


def coarse(
    epochs: EpochsOption = None,
    trials: TrialsOption = None,
    config: ConfigOption = None,
    name: NameOption = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="CHECK", help="Take lr's range from a check, and the config.")
    ] = None,
    data: DataOption = None,
    model: ModelOption = None,
    sampler: SamplerOption = None,
    pruner: PrunerOption = None,
    sets: SetOption = None,
    space: SpaceOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = 0,
    devices: DevicesOption = None,
    engine: EngineOption = None,
    ray_address: RayAddressOption = None,
    keep: KeepOption = None,
    storage: StorageOption = None,
    trust: TrustOption = None,
    skip_checks: SkipChecksOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Search wide and short: many trials of few epochs, rates and regularization drawn log-uniformly.

    A new search begins with a few quick checks: initial loss, regularization, 20 images learnt by heart. The same
    command again goes on where it was stopped.

    Example: `hpsearch coarse --epochs 5 --space 'lr=log(1e-6,1e-3)'` or, after a check, `hpsearch coarse --from check`
    """
    set_verbosity(verbose, quiet)
    check, stored = _find_check(source, config, storage) if source is not None else (None, None)
    flags = stage_flags("coarse", trials, epochs, sampler, pruner, seed, data, model, device)
    flags |= fleet_flags(engine, ray_address, keep)
    settings = read_settings(config, sets, space, storage=storage, stored=stored, flags=flags, trusted=trust)

    from hpsearch.search.plan import plan_coarse

    plan = plan_coarse(settings, name or "coarse", check)
    if dry_run:
        show_plan(plan, settings, as_json, workers, split_devices(devices))
        return
    run_stage(lambda _db: plan, settings, as_json, quiet, workers, split_devices(devices), skip_checks)


def fine(
    source: Annotated[str, typer.Option("--from", metavar="STUDY", help="The study to narrow: any in the storage.")],
    epochs: EpochsOption = None,
    trials: TrialsOption = None,
    config: ConfigOption = None,
    name: NameOption = None,
    data: DataOption = None,
    model: ModelOption = None,
    sampler: SamplerOption = None,
    pruner: PrunerOption = None,
    sets: SetOption = None,
    space: SpaceOption = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAM=NAME", help="What a parameter of the study is called here; none drops it."),
    ] = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = 0,
    devices: DevicesOption = None,
    engine: EngineOption = None,
    ray_address: RayAddressOption = None,
    keep: KeepOption = None,
    storage: StorageOption = None,
    trust: TrustOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Narrow the ranges of a study to where its trials did well, and train longer.

    Data, model and training are those of the study, unless a study file is given with -c; its ranges do not count
    then, only those given with --space.

    Example: `hpsearch fine --from coarse --trials 50 --epochs 20`
    """
    set_verbosity(verbose, quiet)

    from hpsearch.search.evidence import gather
    from hpsearch.search.plan import plan_fine
    from hpsearch.search.stages import keep_stored_ranges
    from hpsearch.search.summary import stored_config
    from hpsearch.storage import open_database

    base = read_settings(config, storage=storage)
    db = open_database(base.run.storage)
    evidence = gather(db, source, _parse_renames(rename or []))
    stored = None if config else stored_config(evidence)
    if stored is None and config is None and not quiet:
        typer.echo(f"note: {source!r} holds no study file; what -c and flags do not say is as by default", err=True)
    flags = stage_flags("fine", trials, epochs, sampler, pruner, seed, data, model, device)
    flags |= fleet_flags(engine, ray_address, keep)
    settings = read_settings(config, sets, space, storage=storage, stored=stored, flags=flags, trusted=trust)
    plan = plan_fine(evidence, settings, name, strict=not dry_run)
    if dry_run:
        show_plan(plan, settings, as_json, workers, split_devices(devices))
        return
    if evidence.num_finished < len(evidence.trials) and not quiet:
        typer.echo(
            f"note: {source!r} is not finished ({evidence.num_finished} of {len(evidence.trials)} trials)", err=True
        )

    def planned(db: Database) -> StagePlan:
        kept, moved = keep_stored_ranges(db, plan, settings.ranges_given)
        if moved and not quiet:
            typer.echo(f"note: {source!r} has gone on; {kept.name!r} keeps the ranges it started with", err=True)
        return kept

    run_stage(planned, settings, as_json, quiet, workers, split_devices(devices))


def _find_check(source: str, config: str | None, storage: str | None) -> tuple[StudyRow, dict[str, Any] | None]:
    """The study of a check, and its config unless a study file is given."""
    from hpsearch.search import attributes
    from hpsearch.storage import find_study, open_database

    study = find_study(open_database(read_settings(config, storage=storage).run.storage), source)
    return study, None if config else study.attrs.get(attributes.CONFIG)


def stage_flags(
    kind: str,
    trials: int | None,
    epochs: int | None,
    sampler: str | None,
    pruner: str | None,
    seed: int | None,
    data: str | None,
    model: str | None,
    device: str | None,
) -> dict[str, Any]:
    """The flags of a stage by the keys that they set; None where one is not given."""
    return {
        f"{kind}.trials": trials,
        f"{kind}.epochs": epochs,
        f"{kind}.sampler": sampler,
        f"{kind}.pruner": pruner,
        f"{kind}.seed": seed,
        "train.seed": seed,
        "data.source": data,
        "model.name": model,
        "run.device": device,
    }


def _parse_renames(renames: list[str]) -> dict[str, str | None]:
    parsed: dict[str, str | None] = {}
    for text in renames:
        old, sign, new = text.partition("=")
        if not sign or not new:
            raise ConfigError(f"--rename {text} is not allowed.\nAllowed: --rename PARAM=NAME, --rename PARAM=none.")
        parsed[old] = None if new == "none" else new
    return parsed
