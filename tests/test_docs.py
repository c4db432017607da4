"""The documents that are made or run: the API reference, the notebook, the check of commands."""

import dataclasses
import importlib.util
import inspect
import os
import pathlib
import re

import nbclient
import nbformat
import pytest

import kdkeras
from kdkeras import cli, data

ROOT = pathlib.Path(__file__).parent.parent
TOUR = ROOT / "examples" / "tour.ipynb"


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_api, check = script("make_api"), script("check")


def public():
    """Each public function and class by where it stands, with its module."""
    modules = {"kdkeras": kdkeras, **make_api.public_modules(kdkeras)}
    for place, module in modules.items():
        for name, value in make_api.public_names(module).items():
            if callable(value):
                yield f"{place}.{name}", module, value


def test_the_reference_is_up_to_date():
    assert make_api.differing(make_api.pages()) == [], "run: python docs/make_api.py"


def test_the_reference_has_every_public_name():
    pages = make_api.pages()
    for name in kdkeras.__all__:
        module = inspect.ismodule(getattr(kdkeras, name))
        assert (f"{name}.md" if module else f"## kdkeras.{name}\n") in (
            pages if module else pages["kdkeras.md"]
        )
    assert "\n## kdkeras.losses.soft_target_divergence\n" in pages["losses.md"]
    assert "kdkeras.perturbations.PGD(\n    *,\n    epsilon,\n" in pages["perturbations.md"]
    assert "https://arxiv.org/abs/1503.02531)" in pages["kdkeras.md"]
    assert " object at 0x" not in "".join(pages.values())


def test_every_public_name_has_a_docstring():
    assert [place for place, _, value in public() if not (value.__doc__ or "").strip()] == []


def test_every_argument_is_explained():
    owing = []
    for place, module, value in public():
        if dataclasses.is_dataclass(value) and dataclasses.fields(value)[0].metadata:
            assert all(field.metadata["help"] for field in dataclasses.fields(value))
            continue
        # Shared arguments may be explained by the module, once, or by the class.
        shared = module.__doc__
        owing += [f"{place}: {name}" for name in unexplained(value, shared)]
        if inspect.isclass(value):
            shared = f"{shared} {value.__doc__}"
            for method, function in make_api.methods(value).items():
                if not isinstance(function, property):
                    names = unexplained(make_api._function(function), shared)
                    owing += [f"{place}.{method}: {name}" for name in names]
    assert owing == []


def unexplained(value, shared):
    """The arguments that neither a docstring nor what is shared explains."""
    if ": as `" in value.__doc__:  # another's, whose own docstring is looked at
        return []
    said = make_api.explained(value.__doc__)
    said |= set(re.findall(r"`(\w+)", f"{value.__doc__} {shared}"))
    named = (one for one in make_api.parameters(value) if one.kind < one.VAR_KEYWORD)
    return [one.name for one in named if one.kind != one.VAR_POSITIONAL and one.name not in said]


def test_a_docstring_as_markdown():
    doc = """Halves `x`.

    `y = x / 2`, where x
    - y is not a list, and <b> no tag.

    Args:
        x, other: Tensors of shape
            `(batch, <classes>)`.
        note: A name: with a colon.

    What is raised: as of `y`.

    Returns:
        One half. Of a
        batch.

    Example:

    >>> half(2)
    1

    >>> half(4)
    2

    Reference:
        Euclid, [Elements](
        https://example.org/elements), book V.
    """
    assert (
        make_api.markdown(doc)
        == """Halves `x`.

`y = x / 2`, where x - y is not a list, and &lt;b> no tag.

**Args**

- `x`, `other`: Tensors of shape `(batch, <classes>)`.
- `note`: A name: with a colon.

What is raised: as of `y`.

**Returns**

One half. Of a batch.

**Example**

```python
>>> half(2)
1

>>> half(4)
2
```

**Reference**

Euclid, [Elements](https://example.org/elements), book V."""
    )


def test_what_is_out_of_date_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_api, "FOLDER", tmp_path / "api")
    monkeypatch.setattr(make_api, "pages", lambda: {"a.md": "one\n", "b.md": "two\n"})
    assert make_api.main([]) == 0
    assert make_api.main(["--check"]) == 0
    (tmp_path / "api" / "a.md").write_text("other")
    (tmp_path / "api" / "c.md").write_text("left over")
    capsys.readouterr()
    assert make_api.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Out of date: docs/api/a.md",
        "Out of date: docs/api/c.md",
        "Mend it with: python docs/make_api.py",
    ]
    assert make_api.main([]) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "api").iterdir()} == {
        "a.md": "one\n",
        "b.md": "two\n",
    }
    assert make_api.main(["--chekc"]) == 2


PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/api/*.md")]


def anchors(text):
    """What GitHub calls a page's headings."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        again = sum(re.fullmatch(rf"{anchor}(-\d+)?", one) is not None for one in found)
        found.append(f"{anchor}-{again}" if again else anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_into_pages_lead_to_a_heading(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    for link, anchor in links:
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), f"{link}#{anchor}"


# The notebook


def cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(TOUR, as_version=4)
    for cell in cells(notebook):
        cell.outputs, cell.execution_count = [], None
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    where = {"metadata": {"path": tmp_path}}
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=where, allow_errors=False
    )
    client.execute()
    assert [cell.execution_count for cell in cells(notebook)] == list(
        range(1, len(cells(notebook)) + 1)
    )
    assert (tmp_path / "student.tflite").stat().st_size > 10_000


def test_the_notebook_is_stored_as_it_ran():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    code = cells(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for cell in code for output in cell.outputs]
    assert "error" not in kinds
    assert kinds.count("display_data") == sum("plt.subplots" in cell.source for cell in code) == 3
    for cell in code:
        assert ("print(" in cell.source) == any(one.output_type == "stream" for one in cell.outputs)


def test_the_notebook_says_nothing_of_a_machine():
    text = TOUR.read_text()
    notebook = nbformat.read(TOUR, as_version=4)
    assert len(text) < 400_000
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(cell.metadata == {} for cell in notebook.cells)
    said = [
        text
        for cell in cells(notebook)
        for output in cell.outputs
        for text in (output.get("text", ""), output.get("data", {}).get("text/plain", ""))
    ]
    for part in [*said, *(cell.source for cell in notebook.cells)]:
        assert not re.search(r"(^|[\s'\"(])(/|[A-Z]:\\)\w+", part), part


# The check of commands


def test_every_command_of_the_documents_is_checked():
    found = check.commands()
    assert ("README.md", "kdkeras distill --dataset=digits --workdir=runs/digits") in found
    assert len(found) == len({line for _, line in found}) > 30
    for _, line in found:
        command, *words = check.small(line)
        values = cli._define(command)
        values([command, *words])
        if command in ("distill", "train"):
            assert values["epochs" if command == "distill" else "teacher_epochs"].value == 1
            cli._recipe(values)


def test_the_commands_of_a_page():
    page = """# A page
kdkeras not --in=a block
```bash
python3 -m venv .venv
.venv/bin/kdkeras train --workdir=runs/a   # a remark
kdkeras search --space="alpha=0:1 method=a|b" \\
    --trials=3
kdkeras train --workdir=runs/a
```
```python
kdkeras
```
"""
    assert check.commands({"page.md": page}) == [
        ("page.md", "kdkeras train --workdir=runs/a"),
        ("page.md", "kdkeras search '--space=alpha=0:1 method=a|b' --trials=3"),
    ]


def test_commands_made_small():
    assert check.small("kdkeras certify m.keras --n=10000 --sigma=0.5") == [
        *("certify", "m.keras", "--sigma=0.5", "--max_images=5", "--n=100", "--n0=10"),
    ]
    made = check.small("kdkeras distill --dataset=cifar10 --data_dir=x --seeds=5 --epochs=30")
    assert {"--data_dir=tfds", "--seeds=2", "--epochs=1", "--noexport", "--overwrite"} <= {*made}
    assert not {"--data_dir=x", "--seeds=5", "--epochs=30"} & {*made}
    assert "--noexport" not in check.small("kdkeras distill --workdir=runs/digits")
    assert "--overwrite" not in check.small("kdkeras distill --resume --workdir=runs/a")
    assert check.skipped("kdkeras distill --strategy=multiworker").startswith("skipped: needs mach")


def test_commands_run_in_turn(monkeypatch, capsys):
    ran = []

    def run(words):
        ran.append(words[0])
        return words[0] != "export", "\n".join(f"line {i}" for i in range(20))

    monkeypatch.setattr(check, "run", run)
    lines = ["kdkeras train", "kdkeras distill --strategy=multiworker", "kdkeras export"]
    assert check._run_all([("a.md", line) for line in lines]) == 1
    assert ran == ["train", "export"]
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"ok     +0 s  a.md: kdkeras train", said[0])
    assert "skipped: needs machines" in said[1]
    assert re.fullmatch(r"FAILED +0 s  a.md: kdkeras export", said[2])
    assert said[3:-1] == [f"    | line {i}" for i in range(5, 20)]
    assert said[-1] == "3 commands, 1 failed, 0 minutes"
    assert check._run_all([("a.md", "kdkeras train")]) == 0


def test_a_command_is_run_as_on_the_command_line():
    assert check.run(["--version"]) == (True, f"{kdkeras.__version__}\n")
    good, said = check.run(["evaluate", "none.keras"])
    assert not good
    assert "none.keras" in said


def test_what_the_commands_take_for_granted_is_made(tmp_path):
    check.prepare(tmp_path)
    splits = data.load("cifar10", data_dir=tmp_path / "tfds")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (180, 20, 100)
    splits = data.load(f"folder:{tmp_path / 'my_pictures'}", image_size=8, verbose=0)
    assert splits.class_names == ("bird", "cat", "dog")
    assert data.read_picture(tmp_path / "photo.png", 8).shape == (8, 8, 3)
    assert (tmp_path / "teacher.keras").exists()
