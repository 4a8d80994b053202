"""``loupe new``: create a chapter to start from."""

from typing import Annotated

import typer


def new(
    slug: Annotated[str, typer.Argument(help="The chapter's name, as in `loupe list`.", show_default=False)],
    title: Annotated[str, typer.Option(help="Title of a paper that is not in `loupe list`.")] = "",
    arxiv: Annotated[str, typer.Option(help="Its number, such as 2310.16834.")] = "",
    theme: Annotated[str, typer.Option(help="Its theme.")] = "diffusion",
) -> None:
    """Create a working chapter to start from: room, notebook, tests, benchmark."""
    from loupe.experiment.folders import show_path
    from loupe.publishing.new_chapter import write_chapter

    for path in write_chapter(slug, title, arxiv, theme):
        typer.echo(show_path(path))
    typer.echo(f"Next: loupe compute {slug} --preset cpu && loupe publish {slug} && make book")
