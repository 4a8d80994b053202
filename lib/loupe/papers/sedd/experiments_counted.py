"""What counting alone gives on the text to learn: the levels that a trained network has to pass."""

from loupe.data import load
from loupe.experiment import experiment
from loupe.metrics import bigram_rate_entropy, unigram_entropy

MOST = 5_000_000  # characters are enough to three digits of an entropy


@experiment(seeds="one_seed")
def counted(config, *, seed, device):
    """Bits per character from counting single characters, and pairs of them, of the text to learn."""
    ids = load(config.text, split="train", characters=min(config.characters or MOST, MOST)).ids
    return {"letters": unigram_entropy(ids), "pairs": bigram_rate_entropy(ids)}
