"""The space of a search: what is read, what is refused, what is proposed."""

import optuna
import pytest

from kdkeras import recipe
from kdkeras.search import checks, ending, settings, spaces

optuna.logging.set_verbosity(optuna.logging.ERROR)


def refusal(given):
    return lambda chosen: settings.refusal(given, chosen, {"hinton": [1.0], "dist": [1.0, 1.0]})


def checked(text, **given):
    given = recipe.Recipe(**given)
    entries = spaces.parse(text)
    spaces.check_free(entries, given)
    spaces.check(entries, refusal(given))


def test_entries_are_read():
    text = (
        "temperature=1:16:log alpha=0:0.9 batch_size=8:64 augment='none|crop,flip' epsilon=2/255:1 "
        "method=hinton|dist student_width=0.25|1/2 weight_2=0.3:3:log"
    )
    found = {entry.name: entry for entry in spaces.parse(text)}
    # Choices first, the method before all: what else is used hangs on them.
    assert list(found)[:3] == ["method", "augment", "student_width"]
    assert (found["temperature"].ends, found["temperature"].log) == ((1.0, 16.0), True)
    assert (found["alpha"].ends, found["alpha"].log) == ((0.0, 0.9), False)
    assert found["batch_size"].ends == (8, 64)
    assert all(isinstance(end, int) for end in found["batch_size"].ends)
    assert found["augment"].choices == ("none", "crop,flip")
    assert found["student_width"].choices == (0.25, 0.5)
    assert found["epsilon"].low == 2 / 255
    assert found["weight_2"].holds(0.3)
    assert not found["weight_2"].holds(3.1)
    assert not found["method"].holds("dkd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to search"),
        ("   ", "nothing to search"),
        ("alpha='0:1", "cannot be read"),
        ("alpha=0.9:0", r"'alpha=0.9:0': the range is inverted: did you mean alpha=0:0.9\?$"),
        ("alpha=0:0.9,temperature=1:8", "between entries stands a space, no comma"),
        ("alpha=0.5:0.5", "'alpha=0.5:0.5': the range is empty"),
        ("temperature=0:4:log", "'temperature=0:4:log': a range on a log scale must begin above 0"),
        ("alpha=0:1 alpha=0:0.5", "'alpha' 2 times"),
        ("temprature=1:4", "Did you mean 'temperature'"),
        ("weight_0=1:2", "weight_0"),
        ("dataset=digits|mnist", "'dataset' cannot be searched"),
        ("epochs=1:9", "'epochs' cannot be searched"),
        ("alpha", "'alpha'.*expected alpha=low:high"),
        ("alpha=", "nothing to search"),
        ("alpha=0.5", "'alpha=0.5': expected alpha=low:high"),
        ("alpha=0:1:lin", "'alpha=0:1:lin': expected"),
        ("alpha=0:x", "'alpha=0:x': expected a number where it has 'x'"),
        ("alpha=0:1/0", "expected a number"),
        ("alpha=0:inf", "expected finite numbers"),
        ("batch_size=8:16.5", "expected an integer where it has '16.5'"),
        ("method=hinton", "expected choices"),
        ("method=hinton|", "a choice is empty"),
        ("method=hinton|hinton", "a choice stands there twice"),
    ],
)
def test_entries_that_cannot_be_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        spaces.parse(text)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("alpha=0:1.5", {}, "'alpha=0:1.5': 1.5 is refused: .alpha. must be a number in"),
        ("method=hinton|hintn", {}, "'method=hinton|hintn': hintn is refused.*hinton"),
        ("augment=none|corp", {}, "corp is refused"),
        ("temperature=1:4", {"method": "rslad"}, "not a setting of method 'rslad'"),
        ("noise_stddev=0.1:0.2", {}, "`noise_stddev` would change nothing"),
        ("temperature=1:4", {"temperature": 2.0}, "`temperature` is fixed and in `space` too"),
        ("learning_rate=0.1:1", {"learning_rate": 0.3}, "`learning_rate` is fixed"),
        ("method=hinton|fitnet", {"temperature": 2.0}, "not a setting of method 'fitnet'"),
        ("weight_2=0.1:1", {}, "method 'hinton' has 1 terms, and no weight_2"),
        ("batch_size=0:8", {}, "'batch_size=0:8': 0 is refused"),
    ],
)
def test_values_that_no_recipe_can_have_are_refused(text, given, message):
    with pytest.raises(ValueError, match=message):
        checked(text, **given)


def test_what_is_used_somewhere_is_accepted():
    checked("noise_stddev=0.1:0.2 perturbation=none|gaussian")
    checked("temperature=1:4 method=hinton|rslad")
    checked("weight_2=0.1:1 method=hinton|dist")
    checked("perturbation=none|gaussian method=hinton|ard")


def proposals(text, count=40, **given):
    given = recipe.Recipe(**given)
    entries = spaces.parse(text)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(sampler=sampler)
    return [spaces.suggested(entries, study.ask(), refusal(given)) for _ in range(count)]


def test_settings_are_proposed_only_where_they_are_used():
    text = "method=hinton|rslad temperature=1:4 perturbation=none|gaussian noise_stddev=0.1:0.2"
    kinds = set()
    for chosen in proposals(text):
        settings.applied(recipe.Recipe(), chosen)  # all of them can be trained
        assert ("temperature" in chosen) == (chosen["method"] == "hinton")
        # Robust methods make their own perturbed pictures.
        assert ("perturbation" in chosen) == (chosen["method"] == "hinton")
        assert ("noise_stddev" in chosen) == (chosen.get("perturbation") == "gaussian")
        kinds.add((chosen["method"], chosen.get("perturbation")))
    assert kinds == {("hinton", "none"), ("hinton", "gaussian"), ("rslad", None)}


def test_proposals_keep_to_their_ranges_and_are_short():
    for chosen in proposals("learning_rate=0.0123456:0.0123457 batch_size=3:5"):
        assert 0.0123456 <= chosen["learning_rate"] <= 0.0123457
        assert chosen["batch_size"] in (3, 4, 5)
    assert all(
        len(repr(chosen["alpha"])) <= 7 for chosen in proposals("alpha=0.1:0.9") if chosen["alpha"]
    )


def test_the_default_space():
    def names(**given):
        return [word.partition("=")[0] for word in spaces.default(recipe.Recipe(**given)).split()]

    assert names() == ["temperature", "alpha", "learning_rate"]
    assert names(alpha=0.5) == ["temperature", "learning_rate"]
    assert names(method="fitnet") == ["alpha", "learning_rate"]
    assert names(method="rslad") == ["learning_rate"]
    assert "learning_rate=0.01:0.2:log" in spaces.default(recipe.Recipe())


def test_weights_become_the_recipes():
    own = {"dist": [1.0, 1.0]}
    made = settings.applied(recipe.Recipe(method="dist"), {"weight_2": 0.3}, own)
    assert made.term_weights == "1.0,0.3"


def test_the_recipe_as_given():
    def given(text, **of_recipe):
        made = recipe.Recipe(**of_recipe)
        own = {"hinton": [1.0], "dist": [1.0, 1.0]}
        return settings.given(made, spaces.parse(text), own, refusal(made))

    # What the recipe leaves open is the method's own.
    text = "alpha=0:0.9 temperature=1:16 augment=none|crop student_width=0.25:0.5"
    found = {"augment": "crop", "alpha": 0.1, "temperature": 4.0, "student_width": 0.35}
    assert given(text) == found
    assert given("temperature=5:16") is None
    assert given("teacher=a.keras|b.keras") is None
    assert given("weight_1=0.3:3", method="dist") == {"weight_1": 1.0}
    assert given("noise_stddev=0.1:0.2 perturbation=none|gaussian") == {"perturbation": "none"}


def test_corners_have_each_choice_once():
    given = recipe.Recipe()
    found = checks.corners(spaces.parse("method=hinton|dkd student_width=0.25:0.5"), given)
    kinds = {(one.method, one.student_width) for one in found}
    assert kinds == {("hinton", None), ("dkd", None), ("hinton", 0.25), ("hinton", 0.5)}
    assert len(found) == 4


def test_the_command_line_of_a_recipe(monkeypatch):
    made = recipe.Recipe(
        dataset="folder:my pictures", temperature=2.5, control=False, download=True, workdir="x"
    )
    line = ending.command(made, "runs/best")
    assert line == (
        "kdkeras distill '--dataset=folder:my pictures' --download --temperature=2.5 --nocontrol "
        "--workdir=runs/best"
    )
