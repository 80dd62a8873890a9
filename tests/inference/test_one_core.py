"""Does a fit keep to one core, and give the others back?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from threadpoolctl import threadpool_info

from aistat_jax._threads import one_blas_thread
from aistat_jax.inference import laplace, one_core
from aistat_jax.inference.diagnostics import weight_diagnostics
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Diagnostics
from tests.inference.test_batch import a_model


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture
def before() -> list[int]:
    with one_blas_thread():
        pass  # loads the libraries
    found = blas_threads()
    if not found or max(found) == 1:
        pytest.skip("this machine's BLAS has one thread anyway")
    return found


def test_blas_has_one_thread_inside_and_all_of_them_after(before):
    with one_blas_thread():
        assert set(blas_threads()) == {1}
        with one_blas_thread():
            pass
        assert set(blas_threads()) == {1}  # leaving the inner one lifts nothing
    assert blas_threads() == before


def test_the_limit_is_lifted_after_an_error(before):
    with pytest.raises(ValueError, match="a fit failed"), one_blas_thread():
        raise ValueError("a fit failed")
    assert blas_threads() == before


def test_fits_in_other_threads_do_not_lift_it(before):
    def visit(_: int) -> list[int]:
        with one_blas_thread():
            pass
        return blas_threads()

    with one_blas_thread(), ThreadPoolExecutor(2) as pool:
        assert {n for seen in pool.map(visit, range(8)) for n in seen} == {1}
    assert blas_threads() == before


def test_a_fit_has_one_blas_thread_and_gives_the_others_back(before, monkeypatch):
    seen: list[int] = []

    def spied(*arguments: Any) -> Diagnostics:
        seen.extend(blas_threads())
        return weight_diagnostics(*arguments)

    monkeypatch.setattr("aistat_jax.inference.methods.weight_diagnostics", spied)
    fit(a_model(0), draws=200, fallback=False)
    assert set(seen) == {1}
    assert blas_threads() == before


def test_programs_are_compiled_for_one_thread():
    @one_core.jit
    def double(x):
        return 2 * x

    assert float(double(jnp.asarray(1.5))) == 3.0
    with pytest.raises(Exception, match="no_such_option"):  # unknown options do not pass unseen
        jax.jit(lambda x: 2 * x, compiler_options={"no_such_option": False})(jnp.asarray(1.5))


def test_programs_are_traced_by_one_thread_at_a_time(monkeypatch):
    """NumPyro has one stack of handlers for all threads: two traces at once would mix."""
    at_work: list[str] = []

    def traced(*_: Any) -> list[Any]:
        assert not at_work
        at_work.append("tracing")
        time.sleep(0.05)
        at_work.remove("tracing")
        return []

    monkeypatch.setattr(laplace, "_lowered", traced)
    key = jax.random.key(0)
    with ThreadPoolExecutor(2) as threads:
        for one in [threads.submit(laplace.compile_fit, print, 0, 0, key, 1) for _ in range(2)]:
            one.result()
    at_work.append("tracing")
    with pytest.raises(AssertionError):  # the control: without the lock they would
        traced()


def test_quick_programs_say_the_same_and_drop_options_that_are_not_known():
    def wave(x, shift):
        return jnp.sin(x + shift)

    x = jnp.linspace(0.0, 3.0, 50)
    for level in (0, 1, 3):
        program = one_core.quick(wave, level=level)
        assert jnp.allclose(program(x, 0.5), jnp.sin(x + 0.5), atol=1e-6)
        program(x[:10], 0.5)
        assert program.versions() == 2
        assert "fusion_emitters" in str(program.options)
    other = one_core.Quick(wave, {"no_such_option": False, **one_core.ONE_CORE})
    assert jnp.allclose(other(x, 0.5), jnp.sin(x + 0.5), atol=1e-6)
    with pytest.raises(Exception, match="xla_cpu_multi_thread_eigen"):  # a value that is not one
        one_core.Quick(wave, {"xla_cpu_multi_thread_eigen": "perhaps"})(x, 0.5)
