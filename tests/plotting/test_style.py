"""The look of figures: contrast, sizes, series, logarithmic axes."""

import matplotlib.pyplot as plt
import pytest
from widget_pages import contrast

from loupe import plotting
from loupe.plotting import style


@pytest.fixture(autouse=True)
def _own_settings():
    with plt.rc_context():
        yield
    plt.close("all")


def test_contrast_formula_at_its_ends():
    assert contrast("#000000") == pytest.approx(21)
    assert contrast("#ffffff") == pytest.approx(1)


def test_colours_are_readable_on_both_pages():
    read = [*(rank.color for rank in style.SERIES), style.ACCENT, style.INK, style.MUTED, style.BLACK]
    assert min(contrast(color, style.GROUND) for color in read) >= 4.5
    assert min(contrast(style.DARK[color], style.DARK[style.GROUND]) for color in read) >= 4.5
    for ground in (style.GROUND, style.DARK[style.GROUND]):
        assert min(contrast(color, ground) for color in plotting.shades(30)) >= 3
    assert len(set(plotting.shades(4))) == 4


def test_a_rank_keeps_its_colour_and_marker():
    assert plotting.series(0) == {"color": "#0f766e", "marker": "o"}
    assert len({rank.color for rank in style.SERIES}) == len(style.SERIES)
    assert len({rank.marker for rank in style.SERIES}) == len(style.SERIES)
    for rank in (-1, len(style.SERIES)):
        with pytest.raises(ValueError, match="fewer series"):
            plotting.series(rank)


def test_figure_sizes_and_spines():
    sheet, axes = plotting.figure(8, height=3, columns=2)
    assert tuple(sheet.get_size_inches()) == (8, 3)
    assert style.screen_width(sheet) == 880
    assert axes.shape == (2,)
    assert not axes[0].spines["top"].get_visible()
    assert plotting.figure(width=5)[0].get_figwidth() == 5
    with pytest.raises(ValueError, match="narrow, page"):
        plotting.figure("huge")
    with pytest.raises(ValueError, match="positive"):
        plotting.figure(height=-1)


@pytest.mark.parametrize(
    ("values", "labels"), [([200, 950], {"200", "500"}), ([0.02, 0.3], {"0.02", "0.05", "0.1", "0.2"})]
)
def test_short_logarithmic_axes_have_plain_labels(values, labels):
    sheet, axes = plotting.figure()
    axes.plot(values, values)
    plotting.log_axis(axes, "xy")
    sheet.canvas.draw()
    assert labels <= {tick.get_text() for tick in axes.get_xticklabels()}
    assert len(axes.xaxis.get_minorticklocs()) == 0
    with pytest.raises(ValueError, match="which"):
        plotting.log_axis(axes, "z")


def test_long_logarithmic_axes_show_powers_of_ten():
    sheet, axes = plotting.figure()
    axes.plot([1e-8, 1e6], [1, 2])
    plotting.log_axis(axes)
    sheet.canvas.draw()
    shown = {tick.get_text() for tick in axes.get_xticklabels()}
    assert "$10^{-8}$" in shown or "$10^{-7}$" in shown
    assert style._plain_or_power(2e6, 0) == r"$2\cdot10^{6}$"
    assert style._plain_or_power(0, 0) == ""
