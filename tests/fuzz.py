"""What do readers make of damaged files? One reader and many of them, for some seconds.

`python -m tests.fuzz READER,READER SAMPLES SECONDS [ROUNDS]` reads files whose bytes Hypothesis has
changed: bits flipped, cut short, parts moved, doubled or overwritten by huge lengths, of what is
packed also within. A reader may give what it reads or raise InputError. Whatever else it does is
listed once a place in the code, and the file is kept beside the samples: another error, more than
`MOST_S` seconds of the processor, more than `MOST_MIB` of memory. A line a reader says how many
files there were and how many were refused; the status is 1 where something was listed.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from aistat_jax._errors import InputError

MOST_S, MOST_MIB, GUARD_GIB = 10.0, 400, 4
LEAST = 10  # files, however slow the computer is
HEADER = 512  # bytes that are changed as often as all others together
HUGE = (
    b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00" * 4, b"\x7f\xff\xff\xff", b"\x00\xe4\x0bT\x02\0\0\0",
    b"\x80", b"\xff", b"\x00", b"99999999", b"-1", b"1e999", b"nan", b"../", b"\n", b"{", b'"',
)  # fmt: skip
Read = Callable[[Path], Any]


class Late(BaseException):
    """Raised in a reader that takes too long."""


# ------------------------------------------------------------------------------------ mutations


def _flip(data: bytearray, at: int, more: int) -> None:
    data[at] ^= 1 << more % 8


def _write(data: bytearray, at: int, more: int) -> None:
    word = HUGE[more % len(HUGE)]
    data[at : at + len(word)] = word


def _cut(data: bytearray, at: int, more: int) -> None:
    del data[at:]


def _drop(data: bytearray, at: int, more: int) -> None:
    del data[at : at + 1 + more]


def _move(data: bytearray, at: int, more: int) -> None:
    start = more * 7919 % (len(data) or 1)
    data[at : at + more] = data[start : start + more]


def _double(data: bytearray, at: int, more: int) -> None:
    data[at:at] = data[at : at + 1 + more]


KINDS = (_flip, _write, _cut, _drop, _move, _double)
PLACE = st.one_of(st.integers(0, HEADER), st.integers(0, 1 << 24))
CHANGES = st.lists(
    st.tuples(st.sampled_from(KINDS), PLACE, st.integers(0, 300)), min_size=1, max_size=4
)


def mutated(whole: bytes, changes: list[tuple[Callable, int, int]]) -> bytes:
    data = bytearray(whole)
    for kind, place, more in changes:
        if data:
            kind(data, place % len(data), more)
    return bytes(data)


def within(name: str, whole: bytes, changes: list[Any]) -> bytes:
    """A packed file whose contents are changed; packed again, so that they are reached."""
    if name.endswith(".gz"):
        return gzip.compress(mutated(gzip.decompress(whole), changes), compresslevel=1)
    with zipfile.ZipFile(io.BytesIO(whole)) as packed, io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            for entry in packed.namelist():
                archive.writestr(entry, mutated(packed.read(entry), changes))
        return stream.getvalue()


# -------------------------------------------------------------------------------------- readers


def readers(samples: Path) -> dict[str, tuple[str, Read]]:
    """Of each reader the sample that is changed (of a folder one file), and how it is read."""
    import aistat_jax as aj
    from aistat_jax.case import Settings
    from aistat_jax.cohort.manifest import read_manifest
    from aistat_jax.dicom.segmentations import read_segmentation
    from aistat_jax.dicom.structures import curves_of, read_structures
    from aistat_jax.inference.store import posterior_digests
    from aistat_jax.io.layouts import find_cases
    from aistat_jax.io.nifti import read_as_drawn, read_channel
    from aistat_jax.io.nnunet import label_names, read_dataset
    from aistat_jax.io.surfaces import read_surface
    from aistat_jax.views.cohort import read_summary

    series = samples / "pt"
    like = aj.read_image(PT=series).primary if series.is_dir() else None

    def structures(path: Path) -> None:
        for roi in read_structures(path).rois:
            curves_of(roi, like)  # type: ignore[arg-type]

    def posteriors(path: Path) -> None:
        aj.load_posterior(path)
        posterior_digests(path)

    def pair(path: Path) -> None:
        read_channel(path, "CT")
        read_as_drawn(path)

    def datasets(path: Path) -> None:
        find_cases(path.parent)
        label_names(path.parent)
        read_dataset(path.parent)

    return {
        "nifti": ("probability.nii", pair),
        "nifti-packed": ("probability.nii.gz", pair),
        "series": ("pt/000PT.dcm", lambda path: aj.read_image(PT=path.parent)),
        "zip": ("pt.zip", lambda path: aj.read_image(PT=path)),
        "rtstruct": ("rtstruct.dcm", structures),
        "seg": ("segmentation.dcm", lambda path: read_segmentation(path, like)),  # type: ignore[arg-type]
        "seg-fractional": ("probability.dcm", lambda path: read_segmentation(path, like)),  # type: ignore[arg-type]
        "manifest": ("manifest.csv", lambda path: read_manifest(path, {}, Settings())),
        "npz": ("probability.npz", lambda path: read_channel(path, "PT")),
        "png": ("picture.png", lambda path: read_channel(path, "PT")),
        "summary": ("summary.json", read_summary),
        "posterior": ("posterior.nc", posteriors),
        "signatures": ("signatures.jsonl", lambda path: aj.signatures(path.parent)),
        "dataset": ("nnunet/dataset.json", datasets),
        "ply": ("lesion.ply", read_surface),
        "gifti": ("lesion.surf.gii", read_surface),
        "session": ("edits.npz", aj.load_session),
        "control": ("summary.json", lambda path: json.loads(path.read_text())),
    }


def fuzz(name: str, samples: Path, seconds: float, rounds: float) -> int:
    """Read changed files until the time is over, or a hundred a round; how much was listed."""
    sample, read = readers(samples)[name]
    work = samples.parent / f"{samples.name}-{name}"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(samples, work)
    path, whole = work / sample, (samples / sample).read_bytes()
    packed = sample.endswith((".gz", ".npz", ".zip"))
    found: dict[str, str] = {}
    counts = {"read": 0, "refused": 0}
    read(path)  # or everything would be refused for another reason
    start, end, first = _peak(), time.monotonic() + seconds, True

    def one(changes: list[Any], inner: bool) -> None:
        nonlocal start
        if time.monotonic() > end and sum(counts.values()) + len(found) >= LEAST:
            return
        path.write_bytes(within(sample, whole, changes) if inner else mutated(whole, changes))
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_S)
        try:
            read(path)
            counts["read"] += 1
        except InputError:
            counts["refused"] += 1
        except (Exception, Late) as error:
            _keep(found, error, path, work)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if (grown := _peak() - start) > MOST_MIB:
            start = _peak()
            _keep(found, MemoryError(f"{grown:.0f} MiB more were in use"), path, work)

    number = 0
    while first or (time.monotonic() < end and number < rounds):
        first, number = False, number + 1
        run = given(CHANGES, st.booleans() if packed else st.just(False))(one)
        run = settings(
            max_examples=100, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=tuple(HealthCheck),  # type: ignore[arg-type]
        )(seed(number)(run))  # fmt: skip
        run()
    for text in found.values():
        print(text)
    print(f"{name}: {sum(counts.values())} files, {counts['refused']} refused, {len(found)} listed")
    return len(found)


def _keep(found: dict[str, str], error: BaseException, path: Path, work: Path) -> None:
    """List an error once a place, with the file that caused it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "aistat_jax" in f.filename]
    where = f"{type(error).__name__} in {frames[-1].filename}:{frames[-1].lineno}" if frames else (
        f"{type(error).__name__}"
    )  # fmt: skip
    if where not in found:
        kept = work / f"found-{len(found)}-{path.name}"
        shutil.copyfile(path, kept)
        last = traceback.extract_tb(error.__traceback__)[-1:] or [None]
        found[where] = f"{where}: {str(error)[:200]}\n  at {last[0]}\n  by {kept}"


def _peak() -> float:
    """MiB that this process has had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    names, samples, seconds, *rounds = sys.argv[1:]
    most = float(rounds[0]) if rounds else float("inf")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # a claim of more ends in an error, and not in the computer's memory
    resource.setrlimit(resource.RLIMIT_DATA, (GUARD_GIB << 30, GUARD_GIB << 30))

    def late(*_: object) -> None:
        raise Late(f"more than {MOST_S:g} s of the processor")

    signal.signal(signal.SIGVTALRM, late)
    listed = [fuzz(name, Path(samples), float(seconds), most) for name in names.split(",")]
    return int(any(listed))


if __name__ == "__main__":
    raise SystemExit(main())
