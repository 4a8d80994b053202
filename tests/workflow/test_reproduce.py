"""`make reproduce`: everything that is out of date and nothing else, whatever stopped it before."""

import signal
import time


def test_a_chapter_from_nothing_and_then_nothing(checkout):
    before = {path.name for path in checkout.root.iterdir()}
    status, output = checkout.reproduce("PRESET=smoke")
    assert status == 0, output
    assert "toy at smoke: 4 of 4 units are out of date (4 missing)" in output
    for unit in ("walk seed 0", "walk seed 1", "ruler seed 0", "ruler seed 1"):
        assert output.count(f"toy/{unit} at smoke: ") == 1
    head, *_, total = output.strip().splitlines()[-4:]
    assert head.split() == [
        "chapter",
        "experiment",
        "units",
        "seconds",
        "CPU-seconds",
        "peak",
        "MB",
        "verdicts",
    ]
    assert total.split()[:5] == ["toy", "all", "of", "it", "4/4"]
    assert total.split()[-2:] == ["●", "1"]
    executed = checkout.root / ".loupe/runs/toy-smoke.ipynb"
    was, when = checkout.finished("smoke"), executed.stat().st_mtime_ns

    status, output = checkout.reproduce("PRESET=smoke")
    assert status == 0, output
    assert "toy at smoke: every unit is up to date" in output
    assert "seed" not in output
    assert (checkout.finished("smoke"), executed.stat().st_mtime_ns) == (was, when)
    assert {path.name for path in checkout.root.iterdir()} <= {*before, ".loupe"}
    assert not list(checkout.home.iterdir())

    for result in (checkout.root / ".loupe/results/smoke/toy").glob("walk-s*"):  # lost after a finished run
        result.unlink()
    status, output = checkout.reproduce("PRESET=smoke")
    assert status == 0, output
    assert "toy at smoke: 2 of 4 units are out of date (2 missing)" in output
    assert output.strip().splitlines()[-1].split()[:5] == ["toy", "all", "of", "it", "4/4"]
    was = checkout.finished("smoke")

    code = checkout.root / "lib/loupe/papers/toy/experiments.py"
    code.write_text(code.read_text().replace('"length": 1.0', '"length": 2.0'))
    status, output = checkout.reproduce("PRESET=smoke", "SEEDS=0")
    assert status == 0, output
    assert "toy at smoke: 1 of 2 units are out of date (1 other code)" in output
    assert [name for name, content in checkout.finished("smoke").items() if content != was[name]] == [
        name for name in was if name.startswith("ruler-s0")
    ]


def test_killed_and_interrupted_and_run_again(checkout):
    """SIGKILL for the whole process group, then Ctrl-C: what was finished stays as it is, the rest follows."""
    walks = ("PRESET=cpu", "SEEDS=0 1")
    kept = {}
    for sign in (signal.SIGKILL, signal.SIGINT):
        process, deadline = checkout.start(*walks), time.monotonic() + 60
        while len(checkout.finished("cpu")) <= len(kept):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "no unit in time"
            time.sleep(0.02)
        output = checkout.kill(process, sign)
        assert process.returncode != 0
        assert "Traceback" not in output
        now = checkout.finished("cpu")
        assert kept.items() <= now.items()
        kept = now
    assert 2 <= len(kept) <= 4
    status, output = checkout.reproduce(*walks)
    assert status == 0, output
    now = checkout.finished("cpu")
    assert len(now) == 4
    assert kept.items() <= now.items()


def test_a_unit_that_fails_is_said_at_the_end_and_stops_no_other(checkout):
    status, output = checkout.reproduce("PRESET=gpu")
    assert status != 0
    assert len(checkout.finished("gpu")) == 3
    assert "all of it     3/4" in output
    assert "toy/walk seed 1 at gpu" in output.split("verdicts")[1]
    assert "the walker fell" in output.split("verdicts")[1]
    assert "snakemake" not in output.split("verdicts")[1]


def test_a_mistake_is_one_sentence(checkout):
    status, output = checkout.reproduce("PRESET=smoke", "CHAPTERS=toy ph_dimensio")
    assert status != 0
    assert "loupe: no paper is called 'ph_dimensio': did you mean 'ph_dimension'?" in output
    assert "Traceback" not in output
