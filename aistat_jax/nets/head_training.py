"""How does a contour head learn? From targets unrolled once, by their exact marginal likelihood.

That is with no margin. Then its margin and what is common to a target's errors, from patients that
a head has not learned from: heads like it learn from all but a fold of the patients each, and are
held against that fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from scipy.spatial import KDTree
from scipy.special import expit

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Bool, Float
from aistat_jax.nets.contour_head import ContourHead
from aistat_jax.nets.edge_law import RAYS, log_marginal
from aistat_jax.nets.edges import FeatureField, read_edges, region_at, unroll
from aistat_jax.nets.network import drawn
from aistat_jax.nets.recalibration import Errors, errors_of, joined, recalibrated
from aistat_jax.nets.weights import Net, Weights, weights_of
from aistat_jax.space.basis import equal_angles
from aistat_jax.space.curve import contours_from_mask, last_exits
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.star import unit_vectors

# Of a reader's mask with an edge to learn from. With fewer there is no edge, but something there.
LEAST_PIXELS = 6
# How far the centre (in rough radii) and the log of the rough radius stray, as sd, in all copies
# of a target but the first.
CENTRE_SD, RADIUS_SD = 0.2, 0.3
# How much the log of a feature's scale, and the feature, vary in training, as sd.
FEATURE_SD = 0.3


@dataclass(frozen=True)
class HeadSettings:
    """How a head learns: AdamW with cosine decay, targets varied at random (`varied`).

    copies: how many times each target is unrolled, once from where the network sees it and then
    from places astray. absent: how many places without a target are shown for every target.
    folds: how many heads learn beside it, each without a part of the patients, for its margin; 0
    for none.
    """

    steps: int = 1200
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    copies: int = 3
    absent: float = 0.5
    folds: int = 4
    seed: int = 0


@record
class Unrolled:
    """A target, or a batch of them, as the head learns from it.

    Shapes: features (*batch, ray, position, feature); log_radius (*batch,) in voxels;
    edges (*batch, reader, ray), the log radius relative to the rough one at which each reader
    drew the edge; drew (*batch, reader) 1 where `edges` counts; presence (*batch,), the share of
    readers who drew anything; astray (*batch,) 0 where it is seen from where the network finds it.
    """

    features: Float[ArrayLike, "*batch ray position feature"]
    log_radius: Float[ArrayLike, "*batch"]
    edges: Float[ArrayLike, "*batch reader ray"]
    drew: Float[ArrayLike, "*batch reader"]
    presence: Float[ArrayLike, "*batch"]
    astray: Float[ArrayLike, "*batch"]


def slices_in(
    field: FeatureField,
    masks: Bool[np.ndarray, "i j k reader"],
    grid: Grid,
    rng: np.random.Generator,
    settings: HeadSettings,
) -> list[Unrolled]:
    """The target of every slice of an image in which something was drawn, and places without one.

    grid: the primary channel's, on which the masks are.
    """
    found: list[Unrolled] = []
    for k in np.flatnonzero(masks.any(axis=(0, 1, 3))):
        found += targets_in(field, masks[:, :, k], grid.plane(k), rng, settings)
    for n in range(int(settings.absent * len(found))):
        k = int(rng.integers(grid.shape[2]))
        voxels = math.exp(float(found[n].log_radius))
        radius = voxels * float(np.sqrt(np.prod(field.grid.spacing[:2])))
        nothing = nothing_in(field, masks[:, :, k], grid.plane(k), radius, rng)
        found += [nothing] if nothing is not None else []
    return found


def targets_in(
    field: FeatureField,
    masks: Bool[np.ndarray, "u v reader"],
    plane: Plane,
    rng: np.random.Generator,
    settings: HeadSettings,
) -> list[Unrolled]:
    """One slice's target, as several readers drew it, seen from where the network sees it."""
    if not masks.any():
        return []
    middle, radius = seen_place(field, np.asarray(masks.any(axis=-1)), plane)
    present = masks.any(axis=(0, 1))
    curves = [_outline(masks[..., r], plane) for r in range(masks.shape[-1])]
    found = []
    for copy in range(settings.copies):
        astray = min(copy, 1)
        centre = middle + astray * CENTRE_SD * radius * rng.standard_normal(2)
        rough = radius * math.exp(astray * RADIUS_SD * rng.standard_normal())
        edges = [_log_exits(points, centre, rough) for points in curves]
        features, log_radius = unroll(field, plane, centre, rough)
        found.append(
            Unrolled(
                features.astype(np.float16),
                np.asarray(log_radius, np.float32),
                np.array([np.zeros(RAYS) if e is None else e for e in edges], np.float32),
                np.array([e is not None for e in edges], np.float32),
                np.asarray(present.mean(), np.float32),
                np.asarray(astray, np.float32),
            )
        )
    return found


def seen_place(
    field: FeatureField, drawn: Bool[np.ndarray, "u v"], plane: Plane
) -> tuple[Float[np.ndarray, "2"], float]:
    """Where a network sees what was drawn: the middle and rough radius of its own region.

    The region is that of the most probable drawn voxel (`region_at`), and owes nothing else to
    what was drawn: a head must learn from targets as they will be found.
    """
    odds, places = field.values[:, :, plane.index, -1], _places(field, plane)
    spacing = field.grid.spacing[:2]
    away = KDTree(plane.points()[drawn]).query(places)[0].reshape(odds.shape)
    near = away <= max(away.min(), 0.71 * spacing.max())
    place = np.unravel_index(int(np.where(near, odds, -np.inf).argmax()), odds.shape)
    region = region_at(expit(odds), tuple(int(n) for n in place))
    radius = math.sqrt(region.sum() * np.prod(spacing) / math.pi)
    return places.reshape(*odds.shape, 2)[region].mean(axis=0), radius


def _places(field: FeatureField, plane: Plane) -> Float[np.ndarray, "voxel 2"]:
    """In-plane coordinates of a field's voxels in one slice."""
    index = np.moveaxis(np.indices(field.grid.shape[:2]), 0, -1).reshape(-1, 2)
    slices = np.full((len(index), 1), plane.index)
    return plane.to_uv(field.grid.to_world(np.concatenate([index, slices], axis=1)))


def nothing_in(
    field: FeatureField,
    masks: Bool[np.ndarray, "u v reader"],
    plane: Plane,
    radius: float,
    rng: np.random.Generator,
) -> Unrolled | None:
    """A place of a slice where nobody drew anything, rather one that the network takes for some.

    It is drawn by the network's probability (and a little of chance) from the voxels further than
    1.5 radii from every drawn one; None where there are none.
    """
    odds, places = field.values[:, :, plane.index, -1], _places(field, plane)
    weight = 1e-3 + expit(odds.ravel())
    lesion = plane.points()[masks.any(axis=-1)]
    if len(lesion):
        weight = np.where(KDTree(lesion).query(places)[0] > 1.5 * radius, weight, 0.0)
    if not weight.any():
        return None
    centre = places[rng.choice(len(places), p=weight / weight.sum())]
    features, log_radius = unroll(field, plane, centre, radius)
    readers = masks.shape[-1]
    return Unrolled(
        features.astype(np.float16), np.asarray(log_radius, np.float32),
        np.zeros((readers, RAYS), np.float32), np.zeros(readers, np.float32),
        np.zeros((), np.float32), np.zeros((), np.float32),
    )  # fmt: skip


def _outline(mask: np.ndarray, plane: Plane) -> np.ndarray | None:
    """Vertices of the largest contour of a mask; None where it is too small to have one."""
    if mask.sum() < LEAST_PIXELS:
        return None
    curves = contours_from_mask(mask, plane)
    return max(curves, key=lambda curve: curve.area).points if curves else None


def _log_exits(points: np.ndarray | None, centre: np.ndarray, radius: float) -> np.ndarray | None:
    """Log of where each ray leaves a contour for the last time; None from outside of it."""
    if points is None:
        return None
    exits = last_exits(points, centre, unit_vectors(equal_angles(RAYS)))
    return np.log(exits / radius) if (exits > 0).all() else None


def head_loss(head: ContourHead, batch: Unrolled) -> Array:
    """Minus the log marginal likelihood a reader and ray, plus the cross-entropy of presence."""
    edge = head(jnp.asarray(batch.features, jnp.float32), jnp.asarray(batch.log_radius))
    each = log_marginal(edge.at(np.s_[:, None]), batch.edges)
    drew = jnp.asarray(batch.drew)
    fit = jnp.sum(jnp.where(drew > 0, each, 0.0)) / (jnp.maximum(drew.sum(), 1.0) * RAYS)
    presence = jnp.asarray(batch.presence)
    entropy = jnp.mean(jax.nn.softplus(edge.presence) - presence * edge.presence)
    return entropy - fit


def train_head(
    net: Net,
    targets: Mapping[str, Sequence[Unrolled]],
    settings: HeadSettings | None = None,
    progress: Callable[[int, float], Any] | None = None,
) -> Net:
    """The network with a contour head that has learned from targets of other patients than its own.

    The U-Net has seen the cases it was trained on: a head that learned from them would think it
    better than it is. `targets` are each patient's, by name. `progress` is called with the step,
    of settings.steps for every head, and its loss.
    Raises InputError for fewer than two patients of whom something was drawn, and for 1 fold.
    """
    settings, tell = settings or HeadSettings(), progress or (lambda step, loss: None)
    if settings.folds < 0 or settings.folds == 1:
        raise InputError(f"a head's folds must be 0 or at least 2, got {settings.folds}")
    drawn_of = [name for name, found in targets.items() if any(map(_tells, found))]
    if len(drawn_of) < 2:
        raise InputError(
            "a contour head needs targets of at least 2 patients to learn from; something was "
            f"drawn of {len(drawn_of)}"
        )

    def learned(number: int, pool: list[Unrolled]) -> Weights:
        before = number * settings.steps
        return _learned(net, pool, settings, lambda step, loss: tell(before + step, loss))

    head = learned(0, [t for found in targets.values() for t in found])
    if not settings.folds:
        return replace(net, head=head)
    folds = min(settings.folds, len(drawn_of))
    shuffled = np.random.default_rng(settings.seed).permutation(drawn_of)
    errors: list[Errors] = []
    for k in range(folds):
        out = {str(name) for name in shuffled[k::folds]}
        others = learned(k + 1, [t for n, found in targets.items() if n not in out for t in found])
        held_out = [(name, t) for name in targets if name in out for t in targets[name]]
        errors += _errors(replace(net, head=others), held_out, k)
    found = recalibrated(joined(errors))
    if found is None:
        return replace(net, head=head)
    anew = {
        "margin": found.margin,
        "log_scale": np.log(found.scale),
        "log_degrees": np.log(found.degrees),
    }
    return replace(net, head=head | {name: part.astype(np.float32) for name, part in anew.items()})


def _errors(
    net: Net, targets: list[tuple[str, Unrolled]], fold: int, batch: int = 256
) -> Iterator[Errors]:
    """Of a head on targets as the network finds them, each with the name of its patient."""
    seen = [(name, target) for name, target in targets if _tells(target)]
    graph, state = net.head_graph, net.head_state()
    for first in range(0, len(seen), batch):
        names, some = zip(*seen[first : first + batch], strict=True)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *some)
        features = stacked.features.astype(np.float32)
        edge = read_edges(graph, state, features, stacked.log_radius)
        which, reader = np.nonzero(stacked.drew)
        edges = stacked.edges[which, reader]
        yield errors_of(edge.at(which), edges, np.array(names)[which], fold)


def _tells(target: Unrolled) -> bool:
    """Of how far off a head is: somebody drew its edge, and it is where the network finds it."""
    return bool(np.any(target.drew) and not target.astray)


def _learned(
    net: Net,
    pool: list[Unrolled],
    settings: HeadSettings,
    progress: Callable[[int, float], Any],
) -> Weights:
    """A head's weights, learned from these targets; its margin is none."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pool)
    rng = np.random.default_rng(settings.seed)

    def batches() -> Iterator[Unrolled]:
        while True:
            chosen = rng.integers(len(pool), size=settings.batch)
            yield varied(jax.tree.map(lambda leaf, at=chosen: leaf[at], stacked), rng)

    return optimised(ContourHead(net.head_inputs), head_loss, batches(), settings, progress)


def optimised(
    head: nnx.Module,
    loss_of: Callable[[Any, Any], Array],
    batches: Iterator[Any],
    settings: HeadSettings,
    progress: Callable[[int, float], Any],
) -> Weights:
    """A head's weights, drawn at random and then led down a loss of batches."""
    graph, state = nnx.split(head)
    weights = drawn(state, settings.seed)
    rate = optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, 100, settings.steps, 0.0)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=settings.weight_decay)
    )

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights: Any, carried: Any, batch: Any) -> tuple[Any, Any, Array]:
        loss, slope = jax.value_and_grad(lambda w: loss_of(nnx.merge(graph, w), batch))(weights)
        change, carried = optimiser.update(slope, carried, weights)
        return optax.apply_updates(weights, change), carried, loss

    carried = optimiser.init(weights)
    for number, batch in zip(range(settings.steps), batches, strict=False):
        weights, carried, loss = step(weights, carried, batch)
        if (number + 1) % 50 == 0:
            progress(number + 1, float(loss))
    return weights_of(weights)


def varied(batch: Unrolled, rng: np.random.Generator) -> Unrolled:
    """The batch turned about its centres by a whole number of rays, mirrored or not, and every
    target's features, though not its log-odds, scaled and shifted as from patient to patient."""
    turn = int(rng.integers(RAYS))
    features, edges = np.roll(batch.features, turn, axis=1), np.roll(batch.edges, turn, axis=2)
    if rng.random() < 0.5:
        features, edges = features[:, ::-1], edges[..., ::-1]
    sd = FEATURE_SD * (np.arange(features.shape[-1]) < features.shape[-1] - 1)
    shape = (2, len(features), 1, 1, len(sd))
    scale, shift = (sd * rng.standard_normal(shape)).astype(np.float32)
    return Unrolled(
        features * np.exp(scale) + shift, batch.log_radius, np.ascontiguousarray(edges),
        batch.drew, batch.presence, batch.astray,
    )  # fmt: skip
