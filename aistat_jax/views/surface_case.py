"""What is shown and kept of a case whose contours are surfaces? Figures and meshes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistat_jax.case import Case
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.views.layers import title_of
from aistat_jax.views.surface_files import write_surface
from aistat_jax.views.surfaces import plot_surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

MOST_FIGURES = 9
_CAPTION = (
    "three planes through the middle of the estimate with band and draws, and the surface by the "
    "half-width of its band and by grade"
)


def surface_figures(case: Case) -> list[tuple[str, Figure]]:
    """(caption, figure): the surface in focus on every channel, then others on the first."""
    focus = case.focus or 0
    shown = []
    for name in _channels(case, case[focus]):
        on = f" on {name}" if len(case.image.names) > 1 else ""
        shown.append((f"{case[focus].id}{on}: {_CAPTION}.", _figure(case, case[focus], name)))
    for n, one in enumerate(case):
        if n != focus and len(shown) < MOST_FIGURES:
            figure = _figure(case, one, _channels(case, one)[0])
            shown.append((f"{one.id}: the same.", figure))
    return shown


def _figure(case: Case, one: Contour, channel: str) -> Figure:
    drawn = one.reference if isinstance(one.reference, Mesh) else None
    title = f"{case.title}: {title_of(one.posterior, one.grade)}"
    return plot_surface(
        case.image, one.posterior, one.band, one.grade, channel=channel, reference=drawn,
        other=one.other if isinstance(one.other, Mesh) else None, title=title,
    )  # fmt: skip


def _channels(case: Case, one: Contour) -> list[str]:
    """The channels that hold the whole estimate, or else the first."""
    points, names = one.chart.surface(one.posterior.estimate).points, case.image.names
    whole = [name for name in names if case.image[name].grid.contains(points).all()]
    return whole or [names[0]]


def write_surfaces(folder: Path, case: Case) -> list[str]:
    """A mesh of every surface, with half-width and grade: GIFTI, or PLY without spacing.

    Called surface.surf.gii, or where there are several surface-ID.surf.gii. Returns the files.
    """
    ending = ".surf.gii" if case.image.unit == "mm" else ".ply"
    names = []
    for one in case:
        stem = "surface" if len(case) == 1 else f"surface-{one.id}"
        written = write_surface(folder / f"{stem}{ending}", one.posterior, one.band, one.grade)
        names += [path.name for path in written]
    return names
