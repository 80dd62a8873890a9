"""How fast are hundreds of objects, and how well are real nuclei found and contoured?

300 synthetic objects in 1024^2 pixels, and the microscopy of the 2018 Data Science Bowl, from a
threshold and a watershed alone; beside it scikit-image's plain recipe (Otsu, distance, watershed).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.objects import label_objects, labelled_targets
from aistat_jax.inference.batch import fit_many
from aistat_jax.space.image import Image
from aistat_jax.space.star import star_chart
from aistat_jax.uncertainty.labels import label_map
from benchmarks._table import Result, Row
from benchmarks.patients import collections

SIDE, ACROSS, COUNT, RADIUS = 1024, 18, 300, 12.0
HARMONICS, RAYS = 8, 64
SPREAD = 1.0
HIT = 0.5


class Found(NamedTuple):
    """Objects of one image that match true ones (IoU above HIT), and how well."""

    hits: int
    found: int
    true: int
    dice: list[float]


def run(quick: bool) -> Result:
    rows = _speed(20 if quick else COUNT)
    details: list[dict[str, Any]] = []
    folder = collections() / "nuclei_dsb2018"
    if folder.is_dir():
        more, details = _nuclei(folder, 27 if quick else 1)
        rows += more
    notes = [
        f"Speed: {COUNT} objects of 12 px in a {SIDE}^2 image, {HARMONICS} harmonics on {RAYS} "
        "rays, 1,000 draws each, compiled before; no chains.",
        "Nuclei: every image of the collection in grey, dark or bright as its median says. A true "
        f"nucleus is found where an object overlaps it with IoU above {HIT:g}; Dice is of those.",
    ]
    return Result("Objects: hundreds in one image, and real nuclei", rows, notes, details)


# ------------------------------------------------------------------------------------ speed


def field(seed: int, count: int) -> Image:
    """Blurred star-shaped objects on a jittered lattice, in noise alike among neighbours."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    values = np.zeros((SIDE, SIDE))
    plane = Image.from_arrays(L=rng.random((SIDE, SIDE))).primary.grid.plane(0)
    sd = 0.06 * np.repeat(np.arange(1, 7) ** -1.5, 2)
    for n in range(count):
        centre = (np.array(divmod(n, ACROSS)) + 0.5) * SIDE / ACROSS + rng.uniform(-6, 6, 2)
        chart = star_chart(centre, 3 * RADIUS, plane, RAYS)
        wobble = np.asarray(chart.basis(6).functions)[:, 1:] @ (sd * rng.standard_normal(12))
        radii = RADIUS * np.exp(0.2 * rng.standard_normal() + wobble)
        low = np.maximum(np.floor(centre - 3 * RADIUS), 0).astype(int)
        part = plane.part(low, np.minimum(low + int(6 * RADIUS), SIDE))
        box = tuple(slice(a, a + b) for a, b in zip(low, part.shape, strict=True))
        values[box] = np.maximum(values[box], chart.inside(radii[None], part.points())[0])
    noise = ndimage.gaussian_filter(rng.standard_normal(values.shape), 0.7)
    return Image.from_arrays(L=ndimage.gaussian_filter(values, 1.0) + 0.2 * noise)


def _models(image: Image, labels: np.ndarray) -> list[BoundaryModel]:
    """A model for every label that can be one."""
    targets = labelled_targets(labels, image.primary.grid.plane(0), spread=SPREAD)
    evidence = intensity(image)

    def model(target: Any) -> BoundaryModel | None:
        try:
            return boundary_model(target, evidence, harmonics=HARMONICS, rays=RAYS)
        except InputError:
            return None

    with ThreadPoolExecutor() as cores:
        return [found for found in cores.map(model, targets) if found is not None]


def _speed(count: int) -> list[Row]:
    image = field(0, count)
    fit_many(_models(image, label_objects(image)[..., 0])[:8], fallback=False)
    start = time.perf_counter()
    labels = label_objects(image)[..., 0]
    found = time.perf_counter()
    models = _models(image, labels)
    read = time.perf_counter()
    posteriors = fit_many(models, fallback=False)
    fitted = time.perf_counter()
    label_map(posteriors, image.primary)
    mapped = time.perf_counter()
    doubtful = sum(not posterior.diagnostics.converged for posterior in posteriors)
    note = f"{len(posteriors)} objects; {doubtful} would be sampled by chains"
    return [
        Row("posteriors of all objects, warm", fitted - read, "s", at_most=5, note=note),
        Row("reading their evidence", read - found, "s"),
        Row("finding them", found - start, "s"),
        Row("a map of labels of the posteriors", mapped - fitted, "s"),
    ]


# ------------------------------------------------------------------------------------ nuclei


def _nuclei(folder: Path, step: int) -> tuple[list[Row], list[dict[str, Any]]]:
    from skimage.io import imread

    each: dict[str, list[Found]] = {"posteriors": [], "their start": [], "scikit-image": []}
    for path in sorted((folder / "images").iterdir())[::step]:
        grey = imread(path)[..., :3].mean(axis=-1)
        truth = imread(folder / "labels" / path.name).astype(int)
        dark = bool(np.median(grey) > 127)
        image = Image.from_arrays(L=grey)
        labels = label_objects(image, dark=dark)[..., 0]
        posteriors = fit_many(_models(image, labels), fallback=False)
        each["posteriors"].append(matched(label_map(posteriors, image.primary)[..., 0], truth))
        each["their start"].append(matched(labels, truth))
        each["scikit-image"].append(matched(plain_recipe(-grey if dark else grey), truth))
    rows, details = [], []
    for name, found in each.items():
        hits, many, true = (sum(getattr(f, key) for f in found) for key in Found._fields[:3])
        dice = np.concatenate([f.dice for f in found])
        f1 = 2 * hits / max(many + true, 1)
        rows.append(Row(f"object F1 at IoU {HIT:g}, {name}", f1, note=f"{true} true nuclei"))
        rows.append(Row(f"mean Dice of matched objects, {name}", float(dice.mean())))
        details.append({"what": name, "found": many, "true": true, "hits": hits, "F1": f1,
                        "mean Dice": float(dice.mean()), "share of Dice below 0.8":
                        float((dice < 0.8).mean())})  # fmt: skip
    return rows, details


def plain_recipe(grey: np.ndarray) -> np.ndarray:
    """Otsu's threshold, and the watershed of the distance transform from its peaks."""
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    hot = grey > threshold_otsu(grey)
    depth = np.asarray(ndimage.distance_transform_edt(hot))
    seeds = np.zeros(hot.shape, dtype=int)
    peaks = peak_local_max(depth, min_distance=7, labels=hot.astype(int))
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, seeds, mask=hot))


def matched(labels: np.ndarray, truth: np.ndarray) -> Found:
    """Which objects of a label map overlap true ones with IoU above HIT (at most one does)."""
    size = (int(labels.max()) + 1, int(truth.max()) + 1)
    both = np.bincount(labels.ravel() * size[1] + truth.ravel(), minlength=size[0] * size[1])
    both = both.reshape(size)
    own, true = both.sum(axis=1)[1:, None], both.sum(axis=0)[None, 1:]
    both = both[1:, 1:]
    hit = both > HIT * (own + true - both)
    dice = 2 * both[hit] / np.broadcast_to(own + true, both.shape)[hit]
    return Found(int(hit.sum()), int((own > 0).sum()), int((true > 0).sum()), dice.tolist())
