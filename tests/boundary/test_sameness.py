"""Is a function written anew the same one, and never where it may mean something else?"""

from __future__ import annotations

import jax.numpy as jnp

from aistat_jax.boundary.opinions import term
from aistat_jax.boundary.sameness import first_of

SIGMA = 2.0
WRITTEN = "def f(radii, at):\n    return -0.5 * jnp.sum(jnp.square((radii - at) / {scale}))"


def written(scale: str, **names: object):
    """A function as a notebook cell would make it, in a world of its own."""
    world = {"jnp": jnp, **names}
    exec(WRITTEN.format(scale=scale), world)
    return world["f"]


def test_the_same_code_is_the_same_function():
    first = first_of(written("2.0"))
    assert first_of(written("2.0")) is first
    assert first_of(written("3.0")) is not first
    made = [lambda radii: jnp.sum(radii) for _ in range(2)]
    assert made[0] is not made[1]
    assert first_of(made[1]) is first_of(made[0])
    own = [term(written("2.0"), 9.0).pieces[0] for _ in range(2)]
    assert own[0].function is own[1].function  # type: ignore[union-attr]


def test_code_that_reads_something_else_is_not():
    """A global number, a helper, a default, what is closed over: each may differ next time."""
    for scale, names in (("SIGMA", {"SIGMA": 2.0}), ("spread()", {"spread": lambda: 2.0})):
        one, other = (written(scale, **names) for _ in range(2))
        assert first_of(one) is one
        assert first_of(other) is other

    def closing(over: float):
        return lambda radii: over * jnp.sum(radii)

    def default(value: float):
        def f(radii, at=value):
            return at * jnp.sum(radii)

        return f

    def inside(radii):
        return (lambda: SIGMA * jnp.sum(radii))()

    for function in (closing(2.0), default(2.0), inside, jnp.sum, len):
        assert first_of(function) is function
    assert first_of(closing(3.0)) is not first_of(closing(2.0))
    assert first_of(default(3.0)) is not first_of(default(2.0))
