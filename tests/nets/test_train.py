"""Does a network learn from the patches it should, and does a run survive being killed?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.io.nnunet import read_dataset
from aistat_jax.nets import train as training
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.augment import NO_AUGMENTATION, Settings, augment_batch, settings_for
from aistat_jax.nets.batches import (
    Learnable,
    draw,
    learnable,
    pool_cases,
    read_learnable,
    window_shape,
)
from aistat_jax.nets.checkpoints import CHECKPOINT
from aistat_jax.nets.fingerprint import fingerprint
from aistat_jax.nets.plan import Normalisation, Plan, plan_for
from aistat_jax.nets.prepare import join_planes
from aistat_jax.nets.train import Trained, TrainSettings, schedule, train
from aistat_jax.nets.unet import random_net
from aistat_jax.nets.weights import load_net, save_net
from aistat_jax.space.image import Image
from tests.nets.test_plan import label_map, write_dataset

MIRRORED = replace(NO_AUGMENTATION, mirror_probability=0.5)  # quick to compile
SHORT = TrainSettings(
    steps=6, warmup=2, learning_rate=3e-3, validate_every=4, validation_batches=2,
    checkpoint_every=2, augmentation=MIRRORED,
)  # fmt: skip


def tiny(
    patch: tuple[int, ...] = (16, 16), widths=(4, 8), *, slices=1, classes=2, batch=4, **changes
) -> Plan:
    dims = len(patch)
    a = Architecture(dims, slices, classes, widths, ((2,) * dims,) * (len(widths) - 1))
    labels = ("background", *(f"disc{n}" for n in range(1, classes)))
    return Plan(
        "discs", a, ("image",), ("a.u.",), labels, (Normalisation("zscore"),), (1.0, 1.0, 1.0),
        patch, batch, slices, unit="px", **changes,
    ).check()  # fmt: skip


def disc(number: int, size: int = 64) -> Learnable:
    """A bright disc at a random place in noise."""
    rng = np.random.default_rng([7, number])
    radius = size * rng.uniform(0.1, 0.22)
    centre = rng.uniform(radius, size - radius, 2)
    i, j = np.mgrid[:size, :size]
    labels = (np.hypot(i - centre[0], j - centre[1]) < radius).astype(np.int32)[..., None]
    values = 1.5 * labels + rng.standard_normal(labels.shape) - 0.2
    return Learnable(values[..., None].astype(np.float32), labels, name=f"disc{number}")


DISCS = tuple(disc(n, 24) for n in range(4))


def short_run(folder=None, settings=SHORT, **more: Any) -> Trained:
    return train(tiny(), DISCS[:3], DISCS[3:], settings, folder, **more)


def same_weights(a: Trained, b: Trained) -> bool:
    (mine,), (other,) = a.net.members, b.net.members
    return mine.keys() == other.keys() and all((mine[n] == other[n]).all() for n in mine)


def child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, with this module's names."""
    code = f"import warnings; warnings.simplefilter('error')\nfrom {__name__} import *\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()} | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def straight() -> Trained:
    """The short run, never cut short."""
    return short_run()


# ---- patches


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
    pool = pool_cases(tiny(patch), [case], how)
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
    pool = pool_cases(tiny(patch), [coded()], settings_for(patch))
    windows = draw(pool, np.random.default_rng(3), 4)
    found = deformed(pool, windows, NO_AUGMENTATION)
    np.testing.assert_array_equal(found.image, patches(pool, windows, images))
    np.testing.assert_array_equal(found.labels, patches(pool, windows))


def test_a_batch_follows_from_its_random_numbers():
    pool = pool_cases(tiny(), DISCS, Settings())
    first, again, other = (draw(pool, np.random.default_rng([0, n]), 5) for n in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.examples.image, other.examples.image)


def test_at_least_a_third_of_patches_hold_foreground():
    empty = [replace(coded(name=f"{n}"), labels=np.zeros((20, 14, 3), np.int32)) for n in range(9)]
    pool = pool_cases(tiny((8, 8)), [*empty, coded()], Settings())
    held = 0
    for n in range(40):
        found = patches(pool, draw(pool, np.random.default_rng(n), 5))
        assert (found[:2] == 1).any(axis=(1, 2)).all()
        held += (found[2:] == 1).any(axis=(1, 2)).sum()
    assert held < 30  # negative control: elsewhere, where one case in ten has it, it is rare
    # no foreground anywhere is no reason to fail here
    assert draw(pool_cases(tiny((8, 8)), empty, Settings()), np.random.default_rng(0), 3)


def test_labels_are_chosen_evenly_however_large():
    labels = np.ones((20, 20, 1), np.int32)
    labels[2:4, 2:4] = 2
    case = Learnable(np.ones((20, 20, 1, 1), np.float32), labels)
    pool = pool_cases(tiny((4, 4), classes=3), [case], NO_AUGMENTATION)
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
    pool = pool_cases(tiny((8, 8), slices=3), [case], NO_AUGMENTATION)
    for image in patches(pool, draw(pool, np.random.default_rng(0), 9), images):
        k = int(image[0, 0, 1] - 1) % 3
        assert (image - image[..., 1:2])[0, 0].tolist() == [-1 * (k > 0), 0, 1 * (k < 2)]


def test_raters_become_shares_of_every_label():
    raters = np.zeros((8, 8, 1, 4), np.int32)
    raters[2, 2, 0] = (1, 1, 2, 0)
    raters[3, 3, 0] = (0, 0, 0, 2)
    several = Learnable(np.ones((8, 8, 1, 1), np.float32), raters=raters, name="several")
    alone = Learnable(np.ones((8, 8, 1, 1), np.float32), raters.max(-1), name="alone")
    pool = pool_cases(tiny((8, 8), classes=3), [several, alone], NO_AUGMENTATION)
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
    assert pool_cases(tiny(), [coded(), coded((30, 9, 2))], settings_for((16, 16))).window == (
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
        pool = pool_cases(tiny(), [case], room)
        windows = draw(pool, np.random.default_rng(0), 1)
        eight = jax.tree.map(lambda x: np.repeat(x, 8, axis=0), windows)
        darkest[pool.window] = float(deformed(pool, eight, how).image.min())
    # the diagonal of 16 and two voxels, not the whole case
    assert darkest[25, 25] == pytest.approx(1, abs=1e-5)
    # negative control: without room the corners are empty
    assert darkest[16, 16] < 0.5


# ---- refusals


def test_cases_that_do_not_go_with_the_plan_are_refused():
    good = DISCS[0]
    nothing = replace(good, labels=np.zeros_like(good.labels), name="none")
    wrong = [
        ([], "there are no cases to learn from"),
        ([nothing, nothing], "none of the 2 cases to learn from has any foreground; label"),
        ([replace(good, labels=None)], "case disc0 has neither labels nor raters"),
        ([replace(good, labels=2 * good.labels)], "labels run from 0 to 2 and the plan has 0 to 1"),
        ([replace(good, values=np.full_like(good.values, np.inf))], "finite float32"),
        ([replace(good, values=good.values.astype(np.float64))], "finite float32"),
        ([replace(good, values=np.tile(good.values, 2))], "must be (i, j, k, 1) and (i, j, k)"),
    ]
    for cases, sentence in wrong:
        with pytest.raises(InputError) as caught:
            train(tiny(), cases, settings=SHORT)
        assert sentence in str(caught.value)
    guided = replace(tiny(), architecture=replace(tiny().architecture, guidance=1))
    with pytest.raises(InputError, match="takes prompts, which training does not have"):
        train(guided, DISCS, settings=SHORT)


def test_settings_that_make_no_training_are_refused():
    for wrong, sentence in [
        ({"decay": "step"}, "unknown decay 'step'; use one of polynomial, cosine"),
        ({"optimiser": "lion"}, "unknown optimiser"),
        ({"dtype": "int8"}, "unknown dtype"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"warmup": 6}, "warmup must be from 0 to below 6, got 6"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"clip": float("nan")}, "clip must be positive"),
        ({"average": 1.0}, "average must be in"),
        ({"seed": -1}, "seed from 0"),
    ]:
        with pytest.raises(InputError, match=sentence):
            replace(SHORT, **wrong).check()


# ---- learning


def test_the_rate_rises_and_falls():
    for decay, middle in (("polynomial", 0.5**0.9), ("cosine", 0.5)):
        rate = schedule(TrainSettings(steps=110, warmup=10, learning_rate=2.0, decay=decay))
        each = np.array([float(rate(n)) for n in range(111)])
        assert (np.diff(each[:11]) > 0).all()
        assert (np.diff(each[10:]) < 0).all()
        assert (each[0], each[10], each[110]) == (pytest.approx(2 / 11), 2.0, 0.0)
        assert each[60] == pytest.approx(2 * middle, rel=1e-5)


def test_a_run_keeps_a_curve_and_can_be_saved(straight, tmp_path):
    assert [point.step for point in straight.curve] == [1, 2, 3, 4, 5, 6]
    assert [point.validation_loss is not None for point in straight.curve] == [0, 0, 0, 1, 0, 1]
    rate = schedule(SHORT)
    for point in straight.curve:
        assert point.learning_rate == pytest.approx(float(rate(point.step - 1)))
        assert np.isfinite(point.loss)
    (dice,) = straight.curve[-1].validation_dice
    assert 0 <= dice <= 1
    assert straight.net.card["training"]["settings"]["learning_rate"] == 3e-3
    assert straight.net.card["training"]["scores"]["validation_dice"] == [dice]
    back = load_net(save_net(straight.net, tmp_path / "net"))
    assert same_weights(Trained(back, ()), straight)


def test_one_seed_gives_one_run_and_nothing_is_compiled_twice(straight):
    again, other = short_run(), short_run(settings=replace(SHORT, seed=1))
    assert again.curve == straight.curve
    assert same_weights(again, straight)
    assert other.curve[0].loss != straight.curve[0].loss
    programs = training._programs(
        tiny(), training._compiled_in(SHORT), jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    )
    assert programs.step._cache_size() == programs.judge._cache_size() == 1


def test_under_the_x64_flag_all_arrays_stay_float32():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    programs = training._programs(tiny(), training._compiled_in(SHORT), mesh)
    windows = draw(pool_cases(tiny(), DISCS, MIRRORED), np.random.default_rng(0), 4)
    with jax.enable_x64(True):
        key = jax.random.key(0)
        begun = jax.eval_shape(programs.start, nnx.state(random_net(tiny().architecture)))
        after, info = jax.eval_shape(programs.step, begun, windows, key)
        inside = str(jax.make_jaxpr(programs.step)(begun, windows, key))
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves((begun, after, info))}
    assert kinds == {"float32", "int32", "bool"}
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(begun)]
    # nor is any image or map of features inside; a few weights of the schedule may be
    assert "f32[4,16,16" in inside
    assert "f64[4,16,16" not in inside


def test_half_precision_and_momentum(straight):
    settings = replace(SHORT, dtype="bfloat16", optimiser="sgd", decay="cosine")
    other = train(tiny(), DISCS[:3], settings=settings)
    first, wanted = other.curve[0].loss, straight.curve[0].loss
    assert first == pytest.approx(wanted, rel=0.02)
    assert other.curve[-1].loss != straight.curve[-1].loss
    assert all(array.dtype == np.float32 for array in other.net.members[0].values())


def test_three_dimensions_raters_several_labels_and_cases_smaller_than_the_patch():
    rng = np.random.default_rng(0)
    cases = [
        Learnable(
            rng.standard_normal((*shape, 1)).astype(np.float32),
            raters=rng.integers(0, 3, (*shape, 2)).astype(np.int32), name=f"{shape}",
        )
        for shape in ((9, 5, 3), (6, 12, 2))
    ]  # fmt: skip
    plan = tiny((8, 8, 4), (2, 4), classes=3, batch=2)
    found = train(plan, cases, cases, replace(SHORT, steps=3))
    assert len(found.curve[-1].validation_dice) == 2
    assert np.isfinite([point.loss for point in found.curve]).all()


def test_a_label_that_is_nowhere_has_no_dice():
    empty = replace(DISCS[3], labels=np.zeros_like(DISCS[3].labels))
    quiet = training._dice(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]]))
    assert np.isnan(quiet[0])
    assert quiet[1] == 0.5
    found = train(tiny(), DISCS[:3], [empty], SHORT)
    assert found.curve[-1].validation_dice[0] in (0.0, pytest.approx(np.nan, nan_ok=True))
    json.dumps(found.net.card, allow_nan=False)


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

    pixels = replace(tiny(), channels=("image",))
    image = Image.from_arrays(image=np.random.default_rng(0).standard_normal((8, 6)))
    drawn = np.zeros((8, 6, 1, 2), np.int64)
    drawn[2, 2, 0, 1] = 1
    case = learnable(pixels, image, raters=drawn)
    np.testing.assert_array_equal(case.raters, drawn)
    with pytest.raises(InputError, match="labels run from 0 to 2 and the plan has"):
        learnable(pixels, image, raters=2 * drawn)


def test_two_devices_give_the_losses_of_one(straight):
    code = """
if len(jax.devices()) != 2: raise SystemExit("no two devices")
print(json.dumps(train(tiny(batch=3), DISCS[:3], DISCS[3:], SHORT).curve))
"""
    done = child(code, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert done.returncode == 0, done.stderr
    # a batch of 3 was rounded up to the 4 of one device
    two = [training.Point(*point) for point in json.loads(done.stdout)]
    assert two[0].loss == pytest.approx(straight.curve[0].loss, rel=1e-6)
    for here, there in zip(straight.curve, two, strict=True):
        assert there.loss == pytest.approx(here.loss, rel=1e-4)
    for here, there in ((straight.curve[n], two[n]) for n in (3, 5)):
        assert there.validation_loss == pytest.approx(here.validation_loss, rel=1e-4)
        assert there.validation_dice == pytest.approx(here.validation_dice, abs=0.01)


# ---- checkpoints


def stop_after(step: int):
    def stop(point) -> None:
        if point.step == step:
            raise KeyboardInterrupt

    return stop


def test_a_run_killed_hard_goes_on_to_the_same_end(straight, tmp_path):
    code = f"""
def die(point):
    if point.step == 3: os.kill(os.getpid(), signal.SIGKILL)
short_run({str(tmp_path)!r}, progress=die)
"""
    killed = child(code)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    steps = []
    resumed = short_run(tmp_path, progress=lambda point: steps.append(point.step))
    assert steps == [3, 4, 5, 6]  # from the checkpoint of step 2
    losses = [[point.loss for point in run.curve] for run in (resumed, straight)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-6)
    assert resumed.curve == straight.curve
    assert same_weights(resumed, straight)


def test_a_write_cut_short_is_no_checkpoint(straight, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        short_run(tmp_path, progress=stop_after(5))
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / f".{CHECKPOINT}.part").write_bytes(whole[: len(whole) // 2])
    resumed = short_run(tmp_path)
    assert resumed.curve == straight.curve
    assert same_weights(resumed, straight)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    # a run that is done is not run again
    steps = []
    assert short_run(tmp_path, progress=lambda point: steps.append(point)).curve == straight.curve
    assert steps == []


def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        short_run(tmp_path, progress=stop_after(2))
    path = tmp_path / CHECKPOINT
    before = path.read_bytes()
    relabelled = replace(DISCS[0], labels=DISCS[1].labels)
    attempts = [
        ((tiny(seed=1), DISCS[:3], DISCS[3:], SHORT), "of another run (the plan differs); choose"),
        ((tiny(), (relabelled, *DISCS[1:3]), DISCS[3:], SHORT), "(the cases differ)"),
        ((tiny(), DISCS[:3], (), SHORT), "(the validation cases differ)"),
        (
            (tiny(), DISCS[:3], DISCS[3:], replace(SHORT, learning_rate=1e-4, steps=9)),
            "(steps was 6 and is 9, learning_rate was 0.003 and is 0.0001)",
        ),
    ]
    for arguments, sentence in attempts:
        with pytest.raises(InputError) as caught:
            train(*arguments, tmp_path)
        assert sentence in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="an earlier run is there; resume it, or choose another"):
        short_run(tmp_path, resume=False)
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        short_run(tmp_path, progress=stop_after(2))
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 4
    header = whole.replace(b"polynomial", b"polynomiak")
    assert header != whole
    for broken in (b"", whole[:50], whole[:-8], bytes(flipped), header, b"\x00" * 200):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="checkpoint is damaged .* move it away to start over"):
            short_run(tmp_path)
        assert path.read_bytes() == broken
    path.write_bytes(whole.replace(b'\\"schema\\": 1', b'\\"schema\\": 9'))
    with pytest.raises(InputError, match="has schema 9 and this version reads 1"):
        short_run(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: this folder cannot be made"):
        short_run(tmp_path / "file")


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    cases = [replace(case, name=f"{n}") for n, case in enumerate(DISCS[:3] * 3)]

    def first_drawn(wild: Learnable) -> int:
        """The first step, from 1, whose batch holds a case."""
        marked = [replace(c, values=c.values + np.float32(1e6 * (c is wild))) for c in cases]
        pool = pool_cases(tiny(), marked, MIRRORED)
        batches = (draw(pool, np.random.default_rng([0, n]), 4) for n in range(99))
        return next(n for n, b in enumerate(batches, 1) if b.examples.image.max() > 1e5)

    wild = next(case for case in cases if 3 <= first_drawn(case) <= 6)
    step = first_drawn(wild)
    cases[cases.index(wild)] = replace(wild, values=np.full_like(wild.values, 3e38))
    with pytest.raises(InputError, match=f"step {step}: the loss or its gradient is not a") as e:
        train(tiny(), cases, settings=SHORT, folder=tmp_path)
    assert "lower learning_rate (0.003) or look for extreme values" in str(e.value)
    assert f"the checkpoint in {tmp_path} is from before it" in str(e.value)
    seen = []
    with pytest.raises(InputError, match=f"step {step}: the loss"):
        train(tiny(), cases, settings=SHORT, folder=tmp_path, progress=seen.append)
    assert [point.step for point in seen] == list(range((step - 1) // 2 * 2 + 1, step))
    with pytest.raises(InputError, match="no checkpoint is kept without a folder"):
        train(tiny(), cases, settings=SHORT)


# ---- end to end


def full_dice(trained: Trained, cases) -> float:
    """Mean Dice over whole images, by another way than training's own."""
    from flax import nnx

    net = nnx.merge(trained.net.graph, trained.net.state())
    each = []
    for case in cases:
        said = np.asarray(net(jnp.asarray(case.values[None, :, :, 0])).logits[0])[0].argmax(-1)
        truth = case.labels[..., 0]
        each.append(2 * (said & truth).sum() / (said.sum() + truth.sum()))
    return float(np.mean(each))


def test_discs_in_noise_are_learned_and_shuffled_labels_are_not():
    discs = [disc(n) for n in range(20)]
    learned, held_out = discs[:14], discs[14:]
    plan = tiny((32, 32), (8, 16))
    settings = TrainSettings(steps=150, warmup=10, learning_rate=3e-3, validate_every=150)
    found = train(plan, learned, held_out, settings)
    assert found.curve[-1].validation_dice[0] > 0.8
    assert full_dice(found, held_out) > 0.8
    # negative control: each image with its neighbour's labels
    turned = [
        replace(case, labels=other.labels)
        for case, other in zip(learned, learned[1:] + learned[:1], strict=True)
    ]
    shuffled = train(plan, turned, held_out, settings)
    assert shuffled.curve[-1].validation_dice[0] < 0.5
    assert full_dice(shuffled, held_out) < 0.5
