"""How near are the contours of one case to a reference mask drawn by somebody else?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._record import record, replace, static
from aistat_jax._typing import Bool, Float
from aistat_jax.space.chart import LINKS
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.image import Channel
from aistat_jax.space.mesh import surface_from_mask
from aistat_jax.space.outlines import region_in
from aistat_jax.space.ring import Ring, rings_of
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.contour import Contour, estimate_volume
from aistat_jax.uncertainty.overlap import dice
from aistat_jax.uncertainty.probability import shown_in
from aistat_jax.uncertainty.surface_distance import SurfaceDistances, surface_distances


@record
class Agreement:
    """Agreement of a case's estimate with a reference.

    scope "volume": masks and surfaces of the whole volume; "slices": only the slices that were
    contoured, Dice of their masks and distances between curves within each slice, pooled.
    assd and hd95 are in `unit`, None where either side is empty. band_share is the share of
    `slices_compared` (targets that have a reference) whose whole reference boundary lies inside the
    simultaneous band; None where there is none.
    """

    dice: float = static()
    assd: float | None = static()
    hd95: float | None = static()
    band_share: float | None = static()
    slices_compared: int = static()
    scope: str = static()
    unit: str = static()


def with_references(
    contours: Sequence[Contour],
    mask: Bool[np.ndarray, "i j k"],
    like: Channel,
    outlines: Sequence[Sequence[Curve]] | None = None,
) -> list[Contour]:
    """The contours, each with the part of a mask on the grid of `like` that it is compared with.

    That is the component, in its slice or in space, of which it covers most; where it meets none,
    the nearest that no other contour meets. Of a ring it is a component with its largest hole.
    `outlines` are the exact curves in each slice of `like`, where they are known.
    """
    found = list(contours)
    for k, several in _by_slice(contours, like).items():
        plane = like.grid.beside(_plane(contours[several[0]]))
        curves = list(contours_from_mask(mask[:, :, k], plane) if outlines is None else outlines[k])
        rings, outer = rings_of(curves), [curve for curve in curves if curve.is_ccw]
        for drawn, layers in ((outer if outlines is None else curves, 1), (rings, 2)):
            those = [n for n in several if LINKS[contours[n].chart.link].layers == layers]
            for n, m in zip(those, _matched([contours[n] for n in those], drawn), strict=True):
                found[n] = replace(contours[n], reference=None if m is None else drawn[m])
    for n, part in _components(contours, mask, like).items():
        found[n] = replace(contours[n], reference=surface_from_mask(part, like.grid))
    return found


def _components(
    contours: Sequence[Contour], mask: Bool[np.ndarray, "i j k"], like: Channel
) -> dict[int, np.ndarray]:
    """The component of a mask (i, j, k) that each surface is compared with, where there is one."""
    solid = [n for n, contour in enumerate(contours) if contour.chart.dims == 3]
    if not solid or not mask.any():
        return {}
    from scipy import ndimage

    labels = np.asarray(ndimage.label(mask)[0])  # pyright: ignore[reportIndexIssue]
    count = int(labels.max())
    whole = [estimate_volume([contours[n]], like) for n in solid]
    met = [np.bincount(labels[own], minlength=count + 1)[1:] for own in whole]
    places = ndimage.center_of_mass(mask, labels, np.arange(1, count + 1))
    middles = like.grid.to_world(np.array(places))
    centres = np.array([
        contours[n].chart.points(contours[n].posterior.estimate).mean(axis=0) for n in solid
    ])  # fmt: skip
    apart = np.linalg.norm(centres[:, None] - middles[None], axis=-1)
    chosen = zip(solid, _chosen(np.array(met, dtype=float), apart), strict=True)
    return {n: labels == m + 1 for n, m in chosen if m is not None}


def agreement(
    contours: Sequence[Contour],
    mask: Bool[np.ndarray, "i j k"],
    like: Channel,
    *,
    exact: bool = False,
    level: float = 0.95,
    whole_volume: bool = True,
) -> Agreement:
    """Compare posterior mean contours, which have references, with a mask on the grid of `like`.

    A mask knows its boundary to the voxel only, so it lies inside the band when no voxel centre
    within the band's inner edge is out of the mask, and none beyond the outer edge is in it.
    The band is the contour's own where that is of the `level`, else a simultaneous one.
    Where references are `exact`, those must lie inside the band themselves. Images without spacing
    are compared slice by slice, in pixels. What the contours have missed counts in Dice, and in
    distances of the volume. Shapes: mask (i, j, k). Raises InputError for a level outside (0, 1).
    """
    volume, inside = estimate_volume(contours, like), []
    components = _components(contours, mask, like)
    for n, contour in enumerate(contours):
        if contour.reference is None:
            continue
        band = contour.band
        if band.level != level:
            band = simultaneous_band(contour.posterior, level)
        if exact:
            inside.append(band.holds(contour.reference))
        elif isinstance(contour.reference, Curve | Ring):
            inside.append(_holds_pixels(band, contour.reference, mask, like))
        elif n in components:
            inside.append(_holds_voxels(band, components[n], like))
    whole = (whole_volume and like.unit == "mm") or any(c.chart.dims == 3 for c in contours)
    if whole:
        both = volume.any() and mask.any()
        distances = surface_distances(volume, mask, like.grid.spacing) if both else None
        score = dice(volume, mask)
    else:
        shown = shown_in([contour.chart for contour in contours], like.grid, like.name)
        drawn = sorted({plane.index for slices in shown for plane in slices})
        distances = _pooled(contours)
        score = dice(volume[:, :, drawn], mask[:, :, drawn])
    return Agreement(
        dice=score if np.isfinite(score) else 0.0,
        assd=None if distances is None else distances.assd,
        hd95=None if distances is None else distances.hd95,
        band_share=float(np.mean(inside)) if inside else None,
        slices_compared=len(inside),
        scope="volume" if whole else "slices",
        unit=like.unit,
    )


def _holds_pixels(band: Band, reference: Curve | Ring, mask: np.ndarray, like: Channel) -> bool:
    """Whether the pixels of a mask inside of its outline are those of a contour in the band."""
    plane, largest = like.grid.beside(band.chart.plane), band.chart.surface(band.largest)
    box = plane.box_around(np.concatenate([largest.points, reference.points]))
    centres = plane.points(box)
    part = mask[(*box, plane.index)] & reference.contains(centres)
    within = band.chart.surface(_inner(band)).contains(centres)
    return not ((within & ~part).any() or (part & ~largest.contains(centres)).any())


def _holds_voxels(band: Band, part: np.ndarray, like: Channel) -> bool:
    """Whether the voxels of a component are those of a surface in the band."""
    edges = np.stack([_inner(band), band.largest])
    within, reached = band.chart.inside(edges, like.grid.points())
    return not ((within & ~part).any() or (part & ~reached).any())


def _inner(band: Band) -> Float[np.ndarray, " site"]:
    """The smallest region of a band, a hair beyond where its chart begins, a star's of 0."""
    low, high = band.chart.ends
    return np.maximum(band.smallest, low + 1e-9 * (high - low))


def _pooled(contours: Sequence[Contour]) -> SurfaceDistances | None:
    """Distances of all contours that have a reference, every piece with its own length."""
    each = [
        surface_distances(contour.chart.surface(contour.posterior.estimate), contour.reference)
        for contour in contours
        if isinstance(contour.reference, Curve | Ring)
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


def _by_slice(contours: Sequence[Contour], like: Channel) -> dict[int, list[int]]:
    """The contours that are compared in each slice of a channel: the one nearest to their own."""
    found: dict[int, list[int]] = {}
    for n, contour in enumerate(contours):
        if contour.chart.dims == 2 and like.grid.covers(plane := _plane(contour)):
            found.setdefault(like.grid.beside(plane, like.name).index, []).append(n)
    return found


def _plane(contour: Contour):
    return contour.posterior.chart.plane


def _matched(contours: Sequence[Contour], shapes: Sequence[Curve | Ring]) -> list[int | None]:
    """Which of the shapes in their slice contours are compared with."""
    import shapely

    own = [region_in(each.chart, each.posterior.estimate, None) for each in contours]
    drawn, rows = np.array([shape.region() for shape in shapes]), np.array(own)[:, None]
    return _chosen(shapely.area(shapely.intersection(rows, drawn)), shapely.distance(rows, drawn))


def _chosen(
    overlap: Float[np.ndarray, "contour part"], apart: Float[np.ndarray, "contour part"]
) -> list[int | None]:
    """The part that each contour overlaps most, else the nearest that none overlaps, else none."""
    free, found = ~(overlap > 0).any(axis=0), []
    for row, far in zip(overlap, apart, strict=True):
        if row.max(initial=0.0) > 0:
            found.append(int(row.argmax()))
        else:
            found.append(int(np.where(free, far, np.inf).argmin()) if free.any() else None)
    return found
