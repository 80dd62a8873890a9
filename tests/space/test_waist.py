"""Is a contour of two that touch told from that of one?"""

import numpy as np
import pytest

from aistat_jax.space.waist import waist

TURN = 2 * np.pi * np.arange(256) / 256


def union(first: float, second: float, apart: float) -> np.ndarray:
    """The outline of two discs side by side, from the middle of both together."""
    import shapely

    one = shapely.Point(0, 0).buffer(first, 64)
    return np.array(one.union(shapely.Point(apart, 0).buffer(second, 64)).exterior.coords)[:-1]


@pytest.mark.parametrize(("first", "second"), [(10.0, 10.0), (14.0, 8.0)])
def test_two_discs_are_two_parts(first, second):
    apart = first + second - 2.0
    found = waist(union(first, second, apart))
    assert found is not None
    along = (apart**2 + first**2 - second**2) / (2 * apart)
    width = 2 * np.sqrt(first**2 - along**2)
    assert abs(found.width - width) < 1.5
    assert abs(found.part - 2 * second) < 1.5


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.5])
def test_an_ellipse_is_one(ratio):
    found = waist(np.stack([10 * ratio * np.cos(TURN), 10 * np.sin(TURN)], axis=1))
    assert found is None or found.width > 0.95 * found.part


def test_it_does_not_depend_on_units():
    points = union(10.0, 9.0, 17.0)
    one, other = waist(points), waist(1000 * points + 5)
    assert one is not None
    assert other is not None
    assert np.isclose(1000 * one.width, other.width, rtol=0.03)
