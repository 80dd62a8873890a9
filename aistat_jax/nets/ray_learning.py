"""How does a head of few numbers learn? By its posterior mode, a patient as one observation.

Rays, slices and readers of a patient go together: their mean log likelihood counts once a patient
beside the prior of the coefficients, so that many slices of few patients are not taken for much.
Heads that learned without a fold of the patients tell how far off such heads are on patients they
have not seen, and with it the margin: its scale and tail alone. Where the edge lies and which way
it leans are not corrected by errors of other heads than the one that is used. A fold's own head has
the margin of the other folds' errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.flatten_util import ravel_pytree

from aistat_jax._errors import InputError
from aistat_jax._typing import Array
from aistat_jax.nets.edge_law import Edge, log_marginal
from aistat_jax.nets.head_training import Unrolled
from aistat_jax.nets.output_head import OutputHead
from aistat_jax.nets.ray_head import RayHead, RaySigns, log_prior, ray_signs, ray_skeleton
from aistat_jax.nets.recalibration import Errors, errors_of, joined, spread_margin
from aistat_jax.nets.weights import weights_of

# Steps of the search for the mode, at most.
STEPS = 500


@dataclass(frozen=True, eq=False)
class Crossed:
    """A head that has learned from all patients, and those that learned without a fold of them.

    Each fold is the patients that its head has not learned from, with that head, whose margin was
    fitted to the errors of the other folds' heads. These heads have learned from its patients, so
    that of the judged patient a margin (two numbers) is not wholly free, and all else is. Every
    patient of the targets is in one fold, whether or not anything was drawn of it.
    unsettled: of how many heads the search for the mode ended before its tolerance was reached.
    """

    head: OutputHead
    folds: tuple[tuple[frozenset[str], OutputHead], ...]
    unsettled: int = 0


class Pool(NamedTuple):
    """All targets with their signs. Shapes: edges (target, reader, ray), drew (target, reader);
    presence (target,); patient (target,) names."""

    signs: RaySigns
    edges: np.ndarray
    drew: np.ndarray
    presence: np.ndarray
    patient: np.ndarray


def crossed_heads(
    head: OutputHead,
    targets: Mapping[str, Sequence[Unrolled]],
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Crossed:
    """A head that has learned from targets of patients, and those without a fold of them.

    `targets` are each patient's, by name. `progress` is called with the number of heads that have
    learned, and of how many. Raises InputError for fewer than two patients of whom something was
    drawn, and fewer than 2 folds.
    """
    if folds < 2:
        raise InputError(f"a calibration is judged on at least 2 folds, got {folds}")
    drawn_of = [name for name, found in targets.items() if any(np.any(t.drew) for t in found)]
    if len(drawn_of) < 2:
        raise InputError(
            "a contour head needs targets of at least 2 patients to learn from; what was drawn was "
            f"found in {len(drawn_of)}"
        )
    tell, pool = progress or (lambda done, of: None), pooled(targets)
    folds, rng = min(folds, len(drawn_of)), np.random.default_rng(seed)
    # Dealt out one kind after the other, so that something was drawn in every fold.
    others = [name for name in targets if name not in set(drawn_of)]
    order = [str(name) for part in (drawn_of, others) for name in rng.permutation(part)]
    whole, settled = _learned(head, pool, np.ones(len(pool.patient), bool))
    unsettled = int(not settled)
    tell(1, 1 + folds)
    errors: list[Errors] = []
    crossed: list[tuple[frozenset[str], OutputHead]] = []
    for k in range(folds):
        out = frozenset(order[k::folds])
        left = np.isin(pool.patient, list(out))
        other, settled = _learned(head, pool, ~left)
        unsettled += not settled
        errors.append(_errors(other, pool, left, k))
        crossed.append((out, other))
        tell(2 + k, 1 + folds)

    def held(one: OutputHead, some: Sequence[Errors]) -> OutputHead:
        margin = spread_margin(joined(some))
        return replace(one, head=(one.head or {}) | {"margin": margin})

    return Crossed(
        held(whole, errors),
        tuple(
            (out, held(one, errors[:k] + errors[k + 1 :])) for k, (out, one) in enumerate(crossed)
        ),
        unsettled,
    )


def pooled(targets: Mapping[str, Sequence[Unrolled]]) -> Pool:
    """All targets of all patients, and what is seen of each."""
    names = [name for name, found in targets.items() for _ in found]
    every = [target for found in targets.values() for target in found]
    most = max(len(t.drew) for t in every)

    def padded(part: np.ndarray) -> np.ndarray:
        return np.pad(part, [(0, most - len(part)), *[(0, 0)] * (part.ndim - 1)])

    look = jax.jit(ray_signs)
    found: list[RaySigns] = []
    for n in range(0, len(every), 128):
        some = every[n : n + 128]
        x = np.stack([t.features for t in some]).astype(np.float32)
        found.append(jax.tree.map(np.asarray, look(x, np.stack([t.log_radius for t in some]))))
    return Pool(
        RaySigns(*(np.concatenate(parts) for parts in zip(*found, strict=True))),
        np.stack([padded(np.asarray(t.edges)) for t in every]),
        np.stack([padded(np.asarray(t.drew)) for t in every]),
        np.array([t.presence for t in every]), np.array(names),
    )  # fmt: skip


def _learned(head: OutputHead, pool: Pool, use: np.ndarray) -> tuple[OutputHead, bool]:
    """The posterior mode of the targets in use, and whether the search for it has ended well.

    It starts from a head that has learned nothing. Raises InputError where it is led astray.
    """
    from scipy.optimize import minimize

    unflatten, flat = _flat(head.head_inputs)
    # The likelihood of edges takes the time, and is of those who drew something.
    drawn = np.flatnonzero(pool.drew.any(axis=1))
    drew, edges = _shares(pool.drew * use[:, None], pool)[drawn], pool.edges[drawn]
    counts = _shares(use[:, None], pool)[:, 0]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _loss(
            head.head_inputs, values.astype(np.float32), pool.signs, drawn, edges, drew,
            pool.presence, counts,
        )  # fmt: skip
        return float(value), np.asarray(slope, np.float64)

    found = minimize(loss, np.asarray(flat, float), jac=True, method="L-BFGS-B",
                     options={"maxiter": STEPS, "ftol": 1e-7})  # fmt: skip
    if not np.isfinite(found.x).all():
        raise InputError("no head can be learned: its density is not finite; check images, labels")
    learned = replace(head, head=weights_of(unflatten(jnp.asarray(found.x, jnp.float32))))
    return learned, bool(found.success)


@lru_cache(maxsize=32)
def _flat(inputs: int) -> tuple[Callable[[Any], Any], np.ndarray]:
    """How a head's state comes of a row of numbers, and the row where learning starts."""
    flat, unflatten = ravel_pytree(nnx.split(RayHead(inputs))[1])
    return unflatten, np.asarray(flat)


def _shares(counts: np.ndarray, pool: Pool) -> np.ndarray:
    """Counts as shares of their patient's, which add up to 1 for every patient in use."""
    counts = np.asarray(counts, np.float32)
    _, whose = np.unique(pool.patient, return_inverse=True)
    total = np.bincount(whose, counts.sum(axis=1))[whose]
    return counts / np.maximum(total, 1.0)[:, None].astype(np.float32)


@partial(jax.jit, static_argnums=0)
@partial(jax.value_and_grad, argnums=1)
def _loss(
    inputs: int, values: Array, signs: RaySigns, drawn: Array, edges: Array, drew: Array,
    presence: Array, counts: Array,
) -> Array:  # fmt: skip
    """Minus the log posterior density of a head's numbers; drew and counts are what each weighs.

    drawn: of which targets edges and drew are.
    """
    head = nnx.merge(ray_skeleton(inputs)[0], _flat(inputs)[0](values))
    edge = head.law(signs)
    likely = log_marginal(edge.at(drawn).at(np.s_[:, None]), edges)
    fit = jnp.sum(jnp.where(drew > 0, drew * likely, 0.0))
    entropy = jnp.sum(counts * (jax.nn.softplus(edge.presence) - presence * edge.presence))
    return entropy - fit - log_prior(head)


def _errors(head: OutputHead, pool: Pool, out: np.ndarray, fold: int) -> Errors:
    """Of a head on targets left out, a row for every reader who drew something."""
    edge = law_of(head, pool.signs)
    which, reader = np.nonzero(pool.drew)
    # Of all targets, so that nothing is compiled anew for every fold.
    found = errors_of(edge.at(which), pool.edges[which, reader], pool.patient[which], fold)
    return found.at(out[which])


def law_of(head: OutputHead, signs: RaySigns) -> Edge:
    """What a head says of targets of which these signs are seen, as float64 numbers."""
    edge = _law(head.head_graph, head.head_state(), signs)
    return jax.tree.map(lambda part: np.asarray(part, np.float64), edge)


@partial(jax.jit, static_argnums=0)
def _law(graph: Any, state: Any, signs: RaySigns) -> Edge:
    return nnx.merge(graph, state).law(signs)
