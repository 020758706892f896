"""The page as one HTML file: no script, no font and no picture from elsewhere."""

from __future__ import annotations

from html import escape

from letheon.cli.render.page import Page, Table

_STYLE = """
@page { size: A4; margin: 11mm 16mm }
body { font: 10.5pt/1.35 "DejaVu Sans", Verdana, sans-serif; color: #1a1a1a; max-width: 178mm;
  margin: 12mm auto }
header { border-bottom: 2pt solid #14506e; margin-bottom: 4mm }
h1 { font-size: 19pt; color: #14506e; margin: 0 0 1mm }
.claim { font-size: 12pt; font-weight: bold; margin: 0 0 3mm }
h2 { font-size: 11pt; color: #14506e; margin: 4mm 0 1mm; border-bottom: .5pt solid #b9c6cd }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .6mm 2.5mm .6mm 0; font-weight: normal;
  overflow-wrap: break-word }
th { color: #55636b }
.pairs { table-layout: fixed }
.pairs td:first-child { width: 46mm; color: #55636b }
.grid th, .grid td:not(:last-child) { white-space: nowrap; padding-right: 4mm }
ul { margin: 1mm 0; padding-left: 5mm }
.pass { color: #17663a; font-weight: bold }
.fail { color: #a3211b; font-weight: bold }
.inconclusive { color: #8a5a00; font-weight: bold }
li { margin-bottom: .8mm }
footer { margin-top: 4mm; border-top: .5pt solid #b9c6cd; padding-top: 1.5mm; font-size: 8.5pt;
  color: #3c474d; overflow-wrap: anywhere }
footer p { margin: 0 0 1mm }
@media print {
  body { margin: 0; max-width: none; font-size: 8.2pt; line-height: 1.22 }
  h1 { font-size: 17pt }
  h2 { font-size: 9.5pt; margin-top: 2.6mm }
  td, th { padding-top: .25mm; padding-bottom: .25mm }
  li { margin-bottom: .3mm }
  .claim { font-size: 10.5pt; margin-bottom: 2mm }
  footer { font-size: 7.2pt; margin-top: 2.5mm }
}
"""


def html_of(page: Page) -> str:
    """The file's text."""
    tables = "".join(_table(one) for one in page.tables)
    sentences = "".join(f"<li>{escape(one)}</li>" for one in page.not_proven)
    check = "".join(f"<p>{escape(one)}</p>" for one in page.check)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}'
        f"</title><style>{_STYLE}</style></head><body><header><h1>{escape(page.title)}</h1>"
        f'<p class="claim">{escape(page.claim)}</p></header>{tables}'
        f"<h2>What this does not prove</h2><ul>{sentences}</ul><footer>{check}</footer>"
        "</body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td{_class(cell)}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    kind = "grid" if table.columns else "pairs"
    titles = f"<tr>{head}</tr>" if head else ""
    return f'<h2>{escape(table.title)}</h2><table class="{kind}">{titles}{rows}</table>'


def _class(cell: str) -> str:
    return f' class="{cell}"' if cell in ("pass", "fail", "inconclusive") else ""
