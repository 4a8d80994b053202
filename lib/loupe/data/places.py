"""Where the files of a dataset are, and whether they are the right ones.

There are four places, searched in this order: packages that ship data; the box, which is the checkout's folder
``data``; the mirror folder named by ``LOUPE_DATA``; the user's cache (the folder pooch would use, or ``LOUPE_CACHE``).
All folders have the layout ``FOLDER/FILE``. This module never uses the network or changes a file.
"""

import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from loupe.data.catalog import CATALOG, DataError

FORMS = ("loupe", "public")


@dataclass(frozen=True)
class Location:
    """Where a dataset was found.

    Attributes
    ----------
    name : str
        The dataset.
    where : str
        ``"built in"``, ``"box"``, ``"mirror"``, ``"cache"`` or ``"missing"``.
    form : str
        ``"loupe"`` for the catalog's own files, ``"public"`` for the authors'; empty if built in or missing.
    paths : tuple of pathlib.Path
        The files, in catalog order; empty if built in or missing.
    set_aside : tuple of pathlib.Path
        Damaged files that :func:`loupe.data.fetch` renamed before it fetched a good copy.
    """

    name: str
    where: str
    form: str = ""
    paths: tuple[Path, ...] = ()
    set_aside: tuple[Path, ...] = ()


def find(name):
    """Entry of the catalog.

    Parameters
    ----------
    name : str
        Name of a dataset.

    Returns
    -------
    DataSet

    Raises
    ------
    DataError
        If there is no such set; names the nearest ones.
    """
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(str(name), CATALOG, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the catalog has {', '.join(CATALOG)}."
    raise DataError(f"There is no data set {name!r}: {hint}")


def box_root():
    """The folder ``data`` of this package's checkout, or None: a wheel has none.

    Returns
    -------
    pathlib.Path or None
    """
    checkout = Path(__file__).parents[3]
    box = checkout / "data"
    return box if (box / "README.md").is_file() and (checkout / "pyproject.toml").is_file() else None


def _folder(variable, value):
    """An absolute path from the value of an environment variable."""
    try:
        return Path(value).expanduser().absolute()
    except (RuntimeError, OSError):  # a user without a home, or a deleted working folder
        raise DataError(f"{variable} is {value!r}, which leads nowhere: give an absolute path.") from None


def mirror_root():
    """Folder named by ``LOUPE_DATA``, or None if the variable is unset or empty.

    Returns
    -------
    pathlib.Path or None
        Absolute path; a relative value is relative to the current folder.

    Raises
    ------
    DataError
        If the variable names something that is not a folder.
    """
    value = os.environ.get("LOUPE_DATA")
    if not value:
        return None
    root = _folder("LOUPE_DATA", value)
    if not root.is_dir():
        raise DataError(
            f"LOUPE_DATA names {value!r}, which is not a folder: set it to a mirror folder (FOLDER/FILE "
            f"inside) or unset it."
        )
    return root


def cache_root():
    """Folder of downloaded files: ``LOUPE_CACHE``, or else ``pooch.os_cache("loupe")``.

    Returns
    -------
    pathlib.Path
        Absolute path; it need not exist.
    """
    if value := os.environ.get("LOUPE_CACHE"):
        return _folder("LOUPE_CACHE", value)
    # pooch calls the same function; calling it directly spares `loupe data` the import of pooch.
    import platformdirs

    try:
        cache = Path(platformdirs.user_cache_dir("loupe"))
    except (RuntimeError, KeyError):
        cache = Path("~")
    if not cache.is_absolute():  # a container's user may have neither a home nor a name
        raise DataError("This user has no home folder, so there is no cache: set LOUPE_CACHE to a folder.")
    return cache


def locate(name, *, form=None, box=True):
    """Find a dataset, without reading it.

    Parameters
    ----------
    name : str
        Name in the catalog.
    form : {None, "loupe", "public"}
        Which form to look for; None takes the first found of box, mirror, cache, and the cache's public form.
    box : bool
        Whether to look in the box.

    Returns
    -------
    Location

    Raises
    ------
    DataError
        For an unknown name or form, or if ``LOUPE_DATA`` is not a folder.
    """
    entry = find(name)
    if form not in (None, *FORMS):
        raise DataError(f"There is no form {form!r} of a data set: the forms are 'loupe' and 'public'.")
    if entry.built_in:
        return Location(entry.name, "built in")
    mirror = mirror_root() if form != "public" else None  # an error if not a folder
    for where, its_form, root_of, files in (
        ("box", "loupe", box_root, [file.path for file in entry.boxed if box]),
        ("mirror", "loupe", lambda: mirror, [file.path for file in entry.files]),
        ("cache", "loupe", cache_root, [file.path for file in entry.files]),
        ("cache", "public", cache_root, entry.public.outputs if entry.public else ()),
    ):
        root = root_of() if form in (None, its_form) else None
        paths = tuple(root / file for file in files) if root else ()
        if paths and all(path.is_file() for path in paths):
            return Location(entry.name, where, its_form, paths)
    return Location(entry.name, "missing")


def own_files(paths):
    """All files among the paths and inside their folders, without system files.

    Parameters
    ----------
    paths : sequence of pathlib.Path

    Returns
    -------
    list of pathlib.Path
        Sorted within each folder; names that begin with a dot, ``__MACOSX`` and ``Thumbs.db`` are left out.
    """
    found = [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    ]
    return [file for file in found if not {"__MACOSX", "Thumbs.db"} & set(file.parts) and file.name[0] != "."]


def missing_message(entry, form=None):
    """One sentence for a missing dataset: why, and what to do."""
    mirror = mirror_root()
    parts = []
    if mirror and entry.files and form != "public":
        absent = [file.path for file in entry.files if not (mirror / file.path).is_file()]
        parts.append(f"the mirror {mirror} lacks {', '.join(absent)}")
    parts.append(f"nothing usable is in the cache {cache_root()}")
    ours, theirs = entry.files and form != "public", entry.public and form != "loupe"
    same_bytes = ours and (os.environ.get("LOUPE_DATA_URL") or all(file.urls for file in entry.files))
    fetchable = same_bytes or (theirs and entry.public.files)
    remedies = []
    if ours:
        remedies.append(f"set LOUPE_DATA to a mirror folder that holds {entry.files[0].path}")
    if fetchable:
        remedies.append(f"type `loupe data fetch {entry.name}` with a network")
    elif theirs and entry.public.by_hand:
        remedies.append(f"{entry.public.by_hand} to loupe.data.adopt({entry.name!r}, ...)")
    elif entry.files:
        remedies.append(
            f"set LOUPE_DATA_URL to the address of such a mirror and type `loupe data fetch {entry.name}`"
        )
    return f"The data set {entry.name!r} is missing ({'; '.join(parts)}): {', or '.join(remedies)}."


# --- digests, checked once for each state of a file --------------------------------------------------------


def expected_digest(entry, location, path):
    """Digest that a located file should have: the catalog's, or the one noted when the file was converted.

    Parameters
    ----------
    entry : DataSet
        The dataset.
    location : Location
        Where it was found.
    path : pathlib.Path
        One of ``location.paths``.

    Returns
    -------
    str or None
        ``"sha256:..."`` or ``"md5:..."``; None if unknown.
    """
    listed = {file.path: file.digest for file in entry.every_file}
    digest = listed.get(f"{path.parent.name}/{path.name}")
    note = digest_note(path)
    if digest is None and note.is_file():
        digest = "sha256:" + (note.read_text(encoding="ascii", errors="replace").split() or ["?"])[0]
    return digest


def digest_note(path):
    """File beside a converted file that holds its sha256, in the format of ``sha256sum``."""
    return path.with_name(path.name + ".sha256")


def file_digest(path, algorithm="sha256"):
    """Digest of a file, ``"sha256:..."`` or ``"md5:..."``."""
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


_seen = {}


def digest_fault(entry, location, path, *, fresh=False):
    """Compare a located file with its digest.

    Parameters
    ----------
    entry : DataSet
        The dataset.
    location : Location
        Where it was found.
    path : pathlib.Path
        One of ``location.paths``.
    fresh : bool
        Read the file even if this process has already checked it at its current size and time.

    Returns
    -------
    str
        One sentence that says what is wrong and what to do; empty if the file is fine.
    """
    expected = expected_digest(entry, location, path)
    again = (
        f"type `loupe data fetch {entry.name}`, which keeps it under another name and fetches a good copy."
    )
    if expected is None:
        return f"The cached file {path} has no record of its digest, so it may be incomplete: {again}"
    found = _digest_once(path, expected.partition(":")[0], fresh=fresh)
    if found == expected:
        return ""
    if location.where == "box":
        return f"The file {path} has the wrong digest ({_short(found)}): restore it with `git checkout -- {path}`."
    if location.where == "mirror":
        return (
            f"The mirror's file {path} has the wrong digest ({_short(found)} instead of {_short(expected)}): "
            "copy it again from its source, or unset LOUPE_DATA."
        )
    return (
        f"The cached file {path} is damaged (digest {_short(found)} instead of {_short(expected)}): {again}"
    )


def _digest_once(path, algorithm, *, fresh=False):
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns, algorithm)
    if fresh or key not in _seen:
        _seen[key] = file_digest(path, algorithm)
    return _seen[key]


loaded = set()
"""Names of the data sets that this process has loaded."""

_read = {}


def note_read(path):
    """Record the sha256 of a file that was read for its values."""
    _read[f"{path.parent.name}/{path.name}"] = _digest_once(path, "sha256").partition(":")[2]


def files_read():
    """The sha256 of every file that this process has read, by ``FOLDER/FILE``."""
    return dict(sorted(_read.items()))


def files_listed(catalog):
    """The sha256 of every file in the catalog, where known, by ``FOLDER/FILE``."""
    digests = {file.path: file.digest or "" for entry in catalog.values() for file in entry.every_file}
    return {path: digest[7:] for path, digest in digests.items() if digest.startswith("sha256:")}


def _short(digest):
    return digest[: digest.index(":") + 13] + "..."
