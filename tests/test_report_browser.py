"""A report in a browser: on a phone and on a desk, light and dark."""

import html
import json
import os
import re
import shutil
import subprocess

import pytest
from report_runs import attack, write_run
from test_report import digits_like

from kdkeras import report

WIDTHS = (400, 1400)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Measures the page in frames of the widths, and writes what it found into the document.
MEASURE = """
const rects = (nodes) => [...nodes].map((node) => {
  const { left, right, top, bottom } = node.getBoundingClientRect();
  return { left, right, top, bottom, text: node.textContent.trim().slice(0, 40) };
}).filter((r) => r.right > r.left && r.text);
const overlapping = (found) => {
  const pairs = [];
  found.forEach((a, i) => found.slice(i + 1).forEach((b) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    // A text's box holds the room above and below its letters too.
    const least = Math.min(a.bottom - a.top, b.bottom - b.top, a.right - a.left, b.right - b.left);
    if (wide > 1 && high > 0.3 * least) pairs.push([a.text, b.text]);
  }));
  return pairs;
};
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument;
    page.querySelectorAll("details").forEach((one) => { one.open = true; });
    const root = page.documentElement;
    const blocks = "h1, h2, h3, p, figcaption, nav li, .scroll, .panel, summary, .cards > li";
    return {
      width: root.clientWidth,
      scrolls: root.scrollWidth,
      paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
      ink: frame.contentWindow.getComputedStyle(page.querySelector("svg text")).fill,
      loaded: frame.contentWindow.performance.getEntriesByType("resource").map((one) => one.name),
      plots: page.querySelectorAll("svg").length,
      outside: [...page.querySelectorAll("svg")].flatMap((svg) => {
        const box = svg.getBoundingClientRect();
        return rects(svg.querySelectorAll("text")).filter((one) => one.left < box.left - 1
          || one.right > box.right + 1 || one.top < box.top - 2 || one.bottom > box.bottom + 2);
      }),
      inPlots: [...page.querySelectorAll("svg")].flatMap(
        (svg) => overlapping(rects(svg.querySelectorAll("text")))),
      cells: [...page.querySelectorAll("td, th")].filter((c) => c.scrollWidth > c.clientWidth + 1)
        .map((cell) => cell.textContent),
      blocks: overlapping(rects(page.querySelectorAll(blocks))),
    };
  });
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def browser():
    given = os.environ.get("CHROMIUM")
    names = [given] if given else ["chromium", "chromium-browser", "google-chrome"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A report of long class names, attacks and exports."""
    labels, said = digits_like(400, 12)
    names = ("a", "an exceedingly long name of a class", *(f"class {i}" for i in range(10)))
    folder = write_run(tmp_path_factory.mktemp("run") / "run", labels, said, classes=names)
    for name in ("student.keras", "teacher.keras"):
        attack(folder / "attack" / name, worst=0.4)
    (folder / "export").mkdir()
    exported = {
        kind: {
            "bytes": 1000 * (i + 1) ** 3,
            "test": {"accuracy": 0.9 + 0.001 * i},
            "latency": {"median_ms": 0.1 * 3**i, "p95_ms": 0.2 * 3**i},
        }
        for i, kind in enumerate(("saved_model", "float32", "float16", "dynamic", "int8"))
    }
    (folder / "export" / "report.json").write_text(json.dumps({"files": exported}))
    return report.write(folder, pictures=False).read_text()


@pytest.fixture(scope="module", params=["dark", "light"])
def shown(request, browser, text, tmp_path_factory):
    """What was found at each width, and what the console said."""
    folder = tmp_path_factory.mktemp("browser")
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(text)}">'
        "</iframe>"
        for width in WIDTHS
    )
    page = folder / "page.html"
    page.write_text(f"<!DOCTYPE html><script>{MEASURE}</script>{frames}<pre id=found></pre>")
    # Blink counts dark as 0 and light as 1.
    scheme = ("dark", "light").index(request.param)
    done = subprocess.run(
        [
            *(browser, *QUIET, f"--user-data-dir={folder / 'user'}", "--enable-logging=stderr"),
            *(f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(
        html.unescape(re.search("<pre id=.*?>(.*?)</pre>\\s*</body>", done.stdout)[1])
    )
    return request.param, found, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_page_follows_light_and_dark(shown):
    scheme, found, _ = shown
    paper, ink = {
        "light": ("rgb(255, 255, 255)", "rgb(28, 31, 36)"),
        "dark": ("rgb(21, 23, 27)", "rgb(229, 231, 234)"),
    }[scheme]
    soft = {"light": "rgb(90, 98, 110)", "dark": "rgb(162, 169, 180)"}[scheme]
    assert {one["paper"] for one in found} == {paper}
    assert {one["ink"] for one in found} <= {ink, soft}


def test_nothing_is_asked_for_and_nothing_goes_wrong(shown):
    _, found, console = shown
    assert console == []
    assert [one["loaded"] for one in found] == [[], []]


def test_everything_has_its_place(shown):
    _, found, _ = shown
    assert [one["plots"] for one in found] == [13, 13]
    for one, width in zip(found, WIDTHS, strict=True):
        assert width - 20 <= one["width"] <= width
        assert one["scrolls"] == one["width"]
        assert one["outside"] == []
        assert one["inPlots"] == []
        assert one["cells"] == []
        assert one["blocks"] == []
