"""Windows of trajectories against the raw arrays and against loops written from the recipes."""

import numpy as np
import pytest
import torch

import loupe.data
from loupe.data.places import box_root
from loupe.data.trajectories import Molecule, Motion
from loupe.dynamics import charged_windows, draw_charged, molecule_windows, motion_windows, walk_starts
from loupe.dynamics.windows import CHARGED_SEEDS, WALKS, bonded

SPLITS = ("train", "valid", "test")
RAW = {
    "run": "mocap/cmu09_run.npz",
    "split": "mocap/cmu09_run_split.npz",
    "walk": "mocap/cmu35_walk.npz",
    "ethanol": "md/ethanol_xtb.npz",
    "aspirin": "md/aspirin_xtb.npz",
}


@pytest.fixture(scope="module")
def raw():
    """The arrays of the files, read past the package."""
    root = box_root()
    found = {}
    for name, path in RAW.items():
        with np.load(root / path) as stored:
            found[name] = dict(stored)
    return found


@pytest.fixture(scope="module")
def run(raw):
    return loupe.data.load("cmu09_run")


@pytest.fixture(scope="module")
def walk(raw):
    return loupe.data.load("cmu35_walk")


def numbered(frames):
    """Frame numbers by content."""
    found = {np.ascontiguousarray(frame).tobytes(): k for k, frame in enumerate(frames)}
    assert len(found) == len(frames)
    return found


def frames_of(windows, frames):
    """Start and target frames, ``(S, 1 + P)``, found by content."""
    number = numbered(frames)
    path = torch.cat([windows.positions.unsqueeze(1), windows.targets], dim=1).numpy()
    return np.array([[number[np.ascontiguousarray(state).tobytes()] for state in one] for one in path])


# ---- charged particles


def simulated(x, v, charges, updates):
    """The recipe for one system in its own words: states after these numbers of updates; and the least distance."""
    x, v = x.copy(), v.copy()
    products = charges * charges.T
    off = ~np.eye(len(x), dtype=bool)
    nearest, found = np.inf, {}

    def force():
        nonlocal nearest
        away = x[:, None] - x[None]
        distance = np.linalg.norm(away, axis=-1) + ~off
        nearest = min(nearest, distance[off].min())
        return ((products / distance**3 * off)[..., None] * away).sum(1).clip(-100, 100)

    v += 1e-3 * force()
    for i in range(1, max(updates) + 1):
        x += 1e-3 * v
        if i in updates:
            found[i] = x.copy(), v.copy()
        v += 1e-3 * force()
    return found, nearest


@pytest.mark.parametrize("split", SPLITS)
def test_charged_frames_are_those_of_a_slow_loop(split):
    windows = charged_windows(split, 4, start=3, distance=4, slices=2)
    start = draw_charged(4, seed=CHARGED_SEEDS[split])
    calm = 0
    for k, state in enumerate(zip(*(each.numpy() for each in start), strict=True)):
        found, nearest = simulated(*state, updates=(400, 600, 800))  # frame f follows 100 (f + 1) updates
        if nearest < 0.2:
            continue
        calm += 1
        assert np.abs(windows.positions[k].numpy() - found[400][0]).max() < 1e-5
        assert np.abs(windows.velocities[k].numpy() - found[400][1]).max() < 1e-5
        assert np.abs(windows.targets[k, 0].numpy() - found[600][0]).max() < 1e-5
        assert np.abs(windows.targets[k, 1].numpy() - found[800][0]).max() < 1e-5
    assert calm >= 2
    assert windows.times.tolist() == [0.5, 1.0]
    assert windows.duration == pytest.approx(0.4)


def test_charged_windows_begin_at_frame_30_and_end_at_frame_40():
    windows = charged_windows("test", 12)
    assert windows.times.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert windows.duration == pytest.approx(1.0)
    states = [each.numpy() for each in draw_charged(12, seed=45)]
    for k in range(12):
        found, nearest = simulated(*(each[k] for each in states), updates=tuple(range(3100, 4101, 200)))
        if nearest > 0.25:
            break
    else:
        pytest.fail("no calm system among these")
    frames = np.array([found[100 * (frame + 1)][0] for frame in (32, 34, 36, 38, 40)])
    assert np.abs(windows.positions[k].numpy() - found[3100][0]).max() < 1e-4
    assert np.abs(windows.velocities[k].numpy() - found[3100][1]).max() < 1e-4
    assert np.abs(windows.targets[k].numpy() - frames).max() < 1e-4


def test_edges_of_charged_systems_know_the_product_of_their_charges():
    windows = charged_windows("test", 20, start=0, distance=1, slices=1)
    charges = draw_charged(20, seed=45)[2].numpy()
    pairs = {(i, j) for i in range(5) for j in range(5) if i != j}
    assert set(map(tuple, windows.edges.T.tolist())) == pairs
    assert windows.edges.shape == (2, 20)
    for e, (i, j) in enumerate(windows.edges.T.tolist()):
        assert np.array_equal(windows.edge_values[:, e, 0].numpy(), charges[:, i, 0] * charges[:, j, 0])
    assert set(windows.edge_values.unique().tolist()) == {-1.0, 1.0}
    assert windows.node_values is None
    assert (windows.node_features, windows.edge_features) == (1, 2)


def test_straight_lines_leave_the_error_known_of_these_systems():
    # One number fitted to 500 systems, judged on 500: published as 0.0819.
    train, test = (charged_windows(split, 500, slices=1) for split in ("train", "test"))
    way, v = (each.double().numpy() for each in (train.targets[:, 0] - train.positions, train.velocities))
    factor = (way * v).sum() / (v * v).sum()
    way, v = (each.double().numpy() for each in (test.targets[:, 0] - test.positions, test.velocities))
    assert abs(((way - factor * v) ** 2).mean() - 0.0819) < 0.012


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split must be one of train, valid, test, got 'dev'"),
        ({"slices": 11}, "a window of 1000 steps cannot be cut into slices=11 equal parts"),
        ({"slices": 0}, "slices must be a positive whole number, got 0"),
        ({"distance": -1}, "distance must be a positive whole number, got -1"),
        ({"count": -1}, "count must be a whole number of at least 0"),
        ({"start": -1}, "start"),
    ],
)
def test_charged_windows_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        charged_windows(**{"split": "train", "count": 2} | options)


def test_targets_of_charges_need_not_be_frames():
    """Four in a window of ten frames: at 250, 500, 750 and 1,000 steps after frame 30."""
    few = charged_windows("valid", 3, slices=4)
    fine = charged_windows("valid", 3, slices=20)
    assert few.times.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert torch.equal(few.targets, fine.targets[:, 4::5])
    assert torch.equal(few.positions, fine.positions)
    assert torch.equal(few.velocities, fine.velocities)
    assert torch.equal(charged_windows("valid", 3, slices=5).targets, fine.targets[:, 3::4])


# ---- people


@pytest.mark.parametrize("spread", ["uniform", "last"])
def test_windows_of_the_run_are_those_of_the_files(raw, run, spread):
    offsets = {"uniform": [6, 12, 18, 24, 30], "last": [26, 27, 28, 29, 30]}[spread]
    names = {"train": "train", "valid": "val", "test": "test"}
    for split, limit, count in (("train", 200, 200), ("valid", None, 240), ("test", None, 240)):
        windows = motion_windows(run, run.starts[split], limit=limit, spread=spread)
        assert len(windows) == count
        x, v, targets = [], [], []
        for key in sorted(raw["split"]):
            if not key.startswith(names[split]):
                continue
            path = raw["run"]["case_" + key.partition("_")[2]]
            for s in map(int, raw["split"][key][: 200 // 5 if split == "train" else 80]):
                assert s + 31 < len(path)
                x.append(path[s])
                v.append(path[s + 1] - path[s])
                targets.append([path[s + k] for k in offsets])
        assert np.array_equal(windows.positions.numpy(), x)
        assert np.array_equal(windows.velocities.numpy(), v)
        assert np.array_equal(windows.targets.numpy(), targets)
        assert windows.times.tolist() == [k / 30 for k in offsets]
        assert windows.duration == 30
        assert windows.positions.dtype == windows.targets.dtype == torch.float32


def test_walks_start_where_the_recipe_says(raw, walk):
    starts = walk_starts(walk)
    generator = np.random.default_rng(100)
    split_of = {trial: split for split, trials in WALKS.items() for trial in trials}
    frames = {key.removeprefix("trial_"): len(raw["walk"][key]) for key in raw["walk"] if "trial_" in key}
    assert set(split_of) == set(frames)
    assert [len(WALKS[split]) for split in SPLITS] == [10, 5, 5]
    for trial in sorted(split_of):
        below = min(300, frames[trial] - 33)
        drawn = generator.choice(below, size=min(100, below), replace=False)
        found = starts[split_of[trial]][trial]
        assert np.array_equal(found, drawn), trial
        assert len(set(found.tolist())) == len(found) == 100
        assert 0 <= found.min() <= found.max() <= frames[trial] - 34
    assert all(list(starts[split]) == sorted(starts[split]) for split in SPLITS)
    for one, other in zip(starts.values(), walk_starts(walk).values(), strict=True):
        assert all(np.array_equal(one[trial], other[trial]) for trial in one)


def test_walks_are_split_by_trial_and_counted(walk):
    starts = walk_starts(walk)
    trials = [set(starts[split]) for split in SPLITS]
    assert not trials[0] & trials[1]
    assert not (trials[0] | trials[1]) & trials[2]
    windows = motion_windows(walk, starts["train"], limit=200)
    assert len(windows) == 200
    assert [len(motion_windows(walk, starts[split])) for split in ("valid", "test")] == [500, 500]
    for k, (trial, frames) in enumerate(starts["train"].items()):
        own = windows.chosen(slice(20 * k, 20 * k + 20))
        found = frames_of(own, walk.trials[trial])
        assert np.array_equal(found[:, 0], frames[:20])
        assert np.array_equal(found[:, 1:], frames[:20, None] + [6, 12, 18, 24, 30])


def test_a_skeleton_is_joined_along_bones_and_over_one_joint(raw, run):
    windows = motion_windows(run, run.starts["valid"], limit=3)
    bones = {frozenset(map(int, bone)) for bone in raw["run"]["edges"]}
    assert len(bones) == 30
    wanted = {}
    for a in range(31):
        for b in range(31):
            if a != b and frozenset((a, b)) in bones:
                wanted[a, b] = 1.0
            elif a != b and any({frozenset((a, c)), frozenset((c, b))} <= bones for c in range(31)):
                wanted[a, b] = 2.0
    found = dict(
        zip(map(tuple, windows.edges.T.tolist()), windows.edge_values[0, :, 0].tolist(), strict=True)
    )
    assert found == wanted
    assert all(found[b, a] == hops for (a, b), hops in found.items())
    assert windows.edges.shape[1] == len(wanted)
    assert torch.equal(windows.edge_values, windows.edge_values[:1].expand(3, -1, -1))


def test_height_is_told_over_the_largest_of_the_training_windows(raw, run):
    train = motion_windows(run, run.starts["train"], limit=200)
    assert train.height == train.positions[..., 1].max().item()
    # A number that is given stays, whatever the windows hold.
    test = motion_windows(run, run.starts["test"], limit=6, height=train.height)
    assert test.height == train.height != test.positions[..., 1].max().item()
    assert (test.node_features, test.edge_features) == (2, 2)
    x, v, _, edge_values, node_values = test.tensors()
    graph = test.graph(6)
    features, _ = test.features(x.flatten(0, 1), v.flatten(0, 1), graph, edge_values, node_values)
    assert torch.equal(features[:, 1], x[..., 1].flatten() / train.height)
    assert torch.allclose(features[:, 0], v.norm(dim=-1).flatten())


def test_the_last_window_of_a_trial_is_taken_and_the_next_is_not(run):
    path = run.trials["05"]
    last = len(path) - 1 - 1 - 30  # the last frame has no velocity
    windows = motion_windows(run, {"05": [last]})
    assert np.array_equal(windows.targets[0, -1].numpy(), path[-2])
    with pytest.raises(ValueError, match=rf"a window from frame {last + 1} leaves trial '05'.*\[0, {last}\]"):
        motion_windows(run, {"05": [0, last + 1]})
    with pytest.raises(ValueError, match="a window from frame -1 leaves trial '05'"):
        motion_windows(run, {"05": [-1]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spread": "first"}, "spread must be 'uniform' or 'last', got 'first'"),
        ({"limit": 1}, "limit=1 leaves no window for each of 2 trials: raise it"),
        ({"limit": -3}, "limit"),
        ({"starts": {"99": [0]}}, "there is no trial '99': choose from a, b"),
        ({"slices": 31}, "slices must be from 1 to the distance of 30 frames, got 31"),
    ],
)
def test_windows_of_motion_that_cannot_be_are_refused(options, message):
    path = np.random.default_rng(0).standard_normal((40, 4, 3)).astype(np.float32)
    motion = Motion({"a": path, "b": path}, np.array([[1, 0], [2, 1], [3, 1]]), tuple("wxyz"), {})
    with pytest.raises(ValueError, match=message):
        motion_windows(motion, **{"starts": {"a": [0, 1, 2], "b": [0, 1, 2]}} | options)


def test_walks_that_are_missing_or_short_are_named():
    def motion(**lengths):
        trials = {
            trial: np.zeros((lengths.get(f"t{trial}", 50), 1, 3))
            for split in WALKS.values()
            for trial in split
        }
        return Motion({trial: path for trial, path in trials.items() if len(path)}, np.zeros((0, 2)), (), {})

    with pytest.raises(ValueError, match="trial '14' of the walks is missing: load the data set cmu35_walk"):
        walk_starts(motion(t14=0))
    with pytest.raises(ValueError, match="trial '09' has only 33 frames"):
        walk_starts(motion(t09=33))
    assert walk_starts(motion(t09=34))["train"]["09"].tolist() == [0]
    assert len(walk_starts(motion())["test"]["30"]) == 17  # all there are, where there are fewer than 100


# ---- molecules


@pytest.mark.parametrize("name", ["ethanol", "aspirin"])
def test_windows_of_molecules_are_those_of_the_files(raw, name):
    stored, molecule = raw[name], loupe.data.load(name)
    heavy = stored["z"] > 1
    windows = molecule_windows(molecule, "test", count=7)
    found = frames_of(windows, stored["R"][:, heavy])
    assert np.array_equal(found - found[:, :1], np.tile(range(0, 321, 40), (7, 1)))
    assert np.allclose(
        windows.velocities.numpy(), 100 * stored["V"][found[:, 0]][:, heavy], rtol=1e-6, atol=0
    )
    assert windows.duration == pytest.approx(320 * 2.5 / 100)
    assert windows.times.tolist() == [k / 8 for k in range(1, 9)]
    z = stored["z"][heavy].astype(np.float32)
    assert np.allclose(windows.node_values[..., 0].numpy(), z / z.max())
    assert (windows.node_features, windows.edge_features) == (2, 4)


@pytest.mark.parametrize("name", ["ethanol", "aspirin"])
def test_atoms_are_joined_where_they_were_near_in_the_first_frame(raw, name):
    heavy = raw[name]["z"] > 1
    first, z = raw[name]["R"][0, heavy].astype(float), raw[name]["z"][heavy]
    n = len(z)
    near = {
        (a, b) for a in range(n) for b in range(n) if a != b and np.linalg.norm(first[a] - first[b]) < 1.6
    }
    assert len(near) == {"ethanol": 4, "aspirin": 26}[name]  # two bonds; thirteen
    windows = molecule_windows(loupe.data.load(name), "valid", count=2)
    wanted = {}
    for a in range(n):
        for b in range(n):
            if a != b and ((a, b) in near or any({(a, c), (c, b)} <= near for c in range(n))):
                wanted[a, b] = [z[a] / z.max(), z[b] / z.max(), 1.0 if (a, b) in near else 2.0]
    assert set(map(tuple, windows.edges.T.tolist())) == set(wanted)
    assert windows.edges.shape[1] == len(wanted)
    for e, ends in enumerate(map(tuple, windows.edges.T.tolist())):
        assert np.allclose(windows.edge_values[:, e].numpy(), wanted[ends])


@pytest.mark.parametrize("name", ["ethanol", "aspirin"])
def test_parts_of_a_trajectory_are_a_window_apart(raw, name):
    molecule = loupe.data.load(name)
    heavy = raw[name]["z"] > 1
    frames = len(raw[name]["R"])
    spans, counts = [], []
    for split in SPLITS:
        found = frames_of(molecule_windows(molecule, split), raw[name]["R"][:, heavy])
        starts = np.sort(found[:, 0])
        assert np.array_equal(starts, np.arange(starts[0], starts[0] + len(starts)))  # each once, all of them
        spans.append((found.min(), found.max()))
        counts.append(len(starts))
    (a, b), (c, d), (e, f) = spans
    assert a == 0
    assert f == frames - 1
    assert c - b >= 320
    assert e - d >= 320
    lengths = np.array([last - first + 1 for first, last in spans])
    assert np.abs(lengths / (frames - 640) - [0.7, 0.15, 0.15]).max() < 1e-3
    assert counts == (lengths - 320).tolist()


def test_windows_are_drawn_without_repetition_and_by_the_seed(raw):
    molecule = loupe.data.load("ethanol")
    frames = raw["ethanol"]["R"][:, raw["ethanol"]["z"] > 1]
    few, many, other = (
        frames_of(molecule_windows(molecule, "train", count=count, seed=seed), frames)[:, 0]
        for count, seed in ((50, 0), (500, 0), (500, 1))
    )
    assert np.array_equal(few, many[:50])
    assert len(set(many)) == 500
    assert not np.array_equal(many, other)
    assert len(molecule_windows(molecule, "test", count=10**6)) == len(molecule_windows(molecule, "test"))


def made_up(frames, distance=None):
    rng = np.random.default_rng(0)
    positions = rng.standard_normal((frames, 3, 3)).astype(np.float32)
    return Molecule("made up", positions, positions, np.array([6, 8, 1]), np.zeros(frames), 2.5)


def test_short_trajectories_are_refused_just_where_a_part_holds_no_window():
    lengths, said = [], set()
    for frames in range(30, 120):
        try:
            parts = [molecule_windows(made_up(frames), split, distance=10, slices=2) for split in SPLITS]
        except ValueError as error:
            said.add(str(error).replace(str(frames), "F"))
        else:
            lengths.append(frames)
            assert all(len(split) for split in parts)
    assert all(
        sentence.startswith("made up has F frames, too few for windows of 10 frames in") for sentence in said
    )
    # 15 % of what is left of the gaps must be more than 10 frames.
    assert lengths[0] in range(87, 95)
    assert lengths == list(range(lengths[0], 120))


def test_other_windows_of_molecules_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="split must be one of train, valid, test, got 'dev'"):
        molecule_windows(made_up(200), "dev", distance=10)
    with pytest.raises(ValueError, match="slices must be from 1 to the distance of 10 frames, got 11"):
        molecule_windows(made_up(200), "train", distance=10, slices=11)
    with pytest.raises(ValueError, match="count"):
        molecule_windows(made_up(200), "train", distance=10, slices=2, count=-1)


# ---- edges


@pytest.mark.parametrize(
    ("bonds", "nodes", "wanted"),
    [
        ([(0, 1), (1, 2)], 3, {(0, 1): 1, (1, 2): 1, (0, 2): 2}),
        ([(2, 1), (1, 0), (2, 3)], 5, {(0, 1): 1, (1, 2): 1, (2, 3): 1, (0, 2): 2, (1, 3): 2}),
        ([(0, 1), (1, 2), (2, 0)], 3, {(0, 1): 1, (1, 2): 1, (0, 2): 1}),
        (
            [(0, 1), (1, 2), (2, 3), (3, 0)],
            4,
            {(0, 1): 1, (1, 2): 1, (2, 3): 1, (0, 3): 1, (0, 2): 2, (1, 3): 2},
        ),
        ([], 2, {}),
    ],
)
def test_bonds_and_bonds_of_bonds(bonds, nodes, wanted):
    edges, hops = bonded(torch.tensor(bonds, dtype=torch.long).view(-1, 2).T, nodes)
    found = dict(zip(map(tuple, edges.T.tolist()), hops.tolist(), strict=True))
    assert found == wanted | {(b, a): hop for (a, b), hop in wanted.items()}
    assert edges.shape[1] == len(found)
    assert edges.dtype == hops.dtype == torch.int64
