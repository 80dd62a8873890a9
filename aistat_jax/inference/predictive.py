"""Does an image look as a posterior says: inside, at the edge, just outside, in every direction?

A boundary of one level inside and another outside can fit an image well and be wrong: about the rim
of a cold core, a half of a lesion that takes up less, a lesion with its neighbour. Residuals then
have a mean where they should have none. In each zone by depth (core, rim, edge, just outside), and
in each of eight directions inside, at the edge and outside, the mean residual r is compared with
its standard error,

    z = |r| / sqrt(s^2 a + v),

s the sd of residuals about the means of such zones on the same side, a the share of a voxel's
variance that is left in their mean (noise is alike among neighbours), v what the posterior's own
draws differ by. What is found is said where z exceeds the normal quantile of half of ALARM shared
over all zones (Bonferroni), or the sum of z^2 over a family of zones the chi-squared quantile of
the other half shared over families, *and* |r| is a large enough share of the step between the two
levels to matter. Beyond the voxels that are evidence an image may do as it likes,
but where it falls further in nearly every direction, what was contoured may be a part of something.
On images from the model alarms are therefore no more often than
ALARM (measured in benchmarks/).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Bool, Float, Int
from aistat_jax.boundary.answers import pictures
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.observed import Voxels, expected, voxels_inside, voxels_of
from aistat_jax.inference.posterior import Finding
from aistat_jax.space.basis import equal_angles
from aistat_jax.space.chart import LINKS, Chart
from aistat_jax.space.image import ChannelBlock, ChannelSlice
from aistat_jax.space.star import unit_vectors
from aistat_jax.space.waist import waist

# How often images from the model may be found fault with.
ALARM = 0.01
# A mean residual of this share of the step leaves amber at best, and red.
AMBER_SHARE, RED_SHARE = 0.1, 0.25
# Directions in which voxels are looked at together: eight in a plane; in space the axes and the
# diagonals between two of them.
_STEPS = np.array([step for step in np.ndindex(3, 3, 3) if 0 < sum(n != 1 for n in step) < 3]) - 1.0
COMPASS = {
    2: unit_vectors(equal_angles(8)),
    3: _STEPS / np.linalg.norm(_STEPS, axis=1, keepdims=True),
}
# Draws that tell what a posterior expects: fewer in space, where each asks for many voxels.
DRAWS = {2: 40, 3: 16}
# A contour that narrows to this share of what lies on either side may hold two lesions. Of 500
# well-specified ones none narrowed to less than 0.975.
WAIST = 0.97
# By how much the log size in each dimension may differ from that of the region found, beyond two
# standard deviations: of 500 well-specified ones one in 200 did by more than 0.058.
REGION_GAP = 0.06
SIZES = {2: "an area", 3: "a volume"}
# Fewer voxels than this in a zone say nothing; more are not compared pair by pair.
FEWEST, MOST_PAIRED = 4, 500
# Zones by depth, and by direction inside, at the edge and outside, are also tested as one.
FAMILIES = 4
# What is just outside: from one blur beyond the boundary on, as far as this many blurs more, or
# this share of the radius.
BEYOND_BLURS, BEYOND_SHARE = 2.0, 0.35
# An image whose step is less than this many sds of its residuals is not judged by it.
LEAST_CONTRAST = 2.0
# How far beyond the chart an image is looked at, in its radii, and in how many of the directions it
# must fall.
BEYOND_CHART, ALL_AROUND = 1.6, 0.75
# Medians of directions need no more voxels than about so many.
MOST_LOOKED_AT = 40_000

# Two boundaries about a background that is not even can be sharp and wrong.
UNCHECKED = Finding(
    "amber",
    "whether an image has one level inside of a ring, one in its wall and one around it is not "
    "checked",
)


def image_findings(
    model: BoundaryModel, radii: Float[np.ndarray, "draw ray"]
) -> tuple[tuple[Finding, ...], float | None]:
    """What the images of a model have against a posterior, and the side of the finest pixel.

    Shapes: radii (draw, ray), posterior draws. Points without a footprint have no pixels.
    """
    if LINKS[model.chart.link].layers > 1:  # zones are laid about one boundary, and here are two
        finest = _finest_pixel(model)
        return (() if finest is None else (UNCHECKED,)), finest
    count = min(DRAWS[model.chart.dims], len(radii))
    chosen = radii[np.linspace(0, len(radii) - 1, count).round().astype(int)]
    seen = voxels_of(model)
    found = [misfit(voxels, model.chart, chosen) for voxels in seen]
    pixels = [(voxels, voxels.channel) for voxels in seen if voxels.channel is not None]
    for voxels, channel in pixels:
        around = model.target.part_of(channel, BEYOND_CHART * model.chart.reach[1])
        found.append(further_out(around, model.chart, chosen, _blur(voxels)))
    if seen:
        found += [off_the_region(model, radii), two_parts(model, radii)]
    finest = min((voxels.side for voxels, _ in pixels), default=None)
    return tuple(f for f in found if f is not None), finest


def _finest_pixel(model: BoundaryModel) -> float | None:
    """The side of the finest pixel that a model counts, None where it reads no image."""
    sides = [
        np.prod(model.target.part_of(image[name], model.chart.reach[1]).sides)
        for image, name in pictures(model)
    ]
    return float(min(sides) ** (1 / model.chart.dims)) if sides else None


def misfit(voxels: Voxels, chart: Chart, radii: Float[np.ndarray, "draw ray"]) -> Finding | None:
    """The worst mean residual of one image, if it is one that should not be."""
    from scipy.special import ndtri
    from scipy.stats import chi2

    y, weight, eta = voxels.values, voxels.precisions, float(voxels.term.eta)
    inside = voxels_inside(voxels, radii)
    share = inside.mean(axis=0)
    rows = np.stack([np.ones_like(share), share], axis=1)
    level, step = np.linalg.lstsq(rows * np.sqrt(weight)[:, None], y * np.sqrt(weight))[0]
    if step == 0:
        return None
    uneven = expected(voxels, share)
    residual = y - (level + step * share if uneven is None else uneven)
    zones = _zones(voxels, chart, radii.mean(axis=0))
    if not zones:
        return None
    spread = {
        side: _pooled_sd([residual[zone.where] for zone in zones if zone.within == side])
        for side in (True, False)
    }
    if abs(step) < LEAST_CONTRAST * max(spread.values()):
        return None  # so faint a step says little, and what else is in the image would outweigh it
    means, errors = np.zeros(len(zones)), np.zeros(len(zones))
    for k, zone in enumerate(zones):
        alike = _alikeness(voxels.points[zone.where], voxels.side, eta)
        moved = float((step * inside[:, zone.where].mean(axis=1)).var())
        means[k] = residual[zone.where].mean()
        errors[k] = np.sqrt(spread[zone.within] ** 2 * alike + moved)
    z = np.abs(means) / np.maximum(errors, 1e-300)
    limit = -float(ndtri(0.5 * ALARM / (2 * len(zones))))
    strange = z > limit
    for family in {zone.family for zone in zones}:
        of_it = np.array([zone.family == family for zone in zones])
        if chi2.sf(float(np.square(z[of_it]).sum()), int(of_it.sum())) < 0.5 * ALARM / FAMILIES:
            strange |= of_it
    size = np.where(strange, np.abs(means / step), 0.0)
    worst = int(np.argmax(size))
    if size[worst] < AMBER_SHARE:
        return None
    more = "above" if means[worst] / step > 0 else "below"
    return Finding(
        "red" if size[worst] >= RED_SHARE else "amber",
        f"{voxels.name} does not look as one level inside and another outside: "
        f"{zones[worst].words} it lies {size[worst]:.0%} of the step between them {more} what it "
        f"should ({z[worst]:.1f} standard errors)",
    )


def _alikeness(points: Float[np.ndarray, "voxel dims"], side: float, eta: float) -> float:
    """The variance of a mean of voxels over that of one voxel.

    Noise of which a share eta counts in a large region is taken to be alike as exp(-(d / c)^2),
    (pi c^2)^(dims / 2) = side^dims / eta. Points without a footprint, and large zones, count eta
    times each.
    """
    if side == 0 or len(points) > MOST_PAIRED or eta >= 1:
        return min(1.0, 1 / (eta * len(points)))
    from scipy.spatial.distance import pdist

    share, count = eta ** (2 / points.shape[1]), len(points)
    alike = np.exp(-np.pi * share / side**2 * pdist(points, "sqeuclidean"))
    return float((count + 2 * alike.sum()) / count**2)


def further_out(
    image: ChannelSlice | ChannelBlock,
    chart: Chart,
    radii: Float[np.ndarray, "draw ray"],
    blur: float,
) -> Finding | None:
    """Whether an image goes on falling away from the contour, nearly all around.

    Medians inside, just outside, and from the end of the chart on, in each direction that the image
    covers.
    """
    points, end = image.points().reshape(-1, chart.dims), chart.reach[1]
    values, distance = image.values.ravel(), chart.position(points)
    looked_at = np.flatnonzero(distance <= BEYOND_CHART * end)
    looked_at = looked_at[:: 1 + len(looked_at) // MOST_LOOKED_AT]
    points, values, distance = points[looked_at], values[looked_at], distance[looked_at]
    edge = radii.mean(axis=0)[chart.nearest(points)]
    near = edge + 2 * blur
    start = chart.ends[0][chart.nearest(points)]
    around = (distance > near) & (distance <= near + np.maximum(blur, 0.3 * (edge - start)))
    beyond = (distance > np.maximum(0.8 * end, near + blur)) & (distance <= BEYOND_CHART * end)
    within = distance < start + 0.7 * (edge - start)
    if min(within.sum(), around.sum()) < FEWEST:
        return None
    level = float(np.median(values[around]))
    step = float(np.median(values[within])) - level
    if abs(step) < LEAST_CONTRAST * float(values[around].std()):
        return None
    sector, sectors = _sector(chart.outward(points)), len(COMPASS[chart.dims])
    drops = [
        (level - float(np.median(values[beyond & (sector == k)]))) / step
        for k in range(sectors)
        if (beyond & (sector == k)).sum() >= FEWEST and step != 0
    ]
    if len(drops) < sectors / 2:
        return None
    least = float(np.quantile(drops, 1 - ALL_AROUND))
    if least < AMBER_SHARE:
        return None
    return Finding(
        "red" if least >= RED_SHARE else "amber",
        f"{image.name} goes on falling away from the contour, in {ALL_AROUND:.0%} of all "
        f"directions by {least:.0%} of the step across it or more: this may be a part of something "
        "larger",
    )


def _sector(outward: Float[np.ndarray, "voxel dims"]) -> Int[np.ndarray, " voxel"]:
    """In which of COMPASS a direction lies."""
    return np.argmax(outward @ COMPASS[outward.shape[-1]].T, axis=-1)


def off_the_region(model: BoundaryModel, radii: Float[np.ndarray, "draw ray"]) -> Finding | None:
    """Whether the area is not that of the region in which the boundary was sought.

    That region ends where the image is steepest, for which it need not have one level inside. Of
    targets that somebody drew nothing is said.
    """
    target = model.target
    if target.seen_through == 0:
        return None
    rough, word = target.content, SIZES[model.chart.dims]
    log_area = np.log(np.maximum(model.chart.content(radii), 1e-300))
    gap = float(np.log(rough) - log_area.mean())
    if abs(gap) < model.chart.dims * REGION_GAP + 2 * float(log_area.std()):
        return None
    unit = f"{model.chart.unit}{'²³'[model.chart.dims - 2]}"
    return Finding(
        "amber",
        f"the image is steepest about {word} of {rough:,.0f} {unit}, but with one level inside "
        f"and another outside it is {np.exp(log_area.mean()):,.0f} {unit}: uptake may be uneven",
    )


def two_parts(model: BoundaryModel, radii: Float[np.ndarray, "draw ray"]) -> Finding | None:
    """Whether the boundary narrows in the middle: two lesions that touch, contoured as one.

    Of targets that somebody drew nothing is said.
    """
    if model.target.seen_through == 0 or model.chart.dims == 3:
        return None
    narrow = waist(model.chart.points(radii.mean(axis=0)))
    if narrow is None or narrow.width > WAIST * narrow.part:
        return None
    unit = model.chart.unit
    return Finding(
        "amber",
        f"the contour narrows to {narrow.width:.0f} {unit} beside a part {narrow.part:.0f} {unit} "
        "wide: it may hold two lesions that touch",
    )


class Zone(NamedTuple):
    """Voxels that are looked at together: in words, on which side, of which family of zones."""

    words: str
    within: bool
    family: str
    where: Bool[np.ndarray, " voxel"]


def _zones(voxels: Voxels, chart: Chart, radii: Float[np.ndarray, " ray"]) -> list[Zone]:
    """The zones that hold enough voxels."""
    distance, edge, blur = voxels.position, voxels.at(radii), _blur(voxels)
    depth, start = edge - distance, voxels.at(chart.ends[0])
    deep = edge - start
    middle = start + 0.5 * deep
    core = (distance <= middle) & (depth >= 1.5 * blur)
    within = depth >= blur
    rim = within & (distance > middle)
    beyond = np.maximum(BEYOND_BLURS * blur, BEYOND_SHARE * deep)
    outside = (depth <= -blur) & (depth >= -blur - beyond)
    at_edge = np.abs(depth) < blur
    sector = _sector(chart.outward(voxels.points))
    zones = [
        Zone("in the middle", True, "depth", core),
        Zone("within the rim", True, "depth", rim),
        Zone("just within the edge", True, "depth", at_edge & (depth > 0)),
        Zone("just beyond the edge", False, "depth", at_edge & (depth < 0)),
        Zone("just outside", False, "depth", outside),
    ]
    for k, direction in enumerate(COMPASS[chart.dims]):
        there = chart.words(direction)
        for words, side, where in (
            ("inside", True, within),
            ("at the edge", True, at_edge),
            ("just outside", False, outside),
        ):
            zones.append(Zone(f"{words}, {there},", side, words, where & (sector == k)))
    return [zone for zone in zones if zone.where.sum() >= FEWEST]


def _blur(voxels: Voxels) -> float:
    """How wide the edge is that the model expects: its blur, or a voxel where it has none."""
    return voxels.term.width or voxels.side


def _pooled_sd(groups: list[np.ndarray]) -> float:
    """Sd about each group's own mean."""
    squares = sum(float(np.square(group - group.mean()).sum()) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    return float(np.sqrt(squares / max(freedom, 1)))
