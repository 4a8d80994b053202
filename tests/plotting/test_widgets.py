"""The filtration slider as a piece of HTML; the browser's part is tested with the book."""

import re

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from widget_examples import cloud
from widget_pages import assert_well_formed, data_of

from loupe.plotting import filtration_slider

WORDS = {"title": "When do they merge?", "alt": "Points around a circle."}


def test_same_data_same_bytes():
    first, second = filtration_slider(*cloud(), **WORDS), filtration_slider(*cloud(), **WORDS)
    assert first.html == second.html
    assert first.html != filtration_slider(*cloud(seed=1), **WORDS).html


def test_order_of_the_edges_does_not_matter_for_the_bars():
    points, edges, lengths = cloud()
    turned = filtration_slider(points, edges[::-1], lengths[::-1], **WORDS)
    assert data_of(turned.html) == data_of(filtration_slider(points, edges, lengths, **WORDS).html)


def test_is_small_and_asks_nothing_of_other_hosts():
    html = filtration_slider(*cloud(200), **WORDS).html
    assert len(html.encode()) < 300_000
    assert not re.search(r"https?:|//cdn", html)
    assert "$" not in html, "MathJax would read it"


def test_is_well_formed_with_unique_ids():
    assert_well_formed(
        filtration_slider(*cloud(), **WORDS).html + filtration_slider(*cloud(seed=1), **WORDS).html, ids=2
    )


def test_data_are_the_single_linkage_heights_and_the_still_counts_them():
    points, edges, lengths = cloud()
    html = filtration_slider(points, edges, lengths, **WORDS).html
    data = data_of(html)
    heights = linkage(points, "single")[:, 2]
    np.testing.assert_allclose(data["lengths"], heights, rtol=1e-9)
    assert data["largest"] > heights[-1]
    dead = int(np.sum(heights <= np.median(heights) * (1 + 1e-12)))
    assert f"{len(points) - dead} components" in html
    assert f"so far {heights[:dead].sum():.{data['digits']}f}" in html
    still = html.split("<script")[0]
    assert still.count('class="lf-in') == 2 * dead, "as many edges as closed bars, without the script"
    assert still.count("lf-in lf-new") == 2
    assert 'class="lw-controls" hidden' in still, "no dead controls where no script runs"


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e3])
def test_any_unit_of_length(scale):
    html = filtration_slider(*cloud(scale=scale), **WORDS).html
    ticks = [float(text) for text in re.findall(r'text-anchor="middle">([0-9.e+-]+)<', html)]
    assert 4 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= data_of(html)["largest"]
    assert "r = 0 " not in html


def test_two_points():
    html = filtration_slider([[0, 0], [3, 4]], [[0, 1]], [5.0], **WORDS).html
    assert "1 component ·" in html


def test_mime_bundle_and_escaping():
    shown = filtration_slider(*cloud(30), title="a < b & c", alt='say "hi"')._repr_mimebundle_()
    assert set(shown) == {"text/html", "text/plain"}
    assert "a &lt; b &amp; c" in shown["text/html"]
    assert "say &quot;hi&quot;" in shown["text/html"]
    assert "\n" not in shown["text/plain"]


def test_refuses_what_is_no_spanning_tree():
    points, edges, lengths = cloud(10)
    with pytest.raises(ValueError, match="title"):
        filtration_slider(points, edges, lengths, title=" ", alt="words")
    with pytest.raises(ValueError, match="alt"):
        filtration_slider(points, edges, lengths, title="words", alt="")
    with pytest.raises(ValueError, match="shape"):
        filtration_slider(np.c_[points, points], edges, lengths, **WORDS)
    with pytest.raises(ValueError, match="finite"):
        filtration_slider(points * np.nan, edges, lengths, **WORDS)
    with pytest.raises(ValueError, match="9 edges"):
        filtration_slider(points, edges[:-1], lengths[:-1], **WORDS)
    with pytest.raises(ValueError, match="integers"):
        filtration_slider(points, edges + 1, lengths, **WORDS)
    twice = np.vstack([edges[:-1], edges[:1]])
    apart = np.linalg.norm(points[twice[:, 0]] - points[twice[:, 1]], axis=1)
    with pytest.raises(ValueError, match="join all points"):
        filtration_slider(points, twice, apart, **WORDS)
    with pytest.raises(ValueError, match="Euclidean"):
        filtration_slider(points, edges, 2 * lengths, **WORDS)
    with pytest.raises(ValueError, match="not all zero"):
        filtration_slider(0 * points, edges, 0 * lengths, **WORDS)
