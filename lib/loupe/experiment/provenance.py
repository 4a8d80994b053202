"""What made a result: code, versions, hardware, time and memory.

The code is identified by the syntax trees, without comments, docstrings and annotations, of what the
experiment really used: its own function with the definitions it reaches in its paper's room, and every other
module of Loupe that was imported while it ran. A result whose trees differ today was made by "other code".
"""

import ast
import hashlib
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Rooms that store, draw, judge or start an experiment, and cannot change its values.
_BYSTANDERS = ("experiment", "plotting", "publishing", "cli", "errors", "__main__")
# Parts of the data room that find files: what is in them is checked by digest whenever it is read.
_FINDERS = tuple(
    f"loupe.data.{part}"
    for part in ("catalog", "checking", "digests", "errors", "fetching", "places", "records")
)
# Modules of a paper's room that hold no code of experiments, or are followed function by function.
_STANDARD_PARTS = ("config", "claims", "figures", "experiments")
# Packages whose version a reader may want to know, where the experiment imported them.
_PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "gudhi")
_MODULE_NAMES = {"scikit-learn": "sklearn"}


# --- code ---------------------------------------------------------------------------------------------------


def used_modules(loaded: Iterable[str]) -> list[str]:
    """The modules of Loupe among ``loaded`` names that can change an experiment's values, sorted.

    Packages only pass on names, and what finds data files is held to their digests. Of a paper's room, modules other than
    its standard ones count; the experiments themselves are followed function by function.
    """
    return sorted(name for name in loaded if name.startswith("loupe.") and _can_change_values(name))


def _can_change_values(module: str) -> bool:
    room, *rest = module.split(".")[1:]
    if room == "papers":
        return len(rest) == 2 and not rest[1].startswith(_STANDARD_PARTS)
    return room not in _BYSTANDERS and bool(rest) and not module.startswith(_FINDERS)


def code_digests(function: Callable, modules: Iterable[str]) -> dict[str, str]:
    """Sixteen hexadecimal digits for the experiment's own definitions and for each module it used."""
    own = {
        f"{function.__module__}:{function.__name__}": function_digest(function.__module__, function.__name__)
    }
    return own | {name: module_digest(name) for name in modules}


def is_current(digests: dict[str, str]) -> bool:
    """Whether all the code that made a result is the same today."""
    for name, digest in digests.items():
        module, _, function = name.partition(":")
        if module.startswith(_FINDERS):
            continue  # older results recorded more
        if digest != (function_digest(module, function) if function else module_digest(module)):
            return False
    return True


def module_digest(module: str) -> str | None:
    """The digest of a whole module's syntax tree; ``None`` if the module is gone."""
    tree = _tree_of(module)
    return tree and _digest(tree)


def function_digest(module: str, function: str) -> str | None:
    """The digest of a function and of the top-level definitions it reaches in its module; ``None`` if gone."""
    tree = _tree_of(module)
    if tree is None:
        return None
    definitions: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _names_defined(node):
            definitions.setdefault(name, []).append(node)
    if function not in definitions:
        return None
    reached, queue = {function}, [function]
    while queue:
        for node in ast.walk(_bare(ast.Module(definitions[queue.pop()], []))):
            if isinstance(node, ast.Name) and node.id in definitions and node.id not in reached:
                reached.add(node.id)
                queue.append(node.id)
    # Statements that name nothing of their own (a call, a branch, a registration) may act on anything.
    acting = [node for node in tree.body if not isinstance(node, _DEFINING)]
    return _digest(ast.Module([node for name in sorted(reached) for node in definitions[name]] + acting, []))


def _tree_of(module: str) -> ast.Module | None:
    file = _file_of(module)
    if file is None:
        return None
    return _FROZEN.get(file) or _parse(file, os.stat(file).st_mtime_ns)


def _file_of(module: str) -> str | None:
    """The source of a module; those of this package are found without importing the packages they lie in."""
    package, *rest = module.split(".")
    if package == "loupe":
        place = Path(__file__).parents[1].joinpath(*rest)
        found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()]
        return str(found[0]) if found else None
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    return spec.origin if spec else None


_FROZEN: dict[str, ast.Module] = {}


def freeze_sources() -> None:
    """Take the digests of this process from the sources of the package as they are now, whatever happens to the files."""
    for path in Path(__file__).parents[1].rglob("*.py"):
        _FROZEN[str(path)] = _parse(str(path), path.stat().st_mtime_ns)


@cache
def _parse(file: str, modified: int) -> ast.Module:
    return ast.parse(Path(file).read_text())


_DEFINING = (
    ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.ClassDef
    | ast.Import
    | ast.ImportFrom
    | ast.Assign
    | ast.AnnAssign
)


def _names_defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        # In `A["k"] = 1` the name is only read, and yet A is changed.
        return list(
            dict.fromkeys(
                one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
            )
        )
    return []


def _digest(tree: ast.AST) -> str:
    return hashlib.sha256(_canonical(_bare(tree)).encode()).hexdigest()[:16]


class _Strip(ast.NodeTransformer):
    """Drops what cannot change a value: docstrings and other bare strings, annotations of functions."""

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) else node

    def visit_FunctionDef(self, node):
        node.returns = None
        for argument in (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs):
            argument.annotation = None
        return self.generic_visit(node)


def _bare(tree: ast.AST) -> ast.AST:
    return _Strip().visit(deepcopy(tree))


def _canonical(node: Any) -> str:
    # ast.dump is written differently by each Python version; empty fields are left out to be alike in all.
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


def commit(folder: Path) -> str:
    """The commit of the checkout, with ``+changes`` if files of the package differ from it; or ``unknown``."""

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ("git", "-C", str(folder), *arguments), capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "lib")
        return git("rev-parse", "--short=10", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# --- machine ------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Python and the numerical packages that this process has imported, without local build labels."""
    loaded = [name for name in _PACKAGES if _MODULE_NAMES.get(name, name) in sys.modules]
    return {"python": platform.python_version()} | {
        name: metadata.version(name).partition("+")[0] for name in loaded
    }


def hardware(device: str) -> str:
    """The processor and memory of this machine, and the accelerator if ``device`` is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    if device.startswith("cuda"):
        import torch

        text = f"{torch.cuda.get_device_name(device)}; {text}"
    return text


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@contextmanager
def measured(cost: dict[str, Any]):
    """Fill ``cost`` with the seconds, CPU-seconds and peak memory in MB that the block took.

    The peak is that of the process since its start: run one unit a process.
    """
    begin, begin_cpu = time.perf_counter(), _cpu_seconds()
    yield cost
    cost["seconds"] = round(time.perf_counter() - begin, 2)
    cost["cpu_seconds"] = round(_cpu_seconds() - begin_cpu, 2)
    cost["peak_memory_mb"] = round(_peak_memory_mb())
    cost["finished"] = datetime.now(UTC).isoformat(timespec="seconds")


def _peak_memory_mb() -> float:
    try:  # what getrusage says of this process may be what its parent had used before
        line = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
