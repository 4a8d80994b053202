"""``load(name)``: reads files on this machine and never opens a connection."""

import inspect
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from loupe.data.catalog import CATALOG, DataError, DataFile, DataSet
from loupe.data.places import (
    Location,
    cache_root,
    digest_fault,
    find,
    loaded,
    locate,
    mirror_root,
    missing_message,
    note_read,
)

# The reader of each set. The table is here and not in the catalog, so that a reader counts as code of the experiments
# that load the set by name.
READERS = {
    "mnist": "images:mnist",
    "cifar10": "images:cifar10",
    "digits": "images:digits",
    "omniglot_small": "images:omniglot",
    "novels27": "text:novels",
    "text8": "text:text8",
    "lm1b": "token_blocks:lm1b",
    "openwebtext": "token_blocks:openwebtext",
    "lambada": "token_blocks:lambada",
    "zs_wikitext2": "text:zero_shot",
    "zs_ptb": "text:zero_shot",
    "zs_shakespeare": "text:zero_shot",
    "zs_state_union": "text:zero_shot",
    "wikitext2": "text:words",
    "ptb": "text:words",
    "cpython_topics": "text:topics",
    "earth": "trajectories:earth",
    "cora": "graphs:graph",
    "disease_lp": "graphs:graph",
    "airport": "graphs:graph",
    "disease_nc_structure": "graphs:graph",
    "pubmed_partial": "graphs:graph",
    "ethanol": "trajectories:molecule",
    "aspirin": "trajectories:molecule",
    "malonaldehyde": "trajectories:molecule",
    "cmu09_run": "trajectories:motion",
    "cmu35_walk": "trajectories:motion",
    "eth_ucy": "trajectories:pedestrians",
    "japanesevowels": "trajectories:series",
    "basicmotions": "trajectories:series",
}


@dataclass(frozen=True)
class Source:
    """The argument of a reader: the set's entry and location.

    Attributes
    ----------
    entry : DataSet
        Entry of the catalog.
    location : Location
        Where its files are.
    """

    entry: DataSet
    location: Location

    @property
    def form(self):
        """``"loupe"``, ``"public"``, or empty if built in."""
        return self.location.form

    def path(self, ending=""):
        """Path of the file with this ending, after its digest is checked.

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
        """The same set outside the folder ``data``, which holds only the beginning of some.

        Raises
        ------
        DataError
            If it is nowhere else.
        """
        location = locate(self.entry.name, form="loupe", box=False)
        if location.where == "missing":
            raise DataError(missing_message(self.entry, "loupe"))
        return Source(self.entry, location)


def load(name, *, form=None, **options):
    """Load a dataset from a dependency, the checkout's folder ``data``, the mirror ``LOUPE_DATA``, or the cache.

    Parameters
    ----------
    name : str
        Name in ``loupe.data.CATALOG``.
    form : {None, "loupe", "public"}
        Require Loupe's own files or the authors' form; None takes the first of ``data``, mirror, cache, and the cache's
        public form. It matters for ``cifar10`` (JPEG copy or lossless), ``cora`` and ``pubmed_partial`` (node order and
        split).
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
    module, _, function = READERS[name].partition(":")
    reader = getattr(import_module(f"loupe.data.{module}"), function)
    accepted = [option for option in inspect.signature(reader).parameters if option != "source"]
    unknown = [option for option in options if option not in accepted]
    if unknown:
        known = f"its options are {', '.join(accepted)}." if accepted else "it has no options."
        raise DataError(f"The data set {name!r} has no option {unknown[0]!r}: {known}")
    location = locate(name, form=form)
    if location.where == "missing":
        raise DataError(missing_message(entry, form))
    loaded.add(name)
    return reader(Source(entry, location), **options)


def read_arrays(path):
    """All arrays of an ``.npz`` file, never a pickled object.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict of str to numpy.ndarray
    """
    import numpy as np  # the catalog is listed and checked without it

    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


# --- the whole catalog, or one set of it, checked file by file ----------------------------------------------


@dataclass(frozen=True)
class FileCheck:
    """Outcome of one file of :func:`verify`.

    Attributes
    ----------
    name, file : str
        The dataset and its ``FOLDER/FILE`` (empty if built in).
    where : str
        ``"built in"``, ``"box"``, ``"mirror"``, ``"cache"`` or ``"missing"``.
    path : pathlib.Path or None
        The checked file.
    outcome : str
        ``"ok"``, ``"wrong digest"`` or ``"missing"``.
    detail : str
        One sentence that says what to do; empty if ok.
    """

    name: str
    file: str
    where: str
    path: Path | None
    outcome: str
    detail: str = ""


def verify(name=None):
    """Recompute the digests of all files present.

    Parameters
    ----------
    name : str, optional
        One dataset; None for the whole catalog.

    Yields
    ------
    FileCheck
        One for each file, as soon as it has been read.

    Raises
    ------
    DataError
        For an unknown name, or if ``LOUPE_DATA`` is not a folder.
    """
    for entry in CATALOG.values() if name is None else (find(name),):
        location = locate(entry.name)
        if location.where == "built in":
            yield FileCheck(entry.name, "", "built in", None, "ok")
        elif location.where == "missing":
            yield from _absent(entry)
        yield from (_compared(entry, location, path) for path in location.paths)


def _compared(entry, location, path):
    fault = digest_fault(entry, location, path, fresh=True)
    file = f"{path.parent.name}/{path.name}"
    return FileCheck(entry.name, file, location.where, path, "wrong digest" if fault else "ok", fault)


def _absent(entry):
    """Checks of a set that is not complete anywhere: report missing files, check the others."""
    roots = [("mirror", mirror_root()), ("cache", cache_root())]
    # For a public form check the converted files: the originals are not kept.
    for file in entry.files or [DataFile(output) for output in entry.public.outputs]:
        found = [(where, root / file.path) for where, root in roots if root and (root / file.path).is_file()]
        if found:
            where, path = found[0]
            yield _compared(entry, Location(entry.name, where), path)
        else:
            yield FileCheck(entry.name, file.path, "missing", None, "missing", missing_message(entry))
