"""Old public names: they still work, and each use warns with the new name."""

import warnings
from functools import wraps
from importlib import import_module


def renamed(**names):
    """A decorator that lets a function take arguments by their old names, and a class have old attributes too.

    Examples
    --------
    >>> @renamed(watch="callback")
    ... def sample(steps, callback=None):
    ...     return callback
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     sample(3, watch="see")
    'see'
    >>> str(caught[0].message)
    'sample(watch=) is now called callback: please use the new name'
    """

    def decorate(target):
        if isinstance(target, type):
            for old, new in names.items():
                setattr(target, old, _attribute(f"{target.__name__}.{old}", new))
            if "__init__" in vars(target):
                target.__init__ = decorate(target.__init__)
            return target
        shown = target.__qualname__.removesuffix(".__init__")

        @wraps(target)
        def call(*given, **named):
            for old in names.keys() & named.keys():
                _warn(f"{shown}({old}=)", names[old])
                if names[old] in named:
                    raise TypeError(
                        f"{shown} got both {names[old]}= and its old name {old}=: leave {old}= out"
                    )
                named[names[old]] = named.pop(old)
            return target(*given, **named)

        return call

    return decorate


def renamed_names(module, **names):
    """The ``__getattr__`` of a module whose names have changed, to ``"name"`` or to ``"module:name"`` elsewhere."""

    def find(name):
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].rpartition(":")
        _warn(f"{module}.{name}", names[name])
        return getattr(import_module(home or module), new)

    return find


def _attribute(shown, new):
    def read(self):
        _warn(shown, new)
        return getattr(self, new)

    return property(read)


def _warn(shown, new):
    message = f"{shown} is now called {new}: please use the new name"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
