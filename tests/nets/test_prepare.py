"""Does an image reach the network and come back without moving, and in the right units?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aistat_jax._errors import InputError
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.nets.prepare import (
    field_of_view,
    normalise,
    prepare,
    prepare_labels,
    resample,
    restore,
    working_grid,
)
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image, channel_from_array

CENTRE = np.array([5.0, -8.0, 60.0])
EXACT = 1e-9  # a linear field, relative to its range, in float64
WAVELENGTH = 60.0  # mm
# linear interpolation of `waves` between samples 3 mm apart errs by at most h^2 f'' / 8 an axis
ONE_WAY = (2 * np.pi / WAVELENGTH) ** 2 * 3.0**2 * (1 + 1 + 0.5) / 8
THERE_AND_BACK = 2 * ONE_WAY


def grid_of(shape=(28, 24, 12), spacing=(2.0, 2.5, 4.0), degrees: float = 0.0) -> Grid:
    affine = np.eye(4)
    turn = Rotation.from_euler("zyx", [degrees, degrees / 2, -degrees], degrees=True).as_matrix()
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(affine, shape)


def world(grid: Grid) -> np.ndarray:
    return grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))


def ramp(grid: Grid) -> np.ndarray:
    return world(grid) @ np.array([0.3, -0.2, 0.5]) + 7


def waves(grid: Grid) -> np.ndarray:
    x, y, z = np.moveaxis(world(grid) - CENTRE, -1, 0) * (2 * np.pi / WAVELENGTH)
    return np.sin(x) * np.cos(y) + 0.5 * np.sin(z)


def channel(values: np.ndarray, grid: Grid, name: str = "MR", in_px: bool = False):
    return channel_from_array(values, grid.affine, name=name, in_px=in_px)


def plan_of(
    *names: str, spacing=(3.0, 3.0, 3.0), dims: int = 3, unit: str = "mm", labels: int = 3
) -> Plan:
    names = names or ("MR",)
    quantities = tuple({"PT": "SUV", "CT": "HU"}.get(name, "a.u.") for name in names)
    how = {
        "SUV": Normalisation("suv", 0.0, 30.0, 0.0, 4.0),
        "HU": Normalisation("ct", -500.0, 500.0, 40.0, 100.0),
        "a.u.": Normalisation("zscore"),
    }
    return Plan(
        name="test", channels=names, quantities=quantities,
        architecture=Architecture(dims, len(names), labels, (4, 8), ((2,) * dims,)),
        labels=tuple("abcdefg"[:labels]), normalisations=tuple(how[q] for q in quantities),
        spacing_mm=spacing, patch=(8,) * dims, batch=2, unit=unit,
    ).check()  # fmt: skip


def interior(source: Grid, target: Grid, margin: float = 0.0) -> np.ndarray:
    """Voxels of `target` whose centres lie within those of `source`, `margin` voxels inside."""
    index = source.to_index(world(target))
    last = np.array(source.shape) - 1
    return ((index >= margin) & (index <= last - margin)).all(axis=-1)


def half_a_voxel_off(grid: Grid) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(np.array([0.5, 0.5, 0.0]))
    return replace(grid, affine=affine)


# ---- where voxels go


@pytest.mark.parametrize("degrees", [0.0, 23.0])
@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (1.5, 1.5, 1.5), (2.0, 1.0, 5.0)])
def test_the_working_grid_covers_the_image_about_the_same_centre(spacing, degrees):
    native = grid_of(degrees=degrees)
    grid = working_grid(plan_of(spacing=spacing), native)
    np.testing.assert_allclose(grid.spacing, spacing)
    np.testing.assert_allclose(grid.frame, native.frame, atol=1e-12)
    middle = (np.array(grid.shape) - 1) / 2
    np.testing.assert_allclose(grid.to_world(middle), CENTRE, atol=1e-9)
    spare = np.array(grid.shape) * spacing - np.array(native.shape) * native.spacing
    assert (spare > -0.02 * np.array(spacing)).all()
    assert (spare < spacing).all()
    assert field_of_view(native, grid).all()


def test_a_grid_of_the_right_spacing_and_the_planes_in_2d_are_kept():
    native = grid_of()
    assert working_grid(plan_of(spacing=(2.0, 2.5, 4.0)), native) is native
    assert working_grid(plan_of(spacing=(2.0, 2.5, 9.0), dims=2), native) is native
    grid = working_grid(plan_of(spacing=(4.0, 5.0, 9.0), dims=2), native)
    assert grid.shape == (14, 12, 12)
    np.testing.assert_allclose(grid.plane(7).offset, native.plane(7).offset)
    assert working_grid(plan_of(spacing=(2.0, 2.5, 9.0)), native) is not native


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("turns", [(0.0, 0.0), (23.0, 23.0), (0.0, 17.0), (90.0, 5.0)])
@pytest.mark.parametrize("spacing", [(3.1, 3.1, 5.3), (1.3, 1.7, 2.9)])
def test_a_linear_field_is_reproduced_exactly(spacing, turns, smooth):
    source = grid_of((36, 32, 22), degrees=turns[0])
    target = grid_of((9, 9, 5), spacing, degrees=turns[1])
    # smoothing is cut off at the volume's edge, up to five voxels in
    deep = interior(source, target, 5 if smooth else 0)
    assert deep.sum() > 100
    scale = np.ptp(ramp(source))
    found = resample(ramp(source), source, target, smooth=smooth)
    np.testing.assert_allclose(found[deep], ramp(target)[deep], atol=EXACT * scale)
    # negative control: a grid half a voxel off
    moved = resample(ramp(source), source, half_a_voxel_off(target), smooth=smooth)
    assert np.abs(moved - ramp(target))[deep].min() > 1e5 * EXACT * scale


@pytest.mark.parametrize("degrees", [0.0, 23.0])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_smooth_field_comes_back(dims, degrees):
    native = grid_of(degrees=degrees)
    image = Image.of(channel(waves(native), native))
    prepared = prepare(plan_of(dims=dims), image)
    assert prepared.values.dtype == np.float32
    assert prepared.values.shape == (*prepared.grid.shape, 1)
    deep = interior(prepared.grid, native)
    deep[[0, -1]] = deep[:, [0, -1]] = False  # where the smoothing is cut off
    assert deep.sum() > 3000

    def error(prepared, values, scale=1.0, centre=0.0) -> float:
        back = restore(prepared, values)
        assert (back.shape, back.dtype) == ((*native.shape, 1), np.float32)
        return np.abs(back[..., 0] * scale + centre - waves(native))[deep].max()

    assert error(prepared, waves(prepared.grid).astype(np.float32)[..., None]) < ONE_WAY
    moments = waves(native).std(), waves(native).mean()
    assert error(prepared, prepared.values, *moments) < THERE_AND_BACK
    # negative control: a working grid remembered half a voxel off
    off = replace(prepared, grid=half_a_voxel_off(prepared.grid))
    assert error(off, prepared.values, *moments) > 2 * THERE_AND_BACK


def test_a_fine_channel_is_smoothed_and_does_not_alias(rng):
    fine, coarse = grid_of((60, 60, 30), (1.0, 1.0, 2.0)), grid_of((12, 12, 8), (4.0, 4.0, 6.0))
    checks = np.indices(fine.shape).sum(axis=0) % 2 * 2.0 - 1  # the finest pattern there is
    assert np.abs(resample(checks, fine, coarse, smooth=True)).max() < 1e-3
    noise = rng.normal(size=fine.shape)
    smoothed = resample(noise, fine, coarse, smooth=True).std()
    assert smoothed < 0.3
    # negative control: sampling alone keeps the noise, and the half of it between two centres
    assert resample(noise, fine, coarse).std() > 1.5 * smoothed
    # the same grid is not touched
    np.testing.assert_array_equal(resample(noise, fine, replace(fine), smooth=True), noise)


# ---- channels


def test_channels_on_other_grids_meet_on_the_primary_ones():
    pt, ct = grid_of(), grid_of((70, 70, 24), (1.0, 1.0, 3.0), degrees=11)
    image = Image.of(channel(ramp(pt), pt, "PT"), channel(ramp(ct) * 5, ct, "CT"))
    plan = plan_of("CT", "PT", spacing=(4.0, 4.0, 4.0))
    prepared = prepare(plan, image)
    assert prepared.native is image.primary.grid  # PT: the image's primary, not the plan's first
    points = ramp(prepared.grid)
    in_hu = (np.clip(points * 5, -500, 500) - 40) / 100
    in_suv = np.log2(1 + np.clip(points, 0, 30) / 4)
    for n, (grid, expected, margin) in enumerate([(ct, in_hu, 7), (pt, in_suv, 3)]):
        deep = interior(grid, prepared.grid, margin)  # away from where smoothing is cut off
        assert deep.sum() > 50
        found = prepared.values[..., n]
        np.testing.assert_allclose(found[deep], expected[deep], atol=1e-5)
        # negative control: shifted by a voxel
        assert np.abs(np.roll(found, 1, axis=0) - expected)[deep].max() > 0.01


def test_beyond_its_field_of_view_a_channel_takes_its_lowest_value(rng):
    pt, ct = grid_of(), grid_of((16, 16, 12), (2.0, 2.5, 4.0))
    image = Image.of(
        channel(rng.normal(size=pt.shape), pt, "PT"),
        channel(rng.uniform(-300, 300, size=ct.shape), ct, "CT"),
    )
    prepared = prepare(plan_of("PT", "CT", spacing=(2.0, 2.5, 4.0)), image)
    lowest = (image["CT"].values.min() - 40) / 100
    np.testing.assert_allclose(prepared.values[:6, ..., 1], lowest, rtol=1e-6)
    inside = prepared.values[6:22, 4:20, :, 1]
    np.testing.assert_allclose(inside, (image["CT"].values - 40) / 100, rtol=1e-5, atol=1e-5)
    far = replace(ct, affine=ct.affine + np.outer([0, 0, 900.0, 0], [0, 0, 0, 1]))
    apart = Image.of(image["PT"], channel(image["CT"].values, far, "CT"))
    with pytest.raises(InputError, match="CT does not overlap channel PT; check"):
        prepare(plan_of("PT", "CT"), apart)


def test_channels_that_are_absent_or_in_another_quantity_are_refused(rng):
    native = grid_of()
    values = rng.normal(size=native.shape)
    with pytest.raises(InputError, match=r"needs channel CT \(HU\) and the image has PT; pass CT"):
        prepare(plan_of("PT", "CT"), Image.of(channel(values, native, "PT")))
    raw = channel_from_array(values, native.affine, name="PT", quantity="Bq/mL")
    with pytest.raises(InputError, match="PT is in Bq/mL but .* trained on SUV; convert"):
        prepare(plan_of("PT"), Image.of(raw))


def test_values_that_cannot_be_of_their_quantity_are_refused(rng):
    native = grid_of()
    suv = rng.gamma(1.0, 1.0, native.shape)
    prepare(plan_of("PT"), Image.of(channel(suv, native, "PT")))
    with pytest.raises(InputError, match="channel PT: values from .* cannot be SUV.*Bq/ml"):
        prepare(plan_of("PT"), Image.of(channel(5200 * suv, native, "PT")))
    with pytest.raises(InputError, match="channel CT: values from .* cannot be HU.*a PET"):
        prepare(plan_of("CT"), Image.of(channel(suv, native, "CT")))
    grey = Image.from_arrays(PT=255 * (suv[:, :, 0] > 1))  # a picture shows grey values
    prepare(plan_of("PT", dims=2, unit="px"), grey)


def test_pixels_pass_through(rng):
    values = rng.normal(size=(11, 9))
    image = Image.from_arrays(MR=values)
    for plan in (plan_of(dims=2), plan_of(dims=2, unit="px", spacing=(1.0, 1.0, 1.0))):
        prepared = prepare(plan, image)
        assert prepared.grid is prepared.native is image.primary.grid
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(prepared.values[:, :, 0, 0], expected, atol=1e-6)
        np.testing.assert_array_equal(restore(prepared, prepared.values), prepared.values)
    native = grid_of()
    assert working_grid(plan_of(unit="px", spacing=(1.0, 1.0, 1.0)), native) is native


# ---- values


def test_normalisations_are_what_they_say(rng):
    values = rng.uniform(-5, 60, size=(4, 4, 4))
    ct = normalise(Normalisation("ct", 0.0, 50.0, 20.0, 10.0), values, values)
    np.testing.assert_allclose(ct, (np.clip(values, 0, 50) - 20) / 10)
    how = Normalisation("suv", 0.0, 30.0, 0.0, 4.0)
    assert normalise(how, np.full((1, 1, 1), 4.0), values) == pytest.approx(1.0)
    assert normalise(how, np.full((1, 1, 1), -3.0), values) == 0
    # SUV is absolute: a hotter image looks hotter, which a z-score would hide
    cool = rng.uniform(1, 10, size=(4, 4, 4))
    assert (normalise(how, 2 * cool, 2 * cool) > normalise(how, cool, cool) + 0.3).all()
    z = Normalisation("zscore")
    np.testing.assert_allclose(normalise(z, 2 * values, 2 * values), normalise(z, values, values))
    np.testing.assert_allclose(normalise(z, values, values).std(), 1)


# ---- labels


def ball(grid: Grid, radius: float) -> np.ndarray:
    return np.linalg.norm(world(grid) - CENTRE, axis=-1) < radius


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (1.5, 1.5, 1.5)])
def test_labels_stay_where_they_are(spacing):
    native = grid_of(degrees=13.0)
    labels = ball(native, 18).astype(np.int32) + ball(native, 9)
    plan = plan_of(spacing=spacing)
    found = prepare_labels(plan, labels, native)
    grid = working_grid(plan, native)
    assert (found.shape, found.dtype) == (grid.shape, np.int32)
    assert set(np.unique(found)) == {0, 1, 2}
    assert dice(found > 0, ball(grid, 18)) > 0.94
    # negative control: shifted by a voxel, the same check fails
    assert dice(np.roll(found > 0, 1, axis=0), ball(grid, 18)) < 0.94
    # what a perfect network says, restored, is what was drawn
    values = np.zeros((*native.shape, 1), dtype=np.float32)
    prepared = prepare(plan, Image.of(channel(values[..., 0] + labels, native)))
    perfect = np.eye(3, dtype=np.float32)[found]
    back = restore(prepared, perfect).argmax(axis=-1)
    assert dice(back > 0, labels > 0) > 0.93


def test_labels_on_the_working_grid_are_not_touched(rng):
    native = grid_of()
    labels = rng.integers(0, 3, size=native.shape)
    kept = prepare_labels(plan_of(spacing=(2.0, 2.5, 4.0)), labels, native)
    np.testing.assert_array_equal(kept, labels)
    two = np.full(native.shape, 2)  # no other label to win
    np.testing.assert_array_equal(prepare_labels(plan_of(), two, native), 2)


def test_arrays_that_do_not_belong_are_refused(rng):
    native = grid_of()
    with pytest.raises(InputError, match="do not match the channel's .* pass labels on"):
        prepare_labels(plan_of(), np.zeros((2, 2, 2), dtype=int), native)
    for wrong in (3, -1):
        with pytest.raises(InputError, match=r"the plan has 0 to 2 \(a, b, c\); correct"):
            prepare_labels(plan_of(), np.full(native.shape, wrong), native)
    prepared = prepare(plan_of(), Image.of(channel(rng.normal(size=native.shape), native)))
    with pytest.raises(InputError, match="do not match the working grid"):
        restore(prepared, np.zeros((*native.shape, 1)))
