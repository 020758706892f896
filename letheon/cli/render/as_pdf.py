"""The page as PDF, A4. Needs `letheon[report]`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from letheon.cli.render.page import Page, Table
from letheon.errors import BadConfig

if TYPE_CHECKING:
    from fpdf import FPDF

_BLUE, _GREY, _INK = (20, 80, 110), (95, 105, 112), (26, 26, 26)
_VERDICTS = {"pass": (23, 102, 58), "fail": (163, 33, 27), "inconclusive": (138, 90, 0)}
_LEFT_MM, _TOP_MM, _LABEL_MM = 16, 12, 40
_SMALL, _TEXT, _HEAD, _TITLE = 7.2, 8.5, 10.2, 19
_LINE = 0.46  # mm a point
_SCALES = (1.0, 0.95, 0.9, 0.85, 0.8)  # of all sizes, until it fits one page


def pdf_of(page: Page) -> bytes:
    """The file. Raises BadConfig if the library is missing."""
    try:
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise BadConfig(
            "--pdf needs `pip install 'letheon[report]'`; --html needs nothing", key="pdf"
        ) from error
    for scale in _SCALES:
        pdf = FPDF(format="A4")
        pdf.set_title(page.title)
        pdf.set_creator("Letheon")
        pdf.set_margins(_LEFT_MM, _TOP_MM)
        pdf.set_auto_page_break(auto=True, margin=11)
        content = _Writer(pdf, scale).write(page)
        if pdf.pages_count == 1:
            break
    return content


class _Writer:
    def __init__(self, pdf: FPDF, scale: float) -> None:
        self._pdf = pdf
        self._scale = scale
        self._family = _add_font(pdf)

    def write(self, page: Page) -> bytes:
        pdf = self._pdf
        pdf.add_page()
        self._text(page.title, _TITLE, _BLUE, bold=True)
        self._text(page.claim, _HEAD + 1, _INK, bold=True)
        pdf.ln(1)
        pdf.set_draw_color(*_BLUE)
        pdf.set_line_width(0.7)
        pdf.line(_LEFT_MM, pdf.get_y(), pdf.w - _LEFT_MM, pdf.get_y())
        pdf.set_line_width(0.2)
        for table in page.tables:
            self._heading(table.title)
            if table.columns:
                self._grid(table)
            else:
                self._pairs(table.rows)
        self._heading("What this does not prove")
        for sentence in page.not_proven:
            self._text(f"• {sentence}", _TEXT - 0.4, _INK)
        pdf.ln(1.5)
        pdf.line(_LEFT_MM, pdf.get_y(), pdf.w - _LEFT_MM, pdf.get_y())
        pdf.ln(0.8)
        for line in page.check:
            self._text(line, _SMALL, _GREY)
        return bytes(pdf.output())

    def _heading(self, text: str) -> None:
        pdf = self._pdf
        pdf.ln(1.8)
        self._text(text, _HEAD, _BLUE, bold=True)
        pdf.set_draw_color(185, 198, 205)
        pdf.line(_LEFT_MM, pdf.get_y(), pdf.w - _LEFT_MM, pdf.get_y())
        pdf.ln(0.7)

    def _pairs(self, rows: Sequence[Sequence[str]]) -> None:
        for name, value in rows:
            self._style(_TEXT, _GREY)
            self._pdf.cell(_LABEL_MM, self._height(_TEXT), self._known(name))
            self._text(value, _TEXT, _INK)

    def _grid(self, table: Table) -> None:
        pdf = self._pdf
        width = pdf.w - 2 * _LEFT_MM
        shares = (0.17, 0.13, 0.16, 0.54) if len(table.columns) == 4 else (0.36, 0.34, 0.30)
        widths = [share * width for share in shares]
        self._row(table.columns, widths, _GREY)
        for row in table.rows:
            self._row(row, widths, _INK)

    def _row(
        self, cells: Sequence[str], widths: Sequence[float], ink: tuple[int, int, int]
    ) -> None:
        pdf = self._pdf
        height = self._height(_TEXT)
        lines = 1
        for cell, width in zip(cells, widths, strict=True):
            self._style(_TEXT, ink)
            split = pdf.multi_cell(width, height, self._known(cell), dry_run=True, output="LINES")
            lines = max(lines, len(cast(list[str], split)))
        if pdf.will_page_break(lines * height):
            pdf.add_page()
        x, y = pdf.get_x(), pdf.get_y()
        for cell, width in zip(cells, widths, strict=True):
            self._style(_TEXT, _VERDICTS.get(cell, ink), bold=cell in _VERDICTS)
            pdf.set_xy(x, y)
            pdf.multi_cell(width, height, self._known(cell), align="L")
            x += width
        pdf.set_xy(_LEFT_MM, y + lines * height + 0.3)

    def _text(
        self, text: str, size: float, ink: tuple[int, int, int], *, bold: bool = False
    ) -> None:
        self._style(size, ink, bold=bold)
        self._pdf.multi_cell(
            0, self._height(size), self._known(text), align="L", new_x="LMARGIN", new_y="NEXT"
        )

    def _style(self, size: float, ink: tuple[int, int, int], *, bold: bool = False) -> None:
        self._pdf.set_font(self._family, style="B" if bold else "", size=size * self._scale)
        self._pdf.set_text_color(*ink)

    def _height(self, size: float) -> float:
        """Of a line, in mm."""
        return size * _LINE * self._scale

    def _known(self, text: str) -> str:
        """What the font can print; the built-in one knows Western letters only."""
        if self._family != "Helvetica":
            return text
        return text.replace("•", "-").encode("latin-1", "replace").decode("latin-1")


def _add_font(pdf: FPDF) -> str:
    """A font with the letters of all of Europe, if matplotlib is there to lend it."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return "Helvetica"
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    if not (folder / "DejaVuSans.ttf").is_file():
        return "Helvetica"
    pdf.add_font("DejaVu", "", folder / "DejaVuSans.ttf")
    pdf.add_font("DejaVu", "B", folder / "DejaVuSans-Bold.ttf")
    return "DejaVu"
