"""Build the site: execute changed chapters from stored results, generate pages, render, and check the output."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from loupe.errors import LoupeError
from loupe.experiment.folders import project_root, show_path, write_whole
from loupe.papers import find_paper
from loupe.publishing import pages
from loupe.publishing.extras import add_extras, with_buttons
from loupe.publishing.notebooks import clean, execute, notebook_bytes, quiet_environment, read_notebook

Report = Callable[[str], None]


def build_site(report: Report = lambda line: None) -> Path:
    """Build the site into ``_build/html`` and return its first page; the working tree stays as it is.

    Raises
    ------
    LoupeError
        If a notebook stops, the renderer warns, or a page is missing.
    """
    quiet_environment()
    root = project_root()
    build = root / "_build"
    build.mkdir(exist_ok=True)
    with open(build / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LoupeError("another build of the site is running here: wait for it to end.") from None
        return _build(root, build, report)


def _build(root: Path, build: Path, report: Report) -> Path:
    front, stamp = build / "html" / "index.html", build / "site.sha256"
    today = digest(_site_inputs(root), root)
    if front.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == today:
        report(f"nothing changed; the site is at {show_path(front)}")
        return front
    stamp.unlink(missing_ok=True)
    chapters = [
        _executed(path, build / "chapters", root, report)
        for path in sorted((root / "notebooks").glob("*.ipynb"))
    ]
    source = _assemble(root, build / "source", chapters)
    report("rendering the pages")
    fresh = _render(source, build)
    _check(fresh, [path.stem for path in chapters])
    # The whole site is replaced, so a page removed from the book disappears from the site and its search.
    shutil.rmtree(build / "html", ignore_errors=True)
    fresh.rename(build / "html")
    stamp.write_text(today, encoding="utf-8")
    report(f"the site is at {show_path(front)}: open it in a browser, or type `make serve`")
    return front


def digest(files: Iterable[Path], root: Path) -> str:
    """A digest of names and contents, not of times, since git does not keep them."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path.relative_to(root)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _sources(root: Path) -> list[Path]:
    return [
        *(root / "lib").rglob("*.py"),
        *(root / "lib").rglob("*.js"),
        *(root / "lib").rglob("*.css"),
        root / "requirements.lock",
    ]


def _results(root: Path, pattern: str) -> list[Path]:
    return [path for path in (root / "results").glob(pattern) if path.suffix in (".json", ".npz")]


def _site_inputs(root: Path) -> list[Path]:
    pages = [path for path in (root / "book").rglob("*") if path.is_file()]
    book = [root / "_config.yml", root / "_toc.yml", *pages]
    return [*_sources(root), *_results(root, "**/*"), *(root / "notebooks").glob("*.ipynb"), *book]


def _executed(notebook: Path, folder: Path, root: Path, report: Report) -> Path:
    """The notebook, executed from stored results in the build folder if anything it depends on has changed."""
    slug = notebook.stem
    target, stamp = folder / notebook.name, folder / f"{slug}.sha256"
    papers = root / "lib" / "loupe" / "papers"
    others = [path for path in papers.iterdir() if path.is_dir() and path.name != slug]
    sources = [path for path in _sources(root) if not any(path.is_relative_to(other) for other in others)]
    today = digest([notebook, *sources, *_results(root, f"*/{slug}*"), *_results(root, f"*/{slug}/*")], root)
    if not (target.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == today):
        report(f"executing {slug} from the stored results")
        stamp.unlink(missing_ok=True)
        execute(notebook, target)
        stamp.write_text(today, encoding="utf-8")
    return target


def _assemble(root: Path, source: Path, chapters: list[Path]) -> Path:
    """Collect the renderer's input: the book's pages, the executed chapters, the generated pages, MathJax."""
    shutil.rmtree(source, ignore_errors=True)
    (source / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, source)
    shutil.copytree(root / "book", source / "book")
    book = with_buttons(source / "_config.yml")
    for path in chapters:
        notebook = clean(read_notebook(path))
        add_extras(notebook, find_paper(path.stem), book)
        write_whole(source / "notebooks" / path.name, notebook_bytes(notebook))
    pages.generate(source / "book" / "_generated")
    _copy_mathjax(source / "_extra" / "_mathjax")
    return source


def _copy_mathjax(target: Path) -> None:
    """Serve formulas from the site itself: one script and its fonts out of the installed package."""
    package = metadata.distribution("sphinx-mathjax-offline").locate_file(
        "sphinx-mathjax-offline/static/mathjax"
    )
    (target / "output").mkdir(parents=True)
    shutil.copy(package / "tex-mml-chtml.js", target)
    shutil.copytree(package / "output" / "chtml", target / "output" / "chtml")


def _render(source: Path, build: Path) -> Path:
    """Render into a fresh folder, and return where the pages are."""
    log, fresh = build / "render.log", build / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", source, "--path-output", fresh, "--all", "-W", "--keep-going"]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    log.write_text(run.stdout + run.stderr, encoding="utf-8")
    if run.returncode:
        lines = (run.stdout + run.stderr).splitlines()
        shown = "\n".join([line for line in lines if "WARNING" in line or "ERROR" in line][:20] or lines[-5:])
        raise LoupeError(
            f"the pages could not be rendered without warnings (all of it: {show_path(log)}):\n{shown}"
        )
    return fresh / "_build" / "html"


def _check(html: Path, slugs: list[str]) -> None:
    """Check that the pages exist: the renderer can succeed without writing anything."""
    pages = [html / "index.html", *(html / "notebooks" / f"{slug}.html" for slug in slugs)]
    missing = [show_path(page) for page in pages if not page.exists()]
    if missing:
        raise LoupeError(
            f"the renderer ended well but did not write {', '.join(missing)}; see _build/render.log."
        )
