"""kdkeras: small, accurate, robust students from big teachers, for Keras and TensorFlow.

Importing the package is silent and does not load TensorFlow; the names below load on first use. As
soon as Keras is there, the classes that its files can name are registered, so that
`keras.models.load_model` finds them whichever of the two was imported first.
"""

import importlib
import sys
import typing

import wrapt

from kdkeras import versions

if typing.TYPE_CHECKING:
    from kdkeras.distiller import Distiller
    from kdkeras.evaluation import evaluate
    from kdkeras.recipe import Recipe
    from kdkeras.repeats import run
    from kdkeras.taps import match_layers
    from kdkeras.terms import Term

__version__ = "0.1.0"

__all__ = [
    "Distiller",
    "Recipe",
    "Term",
    "augment",
    "cache",
    "callbacks",
    "certification",
    "corruptions",
    "data",
    "distribution",
    "evaluate",
    "evaluation",
    "export",
    "losses",
    "match_layers",
    "methods",
    "models",
    "perturbations",
    "quantization",
    "report",
    "robustness",
    "run",
    "runtimes",
    "search",
    "taps",
    "teachers",
    "transfer",
]

_HOMES = {
    "Distiller": "distiller",
    "Recipe": "recipe",
    "Term": "terms",
    "evaluate": "evaluation",
    "match_layers": "taps",
    "run": "repeats",
}
_WITH_REGISTERED_CLASSES = (
    "losses",
    "perturbations",
    "adapters",
    "teachers",
    "terms",
    "distiller",
    "quantization",
)


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'kdkeras' has no attribute {name!r}")
    home = f"kdkeras.{_HOMES.get(name, name)}"
    if home not in sys.modules:
        # Before Keras is loaded: an old one can fail in ways that say nothing.
        versions.check()
    module = importlib.import_module(home)
    return getattr(module, name) if name in _HOMES else module


def __dir__():
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})


def _register(keras):
    versions.check()
    # Modules of this package import one another as modules, never names out of them, so that this
    # is sound even when the first import of Keras comes from one of them.
    for module in _WITH_REGISTERED_CLASSES:
        importlib.import_module(f"kdkeras.{module}")


wrapt.register_post_import_hook(_register, "keras")
