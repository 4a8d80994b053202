"""Reading ``.npz`` files: arrays only, never a pickled object."""

import numpy as np


def read_arrays(path):
    """All arrays of an ``.npz`` file.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict of str to numpy.ndarray
    """
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
