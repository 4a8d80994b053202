"""The ``loupe`` command: thin, and quick to answer; each verb imports what it needs."""

import json
import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from loupe.errors import LoupeError, shown

app = typer.Typer(
    help="Reproducible notebooks of thirteen papers: compute, run, judge, publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="List the data sets; fetch and verify them.", rich_markup_mode=None)
app.add_typer(data_app, name="data")

Slugs = Annotated[list[str], typer.Argument(help="Chapters, as in `loupe list`.", show_default=False)]
AnySlugs = Annotated[
    list[str] | None, typer.Argument(help="Chapters; all that have results if none is given.")
]
PresetName = Annotated[str, typer.Option(help="smoke, cpu, gpu or paper.")]
Seed = Annotated[int | None, typer.Option(help="One seed instead of all that the preset lists.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the preset.")
]
Jobs = Annotated[int | None, typer.Option(help="Units at once; by default one per core, or one on a GPU.")]
Recompute = Annotated[bool, typer.Option(help="Compute again what has a result.")]


def main() -> None:
    """Entry point: a :class:`~loupe.errors.LoupeError` becomes one sentence and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no "●" is no reason to stop
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except LoupeError as error:
        sys.exit(f"loupe: {error}")
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)  # who reads has seen enough
    except OSError as error:
        _forget_output()
        where = error.filename or "the output"
        sys.exit(
            f"loupe: {where} cannot be used ({error.strerror or error}): mend that and type the same again."
        )


def _forget_output() -> None:
    # What could not be written would be tried again at the end, with a traceback.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from loupe import __version__

        typer.echo(f"loupe {__version__}")
        raise typer.Exit


@app.command("list")
def list_papers() -> None:
    """List the papers with the presets that have been judged and their verdicts."""
    from loupe.experiment.folders import Folders, standing_verdicts
    from loupe.experiment.render import tally
    from loupe.papers import PAPERS

    table = _table("chapter", "paper", "venue", "judged at", "verdicts")
    for paper in PAPERS.values():
        found = {} if paper.planned else standing_verdicts(Folders.default(), paper.slug)
        # A ledger of other results than those that are stored is not shown.
        verdicts = ["judge again: loupe compute" if one is None else tally(one) for one in found.values()]
        judged = "\n".join(found) or ("planned" if paper.planned else "nowhere yet")
        style = "dim" if paper.planned else None
        table.add_row(paper.slug, paper.title, paper.venue, judged, "\n".join(verdicts), style=style)
    _print(table)
    typer.echo("\n● reproduced   ◐ partly or inconclusive   ✕ not reproduced   ○ not tested here")


@app.command()
def compute(
    slugs: Slugs,
    preset: PresetName = "smoke",
    experiment: Annotated[str | None, typer.Option(help="One experiment instead of all.")] = None,
    seed: Seed = None,
    settings: Settings = None,
    jobs: Jobs = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N; by default a GPU if there is one.")
    ] = None,
    recompute: Recompute = False,
    mark: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="For workflows: judge nothing, and write FILE when a unit is stored."
        ),
    ] = None,
) -> None:
    """Fill the store: compute the results that are missing. Needs no Jupyter; stop and go on as you like."""
    overrides = _parse_settings(settings)
    if mark is not None:
        _compute_and_mark(mark, slugs, preset, experiment, seed, overrides, device, recompute)
        return
    for slug in slugs:
        _compute(slug, preset, experiment, seed, overrides, jobs, device, recompute)


def _compute_and_mark(mark, slugs, preset, experiment, seed, overrides, device, recompute) -> None:
    """One unit as one job among many: a line when it ends, and no ledger until all are there."""
    from pathlib import Path

    from loupe.experiment.compute import compute
    from loupe.experiment.outdated import identity, write_mark
    from loupe.experiment.store import Store
    from loupe.experiment.units import room_of, units_of

    store = Store.default()
    units = [
        unit
        for slug in slugs
        for unit in units_of(room_of(slug), preset, overrides, experiment=experiment, seed=seed)
    ]
    if len(units) != 1:
        raise LoupeError(f"--mark is for one unit and this is {len(units)}: give --experiment and --seed.")
    end = f"[1/1] {units[0]}: "

    def report(line: str) -> None:
        if line.startswith(end):
            typer.echo(line.removeprefix("[1/1] "))

    compute(units, store, jobs=1, device=device, recompute=recompute, report=report)
    write_mark(Path(mark), identity(store.find(units[0])))


def _compute(slug, preset, experiment, seed, overrides, jobs, device, recompute) -> None:
    from loupe.experiment.chapter import Stored, write_ledger
    from loupe.experiment.compute import compute
    from loupe.experiment.folders import show_path
    from loupe.experiment.render import tally
    from loupe.experiment.store import Store
    from loupe.experiment.units import room_of, units_of

    store, room = Store.default(), room_of(slug)
    units = units_of(room, preset, overrides, experiment=experiment, seed=seed)
    if not units:
        raise LoupeError(f"{slug} has nothing to run at {preset} with these settings: give it seeds.")
    official = not overrides and (preset == "smoke" or all(unit.published for unit in units))
    try:
        done = compute(units, store, jobs=jobs, device=device, recompute=recompute, report=typer.echo)
    except LoupeError:
        if official and store.sidecars(slug, preset):
            write_ledger(slug, preset, store)  # what did finish counts
        raise
    if not done:
        typer.echo(f"{slug}: all {len(units)} results are stored at {preset}; nothing to compute.")
    _warn_of_other_code(Stored(room, preset, store, overrides, seed))
    if official:
        verdicts = tally([judgement.verdict for judgement in write_ledger(slug, preset, store)])
        typer.echo(f"{slug} at {preset}: {verdicts} ({show_path(store.ledger_file(slug, preset))})")


def _warn_of_other_code(stored) -> None:
    """Say which stored results were made by code that has changed since."""
    from loupe.experiment.chapter import State

    other = State.of(stored).other_code
    if other:
        what = f"{stored.room.PAPER.slug} at {stored.preset}: {len(other)} results were made by other code than today's"
        typer.echo(
            f"{what} ({', '.join(other[:3])}{', …' * (len(other) > 3)}); --recompute makes them again.",
            err=True,
        )


@app.command()
def run(
    slugs: Slugs,
    preset: PresetName = "smoke",
    seed: Seed = None,
    settings: Settings = None,
    jobs: Jobs = None,
    recompute: Recompute = False,
) -> None:
    """Compute what is missing, then execute the notebook with papermill into `.loupe/runs/`."""
    from loupe.publishing.notebooks import run_notebook

    overrides = _parse_settings(settings)
    for slug in slugs:
        _compute(slug, preset, None, seed, overrides, jobs, None, recompute)
        notebook, ledger = run_notebook(slug, preset=preset, seed=seed, overrides=overrides)
        typer.echo(f"executed notebook: {notebook}\nledger: {ledger}")


@app.command()
def publish(slugs: Slugs) -> None:
    """Execute a chapter at the highest preset that has results and write it back to `notebooks/`."""
    from loupe.experiment.chapter import Stored
    from loupe.experiment.store import Store
    from loupe.experiment.units import room_of
    from loupe.publishing.notebooks import publish_notebook

    for slug in slugs:
        path, preset, changed = publish_notebook(slug)
        _warn_of_other_code(Stored(room_of(slug), preset, Store.default()))
        typer.echo(f"{path}: published at {preset}" + ("" if changed else ", unchanged"))


@app.command()
def claims(
    slugs: AnySlugs = None,
    preset: Annotated[
        str | None, typer.Option(help="Judge at this preset; by default at all that have results.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the stored ledgers with today's verdicts instead.")
    ] = False,
) -> None:
    """Judge the claims on what is stored. Exit status 1 if an exact claim fails."""
    from loupe.experiment.chapter import Stored, judge_all
    from loupe.experiment.claims import failed_exact
    from loupe.experiment.folders import PRESET_NAMES
    from loupe.experiment.render import ledger
    from loupe.experiment.store import Store
    from loupe.experiment.units import room_of
    from loupe.papers import PAPERS

    if preset is not None and preset not in PRESET_NAMES:
        raise LoupeError(f"no preset is called {shown(preset)}: choose one of {', '.join(PRESET_NAMES)}.")
    store = Store.default()
    output, failed = [], []
    slugs = slugs or [paper.slug for paper in PAPERS.values() if not paper.planned]
    if check:
        _check_ledgers(slugs, [preset] if preset else PRESET_NAMES, store)
        return
    for slug in slugs:
        room = room_of(slug)
        for name in [preset] if preset else PRESET_NAMES:
            if not store.sidecars(slug, name):
                continue
            judgements = judge_all(Stored(room, name, store))
            _warn_of_other_code(Stored(room, name, store))
            failed += failed_exact(judgements)
            one = [judgement.to_json() for judgement in judgements]
            output.append({"slug": slug, "preset": name, "claims": one})
            if not as_json:
                typer.echo(f"{slug} at {name}\n\n{ledger({name: one}, name)}\n")
    if as_json:
        typer.echo(json.dumps(output, indent=1, ensure_ascii=False))
    elif not output:
        typer.echo("no results are stored yet: `loupe compute SLUG --preset P` makes them.")
    if failed:
        names = ", ".join(f"{one.claim.id} at {one.preset}" for one in failed)
        raise LoupeError(f"exact claims that do not hold: {names}.")


def _check_ledgers(slugs, presets, store) -> None:
    """Refuse ledgers that do not follow from the stored results, one line each."""
    from loupe.experiment.chapter import check_ledger

    wrong, sound = [], 0
    for slug in slugs:
        for preset in presets:
            if preset == "smoke" or not (
                store.sidecars(slug, preset) or preset in store.judged_presets(slug)
            ):
                continue
            try:
                check_ledger(slug, preset, store)
                sound += 1
            except LoupeError as error:
                wrong.append(str(error))
    if wrong:
        raise LoupeError("\n".join(wrong))
    typer.echo(f"{sound} ledgers follow from the stored results.")


@app.command()
def summary(
    slugs: AnySlugs = None,
    preset: PresetName = "cpu",
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="These seeds instead of all that the preset lists.")
    ] = None,
) -> None:
    """Show what the stored results took, by experiment, and how the claims stand."""
    from loupe.experiment.store import Store
    from loupe.experiment.summary import HEAD, summary
    from loupe.papers import PAPERS

    store = Store.default()
    table = _table(*HEAD[:2])
    for label in HEAD[2:-1]:
        table.add_column(label, justify="right")
    table.add_column(HEAD[-1])
    for slug in slugs or [paper.slug for paper in PAPERS.values() if not paper.planned]:
        *rows, total = summary(slug, preset, store, seeds or ())
        for row in rows:
            table.add_row(*row)
        table.add_row(*total, style="bold", end_section=True)
    _print(table)


@app.command()
def book() -> None:
    """Build the site into `_build/html`, executing each chapter that changed from the store."""
    from loupe.publishing.site import build_site

    build_site(report=typer.echo)


@data_app.callback(invoke_without_command=True)
def data_list(context: typer.Context) -> None:
    """List the data sets: present or not, where, size, licence. See also `loupe data fetch` and `verify`."""
    if context.invoked_subcommand is not None:
        return
    from loupe.data import CATALOG, locate

    table = _table("data set", "present", "size", "licence", "what")
    for entry in CATALOG.values():
        where = locate(entry.name).where
        size = _bytes(entry.size) if entry.size else ""
        table.add_row(entry.name, "no" if where == "missing" else where, size, entry.licence, entry.title)
    _print(table)
    typer.echo(
        "\n`loupe data fetch NAME` gets one; LOUPE_DATA names a folder that mirrors them all; "
        "`loupe data needs` lists the experiments whose data are not here."
    )


@data_app.command("needs")
def data_needs() -> None:
    """List the experiments whose data are not on this machine."""
    from loupe.publishing.needs import units_that_need_more

    rows = list(units_that_need_more())
    table = _table("chapter", "preset", "experiment", "needs")
    for row in rows:
        table.add_row(*row)
    if rows:
        _print(table)
    typer.echo("Everything else runs on what is here." if rows else "All that the chapters read is here.")


@data_app.command("fetch")
def data_fetch(names: Annotated[list[str], typer.Argument(help="Data sets, as in `loupe data`.")]) -> None:
    """Bring data sets into the user's cache, or say that they are there already."""
    from loupe.data import fetch

    for name in names:
        found = fetch(name)
        for path in found.set_aside:
            typer.echo(f"{name}: a damaged file was kept as {path}")
        typer.echo(f"{name}: {found.where}" + "".join(f"\n  {path}" for path in found.paths))


@data_app.command("verify")
def data_verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets; all that are present if none is given.")
    ] = None,
) -> None:
    """Compare the digest of every file that is present with the catalog. Exit status 1 if one differs."""
    from loupe.data import verify

    checks = [check for name in names or [None] for check in verify(name)]
    shown = [check for check in checks if names or check.outcome != "missing"]
    table = _table("data set", "file", "where", "outcome", "detail")
    for check in shown:
        table.add_row(check.name, check.file, check.where, check.outcome, check.detail)
    _print(table)
    bad = [f"{check.file} ({check.outcome})" for check in shown if check.outcome != "ok"]
    if bad:
        raise LoupeError(
            f"not as the catalog says: {', '.join(bad)}; `loupe data fetch NAME` gets a file again."
        )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def _table(*columns: str):
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


def _print(table) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def _parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` pairs as a dictionary; a value is read as JSON where it is JSON, else as a string."""
    overrides = {}
    for pair in settings or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise LoupeError(f"--set {shown(pair)} is not KEY=VALUE, such as --set cloud_points=500.")
        try:
            overrides[key] = json.loads(value)
        except ValueError:
            overrides[key] = value
        except RecursionError:
            raise LoupeError(
                f"--set {shown(pair)} is nested too deep: give numbers, strings and lists."
            ) from None
    return overrides
