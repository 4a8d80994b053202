"""What a training curve says: the score at the published stop, and at the best epoch of the whole run."""

from dataclasses import dataclass

import numpy as np

from loupe.experiment.results import row


@dataclass(frozen=True)
class Outcome:
    """Where one run stands by one rule.

    Attributes
    ----------
    epoch : int
        At which the test score is read: the best on validation pairs up to the stop.
    stop : int
        The last epoch that the rule saw.
    score : float
        Test ROC AUC in percent at ``epoch``.
    """

    epoch: int
    stop: int
    score: float


def outcome(validation, test, check_every, patience=None):
    """Read a run by a rule: stop after ``patience`` epochs without a better validation score, or never.

    Parameters
    ----------
    validation, test : numpy.ndarray, shape (evaluations,)
        Scores, nan from where the run ended.
    check_every : int
        Epochs between evaluations.
    patience : int, optional
        The rule also asks for as many epochs at least.

    Returns
    -------
    Outcome
    """
    ran = int(np.isfinite(validation).sum())
    score, epochs = validation[:ran], check_every * np.arange(1, ran + 1)
    before = np.maximum.accumulate(np.concatenate([[-np.inf], score]))[:-1]
    # A tie is not a better score.
    best = epochs[np.maximum.accumulate(np.where(score > before, np.arange(ran), 0))]
    if patience is not None:
        over = epochs - best >= patience
        ran = int(over.argmax()) + 1 if over.any() else ran
    at = int(score[:ran].argmax())
    return Outcome(int(epochs[at]), int(epochs[ran - 1]), 100 * float(test[at]))


def curves(runs, **labels):
    """Validation score (the mean of AUC and average precision) and test AUC of one row, each (seeds, evaluations)."""
    validation = (row(runs, "validation_roc", **labels) + row(runs, "validation_ap", **labels)) / 2
    return validation, row(runs, "test_roc", **labels)


def outcomes(runs, *, patience, **labels):
    """:func:`outcome` of one row for every seed; ``patience`` True takes the published rule."""
    rule = int(runs.first["patience"]) if patience else None
    every = int(runs.first["check_every"])
    return [outcome(*each, every, rule) for each in zip(*curves(runs, **labels), strict=True)]


def scores(runs, *, patience, **labels):
    """The test score of :func:`outcomes`, in percent, one value for each seed."""
    return np.array([one.score for one in outcomes(runs, patience=patience, **labels)])


def both_scores(runs, *, patience, **labels):
    """:func:`scores` of the Fréchet mean, and those of the tangent average."""
    return [scores(runs, patience=patience, method=name, **labels) for name in ("Fréchet", "HGCN")]


def flattened(runs, **labels):
    """Whether no run of a row was still improving: none had its best validation score in its last epochs."""
    patience = int(runs.first["patience"])
    return all(one.stop - one.epoch >= patience for one in outcomes(runs, patience=False, **labels))
