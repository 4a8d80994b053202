"""Guidance with one weight per sample, and thresholds at any size and range."""

import math

import pytest
import torch
from gaussian import normal
from torch.testing import assert_close

from loupe.diffusion.continuous import classifier_free, classifier_guided, threshold, thresholded

LABELS = torch.tensor([0, 1, 2, 1])
X, SIGMA = normal(4, 2, 3), torch.rand(4, dtype=torch.float64) + 0.1
WEIGHTS = torch.tensor([0.0, 2.0, -1.0, 0.7], dtype=torch.float64)


def score(x, sigma, labels=None):
    return torch.sin(x * (1 + (sigma if labels is None else labels)).view(-1, 1, 1))


def log_probability(x, sigma):
    return (x.flatten(1)[:, :3] ** 2).log_softmax(1)


GUIDED = {
    "classifier_free": lambda w, n=slice(None): classifier_free(score, LABELS[n], w, classes=3),
    "classifier_guided": lambda w, n=slice(None): classifier_guided(score, log_probability, LABELS[n], w),
}


@pytest.mark.parametrize("name", GUIDED)
def test_a_weight_for_each_sample(name):
    make = GUIDED[name]
    found = make(WEIGHTS)(X, SIGMA)
    for k, w in enumerate(WEIGHTS.tolist()):
        one = slice(k, k + 1)
        assert_close(found[one], make(w, one)(X[one], SIGMA[one]))
    for wrong in (WEIGHTS[:1], WEIGHTS[:3], WEIGHTS[:, None], WEIGHTS.view(4, 1, 1)):
        with pytest.raises(ValueError, match="the weight must be one number or one per sample"):
            make(wrong)(X, SIGMA)
    for wrong in (math.nan, math.inf, torch.tensor([0.0, math.nan])):
        with pytest.raises(ValueError, match="finite"):
            make(wrong)


def test_conditions_of_any_shape():
    embedded, null = normal(4, 2, 3, seed=1), normal(2, 3, seed=2)
    guided = classifier_free(lambda x, sigma, c: x * c, embedded, WEIGHTS, null=null)
    w = WEIGHTS[:, None, None]
    assert_close(guided(X, SIGMA), (1 + w) * X * embedded - w * X * null)
    torch.compiler.reset()
    assert_close(torch.compile(guided, backend="eager", fullgraph=True)(X, SIGMA), guided(X, SIGMA))
    with pytest.raises(ValueError, match=r"null must have the shape of a condition, \(2, 3\)"):
        classifier_free(score, embedded, 2.0, null=null[:1])
    with pytest.raises(ValueError, match="needs a network with classes"):
        classifier_free(score, LABELS, 2.0)


@pytest.mark.parametrize(
    ("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.06)]
)
@pytest.mark.parametrize("shape", [(3,), (1, 5, 5), (3, 17, 31), (4, 6, 5, 3), ()])
def test_thresholds(shape, dtype, near):
    x = 2 * normal(6, *shape).to(dtype)
    flat = x.reshape(6, -1)
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)):
        assert torch.equal(threshold(x, "static", data_range=(low, high)), x.clamp(low, high))
        found = threshold(x, "dynamic", 0.9, data_range=(low, high))
        assert (found.shape, found.dtype) == (x.shape, dtype)
        centred = (flat.double() - (low + high) / 2) / ((high - low) / 2)
        bound = centred.abs().quantile(0.9, dim=1, keepdim=True).clamp(min=1)
        wanted = (centred.clamp(-bound, bound) / bound * (high - low) + high + low) / 2
        assert_close(found.reshape(6, -1).double(), wanted, rtol=near, atol=near)
    assert threshold(x * math.nan, "dynamic").isnan().all()


def test_thresholds_of_images_that_torch_refuses():
    """More than 2^24 numbers in one sample."""
    x = torch.arange(2**24 + 7, dtype=torch.float32)[None] / 2**23
    found = threshold(x, "dynamic", 0.5)
    assert found[0, 2**22].item() == pytest.approx(0.5, rel=1e-5)
    assert found.max() == 1


def test_thresholds_of_denoisers():
    found = thresholded(lambda x, t: 3 * x, "dynamic", 0.8)(X, SIGMA)
    each = lambda x: threshold(x, "dynamic", 0.8)  # noqa: E731
    assert_close(found, each(3 * X))
    assert_close(torch.func.vmap(lambda x: each(x[None])[0])(3 * X), found)
    torch.compiler.reset()
    assert_close(torch.compile(each, backend="eager", fullgraph=True)(3 * X), found)
    with pytest.raises(ValueError, match="the denoiser must have shape"):
        thresholded(lambda x, t: x[:1], "static")(X, SIGMA)
    for options in (
        {"how": "hard"},
        {"how": "static", "quantile": 0.0},
        {"how": "static", "data_range": (1.0, 0.0)},
    ):
        with pytest.raises(ValueError, match=r"static or dynamic|quantile must be|data_range must be"):
            thresholded(None, **options)
