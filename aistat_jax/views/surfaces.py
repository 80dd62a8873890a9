"""What does a lesion as one surface look like? Three planes through it, and the surface itself.

Planes are the patient's (axial, coronal, sagittal) whatever the directions of the voxels: the image
is sampled on them, linearly between voxel centres. The surface is seen from the front and from the
back, in parallel projection, lit from above the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve, as_polygons
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice, Image
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.sections import band_surfaces, check_surface, to_shapely
from aistat_jax.views.bodies import Look, draw_body, looks_of, path_of
from aistat_jax.views.layers import (
    Limits,
    draw_colour_bar,
    draw_other,
    draw_reference,
    draw_slice,
    legend_handles,
    line_look,
    loop,
    runs_of,
    some_of,
    title_or_auto,
    window_of,
)
from aistat_jax.views.paper import Page, page, settle, small_title
from aistat_jax.views.stacks import PLANES
from aistat_jax.views.style import BAND, DRAW, HALO, OUTLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

Body = Mesh | np.ndarray | Channel
"""A body to compare with: its surface, a boolean mask on the image's grid, a channel with one."""

_SIDES = {
    "from the front": PLANES["coronal"][0],
    "from the back": np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]).T,
}
_MOST_PIXELS = 600


def plot_surface(
    image: Image,
    posterior: Posterior,
    band: Band | None = None,
    grade: Grade | None = None,
    *,
    channel: str | None = None,
    at: Sequence[float] | np.ndarray | None = None,
    draws: int = 12,
    reference: Body | None = None,
    other: Mesh | None = None,
    title: str | None = "auto",
    legend: bool = True,
    width_mm: float | None = None,
) -> Figure:
    """A surface with its band on three planes of the patient, and itself by half-width and grade.

    The planes meet in `at` (3,), in patient coordinates, by default the middle of the estimate.
    They show the sections of estimate (coloured and styled by local grade), band and posterior
    draws on the `channel` (the first unless named), whose values are interpolated linearly. The
    surface is seen from the front and from the back: coloured by the half-width of the band, and by
    grade, where amber is hatched and red is dotted. `reference` is a body to compare with: a
    `Mesh`, a boolean mask on the first channel's grid, or a `Channel` that holds one; `other` is
    another reading of the image (`Contour.other`), whose sections are dashed.

    Raises InputError for a contour in a slice, and for a point outside of the image.
    """
    check_surface(posterior, band, grade)
    scene = _scene(image, posterior, band, grade, channel, at, draws, reference, other)
    with page(width_mm, inches=7.6) as made:
        looks = looks_of(posterior.chart, scene.estimate, band, grade)
        # one row of four, or for one column a row of two for each way to colour a surface
        shape = (1 + len(looks), 2) if made.narrow else (2, 4)
        grid = made.figure.add_gridspec(*shape)
        drawn = _draw_planes(made, grid[0, :].subgridspec(1, len(PLANES)), scene)
        for n, look in enumerate(looks):
            row, first = (1 + n, 0) if made.narrow else (1, 2 * n + (len(looks) == 1))
            _draw_bodies(made, [grid[row, first], grid[row, first + 1]], scene, look)
        made.headline(title_or_auto(title, posterior, grade))
        handles = legend_handles(
            [] if grade is None else [grade], band, len(scene.draws),
            [] if reference is None else [drawn], other=other is not None,
            width=2.0 * made.scale,
        )  # fmt: skip
        return settle(made, handles if legend else ())


@dataclass(frozen=True)
class _Scene:
    """Everything that the panels of one figure share; `box` holds all that is drawn but draws."""

    posterior: Posterior
    band: Band | None
    grade: Grade | None
    channel: Channel
    estimate: Mesh
    edges: tuple[Mesh, ...]
    draws: list[Mesh]
    reference: Mesh | None
    other: Mesh | None
    at: Float[np.ndarray, "3"]
    box: Float[np.ndarray, "2 3"]
    half: float


def _scene(
    image: Image,
    posterior: Posterior,
    band: Band | None,
    grade: Grade | None,
    channel: str | None,
    at: Sequence[float] | np.ndarray | None,
    draws: int,
    reference: Body | None,
    other: Mesh | None,
) -> _Scene:
    source = image.primary if channel is None else image[channel]
    estimate = posterior.chart.surface(np.asarray(posterior.estimate))
    edges = ()
    if band is not None:
        surfaces = band_surfaces(posterior, band)
        edges = (surfaces.lower, surfaces.upper)
    drawn = [posterior.chart.surface(row) for row in some_of(posterior.draws, draws)]
    body = None if reference is None else body_of(reference, image)
    beside = [mesh for mesh in (body, other) if mesh is not None]
    seen = np.concatenate([mesh.points for mesh in (estimate, *edges, *beside)])
    low, high = seen.min(axis=0), seen.max(axis=0)
    point = _middle(estimate) if at is None else np.asarray(at, dtype=float)
    if point.shape != (3,) or not source.grid.contains(point):
        raise InputError(
            f"the point {np.round(point, 1).tolist()} lies outside of channel {source.name}; "
            "choose one inside of it"
        )
    half = 0.58 * float((high - low).max()) + float(source.grid.spacing.min())
    return _Scene(
        posterior,
        band,
        grade,
        source,
        estimate,
        edges,
        drawn,
        body,
        other,
        point,
        np.stack([low, high]),
        half,
    )


def body_of(reference: Body, image: Image) -> Mesh:
    """The surface of a body to compare with."""
    if isinstance(reference, Mesh):
        return reference
    if isinstance(reference, Channel):
        return surface_from_mask(reference.values >= 0.5, reference.grid)
    grid = image.primary.grid
    if np.shape(reference) != grid.shape or np.asarray(reference).dtype != bool:
        raise InputError(
            f"a reference is a Mesh, a Channel or a boolean mask of the shape {grid.shape} of "
            f"{image.primary.name}, got {type(reference).__name__} of {np.shape(reference)}"
        )
    return surface_from_mask(np.asarray(reference), grid)


def _middle(mesh: Mesh) -> Float[np.ndarray, "3"]:
    """The centre of mass of what a surface encloses."""
    corners = mesh.points[mesh.faces]
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return volume @ corners.sum(axis=1) / (4 * volume.sum())


# --------------------------------------------------------------------------------------- planes


def plane_through(
    channel: Channel,
    name: str,
    at: Float[np.ndarray, "3"],
    body: Float[np.ndarray, "2 3"],
    half: float,
) -> tuple[ChannelSlice, Limits]:
    """The image on one plane, and the part of it that is seen: no more than there is.

    name: a plane of the patient, "axial", "coronal" or "sagittal", through `at`. body: two corners
    of a box with what is drawn, in patient coordinates; half: half the side of what is seen.
    """
    frame = PLANES[name][0]
    corners = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in channel.grid.shape)), axis=-1)
    box = channel.grid.to_world(corners.reshape(-1, 3)) @ frame
    seen, margin = body @ frame, float(channel.grid.spacing.min())
    all_of = np.concatenate([box, seen - margin, seen + margin])
    middle = seen.mean(axis=0)
    low = np.maximum(middle - half, all_of.min(axis=0))
    high = np.minimum(middle + half, all_of.max(axis=0))
    limits = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    side = max(channel.grid.spacing.min() / 2, (high - low)[:2].max() / _MOST_PIXELS)
    nu, nv = (int(np.ceil(length / side)) for length in (high - low)[:2])
    plane = Plane(
        origin=low[:2] + side / 2, spacing=np.full(2, side), offset=float((at @ frame)[2]),
        thickness=float(side), frame=frame, shape=(nu, nv), unit=channel.unit,
    )  # fmt: skip
    return channel.resliced(plane), limits


def common_window(shown: Sequence[ChannelSlice], limits: Sequence[Limits]) -> tuple[float, float]:
    """One grey scale for all planes."""
    each = [window_of(one, seen) for one, seen in zip(shown, limits, strict=True)]
    return min(low for low, _ in each), max(high for _, high in each)


def _draw_planes(made: Page, places: Any, scene: _Scene) -> list[Curve]:
    """The three planes in one row, at one scale and in one grey scale; the reference's curves."""
    planes = [
        plane_through(scene.channel, name, scene.at, scene.box, scene.half) for name in PLANES
    ]
    window = common_window([shown for shown, _ in planes], [limits for _, limits in planes])
    drawn: list[Curve] = []
    for n, (name, (shown, limits)) in enumerate(zip(PLANES, planes, strict=True)):
        axes = made.figure.add_subplot(places[n])
        picture = draw_slice(axes, shown, limits, small=made.narrow, window=window)
        drawn += _draw_sections(axes, scene, shown.plane, 2.0 * made.scale)
        name_plane(axes, name, shown.plane, made)
        if name == "sagittal" and not made.narrow:
            axes.set_ylabel("")  # that of the plane before it
            axes.tick_params(labelleft=False)
            draw_colour_bar(axes, picture, shown)
    return drawn


def _draw_sections(axes: Axes, scene: _Scene, plane: Plane, width: float) -> list[Curve]:
    """Band, draws, reference and estimate from back to front; returns the reference's curves."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch

    thin = max(width / 2.4, 0.5)
    if scene.edges:
        lower, upper = (to_shapely(edge.section(plane)) for edge in scene.edges)
        ring = as_polygons(upper.difference(lower))
        if not ring.is_empty:
            look = {"facecolor": BAND, "alpha": 0.30, "lw": 0, "zorder": 2}
            axes.add_patch(PathPatch(path_of(ring), **look))
        for edge in scene.edges:
            for curve in edge.section(plane):
                axes.plot(*loop(curve.points).T, color=BAND, lw=0.7 * thin, zorder=2.1)
    loops = [loop(curve.points) for mesh in scene.draws for curve in mesh.section(plane)]
    axes.add_collection(
        LineCollection(loops, colors=DRAW, alpha=0.35, linewidths=0.5 * thin, zorder=3)
    )
    drawn = [] if scene.reference is None else scene.reference.section(plane)
    draw_reference(axes, drawn, thin)
    draw_other(axes, [] if scene.other is None else scene.other.section(plane), thin)
    for curve in scene.estimate.section(plane):
        points = loop(curve.points)
        axes.plot(*points.T, color=OUTLINE, lw=width + 1.6 * thin, zorder=5)
        axes.plot(*points.T, color=HALO, lw=width + 0.6 * thin, zorder=5.1)
        if scene.grade is None:
            axes.plot(*points.T, lw=width, zorder=6, **line_look(None))
            continue
        site = scene.posterior.chart.nearest(plane.to_world(curve.points))
        for code, part in runs_of(scene.grade.local[site]):
            axes.plot(*points[part].T, lw=width, zorder=6, **line_look(code))
    return drawn


def name_plane(axes: Axes, name: str, plane: Plane, made: Page) -> None:
    """Which plane it is and where it lies; without spacing there is no patient."""
    across = PLANES[name][1]
    place = round(float((plane.frame[:, 2] * plane.offset)[across]))
    where = f"{'xyz'[across]} = {place} {plane.unit}".replace("-", "\u2212")
    if plane.unit == "px":
        u, v = (int(np.abs(plane.frame[:, n]).argmax()) for n in (0, 1))
        axes.set_xlabel("" if made.narrow else f"{'xyz'[u]} (px)")
        axes.set_ylabel("" if made.narrow else f"{'xyz'[v]} (px)")
        name = where
    else:
        name = f"{name}\n{where}" if made.narrow else f"{name}, {where}"
    made.title(axes, name, **small_title())


# -------------------------------------------------------------------------------------- surface


def _draw_bodies(made: Page, places: Sequence[Any], scene: _Scene, look: Look) -> None:
    """The surface from the front and from the back."""
    axes = None
    for place, (side, frame) in zip(places, _SIDES.items(), strict=True):
        axes = made.figure.add_subplot(place)
        draw_body(axes, scene.estimate, frame, look)
        if scene.estimate.unit == "px":  # there is no patient: the viewer stands on an axis
            side = "from \u2212y" if side == "from the front" else "from +y"
        made.title(axes, f"{look.name},\n{side}", **small_title())
    if look.scale is not None and axes is not None:
        draw_colour_bar(axes, look.scale, f"half-width ({scene.estimate.unit})")
