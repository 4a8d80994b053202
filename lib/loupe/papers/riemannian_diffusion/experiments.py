"""What the chapter computes without training."""

from loupe.experiment import experiment


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """SRD-1 and SRD-2."""
    return {"nothing": 0.0}
