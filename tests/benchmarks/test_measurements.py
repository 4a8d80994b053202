"""What the benchmarks share: the form of the files that chapters read, how tables are written, what time and memory mean.

No benchmark is run here: each is given the measurements that are stored, and has to write them as they are.
"""

import importlib
import json

import pytest
from rich.console import Console

from loupe.experiment.folders import project_root

# What measures, in the order of the file; by task where the benchmark adds the task to the rows.
MEASURED = {
    "ddbm": {
        "sampler_rows": "The sampler",
        "share_rows": "The loss in a training step",
    },
    "egno": {
        "network_rows": "Networks",
        "product_rows": "Products in a training step",
        "rollout_rows": "One forward, or a rollout",
        "simulator_rows": "The simulator",
    },
    "reflected_diffusion": {
        "accuracy_rows": "Accuracy of the kernel's score",
        "score_rows": "The kernel's score",
        "network_rows": "U-Nets",
        "share_rows": "The kernel in a training step",
    },
    "riemannian_diffusion": {
        "accuracy_rows": "Accuracy",
        "time_rows": "A sample and its score",
    },
    "sedd": {
        "loss_rows": "Score entropy",
        "step_rows": "One step of the absorbing sampler",
        "training_rows": "A training step",
        "evaluation_rows": "Evaluations of the network for a sample",
    },
    "frechet_mean": ("batch_rows", "graph_rows"),
    "ph_dimension": ("h0_rows", "estimator_rows", "distance_rows"),
    "training": ("loop_rows", "precision_rows"),
}
PEERS = {  # what only some installations have
    "reflected_diffusion": ("diffusers",),
    "frechet_mean": ("geoopt",),
    "ph_dimension": ("ripser", "threadpoolctl"),
}


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark by name, as a module."""
    monkeypatch.syspath_prepend(project_root() / "benchmarks")

    def opened(name):
        for peer in PEERS.get(name, ()):
            pytest.importorskip(peer)
        return importlib.import_module(name)

    return opened


@pytest.fixture
def measuring(benchmark):
    return benchmark("measuring")


def stored(name):
    return json.loads((project_root() / "results" / "bench" / f"{name}.json").read_text())


def in_order(value):
    """Dictionaries as lists, which are equal only if their keys have the same order."""
    if isinstance(value, dict):
        return [(key, in_order(each)) for key, each in value.items()]
    return [in_order(each) for each in value] if isinstance(value, list) else value


def form(value):
    """The same with types in place of values, but for keys."""
    if isinstance(value, dict):
        return [(key, form(each)) for key, each in value.items()]
    return type(value).__name__


def always(value):
    """A function that gives this, whatever it is called with."""
    return lambda *given: value


@pytest.mark.parametrize("name", MEASURED)
def test_measurements_are_written_as_chapters_read_them(name, benchmark, tmp_path, monkeypatch, capsys):
    script, wanted = benchmark(name), stored(name)
    measured = MEASURED[name]
    for function in measured:
        rows = wanted["rows"] if function == next(iter(measured)) else []
        if isinstance(measured, dict):
            rows = [dict(row) for row in wanted["rows"] if row["task"] == measured[function]]
            assert {row.pop("task") for row in rows} == {measured[function]}
        # An iterator: what measures in two parts gives all of it the first time, and then nothing.
        monkeypatch.setattr(script, function, always(iter(rows)))
    rates = wanted["environment"].get("matrix product, GFLOP/s")
    monkeypatch.setattr(script, "matmul_rates", always(rates), raising=False)
    # This process goes on, with its own memory and threads.
    monkeypatch.setattr(script, "keep_memory", always(True), raising=False)
    monkeypatch.setattr("torch.set_num_threads", always(None))
    monkeypatch.setattr("torch.cuda.is_available", always(False))

    script.main(["--quick", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == list(wanted)
    assert in_order(found["rows"]) == in_order(wanted["rows"])
    assert form(found["environment"]) == form(wanted["environment"])
    same = set(wanted["environment"]) - {"python", "hardware", *script.PACKAGES}
    assert {key: found["environment"][key] for key in same} == {
        key: wanted["environment"][key] for key in same
    }
    said = capsys.readouterr().out
    assert f"python {found['environment']['python']}, hardware" in said.replace("\n", " ")
    assert all(row["method"].split()[0] in said for row in wanted["rows"] if "method" in row)


def test_without_a_path_nothing_is_written(measuring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measuring.publish(Console(), {"threads": 1}, [{"task": "one", "ms": 1.0}])
    assert not list(tmp_path.iterdir())


def test_every_benchmark_is_looked_at():
    files = {path.stem for path in (project_root() / "results" / "bench").glob("*.json")}
    assert files == set(MEASURED)


def test_a_command_line_has_two_options(measuring, capsys):
    given = measuring.command_line("One line.\n\nAnd more.", ["--json", "a.json"])
    assert (given.quick, given.json) == (False, "a.json")
    given = measuring.command_line("One line.", ["--quick"])
    assert (given.quick, given.json) == (True, None)
    with pytest.raises(SystemExit):
        measuring.command_line("One line.\n\nAnd more.", ["--help"])
    said = capsys.readouterr().out
    assert "One line." in said
    assert "And more." not in said


@pytest.mark.parametrize(("kept", "words"), [(None, None), (True, "kept"), (False, "returned")])
def test_the_environment_says_what_became_of_memory_if_it_is_known(kept, words, measuring):
    about = measuring.environment(("torch", "loupe"), kept=kept, others={"precision": "float32"})
    memory = ["freed memory"] if words else []
    assert list(about) == ["python", "hardware", "threads", *memory, "precision", "torch", "loupe"]
    assert about.get("freed memory") == words
    assert about["threads"] == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (999.6, "1000"), (999.4, "999"), (1234.5, "1234"), (-5678.9, "-5679"), (250_000, "250000"),
     ([2, 10, 10], "2, 10, 10"), ("loupe", "loupe"), ("", "")],
)  # fmt: skip
def test_values_are_written_for_people(value, text, measuring):
    assert measuring.written(value) == text


def test_a_table_has_every_column_and_numbers_on_the_right(measuring):
    rows = [{"method": "loupe", "ms": 1.0}, {"method": "re-statement", "ms": 2.0, "error": 1e-7}]
    columns = measuring.table("Times", rows).columns
    assert [column.header for column in columns] == ["method", "ms", "error"]
    assert [column.justify for column in columns] == ["left", "right", "right"]
    assert [list(column.cells) for column in columns] == [
        ["loupe", "re-statement"],
        ["1", "2"],
        ["", "1e-07"],
    ]


def test_rows_are_told_their_tables(measuring):
    tables = {"one": [{"ms": 1.0}, {"ms": 2.0}], "other": [{"ms": 3.0}]}
    rows = measuring.with_tasks(tables)
    assert [list(row.items()) for row in rows] == [
        [("task", "one"), ("ms", 1.0)], [("task", "one"), ("ms", 2.0)], [("task", "other"), ("ms", 3.0)],
    ]  # fmt: skip
    assert "task" not in tables["one"][0]


def test_rates_are_operations_over_time(measuring, monkeypatch):
    """Two for each of the m k n multiplications, where every product takes a millisecond."""
    shapes = {"square": (10, 10, 10), "long": (300, 2, 5)}

    def a_millisecond(products, rounds):
        assert rounds == 7
        for product, (m, _, n) in zip(products.values(), shapes.values(), strict=True):
            assert product().shape == (m, n)
        return dict.fromkeys(products, 1.0)

    monkeypatch.setattr(measuring, "milliseconds", a_millisecond)
    assert measuring.matmul_rates(shapes, 7) == pytest.approx({"square": 0.002, "long": 0.006})


def test_the_peak_of_a_call_is_what_it_takes_and_gives_back(measuring):
    if not measuring.PEAKS.exists():
        pytest.skip("only Linux counts peaks")
    needed = measuring.in_fresh_process(measuring.peak_bytes, hundred_megabytes)
    assert 0.99e8 < needed < 1.1e8


def hundred_megabytes():
    """Ones, since zeros need no memory before they are touched; none of them is left."""
    assert len(b"\1" * 10**8) == 10**8
