"""What a recipe's settings may be, and what goes with what."""

import re

from kdkeras import arguments

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "constant")
PERTURBATIONS = ("none", "gaussian")
PLACES = ("step", "pipeline")
NORMS = ("linf", "l2")
QUANTIZATIONS = ("none", "int8")
STRATEGIES = ("none", "mirrored", "multiworker")
PRECISION_POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
TEACHER_METHODS = ("auto", "labels", "adversarial_training", "trades")

FOR_ACCURACY = (
    *("hinton", "dkd", "dist", "standardized", "fitnet", "attention", "rkd", "similarity", "pkt"),
    *("review", "crd", "mutual", "born_again"),
)
# Those that train on attacks: without a teacher, of a robust one, with a peer.
WITHOUT_TEACHER = ("adversarial_training", "trades")
OF_A_ROBUST_TEACHER = ("ard", "rslad", "iad", "adaad", "mtard")
ADVERSARIAL = (*WITHOUT_TEACHER, *OF_A_ROBUST_TEACHER, "peer")
FOR_ROBUSTNESS = ("gaussian", *ADVERSARIAL, "defensive")
METHODS = (*FOR_ACCURACY, *FOR_ROBUSTNESS)
# Their teacher is trained in the same steps as the student.
TRAIN_TOGETHER = ("mutual", "peer")
# Those that need nothing of a teacher but its logits of clean pictures.
OF_LOGITS = ("hinton", "dkd", "dist", "standardized", "gaussian", "ard", "rslad")
RECORDABLE = tuple(
    name
    for name in METHODS
    if name in OF_LOGITS or name not in (*ADVERSARIAL, *TRAIN_TOGETHER, "defensive")
)

# Of counts, from 1 on, and of other sizes: nobody means more, and memory ends long before.
COUNTS = {
    **dict.fromkeys(("epochs", "teacher_epochs", "quantize_epochs", "attack_steps"), 2**31 - 1),
    **dict.fromkeys(("batch_size", "max_train"), 2**31 - 1),
    "image_size": 8192,
    "seeds": 1000,
}
SIZES = {"teacher_width": 65_536, "student_width": 65_536, "warmup_epochs": 2**31 - 1}


def check_sizes(recipe):
    """Refuses counts and sizes that nothing could be made of."""
    for name, most in {**COUNTS, **SIZES}.items():
        value = getattr(recipe, name)
        if value is not None and name in COUNTS:
            arguments.number(name, value, low=1, expected="at least 1")
        if value is not None and value > most:
            raise ValueError(f"`{name}` must be at most {most}. Received: {name}={value}")


def check_robust(recipe):
    """Refuses settings of attacks and noise that do not go together."""
    if recipe.attack_norm == "linf" and recipe.epsilon > 1.0:
        raise ValueError(
            "`epsilon` must be in pixels of [0, 1]: of pixels in 0..255 divide it by 255. "
            f"Received: epsilon={recipe.epsilon:g} (did you mean {recipe.epsilon:g}/255?)"
        )
    _check_used(recipe)
    if recipe.attack_norm == "l2" and recipe.epsilon == type(recipe).epsilon:
        raise ValueError(
            "`epsilon` must be given with attack_norm='l2': 8/255, the default, is of single "
            "pixels, and hardly anything for a whole picture. Usual: 0.5 or 1."
        )
    if recipe.noise_stddev > 5.0:
        raise ValueError(
            "`noise_stddev` must be in pixels of [0, 1]: of pixels in 0..255 divide it by 255. "
            f"Received: noise_stddev={recipe.noise_stddev:g}"
        )
    if recipe.method in ADVERSARIAL and recipe.perturbation != "none":
        raise ValueError(
            f"Method {recipe.method!r} makes its own perturbed pictures: leave `perturbation` out. "
            f"Received: perturbation={recipe.perturbation!r}"
        )
    if (recipe.method == "mtard") != (recipe.clean_teacher is not None):
        raise ValueError(
            "Method 'mtard', and no other, has a second teacher: `clean_teacher`, a .keras file. "
            f"Received: method={recipe.method!r}, clean_teacher={recipe.clean_teacher!r}"
        )
    if recipe.method in ADVERSARIAL and "mixup" in recipe.augment.split(","):
        raise ValueError(
            f"Method {recipe.method!r} attacks what a picture shows, and mixup makes pictures that "
            f"show two things. Leave mixup out. Received: augment={recipe.augment!r}"
        )


def check_term_weights(recipe):
    """Refuses weights of terms that are no list of finite numbers of at least 0."""
    if recipe.term_weights is None:
        return
    try:
        given = [float(part) for part in recipe.term_weights.split(",")]
    except ValueError:
        given = [-1.0]
    if not all(0.0 <= weight < float("inf") for weight in given):
        raise ValueError(
            "`term_weights` must be a comma list of finite numbers of at least 0, such as 1,0.5. "
            f"Received: term_weights={recipe.term_weights!r}"
        )


def _check_used(recipe):
    """Refuses settings that nothing in the run would look at."""
    default = type(recipe)
    taught = recipe.method not in WITHOUT_TEACHER
    teacher_is_trained = taught and recipe.cache is None and not recipe.teacher.endswith(".keras")
    attacks = recipe.method in ADVERSARIAL or recipe.teacher_method in WITHOUT_TEACHER
    noise = recipe.method == "gaussian" or recipe.perturbation == "gaussian"
    of_attacks = f"methods that train on attacks: {', '.join(ADVERSARIAL)}"
    for name, used, of in (
        *((name, attacks, of_attacks) for name in ("epsilon", "attack_steps", "attack_norm")),
        ("noise_stddev", noise, "method='gaussian' and perturbation='gaussian'"),
        ("teacher_method", teacher_is_trained, "a teacher that is trained here, no file"),
        ("teacher", taught, "methods with a teacher"),
        *(
            (name, recipe.quantize != "none", "quantize='int8'")
            for name in ("quantize_epochs", "quantize_learning_rate")
        ),
    ):
        if not used and getattr(recipe, name) != getattr(default, name):
            raise ValueError(
                f"`{name}` would change nothing: it is a setting of {of}. Received: {name}="
                f"{getattr(recipe, name)!r} with method={recipe.method!r}. Leave it out."
            )


def check_cache(recipe):
    """Refuses views and caches that cannot serve a recipe's method."""
    if recipe.views not in (None, "all") and not re.fullmatch("0*[1-9][0-9]{0,8}", recipe.views):
        raise ValueError(
            f"`views` must be a positive number, or all. Received: views={recipe.views!r}"
        )
    recorded = recipe.cache is not None or recipe.views is not None
    if recorded and recipe.method not in RECORDABLE:
        reason = "has no teacher"
        if recipe.method == "defensive":
            reason = "scales what its teacher says"
        elif recipe.method in TRAIN_TOGETHER:
            reason = "trains its teacher, whose answers change"
        elif recipe.method in ADVERSARIAL and recipe.method not in WITHOUT_TEACHER:
            reason = "asks its teacher about perturbed pictures"
        raise ValueError(
            f"Method {recipe.method!r} {reason}: nothing can be recorded. Leave `cache` and "
            "`views` out."
        )
    if recorded and "mixup" in recipe.augment.split(","):
        raise ValueError(
            "Mixup mixes what a batch happens to hold, which cannot be recorded. Leave mixup "
            f"out, or `cache` and `views`. Received: augment={recipe.augment!r}"
        )
    default, is_file = type(recipe).teacher, recipe.teacher.endswith(".keras")
    if recipe.cache is not None and recipe.teacher != default and not is_file:
        raise ValueError(
            "With `cache`, `teacher` is the .keras file that filled it, or left out. Received: "
            f"teacher={recipe.teacher!r}"
        )
