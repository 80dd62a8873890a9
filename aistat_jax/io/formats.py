"""What kind of file is this? Told by what is in it, whatever its name says."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

READ = (
    "read are NIfTI (.nii, .nii.gz), DICOM (a file, a folder or a .zip), greyscale PNG (.png) and "
    "NumPy archives of one array (.npz)"
)
NIFTI = {348: "Nifti1Image", 540: "Nifti2Image"}  # by the size of the header, its first number

_HEADER = 540
_MAGIC = (
    (b"II*\0", "a TIFF picture"), (b"MM\0*", "a TIFF picture"), (b"II+\0", "a BigTIFF picture"),
    (b"\xff\xd8\xff", "a JPEG picture"), (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"), (b"BM", "a BMP picture"), (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"PK\x03\x04", "a zip archive, as .npz is"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"NRRD", "an NRRD file"), (b"ObjectType", "a MetaImage file"), (b"CDF", "a NetCDF-3 file"),
    (b"7z\xbc\xaf", "a 7z archive"), (b"BZh", "a bzip2 file"), (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"%PDF", "a PDF document"), (b"<!DOCTYPE", "a web page"), (b"<html", "a web page"),
    (b"version https://git-lfs", "a pointer to a file of git-lfs, without the file"),
)  # fmt: skip


@dataclass(frozen=True)
class Content:
    """gzipped: packed by gzip. kind: in words, "" where it is not known. header: NIfTI's size."""

    gzipped: bool
    kind: str
    header: int = 0


def content_of(source: Path) -> Content:
    """What a file is by its first bytes, unpacked where they are gzip. Raises OSError."""
    with source.open("rb") as stream:
        first = stream.read(_HEADER)
    gzipped = first.startswith(b"\x1f\x8b")
    if gzipped:
        try:
            with gzip.open(source) as stream:
                first = stream.read(_HEADER)
        except (OSError, EOFError, zlib.error):
            first = b""
    return Content(gzipped, *_kind(first, gzipped))


def unpacked(source: Path, content: Content) -> bytes:
    """All bytes of a file, unpacked where they are gzip."""
    data = source.read_bytes()
    return gzip.decompress(data) if content.gzipped else data


def _kind(first: bytes, gzipped: bool) -> tuple[str, int]:
    for order in ("little", "big"):
        size = int.from_bytes(first[:4], order)
        if size in NIFTI:
            return "a NIfTI file", size
    if first[128:132] == b"DICM":
        return "a DICOM file", 0
    for magic, kind in _MAGIC:
        if first.startswith(magic):
            return kind, 0
    return ("" if first or gzipped else "an empty file"), 0
