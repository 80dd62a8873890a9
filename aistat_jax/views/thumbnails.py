"""What does a case look like at a glance? One small picture of the contour to show first."""

from __future__ import annotations

import io
from pathlib import Path

from aistat_jax._files import write_whole
from aistat_jax.case import Case
from aistat_jax.views.case import plot_slices
from aistat_jax.views.outputs import home_of
from aistat_jax.views.page import picture

INCHES, DPI = 1.6, 90
_WIDE = 300  # pixels across a figure of a surface


def write_thumbnail(path: Path, case: Case, figure: Path) -> Path:
    """The contour in focus (else the middle one) on its slice; of a surface its `figure`, small."""
    one = case[len(case) // 2 if case.focus is None else case.focus]
    if one.chart.dims == 2:
        (drawn,) = plot_slices(case.image, [one], channel=home_of(case), inches=INCHES)
        return write_whole(path, picture(drawn, DPI))
    from matplotlib.image import imread, thumbnail

    with io.BytesIO() as small:
        thumbnail(str(figure), small, scale=_WIDE / imread(str(figure)).shape[1])
        return write_whole(path, small.getvalue())
