"""Stop a run and resume it, bit for bit."""

import hashlib
import io
import os
import re
import signal
import threading
from collections import OrderedDict, defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from loupe.errors import CheckpointError, shortened, shown

# A unit of a chapter sets its name here, so that its checkpoint cannot be mistaken for another's.
IDENTITY = "LOUPE_UNIT"


class Checkpoint:
    """The state of a run in one file, written atomically; without a path it does nothing.

    The file is the output of ``torch.save``, followed by its SHA-256 in 64 hexadecimal digits.

    Parameters
    ----------
    path : path or None
    run : Run
        Its network, optimizer, losses and counters are saved and restored.
    others : sequence
        Losses and callbacks; those with a ``state_dict`` are saved and restored too.
    fabric : lightning_fabric.Fabric
    seed : int
        Seed of the run: a checkpoint with another seed is rejected.

    Attributes
    ----------
    kept : int or None
        The step of the saved state.

    Raises
    ------
    ValueError
        If the state of a part could not be restored.
    """

    def __init__(self, path, run, others, fabric, seed=0):
        self.path, self.run, self.fabric, self.kept = path and Path(path), run, fabric, None
        parts = (run.network, run.optimizer, *others)
        self.parts = [part for part in parts if hasattr(part, "state_dict")]
        self.identity = {
            "unit": os.environ.get(IDENTITY, ""),
            "seed": int(seed),
            "parts": [type(part).__name__ for part in self.parts],
        }
        self._given = [dict(group) for group in run.optimizer.param_groups]
        if self.path is not None:
            self._states()  # reject states that cannot be restored before any step is computed

    def save(self):
        """Write the file; rank 0 writes for all processes.

        Raises
        ------
        ValueError
            If the file cannot be written, or the state of a part could not be restored; the old file stays.
        """
        if self.path is None or not self.fabric.is_global_zero:
            return
        state = {
            "identity": self.identity,
            "parts": self._states(),
            "losses": self.run.losses[: self.run.step].clone(),  # a view would save its whole storage
            "step": self.run.step,
            "ended": self.run.ended,
        }
        draft = self.path.with_name(f".{self.path.name}.draft")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(draft, "w+b") as file:
                torch.save(state, file)
                file.seek(0)
                file.write(hashlib.file_digest(file, "sha256").hexdigest().encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            reason = getattr(error, "strerror", None) or _first_line(error)
            raise ValueError(
                f"checkpoint {self.path} could not be written ({reason}): make room there, or choose another place"
            ) from None
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        self.kept = self.run.step

    def restore(self):
        """Restore the run's state from the file, if there is one.

        For the optimizer this is only what its steps changed; the caller's current values, such as the learning rate,
        stay.

        Raises
        ------
        CheckpointError
            If the file is damaged or belongs to another run; the run may then be partly restored.
        ValueError
            If the file holds more steps than the run's ``steps``.
        """
        if self.path is None or not os.path.lexists(self.path):
            return
        state = self._read()
        if state["identity"] != self.identity:
            raise self._refusal(_difference(state["identity"], self.identity))
        if state["step"] > len(self.run.losses):
            raise ValueError(
                f"checkpoint {self.path} holds {state['step']} steps and the run asks for steps="
                f"{len(self.run.losses)}: give at least {state['step']}, or another file"
            )
        try:
            for part, content in zip(self.parts, state["parts"], strict=True):
                part.load_state_dict(self._with_groups(content) if part is self.run.optimizer else content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._refusal(f"of another {_kind(part, self.run)}: {_first_line(error)}") from None
        self.run.step, self.run.ended = state["step"], state["ended"]
        self.run.losses[: self.run.step] = state["losses"]
        self.kept = self.run.step

    def _read(self):
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._refusal(f"not readable: {error.strerror}") from None
        body, digest = content[:-64], content[-64:]
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise self._refusal("damaged: its content does not have its SHA-256")
        try:
            # Tensors and plain values only: no unpickling.
            state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
            if set(state) != {"identity", "parts", "losses", "step", "ended"}:
                raise ValueError("it has other entries")
        except Exception as error:
            raise self._refusal(f"no checkpoint of this version: {_first_line(error)}") from None
        return state

    def _refusal(self, reason):
        return CheckpointError(f"checkpoint {self.path} is {reason}: delete it to start again")

    def _states(self):
        states = []
        for part in self.parts:
            state = part.state_dict()
            if part is self.run.optimizer:
                state = {**state, "param_groups": self._moved(state["param_groups"])}
            if odd := _unrestorable(state):
                where, kind = odd
                raise ValueError(
                    f"the state of {_kind(part, self.run)} {type(part).__name__} cannot be saved: {where or 'it'} is a "
                    f"{kind}, and only tensors, numbers, strings, lists, tuples and dictionaries can be restored"
                )
            states.append(state)
        return states

    def _moved(self, groups):
        """The entries of each parameter group that the optimizer itself changed; the caller sets the rest."""
        return [
            {
                name: value
                for name, value in group.items()
                if name == "params"
                or (name not in ("lr", "initial_lr") and repr(value) != repr(given.get(name)))
            }
            for group, given in zip(groups, self._given, strict=True)
        ]

    def _with_groups(self, state):
        ours = self.run.optimizer.state_dict()["param_groups"]
        if len(ours) != len(state["param_groups"]):
            raise ValueError(f"it has {len(state['param_groups'])} groups of parameters and not {len(ours)}")
        groups = [own | saved for own, saved in zip(ours, state["param_groups"], strict=True)]
        return {**state, "param_groups": groups}


def _unrestorable(value, where="", above=()):
    """The first entry of a state that ``torch.load`` would reject, and its type; None if there is none."""
    if type(value) in (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.nn.Parameter):
        return None
    if id(value) in above or len(above) > 100:
        return where, "structure that holds itself" if id(value) in above else "structure nested too deep"
    inside = (*above, id(value))
    if type(value) in (dict, OrderedDict, defaultdict):
        keys = ((f"a key of {where}" if where else "a key", key) for key in value)
        items = [*keys, *((f"{where}[{shown(key, 40)}]", one) for key, one in value.items())]
    elif type(value) in (list, tuple):
        items = [(f"{where}[{place}]", one) for place, one in enumerate(value)]
    else:
        return None if _survives(value) else (where, f"{type(value).__module__}.{type(value).__qualname__}")
    return next(filter(None, (_unrestorable(one, place, inside) for place, one in items)), None)


def _survives(value):
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickling an unknown object may raise anything
        return False
    return True


def _kind(part, run):
    if part is run.network:
        return "network"
    return "optimizer" if part is run.optimizer else "loss or callback"


def _difference(theirs, ours):
    for name, prefix in (("unit", ""), ("seed", "seed "), ("parts", "")):
        if theirs.get(name) != ours[name]:
            said = [one[name] if isinstance(one[name], list) else [one[name]] for one in (theirs, ours)]
            found, wanted = (shortened(", ".join(map(str, one)), 200) or "no unit" for one in said)
            return f"of {prefix}{found}, not of {prefix}{wanted}"
    return "of another run"


def _first_line(error):
    """The first line of an error's message, without torch's color codes."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n")
    return shortened(" ".join(" ".join(lines[:2]).split()) or type(error).__name__, 200)


@contextmanager
def signals_held(enabled):
    """Delay SIGTERM and Ctrl-C during the block, which can check whether one arrived; afterwards they take effect."""
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
        # A handler that does not end the process must not look like the end of a run.
        raise SystemExit(128 + came[0])
