"""Sets of images as tensors, and comparing them in the features of a classifier that is trained on the real ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from loupe.data import load
from loupe.data.images import Images, unit_interval
from loupe.metrics.images import frechet_distance
from loupe.networks.feature_classifier import FeatureClassifier, WideResNet
from loupe.training import Training, accuracy, evaluating, train


def image_set(name: str, size: int) -> Images:
    """A set by name, as tensors: images (n, C, size, size) in [0, 1], float32, and labels (n,)."""
    stored, parts = load(name), {}
    for part in ("train", "test"):
        images = unit_interval(getattr(stored, f"x_{part}"), size, brightest=stored.brightest)
        parts[f"x_{part}"] = torch.from_numpy(images)
        parts[f"y_{part}"] = torch.from_numpy(getattr(stored, f"y_{part}"))
    return replace(stored, **parts)


def flipped(images: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Images (n, C, H, W), those flipped left to right whose uniform random number (n,) is below a half."""
    return torch.where((chances < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)


class ImageJudge:
    """A classifier trained on real images, and what it says of others.

    Parameters
    ----------
    images : torch.Tensor, shape (n, C, H, W)
        Training images in [0, 1].
    labels : torch.Tensor, shape (n,)
    reference : torch.Tensor, shape (m, C, H, W)
        Images that sets are compared with.
    widths : sequence of int, optional
        Channels of the classifier's blocks; ``None`` for a wide residual network, at half the learning rate.
    epochs : int
    classes : int
    flips : bool
        Whether training images are flipped at random.
    device : str
    """

    def __init__(
        self, images: torch.Tensor, labels: torch.Tensor, reference: torch.Tensor, *, widths: Sequence[int] | None,
        epochs: int, classes: int, flips: bool = False, device: str = "cpu",
    ) -> None:  # fmt: skip
        batch, channels = min(128, len(images)), images.shape[1]
        rate, steps = 4e-3 if widths else 2e-3, -(-epochs * len(images) // batch)
        settings = Training(steps=steps, batch=batch, learning_rate=rate, schedule="cosine", warmup=50)
        network = (
            FeatureClassifier(channels, widths=widths, classes=classes)
            if widths
            else WideResNet(channels, classes=classes)
        )

        def loss(network, batch, generator):
            x, y = batch
            if flips:
                x = flipped(x, torch.rand(len(x), generator=generator, device=x.device))
            return cross_entropy(network(x), y)

        self.network = train(network, loss, (images, labels), settings, device=device).network
        self.reference, self.device = reference, device

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of the trained weights: equal if two judges are the same."""
        state = b"".join(one.cpu().numpy().tobytes() for one in self.network.state_dict().values())
        return hashlib.sha256(state).hexdigest()[:16]

    @cached_property
    def _reference_features(self) -> torch.Tensor:
        return self.features(self.reference)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images, shape (n, widths[-1]), on their CPU copy."""
        with evaluating(self.network):
            return torch.cat([self.network.features(one.to(self.device)).cpu() for one in images.split(1000)])

    def distance(self, images: torch.Tensor) -> float:
        """Fréchet distance of the features of images from those of the reference. It is not FID."""
        return frechet_distance(self.features(images), self._reference_features)

    def accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Share of images whose predicted class is their label, from 0 to 1."""
        return accuracy(self.network, images.to(self.device), labels.to(self.device))

    def apart(self, ours: torch.Tensor, theirs: torch.Tensor) -> float:
        """Mean distance of paired images in the features of all blocks, each position scaled to norm 1.

        Like LPIPS (Zhang et al. 2018), but unweighted, and with this classifier's features.
        """
        return float(
            sum(self._apart(a, b) for a, b in zip(ours.split(1000), theirs.split(1000), strict=True))
            / len(ours)
        )

    def _apart(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total = 0.0
        with evaluating(self.network) as network:
            a, b = a.to(self.device), b.to(self.device)
            for layer in network.body:
                a, b = layer(a), layer(b)
                if isinstance(layer, torch.nn.ReLU):
                    units = (one / one.norm(dim=1, keepdim=True).clamp(min=1e-8) for one in (a, b))
                    total = total + _squares(*units)
        return total.cpu()


def _squares(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances of features, averaged over positions and summed over images."""
    return (a - b).square().sum(1).mean((1, 2)).sum()


def spread(images: torch.Tensor, answers: int) -> float:
    """Standard deviation of a pixel over each group of ``answers`` images, shape (groups * answers, C, H, W); its mean."""
    return float(images.unflatten(0, (-1, answers)).std(1).mean())


def as_bytes(images: torch.Tensor) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] as uint8, shape (n, H, W) if gray or (n, H, W, 3)."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).squeeze(-1).numpy()
