"""Figures in the style of the book, how to show them, and small interactive pictures.

>>> from loupe.plotting import figure, series, show
>>> sheet, axes = figure(width="narrow")
>>> _ = axes.plot([1, 2, 3], [1, 4, 9], **series(0), label="ours")
>>> _ = axes.set(xlabel="step", ylabel="loss")
>>> show(sheet, alt="A curve that rises ever faster.", caption="Squares of the first three integers.")
"""

from loupe.plotting.display import show, thumbnail_axes
from loupe.plotting.style import (
    ACCENT,
    BLACK,
    DARK,
    DIVERGING,
    GRID,
    GROUND,
    INK,
    MUTED,
    ORDERED,
    SERIES,
    STEPS,
    TRUTH,
    WIDTHS,
    Series,
    figure,
    log_axis,
    series,
    shades,
    use_style,
)
from loupe.plotting.widgets import (
    Frame,
    Strip,
    filtration_slider,
    folding_kernel,
    frame_player,
    picture_chooser,
    poincare_disk,
    reverse_path,
    reverse_path_thumbnail,
    trajectory_view,
)

__all__ = [
    "ACCENT",
    "BLACK",
    "DARK",
    "DIVERGING",
    "GRID",
    "GROUND",
    "INK",
    "MUTED",
    "ORDERED",
    "SERIES",
    "STEPS",
    "TRUTH",
    "WIDTHS",
    "Frame",
    "Series",
    "Strip",
    "figure",
    "filtration_slider",
    "folding_kernel",
    "frame_player",
    "log_axis",
    "picture_chooser",
    "poincare_disk",
    "reverse_path",
    "reverse_path_thumbnail",
    "series",
    "shades",
    "show",
    "thumbnail_axes",
    "trajectory_view",
    "use_style",
]
