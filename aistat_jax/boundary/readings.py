"""What may be meant by a point in a PET? Regions around it, each with a share of the vote.

Candidates are what levels cut out around the point (regions.py) and surfaces along which uptake
falls (falls.py). A candidate x has the share exp(w . f(x)) / sum exp(w . f): f are FEATURES of
contrast and form, not of size or uptake, and w was learned from experts' masks by maximising the
expected Dice (readings.json, `python -m benchmarks readings`), so that shares are no probabilities.
What is meant is put to the vote: a voxel belongs to it that candidates of half the shares hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._threads import one_blas_thread
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.falls import surfaces_at
from aistat_jax.boundary.regions import components_at, edge_scores, tone_at
from aistat_jax.space.image import Channel

FEATURES = "contrast", "worst", "centrality", "raggedness", "agreement", "cut"
REACH = 130.0  # mm: what lies farther from the point is not looked at
DEEP = 40.0  # mm: an image that is thinner shows no surroundings in space
SHELL = 10.0  # mm: contrast is that of what lies so far within and beyond a surface
DIFFERENT = 0.03  # of its voxels: candidates that differ by less are one
SOUGHT = 2  # of several points: candidates are sought about the first, and the farthest from it
_weights: ContextVar[np.ndarray | None] = ContextVar("weights", default=None)


class Readings(NamedTuple):
    """Candidates in a box of the image, with their shares of the vote.

    A level and how steep the edge is (`edge_scores`) are NaN and 0 where no level cut it out.
    Shapes: masks (n, i, j, k) within `box`, slices of the image; features (n, feature);
    share, level and edge (n,).
    """

    masks: Bool[np.ndarray, "reading i j k"]
    features: Float[np.ndarray, "reading feature"]
    share: Float[np.ndarray, " reading"]
    level: Float[np.ndarray, " reading"]
    edge: Float[np.ndarray, " reading"]
    box: tuple[slice, ...]

    @property
    def held(self) -> Float[np.ndarray, "i j k"]:
        """The shares of the candidates that hold each voxel of the box, summed; float32."""
        return held_by(self.masks, self.share)

    @property
    def vote(self) -> Bool[np.ndarray, "i j k"]:
        """Voxels of the box that candidates of at least half the shares hold."""
        return majority(self.masks, self.share)

    def weighed(self, weights: Float[np.ndarray, " feature"]) -> Readings:
        """The same with the shares that other weights give."""
        score = self.features @ weights
        share = np.exp(score - score.max())
        return self._replace(share=share / share.sum())

    def likeness(self, mask: Bool[np.ndarray, "i j k"]) -> Float[np.ndarray, " reading"]:
        """The Dice of every candidate with a mask in the box."""
        both = (self.masks & mask).sum(axis=(1, 2, 3))
        return 2 * both / (self.masks.sum(axis=(1, 2, 3)) + mask.sum())


def majority(
    masks: Bool[np.ndarray, "reading i j k"], share: Float[np.ndarray, " reading"]
) -> Bool[np.ndarray, "i j k"]:
    """Voxels that masks of at least half the shares hold; where none is, the likeliest mask."""
    held = held_by(masks, share) >= 0.5
    return held if held.any() else masks[int(share.argmax())]


def held_by(
    masks: Bool[np.ndarray, "reading i j k"], share: Float[np.ndarray, " reading"]
) -> Float[np.ndarray, "i j k"]:
    """The shares of the masks that hold each voxel, summed; float32."""
    total = np.zeros(masks.shape[1:], dtype=np.float32)
    for mask, part in zip(masks, share.astype(np.float32), strict=True):
        total += part * mask
    return total


def in_space(channel: Channel) -> bool:
    """Whether a channel is one that readings are made of: SUV, of enough depth."""
    sides = np.array(channel.values.shape) * channel.grid.spacing
    return channel.quantity == "SUV" and channel.unit == "mm" and bool((sides >= DEEP).all())


def readings_at(channel: Channel, index: np.ndarray) -> Readings:
    """All candidates around a voxel, or around several (n, 3), with their shares of the vote.

    Raises InputError when nothing around the voxel stands out.
    """
    with one_blas_thread():  # small problems, of which threads make long ones
        return _readings(channel, np.atleast_2d(np.asarray(index, dtype=int)))


def _readings(channel: Channel, places: np.ndarray) -> Readings:
    spacing = np.asarray(channel.grid.spacing)
    reach = np.ceil(REACH / spacing).astype(int)
    box = tuple(
        slice(max(low - r, 0), min(high + r + 1, n))
        for low, high, r, n in zip(
            places.min(axis=0), places.max(axis=0), reach, channel.values.shape, strict=True
        )
    )
    heres = places - [side.start for side in box]
    values, looked_at = channel.values[box], tone_at(channel, places[0]).values[box]
    found: list[tuple[np.ndarray, float, float]] = []
    apart_most = np.argsort(-np.linalg.norm((places - places[0]) * spacing, axis=1))
    for n in np.unique([0, *apart_most[: SOUGHT - 1]]):
        index, here = places[n], heres[n]
        levels = tone_at(channel, index).levels
        parts = list(components_at(values, here, levels, spacing, channel.unit))
        steep = edge_scores(looked_at, [part for _, part in parts], here, spacing, channel.unit)
        found += [
            (part.whole(values.shape), level, edge)
            for (level, part), edge in zip(parts, steep.tolist(), strict=True)
        ]
        surfaces = surfaces_at(looked_at, here.astype(float), spacing)
        found += [(each, np.nan, 0.0) for each in surfaces]
    apart: list[tuple[np.ndarray, float, float]] = []
    for one in found:
        size = int(one[0].sum())
        if size and not any((one[0] ^ other).sum() < DIFFERENT * size for other, _, _ in apart):
            apart.append(one)
    masks, level, edge = zip(*apart, strict=True) if apart else ((), (), ())
    if not masks:
        raise InputError(
            f"no region around the point has an edge inside channel {channel.name}; "
            "move the point into the target or pass a mask"
        )
    every = np.stack(masks)
    features = np.array([form_and_contrast(mask, looked_at, heres, spacing) for mask in masks])
    features = np.insert(features, FEATURES.index("agreement"), _agreement(every), axis=1)
    even = np.full(len(masks), 1 / len(masks))
    readings = Readings(every, features, even, np.array(level), np.array(edge), box)
    return readings.weighed(weights_now())


@cache
def learned_weights() -> Float[np.ndarray, " feature"]:
    """The weights of FEATURES, as learned from all patients."""
    kept = json.loads((Path(__file__).parent / "readings.json").read_text())
    return np.array([kept["weights"][name] for name in FEATURES])


def weights_now() -> Float[np.ndarray, " feature"]:
    """The weights in use: those learned from all patients, but within `weighed_by`."""
    weights = _weights.get()
    return learned_weights() if weights is None else weights


@contextmanager
def weighed_by(weights: Float[np.ndarray, " feature"]) -> Iterator[None]:
    """Other weights of FEATURES within a block: of other patients, say."""
    token = _weights.set(np.asarray(weights, dtype=float))
    try:
        yield
    finally:
        _weights.reset(token)


def form_and_contrast(
    mask: np.ndarray, tone: np.ndarray, heres: np.ndarray, spacing: np.ndarray
) -> tuple[float, ...]:
    """The FEATURES of one candidate, but for its agreement with the others.

    Contrast: log uptake within a SHELL inside the surface less that outside, in the mean, and (the
    worst) the darkest tenth inside against the brightest tenth outside. Centrality: the depth of
    the point over the greatest depth, negative outside; of several points in the mean. Raggedness:
    the log of surface voxels over voxels to the power 2/3. Cut: log(1 + 10 s), s surface voxels on
    the box's sides over all.
    """
    from scipy import ndimage

    margin = np.ceil(1.5 * SHELL / spacing).astype(int)
    (tight,) = ndimage.find_objects(mask.astype(np.uint8))
    box = tuple(
        slice(max(side.start - m, 0), side.stop + m) for side, m in zip(tight, margin, strict=True)
    )
    part, near = mask[box], tone[box]
    depth = depth_in(part, spacing)
    outside = np.logical_not(part)
    beyond = np.asarray(ndimage.distance_transform_edt(outside, sampling=spacing))
    shell = max(SHELL, float(spacing.min()))
    inner, outer = near[part & (depth <= shell)], near[outside & (beyond <= shell)]
    if not outer.size:
        outer = np.array([float(near.min())])
    contrast = float(inner.mean() - outer.mean())
    worst = float(np.quantile(inner, 0.1) - np.quantile(outer, 0.9))
    central = [_centrality(here, box, depth, beyond) for here in heres]
    surface = int(part.sum() - np.asarray(ndimage.binary_erosion(part)).sum())
    sides = sum(float(mask.take(end, axis=axis).sum()) for axis in range(3) for end in (0, -1))
    return (
        contrast,
        worst,
        float(np.mean(central)),
        float(np.log(surface) - 2 / 3 * np.log(part.sum())),
        float(np.log1p(10 * sides / surface)),
    )


def _centrality(
    here: np.ndarray, box: tuple[slice, ...], depth: np.ndarray, beyond: np.ndarray
) -> float:
    """The depth of a place over the greatest depth, negative outside, -1 where it is far away."""
    place = tuple(int(i) - side.start for i, side in zip(here, box, strict=True))
    if not all(0 <= i < n for i, n in zip(place, depth.shape, strict=True)):
        return -1.0
    deep = depth[place] if depth[place] > 0 else -beyond[place]
    return float(np.clip(deep / depth.max(), -1.0, 1.0))


def depth_in(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """How deep each voxel lies in a mask; what lies outside the array is outside the mask."""
    from scipy import ndimage

    deep = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing))
    return deep[1:-1, 1:-1, 1:-1]


def _agreement(masks: np.ndarray) -> np.ndarray:
    """The mean square of a candidate's Dice with every candidate."""
    held = masks.any(axis=0)
    flat = masks[:, held].astype(np.float32)
    size = flat.sum(axis=1)
    likeness = 2 * (flat @ flat.T) / (size[:, None] + size)
    return np.square(likeness).mean(axis=1)
