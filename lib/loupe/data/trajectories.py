"""Trajectories, series and events: pedestrians, molecules, people, time series, points on the globe."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from loupe.data.door import read_arrays
from loupe.data.places import own_files

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
        int64 ``(m,)``, frame number; annotated every 10 frames, which is 0.4 s.
    person : numpy.ndarray
        int64 ``(m,)``, identity within the scene.
    position : numpy.ndarray
        float32 ``(m, 2)``, meters on the ground.
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
        float64 ``(frames,)``, potential energy in electronvolts.
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


# --- multivariate time series; a chapter uses their covariance matrices -------------------------


@dataclass(frozen=True, eq=False)
class Series:
    """Labeled multichannel time series of unequal length, in the archive's own two parts.

    Attributes
    ----------
    x_train, x_test : tuple of numpy.ndarray
        Each float32 ``(length, channels)``.
    y_train, y_test : numpy.ndarray
        int64 ``(n,)``, index into `classes`.
    classes : tuple of str
        Class names.
    """

    x_train: tuple[np.ndarray, ...]
    y_train: np.ndarray
    x_test: tuple[np.ndarray, ...]
    y_test: np.ndarray
    classes: tuple[str, ...]


def series(source):
    """A :class:`Series`; the arrays are views of one block for each part."""
    stored = read_arrays(source.path())
    parts = []
    for part in ("train", "test"):
        cuts = stored[f"{part}_offsets"][1:-1]
        parts += [tuple(np.split(stored[f"{part}_values"], cuts)), stored[f"{part}_labels"].astype(np.int64)]
    return Series(*parts, tuple(str(name) for name in stored["class_names"]))


# --- points on the globe: eruptions, earthquakes, floods and fires --------------------------------------------


EVENTS = {"volc": "volcanic eruptions", "quakes": "earthquakes", "flood": "floods", "fire": "active fires"}


@dataclass(frozen=True, eq=False)
class Points:
    """Events on the sphere.

    Attributes
    ----------
    event : str
        What happened there.
    latitude, longitude : numpy.ndarray
        float64 ``(n,)`` in degrees, north and east positive.
    xyz : numpy.ndarray
        float64 ``(n, 3)``, unit vectors ``(cos lat cos lon, cos lat sin lon, sin lat)``.
    """

    event: str
    latitude: np.ndarray
    longitude: np.ndarray
    xyz: np.ndarray


def unit_vectors(latitude, longitude):
    """Unit vectors of points on the globe.

    Parameters
    ----------
    latitude, longitude : numpy.ndarray
        ``(n,)`` in degrees.

    Returns
    -------
    numpy.ndarray
        float64 ``(n, 3)``.
    """
    lat, lon = np.deg2rad(latitude), np.deg2rad(longitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def earth(source):
    """The four catalogs, ``{"volc": Points, "quakes": Points, "flood": Points, "fire": Points}``."""
    found = {}
    for key, event in EVENTS.items():
        latitude, longitude = np.loadtxt(
            source.path(f"{key}.csv"), delimiter=",", unpack=True, dtype=np.float64
        )
        found[key] = Points(event, latitude, longitude, unit_vectors(latitude, longitude))
    return found


# --- motion capture: skeletons (asf) and recordings (amc) ----------------------------------------------------


def motion_capture(paths):
    """Trials from one ``.asf`` file and several ``SUBJECT_TRIAL.amc`` files, as the arrays of a set.

    Raises
    ------
    ValueError
        If there is not exactly one skeleton and at least one trial, or a trial is a duplicate or of another subject.
    """
    files = own_files(paths)
    skeletons = [file for file in files if file.suffix == ".asf"]
    trials = [file for file in files if file.suffix == ".amc"]
    if len(skeletons) != 1 or not trials:
        raise ValueError(
            f"one .asf file and its .amc files are needed, got {len(skeletons)} and {len(trials)}"
        )
    (skeleton,) = skeletons
    for file, count in Counter(file.name for file in trials).items():
        if not re.fullmatch(rf"{re.escape(skeleton.stem)}_\d+\.amc", file):
            raise ValueError(f"{file} is no trial of the subject of {skeleton.name}")
        if count > 1:
            raise ValueError(f"{file} is there twice")
    bones = read_skeleton(skeleton.read_text(encoding="latin-1"))
    joints = list(bones)
    edges = [[joints.index(joint), joints.index(bones[joint][0])] for joint in joints[1:]]
    arrays = {"joint_names": np.array(joints), "edges": np.array(edges, np.int16)}
    for file in trials:
        frames = read_frames(file.read_text(encoding="latin-1"))
        arrays[f"trial_{file.stem.split('_')[1]}"] = joint_positions(bones, frames).astype(np.float32)
    return arrays


def rotation(angles):
    """Rotation ``R_z R_y R_x`` of angles in degrees: ``(..., 3)`` gives ``(..., 3, 3)``."""
    x, y, z = np.moveaxis(np.deg2rad(np.asarray(angles, np.float64)), -1, 0)
    one, nil = np.ones_like(x), np.zeros_like(x)

    def matrix(*entries):
        return np.stack(entries, -1).reshape(*x.shape, 3, 3)

    r_x = matrix(one, nil, nil, nil, np.cos(x), -np.sin(x), nil, np.sin(x), np.cos(x))
    r_y = matrix(np.cos(y), nil, np.sin(y), nil, one, nil, -np.sin(y), nil, np.cos(y))
    r_z = matrix(np.cos(z), -np.sin(z), nil, np.sin(z), np.cos(z), nil, nil, nil, one)
    return r_z @ r_y @ r_x


def read_skeleton(text):
    """Bones of an ``.asf`` file.

    Parameters
    ----------
    text : str
        The file.

    Returns
    -------
    dict of str to tuple
        ``{joint: (parent, offset, axis, dofs)}``, depth first from ``"root"``: offset ``(3,)``, length times
        direction in the files' units, axis ``(3,)`` in degrees, dofs such as ``("rx", "ry", "rz")``.
    """
    found = {"root": (np.zeros(3), np.zeros(3), ())}
    bones = text.partition(":bonedata")[2].partition(":hierarchy")[0]
    for block in re.findall(r"\bbegin\b(.*?)\bend\b", bones, re.S):
        lines = {line.split()[0]: line.split()[1:] for line in block.splitlines() if line.strip()}
        offset = float(lines["length"][0]) * np.array(lines["direction"][:3], np.float64)
        axis = np.array(lines["axis"][:3], np.float64)
        found[lines["name"][0]] = (offset, axis, tuple(lines.get("dof", ())))
    children = {}
    for line in text.partition(":hierarchy")[2].splitlines():
        parent, *names = line.split() or ("",)
        if names:
            children[parent] = names
    ordered = {}

    def visit(joint, parent):
        ordered[joint] = (parent, *found[joint])
        for child in children.get(joint, ()):
            visit(child, joint)

    visit("root", None)
    return ordered


def read_frames(text):
    """Frames of an ``.amc`` file: a list of ``{joint: numbers}``; the root has position and angles."""
    frames = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 1 and words[0].isdigit():
            frames.append({})
        elif frames and len(words) > 1:
            frames[-1][words[0]] = [float(word) for word in words[1:]]
    return frames


def joint_positions(bones, frames):
    """Positions by forward kinematics.

    For bone b with axis matrix C and frame rotation M: ``G = G_parent C M C^T`` and ``p = p_parent + G
    offset``.

    Parameters
    ----------
    bones : dict
        From :func:`read_skeleton`.
    frames : list of dict
        From :func:`read_frames`.

    Returns
    -------
    numpy.ndarray
        float64 ``(frames, joints, 3)``, in the files' units.
    """
    root = np.array([frame["root"] for frame in frames], np.float64)
    turned, placed = {"root": rotation(root[:, 3:])}, {"root": root[:, :3]}
    for joint, (parent, offset, axis, dofs) in bones.items():
        if parent is None:
            continue
        angles = np.zeros((len(frames), 3))
        for k, dof in enumerate(dofs):
            angles[:, "xyz".index(dof[1])] = [frame[joint][k] for frame in frames]
        c = rotation(axis)
        turned[joint] = turned[parent] @ c @ rotation(angles) @ c.T
        placed[joint] = placed[parent] + turned[joint] @ offset
    return np.stack([placed[joint] for joint in bones], axis=1)
