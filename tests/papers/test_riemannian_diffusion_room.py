"""The chapter: results of experiments, verdicts of claims, and figures."""

import numpy as np
import pytest
from showing import assert_same_thumbnail_each_time, assert_shown, figures_of

from loupe import open_chapter
from loupe.experiment.claims import judge
from loupe.papers import riemannian_diffusion as room
from loupe.papers.riemannian_diffusion import figures


@pytest.fixture(scope="module")
def chapter():
    """The chapter at smoke, computed here."""
    found = open_chapter("riemannian_diffusion", preset="smoke", recompute=True)
    found.run(room.toy)
    return found


def test_the_network_is_better_than_a_constant(chapter):
    runs = chapter.stored["toy"]
    assert (runs["network error"][:, -1] < runs["constant error"]).all()
    assert np.isfinite(runs["network error"]).all()


@pytest.mark.parametrize("claim", room.CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_has_a_control_that_fails(claim, chapter):
    judgement = judge(claim, "smoke", chapter.stored)
    for measure in judgement.measures:
        assert measure.control.value not in measure.accepts


@pytest.mark.parametrize("draw", figures_of(figures))
def test_every_figure(draw, chapter, rendered):
    assert_shown(draw, chapter, rendered)


def test_thumbnail(chapter, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)
