"""The models of a run, and the training of each: teacher, control, student."""

import inspect

import keras

from kdkeras import (
    arguments,
    callbacks,
    choices,
    data,
    distiller,
    distribution,
    feeding,
    files,
    loading,
    methods,
    models,
    steps,
    training,
    vigilance,
)

# Small enough to be worth distilling on small images.
MOBILENET_ALPHA = 0.35


def build(recipe, splits, names):
    """The untrained models of a run by stage; a teacher that is a file comes loaded.

    Args:
        recipe: `kdkeras.Recipe`.
        splits: `kdkeras.data.Splits`.
        names: Some of "teacher", "control", "student".

    Returns:
        Dict of `keras.Model`. The control and the student start from the same weights.

    Raises:
        ValueError: A model cannot be built or loaded, or does not fit the data or the other.
    """
    built = {}
    for name in names:
        role = "teacher" if name == "teacher" else "student"
        architecture = getattr(recipe, role)
        if architecture.endswith(".keras"):
            built[name] = loading.load(architecture, role, splits)
            continue
        arguments.one_of(role, architecture, models.architectures())
        width = getattr(recipe, f"{role}_width")
        if width is None and architecture == "mobilenet_v2":
            width = MOBILENET_ALPHA
        if width is not None and width == int(width):
            width = int(width)  # a number of units, for architectures that count them
        keras.utils.set_random_seed(recipe.seed)
        built[name] = models.build(
            architecture,
            input_shape=splits.input_shape,
            num_classes=splits.num_classes,
            width=width,
        )
    if "student" in built:
        distillation(built, recipe, splits)  # for its checks, before anything is trained
    return built


def distillation(built, recipe, splits, **scheduled):
    """The `Distiller` that a recipe asks for.

    Args:
        built: Dict of models, as `build` gives it.
        recipe: `kdkeras.Recipe`.
        splits: `kdkeras.data.Splits`.
        **scheduled: `alpha` and `temperature` as Keras schedules, in place of the recipe's.

    Raises:
        ValueError: The method does not fit the models, or has no temperature and one is given.
    """
    made = _method(built, recipe, splits, **scheduled)
    noise = feeding.noise(recipe)
    if noise is not None:
        made["perturbation"] = noise if recipe.perturb_in == "step" else None
    return distiller.Distiller(**made)


def _method(built, recipe, splits, **scheduled):
    """The arguments of `Distiller` that a recipe's method asks for."""
    method = getattr(methods, recipe.method)
    given = {"alpha": recipe.alpha, "temperature": recipe.temperature}
    given = {name: value for name, value in given.items() if value is not None} | scheduled
    unknown = sorted(set(given) - set(inspect.signature(method).parameters))
    if unknown:
        raise ValueError(
            f"`{unknown[0]}` is not a setting of method {recipe.method!r}. "
            f"Received: {unknown[0]}={given[unknown[0]]}. Leave it out, or take another method."
        )
    teacher = built.get("teacher")
    if recipe.method in choices.ADVERSARIAL:
        given |= attack(recipe)
    if recipe.method == "mtard":
        given["clean_teacher"] = loading.load(recipe.clean_teacher, "clean_teacher", splits)
    needed = recipe.method not in (*choices.OF_LOGITS, *choices.WITHOUT_TEACHER)
    if teacher is None and needed:
        raise ValueError(
            f"Method {recipe.method!r} needs the teacher's model beside its cache: give `teacher`, "
            f"a .keras file, or take one of {', '.join(choices.OF_LOGITS)}."
        )
    if recipe.method in choices.TRAIN_TOGETHER:
        # The same layers, compiled; the file of the teacher is to hold no optimizer.
        teacher = keras.Model(teacher.inputs, teacher.outputs[0], name=teacher.name)
        compile_model("teacher", teacher, recipe, splits)
    made = method(student=built["student"], teacher=teacher, **given)
    if recipe.term_weights is not None:
        _weigh(made["terms"], [float(weight) for weight in recipe.term_weights.split(",")])
    return made


def _weigh(terms, weights):
    if len(weights) != len(terms):
        names = ", ".join(term.loss.name for term in terms) or "none"
        raise ValueError(
            f"`term_weights` must have one number for each of the method's terms: {names}. "
            f"Received: {weights}"
        )
    for term, weight in zip(terms, weights, strict=True):
        term.weight = weight


def attack(recipe):
    """The attack of a recipe's robust method, as arguments of `kdkeras.methods`."""
    steps, norm = recipe.attack_steps, recipe.attack_norm
    return {"epsilon": recipe.epsilon, "steps": steps, "norm": norm, "seed": recipe.seed}


def learns_by(name, recipe):
    """How a stage learns: the recipe's method, or "labels", "adversarial_training" or "trades"."""
    if name == "student":
        return recipe.method
    if name == "control":
        robust = recipe.method in choices.ADVERSARIAL and recipe.method != "adversarial_training"
        return "adversarial_training" if robust else "labels"
    if recipe.teacher_method != "auto":
        return recipe.teacher_method
    of_robust = recipe.method in choices.OF_A_ROBUST_TEACHER
    return "adversarial_training" if of_robust else "labels"


def described(built, recipe, splits):
    """What the student learned from, as plain values: alpha, and each term."""
    made = _method(built, recipe, splits)
    terms = [
        {
            "loss": term.loss.name,
            "weight": term.weight,
            "teacher_layers": term.teacher_paths,
            "student_layers": term.student_paths,
            "temperature": term.loss.get_config().get("temperature"),
        }
        for term in made["terms"]
    ]
    return {"method": recipe.method, "alpha": made["alpha"], "terms": terms}


def terms(built, recipe, splits):
    """The terms of a recipe's method, a list of `kdkeras.Term`."""
    return _method(built, recipe, splits)["terms"]


def answers(built, recipe, splits):
    """What the trained teacher says of the views that a recipe asks for, in the work directory.

    Returns:
        `kdkeras.cache.Cache`, with the layers that the method's terms compare.
    """
    layers = feeding.layers_of(terms(built, recipe, splits))
    path = recipe.directory / feeding.CACHE
    if not recipe.quiet:
        print("\nteacher's answers:")
    return feeding.answers(recipe, built["teacher"], splits, path, layers=layers)


def in_turn(recipe, names):
    """The names of a run's stages in the order of their training."""
    if recipe.method in choices.TRAIN_TOGETHER and {"teacher", "student"} <= set(names):
        return [*(name for name in names if name != "teacher"), "teacher"]
    return names


def train(name, built, recipe, splits, answers=None):
    """Trains one model of `built`, in place, and writes it as `<name>.keras`.

    A teacher that came from a file is not trained. With `recipe.resume`, a stage that is finished
    is loaded, and one that is not goes on from its last whole epoch.

    Args:
        name: "teacher", "control" or "student".
        built: Dict of models, as `build` gives it.
        recipe: `kdkeras.Recipe`.
        splits: `kdkeras.data.Splits`.
        answers: None, or the `kdkeras.cache.Cache` that the student learns from.

    Returns:
        The record of the training, as `kdkeras.training.fit` gives it.
    """
    path = recipe.directory / f"{name}.keras"
    record_path = recipe.directory / "logs" / f"{name}.json"
    together = recipe.method in choices.TRAIN_TOGETHER and "student" in built
    if (recipe.resume or together and name == "teacher") and training.is_finished(recipe, name):
        loading.restore(built[name], path)
        return files.read_json(record_path)
    from_file = name == "teacher" and recipe.teacher.endswith(".keras")
    if not recipe.quiet:
        print(f"\n{name}: {models.describe(built[name])}", flush=True)
    if recipe.verbose:
        built[name].summary()
    if from_file:
        record = {"loaded": recipe.teacher, "seconds": 0.0}
    else:
        record = fit(name, built, recipe, splits, answers)
    if together and name == "student":
        # First, for a student's file says that this stage is done.
        write("teacher", built, recipe, {"trained with": "student", "seconds": 0.0})
    write(name, built, recipe, record)
    return record


def write(name, built, recipe, record):
    """Writes a trained model as `<name>.keras`, without optimizer, and its training's record."""
    model = built[name]
    if model.compiled:
        # As it is but for the compilation, which `clone_model` copies.
        model = type(model).from_config(model.get_config())
        model.set_weights(built[name].get_weights())
    with files.atomic_path(recipe.directory / f"{name}.keras") as temporary:
        model.save(temporary)
    logs = recipe.directory / "logs"
    logs.mkdir(exist_ok=True)
    files.write_json(logs / f"{name}.json", record, sealed=True)


def fit(name, built, recipe, splits, answers=None, *, stage=None):
    """Trains one model of `built`, in place; its logs are called `stage`, or as it is."""
    keras.utils.set_random_seed(recipe.seed)
    epochs = _epochs(name, recipe)
    how = learns_by(name, recipe)
    if name == "student":
        model = distillation(built, recipe, splits)
    elif how == "labels":
        model = built[name]
        distribution.ready(model)
    else:
        method = getattr(methods, how)
        model = distiller.Distiller(**method(student=built[name], **attack(recipe)))
    watched = None
    if how in choices.ADVERSARIAL:
        watched = vigilance.RobustAccuracy(built[name], splits.validation, recipe)
    compile_model(name, model, recipe, splits)
    ids = None
    if isinstance(splits.train, data.Examples):
        ids = callbacks.ids_of(splits.train, recipe.batch_size, seed=recipe.seed)
    return training.fit(
        model,
        lambda first_epoch: feeding.batches(
            name, recipe, splits, answers=answers, first_epoch=first_epoch
        ),
        feeding.validation_batches(recipe, splits),
        recipe=recipe,
        stage=stage or name,
        epochs=epochs,
        watched=watched,
        ids=ids,
    )


def _epochs(name, recipe):
    alone = name == "teacher" and recipe.method not in choices.TRAIN_TOGETHER
    return recipe.teacher_epochs if alone and recipe.teacher_epochs else recipe.epochs


def compile_model(name, model, recipe, splits):
    """Compiles the model of a stage: optimizer, hard loss and accuracy."""
    batches = -(-len(splits.train.ids) // recipe.batch_size)
    if feeding.mixes(recipe):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {}
    if not isinstance(model, distiller.Distiller):  # which chooses for itself
        devices = model.distribute_strategy.num_replicas_in_sync
        options["steps_per_execution"] = steps.steps_per_execution(devices=devices)
    model.compile(
        training.optimizer(recipe, steps_per_epoch=batches, epochs=_epochs(name, recipe)),
        loss=loss,
        metrics=["accuracy"],
        **options,
    )
