"""Guidance with one weight per sample, and thresholds at any size and range."""

import math

import pytest
import torch
from gaussian import normal

from loupe.diffusion.continuous import classifier_free, classifier_guided, threshold, thresholded

LABELS = torch.tensor([0, 1, 2, 1])
X, SIGMA = normal(4, 2, 3), torch.rand(4, dtype=torch.float64) + 0.1
WEIGHTS = torch.tensor([0.0, 2.0, -1.0, 0.7], dtype=torch.float64)


def score(x, sigma, labels=None):
    shift = 3 if labels is None else labels
    return torch.sin(x * (1 + torch.as_tensor(shift).view(-1, 1, 1)))


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
        torch.testing.assert_close(found[one], make(w, one)(X[one], SIGMA[one]), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, make(0.7)(X, SIGMA))
    assert torch.equal(
        make(torch.tensor(0.7))(X, SIGMA).shape == X.shape and make(0.0)(X, SIGMA), make(0)(X, SIGMA)
    )
    for wrong in (WEIGHTS[:1], WEIGHTS[:3], WEIGHTS[:, None], WEIGHTS.view(4, 1, 1)):
        with pytest.raises(ValueError, match="the weight must be one number or one per sample"):
            make(wrong)(X, SIGMA)
    for wrong in (math.nan, math.inf, torch.tensor([0.0, math.nan])):
        with pytest.raises(ValueError, match="finite"):
            make(wrong)
    torch.compiler.reset()
    if name == "classifier_free":
        guided = make(WEIGHTS)
        torch.testing.assert_close(
            torch.compile(guided, backend="eager", fullgraph=True)(X, SIGMA), guided(X, SIGMA)
        )


def test_conditions_of_any_shape():
    embedded, null = normal(4, 2, 3, seed=1), normal(2, 3, seed=2)
    guided = classifier_free(lambda x, sigma, c: x * c, embedded, 2.0, null=null)
    torch.testing.assert_close(guided(X, SIGMA), 3 * X * embedded - 2 * X * null)
    for wrong in (null[:1], null.sum()):
        with pytest.raises(ValueError, match=r"null must have the shape of a condition, \(2, 3\)"):
            classifier_free(score, embedded, 2.0, null=wrong)
    with pytest.raises(ValueError, match="needs a network with classes"):
        classifier_free(score, LABELS, 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (1, 5, 5), (3, 17, 31), (4, 6, 5, 3), ()])
def test_thresholds(shape, dtype):
    x = 2 * normal(6, *shape).to(dtype)
    flat = x.reshape(6, -1)
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)):
        found = threshold(x, "static", data_range=(low, high))
        assert torch.equal(found, x.clamp(low, high))
        found = threshold(x, "dynamic", 0.9, data_range=(low, high))
        assert found.shape == x.shape
        assert found.dtype == dtype
        centred = (flat.double() - (low + high) / 2) / ((high - low) / 2)
        bound = centred.abs().quantile(0.9, dim=1, keepdim=True).clamp(min=1)
        wanted = (centred.clamp(-bound, bound) / bound * (high - low) + high + low) / 2
        rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.06}[dtype]
        torch.testing.assert_close(found.reshape(6, -1).double(), wanted, rtol=rounding, atol=rounding)
    assert threshold(x * math.nan, "dynamic").isnan().all()


def test_thresholds_of_images_that_torch_refuses():
    """More than 2^24 numbers in one sample."""
    x = torch.arange(2**24 + 7, dtype=torch.float32)[None] / 2**23
    found = threshold(x, "dynamic", 0.5)
    assert found[0, 2**22].item() == pytest.approx(0.5, rel=1e-5)
    assert found.max() == 1


def test_thresholds_of_denoisers():
    x = normal(3, 8)
    bounded = thresholded(lambda x, t: 3 * x, "dynamic", 0.8)
    torch.testing.assert_close(bounded(x, SIGMA[:3]), threshold(3 * x, "dynamic", 0.8))
    mapped = torch.func.vmap(lambda x: threshold(x[None], "dynamic", 0.8)[0])(3 * x)
    torch.testing.assert_close(mapped, bounded(x, SIGMA[:3]))
    torch.compiler.reset()
    compiled = torch.compile(lambda x: threshold(x, "dynamic", 0.8), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(3 * x), mapped)
    with pytest.raises(ValueError, match="the denoiser must have shape"):
        thresholded(lambda x, t: x[:1], "static")(x, SIGMA[:3])
    for options, match in (
        ({"how": "hard"}, "static or dynamic"),
        ({"how": "static", "share": 0.0}, "above 0"),
        ({"how": "static", "data_range": (1.0, 0.0)}, "data_range"),
    ):
        with pytest.raises(ValueError, match=match):
            thresholded(None, **options)
