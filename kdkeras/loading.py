"""Teachers that are files: loaded, and found fit for the data."""

from kdkeras import archives, runtimes


def load(path, role, splits):
    """A teacher from its `.keras` file, found fit for the data.

    Raises:
        ValueError: It cannot be loaded, holds code, or does not fit; or `role` is not "teacher".
    """
    if role == "student":
        raise ValueError(
            "`student` must be an architecture, for it is trained from scratch. "
            f"Received: student={path!r}"
        )
    model = runtimes.graph(archives.model(path, role), path)
    shape, classes = tuple(model.input_shape[1:]), model.output_shape[-1]
    if shape != splits.input_shape or classes != splits.num_classes:
        raise ValueError(
            f"`{role}` must take images of shape {splits.input_shape} and give "
            f"{splits.num_classes} classes, as the dataset {splits.name!r} has them. Received: "
            f"'{path}' with input shape {shape} and {classes} classes. A teacher of other classes "
            "can be made ready with kdkeras.transfer."
        )
    return model
