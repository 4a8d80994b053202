"""What the chapter ph_dimension says of its penalty and of adversarial starts follows from its stored results."""

import numpy as np
import pytest
from prose import prose

import loupe
from loupe.experiment.claims import t_interval
from loupe.experiment.results import stored_at

TEXT = prose("ph_dimension")


@pytest.fixture(scope="module")
def chapter():
    return loupe.open_chapter("ph_dimension", preset="cpu")


def test_penalty(chapter):
    runs = chapter.stored["regularised"]
    train, test = (100 * runs[f"{part}_accuracy"] for part in ("train", "test"))
    gap, dimension = train - test, runs["dimension"][:, :, -1]
    change = np.diff(gap[:, :, -1])[:, 0]
    assert "The gap does shrink, in every pair of runs" in TEXT
    assert (change < 0).all()
    assert (
        "the dimension of the window, which the penalty is to reduce, comes out higher with the penalty"
        in TEXT
    )
    assert (dimension[:, 1] > dimension[:, 0]).all()
    assert "test accuracy stays where it was, while training accuracy falls" in TEXT
    assert np.abs(np.diff(test[:, :, -1])).max() < 1
    assert np.diff(train[:, :, -1]).max() < -1
    earlier = [
        np.interp(last, np.maximum.accumulate(accuracy), gaps)
        for last, accuracy, gaps in zip(train[:, 1, -1], train[:, 0], gap[:, 0], strict=True)
    ]
    left = earlier - gap[:, 1, -1]
    assert (
        "Most of the difference is gone there, though a fraction of a point, in one pair more than one"
        in TEXT
    )
    assert (left < -change / 2).all()
    assert left.min() > 0
    assert (left > 1).sum() == 1
    assert "in every pair of runs, and so does the test loss" in TEXT
    assert (np.diff(runs["test_loss"][:, :, -1]) < 0).all()
    assert "Stopping earlier passes the first test too" in TEXT
    assert t_interval((earlier - gap[:, 0, -1]).tolist())[1] < 0
    assert -np.diff(train[:, :, -1]).mean() > 2


def test_adversarial_start(chapter):
    runs = stored_at(chapter, "adversarial_start", "gpu")
    gap = 100 * (runs["train_accuracy"] - runs["test_accuracy"])
    rise = np.diff(gap)[:, 0]
    assert "the gap rises in every pair of runs, by one and a half to three and a half points" in TEXT
    assert (rise.min(), rise.max()) == (pytest.approx(1.5, abs=0.1), pytest.approx(3.5, abs=0.1))
    assert "the dimension falls in four pairs of five; the interval of its change includes zero" in TEXT
    change = np.diff(runs["dimension"])[:, 0]
    assert (change < 0).sum() == 4
    low, high = t_interval(change.tolist())
    assert low < 0 < high
    assert "The gap in loss, which is what the bound is about, falls in four pairs of five" in TEXT
    assert (np.diff(runs["test_loss"] - runs["train_loss"])[:, 0] < 0).sum() == 4
    assert len(runs) == 5
    assert "The adversarial start also needs about half as many steps to learn the true labels" in TEXT
    assert runs["steps"][:, 1] / runs["steps"][:, 0] == pytest.approx(0.5, abs=0.1)
