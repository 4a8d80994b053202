"""All datasets of the book, through one function.

``load("mnist")`` gives small frozen records of numpy arrays. The files come from a dependency, from the checkout's
folder ``data``, from the mirror folder named by ``LOUPE_DATA``, or from the user's cache, which ``fetch("mnist")``
fills. Only ``fetch`` opens a connection, and nothing is ever unpickled.

The modules, by kind: :mod:`~loupe.data.images`, :mod:`~loupe.data.text`, :mod:`~loupe.data.token_blocks`,
:mod:`~loupe.data.graphs`, and :mod:`~loupe.data.trajectories`, with time series and points on the globe.
"""

from importlib import import_module

from loupe.data.catalog import CATALOG, DataError, DataFile, DataSet, PublicForm

# Resolved on first use: listing the catalog must not wait for numpy or pooch.
_LATER = {
    "load": "door",
    "locate": "places",
    "verify": "door",
    "cache_root": "places",
    "mirror_root": "places",
    "Location": "places",
    "FileCheck": "door",
    "fetch": "fetching",
    "adopt": "fetching",
}

__all__ = ["CATALOG", "DataError", "DataFile", "DataSet", "PublicForm", *_LATER]


def __getattr__(name):
    if name in _LATER:
        return getattr(import_module(f"loupe.data.{_LATER[name]}"), name)
    raise AttributeError(f"module 'loupe.data' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
