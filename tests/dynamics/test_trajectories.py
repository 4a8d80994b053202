"""Windows: what is done with them, what they refuse, and how a trajectory of one's own becomes windows."""

import dataclasses
import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch

import loupe.dynamics
from loupe.dynamics import EGNO, Windows, load_network, path_windows, rollout, save_network
from loupe.dynamics.windows import bonded
from loupe.training import Batches, fit


def small(S=3, P=4, N=3, *, height=None, node_values=1, duration=8.0):
    """Windows of random numbers along a chain of N points."""
    generator = torch.Generator().manual_seed(0)
    edges, _ = bonded(torch.stack([torch.arange(N - 1), torch.arange(1, N)]), N)
    return Windows(
        torch.randn(S, N, 3, generator=generator),
        torch.randn(S, N, 3, generator=generator),
        torch.randn(S, P, N, 3, generator=generator),
        torch.arange(1, P + 1, dtype=torch.float64) / P,
        duration,
        edges,
        torch.randn(S, edges.shape[1], 2, generator=generator),
        torch.randn(S, N, node_values, generator=generator) if node_values else None,
        height,
    )


@pytest.mark.parametrize(("height", "node_values"), [(None, 0), (None, 2), (4.0, 0), (4.0, 1)])
def test_features_are_speed_height_and_what_is_known(height, node_values):
    windows = small(S=2, N=4, height=height, node_values=node_values)
    assert windows.node_features == 1 + (height is not None) + node_values
    assert windows.edge_features == 3
    x, v, _, edge_values, known = windows.tensors()
    graph = windows.graph(2)
    features, edge_features = windows.features(x.flatten(0, 1), v.flatten(0, 1), graph, edge_values, known)
    assert features.shape == (8, windows.node_features)
    assert edge_features.shape == (2 * windows.edges.shape[1], 3)
    for s in range(2):
        for i in range(4):
            wanted = [float(np.linalg.norm(v[s, i].numpy()))]
            wanted += [] if height is None else [x[s, i, 1].item() / 4.0]
            wanted += known[s, i].tolist()
            assert np.allclose(features[4 * s + i].numpy(), wanted, rtol=1e-5)
        M = windows.edges.shape[1]
        for e, (a, b) in enumerate(windows.edges.T.tolist()):
            assert graph.edges[:, s * M + e].tolist() == [4 * s + a, 4 * s + b]
            squared = float(((x[s, a] - x[s, b]) ** 2).sum())
            wanted = [*windows.edge_values[s, e].tolist(), squared]
            assert np.allclose(edge_features[s * M + e].numpy(), wanted, rtol=1e-5)


def test_uneven_times_make_no_steps():
    windows = dataclasses.replace(small(P=2), times=torch.tensor([0.9, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="times must be spread evenly to be steps"):
        windows.steps()


def test_steps_are_the_states_that_a_rollout_passes_through():
    windows = small(S=1, P=4, duration=8.0)
    steps, seen = windows.steps(), []

    def told(x, v):
        seen.append((x, v))
        return torch.zeros(3, 1)

    def oracle(x, v, features, graph, edge_features):
        return windows.targets[0, len(seen) - 1].unsqueeze(0)

    path = rollout(
        oracle,
        windows.positions[0],
        windows.velocities[0],
        4,
        told,
        windows.graph(1),
        duration=steps.duration,
    )
    assert torch.equal(path, windows.targets[0])
    for k, (x, v) in enumerate(seen):
        assert torch.equal(x, steps.positions[k])
        assert torch.allclose(v, steps.velocities[k])


def test_steps_are_windows_between_neighbouring_times():
    windows = small(S=3, P=4, duration=8.0, height=1.5)
    steps = windows.steps()
    assert len(steps) == 12
    assert steps.duration == 2.0
    assert steps.times.tolist() == [1.0]
    assert steps.height == 1.5
    for s in range(3):
        path = [windows.positions[s], *windows.targets[s]]
        for p in range(4):
            k = 4 * s + p
            v = windows.velocities[s] if p == 0 else (path[p] - path[p - 1]) / 2.0
            assert torch.equal(steps.positions[k], path[p])
            assert torch.allclose(steps.velocities[k], v)
            assert torch.equal(steps.targets[k], path[p + 1].unsqueeze(0))
            assert torch.equal(steps.edge_values[k], windows.edge_values[s])
            assert torch.equal(steps.node_values[k], windows.node_values[s])


@pytest.mark.parametrize("index", [slice(1, 5, 2), torch.tensor([4, 0, 0])])
def test_chosen_windows_are_chosen_in_all_that_is_their_own(index):
    windows = small(S=6, height=2.0)
    found = windows.chosen(index)
    for name in ("positions", "velocities", "targets", "edge_values", "node_values"):
        assert torch.equal(getattr(found, name), getattr(windows, name)[index]), name
    for name in ("times", "duration", "edges", "height"):
        assert getattr(found, name) is getattr(windows, name), name
    assert len(found) == (2 if isinstance(index, slice) else 3)
    assert small(node_values=0).chosen(slice(0, 1)).node_values is None


def test_thinned_windows_keep_every_so_many_times():
    windows = small(P=12)
    for slices in (1, 2, 3, 4, 6, 12):
        thin = windows.thinned(slices)
        kept = [(k + 1) * 12 // slices - 1 for k in range(slices)]
        assert torch.equal(thin.targets, windows.targets[:, kept])
        assert thin.times.tolist() == windows.times[kept].tolist()
        assert thin.times[-1] == 1
        assert thin.duration == windows.duration
    for slices in (5, 0, -1, 24):
        with pytest.raises(
            ValueError, match=rf"12 times cannot be thinned to slices={slices}: give a divisor"
        ):
            windows.thinned(slices)


# ---- what windows refuse


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(velocities=torch.zeros(2, 3, 3)), r"velocities must have shape \(3, 3, 3\), got \(2, 3, 3\)"),
        (dict(positions=torch.zeros(3, 9)), r"positions must be of shape \(S, N, D\), got \(3, 9\)"),
        (dict(targets=torch.zeros(3, 5, 3, 3)), r"targets must have shape \(3, 4, 3, 3\)"),
        (
            dict(edge_values=torch.zeros(3, 5, 2)),
            r"edge_values must be of shape \(3, 6, k\), got \(3, 5, 2\)",
        ),
        (dict(node_values=torch.zeros(3, 3)), r"node_values must be of shape \(3, 3, k\), got \(3, 3\)"),
        (dict(edges=torch.tensor([[0], [3]])), r"edges must name nodes from 0 to 2"),
        (
            dict(times=torch.tensor([0.2, 0.4, 0.3, 1.0])),
            r"times must rise within \(0, 1\], got 0.3 after 0.4",
        ),
        (dict(times=torch.tensor([0.2, 0.4, 0.6, 0.8])), r"times must end with the window, at 1"),
        (dict(duration=0.0), r"duration must be positive.* got 0.0"),
    ],
    ids=str,
)
def test_windows_of_parts_that_do_not_agree(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(small(), **change)


# ---- trajectories of one's own


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("known", [True, False])
def test_own_paths_are_cut(dtype, known):
    rng = np.random.default_rng(0)
    paths, speeds = rng.standard_normal((2, 2, 30, 4, 2)).astype(dtype)
    options = {"velocities": speeds, "node_values": np.arange(4)[:, None], "edges": [[0, 1], [1, 0]]}
    windows = path_windows(paths, distance=12, slices=3, step=0.1, **options if known else {})
    starts = [(r, t) for r in range(2) for t in range(0 if known else 1, 18)]
    assert len(windows) == len(starts)
    assert windows.times.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert windows.duration == pytest.approx(1.2)
    assert (windows.node_features, windows.edge_features) == (1 + known, 1)
    assert windows.edges.shape == (2, 2 if known else 12)
    for k, (r, t) in enumerate(starts):
        assert np.array_equal(windows.positions[k], paths[r, t])
        speed = speeds[r, t] if known else (paths[r, t] - paths[r, t - 1]) / 0.1
        np.testing.assert_allclose(windows.velocities[k], speed, rtol=1e-5)
        assert np.array_equal(windows.targets[k], paths[r, [t + 4, t + 8, t + 12]])
    assert all(each.dtype == windows.positions.dtype for each in windows.tensors())
    assert str(windows.positions.dtype) == f"torch.{np.dtype(dtype)}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(paths=np.zeros((9, 3))), r"paths must be of shape \(T, N, D\) or \(R, T, N, D\), got \(9, 3\)"),
        (dict(distance=20), r"runs of 20 frames hold no window of distance=20: shorten distance"),
        (dict(slices=9), r"distance=8 frames have no slices=9 equal parts: give a divisor"),
        (dict(paths=np.full((20, 3, 2), np.nan)), r"paths must be finite"),
        (dict(paths=np.ma.masked_equal(np.eye(20)[:, :, None], 1)), r"paths is a masked array"),
        (
            dict(velocities=np.zeros((19, 3, 2))),
            r"velocities must have shape \(1, 20, 3, 2\), got \(1, 19, 3, 2\)",
        ),
        (dict(edges=[[0], [3]]), r"edges must name nodes from 0 to 2"),
        (dict(edge_values=np.zeros((5, 1))), r"edge_values must be of shape \(11, 6, k\)"),
    ],
    ids=range(8),
)
def test_own_paths_that_cannot_be_cut(options, message):
    with pytest.raises(ValueError, match=message):
        path_windows(**{"paths": np.zeros((20, 3, 2)), "distance": 8, "slices": 4} | options)


def test_your_own_data(tmp_path):
    """The recipe: positions, windows, training, prediction, weights to take away."""
    frame, phase = np.linspace(0, 60, 600)[:, None], np.array([0.0, 2.1, 4.2])
    positions = np.stack([np.cos(frame + phase), np.sin(frame + phase)], axis=-1)  # yours: (T, N, 2 or 3)

    train, test = (path_windows(part, distance=20, slices=5) for part in (positions[:450], positions[450:]))
    torch.manual_seed(0)
    model = EGNO(train.node_features, train.edge_features, width=16, layers=2).double()

    def loss(model, batch, generator):
        return (train.predict(model, batch) - batch[2]).square().mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, loss, Batches(*train.tensors(), size=32), optimizer, steps=60)
    with torch.no_grad():
        path = test.predict(model)  # (windows, 5, N, 2)
        end = test.predict(model, times=[1.0])  # at any times of the window
    save_network(model, tmp_path / "model.pt")

    assert path.shape == test.targets.shape
    still = (test.positions.unsqueeze(1) - test.targets).square().mean()
    assert (path - test.targets).square().mean() < 0.05 * still
    torch.testing.assert_close(end, path[:, -1:])
    torch.testing.assert_close(test.predict(load_network(tmp_path / "model.pt")).detach(), path)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(loupe.dynamics.__path__)])
def test_examples(name):
    assert not doctest.testmod(importlib.import_module(f"loupe.dynamics.{name}")).failed
