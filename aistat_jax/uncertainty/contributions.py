"""What does each source of evidence contribute to a boundary? Posteriors with and without it.

A model multiplies terms, p(theta | y) ~ p(theta) prod_j L_j(gamma), theta being hyperparameters and
coefficients, and gamma the boundary that they make. L_j is what counts: tempered, and with levels
integrated out. Source k is left out by the weight 0 of its term, so that every posterior comes from
one compiled program. Compared are the posteriors of all sources, without k, of k alone, and of
none: the base, which is the prior and the clicks.

*Information.* As p(theta | all) / p(theta | without k) = L_k(gamma) Z_without / Z_all, exactly

    KL(all || without k) = E_all[log L_k(gamma)] - (log Z_all - log Z_without),

a mean over draws and two log evidences: whatever the posteriors' shape, hyperparameters included.
What is learned of theta is learned of gamma, since L_k knows nothing else. It is how surprised one
is who gets k last (Itti & Baldi 2009), and its mean over data is what k is expected to tell
(Lindley 1956). Where a fit has no evidence (chains in place of importance weights) the divergence
is that of two Gaussians with the draws' moments, of the coarse boundary c (below) alone,

    2 KL = tr(V'^-1 V) + (m - m')' V'^-1 (m - m') - dim + log det V' - log det V,

and says so ("coarse Gaussian"): of what is finer it knows nothing.

*Conflict.* c are the coefficients of the linear predictor in the coarsest functions of the chart
(size, place and the first forms). Let m_k, V_k be the moments of c given k alone, m_-, V_- without
k, and S those of the base, P = S^-1. Both posteriors hold the base, once each. In the Gaussian
model whose precisions add, the difference of their means has the law, before any data,

    m_k - m_- ~ N(0, C),  C = V_k + V_- - V_- P V_k - V_k P V_-,

and T = (m_k - m_-)' (V_k + V_-)^-1 (m_k - m_-) is a sum of chi-squares with the eigenvalues of
(V_k + V_-)^-1 C as weights, of which p is the tail (two moments: Satterthwaite 1946). Splitting a
node between its sources is Presanis et al. 2013; here their common prior is not counted twice. Of
a single source p is that of its conflict with the prior.

*Weight.* 1 - s_all^2 / s_without^2 at each site, of the sds of the boundary there: the share of the
precision that k brings, were all Gaussian. Negative where k contradicts the rest, and doubt grows.

What would come of a fit that does not pass its checks is not a number: many a source alone, such as
CT of a lesion that it hardly shows, has no posterior worth the name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, Float
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.families import Tempered
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.conflict import FEWEST, sources_of
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import Method, by_laplace
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import Chart, unlinked
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.probability import ML

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any

# Orders of the functions in which sources are held against each other, by dimension: nine each.
COARSE = {2: 4, 3: 2}
# Directions with less than this share of the largest variance are none of a model's.
SMALLEST = 1e-6
BATCH = 64  # draws whose likelihood is computed at once


class Information(NamedTuple):
    """A Kullback-Leibler divergence in nats, its standard error, and how it was computed.

    `how` is "evidence" (the identity above), "coarse Gaussian", which has no error, or "" where a
    fit does not hold and there is no number.
    """

    nats: float
    error: float
    how: str

    def __str__(self) -> str:
        if np.isnan(self.nats):
            return "an unknown number of nats"
        return f"{self.nats:.1f} nats" + (f" (± {self.error:.1f})" if self.error > 0 else "")


@record
class Contribution:
    """What one source contributes to a boundary.

    `adds` is the divergence of the posterior of all sources from that without this one, `tells`
    that of this source alone from the base. `conflict` is the p value of its agreement with all the
    rest; `temper` the share of its observations that count (None where it has none). `without` and
    `alone` are the posteriors, `band` and `alone_band` theirs. `moved` is by how much the middle of
    the boundary moves when the source comes in, on average along it, in the chart's unit; `grown`
    by how much the mean content does, in that unit to the power of dims. Figures that would come of
    a fit that does not pass its checks (`held`) are not numbers.

    Shapes: weight (site,), the share of the precision that this source brings.
    """

    without: Posterior
    alone: Posterior
    band: Band
    alone_band: Band
    weight: Float[np.ndarray, " site"]
    name: str = static()
    adds: Information = static()
    tells: Information = static()
    conflict: float = static()
    temper: float | None = static()
    moved: float = static()
    grown: float = static()

    @property
    def half_width(self) -> float:
        """The median half-width of the band without this source, in the chart's unit."""
        return _if_held(self.without, float(np.median(self.band.half_width)))

    @property
    def half_width_alone(self) -> float:
        """The median half-width of the band of this source alone, in the chart's unit."""
        return _if_held(self.alone, float(np.median(self.alone_band.half_width)))


@record
class Contributions:
    """What each source of a posterior contributes, in the order of its evidence.

    `band` is that of all sources together. `table` has the figures, `plot_contributions` the
    picture; `contributions["CT"]` is one of them.
    """

    posterior: Posterior
    band: Band
    sources: tuple[Contribution, ...]

    def __getitem__(self, name: str) -> Contribution:
        found = [source for source in self.sources if source.name == name]
        if not found:
            there = ", ".join(source.name for source in self.sources)
            raise InputError(f"there is no source {name!r}; there are {there}")
        return found[0]

    @property
    def half_width(self) -> float:
        """The median half-width of the band of all sources, in the chart's unit."""
        return _if_held(self.posterior, float(np.median(self.band.half_width)))

    def table(self) -> DataFrame:
        """A row a source, as a pandas DataFrame of numbers, lengths in the chart's unit.

        target, source; temper; adds_nats and its error, tells_nats, how both were computed;
        half_width of the band with all, half_width_without and half_width_alone (medians along the
        boundary) and ratio, the first over the second; middle, the way that the mean boundary
        moves; content, by how much that grows (areas in the unit squared, volumes in ml where the
        unit is mm); weight, the mean share of the precision; conflict_p. NaN where the fit without
        the source, or that of it alone, does not pass its checks.
        """
        from pandas import DataFrame as Table

        chart, unit = self.posterior.chart, self.posterior.unit
        volume = chart.dims == 3 and unit == "mm"
        content = "content_ml" if volume else f"content_{unit}{chart.dims}"
        length = chart.weights(self.posterior.estimate)
        rows = []
        for one in self.sources:
            rows.append({
                "target": self.posterior.target_id,
                "source": one.name,
                "temper": np.nan if one.temper is None else one.temper,
                "adds_nats": one.adds.nats,
                "adds_nats_error": one.adds.error,
                "tells_nats": one.tells.nats,
                "nats_by": one.adds.how,
                f"half_width_{unit}": self.half_width,
                f"half_width_without_{unit}": one.half_width,
                f"half_width_alone_{unit}": one.half_width_alone,
                "ratio": self.half_width / one.half_width,
                f"middle_{unit}": one.moved,
                content: one.grown / (ML if volume else 1.0),
                "weight": float(np.average(one.weight, weights=length)),
                "conflict_p": one.conflict,
            })  # fmt: skip
        return Table(rows)

    def __str__(self) -> str:
        return "\n".join(self._said(one) for one in self.sources)

    def _said(self, one: Contribution) -> str:
        unit, dims = self.posterior.unit, self.posterior.chart.dims
        if not held(one.without):
            return f"without {one.name} no fit holds, so what it adds is not known"
        agreement = "not known" if np.isnan(one.conflict) else f"p = {one.conflict:.2g}"
        return (
            f"{one.name} adds {one.adds}: the {100 * self.band.level:g}% band is "
            f"± {self.half_width:.2g} {unit}, without it ± {one.half_width:.2g}; "
            f"it moves the middle by {one.moved:.2g} {unit}, and the content by "
            f"{one.grown:+,.0f} {unit}{'²' if dims == 2 else '³'}; agreement with the rest "
            f"{agreement}"
        )


def contributions(
    posterior: Posterior, *, level: float = 0.95, method: str | Method = "laplace"
) -> Contributions:
    """What each source of evidence contributes to a fitted boundary, such as PET and CT.

    `posterior` is what `fit` returned, or that of a contour of a case: `case["z003"].posterior`.
    Its model is fitted again by a `method` of `fit` (best that of the posterior), without each
    source, with each alone and with none, with as many draws and the same seed; `level` is that of
    the bands. Sources are the model's terms by name: channels, raters, log-odds, terms of one's
    own. Clicks are no source. A program of one's own has to weigh its evidence by `observe`.

    Raises InputError for a posterior that was read from a file and has no model, for one without
    any source, and for what `simultaneous_band` refuses.

    >>> phantom = demo_phantom(1)  # doctest: +SKIP
    >>> case = contour(phantom.image, point_mm=phantom.centre)  # doctest: +SKIP
    >>> contributions(case["z001"].posterior).table()  # doctest: +SKIP
    """
    model = posterior.model
    if model is None:
        raise InputError(
            "a posterior that was read from a file has no model, and so no sources; fit it again"
        )
    sources = sources_of(model)
    if not sources:
        raise InputError("the model has no source of evidence to leave out")
    band, whole = simultaneous_band(posterior, level), {at for _, at in sources}
    fits = _Fits(model, posterior, frozenset(whole), method)
    base, logs = fits.of(frozenset()), _log_likelihoods(posterior)
    found = []
    for name, at in sources:
        rest, alone = fits.of(frozenset(whole - {at})), fits.of(frozenset({at}))
        term = model.data.terms[at]
        found.append(
            Contribution(
                rest, alone, simultaneous_band(rest, level), simultaneous_band(alone, level),
                _both_held(posterior, rest, 1 - posterior.draws.var(0) / rest.draws.var(0)),
                name,
                _information(posterior, rest, logs[:, at], fits.evidence),
                _information(alone, base, _log_likelihoods(alone)[:, at], fits.evidence),
                _if_held(base, _if_held(alone, _if_held(rest, conflict_p(alone, rest, base)))),
                float(term.eta) if isinstance(term, Tempered) else None,
                _both_held(posterior, rest, _moved(rest, posterior)),
                _both_held(posterior, rest, _mean_content(posterior) - _mean_content(rest)),
            )
        )  # fmt: skip
    return Contributions(posterior, band, tuple(found))


def held(posterior: Posterior) -> bool:
    """Whether a fit passes its checks, or at least its weights do, as those of a vague prior may
    whose boundaries reach as far as the chart does."""
    return posterior.diagnostics.converged or posterior.log_evidence is not None


def _if_held(posterior: Posterior, value: Any) -> Any:
    """Figures that come of a fit; not numbers where it does not hold."""
    return value if held(posterior) else value * float("nan")


def _both_held(one: Posterior, other: Posterior, value: Any) -> Any:
    return _if_held(one, _if_held(other, value))


class _Fits:
    """Posteriors of one model with some of its sources, each fitted once."""

    def __init__(
        self,
        model: BoundaryModel,
        posterior: Posterior,
        whole: frozenset[int],
        method: str | Method,
    ) -> None:
        self.model, self.whole, self.method = model, whole, method
        self.draws, self.seed = len(posterior.draws), posterior.seed
        self._known = {whole: posterior}

    def of(self, some: frozenset[int]) -> Posterior:
        if some not in self._known:
            given = self.model.data.weights
            weights = np.ones(len(self.model.data.terms)) if given is None else np.array(given)
            weights[list(self.whole - some)] = 0.0
            part = replace(self.model, data=replace(self.model.data, weights=weights))
            self._known[some] = fit(
                part, self.method, draws=self.draws, seed=self.seed, compare=False
            )
        return self._known[some]

    def evidence(self, posterior: Posterior) -> tuple[float, float] | None:
        """The log evidence of a posterior and its error; by Laplace, where it has none of its own.

        None where Laplace does not fit.
        """
        if posterior.log_evidence is None and posterior.method != "laplace":
            assert posterior.model is not None
            posterior = by_laplace(posterior.model, draws=self.draws, seed=self.seed, look=False)
        if posterior.log_evidence is None:
            return None
        return posterior.log_evidence, posterior.log_evidence_se or 0.0


def _information(
    after: Posterior,
    before: Posterior,
    logs: Float[np.ndarray, " draw"],
    evidence: Callable[[Posterior], tuple[float, float] | None],
) -> Information:
    """KL(after || before), where `logs` are the log-likelihoods, at draws of `after`, of the one
    source that it knows more."""
    if not (held(after) and held(before)):
        return Information(float("nan"), float("nan"), "")
    first, second = evidence(after), evidence(before)
    if first is None or second is None:
        chart = after.chart
        moments = _moments(chart, after.draws), _moments(chart, before.draws)
        return Information(gaussian_divergence(*moments[0], *moments[1]), 0.0, "coarse Gaussian")
    effective = max(min(after.diagnostics.ess_min, len(logs)), 1.0)
    error = np.sqrt(logs.var() / effective + first[1] ** 2 + second[1] ** 2)
    return Information(float(logs.mean() - (first[0] - second[0])), float(error), "evidence")


def _log_likelihoods(posterior: Posterior) -> Float[np.ndarray, "draw term"]:
    """What each term of a posterior's model says of each of its draws."""
    assert posterior.model is not None
    coefficients = posterior.samples["coefficients"]
    with jax.enable_x64(True):
        data = jax.device_put(posterior.model.data)
        flat = jnp.asarray(coefficients.reshape(-1, coefficients.shape[-1]))
        return np.asarray(_each_term(data, flat))


@jax.jit
def _each_term(data: Any, coefficients: Array) -> Array:
    def one(row: Array) -> Array:
        values = data.values(row)
        return jnp.stack([log_likelihood([term], values) for term in data.terms])

    return jax.lax.map(one, coefficients, batch_size=BATCH)


def gaussian_divergence(
    mean: Float[np.ndarray, " dim"],
    covariance: Float[np.ndarray, "dim dim"],
    other_mean: Float[np.ndarray, " dim"],
    other: Float[np.ndarray, "dim dim"],
) -> float:
    """KL(N(mean, covariance) || N(other_mean, other)) in nats."""
    white = _whitening(other)
    gap, inside = white @ (mean - other_mean), white @ covariance @ white.T
    return float(0.5 * (np.trace(inside) + gap @ gap - len(gap) - np.linalg.slogdet(inside)[1]))


def conflict_p(alone: Posterior, rest: Posterior, base: Posterior) -> float:
    """How often a source and all the rest, were both right, would be as far apart as they are.

    `base` is the posterior of what both have in common. What the means are off for want of
    effective draws is added to the law of their difference. Not a number where either has fewer
    than FEWEST of them.
    """
    few = [posterior.diagnostics.ess_min for posterior in (alone, rest)]
    (one, first), (two, second), (_, common) = (
        _moments(alone.chart, posterior.draws) for posterior in (alone, rest, base)
    )
    if not (min(few) >= FEWEST and np.isfinite([first, second, common]).all()):
        return float("nan")
    return split_p(one - two, first, second, common, first / few[0] + second / few[1])


def split_p(
    gap: Float[np.ndarray, " dim"],
    first: Float[np.ndarray, "dim dim"],
    second: Float[np.ndarray, "dim dim"],
    common: Float[np.ndarray, "dim dim"],
    noise: Float[np.ndarray, "dim dim"],
) -> float:
    """The p value of the difference of two Gaussian posterior means that share a prior.

    `first` and `second` are the posteriors' covariances, `common` the prior's; `noise` that of how
    the means were computed.
    """
    from scipy.stats import chi2

    white = _whitening(common)
    gap = white @ gap
    first, second, noise = (white @ part @ white.T for part in (first, second, noise))
    law = first + second - second @ first - first @ second + noise
    root = np.linalg.inv(np.linalg.cholesky(first + second))
    weights = np.clip(np.linalg.eigvalsh(root @ law @ root.T), 0.0, None)
    if not weights.sum() > 0:
        return 1.0
    scale = np.square(weights).sum() / weights.sum()
    return float(chi2.sf(np.square(root @ gap).sum() / scale, weights.sum() / scale))


def _whitening(covariance: Float[np.ndarray, "dim dim"]) -> Float[np.ndarray, "kept dim"]:
    """W with W covariance W' = 1, of the directions that have any variance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > SMALLEST * values.max()
    return (vectors[:, kept] / np.sqrt(values[kept])).T


def _moments(chart: Chart, draws: Float[np.ndarray, "draw site"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the coarse coefficients of boundaries."""
    functions = np.asarray(chart.basis(COARSE[chart.dims]).functions)
    coarse = unlinked(chart.link, draws) @ np.linalg.pinv(functions).T
    return coarse.mean(axis=0), np.cov(coarse.T)


def _moved(before: Posterior, after: Posterior) -> float:
    """How far the mean boundary has moved, on average along it."""
    chart, first, second = after.chart, before.estimate, after.estimate
    gap = chart.gap(second[None], first[None])[0]
    return float(np.average(gap, weights=chart.weights(second)))


def _mean_content(posterior: Posterior) -> float:
    return float(posterior.chart.content(posterior.draws).mean())
