"""Keras layers that round as an int8 file does; in float32, whatever the dtype policy."""

import keras
import tensorflow as tf

from kdkeras.quantization import rounding

# The least part of its first width that a range keeps in training.
SMALLEST_WIDTH = 1e-3


@keras.saving.register_keras_serializable("kdkeras")
class FakeQuantize(keras.layers.Layer):
    """Rounds activations to 256 values between `low` and `high`, which training moves.

    Called on a tensor, it gives the rounded tensor and the step between two values
    (`kdkeras.quantization.rounding.activations`). Always `low <= 0 <= high`. Called with `parts`,
    what the tensor is a sum of, it rounds as XNNPACK does: with `(unit,)`, multiples of a unit
    (`rounding.sums`); with `(x, x_step, y, y_step)`, `x + y` (`rounding.addition`). The gradient is
    the same.

    Args:
        low: First lower end of the range, at most 0.
        high: First upper end, at least 0, above `low`.
        fixed: Whether the range stays as it is.
        plain: Whether `parts` are ignored, for the converter to TFLite.
        **kwargs: Those of `keras.layers.Layer`.

    Raises:
        ValueError: A range without zero, or without width.

    Example:

    >>> rounded, step = FakeQuantize(0.0, 6.0)(x)
    """

    def __init__(self, low, high, *, fixed=False, plain=False, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not low <= 0.0 <= high or not low < high:
            raise ValueError(
                "`low` and `high` must be a range with zero in it. "
                f"Received: low={low!r}, high={high!r}. Widen it to zero."
            )
        self.first, self.fixed, self.plain = (float(low), float(high)), bool(fixed), bool(plain)

    def build(self, inputs_shape, parts_shape=None):
        low, high = self.first
        if self.fixed:
            self.low, self.high = low, high
            return
        least = SMALLEST_WIDTH * (high - low)
        self.low = self._end("range_low", low, lambda end: tf.minimum(end, 0.0))
        self.high = self._end("range_high", high, lambda end: tf.maximum(end, least))

    def _end(self, name, value, constraint):
        initializer = keras.initializers.Constant(value)
        return self.add_weight(name=name, initializer=initializer, constraint=constraint)

    def call(self, inputs, parts=()):
        low, high = tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)
        rounded, step = rounding.activations(inputs, low, high)
        if self.plain or not parts:
            return rounded, step
        if len(parts) == 4:
            found = rounding.addition(*parts, low, high)
        else:
            found = rounding.sums(inputs, *parts, low, high)
        return rounded + tf.stop_gradient(found - rounded), step

    def get_config(self):
        low, high = self.first
        own = {"low": low, "high": high, "fixed": self.fixed, "plain": self.plain}
        return {**super().get_config(), **own}


class _Quantized:
    """A layer with a kernel and a bias, called on a rounded tensor and its step.

    It gives its output and the unit that this is a multiple of, a number or one a channel.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "dtype": "float32"})

    def build(self, inputs_shape, step_shape):
        super().build(inputs_shape)

    def compute_output_spec(self, inputs, step):
        shape = super().compute_output_shape(inputs.shape)
        units = () if isinstance(self, keras.layers.Dense) else shape[-1:]
        return tuple(keras.KerasTensor(size, dtype="float32") for size in (shape, units))


@keras.saving.register_keras_serializable("kdkeras")
class QuantizedConv2D(_Quantized, keras.layers.Conv2D):
    """A `keras.layers.Conv2D` with an int8 kernel, each filter of its own range."""

    def call(self, inputs, step):
        kernel, bias, units = rounding.weights(self.kernel, self.bias, step)
        return self.activation(self.convolution_op(inputs, kernel) + bias), units


@keras.saving.register_keras_serializable("kdkeras")
class QuantizedDepthwiseConv2D(_Quantized, keras.layers.DepthwiseConv2D):
    """A `keras.layers.DepthwiseConv2D` with an int8 kernel, each channel of its own range."""

    def call(self, inputs, step):
        # Channels last, as weights are rounded, and back.
        kernel = tf.transpose(self.kernel, [0, 1, 3, 2])
        kernel, bias, units = rounding.weights(kernel, self.bias, step)
        outputs = keras.ops.depthwise_conv(
            inputs,
            tf.transpose(kernel, [0, 1, 3, 2]),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return self.activation(outputs + bias), units


@keras.saving.register_keras_serializable("kdkeras")
class QuantizedDense(_Quantized, keras.layers.Dense):
    """A `keras.layers.Dense` with an int8 kernel of one range: TFLite has no other."""

    def call(self, inputs, step):
        kernel, bias, units = rounding.weights(self.kernel, self.bias, step, per_channel=False)
        return self.activation(tf.matmul(inputs, kernel) + bias), units


@keras.saving.register_keras_serializable("kdkeras")
class QuantizedRescaling(keras.layers.Layer):
    """A `keras.layers.Rescaling` of rounded pixels: a rounded product, then a rounded sum.

    Like `FakeQuantize`, it gives the rounded tensor and its step.

    Args:
        scale: List of floats, one or one a channel.
        offset: List of floats, one or one a channel.
        product_range: `[low, high]` of `pixels * scale`.
        sum_range: `[low, high]` of `pixels * scale + offset`.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, scale, offset, product_range, sum_range, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.settings = {
            "scale": list(scale),
            "offset": list(offset),
            "product_range": list(product_range),
            "sum_range": list(sum_range),
        }

    def call(self, inputs):
        scale, offset, product, total = (
            tf.constant(values, tf.float32) for values in self.settings.values()
        )
        rounded = rounding.activations(inputs * scale, product[0], product[1])
        if not any(self.settings["offset"]):
            return rounded
        return rounding.activations(rounded[0] + offset, total[0], total[1])

    def get_config(self):
        return {**super().get_config(), **self.settings}
