"""What does a posterior say to evidence that comes later, when only its draws are left?

What was believed after one look is believed before the next: the draws of an earlier posterior
are taken as a Student-t law of log radius, with their mean and covariance, and that law is the
prior of a model without evidence. New evidence adds to it, and the earlier one is counted once.
The law is all but Gaussian until something surprises it: then it doubts itself, everywhere.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from aistat_jax.boundary.model import BoundaryData, BoundaryModel, observe
from aistat_jax.boundary.offsets import OffsetTarget, OffsetVolumeTarget
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.rings import RingTarget
from aistat_jax.boundary.targets import AnyTarget, Target
from aistat_jax.boundary.volume import VolumeTarget
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import linked, unlinked

# Principal components that are kept, by dimension: at least as many as the usual boundary has
# coefficients, and the same number for all: contours of one file share what is compiled.
COMPONENTS = {2: 40, 3: 169}
DEGREES = 20.0  # of freedom


def earlier_program(data: BoundaryData) -> None:
    """The law of a boundary of which draws are known: its components share one inflation."""
    import numpyro
    from numpyro import distributions as dist

    half = 0.5 * DEGREES
    inflation = jnp.asarray(numpyro.sample("inflation", dist.InverseGamma(half, half)))
    scale = jnp.full(jnp.shape(data.basis.functions)[1], jnp.sqrt(inflation))
    coefficients = numpyro.sample("coefficients", dist.Normal(0.0, scale).to_event(1))
    observe(data, jnp.asarray(coefficients))


def model_from_draws(posterior: Posterior) -> BoundaryModel:
    """A posterior's draws as a model, to which later evidence adds; for one read from a file.

    log radius = mean + functions' sqrt(w) c with c standard normal and w ~ InvGamma(10, 10), the
    functions being the principal components of the draws' log radii times their sd. What else is
    in the draws (two readings, a skew tail) is lost, and far outside of them the law is
    extrapolated; where the model that was fitted is at hand, posterior.model is better.

    >>> model = model_from_draws(posterior) + anchors([(3.0, 20.0)])  # doctest: +SKIP
    """
    chart = posterior.chart
    low, high = chart.ends
    drawn = unlinked(chart.link, np.maximum(posterior.draws, low + 1e-9 * (high - low)))
    mean = drawn.mean(axis=0)
    variance, along = np.linalg.eigh(np.cov(drawn.T))
    components = COMPONENTS[chart.dims]
    kept = min(components, len(drawn) - 1, len(variance))
    functions = np.zeros((chart.sites, components))
    functions[:, :kept] = (along * np.sqrt(np.maximum(variance, 0.0)))[:, ::-1][:, :kept]
    functions *= np.sqrt((DEGREES - 2) / DEGREES)  # a t's covariance is larger than its scale
    nothing: Any = np.zeros(components)
    basis = Basis(functions, nothing)
    data = BoundaryData(basis, Prior(), mean, (), nothing, link=chart.link)
    target = _target(posterior, mean)
    return BoundaryModel(target, chart, data, earlier_program, presence=posterior.presence)


def _target(posterior: Posterior, mean: np.ndarray) -> AnyTarget:
    """What was sought, as far as the draws tell. Shapes: mean (site,) of the predictor."""
    chart, name = posterior.chart, posterior.target_id
    if chart.dims == 3:
        outline = chart.surface(np.asarray(linked(chart.link, mean), dtype=float))
        if chart.link == "identity":
            side = float(np.sqrt(outline.areas.mean()))
            return OffsetVolumeTarget(outline, chart.surface(np.zeros(chart.sites)), side, id=name)
        return VolumeTarget(
            chart.centre, float(np.exp(mean.mean())), chart.unit, name, outline=outline
        )
    if chart.link == "identity":
        return OffsetTarget(chart.surface(mean), chart.plane, name)
    if chart.link == "ring":
        ring = chart.surface(np.asarray(linked(chart.link, mean), dtype=float))
        return RingTarget(chart.centre, ring, chart.plane, name)
    return Target(chart.centre, float(np.exp(mean.mean())), chart.plane, name)


def model_of(posterior: Posterior) -> BoundaryModel:
    """The model to which evidence adds: the one that was fitted, else the draws'."""
    return model_from_draws(posterior) if posterior.model is None else posterior.model
