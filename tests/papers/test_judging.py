"""The classifier that compares sets of images, and the images as tensors."""

import pytest
import torch

from loupe.networks.feature_classifier import FeatureClassifier, WideResNet
from loupe.papers.judging import ImageJudge, flipped, image_set

DIGITS = image_set("digits", 8)


def judge(*, widths=(8,), flips=False, seen=256):
    return ImageJudge(
        DIGITS.x_train[:seen], DIGITS.y_train[:seen], DIGITS.x_test, widths=widths, epochs=2, classes=10, flips=flips
    )  # fmt: skip


def test_a_set_is_tensors_in_the_unit_interval():
    assert DIGITS.x_train.shape == (1437, 1, 8, 8)
    assert DIGITS.x_test.dtype == torch.float32
    assert (DIGITS.x_test.min(), DIGITS.x_test.max()) == (0, 1)
    assert (DIGITS.y_test.shape, DIGITS.y_test.dtype) == ((360,), torch.int64)
    assert len(DIGITS.classes) == 10


def test_images_are_flipped_where_chance_is_below_a_half():
    images = torch.arange(8.0).view(2, 1, 2, 2)
    one, two = flipped(images, torch.tensor([0.4, 0.5]))
    assert one.tolist() == [[[1, 0], [3, 2]]]
    assert torch.equal(two, images[1])


def test_the_digest_tells_judges_apart():
    assert judge().digest == judge().digest
    assert len({judge().digest, judge(flips=True).digest, judge(seen=255).digest}) == 3


@pytest.mark.parametrize(("widths", "kind"), [((8, 12), FeatureClassifier), (None, WideResNet)])
def test_a_judge_is_small_or_wide(widths, kind):
    one = judge(widths=widths, seen=64)
    assert type(one.network) is kind
    features = one.features(DIGITS.x_test[:3])
    assert features.shape == (3, widths[-1] if widths else 256)
    assert torch.equal(features[1:], one.features(DIGITS.x_test[1:3]))


def test_test_images_are_nearer_than_noise_and_recognized():
    one = judge(widths=(16, 32), seen=1437)
    noise = torch.rand(360, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert one.distance(DIGITS.x_test) == pytest.approx(0, abs=1e-6)
    assert one.distance(DIGITS.x_train[:360]) < one.distance(noise) / 10
    assert one.accuracy(DIGITS.x_test, DIGITS.y_test) > 0.5 > one.accuracy(noise, DIGITS.y_test)
    assert one.apart(DIGITS.x_test, DIGITS.x_test) == 0 < one.apart(DIGITS.x_test, noise)
