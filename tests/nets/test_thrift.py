"""Is a thrifty program the same program, and does less stay in memory when it has been compiled?"""

from __future__ import annotations

import ctypes
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aistat_jax.nets import thrift
from aistat_jax.nets.thrift import Thrifty, give_back


def test_a_thrifty_program_is_compiled_once_for_every_kind_of_arguments(monkeypatch):
    given = []
    monkeypatch.setattr(thrift, "give_back", lambda: given.append(1))
    program = Thrifty(jax.jit(lambda x, more: {"sum": x + more["y"]}, donate_argnums=0))
    more = {"y": jnp.arange(3.0)}
    for _ in range(3):
        np.testing.assert_array_equal(program(jnp.ones(3), more)["sum"], [1, 2, 3])
    assert len(given) == 1
    np.testing.assert_array_equal(program(jnp.ones((2, 3)), more)["sum"], [[1, 2, 3]] * 2)
    assert program(jnp.ones(3, jnp.int32), more)["sum"].dtype == jnp.float32
    assert len(given) == 3
    x = jnp.ones(3)
    program(x, more)
    assert x.is_deleted()  # what is given away is still given away


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_is_given_back():
    """100 MB of small pieces that the C library keeps when they are freed, all but the last."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("not glibc")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]

    def resident() -> float:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    pieces = [libc.malloc(50_000) for _ in range(2000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 50_000)
    for piece in pieces[:-1]:
        libc.free(piece)
    kept = resident()
    assert give_back()
    assert resident() < kept - 50
    libc.free(pieces[-1])


def test_where_there_is_no_such_thing_nothing_happens(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not give_back()
