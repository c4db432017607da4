"""MobileNetV2, with strides for small images."""

import keras

from kdkeras import arguments
from kdkeras.models import ends

IMAGENET_SIZES = (96, 128, 160, 192, 224)
# Two of the five strided convolutions, which small images cannot afford: /8 in total, not /32.
SMALL_STRIDES = ("Conv1", "block_1_depthwise")


def mobilenet_v2(
    *,
    input_shape,
    num_classes,
    alpha=1.0,
    weights=None,
    strides="auto",
    batchnorm_momentum=None,
    dropout=0.0,
    name=None,
):
    """MobileNetV2, from pixels to logits, with the layers and names of `keras.applications`.

    Inverted residual blocks: 1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection. With
    small-image strides the stem and `block_1` keep the resolution, so that the network divides it
    by 8 rather than by 32.

    Args:
        input_shape: (height, width, channels); at least 8 pixels a side, 32 with stock strides.
        num_classes: Number of logits, at least 2.
        alpha: Width multiplier, above 0.
        weights: None, "imagenet" (downloads; 3 channels, alpha 0.35, 0.5, 0.75, 1, 1.3 or 1.4), or
            the path of a weights file of `keras.applications.MobileNetV2(include_top=False)`. They
            fit either kind of strides; the logits layer starts at random.
        strides: "small" (/8), "stock" (/32), or "auto": small below 96 pixels.
        batchnorm_momentum: Momentum of the moving statistics, in [0, 1). Defaults to the 0.999 of
            `keras.applications` for stock strides at 96 pixels and above, else to 0.9: at 0.999
            they lag a thousand steps behind.
        dropout: Rate of dropout before the logits, in [0, 1).
        name: Name of the model. Defaults to `mobilenet_v2`.

    Returns:
        A `keras.Model` from float32 images in [0, 1] to logits of shape (batch, num_classes).

    Raises:
        ValueError: For an argument out of its range.

    Example:

    >>> student = mobilenet_v2(input_shape=(32, 32, 3), num_classes=10, alpha=0.35)
    >>> student.count_params()
    423018

    Reference: Sandler et al. 2018, MobileNetV2, https://arxiv.org/abs/1801.04381
    """
    arguments.one_of("strides", strides, ("auto", "small", "stock"))
    large = min(ends.image_shape(input_shape, smallest=8)[:2]) >= 96
    small = strides == "small" or (strides == "auto" and not large)
    input_shape = ends.image_shape(input_shape, smallest=8 if small else 32)
    ends.check_num_classes(num_classes)
    arguments.positive("alpha", alpha)
    if weights == "imagenet" and input_shape[-1] != 3:
        raise ValueError(
            "`input_shape` must have 3 channels with weights='imagenet'. "
            f"Received: input_shape={input_shape}. Repeat the channel, or pass weights=None."
        )
    if batchnorm_momentum is None and (small or not large):
        batchnorm_momentum = 0.9
    ends.check_rates(dropout=dropout, batchnorm_momentum=batchnorm_momentum or 0.0)

    stock = keras.applications.MobileNetV2(
        input_shape=_stock_shape(input_shape, weights),
        alpha=alpha,
        include_top=False,
        weights=weights,
    )
    inputs = keras.Input(input_shape, name="image")

    def adapt(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization) and batchnorm_momentum is not None:
            config["momentum"] = batchnorm_momentum
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            # "same" pads as the layers before the strided convolutions do, for odd sizes too, in
            # one operation.
            config |= {"padding": "same", "depthwise_initializer": ends.depthwise_initializer()}
        elif isinstance(layer, keras.layers.Conv2D):
            config["kernel_initializer"] = "he_normal"
        if small and layer.name in SMALL_STRIDES:
            config["strides"] = 1
        return type(layer).from_config(config)

    def call(layer, x, **kwargs):
        if isinstance(layer, keras.layers.ZeroPadding2D):
            return x
        return layer(ends.normalize_pixels(x) if x is inputs else x, **kwargs)

    backbone = keras.models.clone_model(
        stock, input_tensors=inputs, clone_function=adapt, call_function=call
    )
    if weights is not None:
        for layer in stock.layers:
            if layer.weights:
                backbone.get_layer(layer.name).set_weights(layer.get_weights())
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, ends.logits_output(x, num_classes), name=name or "mobilenet_v2")


def _stock_shape(input_shape, weights):
    """The input shape to ask `keras.applications` for, on which its weights depend."""
    height, width, channels = input_shape
    if weights is None:
        return (None, None, 3)  # only its layers' settings are used
    if weights != "imagenet":
        return (None, None, channels)
    return input_shape if height == width and height in IMAGENET_SIZES else (224, 224, 3)
