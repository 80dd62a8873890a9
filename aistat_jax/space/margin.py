"""How far out does a boundary lie on any one ray? A standard field, bent into another margin.

An error of a boundary in units of its sd, v, may be normal or a t by its model and neither by what
is measured. The sinh-arcsinh transformation

    u = location + scale sinh((arcsinh(v) + skew) / tail)

makes v into a u which leans (skew), has heavier tails (tail < 1) or lighter ones (tail > 1). It is
smooth and increasing with an inverse in closed form: bent, a smooth boundary stays smooth, the
order of errors on a ray what it was, and every density is one in closed form still.

Source: Jones & Pewsey 2009, Sinh-arcsinh distributions, Biometrika 96(4), eq. 1-2.
"""

from __future__ import annotations

import jax.numpy as jnp

from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Float


@record
class Margin:
    """A sinh-arcsinh transformation; as it comes, none. Shapes: all (); scale and tail > 0."""

    location: ArrayLike | float = 0.0
    scale: ArrayLike | float = 1.0
    skew: ArrayLike | float = 0.0
    tail: ArrayLike | float = 1.0

    def bend(self, v: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """u, in units of the sd, of a standard error v."""
        hyperbolic = (jnp.arcsinh(jnp.asarray(v)) + self.skew) / self.tail
        return jnp.asarray(self.location) + self.scale * jnp.sinh(hyperbolic)

    def straighten(
        self, u: Float[ArrayLike, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """The standard error v of a bent one, and log dv/du there."""
        x = (jnp.asarray(u) - self.location) / self.scale
        hyperbolic = self.tail * jnp.arcsinh(x) - self.skew
        log_slope = (
            jnp.log(jnp.asarray(self.tail) / self.scale)
            + jnp.logaddexp(hyperbolic, -hyperbolic)
            - jnp.log(2.0)
            - 0.5 * jnp.log1p(jnp.square(x))
        )
        return jnp.sinh(hyperbolic), log_slope
