"""Is one lesion asked for, as a person would, and does a network learn to answer with that one?"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.nets import train as training
from aistat_jax.nets.batches import Learnable, draw, learnable, pool_cases
from aistat_jax.nets.clicks import NOTHING, point_at
from aistat_jax.nets.example import Example
from aistat_jax.nets.network import random_net
from aistat_jax.nets.predict import predict
from aistat_jax.nets.prepare import prepare
from aistat_jax.nets.prompts import prompts
from aistat_jax.nets.train import TrainSettings, train
from aistat_jax.nets.variation import NO_AUGMENTATION
from aistat_jax.nets.weights import Net
from aistat_jax.space.image import Image
from tests.nets.cases import disc_plan

MIRRORED = replace(NO_AUGMENTATION, mirror_probability=0.5)  # quick to compile
FLAT = (1.0, 1.0)
PATCH, CENTRE = (24, 24), (16, 16)  # of a window (32, 32)


def window(classes: int = 2) -> Example:
    """Two discs of label 1 beside the middle, one far off, and label 2 touching the first."""
    i, j = np.mgrid[:32, :32]
    labels = np.zeros((32, 32), np.int32)
    for middle in ((12, 13), (20, 19), (3, 3)):
        labels[np.hypot(i - middle[0], j - middle[1]) <= 3.5] = 1
    if classes == 3:
        labels[7:9, 10:16] = 2
    return Example(labels[..., None].astype(np.float32), labels)


def asked(example: Example, count: int = 300, classes: int = 2, **where) -> list[Example]:
    """Windows with prompts, from as many seeds."""
    return [
        point_at(np.random.default_rng([4, n]), example, classes, PATCH, CENTRE, FLAT, **where)
        for n in range(count)
    ]


def components(labels: np.ndarray) -> tuple[np.ndarray, int]:
    return ndimage.label(labels, np.ones((3, 3)))


def peak(channel: np.ndarray) -> tuple[int, ...]:
    assert channel.max() == 1
    return tuple(int(n) for n in np.unravel_index(channel.argmax(), channel.shape))


def share(flags: list[bool], wanted: float) -> bool:
    """Within 5 sd of a binomial share: a false alarm in two million."""
    return abs(np.mean(flags) - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / len(flags))


# ---- what is asked


def test_one_component_is_kept_and_clicked_or_all_are():
    example = window()
    parts, _ = components(example.labels)
    first, second, far = (parts == parts[at] for at in ((12, 13), (20, 19), (3, 3)))
    silent, clicked, boxed, which = [], [], [], []
    for found in asked(example):
        assert found.image is example.image
        assert found.guidance.shape == (32, 32, 3)
        silent.append(not found.guidance.any())
        if silent[-1]:
            np.testing.assert_array_equal(found.labels, example.labels)
            continue
        kept = found.labels > 0
        which.append(np.array_equal(kept, first))
        assert which[-1] or np.array_equal(kept, second)
        clicked.append(bool(found.guidance[..., 0].any()))
        boxed.append(bool(found.guidance[..., 2].any()))
        assert clicked[-1] or boxed[-1]
        if clicked[-1]:
            at = peak(found.guidance[..., 0])
            # half as deep as the middle, which is 4 from the nearest voxel outside
            assert ndimage.distance_transform_edt(kept)[at] >= 2
    assert share(silent, NOTHING)
    assert share(which, 0.5)
    assert share(boxed, 0.3)
    assert share(clicked, 0.85)
    # negative control: a click anywhere in the disc would often be less deep
    assert (ndimage.distance_transform_edt(first)[first] < 2).mean() > 0.2
    assert far.any()  # it is never asked for, because it is not in the middle


def test_the_component_of_a_voxel_is_asked_for_wherever_it_is():
    example = window()
    parts, _ = components(example.labels)
    far = parts == parts[3, 3]
    for found in asked(example, 40, voxel=(5, 5)):
        if found.guidance.any():
            np.testing.assert_array_equal(found.labels > 0, far)
            if found.guidance[..., 0].any():
                at = peak(found.guidance[..., 0])
                assert far[at]
                assert min(at) >= 4  # in the patch


def test_background_clicks_avoid_the_lesion_and_often_hit_another():
    example = window()
    on_another, there = [], []
    for found in asked(example, 600):
        if not found.guidance.any():
            continue
        there.append(bool(found.guidance[..., 1].any()))
        if there[-1]:
            at = peak(found.guidance[..., 1])
            assert not found.labels[at]
            assert min(at) >= 4
            assert max(at) < 28
            on_another.append(bool(example.labels[at]))
    assert share(there, 0.3)
    assert share(on_another, 0.5)


def test_a_box_lies_about_its_lesion_but_not_exactly():
    shapes = set()
    for found in asked(window()):
        if found.guidance[..., 2].any():
            box, lesion = (np.argwhere(mask) for mask in (found.guidance[..., 2], found.labels))
            off = np.stack([box.min(0) - lesion.min(0), lesion.max(0) - box.max(0)])
            assert set(np.abs(off).ravel().tolist()) <= {0, 1}
            assert set(np.unique(found.guidance[..., 2])) == {0, 1}
            shapes.add(off.tobytes())
    assert len(shapes) > 3


def test_labels_that_touch_are_asked_for_apart():
    example = window(3)
    first = components(example.labels)[0] == 2
    kinds = [np.unique(f.labels).tolist() for f in asked(example, classes=3, voxel=(12, 13))]
    assert {tuple(kind) for kind in kinds} == {(0, 1), (0, 1, 2)}
    for found in asked(example, 40, classes=3, voxel=(8, 12)):
        if found.guidance.any():
            np.testing.assert_array_equal(found.labels, np.where(example.labels == 2, 2, 0))
    assert set(example.labels[first].tolist()) == {1, 2}  # negative control: together they are one


def test_raters_lose_the_other_components_of_their_union():
    shares = np.zeros((32, 32, 2), np.float32)
    shares[10:14, 10:13, 0] = 0.25
    shares[10:14, 13:16, 0] = 0.5
    shares[18:20, 18:20, 0] = 1.0
    shares[12:14, 12:14, 1] = 0.25
    example = replace(window(), labels=np.zeros((32, 32), np.int32), raters=shares)
    wanted = shares.copy()
    wanted[18:20, 18:20], wanted[..., 1] = 0, 0
    seen = set()
    for found in asked(example, 60, 3, voxel=(11, 11)):
        if found.guidance.any():
            np.testing.assert_array_equal(found.raters, wanted)
            assert not found.labels.any()
        seen.add(found.raters.tobytes())
    assert seen == {wanted.tobytes(), shares.tobytes()}


def test_without_a_lesion_in_the_middle_nothing_is_asked():
    labels = np.zeros((32, 32), np.int32)
    for empty in (labels, np.pad(np.ones((4, 4), np.int32), ((0, 28), (0, 28)))):
        for found in asked(replace(window(), labels=empty), 20):
            assert not found.guidance.any()
            np.testing.assert_array_equal(found.labels, empty)
    # a single voxel, and a window that is all lesion, are no special case
    labels[16, 16] = 1
    for whole in (labels, np.ones((32, 32), np.int32)):
        for found in asked(replace(window(), labels=whole), 60):
            np.testing.assert_array_equal(found.labels, whole)


def test_three_dimensions():
    labels = np.zeros((12, 12, 6), np.int32)
    labels[4:7, 4:7, 2:4] = labels[8:10, 8:10, 2:4] = 1
    example = Example(labels[..., None].astype(np.float32), labels)
    rng = np.random.default_rng(0)
    for _ in range(40):
        found = point_at(rng, example, 2, (12, 12, 6), (6, 6, 3), (1.0, 1.0, 3.0), (5, 5, 2))
        assert found.labels.sum() == (18 if found.guidance.any() else 26)


# ---- batches and training


def test_a_batch_of_prompts_follows_from_its_random_numbers():
    cases = [two_blobs(n)[0] for n in range(3)]
    plain, guided = (
        pool_cases(disc_plan(PATCH, guidance=n), cases, NO_AUGMENTATION) for n in (0, 3)
    )
    first, again, other = (draw(guided, np.random.default_rng([0, n]), 8) for n in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.examples.guidance, other.examples.guidance)
    assert first.examples.guidance.shape == (8, 24, 24, 3)
    assert first.examples.guidance.dtype == np.float32
    # a network without prompts has no guidance, and sees every lesion
    assert draw(plain, np.random.default_rng([0, 1]), 8).examples.guidance is None
    lesions = {
        bool(guides.any()): components(labels)[1]
        for guides, labels in zip(first.examples.guidance, first.examples.labels, strict=True)
    }
    assert lesions == {False: 2, True: 1}


def test_one_seed_gives_one_network_with_prompts_and_a_cut_run_goes_on_to_it(tmp_path):
    cases = [two_blobs(n)[0] for n in range(4)]
    settings = TrainSettings(
        steps=5, warmup=1, validate_every=5, validation_batches=1, checkpoint_every=2,
        augmentation=MIRRORED,
    )  # fmt: skip
    plan = disc_plan(PATCH, (2, 4), batch=2, guidance=3)

    def run(folder=None, progress=None, settings=settings):
        return train(plan, cases[:3], cases[3:], settings, folder, progress=progress)

    def stop(point) -> None:
        if point.step == 3:
            raise KeyboardInterrupt

    straight, again, other = run(), run(), run(settings=replace(settings, seed=1))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop)
    for found in (again, run(tmp_path)):
        assert found.curve == straight.curve
        for name, array in straight.net.members[0].items():
            np.testing.assert_array_equal(found.net.members[0][name], array)
    assert other.curve[0].loss != straight.curve[0].loss


@pytest.mark.parametrize(("patch", "slices"), [((8, 8), 3), ((8, 8, 4), 1)])
def test_planes_raters_and_three_dimensions_go_through_a_step(rng, patch, slices):
    drawn = rng.integers(0, 3, (12, 9, 5, 2)).astype(np.int32)
    case = Learnable(rng.standard_normal((12, 9, 5, 1)).astype(np.float32), raters=drawn)
    plan = disc_plan(patch, slices=slices, classes=3, guidance=3)
    windows = draw(pool_cases(plan, [case], MIRRORED), rng, 4)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    settings = TrainSettings(augmentation=MIRRORED)
    programs = training._programs(plan, training._compiled_in(settings), mesh)
    weights = nnx.state(random_net(plan.architecture))
    _, info = jax.eval_shape(
        lambda: programs.step.program(programs.start(weights), windows, jax.random.key(0))
    )
    assert info.loss.shape == ()
    assert windows.examples.guidance.shape == (*windows.examples.labels.shape, 3)
    # negative control: without its prompts the network is short of inputs
    silent = replace(windows, examples=replace(windows.examples, guidance=None))
    with pytest.raises(InputError, match=f"{slices + 3}"):
        jax.eval_shape(lambda: programs.judge(weights, silent))


def two_blobs(number: int, size: int = 24, radius: float = 3.5) -> tuple[Learnable, Image]:
    """Two discs that look alike, apart from each other, in noise; and the same as an image."""
    rng = np.random.default_rng([11, number])
    while True:
        middles = rng.uniform(radius + 1, size - radius - 2, (2, 2))
        if np.linalg.norm(middles[0] - middles[1]) > 2 * radius + 3:
            break
    i, j = np.mgrid[:size, :size]
    discs = [np.hypot(i - m[0], j - m[1]) <= radius for m in middles]
    labels = (discs[0] | discs[1]).astype(np.int32)[..., None]
    image = Image.from_arrays(image=2.0 * labels + 0.5 * rng.standard_normal(labels.shape))
    return learnable(disc_plan(PATCH), image, labels, name=f"blobs{number}"), image


def answers(net: Net, case: Learnable, image: Image) -> list[tuple[float, float]]:
    """Dice with the first and the second disc: of no click, one on the first, a box about it,
    and one on the second."""
    parts, _ = ndimage.label(case.labels[..., 0])
    discs = [parts == n for n in (1, 2)]
    grid = prepare(net.plan, image).grid
    middles = [(*ndimage.center_of_mass(disc), 0.0) for disc in discs]
    around = np.argwhere(discs[0])
    box = [(*around.min(0), 0.0), (*around.max(0), 0.0)]
    found = []
    for words in (
        {}, {"foreground_mm": middles[0]}, {"box_mm": box}, {"foreground_mm": middles[1]}
    ):  # fmt: skip
        said = predict(net, image, guidance=prompts(net.plan, grid, **words)).log_odds[..., 0, 0]
        found.append(
            tuple(2 * ((said > 0) & d).sum() / ((said > 0).sum() + d.sum()) for d in discs)
        )
    return found


@pytest.mark.slow
def test_a_click_selects_its_blob():
    learned = [two_blobs(n)[0] for n in range(40)]
    plan = disc_plan(PATCH, (8, 16, 16), batch=8, guidance=3)
    settings = TrainSettings(
        steps=400, warmup=20, learning_rate=3e-3, average=0.99, augmentation=MIRRORED
    )
    net = train(plan, learned, settings=settings).net
    dice = np.mean([answers(net, *two_blobs(100 + n)) for n in range(12)], axis=0)
    print(dice.round(3))
    nothing, first, box, second = dice
    assert min(first[0], box[0], second[1]) > 0.85
    assert max(first[1], box[1], second[0]) < 0.1
    # negative control: without a prompt both are found, so that each has Dice 2 / 3 at best
    assert nothing.min() > 0.55
