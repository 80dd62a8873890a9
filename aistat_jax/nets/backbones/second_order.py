"""What does a second-order neural ODE do to features? It lets them move, with inertia, for a time.

Source: Cheng et al. 2025, MICCAI (arXiv 2503.03141), the SONO block; Norcliffe et al. 2020 (arXiv
2006.07220), equation 4: x'' = f(x, x', t), as the first-order system of (x, v) with x' = v and
v' = f(x, v, t), from x(0), the features, and a learned v(0) = g(x(0)), over t from 0 to 1. The
block gives x(1). f and g are a norm, a convolution of 3 x 3, a softplus, a norm and a convolution
of 1 x 1; f sees the time as one more feature.

The code that the authors released integrates f for the whole state, (x, v)' = f(x, v), so that x'
is not v: option `released`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float
from aistat_jax.nets.blocks import Conv, InstanceNorm

SOLVERS = ("euler", "heun", "midpoint", "bosh3", "tsit5", "dopri5", "dopri8")
ONES = (1, 1)


@dataclass(frozen=True)
class Solver:
    """How the equation is solved, by diffrax: in `steps` equal steps, or, with a tolerance, in as
    many as keep the error of a step below it, relative and absolute, `max_steps` at most.

    The error is that of all examples together, which therefore take the same steps.
    """

    solver: str = "heun"
    steps: int = 2
    tolerance: float = 0.0
    max_steps: int = 64
    released: bool = False

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise InputError(f"unknown solver {self.solver!r}; use one of {', '.join(SOLVERS)}")
        if self.steps < 1 or self.max_steps < 1 or self.tolerance < 0:
            raise InputError(
                f"steps and max_steps must be at least 1 and tolerance at least 0, got "
                f"{self.steps}, {self.max_steps} and {self.tolerance:g}"
            )
        if self.tolerance and self.solver == "euler":
            raise InputError("euler does not know its error; use another solver with a tolerance")


class Twice(nnx.Module):
    """Norm, convolution of 3 x 3, softplus, norm, convolution of 1 x 1; time, if given, is seen."""

    def __init__(self, features: int, out: int, timed: bool) -> None:
        self.before, self.between = InstanceNorm(features), InstanceNorm(out)
        self.first = Conv(features + timed, out, (3, 3), ONES)
        self.second = Conv(out, out, ONES, ONES)

    def __call__(self, x: Array, t: Array | None = None) -> Array:
        y = self.before(x)
        if t is not None:
            time = jnp.broadcast_to(jnp.asarray(t, y.dtype), (*y.shape[:-1], 1))
            y = jnp.concatenate([y, time], axis=-1)
        return self.second(self.between(jax.nn.softplus(self.first(y))))


class SecondOrder(nnx.Module):
    """See the head of this file."""

    def __init__(self, features: int, how: Solver) -> None:
        self.velocity = Twice(features, features, False)
        self.force = Twice(2 * features, 2 * features if how.released else features, True)
        self.how = how

    def __call__(self, x: Float[Array, "batch u v feature"]) -> Float[Array, "batch u v feature"]:
        return self.moved(x)[0]

    def moved(self, x: Array, end: float | Array = 1.0) -> tuple[Array, Array]:
        """Place and velocity at the time `end`; not numbers where the tolerance is not reached."""
        graph, state = nnx.split(self.force)
        features = x.shape[-1]

        def field(t: Any, place: tuple[Array, Array], state: Any) -> tuple[Array, Array]:
            found = nnx.merge(graph, state)(jnp.concatenate(place, axis=-1), t)
            if self.how.released:
                return found[..., :features], found[..., features:]
            return place[1], found

        return solved(field, (x, self.velocity(x)), state, self.how, end)


def solved(
    field: Callable[..., Any],
    start: tuple[Array, Array],
    state: Any,
    how: Solver,
    end: float | Array = 1.0,
) -> tuple[Array, Array]:
    """The solution at the time `end` of y' = field(t, y, state) from `start` at time 0."""
    try:
        import diffrax
    except ModuleNotFoundError as error:
        raise InputError(
            "diffrax is needed to solve this network's equations; install aistat_jax[backbones]"
        ) from error

    rule = {name.lower(): getattr(diffrax, name) for name in dir(diffrax)}[how.solver]()
    term = diffrax.ODETerm(field)
    if how.tolerance:
        found = diffrax.diffeqsolve(
            term, rule, 0.0, end, None, start, args=state, max_steps=how.max_steps, throw=False,
            stepsize_controller=diffrax.PIDController(rtol=how.tolerance, atol=how.tolerance),
        )  # fmt: skip
        well = found.result == diffrax.RESULTS.successful
        return jax.tree.map(lambda y: jnp.where(well, y[0], jnp.nan).astype(y.dtype), found.ys)
    times = [jnp.asarray(end * k / how.steps, jnp.float32) for k in range(how.steps + 1)]
    place, memory = start, rule.init(term, times[0], times[1], start, state)
    for before, after in pairwise(times):
        place, _, _, memory, _ = rule.step(term, before, after, place, state, memory, False)
    return jax.tree.map(lambda y, first: y.astype(first.dtype), place, start)
