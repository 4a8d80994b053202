"""The words of a published chapter, for tests that what they say follows from the stored results."""

import json
from functools import cache

from loupe.experiment.folders import project_root


@cache
def prose(slug: str) -> str:
    """All paragraphs of a notebook in one line, without marks of emphasis."""
    cells = json.loads((project_root() / "notebooks" / f"{slug}.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return " ".join(text.replace("*", "").split())
