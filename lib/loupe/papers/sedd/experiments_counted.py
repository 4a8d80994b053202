"""What counting alone gives on the text to learn: the levels that a trained network has to pass."""

import numpy as np

from loupe.experiment import experiment
from loupe.metrics import NGramJudge
from loupe.papers.sedd.experiments_text import characters, held_out_texts

ORDERS = (1, 2, 3, 4, 5)


@experiment(seeds="one_seed")
def counted(config, *, seed, device):
    """Bits per character of held-out texts under n-grams of the text to learn: trivial rows, as the others are judged."""
    ids, texts = characters(config, "writers"), held_out_texts(config)
    rows = []
    for order in ORDERS:
        model = NGramJudge(ids, order=order)
        rows.append([model.bits_per_character(x0.numpy()) for x0 in texts.values()])
    return {"orders": np.array(ORDERS), "texts": np.array(list(texts)), "uniform": np.log2(27)} | {
        f"bits_{text}": np.array(each) for text, each in zip(texts, zip(*rows, strict=True), strict=True)
    }
