"""The ground of every chapter: presets, results on disk, claims, provenance, and what a notebook holds.

It knows no paper and no method. ``presets`` validates settings, ``units`` names and marks the pieces of work,
``folders`` and ``store`` keep their results, ``provenance`` says what made them, ``compute`` runs them,
``claims`` judges, ``render`` shows, and ``chapter`` ties these together for a notebook.
"""

from importlib import import_module

__all__ = [
    "Band",
    "Claim",
    "Measure",
    "Preset",
    "at_least",
    "at_most",
    "between",
    "experiment",
    "open_chapter",
]

# Resolved on first use: listing verdicts must load neither pydantic nor NumPy.
_HOMES = {
    "Band": "claims",
    "Claim": "claims",
    "Measure": "claims",
    "at_least": "claims",
    "at_most": "claims",
    "between": "claims",
    "Preset": "presets",
    "experiment": "units",
    "open_chapter": "chapter",
}


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(f"loupe.experiment.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'loupe.experiment' has no attribute {name!r}")
