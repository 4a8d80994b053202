"""Loupe: reproducible notebooks of thirteen papers, on one small shared package.

Where most people start:

- ``loupe.open_chapter`` opens a chapter in a notebook (see :mod:`loupe.papers`);
- ``loupe.data.load`` gives a dataset (see :mod:`loupe.data`);
- packages of methods, such as :mod:`loupe.topology`, are imported by name.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("loupe")
except PackageNotFoundError:  # a checkout on the path of a machine where nothing can be installed
    __version__ = "unknown"
__all__ = ["LoupeError", "open_chapter"]

# Names are resolved on first use: `import loupe` must stay light for the command line.
_DOORS = {"open_chapter": "loupe.papers", "LoupeError": "loupe.errors"}


def __getattr__(name):
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'loupe' has no attribute {name!r}")
