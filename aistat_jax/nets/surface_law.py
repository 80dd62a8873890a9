"""Which law of a surface do the numbers of a surface head stand for?

With y(a) the log radius at which an expert drew the surface in direction a, relative to the
target's rough radius,

    y = mu + sigma g,    g = sum_k sqrt(w_k) s_k c_k phi_k,    c ~ N(0, I),

mu(a) and sigma(a) > 0 per ray; phi the spherical harmonics up to DEGREE, of mean square one, and s
their spectrum: s_0 per target, the others shared, a Matern process on the sphere of mean square one
(space/basis.py) and a little white noise on top, all learned. So an error is correlated along the
surface, and larger where the edge is vague. As on the circle (edge_law.py) size (degree 0), form (1
and 2) and detail have an unknown scale each about any one target, w ~ InvGamma(nu / 2, nu / 2), so
that g is a Student-t process (Shah, Wilson & Ghahramani 2014) in each.

The likelihood is that of the harmonics of (y - mu) / sigma, found by weighted least squares; the
volume that sigma gives to them is counted as exp(K mean log sigma), K of them, exact where sigma is
the same all around. What is finer than the harmonics says nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.space.basis import spectral_variance
from aistat_jax.space.sphere_sites import sphere_analysis, sphere_basis, sphere_sites

FREQUENCY, DEGREE, NU = 4, 7, 1.5
SITES = sphere_sites(FREQUENCY)
RAYS, COUNT = len(SITES.directions), (DEGREE + 1) ** 2
# What has a scale of its own about each target, with its highest degree.
HIGHEST = {"size": 0, "form": 2, "detail": DEGREE}
_BASIS = sphere_basis(FREQUENCY, DEGREE)
FUNCTIONS, ANALYSIS = np.asarray(_BASIS.functions), sphere_analysis(FREQUENCY, DEGREE)
_degrees = np.rint(np.sqrt(np.asarray(_BASIS.eigenvalues) + 0.25) - 0.5).astype(int)
SCALE = np.searchsorted(list(HIGHEST.values()), _degrees)
GROUPS = tuple(zip(HIGHEST, np.bincount(SCALE).tolist(), strict=True))


class SurfaceEdge(NamedTuple):
    """What the head says of targets, in log radius relative to the rough radius.

    Shapes: mean, sd (*batch, ray); size (*batch,), s_0; lengthscale () in radians, white (),
    degrees (scale,) of freedom, the same for all.
    """

    mean: ArrayLike
    sd: ArrayLike
    size: ArrayLike
    lengthscale: ArrayLike
    white: ArrayLike
    degrees: ArrayLike

    def scaled(self, factors: Float[ArrayLike, " two"]) -> SurfaceEdge:
        """The same with errors of size, and of form and detail, that many times as large."""
        size, rest = jnp.asarray(factors)
        ratio = size / rest
        return self._replace(sd=rest * jnp.asarray(self.sd), size=ratio * jnp.asarray(self.size))


def spectrum(edge: SurfaceEdge) -> Float[Array, "*batch harmonic"]:
    """s, the sd of every harmonic of g."""
    matern = spectral_variance(_BASIS.eigenvalues, 1.0, edge.lengthscale, NU, 2)
    fine = jnp.sqrt(matern + jnp.asarray(edge.white))
    size = jnp.asarray(edge.size)[..., None]
    return jnp.where(jnp.asarray(_degrees) == 0, size, fine)


def waves(edge: SurfaceEdge) -> Float[Array, "*batch ray harmonic"]:
    """What sqrt(w) c is multiplied with to give y - mu on the rays."""
    return jnp.asarray(edge.sd)[..., None] * FUNCTIONS * spectrum(edge)[..., None, :]


def errors(edge: SurfaceEdge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch harmonic"]:
    """sqrt(w) c of a surface."""
    g = (jnp.asarray(y) - edge.mean) / edge.sd
    return g @ jnp.asarray(ANALYSIS.T, g.dtype) / spectrum(edge)


def log_density(edge: SurfaceEdge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch"]:
    """log p of the harmonics of y: a t each of size, form and detail."""
    standard = errors(edge, y)
    share = jnp.asarray(SITES.share, standard.dtype)
    total = -jnp.sum(jnp.log(spectrum(edge)), axis=-1) - COUNT * (jnp.log(edge.sd) @ share)
    for g, degrees in enumerate(jnp.asarray(edge.degrees)):
        part = standard[..., g == SCALE]
        count = part.shape[-1]
        total = total + (
            gammaln(0.5 * (degrees + count))
            - gammaln(0.5 * degrees)
            - 0.5 * count * jnp.log(math.pi * degrees)
            - 0.5 * (degrees + count) * jnp.log1p(jnp.sum(jnp.square(part), axis=-1) / degrees)
        )
    return total
