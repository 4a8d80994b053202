"""``loupe data``: what lies where, and getting it."""

from typing import Annotated

import typer

from loupe.cli.terminal import new_table, print_table
from loupe.errors import LoupeError

data_app = typer.Typer(help="List the data sets; fetch and verify them.", rich_markup_mode=None)


@data_app.callback(invoke_without_command=True)
def data_list(context: typer.Context) -> None:
    """List the data sets: present or not, where, size, licence. See also `loupe data fetch` and `verify`."""
    if context.invoked_subcommand is not None:
        return
    from loupe.data import CATALOG, locate

    table = new_table("data set", "present", "size", "licence", "what")
    for entry in CATALOG.values():
        where = locate(entry.name).where
        size = _bytes(entry.size) if entry.size else ""
        table.add_row(entry.name, "no" if where == "missing" else where, size, entry.licence, entry.title)
    print_table(table)
    typer.echo(
        "\n`loupe data fetch NAME` gets one; LOUPE_DATA names a folder that mirrors them all; "
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
    table = new_table("data set", "file", "where", "outcome", "detail")
    for check in shown:
        table.add_row(check.name, check.file, check.where, check.outcome, check.detail)
    print_table(table)
    bad = [f"{check.file} ({check.outcome})" for check in shown if check.outcome != "ok"]
    if bad:
        raise LoupeError(
            f"not as the catalog says: {', '.join(bad)}; `loupe data fetch NAME` gets a file again."
        )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
