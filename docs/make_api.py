"""Writes docs/api/ from signatures and docstrings, and says what there is out of date.

    python docs/make_api.py
    python docs/make_api.py --check

The pages hold nothing else, so that they cannot say what the code does not.
"""

import dataclasses
import importlib
import inspect
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).parent / "api"
MARK = "<!-- Written by docs/make_api.py from the docstrings: change those. -->"
ITEMS = ("Args", "Call arguments", "Attributes", "Raises")
HEADER = re.compile(rf"({'|'.join(ITEMS)}|Returns|Yields|Example|References?):")
WIDTH = 88


def main(given):
    """Writes the pages; with --check only compares them, and returns 1 if one is out of date."""
    found = pages()
    if given == ["--check"]:
        stale = differing(found)
        for name in stale:
            print(f"Out of date: docs/api/{name}")
        if stale:
            print("Mend it with: python docs/make_api.py")
        return int(bool(stale))
    if given:
        print(__doc__, file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in differing(found):
        if name in found:
            (FOLDER / name).write_text(found[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
        print(f"Written: docs/api/{name}" if name in found else f"Removed: docs/api/{name}")
    return 0


def differing(found):
    """The names of pages that are not as they should be, or should not be there."""
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    return sorted(name for name in {*there, *found} if there.get(name) != found.get(name))


def pages():
    """The text of each page by its file name: one a public module, one of the package's own names,
    and the index."""
    package = importlib.import_module("kdkeras")
    modules = public_modules(package)
    found = {"kdkeras.md": _page("kdkeras", package, public_names(package))}
    for name, module in modules.items():
        found[f"{name}.md"] = _page(f"kdkeras.{name}", module, public_names(module))
    return {"index.md": _index(package, modules), **found}


def public_modules(package):
    """The public modules of the package, by name."""
    named = {name: getattr(package, name) for name in package.__all__}
    return {name: value for name, value in named.items() if inspect.ismodule(value)}


def public_names(module):
    """What a module offers, by name: what its `__all__` lists, else the functions and classes that
    it defines."""
    if "__all__" in vars(module):
        named = {name: getattr(module, name) for name in module.__all__}
        return {name: value for name, value in named.items() if not inspect.ismodule(value)}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


def methods(cls):
    """The documented methods and properties of a class, by name, those of its private bases of this
    package too."""
    found = {}
    public = {
        value
        for module in public_modules(importlib.import_module("kdkeras")).values()
        for value in public_names(module).values()
        if inspect.isclass(value)
    }
    for base in cls.__mro__:
        ours = base.__module__.split(".")[0] == "kdkeras"
        if ours and (base is cls or base not in public):
            for name, value in vars(base).items():
                if not name.startswith("_") and name not in found and _function(value).__doc__:
                    found[name] = value
    return {n: v for n, v in found.items() if callable(_function(v)) or isinstance(v, property)}


def parameters(value):
    """The parameters of a function, or of a class's constructor, less `self`."""
    function = value.__init__ if inspect.isclass(value) else _function(value)
    found = list(inspect.signature(function).parameters.values())
    bound = inspect.isclass(value) or isinstance(value, classmethod)
    return found[1:] if bound or (found and found[0].name == "self") else found


def explained(doc):
    """The names that a docstring's Args explain; Attributes are those of a dataclass."""
    return {
        name
        for kind, body in _sections(doc)
        if kind in ("Args", "Attributes")
        for names, _ in _items(body)
        for name in re.split(r", *", names)
    }


def markdown(doc):
    """A docstring's Markdown."""
    parts = []
    for kind, body in _sections(doc):
        if kind in ITEMS or (kind in ("Returns", "Yields") and _is_list(body)):
            rows = [f"- {_code(names)}: {_plain(said)}" for names, said in _items(body)]
            parts.append(f"**{kind}**\n\n" + "\n".join(rows))
        elif kind:
            parts.append(f"**{kind}**\n\n{_prose(body)}")
        else:
            parts.append(_prose(body))
    return "\n\n".join(part for part in parts if part)


def _sections(doc):
    """The pairs (header, text) of a docstring; the header of what stands under none is ""."""
    found = [("", [])]
    for line in inspect.cleandoc(doc or "").splitlines():
        header = HEADER.fullmatch(line)
        if header:
            found.append((header[1], []))
            continue
        ended = line and not line.startswith(" ") and found[-1][0] not in ("", "Example")
        if ended:
            found.append(("", []))
        found[-1][1].append(line)
    return [(kind, inspect.cleandoc("\n".join(["", *lines]))) for kind, lines in found]


def _index(package, modules):
    named = {"kdkeras": (package, public_names(package))}
    named |= {f"kdkeras.{name}": (module, public_names(module)) for name, module in modules.items()}
    lines = ["# API reference", "", MARK, ""]
    lines.append(
        "Every public name, from its docstring. The [guide](../guide.md) says what to use when."
    )
    for name, (module, names) in named.items():
        page = f"{name.removeprefix('kdkeras.')}.md"
        links = [f"[`{one}`]({page}#{anchor})" for one, anchor in _anchors(name, names).items()]
        lines += ["", f"## [{name}]({page})", "", _first_line(module), "", ", ".join(links)]
    return "\n".join(lines) + "\n"


def _page(title, module, names):
    lines = [f"# {title}", "", MARK, "", markdown(module.__doc__)]
    constants = {n: v for n, v in names.items() if not callable(v)}
    for name, value in constants.items():
        lines += ["", f"## {title}.{name}", "", f"```python\n{_constant(name, value)}\n```"]
    for name, value in names.items():
        if name not in constants:
            lines += ["", f"## {title}.{name}", "", *_entry(f"{title}.{name}", value)]
            if inspect.isclass(value):
                for method, function in methods(value).items():
                    lines += ["", f"### {name}.{method}", "", *_entry(method, function)]
    return "\n".join(lines) + "\n"


def _entry(name, value):
    """The lines about one function, class, method or property."""
    body = markdown(_function(value).__doc__)
    if isinstance(value, property):
        return [f"Property. {body}"]
    if dataclasses.is_dataclass(value) and "help" in dataclasses.fields(value)[0].metadata:
        return [body, "", *_settings(value)]
    return [f"```python\n{_signature(name, value)}\n```", "", body]


def _settings(value):
    """The table of a dataclass whose fields say what they mean."""
    rows = ["| setting | unless given | what it says |", "| --- | --- | --- |"]
    for field in dataclasses.fields(value):
        text = _plain(field.metadata["help"]).replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{_literal(field.default)}` | {text} |")
    return rows


def _signature(name, value):
    """A call as it is written, on one line or with a line for each argument."""
    words, starred = [], False
    for one in parameters(value):
        if one.kind is one.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        if one.kind is one.VAR_POSITIONAL:
            starred = True
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        default = "" if one.default is one.empty else f"={_literal(one.default)}"
        words.append(f"{stars}{one.name}{default}")
    line = f"{name}({', '.join(words)})"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + ")"


def _constant(name, value):
    line = f"{name} = {_literal(value)}"
    if len(line) <= WIDTH or not isinstance(value, (tuple, list)):
        return line
    return f"{name} = (\n" + "".join(f"    {_literal(one)},\n" for one in value) + ")"


def _literal(value):
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    if isinstance(value, float) and 0.0 < value < 1.0 and (255 * value).is_integer():
        return f"{int(255 * value)} / 255"
    text = repr(value) if '"' in repr(value) else repr(value).replace("'", '"')
    if " object at 0x" in text:
        raise ValueError(f"A default that can be written is expected. Received: {text}")
    return text


def _function(value):
    """What stands behind a method: the function of a class method or static method."""
    return value.__func__ if isinstance(value, (classmethod, staticmethod)) else value


def _items(body):
    """The pairs (names, text) of a section `name: text`, with deeper lines belonging to it."""
    starts = re.split(r"\n(?! |\n|\Z)", body)
    pairs = (one.partition(":") for one in starts if one.strip())
    return [(" ".join(names.split()), said) for names, _, said in pairs]


def _is_list(body):
    lines = [line for line in body.splitlines() if not line.startswith(" ")]
    return len(lines) > 1 and all(re.match(r"`?[a-z_]\w*`?: ", line) for line in lines if line)


def _prose(text):
    """Paragraphs, with interpreter sessions and indented blocks as code."""
    parts = []
    for block in re.split(r"\n{2,}", text.strip("\n")):
        if block.startswith(">>>"):
            if parts and parts[-1].startswith("```python"):
                parts[-1] = parts[-1].removesuffix("\n```") + f"\n\n{block}\n```"
            else:
                parts.append(f"```python\n{block}\n```")
        elif block.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(block)}\n```")
        elif block.strip():
            rows = re.split(r"\n(?=- )", block) if block.startswith("- ") else [block]
            parts.append("\n".join(_plain(row) for row in rows))
    return "\n\n".join(parts)


def _plain(text):
    """One line; what is no code cannot be taken for HTML."""
    line = re.sub(r"\]\( +", "](", " ".join(text.split()))
    spans = re.split(r"(`[^`]*`)", line)
    return "".join(s if s.startswith("`") else s.replace("<", "&lt;") for s in spans)


def _code(names):
    return ", ".join(f"`{name.strip('` ')}`" for name in names.split(","))


def _first_line(module):
    return _plain(inspect.cleandoc(module.__doc__).split("\n\n")[0])


def _anchors(title, names):
    """What GitHub calls the headings of a page: `## kdkeras.data.load` is #kdkerasdataload, and a
    second of that name #kdkerasdataload-1."""
    found, taken = {}, []
    for name in sorted(names, key=lambda name: callable(names[name])):
        anchor = re.sub(r"[^\w-]", "", f"{title}.{name}".lower())
        again = taken.count(anchor)
        taken.append(anchor)
        found[name] = f"{anchor}-{again}" if again else anchor
    return {name: found[name] for name in names}


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    sys.exit(main(sys.argv[1:]))
