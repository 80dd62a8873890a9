"""How do images and masks come in from files, and go back in the input's own orientation?

NIfTI (.nii, .nii.gz) and DICOM (a folder, a file or a zip of a series) are in patient millimetres;
pictures (.png) and arrays (.npz) have no spacing and live in pixels.
"""

from __future__ import annotations

import math
import os
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError, InputWarning
from aistat_jax._files import replaced_file
from aistat_jax._typing import Bool
from aistat_jax.dicom.files import holds_dicom
from aistat_jax.dicom.image import read_series
from aistat_jax.dicom.marks import read_region
from aistat_jax.dicom.together import check_together
from aistat_jax.io.formats import NIFTI, READ, Content, content_of, unpacked
from aistat_jax.space.grid import (
    Grid,
    canonical_axes,
    canonical_grid,
    check_affine,
    from_canonical,
    to_canonical,
)
from aistat_jax.space.image import (
    Channel,
    Image,
    as_volume,
    channel_from_array,
    one_region,
    quantity_of,
)

PathLike = str | os.PathLike[str]

# How many bytes one packed byte can stand for, at most.
MOST_PACKED = {".gz": 1040, ".bz2": 50_000, ".zst": 50_000}
SAME_TRANSFORM = 0.1  # voxels between sform and qform that are rounding

_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_UNREADABLE = (OSError, EOFError, ValueError, OverflowError, KeyError, zlib.error)
DAMAGED_ARRAYS = (
    *_UNREADABLE, SyntaxError, tokenize.TokenError, RuntimeError, TypeError, IndexError,
    zipfile.BadZipFile,
)  # fmt: skip
"""What numpy may raise at a damaged .npz."""


def read_image(**paths: PathLike) -> Image:
    """Read one file, or DICOM series, a channel: `read_image(PT="pet.nii.gz", CT="ct_folder")`.

    Convention: each channel keeps its own grid, axes in canonical order (closest to RAS+);
    the first named is the primary one. The name sets the quantity: PT or PET is SUV, CT is HU,
    anything else arbitrary units. A .png is shown upright: u runs along its columns to the
    right, v up its rows; a .npz holds one array indexed (u, v) or (u, v, w). Of DICOM, which may
    be a folder, a file or a zip, the name says which modality is meant, and SUV is made of a PET as
    `read_series` says; series of different patients are refused.
    Raises InputError naming the file for anything that cannot be used as it is.
    """
    if not paths:
        raise InputError("no image was given; pass one file a channel, such as PT='pet.nii.gz'")
    channels = [read_channel(path, name) for name, path in paths.items()]
    check_together(channels)
    return Image.of(*channels)


def read_channel(path: PathLike, name: str = "image") -> Channel:
    """Read one channel from .nii, .nii.gz, DICOM, .png or .npz. Raises InputError naming it."""
    if holds_dicom(Path(path)):
        return read_series(path, name)
    source = _existing(path)
    quantity = quantity_of(name)
    if source.suffix.lower() in (".png", ".npz"):
        return channel_from_array(
            _read_pixels(source), np.eye(4), name=name, quantity=quantity, source=str(source),
            in_px=True,
        )  # fmt: skip
    stored = _read_nifti(source)
    return channel_from_array(
        stored.values, stored.affine, name=name, quantity=quantity, source=str(source),
        mm_per_unit=stored.mm_per_unit, codes=stored.codes, qform=stored.qform,
    )  # fmt: skip


def read_mask(
    path: PathLike, like: Channel | Grid, roi: str | None = None
) -> Bool[np.ndarray, "i j k"]:
    """Read a mask drawn on the grid of `like`: zero is outside, one other value is inside.

    `like` is a channel of the image, such as its primary one, or a grid.

    The mask may be stored in another axis order than the image, as long as its voxels are the
    same ones. Of DICOM an RTSTRUCT or a SEG is read, of which `roi` is the region's name where it
    holds several: voxels at least half inside. Shapes: returns (i, j, k) on the canonical grid of
    `like`. Raises InputError for an unreadable or empty mask, one with several labels or fractions,
    one on another grid, and whatever `mask_of` and `read_segmentation` of `dicom` refuse.
    """
    if holds_dicom(Path(path)):
        return read_region(path, like, roi)
    if roi is not None:
        raise InputError(f"{Path(path)}: `roi` is the name of a region of an RTSTRUCT or a SEG")
    source = _existing(path)
    volume = read_drawn(source, like, "mask")
    region = one_region(volume, f"{source}: the mask")
    if not region.any():
        raise InputError(f"{source}: the mask is empty; draw the region or pass another file")
    return region


def read_drawn(path: PathLike, like: Channel | Grid, what: str) -> np.ndarray:
    """Voxels as stored (i, j, k), but in canonical order, of a file drawn on the grid of `like`.

    The file may be stored in another axis order than the image, as long as its voxels are the
    same ones. `what` it is called in refusals. Raises InputError for an unreadable file or
    another grid.
    """
    if not isinstance(like, Channel | Grid):
        raise InputError(
            f"{Path(path)}: a {what} is read on the grid of a channel, such as image.primary, "
            f"or of a Grid, and not of {type(like).__name__}"
        )
    wanted = like.grid if isinstance(like, Channel) else like
    volume, grid = read_as_drawn(path)
    if not grid.matches(wanted):
        raise InputError(
            f"{Path(path)}: {what} grid {describe(grid)} does not match image grid "
            f"{describe(wanted)}; resample the {what} to the image, or pass its own image"
        )
    return volume


def read_as_drawn(path: PathLike) -> tuple[np.ndarray, Grid]:
    """Voxels as stored (i, j, k), but in canonical order, and their own grid.

    Raises InputError for a file that is not readable or not a volume; values are not looked at.
    """
    source = _existing(path)
    if source.suffix.lower() in (".png", ".npz"):
        return _placed(_read_pixels(source), np.eye(4), "px", source)
    stored = _read_nifti(source)
    return _placed(stored.values, stored.world, "mm", source)


def read_stack(path: PathLike) -> tuple[np.ndarray, Grid]:
    """The same of a NIfTI that may hold several numbers a voxel along its last axis, (i, j, k, c).

    Where it holds one the shape is (i, j, k).
    """
    source = _existing(path)
    stored = _read_nifti(source)
    values = stored.values
    if values.ndim == 5 and values.shape[3] == 1:  # a vector, as NIfTI has it
        values = values[:, :, :, 0]
    if values.ndim != 4 or values.shape[3] == 1:
        return _placed(values, stored.world, "mm", source)
    each = [_placed(values[..., c], stored.world, "mm", source) for c in range(values.shape[3])]
    return np.stack([volume for volume, _ in each], axis=-1), each[0][1]


def _placed(
    stored: np.ndarray, world: np.ndarray, unit: str, source: Path
) -> tuple[np.ndarray, Grid]:
    """Stored voxels in canonical order, and their grid."""
    volume = as_volume(stored, str(source))
    check_affine(world, str(source))
    axes = canonical_axes(world)
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    grid = canonical_grid(world, shape, axes, unit)
    return np.ascontiguousarray(to_canonical(volume, axes)), grid


def write_nifti(path: PathLike, values: np.ndarray, like: Channel) -> Path:
    """Write canonical voxels in the stored orientation and with the transforms of the input `like`.

    Written to a temporary name and moved into place. bool and integer values are stored as
    uint8, anything else as float32. Shapes: values (i, j, k) on the grid of `like`.
    Raises InputError for another shape, a name that is not .nii or .nii.gz, or pixels.
    """
    import nibabel

    target = Path(path)
    suffix = ".nii.gz" if target.name.endswith(".nii.gz") else ".nii"
    if not target.name.endswith(suffix):
        raise InputError(f"{target}: a NIfTI file ends in .nii or .nii.gz; rename the output")
    if like.unit == "px" or like.storage is None:
        raise InputError(
            f"{target}: channel {like.name} has no spacing, so a NIfTI file would have to "
            "invent one; save the array as .npz"
        )
    values = np.asarray(values)
    if values.shape != like.grid.shape:
        raise InputError(
            f"{target}: values of shape {values.shape} do not match the image's "
            f"{like.grid.shape}; pass values on the image's own grid"
        )
    whole = values.dtype.kind in "biu"
    if whole and values.size and not 0 <= int(values.min()) <= int(values.max()) <= 255:
        raise InputError(f"{target}: whole numbers must lie in 0 to 255; pass floats instead")
    storage = like.storage
    stored = from_canonical(values, storage.axes).reshape(storage.shape)
    stored = np.ascontiguousarray(stored.astype(np.uint8 if whole else np.float32))
    affine = np.array(storage.affine)
    sform, qform = storage.codes
    file = nibabel.Nifti1Image(stored, affine)
    file.header.set_xyzt_units(_unit_name(storage.mm_per_unit))
    file.set_sform(affine, code=sform or qform)
    other = affine if storage.qform is None else np.array(storage.qform)
    file.set_qform(other, code=qform or sform)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(target) as temporary:
        nibabel.save(file, temporary)
    return target


def _existing(path: PathLike) -> Path:
    source = Path(path)
    if source.is_dir():
        raise InputError(f"{source}: this is a folder; pass an image file (.nii, .nii.gz)")
    if not source.is_file():
        raise InputError(f"{source}: there is no such file; check the path")
    return source


class _Stored(NamedTuple):
    """Stored voxels, affine, millimetres per length unit, (sform, qform) codes, a qform apart."""

    values: np.ndarray
    affine: np.ndarray
    mm_per_unit: float
    codes: tuple[int, int]
    qform: np.ndarray | None

    @property
    def world(self) -> np.ndarray:
        """The affine in millimetres."""
        return self.affine * np.array([[self.mm_per_unit]] * 3 + [[1.0]])


def _read_nifti(source: Path) -> _Stored:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    broken = (*_UNREADABLE, ImageFileError, HeaderDataError, WrapStructError)
    content = content_of(source)
    try:
        file: Any
        if content.header and content.gzipped != (source.suffix.lower() == ".gz"):
            file = getattr(nibabel, NIFTI[content.header]).from_bytes(unpacked(source, content))
        else:
            file = nibabel.load(source)
    except broken as error:
        raise InputError(f"{source}: {_not_nifti(source, content)}") from error
    if not isinstance(file, nibabel.Nifti1Pair):
        raise InputError(
            f"{source}: this is a {type(file).__name__}, not a NIfTI file; convert it to .nii.gz"
        )
    header = file.header
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    if codes == (0, 0):
        raise InputError(
            f"{source}: the header has no affine (sform and qform codes are both 0), so the "
            "orientation is unknown; set the sform from the original images"
        )
    pixdim = _stored_spacing(file)
    if codes[0] == 0 and not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise InputError(
            f"{source}: the voxel spacing in the header is {tuple(float(p) for p in pixdim)} "
            "and must be positive along every axis; repair the header"
        )
    mm_per_unit = _MM_PER_UNIT.get(_unit_of(header), 1.0)
    _check_claim(file, source, content)
    try:
        values = np.asanyarray(file.dataobj)
        if content.gzipped:
            _check_whole(source)
    except (*broken, MemoryError) as error:
        raise InputError(
            f"{source}: the voxel data are cut short or damaged; copy or export the file again"
        ) from error
    affine = np.asarray(file.affine, dtype=np.float64)
    qform = _other_transform(file, source, codes, mm_per_unit)
    return _Stored(values, affine, mm_per_unit, codes, qform)


def _unit_of(header: Any) -> str:
    """The unit of length that a header names; "unknown" for a code that is none."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def _check_claim(file: Any, source: Path, content: Content) -> None:
    """Refuse a header that claims more voxels than its file can hold, before any room is made."""
    claimed = math.prod(map(int, file.shape)) * file.get_data_dtype().itemsize
    holder = file.file_map["image"].filename  # beside a header, or None where it was unpacked here
    size = Path(holder or source).stat().st_size
    ending = ".gz" if content.gzipped else Path(str(holder).lower()).suffix
    packed = ending in MOST_PACKED
    if not 0 <= claimed <= size * MOST_PACKED.get(ending, 1):
        raise InputError(
            f"{source}: cut short or damaged: the header claims {claimed:,} bytes of voxels, and "
            f"the file holds {size:,}{' packed' if packed else ''}; copy or export the file again"
        )


def _not_nifti(source: Path, content: Content) -> str:
    """Why a file is not read, and what is."""
    if content.kind == "a DICOM file":
        return "this is a DICOM file, which is no mask; a mask is NIfTI, an RTSTRUCT or a SEG"
    if content.kind and not content.header:
        return f"this is {content.kind}, which is not read; {READ}"
    if source.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return (
            "this is not a readable NIfTI file; pass .nii or .nii.gz, or the folder of a DICOM "
            "series"
        )
    return f"files of this kind are not read; {READ}"


def _other_transform(
    file: Any, source: Path, codes: tuple[int, int], mm_per_unit: float
) -> np.ndarray | None:
    """The qform of a file that is read by its sform, where the two differ; that is said."""
    from nibabel.spatialimages import HeaderDataError

    if 0 in codes:
        return None
    try:
        sform, qform = file.get_sform(), file.get_qform()
    except (HeaderDataError, ValueError):
        return None
    if np.linalg.det(sform[:3, :3]) == 0:
        return None  # it will be refused
    ends = np.array([(0, n - 1) for n in (*file.shape, 1, 1, 1)[:3]])
    corners = np.stack(np.meshgrid(*ends, [1], indexing="ij"), axis=-1).reshape(-1, 4)
    apart = np.linalg.norm(corners @ (sform - qform).T, axis=1).max()
    if not apart > SAME_TRANSFORM * np.linalg.norm(sform[:3, :3], axis=0).min():
        return None
    warnings.warn(
        f"{source}: its two transforms, sform and qform, place it up to {apart * mm_per_unit:.3g} "
        "mm apart; the sform is used, and files on its grid keep both",
        InputWarning,
        stacklevel=2,
    )
    return qform


def _stored_spacing(file: Any) -> np.ndarray:
    """Spacing as the header holds it; loading would replace zeros by ones."""
    holder = file.file_map.get("header") or file.file_map["image"]
    with holder.get_prepare_fileobj("rb") as stream:
        header = type(file.header).from_fileobj(stream, check=False)
    return np.asarray(header["pixdim"], dtype=float)[1:4]


def _check_whole(source: Path) -> None:
    """Read gzip to its end, where the checksum is: damage in the middle shows nowhere else."""
    import gzip

    with gzip.open(source) as stream:
        while stream.read(1 << 24):
            pass


def _read_pixels(source: Path) -> np.ndarray:
    return _read_png(source) if source.suffix.lower() == ".png" else _read_npz(source)


def _read_png(source: Path) -> np.ndarray:
    from PIL import Image as Picture

    try:
        with Picture.open(source, formats=["PNG"]) as picture:
            if picture.mode == "P":
                picture = picture.convert("RGB")
            pixels = np.asarray(picture)
    except (*_UNREADABLE, SyntaxError, MemoryError, Picture.DecompressionBombError) as error:
        kind = content_of(source).kind or "not a readable PNG"
        raise InputError(f"{source}: this is {kind}; export the picture as PNG again") from error
    if pixels.ndim == 3:
        colours = pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]
        if (colours != colours[..., :1]).any():
            raise InputError(f"{source}: this is a colour picture; save it as greyscale")
        pixels = colours[..., 0]
    return pixels[::-1].T


def _read_npz(source: Path) -> np.ndarray:
    try:
        with np.load(source, allow_pickle=False) as arrays:
            names = list(arrays)
            found = [arrays[name] for name in names[:1]]
    except MemoryError as error:
        raise InputError(
            f"{source}: the .npz claims more numbers than there is memory for; save it again if "
            "it should hold fewer"
        ) from error
    except DAMAGED_ARRAYS as error:
        raise InputError(
            f"{source}: this is not a readable .npz of numbers; save it again"
        ) from error
    if len(names) != 1:
        raise InputError(
            f"{source}: the file holds {len(names)} arrays ({', '.join(names)}) and must hold "
            "one; save the image alone"
        )
    return found[0]


def describe(grid: Any) -> str:
    spacing = ", ".join(f"{s:.4g}" for s in grid.spacing)
    origin = ", ".join(f"{o:.4g}" for o in grid.affine[:3, 3])
    return f"({grid.shape} voxels, spacing ({spacing}) {grid.unit}, first voxel at ({origin}))"


def _unit_name(mm_per_unit: float) -> str:
    return {1000.0: "meter", 0.001: "micron"}.get(mm_per_unit, "mm")
