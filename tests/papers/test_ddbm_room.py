"""The chapter at smoke: what its networks learn from, what answers, and what is drawn of stored results."""

import numpy as np
import pytest
import torch
from showing import assert_same_thumbnail_each_time, figures_of

from loupe import open_chapter
from loupe.experiment.results import find
from loupe.papers import ddbm as room
from loupe.papers.ddbm import experiments_images as images
from loupe.papers.ddbm import figures
from loupe.papers.judging import ImageJudge

CONFIG = room.PRESETS["smoke"]


@pytest.fixture(scope="module")
def pairs():
    return images.Pairs.of(CONFIG.images)


def test_sources_are_block_means_of_their_targets(pairs):
    means = torch.nn.functional.avg_pool2d(pairs.targets, 4)
    assert torch.allclose(torch.nn.functional.avg_pool2d(pairs.sources, 4), means, atol=1e-6)
    assert torch.equal(
        pairs.sources[..., ::4, ::4].repeat_interleave(4, -1).repeat_interleave(4, -2), pairs.sources
    )
    assert pairs.targets.min() >= -1
    assert pairs.targets.max() <= 1


def test_folding_is_undone_by_images():
    folded = images.Pairs.of(CONFIG.images.model_copy(update={"fold": 2}))
    plain = images.Pairs.of(CONFIG.images)
    assert folded.targets.shape[1:] == (4, 4, 4)
    assert torch.allclose(folded.images(folded.targets), plain.images(plain.targets))


def test_a_network_without_sources_ignores_them(pairs):
    x, y, t = pairs.targets[:2], pairs.sources[:2], torch.tensor([0.1, 0.2])
    for sources in (True, False):
        network = pairs.network(0, sources=sources)
        torch.nn.init.normal_(network.unet.head.weight)
        same = torch.allclose(network(x, y, t), network(x, y.flip(0), t))
        assert same != sources


@pytest.mark.parametrize("name", ["regression", "i2sb", "unconditional", "source_withheld"])
def test_an_experiment_gives_measures_of_each_sampler(name, tmp_path):
    found = getattr(room, name)(CONFIG, seed=0, device="cpu", work=tmp_path)
    key = "EDM " if name == "unconditional" else ""
    samplers = found[f"{key}samplers"]
    for measure in ("distance", "mse", "psnr", "features", "agreement", "calls", "diversity"):
        assert found[key + measure].shape == samplers.shape
        assert np.isfinite(found[key + measure]).all()
    assert found[f"{key}shown"].shape == (len(samplers), images.SHOWN, 8, 8)
    assert (found[f"{key}diversity"][0] == 0) == (name == "regression")


def test_the_ode_has_one_answer_and_the_hybrid_sampler_several(tmp_path):
    found = room.edges(CONFIG, seed=0, device="cpu", work=tmp_path)
    assert list(found["samplers"]) == ["hybrid", "ODE"]
    assert found["diversity"][0] > 0
    assert found["diversity"][1] == 0
    assert (found["answers"][0] == found["answers"][0][:, :1]).all()


def test_a_judge_tells_images_apart():
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    stripes = torch.arange(8).remainder(4).lt(2).float().expand(8, 8)
    x = torch.stack([stripes, stripes.T])[labels][:, None] * 0.6 + 0.3 * torch.rand(
        400, 1, 8, 8, generator=random
    )
    judge = ImageJudge(x[:300], labels[:300], x[300:], widths=(4, 8), epochs=20, classes=2)
    assert judge.accuracy(x[300:], labels[300:]) > 0.9
    assert judge.distance(x[:300]) < judge.distance(x[labels == 0]) / 10
    assert judge.apart(x[:100], x[:100]) == 0
    assert judge.apart(x[labels == 0][:50], x[labels == 1][:50]) > judge.apart(
        x[labels == 0][:50], x[labels == 0][50:100]
    )


@pytest.mark.parametrize("draw", figures_of(figures))
def test_every_figure(draw, check_figure):
    if draw is figures.controls and not find(open_chapter("ddbm", preset="cpu"), draw.names, partial=True):
        assert "has not been computed yet" in str(draw(open_chapter("ddbm", preset="cpu")))  # at gpu only
        return
    check_figure("ddbm", draw)


def test_thumbnail(tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, open_chapter("ddbm", preset="cpu"), tmp_path)
