"""Conditioning inputs of networks: embeddings of the noise level and the class."""

import math

import torch
from torch import nn
from torch.nn.functional import silu

from loupe.networks.transformer import FREQUENCIES, noise_features

LOG_SCALE = 250  # scales log noise levels to the frequencies, which were designed for step numbers
WAVES = 32
LONGEST, SHORTEST = 32.0, 1.0


def log_noise_features(sigma):
    """Sinusoids of ``250 log sigma`` for noise levels ``sigma (B,)``: shape (B, 256), float64."""
    return noise_features(LOG_SCALE * sigma.double().log())


def low_frequency_features(sigma):
    """Cosines, then sines, of ``log sigma`` at 16 frequencies: shape (B, 32), float32 (float64 for float64 levels).

    Wavelengths decrease geometrically from 32 to 1 in log units: the longest covers 1e-7 to 1e7 without repeating, and
    over the shortest the noise grows by a factor of e.
    """
    half = WAVES // 2
    dtype = torch.promote_types(sigma.dtype, torch.float32)
    index = torch.arange(half, device=sigma.device, dtype=dtype) / (half - 1)
    frequencies = 2 * math.pi / LONGEST * (LONGEST / SHORTEST) ** index
    angles = sigma.to(dtype).log().unsqueeze(1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class NoiseEmbedding(nn.Module):
    r"""Embed noise levels and labels as one vector for each sample: silu(MLP(features of sigma) + row of the label).

    Parameters
    ----------
    width : int
        Dimension of the vector.
    classes : int
        Labels are 0 to ``classes - 1``; ``classes`` itself is the null class, no label. With 0 there are no labels.
    low_frequencies : bool
        Whether to use only 32 slow sinusoids in float32. For small networks on vectors, outputs then vary more smoothly
        with noise, and training steps take a sixth less time than with 256 sinusoids in float64.
    """

    def __init__(self, width, *, classes=0, low_frequencies=False):
        super().__init__()
        self.classes, self.low_frequencies = classes, low_frequencies
        self.noise = nn.Sequential(
            nn.Linear(WAVES if low_frequencies else FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        if classes:
            self.label = nn.Embedding(classes + 1, width)

    def forward(self, sigma, labels, batch):
        """``(batch, width)`` for positive ``sigma (batch,)``, or one number for all, and int64 ``labels (batch,)`` or None.

        Raises
        ------
        ValueError
            If either has the wrong shape, labels are outside [0, classes], or there are labels but no classes. The
            range is checked on the CPU only: elsewhere the check would wait for the device.
        """
        weight = self.noise[0].weight
        sigma = noise_levels(sigma, batch, weight.device)
        features = low_frequency_features if self.low_frequencies else log_noise_features
        vector = self.noise(features(sigma).to(weight.dtype))
        check_labels(labels, self.classes, batch)
        if self.classes:
            vector = vector + (self.label.weight[-1] if labels is None else self.label(labels))
        return silu(vector)


def noise_levels(sigma, batch, device):
    """Noise levels of shape (batch,), from that many or from one number for all."""
    sigma = torch.as_tensor(sigma, device=device)
    if sigma.shape not in ((), (1,), (batch,)):
        raise ValueError(
            f"noise levels must be one number or of shape ({batch},) for {batch} samples, got {tuple(sigma.shape)}"
        )
    return sigma.expand(batch)


def check_labels(labels, classes, batch):
    """Raise ValueError unless labels are None or int64 of shape (batch,) in [0, classes], and there are classes."""
    if labels is None:
        return
    if not classes:
        raise ValueError("this network knows no classes: call it without labels, or make it with classes=...")
    if labels.shape != (batch,) or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape ({batch},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and batch:
        low, high = (bound.item() for bound in labels.aminmax())
        if low < 0 or high > classes:
            wrong = low if low < 0 else high
            raise ValueError(
                f"labels must be in [0, {classes}], where {classes} means no label, got {wrong}: correct them, or make "
                "the network for more classes"
            )
