"""How often is what has a probability right? A reliability diagram, one panel a set of cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.reliability import Reliability
from aistat_jax.views.paper import columns_for, page, settle, small_title
from aistat_jax.views.style import BAND, ESTIMATE, OUTLINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

# Of two forecasts in a panel the first is what is judged, the second what it is compared with.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": OUTLINE, "marker": "o"},
    {"color": ESTIMATE, "marker": "s", "ls": "--"},
)


def plot_reliability(
    found: Mapping[str, Mapping[str, Reliability]], *, width_mm: float | None = None
) -> Figure:
    """Shares that were right against probabilities, and their error, in bins of equal counts.

    `found` has, for the title of every panel, forecasts by name, of which there are one or two in
    all. A bar is the 95% interval of a share (Wilson); on the diagonal probabilities are right.
    Raises InputError for no panel, an empty one, or a third forecast.
    """
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(name for each in found.values() for name in each))
    if not found or not all(found.values()) or len(names) > len(LOOKS):
        raise InputError("give one panel at least, and of one or two forecasts in all")
    columns = min(columns_for(width_mm, 3), len(found))
    rows = -(-len(found) // columns)
    with page(width_mm, inches=2.3 * columns + 0.6) as made:
        panels = made.figure.subplots(
            rows, columns, squeeze=False, sharex=True, sharey=True, height_ratios=[2.0] * rows
        )
        for panel in panels.ravel()[len(found) :]:
            panel.set_axis_off()
        for n, (title, forecasts) in enumerate(found.items()):
            panel = panels.ravel()[n]
            panel.plot([0, 1], [0, 1], color=BAND, lw=1.0)
            for name, one in forecasts.items():
                look = LOOKS[names.index(name)]
                low, high = _wilson(one.right, one.count)
                panel.vlines(one.predicted, low, high, color=look["color"], lw=0.8, alpha=0.5)
                panel.plot(one.predicted, one.right, ms=3.5, lw=1.0, **look)
            errors = " / ".join(f"{one.error:.3f}" for one in forecasts.values())
            made.title(panel, f"{title}\nerror {errors}", **small_title())
            panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability")
            panel.set_ylabel("" if n % columns else "share that is right")
        handles = [
            Line2D([], [], ms=3.5, lw=1.0, label=name, **look)
            for name, look in zip(names, LOOKS, strict=False)
        ]
        handles.append(Line2D([], [], color=BAND, lw=1.0, label="where probabilities are right"))
        return settle(made, handles)


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of a share by Wilson's score."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return middle - half, middle + half
