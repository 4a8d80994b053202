"""Damaged files: each is read as what was written, or refused in one sentence."""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from loupe.errors import LoupeError
from loupe.experiment.folders import read_ledger
from loupe.experiment.results import write_ledger
from loupe.experiment.store import Store
from loupe.experiment.units import units_of
from loupe.papers import load_room
from loupe.publishing.notebooks import read_notebook
from loupe.publishing.reproduce import identity, write_mark
from loupe.training import Batches, fit

VALUES = ([], {}, None, 0, -1, True, 1e300, "x", "0" * 64, [[[]]], {"not finite": "much"})


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits turned, parts cut, doubled, overwritten or replaced."""
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    turned = bytearray(content)
    turned[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return rng.choice(
        (
            bytes(turned),
            content[:start],
            content[start:],
            content[:start] + content[end:],
            content[:end] + content[start:],
            content[:start] + rng.randbytes(end - start) + content[end:],
            b"",
            b"[" * rng.randrange(1, 100_000),
            "é".encode("latin-1") + content,
        )
    )


def change_json(content: bytes, rng: random.Random) -> bytes:
    """One value of a JSON file replaced, taken away or put elsewhere."""
    tree = json.loads(content)
    places = [(tree, key) for key in tree]
    for value, key in places:
        inner = value[key]
        if isinstance(inner, dict | list) and len(places) < 400:
            places += [(inner, one) for one in (inner if isinstance(inner, dict) else range(len(inner)))]
    owner, key = rng.choice(places)
    if rng.random() < 0.3 and isinstance(owner, dict):
        del owner[key]
    else:
        owner[key] = rng.choice(VALUES)
    return json.dumps(tree).encode()


class Victims:
    """A small store, a notebook and a checkpoint; each file with a way to read it and what that should give."""

    def __init__(self, folder: Path):
        self.store = Store(folder / "results", folder / "scratch")
        self.units = units_of(load_room("ph_dimension"), "cpu", experiment="known_dimensions")
        for unit in self.units:
            values = {"number": unit.seed + 0.5, "word": "yes", "array": np.arange(50.0) + unit.seed}
            settings = unit.config.settings(["cloud_points", "repeats"])
            self.store.write(unit, values, settings=settings, provenance={"code": {}, "seconds": 1.0})
        write_ledger(load_room("ph_dimension"), "cpu", self.store)
        self.notebook = folder / "ph_dimension.ipynb"
        self.notebook.write_bytes(SMALL)
        self.checkpoint = folder / "run.pt"
        self.trained = self.train()
        first = self.store.path(self.units[0])
        (npz,) = first.parent.glob(f"{first.stem}.*.npz")
        ledger = self.store.ledger_file("ph_dimension", "cpu")
        self.done = folder / "unit.done"
        self.mark()
        self.all = {
            "mark": (self.done, self.mark),
            "sidecar": (first, self.result), "arrays": (npz, self.result), "ledger": (ledger, self.ledger),
            "notebook": (self.notebook, self.cells), "checkpoint": (self.checkpoint, self.train),
        }  # fmt: skip

    def result(self):
        found = self.store.find(self.units[0])
        return found and {name: np.asarray(found[name]).tolist() for name in found} | {"at": found.settings}

    def mark(self):
        # Whatever it says, it is written anew where that is not what it should say.
        write_mark(self.done, identity(self.store.find(self.units[0])))
        return self.done.read_bytes()

    def ledger(self):
        return read_ledger(self.store, "ph_dimension", "cpu")

    def cells(self):
        return [cell.source for cell in read_notebook(self.notebook).cells]

    def train(self):
        torch.manual_seed(0)
        network, x = torch.nn.Linear(2, 1), torch.ones(4, 2)
        loss = lambda network, batch, generator: network(batch[0]).square().mean()  # noqa: E731
        run = fit(network, loss, Batches(x, size=2), torch.optim.SGD(network.parameters(), 0.1), steps=2,
                  checkpoint=self.checkpoint)  # fmt: skip
        return [parameter.tolist() for parameter in run.network.parameters()]


SMALL = json.dumps(
    {"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Title"}],
     "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
).encode()  # fmt: skip


def attack(folder: Path, number: int, seed: int = 0) -> tuple[Counter, list[str]]:
    """Damage so many files, one after another; return what came of it, and what should not have."""
    rng, victims = random.Random(seed), Victims(folder)
    counts, faults = Counter(), []
    for _ in range(number):
        kind = rng.choice(list(victims.all))
        path, look = victims.all[kind]
        content, good = path.read_bytes(), look() if kind != "checkpoint" else victims.trained
        try:
            change = (
                change_json
                if kind in ("sidecar", "ledger", "notebook") and rng.random() < 0.5
                else change_bytes
            )
            path.write_bytes(change(content, rng))
            same = path.read_bytes() == content
            found = look()
            if found is None or found == good or (kind == "notebook" and not same):
                # A notebook carries no digest: what is read from one is looked at by people, and in git.
                counts[f"{kind}: same"] += 1
            else:
                faults.append(f"{kind}: read as {str(found)[:100]}")
        except (LoupeError, ValueError) as error:
            counts[f"{kind}: refused"] += 1
            if "\n" in str(error) or len(str(error)) > 900:
                faults.append(f"{kind}: {str(error)[:200]!r} is no sentence")
        except Exception as error:
            faults.append(f"{kind}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            path.write_bytes(content)
    return counts, faults


def main():
    """Ten thousand files, and counts."""
    options = argparse.ArgumentParser()
    options.add_argument("--files", type=int, default=10_000)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = attack(Path(folder), asked.files)
    print(
        f"{asked.files} damaged files:",
        ", ".join(f"{what} {count}" for what, count in sorted(counts.items())),
    )
    print(*sorted(set(faults)), sep="\n")
    sys.exit(len(faults) > 0)


if __name__ == "__main__":
    main()
