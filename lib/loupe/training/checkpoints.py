"""Stopping a run and going on with it, to the same bits."""

import os
import pickle
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import torch


class Checkpoint:
    """The state of a run in one file, written whole or not at all; without a path it does nothing.

    Parameters
    ----------
    path : path or None
    run : Run
        Its network, optimiser, average, losses and counters are saved and restored.
    others : sequence
        Losses and hooks; those with a ``state_dict`` are saved and restored as well.
    fabric : lightning_fabric.Fabric
    """

    def __init__(self, path, run, others, fabric):
        self.path, self.run, self.fabric = path and Path(path), run, fabric
        parts = (run.network, run.optimiser, run.average, *others)
        self.parts = [part for part in parts if hasattr(part, "state_dict")]

    def save(self):
        """Write the file; the first of several processes does it for all."""
        if self.path is None or not self.fabric.is_global_zero:
            return
        state = {
            "parts": [part.state_dict() for part in self.parts],
            "losses": self.run.losses[: self.run.step].clone(),  # a view would bring all of it along
            "step": self.run.step,
            "ended": self.run.ended,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.draft")
        try:
            with open(draft, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)

    def restore(self):
        """Bring the run to the state in the file, if there is one.

        Raises
        ------
        ValueError
            If the file is damaged or does not fit the run; the run may then be half restored.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            # Tensors and plain values only: nothing is unpickled.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            for part, content in zip(self.parts, state["parts"], strict=True):
                part.load_state_dict(content)
            self.run.step, self.run.ended = state["step"], state["ended"]
            self.run.losses[: self.run.step] = state["losses"]
        except (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"checkpoint {self.path} is damaged or of another run ({reason}): delete it to start again"
            ) from None


@contextmanager
def signals_held(enabled):
    """Hold SIGTERM and Ctrl-C back for the block, which can ask whether one came; afterwards they take their course."""
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if came:
        signal.raise_signal(came[0])
        raise SystemExit(
            128 + came[0]
        )  # a handler that does not end the process must not pass for the end of a run
