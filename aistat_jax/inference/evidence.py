"""How likely are the data under a whole model? The log of a mean of weights, and its error."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aistat_jax._typing import Array, Float


def log_mean(log_values: Float[Array, " value"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """log of the mean of exp(log_values), and the standard error of that log.

    The error is that of a mean of independent values, over the mean (delta method). What is not
    finite counts as nothing: exp(-inf).
    """
    values = jnp.where(jnp.isfinite(log_values), log_values, -jnp.inf)
    count = len(values)
    total = jax.scipy.special.logsumexp(values)
    relative = jnp.exp(values - (total - jnp.log(count)))  # of mean one
    error = jnp.sqrt(jnp.sum(jnp.square(relative - 1)) / (count * (count - 1)))
    return total - jnp.log(count), error
