"""How should a network be sized for a dataset? From its fingerprint, as a plan in JSON.

The rules are those of nnU-Net (Isensee et al. 2021, Nature Methods 18:203): spacing from the
median, patch from the median shape and the memory there is, depth from the patch.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.nets._json import broken, read_json, write_json
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import backbone as backbone_named
from aistat_jax.nets.fingerprint import Fingerprint, Intensity, Triple

EDGE = 4  # voxels of the coarsest feature map along an axis that was halved
BATCHES = (2, 32)
FOLDS = 5
KINDS = ("ct", "suv", "zscore", "zscore-box", "zscore-mask")
LATER = ("mirror_axes", "backbone", "options")  # fields that the first plans did not have
ANISOTROPIC = 3.0  # spacing of the coarse axis over the next, from which it is treated apart


@dataclass(frozen=True)
class Normalisation:
    """How a channel's values v become a network's input; v is clipped to [low, high] first.

    kind "ct": (v - centre) / scale with the foreground's mean and sd.
    kind "suv": log2(1 + v / scale), so that the foreground's median becomes 1. It is the same
    for every image: SUV means the same in all of them, and a z-score would depend on how much
    of the image is bladder or air. The logarithm and not the root: the sd of an image
    reconstructed by EM has a factor of its mean (Barrett, Wilson & Tsui 1994, Physics in Medicine
    and Biology 39), and the root's slope at 0 blows up empty background.
    kind "zscore": (v - mean) / sd of the image itself; the four numbers are not used.
    kind "zscore-box": the same with mean and sd inside the box round what is not 0, and
    "zscore-mask": with those of what is not 0, holes filled, and 0 outside of it (nnU-Net's).
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Plan:
    """All that turns an image into a network's input, and the network's size.

    spacing_mm: of the working grid, (i, j, k); in 2D planes stay where they are and the third is
    only a record. slices: neighbouring planes seen at once, odd, 1 in 3D. patch: voxels along
    the network's axes, (dims,). unit: "px" where the dataset's images have no spacing.
    mirror_axes: of the network, along which it may be asked for mirror images; None for all.
    """

    name: str
    architecture: Architecture
    channels: tuple[str, ...]
    quantities: tuple[str, ...]
    labels: tuple[str, ...]
    normalisations: tuple[Normalisation, ...]
    spacing_mm: Triple
    patch: tuple[int, ...]
    batch: int
    slices: int = 1
    folds: int = FOLDS
    seed: int = 0
    unit: str = "mm"
    mirror_axes: tuple[int, ...] | None = None

    def check(self) -> Plan:
        """Itself. Raises InputError where the parts do not fit each other."""
        a = self.architecture.check()
        number = len(self.channels)
        if not len(self.quantities) == len(self.normalisations) == number > 0:
            raise InputError(f"every one of {number} channels needs a quantity and a normalisation")
        if a.channels != number * (self.slices if a.dims == 2 else 1):
            raise InputError(f"{number} channels do not make the network's {a.channels} inputs")
        if a.classes != len(self.labels):
            raise InputError(f"{len(self.labels)} labels do not make {a.classes} classes")
        if any(n.kind not in KINDS or n.scale <= 0 for n in self.normalisations):
            raise InputError(f"a normalisation is one of {', '.join(KINDS)} with a positive scale")
        if len(self.patch) != a.dims or any(
            n < 1 or n % m for n, m in zip(self.patch, a.multiple, strict=True)
        ):
            raise InputError(f"the patch {self.patch} must be multiples of {a.multiple}")
        if a.strides and self.patch == a.multiple:
            raise InputError(
                f"the patch {self.patch} is too small for {len(a.strides)} steps down: one voxel "
                f"would be left; double an edge or take fewer steps"
            )
        if len(self.spacing_mm) != 3 or not min(self.spacing_mm) > 0 or self.batch < 1:
            raise InputError("spacing_mm must be three positive numbers and batch at least 1")
        mirrored = () if self.mirror_axes is None else self.mirror_axes
        if len(set(mirrored)) < len(mirrored) or not set(mirrored) <= set(range(a.dims)):
            raise InputError(f"mirror_axes must be some of {tuple(range(a.dims))}, got {mirrored}")
        return self


def plan_for(
    fingerprint: Fingerprint,
    *,
    dims: int = 2,
    slices: int = 1,
    memory_gib: float = 8.0,
    base_width: int = 32,
    max_width: int = 256,
    block: str = "plain",
    guidance: int = 0,
    seed: int = 0,
    backbone: str = "unet",
    options: tuple[tuple[str, Any], ...] = (),
) -> Plan:
    """The network and the working grid for a dataset, for a training step within `memory_gib`.

    Spacing is the median of the cases; in 3D a coarse axis (over 3 times the next) takes the
    10th percentile instead. The patch starts at the median shape and its edge longest in mm is
    cut until the smallest batch fits (`memory_bytes`); what is left makes the batch larger.
    guidance: 3 for a network that can be asked for one lesion (prompts.py). backbone: one of
    BACKBONES, and options of its own; block is the U-Net's.
    Raises InputError for slices that are even, unknown blocks, backbones or options, or too
    little memory.
    """
    if dims not in (2, 3) or slices < 1 or slices % 2 == 0:
        raise InputError(f"`dims` is 2 or 3 and `slices` odd, got dims={dims} and slices={slices}")
    if not (1 <= base_width <= max_width and memory_gib > 0):
        raise InputError(
            f"`base_width` {base_width} must be from 1 to max_width {max_width}, and `memory_gib` "
            f"{memory_gib} positive"
        )
    slices = slices if dims == 2 else 1
    kind = backbone_named(backbone)
    spacing = _working_spacing(np.array(fingerprint.spacings_mm), dims)
    size = np.array(fingerprint.shapes) * np.array(fingerprint.spacings_mm) / spacing
    patch = tuple(max(1, round(float(n))) for n in np.median(size, axis=0)[:dims])

    def network(strides: tuple[tuple[int, ...], ...]) -> Architecture:
        shares = kind.widths or tuple(2**s for s in range(len(strides) + 1))
        most = max_width if not kind.widths else max(kind.widths) * base_width
        widths = tuple(max(1, int(min(base_width * share, most))) for share in shares)
        return Architecture(
            dims=dims, channels=len(fingerprint.channels) * slices,
            classes=len(fingerprint.labels), widths=widths, strides=strides, block=block,
            deep_supervision=kind.deep, guidance=guidance, backbone=backbone, options=options,
        ).check()  # fmt: skip

    budget = memory_gib * 2**30
    steps = None if kind.steps is None else ((2,) * dims,) * kind.steps
    patch, architecture = _fit_patch(patch, spacing[:dims], network, budget, steps)
    fixed = memory_bytes(architecture, patch, 0)
    each = memory_bytes(architecture, patch, 1) - fixed
    name = f"{fingerprint.name}-" + (f"{dims}d" if slices == 1 else f"2.5d{slices}")
    return Plan(
        name=name if backbone == "unet" else f"{name}-{backbone}", architecture=architecture,
        channels=fingerprint.channels, quantities=fingerprint.quantities,
        labels=fingerprint.labels,
        normalisations=tuple(map(_normalisation, fingerprint.quantities, fingerprint.intensities)),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])), patch=patch,
        batch=int(np.clip((budget - fixed) // each, *BATCHES)), slices=slices,
        folds=min(FOLDS, len(fingerprint.cases)), seed=seed, unit=fingerprint.unit,
    ).check()  # fmt: skip


def _working_spacing(spacings: np.ndarray, dims: int) -> np.ndarray:
    spacing = np.median(spacings, axis=0)
    coarse = int(spacing.argmax())
    next_to_it = np.delete(spacing, coarse).max()
    if dims == 3 and spacing[coarse] > ANISOTROPIC * next_to_it:
        spacing[coarse] = max(np.percentile(spacings[:, coarse], 10), next_to_it)
    return spacing


def _normalisation(quantity: str, found: Intensity) -> Normalisation:
    if quantity == "HU":
        return Normalisation("ct", found.p0_5, found.p99_5, found.mean, found.sd or 1.0)
    if quantity == "SUV":
        scale = found.p50 if found.p50 > 0 else 1.0
        return Normalisation("suv", 0.0, max(found.p99_9, scale), 0.0, scale)
    return Normalisation("zscore")


def _fit_patch(
    patch: tuple[int, ...],
    spacing: np.ndarray,
    network: Callable[[tuple[tuple[int, ...], ...]], Architecture],
    budget: float,
    steps: tuple[tuple[int, ...], ...] | None = None,
) -> tuple[tuple[int, ...], Architecture]:
    """The largest patch whose smallest batch fits, and its network, of `steps` down if given."""
    least = 2 * EDGE if steps is None else max(2 * EDGE, 2 * 2 ** len(steps))
    small = 2 if steps is None else len(patch)  # a network of given steps halves every axis
    patch = tuple(max(n, least) if axis < small else n for axis, n in enumerate(patch))
    while True:
        patch, strides = _divisible(patch, spacing, steps)
        architecture = network(strides)
        needed = memory_bytes(architecture, patch, BATCHES[0])
        if needed <= budget:
            return patch, architecture
        shorter = [n - m for n, m in zip(patch, architecture.multiple, strict=True)]
        free = [axis for axis, n in enumerate(shorter) if n >= least]
        if not free:
            raise InputError(
                f"a training step needs {needed / 2**30:.2g} GiB even for the patch {patch}, and "
                f"`memory_gib` is {budget / 2**30:.2g}; raise it or lower `base_width` or max_width"
            )
        longest = max(free, key=lambda axis: patch[axis] * spacing[axis])
        patch = tuple(shorter[a] if a == longest else n for a, n in enumerate(patch))


def _divisible(
    patch: tuple[int, ...], spacing: np.ndarray, given: tuple[tuple[int, ...], ...] | None = None
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The patch rounded up to what its own strides, or those given, divide, and those strides."""
    while True:
        strides = _strides(patch, spacing) if given is None else given
        steps = np.prod(strides, axis=0, dtype=int)
        rounded = tuple(int(-(-n // m) * m) for n, m in zip(patch, steps, strict=True))
        if rounded == patch:
            return patch, strides
        patch = rounded


def _strides(patch: tuple[int, ...], spacing: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Steps down while an edge can be halved; axes over twice as coarse as the finest wait."""
    edge, step = np.array(patch, dtype=float), np.array(spacing, dtype=float)
    strides = []
    while (long := edge >= 2 * EDGE).any():
        halved = long & (step < 2 * step[long].min())
        strides.append(tuple(int(n) for n in 1 + halved))
        edge, step = edge / strides[-1], step * strides[-1]
    return tuple(strides)


def memory_bytes(architecture: Architecture, patch: Sequence[int], batch: int) -> int:
    """Bytes of one training step (forward and backward, float32), estimated.

    With n voxels and w features at a stage, what is kept for the backward pass is, an example:
    the input; 2 w n for each of a block's two convolutions (its output, and that after norm and
    rectifier), and for the short cut of a residual block; 3 w n for what a decoder block takes
    (the up-sampled features, joined with the skip); 3 n a class for each head (log-odds,
    probabilities, gradient). The backward pass adds gradients, taken as 8 w n of the finest
    stage. Weights count four times: with their gradient and two moments. Not counted: copies
    that a compiler or a convolution library makes for speed. XLA on a CPU planned 0.7 to 0.9
    times this for 2D networks and 0.9 to 1.1 times for 3D ones.
    Other backbones, and U-Nets with options, are traced (footprint.py).
    """
    a = architecture
    if a.backbone != "unet" or a.options:
        from aistat_jax.nets.footprint import footprint

        kept, weights = footprint(a, tuple(patch))
        return int(4 * batch * kept + 16 * weights)
    voxels = [float(math.prod(patch))]
    for stride in a.strides:
        voxels.append(voxels[-1] / math.prod(stride))
    block = 6 if a.block == "residual" else 4
    work = [w * n for w, n in zip(a.widths, voxels, strict=True)]
    heads = sum(voxels[:-1]) if a.deep_supervision else voxels[0]
    values = (
        (a.channels + a.guidance) * voxels[0]
        + block * sum(work)
        + (block + 3) * sum(work[:-1])
        + 3 * a.classes * heads
        + 8 * work[0]
    )
    return int(4 * batch * values + 16 * _weights(a))


def _weights(a: Architecture) -> int:
    """Kernels of the convolutions; biases and norms are too few to count."""
    window = 3**a.dims
    inputs = (a.channels + a.guidance, *a.widths[:-1])
    short = 1 if a.block == "residual" else 0
    total = 0
    for i, w in zip(inputs, a.widths, strict=True):
        total += window * (i * w + w * w) + (short * i * w if i != w else 0)
    for fine, coarse, stride in zip(a.widths[:-1], a.widths[1:], a.strides, strict=True):
        total += math.prod(stride) * coarse * fine + fine * a.classes
        total += window * 3 * fine * fine + short * 2 * fine * fine
    return total


def folds(
    cases: Sequence[str],
    count: int,
    seed: int,
    patient_of: Callable[[str], str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Split cases into `count` folds of nearly equal size; a patient's cases stay together.

    patient_of: the patient of a case; every case is its own without it. The split depends on
    the seed and the names alone, not on their order.
    Raises InputError for fewer than two folds, or more folds than patients.

    >>> folds(["a1", "a2", "b1", "c1"], 2, seed=0, patient_of=lambda case: case[0])
    (('a1', 'a2'), ('b1', 'c1'))
    """
    patients: dict[str, list[str]] = defaultdict(list)
    for case in sorted(set(cases)):
        patients[patient_of(case) if patient_of else case].append(case)
    if not 2 <= count <= len(patients):
        raise InputError(
            f"{len(patients)} patients cannot be split into {count} folds; choose 2 to "
            f"{len(patients)} folds, or add patients"
        )

    def drawn(patient: str) -> tuple[int, str]:
        return -len(patients[patient]), hashlib.sha256(f"{seed} {patient}".encode()).hexdigest()

    split: list[list[str]] = [[] for _ in range(count)]
    for patient in sorted(patients, key=drawn):
        min(split, key=len).extend(patients[patient])
    return tuple(tuple(sorted(fold)) for fold in split)


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> Path:
    """Write a plan as JSON, to a temporary name and then moved into place."""
    return write_json("plan", plan_content(plan), Path(path))


def plan_content(plan: Plan) -> dict[str, Any]:
    """A plan as JSON has it; what came later than plans themselves is left out at its default."""
    content = asdict(plan)
    for record, part in ((Plan, content), (Architecture, content["architecture"])):
        for field in fields(record):
            if field.name in LATER and part[field.name] == field.default:
                del part[field.name]
    return content


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan. Raises InputError for damaged JSON, another schema, or parts that do not fit."""
    content = read_json("plan", Path(path))
    try:
        content["architecture"] = Architecture(**content["architecture"])
        content["normalisations"] = tuple(Normalisation(**n) for n in content["normalisations"])
        return Plan(**content).check()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken("plan", path) from error
