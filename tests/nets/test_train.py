"""Does a network learn what its cases show, and does a run survive being killed?"""

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
from aistat_jax.nets import train as training
from aistat_jax.nets.batches import Learnable, draw, pool_cases
from aistat_jax.nets.checkpoints import CHECKPOINT
from aistat_jax.nets.network import random_net
from aistat_jax.nets.train import Trained, TrainSettings, schedule, train
from aistat_jax.nets.variation import NO_AUGMENTATION
from aistat_jax.nets.weights import load_net, save_net
from tests.nets.cases import DISCS, disc, disc_plan

MIRRORED = replace(NO_AUGMENTATION, mirror_probability=0.5)  # quick to compile
SHORT = TrainSettings(
    steps=6, warmup=2, learning_rate=3e-3, validate_every=4, validation_batches=2,
    checkpoint_every=2, augmentation=MIRRORED,
)  # fmt: skip


def short_run(folder=None, settings=SHORT, **more: Any) -> Trained:
    return train(disc_plan(), DISCS[:3], DISCS[3:], settings, folder, **more)


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
            train(disc_plan(), cases, settings=SHORT)
        assert sentence in str(caught.value)
    with pytest.raises(InputError, match="takes prompts in 1 channels, and training makes 3"):
        train(disc_plan(guidance=1), DISCS, settings=SHORT)


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
        disc_plan(),
        training._compiled_in(SHORT),
        jax.sharding.Mesh(np.array(jax.devices()), ("data",)),
    )
    assert len(programs.step.made) == programs.judge._cache_size() == 1


def test_under_the_x64_flag_all_arrays_stay_float32():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    programs = training._programs(disc_plan(), training._compiled_in(SHORT), mesh)
    windows = draw(pool_cases(disc_plan(), DISCS, MIRRORED), np.random.default_rng(0), 4)
    with jax.enable_x64(True):
        key = jax.random.key(0)
        begun = jax.eval_shape(programs.start, nnx.state(random_net(disc_plan().architecture)))
        after, info = jax.eval_shape(programs.step.program, begun, windows, key)
        inside = str(jax.make_jaxpr(programs.step.program)(begun, windows, key))
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves((begun, after, info))}
    assert kinds == {"float32", "int32", "bool"}
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(begun)]
    # nor is any image or map of features inside; a few weights of the schedule may be
    assert "f32[4,16,16" in inside
    assert "f64[4,16,16" not in inside


def test_half_precision_and_momentum(straight):
    settings = replace(SHORT, dtype="bfloat16", optimiser="sgd", decay="cosine")
    other = train(disc_plan(), DISCS[:3], settings=settings)
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
    plan = disc_plan((8, 8, 4), (2, 4), classes=3, batch=2)
    found = train(plan, cases, cases, replace(SHORT, steps=3))
    assert len(found.curve[-1].validation_dice) == 2
    assert np.isfinite([point.loss for point in found.curve]).all()


def test_a_label_that_is_nowhere_has_no_dice():
    empty = replace(DISCS[3], labels=np.zeros_like(DISCS[3].labels))
    quiet = training._dice(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]]))
    assert np.isnan(quiet[0])
    assert quiet[1] == 0.5
    found = train(disc_plan(), DISCS[:3], [empty], SHORT)
    assert found.curve[-1].validation_dice[0] in (0.0, pytest.approx(np.nan, nan_ok=True))
    json.dumps(found.net.card, allow_nan=False)


def test_two_devices_give_the_losses_of_one(straight):
    code = """
if len(jax.devices()) != 2: raise SystemExit("no two devices")
print(json.dumps(train(disc_plan(batch=3), DISCS[:3], DISCS[3:], SHORT).curve))
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
    (tmp_path / f".0123456789ab-{CHECKPOINT}").write_bytes(whole[: len(whole) // 2])
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
        (
            (disc_plan(seed=1), DISCS[:3], DISCS[3:], SHORT),
            "of another run (the plan differs); choose",
        ),
        ((disc_plan(), (relabelled, *DISCS[1:3]), DISCS[3:], SHORT), "(the cases differ)"),
        ((disc_plan(), DISCS[:3], (), SHORT), "(the validation cases differ)"),
        (
            (disc_plan(), DISCS[:3], DISCS[3:], replace(SHORT, learning_rate=1e-4, steps=9)),
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
        pool = pool_cases(disc_plan(), marked, MIRRORED)
        batches = (draw(pool, np.random.default_rng([0, n]), 4) for n in range(99))
        return next(n for n, b in enumerate(batches, 1) if b.examples.image.max() > 1e5)

    wild = next(case for case in cases if 3 <= first_drawn(case) <= 6)
    step = first_drawn(wild)
    cases[cases.index(wild)] = replace(wild, values=np.full_like(wild.values, 3e38))
    with pytest.raises(InputError, match=f"step {step}: the loss or its gradient is not a") as e:
        train(disc_plan(), cases, settings=SHORT, folder=tmp_path)
    assert "lower learning_rate (0.003) or look for extreme values" in str(e.value)
    assert f"the checkpoint in {tmp_path} is from before it" in str(e.value)
    seen = []
    with pytest.raises(InputError, match=f"step {step}: the loss"):
        train(disc_plan(), cases, settings=SHORT, folder=tmp_path, progress=seen.append)
    assert [point.step for point in seen] == list(range((step - 1) // 2 * 2 + 1, step))
    with pytest.raises(InputError, match="no checkpoint is kept without a folder"):
        train(disc_plan(), cases, settings=SHORT)


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
    plan = disc_plan((32, 32), (8, 16))
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
