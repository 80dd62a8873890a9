"""What did another network say of an image? Its log-odds of one label, on the image's own grid.

Read are a probability map, log-odds or a mask (NIfTI, or .npz and .png in pixels), a stack of one
of these a class as the fourth axis of a NIfTI, and what nnU-Net's --save_probabilities leaves:
CASE.npz alone, whose geometry is that of the image (the pickle beside it is never opened); and a
DICOM SEG.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from scipy.special import logit, logsumexp

from aistat_jax._errors import InputError, InputWarning, about
from aistat_jax._typing import Float
from aistat_jax.dicom.files import holds_dicom
from aistat_jax.dicom.segmentations import STEPS, read_segmentation, segment_names
from aistat_jax.io.nifti import DAMAGED_ARRAYS, PathLike, describe, read_drawn, read_stack
from aistat_jax.space.grid import to_canonical
from aistat_jax.space.image import Channel

OUTPUTS = ("probability", "log-odds", "mask")
NNUNET = ("probabilities", "softmax")  # what an array of it is called in version 2, and in 1
LEAST = 1e-7  # a probability nearer to 0 or 1 says no more than this one, about that of a float32
SUM_SLACK = 0.01  # how far from 1 probabilities of all classes may add up to


def read_output(
    path: PathLike,
    like: Channel,
    output: str = "probability",
    label: int = 1,
    roi: str | None = None,
) -> Float[np.ndarray, "i j k"]:
    """Log-odds of one label by a network of any make, from the file that it wrote.

    output: "probability", "log-odds" (or logits), or "mask", for which the signed distance from
    the mask's edge in voxels stands in. label: which class of a stack, which value of a mask, or
    the number of which segment of a DICOM SEG, where 1 is the only one there is as well, and of
    several is said (an InputWarning). roi: the name of the segment, in place of its number.
    Probabilities of a SEG are in steps of 1/255 or coarser, so that none is nearer to 0 or 1 than
    half of one.
    `like` is the image's primary channel, on whose grid the file is. Raises InputError naming the
    file for one on another grid, and as `output_log_odds` and `read_segmentation` do.
    """
    source = Path(path)
    if holds_dicom(source):
        values = read_segmentation(source, like, _segment(source, label, roi))
        if output == "probability" and not np.isin(values, (0.0, 1.0)).all():
            values = np.clip(values, 0.5 / STEPS, 1 - 0.5 / STEPS)
        with about(source):
            return output_log_odds(values, like, output)
    if roi is not None:
        raise InputError(f"{source}: roi is the name of a segment of a DICOM SEG")
    if source.suffix.lower() == ".npz" and (name := _nnunet_array(source)):
        values = _from_nnunet(source, name, like)
    elif source.suffix.lower() in (".npz", ".png"):
        values = read_drawn(source, like, output)
    else:
        values, grid = read_stack(source)
        if not grid.matches(like.grid):
            raise InputError(
                f"{source}: {output} grid {describe(grid)} does not match image grid "
                f"{describe(like.grid)}; pass what the network says on the image's own grid"
            )
    with about(source):
        return output_log_odds(values, like, output, label)


def _segment(source: Path, label: int, roi: str | None) -> str | int | None:
    """Which segment of a SEG is meant, as `read_segmentation` takes it."""
    names = segment_names(source)
    if roi is not None:
        if label != 1 and names.get(label) != roi:
            raise InputError(f"{source}: segment {label} is not {roi!r}; pass one of the two")
        return roi
    if label == 1 and len(names) == 1:
        return None
    if label == 1 and 1 in names:
        said = f"{source}: of {len(names)} segments the one of number 1 is read, {names[1]}"
        warnings.warn(said, InputWarning, stacklevel=3)
    return label


def output_log_odds(
    values: np.ndarray, like: Channel, output: str = "probability", label: int = 1
) -> Float[np.ndarray, "i j k"]:
    """The same from an array on the canonical grid of `like`.

    Shapes: values (i, j, k), or (i, j, k, class) with the background first. Raises InputError for
    another shape, NaN, probabilities outside [0, 1] or of all classes that do not add up to 1, a
    mask where probabilities or log-odds are promised, and anything else where a mask is.
    """
    if output not in OUTPUTS:
        raise InputError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.shape[:3] != like.grid.shape or values.ndim > 4:
        raise InputError(
            f"the network's output has shape {values.shape} and the image {like.grid.shape}; pass "
            "one number a voxel, or one a voxel and class"
        )
    values = values.astype(float)
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise InputError(f"the network's output is NaN or infinite in {bad} voxels; predict again")
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    classes = values.shape[3] if values.ndim == 4 else None
    if classes is not None and not 0 < label < classes:
        raise InputError(f"there is no label {label} among {classes} classes, of which 0 is none")
    if output == "mask":
        return _of_mask(values, like, label)
    if (values == 1).any() and np.isin(values, (0.0, 1.0)).all():
        raise InputError(
            "every voxel is 0 or 1, so this is a mask and no more; pass `output` as mask, or what "
            f"the network says before it is rounded ({output})"
        )
    return _of_probabilities(values, label) if output == "probability" else _of_odds(values, label)


def _of_probabilities(values: np.ndarray, label: int) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if low < -SUM_SLACK or high > 1 + SUM_SLACK:
        raise InputError(
            f"probabilities must lie in [0, 1] and these run from {low:.3g} to {high:.3g}; pass "
            "`output` as log-odds if that is what they are, or divide percentages by 100"
        )
    if values.ndim == 4:
        total = values.sum(axis=-1)
        worst = float(total.flat[np.abs(total - 1).argmax()])
        if abs(worst - 1) > SUM_SLACK:
            raise InputError(
                f"probabilities of all classes must add up to 1 and these add up to {worst:.3g} "
                "somewhere; pass a softmax with its background, or one label's map alone"
            )
        values = values[..., label]
    return logit(np.clip(values, LEAST, 1 - LEAST))


def _of_odds(values: np.ndarray, label: int) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        raise InputError(
            f"log-odds run below and above 0 and these from {low:.3g} to {high:.3g}; pass "
            "`output` as probability if that is what they are"
        )
    if values.ndim == 3:
        return values
    return values[..., label] - logsumexp(np.delete(values, label, axis=-1), axis=-1)


def _of_mask(values: np.ndarray, like: Channel, label: int) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    if values.ndim == 4 or (values != np.rint(values)).any() or values.min() < 0:
        raise InputError("a mask must hold whole numbers from 0, one a voxel; pass its labels")
    mask = values == label
    if mask.all() or not mask.any():
        return np.full(values.shape, logit(1 - LEAST) * (1.0 if mask.any() else -1.0))
    sides = like.grid.spacing / np.sqrt(np.prod(like.grid.spacing[:2]))
    inside, outside = (np.asarray(distance_transform_edt(m, sampling=sides)) for m in (mask, ~mask))
    return inside - outside - 0.5 * mask + 0.5 * ~mask


def _nnunet_array(source: Path) -> str | None:
    """The name of the array of nnU-Net's that a file holds, or None."""
    try:
        with np.load(source, allow_pickle=False) as arrays:
            return next((name for name in NNUNET if name in arrays), None)
    except DAMAGED_ARRAYS as error:
        raise InputError(f"{source}: this is not a readable .npz; predict again") from error


def _from_nnunet(source: Path, name: str, like: Channel) -> np.ndarray:
    """(class, z, y, x), as its readers have it, on the canonical grid of the image (i, j, k, c)."""
    try:
        with np.load(source, allow_pickle=False) as arrays:
            found = arrays[name]
    except DAMAGED_ARRAYS as error:
        raise InputError(f"{source}: {name} is not an array of numbers; predict again") from error
    stored = like.storage
    if stored is None or like.origin is not None:
        raise InputError(
            f"{source}: nnU-Net's arrays lie on the voxels of the NIfTI file that it was given; "
            f"pass that file as channel {like.name}"
        )
    picture = like.source.lower().endswith(".png")
    # a picture is stored (u, v) with v up, and nnU-Net reads its rows from the top
    x, y, z = (*stored.shape, 1, 1)[:3]
    if found.ndim != 4 or found.shape[1:] != (z, y, x):
        raise InputError(
            f"{source}: {name} has shape {found.shape} and its image, from last to first axis, "
            f"{(z, y, x)}; pass the image that nnU-Net was given"
        )
    placed = np.transpose(found, (3, 2, 1, 0))
    placed = placed[:, ::-1] if picture else placed
    each = [to_canonical(placed[..., c], stored.axes) for c in range(placed.shape[-1])]
    return np.stack(each, axis=-1)
