"""Trajectories of interacting points in one pass: the equivariant graph neural operator and its baselines.

After Xu, Han, Lou, Kossaifi, Ramanathan, Azizzadenesheli, Leskovec, Ermon and Anandkumar, Equivariant Graph Neural
Operator for Modeling 3D Dynamics, 2024.

A window of the future has P times. All networks take the current positions and velocities ``[n, D]`` and return
positions ``[P, n, D]`` at these times; networks that predict only the end have P = 1.
"""

import torch

from loupe.dynamics.baselines import Linear, MessagePassing, RadialField, SequentialEGNN, rollout  # noqa: F401
from loupe.dynamics.egno import EGNN, EGNO
from loupe.dynamics.states import Dynamics, States, input_features  # noqa: F401
from loupe.dynamics.temporal import TemporalConvolution, dft_matrices, time_embedding, window_times  # noqa: F401

NETWORKS = {each.__name__: each for each in (EGNO, EGNN, SequentialEGNN, Linear, RadialField, MessagePassing)}


def save_network(network, path):
    """Save a network of this package to a file that :func:`load_network` reads.

    The file holds a dictionary that ``torch.load`` reads without this package: ``network``, the name of the class;
    ``options``, its constructor arguments; ``weights``, its ``state_dict()``.

    Parameters
    ----------
    network : EGNO, EGNN, SequentialEGNN, Linear, RadialField or MessagePassing
    path : path or str

    Raises
    ------
    ValueError
        For any other network.
    """
    name = type(network).__name__
    if NETWORKS.get(name) is not type(network):
        raise ValueError(
            f"the network must be one of {', '.join(NETWORKS)}, got {name}: save its state_dict()"
        )
    options = {key: v.item() if hasattr(v, "item") else v for key, v in network.options.items()}
    torch.save({"network": name, "options": options, "weights": network.state_dict()}, path)


def load_network(path):
    """Load a network that :func:`save_network` wrote, on the CPU; only tensors and numbers are unpickled.

    Raises
    ------
    ValueError
        If the file holds no such network.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     save_network(EGNO(1, 2, width=8, modes=1), file.name)
    ...     load_network(file.name).options
    {'node_features': 1, 'edge_features': 2, 'width': 8, 'modes': 1}
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("network") not in NETWORKS:
        raise ValueError(
            f"{path} holds no network that save_network wrote: give weights to load_state_dict()"
        )
    network = NETWORKS[state["network"]](**state["options"])
    network.load_state_dict(state["weights"], assign=True)  # keeps their dtype
    return network
