"""By which kind of boundary is a region told, where it is left to choose? And why, in words.

In slices or in space; as a star, or as offsets from its own outline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Bool
from aistat_jax.boundary.offsets import OffsetTarget, OffsetVolumeTarget, offset_target
from aistat_jax.boundary.volume import cut_off, largest_part, unfit
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Channel
from aistat_jax.space.seen import SEEN_SHARE, seen_share

CHARTS = "star", "offset", "auto"
WORDS = {"star": "star", "offset": "offset from its outline"}
# Offsets are chosen where normals run a voxel, or this share of the size, to both sides.
ROOM_SHARE = 0.25
# So many ids with one reason are named, and so many reasons.
NAMED, REASONS = 3, 5
_RAYS, _OFFSETS = "straight rays from one centre", "offsets from its outline"
_REACHED = f"{_RAYS} reach"
_STAR = f"{_REACHED} at least {SEEN_SHARE:.0%} of it"


class DimsChoice(NamedTuple):
    """Whether a target is contoured slice by slice (2) or as a surface (3), and why, in words."""

    dims: int
    reason: str


class ChartChoice(NamedTuple):
    """Whether the boundary of a target is a "star" or an "offset" from its outline, and why."""

    id: str
    chart: str
    reason: str


def chosen_dims(
    channel: Channel, mask: Bool[np.ndarray, "i j k"], chart: str = "star"
) -> DimsChoice:
    """Whether what a mask marks, its largest component, is better contoured in slices or in space.

    In slices where the voxels do not show its surface (`unfit`: one slice, fewer than 3 met, slices
    thicker than it is wide), where the image ends within it, and where no `chart` that may be used
    holds it in space: a star, unless straight rays from its best centre reach less than 95% of it,
    holes within filled; offsets from its outline, unless it is too narrow for them (`told`). Else
    in space.
    Raises InputError for an empty mask.
    """
    component, box = largest_part(mask, "target")
    part, first, grid = component[box], box[2].start, channel.grid
    if why := unfit(part, grid, first):
        return DimsChoice(2, why)
    if (end := cut_off(part.sum(axis=(0, 1)), grid, first)) is not None:
        return DimsChoice(2, f"the image ends in slice {end}, which the lesion reaches")
    whole = f"{part.shape[2]} slices show the whole lesion"
    seen = seen_share(component, grid)
    if chart != "offset" and seen >= SEEN_SHARE:
        return DimsChoice(3, f"{whole}, and {_REACHED} {seen:.0%} of it")
    reached = f"straight rays from its best centre reach {_percent(seen)} of the lesion"
    if chart == "star":
        return DimsChoice(2, reached)
    made = _offsets(component, grid, "target", roomy=chart == "auto")
    if isinstance(made, str):
        return DimsChoice(2, made if chart == "offset" else f"{reached}, and {made}")
    held = f"{whole}; {reached}, and offsets from its outline hold the rest"
    return DimsChoice(3, whole if chart == "offset" else held)


def told(
    star: Callable[[], Any],
    component: Bool[np.ndarray, "*grid"],
    where: Plane | Grid,
    name: str,
    chart: str,
) -> tuple[Any, ChartChoice | None]:
    """The target of a component by a chart of `CHARTS`; and what was chosen, where it is "auto".

    Then it is a star where straight rays from one centre reach 95% of it, holes within filled, else
    an offset from its outline. What is so narrow that normals of that cross within a voxel and a
    quarter of its size, or that the outline, smoothed, loses 5% of it, remains a star, with a
    doubt; so does a star in space that was asked for, and offsets likewise. Those that cannot be
    told are a sentence in place of the target.
    """
    if chart == "offset":
        return _offsets(component, where, name), None
    if chart == "star" and isinstance(where, Plane):
        return star(), None
    seen = seen_share(component, where)
    if seen >= SEEN_SHARE:
        return star(), ChartChoice(name, "star", _STAR) if chart == "auto" else None
    if chart == "star":
        return _doubted(star(), seen, _RAYS), None
    offset = _offsets(component, where, name, roomy=True)
    reached = f"{_REACHED} {_percent(seen)} of it"
    if isinstance(offset, str):
        return _doubted(star(), seen, _RAYS), ChartChoice(name, "star", f"{reached}, but {offset}")
    return offset, ChartChoice(name, "offset", reached)


def _doubted(target: Any, held: float, means: str) -> Any:
    """A target of which rays, or offsets, reach such a share, that says so."""
    missed = f"{np.ceil(100 * (1 - held)):.0f}%"
    doubt = f"{means} do not reach {missed} of the region, and say nothing of that part"
    return replace(target, doubts=(*target.doubts, doubt))


def _offsets(
    component: Bool[np.ndarray, "*grid"], where: Plane | Grid, name: str, roomy: bool = False
) -> OffsetTarget | OffsetVolumeTarget | str:
    """The target of offsets from a component's outline, or why there is none.

    One that does not hold its region is doubted, or if `roomy`, which what nobody asked for is, it
    is none, nor is one whose normals have no room.
    """
    from scipy import ndimage

    filled = np.asarray(ndimage.binary_fill_holes(component))
    try:
        made = offset_target(filled, where, name)
    except InputError as error:
        return str(error).removeprefix(f"target {name}: ")
    voxel = float(np.prod(where.spacing) ** (1 / len(where.spacing)))
    room, held_points = made.room(where.points()[component])
    if roomy and room < min(voxel, ROOM_SHARE * made.radius):
        return f"normals of its outline cross {room:.2g} {made.unit} from it"
    held = float(held_points.mean())
    if held >= SEEN_SHARE:
        return made
    return f"{_OFFSETS} reach {_percent(held)}" if roomy else _doubted(made, held, _OFFSETS)


def in_words(charts: Sequence[tuple[str, str, str]]) -> list[str]:
    """Sentences that say what was chosen for whom, ids with one reason together.

    >>> in_words([("z003", "star", "it is round"), ("z004", "offset", "it bends")])
    ['z003: star: it is round', 'z004: offset from its outline: it bends']
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name, chart, reason in charts:
        alike.setdefault((chart, reason), []).append(name)
    said = []
    for (chart, reason), names in list(alike.items())[:REASONS]:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        said.append(f"{', '.join(names[:NAMED])}{more}: {WORDS[chart]}: {reason}")
    left = sum(len(names) for names in list(alike.values())[REASONS:])
    return said + ([f"the kind of boundary of {left} more is in summary.json"] if left else [])


def _percent(share: float) -> str:
    return f"{np.floor(100 * share):.0f}%"
