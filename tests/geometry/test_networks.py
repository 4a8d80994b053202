"""Layers on manifolds: against their formulas written out, flat networks, symmetries, and the edge of the ball."""

import math

import pytest
import torch
from torch.nn.functional import dropout

from loupe.geometry import Euclidean, Hyperboloid, PoincareBall, Sphere, frechet_mean
from loupe.geometry.networks import (
    AGGREGATIONS,
    MARGINS,
    GraphEncoder,
    ManifoldLinear,
    RiemannianBatchNorm,
    frechet_aggregation,
    link_logits,
    link_loss,
    tangent_aggregation,
)

DOUBLE = torch.float64
CLOSE = {DOUBLE: 1e-12, torch.float32: 2e-6}
curvatures = pytest.mark.parametrize("K", [-1.0, -0.4])
dtypes = pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def near(found, wanted, atol=1e-12):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def points(n=12, d=3, K=-1.0, seed=0, dtype=DOUBLE):
    """Points of the ball, well inside."""
    x = normal(n, d, seed=seed)
    share = 0.05 + 0.8 * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed + 1), dtype=DOUBLE)
    return (share * x / x.norm(dim=-1, keepdim=True) * (-K) ** -0.5).to(dtype)


def graph(n=12, seed=0, alone=2):
    """Messages of a random graph in both directions with self loops, the last nodes without a neighbor; and A + I."""
    chance = torch.rand(n, n, generator=torch.Generator().manual_seed(seed))
    upper = (chance < 0.3).triu(1)
    upper[:, n - alone :] = False
    dense = (upper | upper.T | torch.eye(n, dtype=torch.bool)).to(DOUBLE)
    destination, source = dense.nonzero().T
    return torch.stack([source, destination]), dense


# --- formulas of the literature, written out ----------------------------------------------------------------


def add(x, y, c):
    """Möbius addition as everybody writes it."""
    xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy)


def exp0(u, c):
    r = c**0.5 * u.norm(dim=-1, keepdim=True)
    return torch.where(r > 0, r.tanh() / r, 1.0) * u


def log0(x, c):
    r = c**0.5 * x.norm(dim=-1, keepdim=True)
    return torch.where(r > 0, r.atanh() / r, 1.0) * x


def matrix_times(weight, x, c):
    """Möbius matrix multiplication."""
    moved = x @ weight.T
    long, short = moved.norm(dim=-1, keepdim=True), c**0.5 * x.norm(dim=-1, keepdim=True)
    return (c**0.5 * long / short * short.atanh()).tanh() * moved / (c**0.5 * long)


def hyperbolic_linear(layer, x, c):
    return add(matrix_times(layer.weight, x, c), exp0(layer.bias, c), c)


def layer(inputs=3, outputs=5, dtype=DOUBLE, size=0.3, **options):
    """A linear layer whose bias is not 0, and whose points stay well inside."""
    one = ManifoldLinear(inputs, outputs, generator=torch.Generator().manual_seed(1), dtype=dtype, **options)
    with torch.no_grad():
        one.weight.mul_(size)
        one.bias.copy_(0.2 * normal(outputs, seed=2))
    return one


# --- linear -------------------------------------------------------------------------------------------------


@dtypes
@curvatures
def test_linear_in_the_ball_is_mobius_multiplication_and_mobius_bias(K, dtype):
    one, x = layer(dtype=dtype), points(K=K, dtype=dtype)
    found = one(x, PoincareBall(K))
    assert found.dtype == dtype
    near(found, hyperbolic_linear(one, x, -K), CLOSE[dtype])
    near(one.from_tangent(log0(x, -K), PoincareBall(K)), found, CLOSE[dtype])


@dtypes
def test_linear_in_flat_space_is_linear(dtype):
    one, x = layer(dtype=dtype), normal(12, 3, dtype=dtype)
    near(one(x, Euclidean()), x @ one.weight.T + one.bias, CLOSE[dtype])


def test_linear_starts_as_in_hgcn():
    one = ManifoldLinear(400, 300, generator=torch.Generator().manual_seed(0))
    assert not one.bias.any()
    bound = math.sqrt(2) * math.sqrt(6 / 700)
    assert 0.999 * bound < one.weight.abs().max() <= bound
    again = ManifoldLinear(400, 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.weight, again.weight)


@pytest.mark.parametrize("space", [PoincareBall(), Euclidean()], ids=str)
def test_dropout_acts_on_weights_and_in_training_only(space):
    one, plain, x = layer(dropout=0.5), layer(), points()
    torch.manual_seed(3)
    found = one(x, space)
    torch.manual_seed(3)
    with torch.no_grad():
        plain.weight.copy_(dropout(one.weight, 0.5))
    assert 0 < (plain.weight == 0).sum() < plain.weight.numel()
    assert torch.equal(found, plain(x, space))
    one.eval()
    assert torch.equal(one(x, space), layer()(x, space))


@dtypes
@curvatures
def test_points_of_a_network_keep_off_the_boundary(K, dtype):
    ball = PoincareBall(K)
    far = (-K) ** -0.5 * torch.eye(3, dtype=dtype)
    largest = (1 - MARGINS[dtype]) * (-K) ** -0.5
    assert (ball.inside(far).norm(dim=-1) <= largest * (1 + CLOSE[dtype])).all()
    assert torch.equal(Euclidean().inside(far), far)
    one = layer(dtype=dtype, size=1000)
    for x in (one(points(K=K, dtype=dtype), ball), one(ball.inside(far), ball)):
        assert x.isfinite().all()
        assert (x.norm(dim=-1) <= largest * (1 + CLOSE[dtype])).all()


# --- aggregation --------------------------------------------------------------------------------------------


@curvatures
def test_tangent_aggregation_is_a_matrix_in_the_tangent_space(K):
    edges, dense = graph()
    x = points(K=K)
    average = dense / dense.sum(1, keepdim=True)
    near(tangent_aggregation(x, edges, PoincareBall(K)), exp0(average @ log0(x, -K), -K))
    near(tangent_aggregation(x, edges, Euclidean()), average @ x)


@curvatures
def test_frechet_aggregation_is_the_mean_at_each_node(K):
    edges, dense = graph()
    x, ball = points(K=K), PoincareBall(K)
    found = frechet_aggregation(x, edges, ball)
    each = torch.stack([frechet_mean(x[row > 0], manifold=ball) for row in dense])
    near(found, each, 2e-6)  # the tolerance of means inside a network
    near(frechet_aggregation(x, edges, Euclidean()), dense @ x / dense.sum(1, keepdim=True))


@pytest.mark.parametrize("aggregate", [tangent_aggregation, frechet_aggregation])
@pytest.mark.parametrize("space", [PoincareBall(-0.4), Euclidean()], ids=str)
def test_aggregation_goes_along_edges_and_only_along_them(aggregate, space):
    """Direction, order and isolation: 0 hears 1, 1 hears nobody, 2 and 3 are alone."""
    edges = torch.tensor([[2, 1, 0, 1, 3], [2, 0, 0, 1, 3]])
    x = points(4)
    found = aggregate(x, edges, space)
    near(found[1:], x[1:])
    middle = space.exp(x[0], 0.5 * space.log(x[0], x[1]))
    assert (found[0] - x[0]).norm() > 0.05
    if aggregate is frechet_aggregation or isinstance(space, Euclidean):
        near(found[0], middle, 2e-6)


# --- encoder ------------------------------------------------------------------------------------------------


def encoder(widths=(4, 6, 5), *, curvature=None, **options):
    """An encoder whose biases are not 0 and whose points stay inside."""
    network = GraphEncoder(list(widths), seed=3, **{"dtype": DOUBLE} | options)
    with torch.no_grad():
        for k, linear in enumerate(network.linears):
            linear.weight.mul_(0.4)
            linear.bias.copy_(0.1 * normal(len(linear.bias), seed=k + 20))
        if curvature is not None:
            network.log_c.copy_(torch.tensor(curvature, dtype=DOUBLE).log())
    return network


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_in_flat_space_it_is_a_perceptron_or_a_graph_convolution(aggregation, activation):
    edges, dense = graph()
    network = encoder(hyperbolic=False, aggregation=aggregation, activation=activation)
    average = torch.eye(12, dtype=DOUBLE) if aggregation == "none" else dense / dense.sum(1, keepdim=True)
    x = features = normal(12, 4)
    for linear in network.linears:
        x = average @ (x @ linear.weight.T + linear.bias)
        x = x.relu() if activation == "relu" else x
    near(network(features, edges), x)
    assert all(isinstance(space, Euclidean) for space in network.manifolds())


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_in_the_ball_it_is_hgcn_with_a_curvature_for_each_layer(aggregation):
    """Linear map and average in a layer's curvature, the activation into the next one's."""
    edges, dense = graph()
    curvature = (0.7, 1.3, 0.5)
    network, features = encoder(curvature=curvature, aggregation=aggregation), 0.5 * normal(12, 4)
    x = exp0(features, curvature[0])
    for k, linear in enumerate(network.linears):
        c = curvature[k]
        x = hyperbolic_linear(linear, x, c)
        if aggregation == "tangent":
            x = exp0(dense / dense.sum(1, keepdim=True) @ log0(x, c), c)
        elif aggregation == "frechet":
            x = torch.stack([frechet_mean(x[row > 0], manifold=PoincareBall(-c)) for row in dense])
        x = exp0(log0(x, c).relu(), curvature[k + 1])
    near(network(features, edges), x, 1e-12 if aggregation != "frechet" else 1e-5)
    assert [round(-space.curvature.item(), 9) for space in network.manifolds()] == list(curvature)


@dtypes
@pytest.mark.parametrize("size", [0.2, 3.0, 40.0])
def test_the_entrance_is_the_way_into_the_ball_and_back(size, dtype):
    features = (size * normal(30, 5, dtype=dtype)).requires_grad_()
    features.data[0] = 0
    cotangent, found = normal(30, 5, seed=1, dtype=dtype), []
    for enter in (lambda u, ball: ball.entered(u), lambda u, ball: ball.log0(ball.inside(ball.exp0(u)))):
        K = torch.tensor(-0.7, dtype=dtype, requires_grad=True)
        u = enter(features, PoincareBall(K))
        gradients = torch.autograd.grad(
            (u * cotangent).sum(), [features, K], allow_unused=True, materialize_grads=True
        )
        found.append((u, *gradients))
    # Near the boundary a rounded radius is magnified by the logarithm: 250 times with the margin of float32.
    atol = {DOUBLE: 1e-9, torch.float32: 2e-3}[dtype]
    for ours, written_out in zip(*found, strict=True):
        torch.testing.assert_close(ours, written_out, rtol=atol, atol=atol)


def test_flat_features_enter_as_they_are():
    features = 1000 * normal(5, 4)
    assert Euclidean().entered(features) is features


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_curvature_is_learnt_where_asked_for_and_stays_negative(aggregation, batch_norm):
    edges, _ = graph()
    features = 0.5 * normal(12, 4)
    still = encoder(aggregation=aggregation, batch_norm=batch_norm)
    still(features, edges).square().sum().backward()
    assert still.log_c.grad is None
    network = encoder(aggregation=aggregation, batch_norm=batch_norm, learn_curvature=True)
    network(features, edges).square().sum().backward()
    assert network.log_c.grad.isfinite().all()
    # No point of the first ball is near its boundary, and a matrix knows no curvature; a bias does.
    assert network.log_c.grad[1:].all()
    for step in (-50.0, 12.0):
        with torch.no_grad():
            network.log_c.fill_(step)
        assert all(space.curvature.item() < 0 for space in network.manifolds())


@pytest.mark.parametrize("aggregation", ["tangent", "frechet"])
def test_the_gradient_in_curvature_is_that_of_differences(aggregation):
    edges, _ = graph()
    network = encoder(aggregation=aggregation, learn_curvature=True)
    features, cotangent = 0.5 * normal(12, 4), normal(12, 5, seed=8)

    def loss():
        return (network(features, edges) * cotangent).sum()

    loss().backward()
    for k in range(3):
        with torch.no_grad():
            values = []
            for move in (1e-3, -2e-3):  # far above the tolerance of the means
                network.log_c[k] += move
                values.append(loss())
            network.log_c[k] += 1e-3
        near(network.log_c.grad[k], (values[0] - values[1]) / 2e-3, 1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("hyperbolic", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_names_of_nodes_do_not_matter(aggregation, hyperbolic, batch_norm):
    edges, _ = graph()
    network = encoder(aggregation=aggregation, hyperbolic=hyperbolic, batch_norm=batch_norm)
    features, order = normal(12, 4), torch.randperm(12, generator=torch.Generator().manual_seed(4))
    renamed = torch.empty_like(features)
    renamed[order] = features
    shuffled = order[edges][:, torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(5))]
    near(
        network(renamed, shuffled)[order],
        network(features, edges),
        1e-5 if aggregation == "frechet" else 1e-11,
    )


@pytest.mark.parametrize("aggregation", ["tangent", "frechet"])
def test_a_lonely_node_is_seen_as_if_there_were_no_graph(aggregation):
    edges, _ = graph(alone=3)
    alone = encoder(aggregation="none")
    features = normal(12, 4)
    near(encoder(aggregation=aggregation)(features, edges)[-3:], alone(features)[-3:])


@pytest.mark.parametrize("options", [{"learn_curvature": True}, {"batch_norm": True}], ids=str)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_float32_at_the_boundary_stays_finite(aggregation, options):
    edges, _ = graph(40)
    network = GraphEncoder([4, 8, 8], aggregation=aggregation, dtype=torch.float32, seed=1, **options)
    features = 100 * normal(40, 4, dtype=torch.float32)
    pairs = torch.randint(40, (2, 60, 2), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        x, space = network(features, edges), network.manifolds()[-1]
        loss = link_loss(*(link_logits(x, part, space) for part in pairs))
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
        optimizer.step()
        assert loss.isfinite()
    assert (x.norm(dim=-1) * space.c**0.5 <= 1 - 0.99 * MARGINS[torch.float32]).all()


@dtypes
def test_points_also_keep_off_the_boundary_of_a_smaller_ball(dtype):
    """What was well inside the last layer's ball may be nearly outside the next one's."""
    network = encoder(curvature=(1.0, 0.1, 9.0), dtype=dtype)
    with torch.no_grad():
        network.linears[-1].weight.mul_(100)
    norms = 3 * network(3 * normal(12, 4, dtype=dtype)).norm(dim=-1)
    assert (norms <= (1 - MARGINS[dtype]) * (1 + CLOSE[dtype])).all()
    assert (norms > 1 - 1.1 * MARGINS[dtype]).any()


def test_a_seed_gives_the_same_weights_whatever_the_aggregation():
    one, other, third = (
        GraphEncoder([4, 6, 5], seed=seed, aggregation=aggregation)
        for seed, aggregation in ((0, "tangent"), (0, "frechet"), (1, "frechet"))
    )
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert not torch.equal(one.linears[0].weight, third.linears[0].weight)
    assert not torch.equal(one.linears[0].weight[:, :4], one.linears[1].weight[:, :4])


# --- links --------------------------------------------------------------------------------------------------


@curvatures
def test_scores_are_those_of_fermi_and_dirac(K):
    ball, x = PoincareBall(K), points(K=K)
    pairs = torch.tensor([[0, 1], [5, 2], [3, 3], [11, 0]])
    c = -K
    x_i, x_j = (x[column] for column in pairs.T)
    distance = 2 / c**0.5 * (c**0.5 * add(-x_i, x_j, c).norm(dim=-1)).atanh()
    for radius, temperature in ((2.0, 1.0), (0.5, 0.3)):
        chance = 1 / (((distance**2 - radius) / temperature).exp() + 1)
        found = link_logits(x, pairs, ball, radius=radius, temperature=temperature).sigmoid()
        near(found, chance)
    assert torch.equal(link_logits(x, pairs, ball), link_logits(x, pairs, ball, radius=2.0, temperature=1.0))
    assert torch.equal(link_logits(x, pairs.flip(1), ball), link_logits(x, pairs, ball))


def test_the_loss_is_the_cross_entropy_of_both_kinds_of_pairs():
    positive, negative = normal(7), normal(20, seed=1)
    chances = positive.sigmoid(), negative.sigmoid()
    near(link_loss(positive, negative), -chances[0].log().mean() - (1 - chances[1]).log().mean())
    great = torch.tensor([-200.0, 200.0])
    assert link_loss(great, great) == 200  # with chances in place of logits it would not be finite


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_layers_take_the_default_dtype_and_what_autocast_leaves(dtype):
    edges, _ = graph()
    x = points(24, dtype=torch.float32).to(dtype)
    for space in (PoincareBall(), Euclidean()):
        for module in (ManifoldLinear(3, 5), RiemannianBatchNorm(3)):
            assert module(x, space).dtype == torch.float32
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = module(x, space)
            assert found.dtype == torch.float32
            near(found, module(x, space), 0.02)
    for aggregation in AGGREGATIONS:
        network = GraphEncoder([3, 6, 5], aggregation=aggregation, batch_norm=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(x[:12], edges)
            found.square().sum().backward()
        assert found.dtype == torch.float32
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_linear_layers_work_on_every_manifold_with_an_origin():
    for space in (Hyperboloid(-0.5), Sphere()):
        x = space.random(7, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
        one = layer(4, 3, size=0.2)
        found = one(x, space)
        space.check(found)
        with torch.no_grad():
            one.bias.zero_()
        origin = space.origin_like(found)
        near(one(x, space), space.exp(origin, space.to_tangent(origin, space.log0(x) @ one.weight.T)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: GraphEncoder([4, 2], aggregation="mean"),
            "aggregation must be one of none, tangent, frechet, got 'mean'",
        ),
        (lambda: GraphEncoder([4, 2], activation="tanh"), "activation must be one of relu, none, got 'tanh'"),
        (
            lambda: RiemannianBatchNorm(3, evaluate_with="train"),
            "evaluate_with must be 'batch' or 'running', got 'train'",
        ),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()


def test_no_pairs_have_no_scores():
    assert link_logits(points(4), torch.empty(0, 2, dtype=torch.int64), PoincareBall()).shape == (0,)
