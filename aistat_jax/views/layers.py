"""Which layers is a figure of a contour made of? Slice, letters, band, draws, estimate, legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.directions import direction_letter
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import ChannelSlice, Image
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.style import (
    BAND,
    DRAW,
    ESTIMATE,
    GRADE_LOOKS,
    HALO,
    OUTLINE,
    REFERENCE,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

_SOFT_TISSUE_HU = (-160.0, 240.0)
Limits = tuple[float, float, float, float]


def slice_shown(image: Image, posterior: Posterior, channel: str | None) -> ChannelSlice:
    source = image.primary if channel is None else image[channel]
    return source.slice_at(posterior.chart.plane)


def limits_around(
    posterior: Posterior, band: Band | None, reference: Curve | None, plane: Plane, full: bool
) -> tuple[float, float, float, float]:
    """What to show, (u_min, u_max, v_min, v_max): a square around the target unless `full`."""
    u_min, u_max, v_min, v_max = plane.extent
    if full:
        return u_min, u_max, v_min, v_max
    outer = np.quantile(posterior.draws, 0.995, axis=0) if band is None else band.upper
    points = posterior.chart.points(outer)
    if reference is not None:
        points = np.concatenate([points, reference.points])
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    half = 0.75 * float((high - low).max()) + float(np.max(plane.spacing))
    low_edge, high_edge = np.array([u_min, v_min]), np.array([u_max, v_max])
    half = min(half, float((high_edge - low_edge).max()) / 2)
    inset = np.minimum(half, (high_edge - low_edge) / 2)
    middle = np.clip(middle, low_edge + inset, high_edge - inset)
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half


def limits_around_all(
    posteriors: Sequence[Posterior], reference: Curve | None, plane: Plane
) -> Limits:
    """One square that shows every posterior, so that panels, or slices, are seen alike."""
    each = np.array([limits_around(p, None, reference, plane, full=False) for p in posteriors])
    (u_min, _, v_min, _), (_, u_max, _, v_max) = each.min(axis=0), each.max(axis=0)
    half = max(u_max - u_min, v_max - v_min) / 2
    u, v = (u_min + u_max) / 2, (v_min + v_max) / 2
    return u - half, u + half, v - half, v + half


def draw_slice(
    axes: Axes, shown: ChannelSlice, limits: tuple[float, float, float, float], small: bool = False
) -> Any:
    plane = shown.plane
    u_min, u_max, v_min, v_max = limits
    low, high = window_of(shown, limits)
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
        _draw_scale(axes, limits, plane.unit, dark=shown.quantity == "SUV")
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
    axes.set_xlabel(f"mm, + towards {direction_letter(plane, (1.0, 0.0))}")
    axes.set_ylabel(f"mm, + towards {direction_letter(plane, (0.0, 1.0))}")


def draw_posterior(
    axes: Axes,
    posterior: Posterior,
    band: Band | None,
    grade: Grade | None,
    draws: int,
    reference: Curve | None,
    width: float = 2.4,
) -> None:
    """Band, draws, reference and estimate, from back to front."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    chart = posterior.chart
    if band is not None:
        outer, inner = (loop(chart.points(radii)) for radii in (band.upper, band.lower))
        ring = Path.make_compound_path(Path(outer), Path(inner[::-1]))
        axes.add_patch(PathPatch(ring, facecolor=BAND, alpha=0.30, lw=0, zorder=2))
        for edge in (outer, inner):
            axes.plot(*edge.T, color=BAND, lw=0.7, zorder=2.1)
    if draws:
        loops = [loop(chart.points(row)) for row in some_of(posterior.draws, draws)]
        axes.add_collection(
            LineCollection(loops, colors=DRAW, alpha=0.35, linewidths=0.5, zorder=3)
        )
    if reference is not None:
        line = loop(reference.points).T
        axes.plot(*line, color=HALO, lw=2.6, zorder=4)
        axes.plot(*line, color=REFERENCE, lw=1.2, ls=(0, (6, 2, 1, 2)), zorder=4.1)
    points = loop(chart.points(posterior.estimate))
    axes.plot(*points.T, color=OUTLINE, lw=width + 1.6, zorder=5)
    axes.plot(*points.T, color=HALO, lw=width + 0.6, zorder=5.1)
    for code, at in grade_runs(grade, len(points) - 1):
        axes.plot(*points[at].T, lw=width, zorder=6, **line_look(code))


def legend_handles(
    posterior: Posterior,
    band: Band | None,
    grade: Grade | None,
    draws: int,
    reference: Curve | None,
    with_fractions: bool = True,
) -> list[Any]:
    """One entry for everything drawn; every grade appears, with its share of the boundary."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if grade is None:
        handles.append(Line2D([], [], color=ESTIMATE, lw=2.4, label="estimate"))
    else:
        for look in GRADE_LOOKS:
            share = f" ({grade.fraction[look.name]:.0%})" if with_fractions else ""
            label = f"{look.name}: {look.meaning}{share}"
            handles.append(Line2D([], [], color=look.colour, ls=look.dashes, lw=2.4, label=label))
    if band is not None:
        scope = "whole boundary" if band.kind == "simultaneous" else "each ray"
        label = f"{100 * band.level:g}% band, {scope}"
        handles.append(Patch(facecolor=BAND, alpha=0.35, label=label))
    if draws:
        label = f"{min(draws, len(posterior.draws))} posterior draws"
        handles.append(Line2D([], [], color=DRAW, alpha=0.6, lw=0.8, label=label))
    if reference is not None:
        handles.append(
            Line2D([], [], color=REFERENCE, lw=1.2, ls=(0, (6, 2, 1, 2)), label="reference")
        )
    return handles


def title_of(posterior: Posterior, grade: Grade | None, short: bool = False) -> str:
    """The target, its area (median, and if not short its 95% interval), and its grade."""
    area, unit = area_posterior(posterior), posterior.unit
    words = [f"{area.quantile(0.5):,.0f} {unit}²" if short else str(area)]
    if grade is not None:
        words.append(grade.case if short else f"grade {grade.case} at {grade.tolerance:g} {unit}")
    return f"{posterior.target_id}\n{',  '.join(words)}"


def draw_colour_bar(axes: Axes, picture: Any, shown: ChannelSlice) -> None:
    """What the grey scale measures, beside the slice."""
    beside = axes.inset_axes((1.03, 0.125, 0.035, 0.75))
    figure: Any = axes.get_figure()
    figure.colorbar(picture, cax=beside, label=f"{shown.name} ({shown.quantity})")


def grade_runs(grade: Grade | None, rays: int) -> Iterator[tuple[int | None, slice]]:
    """Stretches of one local grade along a closed boundary whose first point is repeated."""
    if grade is None:
        yield None, slice(0, rays + 1)
        return
    change = np.flatnonzero(np.diff(grade.local)) + 1
    starts, ends = [0, *change], [*change, rays]
    for start, end in zip(starts, ends, strict=True):
        yield int(grade.local[start]), slice(int(start), int(end) + 1)


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
    values = shown.values[inside] if inside.any() else shown.values.ravel()
    low, high = (float(q) for q in np.quantile(values, [0.01, 0.995]))
    if shown.quantity == "SUV":
        low = 0.0
    return low, high if high > low else low + 1.0


def draw_letters(axes: Axes, plane: Plane, dark: bool, small: bool) -> list[Any]:
    """Patient letters at the four edges, as the axes are turned; returns them."""
    from matplotlib.patheffects import withStroke

    ink, paper = ("black", "white") if dark else ("white", "black")
    left = direction_letter(plane, (1.0, 0.0))
    right = direction_letter(plane, (-1.0, 0.0))
    top = direction_letter(plane, (0.0, 1.0))
    bottom = direction_letter(plane, (0.0, -1.0))
    places = ((0.03, 0.5, left), (0.97, 0.5, right), (0.5, 0.97, top), (0.5, 0.03, bottom))
    return [
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha={0.03: "left", 0.97: "right"}.get(x, "center"),
            va={0.03: "bottom", 0.97: "top"}.get(y, "center"),
            color=ink,
            fontsize=8 if small else 11,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2, foreground=paper, alpha=0.7)],
            zorder=8,
        )
        for x, y, letter in places
    ]


def _draw_scale(axes: Axes, limits: Limits, unit: str, dark: bool) -> None:
    """A bar of a round length in the lower left corner."""
    from matplotlib.patheffects import withStroke

    ink, paper = ("black", "white") if dark else ("white", "black")
    span = limits[1] - limits[0]
    length = max(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n <= max(1.0, span / 4))
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
    axes.text(
        0.05,
        0.075,
        f"{length} {unit}",
        transform=axes.transAxes,
        color=ink,
        fontsize=6.5,
        path_effects=[withStroke(linewidth=1.6, foreground=paper, alpha=0.7)],
        zorder=8,
    )
