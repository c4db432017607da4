"""From the settings that a trial proposes to the recipe that it trains, and back."""

import dataclasses
import inspect
import re

from kdkeras import augment, choices, feeding, methods, stages
from kdkeras import recipe as recipes
from kdkeras.search import spaces

# What is done with the student afterwards, or never in a trial.
AFTERWARDS = ("control", "export", "quantize", "quantize_epochs", "quantize_learning_rate")


def applied(recipe, settings, own_weights=None):
    """The recipe with a trial's settings.

    Args:
        recipe: `kdkeras.Recipe`.
        settings: Dict from the names of a space to values.
        own_weights: Dict from methods to the weights of their terms, where `settings` has some.

    Raises:
        ValueError: The recipe cannot have the settings.
    """
    weights = {name: value for name, value in settings.items() if re.match(spaces.WEIGHT, name)}
    plain = {name: value for name, value in settings.items() if name not in weights}
    made = dataclasses.replace(recipe, **plain)
    has = inspect.signature(getattr(methods, made.method)).parameters
    for name in ("alpha", "temperature"):
        if getattr(made, name) is not None and name not in has:
            raise ValueError(f"`{name}` is not a setting of method {made.method!r}")
    augment.pipeline(feeding.augmentations(made), padding=1)  # for its checks
    if not weights:
        return made
    terms = list(own_weights[made.method])
    for name, value in weights.items():
        number = int(name.removeprefix("weight_"))
        if number > len(terms):
            raise ValueError(f"method {made.method!r} has {len(terms)} terms, and no {name}")
        terms[number - 1] = value
    return dataclasses.replace(made, term_weights=",".join(map(repr, terms)))


def refusal(recipe, settings, own_weights=None):
    """None, or why the recipe cannot have a trial's settings."""
    try:
        applied(recipe, settings, own_weights)
    except ValueError as error:
        return str(error)
    return None


def given(recipe, entries, own_weights, refused):
    """The settings of the recipe as it is, as a trial would propose them; None if outside.

    What the recipe leaves to the method is what the method's function says.
    """
    has = inspect.signature(getattr(methods, recipe.method)).parameters
    settings = {}
    for entry in entries:
        if not spaces.is_used(settings, entry, refused):
            continue
        found = re.fullmatch(spaces.WEIGHT, entry.name)
        if found:
            value = own_weights[recipe.method][int(found[1]) - 1]
        else:
            value = getattr(recipe, entry.name)
        if entry.name in ("alpha", "temperature") and value is None:
            value = has[entry.name].default
        if entry.name == "augment":
            value = feeding.augmentations(recipe)
        if entry.name == "student_width" and value is None and recipe.student == "mobilenet_v2":
            value = stages.MOBILENET_ALPHA
        if not entry.holds(value):
            return None
        settings[entry.name] = value
    return settings


def of_result(recipe):
    """The settings of a recipe on which the figures of trials depend, as a dict."""
    unimportant = {*recipes.NOT_OF_THE_RESULT, *AFTERWARDS}
    return {name: value for name, value in recipe.to_dict().items() if name not in unimportant}


def is_taught(recipe):
    """Whether a trained teacher, one for all trials, stands beside a recipe's student."""
    return recipe.method not in (*choices.WITHOUT_TEACHER, *choices.TRAIN_TOGETHER)
