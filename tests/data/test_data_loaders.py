"""Every dataset as loaded, against known facts."""

import dataclasses

import numpy as np
import pytest
from small_sets import refused

from loupe.data import CATALOG, load
from loupe.data.text import decode


def test_mnist(box):
    images = load("mnist")
    assert images.x_train.shape == (60000, 28, 28)
    assert images.x_test.shape == (10000, 28, 28)
    assert (images.x_train.dtype, images.y_train.dtype) == (np.uint8, np.int64)
    assert images.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert images.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert images.brightest == images.x_train.max() == 255
    assert abs(images.x_train.mean() / 255 - 0.1307) < 1e-4
    assert len(images.classes) == 10


def test_cifar10_says_that_it_is_lossy(mirror):
    images = load("cifar10", train=3000, test=500)
    assert images.x_train.shape == (3000, 32, 32, 3)
    assert images.x_test.shape == (500, 32, 32, 3)
    assert images.x_train.dtype == np.uint8
    assert images.variant == "JPEG quality 75 copy (lossy)"
    assert np.allclose(images.x_train.mean((0, 1, 2)) / 255, [0.491, 0.482, 0.447], atol=0.01)
    assert np.bincount(images.y_train, minlength=10).min() > 200
    refused("has 10000 test images, not 10001", load, "cifar10", train=1, test=10001)


def test_digits_are_split_the_same_way_every_time():
    images, again = load("digits"), load("digits")
    assert images.x_train.shape == (1437, 8, 8)
    assert images.x_test.shape == (360, 8, 8)
    assert images.brightest == images.x_train.max() == 16
    assert np.array_equal(images.x_test, again.x_test)
    assert np.abs(np.bincount(images.y_test) - 36).max() <= 1
    rows = {image.tobytes() for image in images.x_train} & {image.tobytes() for image in images.x_test}
    assert not rows
    assert load("digits", test=600, seed=3).x_train.shape == (1197, 8, 8)
    refused("test part of 5 digits", load, "digits", test=5)


def test_omniglot(box):
    characters = load("omniglot_small")
    assert characters.images.shape == (4840, 28, 28)
    assert len(characters.alphabets) == 8
    assert np.array_equal(np.unique(characters.character), np.arange(242))
    assert np.array_equal(np.bincount(characters.character), np.full(242, 20))
    parts = [characters.rows(part) for part in ("train", "valid", "test")]
    assert [len(rows) for rows in parts] == [242 * 16, 242 * 2, 242 * 2]
    assert len(np.unique(np.concatenate(parts))) == 4840
    refused("no split 'dev'", characters.rows, "dev")


GRAPHS = {
    "cora": (2708, 5278, (2708, 1433), 7, (140, 500, 1000)),
    "disease_lp": (2665, 2664, (2665, 11), 2, (None,) * 3),
    "airport": (3188, 18631, (3188, 5), 4, (None,) * 3),
    "disease_nc_structure": (1044, 1043, None, 2, (None,) * 3),
    "pubmed_partial": (19717, 44327, (19717, 500), 3, (60, 500, 1000)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name, box):
    graph = load(name)
    nodes, edges, features, classes, split = GRAPHS[name]
    assert graph.num_nodes == nodes == len(graph.labels)
    assert graph.edges.shape == (edges, 2)
    assert graph.edges.dtype == graph.labels.dtype == np.int64
    assert (graph.edges[:, 0] <= graph.edges[:, 1]).all()
    assert len(np.unique(graph.edges, axis=0)) == edges
    assert graph.edges.max() < nodes
    assert (None if graph.features is None else graph.features.shape) == features
    assert np.array_equal(np.unique(graph.labels), np.arange(classes))
    assert (
        tuple(part if part is None else len(part) for part in (graph.train, graph.valid, graph.test)) == split
    )
    assert graph.notes


def test_facts_about_graphs(box):
    cora = load("cora")
    assert np.count_nonzero(cora.features) == 49216
    assert (cora.edges[:, 0] != cora.edges[:, 1]).all()
    pubmed = load("pubmed_partial")
    assert len(pubmed.known) == 1060
    assert np.isfinite(pubmed.features[pubmed.known]).all()
    assert np.isnan(pubmed.features).all(1).sum() == 19717 - 1060
    assert np.bincount(load("airport").labels).tolist() == [521, 1443, 999, 225]
    assert np.bincount(load("disease_lp").labels).tolist() == [1605, 1060]
    assert np.bincount(load("disease_nc_structure").labels).tolist() == [833, 211]
    loops = {name: int((load(name).edges[:, 0] == load(name).edges[:, 1]).sum()) for name in GRAPHS}
    assert loops == {"cora": 0, "disease_lp": 0, "airport": 1, "disease_nc_structure": 0, "pubmed_partial": 3}


@pytest.mark.parametrize(("name", "depth"), [("disease_lp", 4), ("disease_nc_structure", 5)])
def test_disease_is_a_tree_with_parents_first(name, depth, box):
    graph = load(name)
    parent, child = graph.edges.T
    assert np.array_equal(np.sort(child), np.arange(1, graph.num_nodes))
    level = np.zeros(graph.num_nodes, int)
    for k in np.argsort(child):
        level[child[k]] = level[parent[k]] + 1
    assert level.max() == depth
    assert not (graph.labels[child][graph.labels[parent] == 0]).any()


def test_earth(box):
    earth = load("earth")
    counts = {key: len(points.latitude) for key, points in earth.items()}
    assert counts == {"volc": 827, "quakes": 6120, "flood": 4875, "fire": 12809}
    places = {key: np.stack([points.latitude, points.longitude]) for key, points in earth.items()}
    distinct = {key: np.unique(place, axis=1).shape[1] for key, place in places.items()}
    assert distinct == {"volc": 267, "quakes": 5447, "flood": 4861, "fire": 12802}
    for points in earth.values():
        assert np.allclose(np.linalg.norm(points.xyz, axis=1), 1, atol=1e-15)
        assert np.allclose(np.rad2deg(np.arcsin(points.xyz[:, 2])), points.latitude)
        assert np.allclose(
            np.cos(np.arctan2(points.xyz[:, 1], points.xyz[:, 0]) - np.deg2rad(points.longitude)), 1
        )
    assert earth["volc"].latitude.min() == -62.970
    assert earth["fire"].longitude.max() == 171.977


@pytest.mark.parametrize(
    ("name", "frames", "atoms", "kelvin"),
    [("ethanol", 8000, 9, 556), ("aspirin", 4107, 21, 503), ("malonaldehyde", 2667, 9, 535)],
)
def test_molecules_have_physical_units(name, frames, atoms, kelvin, box):
    molecule = load(name)
    assert molecule.positions.shape == molecule.velocities.shape == (frames, atoms, 3)
    assert molecule.energies.shape == (frames,)
    assert molecule.step == 2.5
    # Velocities are the slopes of the positions, in angstrom per femtosecond.
    slope = (molecule.positions[2:] - molecule.positions[:-2]) / (2 * molecule.step)
    assert np.corrcoef(slope.ravel(), molecule.velocities[1:-1].ravel())[0, 1] > 0.97
    masses = np.array([{1: 1.008, 6: 12.011, 8: 15.999}[int(number)] for number in molecule.numbers])
    # Kinetic temperature with 3n - 3 degrees of freedom; 1 amu (A/fs)^2 / k_B = 1.2027e6 K.
    kinetic = (masses[:, None] * molecule.velocities.astype(float) ** 2).sum((1, 2))
    assert abs(kinetic.mean() * 1.20272e6 / (3 * atoms - 3) - kelvin) < 2


def test_motion(box):
    run, walk = load("cmu09_run"), load("cmu35_walk")
    assert len(run.trials) == 11
    assert len(walk.trials) == 20
    assert {"03", "04", "06"}.isdisjoint(walk.trials)
    assert run.joints == walk.joints
    assert np.array_equal(run.bones, walk.bones)
    assert run.bones.shape == (30, 2)
    assert (run.bones[:, 1] < run.bones[:, 0]).all()
    assert walk.trials["01"].shape == (224, 31, 3)
    assert walk.starts == {}
    assert {part: sorted(trials) for part, trials in run.starts.items()} == {
        "train": ["01", "02", "05", "06", "10"],
        "valid": ["00", "04", "09"],
        "test": ["03", "07", "08"],
    }
    for trials in run.starts.values():
        for trial, starts in trials.items():
            assert starts.shape == (80,)
            assert starts.max() + 30 < len(run.trials[trial])
    for motion in (run, walk):
        for positions in motion.trials.values():
            child, parent = motion.bones.T
            lengths = np.linalg.norm(positions[:, child] - positions[:, parent], axis=-1)
            assert lengths.std(0).max() < 1e-4


def test_pedestrians(box):
    scenes = load("eth_ucy")
    assert list(scenes) == sorted(scenes)
    rows = [len(scene.frame) for scene in scenes.values()]
    assert rows == [5492, 6543, 5153, 9722, 5005, 21813, 17953, 2747]
    for scene in scenes.values():
        assert scene.position.shape == (len(scene.frame), 2)
        assert scene.frame.min() < scene.valid_start <= scene.frame.max()
        assert (scene.frame % 10 == scene.frame[0] % 10).all()
        assert len(np.unique(np.stack([scene.frame, scene.person]), axis=1).T) == len(scene.frame)


def test_series(box):
    vowels, motions = load("japanesevowels"), load("basicmotions")
    assert (len(vowels.x_train), len(vowels.x_test)) == (270, 370)
    assert np.bincount(vowels.y_train).tolist() == [30] * 9
    assert np.bincount(vowels.y_test).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(series) for series in vowels.x_train + vowels.x_test]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert {series.shape[1] for series in vowels.x_train} == {12}
    assert {series.shape for series in motions.x_train + motions.x_test} == {(100, 6)}
    assert motions.classes == ("Standing", "Running", "Walking", "Badminton")
    assert np.bincount(motions.y_test).tolist() == [10] * 4


def test_novels(box):
    start = load("novels27", split="train", characters=100_000)
    more = load("novels27", characters=300_000)
    assert start.ids.shape == (100_000,)
    assert np.array_equal(start.ids, more.ids[:100_000])
    assert start.ids.max() <= 26
    share = np.bincount(load("novels27", characters=3_000_000).ids, minlength=27) / 3_000_000
    assert abs(-(share * np.log2(share)).sum() - 4.0776) < 0.01
    assert len(load("novels27", split="valid").ids) == 1_031_104
    assert len(load("novels27", split="test").ids) == 1_077_518
    refused("no split 'dev': it has 'train', 'valid', 'test'", load, "novels27", split="dev")
    refused("Cannot read 0 characters", load, "novels27", characters=0)


@pytest.mark.parametrize(
    ("name", "length"), [("zs_wikitext2", 599_993), ("zs_shakespeare", 599_998), ("zs_state_union", 599_997)]
)
def test_zero_shot_texts(name, length, box):
    text = load(name)
    assert text.ids.shape == (length,)
    assert "  " not in decode(text.ids)
    assert np.array_equal(load(name, characters=50).ids, text.ids[:50])


def test_words(mirror):
    assert load("zs_ptb").ids.shape == (406_277,)
    assert load("wikitext2").text.startswith(" \n = Robert <unk> = \n")
    assert load("ptb", split="valid").text.split()[:2] == ["consumers", "may"]
    refused("no split 'train': it has 'valid', 'test'", load, "wikitext2", split="train")


def test_topics_ship_with_python():
    parts = {split: load("cpython_topics", split=split).ids for split in ("train", "valid", "test")}
    assert len(parts["train"]) > 200_000
    assert abs(len(parts["train"]) / len(parts["valid"]) - 8) < 0.01
    assert "python" in decode(parts["test"])
    assert np.array_equal(load("cpython_topics", characters=1000).ids, parts["train"][:1000])


AT_HAND = [name for name, entry in CATALOG.items() if entry.in_box or entry.built_in]


def test_the_box_holds_the_beginning_of_the_novels(box, mirror, monkeypatch):
    monkeypatch.setenv("LOUPE_DATA", "")
    start = load("novels27", characters=8_000_000).ids
    refused(
        r"first 8,000,000 characters of novels27: ask for no more\. .*missing",
        lambda: load("novels27", characters=8_000_001),
    )
    refused("first 8,000,000 characters", load, "novels27")
    monkeypatch.setenv("LOUPE_DATA", str(mirror))
    more = load("novels27", characters=8_000_001).ids
    assert np.array_equal(more[:8_000_000], start)
    for split in ("valid", "test"):
        boxed = load("novels27", split=split).ids
        monkeypatch.setattr("loupe.data.places.box_root", lambda: None)
        assert np.array_equal(load("novels27", split=split).ids, boxed)
        monkeypatch.setattr("loupe.data.places.box_root", lambda: box)


@pytest.mark.parametrize("name", AT_HAND)
def test_everything_comes_as_frozen_records(name, box):
    found = load(name, **({"characters": 1000} if name == "novels27" else {}))
    for record in found.values() if isinstance(found, dict) else (found,):
        assert dataclasses.is_dataclass(record)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, None)
