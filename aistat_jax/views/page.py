"""What is a page made of? One self-contained HTML file: pictures inside, everything escaped."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistat_jax._files import write_whole
from aistat_jax.views.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

_CSS = """
body{font:15px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:60rem;margin:2rem auto;
padding:0 1.2rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2rem 0 .5rem;
border-bottom:1px solid #bbb}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
.meta{color:#555;font-size:.9rem}
table{border-collapse:collapse;margin:.4rem 0 1rem;width:100%}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #ddd;
vertical-align:top}
th{font-weight:600}td.n{font-variant-numeric:tabular-nums}tbody th{width:17rem;font-weight:400}
.grade{display:inline-block;border:2px solid;border-radius:.3rem;padding:0 .5rem;font-weight:700;
white-space:nowrap}
.green{border-color:#00806a;color:#00604f}.amber{border-color:#c08a00;color:#6e4f00}
.red{border-color:#b30d49;color:#8f0a3a}
figure{margin:1rem 0;break-inside:avoid}figure img{max-width:100%;height:auto}
figcaption{color:#444;font-size:.9rem}
.about{background:#f4f4f4;border-left:4px solid #888;padding:.6rem 1rem;break-inside:avoid}
section{break-inside:avoid-page}
@media print{body{margin:0;max-width:none;font-size:11pt}.about{background:none}
figure img{max-height:10.5cm}}
"""


def write_page(
    path: str | os.PathLike[str], title: str, parts: Sequence[str], css: str = ""
) -> Path:
    """A page of parts that are HTML already; the file is moved into place when complete.

    `css` is added to the looks that all pages share.
    """
    return write_whole(
        Path(path),
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{_CSS}{css}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n",
    )


def figure(caption: str, drawing: Figure | Path) -> str:
    """A figure, or one that a PNG file holds already, with its caption inside the page."""
    return f"<figure>{image(caption, drawing)}<figcaption>{safe(caption)}</figcaption></figure>"


def image(said: str, drawing: Figure | Path, dpi: int = 150) -> str:
    """A picture inside the page; `said` stands for it where it is not seen."""
    drawn = drawing.read_bytes() if isinstance(drawing, Path) else picture(drawing, dpi)
    data = base64.b64encode(drawn).decode("ascii")
    return f'<img alt="{safe(said)}" src="data:image/png;base64,{data}">'


def picture(drawing: Figure, dpi: int = 150) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    with style():
        drawing.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, a pair a row."""
    body = "".join(
        f'<tr><th scope="row">{safe(name)}</th><td class="n">{safe(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><tbody>{body}</tbody></table>"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a head; every cell is text."""
    top = "".join(f"<th>{safe(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="n">{safe(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def number(value: Any) -> str:
    """Three significant digits, thousands apart; a dash for what does not apply."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def safe(text: Any) -> str:
    return html.escape(str(text), quote=True)
