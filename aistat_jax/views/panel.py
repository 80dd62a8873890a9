"""What is one contour drawn on? A slice in a panel of its own, around the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import ChannelSlice, Image
from aistat_jax.space.outlines import Region
from aistat_jax.uncertainty.bands import Band
from aistat_jax.views.layers import Limits, draw_slice, limits_around, reference_in, slice_shown
from aistat_jax.views.paper import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any


@dataclass(frozen=True)
class SlicePanel:
    """Axes with a slice in them: `picture` is its grey image, `limits` the part that is seen.

    `reference` are the outlines to compare with in this slice, None where none were asked for.
    """

    axes: Axes
    shown: ChannelSlice
    picture: Any
    limits: Limits
    reference: tuple[Curve, ...] | None


def slice_panel(
    made: Page,
    image: Image,
    posterior: Posterior,
    band: Band | None = None,
    *,
    channel: str | None,
    full: bool,
    reference: Region | None = None,
    other: Sequence[Curve] = (),
) -> SlicePanel:
    """The slice of a posterior in the one panel of a page; arguments as in `plot_contours`."""
    axes = made.panel()
    shown = slice_shown(image, posterior, channel)
    drawn = reference_in(reference, posterior, image)
    limits = limits_around(posterior, band, (*(drawn or ()), *other), shown.plane, full)
    return SlicePanel(axes, shown, draw_slice(axes, shown, limits), limits, drawn)
