"""How near can each chart come to real shapes, before any image is read?

For every drawn mask the Dice of the nearest boundary of a chart, as a model of the usual order can
have it: the star and offsets from a curve in slices, the star and offsets from a mesh in space.
The reference of the offsets is the mask itself, smoothed by their own rule. A shape that a chart
refuses counts as 0. Components of a mask are shapes of their own. A voxel counts as inside where
its centre is, of the mask as it was drawn, steps from slice to slice and all: what no smooth
surface can follow counts against every chart.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from aistat_jax._errors import InputError
from aistat_jax.boundary.choices import held, offsets_of, told
from aistat_jax.boundary.offsets import FINE
from aistat_jax.boundary.targets import Target
from aistat_jax.boundary.volume import volume_target
from aistat_jax.data.collections import SARCOMA
from aistat_jax.space.grid import Grid
from benchmarks._table import Result, Row
from benchmarks.patients import collections, of_each

# Components of fewer pixels, or voxels, are drawn too coarsely to have a shape.
PIXELS, VOXELS = 20, 100
GOOD, MEDIAN, SHARE = 0.95, 0.985, 0.95
CHOSEN, CEILING = "chosen", "its own outline, rounded"
# Shapes that are named where too many are held badly.
WORST = 5
# Slices that are looked at of one mask in space.
SLICES = 3


class Drawn(NamedTuple):
    """A mask (i, j) or (i, j, k), where it lies, and what it shows."""

    name: str
    mask: np.ndarray
    grid: Grid


# ------------------------------------------------------------------------------ collections


def masks(root: Path, name: str) -> Iterator[Drawn]:
    """Every drawn mask of a collection, one after the other."""
    yield from COLLECTIONS[name](root)


def _nifti(folder: Path, pattern: str) -> Iterator[Drawn]:
    import nibabel

    for path in sorted(folder.glob(pattern)):
        image: Any = nibabel.load(path)
        yield from _drawn(path.stem, np.asarray(image.dataobj) > 0, image.header.get_zooms()[:3])


def _nrrd(folder: Path) -> Iterator[Drawn]:
    for path in sorted(folder.glob("oncologist/*/segmentations/*.nrrd")):
        head, data = path.read_bytes().split(b"\n\n", 1)
        lines = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        shape = tuple(int(n) for n in lines["sizes"].split())
        axes = lines["space directions"].strip("()").split(") (")
        sides = [float(np.linalg.norm([float(x) for x in axis.split(",")])) for axis in axes]
        values = np.frombuffer(gzip.decompress(data), np.uint8).reshape(shape, order="F") > 0
        yield from _drawn(path.stem, values, sides)


def _sparse(folder: Path) -> Iterator[Drawn]:
    for path in sorted(folder.glob("pt_*/*.csv")):
        if path.stem in ("ct", "voxel_dimensions"):
            continue
        sides = np.loadtxt(path.parent / "voxel_dimensions.csv")
        lines = path.read_text().splitlines()[1:]
        values = np.zeros(128**3, dtype=bool)
        values[[int(line.split(",")[0]) for line in lines]] = True
        yield from _drawn(path.stem, values.reshape(128, 128, 128), sides)


def _nodules(folder: Path) -> Iterator[Drawn]:
    with np.load(folder / "val.npz") as data:
        packed = data["mask"]
    for number, readers in enumerate(packed):
        values = np.unpackbits(readers[0])[: 128 * 128].reshape(128, 128, 1) > 0
        yield from _drawn(f"slice {number}", values, (1.0, 1.0, 1.0))


def _pictures(folder: Path) -> Iterator[Drawn]:
    from PIL import Image

    for path in sorted(folder.glob("*.png")):
        labels = np.asarray(Image.open(path))
        labels = labels if labels.ndim == 2 else labels[..., 0]
        for label in np.unique(labels)[1:]:
            yield from _drawn(f"{path.stem} {label}", (labels == label)[..., None], (1.0, 1.0, 1.0))


COLLECTIONS: dict[str, Callable[[Path], Iterator[Drawn]]] = {
    "sarcomas, PET": lambda root: _nifti(root / SARCOMA, "*/PET_mask.nii.gz"),
    "sarcomas, CT": lambda root: _nifti(root / SARCOMA, "*/CT_mask.nii.gz"),
    "head and neck organs": lambda root: _nrrd(root / "deepmind_han_organs_2observers"),
    "head and neck, 4 mm": lambda root: _sparse(root / "openkbp_han_ct_oar_ptv"),
    "organs, 3 mm": lambda root: _nifti(
        root / "totalsegmentator_ct_organs", "example_seg_fast/*.nii.gz"
    ),
    "lung nodules": lambda root: _nodules(root / "lidc_slices_4readers"),
    "left ventricles": lambda root: _pictures(root / "sunnybrook_lv_png/Labels"),
    "nuclei": lambda root: _pictures(root / "nuclei_dsb2018/labels"),
}


def _drawn(name: str, mask: np.ndarray, sides: Any) -> Iterator[Drawn]:
    """A mask in the box that holds it; nothing where it is empty."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if found:
        part = mask[found[0]].copy()
        yield Drawn(name, part, _grid(part.shape, sides))


def _grid(shape: tuple[int, ...], sides: Any) -> Grid:
    i, j, k = (int(n) for n in shape)
    return Grid(np.diag([*(float(side) for side in sides), 1.0]), (i, j, k))


# ------------------------------------------------------------------------------- components


def components(drawn: Drawn, least: int) -> Iterator[Drawn]:
    """The connected parts of a mask of at least so many voxels, each in a box of its own."""
    labels, _ = ndimage.label(drawn.mask)  # pyright: ignore[reportGeneralTypeIssues]
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        part = np.pad(labels[box] == number, 3)
        if part.sum() >= least:
            yield Drawn(drawn.name, part, _grid(part.shape, drawn.grid.spacing))


def slices(drawn: Drawn) -> Iterator[Drawn]:
    """Some slices of a mask, spread evenly over those that it meets."""
    met = np.flatnonzero(drawn.mask.any(axis=(0, 1)))
    for k in met[np.linspace(0, len(met) - 1, SLICES + 2).round().astype(int)[1:-1]]:
        yield Drawn(drawn.name, drawn.mask[:, :, k : k + 1], drawn.grid)
        if drawn.grid.shape[2] == 1:
            break


# ----------------------------------------------------------------------------------- charts


def in_slice(part: Drawn) -> dict[str, float]:
    """What charts of a slice hold: see `_held`. The mask (i, j, k) is read at its only slice that
    is not empty."""
    k = int(part.mask.any(axis=(0, 1)).argmax())
    return _held(part.mask[:, :, k], part.grid.plane(k), Target.from_mask)


def in_space(part: Drawn) -> dict[str, float]:
    """What charts in space hold: see `_held`."""
    return _held(part.mask, part.grid, volume_target)


def _held(mask: np.ndarray, where: Any, star: Callable[..., Any]) -> dict[str, float]:
    """Dice of the nearest star, of the nearest offsets, of whichever of the two is chosen where
    nobody says, and of the outline itself with its steps rounded (the ceiling)."""
    try:
        made = star(mask, where)
        _, choice = told(lambda: made, mask, where, "target", "auto")
        name = "" if choice is None else choice.chart
        found = {"star": held(made, mask, where)}
    except InputError:
        name, found = "", {"star": 0.0}
    offsets, _ = offsets_of(mask, where, "target")
    found["offsets"] = 0.0 if isinstance(offsets, str) else held(offsets, mask, where)
    chosen = {"star": found["star"], "offset": found["offsets"]}.get(name, 0.0)
    return {**found, CHOSEN: chosen, CEILING: _rounded(mask)}


def _rounded(mask: np.ndarray) -> float:
    """Dice of a mask with the inside of its outline, holes filled and rounded by FINE voxels."""
    whole = ndimage.binary_fill_holes(mask)
    inside = ndimage.gaussian_filter(np.asarray(whole, dtype=float), FINE) > 0.5
    return 2 * float((inside & mask).sum()) / float(inside.sum() + mask.sum())


# ---------------------------------------------------------------------------------- figures


def some(each: Iterator[Drawn], most: int | None) -> list[Drawn]:
    """All, or so many spread evenly over them."""
    found = list(each)
    if most is None or len(found) <= most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]


def run(quick: bool) -> Result:
    root, rows, details = collections(), [], []
    flat, solid = (12, 3) if quick else (None, None)
    for name in COLLECTIONS:
        drawn = some(masks(root, name), 12 if quick else None)
        parts = (part for one in drawn for cut in slices(one) for part in components(cut, PIXELS))
        cuts = some(parts, flat)
        tables = [("slices", cuts, of_each(in_slice, cuts))]
        if drawn and drawn[0].grid.shape[2] > 1:
            whole = (part for one in drawn for part in components(one, VOXELS))
            shapes = some(whole, solid)
            tables.append(("in space", shapes, of_each(in_space, shapes)))
        for where, shapes, found in tables:
            if not found:
                continue
            details += [
                _detail(f"{name}, {where}", chart, [one[chart] for one in found])
                for chart in found[0]
            ]
            chosen = np.array([one[CHOSEN] for one in found])
            what, good = f"{name}, {where}", float((chosen >= GOOD).mean())
            rows.append(Row(f"{what}: median", float(np.median(chosen)), at_least=MEDIAN))
            worst = [f"{shapes[i].name} {chosen[i]:.3f}" for i in np.argsort(chosen)[:WORST]]
            note = "; ".join(worst) if good < SHARE else ""
            rows.append(Row(f"{what}: share at least {GOOD}", good, at_least=SHARE, note=note))
    notes = [
        "Of the chart that is chosen where nobody says; below, each chart by itself.",
        "Best Dice that a boundary of a chart can reach, by basis functions of the usual order.",
        "A component is a shape; of masks in space three slices, and the whole.",
        f"The ceiling is the mask's own outline, its steps rounded by {FINE} of a voxel.",
    ]
    return Result("How near each chart comes to real shapes", rows, notes, details)


def _detail(name: str, chart: str, dice: list[float]) -> dict[str, Any]:
    found = np.array(dice)
    return {
        "masks": name,
        "chart": chart,
        "shapes": len(found),
        "median": float(np.median(found)),
        "5th percentile": float(np.quantile(found, 0.05)),
        f"share at least {GOOD}": float((found >= GOOD).mean()),
        "refused": int((found == 0).sum()),
    }
