"""Models by the name of their architecture, for commands and recipes."""

from kdkeras import arguments
from kdkeras.models import applications, ends, mobile, perceptron, residual, shuffle

OWN = (*(f"resnet{depth}" for depth in residual.DEPTHS), "mobilenet_v2", "shufflenet_v2", "mlp")


def architectures():
    """The names that `build` takes: kdkeras's own, then the classes of `keras.applications`."""
    return OWN + applications.NAMES


def build(name, *, input_shape, num_classes, width=None, weights=None):
    """A model by the name of its architecture.

    Letter case counts: "resnet50" has a CIFAR stem, "ResNet50" is the one of `keras.applications`.

    Args:
        name: One of `architectures()`.
        input_shape: (height, width, channels), or (features,) for "mlp".
        num_classes: Number of logits, at least 2.
        width: What the architecture calls its width: the first stage's channels ("resnet..."), the
            multiplier ("mobilenet_v2", "shufflenet_v2"), or the units of each hidden layer ("mlp").
            None for its default, and for the models of `keras.applications`, which take none.
        weights: None; "imagenet" or the path of a backbone's weights for "mobilenet_v2" and the
            models of `keras.applications` (see there); the path of the whole model's weights file
            for the others.

    Returns:
        A `keras.Model` from float32 images in [0, 1], or features, to logits of shape (batch,
        num_classes).

    Raises:
        ValueError: For an unknown name, or an argument that the architecture does not take.

    Example:

    >>> teacher = build("resnet20", input_shape=(32, 32, 3), num_classes=10)
    >>> student = build("mobilenet_v2", input_shape=(32, 32, 3), num_classes=10, width=0.35)
    """
    arguments.one_of("name", name, architectures())
    common = {"input_shape": input_shape, "num_classes": num_classes}
    if name in applications.NAMES:
        if width is not None:
            raise ValueError(
                f"`width` must be None for {name!r}, which has one width. Received: width={width!r}"
            )
        return applications.application(name, **common, weights=weights)
    if name == "mobilenet_v2":
        return mobile.mobilenet_v2(**common, alpha=1.0 if width is None else width, weights=weights)

    if weights == "imagenet":
        raise ValueError(
            f"`weights` must be None or the path of a weights file for {name!r}. "
            "Received: weights='imagenet'. Take 'mobilenet_v2' or a class of keras.applications, "
            "such as 'ResNet50', for weights trained on ImageNet."
        )
    if name == "shufflenet_v2":
        model = shuffle.shufflenet_v2(**common, width=1.0 if width is None else width)
    elif name == "mlp":
        if width is not None and not ends.is_count(width):
            raise ValueError(
                f"`width` must be a positive integer for 'mlp'. Received: width={width!r}"
            )
        model = perceptron.mlp(**common, **({} if width is None else {"hidden": (width, width)}))
    else:
        model = residual.resnet(int(name.removeprefix("resnet")), **common, width=width)
    if weights is not None:
        model.load_weights(weights)
    return model
