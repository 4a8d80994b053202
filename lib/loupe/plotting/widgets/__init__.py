"""Small interactive pictures: a still that tells the story, and a script that lets it move when asked."""

from loupe.plotting.widgets.filtration import FiltrationSlider, filtration_slider

__all__ = ["FiltrationSlider", "filtration_slider"]
