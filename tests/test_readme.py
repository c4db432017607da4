"""What README.md shows runs as it stands."""

import ast
import pathlib
import re
import shlex

import pytest

from kdkeras import cli
from kdkeras import recipe as recipes

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def test_the_lines_of_python_run(tmp_path, monkeypatch):
    (code,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "student.tflite").stat().st_size > 1_000_000
    assert len([node for node in ast.parse(code).body if not isinstance(node, ast.Import)]) == 10


@pytest.mark.parametrize("line", re.findall(r"^(?:\S+/)?kdkeras .*$", README, re.MULTILINE))
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
        assert (ROOT / "kdkeras" / name).exists() or (ROOT / "examples" / name).exists(), name


def test_ci_runs_the_same_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "<!-- the tests -->" in script
    assert "<!-- the tests -->\n```bash\n" in README
