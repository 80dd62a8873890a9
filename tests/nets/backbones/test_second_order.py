"""Does the block solve the equation it states, and is a tolerance out of reach noticed?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.nets.network import build, drawn
from aistat_jax.nets.predict import predict
from aistat_jax.nets.weights import Net
from tests.nets.backbones.test_backbones import QUICK, small
from tests.nets.cases import pet, tiny_plan

diffrax = pytest.importorskip("diffrax", reason="the backbones extra is not installed")

from aistat_jax.nets.backbones.second_order import SecondOrder, Solver  # noqa: E402

LOOSE = Solver("heun", tolerance=1e-3)
TIGHT = Solver("dopri5", tolerance=1e-6, max_steps=4096)


def block(how=TIGHT, features=2):
    graph, state = nnx.split(SecondOrder(features, how))
    return nnx.merge(graph, drawn(state, 5))


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).standard_normal((1, 5, 6, 2)), jnp.float32)


@cache
def run(how):
    of = block(how)
    return jax.jit(of.moved, compiler_options=QUICK)


def at(how, x, end=1.0):
    return [np.asarray(v) for v in run(how)(x, end)]


def test_it_is_diffraxs_solution_of_the_stated_equation(x):
    """(x, v)' = (v, f(x, v, t)) written down again and solved at a tight tolerance."""
    of = block()

    def field(t, y, args):
        return {"x": y["v"], "v": of.force(jnp.concatenate([y["x"], y["v"]], -1), t)}

    @partial(jax.jit, compiler_options=QUICK)
    def solution(x):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 1.0, None,
            {"x": x, "v": of.velocity(x)}, max_steps=4096,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
        ).ys  # fmt: skip

    wanted = {name: np.asarray(value[0]) for name, value in solution(x).items()}
    for how, error in ((TIGHT, 1e-4), (Solver("tsit5", 3), 1e-3), (LOOSE, 1e-2)):
        place, velocity = at(how, x)
        scale = np.abs(wanted["x"]).max()
        np.testing.assert_allclose(place, wanted["x"], atol=error * scale)
        np.testing.assert_allclose(velocity, wanted["v"], atol=10 * error * scale)
    coarse = at(Solver("euler", 1), x)[0]
    assert np.abs(coarse - wanted["x"]).max() > 1e-2


@pytest.mark.parametrize("released", [False, True])
def test_the_place_moves_with_the_velocity_but_as_released(x, released):
    how, step = replace(TIGHT, released=released), 0.02
    before, after = (at(how, x, 0.5 + sign * step)[0] for sign in (-1, 1))
    velocity = at(how, x, 0.5)[1]
    error = np.abs((after - before) / (2 * step) - velocity).max() / np.abs(velocity).max()
    assert error > 0.1 if released else error < 5e-3


def test_it_starts_with_a_learned_velocity(x):
    place, velocity = at(TIGHT, x, 1e-6)
    np.testing.assert_allclose(place, x, atol=1e-4)
    np.testing.assert_allclose(velocity, block().velocity(x), atol=1e-3)


@pytest.mark.parametrize(
    "how",
    [
        Solver("heun", 1),
        Solver("euler", 1, released=True),
        pytest.param(LOOSE, marks=pytest.mark.slow),
    ],
)
def test_a_gradient_reaches_every_weight_of_the_block(x, how):
    """But for the biases that a norm takes away again."""
    graph, state = nnx.split(block(how))

    def size(state):
        return jnp.square(nnx.merge(graph, state)(x)).sum()

    slopes = nnx.to_flat_state(jax.jit(jax.grad(size), compiler_options=QUICK)(state))
    still = [path for path, slope in slopes if not float(jnp.abs(slope.get_value()).max()) > 1e-7]
    assert still == []


def test_a_tolerance_out_of_reach_is_not_a_number(x):
    assert np.isnan(at(Solver("heun", tolerance=1e-6, max_steps=2), x)[0]).all()
    assert np.isfinite(at(LOOSE, x)[0]).all()


def test_a_prediction_out_of_reach_is_refused_in_a_sentence(monkeypatch, rng):
    """As it would be where a network's equation does not get to its end in time."""
    from aistat_jax.nets import predict as rooms

    plan = replace(tiny_plan(), architecture=small("iukan"), patch=(32, 32)).check()
    state = nnx.state(nnx.eval_shape(lambda: build(plan.architecture)))
    weights = {".".join(map(str, p)): np.zeros(v.shape) for p, v in nnx.to_flat_state(state)}
    monkeypatch.setattr(
        rooms, "one_pass", lambda graph, want, state, x, key: jnp.full((*x.shape[:-1], 2), jnp.nan)
    )
    with pytest.raises(InputError, match="does not reach its tolerance; allow more max_steps"):
        predict(Net(plan, (weights,)), pet(rng, (32, 32, 1)), mirror=False)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"solver": "rk9"}, "unknown solver 'rk9'; use one of euler, heun"),
        ({"steps": 0}, "steps and max_steps must be at least 1"),
        ({"solver": "euler", "tolerance": 1e-3}, "euler does not know its error"),
    ],
)
def test_another_solver_is_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        Solver(**changes)


def test_without_diffrax_it_says_what_to_install(monkeypatch, x):
    import sys

    of = block(Solver("heun", 1))
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(InputError, match=r"install aistat_jax\[backbones\]"):
        jax.eval_shape(of, x)
