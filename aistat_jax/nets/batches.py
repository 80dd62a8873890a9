"""Which patches does a network learn from? Cases kept in memory, and windows cut out of them.

The host cuts windows somewhat larger than the patch, all of one shape, so that what is turned or
stretched into a patch on the device is real image. A batch follows from its random numbers alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import ArrayLike, Float, Int
from aistat_jax.io.nnunet import Dataset, read_case
from aistat_jax.nets.clicks import point_at
from aistat_jax.nets.example import Example
from aistat_jax.nets.plan import Plan
from aistat_jax.nets.prepare import join_planes, prepare, prepare_labels
from aistat_jax.nets.variation import Settings
from aistat_jax.space.image import Image


@record
class Learnable:
    """One case as a network learns from it: prepared values, and what was drawn on them.

    Shapes: values (i, j, k, channel) float32, as `prepare` returns them; labels (i, j, k) whole
    numbers, 0 is background; raters (i, j, k, rater), the labels that each of several people
    gave. One of the two is there; where both are, the network learns from the raters. A single
    slice has k = 1.
    """

    values: Float[np.ndarray, "i j k channel"]
    labels: Int[np.ndarray, "i j k"] | None = None
    raters: Int[np.ndarray, "i j k rater"] | None = None
    name: str = static(default="case")

    @property
    def drawn(self) -> Int[np.ndarray, "i j k rater"]:
        """What each rater drew; plain labels are those of one. Raises InputError for neither."""
        if self.raters is not None:
            return self.raters
        if self.labels is None:
            raise InputError(f"case {self.name} has neither labels nor raters; pass one of them")
        return self.labels[..., None]

    def check(self, plan: Plan) -> Learnable:
        """Itself. Raises InputError for values or labels that do not go with the plan."""
        drawn = self.drawn
        wanted = (*self.values.shape[:3], len(plan.channels))
        if self.values.shape != wanted or drawn.shape[:3] != wanted[:3] or 0 in drawn.shape:
            raise InputError(
                f"case {self.name}: values of shape {self.values.shape} and labels of shape "
                f"{drawn.shape} must be (i, j, k, {len(plan.channels)}) and (i, j, k); pass "
                "what the plan was made for"
            )
        if self.values.dtype != np.float32 or not np.isfinite(self.values).all():
            raise InputError(
                f"case {self.name}: the values must be finite float32 numbers; prepare it again"
            )
        low, high = int(drawn.min()), int(drawn.max())
        if low < 0 or high >= plan.architecture.classes:
            raise InputError(
                f"case {self.name}: labels run from {low} to {high} and the plan has 0 to "
                f"{plan.architecture.classes - 1}; correct the one or the other"
            )
        return self


@dataclass(frozen=True, eq=False)
class Pool:
    """Cases ready to be drawn from.

    places: of each case, for each foreground label it holds, the flat indices of the voxels
    that anyone gave it. window: voxels of what the host cuts, along the network's axes. soft:
    some case has raters, so that all give shares of raters in place of labels.
    """

    plan: Plan
    cases: tuple[Learnable, ...]
    places: tuple[tuple[np.ndarray, ...], ...]
    window: tuple[int, ...]
    soft: bool

    @property
    def with_foreground(self) -> tuple[int, ...]:
        """Numbers of the cases that hold any foreground."""
        return tuple(n for n, places in enumerate(self.places) if places)


@record
class Windows:
    """A batch on its way to the device.

    Shapes: examples (batch, *window, ...), whose raters are the share of raters for each
    foreground label, (batch, *window, class - 1), or None for plain labels, and whose guidance is
    None for a network without prompts; centres (batch, axis) int32, the voxel of each window that
    comes to index patch // 2.
    """

    examples: Example
    centres: Int[ArrayLike, "batch axis"]


def learnable(
    plan: Plan,
    image: Image,
    labels: Int[np.ndarray, "i j k"] | None = None,
    raters: Int[np.ndarray, "i j k rater"] | None = None,
    name: str = "case",
) -> Learnable:
    """An image and its labels, or several people's labels, resampled and normalised for a plan.

    Shapes: labels (i, j, k) or raters (i, j, k, rater) on the image's primary grid.
    Raises InputError as `prepare`, `prepare_labels` and `Learnable.check` do.
    """
    prepared = prepare(plan, image)
    grid = image.primary.grid
    if labels is not None:
        labels = prepare_labels(plan, labels, grid)
    if raters is not None:
        each = [prepare_labels(plan, rater, grid) for rater in np.moveaxis(raters, -1, 0)]
        raters = np.stack(each, axis=-1)
    return Learnable(prepared.values, labels, raters, name).check(plan)


def read_learnable(
    plan: Plan,
    dataset: Dataset,
    cases: Sequence[str] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> tuple[Learnable, ...]:
    """Cases of an nnU-Net dataset, by default all, prepared and kept in memory.

    `progress` is called with 1 after each. Raises InputError for cases that cannot be read or
    that do not go with the plan.
    """
    found = []
    for name in dataset.cases if cases is None else cases:
        case = read_case(dataset, name)
        found.append(learnable(plan, case.image, case.labels, name=name))
        if progress is not None:
            progress(1)
    return tuple(found)


def pool_cases(plan: Plan, cases: Sequence[Learnable], augmentation: Settings) -> Pool:
    """Cases to draw from. Raises InputError for none, or one that does not go with the plan."""
    if not cases:
        raise InputError("there are no cases to learn from; pass at least one")
    checked = tuple(case.check(plan) for case in cases)
    dims = plan.architecture.dims
    largest = np.max([case.values.shape[:dims] for case in checked], axis=0)
    room = window_shape(plan.patch, plan.spacing_mm[:dims], augmentation)
    window = tuple(min(n, int(most)) for n, most in zip(room, largest, strict=True))
    places = tuple(_places(case, plan.architecture.classes) for case in checked)
    soft = any(case.raters is not None for case in checked)
    return Pool(plan, checked, places, window, soft)


def window_shape(
    patch: tuple[int, ...], spacing_mm: Sequence[float], augmentation: Settings
) -> tuple[int, ...]:
    """Voxels that deformed patches are read from, along each axis.

    Room for a turn about any one axis, half of the range of zoom and three sd of the elastic
    deformation. Patches that reach further, turned about several axes at once and zoomed out,
    find zeros in their corners; full room would be up to four times the memory in 3D.
    """
    a = augmentation
    edge = np.array(patch, dtype=np.float64) * np.array(spacing_mm)
    room = edge.copy()
    turned = 2 if a.planar else len(patch)
    if a.rotation_deg.probability > 0:
        widest = math.radians(max(abs(a.rotation_deg.low), abs(a.rotation_deg.high)))
        angles = np.linspace(0, min(widest, math.pi / 2), 91)
        for i in range(turned):
            others = [edge[j] for j in range(turned) if j != i]
            room[i] = max((edge[i] * np.cos(angles) + n * np.sin(angles)).max() for n in others)
    if a.zoom.probability > 0:
        room[:turned] /= min(1.0, math.sqrt(a.zoom.low))
    if a.elastic_sd_mm.probability > 0:
        room[:turned] += 6 * a.elastic_sd_mm.high
    # two more voxels, for the linear interpolation at either end
    return tuple(
        p if n == e else math.ceil(n / s) + 2
        for p, n, e, s in zip(patch, room, edge, spacing_mm, strict=True)
    )


def draw(pool: Pool, rng: np.random.Generator, count: int) -> Windows:
    """A batch of windows, which depends on the pool and the random numbers alone.

    A third of the patches, rounded up, hold foreground for certain (before they are deformed):
    a case, one of its labels and one of that label's voxels are chosen, each evenly, and the
    patch is centred there, as far as the case reaches. The others lie anywhere in any case. This
    is nnU-Net's rule (Isensee et al. 2021), except that the third is drawn from cases that have
    foreground, where nnU-Net draws from all and so falls short of it. A patch leaves its case
    only where the case is smaller, and then begins with it and ends in zeros (background), as in
    `predict`. Cases are drawn with replacement.
    Without any foreground all patches lie anywhere. For a network with prompts each window has
    its own, and what they do not ask for is background (`point_at`). Shapes: see `Windows`.
    """
    plan, dims = pool.plan, pool.plan.architecture.dims
    certain = -(-count // 3) if pool.with_foreground else 0
    examples, centres = [], []
    for n in range(count):
        case, voxel = _at_foreground(pool, rng) if n < certain else _anywhere(pool, rng)
        example, start, centre = _cut(pool, case, voxel)
        if plan.architecture.guidance:
            place = [v - s for v, s in zip(voxel, start, strict=False)] if n < certain else None
            example = point_at(
                rng, example, plan.architecture.classes, plan.patch, centre,
                plan.spacing_mm[:dims], place,
            )  # fmt: skip
        examples.append(example)
        centres.append(centre)
    together = jax.tree.map(lambda *each: np.stack(each), *examples)
    return Windows(together, np.array(centres, dtype=np.int32))


def digest(pool: Pool) -> str:
    """Names, shapes and foreground of the cases, as one short word; values are not looked at."""
    words = hashlib.sha256()
    for case, places in zip(pool.cases, pool.places, strict=True):
        words.update(repr((case.name, case.values.shape, case.drawn.shape)).encode())
        for flat in places:
            words.update(flat.tobytes())
    return words.hexdigest()[:16]


def _places(case: Learnable, classes: int) -> tuple[np.ndarray, ...]:
    each = [np.flatnonzero((case.drawn == label).any(axis=-1)) for label in range(1, classes)]
    return tuple(flat for flat in each if len(flat))


def _at_foreground(pool: Pool, rng: np.random.Generator) -> tuple[Learnable, list[int]]:
    """A case and, along all three axes, a voxel of it that is foreground."""
    number = int(rng.choice(pool.with_foreground))
    case, places = pool.cases[number], pool.places[number]
    flat = places[rng.integers(len(places))]
    voxel = np.unravel_index(flat[rng.integers(len(flat))], case.values.shape[:3])
    return case, [int(n) for n in voxel]


def _anywhere(pool: Pool, rng: np.random.Generator) -> tuple[Learnable, list[int]]:
    """A case and a voxel of it that is the middle of a patch inside, every patch alike."""
    case = pool.cases[rng.integers(len(pool.cases))]
    voxel = []
    for axis, size in enumerate(case.values.shape[:3]):
        patch = pool.plan.patch[axis] if axis < len(pool.plan.patch) else 1
        voxel.append(int(rng.integers(max(0, size - patch) + 1)) + patch // 2)
    return case, voxel


def _cut(pool: Pool, case: Learnable, voxel: list[int]) -> tuple[Example, list[int], list[int]]:
    """A window, where in the case it starts, and where in it the middle of the patch is."""
    plan, dims = pool.plan, pool.plan.architecture.dims
    box, starts, centre, size = [], [], [], []
    for axis in range(dims):
        edge, patch, window = case.values.shape[axis], plan.patch[axis], pool.window[axis]
        first = min(max(0, voxel[axis] - patch // 2), max(0, edge - patch))
        middle = first + patch // 2
        start = min(max(0, middle - window // 2), max(0, edge - window))
        box.append(slice(start, min(edge, start + window)))
        starts.append(start)
        centre.append(middle - start)
        size.append(window)
    at = tuple(box) if dims == 3 else (*box, voxel[2])
    image = case.values[tuple(box)]
    if dims == 2:
        image = join_planes(image, voxel[2], plan.slices)
    drawn = case.drawn[at]
    if pool.soft:
        foreground = range(1, plan.architecture.classes)
        shares = [(drawn == label).mean(axis=-1, dtype=np.float32) for label in foreground]
        share = _fill(np.stack(shares, axis=-1), size)
        return Example(_fill(image, size), np.zeros(size, np.int32), share), starts, centre
    labels = drawn[..., 0].astype(np.int32)
    return Example(_fill(image, size), _fill(labels, size)), starts, centre


def _fill(part: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The part, with zeros at the end of the first axes up to `size`."""
    if part.shape[: len(size)] == tuple(size):
        return np.ascontiguousarray(part)
    whole = np.zeros((*size, *part.shape[len(size) :]), part.dtype)
    whole[tuple(slice(n) for n in part.shape[: len(size)])] = part
    return whole
