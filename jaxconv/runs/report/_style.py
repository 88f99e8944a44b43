"""The style sheet of a page: light, dark, and on paper."""

STYLE = """
:root { --ink: #1f2328; --soft: #59636e; --line: #d5d9de; --paper: #ffffff; --band: #f3f5f7;
  --train: #0b6e99; --validation: #d9730d; --test: #0f7b6c; --right: 11 110 153;
  --wrong: 217 115 13; color-scheme: light; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e2e4e7; --soft: #9aa4af; --line: #3a4048; --paper: #16191d; --band: #1f2429;
    --train: #4fb3dc; --validation: #f0a052; --test: #4cc2ae; --right: 79 179 220;
    --wrong: 240 160 82; color-scheme: dark; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1.2rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft, figcaption, caption { color: var(--soft); font-size: .87rem; }
caption { text-align: left; padding-bottom: .3rem; }
pre { background: var(--band); padding: .7rem .9rem; border-radius: 4px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  overflow-wrap: anywhere; }
th { font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
table.confusion td, table.confusion th { text-align: center; padding: .2rem .45rem; }
.right { background: rgb(var(--right) / var(--share)); }
.wrong { background: rgb(var(--wrong) / var(--share)); }
.figures, .tables { display: flex; flex-wrap: wrap; gap: 1rem; }
.tables { gap: 0 3rem; } figure { margin: 0; }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; margin: 1rem 0; }
.numbers b { display: block; font-size: 1.5rem; line-height: 1.25; }
img { display: block; image-rendering: pixelated; max-width: 100%; margin-bottom: .25rem; }
svg { max-width: 100%; height: auto; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr, svg, pre { break-inside: avoid; } .scroll { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
