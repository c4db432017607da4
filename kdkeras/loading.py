"""Models that are files: teachers, found fit for the data, and what a run goes on with."""

from kdkeras import archives, intact, runtimes
from kdkeras.callbacks import causes


def load(path, role, splits):
    """A teacher from its `.keras` file, found fit for the data.

    Raises:
        ValueError: It cannot be loaded, holds code or NaN, or does not fit; or `role` is "student".
    """
    if role == "student":
        raise ValueError(
            "`student` must be an architecture, for it is trained from scratch. "
            f"Received: student={path!r}"
        )
    model = archives.model(path, role)
    intact.check(path)
    model = runtimes.graph(model, path)
    shape, classes = tuple(model.input_shape[1:]), model.output_shape[-1]
    if shape != splits.input_shape or classes != splits.num_classes:
        raise ValueError(
            f"`{role}` must take images of shape {splits.input_shape} and give "
            f"{splits.num_classes} classes, as the dataset {splits.name!r} has them. Received: "
            f"'{path}' with input shape {shape} and {classes} classes. A teacher of other classes "
            "can be made ready with kdkeras.transfer."
        )
    spoilt = causes.broken(model)
    if spoilt:
        raise ValueError(
            f"`{role}` must have weights that are numbers. Received: '{path}' with NaN in "
            f"{causes.named(spoilt)}. It has nothing to teach: take another file of it, or train "
            "it again."
        )
    return model


def restore(model, path):
    """Gives a model the weights of a file that a run wrote of it.

    Raises:
        ValueError: The file holds a model of other weights, or cannot be read.
    """
    stored = archives.model(path).get_weights()
    shapes = [[weights.shape for weights in of] for of in (stored, model.get_weights())]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"'{path}' is not the model that the settings ask for: its weights have other shapes. "
            "Bring the run's recipe.json back from a copy, or begin anew with `overwrite`."
        )
    model.set_weights(stored)
