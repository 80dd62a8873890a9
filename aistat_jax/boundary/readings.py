"""What may be meant by a point in a PET? Regions around it, each with a probability.

Candidates are what levels cut out around the point (regions.py) and surfaces along which uptake
falls (falls.py). A candidate x has the probability exp(w . f(x)) / sum exp(w . f): f are FEATURES,
which know no size and no uptake, only contrast and form, and w was learned from experts' masks by
maximising the expected Dice (readings.json, `python -m benchmarks readings`). What is meant is put
to the vote: a voxel belongs to it that at least half of the probability holds.
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
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.falls import surfaces_at
from aistat_jax.boundary.regions import Region, components_at, doubts_at, edge_scores, tone_at
from aistat_jax.space.image import Channel

FEATURES = "contrast", "worst", "centrality", "raggedness", "agreement", "cut"
REACH = 130.0  # mm: what lies farther from the point is not looked at
DEEP = 40.0  # mm: an image that is thinner shows no surroundings in space
SHELL = 10.0  # mm: contrast is that of what lies so far within and beyond a surface
DIFFERENT = 0.03  # of its voxels: candidates that differ by less are one
# Of the levels that cut out about the same as the vote (Dice) the one of the steepest edge stands
# for it: areas are then known between voxels. A reading whose Dice with the vote is less than the
# second is another lesion, and is spoken of from the third probability on.
SAME, OTHER, SPOKEN = 0.85, 0.5, 0.2
_weights: ContextVar[np.ndarray | None] = ContextVar("weights", default=None)


class Readings(NamedTuple):
    """Candidates in a box of the image, with their probabilities.

    A level and how steep the edge is (`edge_scores`) are NaN and 0 where no level cut it out.
    Shapes: masks (n, i, j, k) within `box`, slices of the image; features (n, feature);
    probability, level and edge (n,).
    """

    masks: Bool[np.ndarray, "reading i j k"]
    features: Float[np.ndarray, "reading feature"]
    probability: Float[np.ndarray, " reading"]
    level: Float[np.ndarray, " reading"]
    edge: Float[np.ndarray, " reading"]
    box: tuple[slice, ...]

    @property
    def vote(self) -> Bool[np.ndarray, "i j k"]:
        """Voxels of the box that at least half of the probability holds."""
        share = np.tensordot(self.probability, self.masks.astype(float), axes=1)
        held = share >= 0.5
        return held if held.any() else self.masks[int(self.probability.argmax())]

    def weighed(self, weights: Float[np.ndarray, " feature"]) -> Readings:
        """The same with the probabilities of other weights."""
        score = self.features @ weights
        share = np.exp(score - score.max())
        return self._replace(probability=share / share.sum())

    def likeness(self, mask: Bool[np.ndarray, "i j k"]) -> Float[np.ndarray, " reading"]:
        """The Dice of every candidate with a mask in the box."""
        both = (self.masks & mask).sum(axis=(1, 2, 3))
        return 2 * both / (self.masks.sum(axis=(1, 2, 3)) + mask.sum())


def in_space(channel: Channel) -> bool:
    """Whether a channel is one that readings are made of: SUV, of enough depth."""
    sides = np.array(channel.values.shape) * channel.grid.spacing
    return channel.quantity == "SUV" and channel.unit == "mm" and bool((sides >= DEEP).all())


def region_meant(channel: Channel, index: np.ndarray) -> Region:
    """What is meant by a voxel: the vote of all readings, and what speaks against it.

    Raises InputError when nothing around the voxel stands out.
    """
    return chosen(channel, index, readings_at(channel, index))


def chosen(channel: Channel, index: np.ndarray, readings: Readings) -> Region:
    """The region that the readings of a voxel vote for, and what speaks against it."""
    vote = _largest(readings.vote)
    likeness = readings.likeness(vote)
    steep = np.where(likeness >= SAME, readings.edge, 0.0)
    mask = np.zeros(channel.values.shape, dtype=bool)
    level = None
    if steep.max() > 0:
        vote, level = readings.masks[steep.argmax()], float(readings.level[steep.argmax()])
    mask[readings.box] = vote
    doubts = doubts_at(channel, mask, index)
    others = np.where(likeness < OTHER, readings.probability, 0.0)
    if (total := float(others.sum())) >= SPOKEN:
        voxel = float(np.prod(channel.grid.spacing)) / 1000
        first, second = (m.sum() * voxel for m in (vote, readings.masks[others.argmax()]))
        doubts += (
            f"there are two readings of the point: a region of {first:.3g} ml, and one of about "
            f"{second:.3g} ml with a probability of {total:.0%}; say how large it is (radius_mm)",
        )
    return Region(mask, level, doubts)


def readings_at(channel: Channel, index: np.ndarray) -> Readings:
    """All candidates around a voxel, with their probabilities.

    Raises InputError when nothing around the voxel stands out.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):  # small problems, of which threads make long ones
        return _readings(channel, np.asarray(index, dtype=int))


def _readings(channel: Channel, index: np.ndarray) -> Readings:
    spacing = np.asarray(channel.grid.spacing)
    reach = np.ceil(REACH / spacing).astype(int)
    box = tuple(
        slice(max(i - r, 0), min(i + r + 1, n))
        for i, r, n in zip(index, reach, channel.values.shape, strict=True)
    )
    here = index - [side.start for side in box]
    tone = tone_at(channel, index)
    values, looked_at = channel.values[box], tone.values[box]
    parts = list(components_at(values, here, tone.levels, spacing, channel.unit))
    steep = edge_scores(looked_at, [part for _, part in parts], here, spacing, channel.unit)
    found = [
        (part.whole(values.shape), level, edge)
        for (level, part), edge in zip(parts, steep.tolist(), strict=True)
    ]
    found += [(each, np.nan, 0.0) for each in surfaces_at(looked_at, here.astype(float), spacing)]
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
    features = np.array([_form_and_contrast(mask, looked_at, here, spacing) for mask in masks])
    features = np.insert(features, FEATURES.index("agreement"), _agreement(every), axis=1)
    weights = _weights.get()
    even = np.full(len(masks), 1 / len(masks))
    readings = Readings(every, features, even, np.array(level), np.array(edge), box)
    return readings.weighed(learned_weights() if weights is None else weights)


@cache
def learned_weights() -> Float[np.ndarray, " feature"]:
    """The weights of FEATURES, as learned from all patients."""
    kept = json.loads((Path(__file__).parent / "readings.json").read_text())
    return np.array([kept["weights"][name] for name in FEATURES])


@contextmanager
def weighed_by(weights: Float[np.ndarray, " feature"]) -> Iterator[None]:
    """Other weights of FEATURES within a block: of other patients, say."""
    token = _weights.set(np.asarray(weights, dtype=float))
    try:
        yield
    finally:
        _weights.reset(token)


def _form_and_contrast(
    mask: np.ndarray, tone: np.ndarray, here: np.ndarray, spacing: np.ndarray
) -> tuple[float, ...]:
    """The FEATURES of one candidate, but for its agreement with the others.

    Contrast: log uptake within a SHELL inside the surface less that outside, in the mean, and (the
    worst) the darkest tenth inside against the brightest tenth outside. Centrality: the depth of
    the point over the greatest depth, negative outside. Raggedness: the log of surface voxels over
    voxels to the power 2/3. Cut: log(1 + 10 s), s surface voxels on the image's sides over all.
    """
    from scipy import ndimage

    margin = np.ceil(1.5 * SHELL / spacing).astype(int)
    (tight,) = ndimage.find_objects(mask.astype(np.uint8))
    box = tuple(
        slice(max(side.start - m, 0), side.stop + m) for side, m in zip(tight, margin, strict=True)
    )
    part, near = mask[box], tone[box]
    depth = _depth(part, spacing)
    outside = np.logical_not(part)
    beyond = np.asarray(ndimage.distance_transform_edt(outside, sampling=spacing))
    inner, outer = near[part & (depth <= SHELL)], near[outside & (beyond <= SHELL)]
    if not outer.size:
        outer = np.array([float(near.min())])
    contrast = float(inner.mean() - outer.mean())
    worst = float(np.quantile(inner, 0.1) - np.quantile(outer, 0.9))
    place = tuple(int(i) - side.start for i, side in zip(here, box, strict=True))
    at_hand = all(0 <= i < n for i, n in zip(place, part.shape, strict=True))
    deep = (depth[place] if part[place] else -beyond[place]) if at_hand else -np.inf
    surface = int(part.sum() - np.asarray(ndimage.binary_erosion(part)).sum())
    sides = sum(float(mask.take(end, axis=axis).sum()) for axis in range(3) for end in (0, -1))
    return (
        contrast,
        worst,
        float(np.clip(deep / depth.max(), -1.0, 1.0)),
        float(np.log(surface) - 2 / 3 * np.log(part.sum())),
        float(np.log1p(10 * sides / surface)),
    )


def _depth(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """How deep each voxel lies in a mask; what lies outside the array is outside the mask."""
    from scipy import ndimage

    deep = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing))
    return deep[1:-1, 1:-1, 1:-1]


def _agreement(masks: np.ndarray) -> np.ndarray:
    """The mean square of a candidate's Dice with every candidate."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    size = flat.sum(axis=1)
    likeness = 2 * (flat @ flat.T) / (size[:, None] + size)
    return np.square(likeness).mean(axis=1)


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
