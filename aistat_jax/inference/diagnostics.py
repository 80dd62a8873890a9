"""Can the numbers be trusted? Effective sample sizes, R-hat, khat, and reasons in sentences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array
from aistat_jax.inference.posterior import Diagnostics
from aistat_jax.space.chart import Chart, unlinked

KHAT_LIMIT = 0.7
# Perfect draws of 4 x 250 exceed 1.01 in 2.5% of fits, for 18 quantities at once; 1.02 in none.
RHAT_LIMIT = 1.02
ESS_LIMIT = 400.0
# Importance weights must leave at least this share of the draws effective.
WEIGHT_SHARE = 0.1
EDGE_SHARE = 0.02


@jax.jit
def _chain_summaries(values: Array) -> tuple[Array, Array]:
    """Bulk ESS and rank-normalised R-hat of each column of (chain, draw, quantity)."""
    from blackjax.diagnostics import ess_bulk, rhat

    per_column = jnp.moveaxis(values, -1, 0)
    return jax.vmap(ess_bulk)(per_column), jax.vmap(rhat)(per_column)


def monitored(samples: dict[str, np.ndarray], radii: np.ndarray, chart: Chart) -> np.ndarray:
    """What the diagnostics watch: the boundary at every fourth site, log size, scalar sites."""
    chains, draws = radii.shape[:2]
    size = chart.sectors(radii).sum(axis=-1, keepdims=True)
    columns = [unlinked(chart.link, radii)[..., ::4], np.log(size)]
    for value in samples.values():
        if value.ndim == 2 and np.ptp(value) > 0:
            columns.append(value[..., None])
    return np.concatenate(columns, axis=-1).reshape(chains, draws, -1)


def chain_summary(values: np.ndarray) -> tuple[float, float]:
    """(bulk ESS, rank-normalised R-hat) of one quantity. Shapes: values (chain, draw)."""
    ess, rhat = _chain_summaries(jnp.asarray(values, dtype=float)[..., None])
    return float(ess[0]), float(rhat[0])


def chain_diagnostics(
    samples: dict[str, np.ndarray], radii: np.ndarray, chart: Chart, divergences: int | None
) -> Diagnostics:
    """Diagnostics of Markov chains. Shapes: radii (chain, draw, ray)."""
    watched = jnp.asarray(monitored(samples, radii, chart))
    ess, rhat = (np.asarray(v) for v in _chain_summaries(watched))
    ess_min, rhat_max = float(ess.min()), float(rhat.max())
    reasons = chart_reasons(radii, chart)
    if not ess_min >= ESS_LIMIT:
        reasons.append(f"only {ess_min:.0f} effective draws (at least {ESS_LIMIT:.0f} wanted)")
    if not rhat_max <= RHAT_LIMIT:
        reasons.append(f"the chains disagree (R-hat {rhat_max:.3f}, at most {RHAT_LIMIT} wanted)")
    if divergences:
        reasons.append(f"{divergences} divergent transitions")
    return Diagnostics(not reasons, ess_min, None, rhat_max, divergences, tuple(reasons))


def weight_diagnostics(khat: float, ess: float, radii: np.ndarray, chart: Chart) -> Diagnostics:
    """Diagnostics of importance-weighted draws."""
    reasons = chart_reasons(radii, chart)
    if not khat <= KHAT_LIMIT:
        reasons.append(
            f"the approximation does not fit (Pareto khat {khat:.2f}, at most {KHAT_LIMIT} wanted)"
        )
    wanted = WEIGHT_SHARE * radii.shape[1]
    if not ess >= wanted:
        reasons.append(
            f"the weights leave {ess:.0f} effective draws (at least {wanted:.0f} wanted)"
        )
    return Diagnostics(not reasons, ess, khat, None, None, tuple(reasons))


def trustworthy(found: Diagnostics, draws: int) -> bool:
    """Whether weights, if there are any, are good enough to keep, whatever else is the matter."""
    fits = found.rhat_max is None if found.khat is None else found.khat <= KHAT_LIMIT
    return fits and found.ess_min >= WEIGHT_SHARE * draws


def mixed(found: Diagnostics) -> bool:
    """Whether chains agree and are worth enough draws, whatever else is the matter."""
    agree = found.rhat_max is not None and found.rhat_max <= RHAT_LIMIT
    return agree and found.ess_min >= ESS_LIMIT


def chart_reasons(radii: np.ndarray, chart: Chart) -> list[str]:
    """Sentences about boundaries that run into the limits of their chart.

    At any site that was looked at as far as the chart reaches; where normals cross sooner, and a
    boundary is held, on so much of it.
    """
    reasons = []
    low, high = chart.ends
    width = high - low
    if np.ptp(low) > 0 or np.ptp(high) > 0:  # where one end is near and the other is far
        width = 2 * np.minimum(high, -low)
    at_edge = radii > high - 0.03 * width
    at_reach = at_edge & (high == high.max())
    where = f"{high.max():.0f} {chart.unit} from the centre"
    if (low < 0).all():  # a star ends at its centre, where nothing is left of it
        at_low = radii < low + 0.03 * width
        at_edge |= at_low
        at_reach |= at_low & (low == low.min())
        where = f"{low.min():.1f} to {high.max():.1f} {chart.unit} from the reference"
    if max(float(at_reach.mean(axis=(0, 1)).max()), float(at_edge.mean())) > EDGE_SHARE:
        reasons.append(f"the boundary reaches the edge of the region searched ({where})")
    if not np.isfinite(radii).all():
        reasons.append("some draws are not finite")
    return reasons
