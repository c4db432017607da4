"""What README.md and docs/ show runs as it stands."""

import ast
import pathlib
import re
import shlex

import keras
import pytest
from conftest import conv_net

import kdkeras
from kdkeras import choices, cli
from kdkeras import recipe as recipes

pytestmark = pytest.mark.usefixtures("quick_children")

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
README = PAGES["README.md"]


def blocks(language, page="README.md"):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def test_the_lines_of_python_run(tmp_path, monkeypatch):
    code = blocks("python")[0]
    monkeypatch.chdir(tmp_path)
    load = kdkeras.data.load
    monkeypatch.setattr(kdkeras.data, "load", lambda name: load(name, max_train=150))
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "student.tflite").stat().st_size > 1_000_000
    assert len([node for node in ast.parse(code).body if not isinstance(node, ast.Import)]) == 10


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_other_lines_of_python_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Each page's blocks in turn, about a student and a teacher.
    inputs = keras.Input((8, 8, 1))
    backbone = conv_net(4, name="backbone")
    student = keras.Model(inputs, backbone(inputs))
    names = {"keras": keras, "kdkeras": kdkeras, "student": student, "teacher": conv_net(6)}
    for code in blocks("python", page)[page == "README.md" :]:
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page]):
        assert (folder / link).exists(), link


def test_the_pages_of_methods_have_a_row_for_each():
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["methods.md"], re.MULTILINE)
    assert sorted(rows) == sorted(choices.FOR_ACCURACY)
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["robustness.md"], re.MULTILINE)
    assert sorted(rows) == sorted(choices.FOR_ROBUSTNESS)


def test_the_page_of_methods_shows_the_benchmarks_own_table():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    table = between(results, "<!-- methods.py -->", "<!-- end of methods.py -->")
    assert table in between(PAGES["methods.md"], "<!-- measured -->", "<!-- end of measured -->")
    for name in choices.FOR_ACCURACY:
        assert f"\n| {name} | " in table


def between(text, start, end):
    return text.split(start)[1].split(end)[0].strip()


COMMANDS = re.findall(r"^(?:\S+/)?kdkeras .*$", "\n".join(PAGES.values()), re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_parse(line):
    program, command, *words = shlex.split(line, comments=True)
    assert program.endswith("kdkeras")
    if command == "COMMAND":
        return
    values = cli._define(command)
    settings = values([command, *words])
    if command in ("distill", "train"):
        assert settings == [command]
        found = values.flag_values_dict()
        recipes.Recipe(**{k: v for k, v in found.items() if k not in ("flagfile", "undefok")})


def test_the_layout_names_what_is_there():
    (layout,) = [block for block in blocks("") if block.startswith("kdkeras/\n")]
    for name in re.findall(r"\b([a-z_]+\.py)\b", layout):
        folders = ("kdkeras", "examples", "benchmarks")
        assert any((ROOT / folder / name).exists() for folder in folders), name


def test_ci_runs_the_same_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "<!-- the tests -->" in script
    assert "<!-- the tests -->\n```bash\n" in README
