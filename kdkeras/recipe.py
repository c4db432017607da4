"""`Recipe`: the settings of one run, flat, frozen, and saved with its results."""

import dataclasses
import pathlib
import re

from kdkeras import arguments, choices, intact

FORMAT = 1

# These say how a run is carried out, not what it computes: a resumed run may change them.
NOT_OF_THE_RESULT = (
    "workdir",
    "overwrite",
    "resume",
    "tensorboard",
    "seeds",
    "data_dir",
    "download",
    "quiet",
    "verbose",
)


def _setting(default, help_text, *, teacher=False):
    """A field with its help; `teacher`: also a setting of the command that trains a teacher."""
    return dataclasses.field(default=default, metadata={"help": help_text, "teacher": teacher})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of `kdkeras.run` and of the command line, with their defaults.

    Raises:
        ValueError: A setting is out of its range; the message names it.

    Example:

    >>> kdkeras.run(kdkeras.Recipe(dataset="digits", temperature=2.0, workdir="runs/t2"))
    """

    # Data
    dataset: str = _setting(
        "digits",
        "digits (embedded, no download), the name of a tensorflow_datasets image-classification "
        "set such as cifar10, or folder:PATH with one sub-folder of pictures a class",
        teacher=True,
    )
    data_dir: str | None = _setting(
        None, "where tensorflow_datasets finds prepared sets", teacher=True
    )
    download: bool = _setting(
        False, "download a tensorflow_datasets set that is not in --data_dir yet", teacher=True
    )
    image_size: int | None = _setting(
        None,
        "side of the square images; unless given 16 for digits, 96 for a folder (evaluate: the "
        "model's), and a tensorflow_datasets set's own",
        teacher=True,
    )
    max_train: int | None = _setting(
        None, "use only so many training images (stratified); all unless given", teacher=True
    )
    augment: str = _setting(
        "auto",
        "comma list of crop, flip, color, cutout, mixup, or none; auto is crop for digits and "
        "crop,flip for anything else",
        teacher=True,
    )

    # Models
    teacher: str = _setting(
        "resnet20",
        "an architecture to train (resnet20 ... resnet110, resnet18/34/50, mobilenet_v2, "
        "shufflenet_v2, mlp, or a keras.applications class such as EfficientNetB0), or a .keras "
        "file",
        teacher=True,
    )
    student: str = _setting("mobilenet_v2", "the student's architecture; names as for --teacher")
    teacher_width: float | None = _setting(
        None, "the teacher's width; the architecture's own unless given", teacher=True
    )
    student_width: float | None = _setting(
        None,
        "the student's width: alpha of mobilenet_v2 (0.35 unless given), factor of shufflenet_v2, "
        "channels of a ResNet's first stage, units of an mlp; the architecture's own unless given",
    )

    # Distillation
    method: str = _setting(
        "hinton",
        f"how to distil, for accuracy (docs/methods.md): {', '.join(choices.FOR_ACCURACY)}; for "
        f"robustness (docs/robustness.md): {', '.join(choices.FOR_ROBUSTNESS)}",
    )
    alpha: float | None = _setting(
        None,
        "weight of the labels' loss, in [0, 1]; the method's terms have 1 - alpha; the method's "
        "own unless given (0.1 for hinton)",
    )
    temperature: float | None = _setting(
        None, "temperature of the soft targets, positive; the method's own unless given (hinton: 4)"
    )
    perturbation: str = _setting(
        "none", "none or gaussian: noise on what the student sees; the teacher sees clean images"
    )
    noise_stddev: float = _setting(
        0.1, "standard deviation of the gaussian perturbation, in pixels of [0, 1]"
    )
    epsilon: float = _setting(
        8 / 255,
        "largest change that the attack of robust methods makes, in pixels of [0, 1]: 0.03, or "
        "8/255",
        teacher=True,
    )
    attack_steps: int = _setting(10, "steps of that attack (PGD)", teacher=True)
    attack_norm: str = _setting(
        "linf", "linf (epsilon for each pixel) or l2 (for the whole image)", teacher=True
    )
    teacher_method: str = _setting(
        "auto",
        "how a teacher that is trained here learns: labels, adversarial_training or trades; auto "
        "is adversarial_training for methods that need a robust teacher, and labels for others",
        teacher=True,
    )
    clean_teacher: str | None = _setting(
        None, "of mtard: the .keras file of the second teacher, which sees clean images"
    )
    perturb_in: str = _setting(
        "step", "step or pipeline: where the perturbation is made (on the device, or in tf.data)"
    )
    views: str | None = _setting(
        None,
        "record what the teacher says of so many views of each picture, or of all (crops and flips "
        "alone), once, in the work directory, and learn from that: the teacher does not run in the "
        "training steps",
    )
    cache: str | None = _setting(
        None,
        "a cache that kdkeras cache wrote, to learn from; the views are its own; no teacher is "
        "trained, and without --teacher=FILE none is needed",
    )
    control: bool = _setting(
        True, "also train the control: the same student, seed and budget, on labels only"
    )

    term_weights: str | None = _setting(
        None,
        "comma list of the weights of the method's terms, in their order (docs/methods.md); the "
        "method's own unless given",
    )
    quantize: str = _setting(
        "none",
        "none, or int8: train the finished student further, against its teacher, with weights and "
        "activations rounded as in the int8 .tflite that is then written (docs/deploy.md)",
    )
    quantize_epochs: int = _setting(5, "epochs of that training")
    quantize_learning_rate: float = _setting(
        3e-4, "peak learning rate of that training, which uses Adam"
    )

    # Training
    epochs: int = _setting(
        12, "epochs of each training; of the teacher too, unless --teacher_epochs", teacher=True
    )
    teacher_epochs: int | None = _setting(
        None, "epochs of a teacher that is trained here", teacher=True
    )
    batch_size: int = _setting(32, "examples a step", teacher=True)
    optimizer: str = _setting("sgd", "sgd (momentum 0.9), adam or adamw", teacher=True)
    learning_rate: float = _setting(
        0.1, "peak learning rate; try 0.003 with adam and adamw", teacher=True
    )
    weight_decay: float = _setting(
        5e-4, "decoupled weight decay of kernels, for sgd and adamw", teacher=True
    )
    schedule: str = _setting("cosine", "cosine (decay to 0) or constant", teacher=True)
    warmup_epochs: float = _setting(
        1.0, "epochs in which the learning rate rises linearly from 0", teacher=True
    )
    seed: int = _setting(0, "seed of weights, order, augmentation and noise", teacher=True)
    seeds: int = _setting(
        1,
        "do all of it with so many seeds, from --seed on, each in a folder of its own: results are "
        "means, spreads and paired differences",
        teacher=True,
    )
    precision_policy: str = _setting(
        "float32", "float32, mixed_float16 or mixed_bfloat16 (for GPUs)", teacher=True
    )

    deterministic: bool = _setting(
        True, "the same bits each time, on the same machine; on GPUs it is slower", teacher=True
    )
    strategy: str = _setting(
        "none",
        "none (one device), mirrored (the GPUs of this machine), or multiworker (machines listed "
        "in TF_CONFIG, each running the same command); docs/distribution.md",
        teacher=True,
    )

    # Results
    workdir: str | None = _setting(
        None, "where results go; runs/<dataset> unless given", teacher=True
    )
    export: bool = _setting(True, "write the student as SavedModel and .tflite too")
    overwrite: bool = _setting(
        False, "replace the results that the work directory holds", teacher=True
    )
    resume: bool = _setting(
        False, "go on with the unfinished run that the work directory holds", teacher=True
    )
    tensorboard: bool = _setting(
        False, "also write TensorBoard logs (pip install 'kdkeras[tensorboard]')", teacher=True
    )
    quiet: bool = _setting(False, "show no progress: warnings and the results alone", teacher=True)
    verbose: bool = _setting(
        False, "also show the settings, the models' layers, and what TensorFlow says", teacher=True
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check_type(field, getattr(self, field.name))
        if self.alpha is not None:
            arguments.fraction("alpha", self.alpha)
        for name in ("noise_stddev", "learning_rate", "quantize_learning_rate", "epsilon"):
            arguments.positive(name, getattr(self, name))
        for name in ("weight_decay", "warmup_epochs"):
            arguments.nonnegative(name, getattr(self, name))
        for name in ("temperature", "teacher_width", "student_width"):
            if getattr(self, name) is not None:
                arguments.positive(name, getattr(self, name))
        choices.check_sizes(self)
        arguments.number("seed", self.seed, low=0, high=2**31 - 1, expected="in 0..2**31 - 1")
        arguments.one_of("method", self.method, choices.METHODS)
        arguments.one_of("optimizer", self.optimizer, choices.OPTIMIZERS)
        arguments.one_of("schedule", self.schedule, choices.SCHEDULES)
        arguments.one_of("perturbation", self.perturbation, choices.PERTURBATIONS)
        arguments.one_of("perturb_in", self.perturb_in, choices.PLACES)
        arguments.one_of("quantize", self.quantize, choices.QUANTIZATIONS)
        arguments.one_of("strategy", self.strategy, choices.STRATEGIES)
        arguments.one_of("precision_policy", self.precision_policy, choices.PRECISION_POLICIES)
        arguments.one_of("attack_norm", self.attack_norm, choices.NORMS)
        arguments.one_of("teacher_method", self.teacher_method, choices.TEACHER_METHODS)
        choices.check_robust(self)
        choices.check_cache(self)
        choices.check_term_weights(self)
        if self.quiet and self.verbose:
            raise ValueError("Give `quiet` or `verbose`, not both.")
        if self.overwrite and self.resume:
            raise ValueError(
                "Give `overwrite` or `resume`, not both: one starts anew, one goes on."
            )

    @property
    def directory(self):
        """The work directory, a `pathlib.Path`."""
        if self.workdir:
            return pathlib.Path(self.workdir)
        name = re.split(r"[/\\:]", self.dataset.rstrip("/\\"))[-1]
        return pathlib.Path("runs") / (name or "folder")

    def to_dict(self):
        """The settings as a dict that JSON can hold."""
        return dataclasses.asdict(self)


def read(path):
    """The `Recipe` that a run wrote to `recipe.json`.

    Raises:
        ValueError: The file is not there, or is no recipe of this version's.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(
            f"A run's recipe.json is expected. Received: '{path}', which is not there."
        )
    found = intact.read(path, FORMAT)
    names = {field.name for field in dataclasses.fields(Recipe)}
    unknown = sorted(set(found) - names - {"format"})
    if unknown:
        raise ValueError(f"'{path}' has settings that this version does not know: {unknown}")
    try:
        return Recipe(**{name: value for name, value in found.items() if name in names})
    except ValueError as error:
        raise ValueError(f"'{path}' cannot be a run's: {error}") from error


def _check_type(field, value):
    fits = isinstance(value, field.type)
    if isinstance(0.0, field.type):
        fits = fits or isinstance(value, int)
    if isinstance(value, bool):
        fits = field.type is bool
    if not fits:
        kind = getattr(field.type, "__name__", str(field.type))
        raise ValueError(f"`{field.name}` must be of type {kind}. Received: {value!r}")
