"""Teachers that are files: loaded, and found fit for the data."""

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
