"""One view of each picture, determined by (seed, id, view); and how an augmentation is described.

A description is plain JSON; a cache of a teacher's targets keeps it, to make the same views again.
"""

from kdkeras import randomness
from kdkeras.augment import pipelines, shifts

# To be raised whenever the same description, seed, id and view come to give another picture.
VERSION = 1
KINDS = ("every_shift", "pipeline")


def viewed(images, labels, ids, views, *, seed, augment):
    """The given view of each picture.

    Args:
        images: float32 tensor of shape `(batch, height, width, channels)`.
        labels: Their labels.
        ids: int64 tensor of shape `(batch,)`.
        views: int64 tensor of shape `(batch,)`.
        seed: Integer.
        augment: None, an `EveryShift`, or a callable `(images, labels, keys) -> (images, labels)`.

    Returns:
        images: float32 tensor of the same shape.
        labels: The labels, which mixup changes.
    """
    if augment is None:
        return images, labels
    if isinstance(augment, shifts.EveryShift):
        return augment.at(images, views), labels
    if not callable(augment):
        raise ValueError(
            "`augment` must be None, an EveryShift or a callable (images, labels, keys). "
            f"Received: augment={augment!r}"
        )
    return augment(images, labels, randomness.keys(seed, ids, views))


def described(augment):
    """An augmentation as plain JSON.

    Args:
        augment: None, an `EveryShift` or a `Pipeline`.

    Raises:
        ValueError: It is another callable, or it mixes pictures of a batch (mixup): then (seed,
            id, view) does not tell what a picture looks like.

    Example:

    >>> kdkeras.augment.described(kdkeras.augment.EveryShift(padding=1))
    {'kind': 'every_shift', 'padding': 1, 'flip': True}
    """
    if augment is None:
        return None
    if isinstance(augment, shifts.EveryShift):
        return {"kind": "every_shift", "padding": augment.padding, "flip": augment.flip}
    if not isinstance(augment, pipelines.Pipeline):
        raise ValueError(
            "An augmentation can be recorded if it is None, `kdkeras.augment.pipeline(...)` or "
            f"`kdkeras.augment.EveryShift(...)`. Received: {augment!r}"
        )
    if "mixup" in augment.names:
        raise ValueError(
            "Mixup mixes what a batch happens to hold, so that a picture is not determined by its "
            f"seed, id and view, and cannot be recorded. Received: {','.join(augment.names)!r}. "
            "Leave mixup out, or let the teacher run in the training step."
        )
    of_names = {key for name in augment.names for key in pipelines.SETTINGS[name]}
    settings = {key: augment.settings[key] for key in sorted(of_names)}
    return {"kind": "pipeline", "names": augment.names, **settings}


def from_description(description):
    """The augmentation that `described` described.

    Args:
        description: What `described` gave: None, or a dict.

    Returns:
        None, an `EveryShift` or a `Pipeline`.

    Example:

    >>> kdkeras.augment.from_description({"kind": "every_shift", "padding": 1, "flip": True}).count
    18
    """
    if description is None:
        return None
    if not isinstance(description, dict) or description.get("kind") not in KINDS:
        raise ValueError(
            f"`description` must be what `described` gave. Received: description={description!r}"
        )
    settings = dict(description)
    kind = settings.pop("kind")
    if kind == "every_shift":
        return shifts.EveryShift(**settings)
    return pipelines.pipeline(",".join(settings.pop("names")), **settings)
