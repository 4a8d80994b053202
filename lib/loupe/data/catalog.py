"""The catalog of datasets; its entries are in ``catalog.toml`` beside this file.

This module is cheap to import, so that commands can list the table at once.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from loupe.deprecation import renamed
from loupe.errors import LoupeError


class DataError(LoupeError):
    """A dataset is unknown, missing, damaged or unreachable; the message says what to type."""


@dataclass(frozen=True)
class DataFile:
    """One file, in a mirror folder, in the cache or at a public address.

    Attributes
    ----------
    path : str
        ``FOLDER/FILE``, the layout shared by mirror folders and the cache.
    digest : str or None
        ``"sha256:..."`` or ``"md5:..."``. None if no digest is known; the set's ``source_note`` says why.
    size : int or None
        Bytes; None where unknown.
    urls : tuple of str
        Public addresses that serve exactly these bytes.
    """

    path: str
    digest: str | None = None
    size: int | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublicForm:
    """The authors' published form of the data, and how to convert it to a file that we read.

    Attributes
    ----------
    files : tuple of DataFile
        The files to download. Empty if no address is reliable; then ``by_hand`` says what to get.
    output : str
        ``FOLDER/FILE`` of the file that is read; one of `files` if no conversion is needed.
    converter : str or None
        Name of a function of :mod:`loupe.data.converters`; None when `output` is read as published.
    by_hand : str
        What to download by hand and give to :func:`loupe.data.adopt`.
    also : tuple of str
        ``FOLDER/FILE`` of further files that the converter writes together with `output`.
    needs : tuple of str
        A package that the converter imports, and the extra of Loupe that installs it; empty if none.
    """

    files: tuple[DataFile, ...]
    output: str
    converter: str | None = None
    by_hand: str = ""
    also: tuple[str, ...] = ()
    needs: tuple[str, str] | tuple[()] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """``FOLDER/FILE`` of all files that are read."""
        return (self.output, *self.also)


@renamed(licence="license")
@dataclass(frozen=True)
class DataSet:
    """One entry of the catalog.

    Attributes
    ----------
    name, title : str
        The name for :func:`loupe.data.load`, and the full name.
    kind : str
        ``"images"``, ``"graph"``, ``"points"``, ``"trajectories"``, ``"series"``, ``"text"``.
    files : tuple of DataFile
        Loupe's own form, as in a mirror folder; empty if there is only a public form, or nothing to fetch.
    public : PublicForm or None
        The authors' form.
    license, citation, homepage : str
        Terms, whom to cite, and where the data come from.
    source_note : str
        How our form was made, what differs from the authors' form, and how someone with a network gets it.
    used_by : tuple of str
        Slugs of the chapters that use it.
    built_in : bool
        True when it ships with Python or a dependency.
    in_box : bool or tuple of DataFile
        Whether the checkout's folder ``data`` holds the set; the files there, if they differ from `files`.
    """

    name: str
    title: str
    kind: str
    license: str
    citation: str
    homepage: str
    source_note: str
    used_by: tuple[str, ...]
    files: tuple[DataFile, ...] = ()
    public: PublicForm | None = None
    built_in: bool = False
    in_box: bool | tuple[DataFile, ...] = False

    @property
    def boxed(self) -> tuple[DataFile, ...]:
        """The files in the checkout's folder ``data``: the catalog's own, or smaller ones; often none."""
        return (self.files if self.in_box else ()) if isinstance(self.in_box, bool) else self.in_box

    @property
    def every_file(self) -> tuple[DataFile, ...]:
        """The files of all forms: our own, the authors', and those in the folder ``data``."""
        return (*self.files, *(self.public.files if self.public else ()), *self.boxed)

    @property
    def size(self) -> int | None:
        """Bytes of Loupe's own files, or else of the authors'; None if unknown."""
        files = self.files or (self.public.files if self.public else ())
        return sum(file.size for file in files) if files and all(file.size for file in files) else None


def _files(listed):
    return tuple(DataFile(**{**file, "urls": tuple(file.get("urls", ()))}) for file in listed)


def _entry(name, fields):
    """A table of ``catalog.toml`` as a record, with lists as tuples."""
    public, box = fields.pop("public", None), fields.pop("in_box", False)
    if public is not None:
        lists = {key: tuple(public.pop(key, ())) for key in ("also", "needs")}
        public = PublicForm(**{**public, **lists, "files": _files(public.get("files", ()))})
    fields |= {"files": _files(fields.get("files", ())), "used_by": tuple(fields["used_by"])}
    return DataSet(name, public=public, in_box=box if isinstance(box, bool) else _files(box), **fields)


def _read():
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {name: _entry(name, fields) for name, fields in tables.items()}


CATALOG = _read()
