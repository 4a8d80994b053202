"""The one door: ``load(name)``. It reads what is on this machine and never opens a connection."""

import inspect
from dataclasses import dataclass
from importlib import import_module

from loupe.data.digests import digest_fault, note_read
from loupe.data.errors import DataError
from loupe.data.places import Location, find, locate, missing_message
from loupe.data.records import DataSet


@dataclass(frozen=True)
class Source:
    """What a reader gets: the set's entry and location.

    Attributes
    ----------
    entry : DataSet
        Entry of the catalog.
    location : Location
        Where its files lie.
    """

    entry: DataSet
    location: Location

    @property
    def form(self):
        """``"loupe"``, ``"public"``, or empty if built in."""
        return self.location.form

    def path(self, ending=""):
        """Path of the file whose name ends so, after its digest has been checked.

        Parameters
        ----------
        ending : str
            End of the file's name; empty for the only file.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        DataError
            If the digest is wrong.
        """
        (path,) = [path for path in self.location.paths if path.name.endswith(ending)]
        if fault := digest_fault(self.entry, self.location, path):
            raise DataError(fault)
        note_read(path)
        return path

    def whole(self):
        """The same set outside the box, which holds only the beginning of some.

        Raises
        ------
        DataError
            If it lies nowhere else.
        """
        location = locate(self.entry.name, form="loupe", box=False)
        if location.where == "missing":
            raise DataError(missing_message(self.entry, "loupe"))
        return Source(self.entry, location)


def load(name, *, form=None, **options):
    """Load a data set from a dependency, the checkout's folder ``data``, the mirror ``LOUPE_DATA``, or the cache.

    Parameters
    ----------
    name : str
        Name in ``loupe.data.CATALOG``.
    form : {None, "loupe", "public"}
        Insist on Loupe's own files or on the authors' form; None takes the first found of box, mirror, cache, and
        the cache's public form. It matters for ``cifar10`` (JPEG copy or lossless), ``cora`` and
        ``pubmed_partial`` (node order and split).
    **options
        Options of the set's kind:

        - images: ``digits`` takes ``test`` (number of test images, 360) and ``seed`` (0); ``cifar10`` takes
          ``train`` and ``test`` (how many images to decode, from the start of each part; None for all);
        - text in 27 symbols: ``split`` (``"train"``, ``"valid"``, ``"test"``, if it has parts) and
          ``characters`` (how many to read from the start; None for all);
        - text in words: ``split`` (``"valid"``, ``"test"``);
        - text in token blocks: ``split`` (``"train"``, ``"test"`` for ``lm1b``; ``"train"``, ``"valid"`` for
          ``openwebtext``; ``"test"`` for ``lambada``).

    Returns
    -------
    Images, Characters, Graph, Molecule, Motion, Series, Text, Words, PackedText, dict of str to Points, or
    dict of str to Scene
        See the modules of each kind.

    Raises
    ------
    DataError
        For an unknown name, form or option, a set that is missing, or a file with the wrong digest.

    Examples
    --------
    >>> import loupe.data
    >>> loupe.data.load("digits").x_train.shape
    (1437, 8, 8)
    """
    entry = find(name)
    module, _, function = entry.reader.partition(":")
    reader = getattr(import_module(f"loupe.data.{module}"), function)
    accepted = [option for option in inspect.signature(reader).parameters if option != "source"]
    unknown = [option for option in options if option not in accepted]
    if unknown:
        known = f"its options are {', '.join(accepted)}." if accepted else "it has no options."
        raise DataError(f"The data set {name!r} has no option {unknown[0]!r}: {known}")
    location = locate(name, form=form)
    if location.where == "missing":
        raise DataError(missing_message(entry, form))
    return reader(Source(entry, location), **options)
