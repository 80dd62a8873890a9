"""What does a network find of a case, and how far off is a head of what was drawn there?

Whether a head learns from targets or is held against them, they are those that a contour is made of
in use: what the network finds, from where it finds it. What it misses gives no contour, and would
teach a head only that edges may be anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.networks import Seen, seen_in_output
from aistat_jax.boundary.targets import Target
from aistat_jax.calibrations import held_to_size
from aistat_jax.inference.batch import fit_many
from aistat_jax.nets.edge_law import RAYS, Edge, within
from aistat_jax.nets.edges import edge_at, unroll
from aistat_jax.nets.head_training import Unrolled
from aistat_jax.nets.output_head import OutputHead
from aistat_jax.space.basis import equal_angles
from aistat_jax.space.curve import Curve, contours_from_mask, last_exits
from aistat_jax.space.star import unit_vectors
from aistat_jax.uncertainty.contour import Contour, contour_of
from aistat_jax.uncertainty.reference import with_references
from aistat_jax.validation_set import Read

LEVELS = (0.5, 0.8, 0.95)
# Of a case so many contours, drawn at random, tell how far off a head is, and it learns from twice
# as many, and as many of what nobody drew; draws of each.
MOST_CONTOURS, DRAWS = 10, 400
# What the card counts beside contours.
NOTHING_FOUND = "images with something drawn in which the network finds nothing"
TOO_SMALL = "images in which all that it finds is too small for a contour"
FAILED = "contours left out because their fit failed"


def found_in(head: OutputHead, read: Read) -> Seen | None:
    """The targets of a network in a case; None where it finds nothing large enough for one."""
    if not (read.log_odds > 0).any():
        return None
    try:
        return seen_in_output(head, read.image, read.log_odds)
    except InputError:
        return None


def targets_found(head: OutputHead, read: Read, rng: np.random.Generator) -> list[Unrolled]:
    """The network's targets of a case, as a head learns from them.

    The edge of a reader counts where the target's centre lies in what that one drew; presence is
    the share of readers of whom it does. Of more than 2 MOST_CONTOURS of either kind, with an edge
    and without, so many, drawn at random.
    """
    seen = found_in(head, read)
    if seen is None:
        return []
    outlines: dict[int, list[list[Curve]]] = {}
    kinds: tuple[list[Unrolled], list[Unrolled]] = ([], [])
    for target in seen.targets:
        k = target.plane.index
        if k not in outlines:
            each = np.moveaxis(read.masks[:, :, k], -1, 0)
            outlines[k] = [contours_from_mask(mask, target.plane) for mask in each]
        edges = [log_exits(curves, target) for curves in outlines[k]]
        features, log_radius = unroll(seen.field, target.plane, target.centre, target.radius)
        drew = np.array([edge is not None for edge in edges], np.float32)
        found = Unrolled(
            features.astype(np.float16), np.asarray(log_radius, np.float32),
            np.array([np.zeros(RAYS) if e is None else e for e in edges], np.float32),
            drew, np.asarray(drew.mean(), np.float32), np.zeros((), np.float32),
        )  # fmt: skip
        kinds[int(drew.any())].append(found)
    most = 2 * MOST_CONTOURS
    chosen = [rng.permutation(len(kind))[:most] for kind in kinds]
    return [kind[n] for kind, some in zip(kinds, chosen, strict=True) for n in np.sort(some)]


def log_exits(curves: Sequence[Curve], target: Target) -> np.ndarray | None:
    """Log of where a target's rays leave the one of some outlines that its centre lies in.

    Relative to its rough radius; None where it lies in none. Shape (ray,).
    """
    for curve in curves:
        if curve.is_ccw and curve.contains(target.centre[None])[0]:
            exits = last_exits(curve.points, target.centre, unit_vectors(equal_angles(RAYS)))
            return np.log(np.maximum(exits, 1e-6) / target.radius)
    return None


class Judged(NamedTuple):
    """A contour of a patient left out. held: how many of its rays lie in intervals of LEVELS.

    seen: whether its centre lies in what was drawn, so that rays and band can be held against it.
    """

    patient: str
    contour: Contour
    seen: bool
    held: tuple[float, ...]


class LeftOut(NamedTuple):
    """The contours of a case that was left out, and of what there are none, counted."""

    contours: list[Judged]
    lost: Counter[str]


def judged(
    head: OutputHead, read: Read, patient: str, tolerance: float,
    rng: np.random.Generator | None = None,
) -> LeftOut:  # fmt: skip
    """Contours of the network's targets of a case, once for every reader, held against theirs.

    Of more than MOST_CONTOURS targets so many, drawn at random.
    """
    seen = found_in(head, read)
    if seen is None:
        small = bool((read.log_odds > 0).any())
        missed = int(read.masks.any() and not small)
        return LeftOut([], Counter({NOTHING_FOUND: missed, TOO_SMALL: int(small)}))
    rng, count = rng or np.random.default_rng(0), len(seen.targets)
    few = np.sort(rng.choice(count, min(MOST_CONTOURS, count), replace=False))
    targets = [seen.targets[int(n)] for n in few]
    posteriors = fit_many([seen.by_network(target) for target in targets], draws=DRAWS)
    given: dict[str, Any] = {f"tolerance_{read.image.unit}": tolerance}
    contours = [held_to_size(contour_of(posterior, **given)) for posterior in posteriors]
    sound = [bool(np.isfinite(contour.posterior.draws).all()) for contour in contours]
    found = [
        _held(seen, target, contour, patient)
        for reader in np.moveaxis(read.masks, -1, 0)
        for target, contour, good in zip(
            targets, with_references(contours, reader, read.image.primary), sound, strict=True
        )
        if good
    ]
    return LeftOut(found, Counter({FAILED: sound.count(False)}))


def _held(seen: Seen, target: Target, contour: Contour, patient: str) -> Judged:
    reference = contour.reference
    y = log_exits([reference], target) if isinstance(reference, Curve) else None
    if y is None:
        return Judged(patient, contour, False, ())
    edge: Edge = edge_at(seen.field, target.plane, target.centre, target.radius)
    return Judged(patient, contour, True, tuple(float(within(edge, y, p).mean()) for p in LEVELS))
