"""The Fréchet mean under torch.func, torch.compile and autocast, and with a curvature for each mean."""

import pytest
import torch

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    frechet_mean,
    frechet_variance,
    graph_frechet_mean,
    to_ball,
    to_hyperboloid,
)

DOUBLE = torch.float64
SPACES = [PoincareBall(-0.7), Hyperboloid(-0.7), Sphere(), Euclidean()]
spaces = pytest.mark.parametrize("space", SPACES, ids=str)
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(space, shape=(4, 6, 3), dtype=DOUBLE):
    centre = space.random(shape[0], 1, shape[2], generator=generator(), dtype=dtype).expand(shape)
    weights = torch.rand(shape[:2], generator=generator(2), dtype=dtype) + 0.1
    return space.exp(centre, 0.4 * space.random_tangent(centre, generator(1))), weights


def near(found, wanted, atol=1e-11):
    torch.testing.assert_close(found, wanted, rtol=atol, atol=atol)


@spaces
def test_vmap_and_jacobians(space):
    x, w = problem(space)
    wanted = frechet_mean(x, w, space)

    def mean(x, w):
        return frechet_mean(x, w, space)

    near(torch.func.vmap(mean)(x, w), wanted)
    near(torch.func.vmap(mean, in_dims=(1, 1))(x.transpose(0, 1), w.T), wanted)
    near(torch.func.vmap(mean, in_dims=(0, None))(x, w[0]), frechet_mean(x, w[:1], space))
    near(torch.func.vmap(torch.func.vmap(mean))(x[None], w[None]), wanted[None])
    near(torch.func.vmap(lambda x: frechet_variance(x, None, space))(x), frechet_variance(x, None, space))
    at = x.clone().requires_grad_()
    cotangent = torch.linspace(1, 2, 12, dtype=DOUBLE).view(4, 3)
    (slope,) = torch.autograd.grad(frechet_mean(at, w, space), at, cotangent)
    each = torch.func.vmap(torch.func.grad(lambda x, w, c: mean(x, w) @ c))(x, w, cotangent)
    near(each, slope)
    forward, reverse = (jac(mean, argnums=1)(x, w) for jac in (torch.func.jacfwd, torch.func.jacrev))
    near(forward, reverse)
    near(
        torch.func.vmap(torch.func.hessian(lambda w, x: mean(x, w)[0]))(w, x)[1],
        torch.func.hessian(lambda w: mean(x[1], w)[0])(w[1]),
    )


def test_where_values_are_hidden_bad_ones_give_nan():
    x, w = problem(PoincareBall())
    x[1, 2], w[2, 0], w[3] = 1.5, -1.0, 0.0
    found = torch.func.vmap(frechet_mean)(x, w)
    assert found.isnan().all(-1).tolist() == [False, True, True, True]
    with pytest.raises(ValueError, match="means on graphs do not work under vmap"):
        torch.func.vmap(lambda x: graph_frechet_mean(x, torch.tensor([[0], [1]])))(x[:1])


@spaces
def test_one_graph_of_torch_compile(space):
    x, w = problem(space, (2, 3, 3))
    compiled = torch.compile(lambda x, w: frechet_mean(x, w, space), backend="aot_eager", fullgraph=True)
    rows = []
    for mean in (compiled, lambda x, w: frechet_mean(x, w, space)):
        inputs = [a.clone().requires_grad_() for a in (x, w)]
        found = mean(*inputs)
        rows.append([found.detach(), *torch.autograd.grad(found.pow(3).sum(), inputs)])
    for found, wanted in zip(*rows, strict=True):
        near(found, wanted)
    torch.compiler.reset()


@spaces
def test_autocast(space):
    x, w = problem(space, dtype=torch.float32)
    rows = []
    for enabled in (True, False):
        inputs = [a.clone().requires_grad_() for a in (x, w)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found = frechet_mean(*inputs, space)
        rows.append([found.detach(), *torch.autograd.grad(found.pow(3).sum(), inputs)])
    for found, wanted in zip(*rows, strict=True):
        assert torch.equal(found, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frechet_mean(x.bfloat16() * 0.5, w, Euclidean())


@pytest.mark.parametrize("kind", [PoincareBall, Hyperboloid])
def test_a_curvature_for_each_mean(kind):
    K = -torch.linspace(0.4, 2, 4, dtype=DOUBLE)
    x, w = problem(PoincareBall(-2.0))
    x = x if kind is PoincareBall else torch.stack([to_hyperboloid(p, k) for p, k in zip(x, K, strict=True)])
    for function in (frechet_mean, frechet_variance):
        rows = []
        for several in (True, False):
            inputs = [a.clone().requires_grad_() for a in (x, w, K)]
            if several:
                found = function(*inputs[:2], kind(inputs[2]))
            else:
                found = torch.stack([function(p, v, kind(k)) for p, v, k in zip(*inputs, strict=True)])
            rows.append([found.detach(), *torch.autograd.grad(found.cos().sum(), inputs)])
        for found, wanted in zip(*rows, strict=True):
            near(found, wanted, 1e-10)
    mean = frechet_mean(x, w, kind(K))
    near(frechet_mean(x, w, kind(K), start=x[:, 0].clone()), mean, 1e-10)
    near(torch.func.vmap(lambda x, w, k: frechet_mean(x, w, kind(k)))(x, w, K), mean, 1e-10)
    wide = frechet_mean(x.expand(2, *x.shape), w, kind(K))
    near(wide, mean.expand(2, *mean.shape))
    with pytest.raises(ValueError, match="means on graphs take one curvature"):
        graph_frechet_mean(x[0], torch.tensor([[0], [1]]), None, kind(K))


def test_lists_are_refused():
    for call in (frechet_mean, frechet_variance, lambda x: graph_frechet_mean(x, torch.tensor([[0], [1]]))):
        with pytest.raises(
            ValueError, match=r"points must be a tensor, got list: convert it with torch\.as_tensor"
        ):
            call([[0.0, 0.1], [0.2, 0.3]])


def test_charts_with_a_curvature_for_each_point():
    K = -torch.linspace(0.4, 2, 5, dtype=DOUBLE)
    x = 0.3 * torch.randn(5, 3, generator=generator(), dtype=DOUBLE).clamp(-1, 1)
    lifted = to_hyperboloid(x, K)
    near(lifted, torch.stack([to_hyperboloid(p, k) for p, k in zip(x, K, strict=True)]))
    near(to_ball(lifted, K), x)
