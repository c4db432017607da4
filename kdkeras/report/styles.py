"""The style sheet of a page."""

SHEET = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c1f24; --soft: #5a626e; --line: #dde1e7; --tint: #f5f6f8;
  --link: #0b5cad; --blue: #0072b2; --vermillion: #d55e00; --green: #00825f; --purple: #a8518a;
  --grey: #767d88; --sky: #2b93cf; --ochre: #a87400; --heat: #00508c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --ink: #e5e7ea; --soft: #a2a9b4; --line: #343942; --tint: #1e2126;
    --link: #82b8f0; --blue: #58aee8; --vermillion: #f0824a; --green: #35c397; --purple: #dc93c2;
    --grey: #8d95a1; --sky: #8ad0f5; --ochre: #e2b04a; --heat: #5aa9e0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "Liberation Sans", Arial, sans-serif;
}
main { max-width: 64.5rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1, h2 { line-height: 1.25; font-weight: 650; text-wrap: balance; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; margin: 0 0 1rem; letter-spacing: -0.015em; }
h2 { font-size: 1.35rem; margin: 3.5rem 0 0.75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); letter-spacing: -0.01em; }
p, li, dd, figcaption { max-width: 70ch; overflow-wrap: break-word; }
p { margin: 0 0 1rem; }
.lead { font-size: 1.2rem; line-height: 1.5; margin: 0 0 1.25rem; max-width: 60ch; }
a { color: var(--link); text-underline-offset: 0.15em; }
nav ol { margin: 1.5rem 0 0; padding: 0 0 0 1.4rem; columns: 18rem; column-gap: 2rem;
  color: var(--soft); font-size: 0.95rem; }
nav li { break-inside: avoid; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
figure { margin: 1.5rem 0 2rem; }
figcaption { margin-top: 0.6rem; color: var(--soft); font-size: 0.9rem; line-height: 1.5; }
.panels { display: flex; flex-wrap: wrap; gap: 1.25rem 1.75rem; align-items: flex-start; }
.panel { max-width: 100%; overflow-x: auto; }
svg { display: block; height: auto; fill: currentColor; }
svg text { font-family: inherit !important; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.panels img { min-width: 34rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 3px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.42rem 0.9rem 0.42rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0.25rem; }
thead th { color: var(--soft); font-weight: 500; font-size: 0.85rem; vertical-align: bottom;
  border-bottom-color: var(--grey); }
tbody th { font-weight: 550; min-width: 6.5rem; }
td { min-width: 3rem; }
.words { min-width: 15rem; max-width: 28rem; }
.number { text-align: right; white-space: nowrap; }
small { display: block; color: var(--soft); font-size: 0.82em; font-weight: 400; }
pre { background: var(--tint); border-radius: 6px; padding: 0.8rem 1rem; overflow-x: auto;
  font-size: 0.88rem; line-height: 1.5; }
td code { font-size: 0.85em; overflow-wrap: anywhere; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
details { margin: 0 0 1rem; }
summary { cursor: pointer; color: var(--link); padding: 0.3rem 0; }
ul.cards { list-style: none; margin: 1.5rem 0; padding: 0; display: grid; gap: 2rem 1.75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); }
.cards ul { list-style: none; margin: 0.6rem 0 0; padding: 0; font-size: 0.9rem;
  line-height: 1.45; }
.cards .row { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.5rem; }
.cards img { width: 100%; image-rendering: pixelated; }
.cards span { display: block; color: var(--soft); font-size: 0.8rem; line-height: 1.3;
  margin-top: 0.25rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 30rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { font-size: 1.2rem; margin-top: 2.5rem; }
  .lead { font-size: 1.08rem; }
  table { font-size: 0.8rem; }
  th, td { padding-right: 0.45rem; }
  tbody th { min-width: 4.5rem; }
  td { min-width: 0; }
  .words { min-width: 9rem; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root { color-scheme: light; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  summary { list-style: none; color: inherit; font-weight: 650; }
  th, td { overflow-wrap: anywhere; white-space: normal; }
  td.words { min-width: 0; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  thead { break-after: avoid; }
  figure, tr, pre, .cards > li { break-inside: avoid; }
  .scroll, .panel, pre { overflow: visible; }
  pre { white-space: pre-wrap; border: 1px solid var(--line); }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
