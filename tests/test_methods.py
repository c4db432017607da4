"""Named methods: their settings, that each trains, and that each survives saving."""

import inspect

import keras
import numpy as np
import pytest
from conftest import conv_net, pictures, sparse_loss

import kdkeras
from kdkeras import choices, methods, taps

pytestmark = pytest.mark.core


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = conv_net()

    def call(self, x):
        return self.net(x)


NAMES = tuple(name for name, _ in inspect.getmembers(methods, inspect.isfunction) if name[0] != "_")


def built(name, student=None, teacher=None, **options):
    student = student or conv_net(4)
    teacher = teacher or conv_net(4 if name == "born_again" else 6)
    if name in choices.TRAIN_TOGETHER:
        teacher.compile(keras.optimizers.SGD(0.1), loss=sparse_loss())
    if name == "mtard":
        options["clean_teacher"] = conv_net(5)
    if name in choices.ADVERSARIAL:
        options = {"seed": 0, "steps": 2, **options}
    if name == "gaussian":
        options = {"seed": 0, **options}
    return getattr(methods, name)(student=student, teacher=teacher, **options)


def compiled(name, **options):
    d = kdkeras.Distiller(**built(name, **options))
    d.compile(keras.optimizers.Adam(0.01), loss=sparse_loss(), metrics=["accuracy"])
    return d


def test_the_recipe_knows_every_method():
    assert set(choices.METHODS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_and_survives_a_keras_file(name, tmp_path):
    x, y = pictures()
    d = compiled(name)
    before = [weight.numpy() for weight in d.trainable_variables]
    history = d.fit(x, y, batch_size=6, verbose=0).history
    assert all(np.isfinite(value).all() for value in history.values())
    after = [weight.numpy() for weight in d.trainable_variables]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert [weight.shape for weight in loaded.weights] == [weight.shape for weight in d.weights]
    d.reset_metrics()  # which older Keras leaves to add up
    if d.perturbation is not None:  # which starts its draws anew in the file
        state = loaded.perturbation.seed_generator.state
        d.perturbation.seed_generator.state.assign(state)
    logs = [one.train_on_batch(x, y, return_dict=True) for one in (d, loaded)]
    for key, value in logs[0].items():
        np.testing.assert_allclose(value, logs[1][key], rtol=2e-3, atol=1e-5, err_msg=key)


@pytest.mark.parametrize(
    ("name", "alpha", "weights"),
    [
        ("hinton", 0.1, [1.0]),
        ("dkd", 0.5, [1.0]),
        ("dist", 0.5, [1.0, 1.0]),
        ("standardized", 0.1, [10.0]),
        ("fitnet", 0.5, [100.0]),
        ("attention", 0.5, [1000.0]),
        ("rkd", 0.5, [25.0, 50.0]),
        ("similarity", 0.5, [3000.0]),
        ("pkt", 0.5, [30000.0]),
        ("review", 0.5, [1.0]),
        ("crd", 0.5, [0.8]),
        ("mutual", 0.5, [1.0]),
        ("born_again", 0.5, [1.0]),
        ("gaussian", 0.1, [1.0]),
        ("defensive", 0.0, [1 / 20]),
        ("adversarial_training", 1.0, []),
        ("trades", 0.5, [6.0]),
        ("ard", 0.0, [1.0]),
        ("rslad", 0.0, [5 / 6, 1.0 - 5 / 6]),
        ("iad", 0.0, [1.0, 1.0]),
        ("adaad", 0.0, [1.0]),
        ("mtard", 0.0, [1.0, 1.0]),
        ("peer", 0.0, [1.0, 1.0]),
    ],
)
def test_published_settings(name, alpha, weights):
    made = built(name)
    assert made["alpha"] == alpha
    assert [term.weight for term in made["terms"]] == weights
    assert set(NAMES) == {mark[0] for mark in published()}


def published():
    (mark,) = (m for m in test_published_settings.pytestmark if m.name == "parametrize")
    return mark.args[1]


def test_hyper_parameters_reach_the_losses():
    (term,) = built("dkd", target_weight=2.0, nontarget_weight=3.0, temperature=5.0)["terms"]
    loss = term.loss
    assert (loss.target_weight, loss.nontarget_weight, loss.temperature) == (2.0, 3.0, 5.0)
    (term,) = built("standardized")["terms"]
    assert (term.loss.standardize, term.loss.temperature) == (True, 2.0)
    assert built("hinton", temperature=7.0)["terms"][0].loss.temperature == 7.0
    assert built("crd")["terms"][0].loss.temperature == 0.07
    assert [term.loss.temperature for term in built("dist")["terms"]] == [1.0, 1.0]
    mutual = built("mutual")
    assert mutual["train_teacher"]
    assert (mutual["teacher"].alpha, mutual["teacher"].temperature) == (0.5, 1.0)


def test_methods_of_layers_take_their_layers_from_match_layers_or_pairs():
    student, teacher = conv_net(4), conv_net(6)
    pairs = kdkeras.match_layers(teacher, student)
    assert pairs == [("r0", "r0"), ("r1", "r1")]
    models = {"student": student, "teacher": teacher}
    assert built("attention", **models)["terms"][0].teacher_layer == ["r0", "r1"]
    assert built("fitnet", **models)["terms"][0].teacher_layer == ["r1"]
    assert built("similarity", **models)["terms"][0].teacher_layer == ["r1"]
    assert built("review", **models)["terms"][0].student_layer == ["r0", "r1"]
    for name in ("rkd", "pkt", "crd"):
        for term in built(name, **models)["terms"]:
            assert (term.teacher_layer, term.student_layer) == (["pool"], ["pool"])
    (term,) = built("attention", pairs=[("c0", "c1")], **models)["terms"]
    assert (term.teacher_layer, term.student_layer) == (["c0"], ["c1"])


def test_warm_up_raises_the_weight_linearly_and_is_logged():
    x, y = pictures()
    d = compiled("attention", warmup_steps=4)
    logged = [d.train_on_batch(x, y, return_dict=True) for _ in range(6)]
    weights = [logs["attention_transfer_weight"] for logs in logged]
    np.testing.assert_allclose(weights, [250, 500, 750, 1000, 1000, 1000])


def test_methods_mix():
    x, y = pictures()
    models = {"student": conv_net(4), "teacher": conv_net(6)}
    made = built("dkd", **models)
    made["terms"] += built("review", **models)["terms"]
    d = kdkeras.Distiller(**made)
    d.compile(keras.optimizers.Adam(0.01), loss=sparse_loss())
    history = d.fit(x, y, verbose=0).history
    assert {"decoupled", "hierarchical_context"} <= set(history)


def test_review_compares_every_stage_fused_with_the_deeper_ones():
    made = built("review")
    (fusion,) = [term.adapter for term in made["terms"]]
    shapes = taps.shapes(made["teacher"])
    assert fusion.channels == [shapes["r0"][-1], shapes["r1"][-1]]
    assert fusion.sizes == [(4, 4), (2, 2)]
    assert fusion.width == 8  # the student's deepest


@pytest.mark.parametrize(
    ("name", "models", "message"),
    [
        ("born_again", {"teacher": conv_net(5)}, "needs a teacher of the student's architecture"),
        ("review", {"pairs": [("pool", "pool")]}, "Method 'review' compares feature maps"),
        ("fitnet", {"weight": -1.0}, "`weight` must be a finite number, at least 0"),
        ("review", {"pairs": [("r9", "r0")]}, "no layer 'r9'.*Its layers: c0"),
        ("attention", {"pairs": [("pool", "pool")]}, "compares feature maps"),
        ("fitnet", {"pairs": []}, "`pairs` must be a list of .teacher's path, student's path"),
        ("attention", {"pairs": ("r0", "r0")}, "`pairs` must be a list of"),
        ("rkd", {"warmup_steps": -5}, "`warmup_steps` must be an integer of at least 0"),
        ("fitnet", {"teacher": lambda x: x}, "Only a `keras.Model` has layers to look into"),
        ("fitnet", {"student": Subclassed()}, "has no graph of layers to look into"),
        ("fitnet", {"pairs": [("r9", "r0")]}, "Term 'hint', `teacher_layer`.*no layer 'r9'"),
    ],
)
def test_what_a_method_cannot_do(name, models, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(**built(name, **models))


def test_methods_of_layers_take_lists_of_teachers():
    x, y = pictures()
    d = compiled("review", teacher=[conv_net(6), conv_net(4)], pairs=[("teacher_2/r0", "r0")])
    assert np.isfinite(d.fit(x, y, verbose=0).history["loss"]).all()


def test_mutual_learning_wants_a_compiled_peer():
    with pytest.raises(ValueError, match="`teacher` must be compiled, for it is trained as well"):
        methods.mutual(student=conv_net(4), teacher=conv_net(4))


@pytest.mark.parametrize("name", ["attention", "review", "rkd"])
def test_methods_of_layers_work_on_the_models_people_use(name):
    student = kdkeras.models.mobilenet_v2(input_shape=(16, 16, 1), num_classes=3, alpha=0.35)
    teacher = kdkeras.models.resnet(20, input_shape=(16, 16, 1), num_classes=3)
    d = kdkeras.Distiller(**built(name, student=student, teacher=teacher))
    x, y = pictures(4, size=16)
    d.compile("sgd", loss=sparse_loss())
    outputs = d(x, training=True)
    assert np.isfinite(d.compute_loss(x, d.teach(x, {"label": y}), outputs))
