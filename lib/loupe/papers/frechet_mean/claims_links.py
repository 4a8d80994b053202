"""What a training curve says: the score at the published stop, and at the best epoch of the whole run."""

from dataclasses import dataclass

import numpy as np


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


def outcome(curve, names, check_every, patience=None):
    """Read a run by a rule: stop after ``patience`` epochs without a better validation score, or never.

    Parameters
    ----------
    curve : numpy.ndarray, shape (evaluations, len(names))
        nan from where the run ended.
    names : sequence of str
    check_every : int
        Epochs between evaluations.
    patience : int, optional
        The rule also asks for as many epochs at least.

    Returns
    -------
    Outcome
    """
    names = list(names)
    ran = int(np.isfinite(curve[:, 0]).sum())
    score = curve[:ran, [names.index("validation ROC"), names.index("validation AP")]].mean(axis=1)
    epochs = check_every * np.arange(1, ran + 1)
    before = np.maximum.accumulate(np.concatenate([[-np.inf], score]))[:-1]
    # A tie is not a better score.
    best = epochs[np.maximum.accumulate(np.where(score > before, np.arange(ran), 0))]
    if patience is not None:
        over = epochs - best >= patience
        ran = int(over.argmax()) + 1 if over.any() else ran
    at = int(score[:ran].argmax())
    return Outcome(int(epochs[at]), int(epochs[ran - 1]), 100 * float(curve[at, names.index("test ROC")]))


def outcomes(runs, method, *, patience, prefix=""):
    """:func:`outcome` of one method for every seed; ``patience`` True takes the published rule.

    ``prefix`` chooses among several comparisons that one experiment holds.
    """
    first = runs.first
    index = list(first[prefix + "methods"]).index(method)
    rule = int(first[prefix + "patience"]) if patience else None
    every, names = int(first[prefix + "check_every"]), first[prefix + "names"]
    return [outcome(curves[index], names, every, rule) for curves in runs[prefix + "curves"]]


def scores(runs, method, *, patience, prefix=""):
    """The test score of :func:`outcomes`, in percent, one value for each seed."""
    return np.array([one.score for one in outcomes(runs, method, patience=patience, prefix=prefix)])


def flattened(runs, method, prefix=""):
    """Whether no run of a method was still improving: none had its best validation score in its last epochs."""
    patience = int(runs.first[prefix + "patience"])
    return all(
        one.stop - one.epoch >= patience for one in outcomes(runs, method, patience=False, prefix=prefix)
    )
