"""Objects that touch are cut apart and contoured one by one, whatever lies beside them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import aistat_jax as aj
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.objects import label_objects, labelled_targets
from aistat_jax.inference.batch import fit_many
from aistat_jax.uncertainty.labels import label_map
from tests.helpers import make_posterior, make_surface, make_volume

CENTRES = ((20.0, 20.0), (38.0, 20.0), (60.0, 45.0), (20.0, 60.0))
RADII = (10.0, 9.0, 11.0, 8.0)


def discs(shape=(80, 70), levels=(1.0, 3.0, 1.0, 1.0)):
    """Four discs of 8 to 11 px, of which the first two touch, and the second is brighter."""
    grid = np.moveaxis(np.indices(shape), 0, -1)
    truth = np.zeros(shape, dtype=int)
    for n, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True), start=1):
        truth[np.linalg.norm(grid - np.array(centre), axis=-1) < radius] = n
    bright = np.concatenate([[0.0], levels])[truth]
    noise = 0.05 * np.random.default_rng(0).standard_normal(shape)
    return aj.Image.from_arrays(L=ndimage.gaussian_filter(bright, 1.0) + noise), truth


def test_discs_that_touch_are_cut_apart():
    image, truth = discs(levels=(1.0, 1.0, 1.0, 1.0))
    labels = label_objects(image)[..., 0]
    assert labels.max() == 4
    for n in range(1, 5):
        same = labels == labels[tuple(np.array(CENTRES[n - 1]).astype(int))]
        assert aj.dice(same, truth == n) > 0.93


def test_three_slices_are_no_colours():
    """What finds the threshold takes (n, m, 3) for a picture in colour, and warns."""
    image, _ = discs()
    three = aj.Image.from_arrays(L=np.repeat(image["L"].values, 3, axis=-1))
    labels = label_objects(three)
    for k in range(3):
        assert np.array_equal(labels[..., k], label_objects(image)[..., 0])


def test_a_long_object_is_not_cut_into_discs():
    grid = np.moveaxis(np.indices((40, 90)), 0, -1)
    bar = (np.abs(grid[..., 0] - 20) < 8) & (np.abs(grid[..., 1] - 45) < 35)
    assert label_objects(aj.Image.from_arrays(L=bar.astype(float))).max() == 1


def test_dark_objects_and_small_ones():
    image, _ = discs()
    dark = aj.Image.from_arrays(L=-image["L"].values)
    of_dark = label_objects(dark, dark=True, threshold=-0.5)
    assert np.array_equal(of_dark, label_objects(image, threshold=0.5))
    assert label_objects(image, threshold=0.5, smallest=300).max() == 2  # of 192 to 372


@pytest.mark.parametrize("threshold", [9.0, -9.0])
def test_a_threshold_that_marks_nothing_or_everything_is_refused(threshold):
    with pytest.raises(aj.InputError, match="marks (nothing|everything) in channel L"):
        label_objects(discs()[0], threshold=threshold)


def fitted(image, truth, alone):
    plane = image.primary.grid.plane(0)
    targets = labelled_targets(truth, plane, spread=1.0)
    assert not targets.skipped
    if alone:
        targets = [aj.replace(target, beside=None) for target in targets]
    models = [boundary_model(t, aj.intensity(image), harmonics=8, rays=64) for t in targets]
    return fit_many(models, draws=400, fallback=False)


def test_a_bright_neighbour_is_no_evidence():
    """With it a faint disc's boundary would run about both; the negative control shows that."""
    image, truth = discs()
    areas = []
    for alone in (False, True):
        posterior = fitted(image, truth, alone)[0]
        areas.append(float(np.median(posterior.chart.content(posterior.draws))))
    true = np.pi * RADII[0] ** 2
    assert abs(areas[0] / true - 1) < 0.06
    assert abs(areas[1] / true - 1) > 0.2


def test_every_pixel_goes_to_the_object_that_most_probably_holds_it():
    image, truth = discs(levels=(1.0, 1.0, 1.0, 1.0))
    labels = label_map(fitted(image, truth, False), image.primary)[..., 0]
    assert sorted(np.unique(labels)) == [0, 1, 2, 3, 4]
    for n in range(1, 5):
        assert aj.dice(labels == n, truth == n) > 0.95
    nowhere = label_map(
        [aj.replace(p, presence=0.4) for p in fitted(image, truth, False)], image.primary
    )
    assert nowhere.max() == 0


def test_surfaces_are_labels_too():
    """Each voxel is that ellipsoid's which more probably holds it, beside a contour in a slice."""
    channel = make_volume().primary
    left, right = make_surface(), make_surface(centre=(85.0, 61.0, 40.0), seed=1)
    circle = make_posterior(draws=100, size=64, centre=(30.0, 30.0))
    labels = label_map([left, right, circle], channel)
    shares = np.stack([aj.probability_map(p, channel.grid) for p in (left, right)])
    assert (shares > 0.5).all(axis=0).sum() > 0  # they overlap: the order alone would not do
    wanted = np.where(shares.max(axis=0) >= 0.5, 1 + shares.argmax(axis=0), 0)
    assert (labels[..., 1:] == wanted[..., 1:]).all()
    assert (labels[..., 0] == 3).any()
    far = make_surface(centre=(900.0, 61.0, 40.0))
    with pytest.raises(aj.InputError, match="has no voxels within"):
        label_map([far], channel)


def test_labels_too_small_for_a_contour_are_named():
    truth = np.zeros((30, 30), dtype=int)
    truth[5:15, 5:15], truth[20, 20:22] = 1, 3
    plane = aj.Image.from_arrays(L=np.random.default_rng(0).random((30, 30))).primary.grid.plane(0)
    targets = labelled_targets(truth, plane)
    assert [target.id for target in targets] == ["z000.1"]
    assert targets.skipped == (("z000.3", "2 pixels are too few for a contour (at least 6)"),)
