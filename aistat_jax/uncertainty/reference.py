"""How near are the contours of one case to a reference mask drawn by somebody else?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._record import record, static
from aistat_jax._typing import Bool
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve, contours_from_mask, coverage_from_contours
from aistat_jax.space.image import Channel
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.metrics import (
    SurfaceDistances,
    dice,
    surface_distances,
    surface_distances_3d,
)


@record
class Agreement:
    """Agreement of a case's estimate with a reference.

    scope "volume": masks and surfaces of the whole volume; "slices": only the slices that were
    contoured, Dice of their masks and distances between curves within each slice, pooled.
    assd and hd95 are in `unit`, None where either side is empty. band_share is the share of
    `slices_compared` whose whole reference boundary lies inside the simultaneous band; None when
    no slice has both a contour and a reference.
    """

    dice: float = static()
    assd: float | None = static()
    hd95: float | None = static()
    band_share: float | None = static()
    slices_compared: int = static()
    scope: str = static()
    unit: str = static()


def estimate_volume(posteriors: Sequence[Posterior], like: Channel) -> Bool[np.ndarray, "i j k"]:
    """Voxels at least half inside the posterior mean contours, on the grid of `like`."""
    volume = np.zeros(like.grid.shape, dtype=bool)
    for posterior in posteriors:
        plane = posterior.chart.plane
        curves = posterior.chart.sections(posterior.estimate, plane)
        volume[:, :, plane.index] |= coverage_from_contours(curves, plane) >= 0.5
    return volume


def reference_curves(mask: np.ndarray, posteriors: Sequence[Posterior]) -> list[Curve | None]:
    """The largest outline of a mask (i, j, k) in each posterior's slice; None where it is empty."""
    found = []
    for posterior in posteriors:
        plane = posterior.chart.plane
        curves = contours_from_mask(mask[:, :, plane.index], plane)
        found.append(curves[0] if curves else None)
    return found


def agreement(
    posteriors: Sequence[Posterior],
    mask: np.ndarray,
    like: Channel,
    *,
    curves: Sequence[Curve | None] | None = None,
    level: float = 0.95,
    whole_volume: bool = True,
) -> Agreement:
    """Compare the posterior mean contours with a reference mask on the grid of `like`.

    A mask knows its boundary to the voxel only, so it lies inside the band when no voxel centre
    within the band's inner edge is out of the mask, and none beyond the outer edge is in it.
    Where the reference is known as `curves`, one a posterior, those must lie inside the band
    themselves. Images without spacing are compared slice by slice, in pixels.
    Shapes: mask (i, j, k). Raises InputError for a level outside (0, 1).
    """
    volume = estimate_volume(posteriors, like)
    outlines = reference_curves(mask, posteriors) if curves is None else list(curves)
    inside = []
    for posterior, curve in zip(posteriors, outlines, strict=True):
        if curve is not None:
            band = simultaneous_band(posterior, level)
            drawn = mask[:, :, posterior.chart.plane.index]
            inside.append(_holds_mask(band, drawn) if curves is None else band.holds(curve))
    if whole_volume and like.unit == "mm":
        both = volume.any() and mask.any()
        distances = surface_distances_3d(volume, mask, like.grid.spacing) if both else None
        score = dice(volume, mask)
    else:
        drawn = sorted({posterior.chart.plane.index for posterior in posteriors})
        distances = _pooled(posteriors, outlines)
        score = dice(volume[:, :, drawn], mask[:, :, drawn])
    return Agreement(
        dice=score if np.isfinite(score) else 0.0,
        assd=None if distances is None else distances.assd,
        hd95=None if distances is None else distances.hd95,
        band_share=float(np.mean(inside)) if inside else None,
        slices_compared=len(inside),
        scope="volume" if whole_volume and like.unit == "mm" else "slices",
        unit=like.unit,
    )


def _holds_mask(band: Band, mask: np.ndarray) -> bool:
    centres = band.chart.plane.points()
    within = band.chart.surface(np.maximum(band.lower, 1e-9)).contains(centres)
    reached = band.chart.surface(band.upper).contains(centres)
    return not ((within & ~mask).any() or (mask & ~reached).any())


def _pooled(
    posteriors: Sequence[Posterior], curves: Sequence[Curve | None]
) -> SurfaceDistances | None:
    """Distances of all slices that have both contours, every piece with its own length."""
    each = [
        surface_distances(posterior.chart.surface(posterior.estimate), curve)
        for posterior, curve in zip(posteriors, curves, strict=True)
        if curve is not None
    ]
    if not each:
        return None
    return SurfaceDistances(
        a_to_b=np.concatenate([d.a_to_b for d in each]),
        b_to_a=np.concatenate([d.b_to_a for d in each]),
        a_weight=np.concatenate([d.a_weight for d in each]),
        b_weight=np.concatenate([d.b_weight for d in each]),
        unit=each[0].unit,
    )
