"""The chapter at smoke: what its networks learn from, what answers, and what is drawn of stored results."""

import numpy as np
import pytest
import torch
from fakes import FakeResult
from showing import assert_same_thumbnail_each_time, figures_of

from loupe import open_chapter
from loupe.data.images import Images
from loupe.diffusion.bridges import karras_grid
from loupe.experiment.results import Found, Runs, find
from loupe.papers import ddbm as room
from loupe.papers.ddbm import experiments_images as images
from loupe.papers.ddbm import figures
from loupe.papers.ddbm.experiments import both_bridges
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


def test_ddbm_answers_with_about_as_many_calls_as_others(tmp_path):
    found = room.fewer_calls(CONFIG, seed=0, device="cpu", work=tmp_path)
    assert list(found["budget"]) == [6, 11, 6, 11]  # those of I2SB and of rectified flow with six steps
    assert all(abs(found["calls"] - found["budget"]) <= 1)
    for sampler in ("hybrid", "ODE"):
        path = found[f"{sampler} path"]
        assert path.shape == (len(images.SHARES), images.PATHS, 8, 8)
        assert (path[0] == found["sources"]).all()
        assert (path[-1] != found["sources"]).any()


def test_a_path_is_shown_at_the_times_that_the_caption_says():
    config = room.PRESETS["gpu"]
    bridge = both_bridges(config)["VP"]
    times = karras_grid(config.sampler_steps, bridge.t_min, bridge.t_max)[images.path_steps(config)]
    assert times.numpy() == pytest.approx(images.SHARES, abs=0.05)


def test_near_pairs_are_more_alike_than_a_class_and_a_class_more_than_any():
    config = CONFIG.override({"asked": 40, "answers": 8})
    one_class, near, real = room.spreads(config, seed=0, device="cpu")["diversity"]
    assert 0 < near < one_class < real


def test_photographs_are_translated_by_three_methods(tmp_path):
    """At a tiny size, with digits in their place, and with made-up photographs for what is special of colors."""
    tiny = {"data": "digits", "size": 8, "block": 4, "multipliers": [1, 2], "width": 8}
    config = CONFIG.override({"photos": tiny, "photo_training": {"steps": 3, "batch": 8}, "samples": 20})
    for name in ("photos_from_blocks", "photos_from_edges"):
        (tmp_path / name).mkdir()
        found = getattr(room, name)(config, seed=0, device="cpu", work=tmp_path / name)
        assert list(found["rows"][-4:]) == ["hybrid", "ODE", "regression", "I2SB"]
        assert list(found["calls"][-4:]) == [17, 11, 1, 6]
        assert found["mse"][list(found["rows"]).index("nearest training pair")] > 0
        assert np.isfinite(found["distance"]).all()


@pytest.mark.parametrize("source", ["edges", "blocks"])
def test_sources_of_photographs_have_no_color(source, monkeypatch):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)  # patches of color
    made_up = Images(x[:8], np.arange(8) % 2, x[8:], np.arange(4) % 2, ("a", "b"), "made up")
    monkeypatch.setattr(images, "load", lambda name: {"cifar10": made_up}[name])
    settings = room.PRESETS["gpu"].photos.model_copy(update={"source": source})
    pairs = images.Pairs.of(settings)
    assert pairs.pictures(pairs.targets).shape == (8, 32, 32, 3)
    assert (pairs.pictures(pairs.targets) == x[:8]).all()
    gray = pairs.pictures(pairs.sources)
    assert (gray == gray[..., :1]).all()
    assert (len(np.unique(gray)) == 2) == (source == "edges")
    assert (gray == gray[:, ::8, ::8].repeat(8, 1).repeat(8, 2)).all() == (source == "blocks")
    network = pairs.network(0)
    assert network.at(pairs.targets[:2], 0.5, pairs.sources[:2]).shape == pairs.targets[:2].shape


def test_a_table_of_photographs_names_each_method(tmp_path):
    rows = ["the source itself", "hybrid", "ODE", "regression", "I2SB"]
    run = FakeResult(0, {"rows": np.array(rows), "calls": np.array([0, 119, 79, 1, 40])})
    run |= {key: np.linspace(0.1, 0.5, 5) for key in ("distance", "mse", "agreement")}
    found = {name: Runs((run,)) for name in figures.photographs.names}
    table = figures.photographs.__wrapped__(Found(found, "gpu"))
    assert "edge maps, DDBM (VP), hybrid 0.20 0.200 0.20 119" in " ".join(str(table).split())
    assert str(table).count("gray blocks, ") == len(rows)


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
    chapter = open_chapter("ddbm", preset="cpu")
    needed = ("simple",) if draw is figures.controls else draw.names
    if draw in (figures.controls, figures.photographs) and not find(chapter, needed, partial=True):
        assert "has not been computed yet" in str(draw(chapter))  # at gpu only
        return
    check_figure("ddbm", draw)


def test_thumbnail(tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, open_chapter("ddbm", preset="cpu"), tmp_path)
