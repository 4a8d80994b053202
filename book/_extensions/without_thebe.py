"""Keep sphinx-thebe, which jupyter-book always loads, out of the pages.

It names a script on another host in every page and, with this version of Sphinx, declares a constant twice, which
browsers report as an error. Its static files stay: its style sheet is linked before this module is asked.
"""


def setup(app):
    """Disconnect what sphinx-thebe does to pages."""
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if (
                listener.handler.__module__ == "sphinx_thebe"
                and listener.handler.__name__ != "st_static_path"
            ):
                listeners.remove(listener)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
