"""A chapter in a notebook: stored results, and what it says of missing, outdated or damaged ones."""

from types import SimpleNamespace

import pytest
from toy import CLAIMS, PRESETS, ROOM

from loupe.errors import LoupeError
from loupe.experiment import chapter as chapter_module
from loupe.experiment.chapter import Chapter
from loupe.experiment.provenance import code_digests
from loupe.experiment.results import Runs, Stored, columns, of_shared_seeds, row
from loupe.experiment.store import Store
from loupe.experiment.units import units_of

PROVENANCE = {"seconds": 2.0, "cpu_seconds": 1.5, "peak_memory_mb": 80, "commit": "abc", "hardware": "a machine",
              "versions": {"python": "3.11"}, "code": {}}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


def fill(store, preset="cpu", *, length=1.0, code=None):
    for unit in units_of(ROOM, preset):
        values = (
            ROOM.walk(unit.config, seed=unit.seed, device="cpu")
            if unit.experiment == "walk"
            else {"length": length}
        )
        read = ["steps"] if unit.experiment == "walk" else ["scale"]
        provenance = PROVENANCE | {"code": code or code_digests("ph_dimension", unit.experiment, ())}
        store.write(unit, values, settings=unit.config.settings(read), provenance=provenance)


def chapter(store, preset="cpu", overrides=None, **options):
    stored = Stored(ROOM, preset, store, overrides or {})
    config = PRESETS[preset].override(overrides) if overrides else PRESETS[preset]
    return Chapter(stored, config, **options)


def test_runs_stack_the_seeds(store):
    fill(store)
    runs = chapter(store).run(ROOM.walk)
    assert runs.seeds == (0, 1, 2)
    assert runs["path"].shape == (3, 10)
    assert list(runs["end"]) == [0.0, 1.0, 2.0]
    assert runs.first["end"] == 0.0


def test_a_missing_seed_is_one_sentence_with_the_command(store):
    fill(store)
    (store.published / "cpu/ph_dimension/walk-s1.json").unlink()
    with pytest.raises(
        LoupeError, match=r"walk has no stored result .* for seed 1 at preset cpu: type `loupe compute"
    ):
        chapter(store).run(ROOM.walk)


def test_only_smoke_and_recompute_compute(store, monkeypatch):
    asked = []
    monkeypatch.setattr(
        chapter_module, "compute", lambda units, store, recompute: asked.append((len(units), recompute))
    )
    fill(store)
    fill(store, "smoke")
    chapter(store).run(ROOM.walk)
    assert asked == []
    chapter(store, "smoke").run(ROOM.walk)
    chapter(store, recompute=True).run(ROOM.walk)
    assert asked == [(1, False), (3, True)]


def test_the_card_tells_how_results_stand(store):
    fill(store)
    card = str(chapter(store).card())
    assert "9 CPU-seconds (12 s in 6 one-thread processes), peak 80 MB" in " ".join(card.split())
    assert "current" in card
    fill(store, code={"loupe.gone": "0"})
    (store.published / "cpu/ph_dimension/walk-s2.json").unlink()
    (store.published / "cpu/ph_dimension/walk-s1.json").write_text("{")
    shown = chapter(store).card()
    text = " ".join(str(shown).split())
    assert "4 made by other code" in text
    assert "1 missing: walk seed 2" in text
    assert "1 damaged: walk seed 1" in text
    assert "current" not in text
    assert "warn" in shown.html


def test_a_page_told_from_a_larger_preset_says_so(store, monkeypatch):
    monkeypatch.setitem(PRESETS, "gpu", PRESETS["cpu"].override({"steps": 50}))
    fill(store)
    alone = str(chapter(store).card()), chapter(store).differences(), chapter(store).costs()
    assert "page told from" not in alone[0]
    assert "here, at cpu" in str(alone[1])
    fill(store, "gpu")
    units = units_of(ROOM, "gpu")
    (store.published / f"gpu/ph_dimension/walk-s{units[0].seed}.json").unlink()
    card = " ".join(str(chapter(store).card()).split())
    assert f"page told from gpu: {len(units) - 1} of {len(units)} runs so far, seed" in card
    assert "your own run cpu" in card
    assert "gpu: 8 CPU-seconds" in card
    assert "cpu: 9 CPU" in card
    assert "warn" not in chapter(store).card().html  # what is missing at gpu is no fault of a reader's
    head, *rows = str(chapter(store).differences()).splitlines()
    assert "this page, gpu" in head
    assert "your own run, cpu" in head
    assert [row.split() for row in rows] == [["steps", "of", "the", "walk", "50", "10", "100"]]
    costs = str(chapter(store).costs()).splitlines()
    assert {line.split()[1] for line in costs[1:]} == {"gpu", "cpu"}
    own = chapter(store, overrides={"scale": 2.0})
    assert [one.preset for one in own.shown] == ["cpu"]  # its figures are drawn from its own results
    assert [one.preset for one in chapter(store, "gpu").shown] == ["gpu"]


def test_overrides_are_on_the_card(store):
    assert "scale = 2" in str(chapter(store, overrides={"scale": 2.0}).card())


def test_differences_and_costs(store):
    fill(store)
    assert "steps of the walk" in str(chapter(store).differences())
    costs = str(chapter(store).costs()).splitlines()
    assert costs[1].split()[:4] == ["walk", "cpu", "3", "4"]  # 3 x 1.5 CPU-seconds


def test_the_ledger_has_a_column_for_every_judged_preset(store):
    fill(store)
    gpu = store.ledger_file("ph_dimension", "gpu")
    gpu.parent.mkdir(parents=True)
    gpu.write_text("")
    shown = chapter(store).ledger(CLAIMS)
    assert shown.html.count("<th>") == 6
    assert all(row.count("<td") == 6 for row in shown.html.split("<tr>")[2:])
    assert shown.html.index("ours · gpu") < shown.html.index("ours · cpu")
    assert "needs a telescope" in str(shown)


def test_the_verdict_follows_the_store(store):
    fill(store)
    assert chapter(store).judge()[0].verdict == "reproduced"
    fill(store, length=2.0)
    assert chapter(store).judge()[0].verdict == "not reproduced"


def test_source_is_the_code_that_runs(store):
    block = chapter(store).source(ROOM.walk)
    assert "cumsum" in str(block)
    assert '"""A random walk."""' not in str(block)
    assert block.markdown.startswith("```python\n")


def test_runs_are_compared_at_the_seeds_that_all_have():
    def runs(*seeds):
        return Runs(tuple(SimpleNamespace(seed=seed) for seed in seeds))

    ours, theirs = of_shared_seeds(runs(2, 0, 1), runs(1, 2, 3))
    assert ours.seeds == theirs.seeds == (2, 1)


def test_rows_are_columns_and_one_is_found_by_its_labels():
    first, second = (
        columns({"method": method, "scale": scale, "score": score + seed}
                for method, scale, score in (("HNN", 0.1, 1.0), ("HNN", 1.0, 2.0), ("MLP", 1.0, 3.0)))
        for seed in (0, 10)
    )  # fmt: skip
    assert first["method"].tolist() == ["HNN", "HNN", "MLP"]
    runs = Runs((first, second))
    assert row(runs, "score", method="HNN", scale=1.0).tolist() == [2, 12]
    assert row(first, "score", method="MLP") == 3
    for found, labels in ((0, {"method": "GCN"}), (2, {"method": "HNN"}), (2, {"scale": 1.0})):
        with pytest.raises(LoupeError, match=f"{found} rows have "):
            row(runs, "score", **labels)
