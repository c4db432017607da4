"""A few of each family of nonsense, the same each time; and the judge of what came of it."""

import pytest

from kdkeras import (
    Distiller,
    Term,
    augment,
    cli,
    commands,
    loading,
    losses,
    methods,
    perturbations,
)

from . import flags, fuzzing, nonsense, precious, soaking

FEWEST = 140


def test_nonsense_is_survived():
    tallies = list(fuzzing.run(0, quick=True))
    assert [problem for tally in tallies for problem in tally.lost] == []
    assert sum(tally.tried for tally in tallies) >= FEWEST
    assert all(tally.tried for tally in tallies)


def test_the_same_seed_draws_the_same():
    strategy = nonsense.of_flag("alpha", "float")
    first, again, other = (nonsense.drawn(strategy, 20, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == 20


@pytest.mark.parametrize(
    ("status", "said", "problem"),
    [
        (0, "", None),
        (130, "\nkdkeras: stopped. The same command begins again.\n", None),
        (2, "kdkeras: --alpha must be a number in [0, 1]. Received: alpha=2.0\nTry: x\n", None),
        (1, "kdkeras train: 'note.txt' cannot be used: Not a directory.\n", None),
        (3, "", "status 3"),
        (130, "", "status 130"),
        (1, "Traceback (most recent call last)", "a library's words"),
        (1, "kdkeras train: [Errno 2] No such file", "a library's words"),
        (1, "kdkeras train: 'NoneType' object is not iterable", "a library's words"),
        (1, "something is wrong", "without a message"),
        (2, "kdkeras train: --alpha is wrong", "without a message"),
        (1, "kdkeras train: something is wrong", "names nothing"),
    ],
)
def test_the_judge(status, said, problem):
    words = ["train", "--alpha=2", "--workdir=note.txt"]
    found = precious._judged(words, {"alpha": "float"}, status, "", said, ())
    assert (found is None) == (problem is None)
    assert problem is None or problem in found


def test_what_is_changed_is_seen_and_put_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.txt").write_text("a")
    (tmp_path / "note.txt").write_text("b")
    folder = precious.Folder()
    (tmp_path / "run" / "a.txt").unlink()
    (tmp_path / "note.txt").write_text("c")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "x").write_text("d")
    assert folder.harmed() == ["note.txt", "run/a.txt"]
    assert (tmp_path / "run" / "a.txt").read_text() == "a"
    assert (tmp_path / "note.txt").read_text() == "b"
    assert not (tmp_path / "new").exists()
    assert folder.harmed() == []
    (tmp_path / "run" / "a.txt").write_text("e")
    assert folder.harmed(["run"]) == []
    (tmp_path / "note.txt").write_text("f")
    assert folder.harmed(["note.txt"]) == []
    (tmp_path / "note.txt").write_text("g")
    assert folder.harmed(["."]) == ["note.txt"]


def test_what_may_be_replaced_is_what_was_named():
    assert flags._replaceable(["report", "run", "--output=a"], None) == ()
    words = ["report", "run", "--output=a", "--overwrite"]
    assert flags._replaceable(words, None) == ["a"]
    assert flags._replaceable(words[:-1], b"--overwrite\n--workdir=b") == ["a", "b"]


# -- what fuzzing has found, each once -------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("train --epochs=1e3", 2, "flag --epochs=1e3: an integer is expected"),
        ("train --epsilon=8/", 2, "flag --epsilon=8/: a number is expected, such as 0.03 or"),
        ("train --image_size=8193", 2, "--image_size must be at most 8192. Received"),
        ("train --seeds=1001", 2, "--seeds must be at most 1000. Received: seeds=1001"),
        ("train --teacher_width=1e16", 2, "--teacher_width must be at most 65536. Received"),
        ("train --flagfile=.", 2, "--flagfile cannot be read: Is a directory: '.'"),
        ("train --flagfile=noise", 2, "--flagfile must name text in UTF-8"),
        (
            "search --quiet --max_train=60 --teacher=mlp --student=mlp --workdir=w "
            "--storage=sqlite:///noise",
            1,
            "The study 'sqlite:///noise' cannot be used: file is not a database",
        ),
        ("train --quiet --dataset==;", 1, "a set of TensorFlow Datasets. Received: name='=;'"),
        ("evaluate noise --image_size=9000", 1, "--image_size must be at most 8192. Received"),
        ("certify a b", 1, "Name one model file: kdkeras certify MODEL. Received: 2"),
        ("quantize --workdir=run", 1, "'run/recipe.json' cannot be a run's: --epochs must be"),
        ("evaluate deep", 1, "nested too deeply"),
        ("evaluate latin", 1, "latin/results.json is not JSON, or is damaged: it is not UTF-8"),
        ("evaluate bare", 1, "'bare/results.json' is damaged: it does not say which dataset"),
        ("report bare --nopictures", 1, "'bare/results.json' is damaged: its recipe has no data"),
    ],
)
def test_command_lines_that_were_lost(words, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise").write_bytes(b"\xff\xfe\xd5")
    bare = b'{"format": 1, "models": {}, "recipe": {}, "environment": {}, "seconds": {}}'
    stored = {"deep": b"[" * 100_000, "latin": b"\xff{}", "bare": bare}
    for name, text in stored.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_bytes(text)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text('{"format": 1, "epochs": "many"}')
    assert cli.main(words.split()) == status
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_memory_that_ends_is_said(monkeypatch, capsys):
    def ask(settings, words):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(commands, "report", ask)
    assert cli.main(["report", "run"]) == 1
    said = capsys.readouterr().err
    assert "kdkeras report: there is not enough memory. Halve --batch_size or --image_size" in said
    assert "What failed: Unable to allocate 9 TiB" in said


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.SoftTargets(temperature=1e86), "`temperature` must be in 1e-18 ... 1e"),
        (lambda: losses.SoftTargets(temperature=1e-145), "`temperature` must be in 1e-18 ... 1e"),
        (lambda: losses.Decoupled(target_weight=1e39), r"`target_weight` must be in 0 ... 1e\+38"),
        (lambda: losses.Reliability(power=10**400), "`power` must be positive and finite"),
        (lambda: perturbations.PGD(epsilon=0.1, bounds=2.0), r"`bounds` must be \(low, high\)"),
        (lambda: perturbations.PGD(epsilon=0.1, bounds=(1, 2, 3)), r"`bounds` must be \(low, hi"),
        (lambda: augment.pipeline(7), "`names` must be a comma-separated string. Received"),
        (lambda: augment.Pipeline(7, {}), "`names` must be a list and `settings` a dict"),
        (lambda: augment.from_description([1.0]), "`description` must be what `described` gave"),
        (lambda: augment.viewed(0, 0, 0, 0, seed=0, augment=7), "`augment` must be None, an Eve"),
        (lambda: Term(losses.SoftTargets(), teacher_output=(1, 0)), "`teacher_output` must be a s"),
        (lambda: Term(losses.SoftTargets(), output=3), "`output` must be a string or None"),
        (lambda: methods.iad(**models(), begin_steps=2.5), "`begin_steps` must be an integer"),
        (lambda: methods.peer(**models(), peer_weight=b"x"), "`peer_weight` must be a finite nu"),
        (lambda: Distiller(**models(), balance=7), "`balance` must be None or a layer such as"),
    ],
)
def test_arguments_that_were_lost(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_another_shape_are_refused(tmp_path):
    soaking.classifier().save(tmp_path / "teacher.keras")
    other = soaking.classifier(channels=5)
    before = other.get_weights()
    with pytest.raises(ValueError, match="teacher.keras' is not the model that the settings ask"):
        loading.restore(other, tmp_path / "teacher.keras")
    assert all((a == b).all() for a, b in zip(before, other.get_weights(), strict=True))


def models():
    return {"student": soaking.classifier(), "teacher": soaking.classifier()}
