"""BatchNormalization folded into the layer before it: plain NumPy."""

import numpy as np


def fold(kernel, bias, *, gamma, beta, mean, variance, epsilon):
    """The kernel and bias that do what a linear layer and the BatchNormalization behind it do.

    With `g = gamma / sqrt(variance + epsilon)` a channel: `kernel' = g * kernel` and
    `bias' = g * (bias - mean) + beta`.

    Args:
        kernel: Array, output channels last.
        bias: Array `(channels,)`.
        gamma: Array `(channels,)`; ones for a layer without scale.
        beta: Array `(channels,)`; zeros for a layer without center.
        mean: Array `(channels,)`, the moving mean.
        variance: Array `(channels,)`, the moving variance.
        epsilon: Number that is added to the variance.

    Returns:
        Two float32 arrays; computed in float64.

    Example:

    >>> fold([[2.0]], [1.0], gamma=[3.0], beta=[5.0], mean=[2.0], variance=[3.0], epsilon=1.0)
    (array([[3.]], dtype=float32), array([3.5], dtype=float32))

    Reference:
        Jacob et al., [Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference](https://arxiv.org/abs/1712.05877), 2018, section 3.2.
    """
    kernel, bias, gamma, beta, mean, variance = (
        np.asarray(array, np.float64) for array in (kernel, bias, gamma, beta, mean, variance)
    )
    g = gamma / np.sqrt(variance + epsilon)
    return (g * kernel).astype(np.float32), (g * (bias - mean) + beta).astype(np.float32)


def statistics(batchnorm):
    """What `fold` needs of a `keras.layers.BatchNormalization`."""
    mean = np.asarray(batchnorm.moving_mean)
    return {
        "gamma": np.asarray(batchnorm.gamma) if batchnorm.scale else np.ones_like(mean),
        "beta": np.asarray(batchnorm.beta) if batchnorm.center else np.zeros_like(mean),
        "mean": mean,
        "variance": np.asarray(batchnorm.moving_variance),
        "epsilon": batchnorm.epsilon,
    }
