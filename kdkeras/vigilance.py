"""Robustness watched over: of what is being trained, and of who teaches."""

import keras

from kdkeras import choices, evaluation, robustness
from kdkeras.evaluation import intervals

# A fast estimate, for it is made every epoch.
EXAMPLES = 256


class RobustAccuracy(keras.callbacks.Callback):
    """Adds accuracy under attack on validation images to the logs of each epoch.

    Clean accuracy goes on rising where robust accuracy has begun to fall (robust overfitting), and
    would choose the wrong epoch.

    Args:
        student: The `keras.Model` that is attacked.
        validation: `kdkeras.data.Examples`.
        recipe: `kdkeras.Recipe`, whose attack it is.

    Attributes:
        measures: The name of the figure in the logs.

    Reference:
        Rice et al., [Overfitting in adversarially robust deep learning](
        https://arxiv.org/abs/2002.11569), ICML 2020.
    """

    measures = "val_robust_accuracy"

    def __init__(self, student, validation, recipe):
        super().__init__()
        self.attacked, self.recipe = student, recipe
        self.images, self.labels = evaluation.collect(validation)

    def on_epoch_end(self, epoch, logs=None):
        found = under_attack(self.attacked, self.images, self.labels, self.recipe)
        logs[self.measures] = found["robust"]


def under_attack(model, images, labels, recipe, *, examples=EXAMPLES):
    """Clean and robust accuracy of a model under the attack of a recipe, on the margin.

    Returns:
        Dict: `clean`, `robust`, `count`, as of `kdkeras.robustness.quick`.
    """
    given = settings(recipe)
    return robustness.quick(model, images, labels, **given, max_examples=examples, seed=recipe.seed)


def settings(recipe):
    """What a recipe's models are attacked with: PGD on the margin, of at least 10 steps."""
    steps = max(10, recipe.attack_steps)
    return {"epsilon": recipe.epsilon, "norm": recipe.attack_norm, "steps": steps}


def warn_of_chance(name, record, splits):
    """Prints a warning if the record of a training shows validation accuracy at chance level."""
    if "best" not in record:
        return
    accuracy = record["best"]["val_accuracy"]
    if accuracy <= _chance(splits.num_classes, len(splits.validation)):
        print(
            f"Warning: the {name} is at chance level ({accuracy:.1%} of the validation images). "
            "Train for more epochs, or with another learning rate."
        )


def warn_of_teacher(built, recipe, splits):
    """Prints a warning, with figures, if a robust method's teacher has no robustness to hand on.

    It has none if what it withstands is no more than chance.
    """
    if recipe.method not in choices.OF_A_ROBUST_TEACHER or "teacher" not in built:
        return
    found = under_attack(built["teacher"], *evaluation.collect(splits.validation), recipe)
    if found["robust"] <= _chance(splits.num_classes, found["count"]):
        print(
            f"Warning: the teacher is right on {found['clean']:.1%} of {found['count']} clean "
            f"validation images, and on {found['robust']:.1%} of them under attack (epsilon "
            f"{recipe.epsilon:.3g}, {recipe.attack_norm}). It has no robustness to hand on, and "
            "adversarial training without it can be better: --method=adversarial_training. Or let "
            "a robust one be trained: --teacher=resnet20, no file, with --teacher_method=auto.",
            flush=True,
        )


def _chance(classes, examples):
    """The accuracy of guessing, and two standard errors."""
    chance = 1.0 / classes
    return chance + 2.0 * intervals.standard_error(chance, examples)
