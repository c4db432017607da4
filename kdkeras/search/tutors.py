"""The teacher of all trials, and what it says of the training images, recorded once."""

import dataclasses
import hashlib

from kdkeras import choices, feeding, files, loading, locks, runner, stages
from kdkeras.search import settings

VIEWS = "8"


def prepared(recipe, corners, folder):
    """The file of the teacher of all trials, trained in `teacher/` unless it stands there.

    Args:
        recipe: `kdkeras.Recipe` as given.
        corners: Recipes of the space, for what their methods need.
        folder: The search's work directory.

    Returns:
        Path; None where no trial needs a teacher that is trained first, or it is given.
    """
    lacking = [
        one for one in corners if settings.is_taught(one) and not one.teacher.endswith(".keras")
    ]
    if recipe.cache is not None or not lacking:
        return None
    own = folder / "teacher"
    with locks.held(folder / "locks" / "teacher", waiting="Another process trains the teacher."):
        if not (own / "results.json").exists():
            if not recipe.quiet:
                print("One teacher for all trials:", flush=True)
            begun = (own / "recipe.json").exists()
            runner.train(
                dataclasses.replace(recipe, workdir=str(own), overwrite=False, resume=begun)
            )
    return own / "teacher.keras"


def with_teacher(recipe, path):
    """A recipe with a trained teacher's file, if there is one and the recipe is to have it."""
    if path is None or not settings.is_taught(recipe) or recipe.teacher.endswith(".keras"):
        return recipe
    return dataclasses.replace(recipe, teacher=str(path), teacher_method="auto")


def digests(recipes):
    """The SHA-256 of the teachers' files, and of the cache, by path."""
    paths = {one.teacher for one in recipes if one.teacher.endswith(".keras")}
    paths |= {one.cache for one in recipes if one.cache is not None}
    return {path: files.digest(path) for path in sorted(paths)}


class Answers:
    """What teachers say of the views that recipes ask for: one cache for each, opened once.

    Args:
        splits: `kdkeras.data.Splits`.
        folder: The search's work directory.
    """

    def __init__(self, splits, folder):
        self.splits, self.folder, self.opened = splits, folder, {}

    def recorded(self, recipe):
        """The recipe as its trial learns from recorded answers, with the number of views."""
        of_logits = recipe.method in choices.OF_LOGITS and not feeding.mixes(recipe)
        if recipe.cache is not None or not of_logits or recipe.views is not None:
            return recipe
        return dataclasses.replace(recipe, views=VIEWS)

    def of(self, recipe, world):
        """The `kdkeras.cache.Cache` for a recipe as `recorded` gives it; None: the teacher runs."""
        if recipe.cache is not None:
            terms = stages.terms(world.built, recipe, self.splits)
            teacher = world.built.get("teacher")
            return self._once(
                recipe.cache, lambda: feeding.opened(recipe, self.splits, teacher, terms)
            )
        if recipe.views is None or recipe.method not in choices.OF_LOGITS:
            return None
        said = (files.digest(recipe.teacher), feeding.augmentations(recipe), recipe.views)
        name = hashlib.sha256(repr((*said, recipe.seed)).encode()).hexdigest()[:12]
        return self._once(name, lambda: self._filled(recipe, name))

    def _once(self, key, make):
        if key not in self.opened:
            self.opened[key] = make()
        return self.opened[key]

    def _filled(self, recipe, name):
        folder = self.folder / "caches"
        folder.mkdir(exist_ok=True)
        waiting = "Another process records the teacher's answers."
        with locks.held(self.folder / "locks" / "caches", waiting=waiting):
            teacher = loading.load(recipe.teacher, "teacher", self.splits)
            quiet = dataclasses.replace(recipe, quiet=True, verbose=False)
            path = folder / f"{name}.cache"
            if not recipe.quiet and not path.exists():
                print(f"The teacher's answers are recorded: {path}", flush=True)
            return feeding.fill(quiet, teacher, self.splits, path)

    def close(self):
        """Closes the caches."""
        for one in self.opened.values():
            one.close()
