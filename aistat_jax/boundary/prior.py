"""What is believed about a boundary before the image is seen?

log radius(a) = shape(a) + sum_k c_k phi_k(a), with c_0 ~ N(log radius, mean_sd^2) and the other
coefficients a stationary Gaussian process on the circle (basis.py) whose amplitude and angular
lengthscale have log-normal hyperpriors, or are held fixed (`Prior`). Or: what something has learned
that has seen the image (`LearnedPrior`). Or any record of one's own that is a `BoundaryPrior`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.basis import (
    Basis,
    circle_basis,
    equal_angles,
    host_variance,
    spectral_variance,
)
from aistat_jax.space.chart import LINKS, Chart, unlinked
from aistat_jax.space.margin import Margin

# Weak hyperpriors: the spread of log radius and its angular lengthscale over sarcomas, lung
# nodules and organs (medians .15-.19 and about .45 rad), with generous log-sds.
AMPLITUDE, AMPLITUDE_LOG_SD = 0.15, 0.6
LENGTHSCALE, LENGTHSCALE_LOG_SD = 0.45, 0.4
# A target's rough radius is thought right to within about a third.
MEAN_LOG_SD = 0.3
# A mean that follows a reference keeps to this share of a chart's reach, and has at least this
# share of it to move in.
EXPECTED, TIGHTEST = 0.8, 1e-3
# A boundary at its end is told as one at this share of the room.
FULLEST = 0.999
# How many rough radii away evidence is read.
REACH = 2.2


@runtime_checkable
class BoundaryPrior(Protocol):
    """What is believed of a boundary before its evidence is seen; a record, with numbers as leaves.

    The predictor of a boundary is mean + bend(functions @ coefficients), with independent normal
    coefficients of the sds that `scale` says. `reach` is how many rough radii away evidence is
    read.
    """

    @property
    def reach(self) -> float: ...

    def on(
        self, target: AnyTarget, chart: Chart, order: int | None
    ) -> tuple[BoundaryPrior, Float[np.ndarray, " site"], Basis]:
        """This prior of one target, its mean on the chart's sites, and the basis that coefficients
        are of; `order` is what was asked for, None to choose."""
        ...

    def scale(self, basis: Basis) -> Float[Array, " basis"]:
        """Prior sd of every coefficient, called in the program: what it does not know it samples by
        `numpyro.sample`, under names of its own."""
        ...

    def bend(
        self, field: Float[ArrayLike, " site"], sd: Float[Array, " site"]
    ) -> Float[Array, " site"]:
        """The field itself, or bent, an increasing function of it; `sd` is its own where every
        coefficient has an sd of 1."""
        ...

    def straighten(
        self, field: Float[ArrayLike, " site"], sd: Float[Array, " site"]
    ) -> Float[Array, " site"]:
        """`bend` undone."""
        ...


@runtime_checkable
class Shareable(Protocol):
    """A prior whose hyperparameters several targets can have in common."""

    def shared(self) -> BoundaryPrior:
        """It without what is its own target's affair."""
        ...


@record
class Prior:
    """Gaussian-process prior of log radius on the circle, or of offsets relative to a size.

    `amplitude` is the median pointwise sd of log radius (about 15% of the radius),
    `lengthscale` the median angular lengthscale in radians; each has a log-normal hyperprior
    with the given log-sd, unless named in `fixed`. `mean_log_sd` is the sd of the mean log
    radius about the target's rough radius. `shape` (ray,) is added to the log radius (zeros, or
    a population mean). `smoothness` is the Matern nu; infinity is the squared exponential. Of a
    chart whose sites have ends of their own, `room` (end, site) is how far each may move down and
    up: a field f becomes room tanh(f / room), which is f where there is room.
    """

    amplitude: float = AMPLITUDE
    amplitude_log_sd: float = AMPLITUDE_LOG_SD
    lengthscale: float = LENGTHSCALE
    lengthscale_log_sd: float = LENGTHSCALE_LOG_SD
    mean_log_sd: float = MEAN_LOG_SD
    shape: Float[np.ndarray, " ray"] | None = None
    smoothness: float = 1.5
    fixed: tuple[str, ...] = static(default=())
    room: Float[ArrayLike, "end site"] | None = None

    def check(self) -> Prior:
        """This prior with floats for numbers, or InputError when a scale is not a positive one."""
        names = ("amplitude", "amplitude_log_sd", "lengthscale", "lengthscale_log_sd")
        scales = {name: getattr(self, name) for name in (*names, "mean_log_sd", "smoothness")}
        for name, scale in scales.items():
            if not scale > 0:
                raise InputError(f"prior {name} must be positive, got {scale}")
        if unknown := set(self.fixed) - {"amplitude", "lengthscale"}:
            raise InputError(f"only amplitude and lengthscale can be fixed, not {sorted(unknown)}")
        return replace(self, **{name: float(scale) for name, scale in scales.items()})

    @property
    def reach(self) -> float:
        return REACH

    def on(
        self, target: AnyTarget, chart: Chart, order: int | None
    ) -> tuple[Prior, Float[np.ndarray, " site"], Basis]:
        """This prior in units of the chart's predictor, about the target's rough size."""
        size, unsure = target.size
        link, basis = LINKS[chart.link], chart.basis(order or target.harmonics)
        prior = self.check().on_size(unsure, link.share(size))
        level = np.repeat(unlinked(chart.link, link.times(size, 1.0)), chart.sites // link.layers)
        expected = target.expected(chart, basis)
        if expected is not None:
            low, high = (EXPECTED * end for end in chart.ends)
            level = unlinked(chart.link, np.clip(expected, low, high))
        level = level + prior.shape_on(chart.sites)
        low, high = chart.ends
        if chart.link == "identity" and (np.ptp(low) > 0 or np.ptp(high) > 0):
            least = TIGHTEST * (high - low)
            prior = replace(prior, room=np.maximum([level - low, high - level], least))
        return prior, level, basis

    def scale(self, basis: Basis) -> Float[Array, " basis"]:
        """Of the mean, then a Matern spectrum; samples "amplitude" and "lengthscale"."""
        import numpyro
        from numpyro import distributions as dist

        def hyper(name: str, median: Array | float, log_sd: Array | float) -> Array:
            if name in self.fixed:
                return jnp.asarray(numpyro.deterministic(name, jnp.asarray(median)))
            return jnp.asarray(numpyro.sample(name, dist.LogNormal(jnp.log(median), log_sd)))

        amplitude = hyper("amplitude", self.amplitude, self.amplitude_log_sd)
        lengthscale = hyper("lengthscale", self.lengthscale, self.lengthscale_log_sd)
        variance = spectral_variance(
            basis.eigenvalues, amplitude, lengthscale, self.smoothness, basis.dims, basis.blocks
        )
        return jnp.sqrt(variance.at[: basis.blocks].set(jnp.square(self.mean_log_sd)))

    def bend(
        self, field: Float[ArrayLike, " site"], sd: Float[Array, " site"]
    ) -> Float[Array, " site"]:
        field = jnp.asarray(field)
        if self.room is None:
            return field
        room = self._room(field)
        return room * jnp.tanh(field / room)

    def straighten(
        self, field: Float[ArrayLike, " site"], sd: Float[Array, " site"]
    ) -> Float[Array, " site"]:
        field = jnp.asarray(field)
        if self.room is None:
            return field
        room = self._room(field)
        return room * jnp.arctanh(jnp.clip(field / room, -FULLEST, FULLEST))

    def _room(self, field: Float[Array, " site"]) -> Float[Array, " site"]:
        """To the side that each site moves to."""
        down, up = jnp.asarray(self.room)
        return jnp.where(field < 0, down, up)

    def on_size(self, unsure: float, share: float) -> Prior:
        """This prior of a target whose log size is `unsure`, in units of a chart's predictor.

        A relative change is worth `share` of those (`chart.Link`): nothing changes where they are
        logarithms.
        """
        return replace(
            self,
            amplitude=self.amplitude * share,
            mean_log_sd=float(np.hypot(self.mean_log_sd, unsure)) * share,
            shape=None if self.shape is None else self.shape * share,
        )

    def shared(self) -> Prior:
        """How surely each size is known beforehand, and the room, are its own target's affair."""
        return replace(self, mean_log_sd=1.0, room=None)

    def shape_on(self, sites: int) -> Float[np.ndarray, " site"]:
        """What the prior mean differs by from place to place, or InputError for other sites."""
        shape = np.zeros(sites) if self.shape is None else np.asarray(self.shape, dtype=float)
        if shape.shape != (sites,):
            raise InputError(f"the prior's shape has {len(shape)} rays but the chart has {sites}")
        return shape


@record
class LearnedPrior:
    """A law of log radius, which something has learned (a network's contour or surface head).

    log radius = log rough radius + phi' mean + sigma h(phi' factor (sqrt(w) * c) / sigma) with phi
    the functions of the circle, or the harmonics of the sphere, and c standard normal, a Student-t
    process in each group of coefficients: w_g ~ InvGamma(degrees_g / 2, degrees_g / 2) is how much
    larger the errors about this one target are than most (Shah, Wilson & Ghahramani 2014). h bends
    the errors on each ray into the `margin` they have, in units of sigma = |phi' factor|. `groups`
    are the names and numbers of coefficients in each, coarse to fine; the site of w_g in a
    posterior is its name and "_inflation". `reach`: how many rough radii away was looked at.

    Shapes: mean (basis,), factor (basis, basis), degrees (group,).
    """

    mean: Float[ArrayLike, " basis"]
    factor: Float[ArrayLike, "basis basis"]
    degrees: Float[ArrayLike, " group"]
    groups: tuple[tuple[str, int], ...] = static()
    reach: float = static()
    margin: Margin = Margin()

    def on(
        self, target: AnyTarget, chart: Chart, order: int | None
    ) -> tuple[LearnedPrior, Float[np.ndarray, " site"], Basis]:
        """Itself, about the rough radius, and what c are coefficients of, whatever the order.

        The columns of that basis are mixtures of eigenfunctions: its eigenvalues are 0.
        """
        if chart.link != "log":
            raise InputError("a learned prior is one of log radius; pass a Prior for this target")
        count = len(np.asarray(self.mean))
        own = chart.basis(count // 2 if chart.dims == 2 else math.isqrt(count) - 1)
        functions = np.asarray(own.functions)
        if functions.shape[1] != count:
            raise InputError(
                f"the learned prior is one of {count} functions, which are not those of this "
                f"target's boundary, in {chart.dims} dimensions; pass one of its own"
            )
        nothing = np.zeros(count)
        mixed = replace(own, functions=functions @ self.factor, eigenvalues=nothing)
        return self, unlinked(chart.link, target.radius) + functions @ self.mean, mixed

    def scale(self, basis: Basis) -> Float[Array, " basis"]:
        """One sd in each group; samples "size_inflation" and so on."""
        import numpyro
        from numpyro import distributions as dist

        parts = []
        for (name, count), half in zip(self.groups, 0.5 * jnp.asarray(self.degrees), strict=True):
            inflation = numpyro.sample(f"{name}_inflation", dist.InverseGamma(half, half))
            parts.append(jnp.full(count, jnp.sqrt(jnp.asarray(inflation))))
        return jnp.concatenate(parts)

    def bend(
        self, field: Float[ArrayLike, " site"], sd: Float[Array, " site"]
    ) -> Float[Array, " site"]:
        return sd * self.margin.bend(field / sd)

    def straighten(
        self, field: Float[ArrayLike, " site"], sd: Float[Array, " site"]
    ) -> Float[Array, " site"]:
        """Errors are cut off at 6 standard ones: a margin may say that none is as large."""
        standard, _ = self.margin.straighten(field / sd)
        return sd * jnp.clip(standard, -6, 6)


def fixed_prior(
    radii: Float[np.ndarray, " ray"], amplitude: float = AMPLITUDE, lengthscale: float = LENGTHSCALE
) -> Prior:
    """A prior centred on a given boundary, with its hyperparameters held fixed.

    radii (ray,) on the chart's rays give the shape; the size comes from the target's rough
    radius. amplitude is the sd of log radius about it. Raises InputError for a radius that is
    not positive.
    """
    radii = np.asarray(radii, dtype=float)
    if not ((radii > 0) & np.isfinite(radii)).all():
        raise InputError("a prior boundary needs a positive, finite radius on every ray")
    log_radius = np.log(radii)
    return Prior(
        amplitude=amplitude,
        lengthscale=lengthscale,
        mean_log_sd=amplitude,
        shape=log_radius - log_radius.mean(),
        fixed=("amplitude", "lengthscale"),
    ).check()


def prior_from_contours(
    radii: Sequence[Float[np.ndarray, " ray"]] | Float[np.ndarray, "contour ray"],
    *,
    smoothness: float = 1.5,
    harmonics: int = 16,
    with_shape: bool = False,
) -> Prior:
    """Empirical-Bayes prior from a population of contours on a common set of rays.

    Each contour's Fourier coefficients of log radius are scored under the spectrum on a grid of
    (log amplitude, log lengthscale); the log-normal hyperpriors are fitted by maximum marginal
    likelihood of the population (EM on that grid). The spread of the mean log radius comes from
    the population; with `with_shape` its mean shape is kept too (contours must then share an
    orientation).

    Shapes: radii (contour, ray), equally spaced rays. Raises InputError for fewer than 5
    contours or a radius that is not positive.
    """
    if not smoothness > 0:
        raise InputError(f"prior smoothness must be positive, got {smoothness}")
    if len(lengths := {np.shape(contour) for contour in radii}) > 1:
        raise InputError(f"contours must share one set of rays, got shapes {sorted(lengths)}")
    table = np.asarray(radii, dtype=float)
    if table.ndim != 2 or len(table) < 5:
        raise InputError(f"an empirical prior needs at least 5 contours, got {len(table)}")
    if not ((table > 0) & np.isfinite(table)).all():
        raise InputError("every contour needs a positive, finite radius on every ray")
    rays = table.shape[1]
    log_radius = np.log(table)
    mean = log_radius.mean(axis=1)
    shape = log_radius.mean(axis=0) - mean.mean() if with_shape else np.zeros(rays)
    basis = circle_basis(equal_angles(rays), harmonics)
    coefficients = (log_radius - shape) @ np.asarray(basis.functions)[:, 1:] / rays

    log_amplitude = np.linspace(np.log(0.01), np.log(1.0), 61)
    log_lengthscale = np.linspace(np.log(0.05), np.log(3.0), 41)
    unit = np.stack(
        [host_variance(basis.eigenvalues, 1.0, np.exp(v), smoothness)[1:] for v in log_lengthscale]
    )
    variance = np.exp(2 * log_amplitude)[:, None, None] * unit[None]
    energy = np.einsum("cb,alb->cal", coefficients**2, 1 / variance, optimize=True)
    log_evidence = -0.5 * (energy + np.log(variance).sum(axis=-1)[None])
    hyper = _fit_log_normals(log_evidence, log_amplitude, log_lengthscale)
    return Prior(
        *hyper, float(max(mean.std(ddof=1), 0.05)), shape if with_shape else None, smoothness
    ).check()


def _fit_log_normals(
    log_evidence: np.ndarray, log_amplitude: np.ndarray, log_lengthscale: np.ndarray
) -> tuple[float, float, float, float]:
    """EM for independent log-normal hyperpriors on a grid; floors keep the log-sds above 0.05."""
    location = np.array([np.log(AMPLITUDE), np.log(LENGTHSCALE)])
    spread = np.array([AMPLITUDE_LOG_SD, LENGTHSCALE_LOG_SD])
    axes = (log_amplitude[:, None], log_lengthscale[None, :])
    for _ in range(200):
        log_prior = sum(
            -0.5 * ((axis - m) / s) ** 2 for axis, m, s in zip(axes, location, spread, strict=True)
        )
        weight = log_evidence + log_prior
        weight = np.exp(weight - weight.max(axis=(1, 2), keepdims=True))
        weight /= weight.sum(axis=(1, 2), keepdims=True)
        moments = [(weight * a).sum(axis=(1, 2)).mean() for a in axes]
        spreads = [
            np.sqrt((weight * (a - m) ** 2).sum(axis=(1, 2)).mean())
            for a, m in zip(axes, moments, strict=True)
        ]
        before = np.append(location, spread)
        location, spread = np.array(moments), np.maximum(spreads, 0.05)
        if np.abs(np.append(location, spread) - before).max() < 1e-4:
            break
    return (
        float(np.exp(location[0])),
        float(spread[0]),
        float(np.exp(location[1])),
        float(spread[1]),
    )
