"""How many steps run per call from Python, whether XLA compiles them, and none without a batch."""

import functools
import inspect
import math
import warnings

import keras
import tensorflow as tf

from kdkeras import arguments, teachers

SEVERAL = 16
DEPTHWISE = (
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
)
OF_BATCHES = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


def on_cpu():
    """Whether TensorFlow sees no other device. (Keras counts devices that are hidden, too.)"""
    return all(device.device_type == "CPU" for device in tf.config.get_visible_devices())


def steps_per_execution(given=None, *, lengths=(), callbacks=None, run_eagerly=False, devices=1):
    """How many steps run per call; the results are the same.

    A call costs 1 ms of Python: little beside a step on a CPU, much beside one on a GPU. So 1 is
    chosen on a CPU; also where steps run eagerly, where a callback that is neither Keras's nor ours
    looks at batches, and on several devices, where Keras cannot put steps together. Elsewhere 16,
    or its largest divisor that divides all lengths: Keras runs whole calls, and of 10 steps of
    endless data would make 16.

    Args:
        given: What the user wants, which always counts; None to choose.
        lengths: Numbers of steps to keep to, such as `steps_per_epoch`; None in it stands for all.
        callbacks: As `fit` takes them.
        run_eagerly: Whether steps run in Python.
        devices: How many devices share a batch.
    """
    if given is not None:
        return arguments.integer("steps_per_execution", given, low=1)
    if run_eagerly or devices > 1 or on_cpu() or _look_at_batches(callbacks):
        return 1
    return math.gcd(SEVERAL, *(length for length in lengths if length is not None))


def _look_at_batches(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    callbacks = keras.tree.flatten(callbacks)
    methods = [getattr(callback, name) for callback in callbacks if callback for name in OF_BATCHES]
    return any(method.__module__.split(".")[0] not in ("keras", "kdkeras") for method in methods)


def jit_compile(given, models):
    """Whether XLA compiles the steps: as Keras chooses, but for what is known to fail or be slow.

    Args:
        given: True, False, None or "auto", which Keras resolves: no on a CPU.
        models: The models of a step, `kdkeras.teachers.Predictions` and None among them.

    Raises:
        ValueError: True, for models that XLA cannot compile.
    """
    if not given:
        return given
    graphs = [model for model in models if isinstance(model, keras.Model)]
    layers = [layer for model in graphs for layer in model._flatten_layers()]
    unfit = [f"layer '{layer.name}'" for layer in layers if not layer.supports_jit]
    if any(isinstance(model, teachers.Predictions) for model in models):
        unfit.append("a teacher known by its predictions alone")
    depthwise = [layer.name for layer in layers if isinstance(layer, DEPTHWISE)]
    if given == "auto":
        return False if unfit or (depthwise and on_cpu()) else given
    if unfit:
        raise ValueError(
            "`jit_compile` must be left out, or False, with what XLA cannot compile. Received: "
            f"jit_compile={given!r} with {', '.join(unfit[:3])}"
        )
    if depthwise and on_cpu():
        warnings.warn(
            "On a CPU, XLA runs depthwise convolutions 20 to 100 times slower than TensorFlow "
            f"does without it. Leave `jit_compile` out. Received: jit_compile={given!r} with "
            f"{len(depthwise)} depthwise layers, '{depthwise[0]}' the first",
            stacklevel=4,
        )
    return given


def with_its_batch(train_step):
    """A method `train_step(self, data)` of which nothing runs unless its batch is there.

    Where the length of the data is unknown, Keras finds the end by asking for one batch more. What
    does not depend on that batch would run all the same, and count a step that never was.
    """

    @functools.wraps(train_step)
    def gated(self, data):
        metrics = self._compile_metrics
        if not self.optimizer.built or not (metrics is None or metrics.built):
            return train_step(self, data)  # A trace that makes variables; it is not run.
        with tf.control_dependencies(list(filter(tf.is_tensor, keras.tree.flatten(data)))):
            return train_step(self, data)

    return gated


class Stepping:
    """What a `keras.Model` with a `student` and a `teacher` does with the choices above."""

    _given_steps, _given_jit = None, "auto"

    def compile(self, *args, **kwargs):
        options = _bound(keras.Model.compile, args, kwargs)
        self._given_steps = options.pop("steps_per_execution", None)
        self._given_jit = options.pop("jit_compile", "auto")
        eager = options.get("run_eagerly", False)
        devices = self.distribute_strategy.num_replicas_in_sync
        options["steps_per_execution"] = steps_per_execution(
            self._given_steps, run_eagerly=eager, devices=devices
        )
        options["jit_compile"] = jit_compile(self._given_jit, (self.student, self.teacher))
        super().compile(**options)

    def get_compile_config(self):
        given = {"steps_per_execution": self._given_steps, "jit_compile": self._given_jit}
        config = super().get_compile_config()
        return config and {**config, **given}  # chosen anew wherever it is loaded

    def fit(self, *args, **kwargs):
        given = _bound(keras.Model.fit, args, kwargs)
        number = steps_per_execution(
            self._given_steps,
            lengths=(given.get("steps_per_epoch"), given.get("validation_steps")),
            callbacks=given.get("callbacks"),
            run_eagerly=self.run_eagerly,
            devices=self.distribute_strategy.num_replicas_in_sync,
        )
        if number != self.steps_per_execution:
            self.steps_per_execution = number
            self.train_function = self.test_function = None  # which have the number in them
        return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        length = _bound(keras.Model.evaluate, args, kwargs).get("steps")
        before = self.steps_per_execution
        if self._given_steps is not None or length is None or length % before == 0:
            return super().evaluate(*args, **kwargs)
        self.steps_per_execution, self.test_function = math.gcd(before, length), None
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.steps_per_execution, self.test_function = before, None

    def predict(self, *args, **kwargs):
        # Several steps a call would be a graph of as many copies of the student.
        before = self.steps_per_execution
        self.steps_per_execution = before if self._given_steps is not None else 1
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.steps_per_execution = before


def _bound(method, args, kwargs):
    """The arguments of a call of a method of `keras.Model`, by name."""
    given = inspect.signature(method).bind(None, *args, **kwargs).arguments
    return {name: value for name, value in given.items() if name != "self"}
