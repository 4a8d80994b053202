"""Checks of arguments that several packages share: integers, edge lists, unmasked values, matching shapes.

Each check returns its argument in the form that the caller needs, or raises a one-sentence ValueError.
"""

import operator

import numpy as np


def whole(name, value, least=1):
    """An integer of at least ``least`` as an int. NumPy and torch integers are accepted; floats and booleans are not."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or found < least:
        wanted = "a positive whole number" if least == 1 else f"a whole number of at least {least}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return found


def unmasked(name, values):
    """The values; ValueError for a masked array with masked entries, or a sparse matrix with entries not stored."""
    parts = values if isinstance(values, (list, tuple)) else [values]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError(
            f"{name} is a masked array, and what it hides would count: leave those entries out, such as with "
            ".compressed(), or fill them"
        )
    layout = str(getattr(values, "layout", "torch.strided"))
    if layout != "torch.strided" or type(values).__module__.startswith("scipy.sparse"):
        dense = ".toarray()" if layout == "torch.strided" else ".to_dense()"
        raise ValueError(
            f"{name} is sparse, and entries that are not stored would count as 0: give it dense, with {dense}"
        )
    return values


def edge_list(edges, nodes, *, axis, name="edges"):
    """Checked edges: pairs of node indices, with the two endpoints along one axis.

    Parameters
    ----------
    edges : array or torch.Tensor of integers
    nodes : int or None
        None to skip the check of values.
    axis : int
        0 for shape (2, E), 1 for shape (E, 2).
    name : str

    Returns
    -------
    array or torch.Tensor
        The same in int64.
    """
    edges = unmasked(name, edges)
    if not hasattr(edges, "dtype"):
        edges = np.asarray(edges)
    wanted = ("(2, E)", "(E, 2)")[axis]
    if edges.ndim != 2 or edges.shape[axis] != 2:
        hint = ": transpose them" if edges.ndim == 2 and edges.shape[1 - axis] == 2 else ""
        raise ValueError(f"{name} must be integers of shape {wanted}, got shape {tuple(edges.shape)}{hint}")
    kind = str(edges.dtype).removeprefix("torch.")
    if not kind.startswith(("int", "uint")) and 0 not in edges.shape:
        raise ValueError(f"{name} must be integers of shape {wanted}, got {kind}: convert them to int64")
    edges = edges.astype(np.int64, copy=False) if isinstance(edges, np.ndarray) else edges.long()
    if nodes is not None and 0 not in edges.shape:
        low, high = int(edges.min()), int(edges.max())
        if low < 0 or high >= nodes:
            raise ValueError(f"{name} must name nodes from 0 to {nodes - 1}, got {low} to {high}")
    return edges


def of_shape(name, value, shape):
    """The tensor, if it has exactly that shape; a shape that would broadcast is an error too."""
    found = getattr(value, "shape", None)
    if found is None or tuple(found) != tuple(shape):
        got = f"{type(value).__name__}" if found is None else tuple(found)
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {got}")
    return value
