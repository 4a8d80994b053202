"""``loupe data``: list, fetch and verify datasets."""

from typing import Annotated

import typer

from loupe.cli.terminal import new_table, print_table
from loupe.errors import LoupeError

data_app = typer.Typer(help="List, fetch and verify datasets.", rich_markup_mode=None)


@data_app.callback(invoke_without_command=True)
def data_list(context: typer.Context) -> None:
    """List the datasets: present or not, where, size, license. See also `loupe data fetch` and `verify`."""
    if context.invoked_subcommand is not None:
        return
    from loupe.data import CATALOG, locate

    table = new_table("dataset", "present", "size", "license", "what")
    for entry in CATALOG.values():
        where = locate(entry.name).where
        size = _bytes(entry.size) if entry.size else ""
        table.add_row(entry.name, "no" if where == "missing" else where, size, entry.license, entry.title)
    print_table(table)
    typer.echo(
        "\n`loupe data fetch NAME` downloads one; LOUPE_DATA names a folder that mirrors them all; "
        "`loupe data needs` lists the experiments whose data are not here."
    )


@data_app.command("needs")
def data_needs() -> None:
    """List the experiments whose data are not on this machine."""
    from loupe.publishing.needs import units_that_need_more

    rows = list(units_that_need_more())
    table = new_table("chapter", "preset", "experiment", "needs")
    for row in rows:
        table.add_row(*row)
    if rows:
        print_table(table)
    typer.echo("All other data are here." if rows else "All data of the chapters are here.")


@data_app.command("fetch")
def data_fetch(names: Annotated[list[str], typer.Argument(help="Datasets, as in `loupe data`.")]) -> None:
    """Download datasets into the user's cache, unless they are there already."""
    from loupe.data import fetch

    for name in names:
        found = fetch(name)
        for path in found.set_aside:
            typer.echo(f"{name}: a damaged file was kept as {path}")
        typer.echo(f"{name}: {found.where}" + "".join(f"\n  {path}" for path in found.paths))


@data_app.command("verify")
def data_verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets; by default all that are present.")
    ] = None,
) -> None:
    """Compare the digest of every present file with the catalog. Exit status 1 if one differs."""
    from loupe.data import verify

    checks = [check for name in names or [None] for check in verify(name)]
    shown = [check for check in checks if names or check.outcome != "missing"]
    table = new_table("dataset", "file", "where", "outcome", "detail")
    for check in shown:
        table.add_row(check.name, check.file, check.where, check.outcome, check.detail)
    print_table(table)
    bad = [f"{check.file} ({check.outcome})" for check in shown if check.outcome != "ok"]
    if bad:
        raise LoupeError(
            f"not as the catalog says: {', '.join(bad)}; `loupe data fetch NAME` downloads a file again."
        )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
