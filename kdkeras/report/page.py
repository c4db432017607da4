"""One self-contained HTML page: no script, no request, light and dark, on a phone and on paper."""

import base64
import dataclasses
import html
import itertools
import re

from kdkeras.report import styles

# In the first line of each page: what may be replaced without asking.
MARK = "<!-- made by kdkeras -->"
# Of itself the page may load nothing; pictures stand in it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Block(str):
    """HTML that the functions of this module made; any other string is escaped."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """A heading, which the list of contents names too, and what stands under it."""

    heading: str
    body: Block


def document(title, parts, *, summary=""):
    """A whole page.

    Args:
        title: String.
        parts: List of what `part` gives.
        summary: A block, or a string, that stands above the list of contents.

    Returns:
        A string. Its first line carries `MARK`.

    Example:

    >>> page = document("Digits", [part("Answer", text("It helped."))])
    """
    anchors = [(f"part-{number}", one) for number, one in enumerate(parts, start=1)]
    links = "".join(f'<li><a href="#{i}">{_safe(one.heading)}</a></li>\n' for i, one in anchors)
    contents = f'<nav aria-label="Contents"><ol>\n{links}</ol></nav>' if len(parts) > 1 else ""
    body = "\n".join(
        f'<section id="{i}">\n<h2>{_safe(one.heading)}</h2>\n{one.body}\n</section>'
        for i, one in anchors
    )
    head = _block(summary, "lead") if summary else ""
    return f"""<!DOCTYPE html>{MARK}
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_safe(title)}</title>
<style>{styles.SHEET}</style>
</head>
<body>
<main>
<header>
<h1>{_safe(title)}</h1>
{head}
{contents}
</header>
{_numbered(body)}
</main>
</body>
</html>
"""


def part(heading, *blocks):
    """A part of a page; strings among its blocks become paragraphs."""
    return Part(heading, Block("\n".join(map(_block, blocks))))


def text(*pieces):
    """A paragraph."""
    return Block(f"<p>{''.join(map(_safe, pieces))}</p>")


def strong(words):
    """Words of a paragraph that stand out."""
    return Block(f"<strong>{_safe(words)}</strong>")


def cell(words, below):
    """A cell of a table with smaller words below it."""
    return Block(f"{_safe(words)}<small>{_safe(below)}</small>")


def cards(items):
    """Cards beside one another, each a row of pictures with words below it.

    Args:
        items: List of (list of (picture, its name), list of lines).
    """
    made = []
    for pictures, lines in items:
        row = "".join(
            f"<div>{_safe(one)}<span>{_safe(name)}</span></div>" for one, name in pictures
        )
        said = "".join(f"<li>{_safe(line)}</li>" for line in lines)
        made.append(f'<li><div class="row">{row}</div><ul>{said}</ul></li>')
    return Block(f'<ul class="cards">{"".join(made)}</ul>')


def code(words):
    """What is to be typed, or was: lines are kept."""
    return Block(f'<pre tabindex="0"><code>{_safe(words)}</code></pre>')


def typed(words):
    """Letters of one width within a line or a cell."""
    return Block(f"<code>{_safe(words)}</code>")


def details(words, *blocks):
    """Blocks that show when the reader asks for them, and in print."""
    inside = "\n".join(map(_block, blocks))
    return Block(f"<details>\n<summary>{_safe(words)}</summary>\n{inside}\n</details>")


def table(header, rows, caption=None):
    """A table: the first cell of a row names it, and numbers stand to the right.

    Args:
        header: List of strings, one a column.
        rows: List of lists of strings or blocks, as long as `header`.
        caption: What to look at.
    """
    rows = [list(map(str, row)) if not any(_is_block(c) for c in row) else row for row in rows]
    left = [i == 0 or not all(_is_number(row[i]) for row in rows) for i in range(len(header))]
    kinds = ["" if one else ' class="number"' for one in left]
    cells = zip(header, kinds, strict=True)
    head = "".join(f'<th scope="col"{kind}>{_safe(name)}</th>' for name, kind in cells)
    lines = []
    for first, *others in rows:
        cells = zip(others, kinds[1:], strict=True)
        inside = "".join(f"<td{_kind(cell, kind)}>{_safe(cell)}</td>" for cell, kind in cells)
        lines.append(f'<tr><th scope="row">{_safe(first)}</th>{inside}</tr>')
    body = "\n".join(lines)
    said = f"<figcaption>{_safe(caption)}</figcaption>" if caption else ""
    return Block(
        '<figure class="table"><div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{said}</figure>"
    )


def figure(images, caption=None):
    """A figure: what `plots.svg` or `image` gave, or a list of those, side by side if they fit.

    Args:
        images: A block, or a list of blocks.
        caption: What to look at.
    """
    images = [images] if isinstance(images, str) else images
    inside = "".join(f'<div class="panel">{_safe(one)}</div>' for one in images)
    said = f"<figcaption>{_safe(caption)}</figcaption>" if caption else ""
    return Block(f'<figure><div class="panels">{inside}</div>{said}</figure>')


def image(png, alt, *, width=None):
    """A photograph.

    Args:
        png: The bytes of a PNG file.
        alt: What it shows, in words.
        width: In CSS pixels; the picture's own unless given.
    """
    size = "" if width is None else f' width="{width}"'
    data = base64.b64encode(png).decode()
    return Block(f'<img src="data:image/png;base64,{data}" alt="{_safe(alt)}"{size}>')


def _is_block(value):
    return isinstance(value, Block)


def _safe(value):
    return value if _is_block(value) else html.escape(str(value))


def _block(value, kind=None):
    if _is_block(value):
        return value
    return Block(f"<p{f' class={kind!r}' if kind else ''}>{_safe(value)}</p>")


def _kind(cell, kind):
    return ' class="words"' if not kind and len(cell) > 30 and not _is_block(cell) else kind


def _is_number(cell):
    """Whether a cell is a number with its unit or interval, or says that there is none."""
    cell = html.unescape(re.sub("<[^>]*>", "", str(cell)))
    return re.match(r"[-+\u2212<]?\s*\d", cell) is not None or cell in ("", "-", "\u2013")


def _numbered(body):
    """The ids inside each SVG made the page's own: plots of one kind name theirs alike."""
    number = itertools.count(1)

    def of_one(found):
        prefix = f"svg{next(number)}-"
        return re.sub(
            "<[^>]*>",
            lambda tag: re.sub(r'((?: id="|href="#|url\(#))', rf"\g<1>{prefix}", tag[0]),
            found[0],
        )

    return re.sub(r"<svg\b.*?</svg>", of_one, body, flags=re.DOTALL)
