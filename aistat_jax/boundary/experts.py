"""Where would an expert draw the surface of what is meant by a point? A learned law of it.

A point has many readings (readings.py), and an expert's contour is the edge of none. A surface head
(nets/surface_head.py) has learned from experts' contours where theirs run, along rays from the
middle of what the readings vote for, given log uptake and the vote along them. What it says has
seen the image: it is a law of the boundary given the image, needs no evidence beside it, and with
`intensity` the same voxels would count twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.finders import doubted_values
from aistat_jax.boundary.hints import Points, clicks_on, hints_of, voxels
from aistat_jax.boundary.meant import voted
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.prior import LearnedPrior
from aistat_jax.boundary.readings import Readings, in_space, readings_at
from aistat_jax.boundary.regions import tone_at
from aistat_jax.boundary.targets import Targets
from aistat_jax.boundary.volume import (
    CUT_SHARE,
    VolumeTarget,
    cut_off,
    largest_part,
    unfit,
)
from aistat_jax.nets.domain import Measured, geometry, tones
from aistat_jax.nets.surface_head import FARTHEST, SurfaceField
from aistat_jax.nets.surface_law import ANALYSIS, GROUPS, SurfaceEdge, waves
from aistat_jax.nets.surface_net import SurfaceNet, look_at_surface, surface_at
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.seen import best_seen

# What a head reads: log uptake less that inside what is meant, and less that around it, both in
# units of their difference; the shares of the vote; log uptake; and 1 where there is an image.
FIELDS = "inside", "around", "vote", "uptake", "seen"
# Which of them may differ in scale and level from patient to patient.
VARIES = True, True, False, True, False
AROUND, LEAST_CONTRAST = 15.0, 0.3  # mm; of log uptake
QUANTITY = "SUV"


class ExpertReading(NamedTuple):
    """What a point is taken for, with the law of the surface that an expert would draw.

    `seen` is what the fields show about that surface (`nets.edges.about_edge`).
    """

    targets: Targets
    law: SurfaceEdge
    seen: Float[np.ndarray, " feature"]

    def by_expert(self, target: Any) -> BoundaryModel:
        """The boundary an expert would draw, by the head and the points that were given."""
        clicks = clicks_on(self.targets, target)
        return boundary_model(target, clicks, prior=surface_prior(self.law))


def expert_read(
    net: SurfaceNet,
    image: Image,
    point_mm: Points | None,
    channel: str | None = None,
    **more: Points,
) -> ExpertReading:
    """What a point (or several of one lesion) is taken for, and where an expert would draw it.

    `more` is what else was said of it: outside_mm, edge_mm, box_mm (`find_targets`).
    Raises InputError for a channel that is no PET in SUV at least 40 mm deep, and as
    `find_targets` does for the point.
    """
    home = image.primary if channel is None else image[channel]
    if net.features != FIELDS:
        raise InputError(
            f"{net.name} reads {', '.join(net.features)}, and this version makes "
            f"{', '.join(FIELDS)}; train it again"
        )
    if home.quantity != net.quantity or not in_space(home):
        raise InputError(
            f"{net.name} reads lesions in a PET in {net.quantity} that is at least 40 mm deep; "
            f"channel {home.name} is none"
        )
    hints = hints_of(home, point_mm, **more)
    if hints is None:
        raise InputError(f"{net.name} reads what lies around a point; pass `point_mm` or `box_mm`")
    places = voxels(hints.places, home.grid)
    readings = readings_at(home, places)
    region, readings = voted(home, places[0], readings, hints)
    target = _about(region.mask, home.grid)
    field = fields_of(home, places[0], readings, region.mask)
    law, centre, radius = surface_at(net, field, target.centre, target.radius)
    seen, unlike = look_at_surface(field, law, centre, radius), ()
    if net.domain is not None:
        measured = measured_in_space(net, home)
        unlike = net.domain.said(net.domain.of_image(measured) + net.domain.of_edge(seen))
    about = replace(
        target, centre=centre, radius=radius, outline=None,
        doubts=(*region.doubts, *doubted_values(image), *target.doubts, *unlike),
    )  # fmt: skip
    said = (("inside", hints.inside), ("outside", hints.outside), ("edge", hints.edge))
    clicks = [(about.id, kind, tuple(each.tolist())) for kind, points in said for each in points]
    found = Targets((about,), clicks=tuple(clicks if hints.more else ()), second=region.second)
    return ExpertReading(found, law, seen)


def measured_in_space(net: SurfaceNet, channel: Channel) -> Measured:
    """What is measured of a channel for a surface head (`nets.domain`)."""
    return geometry(channel.grid) | tones(channel.values, net.quantity)


def _about(mask: Bool[np.ndarray, "i j k"], grid: Grid) -> VolumeTarget:
    """Where and how large what is meant is, also where the image ends in the middle of it."""
    name = "target"
    component, box = largest_part(mask, name)
    part, first = component[box], box[2].start
    end = cut_off(part.sum(axis=(0, 1)), grid, first, CUT_SHARE)
    if end is None and (why := unfit(part, grid, first)):
        raise InputError(
            f"target {name}: {why}; contour it slice by slice (`dims=2`), without `net`"
        )
    centre = best_seen(part, np.array([side.start for side in box]), grid).centre
    radius = float(np.cbrt(0.75 * part.sum() * np.prod(grid.spacing) / np.pi))
    ends = f"the image ends in slice {end}, in the middle of the lesion, and shows no whole one"
    doubts = () if end is None else (ends,)
    return VolumeTarget(centre, radius, grid.unit, name, doubts=doubts)


def fields_of(
    channel: Channel, index: np.ndarray, readings: Readings, region: Bool[np.ndarray, "i j k"]
) -> SurfaceField:
    """FIELDS in the box of the readings. `region` (i, j, k) of the image is what is meant."""
    from scipy.ndimage import distance_transform_edt

    box, grid = readings.box, channel.grid
    tone, meant = np.asarray(tone_at(channel, index).values[box], np.float32), region[box]
    beyond = np.asarray(distance_transform_edt(np.logical_not(meant), sampling=grid.spacing))
    around = (beyond > 0) & (beyond < max(AROUND, 2 * float(grid.spacing.max())))
    high, low = float(np.median(tone[meant])), float(np.median(tone[around]))
    contrast = max(high - low, LEAST_CONTRAST)
    values = np.stack(
        [(tone - high) / contrast, (tone - low) / contrast, readings.held, tone / 2,
         np.ones_like(tone)], axis=-1,
    )  # fmt: skip
    return SurfaceField(values, grid.part(box))


def surface_prior(law: SurfaceEdge) -> LearnedPrior:
    """The law of a head as the prior of a boundary, in harmonics up to its degree."""
    factor: Float[np.ndarray, "harmonic harmonic"] = ANALYSIS @ np.asarray(waves(law), float)
    return LearnedPrior(
        ANALYSIS @ np.asarray(law.mean), factor, np.asarray(law.degrees), GROUPS, FARTHEST
    )
