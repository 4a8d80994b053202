"""Whether a file is the right one: digests, compared once for each state of a file."""

import hashlib


def expected_digest(entry, location, path):
    """Digest that a located file should have: the catalog's, or the one noted when the file was converted.

    Parameters
    ----------
    entry : DataSet
        The data set.
    location : Location
        Where it was found.
    path : pathlib.Path
        One of ``location.paths``.

    Returns
    -------
    str or None
        ``"sha256:..."`` or ``"md5:..."``; None if nothing is known of the file.
    """
    listed = {
        file.path: file.digest
        for file in (*entry.files, *(entry.public.files if entry.public else ()), *entry.boxed)
    }
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
        The data set.
    location : Location
        Where it was found.
    path : pathlib.Path
        One of ``location.paths``.
    fresh : bool
        Read the file even if this process has already checked it at its present size and time.

    Returns
    -------
    str
        One sentence that says what is wrong and what to do; empty if nothing is.
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
            f"The mirror's file {path} has the wrong digest ({_short(found)} instead of "
            f"{_short(expected)}): copy it "
            "again from its source, or unset LOUPE_DATA."
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


_read = {}


def note_read(path):
    """Remember the sha256 of a file that is read for its values."""
    _read[f"{path.parent.name}/{path.name}"] = _digest_once(path, "sha256").partition(":")[2]


def files_read():
    """The sha256 of every file that this process has read, by ``FOLDER/FILE``."""
    return dict(sorted(_read.items()))


def files_listed(catalog):
    """The sha256 of every file in the catalog that has one there, by ``FOLDER/FILE``."""
    forms = [
        (*entry.files, *(entry.public.files if entry.public else ()), *entry.boxed)
        for entry in catalog.values()
    ]
    digests = {file.path: file.digest or "" for files in forms for file in files}
    return {path: digest[7:] for path, digest in digests.items() if digest.startswith("sha256:")}


def _short(digest):
    return digest[: digest.index(":") + 13] + "..."
