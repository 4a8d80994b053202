"""Small interactive pictures: a still that tells the story, and a script that lets it move when asked."""

from loupe.plotting.widgets.filtration import FiltrationSlider, filtration_slider
from loupe.plotting.widgets.poincare import PoincareDisk, poincare_disk

__all__ = ["FiltrationSlider", "PoincareDisk", "filtration_slider", "poincare_disk"]
