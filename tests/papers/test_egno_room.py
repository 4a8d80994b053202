"""The glue of the chapter: how networks are trained and tested, against explicit calls; what settings refuse."""

import numpy as np
import pytest
import torch

from loupe.data.trajectories import Motion
from loupe.dynamics import (
    MessagePassing,
    TemporalConvolution,
    Windows,
    charged_windows,
    motion_windows,
    uniform_frames,
)
from loupe.dynamics.windows import bonded
from loupe.errors import LoupeError
from loupe.networks.egnn import Graph
from loupe.papers.egno import PRESETS, experiments
from loupe.papers.egno import experiments_training as room

CPU = {"seed": 0, "device": "cpu"}
FEW = {"steps": 2, "batch": 6, "evaluations": 1}
TINY = PRESETS["smoke"].override({
    "systems": 24, "valid_systems": 10, "test_systems": 13, "sizes": [20, 30], "size_steps": 2, "width": 6,
    "ablation_width": 4, "ablation_steps": 2, "motion_width": 4, "motion_layers": 1, "molecule_width": 4,
    "molecule_layers": 1, "molecule_windows": 12, "training": {"steps": 6, "batch": 8, "evaluations": 3},
    "motion_training": FEW, "molecule_training": FEW,
})  # fmt: skip
P = TINY.slices
NAMES = ("EGNO", "EGNN", "EGNN-R", "EGNN-S", "RF", "MPNN")
each_name = pytest.mark.parametrize("name", NAMES)


def plan(slices=P, **training):
    return room.replace(room._charged_plan(TINY, **training), slices=slices)


def trained(name, data, work, **training):
    return room._trained(name, data, plan(**training), 0, "cpu", work / "run")


@pytest.fixture(scope="module")
def data():
    return room._charged_data(TINY, TINY.systems)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The experiments at their smallest, each run when it is first needed."""
    found = {}

    def run(name):
        if name not in found:
            found[name] = getattr(room, name)(TINY, **CPU, work=tmp_path_factory.mktemp(name))
        return found[name]

    return run


def made_up(S, P=4, N=4, *, height=2.0, seed=0):
    """Windows of random numbers with all that can be known of nodes and edges."""
    generator = torch.Generator().manual_seed(seed)
    x, v, targets, nodes = (
        torch.randn(S, *shape, generator=generator) for shape in ((N, 3), (N, 3), (P, N, 3), (N, 1))
    )
    edges, _ = bonded(torch.stack([torch.arange(N - 1), torch.arange(1, N)]), N)
    known = torch.randn(S, edges.shape[1], 2, generator=generator)
    times = torch.arange(1, P + 1, dtype=torch.float64) / P
    return Windows(x, v, targets, times, 8.0, edges, known, nodes, height)


def step(network, windows, s, x, v):
    """The network at one state of window s, its features from the definitions."""
    nodes = [v.norm(dim=1, keepdim=True)]
    if windows.height is not None:
        nodes.append(x[:, 1:2] / windows.height)
    if windows.node_values is not None:
        nodes.append(windows.node_values[s].to(x.dtype))
    row, col = windows.edges
    edges = [windows.edge_values[s].to(x.dtype), ((x[row] - x[col]) ** 2).sum(1, keepdim=True)]
    return network(x, v, torch.cat(nodes, 1), Graph(windows.edges, len(x)), torch.cat(edges, 1))


def path_of(name, network, windows, s, P, reach=100.0):
    """Its predictions for window s: of EGNN-R one after the other, held within reach of the start."""
    start = x = windows.positions[s]
    v, path = windows.velocities[s], []
    if name != "EGNN-R":
        return step(network, windows, s, x, v).detach()
    for _ in range(P):
        way = step(network, windows, s, x, v)[0].detach() - start
        new = start + way * (reach / way.norm(dim=1, keepdim=True)).clamp(max=1)
        x, v = new, (new - x) / (windows.duration / P)
        path.append(x)
    return torch.stack(path)


def built(name, windows):
    """A network with weights that make it do something."""
    network = room._built(name, windows, plan(slices=4), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return network


# --- predictions and errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [None, 2.0])
@pytest.mark.parametrize(("name", "reach"), [*((name, 100.0) for name in NAMES), ("EGNN-R", 0.7)])
def test_predictions_are_those_for_each_window_alone(monkeypatch, name, reach, height):
    monkeypatch.setattr(room, "EVALUATED", 3)
    monkeypatch.setattr(room, "REACH", reach)
    windows = made_up(7, height=height)
    network = built(name, windows).train()
    found = room._predicted(name, network, windows, 4, "cpu")
    assert network.training
    assert found.shape == (7, 1 if name in room.END_ONLY else 4, 4, 3)
    wanted = torch.stack([path_of(name, network, windows, s, 4, reach) for s in range(7)])
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert (wanted - windows.positions[:, None]).norm(dim=-1).max() < reach * 1.001


def test_straight_lines_are_the_best_of_the_training_part():
    data = {"train": made_up(30), "test": made_up(9, seed=1)}
    found = room._straight(data, 2)
    train, test = (data[part].thinned(2) for part in ("train", "test"))
    for p in range(2):
        way = train.targets[:, p] - train.positions
        factor = np.linalg.lstsq(train.velocities.reshape(-1, 1), way.reshape(-1), rcond=None)[0][0]
        assert found["Linear factors"][p] == pytest.approx(float(factor), rel=1e-4)
        for name, moved in (("Linear", factor * test.velocities), ("still", 0)):
            errors = ((test.positions + moved - test.targets[:, p]) ** 2).mean((1, 2))
            assert found[f"{name} errors"][:, p] == pytest.approx(errors.numpy(), rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])  # those that presets list
def test_turns_are_orthogonal_and_not_small(seed):
    up = torch.tensor([0.0, 1, 0])
    for turn in (room._any_turn(seed), room._upright_turn(seed)):
        assert torch.allclose(turn @ turn.T, torch.eye(3), atol=1e-6)
        assert (turn - torch.eye(3)).abs().max() > 0.3
    assert torch.equal(turn @ up, up)


@pytest.mark.parametrize(
    ("name", "height", "turn", "kept"),
    [(name, None, room._any_turn, name != "MPNN") for name in NAMES]
    + [("EGNO", 2.0, room._any_turn, False), ("EGNO", 2.0, room._upright_turn, True)],
)
def test_only_what_is_not_equivariant_deviates_when_all_is_turned(name, height, turn, kept):
    windows = made_up(4, height=height)
    network = built(name, windows)
    errors, predicted = room._tested(name, network, windows, 4, "cpu")
    turned, size = room._rotated(name, network, windows, predicted, turn(0), 4, "cpu")
    moved = {part: getattr(windows, part) @ turn(0).T for part in ("positions", "velocities", "targets")}
    moved = room.replace(windows, **moved)
    there = torch.stack([path_of(name, network, moved, s, 4) for s in range(4)])
    truth = moved.targets[:, -1:] if name in room.END_ONLY else moved.targets
    assert turned == pytest.approx(((there - truth) ** 2).mean((2, 3)).numpy(), rel=1e-2)
    extent = (predicted - windows.positions.mean(1)[:, None, None]).abs().max()
    far = float((there - predicted @ turn(0).T).abs().max() / extent)
    assert size == pytest.approx(far, rel=1e-2, abs=1e-4)
    assert (size < 1e-4) == np.allclose(errors, turned, rtol=1e-3) == kept


# --- training -----------------------------------------------------------------------------------------------


@each_name
def test_the_first_loss_is_the_mean_squared_error_of_its_batch(data, tmp_path, name):
    # With the whole training part as batch, the order of samples does not matter.
    count = P * len(data["train"]) if name == "EGNN-R" else len(data["train"])
    _, curve = trained(name, data, tmp_path, batch=count, steps=1)
    train = data["train"].thinned(1 if name in room.END_ONLY else P)
    network, losses = room._built(name, train, plan(), 0), []
    for s, (x, v, targets) in enumerate(zip(train.positions, train.velocities, train.targets, strict=True)):
        if name != "EGNN-R":
            losses.append((step(network, train, s, x, v) - targets).square().mean())
            continue
        for target in targets:
            losses.append((step(network, train, s, x, v)[0] - target).square().mean())
            x, v = target, (target - x) / 0.2
    assert curve["losses"][0] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-3)


@pytest.mark.parametrize("name", ["EGNO", "EGNN", "EGNN-R", "EGNN-S"])
def test_the_state_that_is_kept_is_the_best_at_the_end_of_the_window(data, tmp_path, name):
    # So high a learning rate makes the error go up and down.
    rates = {"learning_rate": 0.03, "schedule": "constant"}
    network, curve = trained(name, data, tmp_path, steps=12, evaluations=12, **rates)
    assert curve["steps"].tolist() == list(range(1, 13))
    assert curve["valid"].min() < curve["valid"][-1] or curve["valid"].argmax() > 0
    valid = data["valid"].thinned(P)
    ends = torch.stack([path_of(name, network, valid, s, P)[-1] for s in range(len(valid))])
    error = (ends - valid.targets[:, -1]).square().mean().item()
    assert error == pytest.approx(curve["valid"].min(), rel=1e-3)
    assert curve["parameters"] == sum(weight.numel() for weight in network.parameters())


@each_name
def test_training_never_sees_the_test_part_and_learns_nothing_from_the_validation_part(data, tmp_path, name):
    parts = {"train": data["train"], "valid": data["valid"]}
    other = parts | {"valid": charged_windows("test", 10, slices=2 * P)}
    one, two = (
        trained(name, each, tmp_path / str(k), steps=2, evaluations=1)
        for k, each in enumerate((parts, other))
    )
    assert np.array_equal(one[1]["losses"], two[1]["losses"])
    # Both kept the last state, the only one that was evaluated.
    for weight, same in zip(one[0].parameters(), two[0].parameters(), strict=True):
        assert torch.equal(weight, same)
    assert not np.array_equal(one[1]["valid"], two[1]["valid"])


def test_the_smallest_preset_learns_something(tmp_path):
    config = PRESETS["smoke"]
    data = room._charged_data(config, config.systems)
    _, curve = room._trained("EGNO", data, room._charged_plan(config), 0, "cpu", tmp_path / "run")
    assert curve["losses"][-5:].mean() < 0.7 * curve["losses"][0]


# --- experiments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "names"),
    [("charged_egno", ("EGNO",)), ("charged_egnn", ("EGNN", "EGNN-R", "EGNN-S")), ("charged_others", ("RF", "MPNN")),
     *((name, room.AGAINST) for name in ("running", "walking", "ethanol"))],
)  # fmt: skip
def test_errors_are_those_of_the_predictions_that_are_shown(runs, experiment, names):
    found = runs(experiment)
    slices = TINY.molecule_slices if experiment == "ethanol" else P
    truth, what = found["truth"], "upright" if experiment in ("running", "walking") else "turned"
    assert len(truth) == 6
    for name in names:
        errors, shown = found[f"{name} errors"], found[f"{name} shown"]
        S, T = errors.shape
        assert (1 if name in room.END_ONLY else slices) == T
        every = truth.shape[1] // T
        own = ((shown - truth[:, every - 1 :: every]) ** 2).mean((2, 3))
        assert np.allclose(errors[np.arange(6) * (S // 6)], own, rtol=1e-3)
        assert found[f"{name} turned errors"].shape == errors.shape
        if name not in ("MPNN", "EGNN-R"):  # rounding errors of a rollout grow at each step
            assert found[f"{name} {what} deviation"] < 1e-3


def test_twice_the_times_are_predicted_with_the_same_weights(runs):
    found = runs("charged_egno")
    assert found["truth times"].tolist() == [k / 10 for k in range(1, 11)]
    physical, index = (found[f"EGNO {how} fine errors"] for how in ("physical", "index"))
    assert physical.shape == index.shape == (TINY.test_systems, 2 * P)
    assert not np.allclose(physical, index, rtol=1e-3)
    own = ((found["EGNO fine shown"] - found["truth"]) ** 2).mean((2, 3))
    assert np.allclose(physical[np.arange(6) * (TINY.test_systems // 6)], own, rtol=1e-3)


def test_signs_of_charges_are_those_beside_the_first(runs, data):
    for row, s in zip(runs("charged_egno")["groups"], range(0, 12, 2), strict=True):
        for e, (i, j) in enumerate(data["test"].edges.T.tolist()):
            assert i != 0 or row[j - 1] == (data["test"].edge_values[s, e, 0] < 0)


@pytest.mark.parametrize(
    ("experiment", "windows", "bones"),
    [("running", [200, 240, 240], 30), ("walking", [200, 500, 500], 30), ("ethanol", [12, 784, 784], 2)],
)
def test_windows_of_people_and_molecules_are_counted(runs, experiment, windows, bones):
    found = runs(experiment)
    assert found["windows"].tolist() == windows
    assert found["bones"].shape == (bones, 2)
    assert ("EGNO-L errors" in found) == (experiment != "ethanol")


def test_the_tallest_of_the_training_windows_measures_all_heights():
    path = np.random.default_rng(0).standard_normal((120, 4, 3)).astype(np.float32)
    motion = Motion({"a": path, "b": 3 * path}, np.array([[1, 0], [2, 1], [3, 1]]), tuple("wxyz"), {})
    starts = {"train": {"a": [0, 5]}, "valid": {"b": [0]}, "test": {"b": [1]}}
    data = room._motion_data(motion, starts, slices=5)
    assert {each.height for each in data.values()} == {float(path[[0, 5], :, 1].max())}
    assert torch.equal(data["test"].targets, motion_windows(motion, starts["test"]).targets)


def test_fewer_and_more_systems_are_judged_on_the_same_test_part(runs):
    found = runs("data_sizes")
    assert found.pop("sizes").tolist() == [20, 30]
    T = {"EGNO": P, "EGNN": 1}
    wanted = {f"{name} {n} errors": (TINY.test_systems, T[name]) for name in T for n in (20, 30)}
    assert {name: errors.shape for name, errors in found.items()} == wanted
    few, many = (room._charged_data(TINY, n) for n in (20, 30))
    assert torch.equal(few["test"].targets, many["test"].targets)
    assert torch.equal(few["train"].targets, many["train"].targets[:20])


def test_ablations_change_one_thing_each(runs):
    found = runs("ablations")
    times = dict.fromkeys(
        ("full", "1 modes", "3 modes", "only invariants", "only vectors", "no convolution"), 5
    )
    times |= {"2 slices": 2, "10 slices": 10}
    assert found["variants"].tolist() == list(times)
    for name, slices in times.items():
        assert found[f"{name} errors"].shape == (TINY.test_systems, slices)
        ends = (found[f"{one} errors"][:, -1] for one in (name, "full"))
        assert np.array_equal(*ends) == (name == "full")


def test_the_same_seed_gives_the_same_errors_and_another_gives_others(runs, tmp_path):
    first = runs("charged_egnn")
    for seed, same in ((0, True), (1, False)):
        again = room.charged_egnn(TINY, seed=seed, device="cpu", work=tmp_path / str(seed))
        assert np.array_equal(first["truth"], again["truth"])
        assert {
            np.array_equal(first[f"{name} errors"], again[f"{name} errors"]) for name in room.AGAINST[1:]
        } == {same}


# --- what needs no training ---------------------------------------------------------------------------------


def test_broken_symmetries_are_found():
    class ByNumber(torch.nn.Module):
        def forward(self, x, v, features, graph, edge_features):
            return (x + torch.arange(len(x)).unsqueeze(1) * v).unsqueeze(0)

    graph = experiments._graphs(TINY)["complete"]
    free = MessagePassing(2, 2, width=6, layers=1).double()
    for network, broken in ((free, ["turned", "shifted"]), (ByNumber(), ["renumbered"])):
        generator = torch.Generator().manual_seed(0)
        found = experiments._deviations(network, graph, torch.float64, generator)
        assert [what for what, value in found.items() if value > 1e-3] == broken
        assert all(value < 1e-12 for what, value in found.items() if what not in broken)


@pytest.mark.parametrize("form", ["by_fft", "by_matrices"])
def test_wrong_convolutions_are_found(monkeypatch, form):
    assert experiments._time_domain(6, 3, 0)[0] < 1e-12
    right = getattr(TemporalConvolution, form)
    monkeypatch.setattr(TemporalConvolution, form, lambda self, z: right(self, z).roll(1, 0))
    assert experiments._time_domain(6, 3, 0)[0] > 1e-3


def test_spectra_are_powers_of_a_transform_by_definition():
    names = ("charged", "run", "walk", "ethanol")
    found = experiments.spectra(TINY.override({"shown": names}), **CPU)
    assert set(found) == {f"{n} {w}" for n in names for w in ("way", "bend")}
    windows = charged_windows("test", TINY.test_systems, slices=2 * P)
    path = windows.targets.double().numpy() - windows.positions.double().numpy()[:, None]
    bend = path - np.arange(1, 11)[:, None, None] / 10 * path[:, -1:]
    for what, values in (("way", path), ("bend", bend)):
        power = np.zeros(6)
        for k in range(10):
            wave = np.exp(-2j * np.pi * k * np.arange(10) / 10)
            power[min(k, 10 - k)] += (np.abs(np.einsum("t,stnd->snd", wave, values)) ** 2).mean()
        assert np.allclose(found[f"charged {what}"], power, rtol=1e-6)


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_presets_suit_the_data(config):
    for training in (config.training, config.motion_training, config.molecule_training):
        assert training.steps % training.evaluations == 0  # the last state is evaluated
    assert config.training.batch <= config.systems
    assert config.molecule_training.batch <= config.molecule_windows
    for distance, slices in (
        (10, config.slices),
        (30, config.slices),
        (config.molecule_frames, config.molecule_slices),
    ):
        steps = uniform_frames(0, distance, slices).diff(prepend=torch.zeros(1, dtype=torch.long))
        assert len(set(steps.tolist())) == 1


def test_the_paper_preset_is_the_published_one():
    config = PRESETS["paper"]
    sizes = {"systems": 3000, "valid_systems": 2000, "test_systems": 2000, "slices": 5, "modes": 2, "width": 64,
             "layers": 4, "motion_width": 128, "motion_layers": 6, "molecule_width": 64, "molecule_layers": 5,
             "molecule_slices": 8, "molecule_windows": 500}  # fmt: skip
    assert {name: getattr(config, name) for name in sizes} == sizes
    groups = (config.training, config.motion_training, config.molecule_training)
    assert [(one.batch, one.learning_rate, one.weight_decay, one.schedule) for one in groups] == [
        (100, 1e-4, 1e-8, "constant"), (12, 5e-4, 1e-10, "constant"), (100, 1e-4, 1e-15, "halved"),
    ]  # fmt: skip
    assert [config.training.steps, config.molecule_training.steps] == [150_000, 25_000]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modes": 4}, "modes=4 must be at most 3, half the slices and one"),
        ({"slices": 1}, "slices"),
        ({"modes": 3, "molecule_slices": 2}, "modes"),
        ({"molecule_frames": 8, "molecule_slices": 16}, "=8 must be a multiple of molecule_slices=16"),
        ({"sizes": [0]}, "sizes"),
        ({"training": {"evaluations": 0}}, r"training\.evaluations"),
        ({"nodes": 5}, "nodes"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(LoupeError, match=message):
        TINY.override(values)
