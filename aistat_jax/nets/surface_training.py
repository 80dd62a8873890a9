"""How does a surface head learn? From lesions unrolled in space, by the likelihood of their law.

Each lesion is seen from where it was found, and from places astray, with the rays turned at random.
Then what a head says of its errors is held against patients that heads like it did not learn from:
errors of size, and of form and detail, become as many times larger as makes those likeliest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Bool, Float
from aistat_jax.nets.head_training import CENTRE_SD, HeadSettings, optimised
from aistat_jax.nets.surface_head import SurfaceField, SurfaceHead, unroll_in_space
from aistat_jax.nets.surface_law import COUNT, SITES, SurfaceEdge, log_density
from aistat_jax.nets.surface_net import SurfaceNet, surface_at

SETTINGS = HeadSettings(steps=1400, batch=8, learning_rate=2e-3, copies=12, folds=5)
# How much the log of the rough radius strays, as sd, in all copies of a lesion but the first.
RADIUS_SD = 0.25
# How much the fields that `varies` names are scaled (as a log) and shifted in training, as sd.
SCALE_SD, SHIFT_SD = 0.15, 0.1
# No ray's edge is nearer than this share of the rough radius: where a centre lies outside of what
# was drawn there would be none.
NEAREST_EDGE = 0.12


class Lesion(NamedTuple):
    """A lesion to learn from: fields, where it was found, and what an expert drew.

    Shapes: drawn (i, j, k) on the field's grid; centre (3,), radius, in mm.
    """

    patient: str
    field: SurfaceField
    drawn: Bool[np.ndarray, "i j k"]
    centre: Float[np.ndarray, "3"]
    radius: float


@record
class UnrolledSurface:
    """A lesion, or a batch of them, as the head learns from it.

    Shapes: features (*batch, ray, position, feature); log_radius (*batch,) in voxels;
    edge (*batch, ray), the log radius relative to the rough one.
    """

    features: Float[ArrayLike, "*batch ray position feature"]
    log_radius: Float[ArrayLike, "*batch"]
    edge: Float[ArrayLike, "*batch ray"]


def unrolled(lesion: Lesion, astray: bool, rng: np.random.Generator) -> UnrolledSurface:
    """A lesion along rays turned, or mirrored, at random, from where it was found or astray."""
    from scipy.spatial.transform import Rotation

    centre = lesion.centre + astray * CENTRE_SD * lesion.radius * rng.standard_normal(3)
    radius = lesion.radius * math.exp(astray * RADIUS_SD * rng.standard_normal())
    turn = rng.choice([-1.0, 1.0]) * Rotation.from_quat(rng.standard_normal(4)).as_matrix()
    features, log_radius = unroll_in_space(lesion.field, centre, radius, turn)
    edge = drawn_edge(lesion, centre, radius, SITES.directions @ turn.T)
    return UnrolledSurface(
        features.astype(np.float16), np.asarray(log_radius, np.float32), edge.astype(np.float32)
    )


def drawn_edge(
    lesion: Lesion,
    centre: np.ndarray,
    radius: float,
    directions: Float[np.ndarray, "ray 3"] = SITES.directions,
) -> Float[np.ndarray, " ray"]:
    """Log radius, relative to the rough one, of the star that holds in every direction as much of
    what was drawn as lies there: of a star itself, its radius."""
    from scipy.ndimage import map_coordinates

    grid = lesion.field.grid
    corners = grid.to_world(np.argwhere(lesion.drawn)) - centre
    step = 0.25 * float(grid.spacing.min())
    far = float(np.linalg.norm(corners, axis=1).max()) + float(grid.spacing.max())
    along = step * (np.arange(math.ceil(far / step)) + 0.5)
    points = np.asarray(centre) + along[:, None] * directions[:, None]
    at = np.moveaxis(grid.to_index(points), -1, 0)
    share = map_coordinates(lesion.drawn.astype(np.float32), at, order=1, mode="constant")
    held = (share >= 0.5) @ (3 * along**2 * step)
    return np.log(np.maximum(np.cbrt(held), NEAREST_EDGE * radius) / radius)


def surface_loss(head: SurfaceHead, batch: UnrolledSurface) -> Array:
    """Minus the log density a harmonic."""
    edge = head(jnp.asarray(batch.features, jnp.float32), jnp.asarray(batch.log_radius))
    return -jnp.mean(log_density(edge, batch.edge)) / COUNT


class CrossFitted(NamedTuple):
    """A head that has learned from everyone, and for each patient one that has not seen them."""

    net: SurfaceNet
    left_out: dict[str, SurfaceNet]


def train_surface(
    net: SurfaceNet,
    lesions: Sequence[Lesion],
    varies: Sequence[bool],
    settings: HeadSettings = SETTINGS,
    progress: Callable[[int, float], Any] | None = None,
) -> CrossFitted:
    """Heads that have learned from lesions, with how far off they are on patients left out.

    One learns from all patients, and one for each fold without its patients; how large errors are
    said to be is fitted to those of the folds' heads on the patients they have not seen: for a
    fold's own head to the other folds' only. varies: which fields may differ in scale and level
    from patient to patient. `progress` is called with the step, of settings.steps for every head,
    and its loss. Raises InputError for fewer patients than folds, or fewer than 2 of either.
    """
    patients, folds = sorted({lesion.patient for lesion in lesions}), settings.folds
    if not 2 <= folds <= len(patients):
        raise InputError(
            f"a surface head needs at least 2 folds and as many patients, got {folds} and "
            f"{len(patients)}"
        )
    tell, rng = progress or (lambda step, loss: None), np.random.default_rng(settings.seed)
    pool = {
        patient: [
            unrolled(lesion, copy > 0, rng)
            for lesion in lesions
            if lesion.patient == patient
            for copy in range(settings.copies)
        ]
        for patient in patients
    }

    def learned(number: int, out: Sequence[str]) -> SurfaceNet:
        each = [one for patient in patients if patient not in out for one in pool[patient]]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        chance = np.random.default_rng([settings.seed, number])
        batches = _batches(stacked, np.asarray(varies, dtype=float), settings.batch, chance)
        before = number * settings.steps
        weights = optimised(
            SurfaceHead(len(net.features)), surface_loss, batches, settings,
            lambda step, loss: tell(before + step, loss),
        )  # fmt: skip
        return replace(net, head=weights, factors=(1.0, 1.0))

    shuffled = [str(name) for name in rng.permutation(patients)]
    parts = [shuffled[k::folds] for k in range(folds)]
    without = [learned(k, part) for k, part in enumerate(parts)]
    errors = [
        [_held_out(each, lesion) for lesion in lesions if lesion.patient in part]
        for each, part in zip(without, parts, strict=True)
    ]
    left_out: dict[str, SurfaceNet] = {}
    for k, (each, part) in enumerate(zip(without, parts, strict=True)):
        others = [one for j, found in enumerate(errors) if j != k for one in found]
        left_out |= dict.fromkeys(part, replace(each, factors=likeliest_factors(others)))
    whole = learned(folds, ())
    factors = likeliest_factors([one for found in errors for one in found])
    return CrossFitted(replace(whole, factors=factors), left_out)


def _held_out(net: SurfaceNet, lesion: Lesion) -> tuple[SurfaceEdge, np.ndarray]:
    edge, centre, radius = surface_at(net, lesion.field, lesion.centre, lesion.radius)
    return edge, drawn_edge(lesion, centre, radius)


def likeliest_factors(
    found: Sequence[tuple[SurfaceEdge, Float[np.ndarray, " ray"]]],
) -> tuple[float, float]:
    """How many times as large as said errors of size, and of form and detail, are on surfaces."""
    from scipy.optimize import minimize

    edges, drawn = jax.tree.map(lambda *parts: np.stack(parts), *found)

    @jax.jit
    def total(factors: Array) -> Array:
        each = jax.vmap(lambda edge, y: log_density(edge.scaled(factors), y))(edges, drawn)
        return -jnp.mean(each)

    def loss(log_factors: np.ndarray) -> float:
        with jax.enable_x64(True):
            return float(total(jnp.exp(jnp.asarray(log_factors))))

    size, rest = np.exp(minimize(loss, np.zeros(2), method="Nelder-Mead").x)
    return float(size), float(rest)


def _batches(
    stacked: UnrolledSurface, varies: np.ndarray, batch: int, rng: np.random.Generator
) -> Iterator[UnrolledSurface]:
    """Endless batches, their fields scaled and shifted as from patient to patient."""
    count = len(np.asarray(stacked.log_radius))
    while True:
        chosen = rng.integers(count, size=batch)
        some = jax.tree.map(lambda leaf, at=chosen: leaf[at], stacked)
        normal = (varies * rng.standard_normal((2, batch, 1, 1, len(varies)))).astype(np.float32)
        scale, shift = SCALE_SD * normal[0], SHIFT_SD * normal[1]
        yield UnrolledSurface(
            some.features.astype(np.float32) * np.exp(scale) + shift, some.log_radius, some.edge
        )
