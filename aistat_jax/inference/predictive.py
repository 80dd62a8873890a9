"""Does an image look as a posterior says: inside, at the edge, just outside, in every direction?

A boundary of one level inside and another outside can fit an image well and be wrong: about the rim
of a cold core, a half of a lesion that takes up less, a lesion with its neighbour. Residuals then
have a mean where they should have none. In each zone (core, rim, edge, just outside), and in each
of eight directions of the latter three, the mean residual r is compared with its standard error,

    z = |r| / sqrt(s^2 / (eta n) + v),

s the sd of residuals about the means of such zones on the same side, eta n the effective number of
voxels, v what the posterior's own draws differ by. What is found is said where z exceeds the normal
quantile of ALARM shared over all zones (Bonferroni) *and* |r| is a large enough share of the step
between the two levels to matter. On images from the model alarms are therefore no more often than
ALARM (measured in benchmarks/).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.charts import StarChart
from aistat_jax.boundary.families import BlurredStep
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.observed import Voxels, inside_shares, voxels_of
from aistat_jax.inference.posterior import Finding
from aistat_jax.space.directions import direction_words

# How often images from the model may be found fault with.
ALARM = 0.01
# A mean residual of this share of the step leaves amber at best, and red.
AMBER_SHARE, RED_SHARE = 0.15, 0.3
SECTORS = 8
DRAWS = 40
# Fewer voxels than this in a zone say nothing.
FEWEST = 4
# What is just outside: from one blur beyond the boundary on, as far as this many blurs more, or
# this share of the radius.
BEYOND_BLURS, BEYOND_SHARE = 2.0, 0.35


def image_findings(
    model: BoundaryModel, radii: Float[np.ndarray, "draw ray"]
) -> tuple[tuple[Finding, ...], float | None]:
    """What the images of a model have against a posterior, and the side of the finest pixel.

    Shapes: radii (draw, ray), posterior draws. Points without a footprint have no pixels.
    """
    chosen = radii[np.linspace(0, len(radii) - 1, min(DRAWS, len(radii))).round().astype(int)]
    seen = voxels_of(model)
    found = [misfit(voxels, model.chart, chosen) for voxels in seen]
    sides = [voxels.side for voxels in seen if voxels.side > 0]
    return tuple(f for f in found if f is not None), min(sides, default=None)


def misfit(
    voxels: Voxels, chart: StarChart, radii: Float[np.ndarray, "draw ray"]
) -> Finding | None:
    """The worst mean residual of one image, if it is one that should not be."""
    from scipy.special import ndtri

    y, weight, eta = voxels.values, voxels.precisions, float(voxels.term.eta)
    inside = _inside(voxels, radii)
    share = inside.mean(axis=0)
    rows = np.stack([np.ones_like(share), share], axis=1)
    level, step = np.linalg.lstsq(rows * np.sqrt(weight)[:, None], y * np.sqrt(weight))[0]
    if step == 0:
        return None
    residual = y - level - step * share
    zones = list(_zones(voxels, chart, radii.mean(axis=0)))
    if not zones:
        return None
    spread = {
        side: _pooled_sd([residual[where] for _, within, where in zones if within == side])
        for side in (True, False)
    }
    limit = -float(ndtri(ALARM / (2 * len(zones))))
    worst, finding = AMBER_SHARE, None
    for words, within, where in zones:
        mean = float(residual[where].mean())
        effective = max(1.0, eta * int(where.sum()))
        moved = float((step * inside[:, where].mean(axis=1)).var())
        error = np.sqrt(spread[within] ** 2 / effective + moved)
        size = abs(mean / step)
        if size >= worst and abs(mean) > limit * error:
            worst = size
            more = "above" if mean > 0 else "below"
            cap = "red" if size >= RED_SHARE else "amber"
            finding = Finding(
                cap,
                f"{voxels.name} does not look as one level inside and another outside: {words} "
                f"it lies {size:.0%} of the step between them {more} what it should "
                f"({abs(mean) / error:.1f} standard errors, at most {limit:.1f} wanted)",
            )
    return finding


def _inside(
    voxels: Voxels, radii: Float[np.ndarray, "draw ray"]
) -> Float[np.ndarray, "draw voxel"]:
    """The share of the step that each draw expects at each voxel."""
    from scipy.sparse import csr_array

    shared = voxels.shared
    each = (shared.share, (np.arange(len(shared.voxel)), shared.voxel))
    by_voxel = csr_array(each, (len(shared.voxel), len(voxels.values)))
    return inside_shares(voxels.term, shared, radii) @ by_voxel


def _zones(
    voxels: Voxels, chart: StarChart, radii: Float[np.ndarray, " ray"]
) -> Iterator[tuple[str, bool, Bool[np.ndarray, " voxel"]]]:
    """Each zone's words, whether it is inside, and its voxels, where there are enough."""
    distance, angle = chart.polar(voxels.points)
    edge = np.interp(angle, np.append(chart.angles, 2 * np.pi), np.append(radii, radii[0]))
    blur = float(voxels.term.blur) if isinstance(voxels.term, BlurredStep) else voxels.side
    depth = edge - distance
    core = (distance <= 0.5 * edge) & (depth >= 1.5 * blur)
    within = depth >= blur
    rim = within & (distance > 0.5 * edge)
    beyond = np.maximum(BEYOND_BLURS * blur, BEYOND_SHARE * edge)
    outside = (depth <= -blur) & (depth >= -blur - beyond)
    at_edge = np.abs(depth) < blur
    sector = np.floor(angle * SECTORS / (2 * np.pi) + 0.5).astype(int) % SECTORS
    zones = [("in the middle", True, core), ("within the rim", True, rim)]
    zones += [("all along the edge", True, at_edge), ("just outside", False, outside)]
    for k in range(SECTORS):
        turn = 2 * np.pi * k / SECTORS
        there = direction_words(chart.plane, (float(np.cos(turn)), float(np.sin(turn))))
        for words, side, where in (
            ("inside", True, within),
            ("at the edge", True, at_edge),
            ("just outside", False, outside),
        ):
            zones.append((f"{words}, {there},", side, where & (sector == k)))
    return ((words, side, where) for words, side, where in zones if where.sum() >= FEWEST)


def _pooled_sd(groups: list[np.ndarray]) -> float:
    """Sd about each group's own mean."""
    squares = sum(float(np.square(group - group.mean()).sum()) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    return float(np.sqrt(squares / max(freedom, 1)))
