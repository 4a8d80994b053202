"""The base of every chapter: presets, stored results, claims, provenance, and the notebook's interface.

It is independent of papers and methods. ``units`` validates settings and defines units of work, ``folders`` and
``store`` keep their results, ``provenance`` and ``closure`` record what made them, ``compute`` and ``process`` run
them, ``claims`` judges the ``results``, ``render`` displays them, and ``chapter`` ties these together for a notebook.
"""

from importlib import import_module

# Resolved on first use: listing verdicts must load neither pydantic nor NumPy.
_HOMES = {
    "Band": "claims",
    "Claim": "claims",
    "Measure": "claims",
    "at_least": "claims",
    "at_most": "claims",
    "between": "claims",
    "Preset": "units",
    "experiment": "units",
}

__all__ = [*_HOMES]


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(f"loupe.experiment.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'loupe.experiment' has no attribute {name!r}")
