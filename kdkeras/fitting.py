"""`fit` and `evaluate` of data that is checked before it is used."""

import tensorflow as tf

from kdkeras import compatibility, data, inputs, perturbations, weighting, wiring


class CheckedData:
    """What a `Distiller` does to data before Keras's own `fit` and `evaluate` get it."""

    def fit(self, x=None, y=None, batch_size=None, *args, validation_data=None, **kwargs):
        """Trains the student: `keras.Model.fit`, with every batch checked before it is used.

        Args:
            x: What `keras.Model.fit` takes, with targets as in `kdkeras.Distiller`: arrays, a
                `tf.data.Dataset` and so on; or a `kdkeras.data.OnDevice`, whose batches are made in
                the training step.
            y: The targets of arrays.
            batch_size: Of arrays, as in `keras.Model.fit`.
            validation_data: As in `keras.Model.fit`; what `evaluate` is run on after each epoch.
            *args, **kwargs: The other arguments of `keras.Model.fit`: `epochs`, `callbacks`,
                `class_weight` ...

        Returns:
            `keras.callbacks.History`.

        Raises:
            ValueError: The data do not fit the models or the terms, or hold what is not finite.

        Example:

        >>> distiller.fit(x, y, epochs=10, validation_data=(x_val, y_val))
        """
        class_weights = weighting.class_weight_vector(
            kwargs.pop("class_weight", None), self.student
        )
        on_device = x if isinstance(x, data.OnDevice) else None
        constants = (class_weights, on_device, self._class_weights, self._on_device)
        if any(constant is not None for constant in constants):
            self.train_function = None  # which has them in it
        self._class_weights, self._on_device = class_weights, on_device
        if self.train_teacher and not self.teacher.optimizer.built:
            self.teacher.optimizer.build(self.teacher.trainable_variables)
        expected = inputs.expectations(self)
        validation_data = inputs.checked_pair(validation_data, **expected)
        if isinstance(x, (tf.data.Dataset, data.OnDevice)):
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default otherwise
        expected.update(comparing=wiring.comparing(self.terms), labels_needed=self.alpha != 0.0)
        if on_device is None:
            attacked = isinstance(self.perturbation, perturbations.PGD)
            expected["bounds"] = self.perturbation.bounds if attacked else None
            x = inputs.checked(x, y, **expected, batch_size=batch_size)
        else:
            compatibility.check_strategy(self)
            x = inputs.order_of(on_device, **expected)
        with inputs.clear_errors():
            return super().fit(x, y, batch_size, *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates the student alone: hard loss and metrics, as `keras.Model.evaluate` does.

        Args:
            x, y: Data as in `fit`.
            *args, **kwargs: The other arguments of `keras.Model.evaluate`.

        Returns:
            What `keras.Model.evaluate` returns.

        Raises:
            ValueError: The data do not fit the student, or hold what is not finite.

        Example:

        >>> distiller.evaluate(x, y, return_dict=True)
        """
        self._evaluating = True
        try:
            x = inputs.checked(x, y, **inputs.expectations(self))
            with inputs.clear_errors():
                return super().evaluate(x, y, *args, **kwargs)
        finally:
            self._evaluating = False
