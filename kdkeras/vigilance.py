"""What is trained and who teaches, watched over: models that guess, teachers that are weak."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from kdkeras import augment, choices, distribution, evaluation, robustness
from kdkeras.evaluation import intervals

# A fast estimate, for it is made every epoch.
EXAMPLES = 256
# Training images by which a teacher is known whose answers to validation images were not recorded.
RECORDED = 2048


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """What a teacher says of labelled pictures.

    Attributes:
        images, labels: Arrays.
        logits: Array `(n, classes)`.
        of: What the pictures are, in words.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    of: str


def said_by_teacher(built, answers, splits):
    """What a run's teacher says of validation images, or, if that was not recorded, of others.

    Args:
        built: Dict of models by stage; with a "teacher", that one is asked.
        answers: Else the `kdkeras.cache.Cache` by which it is known, whose first view of each
            picture counts.
        splits: `kdkeras.data.Splits`.

    Returns:
        `Said`.

    Raises:
        ValueError: An answer is NaN or infinite.
    """
    if "teacher" in built:
        ids = splits.validation.ids
        images, labels = evaluation.collect(splits.validation)
        logits, of = evaluation.logits_of(built["teacher"], images), "validation images"
    else:
        ids, images, labels, logits, of = _recorded(answers, splits)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"The teacher must give finite logits. Received: NaN or infinity for {len(wrong)} of "
            f"{len(ids)} {of}, the first with id {ids[wrong[0]]}. It has nothing to teach: take "
            "another file of it, or train it again."
        )
    return Said(images=images, labels=labels, logits=logits, of=of)


def _recorded(answers, splits):
    """Ids, pictures and labels, what is recorded of these, and what they are in words."""
    split, of = splits.validation, "validation images"
    ids = split.ids
    if not np.isin(ids, answers.store.ids).all():
        split, of = splits.train, "training images"
        ids = split.ids[:RECORDED]

    def first_view(example, ids):
        options = {"seed": answers.seed, "augment": answers.augment}
        return augment.viewed(*example, ids, tf.zeros_like(ids), **options)

    numbered = tf.data.Dataset.zip(split, tf.data.Dataset.from_tensor_slices(ids))
    images, labels = evaluation.collect(numbered.batch(256).map(first_view))
    said = answers.said(ids, np.zeros(len(ids), np.int64))[0]
    return ids, images, labels, said.astype("float32"), of


class Warnings:
    """What is to be said of the models of a run: printed as it is found, and kept.

    Args:
        recipe: `kdkeras.Recipe`.
        splits: `kdkeras.data.Splits`.

    Attributes:
        found: List of sentences.
    """

    def __init__(self, recipe, splits):
        self.recipe, self.splits, self.found = recipe, splits, []
        self._said = None

    def teacher(self, built, answers):
        """Looks at a teacher that is known before anything is trained: a file, or its answers.

        Raises:
            ValueError: An answer of its is NaN or infinite.
        """
        from_file = self.recipe.teacher.endswith(".keras") and "teacher" in built
        if self.recipe.method in choices.TRAIN_TOGETHER or not (from_file or answers is not None):
            return
        self._said = said = said_by_teacher(built, answers, self.splits)
        count, classes = len(said.labels), self.splits.num_classes
        accuracy = float(np.mean(said.logits.argmax(axis=1) == said.labels))
        if accuracy <= _chance(classes, count):
            self._say(
                f"the teacher is at chance level ({accuracy:.1%} of {count} {said.of}; guessing "
                f"among {classes} classes gives {1 / classes:.1%}). It has nothing to teach. Are "
                "its classes in the order of the dataset's, and did it learn from pixels in [0, 1]?"
            )

    def trained(self, name, record):
        """Looks at the record of a training: is validation accuracy at chance level?"""
        if "best" not in record:
            return
        accuracy = record["best"]["val_accuracy"]
        if accuracy <= _chance(self.splits.num_classes, len(self.splits.validation)):
            self._say(
                f"the {name} is at chance level ({accuracy:.1%} of the validation images). "
                "Train for more epochs, or with another learning rate."
            )

    def robustness_of_teacher(self, built):
        """Looks at the teacher of a robust method: what it withstands is more than chance?"""
        recipe = self.recipe
        if recipe.method not in choices.OF_A_ROBUST_TEACHER or "teacher" not in built:
            return
        if not distribution.leads(recipe.strategy):
            return
        found = under_attack(built["teacher"], *evaluation.collect(self.splits.validation), recipe)
        if found["robust"] <= _chance(self.splits.num_classes, found["count"]):
            self._say(
                f"the teacher is right on {found['clean']:.1%} of {found['count']} clean "
                f"validation images, and on {found['robust']:.1%} of them under attack (epsilon "
                f"{recipe.epsilon:.3g}, {recipe.attack_norm}). It has no robustness to hand on, "
                "and adversarial training without it can be better: "
                "--method=adversarial_training. Or let a robust one be trained: "
                "--teacher=resnet20, no file, with --teacher_method=auto."
            )

    def beside_control(self, built, answers):
        """Compares the teacher with the control, once both are there: is it worse?"""
        together = self.recipe.method in choices.TRAIN_TOGETHER
        if together or "control" not in built or not ("teacher" in built or answers is not None):
            return
        said = self._said or said_by_teacher(built, answers, self.splits)
        control = evaluation.logits_of(built["control"], said.images)
        found = evaluation.compare(said.labels, said.logits, control)
        if found["difference"] >= 0.0:
            return
        shares = [np.mean(z.argmax(axis=1) == said.labels) for z in (said.logits, control)]
        low, high = (100 * end for end in found["interval"])
        self._say(
            f"the teacher is right on {shares[0]:.1%} of {len(said.labels)} {said.of}, the "
            f"control, which learned from the labels alone, on {shares[1]:.1%}: "
            f"{100 * found['difference']:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}"
            + ("). " if high < 0.0 else ", so that they may be as good). ")
            + "It has little to teach: begin with a better one."
        )

    def _say(self, sentence):
        self.found.append(sentence)
        if distribution.leads(self.recipe.strategy):
            print(f"Warning: {sentence}", flush=True)


def _chance(classes, examples):
    """The accuracy of guessing, and two standard errors."""
    chance = 1.0 / classes
    return chance + 2.0 * intervals.standard_error(chance, examples)
