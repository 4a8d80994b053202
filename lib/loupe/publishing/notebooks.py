"""Execute a chapter's notebook and write it back without traces of the machine."""

import json
import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loupe.errors import LoupeError, shortened
from loupe.experiment.claims import ledger_json
from loupe.experiment.folders import StoreError, project_root, show_path, write_whole
from loupe.experiment.results import PUBLISHED_PRESETS, Stored, judge_all, write_ledger
from loupe.experiment.store import Store, compute_command
from loupe.papers import find_paper, load_room, open_chapter
from loupe.publishing import prose


def notebook_file(slug: str) -> Path:
    """The published notebook of a chapter."""
    path = project_root() / "notebooks" / f"{find_paper(slug).slug}.ipynb"
    if not path.exists():
        raise LoupeError(f"there is no notebook {show_path(path)}: run this in a checkout of the project.")
    return path


def execute(source: Path, target: Path, parameters: Mapping[str, Any] | None = None) -> None:
    """Execute a notebook with papermill in the environment's own kernel.

    Raises
    ------
    LoupeError
        If a cell fails; the message has the error and the path of the partly executed notebook.
    """
    import papermill  # slow to import, and many verbs only read notebooks

    quiet_environment()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(source),
            str(target),
            dict(parameters or {}),
            kernel_name="python3",
            kernel_manager_class=_own_kernel(),
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # the kernel raises an error when it is stopped
        )
    except papermill.PapermillExecutionError as error:
        raise LoupeError(
            f"{source.name} stopped in cell {error.exec_count}: {error.ename}: {error.evalue} "
            f"(the notebook as far as it ran: {show_path(target)})"
        ) from None
    except (RuntimeError, OSError) as error:  # nbclient's DeadKernelError, or a kernel that never came up
        why = shortened(" ".join(str(error).split()) or type(error).__name__, 160)
        raise LoupeError(
            f"{source.name} could not be run to its end ({why}): its kernel was ended or never started (out of "
            f"memory?); the notebook as far as it ran: {show_path(target)}."
        ) from None


def _own_kernel():
    """The kernel of this interpreter, whatever other kernel is called python3 on this machine."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(AsyncKernelManager):
        @property
        def kernel_spec(self):
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=launch, display_name="Python 3", language="python")

    return OwnKernel


def run_notebook(
    slug: str, *, preset: str, seed: int | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """Execute a chapter's notebook from the store; return where the notebook and its ledger went."""
    stored = Stored(load_room(slug), preset, Store.default(), dict(overrides or {}), seed)
    marks = [
        slug,
        preset,
        *([f"s{seed}"] if seed is not None else []),
        *([_digest(stored)] if overrides else []),
    ]
    target = project_root() / ".loupe" / "runs" / f"{'-'.join(marks)}.ipynb"
    parameters = {"preset": preset, "seed": seed, "recompute": False, "overrides": dict(overrides or {})}
    execute(notebook_file(slug), target, parameters)
    ledger = target.with_suffix(".claims.json")
    write_whole(ledger, ledger_json(slug, preset, judge_all(stored)))
    return show_path(target), show_path(ledger)


def _digest(stored: Stored) -> str:
    return stored.units()[0].config.digest()


def publish_notebook(slug: str) -> tuple[str, str, bool]:
    """Execute a chapter at the highest preset whose results are complete, and write it back.

    The preset becomes the literal in the notebook's parameters cell, and the numbers and verdicts in its paragraphs
    are filled in. An identical re-run changes no byte.

    Returns
    -------
    path : str
    preset : str
    changed : bool
    """
    room, path = load_room(slug), notebook_file(slug)
    preset = _complete_preset(slug)
    draft = project_root() / ".loupe" / "publish" / path.name
    notebook = read_notebook(path)
    set_preset(notebook, preset)
    prose.fill(notebook, open_chapter(slug, preset=preset))
    write_whole(draft, notebook_bytes(notebook))
    execute(draft, draft)
    content = notebook_bytes(clean(read_notebook(draft)))
    write_ledger(room, preset, Store.default())
    changed = content != path.read_bytes()
    if changed:
        write_whole(path, content)
    return show_path(path), preset, changed


def _complete_preset(slug: str) -> str:
    store, room = Store.default(), load_room(slug)
    for preset in PUBLISHED_PRESETS:
        units = Stored(room, preset, store).units()
        try:
            if all(store.find(unit) for unit in units):
                return preset
        except StoreError as error:
            raise LoupeError(f"{slug} cannot be published: {error}") from None
    raise LoupeError(f"{slug} has no complete results to publish: type `{compute_command(units[0])}`.")


def read_notebook(path: Path):
    """Read a notebook as an ``nbformat`` node."""
    import nbformat

    try:
        with warnings.catch_warnings(action="ignore"):  # about things it would have to fix
            notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
            nbformat.validate(notebook)
    except OSError as error:
        raise LoupeError(
            f"{show_path(path)} cannot be read ({error.strerror}): restore it from git."
        ) from None
    except Exception as error:  # nbformat may raise any error
        why = shortened(" ".join(str(error).split()) or type(error).__name__, 160)
        raise LoupeError(f"{show_path(path)} is not a notebook ({why}): restore it from git.") from None
    return notebook


def notebook_bytes(notebook) -> bytes:
    """The bytes of a notebook on disk: sorted keys, one-space indent, one final newline."""
    return (json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parameters_cell(notebook):
    """The one code cell that is tagged ``parameters``."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise LoupeError(f"a chapter has one cell tagged 'parameters'; this notebook has {len(cells)}.")
    return cells[0]


def set_preset(notebook, preset: str) -> None:
    """Write the preset as the literal in the parameters cell."""
    cell = parameters_cell(notebook)
    cell.source, found = re.subn(r'^preset = "\w+"', f'preset = "{preset}"', cell.source, flags=re.MULTILINE)
    if not found:
        raise LoupeError('the parameters cell has no line `preset = "..."`.')


def clean(notebook):
    """Remove traces of an execution: injected cells, times, stderr, machine metadata."""
    notebook.cells = [
        cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    count = 0
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in ("tags", "mystnb") if cell.metadata.get(key)}
        cell.metadata = type(cell.metadata)(kept)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    notebook.metadata = type(notebook.metadata)(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    return notebook


def quiet_environment() -> None:
    """Keep kernels from writing outside the checkout."""
    home = project_root() / ".loupe" / "jupyter"
    home.mkdir(parents=True, exist_ok=True)
    for name, folder in (("IPYTHONDIR", "ipython"), ("JUPYTER_DATA_DIR", "data"), ("JUPYTER_CONFIG_DIR", "config"),
                         ("JUPYTER_RUNTIME_DIR", "runtime"), ("MPLCONFIGDIR", "matplotlib")):  # fmt: skip
        os.environ.setdefault(name, str(home / folder))
