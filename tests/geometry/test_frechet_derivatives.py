"""Derivatives of the Fréchet mean and of the variance, in two charts; shapes and dtypes; means on graphs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from means import DOUBLE, curvatures, generator, near, normal, problem, seeds, slope
from torch.utils._python_dispatch import TorchDispatchMode

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    frechet_mean,
    frechet_variance,
    graph_frechet_mean,
    lorentz,
    to_ball,
    to_hyperboloid,
)

# ---- the gradients


@curvatures
@pytest.mark.parametrize(("n", "d"), [(1, 2), (3, 1), (2, 5), (6, 3)])
def test_gradients_agree_with_differences(K, n, d):
    x, w = problem(K, n, (n, d), 0.8)
    inputs = [a.clone().requires_grad_() for a in (x, w, torch.tensor(K, dtype=DOUBLE))]
    assert torch.autograd.gradcheck(
        lambda x, w, K: frechet_mean(x, w, PoincareBall(K), tolerance=1e-14), inputs, atol=1e-7, rtol=1e-6
    )


@curvatures
@seeds
@pytest.mark.parametrize(("n", "d"), [(5, 3), (2, 4)])
def test_both_charts_agree_in_values_and_all_gradients(K, seed, n, d):
    """Also in the curvature, which moves the hyperboloid itself."""
    x, w = problem(K, seed, (n, d))
    K, g = torch.tensor(K, dtype=DOUBLE), normal(d, seed=seed)

    def by_ball(x, w, K):
        return frechet_mean(x, w, PoincareBall(K))

    def by_sheet(x, w, K):
        return to_ball(frechet_mean(to_hyperboloid(x, K), w, Hyperboloid(K)), K)

    rows = []
    for function in (by_ball, by_sheet):
        inputs = [a.clone().requires_grad_() for a in (x, w, K)]
        found = function(*inputs)
        rows.append([found.detach(), *torch.autograd.grad(found, inputs, g)])
    for one, other in zip(*rows, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_hyperboloid_mean_lies_on_it_and_far_out_keeps_its_digits():
    sheet = Hyperboloid(-0.5)
    x = to_hyperboloid(problem(-0.5)[0], -0.5)
    sheet.check(frechet_mean(x, None, sheet))
    # Two points seven radii out: their midpoint is the normalized sum.
    x = Hyperboloid().project(torch.tensor([[0.0, 600.0, 10.0], [0.0, -20.0, 550.0]], dtype=DOUBLE))
    total = x.sum(0)
    near(frechet_mean(x, None, Hyperboloid()), total / (-lorentz(total, total)).sqrt(), 1e-9)


def test_gradients_of_some_inputs_only():
    x, w = problem(shape=(4, 3))
    K = torch.tensor(-0.6, dtype=DOUBLE)
    everything = [a.clone().requires_grad_() for a in (x, w, K)]
    wanted = torch.autograd.grad(frechet_mean(*everything[:2], PoincareBall(everything[2])).sum(), everything)
    for k in range(3):
        inputs = [a.clone().requires_grad_(i == k) for i, a in enumerate((x, w, K))]
        found = torch.autograd.grad(frechet_mean(*inputs[:2], PoincareBall(inputs[2])).sum(), inputs[k])
        near(found[0], wanted[k], 1e-13)


# ---- the variance


@curvatures
def test_variance_is_the_mean_square(K):
    x, w = problem(K)
    for manifold, points in ((PoincareBall(K), x), (Hyperboloid(K), to_hyperboloid(x, K)), (Euclidean(), x)):
        mean = frechet_mean(points, w, manifold)
        wanted = sum(w[:, k] * manifold.dist(mean, points[:, k]) ** 2 for k in range(6)) / w.sum(-1)
        near(frechet_variance(points, w, manifold), wanted, 1e-12)
        near(frechet_variance(points, w, manifold, mean=mean), wanted, 1e-12)
        near(frechet_variance(points, 7 * w, manifold), wanted, 1e-12)
        ones = torch.ones_like(w)
        near(frechet_variance(points, None, manifold), frechet_variance(points, ones, manifold), 0)
    near(
        frechet_variance(x, w, PoincareBall(K), tolerance=1e-14),
        frechet_variance(x, w, PoincareBall(K)),
        1e-13,
    )


@curvatures
def test_variance_has_the_gradient_of_differences(K):
    x, w = problem(K, 0, (4, 2))
    inputs = [a.clone().requires_grad_() for a in (x, w, torch.tensor(K, dtype=DOUBLE))]
    assert torch.autograd.gradcheck(lambda x, w, K: frechet_variance(x, w, PoincareBall(K)), inputs)
    assert torch.autograd.gradcheck(
        lambda x, w, K: frechet_variance(to_hyperboloid(x, K), w, Hyperboloid(K)), inputs
    )
    # The mean is stationary: one that is known need not be differentiated through.
    known = frechet_mean(x, w, PoincareBall(K))
    short = [
        torch.autograd.grad(frechet_variance(*inputs[:2], PoincareBall(inputs[2]), mean=m), inputs)
        for m in (None, known)
    ]
    for one, other in zip(*short, strict=True):
        near(one, other, 1e-10)


def test_variance_of_equal_points_is_zero_with_gradient_zero():
    x = torch.tensor([0.3, 0.4], dtype=DOUBLE).expand(4, 2).clone().requires_grad_()
    value = frechet_variance(x)
    near(value, torch.zeros((), dtype=DOUBLE), 1e-30)
    near(torch.autograd.grad(value, x)[0], torch.zeros(4, 2, dtype=DOUBLE), 1e-14)


# ---- shapes and dtypes


@given(
    lead=st.lists(st.integers(0, 3), max_size=3),
    n=st.integers(1, 4),
    d=st.integers(1, 4),
    kind=st.sampled_from([PoincareBall, Hyperboloid, Sphere, Euclidean]),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_batches_are_loops(lead, n, d, kind):
    manifold = kind()
    d = d + (kind in (Hyperboloid, Sphere))
    centre = manifold.random(*lead, 1, d, generator=generator(0), dtype=DOUBLE).expand(*lead, n, d)
    x = manifold.exp(centre, 0.3 * manifold.random_tangent(centre, generator(1))).requires_grad_()
    w = (torch.rand(*lead, n, generator=generator(2), dtype=DOUBLE) + 0.1).requires_grad_()
    mean = frechet_mean(x, w, manifold)
    assert mean.shape == (*lead, d)
    assert frechet_variance(x, w, manifold).shape == tuple(lead)
    singles = [
        frechet_mean(a, b, manifold) for a, b in zip(x.reshape(-1, n, d), w.reshape(-1, n), strict=True)
    ]
    g = normal(*lead, d, seed=3)
    gradients = torch.autograd.grad(mean, (x, w), g)
    assert [a.shape for a in gradients] == [x.shape, w.shape]
    if singles:
        near(mean.reshape(-1, d), torch.stack(singles), 1e-13)
        looped = torch.autograd.grad(torch.stack(singles), (x, w), g.reshape(-1, d))
        for one, other in zip(gradients, looped, strict=True):
            near(one, other, 1e-11)


def test_weights_broadcast_over_leading_axes():
    x, _ = problem(shape=(2, 4, 5, 3))
    w = (torch.rand(5, generator=generator(0), dtype=DOUBLE) + 0.1).requires_grad_()
    found = frechet_mean(x, w)
    wide = w.detach().expand(2, 4, 5).clone().requires_grad_()
    near(found, frechet_mean(x, wide), 0)
    (narrow,), (full,) = (torch.autograd.grad(frechet_mean(x, v).sum(), v) for v in (w, wide))
    near(narrow, full.sum((0, 1)), 1e-12)


def test_a_mean_does_not_depend_on_its_neighbours():
    x, w = problem(shape=(6, 4, 2))
    x[3] = 0.99999 * x[3] / x[3].norm(dim=-1, keepdim=True)
    for k in range(6):
        near(frechet_mean(x, w)[k], frechet_mean(x[k], w[k]), 1e-15)


def test_memory_order_does_not_matter():
    x, w = problem(shape=(4, 6, 3))
    strided = x.transpose(0, 2).contiguous().transpose(0, 2)
    near(frechet_mean(strided, w.T.contiguous().T), frechet_mean(x, w), 1e-15)


@pytest.mark.parametrize("kind", [PoincareBall, Hyperboloid])
@curvatures
def test_single_precision_is_as_good_as_it_can_be(kind, K):
    manifold = kind(K)
    x, w = problem(K, radius=0.95)
    wanted = frechet_mean(x, w, PoincareBall(K))
    points = x if kind is PoincareBall else to_hyperboloid(x, K)
    found = frechet_mean(points.float(), w.float(), manifold)
    assert found.dtype == torch.float32
    found = found.double() if kind is PoincareBall else to_ball(found.double(), K)
    near(found, wanted, 1e-5)


@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-5])
def test_single_precision_resolves_a_cluster(spread):
    x = 0.4 + spread / 4 * normal(8, 9, 3).clamp(-2, 2)
    wanted = frechet_mean(x.float().double())
    assert (frechet_mean(x.float()).double() - wanted).abs().max() < 2e-7


def test_single_precision_converges_quietly_in_large_batches():
    x, w = problem(-1.0, 0, (300, 30, 5), 0.999)
    x, w = x.float().requires_grad_(), w.float().requires_grad_()
    mean = frechet_mean(x, w)
    assert (mean.double() - frechet_mean(x.double(), w.double())).abs().max() < 2e-5
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(mean.sum(), (x, w)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_single(dtype):
    x, w = problem(shape=(5, 3))
    x, w = x.to(dtype).requires_grad_(), w.to(dtype)
    wanted = frechet_mean(x.detach().float(), w.float())
    found = frechet_mean(x, w)
    assert found.dtype == torch.float32
    near(found.detach(), wanted, 0)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.dtype == dtype
    assert frechet_variance(x, w).dtype == torch.float32
    edges = torch.tensor([[0, 1, 2], [3, 3, 3]])
    assert graph_frechet_mean(x, edges).dtype == torch.float32
    near(frechet_mean(x, w, start=x[0].detach()).detach(), wanted, 1e-6)


def test_integer_weights_count():
    x, _ = problem(shape=(3, 2))
    counts = torch.tensor([3, 0, 1])
    near(frechet_mean(x, counts), frechet_mean(x[[0, 0, 0, 2]]), 1e-13)
    near(frechet_variance(x, counts), frechet_variance(x[[0, 0, 0, 2]]), 1e-13)
    near(frechet_mean(x, counts > 0), frechet_mean(x[[0, 2]]), 1e-13)


# ---- graphs


@st.composite
def graphs(draw):
    """Nodes, edges (isolated nodes, repeated edges, any order), weights and points."""
    nodes, d = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    count, seed = draw(st.integers(0, 40)), draw(st.integers(0, 1000))
    edges = torch.randint(nodes, (2, count), generator=generator(seed))
    x, _ = problem(-0.7, seed, (nodes, d))
    return x, edges, torch.rand(count, generator=generator(seed), dtype=DOUBLE) + 0.1


def padded(x, edges, w):
    """The same problem as a dense batch: weight 0 where a node has fewer edges than another."""
    rows = [[] for _ in range(len(x))]
    for source, owner, weight in zip(*edges.tolist(), w, strict=True):
        rows[owner].append((x[source], weight))
    for node, row in enumerate(rows):
        if not row:
            row.append((x[node], w.new_ones(())))
    most = max(map(len, rows))
    origin, nothing = torch.zeros_like(x[0]), w.new_zeros(())
    rows = [row + [(origin, nothing)] * (most - len(row)) for row in rows]
    points, weights = (
        torch.stack([torch.stack([entry[k] for entry in row]) for row in rows]) for k in (0, 1)
    )
    return points, weights


@pytest.mark.parametrize("chart", [PoincareBall, Hyperboloid])
@given(graph=graphs())
@settings(deadline=None, max_examples=25, derandomize=True)
def test_graph_means_are_padded_means(chart, graph):
    x, edges, w = graph
    rows = []
    for kind in ("segments", "padding"):
        inputs = [a.clone().requires_grad_() for a in (x, w, torch.tensor(-0.7, dtype=DOUBLE))]
        points, weights, K = inputs
        manifold = PoincareBall(K)
        if kind == "padding":
            found = frechet_mean(*padded(points, edges, weights), manifold)
        elif chart is PoincareBall:
            found = graph_frechet_mean(points, edges, weights, manifold)
        else:
            found = to_ball(graph_frechet_mean(to_hyperboloid(points, K), edges, weights, Hyperboloid(K)), K)
        rows.append(
            [found.detach(), *torch.autograd.grad(found, inputs, normal(*x.shape), allow_unused=True)]
        )
    near(rows[0][0], rows[1][0], 1e-12)
    for one, other in zip(rows[0][1:], rows[1][1:], strict=True):
        none = torch.zeros(())
        near(none if one is None else one, torch.zeros_like(one) if other is None else other, 1e-10)


@pytest.mark.parametrize("manifold", [PoincareBall(-0.5), Hyperboloid(-0.5), Sphere(), Euclidean()], ids=repr)
def test_graph_means_are_means_of_neighbours(manifold):
    origin = manifold.origin_like(torch.zeros(7, 3, dtype=DOUBLE))
    x = manifold.exp(origin, 0.4 * manifold.random_tangent(origin, generator(1)))
    edges = torch.tensor([[0, 1, 2, 2, 5, 0, 4, 6], [3, 3, 3, 1, 1, 3, 5, 6]])
    w = torch.rand(8, generator=generator(0), dtype=DOUBLE) + 0.1
    found = graph_frechet_mean(x, edges, w, manifold)
    for node in range(7):
        mine = edges[1] == node
        wanted = frechet_mean(x[edges[0, mine]], w[mine], manifold) if mine.any() else x[node]
        near(found[node], wanted, 1e-12)
    near(graph_frechet_mean(x, edges.int(), w, manifold), found, 0)
    near(graph_frechet_mean(x, edges, w, manifold, start=found.clone()), found, 1e-11)
    equal = graph_frechet_mean(x, edges, None, manifold)
    near(equal, graph_frechet_mean(x, edges, torch.ones(8, dtype=DOUBLE), manifold), 0)


def test_graph_means_at_the_rim_are_finished_too():
    """Some nodes go on by Newton's method, others not."""
    x, _ = problem(-1.0, 2, (40, 2))
    x[:20] = 0.99999 * x[:20] / x[:20].norm(dim=-1, keepdim=True)
    edges = torch.randint(40, (2, 160), generator=generator(3))
    weights = torch.rand(160, generator=generator(4), dtype=DOUBLE) + 0.1
    found = graph_frechet_mean(x, edges, weights)
    points, padding = padded(x, edges, weights)
    some = padding.gt(0).sum(-1) > 1
    assert slope(PoincareBall(), points[some], padding[some], found[some]).max() < 1e-9


def test_graphs_without_nodes_or_edges():
    x, _ = problem(shape=(3, 2))
    none = torch.zeros(2, 0, dtype=torch.int64)
    near(graph_frechet_mean(x, none), x, 1e-15)
    assert graph_frechet_mean(x[:0], none).shape == (0, 2)


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that any operation returned in one tensor."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor):
                self.most = max(self.most, one.untyped_storage().nbytes() // one.element_size())
        return result


@pytest.mark.parametrize("radius", [0.9, 0.99999])
def test_no_outer_product_per_point_is_stored(radius):
    B, n, d = 3, 40, 20
    x, w = problem(-1.0, 0, (B, n, d))
    x = radius * x / x.norm(dim=-1, keepdim=True)
    x.requires_grad_()
    w.requires_grad_()
    with LargestTensor() as dense:
        torch.autograd.grad(frechet_mean(x, w).sum(), (x, w))
    assert dense.most <= max(B * n * d, B * d * d)
    x_wide, w_wide = (a.requires_grad_() for a in problem(shape=(B, 5, 60)))
    with LargestTensor() as wide:
        torch.autograd.grad(frechet_mean(x_wide, w_wide).sum(), (x_wide, w_wide))
    assert wide.most <= B * 5 * 60
    edges = torch.stack([torch.randint(n, (400,), generator=generator(0)), torch.arange(400) % n])
    with LargestTensor() as sparse:
        torch.autograd.grad(graph_frechet_mean(x[0], edges).sum(), x)
    assert sparse.most <= max(400 * d, n * d * d)
