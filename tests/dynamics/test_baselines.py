"""Baselines of the neural operator against their equations; rollouts; features of states."""

import numpy as np
import pytest
import torch
from layers import array, chain, perturbed, silu
from small_networks import GRAPHS, given, normal, rotation

from loupe.dynamics import EGNN, Linear, MessagePassing, RadialField, SequentialEGNN, input_features, rollout
from loupe.networks.egnn import Graph


def test_linear():
    x, v, f, graph, e = given(GRAPHS["complete"])
    net = Linear(5).double()
    with torch.no_grad():
        net.scale.fill_(0.5)
    found = net(x, v)
    for p in range(5):
        torch.testing.assert_close(found[p], x + 0.5 * (p + 1) / 5 * v)
    assert torch.equal(Linear().double()(x, v, f, graph, e)[0], x + v)
    assert sum(p.numel() for p in net.parameters()) == 1
    assert len(net(x, v, times=[0.25, 1.0])) == 2


@pytest.mark.parametrize(
    ("layers", "slices", "reads"),
    [
        (4, 5, (1, 2, 2, 3, 4)),
        (5, 5, (1, 2, 3, 4, 5)),
        (6, 5, (1, 2, 4, 5, 6)),
        (4, 8, (1, 1, 2, 2, 3, 3, 4, 4)),
        (3, 1, (3,)),
    ],
)
def test_sequential_reads_between_layers(layers, slices, reads):
    net = perturbed(SequentialEGNN(2, 3, width=6, layers=layers, slices=slices))
    assert net.reads == reads
    values = given(GRAPHS["complete"])
    found = net.states(*values)
    for p, depth in enumerate(reads):
        short = EGNN(2, 3, width=6, layers=depth).double()
        short.load_state_dict({k: w for k, w in net.state_dict().items() if k in short.state_dict()})
        wanted = short.states(*values)
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one[p], two[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_radial_field_by_definition(name):
    net, (x, v, f, graph, e) = perturbed(RadialField(3, width=6, layers=2)), given(GRAPHS[name])
    found = net(x, v, f, graph, e)
    x, v, e = (array(t).copy() for t in (x, v, e))
    for radial, speed in zip(net.radial, net.speed, strict=True):
        force, degree = np.zeros_like(x), np.zeros(len(x))
        for (i, j), known in zip(graph.edges.numpy().T, e, strict=True):
            force[i] += (x[i] - x[j]) * np.tanh(
                chain(radial, np.concatenate([[np.linalg.norm(x[i] - x[j])], known]))
            )
            degree[i] += 1
        moves = np.stack([chain(speed, np.array([np.linalg.norm(w)])) * w for w in v])
        x = x + moves + force / np.maximum(degree, 1)[:, None]
    np.testing.assert_allclose(array(found)[0], x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", GRAPHS)
def test_message_passing_by_definition(name):
    net, (x, v, f, graph, e) = perturbed(MessagePassing(2, 3, width=6, layers=2)), given(GRAPHS[name])
    found = net(x, v, f, graph, e)
    x, v, f, e = (array(t) for t in (x, v, f, e))
    h = np.stack([chain([net.embed], np.concatenate(row)) for row in zip(x, v, f, strict=True)])
    for message, feature in zip(net.message, net.feature, strict=True):
        heard = np.zeros_like(h)
        for (i, j), known in zip(graph.edges.numpy().T, e, strict=True):
            heard[i] += silu(chain(message[0], np.concatenate([h[i], h[j], known])))
        h = h + np.stack([chain(feature, np.concatenate(row)) for row in zip(h, heard, strict=True)])
    wanted = x + np.stack([chain(net.head, row) for row in h])
    np.testing.assert_allclose(array(found)[0], wanted, rtol=1e-11, atol=1e-11)


def test_message_passing_is_not_equivariant():
    net, (x, v, f, graph, e) = perturbed(MessagePassing(2, 3, width=6, layers=2)), given(GRAPHS["complete"])
    R, wanted = rotation(1, torch.float64), net(x, v, f, graph, e)
    assert (net(x @ R.T, v @ R.T, f, graph, e) - wanted @ R.T).abs().max() > 1e-2
    shift = torch.tensor([10.0, 0.0, 0.0]).double()
    assert (net(x + shift, v, f, graph, e) - wanted - shift).abs().max() > 1e-2


def test_rollout():
    net, graph = perturbed(EGNN(1, 1, width=6, layers=2)), Graph.complete(3, 4)
    x, v = normal(1, 12, 3), normal(2, 12, 3)
    found = rollout(net, x, v, 3, lambda x, v: input_features(x, v, graph), graph, duration=0.2)
    assert found.shape == (3, 12, 3)
    for p in range(3):
        new = net(x, v, *(lambda f, e: (f, graph, e))(*input_features(x, v, graph)))[0]
        torch.testing.assert_close(found[p], new, rtol=1e-12, atol=1e-12)
        x, v = new, (new - x) / 0.2
    straight = rollout(Linear().double(), x, v, 4, None, graph)
    torch.testing.assert_close(straight[3], x + 4 * v, rtol=1e-12, atol=1e-12)


def test_a_rollout_is_held_within_reach():
    """Of where it started, in any direction; what leaves all numbers stays where it was."""

    class Away(torch.nn.Module):
        def forward(self, x, v, features, graph, edge_features):
            return torch.stack([torch.stack([3 * x[0], x[1] + 0.5, x[2] * torch.inf])])

    x0 = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    path = rollout(Away(), x0, torch.zeros(3, 3), 3, None, Graph.complete(1, 3), reach=9.0)
    assert torch.allclose(path[:, 0].norm(dim=1), torch.tensor([9.0, 12.0, 12.0]))
    assert torch.allclose(path[-1, 0] / 12, x0[0] / 3)
    assert torch.allclose(path[:, 1], 0.5 * torch.arange(1, 4).view(3, 1).expand(3, 3))
    assert torch.equal(path[:, 2], x0[2].expand(3, 3))
    with pytest.raises(ValueError, match="reach must be positive"):
        rollout(Away(), x0, x0, 1, None, Graph.complete(1, 3), reach=0.0)


def test_rollout_of_features_that_stay():
    net, (x, v, f, graph, e) = perturbed(EGNN(2, 3, width=6, layers=2)), given(GRAPHS["trees"])
    found = rollout(net, x, v, 2, f, graph, e)
    other = rollout(net, x, v, 2, lambda x, v: f, graph, lambda x, v: e)
    assert torch.equal(found, other)
    R = rotation(-1, torch.float64)
    torch.testing.assert_close(
        rollout(net, x @ R.T, v @ R.T, 2, f, graph, e), found @ R.T, rtol=1e-9, atol=1e-9
    )


def test_input_features():
    x, v, _, graph, _ = given(GRAPHS["complete"])
    numbers, charges = torch.arange(12), normal(5, 36)
    f, e = input_features(x, v, graph, numbers, charges, largest=20)
    row, col = graph.edges
    torch.testing.assert_close(f, torch.stack([v.square().sum(1).sqrt(), numbers / 20], dim=1).double())
    torch.testing.assert_close(e, torch.stack([charges, (x[row] - x[col]).square().sum(1)], dim=1))
    f, e = input_features(x, v, graph, torch.ones(12, 2), normal(5, 36, 2), largest=torch.tensor([2.0, 4.0]))
    assert f[0, 1:].tolist() == [0.5, 0.25]
    assert e.shape == (36, 3)
    f, e = input_features(x, v, graph)
    assert f.shape == (12, 1)
    assert e.shape == (36, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(node_values=torch.zeros(3)), "one for each of 12 nodes, got 3"),
        (dict(edge_values=torch.zeros(3)), "one for each of 36 edges, got 3"),
        (dict(node_values=torch.zeros(12), largest=0), "largest must be positive.* got 0"),
    ],
)
def test_features_that_do_not_suit(options, message):
    x, v, _, graph, _ = given(GRAPHS["complete"])
    with pytest.raises(ValueError, match=message):
        input_features(x, v, graph, **options)


@pytest.mark.parametrize(
    ("steps", "duration", "slices", "message"),
    [
        (0, 1, 1, "steps must be"),
        (2, 0, 1, "duration must be positive"),
        (2, 1, 3, "needs a network of one step.* 3"),
    ],
)
def test_rollouts_that_cannot_be(steps, duration, slices, message):
    x, v, f, graph, e = given(GRAPHS["complete"])
    with pytest.raises(ValueError, match=message):
        rollout(Linear(slices), x, v, steps, f, graph, e, duration=duration)
