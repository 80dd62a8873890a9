"""What numbers does one file of a series hold, as it stores them?"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.dicom.files import Member, whole
from aistat_jax.dicom.library import quietly
from aistat_jax.dicom.stack import Stack

MOST_SLICE = 1 << 30  # bytes
IMPLICIT = "1.2.840.10008.1.2"
_HEADS = {  # of the pixel data element, by the transfer syntaxes that need no unpacking
    IMPLICIT: (b"\xe0\x7f\x10\x00", 8),
    "1.2.840.10008.1.2.1": (b"\xe0\x7f\x10\x00OW\0\0", 12),
}


def room_for(stack: Stack) -> np.ndarray:
    """An array (slice, row, column) for the voxels of a series, once every file can be as large as
    its header claims. Raises InputError naming the file that cannot, or where memory is too small.
    """
    for member, said in zip(stack.members, stack.headers, strict=True):
        bits, samples = int(said.get("BitsAllocated") or 0), int(said.get("SamplesPerPixel") or 1)
        if samples != 1 or bits not in (8, 16, 32):
            raise InputError(
                f"{member.name}: pixels of {samples} samples and {bits} bits are not read; "
                "one number a voxel is"
            )
        claim = _claim(stack, said)
        if claim > MOST_SLICE or (not _packed(said) and claim > member.size):
            raise InputError(
                f"{member.name}: the header claims {claim:,} bytes of pixels, and the file has "
                f"{member.size:,}; copy or export it again"
            )
    try:
        return np.empty(stack.shape[::-1])
    except MemoryError as error:
        raise InputError(
            f"{stack.members[0].name}: there is not enough memory for {stack.shape} voxels"
        ) from error


def pixels_of(stack: Stack, n: int) -> np.ndarray:
    """Stored values (row, column) of slice n. Raises InputError naming the file."""
    member, said = stack.members[n], stack.headers[n]
    columns, rows, _ = stack.shape
    syntax, packed = said.file_meta.get("TransferSyntaxUID") or IMPLICIT, _packed(said)
    pixels = _plain(member, said, stack.ends[n], _claim(stack, said), str(syntax))
    if pixels is None:
        pixels = _unpacked(member, str(getattr(syntax, "name", syntax)) if packed else "")
    if pixels.size != rows * columns:
        raise InputError(f"{member.name}: the pixels are {pixels.shape}, not {(rows, columns)}")
    return pixels.reshape(rows, columns)


def _claim(stack: Stack, said: Any) -> int:
    """Bytes of the pixels of one file."""
    return stack.shape[0] * stack.shape[1] * int(said.BitsAllocated) // 8


def _packed(said: Any) -> bool:
    return bool(getattr(said.file_meta.get("TransferSyntaxUID"), "is_compressed", False))


def _plain(member: Member, said: Any, end: int, claim: int, syntax: str) -> np.ndarray | None:
    """Pixels straight from where the header ends; None where they have to be looked for."""
    head, length = _HEADS.get(syntax, (b"", 0))
    stored = int(said.get("BitsStored") or said.BitsAllocated)
    high = stored - 1 if said.get("HighBit") is None else int(said.HighBit)
    if not head or member.archive is not None or high != stored - 1:
        return None
    with member.path.open("rb") as stream:
        stream.seek(end)
        found = stream.read(length)
        if not found.startswith(head) or int.from_bytes(found[-4:], "little") != claim + claim % 2:
            return None
        data = stream.read(claim)
    if len(data) < claim:
        return None
    sign = "i" if said.get("PixelRepresentation") else "u"
    values = np.frombuffer(data, dtype=f"<{sign}{said.BitsAllocated // 8}")
    unused = int(said.BitsAllocated) - stored
    return (values << unused) >> unused if unused else values


def _unpacked(member: Member, syntax: str) -> np.ndarray:
    """Pixels as the library unpacks them."""
    file = whole(member)
    try:
        with quietly():
            return np.asarray(file.pixel_array)
    except Exception as error:  # every codec has errors of its own
        how = f", packed as {syntax}, cannot be unpacked" if syntax else " are damaged"
        raise InputError(
            f"{member.name}: the pixels{how}; decompress the series (such as by gdcmconv --raw) or "
            "copy it again"
        ) from error
