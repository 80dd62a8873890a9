"""By which kind of boundary is a region told, where it is left to choose? And why, in words.

In slices or in space; as a star, or as offsets from its own outline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Bool
from aistat_jax.boundary.offsets import (
    BESIDE,
    OffsetTarget,
    OffsetVolumeTarget,
    offset_target,
)
from aistat_jax.boundary.prior import REACH, Prior
from aistat_jax.boundary.volume import cut_off, largest_part, unfit
from aistat_jax.space.chart import LINKS
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Grid, Plane, box_about
from aistat_jax.space.image import Channel
from aistat_jax.space.mesh import surface_from_mask
from aistat_jax.space.representation import represented
from aistat_jax.space.seen import SEEN_SHARE, seen_share

CHARTS = "star", "offset", "auto"
WORDS = {"star": "star", "offset": "offset from its outline"}
# A star is chosen where its nearest boundary has this Dice with the region.
HELD = 0.98
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
    holes within filled; offsets from its outline, unless it is too narrow for them, or they hold
    less than 95% where nobody asked for them. Else in space.
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
    made, share = offsets_of(component, grid, "target")
    if isinstance(made, str):
        return DimsChoice(2, made if chart == "offset" else f"{reached}, and {made}")
    if chart == "auto" and share < SEEN_SHARE:
        return DimsChoice(2, f"{reached}, and {_nearest(share)}")
    rest = f"{whole}; {reached}, and offsets from its outline hold the rest"
    return DimsChoice(3, whole if chart == "offset" else rest)


def told(
    star: Callable[[], Any],
    component: Bool[np.ndarray, "*grid"],
    where: Plane | Grid,
    name: str,
    chart: str,
) -> tuple[Any, ChartChoice | None]:
    """The target of a component by a chart of `CHARTS`; and what was chosen, where it is "auto".

    Then it is a star where straight rays from one centre reach 95% of it, holes within filled, and
    the nearest boundary of a star has a Dice of HELD with it; else whichever of that and of
    offsets from its outline has the better Dice, of those that are not doubted. A star of which
    rays reach less than 95% is doubted, but in a slice where it was asked for; so are offsets with
    a lower Dice. Those that cannot be told are a sentence in place of the target.
    """
    if chart == "offset":
        return offsets_of(component, where, name)[0], None
    if chart == "star" and isinstance(where, Plane):
        return star(), None
    seen, made = seen_share(component, where), star()
    kept = made if seen >= SEEN_SHARE else _doubted(made, seen)
    if chart == "star":
        return kept, None
    near = held(made, _filled(component), where)
    if seen >= SEEN_SHARE and near >= HELD:
        return kept, ChartChoice(name, "star", _STAR)
    reached = f"{_REACHED} {_percent(seen)} of it"
    if seen >= SEEN_SHARE:
        reached = f"the nearest star has a Dice of {near:.3f} with it"
    offset, share = offsets_of(component, where, name)
    if isinstance(offset, str):
        return kept, ChartChoice(name, "star", f"{reached}, but {offset}")
    sure, offset_sure = seen >= SEEN_SHARE, share >= SEEN_SHARE
    if not (share > near if sure == offset_sure else offset_sure):
        return kept, ChartChoice(name, "star", f"{reached}, but {_nearest(share)}")
    return offset, ChartChoice(name, "offset", reached)


def held(target: Any, component: Bool[np.ndarray, "*grid"], where: Plane | Grid) -> float:
    """Dice of a component with the nearest boundary that a model of a target has; 0 where there is
    none."""
    box = box_about(component, BESIDE)
    try:
        if isinstance(where, Plane):
            outline, points = contours_from_mask(component, where)[0], where.points()[box]
        else:
            part = where.part(box)
            outline, points = surface_from_mask(component[box], part, 0.0), part.points()
        chart = target.chart(LINKS[target.link].times(target.radius, REACH))
        if not chart.sees(outline):
            return 0.0
        prior, mean, basis = Prior().on(target, chart, None)
        bend = partial(prior.bend, sd=jnp.ones(chart.sites))
        return represented(chart, outline, component[box], points, basis, mean, bend)
    except InputError:
        return 0.0


def _filled(component: Bool[np.ndarray, "*grid"]) -> Bool[np.ndarray, "*grid"]:
    """A component without its holes."""
    from scipy import ndimage

    box, whole = box_about(component, 0), component.copy()
    whole[box] = ndimage.binary_fill_holes(component[box])
    return whole


def _nearest(share: float) -> str:
    return f"the nearest boundary of {_OFFSETS} has a Dice of {share:.3f} with it"


def _doubted(star: Any, seen: float) -> Any:
    """A star whose rays reach such a share of its region, that says so."""
    missed = f"{np.ceil(100 * (1 - seen)):.0f}%"
    doubt = f"{_RAYS} do not reach {missed} of the region, and say nothing of that part"
    return replace(star, doubts=(*star.doubts, doubt))


def offsets_of(
    component: Bool[np.ndarray, "*grid"], where: Plane | Grid, name: str
) -> tuple[OffsetTarget | OffsetVolumeTarget | str, float]:
    """The target of offsets from a component's outline, or why there is none; and its Dice with it.

    One whose Dice is below SEEN_SHARE is doubted. The last is remembered.
    """
    made, share = _offsets(_Region(_filled(component), where))
    return made if isinstance(made, str) else replace(made, id=name), share


class _Region:
    """A mask and where it lies, alike where their numbers are."""

    def __init__(self, mask: Bool[np.ndarray, "*grid"], where: Plane | Grid) -> None:
        self.mask, self.where = mask, where
        leaves, form = jax.tree.flatten(where)
        placed = tuple(np.asarray(leaf).tobytes() for leaf in leaves)
        self.key = form, placed, mask.shape, np.packbits(mask).tobytes()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: Any) -> bool:
        return self.key == other.key


@lru_cache(maxsize=1)
def _offsets(region: _Region) -> tuple[OffsetTarget | OffsetVolumeTarget | str, float]:
    try:
        made = offset_target(region.mask, region.where)
    except InputError as error:
        return str(error).removeprefix("target target: "), 0.0
    share = held(made, region.mask, region.where)
    if share < SEEN_SHARE:
        doubt = _nearest(share).replace("with it", "with its region")
        made = replace(made, doubts=(*made.doubts, doubt))
    return made, share


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
