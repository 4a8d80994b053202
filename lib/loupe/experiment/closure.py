"""Find the code that an experiment can run, from the sources, without importing them.

From the experiment and its chapter's ``Config`` we follow names, imports, module attributes and strings that name a
function, through all modules of Loupe. The reached code gets one digest for each module: of the syntax trees without
comments, docstrings and function annotations. A method of a reached class counts if reached code mentions its name. It
always counts if other code may call it: if it is special or decorated, or its class has an external base. An entry of a
reached table of functions, ``{"key": "module:function"}``, counts if reached code or a setting mentions its key.
"""

import ast
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
_QUIET_BASES = ("ABC", "Protocol", "Generic", "object")  # these call none of our methods
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTION = re.compile(r"[\w.]+:\w+")  # a function named in a string


def read_sources(package: Path = PACKAGE) -> dict[str, str]:
    """The text of every module of the package, by module name."""
    sources = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return sources


@dataclass(frozen=True)
class Piece:
    """A definition, a member of a class, or a statement with side effects, with the names it mentions.

    ``name`` is ``function``, ``Class``, ``Class.member``, ``TABLE.key``, or empty for a statement; ``lines`` are the
    first and the last.
    """

    name: str
    text: str
    names: frozenset[str]
    chains: frozenset[str]  # a.b.c, as written
    mentions: frozenset[str]  # attributes and strings
    endings: frozenset[str]  # of names built at run time: f"{method}_step"
    lines: tuple[int, int]


@dataclass(frozen=True)
class Module:
    """A parsed module: its pieces by top-level name, and the origins of its imported names."""

    name: str
    pieces: dict[str, list[Piece]]
    members: dict[str, list[tuple[Piece, str]]]  # of classes and tables of functions, with kinds as in _reach
    bases: dict[str, list[str]]
    imports: dict[str, tuple[str, str]]  # name -> (module, attribute or "")
    acting: list[Piece]
    homes: dict[str, str]  # entries of dictionaries of strings, for modules that resolve names on first use


@cache
def parse(name: str, text: str, is_package: bool) -> Module:
    """Split a module into its pieces."""
    module = Module(name, defaultdict(list), defaultdict(list), {}, {}, [], {})
    tree = ast.parse(text)
    for node in ast.walk(tree):
        module.imports.update(_imported(node, name if is_package else name.rpartition(".")[0]))
    top = name.partition(".")[0]
    foreign = {one for one, (home, _) in module.imports.items() if home.partition(".")[0] != top}
    for node in tree.body:
        if isinstance(node, _FUNCTIONS):
            module.pieces[node.name].append(_piece(node.name, node, foreign))
        elif isinstance(node, ast.ClassDef):
            _take_class(module, node, foreign)
        elif isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
            continue
        elif (names := _assigned(node)) and not any(name in module.imports for name in names):
            strings = _strings_of(node.value)
            module.homes.update(strings)
            if strings and all(map(_FUNCTION.fullmatch, strings.values())):
                module.pieces[names[0]], module.members[names[0]] = (
                    [],
                    _entries(names[0], node.value, foreign),
                )
                continue
            piece = _piece(names[0], node, foreign)
            for one in names:
                module.pieces[one].append(piece)
        else:
            module.acting.append(_piece("", node, foreign))
    return module


def _take_class(module: Module, node: ast.ClassDef, foreign: set[str]) -> None:
    body = [one for one in node.body if not _is_text(one)]
    rest = [one for one in body if not isinstance(one, _FUNCTIONS) and not _assigned(one)]
    head = ast.ClassDef(node.name, node.bases, node.keywords, rest, node.decorator_list)
    module.pieces[node.name].append(_piece(node.name, ast.copy_location(head, node), foreign))
    module.bases[node.name] = [ast.unparse(base).partition("[")[0] for base in node.bases]
    for one in body:
        names, kind = ([one.name], "method") if isinstance(one, _FUNCTIONS) else (_assigned(one), "field")
        for name in names:
            always = name.startswith("__") or getattr(one, "decorator_list", [])
            piece = _piece(f"{node.name}.{name}", one, foreign)
            module.members[node.name].append((piece, "always" if always else kind))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _assigned(node: ast.stmt) -> list[str]:
    """The names that a plain assignment defines; ``A["k"] = 1`` changes A, which matters wherever A is imported."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    found = [one for target in targets for one in ast.walk(target)]
    if any(isinstance(one, ast.Attribute) for one in found):
        return []  # it changes something of another module
    return list(dict.fromkeys(one.id for one in found if isinstance(one, ast.Name)))


def _strings_of(node: ast.expr | None) -> dict[str, str]:
    """A literal dictionary from strings to strings; empty for anything else."""
    with suppress(ValueError, TypeError):
        found = ast.literal_eval(node) if isinstance(node, ast.Dict) else {}
        if all(isinstance(one, str) for pair in found.items() for one in pair):
            return found
    return {}


def _entries(table: str, node: ast.Dict, foreign: set[str]) -> list[tuple[Piece, str]]:
    pairs = zip(node.keys, node.values, strict=True)
    both = {key.value: ast.copy_location(ast.Expr(ast.Tuple([key, value])), value) for key, value in pairs}
    return [(_piece(f"{table}.{key}", one, foreign), "entry") for key, one in both.items()]


def _imported(node: ast.AST, package: str) -> dict[str, tuple[str, str]]:
    if isinstance(node, ast.Import):
        homes = [alias.name if alias.asname else alias.name.partition(".")[0] for alias in node.names]
        return {alias.asname or home: (home, "") for alias, home in zip(node.names, homes, strict=True)}
    if isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        above = parts[: len(parts) - node.level + 1] if node.level else []
        source = ".".join([*above, node.module] if node.module else above)
        return {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return {}


def _piece(name: str, node: ast.stmt, foreign: set[str]) -> Piece:
    names, chains, mentions, endings = set(), set(), set(), set()
    for one in _bare(node):
        if isinstance(one, ast.Name):
            names.add(one.id)
        elif isinstance(one, ast.Attribute):
            chain = _chain(one)
            if chain is not None:
                chains.add(chain)
            if chain is None or chain.partition(".")[0] not in foreign:
                mentions.add(one.attr)  # torch.log is not one of our methods
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            mentions.add(one.value)
        elif isinstance(one, ast.JoinedStr):
            parts = {part.value for part in one.values if isinstance(part, ast.Constant)}
            endings |= set(filter(re.compile(r"_\w+").fullmatch, parts))
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return Piece(
        name, _canonical(node), *map(frozenset, (names, chains, mentions, endings)), (first, node.end_lineno)
    )


def _bare(node: Any) -> Iterator[ast.AST]:
    """The nodes of a tree without docstrings and function annotations."""
    if isinstance(node, ast.AST):
        yield node
        node = [value for _, value in _fields(node)]
    for one in node if isinstance(node, list) else ():
        yield from _bare(one)


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            value = [one for one in value if not (isinstance(one, ast.stmt) and _is_text(one))]
        annotates_function = name == "returns" or (name == "annotation" and isinstance(node, ast.arg))
        if value not in (None, []) and not annotates_function:
            yield name, value


def _canonical(node: Any) -> str:
    # ast.dump differs between Python versions; without empty fields it is the same in all.
    if isinstance(node, ast.AST):
        return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in _fields(node))})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


def _chain(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _chain(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


class Closure:
    """The code reached in the sources from some names.

    Parameters
    ----------
    sources
        Texts by module, as :func:`read_sources` gives them.
    slug, experiment
        A chapter and one of its experiments, where the search starts.
    words
        Keys taken from tables of functions, besides those that the code names itself; None takes all.
    """

    def __init__(
        self, sources: Mapping[str, str], slug: str, experiment: str, words: Iterable[str] | None = None
    ):
        self._sources = sources
        self._waiting: dict[str, list[tuple[str, Piece]]] = defaultdict(list)
        self._mentions: set[str] = set()
        self._endings: set[str] = set()
        self._queue: list[tuple[str, Piece]] = []
        self._done: set[tuple[str, str]] = set()
        self._acted: set[str] = set()
        self._words = None if words is None else set(words)
        self._settings: set[tuple[str, str]] = set()
        self.reached: dict[str, set[Piece]] = defaultdict(set)
        room = f"loupe.papers.{slug}"
        self._settings = set(self._lineage(*(self._home(room, "Config") or ("", ""))))
        self._reach(room, experiment)
        self._reach(room, "Config")
        while self._queue:
            self._follow(*self._queue.pop())

    def digests(self) -> dict[str, str]:
        """Sixteen hexadecimal digits for the reached part of each module."""
        texts = {module: sorted(piece.text for piece in pieces) for module, pieces in self.reached.items()}
        return {
            module: hashlib.sha256("\n".join(texts[module]).encode()).hexdigest()[:16]
            for module in sorted(texts)
        }

    def taken(self) -> list[str]:
        """The keys of reached entries in tables of functions."""
        return sorted(
            piece.name.partition(".")[2]
            for module, pieces in self.reached.items()
            for members in self._module(module).members.values()
            for piece, kind in members
            if kind == "entry" and piece in pieces
        )

    def _module(self, name: str) -> Module | None:
        if name not in self._sources:
            return None
        return parse(name, self._sources[name], any(other.startswith(f"{name}.") for other in self._sources))

    def _home(self, module: str, name: str) -> tuple[str, str] | None:
        """Where a name of a module is defined: ``(module, name)``, with an empty name for a module itself."""
        seen = set()
        while (module, name) not in seen and (parsed := self._module(module)) is not None:
            seen.add((module, name))
            if not name or name in parsed.pieces:
                return module, name
            if name in parsed.imports:
                module, name = parsed.imports[name]
            elif f"{module}.{name}" in self._sources:
                module, name = f"{module}.{name}", ""
            elif "__getattr__" in parsed.pieces and name in parsed.homes:
                self._reach(module, "__getattr__")
                home = parsed.homes[name]
                module = home if home in self._sources else f"{module}.{home}"
            else:
                return None
        return None

    def _lineage(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """A class and those of its bases that are ours."""
        parsed = self._module(module)
        if parsed is None or name not in parsed.bases:
            return
        yield module, name
        for base in parsed.bases[name]:
            if (home := self._resolve(module, base)) is not None:
                yield from self._lineage(*home)

    def _is_external(self, module: str, name: str) -> bool:
        """Whether a class has a base outside this package, which may call any of its methods."""
        for ours, one in self._lineage(module, name):
            bases = [base for base in self._module(ours).bases[one] if base not in _QUIET_BASES]
            if any(self._resolve(ours, base) is None for base in bases):
                return True
        return False

    def _resolve(self, module: str, chain: str) -> tuple[str, str] | None:
        """Resolve ``a.b.c`` in a module, as far as it leads through modules."""
        first, *rest = chain.split(".")
        home = self._home(module, first)
        for attribute in rest:
            if home is None or home[1]:
                break
            home = self._home(home[0], attribute)
        return home

    def _reach(self, module: str, name: str) -> None:
        home = self._home(module, name)
        if home is None or home in self._done:
            return
        self._done.add(home)
        module, name = home
        parsed = self._module(module)
        if module not in self._acted:
            self._acted.add(module)
            self._queue += [(module, piece) for piece in parsed.acting]
        self._queue += [(module, piece) for piece in parsed.pieces.get(name, ())]
        counts = {"always"}
        if home not in self._settings:  # whose fields for other experiments do not matter here
            counts |= {"field", "method"} if self._is_external(module, name) else {"field"}
        for piece, kind in parsed.members.get(name, ()):
            member = piece.name.partition(".")[2]
            named = member in self._mentions or member.endswith(tuple(self._endings))
            taken = kind == "entry" and (self._words is None or member in self._words)
            if kind in counts or named or taken:
                self._queue.append((module, piece))
            else:
                self._waiting[member].append((module, piece))

    def _follow(self, module: str, piece: Piece) -> None:
        if piece in self.reached[module]:
            return
        self.reached[module].add(piece)
        for name in piece.names:
            self._reach(module, name)
        for chain in piece.chains:
            if (home := self._resolve(module, chain)) is not None:
                self._reach(*home)
        for text in piece.mentions:
            self._reach_string(module, text)
        self._mentions |= piece.mentions
        self._endings |= piece.endings
        for name in [*self._waiting]:
            if name in piece.mentions or name.endswith(tuple(piece.endings)):
                self._queue += self._waiting.pop(name)

    def _reach_string(self, module: str, text: str) -> None:
        """Follow a string that names a module, or a function in one as ``module:function``."""
        if not re.fullmatch(r"[\w.]+(:\w+)?", text):
            return
        place, _, name = text.partition(":")
        packages = [module, module.rpartition(".")[0]]
        candidates = [place, *(f"{package}.{place}" for package in packages)] if name else [place]
        for candidate in candidates:
            if candidate in self._sources and "." in candidate:
                self._reach(candidate, name)
