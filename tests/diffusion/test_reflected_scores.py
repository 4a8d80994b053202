"""Guidance, thresholds and networks as scores; and the simplex."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch

from loupe.diffusion.reflected import (
    VESDE,
    ReflectedSDE,
    ScoreNetwork,
    classifier_free,
    classifier_guided,
    conditional,
    corner_mixture,
    from_simplex,
    log_likelihood,
    simplex_log_det,
    thresholded,
    to_simplex,
)
from loupe.diffusion.reflected.scores import level_features

DOUBLE = torch.float64
MIXTURE = corner_mixture()
WEIGHTS = [-1.0, -0.4, 0.0, 0.5, 2.5, 10.0]


def generator(seed=0):
    return torch.Generator().manual_seed(4000 + seed)


def batch(n=40, dtype=DOUBLE):
    made = generator()
    x = torch.rand(n, 2, generator=made, dtype=dtype)
    sigma = 0.03 + 2 * torch.rand(n, generator=made, dtype=dtype) ** 3
    return x, sigma, torch.randint(4, (n,), generator=made)


def classes(x, sigma, labels):
    """The mixture's score of each class, and of label 4 the whole."""
    return torch.where(
        (labels < 4)[:, None], MIXTURE.class_score(x, sigma, labels.clamp(max=3)), MIXTURE.score(x, sigma)
    )


# ---- guidance


def test_guidance_without_a_classifier():
    x, sigma, labels = batch()
    told, untold = MIXTURE.class_score(x, sigma, labels), MIXTURE.score(x, sigma)
    assert torch.equal(conditional(classes, labels)(x, sigma), told)
    for weight in WEIGHTS:
        guided = classifier_free(classes, labels, weight, classes=4)(x, sigma)
        torch.testing.assert_close(guided, (1 + weight) * told - weight * untold, rtol=1e-12, atol=1e-10)
    assert torch.equal(classifier_free(classes, labels, 0, classes=4)(x, sigma), told)
    assert torch.equal(classifier_free(classes, labels, -1, classes=4)(x, sigma), untold)


def test_guidance_asks_once():
    seen = []

    def watching(x, sigma, labels):
        seen.append((x.shape, sigma.shape, labels))
        return torch.zeros_like(x)

    x, sigma, labels = torch.rand(3, 1, 2, 2), torch.rand(3), torch.tensor([2, 0, 1])
    classifier_free(watching, labels, 2.0, classes=3)(x, sigma)
    assert len(seen) == 1
    assert seen[0][:2] == ((6, 1, 2, 2), (6,))
    assert seen[0][2].tolist() == [2, 0, 1, 3, 3, 3]
    classifier_free(watching, labels, 0.0, classes=3)(x, sigma)
    assert seen[1][0] == x.shape
    assert seen[1][2].tolist() == [2, 0, 1]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_both_kinds_of_guidance_are_one(weight):
    """Bayes' rule."""
    x, sigma, labels = batch()
    free = classifier_free(classes, labels, weight, classes=4)(x, sigma)
    with torch.no_grad():
        guided = classifier_guided(MIXTURE.score, MIXTURE.log_posterior, labels, weight)(x, sigma)
    torch.testing.assert_close(guided, free, rtol=1e-9, atol=1e-9)
    assert not guided.requires_grad


def test_likelihoods_of_a_class():
    """Guided either way: the derivative of the classifier is part of the divergence."""
    x, labels = MIXTURE.sample(6, generator())
    wanted = MIXTURE.log_joint(x, 0.01)[torch.arange(6), labels] - MIXTURE.log_weights[labels]
    for score in (
        conditional(MIXTURE.class_score, labels),
        classifier_guided(MIXTURE.score, MIXTURE.log_posterior, labels, 0.0),
    ):
        found = log_likelihood(score, ReflectedSDE(), x, rtol=1e-6, atol=1e-6).nats
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


def test_guidance_says_what_is_wrong():
    labels = torch.tensor([0, 3, 1])
    for case, match in (
        ((labels, 1.0, 0), "one has none: train it with labels"),
        ((labels, 1.0, 3), "from 0 to 2, got 3"),
        ((labels - 1, 1.0, 4), "from 0 to 3, got -1"),
        ((labels, math.nan, 4), "finite number, got nan"),
        ((labels, math.inf, 4), "finite number, got inf"),
    ):
        with pytest.raises(ValueError, match=match):
            classifier_free(classes, *case[:2], classes=case[2])
    with pytest.raises(ValueError, match="finite number, got nan"):
        classifier_guided(MIXTURE.score, MIXTURE.log_posterior, labels, math.nan)
    assert classifier_free(classes, labels[:0], 1.0, classes=4) is not None


# ---- thresholds


@pytest.mark.parametrize("how", ["static", "dynamic"])
@pytest.mark.parametrize("share", [0.995, 0.7, 1.0])
def test_thresholds_by_definition(how, share):
    x = 0.5 + 3 * torch.randn(12, 3, 4, 4, generator=generator(), dtype=DOUBLE)
    s = torch.randn(x.shape, generator=generator(1), dtype=DOUBLE)
    sigma = torch.linspace(0.01, 5, 12, dtype=DOUBLE)
    x[:4] = x[:4].clamp(0, 1)
    found = thresholded(lambda x, sigma: s, how, share)(x, sigma)
    for k in range(12):
        wanted = reference.threshold(x[k].numpy(), sigma[k].item(), s[k].numpy(), how, share)
        np.testing.assert_allclose(found[k], wanted, rtol=1e-9, atol=1e-9)
    clean = x + sigma.view(-1, 1, 1, 1) ** 2 * found
    assert clean.min() > -1e-9
    assert clean.max() < 1 + 1e-9


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_thresholds_leave_alone_what_is_inside(how):
    x = torch.rand(5, 8, generator=generator(), dtype=DOUBLE)
    s = -0.1 * (x - 0.5)
    for sigma in (0.1, torch.full((5,), 0.1)):
        found = thresholded(lambda x, sigma: s, how)(x, sigma)
        torch.testing.assert_close(found, s, rtol=1e-9, atol=1e-12)


def test_dynamic_thresholds_keep_order():
    """What lies outside is scaled down, and not all of it flattened at the wall."""
    x = torch.linspace(-2, 3, 11, dtype=DOUBLE)[None]
    clean = [
        x + thresholded(lambda x, sigma: 0 * x, how, 1.0)(x, torch.ones(1)) for how in ("static", "dynamic")
    ]
    assert (clean[0].diff() == 0).any()
    torch.testing.assert_close(clean[1], torch.linspace(0, 1, 11, dtype=DOUBLE)[None])


def test_thresholds_say_what_is_wrong():
    with pytest.raises(ValueError, match="static or dynamic, got 'both'"):
        thresholded(None, "both")
    for share in (0, 1.1, -0.5, math.nan):
        with pytest.raises(ValueError, match=f"at most 1, got {share}"):
            thresholded(None, "dynamic", share)
    with pytest.raises(ValueError, match="sigma must"):
        thresholded(lambda x, sigma: x, "static")(torch.rand(3, 2), -1.0)


# ---- networks


@pytest.mark.parametrize("sde", [ReflectedSDE(), VESDE()], ids=["reflected", "exploding"])
def test_score_networks(sde):
    seen = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, inputs, sigma, labels=None):
            seen.append((inputs, sigma, labels))
            return self.scale * inputs

    score = ScoreNetwork(Network(), sde)
    x, sigma = torch.rand(4, 3, 2, 2, generator=generator()), torch.tensor([0.01, 0.3, 1.0, 5.0])
    found = score(x, sigma)
    level = sigma.view(-1, 1, 1, 1)
    inputs = 2 * x - 1 if isinstance(sde, ReflectedSDE) else (x - 0.5) / (level**2 + 0.25).sqrt()
    torch.testing.assert_close(seen[0][0], inputs)
    torch.testing.assert_close(found, 2 * inputs / level)
    assert seen[0][1] is sigma
    assert seen[0][2] is None
    labels = torch.tensor([1, 0, 1, 2])
    assert torch.equal(score(x, sigma, labels), found)
    assert seen[1][2] is labels
    assert torch.equal(classifier_free(score, labels, 0, classes=3)(x, sigma), found)
    torch.testing.assert_close(classifier_free(score, labels, 3.0, classes=3)(x, sigma), found)
    assert [name for name, _ in score.named_parameters()] == ["network.scale"]
    found.sum().backward()
    assert score.network.scale.grad.isfinite()
    score.load_state_dict(score.state_dict())


def test_places_between_grey_levels():
    """Around a level the sine has mean 0 and standard deviation 1, and at little noise is the noise itself."""
    sde, made = ReflectedSDE(1e-4), generator()
    for sigma in (1e-4, 1e-3, 0.3):
        noise = torch.randn(20_000, 1, generator=made, dtype=DOUBLE)
        x = 100 / 255 + sigma * noise
        found = level_features(x, torch.full((20_000,), sigma, dtype=DOUBLE), 256)
        assert found.shape == (20_000, 2)
        assert found[:, 0].mean().abs() < 5 / math.sqrt(20_000)
        assert found[:, 0].std().item() == pytest.approx(1, abs=0.03)
        torch.testing.assert_close(found[:, 1], torch.cos(2 * math.pi * 255 * x[:, 0]))
        if sigma == 1e-4:
            assert (found[:, 0] - noise[:, 0]).abs().mean() < 0.03
    network = ScoreNetwork(lambda inputs, sigma: inputs[:, :3] + inputs[:, 3:6] * 0, sde, levels=256)
    x, sigma = torch.rand(4, 3, 2, 2, generator=made), torch.tensor([1e-4, 0.01, 1.0, 5.0])
    torch.testing.assert_close(network(x, sigma), (2 * x - 1) / sigma.view(-1, 1, 1, 1))
    assert level_features(x, sigma, 256).shape == (4, 6, 2, 2)
    assert level_features(x, sigma, 256).isfinite().all()


# ---- simplex


@pytest.mark.parametrize("d", [1, 2, 9, 60])
def test_broken_sticks_round_trip(d):
    u = 1e-3 + 0.998 * torch.rand(200, d, generator=generator(), dtype=DOUBLE) ** 2
    u[:, : d - 1] *= min(1.0, 5 / d)
    u = u.clamp(1e-4, 1)
    x = to_simplex(u)
    assert x.min() >= 0
    assert x.sum(-1).max() <= 1 + 1e-12
    torch.testing.assert_close(from_simplex(x), u.clamp(max=1 - 1e-6), rtol=0, atol=1e-10)
    torch.testing.assert_close(to_simplex(from_simplex(x)), x, rtol=0, atol=2e-6)
    left = torch.ones(200, dtype=DOUBLE)
    for i in range(d):
        torch.testing.assert_close(x[:, i], u[:, i] * left)
        left = left * (1 - u[:, i])
    assert torch.equal(from_simplex(x.view(10, 20, d)).view(200, d), from_simplex(x))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_determinants(d):
    u = torch.rand(12, d, generator=generator(), dtype=DOUBLE)
    found = simplex_log_det(u)
    for k in range(12):
        jacobian = torch.autograd.functional.jacobian(to_simplex, u[k])
        assert found[k].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-10)
    # The simplex has volume 1 / d!.
    many = torch.rand(200_000, d, generator=generator(1), dtype=DOUBLE)
    volumes = simplex_log_det(many).exp()
    assert abs(volumes.mean() - 1 / math.factorial(d)) <= 5 * volumes.std() / math.sqrt(200_000) + 1e-12


def test_edges_of_the_simplex():
    x = torch.tensor(
        [(1.0, 0, 0), (0, 0, 0), (0, 1, 0), (0.5, 0, 0.5), (0, 0, 1), (0.2, 0.8, 0)], dtype=DOUBLE
    )
    u = from_simplex(x)
    assert u.isfinite().all()
    assert u.min() == 1e-6
    assert u.max() == 1 - 1e-6
    assert (to_simplex(u) - x).abs().max() < 5e-6
    assert from_simplex(x[:0]).shape == (0, 3)
    single = torch.rand(500, 10, generator=generator()).softmax(-1)[:, :9]
    assert (to_simplex(from_simplex(single)) - single).abs().max() < 1e-5
    # Hardly anything left: shares are exact nevertheless.
    thin = torch.tensor([1 - 1e-9, 4e-10, 3e-10], dtype=DOUBLE)
    assert from_simplex(thin)[1].item() == pytest.approx(0.4, rel=1e-5)
    # In the interior, and where the last share takes all: nothing follows that could be stretched.
    assert simplex_log_det(torch.tensor([0.3, 1.0])).item() == pytest.approx(math.log(0.7))
    assert simplex_log_det(torch.ones(1)).item() == 0
    assert simplex_log_det(torch.tensor([1.0, 0.3])) == -math.inf
    x = torch.rand(4, 3, dtype=DOUBLE).softmax(-1).requires_grad_()
    assert torch.autograd.grad(to_simplex(from_simplex(0.9 * x)).sum(), x)[0].isfinite().all()
    u = torch.tensor([0.3, 1.0, 0.2], dtype=DOUBLE).requires_grad_()
    assert torch.autograd.grad(to_simplex(u).square().sum(), u)[0].isfinite().all()


def test_the_simplex_says_what_is_wrong():
    for x, match in (
        (torch.tensor([0.5, 0.6]), "least value of 0.5 and a largest sum of 1.1"),
        (torch.tensor([-0.1, 0.6]), "least value of -0.1"),
        (torch.tensor([math.nan, 0.6]), "nan"),
    ):
        with pytest.raises(ValueError, match=match):
            from_simplex(x)
    rounded = torch.rand(300, 200, generator=generator()).softmax(-1)
    assert from_simplex(rounded).isfinite().all()
