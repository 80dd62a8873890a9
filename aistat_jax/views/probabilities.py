"""How probably is each place inside? Contours of equal probability, and a map in colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._record import replace
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Image
from aistat_jax.space.outlines import Region
from aistat_jax.uncertainty.probability import probability_contours, probability_map
from aistat_jax.views.layers import (
    Limits,
    draw_colour_bar,
    draw_reference,
    legend_handles,
    loop,
    title_or_auto,
)
from aistat_jax.views.panel import slice_panel
from aistat_jax.views.paper import page, settle
from aistat_jax.views.style import HALO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

LEVELS, FEW_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95), (0.05, 0.5, 0.95)
_MAP = "cividis"  # the same to any colour vision, and in print without colour
_OPACITY, _CLEAR_BELOW = 0.7, 0.1  # of colour; less probable places are ever more transparent
_FINE = 240  # pixels of a map across what is shown


def plot_probability(
    image: Image,
    posterior: Posterior,
    levels: Sequence[float] | None = None,
    *,
    channel: str | None = None,
    full: bool = False,
    title: str | None = "auto",
    legend: bool = True,
    width_mm: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One slice with its probability contours: inside each, every point is inside that surely.

    `levels` are five unless told, or three where the figure is for one column, so that lines stay
    apart. `title`, `width_mm` and `ax` are as in `plot_contours`.

    Raises InputError for a level outside (0, 1), and for a width together with axes.
    """
    with page(width_mm, ax) as made:
        from matplotlib import colormaps
        from matplotlib.lines import Line2D

        panel = slice_panel(made, image, posterior, channel=channel, full=full)
        axes, handles = panel.axes, []
        chosen = (FEW_LEVELS if made.narrow else LEVELS) if levels is None else levels
        for place, (level, curves) in enumerate(probability_contours(posterior, chosen).items()):
            colour = colormaps["plasma"](0.05 + 0.85 * place / max(1, len(chosen) - 1))
            middle = np.isclose(level, 0.5)
            look = {"color": colour, "lw": (2.2 if middle else 1.3) * max(made.scale, 0.6)}
            for curve in curves:
                halo = look["lw"] + 1.0 * made.scale
                axes.plot(*loop(curve.points).T, color=HALO, lw=halo, zorder=3)
                axes.plot(*loop(curve.points).T, **look, zorder=3)
            handles.append(Line2D([], [], **look, label=f"P(inside) ≥ {level:g}"))
        made.title(axes, title_or_auto(title, posterior))
        draw_colour_bar(axes, panel.picture, panel.shown)
        return settle(made, handles if legend else (), beside=True)


def plot_probability_map(
    image: Image,
    posterior: Posterior,
    *,
    channel: str | None = None,
    reference: Region | None = None,
    full: bool = False,
    title: str | None = "auto",
    width_mm: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One slice with the probability of being inside as colour over the image, and its scale.

    The map is computed between the image's pixels, too; presence is part of it. Below 10%
    the colour fades, until the image is bare at 0. The colours (cividis) are told apart with any
    colour vision, and by their lightness alone. `reference`, `title`, `width_mm` and `ax` are as in
    `plot_contours`.

    Raises InputError as `plot_contours` does.
    """
    with page(width_mm, ax) as made:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        panel = slice_panel(made, image, posterior, channel=channel, full=full, reference=reference)
        axes, limits, drawn = panel.axes, panel.limits, panel.reference
        # fainter than elsewhere, so that colour is read against it and not mixed with it
        low, high = panel.picture.get_clim()
        panel.picture.set_clim(*_faint(low, high, panel.shown.quantity))
        fine = _finer(posterior.chart.plane, limits)
        probability = probability_map(posterior, fine)
        axes.imshow(
            probability.T, origin="lower", extent=fine.extent, cmap=_MAP, vmin=0.0, vmax=1.0,
            alpha=_OPACITY * np.minimum(probability.T / _CLEAR_BELOW, 1.0),
            interpolation="nearest", zorder=1, aspect="equal",
        )  # fmt: skip
        axes.set_xlim(*((limits[1], limits[0]) if fine.unit == "mm" else limits[:2]))
        axes.set_ylim(*limits[2:])
        draw_reference(axes, drawn, max(made.scale, 0.5))
        made.title(axes, title_or_auto(title, posterior))
        scale = ScalarMappable(Normalize(0.0, 1.0), _MAP)
        draw_colour_bar(axes, scale, "P(inside)", alpha=_OPACITY)
        handles = legend_handles([], None, 0, [drawn], estimate=False, width=2.4 * made.scale)
        return settle(made, handles, beside=True)


def _faint(low: float, high: float, quantity: str) -> tuple[float, float]:
    """A grey scale whose darkest part is not reached: uptake is dark on white, all else is not."""
    more = 0.8 * (high - low)
    return (low, high + more) if quantity == "SUV" else (low - more, high)


def _finer(plane: Plane, limits: Limits) -> Plane:
    """The part of a plane that is shown, in pixels fine enough to look smooth."""
    u_min, u_max, v_min, v_max = limits
    sides = np.array([u_max - u_min, v_max - v_min])
    spacing = np.full(2, float(sides.max()) / _FINE)
    shape = tuple(int(n) for n in np.ceil(sides / spacing))
    return replace(
        plane, origin=np.array([u_min, v_min]) + spacing / 2, spacing=spacing,
        shape=(shape[0], shape[1]),
    )  # fmt: skip
