"""What becomes of a drag from the middle of a lesion to its edge? A target, fitted like the others.

The ball that was drawn is a prior of size, and of where; the channel that the other targets were
found in is the evidence.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.editing import Placed, Session, target_placed
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import unlinked
from aistat_jax.space.image import Channel, Image

# Draws are made of harmonics that leave this share of their spread, looked at in so many of them.
LEFT, DRAWS = 1e-4, 16
USUAL = {2: 16, 3: 12}  # harmonics, by dimension


def placed_target(session: Session, image: Image, home: Channel, placed: Placed) -> Session:
    """The session with a target fitted in a ball that was drawn.

    Raises InputError for a ball that the image does not hold, for one in air, and for a fit that
    cannot be trusted.
    """
    if not home.grid.contains(np.array(placed.point)):
        raise InputError(
            f"the middle {placed.point} {home.unit} lies outside of channel {home.name}; press "
            "on the image"
        )
    first = session.given[0].posterior
    solid, settings = first.chart.dims == 3, resolution(first)
    found = find_targets(
        image, point_mm=placed.point, radius_mm=placed.radius, channel=placed.channel,
        dims=first.chart.dims, slices="all" if solid else "point",
    )  # fmt: skip
    if not found:
        raise InputError("what was drawn holds too few voxels for a target; drag farther")
    number = 1 + max([_number(e.posterior.target_id) for e in session.given], default=0)
    target = replace(found[0], id=f"new{number}")
    evidence: Evidence = intensity(image, placed.channel)
    model = boundary_model(target, evidence, **settings)
    posterior = fit(model, draws=len(first.draws), seed=first.seed)
    return target_placed(session, posterior, placed)


def resolution(posterior: Posterior) -> dict[str, Any]:
    """Rays and harmonics of a star, as `boundary_model` takes them.

    Where the model is lost they are those that the draws are made of.
    """
    model, chart = posterior.model, posterior.chart
    if chart.link != "log":
        return {}
    if model is None:
        harmonics = _harmonics(posterior)
    else:
        count = model.data.basis.functions.shape[1]
        harmonics = round(count**0.5) - 1 if chart.dims == 3 else (count - 1) // 2
    return {"rays": chart.sites, "harmonics": harmonics}


def _harmonics(posterior: Posterior) -> int:
    """The fewest harmonics that some draws are made of: of others as many as usual, or possible."""
    chart, possible = posterior.chart, 0
    drawn = unlinked(chart.link, posterior.draws[:DRAWS]).T
    apart = drawn - drawn.mean(axis=1, keepdims=True)
    for harmonics in itertools.count(1):
        try:
            functions = np.asarray(chart.basis(harmonics).functions)
        except InputError:
            break
        possible = harmonics
        rest = apart - functions @ np.linalg.lstsq(functions, apart, rcond=None)[0]
        if np.abs(rest).max() <= LEFT * np.abs(apart).max():
            return harmonics
    return min(possible, USUAL[chart.dims])


def placing_lines(placed: Placed, session: Session, target: int) -> list[str]:
    """The lines of Python that make the posterior of a target as it was placed."""
    first = session.given[0].posterior
    own, solid = session.given[target].posterior, first.chart.dims == 3
    where = "dims=3" if solid else 'slices="point"'
    settings = "".join(f", {name}={value}" for name, value in resolution(own).items())
    return [
        f"target = aj.find_targets(image, point_mm={placed.point}, radius_mm={placed.radius:g}, "
        f"channel={placed.channel!r}, {where})[0]",
        f"evidence = aj.intensity(image, {placed.channel!r})",
        f"model = aj.boundary_model(target, evidence{settings})",
        f"posterior = aj.fit(model, draws={len(own.draws)}, seed={first.seed})",
    ]


def _number(name: str) -> int:
    rest = name.removeprefix("new")
    return int(rest) if rest != name and rest.isdigit() else 0
