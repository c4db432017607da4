"""Pages whose measured parts stand between marks, and are replaced by what is measured anew."""

import pathlib

from kdkeras import files


def replace(path, mark, text, heading=None):
    """Replaces what stands between the marks of a part, and nothing else; atomically.

    Args:
        path: The page. Marks that it does not have yet go to its end.
        mark: What is between `<!--` and `-->`; the end's begins with "end of".
        text: The new text of the part.
        heading: Optional line above marks that are new.
    """
    path = pathlib.Path(path)
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    old = path.read_text() if path.exists() else "# Results\n"
    if start not in old:
        old = "\n\n".join(filter(None, [old.rstrip(), heading, f"{start}\n{end}\n"]))
    before, _, rest = old.partition(start)
    _, _, after = rest.partition(end)
    files.write_text(path, f"{before}{start}\n{text}\n{end}{after.rstrip()}\n")
