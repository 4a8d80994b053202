"""The mark "other code" proved: what runs is in the closure, edits of it are seen, and edits elsewhere are not flagged."""

import argparse
import ast
import inspect
import random
import re
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path

from loupe.data import places
from loupe.experiment import closure
from loupe.experiment.closure import Closure, parse
from loupe.experiment.units import Reading, experiments_of
from loupe.papers import PAPERS, load_room

# The wrapper that notes which settings are read: it hands values on as they are.
ASIDE = {("loupe.experiment.units", "Reading.__init__"), ("loupe.experiment.units", "Reading.__getattr__")}
VALUES = ast.Constant | ast.BinOp | ast.Assign | ast.AnnAssign
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources():
    """The package as it is."""
    return closure.read_sources()


def pieces(module):
    """Every piece of a module."""
    whole = parse(module, sources()[module], any(name.startswith(f"{module}.") for name in sources()))
    members = [piece for found in whole.members.values() for piece, _ in found]
    defined = [piece for found in whole.pieces.values() for piece in found]
    return [*defined, *members, *whole.acting]


def entries(module):
    """The entries of a module's tables of functions."""
    whole = parse(module, sources()[module], any(name.startswith(f"{module}.") for name in sources()))
    return [piece for found in whole.members.values() for piece, kind in found if kind == "entry"]


def executed(function, config, seed, results):
    """The pieces ``{(module, piece)}`` whose functions run while an experiment does, all modules being imported.

    Its values are added to ``results``, from which later experiments may start.
    """
    codes = set()

    def watch(frame, event, argument):
        if event == "call":
            codes.add(frame.f_code)

    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings(action="ignore"):
        earlier = {name: results[name] for name in function.after}
        given = {"work": Path(work), "earlier": earlier}
        wants = {name: given[name] for name in given if name in inspect.signature(function).parameters}
        threading.setprofile(watch)
        sys.setprofile(watch)
        try:
            results[function.__name__] = function(Reading(config), seed=seed, device="cpu", **wants)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    found = set()
    for code in codes:
        # Bodies of modules and classes are no functions: their names are not local.
        if code.co_filename.startswith(str(closure.PACKAGE)) and code.co_flags & inspect.CO_OPTIMIZED:
            place = Path(code.co_filename).relative_to(closure.PACKAGE.parent).with_suffix("").parts
            module = ".".join(place).removesuffix(".__init__")
            around = [one for one in pieces(module) if one.lines[0] <= code.co_firstlineno <= one.lines[1]]
            found.add((module, min(around, key=lambda one: one.lines[1] - one.lines[0])))
    return {(module, piece) for module, piece in found if (module, piece.name) not in ASIDE}


def _depth(room, function):
    """How many experiments, each starting from the one before, must run before this one."""
    return 1 + max((_depth(room, getattr(room, name)) for name in function.after), default=-1)


class Chapter:
    """A chapter's experiments at smoke with what ran in each and what its closure holds."""

    def __init__(self, slug):
        room = load_room(slug)
        self.slug, config, self.ran, self.reached, self.closures = slug, room.PRESETS["smoke"], {}, {}, {}
        self.words, self.loaded = re.findall(r"\w+", config.model_dump_json()), {}
        results = {}
        for name, function in sorted(experiments_of(room).items(), key=lambda item: _depth(room, item[1])):
            if seeds := getattr(config, function.seeds_field):
                places.loaded.clear()
                self.ran[name] = executed(function, config, seeds[0], results)
                self.loaded[name] = set(places.loaded)
                self.closures[name] = one = Closure(sources(), slug, name, self.words)
                self.reached[name] = {
                    (module, piece) for module, found in one.reached.items() for piece in found
                }

    def unnamed(self):
        """Datasets that were loaded and are not in the closure: should be none."""
        return {name: loaded - set(self.closures[name].taken()) for name, loaded in self.loaded.items()}

    def left_out(self):
        """What ran and is not in the closure: should be nothing."""
        return {name: ran - self.reached[name] for name, ran in self.ran.items() if ran - self.reached[name]}

    def ratio(self):
        """Functions in the union of the closures over functions that ran."""
        union, ran = (
            {(module, piece.name) for found in held.values() for module, piece in found if is_function(piece)}
            for held in (self.reached, self.ran)
        )
        return len(union) / len(ran)

    def inside(self):
        """Pieces that ran, and the constants and classes that they name, each with the experiments that ran them."""
        found = defaultdict(set)
        for name, ran in self.ran.items():
            for module, piece in ran:
                found[module, piece].add(name)
                for chain in piece.names | piece.chains:
                    if home := self.closures[name]._resolve(module, chain):
                        taken = {f"{home[1]}.{key}" for key in self.loaded[name]}
                        found_there = [
                            one for one in pieces(home[0]) if one.name == home[1] and not is_function(one)
                        ]
                        for other in [*found_there, *(one for one in entries(home[0]) if one.name in taken)]:
                            found[home[0], other].add(name)
        return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1].lines, item[0][1].name)))

    def outside(self):
        """Functions of the package in no closure of the chapter."""
        union = set().union(*self.reached.values())
        return [(module, piece) for module in sources() for piece in pieces(module)
                if is_function(piece) and (module, piece) not in union]  # fmt: skip

    def is_seen(self, name, module, text):
        """Whether an experiment's digests change when a module's text does."""
        edited = Closure({**sources(), module: text}, self.slug, name, self.words)
        return edited.digests() != self.closures[name].digests()


def is_function(piece):
    """Whether a piece is a function or a method."""
    return piece.text.startswith(("FunctionDef", "AsyncFunctionDef"))


def mutant(module, piece, rng, decorated=0.2):
    """The text of a module with one thing changed inside a piece that can change a value.

    A function gains a decorator in that share of its changes. One does run where its class or module is reached, so a
    function outside every closure is given none.
    """
    tree = ast.parse(sources()[module])
    first, last = piece.lines
    inside = [
        node for node in ast.walk(tree) if first <= getattr(node, "lineno", -1) and node.end_lineno <= last
    ]
    silent = set()
    for node in ast.walk(tree):
        for text in (
            [node.returns, *map(_annotation, ast.walk(node.args))] if isinstance(node, FUNCTIONS) else []
        ):
            silent |= set(map(id, ast.walk(text))) if text else set()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent |= {id(node.value)}
    owners = [node for node in inside if isinstance(node, FUNCTIONS | ast.ClassDef)]
    if "." not in piece.name:  # what lies in the bodies of a class's members is theirs
        silent |= {id(part) for owner in owners if isinstance(owner, ast.ClassDef) for member in owner.body
                   for part in ast.walk(member)}  # fmt: skip
        owners = [node for node in owners if id(node) not in silent]
    open_to = [node for node in inside if id(node) not in silent and isinstance(node, VALUES)]
    choice = rng.choice([*open_to, *owners, *owners])
    if isinstance(choice, ast.Constant):
        choice.value = f"{choice.value}!" if isinstance(choice.value, str) else (choice.value, 1)
    elif isinstance(choice, ast.Assign | ast.AnnAssign):
        choice.value = ast.Tuple([choice.value or ast.Constant(0), ast.Constant(1)], ast.Load())
    elif isinstance(choice, ast.BinOp):
        choice.op = ast.Sub() if isinstance(choice.op, ast.Add) else ast.Add()
    elif isinstance(choice, ast.ClassDef):
        choice.bases.append(ast.Name("Mutant"))
    elif rng.random() < decorated:
        choice.decorator_list.append(ast.Name("mutated"))
    else:
        choice.body.insert(0, ast.parse("mutated = 1").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


def _annotation(node):
    return node.annotation if isinstance(node, ast.arg) else None


def check(slug, mutations, seed=0):
    """Count what goes wrong in a chapter: functions left out, mutations missed, mutations flagged for nothing."""
    chapter, rng = Chapter(slug), random.Random(seed)
    inside, outside = list(chapter.inside().items()), chapter.outside()
    missed, flagged = [], []
    for _ in range(mutations):
        (module, piece), names = rng.choice(inside)
        if not chapter.is_seen(rng.choice(sorted(names)), module, mutant(module, piece, rng)):
            missed.append((module, piece.name))
        module, piece = rng.choice(outside)
        if chapter.is_seen(rng.choice(sorted(chapter.ran)), module, mutant(module, piece, rng, decorated=0)):
            flagged.append((module, piece.name))
    left_out = {name: sorted((module, piece.name) for module, piece in found)
                for name, found in chapter.left_out().items()}  # fmt: skip
    return {"functions": len(set().union(*chapter.ran.values())), "ratio": chapter.ratio(), "left out": left_out,
            "unnamed": set().union(*chapter.unnamed().values()), "missed": missed, "flagged": flagged}  # fmt: skip


def main():
    """Every written chapter, with 200 mutations of each kind."""
    options = argparse.ArgumentParser()
    options.add_argument("--mutations", type=int, default=200)
    options.add_argument(
        "slugs", nargs="*", default=[paper.slug for paper in PAPERS.values() if not paper.planned]
    )
    asked, wrong = options.parse_args(), 0
    for slug in asked.slugs:
        begin, found = time.perf_counter(), check(slug, asked.mutations)
        faults = [*found["left out"].items(), *found["unnamed"], *found["missed"], *found["flagged"]]
        print(
            f"{slug}: {found['functions']} pieces ran, closures hold {found['ratio']:.2f} times as many functions; of "
            f"{asked.mutations} mutations inside {len(found['missed'])} were missed, of {asked.mutations} outside "
            f"{len(found['flagged'])} flagged ({time.perf_counter() - begin:.0f} s)", *faults, sep="\n  ",
        )  # fmt: skip
        wrong += len(faults)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
