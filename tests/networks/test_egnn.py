"""The equivariant layer by its equations, edge by edge, in every order of work, and the symmetries it promises."""

import numpy as np
import pytest
import torch
from layers import egnn_layer_by_definition, generator, perturbed

import loupe.networks.egnn as egnn
from loupe.networks.egnn import EGNNLayer, Graph

H, E, P = 6, 2, 3
TREE = torch.tensor([[0, 1, 1, 2, 1, 3, 3, 4], [1, 0, 2, 1, 3, 1, 4, 3]])


def shuffled(graph):
    """Its edges in another order, which is still that of equal copies."""
    order = torch.randperm(graph.edges.shape[1], generator=generator(4))
    return Graph(graph.edges[:, order], graph.nodes, graphs=graph.graphs)


GRAPHS = {
    "pairs": Graph.complete(4, 2),
    "complete": Graph.complete(3, 5),
    "complete, large": Graph.complete(1, egnn.LARGEST_DENSE),
    "complete, too large": Graph.complete(1, egnn.LARGEST_DENSE + 1),
    "trees": Graph.repeated(TREE, 5, 3),
    "trees, shuffled": shuffled(Graph.repeated(TREE, 5, 3)),
    "complete, shuffled": shuffled(Graph.complete(3, 4)),
    "one tree": Graph(TREE, 6),  # node 5 is alone
    "of two sizes": Graph(
        torch.tensor([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2]]), 5, batch=torch.tensor([0, 0, 1, 1, 1])
    ),
    "equal sizes, other edges": Graph(torch.tensor([[0, 1, 2], [1, 0, 3]]), 4, graphs=2),
    "doubled edges": Graph(torch.tensor([[0, 0, 1, 2, 2, 3], [1, 1, 0, 3, 3, 2]]), 4, graphs=2),
    "loops": Graph(torch.tensor([[0, 1], [0, 1]]), 2),
}


def states(graph, leading=(P,), dtype=torch.float64):
    """Positions, velocities, features and edge features."""

    def normal(seed, *shape):
        return torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)

    n = graph.nodes
    return (
        normal(1, *leading, n, 3),
        normal(2, *leading, n, 3),
        normal(3, *leading, n, H),
        normal(4, graph.edges.shape[1], E),
    )


def layer_and_states(graph, **options):
    return perturbed(EGNNLayer(H, E), scale=0.3), *states(graph, **options)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("fused", [True, False])
def test_by_definition(name, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(egnn, "plain_numbers", lambda *tensors: False)
    graph = GRAPHS[name]
    layer, x, v, h, known = layer_and_states(graph)
    found = layer(x, v, h, graph, known)
    for p in range(P):
        slices = (t[p].numpy() for t in (x, v, h))
        wanted = egnn_layer_by_definition(layer, *slices, graph.edges.numpy(), known.numpy())
        for part in (0, 1):
            np.testing.assert_allclose(found[part][p].detach(), wanted[part], rtol=1e-12, atol=1e-12)


def gradients(layer, x, v, h, graph, known, fused, monkeypatch):
    """Outputs, and gradients by everything, of a sum with unequal weights."""
    monkeypatch.setattr(egnn, "plain_numbers", lambda *tensors: fused)
    inputs = [t.clone().requires_grad_() for t in (x, v, h, known)]
    out = layer(*inputs[:3], graph, inputs[3])
    loss = sum((o * torch.randn(o.shape, generator=generator(9), dtype=o.dtype)).sum() for o in out)
    return [*out, *torch.autograd.grad(loss, [*inputs, *layer.parameters()])]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", GRAPHS)
def test_orders_of_work_agree(name, dtype, monkeypatch):
    """Side by side, dense or one list, by hand or not: one result, and one gradient by everything."""
    graph, digits = GRAPHS[name], 1e-12 if dtype == torch.float64 else 1e-5
    layer, *values = layer_and_states(graph, dtype=dtype)
    layer = layer.to(dtype)
    x, v, h, known = values
    wanted = gradients(layer, x, v, h, graph.listed(), known, False, monkeypatch)
    for other in (graph, graph.listed()):
        for fused in (True, False):
            found = gradients(layer, x, v, h, other, known, fused, monkeypatch)
            for one, two in zip(found, wanted, strict=True):
                scale = max(1.0, float(two.detach().abs().max()))
                torch.testing.assert_close(one / scale, two / scale, rtol=digits, atol=digits)


def test_form_follows_shape():
    forms = {name: (graph.copies, graph.dense) for name, graph in GRAPHS.items()}
    assert forms == {
        "pairs": (4, True),
        "complete": (3, True),
        "complete, large": (1, True),
        "complete, too large": (1, False),
        "trees": (3, False),
        "trees, shuffled": (3, False),
        "complete, shuffled": (3, True),
        "one tree": (1, False),
        "of two sizes": (1, False),
        "equal sizes, other edges": (1, False),
        "doubled edges": (2, False),
        "loops": (1, False),
    }
    assert all((g.listed().copies, g.listed().dense) == (1, False) for g in GRAPHS.values())


@pytest.mark.parametrize("name", GRAPHS)
def test_fold_and_back(name):
    graph = GRAPHS[name]
    _, _, h, _ = states(graph, leading=(2, 3))
    assert torch.equal(graph.unfold(graph.fold(h), (2, 3)), h)
    ends, starts = graph.edges.unsqueeze(-1)
    places = graph.fold(torch.arange(graph.nodes).unsqueeze(-1))
    assert torch.equal(graph.fold_edges(ends), graph.joined(places, 0 * places)[0])
    assert torch.equal(graph.fold_edges(starts), graph.joined(0 * places, places)[0])
    centres = graph.centroids(graph.fold(h)).expand(6, -1, graph.copies, -1)
    centres = graph.unfold(centres.expand(6, graph.nodes // graph.copies, -1, -1), (2, 3))
    for g in range(graph.graphs):
        mean = h[:, :, graph.batch == g].mean(2, keepdim=True)
        torch.testing.assert_close(centres[:, :, graph.batch == g], mean.expand_as(h[:, :, graph.batch == g]))


# ---- properties


@pytest.mark.parametrize("name", ["complete", "trees", "of two sizes"])
def test_leading_axes_are_graphs_of_their_own(name):
    graph = GRAPHS[name]
    layer, x, v, h, known = layer_and_states(graph, leading=(2, 2))
    found = layer(x, v, h, graph, known)
    for p in range(2):
        for q in range(2):
            alone = layer(x[p, q], v[p, q], h[p, q], graph, known)
            for part in (0, 1):
                torch.testing.assert_close(found[part][p, q], alone[part], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", ["complete", "trees", "of two sizes"])
@pytest.mark.parametrize("sign", [1, -1])
def test_turned_mirrored_and_moved(name, dtype, digits, sign):
    graph = GRAPHS[name]
    layer, x, v, h, known = layer_and_states(graph, dtype=dtype)
    layer = layer.to(dtype)
    R = torch.linalg.qr(torch.randn(3, 3, generator=generator(7), dtype=torch.float64)).Q
    R = (sign * R.det().sign() * R).to(dtype)
    assert R.det().sign() == sign
    shift = torch.tensor([10.0, -7.0, 3.0], dtype=dtype)
    moved, new = layer(x, v, h, graph, known)
    turned, same = layer(x @ R.T + shift, v @ R.T, h, graph, known)
    assert (turned - (moved @ R.T + shift)).abs().max() < digits * moved.abs().max()
    assert (same - new).abs().max() < digits * new.abs().max()


def test_renumbered():
    graph = GRAPHS["trees"]
    layer, x, v, h, known = layer_and_states(graph)
    order = torch.randperm(graph.nodes, generator=generator(5))
    place = order.argsort()
    edges = torch.randperm(graph.edges.shape[1], generator=generator(6))
    other = Graph(place[graph.edges][:, edges], graph.nodes, batch=graph.batch[order])
    wanted = layer(x, v, h, graph, known)
    found = layer(x[:, order], v[:, order], h[:, order], other, known[edges])
    for part in (0, 1):
        torch.testing.assert_close(found[part], wanted[part][:, order], rtol=1e-12, atol=1e-12)


def test_messages_go_from_columns_to_rows():
    with pytest.warns(RuntimeWarning, match="no edges"):
        silent = Graph(torch.zeros(2, 0, dtype=torch.int64), 3)
    layer, x, v, h, _ = layer_and_states(silent)
    graph = Graph(torch.tensor([[0], [2]]), 3)
    found, alone = layer(x, v, h, graph, torch.ones(1, E).double()), layer(x, v, h, silent, torch.zeros(0, E))
    for part in (0, 1):
        assert torch.equal(found[part][:, 1:], alone[part][:, 1:])
        assert (found[part][:, 0] - alone[part][:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("fused", [True, False])
def test_no_edges(fused, monkeypatch):
    """A warning, no force; features still pass their map, and gradients are numbers."""
    if not fused:
        monkeypatch.setattr(egnn, "plain_numbers", lambda *tensors: False)
    with pytest.warns(RuntimeWarning, match=r"no edges: no node will hear of another"):
        graph = Graph(torch.zeros(2, 0, dtype=torch.int64), 4, graphs=2)
    layer, x, v, h, known = layer_and_states(graph)
    moved, new = layer(x, v, h, graph, known)
    torch.testing.assert_close(moved, x + layer.velocity(h) * v, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(new, layer.feature(torch.cat([h, 0 * h], dim=-1)), rtol=1e-14, atol=1e-14)
    (moved.sum() + new.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_no_edge_features():
    layer, graph = perturbed(EGNNLayer(H), scale=0.3), GRAPHS["complete"]
    x, v, h, _ = states(graph)
    found = layer(x, v, h, graph)
    known = np.zeros((graph.edges.shape[1], 0))
    wanted = egnn_layer_by_definition(layer, *(t[0].numpy() for t in (x, v, h)), graph.edges.numpy(), known)
    np.testing.assert_allclose(found[0][0].detach(), wanted[0], rtol=1e-12, atol=1e-12)


def test_clamp():
    """Far beyond all that occurs, a force is held at 100 a coordinate."""
    graph = GRAPHS["complete"]
    layer, x, v, h, known = layer_and_states(graph)
    with torch.no_grad():
        layer.position[2].weight.zero_()
        layer.position[2].bias.fill_(1e6)
    moved, _ = layer(x, 0 * v, h, graph, known)
    assert ((moved - x).abs() <= 100 + 1e-9).all()
    assert float((moved - x).detach().abs().max()) == pytest.approx(100)


@pytest.mark.parametrize("name", ["complete", "trees", "one tree"])
@pytest.mark.parametrize("fused", [True, False])
def test_gradients_against_differences(name, fused, monkeypatch):
    monkeypatch.setattr(egnn, "plain_numbers", lambda *tensors: fused)
    graph = {"complete": Graph.complete(2, 3), "trees": Graph.repeated(TREE[:, :4], 3, 2)}.get(
        name, GRAPHS[name]
    )
    layer = perturbed(EGNNLayer(2, 1), scale=0.3)
    x, v, h, known = states(graph, leading=(2,))
    h, known = h[..., :2].contiguous(), known[:, :1].contiguous()
    inputs = [t.requires_grad_() for t in (x, v, h, known, *layer.parameters())]
    names = [name for name, _ in layer.named_parameters()]

    def out(x, v, h, known, *weights):
        weights = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, weights, (x, v, h, graph, known))

    torch.autograd.gradcheck(out, inputs, atol=1e-6, fast_mode=True)


def test_only_one_output_is_used():
    """Gradients are those of autograd where positions or features alone are asked for."""
    graph = GRAPHS["trees"]
    layer, x, v, h, known = layer_and_states(graph)
    for part in (0, 1):
        found = []
        for fused in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(egnn, "plain_numbers", lambda *tensors, fused=fused: fused)
                start = h.clone().requires_grad_()
                layer(x, v, start, graph, known)[part].square().sum().backward()
                found.append(start.grad)
        torch.testing.assert_close(*found, rtol=1e-11, atol=1e-11)


def test_functional_gradients():
    graph = GRAPHS["complete"]
    layer, x, v, h, known = layer_and_states(graph)
    weights = dict(layer.named_parameters())

    def loss(weights):
        out = torch.func.functional_call(layer, weights, (x, v, h, graph, known))
        return sum(part.square().sum() for part in out)

    found = torch.func.grad(loss)(weights)
    loss(weights).backward()
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-10, atol=1e-10)


def test_autocast():
    graph = GRAPHS["trees"]
    layer, *values = layer_and_states(graph, dtype=torch.float32)
    layer = layer.float()
    x, v, h, known = values
    wanted = layer(x, v, h, graph, known)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x, v, h, graph, known)
    for part in (0, 1):
        error = (found[part].float() - wanted[part]).abs().max()
        assert 0 < error < 0.1 * wanted[part].abs().max()


def test_off_the_cpu():
    """Where values cannot be read, as on a meta device, nothing asks for them."""
    graph = GRAPHS["complete"].to("meta")
    layer, *values = layer_and_states(GRAPHS["complete"])
    x, v, h, known = (t.to("meta") for t in values)
    assert layer.to("meta")(x, v, h, graph, known)[1].shape == h.shape


# ---- bad input


@pytest.mark.parametrize(
    ("edges", "nodes", "options", "message"),
    [
        (TREE.T, 5, {}, r"edges must be integers of shape \(2, E\).* got shape \(8, 2\): transpose"),
        (TREE.float(), 5, {}, r"edges must be integers .* got float32: convert"),
        (TREE, 4, {}, r"edges must name nodes from 0 to 3, got 0 to 4"),
        (TREE - 1, 5, {}, r"edges must name nodes from 0 to 4, got -1 to 3"),
        (TREE, 0, {}, r"nodes must be a positive whole number, got 0"),
        (TREE, 7, dict(graphs=2), r"7 nodes do not make graphs=2 of one size: give a batch vector"),
        (TREE, 5, dict(graphs=0), r"graphs must be a positive whole number, got 0"),
        (TREE, 5, dict(batch=torch.zeros(4).long()), r"batch must be int64 of shape \(5,\).* got .*\(4,\)"),
        (TREE, 5, dict(batch=torch.zeros(5)), r"batch must be int64 .* got torch.float32"),
        (TREE, 5, dict(batch=torch.tensor([0, 0, 0, 0, -1])), r"batch must count graphs from 0, got -1 to 0"),
        (TREE, 5, dict(graphs=1, batch=torch.tensor([0, 0, 0, 0, 1])), r"graphs from 0 to 0, got 0 to 1"),
        (
            TREE,
            5,
            dict(batch=torch.tensor([0, 0, 0, 0, 1])),
            r"within a graph, got one from node 4 to node 3",
        ),
    ],
)
def test_graphs_that_cannot_be(edges, nodes, options, message):
    with pytest.raises(ValueError, match=message):
        Graph(edges, nodes, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.zeros(P, 4, 3)), r"positions must be of shape \(3, 15, 3\) .* got \(3, 4, 3\)"),
        (dict(v=torch.zeros(P, 15, 2)), r"velocities must be of shape \(3, 15, 3\)"),
        (dict(h=torch.zeros(P, 15, H + 1)), r"features must be of shape \(3, 15, 6\) .* got \(3, 15, 7\)"),
        (
            dict(known=torch.zeros(24, 1)),
            r"edge features must be of shape \(24, 2\), one row an edge, got \(24, 1\)",
        ),
        (dict(known=None), r"edge features must be of shape \(24, 2\).* got \(24, 0\)"),
    ],
)
def test_input_that_does_not_suit(change, message):
    graph = GRAPHS["trees"]
    layer, x, v, h, known = layer_and_states(graph)
    given = dict(x=x, v=v, h=h, known=known) | change
    with pytest.raises(ValueError, match=message):
        layer(given["x"], given["v"], given["h"], graph, given["known"])


@pytest.mark.parametrize(("options", "message"), [((0, 1), "width must be .* got 0"), ((4, -1), "got -1")])
def test_layers_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        EGNNLayer(*options)
