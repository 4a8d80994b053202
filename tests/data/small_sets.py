"""What the tests of loupe.data share: small sets and archives, what lies in a folder, and refusals."""

import hashlib
import io
import tarfile

import pytest

from loupe.data import CATALOG, DataError, DataFile, DataSet
from loupe.data.door import READERS


def refused(words, act, *given, error=DataError, **options):
    """Make sure that a call is refused in these words."""
    with pytest.raises(error, match=words):
        act(*given, **options)


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def put(folder, contents):
    """Write files by their names, and return the path of the last."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def small_file(path, content, *urls, algorithm="sha256"):
    return DataFile(path, f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}", len(content), urls)


def enter(monkeypatch, name, files=(), public=None):
    """Enter a small text in 27 symbols into the catalog."""
    entry = DataSet(name, "T", "text", "-", "-", "https://example.org", "A note.", (), files, public)
    monkeypatch.setitem(CATALOG, name, entry)
    monkeypatch.setitem(READERS, name, "text:zero_shot")


def tar(members, mode="w:gz"):
    """A tar archive of these contents by name, as bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()
