"""Download a dataset into the user's cache. The only module of the book that opens a connection.

Downloads go through pooch, which writes to a temporary file, compares the digest and renames: an interrupted download
leaves nothing that could be mistaken for the file.
"""

import contextlib
import errno
import importlib.util
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from loupe.data.catalog import DataError
from loupe.data.places import (
    Location,
    cache_root,
    digest_fault,
    digest_note,
    file_digest,
    find,
    locate,
    missing_message,
    own_files,
)


def fetch(name, *, form=None):
    """Make sure that a dataset is on this machine.

    Files already in the mirror or in the cache are checked and kept. Otherwise they come, in this order, from
    ``LOUPE_DATA_URL/FOLDER/FILE`` (a mirror of Loupe's own files), from an address that serves the same bytes, or from
    the authors' form followed by a converter. A damaged cached file is renamed to ``FILE.damaged`` first.

    Parameters
    ----------
    name : str
        Name in the catalog.
    form : {None, "loupe", "public"}
        Require Loupe's own files or the authors' form; None takes either.

    Returns
    -------
    Location
        Where the dataset is now; ``set_aside`` lists damaged files that were renamed.

    Raises
    ------
    DataError
        If no source gave the right bytes; the message names the addresses and the remedy.
    """
    entry = find(name)
    location = locate(name, form=form)
    if location.where == "built in":
        return location
    # Files of an incomplete set count too: pooch would silently replace a damaged one.
    present = location.paths or [path for file in entry.files if (path := cache_root() / file.path).is_file()]
    checked = location if location.paths else Location(name, "cache")
    faults = {path: fault for path in present if (fault := digest_fault(entry, checked, path))}
    if location.paths and not faults:
        return location
    if faults and location.where in ("box", "mirror"):
        raise DataError(next(iter(faults.values())))
    set_aside = tuple(_set_aside(path) for path in faults)
    failures = []
    for attempt in _sources(entry, form):
        try:
            attempt()
        except _CacheError:
            raise
        except DataError as failure:
            failures.append(str(failure))
            continue
        found = locate(name, form=form)
        if found.where == "cache":
            return replace(found, set_aside=set_aside)
    why = missing_message(entry, form)
    if failures:
        remedy = "check the network and type the same again, or set LOUPE_DATA to a mirror folder."
        why = f"Could not fetch {name!r} ({'; '.join(failures)}): {remedy}"
    raise DataError(why + "".join(f" The damaged file is kept as {path}." for path in set_aside))


def adopt(name, *paths):
    """Convert files that were downloaded by hand, and put the result into the cache.

    Parameters
    ----------
    name : str
        Name of a dataset that has a public form with a converter.
    *paths : str or pathlib.Path
        The authors' files, or folders that hold them.

    Returns
    -------
    Location
        The cached set.

    Raises
    ------
    DataError
        If the set has no converter, a path does not exist, or the files are not in the authors' format.

    Examples
    --------
    >>> loupe.data.adopt("cifar10", "cifar-10-binary.tar.gz")  # doctest: +SKIP
    """
    entry = find(name)
    if entry.public is None or entry.public.converter is None:
        raise DataError(f"Nothing converts files to {name!r}: {entry.source_note}")
    if not paths:
        raise DataError(
            f"adopt({name!r}) needs the authors' files: {entry.public.by_hand or entry.source_note}"
        )
    paths = [Path(path) for path in paths]
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        raise DataError(f"There is no file or folder {absent[0]!r}: give the files that the authors publish.")
    expected = [Path(file.path).name for file in entry.public.files]
    given = {file.name for file in own_files(paths)}
    lacking = [file for file in expected if file not in given]
    # A single file may have any name; converters with a tokenizer report missing files themselves.
    if lacking and len(expected) > 1 and not entry.public.needs:
        few = ", ".join(lacking[:3]) + ", ..." * (len(lacking) > 3)
        raise DataError(
            f"{len(lacking)} of the {len(expected)} files of {name!r} are not among those given ({few}): give them all."
        )
    _convert(entry, paths)
    return locate(name, form="public")


def _sources(entry, form):
    """Ways to fill the cache, best first; each is a function without arguments."""
    base = os.environ.get("LOUPE_DATA_URL", "").rstrip("/")
    if entry.files and form != "public":
        if base:
            yield lambda: _download_all(entry.files, cache_root(), lambda file: (f"{base}/{file.path}",))
        if all(file.urls for file in entry.files):
            yield lambda: _download_all(entry.files, cache_root(), lambda file: file.urls)
    if entry.public and entry.public.files and form != "loupe":
        yield lambda: _fetch_public(entry)


def _fetch_public(entry):
    """Download the authors' form; convert it if needed."""
    public = entry.public
    if public.converter is None:
        _download_all(public.files, cache_root(), lambda file: file.urls)
        return
    _check_needs(entry)  # before the download, which may take gigabytes
    originals = cache_root() / "originals" / entry.name
    downloaded = _download_all(public.files, originals, lambda file: file.urls)
    _convert(entry, downloaded)
    # Kept if the conversion fails, so that a retry does not download 170 MB again.
    for path in downloaded:
        path.unlink(missing_ok=True)


def _download_all(files, root, urls_of):
    return [_download(file, root / file.path, urls_of(file)) for file in files]


def _download(file, target, urls):
    """Download one file with pooch, from the first address that works."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    downloader, failures = pooch.HTTPDownloader(timeout=30), []
    for url in urls:
        try:
            pooch.retrieve(url, file.digest, target.name, target.parent, downloader=downloader)
        except ValueError as error:
            if "hash" not in str(error):
                raise DataError(f"{url} is not an address that can be fetched") from error
            failures.append(f"{url} gave other bytes than the catalog's {file.digest}, which were not kept")
        except requests.exceptions.RequestException as error:
            failures.append(f"{url} did not answer as expected: {_reason(error)}")
        except OSError as error:
            raise _unwritable(target, error) from error
        else:
            return target
    raise DataError("; ".join(failures))


def _reason(error):
    """The reason of an error, without the nested text of requests."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _check_needs(entry):
    """Make sure that the package a set's converter needs is installed."""
    if entry.public.needs and importlib.util.find_spec(entry.public.needs[0]) is None:
        package, extra = entry.public.needs
        raise _CacheError(
            f"Converting {entry.name!r} needs the package {package}, which is not installed: type "
            f"`pip install {package}`, or install Loupe with its extra {extra}: `pip install '.[{extra}]'`."
        )


def _convert(entry, paths):
    """Run the converter of a set and store its result atomically."""
    from loupe.data import converters

    _check_needs(entry)
    with _converting(entry, paths):
        content = getattr(converters, entry.public.converter)(paths)
    targets = [cache_root() / output for output in entry.public.outputs]

    def write(*temporaries):
        with _converting(entry, paths):
            content(*temporaries)

    try:
        store(targets, write if callable(content) else content)
    except OSError as error:
        raise _unwritable(targets[0], error) from error


@contextlib.contextmanager
def _converting(entry, paths):
    """Turn errors from the authors' files into one sentence."""
    import lzma
    import struct
    import tarfile
    import zipfile
    import zlib

    foreign = (ValueError, LookupError, TypeError, OSError, EOFError, AttributeError)
    archive = (tarfile.TarError, zipfile.BadZipFile, struct.error, zlib.error, lzma.LZMAError)
    try:
        yield
    except (*foreign, *archive) as error:
        # A full disk is not the files' fault: the caller reports it.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DataError(
            f"{', '.join(map(str, paths[:3]))} could not be converted to {entry.name!r} ({reason}): "
            "check that they are the files that the authors publish."
        ) from error


class _CacheError(DataError):
    """An error of the cache itself: no other source can help."""


def _unwritable(target, error):
    return _CacheError(
        f"The cache {target.parent} cannot be written ({_reason(error)}): make room there or set LOUPE_CACHE "
        "to another folder."
    )


def store(targets, content):
    """Write converted files atomically, with a note of the sha256 beside each.

    Parameters
    ----------
    targets : sequence of pathlib.Path
        The files to write.
    content : dict of str to numpy.ndarray, bytes, or callable
        With one target: arrays for an ``.npz`` file, or the bytes of any other. Otherwise a function that writes to all
        target paths.
    """
    temporaries = []
    try:
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
            os.close(handle)
            temporaries.append(Path(name))
        if callable(content):
            content(*temporaries)
        else:
            _write(*temporaries, content)
        for target, temporary in zip(targets, temporaries, strict=True):
            digest = file_digest(temporary).partition(":")[2]
            # Write the note first: a file without a note looks incomplete, a note without a file is harmless.
            digest_note(target).write_text(f"{digest}  {target.name}\n", encoding="ascii")
            temporary.replace(target)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _write(path, content):
    with path.open("wb") as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            import numpy as np

            np.savez_compressed(stream, **content)
        stream.flush()
        os.fsync(stream.fileno())


def _set_aside(path):
    """Rename a damaged file so that it is not used but still there."""
    for k in range(1, 1000):
        kept = path.with_name(f"{path.name}.damaged" + (f"-{k}" if k > 1 else ""))
        if not kept.exists():
            return path.rename(kept)
    raise DataError(f"There are too many damaged copies of {path}: delete them.")
