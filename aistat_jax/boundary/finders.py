"""Where are the targets of an image? From points, a mask or a threshold, in slices or in space.

From points, and a box, the lesion is looked for first (meant.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Bool, Float, Shaped
from aistat_jax.boundary.alternatives import SecondReading
from aistat_jax.boundary.choices import CHARTS, ChartChoice, chosen_dims
from aistat_jax.boundary.clicked import Clicked, clicked, told_with
from aistat_jax.boundary.hints import Hints, Points, hints_of, voxels
from aistat_jax.boundary.meant import region_meant
from aistat_jax.boundary.regions import Region, ball_at, point_spread, section_areas
from aistat_jax.boundary.targets import MIN_PIXELS, Taper, Target, Targets, by_size, target_of
from aistat_jax.boundary.volume import VolumeTarget, unfit, volume_target
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Channel, Image, one_region
from aistat_jax.space.plausible import implausible

# About as many values of a channel tell whether they can be of its quantity.
LOOKED_AT = 200_000
# Sections within this many rough radii (but at least two slices) tell a taper. At each pixel of
# its edge an area is off by this share of a pixel: whole pixels, and levels between them.
TAPER_REACH = 0.8
WHOLE, BETWEEN = float(1 / np.sqrt(12)), 0.05
# An id, its target or why it has none, and how its kind of boundary was chosen, where it was.
Made = tuple[str, Any, ChartChoice | None]


def find_targets(
    image: Image,
    *,
    point_mm: Points | None = None,
    radius_mm: float | None = None,
    outside_mm: Points | None = None,
    edge_mm: Points | None = None,
    box_mm: Points | None = None,
    mask: Shaped[np.ndarray, "i j k"] | None = None,
    threshold: float | None = None,
    channel: str | None = None,
    slices: str | Sequence[int] = "all",
    dims: int | str = 2,
    chart: str = "star",
) -> Targets:
    """Targets, one per slice or one in space, from points, a box, a mask or a threshold.

    `point_mm` is a patient point (x, y, z) inside the lesion (RAS mm; pixels for images without
    spacing), or several, which are all inside of it; `radius_mm` says how far from the one the edge
    is, roughly (a quarter off is all right): nothing is looked for then, and the image is read from
    a ball of that size. Else a PET of at least 40 mm along each axis is read in many ways, of which
    the vote is taken (meant.py), and other images at the level of the steepest edge; in space a
    fit then starts from a ball. A second reading of the point is the targets' `second`.
    Points outside of the lesion (`outside_mm`) and on its edge (`edge_mm`), and two opposite
    corners of a box around it (`box_mm`, with a point or alone), tell readings apart. What points
    say of the boundary itself is the targets' `clicks`.
    `mask` is boolean, or 0 and one label, on the channel's canonical grid; `threshold` is in the
    channel's quantity and, with a point, keeps the component that holds it. `slices` is "all" that
    the target meets, "point" for the slice of the point (of the largest area without one), or slice
    numbers.
    With `dims` 3 a target is a `VolumeTarget`, whose boundary is a surface, in place of a `Target`
    a slice; with "auto" whichever `chosen_dims` says, slices where some of them were chosen.
    With `chart` "offset" boundaries are offsets from the outline of what was found, as of
    `offset_target`, which takes what no star can hold; with "auto" they are where straight rays
    from one centre reach less than 95% of it, or stars hold it with a Dice below .98, and offsets
    hold it better. A surface of offsets is compiled for each target.

    Every connected component, in a slice or in space, is a target or is named in `skipped` with the
    reason; of what a point is in the largest one a slice. A slice's target is called "z003"; where
    it has several they are "z003.1", "z003.2", ..., the largest first.

    Raises InputError for a point outside the image or in air, a radius without a point or that the
    image does not hold, points that contradict each other or that no reading of the image obeys, a
    point inside that no ray from the centre of a star reaches, a box that leaves the image, has no
    volume or is over 40% of it, an empty mask or threshold, a mask of several labels, slices that
    the target does not meet, or no component that is a target. What speaks against the region, and
    values that cannot be of a channel's quantity, are the targets' `doubts`.
    """
    if dims not in (2, 3, "auto"):
        raise InputError(
            f'`dims` must be 2 (a contour a slice), 3 (a surface) or "auto", got {dims!r}'
        )
    if chart not in CHARTS:
        raise InputError(
            f'`chart` must be "star" (radii from a centre), "offset" (from an outline) or "auto", '
            f"got {chart!r}"
        )
    if dims == 3 and not (isinstance(slices, str) and slices == "all"):
        raise InputError("`dims=3` contours a lesion as a whole; drop `slices`, or `dims`")
    chosen = image.primary if channel is None else image[channel]
    hints = hints_of(chosen, point_mm, outside_mm, edge_mm, box_mm)
    index = None if hints is None else voxels(hints.places, chosen.grid)[0]
    marked = mask is not None or threshold is not None
    more = hints is not None and hints.more
    if radius_mm is not None and (hints is None or more or marked):
        raise InputError(
            "`radius_mm` says how large what lies at `point_mm` is; pass these two alone"
        )
    if more and marked:
        raise InputError(
            "several points, `outside_mm`, `edge_mm` and `box_mm` say what to look for; drop them, "
            "or `mask` and `threshold`"
        )
    if mask is not None:
        region = Region(one_region(np.asarray(mask), "the mask"))
        if region.mask.shape != chosen.values.shape:
            raise InputError(
                f"the mask's grid {region.mask.shape} does not match channel {chosen.name}'s "
                f"{chosen.values.shape}; resample the mask onto the image"
            )
        if not region.mask.any():
            raise InputError("the mask is empty; pass one that marks the target")
    elif threshold is not None:
        hot = _hot(chosen.values >= threshold, index, chosen, threshold)
        region = Region(hot, threshold)
    elif hints is not None and radius_mm is not None:
        region = ball_at(chosen, hints.inside[0], radius_mm)
    elif index is not None:
        region = region_meant(chosen, index, hints)
    else:
        raise InputError("a target needs a point, a mask or a threshold")
    doubts = (*region.doubts, *doubted_values(image))
    seen_through = 0.0 if region.level is None else point_spread(chosen)
    choice = _choice(chosen, region, slices, chart) if dims == "auto" else None
    known = {"seen_through": seen_through, "doubts": doubts}
    said = hints if more else None
    if dims == 3 or (choice is not None and choice[0] == 3):
        star = volume_target if marked else _as_ball
        return _in_space(region, chosen.grid, known, choice, chart, star, said)
    made: list[Made] = []
    parts = [by_size(region.mask[:, :, k]) for k in range(region.mask.shape[2])]
    least = min(MIN_PIXELS, max(int(sizes.max(initial=0)) for _, sizes in parts))
    met = [k for k, (_, sizes) in enumerate(parts) if sizes.max(initial=0) >= least]
    error = WHOLE if region.level is None else BETWEEN
    whole = _areas(chosen, region)
    every = [k for k, (_, sizes) in enumerate(parts) if len(sizes)]
    chosen_slices = _choose(slices, met, index, region.mask.sum(axis=(0, 1)))
    clicks: list[tuple[str, str, tuple[float, ...]]] = []
    for k in every if slices == "all" else chosen_slices:
        (labels, sizes), plane = parts[k], chosen.grid.plane(k)
        meant = sizes >= least
        on = {n: clicked(said, chosen.grid, labels, n, k) for n in range(1, len(sizes) + 1)}
        if hints is not None and mask is None:  # one lesion was pointed at
            meant[1:] &= np.array([_inside(on[n]) for n in list(on)[1:]], dtype=bool)
        for n, name in enumerate(_ids(f"z{k:03d}", len(sizes), int(meant.sum())), start=1):
            if not meant[n - 1]:
                few = "1 pixel is" if sizes[n - 1] == 1 else f"{sizes[n - 1]} pixels are"
                why = f"{few} too few for a contour (at least {least})"
                if sizes[n - 1] >= least:
                    why = "a smaller part of what was pointed at; pass a mask to contour it too"
                made.append((name, why, None))
                continue
            areas = whole
            if max(len(own) for _, own in parts) > 1 and plane.unit == "mm":
                areas = _areas(chosen, region._replace(mask=_chain(parts, k, n)))
            part, taper = labels == n, taper_at(areas, k, plane, error)
            star = partial(_star, part, plane, name, taper)
            made.append((name, *told_with(on[n], star, part, plane, name, chart)))
            clicks += [(name, *each) for each in on[n]]
    return _gathered(made, known, choice, clicks, region.second)


def _inside(clicks: Sequence[Clicked]) -> bool:
    return any(kind == "inside" for kind, _ in clicks)


def _star(part: np.ndarray, plane: Plane, name: str, taper: Taper | None) -> Target:
    return replace(target_of(part, plane, name), taper=taper)


def _ids(name: str, count: int, targets: int) -> list[str]:
    """Ids of the components of a slice: by their number, but for an only one, or only target."""
    ids = [f"{name}.{n}" for n in range(1, count + 1)]
    return [name, *ids[1:]] if count == 1 or targets == 1 else ids


def _choice(
    channel: Channel, region: Region, slices: str | Sequence[int], chart: str
) -> tuple[int, str]:
    if isinstance(slices, str) and slices == "all":
        return chosen_dims(channel, region.mask, chart)
    return 2, "slices were chosen"


def _chain(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], k: int, n: int
) -> Bool[np.ndarray, "i j k"]:
    """A component of slice `k` with all that it goes on in above and below it, slice by slice."""
    labels = np.stack([own for own, _ in parts], axis=-1)
    chain = np.zeros(labels.shape, dtype=bool)
    chain[:, :, k] = labels[:, :, k] == n
    for step in (1, -1):
        at = k
        while 0 <= at + step < len(parts) and chain[:, :, at].any():
            below, at = chain[:, :, at], at + step
            here = labels[:, :, at]
            chain[:, :, at] = np.isin(here, np.setdiff1d(here[below], 0))
    return chain


def _areas(channel: Channel, region: Region) -> Float[np.ndarray, " k"]:
    """`section_areas`, looked at no further than the region reaches."""
    met = [np.flatnonzero(region.mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(max(0, int(each[0]) - 2), int(each[-1]) + 3) for each in met)
    areas = np.zeros(region.mask.shape[2])
    part = replace(channel, values=channel.values[box])
    areas[box[2]] = section_areas(part, region._replace(mask=region.mask[box]))
    return areas


def _in_space(
    region: Region,
    grid: Grid,
    known: dict[str, Any],
    choice: tuple[int, str] | None,
    chart: str,
    star: Callable[[np.ndarray, Grid, str], VolumeTarget],
    hints: Hints | None,
) -> Targets:
    """A target in space of every component that shows its surface."""
    from scipy.ndimage import find_objects

    labels, sizes = by_size(region.mask)
    boxes = enumerate(find_objects(labels), start=1)
    reasons = [unfit(labels[box] == n, grid, box[2].start) for n, box in boxes]
    ids = _ids("target", len(sizes), reasons.count(None))
    made: list[Made] = []
    clicks: list[tuple[str, str, tuple[float, ...]]] = []
    for n, (name, why) in enumerate(zip(ids, reasons, strict=True), start=1):
        if why:
            made.append((name, f"{why}; contour it slice by slice (`dims=2`)", None))
            continue
        part, on = labels == n, clicked(hints, grid, labels, n, None)
        ball = partial(star, part, grid, name)
        made.append((name, *told_with(on, ball, part, grid, name, chart)))
        clicks += [(name, *each) for each in on]
    return _gathered(made, known, choice, clicks, region.second)


def _as_ball(part: np.ndarray, grid: Grid, name: str) -> VolumeTarget:
    """The target of what was found around a point: where, and how large, but not of which form.

    Fits start from a ball: the bumps of a region that was found are seldom those of a boundary.
    """
    return replace(volume_target(part, grid, name), outline=None)


def _gathered(
    made: Sequence[Made],
    known: dict[str, Any],
    choice: tuple[int, str] | None,
    clicks: Sequence[tuple[str, str, tuple[float, ...]]],
    second: SecondReading | None,
) -> Targets:
    """What was made, as targets and as what was left out; InputError where all was."""
    skipped = tuple((name, target) for name, target, _ in made if isinstance(target, str))
    found = tuple(_with(target, known) for _, target, _ in made if not isinstance(target, str))
    if not found:
        raise InputError(f"target {skipped[0][0]}: {skipped[0][1]}")
    charts = tuple(why for *_, why in made if why is not None)
    return Targets(found, skipped, choice, charts, tuple(clicks), second)


def _with(target: Any, known: dict[str, Any]) -> Any:
    """A target with what is known of its region, its doubts before those of its own."""
    return replace(target, **known | {"doubts": (*known["doubts"], *target.doubts)})


def doubted_values(image: Image) -> list[str]:
    """A sentence for every channel whose values cannot be of its quantity."""
    if image.unit != "mm":
        return []
    found = []
    for name in image.names:
        values = image[name].values.ravel()
        looked_at = values[:: max(1, len(values) // LOOKED_AT)]
        doubt = implausible(
            np.append(looked_at, [values.min(), values.max()]), image[name].quantity
        )
        found += [] if doubt is None else [f"channel {name}: {doubt}"]
    return found


def taper_at(areas: Float[np.ndarray, " k"], k: int, plane: Plane, error: float) -> Taper | None:
    """How a region's sections change about slice `k`: a parabola through the areas near it.

    Fitted by least squares with a weak belief between a cylinder and a ball (bend -1 +- 1), which
    is all there is where a region is one slice thick. `error` is the sd of what an area misses at
    each pixel of its edge, in pixels. None for images without spacing or of one slice.
    Shapes: areas (slice,), in the square of the plane's unit.
    """
    if plane.unit == "px" or len(areas) == 1:
        return None
    square = areas / np.pi
    radius = float(np.sqrt(square[k]))
    height = plane.thickness * (np.arange(len(areas)) - k)
    reach = max(TAPER_REACH * radius, 2 * plane.thickness)
    low, high = k, k
    while low > 0 and areas[low - 1] > 0 and -height[low - 1] <= reach:
        low -= 1
    while high + 1 < len(areas) and areas[high + 1] > 0 and height[high + 1] <= reach:
        high += 1
    z, q = height[low : high + 1], square[low : high + 1]
    pixels = 2 * np.pi * radius / np.sqrt(plane.pixel_area)
    sd = error * plane.pixel_area * np.sqrt(pixels) / np.pi
    rows = np.stack([np.ones_like(z), z, 0.5 * z**2], axis=1)
    belief = np.array([0.0, 1 / radius**2, 1.0])  # precisions, of which the first is none
    precision = rows.T @ rows / sd**2 + np.diag(belief)
    _, slope, bend = np.linalg.solve(precision, rows.T @ q / sd**2 - [0.0, 0.0, 1.0])
    return Taper(float(slope), float(bend), float(np.sqrt(np.linalg.inv(precision)[2, 2])))


def _choose(
    slices: str | Sequence[int], met: list[int], index: np.ndarray | None, area: np.ndarray
) -> list[int]:
    if isinstance(slices, str):
        if slices == "all":
            return met
        if slices != "point":
            raise InputError(f"`slices` must be 'all', 'point' or slice numbers, got {slices!r}")
        wanted = [int(index[2]) if index is not None else int(area.argmax())]
        if not set(wanted) <= set(met):  # the lesion may pass the point by in its own slice
            wanted = [min(met, key=lambda k: abs(k - wanted[0]))]
        return wanted
    missing = sorted(set(slices) - set(met))
    if missing:
        raise InputError(
            f"the target does not meet slice {missing[0]}; it meets {met[0]} to {met[-1]}"
        )
    return sorted(set(slices))


def _hot(
    hot: np.ndarray, index: np.ndarray | None, channel: Channel, threshold: float
) -> np.ndarray:
    """What lies above a threshold; of it the component that holds a voxel, where one is given."""
    if not hot.any() or hot.all():
        raise InputError(
            f"threshold {threshold} {channel.quantity} marks "
            f"{'everything' if hot.any() else 'nothing'} in channel {channel.name}; "
            f"its values run from {channel.values.min():.3g} to {channel.values.max():.3g}"
        )
    if index is None:
        return hot
    labels, _ = by_size(hot)
    wanted = int(labels[tuple(index)])
    if wanted == 0:
        value = channel.values[tuple(index)]
        raise InputError(
            f"the point's value {value:.3g} {channel.quantity} is below the threshold "
            f"{threshold}; move the point into the target or lower the threshold"
        )
    return labels == wanted
