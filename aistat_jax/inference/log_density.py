"""What do other samplers need of a model? Its log density over one unconstrained vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference import one_core
from aistat_jax.inference.density import LATENT, Density, Program, looked_at
from aistat_jax.inference.transport import find_transport


@record
class LogDensity:
    """The log posterior density of a boundary model, a callable; see `log_density`.

    A vector holds the unconstrained hyperparameters, in the order of `sites`, and last the
    coefficients. The density is of that vector: prior (with the Jacobian of the transforms) times
    likelihood, so that its integral is the evidence. It is computed in double precision whatever
    JAX is set to; inside of the caller's `jit`, `grad` and `vmap` values and gradients are then
    rounded to the caller's type.
    """

    data: Any
    program: Callable[[Any], None] = static()
    sites: tuple[str, ...] = static()
    dim: int = static()
    differentiable: bool = static()

    def __call__(self, vector: Float[ArrayLike, " dim"]) -> Float[ArrayLike, ""]:
        """Log density at one unconstrained vector (dim,); called from NumPy, a NumPy number."""
        if isinstance(vector, Tracer):
            return self._traced(vector)
        with jax.enable_x64(True):
            return np.asarray(_value(self.program, self.data, self._checked(vector, 1)))

    def value_and_grad(
        self, vector: Float[ArrayLike, " dim"]
    ) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, " dim"]]:
        """Log density and its gradient as NumPy arrays, for samplers written outside JAX.

        Raises InputError for a hard step, whose gradient says nothing.
        """
        if not self.differentiable:
            raise InputError(
                "this model has a hard step and so no gradient; use a sampler without gradients, "
                "or the 'blurred' intensity family"
            )
        with jax.enable_x64(True):
            found = _value_and_grad(self.program, self.data, self._checked(vector, 1))
            return np.asarray(found[0]), np.asarray(found[1])

    def constrain(self, vector: Float[ArrayLike, "*batch dim"]) -> dict[str, np.ndarray]:
        """All sites of vectors (*batch, dim), "radii" and other deterministic ones too."""
        with jax.enable_x64(True):
            vectors = self._checked(vector, None)
            batch = vectors.shape[:-1]
            flat = _sites(self.program, self.data, vectors.reshape(-1, self.dim))
            return {n: np.asarray(v).reshape(*batch, *v.shape[1:]) for n, v in flat.items()}

    def unconstrain(self, values: Mapping[str, ArrayLike]) -> Float[np.ndarray, "*batch dim"]:
        """The vectors (*batch, dim) of sampled sites, each (*batch, ...); others are ignored.

        Raises InputError for a site that is missing, of a wrong shape, or outside its support.
        """
        with jax.enable_x64(True):
            shapes, sizes = _shapes(self.program, self.data)
            batch = np.shape(values[LATENT])[:-1] if LATENT in values else ()
            for name in self.sites:
                if name not in values:
                    raise InputError(
                        f"the model samples {', '.join(self.sites)}; site {name!r} is missing"
                    )
                wanted, got = (*batch, *shapes[name]), np.shape(values[name])
                if got != wanted:
                    raise InputError(f"site {name!r} must have shape {wanted}, got {got}")
            flat = {
                name: np.asarray(values[name], dtype=float).reshape(-1, *shapes[name])
                for name in self.sites
            }
            with one_core.TRACING:
                vectors = np.asarray(_vectors(self.program, self.data, flat))
            parts = np.split(vectors, np.cumsum(sizes[:-1]), axis=-1)
            for name, part in zip(self.sites, parts, strict=True):
                if not np.isfinite(part).all():
                    raise InputError(f"site {name!r} has values outside its support")
            return vectors.reshape(*batch, self.dim)

    @cached_property
    def start(self) -> Float[np.ndarray, " dim"]:
        """A good place to start from: the mode, at the posterior mean of the hyperparameters."""
        transport = self._transport
        return np.concatenate([transport.hyper_mean, transport.mode])

    def starts(self, count: int, seed: int = 0) -> Float[np.ndarray, "start dim"]:
        """Places spread as widely as the Laplace approximation: walkers, or starts of chains."""
        with jax.enable_x64(True):
            normal = np.random.default_rng(seed).standard_normal((count, self.dim))
            return np.asarray(_pushed(self.program, self.data, self._transport, normal))

    @cached_property
    def _transport(self) -> Any:
        smooth = self.data if self.differentiable else self.data.smoothed()
        with jax.enable_x64(True):
            found = find_transport(self.program, jax.device_put(smooth))
        return jax.tree.map(np.asarray, found)

    def _traced(self, vector: Array) -> Array:
        """For the caller's `jit`, `grad` and `vmap`: double inside, the caller's type outside."""

        @jax.custom_jvp
        def value(vector: Array) -> Array:
            with jax.enable_x64(True):
                wide = self._checked(vector, 1)
                return _value(self.program, self.data, wide).astype(vector.dtype)

        @value.defjvp
        def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            (vector,), (change,) = primals, tangents
            with jax.enable_x64(True):
                wide = self._checked(vector, 1)
                found, slope = _value_and_grad(self.program, self.data, wide)
                found, slope = found.astype(vector.dtype), slope.astype(vector.dtype)
            return found, jnp.sum(slope * change)

        return value(vector)

    def _checked(self, vector: ArrayLike, axes: int | None) -> Array:
        shape = np.shape(vector)
        if not shape or shape[-1] != self.dim or (axes is not None and len(shape) != axes):
            lead = "" if axes == 1 else "..., "
            raise InputError(
                f"an unconstrained vector of this model has shape ({lead}{self.dim}"
                f"{',' if axes == 1 else ''}), got {shape}"
            )
        return jnp.asarray(vector).astype(jnp.float64)


def log_density(model: BoundaryModel) -> LogDensity:
    """The log posterior density of a model over one unconstrained vector, for any sampler.

    Returns a callable: a vector (dim,) in, a scalar out, to be differentiated, compiled and
    vmapped at will (`jax.grad(density)`), or called from NumPy (density.value_and_grad). It
    knows its number of dimensions (`dim`), the way from vectors to sites and back (`constrain`,
    `unconstrain`), and where to start (`start`, `starts`). What a sampler returns becomes a
    posterior by `as_posterior`.

    `blackjax.nuts(density, ...)` and `blackjax.pathfinder` take it as it is; `emcee` with
    `density.starts(walkers)`; nutpie's `from_pyfunc` wants density.value_and_grad. Give
    samplers in JAX double precision of their own (`with jax.enable_x64(True): ...`), or positions
    and gradients are rounded to single. The density of a hard step is a step function of the
    boundary: right for samplers without gradients, for which `differentiable` is False.

    Raises InputError for a program that is no boundary program.
    """
    data = model.data
    with jax.enable_x64(True):
        density = looked_at(model.program, data)
        sites = (*density.sizes, LATENT)
    return LogDensity(
        data, model.program, sites, density.hypers + density.basis, data.differentiable
    )


# ------------------------------------------------------------------------------- compiled


@partial(jax.jit, static_argnames=("program",))
def _value(program: Program, data: Any, vector: Array) -> Array:
    density = Density(program, data)
    return density.log_joint(vector[: density.hypers], vector[density.hypers :])


@partial(jax.jit, static_argnames=("program",))
def _value_and_grad(program: Program, data: Any, vector: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(_value, argnums=2)(program, data, vector)


@partial(jax.jit, static_argnames=("program",))
def _values(program: Program, data: Any, vectors: Array) -> Array:
    return jax.lax.map(partial(_value, program, data), vectors, batch_size=64)


@partial(jax.jit, static_argnames=("program",))
def _sites(program: Program, data: Any, vectors: Array) -> dict[str, Array]:
    density = Density(program, data)

    def one(vector: Array) -> dict[str, Array]:
        return density.sites(vector[: density.hypers], vector[density.hypers :])

    return jax.lax.map(one, vectors, batch_size=64)


@partial(one_core.quick, level=0, static_argnames="program")
def _vectors(program: Program, data: Any, values: dict[str, Array]) -> Array:
    density = Density(program, data)

    def one(values: dict[str, Array]) -> Array:
        parts = [jnp.ravel(t.inv(values[name])) for name, t in density.transforms.items()]
        return jnp.concatenate([*parts, jnp.ravel(values[LATENT])])

    return jax.vmap(one)(values)


@partial(jax.jit, static_argnames=("program",))
def _pushed(program: Program, data: Any, transport: Any, eps: Array) -> Array:
    density = Density(program, data)

    def one(e: Array) -> Array:
        u, x, _ = transport.push(density, e)
        return jnp.concatenate([u, x])

    return jax.vmap(one)(eps)


def _shapes(program: Program, data: Any) -> tuple[dict[str, tuple[int, ...]], list[int]]:
    """Shapes of the sampled sites as they are, and their sizes in a vector."""
    density = looked_at(program, data)
    shapes = {name: t.forward_shape(density.shapes[name]) for name, t in density.transforms.items()}
    return {**shapes, LATENT: (density.basis,)}, [*density.sizes.values(), density.basis]


def log_densities(
    density: LogDensity, vectors: Float[np.ndarray, "*batch dim"]
) -> Float[np.ndarray, "*batch"]:
    """The log density of many vectors at once."""
    with jax.enable_x64(True):
        flat = jnp.asarray(np.reshape(vectors, (-1, density.dim)))
        return np.asarray(_values(density.program, density.data, flat)).reshape(vectors.shape[:-1])
