"""Things that move: pedestrians, molecules, people running and walking."""

from dataclasses import dataclass

import numpy as np

from loupe.data.arrays import read_arrays

SCENES = (
    "biwi_eth",
    "biwi_hotel",
    "crowds_zara01",
    "crowds_zara02",
    "crowds_zara03",
    "students001",
    "students003",
    "uni_examples",
)


@dataclass(frozen=True, eq=False)
class Scene:
    """Pedestrians seen from above; one row for each person in each annotated frame.

    Attributes
    ----------
    frame : numpy.ndarray
        int64 ``(m,)``, frame number; annotated every 10 numbers, which is 0.4 s.
    person : numpy.ndarray
        int64 ``(m,)``, identity within the scene.
    position : numpy.ndarray
        float32 ``(m, 2)``, metres on the ground.
    valid_start : int
        First frame number of the validation part; earlier frames are the training part.
    """

    frame: np.ndarray
    person: np.ndarray
    position: np.ndarray
    valid_start: int


@dataclass(frozen=True, eq=False)
class Molecule:
    """One trajectory of molecular dynamics at GFN2-xTB.

    Attributes
    ----------
    name : str
        The molecule.
    positions : numpy.ndarray
        float32 ``(frames, atoms, 3)``, angstrom.
    velocities : numpy.ndarray
        float32 ``(frames, atoms, 3)``, angstrom per femtosecond.
    numbers : numpy.ndarray
        int64 ``(atoms,)``, atomic numbers.
    energies : numpy.ndarray
        float64 ``(frames,)``, potential energy in electronvolt.
    step : float
        Time between two frames, femtoseconds.
    """

    name: str
    positions: np.ndarray
    velocities: np.ndarray
    numbers: np.ndarray
    energies: np.ndarray
    step: float


@dataclass(frozen=True, eq=False)
class Motion:
    """Joint positions of one person in several recordings.

    Attributes
    ----------
    trials : dict of str to numpy.ndarray
        float32 ``(frames, 31, 3)`` by trial number (``"01"``); y is up, lengths in the units of the files.
    bones : numpy.ndarray
        int64 ``(30, 2)``, child and parent joint.
    joints : tuple of str
        31 names, depth first from the root.
    starts : dict of str to dict
        Official start frames: part (``"train"``, ``"valid"``, ``"test"``), then trial, then int64 ``(80,)``;
        empty where there is no official split.
    rate : float
        Frames per second.
    """

    trials: dict[str, np.ndarray]
    bones: np.ndarray
    joints: tuple[str, ...]
    starts: dict[str, dict[str, np.ndarray]]
    rate: float = 120.0


def pedestrians(source):
    """The eight scenes of ETH-UCY, by name."""
    stored = read_arrays(source.path())
    return {
        scene: Scene(
            stored[scene][:, 0].astype(np.int64),
            stored[scene][:, 1].astype(np.int64),
            np.ascontiguousarray(stored[scene][:, 2:]),
            int(stored[f"{scene}__val_start"]),
        )
        for scene in SCENES
    }


def molecule(source):
    """A :class:`Molecule`."""
    stored = read_arrays(source.path())
    return Molecule(
        source.entry.name,
        stored["R"],
        stored["V"],
        stored["z"].astype(np.int64),
        stored["E"],
        float(stored["dt_fs"]),
    )


def motion(source):
    """A :class:`Motion`, with the official start frames where there are any."""
    has_split = any(path.name.endswith("_split.npz") for path in source.location.paths)
    stored = read_arrays(source.path("_run.npz" if has_split else ""))
    starts = {}
    if has_split:
        for key, frames in read_arrays(source.path("_split.npz")).items():
            part, _, trial = key.partition("_")
            starts.setdefault({"val": "valid"}.get(part, part), {})[trial] = frames.astype(np.int64)
    trials = {key.partition("_")[2]: stored[key] for key in stored if key.startswith(("case_", "trial_"))}
    return Motion(trials, stored["edges"].astype(np.int64), tuple(map(str, stored["joint_names"])), starts)
