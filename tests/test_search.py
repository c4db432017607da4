"""A search from its space to its results, with the real Optuna and tiny models."""

import csv
import html.parser
import json
import re
import shutil
import signal
import sqlite3
import sys

import keras
import numpy as np
import optuna
import pytest
from conftest import classifier

from kdkeras import callbacks as watching
from kdkeras import cli, evaluation, files, locks, recipe, repeats, robustness, runner, search
from kdkeras.search import comparing, ranking, studies, tutors, worlds

SPACE = "temperature=1:8:log alpha=0:0.9 learning_rate=0.001:0.2:log"


class WithoutTest:
    """Splits whose test images nobody may look at before the trials are over."""

    def __init__(self, splits, is_over):
        self.splits, self.is_over = splits, is_over

    def __getattr__(self, name):
        if name == "test" and not self.is_over:
            raise AssertionError("a trial looked at the test images")
        return getattr(self.splits, name)


class Quick:
    """A world that trains nothing: how good a student becomes hangs on the learning rate."""

    student = classifier()
    stop_training = False

    def fit(self, recipe, answers, callbacks):
        if recipe.learning_rate > 1e3:
            what = "the loss became nan in epoch 1, step 1"
            raise watching.NotFinite("And what to try.", what=what)
        for epoch in range(recipe.epochs):
            found = 0.9 - abs(recipe.learning_rate - 0.05) + 0.01 * epoch
            logs = {"loss": 1.0 - found, "val_loss": 1.0 - found, "val_accuracy": found}
            for callback in callbacks:
                callback.set_params({"epochs": recipe.epochs})
                callback.set_model(self)
                callback.on_epoch_end(epoch, logs)
            if self.stop_training:
                return


@pytest.fixture(scope="module")
def splits():
    return runner.load_data(recipe.Recipe(max_train=80, quiet=True))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A trained teacher's file."""
    folder = tmp_path_factory.mktemp("taught") / "run"
    runner.train(tiny(folder, teacher="mlp", teacher_width=16.0, epochs=3))
    return str(folder / "teacher.keras")


def tiny(folder, **settings):
    plain = {
        "max_train": 80,
        "student": "mlp",
        "student_width": 8.0,
        "epochs": 2,
        "batch_size": 16,
        "augment": "none",
        "quiet": True,
    }
    return recipe.Recipe(**{**plain, "workdir": str(folder), **settings})


@pytest.fixture
def quick(monkeypatch, splits):
    """Trials that take no time."""
    monkeypatch.setattr(runner, "load_data", lambda _: WithoutTest(splits, []))
    monkeypatch.setattr(worlds.Worlds, "of", lambda *_: Quick())
    monkeypatch.setattr(tutors.Answers, "of", lambda *_: None)


def trials_of(folder):
    study = optuna.load_study(study_name=studies.NAME, storage=f"sqlite:///{folder / 'study.db'}")
    return study.get_trials()


def chosen_of(folder):
    return [trial.user_attrs["settings"] for trial in trials_of(folder) if trial.params]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, teacher, splits):
    """The folder and the results of a search that nothing interrupts."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    compared, is_over = comparing.compared, []

    def at_the_end(*given):
        is_over.append(True)
        return compared(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "load_data", lambda _: WithoutTest(splits, is_over))
        patch.setattr(comparing, "compared", at_the_end)
        given = tiny(folder, teacher=teacher)
        return folder, search.run(given, space=SPACE, trials=6, compare_seeds=1)


def test_results(whole, teacher):
    folder, results = whole
    assert files.read_json(folder / "results.json") == results
    assert sum(results["trials"].values()) == 6
    assert results["trials"]["complete"] >= 5
    done = [trial for trial in trials_of(folder) if trial.state.name == "COMPLETE"]
    best = max(done, key=lambda trial: (trial.value, -trial.user_attrs["val_loss"]))
    assert results["winner"]["number"] == best.number
    assert results["winner"]["value"] == best.value == max(best.user_attrs["curve"])
    as_given = {"temperature": 4.0, "alpha": 0.1, "learning_rate": 0.1}
    assert results["as_given"]["settings"] == as_given
    assert results["as_given"]["number"] == 0
    figures = results["comparison"]["accuracy"]
    for role, place in (("winner", "winner"), ("as_given", "default")):
        stored = json.loads((folder / place / "results.json").read_text())
        assert [stored["models"]["student"]["test"]["accuracy"]] == figures[role]
        assert set(stored["models"]) == {"teacher", "student"}
    difference = figures["winner"][0] - figures["as_given"][0]
    assert figures["difference"]["mean"] == pytest.approx(difference)
    found = recipe.read(folder / "best" / "recipe.json")
    assert {name: getattr(found, name) for name in as_given} == results["winner"]["settings"]
    assert (found.teacher, found.student_width) == (teacher, 8.0)
    assert f"--temperature={found.temperature}" in results["command"]
    shares = results["importance"]
    if shares:
        assert sum(shares.values()) == pytest.approx(1.0)
    else:
        assert results["importance_missing"]


def test_table(whole):
    folder, results = whole
    with open(folder / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(6))
    first = rows[0]
    assert (first["state"], float(first["temperature"])) == ("complete", 4.0)
    assert (int(first["epochs"]), float(first["seconds"]) > 0.0) == (2, True)
    assert int(first["parameters"]) == results["winner"]["parameters"]


def test_page(whole):
    folder, results = whole
    text = (folder / "search.html").read_text()
    loads, figures = [], []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, given):
            given = dict(given)
            loads.extend(given[name] for name in ("src", "href") if name in given)
            if given.get("role") == "img":
                figures.append(given["aria-label"])

    Reader().feed(text)
    assert all(load.startswith(("#", "data:")) for load in loads)
    assert len(figures) >= 5
    assert f"Trial {results['winner']['number']} is best" in " ".join(figures)
    assert results["command"].split()[-1] in text


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"batch_size": 8}, {}, "recipe.batch_size: 16 there, 8 here"),
        ({}, {"space": "alpha=0:0.5"}, "space.alpha: '0:0.9' there, '0:0.5' here"),
        ({}, {"objective": "pareto"}, "objective.name: 'accuracy' there, 'pareto' here"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(
    whole, teacher, quick, changed, options, message
):
    folder, _ = whole
    before = len(trials_of(folder))
    with pytest.raises(ValueError, match=message):
        search.run(
            tiny(folder, teacher=teacher, **changed), **{"space": SPACE, "trials": 6, **options}
        )
    assert len(trials_of(folder)) == before


def test_another_teacher_is_refused(tmp_path, teacher, quick):
    given = tiny(tmp_path / "taught", teacher=str(tmp_path / "teacher.keras"), epochs=1)
    shutil.copy(teacher, given.teacher)
    options = {"space": "alpha=0:0.5", "trials": 1, "compare_seeds": 0}
    search.run(given, **options)
    model = keras.models.load_model(teacher)
    model.save(given.teacher)
    with pytest.raises(ValueError, match="has another teacher than .*teacher.keras"):
        search.run(given, **options)


def test_interrupted_and_gone_on_with_as_if_it_were_not(tmp_path, teacher, quick, monkeypatch):
    undisturbed = tmp_path / "undisturbed"
    options = {"space": SPACE, "compare_seeds": 0}
    results = search.run(tiny(undisturbed, teacher=teacher), trials=8, **options)
    folder, fit, calls = tmp_path / "stopped", Quick.fit, []

    def stopped(self, *given):
        calls.append(given)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return fit(self, *given)

    given = tiny(folder, teacher=teacher)
    search.run(given, trials=5, **options)
    monkeypatch.setattr(Quick, "fit", stopped)
    calls.extend([None] * 5)
    with pytest.raises(KeyboardInterrupt):
        search.run(given, trials=8, **options)
    states = [trial.state.name for trial in trials_of(folder)]
    assert states[7:] == ["FAIL"]
    again = search.run(given, trials=8, **options)
    assert chosen_of(folder)[:8] == chosen_of(undisturbed)
    assert chosen_of(folder)[8] == chosen_of(folder)[7]  # after all
    assert again["trials"] == results["trials"]
    assert again["winner"]["settings"] == results["winner"]["settings"]
    done = search.run(given, trials=8, **options)
    assert (done["winner"], len(trials_of(folder))) == (again["winner"], 9)


def test_a_trial_without_a_value_fails_and_the_search_goes_on(tmp_path, teacher, quick, capsys):
    given = tiny(tmp_path / "nan", teacher=teacher, quiet=False)
    results = search.run(given, space="learning_rate=0.05|1e30", trials=4, compare_seeds=0)
    said = capsys.readouterr().out
    assert results["trials"]["failed"] >= 1
    assert sum(results["trials"].values()) == 4
    assert results["winner"]["settings"] == {"learning_rate": 0.05}
    assert "failed" in said
    assert "the loss became nan" in said
    assert results["as_given"] is None  # 0.1 is no choice
    told = [line for line in said.splitlines() if re.match(r" *\d+ (complete|failed)", line)]
    assert len(told) == 4
    assert max(map(len, told)) <= 80
    assert "too few" in results["importance_missing"]


def test_all_trials_failed(tmp_path, teacher, quick):
    given = tiny(tmp_path / "nan", teacher=teacher)
    with pytest.raises(ValueError, match="No trial was finished. 2 failed: the loss became nan"):
        search.run(given, space="learning_rate=1e29:1e30", trials=2, compare_seeds=0)


def test_minutes_end_it_with_one_trial_whole(tmp_path, teacher, quick):
    given = tiny(tmp_path / "short", teacher=teacher)
    results = search.run(given, space=SPACE, trials=50, minutes=1e-4, compare_seeds=0)
    assert results["trials"] == {"complete": 1, "pruned": 0, "failed": 0}
    assert results["winner_is_as_given"]


def test_the_winner_is_compared_with_the_recipe_as_given(tmp_path, teacher, quick, monkeypatch):
    asked = []

    def carried_out(made):
        asked.append(made)
        values = [0.9, 0.95, 0.91] if made.learning_rate == 0.05 else [0.9, 0.9, 0.9]
        of_seeds = {"accuracy": {"values": values[: made.seeds]}}
        results = {"models": {"student": {"test": of_seeds}}}
        made.directory.mkdir()
        files.write_json(made.directory / "recipe.json", made.to_dict())
        files.write_json(made.directory / "results.json", results)
        return results

    monkeypatch.setattr(repeats, "run", carried_out)
    given = tiny(tmp_path / "compared", teacher=teacher, quantize="int8", export=True)
    options = {"space": "learning_rate=0.05|0.1|0.2", "trials": 9}
    results = search.run(given, **options)
    figures = results["comparison"]["accuracy"]
    assert results["comparison"]["seeds"] == [0, 1, 2]
    assert figures["difference"] == evaluation.across([0.0, 0.95 - 0.9, 0.91 - 0.9])
    assert [made.learning_rate for made in asked] == [0.05, 0.1]
    for made in asked:
        assert (made.seeds, made.control, made.export, made.quantize) == (3, False, False, "none")
        assert made.teacher == teacher
    assert recipe.read(tmp_path / "compared" / "best" / "recipe.json").quantize == "int8"
    assert search.run(given, **options)["comparison"] == results["comparison"]
    assert len(asked) == 2  # they stand there
    search.run(given, **options, compare_seeds=2)
    assert [made.seeds for made in asked] == [3, 3, 2, 2]


def test_pareto(tmp_path, teacher, quick, monkeypatch):
    def of(self, made, *_):
        world = Quick()
        world.student = classifier(width=int(10 * made.temperature))
        return world

    monkeypatch.setattr(worlds.Worlds, "of", of)
    given = tiny(tmp_path / "pareto", teacher=teacher)
    options = {"objective": "pareto", "compare_seeds": 0, "space": SPACE}
    results = search.run(given, trials=9, **options)
    assert len(results["front"]) > 1
    assert results["trials"]["pruned"] == 0
    sizes = [one["parameters"] for one in results["front"]]
    values = [one["value"] for one in results["front"]]
    assert sizes == sorted(sizes, reverse=True)
    assert values == sorted(values, reverse=True)
    assert results["front"][0]["number"] == results["winner"]["number"]
    assert "Accuracy and size" in (tmp_path / "pareto" / "search.html").read_text()


def test_mixed(tmp_path, teacher, quick, splits, monkeypatch):
    model = keras.models.load_model(teacher)
    monkeypatch.setattr(Quick, "student", model)
    given = tiny(tmp_path / "mixed", teacher=teacher, epochs=1)
    options = {"objective": "mixed", "robust_weight": 0.25, "robust_epsilon": 0.01}
    results = search.run(given, space=SPACE, trials=1, compare_seeds=0, **options)
    winner = results["winner"]
    mixed = 0.75 * winner["val_accuracy"] + 0.25 * winner["val_robust_accuracy"]
    assert winner["value"] == pytest.approx(mixed)
    images, labels = evaluation.collect(splits.validation)
    found = robustness.quick(model, images, labels, epsilon=0.01, seed=0)
    assert winner["val_robust_accuracy"] == found["robust"]
    assert results["objective"] == {"name": "mixed", "weight": 0.25, "epsilon": 0.01}


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"trials": 0}, {}, "`trials` must be an integer of at least 1"),
        ({"minutes": 0}, {}, "`minutes` must be positive"),
        ({"compare_seeds": -1}, {}, "`compare_seeds`"),
        ({"objective": "speed"}, {}, "`objective` must be one of"),
        ({"robust_weight": 2}, {}, "`robust_weight`"),
        ({"robust_epsilon": 8}, {}, "divide it by 255"),
        ({}, {"seeds": 2}, "`seeds` must be 1 in a search"),
        ({}, {"strategy": "mirrored"}, "`strategy` must be 'none' in a search"),
        ({"space": "teacher=mlp|resnet20"}, {"teacher": "resnet20"}, "must be .keras files"),
        ({"space": "teacher=x.keras|y.keras"}, {"teacher": "resnet20"}, "cannot be loaded"),
        ({"space": "student=mlp|mpl"}, {"student": "mobilenet_v2"}, "Did you mean 'mlp'"),
        ({"space": "weight_2=1:2"}, {}, "has 1 terms, and no weight_2"),
        ({"space": "weight_1=1:2"}, {"term_weights": "1"}, "`term_weights` is fixed"),
        ({"storage": "sqlite:////no/such/folder/x.db"}, {}, "cannot be used"),
        ({"storage": "nonsense"}, {}, "cannot be used"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, teacher, quick, options, settings, message):
    folder = tmp_path / "none"
    with pytest.raises(ValueError, match=message):
        search.run(tiny(folder, **{"teacher": teacher, **settings}), **options)
    assert not (folder / "results.json").exists()
    assert not (folder / "teacher").exists()


def test_optuna_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'kdkeras\[search\]'"):
        search.run(tiny(tmp_path))


def test_foreign_folders_and_studies(tmp_path, teacher, quick):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for overwrite in (False, True):
        given = tiny(tmp_path / "mine", teacher=teacher, overwrite=overwrite)
        with pytest.raises(ValueError, match="holds thesis.txt"):
            search.run(given)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    folder = tmp_path / "other"
    (folder / "locks").mkdir(parents=True)
    given = tiny(folder, teacher=teacher)
    study = folder / "study.db"
    study.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    with pytest.raises(ValueError, match="study.db' is damaged"):
        search.run(given)
    study.unlink()
    with sqlite3.connect(study) as connection:
        connection.execute("CREATE TABLE mice (name TEXT)")
    connection.close()
    with pytest.raises(ValueError, match="is no study: it has the tables"):
        search.run(given)
    study.unlink()
    optuna.create_study(study_name="theirs", storage=f"sqlite:///{study}")
    with pytest.raises(ValueError, match="is of something else: theirs"):
        search.run(given)


def test_overwrite_begins_anew_unless_a_search_is_running(tmp_path, teacher, quick):
    folder = tmp_path / "anew"
    options = {"space": "alpha=0:0.5", "trials": 1, "compare_seeds": 0}
    search.run(tiny(folder, teacher=teacher, epochs=1), **options)
    other = tiny(folder, teacher=teacher, epochs=1, batch_size=8, overwrite=True)
    running = locks.shared(folder / "locks" / "running")
    with running, pytest.raises(ValueError, match="another process is writing"):
        search.run(other, **options)
    results = search.run(other, **options)
    assert results["recipe"]["batch_size"] == 8
    assert len(trials_of(folder)) == 1


def test_equals_are_told_apart_by_validation_loss():
    study = optuna.create_study(direction="maximize")
    distribution = {"alpha": optuna.distributions.FloatDistribution(0, 1)}
    for value, loss in ((0.9, 0.1), (1.0, 0.3), (1.0, 0.2), (1.0, 0.2)):
        study.add_trial(
            optuna.create_trial(
                value=value,
                params={"alpha": 0.5},
                distributions=distribution,
                user_attrs={"val_loss": loss},
            )
        )
    assert [trial.number for trial in ranking.ranked(study)] == [2, 3, 1, 0]


def test_importance_finds_what_matters():
    study = optuna.create_study(direction="maximize")
    distributions = {name: optuna.distributions.FloatDistribution(0, 1) for name in "ab"}
    random = np.random.default_rng(0)
    for number in range(40):
        a, b = random.random(2)
        study.add_trial(
            optuna.create_trial(
                value=a + 0.01 * b, params={"a": a, "b": b}, distributions=distributions
            )
        )
        if number == 2:
            assert ranking.importance(study, 0) == (
                {},
                "3 finished trials are too few: 4 are needed",
            )
    shares, missing = ranking.importance(study, 0)
    assert missing is None
    assert list(shares) == ["a", "b"]
    assert shares["a"] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0)


def test_none_is_pruned_before_five_are_whole():
    study = optuna.create_study(direction="maximize", pruner=studies.pruner(12))
    stopped = []
    for number in range(12):
        trial = study.ask()
        values = [0.9 - 0.05 * number] * 12  # each is worse than all before
        for epoch, value in enumerate(values, start=1):
            trial.report(value, epoch)
            if trial.should_prune():
                stopped.append((number, epoch))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, values[-1])
    assert len(studies.finished(study)) == 5
    # At the first rung, of max(1, 12 // 6) epochs.
    assert stopped == [(number, 2) for number in range(5, 12)]


def test_the_default_space_lies_around_the_recipe(quick, teacher, tmp_path):
    given = tiny(tmp_path, teacher=teacher, learning_rate=0.003, temperature=2.0)
    results = search.run(given, trials=2, compare_seeds=0)
    assert results["space"] == {"alpha": "0:0.9", "learning_rate": "0.0003:0.006:log"}
    assert chosen_of(tmp_path)[0] == {"alpha": 0.1, "learning_rate": 0.003}


def test_sentences_say_how_it_came_out():
    def said(low, high, seeds=3):
        difference = {"mean": (low + high) / 2, "interval": [low, high]}
        both = {"winner": [0.9] * seeds, "as_given": [0.8] * seeds, "difference": difference}
        return comparing.sentence({"accuracy": both})

    assert said(0.01, 0.03).endswith(
        "+2.00 points (95 %: +1.00 to +3.00), paired over 3 seeds: better."
    )
    assert said(-0.03, -0.01).endswith(": worse.")
    assert said(-0.01, 0.03).endswith(": no difference can be told.")
    assert said(-1.01, 1.03, seeds=2).endswith("+1.00 points, of 2 seeds: too few to tell.")


def test_command(whole, teacher, tmp_path, capsys, monkeypatch):
    given = {}
    folder, results = whole

    def noted(made, **options):
        given.update(made=made, **options)
        return results

    monkeypatch.setattr(search, "run", noted)
    flags = [
        "--trials=3",
        "--minutes=1.5",
        f"--space={SPACE}",
        "--student=mlp",
        "--objective=mixed",
    ]
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["search", *flags, "--robust_epsilon=4/255", "--workdir=w"]) == 0
    assert (given["trials"], given["minutes"], given["space"]) == (3, 1.5, SPACE)
    assert (given["robust_epsilon"], given["compare_seeds"]) == (4 / 255, 3)
    assert given["made"] == recipe.Recipe(student="mlp", workdir="w")
    said = capsys.readouterr().out
    assert f"Best: trial {results['winner']['number']}" in said
    assert "Test accuracy" in said
    assert results["command"] in said
    assert f"Page: {folder / 'search.html'}" in said
    assert signal.getsignal(signal.SIGTERM) == before

    def terminated(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(search, "run", terminated)
    assert cli.main(["search"]) == 143
    assert "stopped. To go on: the same command with --resume." in capsys.readouterr().err
    assert cli.main(["search", "--space=alpha=1:0", "--trials=x"]) == 2
