"""A compiled student and teacher that are trained again and again from the same start."""

import dataclasses

import keras

from kdkeras import callbacks as watching
from kdkeras import choices, feeding, stages, training
from kdkeras.search import dials

# Their temperature or their teacher is built into the models: compiled anew for each training.
FIXED = (*choices.TRAIN_TOGETHER, "defensive")
TURNED = ("alpha", "temperature", "learning_rate", "term_weights")


class World:
    """The `Distiller` of a recipe, whose alpha, temperature, weights and rate can be turned.

    Args:
        recipe: `kdkeras.Recipe`; a trained teacher is a file.
        splits: `kdkeras.data.Splits`, whose test images are not looked at.
        names: The models: "student", and "teacher" where one is needed.
        turned: Those of `TURNED` that vary.

    Example:

    >>> world = World(recipe, splits, ["teacher", "student"], ("temperature",))
    >>> world.fit(dataclasses.replace(recipe, temperature=2.0))
    """

    def __init__(self, recipe, splits, names, turned=()):
        self.splits = splits
        plain = dataclasses.replace(recipe, **_neutral(turned))
        self.built = stages.build(plain, splits, names)
        # From here on as `stages.fit`, with dials in place of numbers.
        keras.utils.set_random_seed(recipe.seed)
        self.dials = {name: dials.Dial(1.0) for name in turned if name != "term_weights"}
        scheduled = {n: self.dials[n] for n in ("alpha", "temperature") if n in turned}
        self.model = stages.distillation(self.built, plain, splits, **scheduled)
        self.of_terms = []
        if "term_weights" in turned:
            self.of_terms = [dials.Dial(1.0) for _ in self.model.terms]
            for term, dial in zip(self.model.terms, self.of_terms, strict=True):
                term.weight = dial
        stages.compile_model("student", self.model, plain, splits)
        if "learning_rate" in turned:
            batches = -(-len(splits.train.ids) // recipe.batch_size)
            rate = training.learning_rate(plain, steps_per_epoch=batches, epochs=recipe.epochs)
            self.model.optimizer.learning_rate = dials.Scaled(rate, self.dials["learning_rate"])
        self.model.optimizer.build(self.model.trainable_variables)
        self.variables = [*self.model.variables, *self.model.optimizer.variables]
        if self.model.perturbation is not None:
            self.variables.append(self.model.perturbation.seed_generator.state)
        self.start = [keras.ops.convert_to_numpy(variable) for variable in self.variables]
        self.validation = feeding.validation_batches(recipe, splits)

    @property
    def student(self):
        """The student, as the last training left it."""
        return self.built["student"]

    def fit(self, recipe, answers=None, callbacks=()):
        """Trains from the start, with the numbers of a recipe that differs in `turned` alone.

        Args:
            recipe: `kdkeras.Recipe`.
            answers: None, or the `kdkeras.cache.Cache` to learn from.
            callbacks: As `keras.Model.fit` takes them.

        Raises:
            kdkeras.callbacks.NotFinite: The loss, or a weight, became NaN or infinite.
        """
        keras.utils.set_random_seed(recipe.seed)
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)
        for name, dial in self.dials.items():
            dial.turn(getattr(recipe, name))
        if self.of_terms:
            weights = map(float, recipe.term_weights.split(","))
            for dial, weight in zip(self.of_terms, weights, strict=True):
                dial.turn(weight)
        self.model.fit(
            feeding.batches("student", recipe, self.splits, answers=answers),
            epochs=recipe.epochs,
            validation_data=self.validation,
            callbacks=[watching.FiniteLoss(), *callbacks],
            shuffle=False,
            verbose=0,
        )


def turned(recipe, settings):
    """What of a trial's settings need not be compiled in."""
    if recipe.method in FIXED:
        return ()
    found = {"term_weights" if name.startswith("weight_") else name for name in settings}
    return tuple(name for name in TURNED if name in found)


class Worlds:
    """The worlds that were used last, by what is compiled into them.

    Args:
        splits: `kdkeras.data.Splits`.
        most: How many to keep.
    """

    def __init__(self, splits, most=4):
        self.splits, self.most, self.kept = splits, most, {}

    def of(self, recipe, settings, names):
        """The world of a trial's recipe, made unless it is there."""
        varying = turned(recipe, settings)
        plain = dataclasses.replace(recipe, **_neutral(varying))
        key = (repr(plain), varying, tuple(names))
        world = self.kept.pop(key, None)
        if world is None:
            while len(self.kept) >= self.most:
                del self.kept[next(iter(self.kept))]
            world = World(recipe, self.splits, names, varying)
        if recipe.method not in choices.TRAIN_TOGETHER:  # there the teacher has changed
            self.kept[key] = world
        return world


def _neutral(varying):
    """Values that stand for what is turned: as if the recipe said nothing."""
    neutral = {"alpha": None, "temperature": None, "learning_rate": 1.0, "term_weights": None}
    return {name: neutral[name] for name in varying}
