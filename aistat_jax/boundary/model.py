"""What is the posterior? One NumPyro program, whose meaning every inference method shares.

To change the model, write another program with the same signature and pass it on:

    def my_program(data):
        scale = prior_scale(data)
        stretch = numpyro.sample("stretch", dist.Normal(0.2, 0.1))  # of cos 2a: an oval
        mean = jnp.zeros_like(scale).at[3].set(stretch)
        coefficients = numpyro.sample("coefficients", dist.Normal(mean, scale).to_event(1))
        observe(data, coefficients)

    model = boundary_model(target, evidence, program=my_program)

All methods then work on it, provided it samples "coefficients" from a normal distribution given
the other sites and declares "radii" (ray,), as `observe` does. A program written out in full may
do without the two helpers; its radii are data.values(coefficients), which a learned prior bends.
Observed sites of its own count as evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.doors import check_terms, checked_prior
from aistat_jax.boundary.evidence import NOTHING, Evidence, log_likelihood
from aistat_jax.boundary.families import Stepped, Term, Thick
from aistat_jax.boundary.prior import BoundaryPrior, Prior
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import LINKS, Chart, linked, unlinked

# Fits start from boundaries no closer to nothing than this share of a target's size.
SMALLEST_START = 0.2


@record
class BoundaryData:
    """Everything the NumPyro program reads: basis, prior, prior mean and tabulated terms.

    `start` (basis,) is where fits begin their search; it does not enter the posterior. `weights`
    (term,) are how often each term counts: once, but where sources are looked at one by one.
    `link` is the chart's: it makes values, which are radii where it is "log", of what is Gaussian.
    """

    basis: Basis
    prior: BoundaryPrior
    mean: Float[ArrayLike, " ray"]
    terms: tuple[Term, ...]
    start: Float[ArrayLike, " basis"] | None = None
    weights: Float[ArrayLike, " term"] | None = None
    link: str = static(default="log")

    @property
    def differentiable(self) -> bool:
        return all(term.differentiable for term in self.terms)

    def values(self, coefficients: Float[ArrayLike, " basis"]) -> Float[Array, " ray"]:
        """The boundary of these coefficients: the linear predictor through the link."""
        return linked(self.link, self.predictor(coefficients))

    def predictor(self, coefficients: Float[ArrayLike, " basis"]) -> Float[Array, " ray"]:
        """The prior mean plus the basis times the coefficients, bent as the prior says."""
        field = self.basis.functions @ coefficients
        return jnp.asarray(self.mean) + self.prior.bend(field, self._sd)

    def coefficients(self, values: Float[np.ndarray, " ray"]) -> Float[np.ndarray, " basis"]:
        """Those whose boundary comes near to one: `values` undone, by least squares."""
        field = self.prior.straighten(unlinked(self.link, values) - self.mean, self._sd)
        return np.linalg.lstsq(np.asarray(self.basis.functions), np.asarray(field))[0]

    @property
    def _sd(self) -> Float[Array, " ray"]:
        """Of the field with standard normal coefficients; 1 where it is certain."""
        squares = jnp.sum(jnp.square(jnp.asarray(self.basis.functions)), axis=-1)
        return jnp.sqrt(jnp.where(squares > 0, squares, 1.0))

    def smoothed(self) -> BoundaryData:
        """The same data with hard steps replaced by their differentiable stand-ins."""
        terms = tuple(t.smoothed() if isinstance(t, Stepped) else t for t in self.terms)
        return replace(self, terms=terms)


@record
class BoundaryModel:
    """A posterior to be computed: chart, data and the NumPyro program that defines it.

    `evidence` is what the terms of `data` were made of, for those who want to see its voxels
    again. `near` (dim,) is where an earlier look found the posterior, as `log_density` counts its
    coordinates: fits start there.
    """

    target: AnyTarget
    chart: Any  # a Chart; what shows slices asks a star for its plane
    data: BoundaryData
    program: Callable[[Any], None] = static()
    seconds: float = 0.0
    presence: float = 1.0
    evidence: Evidence = NOTHING
    near: Float[np.ndarray, " dim"] | None = None

    @property
    def square_error(self) -> float:
        """Sd of the squared radius that its images show, for what is unknown of the taper.

        Images through a point spread of sd b across the slices add bend b^2 / 2 to it, and the
        bend of a target that few slices show is uncertain.
        """
        heights = [term.height for term in self.data.terms if isinstance(term, Thick)]
        taper = self.target.taper
        return 0.0 if taper is None else 0.5 * taper.bend_sd * max(heights, default=0.0)

    @property
    def has_seen_nothing(self) -> bool:
        """Whether it is known that the posterior is the prior, which can be drawn from as it is."""
        return not self.data.terms and self.program is boundary_program

    def __call__(self) -> None:
        """The NumPyro model itself, ready for any NumPyro kernel."""
        self.program(self.data)

    def __add__(self, evidence: Evidence) -> BoundaryModel:
        """The same boundary with more evidence, read along the same rays.

        `fit(posterior.model + anchors(points))` is how an expert's clicks change a posterior.
        """
        if not isinstance(evidence, Evidence):
            return NotImplemented
        start = time.perf_counter()
        more = evidence.tabulate(self.target, self.chart)
        check_terms(more, self.chart.sites)
        terms = self.data.terms + more
        seconds = self.seconds + time.perf_counter() - start
        data = replace(self.data, terms=terms, weights=np.ones(len(terms)))
        whole = self.evidence + evidence
        return replace(self, data=data, seconds=seconds, evidence=whole)


def boundary_program(data: BoundaryData) -> None:
    """The boundary model: a Gaussian process on the chart's sites, linked, and the evidence."""
    import numpyro
    from numpyro import distributions as dist

    scale = prior_scale(data)
    coefficients = numpyro.sample("coefficients", dist.Normal(0.0, scale).to_event(1))
    observe(data, jnp.asarray(coefficients))


def prior_scale(data: BoundaryData) -> Float[Array, " basis"]:
    """Prior sd of every coefficient, as the prior says; it samples what it does not know.

    Of a `Prior`: sites "amplitude" and "lengthscale", and the order of the coefficients is the mean
    log radius, then cosine and sine of harmonics 1, 2, ..., each times a function of mean square
    one (sqrt(2) cos a, ...). To be called in a program.
    """
    return data.prior.scale(data.basis)


def observe(data: BoundaryData, coefficients: Float[Array, " basis"]) -> Float[Array, " ray"]:
    """Declare the boundary of these coefficients as "radii" and weigh it by all the evidence.

    Returns the radii (ray,), which are `data.values(coefficients)`. To be called in a program.
    """
    import numpyro

    radii = jnp.asarray(numpyro.deterministic("radii", data.values(coefficients)))
    numpyro.factor("evidence", log_likelihood(data.terms, radii, data.weights))
    return radii


def boundary_model(
    target: AnyTarget,
    evidence: Evidence = NOTHING,
    *,
    prior: BoundaryPrior | None = None,
    rays: int | None = None,
    harmonics: int | None = None,
    radius_max: float | None = None,
    chart: Chart | None = None,
    presence: float = 1.0,
    program: Callable[[Any], None] = boundary_program,
) -> BoundaryModel:
    """Read the evidence along the rays of a target's chart and state the posterior.

    `rays` and `harmonics` are by default 128 and 16 in a plane; in space about 642, and spherical
    harmonics up to degree 12.

    `radius_max` (default the prior's reach times the target's rough radius)
    bounds the region whose voxels count as evidence; a boundary that reaches it fails its
    diagnostics. Of a target whose boundary is an offset it is how far to either side of the
    reference. `chart`, where one is given, is read in place of the target's own. `presence` is the
    probability that there is anything to contour
    (`networks.presence`): it goes with the posterior, whose boundaries are given that. A learned
    prior has harmonics of its own; any record with the methods of a `prior.BoundaryPrior` will do.
    Without evidence the posterior is the prior, from which
    `prior_draws` draws.

    Raises InputError for a target whose radius is not positive or whose centre is not finite,
    for a presence outside (0, 1], for a prior that is none, and for a term whose log-likelihood is
    not one number.
    """
    if not target.radius > 0:
        raise InputError(f"target {target.id}: the rough radius must be positive")
    if not np.isfinite(target.centre).all():
        raise InputError(f"target {target.id}: the centre must be finite, got {target.centre}")
    if not 0 < presence <= 1:
        raise InputError(f"target {target.id}: presence must be in (0, 1], got {presence}")
    start = time.perf_counter()
    prior = checked_prior(Prior() if prior is None else prior)
    if chart is None:
        if radius_max is None:
            radius_max = float(LINKS[target.link].times(target.radius, prior.reach))
        chart = target.chart(radius_max, rays)
    link = LINKS[chart.link]
    prior, mean, basis = prior.on(target, chart, harmonics)
    begin = np.zeros(basis.functions.shape[1])
    terms = evidence.tabulate(target, chart)
    check_terms(terms, chart.sites)
    data = BoundaryData(basis, prior, mean, terms, begin, np.ones(len(terms)), chart.link)
    outline: Any = target.outline
    if outline is not None:
        rough = target.radius if link.layers == 1 else target.size[0]
        least = np.repeat(link.times(rough, SMALLEST_START), chart.sites // link.layers)
        radii = np.maximum(chart.values_of(outline), least)
        data = replace(data, start=data.coefficients(radii))
    seconds = time.perf_counter() - start
    return BoundaryModel(target, chart, data, program, seconds, presence, evidence)
