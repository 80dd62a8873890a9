"""Do channels keep their grids, and is unusable input refused?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, Image, channel_from_array

RNG = np.random.default_rng(0)


def channel(offset_z: float = 0.0, spacing=(2.0, 2.0, 3.0), turn: float = 0.0, **kw) -> Channel:
    affine = np.diag([*spacing, 1.0])
    c, s = np.cos(turn), np.sin(turn)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * np.array(spacing)
    affine[:3, 3] = [5.0, -7.0, offset_z]
    return channel_from_array(RNG.normal(size=(6, 7, 8)), affine, **kw)


def test_a_2d_array_is_one_slice_in_pixels():
    values = RNG.normal(size=(5, 6))
    image = Image.from_arrays(PT=values)
    assert (image.unit, image.primary.grid.shape, image["PT"].quantity) == ("px", (5, 6, 1), "SUV")
    np.testing.assert_array_equal(image.primary.slice(0).values, values)
    np.testing.assert_array_equal(image.primary.slice(0).plane.points()[3, 4], [3.0, 4.0])


@pytest.mark.parametrize(
    ("spacing", "expected"), [(2.0, [2, 2, 2]), ((1.0, 3.0), [1, 3, 3]), ((1, 2, 5), [1, 2, 5])]
)
def test_spacing_gives_millimetres(spacing, expected):
    image = Image.from_arrays(CT=RNG.normal(size=(4, 4)), spacing_mm=spacing)
    assert image.unit == "mm"
    np.testing.assert_allclose(image.primary.grid.spacing, expected)


def test_the_first_channel_stays_first_through_jax():
    image = Image.from_arrays(PT=RNG.normal(size=(4, 4)), CT=RNG.normal(size=(4, 4)))
    same = jax.tree.map(lambda x: x, image)
    assert same.names == ("PT", "CT")
    assert same.primary.name == "PT"


@pytest.mark.parametrize("spacing", [0.0, -1.0, (1.0, np.inf), (1, 2, 3, 4)])
def test_unusable_spacing_is_refused(spacing):
    with pytest.raises(InputError, match="channel CT: spacing_mm is .* positive"):
        Image.from_arrays(CT=RNG.normal(size=(4, 4)), spacing_mm=spacing)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.full((4, 4), np.nan), "16 voxels are NaN or infinite"),
        (np.where(np.eye(4) > 0, np.inf, 0.0), "4 voxels are NaN or infinite"),
        (np.ones((4, 4)), "every voxel is 1"),
        (RNG.normal(size=(4, 4, 4, 2)), "two or three dimensions"),
        (RNG.normal(size=4), "two or three dimensions"),
        (np.zeros((0, 3, 3)), "there is no voxel"),
        (np.eye(4, dtype=complex), "not real numbers"),
    ],
)
def test_unusable_values_are_refused(values, sentence):
    with pytest.raises(InputError, match=f"channel PT: .*{sentence}"):
        Image.from_arrays(PT=values)


def test_a_trailing_dimension_of_one_is_fine():
    assert Image.from_arrays(PT=RNG.normal(size=(4, 5, 6, 1))).primary.grid.shape == (4, 5, 6)


def test_mixed_units_missing_and_repeated_channels_are_refused():
    mm = channel(name="PT")
    px = channel_from_array(RNG.normal(size=(4, 4)), np.eye(4), name="CT", in_px=True)
    with pytest.raises(InputError, match="PT in mm, CT in px"):
        Image.of(mm, px)
    with pytest.raises(InputError, match="repeat"):
        Image.of(mm, mm)
    with pytest.raises(InputError, match="at least one channel"):
        Image.of()
    with pytest.raises(InputError, match="no channel 'CT'; it has PT"):
        Image.of(mm)["CT"]


def test_slice_at_finds_the_nearest_slice():
    pet, ct = channel(), channel(offset_z=0.4, spacing=(1.0, 1.0, 1.0))
    found = ct.slice_at(pet.slice(2).plane)  # at z = 6: CT slices at 0.4, 1.4, ...
    assert found.plane.index == 6
    assert found.plane.offset == pytest.approx(6.4)
    np.testing.assert_array_equal(found.values, ct.values[:, :, 6])


def test_slice_at_refuses_what_is_not_there():
    pet = channel()
    with pytest.raises(InputError, match="no slice at 21"):
        channel(spacing=(1.0, 1.0, 1.0), name="CT").slice_at(pet.slice(7).plane)
    with pytest.raises(InputError, match="turned"):
        channel(turn=0.01).slice_at(pet.slice(0).plane)
    px = replace(pet.slice(0).plane, unit="px")
    with pytest.raises(InputError, match="in mm but the plane is in px"):
        pet.slice_at(px)


def test_a_slight_turn_keeps_the_slice_in_place():
    pet, ct = channel(), channel(turn=5e-4)
    plane = ct.slice_at(pet.slice(3).plane).plane
    np.testing.assert_array_equal(plane.frame, pet.grid.frame)
    exact = pet.slice(3).plane.to_uv(ct.slice(3).plane.to_world(ct.slice(3).plane.points()))
    assert np.abs(plane.points() - exact).max() < 0.01


def test_any_plane_through_a_volume_is_sampled_linearly():
    one = channel(turn=0.4)
    values = one.grid.points() @ np.array([1.0, -2.0, 0.5])  # linear: any plane has it exactly
    linear = replace(one, values=values)
    frame = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [0.3, 1.0, 0.0], [0.0, 0.4, 1.0]]))[0]
    middle = one.grid.to_world((np.array(one.grid.shape) - 1) / 2) @ frame
    plane = Plane(middle[:2] - 3, np.full(2, 0.5), float(middle[2]), 1.0, frame, shape=(13, 13))
    shown = linear.resliced(plane)
    np.testing.assert_allclose(shown.values, plane.to_world(plane.points()) @ [1.0, -2.0, 0.5])
    wide = linear.resliced(replace(plane, origin=plane.origin - 50, spacing=np.full(2, 8.0)))
    points = wide.plane.to_world(wide.plane.points())
    np.testing.assert_array_equal(np.isfinite(wide.values), one.grid.contains(points))
    assert np.isnan(wide.values).any()
    own = one.resliced(one.grid.plane(3))
    np.testing.assert_allclose(own.values, one.slice(3).values)
    assert np.abs(own.values - one.slice(4).values).max() > 0.1  # negative control
    with pytest.raises(InputError, match="is in mm but the plane is in px"):
        one.resliced(replace(plane, unit="px"))
