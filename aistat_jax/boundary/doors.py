"""Is what a term says one number, for any boundary, and can JAX trace it? Checked at the door.

A log-likelihood that is an array would be added to every other one of its numbers, and all the rest
of the evidence counted as often: it is refused by name, and nothing is summed on the quiet. Shapes
are found without computing anything (`jax.eval_shape`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float
from aistat_jax.boundary.families import Called, Contracted, Term, function_name
from aistat_jax.boundary.prior import BoundaryPrior

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def name_of(term: Any) -> str:
    """A term by its own name, such as that of the function it was made of, or by its class."""
    return term.name if isinstance(term, Called) else type(term).__name__


def one_number(value: Any, name: str) -> Float[Array, ""]:
    """The log-likelihood of the term of this name, or InputError where it is no real scalar."""
    wanted = f"the log-likelihood of the term `{name}` must be one number"
    if value is None:
        raise InputError(f"{wanted}, got None; end the function with `return`")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{wanted}, got a {type(value).__name__}") from None
    if array.shape != ():
        raise InputError(f"{wanted}, got an array of shape {array.shape}; sum it")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{wanted} with a fraction, got {array.dtype}; return a float")
    return array


def per_ray(statistics: Any, rays: int, name: str) -> Array:
    """The statistics of the term of this name, or InputError where they are not (ray, stat)."""
    shape = np.shape(statistics)
    if len(shape) != 2 or shape[0] != rays:
        raise InputError(
            f"the statistics of the term `{name}` must have the shape (ray, stat) with {rays} "
            f"rays, got {shape}"
        )
    return jnp.asarray(statistics)


def value_of(term: Term, radii: Float[Array, " ray"]) -> Float[Array, ""]:
    """What one term says of a boundary, summed over the rays. Raises InputError if ill-shaped."""
    # A product with ones sums over rays: XLA would fuse jnp.sum with the look-up, ten times slower.
    name = name_of(term)
    statistics = per_ray(term.statistics(radii), len(radii), name)
    if isinstance(term, Contracted):
        return one_number(term.log_likelihood(term.contract(statistics)), name)
    sums = jnp.einsum("rs,r->s", statistics, jnp.ones_like(radii))
    return one_number(term.log_likelihood(sums), name)


def check_terms(terms: Sequence[Any], rays: int) -> None:
    """Refuse terms that cannot be part of a model with so many rays; nothing is computed.

    Raises InputError for a term that does not follow the protocol, whose statistics are not
    (ray, stat), whose log-likelihood is not one real number, or that JAX cannot trace.
    """
    with jax.enable_x64(True):
        radii = jax.ShapeDtypeStruct((rays,), jnp.float64)
        for term in terms:
            name = name_of(term)
            if not isinstance(term, Term):
                raise InputError(
                    f"the term `{name}` does not follow `families.Term`: it needs "
                    "`differentiable`, `statistics(radii)` and `log_likelihood(sums)`"
                )
            if any(leaf is term for leaf in jax.tree.leaves(term)):
                raise InputError(
                    f"the term `{name}` is not a record of arrays that JAX can walk through; "
                    "decorate its class with `record`"
                )
            traced(value_of, name, term, radii)


def checked_prior(prior: Any) -> BoundaryPrior:
    """The prior, or InputError for what does not follow `prior.BoundaryPrior`."""
    if not isinstance(prior, BoundaryPrior):
        raise InputError(
            f"a {type(prior).__name__} is no prior of a boundary: it needs `reach`, "
            "`on(target, chart, order)`, `scale(basis)`, `bend(field, sd)` and "
            "`straighten(field, sd)`"
        )
    if any(leaf is prior for leaf in jax.tree.leaves(prior)):
        raise InputError(
            f"the prior `{type(prior).__name__}` is not a record of arrays that JAX can walk "
            "through; decorate its class with `record`"
        )
    return prior


def traced(function: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """The shape of `function(*arguments)`, or InputError where JAX cannot trace the term."""
    try:
        return jax.eval_shape(function, *arguments)
    except _UNTRACEABLE as error:
        raise InputError(
            f"the term `{name}` cannot be traced by JAX ({type(error).__name__}); write it in "
            "jax.numpy alone, without numpy, float(), int(), or `if` on the values of radii"
        ) from error


def check_function(function: Any, values: Sequence[Any], radii: Float[np.ndarray, " ray"]) -> None:
    """Refuse a log-likelihood of one's own, `function(radii, *values)`, that no fit could use.

    Beside what `check_terms` refuses: a function that does not take radii and so many values, and
    one that is not a number at the given radii, where a fit starts (minus infinity, which says
    that this boundary cannot be, is one).
    """
    name = function_name(function)
    if not callable(function):
        raise InputError(f"a term is made of a function(radii, *values), got a {name}")
    try:
        inspect.signature(function).bind(radii, *values)
    except TypeError as error:
        raise InputError(
            f"the term `{name}` is called with the radii and {len(values)} value(s), which it does "
            f"not take ({error}); give `term` as many values as the function has further arguments"
        ) from None
    except ValueError:
        pass  # a function that does not tell its arguments
    with jax.enable_x64(True):
        traced(lambda r, v: one_number(function(r, *v), name), name, radii, tuple(values))
        quickly = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
        start = float(quickly(radii, *values))
    if np.isnan(start):
        raise InputError(
            f"the log-likelihood of the term `{name}` is not a number at the circle of radius "
            f"{radii.mean():.4g} that a fit starts from; let it be -jnp.inf where no boundary can "
            "be, and look at logs and roots of negative numbers"
        )
