"""Additions to a chapter on the site: description for search engines, citation, and buttons that need an address."""

from pathlib import Path
from typing import Any

import yaml

from loupe import __version__
from loupe.papers import Paper

_META = """```{{eval-rst}}
.. meta::
   :description: {about}
   :keywords: {short}, {title}, {keywords}
   :property=og\\:title: {short}: {question}
   :property=og\\:description: {about}
   :property=og\\:image: {base}_static/thumbnails/{slug}.png
```"""

_CITE = """<details><summary>Cite this chapter</summary>

{author}. *{short}: {question}* In *{book}*, version {version}, {year}. And the paper itself: {authors}. *{title}*. {venue}.

```bibtex
@incollection{{loupe_{slug},
  author = {{{{{author}}}}},
  title = {{{short}: {question}}},
  booktitle = {{{book}}},
  year = {{{year}}},
  note = {{version {version}{address}}},
}}
```

</details>"""


def add_extras(notebook, paper: Paper, book: dict[str, Any]) -> None:
    """Add a chapter's description after its title, and how to cite it at its end.

    Parameters
    ----------
    notebook
        The executed notebook, changed in place.
    paper
        The chapter's paper.
    book
        The content of ``_config.yml``.
    """
    import nbformat

    base = book["html"].get("baseurl", "").rstrip("/")
    page = f"{base}/notebooks/{paper.slug}.html"
    words = vars(paper) | {
        "base": f"{base}/" if base else "../",
        "address": f", {page}" if base else "",
        "author": book["author"],
        "book": book["title"],
        "year": book["copyright"],
        "version": __version__,
    }
    cells = [nbformat.v4.new_markdown_cell(text.format_map(words)) for text in (_META, _CITE)]
    notebook.cells[1:1] = cells[:1]
    notebook.cells += cells[1:]


def with_buttons(config: Path) -> dict[str, Any]:
    """Read the copied ``_config.yml``, with buttons for Colab, Binder and the source if it has an address.

    Returns
    -------
    dict
        The content.
    """
    book = yaml.safe_load(config.read_text(encoding="utf-8"))
    if book.get("repository", {}).get("url"):
        book["launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }
        options = book["sphinx"]["config"]["html_theme_options"]
        options |= {"use_source_button": True, "use_repository_button": True}
        config.write_text(yaml.safe_dump(book, allow_unicode=True), encoding="utf-8")
    return book
