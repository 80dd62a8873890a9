"""What is meant by a point, and by what else was said? Of a PET the vote of all readings of it.

It is weighed by the hints given beside the point, and what speaks against it is said: above all
that there is a second reading (alternatives.py). Of other images it is the level of the steepest
edge among those that obey the hints.
"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Bool
from aistat_jax.boundary.alternatives import (
    alternatives,
    dice,
    joined,
    second_reading,
    unlike,
)
from aistat_jax.boundary.hints import Hints, around, ellipsoid_in, voxels
from aistat_jax.boundary.odds import SAME, groups_beside, learned_odds, probabilities
from aistat_jax.boundary.readings import FEATURES, REACH, Readings, in_space, readings_at
from aistat_jax.boundary.regions import (
    LARGE_SHARE,
    LENGTHS,
    Part,
    Region,
    components_at,
    cut_off_doubts,
    doubts_at,
    doubts_near,
    scored_levels,
)
from aistat_jax.space.image import Channel

GOES_ON = 1.5  # times what lies in the box: a component that is larger leaks
DOUBTED = 0.2  # of the vote: other readings that hold as much are said
UNSPOKEN = 1e-3  # of the vote: readings that points leave, and that hold less, are doubted
FAINT = 0.2  # a region that is brighter than its surroundings by less hardly stands out


def region_meant(channel: Channel, index: np.ndarray, hints: Hints | None = None) -> Region:
    """What is meant by a voxel and by hints, and what speaks against it.

    Raises InputError when nothing around the voxel stands out, and when no reading obeys the hints.
    """
    if not in_space(channel):
        return _by_level(channel, index, hints)
    places = index if hints is None else voxels(hints.places, channel.grid)
    return chosen(channel, index, readings_at(channel, places), hints)


def chosen(
    channel: Channel, index: np.ndarray, readings: Readings, hints: Hints | None = None
) -> Region:
    """The region that the readings of a voxel vote for, and what speaks against it; see `voted`."""
    return voted(channel, index, readings, hints)[0]


def voted(
    channel: Channel, index: np.ndarray, readings: Readings, hints: Hints | None = None
) -> tuple[Region, Readings]:
    """The region that readings vote for, what speaks against it, and the readings as weighed.

    With hints those of them that obey are voted on, alternatives to the first vote among them;
    where a box was drawn that no reading keeps to, the ellipsoid in it is taken.
    """
    vote, against = largest(readings.vote), []
    obeys = np.ones(len(readings.masks), dtype=bool)
    places = index if hints is None else voxels(hints.places, channel.grid)
    others = alternatives(channel, places, readings, vote)
    wider = joined(readings, vote, others)
    before = wider.share
    if hints is not None and hints.more:
        log, obeys = hints.weigh(wider.masks, wider.box, channel.grid)
        obeys &= wider.masks.sum(axis=(1, 2, 3)) <= LARGE_SHARE * channel.values.size
        if not obeys.any():
            return _in_the_box(channel, hints), readings
        spoken_for = float(wider.share[obeys].sum())
        with np.errstate(divide="ignore"):
            score = np.where(obeys, log + np.log(wider.share), -np.inf)
        share = np.exp(score - score.max())
        readings = wider = wider._replace(share=share / share.sum())
        vote = largest(wider.vote)
        if spoken_for < UNSPOKEN:
            against.append(
                "what was said beside the point leaves only readings for which the image hardly "
                f"speaks ({spoken_for:.0e} of the vote)"
            )
    likeness = readings.likeness(vote)
    steep = np.where((likeness >= SAME) & obeys, readings.edge, 0.0)
    mask, level = np.zeros(channel.values.shape, dtype=bool), None
    mask[readings.box] = vote
    if steep.max() > 0:
        best = int(steep.argmax())
        cut_at, spacing = readings.level[[best]], channel.grid.spacing
        for place in np.atleast_2d(places):  # any of several points may be what it was cut about
            found = components_at(channel.values, place, cut_at, spacing, channel.unit)
            part = next((part for _, part in found), None)
            if part is None or part.mask.sum() > GOES_ON * readings.masks[best].sum():
                continue  # what goes on out of the box is not it
            whole = part.whole(mask.shape)
            if dice(whole[readings.box], vote) >= SAME:
                mask, level = whole, float(cut_at[0])
                break
    doubts = [*doubts_at(channel, mask, index), *against]
    if level is None and _ends_in(vote, readings.box, mask.shape):
        doubts.append(
            f"the region around the point goes on beyond {REACH:.0f} mm from it, where nothing "
            "was looked at"
        )
    if (contrast := _contrast_of(readings, likeness)) < FAINT:
        doubts.append(
            f"the region around the point is brighter than what surrounds it by {contrast:.0%} only"
        )
    apart = unlike(wider, vote, len(others))
    groups = groups_beside(wider, apart, len(others), before)
    odds = probabilities(groups, learned_odds())
    second = second_reading(channel, readings.box, mask[readings.box], groups, odds)
    if second is not None:
        doubts.append(second.question())
    elif said := _other_readings(channel, wider, apart, mask):
        doubts.append(said)
    return Region(mask, level, tuple(doubts), second), readings


def _by_level(channel: Channel, index: np.ndarray, hints: Hints | None) -> Region:
    """The region of the level of the steepest edge, as likely as the hints make it.

    Where a box was drawn nothing is looked at but what lies within `tone_at`'s reach of it: a
    region that goes on beyond has left the box.
    """
    near = tuple(slice(0, n) for n in channel.values.shape)
    if hints is not None and hints.box is not None and channel.quantity != "SUV":
        reach = 2 * LENGTHS[channel.unit][0]
        middle = channel.grid.to_world(index.astype(float))
        ends = np.stack([np.minimum(hints.box[0], middle), np.maximum(hints.box[1], middle)])
        near = around(ends, channel.grid, reach)
    start = np.array([side.start for side in near])
    shown = replace(channel, values=channel.values[near], grid=channel.grid.part(near))
    parts, scores = scored_levels(shown, index - start)
    if hints is not None and hints.more:
        log, obeys = np.zeros(len(parts)), np.zeros(len(parts), dtype=bool)
        for n, (_, part) in enumerate(parts):
            box = _moved(part, start)
            (log[n],), (obeys[n],) = hints.weigh(part.mask[None], box, channel.grid)
            obeys[n] &= not _ends_in(part.mask, box, channel.values.shape, near)
        scores = np.where(obeys, scores * np.exp(log - log.max()), 0.0)
        if not np.any(scores > 0):
            return _in_the_box(channel, hints)
    level, part = parts[int(scores.argmax())]
    mask = np.zeros(channel.values.shape, dtype=bool)
    mask[_moved(part, start)] = part.mask
    doubts = doubts_near(shown, mask[near], index - start)
    return Region(mask, level, (*cut_off_doubts(mask), *doubts))


def _moved(part: Part, start: np.ndarray) -> tuple[slice, ...]:
    """Where a part of a part of an image lies in the whole."""
    sides = zip(part.box, start, part.mask.shape, strict=True)
    return tuple(slice(s.start + int(a), s.start + int(a) + n) for s, a, n in sides)


def _other_readings(
    channel: Channel, readings: Readings, unlike: np.ndarray, mask: np.ndarray
) -> str | None:
    """A sentence where other readings hold much of the vote, and none of them enough to be told."""
    if (total := float(readings.share[unlike].sum())) < DOUBTED:
        return None
    voxel = float(np.prod(channel.grid.spacing)) / 1000
    sizes = voxel * readings.masks[unlike & (readings.share > 0.01)].sum(axis=(1, 2, 3))
    between = f"{sizes.min():.3g} to {sizes.max():.3g} ml" if sizes.size else "many sizes"
    return (
        f"there are other readings of the point, of {between}, which hold {total:.0%} of the "
        f"vote against this one of {mask.sum() * voxel:.3g} ml; say how large it is (radius_mm)"
    )


def _in_the_box(channel: Channel, hints: Hints) -> Region:
    """The ellipsoid in a box, where it obeys what else was said. Raises InputError where not."""
    if hints.box is None:
        raise hints.refusal()
    mask = ellipsoid_in(hints.box, channel.grid)
    if not mask.any():
        raise InputError("the box holds no voxel of the image; draw a larger one")
    part = around(hints.box, channel.grid, float(channel.grid.spacing.max()))
    _, (obeys,) = Hints(hints.inside, hints.outside, hints.edge).weigh(
        mask[part][None], part, channel.grid
    )
    if not obeys:
        raise hints.refusal()
    taken = "no reading of the image keeps to the box, so the ellipsoid in it was taken"
    return Region(mask, None, (*cut_off_doubts(mask), taken))


def _contrast_of(readings: Readings, likeness: np.ndarray) -> float:
    """By how much what is most like the vote is brighter than its surroundings, as a share."""
    column = FEATURES.index("contrast")
    return float(np.expm1(readings.features[likeness.argmax(), column]))


def _ends_in(
    mask: np.ndarray,
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    within: tuple[slice, ...] | None = None,
) -> bool:
    """Whether a region in its box reaches a side of what was looked at that is none of the image.

    What was looked at is the box itself, or all `within` which it lies.
    """
    looked_at = box if within is None else within
    return any(
        (here.start == all_.start > 0 and bool(mask.take(0, axis=axis).any()))
        or (here.stop == all_.stop < shape[axis] and bool(mask.take(-1, axis=axis).any()))
        for axis, (here, all_) in enumerate(zip(box, looked_at, strict=True))
    )


def largest(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """The largest connected component of a mask."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
