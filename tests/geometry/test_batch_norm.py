"""Batch normalization on manifolds: the learned mean and variance, running statistics, and what it refuses."""

import math

import pytest
import torch
from test_networks import DOUBLE, near, normal, points
from torch import nn

from loupe.geometry import Euclidean, PoincareBall, RiemannianBatchNorm, frechet_mean, frechet_variance


def batch_norm(dim=3, mean=(0.3, -0.2, 0.1), variance=0.7, **options):
    norm = RiemannianBatchNorm(dim, **{"dtype": DOUBLE} | options)
    with torch.no_grad():
        norm.mean.copy_(torch.tensor(mean))
        norm.log_variance.fill_(math.log(variance))
    return norm


@pytest.mark.parametrize(
    "space",
    [PoincareBall(), PoincareBall(-2.3), PoincareBall(torch.tensor(-0.5, dtype=DOUBLE)), Euclidean()],
    ids=str,
)
def test_after_normalisation_mean_and_variance_are_the_learnt_ones(space):
    x, norm = points(40, K=-2.3), batch_norm()
    found = norm(x, space)
    before = frechet_variance(x, manifold=space)
    near(frechet_mean(found, manifold=space), space.exp0(norm.mean), 1e-10)
    near(
        frechet_variance(found, manifold=space) / (0.7 * before / (before + 1e-6)),
        torch.ones_like(before),
        1e-10,
    )


def test_normalisation_teaches_everything_it_uses():
    K = torch.tensor(-0.8, dtype=DOUBLE, requires_grad=True)
    x, norm = points(20).requires_grad_(), batch_norm()

    def loss(K):
        return (norm(x, PoincareBall(K)) * normal(20, 3, seed=5)).sum()

    loss(K).backward()
    for one in (K, x, norm.mean, norm.log_variance):
        assert one.grad.isfinite().all()
        assert one.grad.any()
    with torch.no_grad():
        near(K.grad, (loss(K + 1e-5) - loss(K - 1e-5)) / 2e-5, 1e-7)


def test_in_flat_space_it_is_batch_normalisation_with_one_variance():
    x, norm = normal(30, 3), batch_norm()
    spread = (x - x.mean(0)).square().sum(1).mean()
    near(norm(x, Euclidean()), norm.mean + (0.7 / (spread + 1e-6)).sqrt() * (x - x.mean(0)))
    line, ordinary = normal(30, 1), nn.BatchNorm1d(1, eps=1e-6, dtype=DOUBLE)
    near(batch_norm(1, (0.0,), 1.0)(line, Euclidean()), ordinary(line))


@pytest.mark.parametrize("momentum", [0.75, 0.9])
def test_the_running_mean_moves_along_geodesics_and_the_variance_averages(momentum):
    space, norm = PoincareBall(-0.6), RiemannianBatchNorm(3, momentum=momentum, dtype=DOUBLE)
    batches = [points(20, seed=k) for k in range(3)]
    means = [frechet_mean(x, manifold=space) for x in batches]
    variances = [frechet_variance(x, manifold=space) for x in batches]
    running = means[0]  # of the first update nothing older is kept
    for k, x in enumerate(batches):
        norm(x, space)
        if k:
            running = space.exp(running, (1 - momentum) * space.log(running, means[k]))
        near(space.exp0(norm.running_mean), running)
        near(norm.running_variance, sum(variances[: k + 1]) / (k + 1))
    assert norm.updates == 3


def test_running_statistics_are_saved_and_evaluation_leaves_them():
    space, norm = PoincareBall(), batch_norm(evaluate_with="running")
    norm(points(20), space)
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    assert set(state) == {"mean", "log_variance", "running_mean", "running_variance", "updates"}
    assert {name for name, _ in norm.named_parameters()} == {"mean", "log_variance"}
    other = points(20, seed=9)
    for evaluate_with in ("running", "batch"):
        copy = RiemannianBatchNorm(3, evaluate_with=evaluate_with, dtype=DOUBLE)
        copy.load_state_dict(state)
        copy.eval()
        copy(other, space)
        for name, value in copy.state_dict().items():
            assert torch.equal(value, state[name])
    copy = RiemannianBatchNorm(3, evaluate_with="running", dtype=DOUBLE)
    copy.load_state_dict(state)
    assert torch.equal(copy.eval()(other, space), norm.eval()(other, space))


def test_evaluation_with_the_batch_or_with_what_was_seen():
    space, seen, other = PoincareBall(-0.6), points(20), points(9, seed=7)
    for evaluate_with in ("batch", "running"):
        norm = batch_norm(evaluate_with=evaluate_with)
        norm(seen, space)
        statistics = other if evaluate_with == "batch" else seen
        mean, target = frechet_mean(statistics, manifold=space), space.exp0(norm.mean)
        scale = (0.7 / (frechet_variance(statistics, manifold=space) + 1e-6)).sqrt()
        moved = space.transport(mean, target, space.log(mean, other))
        near(norm.eval()(other, space), space.exp(target, scale * moved), 1e-10)


def test_no_gradient_enters_running_statistics():
    norm = batch_norm()
    norm(points(20).requires_grad_(), PoincareBall())
    assert not norm.running_mean.requires_grad
    assert not norm.running_variance.requires_grad


def test_normalisation_of_a_batch_of_clouds():
    x, norm = points(24), batch_norm()
    near(norm(x.view(4, 6, 3), PoincareBall()), norm(x, PoincareBall()).view(4, 6, 3))
    norm.eval()
    near(norm(x[:5], PoincareBall()), norm(x, PoincareBall())[:5], 0)  # no statistics of the batch
    for bad in (x.float(), x[:, :2]):
        with pytest.raises(ValueError, match=r"points must be torch.float64 of shape \(..., 3\)"):
            norm(bad, PoincareBall())


def test_before_its_first_update_normalisation_uses_the_origin_and_variance_one():
    x, space = points(20), PoincareBall()
    norm = RiemannianBatchNorm(3, dtype=DOUBLE).eval()
    near(norm(x, space), x, 1e-5)
