"""How is a surface in space drawn? In parallel projection, lit, coloured by what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from aistat_jax._typing import Float, Int
from aistat_jax.space.chart import Chart, interpolated
from aistat_jax.space.curve import as_polygons
from aistat_jax.space.grid import Plane
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.layers import draw_letters, draw_scale
from aistat_jax.views.style import ESTIMATE, GRADE_LOOKS, OUTLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from shapely import MultiPolygon
else:
    Axes = MultiPolygon = Any

_WIDTHS = "cividis"  # the same to any colour vision, and in print without colour
_HATCHES = (None, "////", "....")  # of the grades, on a surface
_LIGHT = np.array([0.35, 0.5, 0.8]) / np.linalg.norm([0.35, 0.5, 0.8])  # left, up, to the viewer
_DARKEST = 0.65  # of a colour that light does not meet


class Look(NamedTuple):
    """By what a surface is coloured: name, colours (face, 3), grades (face,), scale of a bar."""

    name: str
    colours: Float[np.ndarray, "face 3"]
    codes: Int[np.ndarray, " face"] | None = None
    scale: Any = None


def looks_of(chart: Chart, mesh: Mesh, band: Band | None, grade: Grade | None) -> list[Look]:
    """The surface by half-width and by grade, as far as they are known; plain without either."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_rgb

    found = []
    middles = mesh.points[mesh.faces].mean(axis=1)
    if band is not None:
        width = interpolated(chart, band.half_width, middles)
        most = float(width.max())
        low = min(float(width.min()), most / 2)
        scale = ScalarMappable(Normalize(low, most), colormaps[_WIDTHS])
        found.append(Look("half-width", scale.to_rgba(width)[:, :3], scale=scale))
    if grade is not None:
        codes = grade.local[chart.nearest(middles)]
        colours = np.array([to_rgb(look.colour) for look in GRADE_LOOKS])
        found.append(Look("grade", colours[codes], codes))
    return found or [Look("estimate", np.tile(to_rgb(ESTIMATE), (len(middles), 1)))]


def draw_body(
    axes: Axes,
    mesh: Mesh,
    frame: Float[np.ndarray, "3 3"],
    look: Look,
) -> None:
    """A lit surface in parallel projection, farther triangles first; grades hatched."""
    from matplotlib.collections import PolyCollection

    mirrored = -1.0 if mesh.unit == "mm" else 1.0  # in patients u runs to the left of the figure
    placed = mesh.points @ frame * np.array([1.0, 1.0, mirrored])
    corners = placed[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * mirrored
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    seen = np.flatnonzero(normal[:, 2] > 0)
    seen = seen[np.argsort(corners[seen, :, 2].mean(axis=1))]
    light = _LIGHT * np.array([-mirrored, 1.0, 1.0])
    lit = _DARKEST + (1 - _DARKEST) * np.clip(normal[seen] @ light, 0.0, 1.0)
    shaded = look.colours[seen] * lit[:, None]
    axes.add_collection(
        PolyCollection(
            cast(Any, corners[seen, :, :2]), facecolors=shaded, edgecolors=shaded, linewidths=0.3,
            rasterized=True, zorder=2,
        )
    )  # fmt: skip
    if look.codes is not None:
        _hatch(axes, corners[seen, :, :2], look.codes[seen])
    low, high = placed.min(axis=0), placed.max(axis=0)
    middle, half = (low + high) / 2, 0.7 * float(np.ptp(mesh.points, axis=0).max())
    axes.set_xlim(*(middle[0] + half * np.array([-1, 1]) * mirrored))
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set_aspect("equal")
    axes.set_axis_off()
    if mesh.unit == "mm":
        plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, frame, shape=(1, 1))
        draw_letters(axes, plane, dark=True, small=False)
    draw_scale(axes, (middle[0] - half, middle[0] + half, 0.0, 1.0), mesh.unit, dark=True)


def _hatch(
    axes: Axes, triangles: Float[np.ndarray, "face 3 2"], codes: Int[np.ndarray, " face"]
) -> None:
    """What is amber hatched and what is red dotted, with a line around it."""
    import shapely
    from matplotlib.patches import PathPatch

    for code, hatch in enumerate(_HATCHES):
        if hatch is None or not (codes == code).any():
            continue
        whole = shapely.union_all(np.asarray(shapely.polygons(triangles[codes == code])))
        path = path_of(as_polygons(whole))
        axes.add_patch(
            PathPatch(path, facecolor="none", edgecolor=OUTLINE, hatch=hatch, lw=0.5, alpha=0.6,
                      zorder=3, hatch_linewidth=0.4)
        )  # fmt: skip


def path_of(polygons: MultiPolygon) -> Any:
    """Polygons with holes as one path of matplotlib, whose rings turn as it fills them."""
    from matplotlib.path import Path
    from shapely.geometry.polygon import orient

    parts = [orient(part) for part in polygons.geoms]
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    return Path.make_compound_path(*(Path(np.asarray(ring.coords)) for ring in rings))
