"""`Term`: one weighted loss of a distillation."""

import keras

from kdkeras import arguments


@keras.saving.register_keras_serializable("kdkeras")
class Term:
    """One weighted loss between a teacher's tensor and the student's.

    `weight * loss(teacher_logits, student_logits)`

    Args:
        loss: A `keras.losses.Loss` instance; it is called as
            `loss(teacher_logits, student_logits, sample_weight)`.
        weight: Finite number, at least 0.

    Raises:
        ValueError: `loss` is not a `keras.losses.Loss`, or `weight` is negative or not finite.

    Example:

    >>> kdkeras.Term(kdkeras.losses.SoftTargets(temperature=2.0), weight=0.5)
    """

    def __init__(self, loss, weight=1.0):
        if not isinstance(loss, keras.losses.Loss):
            raise ValueError(
                "`loss` must be a `keras.losses.Loss` instance, for example "
                f"kdkeras.losses.SoftTargets(). Received: loss={loss!r}"
            )
        self.loss = loss
        self.weight = arguments.number(
            "weight", weight, low=0.0, expected="a finite number, at least 0"
        )

    def get_config(self):
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "weight": self.weight,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


def names(terms):
    """The names of the terms' losses, with a number where one comes again."""
    plain = [term.loss.name for term in terms]
    earlier = [plain[:i].count(name) for i, name in enumerate(plain)]
    return [f"{name}_{n + 1}" if n else name for name, n in zip(plain, earlier, strict=True)]
