"""Joint positions from the files of a motion-capture system: skeleton (asf) and recordings (amc)."""

import re

import numpy as np

from loupe.data.places import own_files


def motion_capture(paths):
    """Trials from one ``.asf`` file and several ``SUBJECT_TRIAL.amc`` files, as the arrays of a set.

    Raises
    ------
    ValueError
        If there are not one skeleton and at least one trial, or a trial is of another subject or there twice.
    """
    files = own_files(paths)
    skeletons = [file for file in files if file.suffix == ".asf"]
    trials = [file for file in files if file.suffix == ".amc"]
    if len(skeletons) != 1 or not trials:
        raise ValueError(
            f"one .asf file and its .amc files are needed, got {len(skeletons)} and {len(trials)}"
        )
    (skeleton,) = skeletons
    foreign = [
        file.name for file in trials if not re.fullmatch(rf"{re.escape(skeleton.stem)}_\d+", file.stem)
    ]
    if foreign:
        raise ValueError(f"{foreign[0]} is no trial of the subject of {skeleton.name}")
    if twice := {file.stem for file in trials if [one.stem for one in trials].count(file.stem) > 1}:
        raise ValueError(f"{min(twice)}.amc is there twice")
    bones = read_skeleton(skeleton.read_text(encoding="latin-1"))
    joints = list(bones)
    arrays = {
        "joint_names": np.array(joints),
        "edges": np.array(
            [[joints.index(joint), joints.index(bones[joint][0])] for joint in joints[1:]], np.int16
        ),
    }
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
    found = {"root": (None, np.zeros(3), np.zeros(3), ())}
    for block in re.findall(
        r"\bbegin\b(.*?)\bend\b", text.partition(":bonedata")[2].partition(":hierarchy")[0], re.S
    ):
        lines = {line.split()[0]: line.split()[1:] for line in block.splitlines() if line.strip()}
        offset = float(lines["length"][0]) * np.array(lines["direction"][:3], np.float64)
        found[lines["name"][0]] = (
            None,
            offset,
            np.array(lines["axis"][:3], np.float64),
            tuple(lines.get("dof", ())),
        )
    children = {}
    for line in text.partition(":hierarchy")[2].splitlines():
        parent, *names = line.split() or ("",)
        if names:
            children[parent] = names
    ordered = {}

    def visit(joint, parent):
        ordered[joint] = (parent, *found[joint][1:])
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
