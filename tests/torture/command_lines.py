"""Mistyped commands: every one ends with exit status 0, 1 or 2 and at most a few lines, never a traceback."""

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from loupe import cli
from loupe.errors import LoupeError

VERBS = ("list", "compute", "run", "publish", "claims", "summary", "book", "data", "data fetch", "data verify",
         "data needs", "help", "comptue", "")  # fmt: skip
OPTIONS = ("--preset", "--experiment", "--seed", "--set", "--jobs", "--device", "--recompute", "--mark", "--json",
           "--check", "--help", "-h", "--version", "--no-recompute", "--presett", "-p", "--")  # fmt: skip
VALUES = ("ph_dimension", "sedd", "ddbm", "nope", "smoke", "cpu", "gpu", "paper", "known_dimensions", "0", "-1", "1e9",
          "99999999999999999999", "nan", "repeats=5", "repeats=", "=5", "repeats=NaN", "repeats=1e400", "x=[[[[",
          "seeds=[0,0]", "seeds=[]", 'clouds={"a":[1]}', "mnist", "cifar10", "../..", "/etc/passwd", "", " ", "\n",
          "\x1b[31m", "é", "日本語", "💥", "a" * 5000, "'; touch x; '", "$(touch x)", "{b}", "%s%n", "cuda:99",
          "cuda", "True", "None", "[" * 3000, "x=" + "9" * 5000)  # fmt: skip
HEAVY = ("loupe.experiment.compute.compute", "loupe.publishing.notebooks.run_notebook", "loupe.data.fetching.fetch",
         "loupe.publishing.notebooks.publish_notebook", "loupe.publishing.site.build_site",
         "loupe.data.door.verify")  # fmt: skip


def command_line(rng: random.Random) -> list[str]:
    """A verb, and what people, wrappers and cats add to it."""
    words = rng.choice(VERBS).split()
    for _ in range(rng.randrange(6)):
        if rng.random() < 0.5:
            words.append(rng.choice(OPTIONS))
        if rng.random() < 0.8:
            words.append(rng.choice(VALUES))
    if rng.random() < 0.1:
        words.append("".join(chr(rng.randrange(1, 0x2FF)) for _ in range(rng.randrange(1, 20))))
    return words


def fault(words: list[str], status: object, errors: str) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if status not in (0, 1, 2, None):
        return f"exit status {status}: {words!r}"
    # What cannot be parsed at all is quoted whole by the parser.
    if "Traceback" in errors or len(errors) > 4000 + len("".join(words)):
        return f"{len(errors)} characters: {words!r}: {errors[-300:]}"
    return ""


def in_process(number: int, seed: int = 0) -> tuple[Counter, list[str]]:
    """So many command lines in this process; what would take long is refused instead."""
    rng, counts, faults = random.Random(seed), Counter(), []

    def refuse(*arguments, **options):
        raise LoupeError("too long for a trial.")

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, LOUPE_RESULTS=folder):
        patches = [mock.patch(name, refuse) for name in HEAVY]
        for patch in patches:
            patch.start()
        try:
            for _ in range(number):
                words, out, err = command_line(rng), io.StringIO(), io.StringIO()
                with redirect_stdout(out), redirect_stderr(err), mock.patch("sys.argv", ["loupe", *words]):
                    try:
                        cli.main()
                        status = 0
                    except SystemExit as end:
                        status = 1 if isinstance(end.code, str) else end.code
                        err.write(end.code if isinstance(end.code, str) else "")
                    except BaseException as error:
                        status, _ = repr(error), err.write(f"Traceback {error!r}")
                counts[f"status {status}"] += 1
                faults += filter(None, [fault(words, status, err.getvalue())])
        finally:
            for patch in patches:
                patch.stop()
    return counts, faults


def as_processes(number: int, seed: int = 1) -> tuple[Counter, list[str]]:
    """So many as processes, of the verbs that only look; half of them where nothing but ASCII is known."""
    rng, counts, faults = random.Random(seed), Counter(), []
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    with tempfile.TemporaryDirectory() as folder:
        while sum(counts.values()) < number:
            words = [word for word in command_line(rng) if "\0" not in word]
            if words[:1] in (["compute"], ["run"], ["publish"], ["book"], ["data"]):
                continue
            environment = os.environ | (plain if rng.random() < 0.5 else {})
            done = subprocess.run(
                [sys.executable, "-m", "loupe", *words], capture_output=True, encoding="utf-8", errors="replace",
                env=environment | {"LOUPE_RESULTS": folder}, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            counts[f"status {done.returncode}"] += 1
            faults += filter(None, [fault(words, done.returncode, done.stderr)])
    return counts, faults


def main():
    """Ten thousand in process, five hundred as processes, and counts."""
    options = argparse.ArgumentParser()
    options.add_argument("--lines", type=int, default=10_000)
    options.add_argument("--processes", type=int, default=500)
    asked = options.parse_args()
    wrong = 0
    for what, (counts, faults) in (
        ("in process", in_process(asked.lines)),
        ("as processes", as_processes(asked.processes)),
    ):
        print(f"{sum(counts.values())} command lines {what}:", dict(counts))
        print(*sorted(set(faults))[:20], sep="\n")
        wrong += len(faults)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
