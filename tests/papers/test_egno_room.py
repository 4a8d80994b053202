"""The glue of the chapter: how networks are trained, asked and judged, against explicit calls; what settings refuse."""

import math

import numpy as np
import pytest
import torch

from loupe.data.trajectories import Motion
from loupe.dynamics import (
    EGNN,
    EGNO,
    MessagePassing,
    TemporalConvolution,
    charged_windows,
    motion_windows,
    uniform_frames,
)
from loupe.dynamics.windows import Windows, bonded
from loupe.errors import LoupeError
from loupe.networks.egnn import Graph
from loupe.papers.egno import PRESETS, experiments, experiments_training

CPU = {"seed": 0, "device": "cpu"}
TINY = PRESETS["smoke"].override(
    {
        "systems": 24,
        "valid_systems": 10,
        "test_systems": 13,
        "batch": 8,
        "width": 6,
        "layers": 2,
        "steps": 6,
        "evaluations": 3,
        "sizes": [20, 30],
        "size_steps": 2,
        "ablation_width": 4,
        "ablation_steps": 2,
        "motion_width": 4,
        "motion_layers": 1,
        "motion_steps": 2,
        "motion_evaluations": 1,
        "molecule_width": 4,
        "molecule_layers": 1,
        "molecule_steps": 2,
        "molecule_evaluations": 1,
        "molecule_windows": 12,
        "molecule_batch": 6,
    }
)
SETTINGS = experiments_training._settings(TINY)
P = TINY.slices


@pytest.fixture(scope="module")
def data():
    return experiments_training._charged_data(TINY, TINY.systems)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The experiments at their smallest, each run when it is first asked for."""
    found = {}

    def run(name):
        if name not in found:
            work = tmp_path_factory.mktemp(name)
            found[name] = getattr(experiments_training, name)(TINY, **CPU, work=work)
        return found[name]

    return run


def made_up(S, P=4, N=4, *, height=2.0, seed=0):
    """Windows of random numbers with all that can be known of nodes and edges."""
    generator = torch.Generator().manual_seed(seed)
    edges, _ = bonded(torch.stack([torch.arange(N - 1), torch.arange(1, N)]), N)
    return Windows(
        torch.randn(S, N, 3, generator=generator),
        torch.randn(S, N, 3, generator=generator),
        torch.randn(S, P, N, 3, generator=generator),
        torch.arange(1, P + 1, dtype=torch.float64) / P,
        8.0,
        edges,
        torch.randn(S, edges.shape[1], 2, generator=generator),
        torch.rand(S, N, 1, generator=generator),
        height,
    )


def told(windows, s, x, v):
    """What a network is told of one state of window s, from the definitions."""
    nodes = [v.norm(dim=1, keepdim=True)]
    if windows.height is not None:
        nodes.append(x[:, 1:2] / windows.height)
    if windows.node_values is not None:
        nodes.append(windows.node_values[s].to(x.dtype))
    row, col = windows.edges
    squared = ((x[row] - x[col]) ** 2).sum(1, keepdim=True)
    return torch.cat(nodes, 1), torch.cat([windows.edge_values[s].to(x.dtype), squared], 1)


def built(name, windows, **settings):
    """A network with weights that make it do something."""
    network = experiments_training._built(name, windows, SETTINGS | {"slices": 4} | settings, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return network


# ---- predictions and errors


@pytest.mark.parametrize("windows", [made_up(7), made_up(7, height=None)], ids=["with height", "without"])
@pytest.mark.parametrize("name", ["EGNO", "EGNN", "EGNN-S", "RF", "MPNN"])
def test_a_forecast_is_that_of_each_window_alone(monkeypatch, windows, name):
    monkeypatch.setattr(experiments_training, "EVALUATED", 3)
    network = built(name, windows)
    network.train()
    found = experiments_training._forecast(name, network, windows, 4, "cpu")
    assert network.training
    assert not found.requires_grad
    assert found.shape == (7, 1 if name in experiments_training.END_ONLY else 4, 4, 3)
    graph = Graph(windows.edges, 4)
    for s in range(7):
        x, v = windows.positions[s], windows.velocities[s]
        nodes, edges = told(windows, s, x, v)
        wanted = network(x, v, nodes, graph, edges).detach()
        assert torch.allclose(found[s], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reach", [100.0, 0.7])
@pytest.mark.parametrize("height", [None, 2.0])
def test_a_rollout_tells_the_network_what_it_said(monkeypatch, height, reach):
    monkeypatch.setattr(experiments_training, "EVALUATED", 2)
    monkeypatch.setattr(experiments_training, "REACH", reach)
    windows = made_up(5, height=height)
    network = built("EGNN-R", windows)
    found = experiments_training._forecast("EGNN-R", network, windows, 4, "cpu")
    assert found.shape == (5, 4, 4, 3)
    network.double()
    graph, held = Graph(windows.edges, 4), 0
    for s in range(5):
        start = x = windows.positions[s].double()
        v = windows.velocities[s].double()
        for p in range(4):
            nodes, edges = told(windows, s, x, v)
            new = network(x, v, nodes, graph, edges)[0].detach()
            for i in range(4):
                far = (new[i] - start[i]).norm()
                if far > reach:
                    held += 1
                    new[i] = start[i] + reach * (new[i] - start[i]) / far
            assert torch.allclose(found[s, p].double(), new, rtol=1e-4, atol=1e-5)
            x, v = new, (new - x) / (8.0 / 4)
    assert (held > 0) == (reach < 1)


def test_errors_are_means_over_points_and_coordinates():
    windows = made_up(3)
    forecast = torch.randn(3, 4, 4, 3, generator=torch.Generator().manual_seed(5))
    found = experiments_training._errors(forecast, windows)
    assert found.dtype == np.float64
    for s in range(3):
        for p in range(4):
            total = 0.0
            for i in range(4):
                for d in range(3):
                    total += (forecast[s, p, i, d].item() - windows.targets[s, p, i, d].item()) ** 2
            assert found[s, p] == pytest.approx(total / 12, rel=1e-12)


def test_straight_lines_are_the_best_of_the_training_part():
    data = {"train": made_up(30), "test": made_up(9, seed=1)}
    found = experiments_training._straight(data, 2)
    train, test = (data[part].thinned(2) for part in ("train", "test"))
    x, v, way = (
        each.double().numpy()
        for each in (test.positions, train.velocities, train.targets - train.positions.unsqueeze(1))
    )
    for p in range(2):
        factor = np.linalg.lstsq(v.reshape(-1, 1), way[:, p].reshape(-1), rcond=None)[0][0]
        assert found["Linear factors"][p] == pytest.approx(factor, rel=1e-4)
        for s in range(9):
            truth = test.targets[s, p].double().numpy()
            line = x[s] + factor * test.velocities[s].double().numpy()
            assert found["Linear errors"][s, p] == pytest.approx(((line - truth) ** 2).mean(), rel=1e-3)
            assert found["still errors"][s, p] == pytest.approx(((x[s] - truth) ** 2).mean(), rel=1e-6)
    other = experiments_training._straight(data | {"test": made_up(9, seed=2)}, 2)
    assert np.array_equal(other["Linear factors"], found["Linear factors"])


def test_turns_are_orthogonal_and_not_small():
    for seed in range(6):
        turn, upright = experiments_training._any_turn(seed), experiments_training._upright_turn(seed)
        for each in (turn, upright):
            assert torch.allclose(each @ each.T, torch.eye(3), atol=1e-6)
        assert torch.equal(upright @ torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 1, 0]))
        assert torch.linalg.det(upright) == pytest.approx(1, abs=1e-6)
    # The seeds that presets list turn far enough for a failure to be seen.
    for seed in (0, 1, 2):
        assert (experiments_training._upright_turn(seed) - torch.eye(3)).abs().max() > 0.3


@pytest.mark.parametrize("name", ["EGNO", "EGNN", "EGNN-R", "EGNN-S", "RF", "MPNN"])
def test_only_what_is_not_equivariant_deviates_when_all_is_turned(name):
    windows = made_up(4, height=None)
    network = built(name, windows)
    view = windows.thinned(1) if name in experiments_training.END_ONLY else windows
    forecast = experiments_training._forecast(name, network, view, 4, "cpu")
    turn = experiments_training._any_turn(3)
    errors, size = experiments_training._rotated(name, network, view, forecast, turn, 4, "cpu")
    x, v, targets = (each @ turn.T for each in (view.positions, view.velocities, view.targets))
    rows = []
    for s in range(4):
        one = view.chosen(slice(s, s + 1))
        one = Windows(
            x[s : s + 1], v[s : s + 1], targets[s : s + 1], *[
                getattr(one, key) for key in ("times", "duration", "edges", "edge_values", "node_values")
            ]
        )  # fmt: skip
        rows.append(experiments_training._forecast(name, network, one, 4, "cpu"))
    there = torch.cat(rows)
    wanted = (there.double() - targets).square().mean((2, 3)).numpy()
    assert np.allclose(errors, wanted, rtol=1e-3)
    if name == "MPNN":
        assert size > 0.01
        extent = (forecast - view.positions.mean(1)[:, None, None]).abs().max()
        assert size == pytest.approx(float((there - forecast @ turn.T).abs().max() / extent), rel=1e-3)
    else:
        assert size < 1e-4
        assert np.allclose(errors, experiments_training._errors(forecast, view), rtol=1e-3)


def test_height_leaves_turns_about_the_vertical_only():
    windows = made_up(4)
    network = built("EGNO", windows)
    forecast = experiments_training._forecast("EGNO", network, windows, 4, "cpu")
    sizes = [
        experiments_training._rotated("EGNO", network, windows, forecast, turn(0), 4, "cpu")[1]
        for turn in (experiments_training._any_turn, experiments_training._upright_turn)
    ]
    assert sizes[0] > 1e-3
    assert sizes[1] < 1e-5


# ---- training


@pytest.mark.parametrize("name", ["EGNO", "EGNN", "EGNN-R", "EGNN-S", "RF", "MPNN"])
def test_the_first_loss_is_the_mean_squared_error_of_its_batch(data, tmp_path, name):
    # With the whole training part as batch, the order of samples does not matter.
    count = P * len(data["train"]) if name == "EGNN-R" else len(data["train"])
    settings = SETTINGS | {"batch": count, "steps": 1}
    _, curve = experiments_training._trained(name, data, settings, 0, "cpu", tmp_path / "run")
    fresh = experiments_training._built(name, data["train"], settings, 0).double()
    train = data["train"].thinned(1 if name in experiments_training.END_ONLY else P)
    graph, losses = Graph(train.edges, 5), []
    for s in range(len(train)):
        path = torch.cat([train.positions[s : s + 1], train.targets[s]]).double()
        v = train.velocities[s].double()
        if name == "EGNN-R":
            for p in range(P):
                nodes, edges = told(train, s, path[p], v)
                losses.append((fresh(path[p], v, nodes, graph, edges)[0] - path[p + 1]).square().mean())
                v = (path[p + 1] - path[p]) / 0.2
        else:
            nodes, edges = told(train, s, path[0], v)
            losses.append((fresh(path[0], v, nodes, graph, edges) - path[1:]).square().mean())
    assert curve["losses"][0] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["EGNO", "EGNN", "EGNN-R", "EGNN-S"])
def test_the_state_that_is_kept_is_the_best_on_the_validation_part(data, tmp_path, name):
    # So high a rate makes the error go up and down.
    settings = SETTINGS | {"rate": 0.03, "steps": 12, "evaluations": 12, "schedule": "constant"}
    network, curve = experiments_training._trained(name, data, settings, 0, "cpu", tmp_path / "run")
    assert curve["steps"].tolist() == list(range(1, 13))
    assert curve["valid"].argmin() < 11 or curve["valid"].argmax() > 0
    valid, found = data["valid"].thinned(P), []
    graph = Graph(valid.edges, 5)
    for s in range(len(valid)):
        path = torch.cat([valid.positions[s : s + 1], valid.targets[s]])
        x, v = path[0], valid.velocities[s]
        with torch.no_grad():
            if name == "EGNN-R":
                for _ in range(P):
                    new = network(x, v, *told_to(valid, s, x, v, graph))[0]
                    x, v = new, (new - x) / 0.2
                found.append(x - path[-1])
            else:
                found.append(network(x, v, *told_to(valid, s, x, v, graph))[-1] - path[-1])
    error = torch.stack(found).double().square().mean().item()
    assert error == pytest.approx(curve["valid"].min(), rel=1e-4)


def told_to(windows, s, x, v, graph):
    nodes, edges = told(windows, s, x, v)
    return nodes, graph, edges


class Locked(dict):
    """Data of which the test part may not be looked at."""

    def __getitem__(self, part):
        assert part != "test", "the test part was looked at in training"
        return super().__getitem__(part)


@pytest.mark.parametrize("name", ["EGNO", "EGNN", "EGNN-R", "EGNN-S", "RF", "MPNN"])
def test_training_sees_no_test_data_and_learns_nothing_from_the_validation_part(data, tmp_path, name):
    settings = SETTINGS | {"steps": 2, "evaluations": 1}
    others = {"valid": made_up_like(data["valid"])}
    one, two = (
        experiments_training._trained(name, Locked(data | more), settings, 0, "cpu", tmp_path / str(k))
        for k, more in enumerate(({}, others))
    )
    assert np.array_equal(one[1]["losses"], two[1]["losses"])
    # Both kept the last state, the only one that was measured.
    for weight, other in zip(one[0].parameters(), two[0].parameters(), strict=True):
        assert torch.equal(weight, other)
    assert not np.array_equal(one[1]["valid"], two[1]["valid"])


def made_up_like(windows):
    return charged_windows("test", len(windows), slices=len(windows.times))


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("stop", [1, 5, 6])
def test_an_interrupted_training_goes_on_to_the_same_end(data, tmp_path, monkeypatch, stop):
    settings = SETTINGS | {"steps": 9, "evaluations": 3, "rate": 0.01}
    whole, curve = experiments_training._trained("EGNO", data, settings, 1, "cpu", tmp_path / "whole")
    fit = experiments_training.fit

    def interrupted(*arguments, hooks, **options):
        def halt(run):
            if run.step == stop + 1:
                raise Stopped

        return fit(*arguments, hooks=[*hooks, halt], save_every=1, **options)

    monkeypatch.setattr(experiments_training, "fit", interrupted)
    with pytest.raises(Stopped):
        experiments_training._trained("EGNO", data, settings, 1, "cpu", tmp_path / "cut")
    monkeypatch.setattr(experiments_training, "fit", fit)
    for _ in range(2):  # the second time nothing is left to do
        cut, again = experiments_training._trained("EGNO", data, settings, 1, "cpu", tmp_path / "cut")
        for name in ("steps", "valid", "losses", "parameters"):
            assert np.array_equal(again[name], curve[name]), name
        for weight, other in zip(whole.parameters(), cut.parameters(), strict=True):
            assert torch.equal(weight, other)
        assert (np.diff(again["clock"]) >= 0).all()


def test_a_training_that_diverges_says_so(data, tmp_path):
    settings = SETTINGS | {"rate": 1e30, "schedule": "constant"}
    with pytest.raises(ValueError, match=r"training diverged (at|by|before) step|are not finite"):
        experiments_training._trained("EGNO", data, settings, 0, "cpu", tmp_path / "run")


def test_the_smallest_preset_learns_something(tmp_path):
    config = PRESETS["smoke"]
    data = experiments_training._charged_data(config, config.systems)
    _, curve = experiments_training._trained(
        "EGNO", data, experiments_training._settings(config), 0, "cpu", tmp_path / "run"
    )
    assert curve["losses"][-5:].mean() < 0.7 * curve["losses"][0]


def test_rates_fall_as_the_schedule_says(data, tmp_path, monkeypatch):
    seen = {}
    fit = experiments_training.fit

    def spy(*arguments, schedule, **options):
        seen["factors"] = [1.0 if schedule is None else schedule(step) for step in range(8)]
        return fit(*arguments, schedule=schedule, **options)

    monkeypatch.setattr(experiments_training, "fit", spy)
    wanted = {
        "constant": [1.0] * 8,
        "halved": [1.0] * 4 + [0.5] * 4,
        "cosine": [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)],
    }
    for schedule, factors in wanted.items():
        settings = SETTINGS | {"steps": 8, "schedule": schedule}
        experiments_training._trained("RF", data, settings, 0, "cpu", tmp_path / schedule)
        assert seen["factors"] == pytest.approx(factors)


# ---- experiments


@pytest.mark.parametrize(
    ("experiment", "names"),
    [
        ("charged_egno", ["EGNO"]),
        ("charged_egnn", ["EGNN", "EGNN-R", "EGNN-S"]),
        ("charged_others", ["RF", "MPNN"]),
        ("running", ["EGNO", "EGNN", "EGNN-R", "EGNN-S"]),
        ("walking", ["EGNO", "EGNN", "EGNN-R", "EGNN-S"]),
        ("ethanol", ["EGNO", "EGNN", "EGNN-R", "EGNN-S"]),
    ],
)
def test_errors_are_those_of_the_predictions_that_are_shown(runs, experiment, names):
    found = runs(experiment)
    slices = TINY.molecule_slices if experiment == "ethanol" else P
    truth = found["truth"].astype(float)
    assert len(truth) == 6
    for name in names:
        errors, shown = found[f"{name} errors"], found[f"{name} shown"].astype(float)
        S, T = errors.shape
        assert (1 if name in experiments_training.END_ONLY else slices) == T
        step = truth.shape[1] // T
        own = ((shown - truth[:, step - 1 :: step]) ** 2).mean((2, 3))
        assert np.allclose(errors[np.arange(6) * (S // 6)], own, rtol=1e-3)
        assert found[f"{name} turned errors"].shape == errors.shape
        assert np.isfinite(errors).all()
    # Rounding errors of a rollout grow at each step.
    invariant = [name for name in names if name not in ("MPNN", "EGNN-R")]
    what = "upright" if experiment in ("running", "walking") else "turned"
    assert all(found[f"{name} {what} deviation"] < 1e-3 for name in invariant)


def test_twice_the_times_are_asked_for_with_the_same_weights(runs):
    found = runs("charged_egno")
    assert found["truth times"].tolist() == [k / 10 for k in range(1, 11)]
    physical, index = (found[f"EGNO {how} fine errors"] for how in ("physical", "index"))
    assert physical.shape == index.shape == (TINY.test_systems, 2 * P)
    assert not np.allclose(physical, index, rtol=1e-3)
    own = ((found["EGNO fine shown"].astype(float) - found["truth"]) ** 2).mean((2, 3))
    assert np.allclose(physical[np.arange(6) * (TINY.test_systems // 6)], own, rtol=1e-3)


def test_signs_of_charges_are_those_beside_the_first(runs, data):
    found = runs("charged_egno")["groups"]
    test = data["test"]
    for row, s in zip(found, range(0, 12, 2), strict=True):
        for e, (i, j) in enumerate(test.edges.T.tolist()):
            if i == 0:
                assert row[j - 1] == (test.edge_values[s, e, 0] < 0)


def test_windows_of_people_and_molecules_are_counted(runs):
    assert runs("running")["windows"].tolist() == [200, 240, 240]
    assert runs("walking")["windows"].tolist() == [200, 500, 500]
    assert runs("ethanol")["windows"][0] == TINY.molecule_windows
    assert runs("running")["bones"].shape == runs("walking")["bones"].shape == (30, 2)
    assert {frozenset(bond) for bond in runs("ethanol")["bones"].tolist()} == {
        frozenset((0, 1)),
        frozenset((1, 2)),
    }
    assert runs("running")["EGNO-L errors"].shape == (240, P)


def test_the_tallest_of_the_training_windows_measures_all_heights():
    path = np.random.default_rng(0).standard_normal((120, 4, 3)).astype(np.float32)
    motion = Motion({"a": path, "b": 3 * path}, np.array([[1, 0], [2, 1], [3, 1]]), tuple("wxyz"), {})
    starts = {"train": {"a": [0, 5]}, "valid": {"b": [0]}, "test": {"b": [1]}}
    data = experiments_training._motion_data(motion, starts, slices=5)
    assert {each.height for each in data.values()} == {float(path[[0, 5], :, 1].max())}
    assert torch.equal(data["test"].targets, motion_windows(motion, starts["test"]).targets)


def test_fewer_and_more_systems_are_judged_on_the_same_test_part(runs):
    found = runs("data_sizes")
    assert found["sizes"].tolist() == [20, 30]
    assert set(found) == {"sizes"} | {f"{name} {n} errors" for name in ("EGNO", "EGNN") for n in (20, 30)}
    for n in (20, 30):
        assert found[f"EGNO {n} errors"].shape == (TINY.test_systems, P)
        assert found[f"EGNN {n} errors"].shape == (TINY.test_systems, 1)
    few, many = (experiments_training._charged_data(TINY, n) for n in (20, 30))
    assert torch.equal(few["test"].targets, many["test"].targets)
    assert torch.equal(few["train"].targets, many["train"].targets[:20])


def test_ablations_change_one_thing_each(runs):
    found = runs("ablations")
    times = dict.fromkeys(
        ("full", "1 modes", "3 modes", "only invariants", "only vectors", "no convolution"), 5
    )
    times |= {"2 slices": 2, "10 slices": 10}
    assert sorted(found["variants"].tolist()) == sorted(times)
    for name, slices in times.items():
        assert found[f"{name} errors"].shape == (TINY.test_systems, slices)
        if name != "full":
            assert not np.array_equal(found[f"{name} errors"][:, -1], found["full errors"][:, -1])


def test_the_same_seed_gives_the_same_errors_and_another_gives_others(runs, tmp_path):
    first = runs("charged_egnn")
    for seed, same in ((0, True), (1, False)):
        again = experiments_training.charged_egnn(TINY, seed=seed, device="cpu", work=tmp_path / str(seed))
        assert np.array_equal(first["truth"], again["truth"])
        for name in ("EGNN", "EGNN-R", "EGNN-S"):
            assert np.array_equal(first[f"{name} errors"], again[f"{name} errors"]) == same


# ---- what needs no training


@pytest.fixture(scope="module")
def exact():
    return experiments.identities(TINY, **CPU)


def test_symmetries_and_convolutions_are_exact(exact):
    for kind in ("complete", "tree"):
        for what in ("turned", "shifted", "renumbered"):
            assert exact[f"{kind} float64 {what}"] < 1e-10
            assert exact[f"{kind} float32 {what}"] < 1e-4
    assert exact["apart turned"] > 1e-2
    assert exact["convolutions"].shape == (len(experiments.SHAPES),)
    assert exact["convolutions"].max() < 1e-12


def test_broken_symmetries_are_found():
    config, generator = TINY, torch.Generator().manual_seed(0)
    graph = experiments._graphs(config)["complete"]
    network = MessagePassing(2, 2, width=6, layers=1).double()
    found = experiments._deviations(network, graph, torch.float64, generator)
    assert found["turned"] > 1e-3
    assert found["shifted"] > 1e-3
    assert found["renumbered"] < 1e-12

    class ByNumber(torch.nn.Module):
        def forward(self, x, v, features, graph, edge_features):
            return (x + torch.arange(len(x)).unsqueeze(1) * v).unsqueeze(0)

    found = experiments._deviations(ByNumber(), graph, torch.float64, generator)
    assert found["turned"] < 1e-12
    assert found["renumbered"] > 0.1


def test_wrong_convolutions_are_found(monkeypatch):
    assert experiments._time_domain(6, 3, 0)[0] < 1e-12
    for form in ("by_fft", "by_matrices"):
        with monkeypatch.context() as patch:
            right = getattr(TemporalConvolution, form)
            patch.setattr(TemporalConvolution, form, lambda self, z, right=right: right(self, z).roll(1, 0))
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
        assert power.sum() == pytest.approx(10 * (values**2).sum(1).mean())


# ---- settings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_suit_the_data(name):
    config = PRESETS[name]
    assert config.modes <= config.slices // 2 + 1
    assert config.modes <= config.molecule_slices // 2 + 1
    for prefix in ("", "motion_", "molecule_"):
        steps, evaluations = (getattr(config, f"{prefix}{what}") for what in ("steps", "evaluations"))
        assert steps % evaluations == 0  # the last state is measured
    assert config.batch <= config.systems
    assert config.molecule_batch <= config.molecule_windows
    assert_cuts(config)


def test_the_paper_preset_is_the_published_one():
    config = PRESETS["paper"]
    wanted = {
        "systems": 3000, "valid_systems": 2000, "test_systems": 2000, "slices": 5, "modes": 2, "width": 64,
        "layers": 4, "batch": 100, "rate": 1e-4, "decay": 1e-8, "steps": 150_000, "schedule": "constant",
        "motion_width": 128, "motion_layers": 6, "motion_batch": 12, "motion_rate": 5e-4, "motion_decay": 1e-10,
        "motion_schedule": "constant", "molecule_width": 64, "molecule_layers": 5, "molecule_slices": 8,
        "molecule_windows": 500, "molecule_batch": 100, "molecule_rate": 1e-4, "molecule_decay": 1e-15,
        "molecule_steps": 25_000, "molecule_schedule": "halved",
    }  # fmt: skip
    assert {name: getattr(config, name) for name in wanted} == wanted


def assert_cuts(config):
    """Windows of these settings exist and can be cut into steps of one length."""
    for distance, slices in (
        (10, 2 * config.slices),
        (30, 2 * config.slices),
        (config.molecule_frames, config.molecule_slices),
        (config.molecule_frames, 2 * config.slices),
    ):
        frames = uniform_frames(0, distance, slices)
        if distance == config.molecule_frames and slices == 2 * config.slices:
            continue  # of spectra only, which need no steps
        if slices == 2 * config.slices:
            frames = frames[1::2]
        assert len(set(frames.diff(prepend=torch.zeros(1, dtype=torch.long)).tolist())) == 1, (
            distance,
            slices,
        )


@pytest.mark.parametrize(
    "values",
    [{"slices": slices} for slices in (2, 3, 4, 6, 7)]
    + [{"molecule_frames": frames} for frames in (8, 100, 160)]
    + [{"molecule_slices": slices} for slices in (2, 6, 7)],
    ids=str,
)
def test_settings_that_are_accepted_can_be_run(values):
    try:
        config = TINY.override(values)
    except LoupeError:
        return
    assert_cuts(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modes": 4}, "modes=4 must be at most 3, half the slices and one"),
        ({"modes": 2, "slices": 1}, "slices"),
        ({"modes": 3, "molecule_slices": 2}, "modes"),
        (
            {"molecule_frames": 8, "molecule_slices": 16},
            "molecule_frames=8 must be a multiple of molecule_slices=16",
        ),
        ({"sizes": [0]}, "sizes"),
        ({"sizes": [-5]}, "sizes"),
        ({"schedule": "linear"}, "schedule"),
        ({"seeds": []}, "seeds"),
        ({"rate": 0}, "rate"),
        ({"steps": 0}, "steps"),
        ({"width": 0}, "width"),
        ({"nodes": 5}, "nodes"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(LoupeError, match=message):
        TINY.override(values)


def test_networks_of_one_name_have_the_sizes_that_are_asked_for(data):
    for name, kind in (("EGNO", EGNO), ("EGNN", EGNN), ("EGNN-R", EGNN)):
        network = experiments_training._built(name, data["train"], SETTINGS, 0)
        assert type(network) is kind
        assert len(network.layers) == TINY.layers
        assert network.layers[0].width == TINY.width
    network = experiments_training._built("EGNO", data["train"], SETTINGS, 0)
    assert (network.time_coord, network.slices) == ("physical", P)
    assert len(network.on_vectors) == len(network.on_invariants) == TINY.layers
