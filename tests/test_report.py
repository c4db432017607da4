"""Reports: the numbers in them, what they may hold, what they refuse."""

import html
import html.parser
import json
import re

import numpy as np
import pytest
from report_runs import attack, logits_for, write_run

from kdkeras import cli, evaluation, report
from kdkeras.report import (
    answering,
    attacked,
    comparing,
    confusing,
    costs,
    curves,
    disagreeing,
    likeness,
    page,
    plots,
    provenance,
    reading,
)

NASTY = "<script>alert('x')</script>"


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes, tables as lists of rows of texts, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.text, self.into = [], [], [], None
        self.feed(text)
        self.text = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.into = tag
        elif tag == "small" and self.into:
            self.tables[-1][-1][-1] += " | "

    def handle_endtag(self, tag):
        if tag == self.into:
            self.into = None

    def handle_data(self, data):
        self.text.append(data)
        if self.into:
            self.tables[-1][-1][-1] += data

    def table(self, title):
        """The first table whose first header, or any row's first cell, is `title`."""
        return next(t for t in self.tables if any(row[0] == title for row in t))


def digits_like(count=200, classes=3):
    """Labels, and the predictions of a teacher (all right), a control and a student."""
    labels = np.arange(count) % classes
    control, student = labels.copy(), labels.copy()
    control[:50] = (control[:50] + 1) % classes
    student[:20] = (student[:20] + 1) % classes
    return labels, {"teacher": labels, "control": control, "student": student}


@pytest.fixture
def run(tmp_path):
    labels, said = digits_like()
    return write_run(tmp_path / "run", labels, said, classes=("cat", "dog", "eel"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    labels, said = digits_like()
    folder = tmp_path_factory.mktemp("written") / "run"
    write_run(folder, labels, said, classes=("cat", "dog", "eel"))
    return report.write(folder, pictures=False)


@pytest.fixture(scope="module")
def shown(written):
    return Parsed(written.read_text())


@pytest.fixture
def light(tmp_path):
    """A run of whose report little is drawn."""
    labels, said = digits_like(classes=2)
    return write_run(tmp_path / "light", labels, {"teacher": said["teacher"]}, logs=False)


# -- the answer ----------------------------------------------------------------------------------


def sentence(folder, labels, said):
    return answering.sentence(reading.read(write_run(folder, labels, said)))


def test_the_answer_when_it_helped(tmp_path):
    # 180 against 150 of 200: 30 images gained and none lost; p = 2 / 2^30.
    text = sentence(tmp_path / "run", *digits_like())
    assert text.startswith(
        "Distillation helped: of 200 test images the student is right on 90.00\u00a0%, its control "
        "on 75.00\u00a0%: +15.00 points (95 % interval +"
    )
    assert text.endswith("McNemar p below 0.001).")


def test_the_answer_when_it_hurt(tmp_path):
    labels, said = digits_like()
    said["control"], said["student"] = said["student"], said["control"]
    text = sentence(tmp_path / "run", labels, said)
    assert "Distillation hurt" in text
    assert "\u221215.00 points" in text
    assert "95 % interval \u2212" in text


def test_the_answer_when_nothing_can_be_told(tmp_path):
    labels, said = digits_like()
    said["student"] = said["control"].copy()
    said["student"][0], said["student"][60] = labels[0], (labels[60] + 1) % 3
    text = sentence(tmp_path / "run", labels, said)
    assert text.startswith("No difference can be told from 200 test images")
    assert ": 0.00 points" in text
    assert "McNemar p = 1)" in text


def test_the_answer_without_a_control(tmp_path):
    labels, said = digits_like()
    del said["control"]
    text = sentence(tmp_path / "run", labels, said)
    assert text.startswith("Whether distillation helped is not known: this run has no control.")
    assert "90.00\u00a0% of 200" in text


def test_what_makes_an_answer_mean_little(tmp_path):
    labels, said = digits_like()
    assert answering.cautions(reading.read(write_run(tmp_path / "fine", labels, said))) == []
    # 72 of 200 images of three classes: 29.7 to 42.9 %, and a third is within.
    guessing = (labels + 1) % 3
    guessing[:72] = labels[:72]
    found = answering.cautions(
        reading.read(write_run(tmp_path / "guesses", labels, {**said, "teacher": guessing}))
    )
    assert found[0].startswith("the teacher (36.00\u00a0%) cannot be told from guessing among 3")
    assert found[1].startswith(
        "the teacher (36.00\u00a0%) is no better than the control (75.00\u00a0%)"
    )
    assert len(found) == 2
    over_seeds = reading.read(seeds(tmp_path / "seeds", (10, 12, 14)))
    assert answering.cautions(over_seeds) == []


def test_a_teacher_alone(light):
    shown = Parsed(report.write(light, pictures=False).read_text())
    assert "distillation help" not in shown.text
    assert "Where the student is wrong" not in shown.text
    headings = [attributes["href"] for tag, attributes in shown.tags if tag == "a"]
    assert len(headings) == 5
    assert "kdkeras train" in shown.text


def test_the_models_side_by_side(shown):
    table = shown.table("Accuracy")
    rows = {row[0]: row[1:] for row in table}
    assert rows[""] == ["teacher | net", "control | net", "student | net"]
    # Wilson's interval of 180 in 200: 0.8506 to 0.9343, of 150: 0.6857 to 0.8049.
    assert rows["Accuracy"] == [
        "100.00\u00a0% | 98.1 to 100.0",
        "75.00\u00a0% | 68.6 to 80.5",
        "90.00\u00a0% | 85.1 to 93.4",
    ]
    assert rows["Agrees with the teacher"] == ["-", "75.00\u00a0%", "90.00\u00a0%"]
    assert rows["Parameters"] == ["1,234"] * 3
    assert rows["Million multiply-adds"] == ["5.60"] * 3
    assert rows["Training"] == ["1 min 15 s"] * 3


def test_parts_without_data_are_left_out(light):
    run = reading.read(light)
    assert curves.part(run) is None
    assert attacked.part(run) is None
    assert confusing.part(run) is None
    assert disagreeing.part(run) is None


# -- the parts -----------------------------------------------------------------------------------


def labels_of(shown, start):
    """The alt texts of SVGs that begin so."""
    found = [attributes.get("aria-label", "") for tag, attributes in shown.tags if tag == "svg"]
    return [label for label in found if label.startswith(start)]


def test_curves_name_the_best_epoch(shown):
    (alt,) = labels_of(shown, "Validation accuracy")
    assert "student 70.00 % at epoch 2 of 3" in alt
    (alt,) = labels_of(shown, "The student's terms")
    assert alt == "The student's terms, first epoch to last: hard 2 to 0.5; soft 4 to 1."


def test_a_log_with_gaps_is_drawn(run):
    (run / "logs" / "student.csv").write_text(
        "epoch,val_accuracy,val_loss,hard\n0,0.5,nan,\n1,0.7,inf,1.0\n2,0.6,0.5,0.5\n"
    )
    assert len(curves.figures(reading.read(run))) == 1


def test_reliability_says_both_errors(run, shown):
    alt = labels_of(shown, "Reliability of the student")[0]
    found = reading.read(run)
    test = evaluation.scores(found.labels, found.logits["student"])
    assert f"ECE {test['ece']:.4f}, {test['ece_scaled']:.4f} after" in alt
    assert len(labels_of(shown, "Reliability of")) == 3


def test_confusion_counts(shown):
    # Of the first 20 labels (0, 1, 2, 0, ...), 7, 7 and 6 are taken for the next class.
    (alt,) = labels_of(shown, "Confusion of the student, ")
    assert (
        alt
        == "Confusion of the student, 20 of 200 images wrong. Most often cat is taken for dog: 7."
    )
    (alt,) = labels_of(shown, "Confusion of the student less")
    assert alt.endswith("off the diagonal 20 images more and 0 fewer.")
    assert "The teacher alone is right on 20 images, the student alone on 0." in shown.text
    table = shown.table("Class")
    assert table[1:] == [["cat", "67", "7", "0"], ["dog", "67", "7", "0"], ["eel", "66", "6", "0"]]


def test_soft_targets_are_means_at_the_temperature():
    logits = np.log(np.array([[8.0, 1.0, 1.0], [2.0, 2.0, 2.0], [1.0, 4.0, 1.0]]))
    means, present = likeness.soft_targets(np.array([0, 0, 1]), logits, 1.0)
    np.testing.assert_allclose(means[0], (np.array([0.8, 0.1, 0.1]) + 1 / 3) / 2)
    np.testing.assert_allclose(means[1], [1 / 6, 4 / 6, 1 / 6])
    np.testing.assert_array_equal(means[2], 0.0)
    assert present.tolist() == [True, True, False]
    halved, _ = likeness.soft_targets(np.array([1]), logits[2:], 2.0)
    np.testing.assert_allclose(halved[1], [0.25, 0.5, 0.25])


def test_likeness_names_the_temperature(shown):
    assert "at temperature 4 (this run's)" in shown.text
    assert len(labels_of(shown, "Mean soft targets at temperature 4")) == 1


def test_many_classes_are_told_in_tables(tmp_path):
    labels, said = digits_like(400, 25)
    folder = write_run(tmp_path / "run", labels, said)
    shown = Parsed(confusing.part(reading.read(folder)).body)
    assert labels_of(shown, "Confusion") == []
    table = shown.table("Truth")
    assert table[0] == ["Truth", "Taken for", "Student", "Teacher"]
    assert table[1] == ["class 0", "class 1", "1", "0"]
    assert len(table) == 13
    assert len(Parsed(likeness.part(reading.read(folder)).body).table("Truth")) == 16


def test_costs_name_each_file(run):
    reported = {"student": {"latency": {"median_ms": 4.2, "p95_ms": 5.0}}, "files": {}}
    reported["files"]["int8"] = {
        "path": "x", "bytes": 64_200, "test": {"accuracy": 0.895},
        "latency": {"median_ms": 0.079, "p95_ms": 0.09},
    }  # fmt: skip
    (run / "export").mkdir()
    (run / "export" / "report.json").write_text(json.dumps(reported))
    (run / "student.keras").write_bytes(bytes(250_000))
    shown = Parsed(costs.part(reading.read(run)).body)
    rows = {row[0]: row[1:] for row in shown.table("int8")}
    assert rows["int8"] == ["89.50\u00a0%", "64 KB", "1,234", "5.60", "0.079", "0.09"]
    assert rows["student"] == ["90.00\u00a0%", "250 KB", "1,234", "5.60", "4.2", "5"]
    (alt,) = labels_of(shown, "Test accuracy against latency")
    assert alt.endswith("student 90.00 % at 4.2; int8 89.50 % at 0.079.")


def test_attacks_are_told(run):
    attack(run / "attack" / "student.keras", worst=0.25)
    shown = Parsed(attacked.part(reading.read(run)).body)
    (alt,) = labels_of(shown, "Accuracy against epsilon, linf")
    assert alt.endswith("student.keras 25.0 % in the worst case at 8.")
    row = shown.table("student.keras")[1]
    assert row == ["student.keras", "25.00\u00a0% | 17.5 to 34.3", "linf 8/255", "100", "a verdict"]
    (picture,) = [a for tag, a in shown.tags if tag == "img"]
    assert picture["src"].startswith("data:image/png;base64,")
    assert "student.keras" in picture["alt"]


def test_the_command_line_is_quoted(tmp_path):
    labels, said = digits_like()
    folder = write_run(
        tmp_path / "run", labels, said, dataset="folder:/my pictures", control=False, alpha=0.5
    )
    command = provenance.command(reading.read(folder))
    assert command.startswith("kdkeras distill '--dataset=folder:/my pictures' --alpha=0.5 ")
    assert "--nocontrol" in command


# -- several seeds, several runs -----------------------------------------------------------------


def seeds(folder, gains):
    """A run of several seeds whose students gain so many of 200 images."""
    labels, said = digits_like()
    for seed, gain in enumerate(gains):
        student = said["control"].copy()
        student[:gain] = labels[:gain]
        write_run(folder / f"seed-{seed}", labels, {**said, "student": student})
    found = [
        json.loads((folder / f"seed-{s}" / "results.json").read_text()) for s in range(len(gains))
    ]

    def across(role, key):
        return evaluation.across([one["models"][role]["test"][key] for one in found])

    roles = ("teacher", "control", "student")
    results = {
        **found[0],
        "seeds": list(range(len(gains))),
        "runs": [f"seed-{seed}" for seed in range(len(gains))],
        "models": {
            role: {
                **{key: found[0]["models"][role][key] for key in ("name", "parameters", "macs")},
                "test": {"accuracy": across(role, "accuracy")},
            }
            for role in roles
        },
        "gain": evaluation.across([gain / 200 for gain in gains]),
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_several_seeds(tmp_path):
    # Gains of 10, 12 and 14 of 200: mean 6 points, t(2) 4.303 x 1 / sqrt(3) = 2.48.
    folder = seeds(tmp_path / "seeds", (10, 12, 14))
    shown = Parsed(report.write(folder, pictures=False).read_text())
    assert (
        "Distillation helped: over 3 seeds, the student's mean gain over the control of the same "
        "seed is +6.00 points (95 % t interval +3.52 to +8.48)." in shown.text
    )
    rows = {row[0]: row[1:] for row in shown.table("Accuracy")}
    assert rows["Accuracy"][2] == "81.00\u00a0% | 78.52 to 83.48"
    assert "all is of seed 0 alone" in shown.text
    (alt,) = labels_of(shown, "Of 3 seeds")
    assert "in 3, on fewer in 0" in alt


def test_seeds_that_tell_nothing(tmp_path):
    folder = seeds(tmp_path / "seeds", (0, 1, 2))
    text = answering.sentence(reading.read(folder))
    assert text.startswith("No difference can be told from 3 seeds")
    assert "+0.50 points" in text


def test_a_seed_that_is_gone(tmp_path):
    folder = seeds(tmp_path / "seeds", (1, 2))
    (folder / "seed-1" / "results.json").unlink()
    with pytest.raises(ValueError, match=r"seed-1', which has none"):
        report.write(folder, pictures=False)


def two(tmp_path):
    labels, said = digits_like()
    first = write_run(tmp_path / "a", labels, said)
    worse = {**said, "student": said["control"]}
    return first, write_run(tmp_path / "b", labels, worse, temperature=9.0)


def test_runs_beside_one_another(tmp_path):
    output = report.write(two(tmp_path), tmp_path / "both.html")
    shown = Parsed(output.read_text())
    assert (
        "The student of a is right on 90.00 %, that of b on 75.00 %, 15.00 points more of 200 test "
        "images (95 % interval +" in shown.text
    )
    table = shown.table("Run")
    assert [row[0] for row in table] == ["Run", "a", "b"]
    assert table[2][1] == "75.00\u00a0% | 68.6 to 80.5"
    paired = next(t for t in shown.tables if t[0][-1] == "McNemar p")
    assert paired[1][0] == "b"
    assert paired[1][1].startswith("\u221215.00 | \u2212")
    assert paired[1][2:] == ["0", "30", "below 0.001"]
    assert shown.table("temperature")[1] == ["temperature", "none given", "9.0"]
    assert len(labels_of(shown, "Test accuracy of the students: a 90.00 %; b 75.00 %.")) == 1


def test_runs_of_several_seeds_beside_one(tmp_path):
    first, _ = two(tmp_path)
    runs = [reading.read(first), reading.read(seeds(tmp_path / "seeds", (10, 12, 14)))]
    # 90 % of 200 images, 85.1 to 93.4 %; and 81 %, 78.5 to 83.5 % over seeds.
    assert comparing.summary(runs, ["a", "seeds"]) == (
        "The student of a is right on 90.00\u00a0%, that of seeds on 81.00\u00a0%, the one with "
        "several seeds on average; their intervals do not overlap."
    )
    again = [*runs[1:], reading.read(seeds(tmp_path / "others", (9, 12, 14)))]
    assert comparing.summary(again, ["b", "c"]).endswith(
        "each on average over its seeds; their intervals overlap: no difference can be told."
    )
    shown = Parsed(comparing.parts(runs, ["a", "seeds"])[0].body)
    assert shown.table("Run")[2][1] == "81.00\u00a0% | 78.5 to 83.5"
    assert len(shown.tables) == 1


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    paths = [tmp_path / name / "run" for name in ("x", "y")]
    assert comparing.names(paths) == ["x/run", "y/run"]
    assert comparing.names([paths[0], tmp_path / "z"]) == ["run", "z"]
    with pytest.raises(ValueError, match="must be different runs"):
        comparing.names([paths[0], paths[0]])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dataset": "cifar10"}, "differ in their dataset: 'digits' and 'cifar10'"),
        ({"classes": ("b", "a", "c")}, "differ in their class 0: 'class 0' and 'b'"),
        ({"first_id": 7}, "differ in the ids of their test images"),
        ({"shift": 1}, "differ in the labels of their test images"),
        ({"roles": ("teacher",)}, "Runs are compared by their students.*b', which has none"),
    ],
)
def test_runs_that_cannot_be_compared(tmp_path, other, message):
    labels, said = digits_like()
    first = write_run(tmp_path / "a", labels, said)
    roles, shift = other.pop("roles", tuple(said)), other.pop("shift", 0)
    moved = {role: said[role] for role in roles}
    second = write_run(tmp_path / "b", (labels + shift) % 3, moved, **other)
    with pytest.raises(ValueError, match=message) as caught:
        report.write([first, second], tmp_path / "both.html")
    assert str(second) in str(caught.value)
    assert not (tmp_path / "both.html").exists()


def test_the_best_is_first_whatever_the_order(tmp_path):
    first, second = (reading.read(path) for path in two(tmp_path))
    assert comparing.summary([second, first], ["b", "a"]).startswith("The student of a is right")


# -- what a page may hold ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    labels, said = digits_like()
    folder = tmp_path_factory.mktemp("nasty") / NASTY.replace("/", "_")
    write_run(folder, labels, said, classes=(NASTY, "$a_{b$", 'q"&'), dataset=f"folder:{NASTY}")
    attack(folder / "attack" / "student & co.keras", worst=0.5)
    return report.write(folder, pictures=False).read_text()


def test_names_are_escaped(nasty):
    shown = Parsed(nasty)
    assert not [tag for tag, _ in shown.tags if tag in ("script", "iframe", "link", "object")]
    assert NASTY in shown.text
    assert "$a_{b$" in shown.text
    assert "<script" not in nasty


def test_nothing_is_loaded(nasty):
    shown = Parsed(nasty)
    for tag, attributes in shown.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                start = "data:image/png;base64," if tag == "img" else "#"
                assert value.startswith(start), (tag, name, value)
            assert not name.startswith("on")
            assert all(
                url.startswith("#") for url in re.findall(r"url\(['\"]?([^)]*)", value or "")
            )
    (policy,) = [a["content"] for t, a in shown.tags if a.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    sheet = re.search("<style>(.*?)</style>", nasty, re.DOTALL)[1]
    assert "url(" not in sheet
    assert "@import" not in sheet


def test_ids_are_unique_and_links_lead_somewhere(nasty):
    shown = Parsed(nasty)
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    links = {a["href"][1:] for _, a in shown.tags if a.get("href", "").startswith("#")}
    links |= set(re.findall(r"url\(#([^)]*)\)", nasty))
    assert links
    assert links <= set(ids)


def test_each_figure_is_told_in_words(nasty):
    shown = Parsed(nasty)
    figures = [attributes for tag, attributes in shown.tags if tag == "svg"]
    assert len(figures) == 11
    for attributes in figures:
        assert attributes["role"] == "img"
        assert re.search(r"\d", attributes["aria-label"])
    assert all(attributes["alt"] for tag, attributes in shown.tags if tag == "img")


def test_plots_follow_light_and_dark(nasty):
    for drawn in re.findall("<svg.*?</svg>", nasty, re.DOTALL):
        inside = " ".join(re.findall("<[^>]*>", drawn))
        assert re.findall(r"(?:fill|stroke): #[0-9a-f]{3,6}", inside) == []
        assert "<text" in drawn
    names = set(re.findall(r"var\((--\w+)\)", nasty))
    sheet = re.search("<style>(.*?)</style>", nasty, re.DOTALL)[1]
    light, dark = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[:2]
    for scheme in (light, dark):
        assert names <= set(re.findall(r"(--\w+):", scheme))


def luminance(color):
    """Of WCAG 2."""
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colours_can_be_read_on_the_paper(nasty):
    sheet = re.search("<style>(.*?)</style>", nasty, re.DOTALL)[1]
    for scheme in re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[:2]:
        colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        paper = luminance(colors["paper"])
        # WCAG: 4.5 for text, 3 for what a plot is made of.
        for name, color in colors.items():
            high, low = sorted((luminance(color), paper), reverse=True)
            least = {"ink": 7.0, "soft": 4.5, "link": 4.5, "line": 1.0, "tint": 1.0, "paper": 1.0}
            assert (high + 0.05) / (low + 0.05) >= least.get(name, 3.0), (name, color)


def test_two_reports_are_equal_and_small(written):
    first = written.read_bytes()
    assert len(first) < 500_000
    assert report.write(written.parent, pictures=False).read_bytes() == first


def test_page_escapes_what_it_is_given():
    made = page.document(
        "a < b",
        [
            page.part("1 & 2", "x < y", page.text("p & ", page.strong("<q>")), page.code("<c>")),
            page.part("t", page.table(["<h>", "n"], [["<r>", "1"]], "<cap>"), page.details("<d>")),
        ],
        summary="<s>",
    )
    for words in ("a < b", "1 & 2", "x < y", "<q>", "<c>", "<h>", "<r>", "<cap>", "<d>", "<s>"):
        assert html.escape(words) in made
    assert made.splitlines()[0] == "<!DOCTYPE html><!-- made by kdkeras -->"


def test_a_plot_stands_alone():
    drawn = plots.figure(300, 200)
    axes = drawn.subplots()
    axes.plot([1, 2], [3, 4], label="$x", **plots.SERIES[0])
    axes.legend()
    block = plots.svg(drawn, 'rises "from" 3 < 4')
    assert block.startswith('<svg role="img" aria-label="rises &quot;from&quot; 3 &lt; 4"')
    assert "var(--blue)" in block
    assert ">$x</text>" in block
    assert 'width="300"' in block
    twice = page.document("t", [page.part("p", page.figure([block, block], "c"))])
    ids = re.findall(' id="([^"]*)"', twice)
    assert len(ids) == len(set(ids)) > 2


# -- where it goes -------------------------------------------------------------------------------


def test_a_runs_own_report_is_replaced(light):
    path = report.write(light, pictures=False)
    assert path == light / "report.html"
    path.write_text(path.read_text() + "old")
    assert not report.write(str(light), pictures=False).read_text().endswith("old")


def test_what_is_not_ours_is_kept(light, tmp_path):
    foreign = light / "report.html"
    foreign.write_text("<!DOCTYPE html>\nmine, of kdkeras")
    with pytest.raises(ValueError, match=r"report\.html', which is there\. Give another, or `over"):
        report.write(light, pictures=False)
    assert foreign.read_text() == "<!DOCTYPE html>\nmine, of kdkeras"
    report.write(light, overwrite=True, pictures=False)
    # A page of ours that is not this run's own is kept as well.
    other = tmp_path / "other.html"
    other.write_text(foreign.read_text())
    with pytest.raises(ValueError, match=r"other\.html', which is there"):
        report.write(light, other, pictures=False)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nowhere/report.html", "in a folder that exists"),
        ("report.txt", r"ends in \.html"),
        ("run", r"ends in \.html"),
    ],
)
def test_outputs_that_cannot_be(run, tmp_path, output, message):
    with pytest.raises(ValueError, match=message):
        report.write(run, tmp_path / output, pictures=False)


def test_several_runs_need_an_output(tmp_path):
    with pytest.raises(ValueError, match="`output` must name the file to write for several runs"):
        report.write(two(tmp_path))
    with pytest.raises(ValueError, match="at least one work directory"):
        report.write([])


# -- work directories that are none --------------------------------------------------------------


def unfinished(run):
    (run / "results.json").rename(run / "recipe.json")


def results_with(**changed):
    def change(run):
        path = run / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return change


def accuracy_is(value):
    def change(run):
        results = json.loads((run / "results.json").read_text())
        results["models"]["student"]["test"]["accuracy"] = value
        (run / "results.json").write_text(json.dumps(results))

    return change


def cut(run):
    path = run / "predictions.npz"
    path.write_bytes(path.read_bytes()[:900])


def predictions_with(**changed):
    def change(run):
        with np.load(run / "predictions.npz") as stored:
            found = {name: stored[name] for name in stored.files}
        for name, value in changed.items():
            if value is None:
                del found[name]
            else:
                found[name] = value(found[name])
        np.savez(run / "predictions.npz", **found)

    return change


def hole(values):
    values = values.copy()
    values[3, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: run.rename(run.with_name("away")), "which is not there"),
        (lambda run: (run / "results.json").unlink(), "Received: .*run', which has none"),
        (unfinished, r"unfinished run.*kdkeras distill --resume --workdir='.*run'"),
        (lambda run: (run / "results.json").write_text('{"format": 1'), "results.json is not JSON"),
        (results_with(format=2), r"must be of format 1.*Received: format 2"),
        (results_with(gain=float("nan")), r"results.json' is damaged: gain is not a finite"),
        (results_with(models={"student": {}}), "its student has no 'name'"),
        (results_with(models={"pupil": {}}), "it has a model 'pupil'"),
        (accuracy_is("99%"), "its student's accuracy is no number: '99%'"),
        (results_with(winner={}, space={}), r"holds a search, whose page is '.*search.html'"),
        (results_with(seconds=None), "it has no 'seconds'"),
        (results_with(seeds=[0], runs=[]), "names no runs"),
        (results_with(seeds=[0], runs=["a"]), "its teacher has no accuracy over seeds"),
        (lambda run: (run / "predictions.npz").unlink(), r"predictions.npz' is not there.*run it"),
        (cut, "predictions.npz' is damaged: it cannot be read"),
        (predictions_with(student=None), "predictions.npz' is damaged: it lacks student"),
        (predictions_with(student=hole), "NaN or an infinity in 1 of 200 rows of the student"),
        (predictions_with(student=lambda x: x[:5]), r"student has shape \(5, 3\), not \(200, 3\)"),
        (predictions_with(labels=lambda x: x + 1), r"labels must be integers in 0\.\.2"),
        (predictions_with(ids=lambda x: x[1:]), "do not fit"),
        (
            predictions_with(student=lambda x: -x),
            r"is not of the run in .*: by it the student is r",
        ),
        (lambda run: (run / "logs" / "student.csv").write_text("epoch\none\n"), "no.* of numbers"),
    ],
)
def test_damaged_runs(run, damage, message):
    damage(run)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        report.write(run, pictures=False)
    assert not list(run.parent.rglob("*.html"))


def test_a_damaged_picture(light):
    attack(light / "attack" / "student.keras", worst=0.5)
    (light / "attack" / "student.keras" / "adversarial.png").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"adversarial\.png' is damaged: it is no PNG"):
        report.write(light, pictures=False)


# -- the command line ----------------------------------------------------------------------------


def test_the_command(light, capsys):
    assert cli.main(["report", str(light), "--nopictures"]) == 0
    assert f"Written: {light / 'report.html'}, 0." in capsys.readouterr().out
    assert cli.main(["report"]) == 1
    assert "kdkeras report RUN" in capsys.readouterr().err
    assert cli.main(["report", str(light), str(light)]) == 1
    assert "--output must name the file" in capsys.readouterr().err


def test_logits_for_are_what_they_are_said_to_be():
    logits = logits_for(np.array([0, 2]), 3)
    assert logits.argmax(-1).tolist() == [0, 2]
