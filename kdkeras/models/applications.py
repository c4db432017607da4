"""Classifiers of `keras.applications`, fed pixels in [0, 1] and returning logits."""

import keras

from kdkeras import arguments
from kdkeras.models import ends

# What each family's ImageNet weights expect, in the terms of
# keras.applications.imagenet_utils.preprocess_input; the last group has its preprocessing inside
# and expects pixels in [0, 255].
TF = (
    *("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "NASNetLarge"),
    *("NASNetMobile", "ResNet101V2", "ResNet152V2", "ResNet50V2", "Xception"),
)
CAFFE = ("ResNet101", "ResNet152", "ResNet50", "VGG16", "VGG19")
TORCH = ("DenseNet121", "DenseNet169", "DenseNet201")
PIXELS = (
    *(f"ConvNeXt{size}" for size in ("Base", "Large", "Small", "Tiny", "XLarge")),
    *(f"EfficientNetB{i}" for i in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("MobileNetV3Large", "MobileNetV3Small"),
)
NAMES = tuple(sorted(TF + CAFFE + TORCH + PIXELS))

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_STDDEV = (0.229, 0.224, 0.225)


def application(name, *, input_shape, num_classes, weights=None):
    """A classifier of `keras.applications` by its class name, from pixels in [0, 1] to logits.

    Its family's `preprocess_input` is built in as layers, in front of the backbone; behind it come
    average pooling and a fresh logits layer. With ImageNet weights and 1000 classes the model keeps
    its trained head.

    Args:
        name: Class name, such as "EfficientNetB0", "ResNet50" or "MobileNetV3Small".
        input_shape: (height, width, 3). Each class has its smallest size, 32 to 75 pixels.
        num_classes: Number of logits, at least 2.
        weights: None, "imagenet" (downloads), or the path of a weights file of the class with
            `include_top=False`.

    Returns:
        A `keras.Model` from float32 images in [0, 1] to logits of shape (batch, num_classes), named
        as the class.

    Raises:
        ValueError: For an unknown name, or an argument out of its range.

    Example:

    >>> teacher = application("EfficientNetB0", input_shape=(224, 224, 3), num_classes=10)

    Reference: https://keras.io/api/applications/
    """
    arguments.one_of("name", name, NAMES)
    input_shape = ends.image_shape(input_shape, smallest=1)
    ends.check_num_classes(num_classes)
    if input_shape[-1] != 3:
        raise ValueError(
            "`input_shape` must have 3 channels (RGB) for a model of keras.applications. "
            f"Received: input_shape={input_shape}. Repeat the channel, or take an architecture of "
            "kdkeras."
        )
    inputs = keras.Input(input_shape, name="image")
    trained_head = weights == "imagenet" and num_classes == 1000
    head = {"classifier_activation": None} if trained_head else {"pooling": "avg"}
    model = getattr(keras.applications, name)(
        input_tensor=preprocess(inputs, name),
        input_shape=input_shape,
        include_top=trained_head,
        weights=weights,
        **head,
    )
    if trained_head:
        outputs = keras.layers.Activation("linear", dtype="float32", name="logits")(model.output)
    else:
        outputs = ends.logits_output(model.output, num_classes)
    return keras.Model(inputs, outputs, name=name)


def preprocess(pixels, name):
    """Pixels in [0, 1] to what the class's ImageNet weights expect."""
    scale, offset = 255.0, 0.0
    if name in TF:
        return ends.normalize_pixels(pixels)
    if name in CAFFE:
        pixels = keras.ops.flip(pixels, axis=-1)  # RGB to BGR
        offset = [-mean for mean in CAFFE_MEAN_BGR]
    elif name in TORCH:
        scale = [1.0 / stddev for stddev in TORCH_STDDEV]
        offset = [-mean / stddev for mean, stddev in zip(TORCH_MEAN, TORCH_STDDEV, strict=True)]
    return keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="normalize_pixels")(
        pixels
    )
