"""Which layers is a figure of a contour made of? Slice, letters, band, draws, estimate, legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import layered
from aistat_jax.space.curve import Curve
from aistat_jax.space.directions import direction_letter
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice, Image
from aistat_jax.space.outlines import Region, outlines
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.style import (
    BAND,
    DRAW,
    ESTIMATE,
    GRADE_LOOKS,
    HALO,
    OTHER,
    OUTLINE,
    REFERENCE,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

_SOFT_TISSUE_HU = (-160.0, 240.0)
Limits = tuple[float, float, float, float]
DrawnCurves = Curve | Ring | Sequence[Curve] | None
"""A reference as it is drawn: nothing, one curve, a ring, or all outlines of a mask."""
_REFERENCE_DASHES = (0, (6, 2, 1, 2))
OTHER_DASHES = (0, (3.5, 2))
_SIDES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}


def slice_shown(image: Image, posterior: Posterior, channel: str | None) -> ChannelSlice:
    source = image.primary if channel is None else image[channel]
    return source.slice_at(posterior.chart.plane)


def reference_in(
    region: Region | None, posterior: Posterior, image: Image
) -> tuple[Curve, ...] | None:
    """The outlines of a reference in a posterior's slice, empty where it has none there.

    A mask of a volume lies on the grid of the first channel that has its shape.
    """
    if isinstance(region, np.ndarray) and region.dtype == bool and region.ndim == 3:
        channels = (image[name] for name in image.names)
        home = next((c for c in channels if c.grid.shape == region.shape), None)
        region = region if home is None else Channel(region.astype(float), home.grid, "mask")
    return None if region is None else outlines(region, posterior.chart.plane)


def curves_of(reference: DrawnCurves) -> list[Curve]:
    if reference is None:
        return []
    if isinstance(reference, Ring):
        return list(reference.curves)
    return [reference] if isinstance(reference, Curve) else list(reference)


def limits_around(
    posterior: Posterior, band: Band | None, reference: DrawnCurves, plane: Plane, full: bool
) -> tuple[float, float, float, float]:
    """What to show, (u_min, u_max, v_min, v_max): a square around the target unless `full`."""
    u_min, u_max, v_min, v_max = plane.extent
    if full:
        return u_min, u_max, v_min, v_max
    outer = np.quantile(posterior.draws, 0.995, axis=0) if band is None else band.upper
    points = posterior.chart.points(outer)
    points = np.concatenate([points, *(curve.points for curve in curves_of(reference))])
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    half = 0.75 * float((high - low).max()) + float(np.max(plane.spacing))
    low_edge, high_edge = np.array([u_min, v_min]), np.array([u_max, v_max])
    half = min(half, float((high_edge - low_edge).max()) / 2)
    inset = np.minimum(half, (high_edge - low_edge) / 2)
    middle = np.clip(middle, low_edge + inset, high_edge - inset)
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half


def limits_around_all(
    posteriors: Sequence[Posterior], reference: DrawnCurves, plane: Plane
) -> Limits:
    """One square that shows every posterior, so that panels, or slices, are seen alike."""
    each = np.array([limits_around(p, None, reference, plane, full=False) for p in posteriors])
    (u_min, _, v_min, _), (_, u_max, _, v_max) = each.min(axis=0), each.max(axis=0)
    half = max(u_max - u_min, v_max - v_min) / 2
    u, v = (u_min + u_max) / 2, (v_min + v_max) / 2
    return u - half, u + half, v - half, v + half


def draw_slice(
    axes: Axes,
    shown: ChannelSlice,
    limits: Limits,
    small: bool = False,
    window: tuple[float, float] | None = None,
) -> Any:
    """A slice in axes, in the grey scale of what is seen of it unless a `window` is given."""
    plane = shown.plane
    u_min, u_max, v_min, v_max = limits
    low, high = window_of(shown, limits) if window is None else window
    picture = axes.imshow(
        shown.values.T,
        origin="lower",
        extent=plane.extent,
        cmap=colour_map(shown.quantity),
        vmin=low,
        vmax=high,
        aspect="equal",
        zorder=0,
    )
    in_patient = plane.unit == "mm"
    axes.set_xlim((u_max, u_min) if in_patient else (u_min, u_max))
    axes.set_ylim(v_min, v_max)
    axes.set_facecolor("0.94")
    for spine in axes.spines.values():
        spine.set_visible(True)
    if in_patient:
        draw_letters(axes, plane, dark=shown.quantity == "SUV", small=small)
    if small:
        draw_scale(axes, limits, plane.unit, dark=shown.quantity == "SUV")
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        name_axes(axes, plane)
    return picture


def colour_map(quantity: str) -> str:
    """Uptake is dark on white, as nuclear medicine reads it; everything else white on dark."""
    return "gray_r" if quantity == "SUV" else "gray"


def name_axes(axes: Axes, plane: Plane) -> None:
    """Units, and the patient's side that each axis grows towards."""
    if plane.unit == "px":
        axes.set_xlabel("u (px)")
        axes.set_ylabel("v (px)")
        return
    for name, direction in ((axes.set_xlabel, (1.0, 0.0)), (axes.set_ylabel, (0.0, 1.0))):
        letter = direction_letter(plane, direction)
        name(f"mm to the {_SIDES[letter]} ({letter})")


def draw_posterior(
    axes: Axes,
    posterior: Posterior,
    band: Band | None,
    grade: Grade | None,
    draws: int,
    reference: DrawnCurves,
    width: float = 2.4,
) -> None:
    """Band, draws, reference and estimate, from back to front.

    `width` is that of the estimate, in points; all other lines keep their proportion to it.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch

    chart, thin = posterior.chart, max(width / 2.4, 0.5)
    if band is not None:
        outer, inner = (loops_of(chart, radii) for radii in (band.upper, band.lower))
        ring = band_path(outer, inner)
        axes.add_patch(PathPatch(ring, facecolor=BAND, alpha=0.30, lw=0, zorder=2))
        for edge in (*outer, *inner):
            axes.plot(*edge.T, color=BAND, lw=0.7 * thin, zorder=2.1)
    if draws:
        loops = [line for row in some_of(posterior.draws, draws) for line in loops_of(chart, row)]
        axes.add_collection(
            LineCollection(loops, colors=DRAW, alpha=0.35, linewidths=0.5 * thin, zorder=3)
        )
    draw_reference(axes, reference, thin)
    lines = loops_of(chart, posterior.estimate)
    for points, runs in zip(lines, grade_runs(grade, chart), strict=True):
        axes.plot(*points.T, color=OUTLINE, lw=width + 1.6 * thin, zorder=5)
        axes.plot(*points.T, color=HALO, lw=width + 0.6 * thin, zorder=5.1)
        for code, at in runs:
            axes.plot(*points[at].T, lw=width, zorder=6, **line_look(code))


def draw_outlines(
    axes: Axes, curves: Sequence[Curve], reference: DrawnCurves, width: float = 2.4
) -> None:
    """A contour without error bars, and the reference, as `draw_posterior` draws an estimate."""
    thin = max(width / 2.4, 0.5)
    draw_reference(axes, reference, thin)
    for curve in curves:
        points = loop(curve.points).T
        axes.plot(*points, color=OUTLINE, lw=width + 1.6 * thin, zorder=5)
        axes.plot(*points, color=HALO, lw=width + 0.6 * thin, zorder=5.1)
        axes.plot(*points, lw=width, zorder=6, **line_look(None))


def draw_reference(axes: Axes, reference: DrawnCurves, thin: float = 1.0) -> None:
    """The outlines of a reference, `thin` times as thick as in a figure for the screen."""
    for curve in curves_of(reference):
        line = loop(curve.points).T
        axes.plot(*line, color=HALO, lw=1.2 * thin + 1.0, zorder=4)
        axes.plot(*line, color=REFERENCE, lw=max(1.2 * thin, 0.7), ls=_REFERENCE_DASHES, zorder=4.1)


def draw_other(axes: Axes, curves: Sequence[Curve], thin: float = 1.0) -> None:
    """The outlines of another reading of the image, dashed."""
    for curve in curves:
        line = loop(curve.points).T
        axes.plot(*line, color=HALO, lw=1.4 * thin + 1.2, zorder=4.2)
        axes.plot(*line, color=OTHER, lw=max(1.4 * thin, 0.8), ls=OTHER_DASHES, zorder=4.3)


def legend_handles(
    grades: Sequence[Grade],
    band: Band | None = None,
    draws: int = 0,
    references: Sequence[DrawnCurves] = (),
    *,
    shares: bool = True,
    estimate: bool = True,
    other: bool = False,
    width: float = 2.4,
) -> list[Any]:
    """One entry for everything drawn and none else: of grades, those that the contours have.

    With `shares` a grade is told with its share of the (first) boundary. A reference that is
    empty in its slice is named as that, where all are. `other` is another reading of the image.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    thin = max(width / 2.4, 0.5)
    if estimate and not grades:
        handles.append(Line2D([], [], color=ESTIMATE, lw=width, label="estimate"))
    for code, look in enumerate(GRADE_LOOKS):
        if any(bool((grade.local == code).any()) for grade in grades):
            share = f" ({grades[0].fraction[look.name]:.0%})" if shares else ""
            label = f"{look.name}: {look.meaning}{share}"
            handles.append(Line2D([], [], color=look.colour, ls=look.dashes, lw=width, label=label))
    if band is not None:
        whole = "whole surface" if band.chart.dims == 3 else "whole boundary"
        scope = "each ray" if band.kind == "pointwise" else whole
        label = f"{100 * band.level:g}% band, {scope}"
        handles.append(Patch(facecolor=BAND, alpha=0.35, label=label))
    if draws:
        handles.append(
            Line2D([], [], color=DRAW, alpha=0.6, lw=0.8 * thin, label=f"{draws} posterior draws")
        )
    given = [curves_of(reference) for reference in references if reference is not None]
    if any(given):
        look = {"color": REFERENCE, "lw": max(1.2 * thin, 0.7), "ls": _REFERENCE_DASHES}
        handles.append(Line2D([], [], **look, label="reference"))
    elif given:
        handles.append(Line2D([], [], ls="none", label="reference: none in this slice"))
    if other:
        look = {"color": OTHER, "lw": max(1.4 * thin, 0.8), "ls": OTHER_DASHES}
        handles.append(Line2D([], [], **look, label="second reading"))
    return handles


def title_of(posterior: Posterior, grade: Grade | None, short: bool = False) -> str:
    """The target, its size (median, and if not short its 95% interval), its grade, and below what
    it is trusted to.

    Numbers are glued to their units, so that a line that is too long is broken elsewhere.
    """
    known, unit = area_posterior(posterior), posterior.unit
    size = _glued(known.middle if short else str(known))
    if short:
        word = "" if grade is None else f", {grade.case}"
        return f"{posterior.target_id}\n{size}{word}"
    if grade is not None:
        size += f", grade\u00a0{grade.case} at\u00a0{grade.tolerance:g}\u00a0{unit}"
        if grade.trusted_to is not None:
            size += f"\n{_glued(grade.trust)}"
    return f"{posterior.target_id}\n{size}"


def title_or_auto(
    title: str | None, posterior: Posterior, grade: Grade | None = None
) -> str | None:
    """A title of the caller's words, or none, or for "auto" what is shown."""
    return title_of(posterior, grade) if title == "auto" else title


def _glued(size: str) -> str:
    """1,446 mm² (1,370 to 1,530), broken at the bracket only."""
    return "\u00a0".join(size.split(" ")).replace("\u00a0(", " (")


def draw_colour_bar(
    axes: Axes, picture: Any, shown: ChannelSlice | str, alpha: float | None = None
) -> None:
    """What the grey scale, or a scale of that name, measures, beside the slice."""
    label = shown if isinstance(shown, str) else f"{shown.name} ({shown.quantity})"
    beside = axes.inset_axes((1.03, 0.125, 0.035, 0.75))
    figure: Any = axes.get_figure()
    figure.colorbar(picture, cax=beside, label=label, alpha=alpha)


def grade_runs(grade: Grade | None, chart: Any) -> Sequence[Sequence[tuple[int | None, slice]]]:
    """Stretches of one local grade along each boundary, closed, whose first point is repeated."""
    if grade is None:
        parts = layered(chart, np.arange(chart.sites))
        return [[(None, slice(0, len(part) + 1))] for part in parts]
    return [list(runs_of(part)) for part in layered(chart, grade.local)]


def runs_of(codes: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Stretches of one code along a closed boundary whose first point is repeated."""
    change = np.flatnonzero(np.diff(codes)) + 1
    starts, ends = [0, *change], [*change, len(codes)]
    for start, end in zip(starts, ends, strict=True):
        yield int(codes[start]), slice(int(start), int(end) + 1)


def line_look(code: int | None) -> dict[str, Any]:
    """Colour and dashes of an estimate of one grade, or of no grade."""
    if code is None:
        return {"color": ESTIMATE, "ls": "solid"}
    look = GRADE_LOOKS[code]
    return {"color": look.colour, "ls": look.dashes, "dash_capstyle": "butt"}


def some_of(rows: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` rows, spread evenly."""
    count = min(count, len(rows))
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)] if count else rows[:0]


def closed(values: np.ndarray) -> np.ndarray:
    """Values around a closed boundary with the first one repeated at the end."""
    return np.append(values, values[0])


def loops_of(chart: Any, values: np.ndarray) -> list[np.ndarray]:
    """Each boundary of a chart in a slice as a closed line (vertex, 2), first points repeated."""
    return [loop(points) for points in layered(chart, chart.points(values))]


def band_path(outer: Sequence[np.ndarray], inner: Sequence[np.ndarray]) -> Any:
    """What lies between closed lines and those within them, as one path."""
    from matplotlib.path import Path

    parts = [Path(line) for line in outer] + [Path(line[::-1]) for line in inner]
    return Path.make_compound_path(*parts)


def loop(points: np.ndarray) -> np.ndarray:
    """Points (vertex, 2) of a closed curve with the first one repeated at the end."""
    return np.concatenate([points, points[:1]])


def angle_label(plane: Plane, degrees: float) -> str:
    """An angle as degrees, with the patient's letter at the four quarters."""
    if plane.unit == "px" or degrees % 90:
        return f"{degrees:g}"
    radians = np.radians(degrees)
    letter = direction_letter(plane, (float(np.cos(radians)), float(np.sin(radians))))
    return f"{degrees:g}\n{letter}"


def window_of(shown: ChannelSlice, limits: Limits) -> tuple[float, float]:
    """Grey scale: soft tissue for HU, from zero for SUV, else what the part shown spans."""
    if shown.quantity == "HU":
        return _SOFT_TISSUE_HU
    points = shown.plane.points()
    u_min, u_max, v_min, v_max = limits
    inside = (points[..., 0] >= u_min) & (points[..., 0] <= u_max)
    inside &= (points[..., 1] >= v_min) & (points[..., 1] <= v_max)
    inside &= np.isfinite(shown.values)  # beyond the voxels of a plane through a volume are none
    values = shown.values[inside] if inside.any() else np.nan_to_num(shown.values.ravel())
    low, high = (float(q) for q in np.quantile(values, [0.01, 0.995]))
    if shown.quantity == "SUV":
        low = 0.0
    return low, high if high > low else low + 1.0


def draw_letters(axes: Axes, plane: Plane, dark: bool, small: bool) -> list[Any]:
    """Patient letters at the four edges, in small panels at two; returns them."""
    from matplotlib import rcParams
    from matplotlib.patheffects import withStroke

    ink, paper = ("black", "white") if dark else ("white", "black")
    left = direction_letter(plane, (1.0, 0.0))
    right = direction_letter(plane, (-1.0, 0.0))
    top = direction_letter(plane, (0.0, 1.0))
    bottom = direction_letter(plane, (0.0, -1.0))
    places = ((0.03, 0.5, left), (0.5, 0.97, top), (0.97, 0.5, right), (0.5, 0.03, bottom))
    return [
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha={0.03: "left", 0.97: "right"}.get(x, "center"),
            va={0.03: "bottom", 0.97: "top"}.get(y, "center"),
            color=ink,
            fontsize=(0.9 if small else 1.2) * rcParams["font.size"],
            fontweight="bold",
            path_effects=[withStroke(linewidth=2, foreground=paper, alpha=0.7)],
            zorder=8,
        )
        for x, y, letter in places[: 2 if small else 4]
    ]


def round_length(span: float) -> int:
    """The longest round length of at most a quarter of what is seen."""
    return max(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n <= max(1.0, span / 4))


def draw_scale(axes: Axes, limits: Limits, unit: str, dark: bool) -> None:
    """A bar of a round length in the lower left corner."""
    from matplotlib.patheffects import withStroke

    ink, paper = ("black", "white") if dark else ("white", "black")
    span = limits[1] - limits[0]
    length = round_length(span)
    effects = [withStroke(linewidth=3.4, foreground=paper, alpha=0.7)]
    share = length / span
    axes.plot(
        [0.05, 0.05 + share],
        [0.05, 0.05],
        transform=axes.transAxes,
        color=ink,
        lw=1.8,
        solid_capstyle="butt",
        path_effects=effects,
        zorder=8,
    )
    axes.annotate(
        f"{length} {unit}",
        (0.05, 0.05),
        xycoords="axes fraction",
        xytext=(0, 2.0),
        textcoords="offset points",
        va="bottom",
        color=ink,
        fontsize=6.5,
        path_effects=[withStroke(linewidth=1.6, foreground=paper, alpha=0.7)],
        zorder=8,
    )
