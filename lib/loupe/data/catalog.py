"""Every data set of the book: files, digests, licence, citation and source, in one table.

Importing this module costs next to nothing, so that a command can list the table at once.
"""

from loupe.data.catalog_graphs import GRAPHS
from loupe.data.catalog_images import IMAGES
from loupe.data.catalog_motion import MOTION, POINTS, SERIES
from loupe.data.catalog_text import TEXTS

CATALOG = {entry.name: entry for entry in (*IMAGES, *TEXTS, *POINTS, *GRAPHS, *MOTION, *SERIES)}
