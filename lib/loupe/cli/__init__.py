"""The ``loupe`` command: a thin, fast layer; each subcommand imports only what it needs."""

import json
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from loupe.cli.data import data_app
from loupe.cli.new import new
from loupe.cli.terminal import new_table, print_table, read_settings, read_time
from loupe.cli.watch import watch
from loupe.errors import LoupeError, shown

app = typer.Typer(
    help="Reproducible notebooks of thirteen papers: compute, run, judge, publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
results_app = typer.Typer(help="Import results from elsewhere.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(results_app, name="results")
app.command()(new)
app.command()(watch)

Slugs = Annotated[list[str], typer.Argument(help="Chapters, as in `loupe list`.", show_default=False)]
AnySlugs = Annotated[list[str] | None, typer.Argument(help="Chapters; by default all with results.")]
PresetName = Annotated[str, typer.Option(help="smoke, cpu, gpu or paper.")]
Seed = Annotated[int | None, typer.Option(help="One seed instead of all that the preset lists.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the preset.")
]
Jobs = Annotated[int | None, typer.Option(help="Units at once; by default one per core, or one on a GPU.")]
Recompute = Annotated[bool, typer.Option(help="Also compute units that have a result.")]


INTERRUPTED = 130  # the exit status that typer gives to Ctrl-C


def main() -> None:
    """Entry point: a :class:`~loupe.errors.LoupeError` becomes one sentence and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # don't fail in a terminal without "●"
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except LoupeError as error:
        sys.exit(f"loupe: {error}")
    except SystemExit as end:
        if end.code == INTERRUPTED:  # if a subcommand has printed nothing
            print("loupe: stopped.", file=sys.stderr)
        raise
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)  # the reader closed the pipe
    except OSError as error:
        _forget_output()
        why = f"{error.filename or 'the output'} cannot be used ({error.strerror or error})"
        sys.exit(f"loupe: {why}: fix that and run the same command again.")


def _forget_output() -> None:
    # Python would try to write again at exit, with a traceback.
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
    """List the papers, with the verdicts at each judged preset."""
    from loupe.experiment.folders import Folders, standing_verdicts
    from loupe.experiment.render import tally
    from loupe.papers import PAPERS

    table = new_table("chapter", "paper", "venue", "judged at", "verdicts")
    for paper in PAPERS.values():
        found = {} if paper.planned else standing_verdicts(Folders.default(), paper.slug)
        # Don't show a ledger of other results than the stored ones.
        verdicts = ["judge again: loupe compute" if one is None else tally(one) for one in found.values()]
        judged = "\n".join(found) or ("planned" if paper.planned else "nowhere yet")
        style = "dim" if paper.planned else None
        table.add_row(paper.slug, paper.title, paper.venue, judged, "\n".join(verdicts), style=style)
    print_table(table)
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
    within: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Stop cleanly after a time such as 90s, 45m or 2h; run the same command to continue.",
        ),
    ] = None,
    nice: Annotated[bool, typer.Option("--nice", help="Run at the lowest priority.")] = False,
    pack: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Pack the new results into one file for `loupe results import`."),
    ] = None,
    mark: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="For workflows: judge nothing, and write FILE once the unit is stored."
        ),
    ] = None,
) -> None:
    """Compute missing results, without Jupyter. You can stop at any time and continue later."""
    overrides = read_settings(settings)
    if nice:
        os.nice(19)
    if mark is not None:
        _compute_and_mark(mark, slugs, preset, experiment, seed, overrides, device, recompute)
        return
    how = {"jobs": jobs, "device": device, "recompute": recompute, "within": read_time(within), "pack": pack}
    _compute(slugs, preset, experiment, seed, overrides, **how)


def _compute_and_mark(mark, slugs, preset, experiment, seed, overrides, device, recompute) -> None:
    """Compute one unit as a job of a workflow: one line when it ends, and no ledger."""
    from pathlib import Path

    from loupe.experiment.compute import compute
    from loupe.experiment.store import Store
    from loupe.experiment.units import units_of
    from loupe.papers import load_room
    from loupe.publishing.reproduce import identity, write_mark

    store, units = Store.default(), []
    for slug in slugs:
        units += units_of(load_room(slug), preset, overrides, experiment=experiment, seed=seed)
    if len(units) != 1:
        raise LoupeError(f"--mark is for one unit and this is {len(units)}: give --experiment and --seed.")
    end = f"[1/1] {units[0]}: "

    def report(line: str) -> None:
        if line.startswith(end):
            typer.echo(line.removeprefix("[1/1] "))

    compute(units, store, jobs=1, device=device, recompute=recompute, report=report)
    write_mark(Path(mark), identity(store.find(units[0])))


def _compute(slugs, preset, experiment, seed, overrides, *, pack=None, **how) -> None:
    """Compute missing units of chapters, and judge the chapters at exact presets."""
    from datetime import UTC, datetime

    from loupe.experiment.compute import compute
    from loupe.experiment.results import Stored, write_ledger
    from loupe.experiment.store import Store, pack_results
    from loupe.experiment.units import units_of
    from loupe.papers import load_room

    store, units = Store.default(), {}
    for slug in dict.fromkeys(slugs):
        units[slug] = units_of(load_room(slug), preset, overrides, experiment=experiment, seed=seed)
        if not units[slug]:
            raise LoupeError(f"{slug} has nothing to run at {preset} with these settings: give it seeds.")
    everything, begin = [unit for mine in units.values() for unit in mine], datetime.now(UTC)
    try:
        done = compute(everything, store, report=typer.echo, **how)
    except LoupeError:
        for slug, mine in units.items():
            if _official(mine, overrides) and store.sidecars(slug, preset):
                write_ledger(load_room(slug), preset, store)  # judge what did finish
        raise
    finally:
        if pack is not None:
            typer.echo(f"{pack}: {pack_results(store, begin, pack)} new results")
    for slug, mine in units.items():
        if not any(unit.slug == slug for unit in done):
            stored = sum(store.find(unit) is not None for unit in mine)
            all_of_it = f"all {stored} results are stored at {preset}; nothing to compute."
            part = f"{stored} of {len(mine)} results are stored at {preset}; the others ran out of time."
            typer.echo(f"{slug}: {all_of_it if stored == len(mine) else part}")
        _warn_of_other_code(Stored(load_room(slug), preset, store, overrides, seed))
        if _official(mine, overrides):
            _judge(slug, preset, store)


def _official(units, overrides) -> bool:
    return not overrides and all(unit.preset == "smoke" or unit.published for unit in units)


def _judge(slug, preset, store) -> None:
    from loupe.experiment.folders import show_path
    from loupe.experiment.render import tally
    from loupe.experiment.results import write_ledger
    from loupe.papers import load_room

    verdicts = tally([judgement.verdict for judgement in write_ledger(load_room(slug), preset, store)])
    typer.echo(f"{slug} at {preset}: {verdicts} ({show_path(store.ledger_file(slug, preset))})")


def _warn_of_other_code(stored) -> None:
    """Print which stored results were made by code that has changed since."""
    from loupe.experiment.results import State

    other = State.of(stored).other_code
    if other:
        what = f"{stored.room.PAPER.slug} at {stored.preset}: {len(other)} results were made by other code than today's"
        typer.echo(
            f"{what} ({', '.join(other[:3])}{', …' * (len(other) > 3)}); --recompute computes them again.",
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
    """Compute missing results, then execute the notebook with papermill into `.loupe/runs/`."""
    from loupe.publishing.notebooks import run_notebook

    overrides = read_settings(settings)
    for slug in slugs:
        _compute([slug], preset, None, seed, overrides, jobs=jobs, recompute=recompute)
        notebook, ledger = run_notebook(slug, preset=preset, seed=seed, overrides=overrides)
        typer.echo(f"executed notebook: {notebook}\nledger: {ledger}")


@app.command()
def publish(slugs: Slugs) -> None:
    """Execute a chapter at the largest complete preset and write it back to `notebooks/`."""
    from loupe.experiment.results import Stored
    from loupe.experiment.store import Store
    from loupe.papers import load_room
    from loupe.publishing.notebooks import publish_notebook

    for slug in slugs:
        path, preset, changed = publish_notebook(slug)
        _warn_of_other_code(Stored(load_room(slug), preset, Store.default()))
        typer.echo(f"{path}: published at {preset}" + ("" if changed else ", unchanged"))


@app.command()
def claims(
    slugs: AnySlugs = None,
    preset: Annotated[
        str | None, typer.Option(help="Judge at this preset; by default at all with results.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the stored ledgers with today's verdicts instead.")
    ] = False,
) -> None:
    """Judge the claims on stored results. Exit status 1 if an exact claim fails."""
    from loupe.experiment.claims import failed_exact
    from loupe.experiment.folders import PRESET_NAMES
    from loupe.experiment.render import ledger
    from loupe.experiment.results import Stored, judge_all
    from loupe.experiment.store import Store
    from loupe.papers import PAPERS, load_room

    if preset is not None and preset not in PRESET_NAMES:
        raise LoupeError(f"no preset is called {shown(preset)}: choose one of {', '.join(PRESET_NAMES)}.")
    store, output, failed = Store.default(), [], []
    slugs = slugs or [paper.slug for paper in PAPERS.values() if not paper.planned]
    presets = [preset] if preset else PRESET_NAMES
    if check:
        _check_ledgers(slugs, presets, store)
        return
    for slug in slugs:
        for name in presets:
            if not store.sidecars(slug, name):
                continue
            stored = Stored(load_room(slug), name, store)
            judgements = judge_all(stored)
            _warn_of_other_code(stored)
            failed += failed_exact(judgements)
            one = [judgement.to_json() for judgement in judgements]
            output.append({"slug": slug, "preset": name, "claims": one})
            if not as_json:
                typer.echo(f"{slug} at {name}\n\n{ledger({name: judgements})}\n")
    if as_json:
        typer.echo(json.dumps(output, indent=1, ensure_ascii=False))
    elif not output:
        typer.echo("no results are stored yet: `loupe compute SLUG --preset P` computes them.")
    if failed:
        names = ", ".join(f"{one.claim.id} at {one.preset}" for one in failed)
        raise LoupeError(f"exact claims that do not hold: {names}.")


def _check_ledgers(slugs, presets, store) -> None:
    """Raise if ledgers do not follow from the stored results, with one line for each."""
    from loupe.experiment.results import check_ledger
    from loupe.papers import load_room

    wrong, sound = [], 0
    for slug in slugs:
        for preset in presets:
            if preset == "smoke" or not (
                store.sidecars(slug, preset) or preset in store.judged_presets(slug)
            ):
                continue
            try:
                check_ledger(load_room(slug), preset, store)
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
    """Show the cost of stored results by experiment, and the verdicts."""
    from loupe.experiment.store import Store
    from loupe.papers import PAPERS, load_room
    from loupe.publishing.reproduce import COST_HEAD, summary

    store = Store.default()
    table = new_table(*COST_HEAD[:2])
    for label in COST_HEAD[2:-1]:
        table.add_column(label, justify="right")
    table.add_column(COST_HEAD[-1])
    for slug in slugs or [paper.slug for paper in PAPERS.values() if not paper.planned]:
        *rows, total = summary(load_room(slug), preset, store, seeds or ())
        for row in rows:
            table.add_row(*row)
        table.add_row(*total, style="bold", end_section=True)
    print_table(table)


@app.command()
def book() -> None:
    """Build the site in `_build/html`; changed chapters are executed from stored results."""
    from loupe.publishing.site import build_site

    build_site(report=typer.echo)


@results_app.callback()
def _results() -> None:
    """Import results computed elsewhere."""


@results_app.command("import")
def results_import(
    source: Annotated[
        str, typer.Argument(help="A file that `loupe compute --pack` wrote, or a folder of results.")
    ],
) -> None:
    """Add results computed elsewhere, check their digests, and judge their chapters."""
    from pathlib import Path

    from loupe.experiment.store import STORED, Store, import_results

    store, count, touched = Store.default(), 0, {}
    for result, outcome in import_results(store, Path(source)):
        count += 1
        if outcome != STORED:
            typer.echo(f"{result.slug}/{result.experiment} seed {result.seed} at {result.preset}: {outcome}")
            touched[result.slug, result.preset] = None
    for slug, preset in touched:
        _judge(slug, preset, store)
    typer.echo(f"{source}: {count} results" + ("" if touched else ", all stored already"))
