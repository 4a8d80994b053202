"""Stop a run that has diverged to NaN or infinity."""

import torch

# Steps between checks on a GPU, where a check waits. On a CPU it is nearly free and runs at every step.
CHECK_EVERY = 10


class DivergenceError(ValueError):
    """The loss or parameters of a run became infinite or NaN; ``run`` is its state at that point.

    Attributes
    ----------
    run : Run
        ``run.step`` is the number of steps before the first bad one, if its loss was bad.
    """

    def __init__(self, message, run):
        super().__init__(message)
        self.run = run


def stop_if_diverged(run, saved):
    """Raise if a recent loss or a parameter is not finite, before anything is saved.

    Parameters
    ----------
    run : Run
        After a step.
    saved : Checkpoint
        Its last good state is named in the message.

    Raises
    ------
    DivergenceError
    """
    begin = max(0, run.step - CHECK_EVERY)
    late = run.losses[begin : run.step]
    # A sum is fast and finite only if all terms are; if it overflows, check the terms.
    sums = [late.sum(), *(one.detach().sum() for one in run.network.parameters())]
    if torch.stack(sums).isfinite().all():
        return
    bad = (~late.isfinite()).nonzero()
    if len(bad):
        step = begin + bad[0].item()
        what = f"training diverged at step {step}, counted from 0: the loss is {run.losses[step].item()}"
        run.step = step
    else:
        broken = ((name, one[~one.isfinite()]) for name, one in run.network.named_parameters())
        found = next(((name, values[0].item()) for name, values in broken if len(values)), None)
        if found is None:
            return
        what = "training diverged by step {}, counted from 0: parameter {} holds {}".format(
            run.step - 1, *found
        )
    rates = ", ".join(dict.fromkeys(f"{float(group['lr']):.3g}" for group in run.optimizer.param_groups))
    kept = "" if saved.kept is None else f"; {saved.path} keeps the state after {saved.kept} steps"
    raise DivergenceError(
        f"{what} (learning rate {rates}){kept}; lower the learning rate, or clip the gradient", run
    )
