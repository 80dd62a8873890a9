"""Does evidence add, whatever the grids it came on, and does it move with the image?"""

from __future__ import annotations

import jax
import nibabel as nib
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.opinions import anchors, logits
from aistat_jax.boundary.targets import Target
from aistat_jax.io.nifti import read_image
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.star import star_chart
from tests.boundary import brute

SPACING = {"PT": (4.0, 4.0, 5.0), "CT": (1.0, 1.0, 2.0)}
QUANTITY = {"PT": "SUV", "CT": "HU"}
CENTRE, RADIUS = np.array([2.0, -3.0]), 11.0


def channel(name: str, seed: int = 0, shift: tuple[float, float, float] = (0, 0, 0)) -> Channel:
    """A noisy disc on the channel's own grid of about 100 x 100 x 30 mm about the origin."""
    spacing = np.array(SPACING[name])
    shape = tuple(int(n) for n in np.ceil(np.array([100.0, 100.0, 30.0]) / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2 + [0.0, 0.0, 0.3] + np.array(shift)
    grid = Grid(affine, shape)  # type: ignore[arg-type]
    points = grid.plane(0).points() - np.array(shift[:2])
    rng = np.random.default_rng(seed)
    disc = 1 + 3.0 * (np.linalg.norm(points - CENTRE, axis=-1) < RADIUS)
    values = disc[..., None] + rng.normal(0, 0.5, shape)
    return Channel(values, grid, name, QUANTITY[name])


def value_of(evidence: Evidence, target: Target, radii=None, rays: int = 64) -> float:
    chart = star_chart(target.centre, 2.2 * target.radius, target.plane, rays)
    radii = target.radius * (1 + 0.1 * np.cos(2 * chart.angles)) if radii is None else radii
    with jax.enable_x64(True):
        return float(brute.read_tables(evidence.tabulate(target, chart), radii))


def middle(image: Image, k: int = 3) -> Target:
    return Target(CENTRE, RADIUS, image.channels[image.names[0]].grid.plane(k))


def test_adding_evidence_adds_terms_and_log_likelihoods():
    image = Image.of(channel("PT"))
    a = intensity(image, temper=0.3)
    b = anchors(CENTRE + np.array([[11.0, 0.0]])) + logits(image, temper=0.1)
    target = middle(image)
    chart = star_chart(target.centre, 24.2, target.plane, 64)
    parts = [*a.tabulate(target, chart), *b.tabulate(target, chart)]
    both = (a + b).tabulate(target, chart)
    assert [type(t) for t in both] == [type(t) for t in parts]
    leaves = zip(jax.tree.leaves(both), jax.tree.leaves(tuple(parts)), strict=True)
    assert all(np.array_equal(x, y) for x, y in leaves)
    total = value_of(a, target) + value_of(b, target)
    assert np.isclose(value_of(a + b, target), total, rtol=1e-12)
    assert not np.isclose(value_of(a + b + b, target), total, rtol=1e-6)


def test_pet_and_ct_are_read_on_their_own_grids():
    image = Image.of(channel("PT"), channel("CT", seed=1))
    target = middle(image)
    both = value_of(intensity(image, temper=0.3), target)
    alone = [value_of(intensity(Image.of(image[n]), temper=0.3), target) for n in ("PT", "CT")]
    assert np.isclose(both, sum(alone), rtol=1e-12)
    chart = star_chart(target.centre, 24.2, target.plane, 64)
    terms = intensity(image, temper=0.3).tabulate(target, chart)
    for term, name in zip(terms, ("PT", "CT"), strict=True):
        points = image[name].slice_at(target.plane).plane.points()
        reached = (np.linalg.norm(points - CENTRE, axis=-1) <= 24.2).sum()
        assert term.totals[0] == reached  # type: ignore[union-attr]
    assert float(terms[1].totals[0]) > 10 * float(terms[0].totals[0])  # type: ignore[union-attr]


def test_the_nearest_slice_of_the_other_channel_is_read():
    image = Image.of(channel("PT"), channel("CT", seed=1))
    target = middle(image)
    gaps = np.abs([image["CT"].grid.plane(k).offset - target.plane.offset for k in range(15)])
    nearest, other = np.argsort(gaps)[:2]
    value = value_of(intensity(image, "CT", temper=1.0), target)

    def with_noise_in(k: int) -> float:
        values = image["CT"].values.copy()
        values[:, :, k] = np.random.default_rng(5).normal(size=values.shape[:2])
        changed = Image.of(image["PT"], replace(image["CT"], values=values))
        return value_of(intensity(changed, "CT", temper=1.0), target)

    assert with_noise_in(int(other)) == value
    assert abs(with_noise_in(int(nearest)) - value) > 10


def test_a_slice_that_a_channel_does_not_reach_is_refused():
    low = channel("CT", shift=(0, 0, -40))
    image = Image.of(channel("PT"), low)
    with pytest.raises(InputError, match="channel CT has no slice at"):
        value_of(intensity(image), middle(image))


@pytest.mark.parametrize("temper", [1.0, "auto"])
def test_translation_commutes_with_the_likelihood(temper):
    here = Image.of(channel("PT"), channel("CT", seed=1))
    shift = (137.3, -61.7, 12.9)
    there = Image.of(channel("PT", shift=shift), channel("CT", seed=1, shift=shift))
    evidence = [intensity(image, temper=temper) for image in (here, there)]
    first = value_of(evidence[0], middle(here))
    moved = replace(middle(there), centre=CENTRE + shift[:2])
    assert np.isclose(first, value_of(evidence[1], moved), rtol=1e-9)
    off = replace(moved, centre=moved.centre + 0.1)
    assert not np.isclose(first, value_of(evidence[1], off), rtol=1e-6)


@pytest.mark.parametrize("storage", ["RAS", "LPS", "SAR", "PIL"])
def test_stored_orientation_does_not_matter(tmp_path, storage):
    """The same voxels stored in another axis order and direction, each with its own affine."""
    original = channel("PT")
    file = nib.nifti1.Nifti1Image(original.values, original.grid.affine)
    start = nib.orientations.io_orientation(file.affine)
    wanted = nib.orientations.axcodes2ornt(storage)
    turned = file.as_reoriented(nib.orientations.ornt_transform(start, wanted))
    nib.loadsave.save(turned, tmp_path / "PT.nii")
    image = read_image(PT=tmp_path / "PT.nii")
    target = middle(Image.of(original))
    first = value_of(intensity(Image.of(original)), target)
    again = replace(target, plane=image["PT"].grid.plane(3))
    assert np.isclose(first, value_of(intensity(image), again), rtol=1e-6)
    # negative control: the voxels mirrored without telling the affine
    wrong = replace(image["PT"], values=image["PT"].values[::-1])
    assert not np.isclose(first, value_of(intensity(Image.of(wrong)), again), rtol=1e-3)


def test_a_change_of_unit_is_a_change_of_scale(rng):
    """Pixels, or pixels of 2.5 mm with the blur and everything else 2.5 times as large."""
    chart = brute.a_chart()
    values = brute.step_values(rng, chart, chart.plane.points())
    pixels = Image.from_arrays(A=values)
    scaled = Image.from_arrays(A=values, spacing_mm=2.5)
    small = Target(np.array([15.2, 14.6]), 6.0, pixels["A"].grid.plane(0))
    large = Target(2.5 * small.centre, 15.0, scaled["A"].grid.plane(0))
    radii = brute.boundaries(chart, 1)[0] / 2

    for family in ("blurred", "gaussian"):
        px = value_of(intensity(pixels, blur=1.3, family=family), small, radii)
        mm = value_of(intensity(scaled, blur=3.25, family=family), large, 2.5 * radii)
        assert np.isclose(px, mm, rtol=1e-9)
    # negative control: the blur left in pixels
    px = value_of(intensity(pixels, blur=1.3), small, radii)
    mm = value_of(intensity(scaled, blur=1.3), large, 2.5 * radii)
    assert not np.isclose(px, mm, rtol=1e-4)


def test_intensity_units_do_not_matter_without_a_prior(rng):
    chart = brute.a_chart()
    values = brute.step_values(rng, chart, chart.plane.points())
    radii = brute.boundaries(chart, 1)[0]
    for family in ("blurred", "gaussian"):
        first, second = (
            brute.table_value(
                intensity(Image.from_arrays(A=v, spacing_mm=2.0), family=family), chart, radii
            )
            for v in (values, 1e4 + 37 * values)
        )
        assert np.isclose(first, second, rtol=1e-7)
