"""Comparing sets of images in the features of a small classifier, which is trained on the real ones."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from loupe.metrics.images import frechet_distance
from loupe.networks.feature_classifier import FeatureClassifier
from loupe.training import Training, accuracy, evaluating, train


class ImageJudge:
    """A classifier trained on real images, and what it says of others.

    Parameters
    ----------
    images : torch.Tensor, shape (n, C, H, W)
        Training images in [0, 1].
    labels : torch.Tensor, shape (n,)
    reference : torch.Tensor, shape (m, C, H, W)
        Images that sets are compared with.
    widths : sequence of int
        Channels of the classifier's blocks.
    epochs : int
    classes : int
    device : str
    """

    def __init__(
        self, images: torch.Tensor, labels: torch.Tensor, reference: torch.Tensor, *, widths: Sequence[int], epochs: int,
        classes: int, device: str = "cpu",
    ) -> None:  # fmt: skip
        batch = min(128, len(images))
        settings = Training(
            steps=-(-epochs * len(images) // batch),
            batch=batch,
            learning_rate=4e-3,
            schedule="cosine",
            warmup=50,
        )
        network = FeatureClassifier(images.shape[1], widths=widths, classes=classes)
        self.network = train(
            network, lambda net, batch, generator: cross_entropy(net(batch[0]), batch[1]), (images, labels), settings,
            device=device,
        ).network  # fmt: skip
        self.reference, self.device = reference, device

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
