"""The released SEDD weights, loaded into this package's transformer, which is the same network.

Public at https://huggingface.co/louaaron/sedd-small and https://huggingface.co/louaaron/sedd-medium, with the code at
https://github.com/louaaron/Score-Entropy-Discrete-Diffusion: absorbing, log-linear noise, GPT-2's 50,257 tokens.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024.
"""

from pathlib import Path

import torch

from loupe.diffusion.discrete.graphs import Absorbing
from loupe.diffusion.discrete.models import ScoreNetwork
from loupe.errors import LoupeError
from loupe.networks.transformer import Transformer

HEAD = 64
"""Dimension of an attention head, in both sizes."""

LENGTH = 1024
"""Length of their training sequences."""

NAMES = {
    "vocab_embed.embedding": "embedding.weight",
    "sigma_map.mlp": "noise",
    "output_layer.norm_final": "norm",
    "output_layer.linear": "head",
    "output_layer.": "",
    "adaLN_modulation": "modulation.linear",
    "attn_qkv": "qkv",
    "attn_out": "out",
    "mlp.0": "widen",
    "mlp.2": "narrow",
}
"""Parts of the released names, and what stands for them here; in this order."""


def load_released_sedd(path, *, head=HEAD):
    """The released SEDD as a log-score, in evaluation mode and on the CPU.

    Sample from it with ``LogLinearNoise()`` and its ``graph``. Nothing is downloaded.

    Parameters
    ----------
    path : str or pathlib.Path
        ``model.safetensors`` or ``pytorch_model.bin`` of one of the released sizes. The latter is read by
        ``torch.load`` with ``weights_only=True``.
    head : int
        Dimension of an attention head; the weights do not determine it.

    Returns
    -------
    ScoreNetwork
        Of a :class:`~loupe.networks.transformer.Transformer`. Its ``graph`` is ``Absorbing(50257)``.

    Raises
    ------
    LoupeError
        If there is no such file, or it is a safetensors file and that package is not installed.
    ValueError
        If the weights are not those of SEDD.
    """
    weights = translated(_read(Path(path)))
    try:
        (states, width), condition = weights["embedding.weight"].shape, len(weights["noise.0.weight"])
        blocks = sum(name.endswith(".qkv.weight") for name in weights)
        with torch.device("meta"):
            network = Transformer(
                states,
                width=width,
                heads=width // head,
                blocks=blocks,
                condition=condition,
                dropout=0.1,
                length=LENGTH,
            )
        network.load_state_dict(weights, assign=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds no released SEDD ({str(error).splitlines()[-1].strip()}): take the file of "
            "huggingface.co/louaaron/sedd-small or sedd-medium as it is"
        ) from None
    return ScoreNetwork(network, Absorbing(states - 1)).eval()


def translated(weights):
    """Released weights under the names of :class:`~loupe.networks.transformer.Transformer`."""
    found = {}
    for name, value in weights.items():
        if name == "rotary_emb.inv_freq":  # computed here
            continue
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        found[name] = value
    return found


def _read(path):
    if not path.is_file():
        raise LoupeError(
            f"there is no file {path}: download model.safetensors from huggingface.co/louaaron/sedd-small or "
            "sedd-medium, or give the path of yours."
        )
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise LoupeError(
            "reading .safetensors needs the package safetensors, which is not installed: `pip install 'loupe[text]'`."
        ) from error
    return load_file(path)
