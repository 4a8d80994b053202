"""The chapter's figures, drawn from stored results only."""

from loupe.papers.drawing import Picture, drawn_from
from loupe.plotting import figure, log_axis, series, thumbnail_axes


@drawn_from("toy", what="the sine")
def learning(found):
    """Test error while the network trains."""
    sheet, axes = figure(height=2.6)
    for k, run in enumerate(found.runs):
        axes.plot(run["steps"], run["network error"], **series(0), label="" if k else "network")
    axes.axhline(found.runs["constant error"].mean(), linestyle="--", color="gray", label="constant")
    log_axis(axes, "y")
    axes.set(xlabel="step", ylabel="mean squared error")
    axes.legend()
    return Picture(
        sheet,
        "Falling curves of the test error of a network, one for each seed, below the level line of a constant.",
        "Test error of the network while it trains, one curve a seed. Dashed: the best constant.",
    )


def thumbnail(chapter, target):
    """The picture on the landing page."""
    with thumbnail_axes(target) as axes:
        for run in chapter.stored["toy"]:
            axes.plot(run["steps"], run["network error"], linewidth=4, **series(0))
        log_axis(axes, "y")
