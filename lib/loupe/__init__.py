"""Loupe: reproducible notebooks of thirteen papers, on one small shared package.

The doors most people use:

- ``loupe.open_chapter`` opens a chapter in a notebook (see :mod:`loupe.experiment.chapter`);
- ``loupe.data.load`` gives a data set (see :mod:`loupe.data`);
- the rooms of methods, such as :mod:`loupe.topology`, are imported by name.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("loupe")
__all__ = ["LoupeError", "open_chapter"]

# Names are resolved on first use: `import loupe` must stay light for the command line.
_DOORS = {"open_chapter": "loupe.experiment.chapter", "LoupeError": "loupe.errors"}


def __getattr__(name):
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'loupe' has no attribute {name!r}")
