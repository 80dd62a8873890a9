"""Does a network see the patches it should, where they are, and as often as it should?"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.io.nnunet import read_dataset
from aistat_jax.nets import train as training
from aistat_jax.nets.augment import augment_batch
from aistat_jax.nets.batches import (
    Learnable,
    draw,
    learnable,
    pool_cases,
    read_learnable,
    window_shape,
)
from aistat_jax.nets.fingerprint import fingerprint
from aistat_jax.nets.plan import plan_for
from aistat_jax.nets.prepare import join_planes
from aistat_jax.nets.variation import NO_AUGMENTATION, Settings, settings_for
from aistat_jax.space.image import Image
from tests.nets.cases import DISCS, disc_plan
from tests.nets.test_plan import label_map, write_dataset


def coded(shape=(20, 14, 3), name="case") -> Learnable:
    """Every voxel's value says where it is; label 1 is one corner of plane 2."""
    values = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    labels = np.zeros(shape, dtype=np.int32)
    labels[-2:, -2:, -1] = 1
    return Learnable(values, labels, name=name)


def patches(pool, windows, read=lambda example: example.labels) -> np.ndarray:
    """What lies in the patches when nothing is deformed, beyond a window zero."""
    patch, found = pool.plan.patch, []
    for window, centre in zip(np.asarray(read(windows.examples)), windows.centres, strict=True):
        padded = np.pad(window, [(n, n) for n in patch] + [(0, 0)] * (window.ndim - len(patch)))
        starts = [c - n // 2 + n for c, n in zip(centre, patch, strict=True)]
        found.append(padded[tuple(slice(s, s + n) for s, n in zip(starts, patch, strict=True))])
    return np.stack(found)


def images(example) -> np.ndarray:
    return example.image


def deformed(pool, windows, how, key=0):
    return jax.jit(
        lambda key, windows: augment_batch(
            key, windows.examples, (1.0,) * len(pool.plan.patch), how,
            patch=pool.plan.patch, centres=windows.centres,
        )
    )(jax.random.key(key), windows)  # fmt: skip


@pytest.mark.parametrize("patch", [(8, 8), (16, 16), (8, 8, 2), (8, 8, 4)])
@pytest.mark.parametrize("how", [NO_AUGMENTATION, settings_for((8, 8))])
def test_a_patch_is_cut_out_of_its_case_and_padded_with_zeros(patch, how):
    case, dims = coded(), len(patch)
    pool = pool_cases(disc_plan(patch), [case], how)
    windows = draw(pool, np.random.default_rng(3), 12)
    cut = patches(pool, windows, images), patches(pool, windows)
    padded = np.pad(case.values[..., 0], ((0, 8), (0, 8), (0, 8)))
    edges = case.values.shape[:dims]
    for image, labels in zip(*cut, strict=True):
        # the first voxel of a patch is always in the case
        first = np.argwhere(case.values[..., 0] == image.flat[0])[0]
        box = tuple(slice(n, n + p) for n, p in zip(first, patch, strict=False))
        at = box if dims == 3 else (*box, first[2])
        np.testing.assert_array_equal(image[..., 0], padded[at])
        np.testing.assert_array_equal(labels, np.pad(case.labels, (0, 8))[at])
        for start, n, p in zip(first, edges, patch, strict=False):
            assert start == 0 if n <= p else start + p <= n


@pytest.mark.parametrize("patch", [(16, 16), (8, 8, 4)])
def test_the_device_reads_the_patch_that_the_host_meant(patch):
    pool = pool_cases(disc_plan(patch), [coded()], settings_for(patch))
    windows = draw(pool, np.random.default_rng(3), 4)
    found = deformed(pool, windows, NO_AUGMENTATION)
    np.testing.assert_array_equal(found.image, patches(pool, windows, images))
    np.testing.assert_array_equal(found.labels, patches(pool, windows))


def test_a_batch_follows_from_its_random_numbers():
    pool = pool_cases(disc_plan(), DISCS, Settings())
    first, again, other = (draw(pool, np.random.default_rng([0, n]), 5) for n in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.examples.image, other.examples.image)


def test_at_least_a_third_of_patches_hold_foreground():
    empty = [replace(coded(name=f"{n}"), labels=np.zeros((20, 14, 3), np.int32)) for n in range(9)]
    pool = pool_cases(disc_plan((8, 8)), [*empty, coded()], Settings())
    held = 0
    for n in range(40):
        found = patches(pool, draw(pool, np.random.default_rng(n), 5))
        assert (found[:2] == 1).any(axis=(1, 2)).all()
        held += (found[2:] == 1).any(axis=(1, 2)).sum()
    assert held < 30  # negative control: elsewhere, where one case in ten has it, it is rare
    # no foreground anywhere is no reason to fail here
    assert draw(pool_cases(disc_plan((8, 8)), empty, Settings()), np.random.default_rng(0), 3)


def test_labels_are_chosen_evenly_however_large():
    labels = np.ones((20, 20, 1), np.int32)
    labels[2:4, 2:4] = 2
    case = Learnable(np.ones((20, 20, 1, 1), np.float32), labels)
    pool = pool_cases(disc_plan((4, 4), classes=3), [case], NO_AUGMENTATION)
    small = 0
    for n in range(200):
        small += (patches(pool, draw(pool, np.random.default_rng(n), 1)) == 2).any()
    # half of the draws, and few of the others: binomial, 5 sd
    assert 0.5 - 5 * 0.036 < small / 200 < 0.55 + 5 * 0.036


def test_neighbouring_planes_are_joined_and_the_outermost_repeated():
    values = np.zeros((1, 1, 4, 2), np.float32)
    values[0, 0, :, 0], values[0, 0, :, 1] = range(4), range(10, 14)
    assert join_planes(values, 1, 3)[0, 0].tolist() == [0, 10, 1, 11, 2, 12]
    assert join_planes(values, 0, 5)[0, 0].tolist() == [0, 10, 0, 10, 0, 10, 1, 11, 2, 12]
    assert join_planes(values, 3, 3)[0, 0].tolist() == [2, 12, 3, 13, 3, 13]
    case = coded()
    pool = pool_cases(disc_plan((8, 8), slices=3), [case], NO_AUGMENTATION)
    for image in patches(pool, draw(pool, np.random.default_rng(0), 9), images):
        k = int(image[0, 0, 1] - 1) % 3
        assert (image - image[..., 1:2])[0, 0].tolist() == [-1 * (k > 0), 0, 1 * (k < 2)]


def test_raters_become_shares_of_every_label():
    raters = np.zeros((8, 8, 1, 4), np.int32)
    raters[2, 2, 0] = (1, 1, 2, 0)
    raters[3, 3, 0] = (0, 0, 0, 2)
    several = Learnable(np.ones((8, 8, 1, 1), np.float32), raters=raters, name="several")
    alone = Learnable(np.ones((8, 8, 1, 1), np.float32), raters.max(-1), name="alone")
    pool = pool_cases(disc_plan((8, 8), classes=3), [several, alone], NO_AUGMENTATION)
    seen = set()
    for n in range(20):
        windows = draw(pool, np.random.default_rng(n), 3)
        found = np.asarray(training._target(windows.examples))
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
        seen |= {tuple(each[2, 2].tolist()) + tuple(each[3, 3].tolist()) for each in found}
    assert seen == {(0.25, 0.5, 0.25, 0.75, 0, 0.25), (0, 0, 1, 0, 0, 1)}


def test_windows_leave_room_to_turn():
    assert window_shape((64, 64), (1.0, 1.0), NO_AUGMENTATION) == (64, 64)
    turned = window_shape((64, 64), (1.0, 1.0), settings_for((64, 64)))
    assert min(turned) > 64 * np.sqrt(2) / np.sqrt(0.7)
    planar = settings_for((64, 64, 8))
    assert window_shape((64, 64, 8), (1.0, 1.0, 5.0), planar)[2] == 8
    # never larger than the largest case
    assert pool_cases(disc_plan(), [coded(), coded((30, 9, 2))], settings_for((16, 16))).window == (
        30, 14,
    )  # fmt: skip


def test_a_turned_patch_is_real_image_inside_a_large_case():
    labels = np.zeros((99, 99, 1), np.int32)
    labels[50, 50] = 1
    case = Learnable(np.ones((99, 99, 1, 1), np.float32), labels)
    turn = settings_for((16, 16)).rotation_deg._replace(probability=1.0)
    how = replace(NO_AUGMENTATION, rotation_deg=turn)
    darkest = {}
    for room in (how, NO_AUGMENTATION):
        pool = pool_cases(disc_plan(), [case], room)
        windows = draw(pool, np.random.default_rng(0), 1)
        eight = jax.tree.map(lambda x: np.repeat(x, 8, axis=0), windows)
        darkest[pool.window] = float(deformed(pool, eight, how).image.min())
    # the diagonal of 16 and two voxels, not the whole case
    assert darkest[25, 25] == pytest.approx(1, abs=1e-5)
    # negative control: without room the corners are empty
    assert darkest[16, 16] < 0.5


def test_datasets_and_images_become_cases(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path, [label_map(), label_map()]))
    plan = plan_for(fingerprint(dataset))
    done = []
    cases = read_learnable(plan, dataset, progress=done.append)
    assert [case.name for case in cases] == ["case0", "case1"]
    assert done == [1, 1]
    assert (cases[0].values.shape, cases[0].values.dtype) == ((12, 10, 8, 2), np.float32)
    np.testing.assert_array_equal(cases[1].labels, label_map())
    assert len(read_learnable(plan, dataset, ["case1"])) == 1

    pixels = replace(disc_plan(), channels=("image",))
    image = Image.from_arrays(image=np.random.default_rng(0).standard_normal((8, 6)))
    drawn = np.zeros((8, 6, 1, 2), np.int64)
    drawn[2, 2, 0, 1] = 1
    case = learnable(pixels, image, raters=drawn)
    np.testing.assert_array_equal(case.raters, drawn)
    with pytest.raises(InputError, match="labels run from 0 to 2 and the plan has"):
        learnable(pixels, image, raters=2 * drawn)
