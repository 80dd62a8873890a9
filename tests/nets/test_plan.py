"""Is a network sized by what the dataset holds, within its memory, and kept as it was?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.io.nnunet import read_dataset
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.fingerprint import (
    Fingerprint,
    Intensity,
    fingerprint,
    load_fingerprint,
    save_fingerprint,
)
from aistat_jax.nets.plan import folds, load_plan, memory_bytes, plan_for, save_plan
from aistat_jax.nets.predict import PASS_SHARE
from aistat_jax.nets.unet import UNet

GIB = 2**30


def write_dataset(folder: Path, labels: list[np.ndarray], spacing=(2.0, 2.5, 3.0)) -> Path:
    """PT is 10 where label 1 is, 4 where label 2 is and about 1 elsewhere; CT is 30 times that."""
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([*spacing, 1.0])
    for n, label in enumerate(labels):
        pt = np.choose(label, [rng.uniform(0, 2, size=label.shape), 10.0, 4.0])
        for channel, values in enumerate((pt, 30 * pt)):
            file = nib.Nifti1Image(values.astype(np.float32), affine)
            nib.save(file, folder / "imagesTr" / f"case{n}_{channel:04d}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / f"case{n}.nii.gz")
    content = {
        "channel_names": {"0": "PT", "1": "CT"}, "file_ending": ".nii.gz",
        "labels": {"background": 0, "tumour": 1, "node": 2}, "numTraining": len(labels),
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def label_map(size=(12, 10, 8)) -> np.ndarray:
    label = np.zeros(size, dtype=np.uint8)
    label[2:5, 3:7, 1:3] = 1
    label[5, 3, 2] = 2
    return label


def made(
    shape=(256, 256, 100), spacing=(2.0, 2.0, 3.0), cases: int = 10, unit: str = "mm", **changes
) -> Fingerprint:
    seen = Intensity(5.0, 3.0, 1.0, 4.0, 18.0, 22.0)
    return Fingerprint(
        name="Neck", cases=tuple(f"c{n}" for n in range(cases)), shapes=(shape,) * cases,
        spacings_mm=(spacing,) * cases, channels=("PT", "CT"), quantities=("SUV", "HU"),
        labels=("background", "tumour"), intensities=(seen, seen), fractions=(0.01,) * cases,
        boxes_mm=((20.0, 20.0, 20.0),) * cases, empty=0, unit=unit, **changes,
    )  # fmt: skip


# ---- fingerprint


def test_a_fingerprint_measures_what_is_there(tmp_path):
    empty = np.zeros((16, 10, 8), dtype=np.uint8)
    folder = write_dataset(tmp_path / "Neck", [label_map(), empty, label_map()])
    done = []
    found = fingerprint(read_dataset(folder), done.append)
    assert done == [1, 1, 1]
    assert found.shapes == ((12, 10, 8), (16, 10, 8), (12, 10, 8))
    np.testing.assert_allclose(found.spacings_mm, [(2.0, 2.5, 3.0)] * 3, rtol=1e-6)
    assert (found.quantities, found.empty, found.unit) == (("SUV", "HU"), 1, "mm")
    assert found.fractions == (25 / 960, 0.0, 25 / 960)
    # i 2..5, j 3..6, k 1..2
    np.testing.assert_allclose(found.boxes_mm[0], (4 * 2.0, 4 * 2.5, 2 * 3.0), rtol=1e-6)
    assert found.boxes_mm[1] == (0.0, 0.0, 0.0)
    pt, ct = found.intensities
    voxels = np.array([10.0] * 24 + [4.0])
    assert (pt.mean, pt.sd) == (pytest.approx(voxels.mean()), pytest.approx(voxels.std()))
    assert (pt.p0_5, pt.p50, pt.p99_9) == (pytest.approx(4.0, abs=2), 10.0, 10.0)
    assert ct.mean == pytest.approx(30 * pt.mean)


def test_a_case_gives_a_bounded_sample_that_the_seed_decides(tmp_path, monkeypatch):
    label = np.zeros((12, 10, 8), dtype=np.uint8)
    label[1:, :, :] = 2
    label[6:, :, :] = 1
    dataset = read_dataset(write_dataset(tmp_path, [label, label]))
    whole = fingerprint(dataset).intensities[0].mean
    monkeypatch.setattr("aistat_jax.nets.fingerprint.SAMPLE", 50)
    means = [fingerprint(dataset, seed=seed).intensities[0].mean for seed in (0, 1, 2, 0)]
    assert means[0] == means[3]
    assert len(set(means)) > 1
    assert np.abs(np.array(means) - whole).max() < 1.2  # four sd of a mean of 100


def test_a_dataset_without_foreground_or_with_one_case_is_refused(tmp_path):
    empty = np.zeros((6, 5, 4), dtype=np.uint8)
    alone = read_dataset(write_dataset(tmp_path / "one", [label_map()]))
    with pytest.raises(InputError, match="one: 1 case is too few, at least 2 .* hold one out"):
        fingerprint(alone)
    plan = plan_for(fingerprint(alone, at_least=1))
    assert plan.folds == 1
    with pytest.raises(InputError, match="none: all 2 label maps are empty; label at least one"):
        fingerprint(read_dataset(write_dataset(tmp_path / "none", [empty, empty])))


# ---- plan


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("memory_gib", [0.5, 2.0, 8.0, 24.0])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_a_plan_fits_its_memory_and_uses_it(dims, memory_gib, block):
    plan = plan_for(made(), dims=dims, memory_gib=memory_gib, block=block)
    a = plan.architecture
    assert memory_bytes(a, plan.patch, plan.batch) <= memory_gib * GIB
    larger = [n + m for n, m in zip(plan.patch, a.multiple, strict=True)]
    whole = all(n >= s for n, s in zip(plan.patch, (256, 256, 100), strict=False))
    assert (
        plan.batch == 32
        or memory_bytes(a, plan.patch, plan.batch + 1) > memory_gib * GIB
        or memory_bytes(a, tuple(larger), 2) > memory_gib * GIB
    )
    assert whole or plan.batch < 32
    assert all(n % m == 0 for n, m in zip(plan.patch, a.multiple, strict=True))
    edges = np.array(plan.patch) / a.multiple
    assert (edges >= 4).all()
    assert (edges < 8).all()
    assert a.widths[0] == 32
    assert max(a.widths) <= 256
    assert (a.channels, a.classes, a.block) == (2, 2, block)


def test_more_memory_gives_no_less():
    small, large = (plan_for(made(), dims=3, memory_gib=m) for m in (1.0, 16.0))
    assert np.prod(large.patch) * large.batch > np.prod(small.patch) * small.batch
    assert len(large.architecture.strides) >= len(small.architecture.strides)


def test_two_dimensions_and_two_and_a_half():
    plan = plan_for(made(shape=(200, 190, 40), spacing=(1.0, 1.0, 5.0)), slices=5)
    assert plan.architecture.channels == 10
    assert (plan.slices, plan.name, plan.spacing_mm) == (5, "Neck-2.5d5", (1.0, 1.0, 5.0))
    assert plan.patch == (224, 192)  # the median shape, rounded up to multiples of 32
    assert plan_for(made(), dims=3, slices=5).slices == 1


def kernels(architecture: Architecture) -> int:
    """How many weights the network's kernels have; nothing is computed."""
    net = nnx.eval_shape(lambda: UNet(architecture))
    return sum(w.size for w in jax.tree.leaves(nnx.state(net)) if len(w.shape) > 1)


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
def test_weights_are_counted_right_but_for_biases_and_norms(dims, block):
    strides = ((2,) * dims, (1,) * (dims - 1) + (2,))
    a = Architecture(dims, 2, 3, (4, 8, 8), strides, block=block, guidance=1)
    assert memory_bytes(a, (8,) * dims, 0) == 16 * kernels(a)


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "edge"), [(2, 64), (3, 48)])
def test_the_memory_estimate_is_what_a_compiler_plans(dims, edge):
    """Of a training step, and of a forward pass as `predict` counts it."""
    a = Architecture(dims, 2, 2, (8, 16, 32), ((2,) * dims,) * 2)
    patch = (edge,) * dims
    graph, state = nnx.split(UNet(a))

    def odds(state, x):
        return nnx.merge(graph, state)(x).logits

    def loss(state, x):
        return sum(jnp.square(jax.nn.softmax(each)).mean() for each in odds(state, x))

    def planned(function, batch=2):
        x = jax.ShapeDtypeStruct((batch, *patch, 2), jnp.float32)
        return jax.jit(function).lower(state, x).compile().memory_analysis().temp_size_in_bytes

    counted = memory_bytes(a, patch, 2) - memory_bytes(a, patch, 0)
    assert 0.7 < planned(jax.grad(loss)) / counted < 1.3
    assert 0.7 < planned(lambda *x: odds(*x)[0]) / (PASS_SHARE[dims] * counted) < 1.0
    # negative control: twice the batch is another number
    assert planned(jax.grad(loss), batch=4) / counted > 1.3


def test_a_coarse_axis_is_halved_later():
    strides = plan_for(made(spacing=(1.0, 1.0, 4.0)), dims=3, memory_gib=24).architecture.strides
    assert strides[:2] == ((2, 2, 1), (2, 2, 1))
    assert strides[2] == (2, 2, 2)
    # negative control: isotropic voxels are halved along every axis from the start
    even = plan_for(made(spacing=(1.0, 1.0, 1.0)), dims=3, memory_gib=24).architecture.strides
    assert even[0] == (2, 2, 2)


def test_spacing_is_the_median_and_on_a_coarse_axis_lower():
    spacings = tuple((1.0, 1.1, float(k)) for k in np.linspace(3, 8, 11))
    coarse = replace(made(cases=11), spacings_mm=spacings)
    assert plan_for(coarse, dims=3).spacing_mm == pytest.approx((1.0, 1.1, 3.5))
    assert plan_for(coarse, dims=2).spacing_mm == pytest.approx((1.0, 1.1, 5.5))
    mild = replace(coarse, spacings_mm=tuple((1.0, 1.1, s / 2) for _, _, s in spacings))
    assert plan_for(mild, dims=3).spacing_mm == pytest.approx((1.0, 1.1, 2.75))


def test_small_images_still_make_a_network():
    pixels = made(shape=(5, 6, 1), spacing=(1.0, 1.0, 1.0), unit="px")
    plan = plan_for(pixels)
    assert (plan.patch, plan.architecture.strides, plan.unit) == ((8, 8), ((2, 2),), "px")
    assert plan_for(pixels, dims=3).patch == (8, 8, 1)
    kernels(plan_for(pixels).architecture)


def test_normalisation_follows_the_quantity():
    pt, ct = plan_for(made()).normalisations
    assert (pt.kind, pt.low, pt.high, pt.scale) == ("suv", 0.0, 22.0, 4.0)
    assert (ct.kind, ct.low, ct.high, ct.centre, ct.scale) == ("ct", 1.0, 18.0, 5.0, 3.0)
    other = plan_for(replace(made(), quantities=("a.u.", "SUV")))
    assert [n.kind for n in other.normalisations] == ["zscore", "suv"]
    cold = Intensity(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    flat = plan_for(replace(made(), intensities=(cold, cold)))
    assert all(n.scale == 1.0 for n in flat.normalisations)


def test_impossible_wishes_are_refused():
    with pytest.raises(InputError, match="GiB even for the patch .* or lower `base_width`"):
        plan_for(made(), dims=3, memory_gib=0.001)
    for wrong in ({"dims": 4}, {"slices": 2}, {"slices": 0}):
        with pytest.raises(InputError, match="`dims` is 2 or 3 and `slices` odd"):
            plan_for(made(), **wrong)
    with pytest.raises(InputError, match="`base_width` 512 must be from 1 to max_width 256"):
        plan_for(made(), base_width=512)
    with pytest.raises(InputError, match="unknown block"):
        plan_for(made(), block="lego")


# ---- files


def test_plan_and_fingerprint_come_back_the_same(tmp_path):
    print_ = replace(made(), spacings_mm=((0.1, 1 / 3, 2.5),) * 10)
    assert load_fingerprint(save_fingerprint(print_, tmp_path / "new" / "f.json")) == print_
    solid = plan_for(made(), dims=3, block="residual")
    for plan in (plan_for(made()), solid, replace(solid, mirror_axes=(0, 2))):
        assert load_plan(save_plan(plan, tmp_path / "p.json")) == plan
        assert ("mirror_axes" in (tmp_path / "p.json").read_text()) == bool(plan.mirror_axes)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["f.json", "new", "p.json"]


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    path = save_plan(plan_for(made()), tmp_path / "p.json")
    whole = json.loads(path.read_text())

    def refuse(text: str, sentence: str) -> None:
        path.write_text(text)
        with pytest.raises(InputError, match=sentence) as caught:
            load_plan(path)
        assert str(caught.value).startswith(str(path))

    for text in ("", path.read_text()[:-40], "[1]", "{}", "\x00\xff"):
        refuse(text, "not a whole plan file; make the plan again")
    broken = [
        {key: value for key, value in whole.items() if key != "patch"},
        whole | {"more": 1},
        whole | {"architecture": whole["architecture"] | {"dims": 5}},
        whole | {"architecture": [1]},
        whole | {"channels": ["PT"]},
        whole | {"patch": [100, 100]},
        whole | {"spacing_mm": [1.0, 0.0, 1.0]},
        whole | {"mirror_axes": [2]},
        whole | {"mirror_axes": [0, 0]},
        whole | {"mirror_axes": 1},
        whole | {"normalisations": [{"kind": "guess"}] * 2},
    ]
    for content in broken:
        refuse(json.dumps(content), "not a whole plan file")
    refuse(json.dumps(whole | {"schema": 99}), "has schema 99 and this version reads 1; make it")
    refuse(json.dumps(whole | {"kind": "fingerprint"}), "this is a fingerprint, not a plan")
    path.unlink()
    with pytest.raises(InputError, match="no such file; make the plan first"):
        load_plan(path)


def test_a_write_cut_short_leaves_the_old_plan(tmp_path, monkeypatch):
    path = save_plan(plan_for(made()), tmp_path / "p.json")
    before = path.read_bytes()

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_plan(plan_for(made(), dims=3), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


# ---- folds


def test_folds_hold_every_case_once_and_patients_together():
    cases = [f"p{n:02d}_{visit}" for n in range(17) for visit in range(1 + n % 3)]
    split = folds(cases, 5, seed=3, patient_of=lambda case: case[:3])
    assert sorted(case for fold in split for case in fold) == sorted(cases)
    patients = [{case[:3] for case in fold} for fold in split]
    assert sum(map(len, patients)) == 17
    sizes = [len(fold) for fold in split]
    assert max(sizes) - min(sizes) <= 1
    assert split == folds(cases[::-1], 5, seed=3, patient_of=lambda case: case[:3])
    assert split != folds(cases, 5, seed=4, patient_of=lambda case: case[:3])
    # negative control: without the patient, visits are torn apart
    torn = [{case[:3] for case in fold} for fold in folds(cases, 5, seed=3)]
    assert sum(map(len, torn)) > 17


def test_folds_that_cannot_be_made_are_refused():
    for count in (1, 3):
        with pytest.raises(InputError, match=f"2 patients cannot be split into {count} folds"):
            folds(["a1", "a2", "b1"], count, seed=0, patient_of=lambda case: case[0])
