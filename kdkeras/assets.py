"""How a frozen teacher is kept out of weights files, and in `.keras` files."""

import os

import keras


class TeacherAsAsset:
    """Saving of a `keras.Model` with a `teacher`, where `_frozen_teacher` says that it is frozen.

    Keras saves what it finds with `dir`, in `.keras` and weights files alike. A frozen teacher is
    hidden from it; its weights travel as an asset, which only `.keras` files have.
    """

    @property
    def _frozen_teacher(self):
        changes = self.train_teacher or self.teacher_momentum is not None
        return isinstance(self.teacher, keras.Model) and not changes

    def __dir__(self):
        hidden = {"_wiring", "teacher"} if self._frozen_teacher else {"_wiring"}
        return [name for name in super().__dir__() if name not in hidden]

    def save_assets(self, dir_path):
        if self._frozen_teacher:
            self.teacher.save_weights(os.path.join(dir_path, "teacher.weights.h5"))

    def load_assets(self, dir_path):
        if self._frozen_teacher:
            self.teacher.load_weights(os.path.join(dir_path, "teacher.weights.h5"))
