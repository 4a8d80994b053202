"""``loupe new``: a chapter that runs, with one toy experiment, one claim with its control, and one figure."""

import re
from collections.abc import Iterator
from pathlib import Path

from loupe.errors import LoupeError, shown
from loupe.experiment.folders import project_root, show_path
from loupe.papers import PAPERS, THEMES, Paper

TEMPLATE = Path(__file__).with_name("template")
ROOM = ("__init__", "config", "experiments", "claims", "figures")
TABLE = "lib/loupe/papers/__init__.py"


def write_chapter(
    slug: str, title: str = "", arxiv: str = "", theme: str = "diffusion", root: Path | None = None
) -> list[Path]:
    """Write the room, the notebook, the tests and the benchmark of a chapter, and its line in the table of contents.

    Parameters
    ----------
    slug
        The chapter's name in Python and in addresses. A paper in the table of papers has its details there; any other
        is added to the table.
    title, arxiv, theme
        Details of a paper that is not in the table.
    root
        The checkout.

    Returns
    -------
    list of pathlib.Path
        What was written or changed.

    Raises
    ------
    LoupeError
        If a value is invalid, or a file of the chapter exists already; then nothing is written.
    """
    root = root or project_root()
    paper = PAPERS.get(slug) or _new_paper(slug, title, arxiv, theme)
    words = {"SLUG": slug, "TITLE": paper.title, "ARXIV": paper.arxiv, "QUESTION": paper.question,
             "AUTHORS": paper.authors, "VENUE": paper.venue}  # fmt: skip
    files = {
        root / "lib" / "loupe" / "papers" / slug / f"{name}.py": _filled(f"{name}.py.txt", words)
        for name in ROOM
    }
    files[root / "tests" / "papers" / f"test_{slug}_room.py"] = _filled("test_room.py.txt", words)
    files[root / "benchmarks" / f"{slug}.py"] = _filled("benchmark.py.txt", words)
    files[root / "notebooks" / f"{slug}.ipynb"] = _notebook(_filled("notebook.md.txt", words))
    if there := [path for path in files if path.exists()]:
        raise LoupeError(f"{show_path(there[0])} is there already: remove it, or choose another name.")
    contents = root / "_toc.yml"
    changed = {contents: _with_line(contents.read_text(encoding="utf-8"), paper)}
    if slug not in PAPERS:
        table = root / TABLE
        changed[table] = _with_paper(table.read_text(encoding="utf-8"), paper)
    for path, text in (files | changed).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [*files, *changed]


def _new_paper(slug: str, title: str, arxiv: str, theme: str) -> Paper:
    checks = (
        (
            "the name",
            slug,
            r"[a-z][a-z0-9_]{0,39}",
            "lower-case letters, digits and _, such as score_matching",
        ),
        ("--title", title, r"[^\n\"\\]{3,200}", "the paper's title, which is not in `loupe list`"),
        ("--arxiv", arxiv, r"\d{4}\.\d{4,5}", "its number, such as 2310.16834"),
        ("--theme", theme, "|".join(THEMES), f"one of {', '.join(THEMES)}"),
    )
    for name, value, form, wanted in checks:
        if not re.fullmatch(form, value):
            raise LoupeError(f"{name} {shown(value)} is refused: give {wanted}.")
    return Paper(slug, theme, title, title, "Authors", 2000 + int(arxiv[:2]), f"arXiv {arxiv}", arxiv, None)


def _filled(name: str, words: dict[str, str]) -> str:
    text = (TEMPLATE / name).read_text(encoding="utf-8")
    return re.sub(rf"\b({'|'.join(words)})\b", lambda match: words[match[1]], text)


def _notebook(text: str) -> str:
    import nbformat

    from loupe.publishing.notebooks import notebook_bytes

    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                  "language_info": {"name": "python"}}
    )  # fmt: skip
    for number, (tag, source) in enumerate(_cells(text)):
        make = nbformat.v4.new_code_cell if tag else nbformat.v4.new_markdown_cell
        cell = make(source, metadata={"tags": [tag]} if tag else {}, id=f"cell-{number:02}")
        notebook.cells.append(cell)
    return notebook_bytes(notebook).decode()


def _cells(text: str) -> Iterator[tuple[str, str]]:
    first, *rest = re.split(r"^%%(.*)\n", text, flags=re.MULTILINE)
    yield "", first.strip()
    for tag, source in zip(rest[::2], rest[1::2], strict=True):
        yield tag.strip(), source.strip()


def _with_line(contents: str, paper: Paper) -> str:
    """The table of contents with the chapter, in the order of names; its title in the side bar begins with the method."""
    lines = contents.splitlines(keepends=True)
    files = [number for number, line in enumerate(lines) if "file: notebooks/" in line]
    later = [number for number in files if lines[number].split("/")[1].strip() > paper.slug]
    end = next((k for k in range(files[-1] + 1, len(lines)) if "title:" not in lines[k]), len(lines))
    place = later[0] if later else end
    title = f'        title: "{paper.short}: {paper.question}"\n' if paper.short else ""
    return "".join([*lines[:place], f"      - file: notebooks/{paper.slug}\n", title, *lines[place:]])


def _with_paper(table: str, paper: Paper) -> str:
    entry = (
        f'        Paper("{paper.slug}", "{paper.theme}", "{paper.question}",\n              "{paper.title}",\n'
        f'              "{paper.authors}",\n              {paper.year}, "{paper.venue}", "{paper.arxiv}", None),\n'
    )
    head, end, rest = table.partition("    )\n}  # fmt: skip\n")
    return head + entry + end + rest
