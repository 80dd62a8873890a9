"""What happens to one case in a worker? Contoured, written whole, and what became of it recorded.

The folder of a case is all that is known of it: case.json there says whether it is done or why it
failed, from which files and settings, so that a run that was cut short is gone on with from the
folders alone.
"""

from __future__ import annotations

import gc
import hashlib
import json
import threading
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from aistat_jax._errors import FolderError, InputError, InputWarning, renamed
from aistat_jax._files import why, write_whole
from aistat_jax._folders import Claim, Run, digest, filled, runs_in
from aistat_jax.cohort.cases import CohortCase
from aistat_jax.cohort.manifest import COLUMNS
from aistat_jax.dicom.files import parts_of
from aistat_jax.io.layouts import Region

RECORD, THUMBNAIL, SCHEMA = "case.json", "thumbnail.png", 1
WITHHELD = "it could not be contoured, for a reason that was said when it was tried"
"""What files say of an anonymous case that failed: its sentence may name files and dates."""

State = Literal["done", "kept", "failed", "unwritten"]
_ONE_AT_A_TIME = threading.Lock()  # pictures are drawn by one thread of a process
_CHUNK = 1 << 20
_MOST_OF_MEMORY = 0.6


@dataclass(frozen=True)
class Task:
    """A case to contour into the folder `out`; memory: what a worker may use, in bytes; anonymous:
    whether nothing that is written may say whose it is, but for its id; fhir: with fhir.json."""

    case: CohortCase
    out: Path
    pictures: bool = True
    memory: int | None = None
    anonymous: bool = False
    fhir: bool = False

    @property
    def settings(self) -> str:
        """Stands for all that the result depends on beside the files."""
        return self.case.fingerprint(self.pictures, self.anonymous, self.fhir)


@dataclass(frozen=True)
class Outcome:
    """What became of a case. sentence: why it failed; unwritten: its results could not be written,
    which is nobody's fault but the disk's. processor_seconds: of all threads of the worker."""

    id: str
    state: State
    sentence: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    remarks: tuple[str, ...] = ()


def contour_task(task: Task) -> Outcome:
    """Contour one case and write its files; never raises for what lies in the case."""
    with _ONE_AT_A_TIME:
        _bars_within_a_process()
        start = time.perf_counter(), time.process_time()
        files: dict[str, Any] = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", InputWarning)
            try:
                files = _contents(task.case)
                if is_done(task, files):
                    with suppress(OSError):  # or it is asked again the next time
                        _record(task, "done", files, earlier=record_of(task.out))
                    return Outcome(task.case.id, "kept", remarks=_remarks(caught))
                with renamed(COLUMNS):
                    found: Any = _contour(task.case)
            except Exception as error:
                found = error
            told: dict[str, Any] = {"remarks": _remarks(caught), **_spent(*start)}
            try:
                if not isinstance(found, Exception):
                    try:
                        _write(task, found, files, told["remarks"], start)
                    except Exception as error:
                        if _of_the_disk(error) is not None:
                            raise
                        found = error
                if isinstance(found, Exception):
                    sentence = _without_folders(sentence_of(found), task)
                    try:
                        if files or record_of(task.out).get("state") != "done":
                            failed(task, sentence, files, found)
                    except FolderError as error:
                        if _of_the_disk(error) is not None:
                            raise
                    return Outcome(task.case.id, "failed", sentence, **told)
            except Exception as error:
                return Outcome(
                    task.case.id, "unwritten", _of_the_disk(error) or sentence_of(error), **told
                )
            told |= _spent(*start)
        _make_room(task.memory)
        _keep_what_is_loaded()
        return Outcome(task.case.id, "done", **told)


def is_done(task: Task, contents: dict[str, Any] | None = None) -> bool:
    """Whether a folder holds this very case, whole: same settings, same files.

    Files are the same when nothing about them has changed, or else by their `contents`.
    """
    record = record_of(task.out)
    said, case = record.get("files", {}), task.case
    if record.get("state") != "done" or record.get("settings") != task.settings:
        return False
    if said.keys() != case.files.keys():
        return False
    written = [name for run in runs_in(task.out) for name in run.files]
    if not written or not all((task.out / name).is_file() for name in written):
        return False
    if contents is None and "slices" not in record:  # an older one, which is written anew
        return False
    if contents is not None:
        return all(said[part].get("sha256") == contents[part]["sha256"] for part in said)
    try:
        return all(said[part].get("seen") == _seen(path) for part, path in case.files.items())
    except OSError:
        return False


def is_of(out: Path, files: Mapping[str, Path]) -> bool:
    """Whether a folder holds a case of these very files, by the parts they play and by content.

    Raises InputError for a file that cannot be read.
    """
    said = record_of(out).get("files", {})
    for part, path in files.items():
        known = said.get(part, {})
        try:
            seen = _seen(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({why(error)})") from error
        if known.get("seen") != seen and known.get("sha256") != _sha256(path):
            return False
    return True


def record_of(out: Path) -> dict[str, Any]:
    """What is recorded of a case; nothing where there is no record, or it is not whole."""
    try:
        content = json.loads((out / RECORD).read_text(encoding="utf-8"))
        return content if content["schema"] == SCHEMA and content["kind"] == "case" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def failed(
    task: Task, sentence: str, files: dict[str, Any] | None = None, fault: Exception | None = None
) -> None:
    """Put the reason in place of any results. Raises OSError or FolderError as `filled` does."""
    more: dict[str, Any] = {"sentence": WITHHELD if task.anonymous else sentence}
    if fault is not None and not isinstance(fault, InputError) and not task.anonymous:
        more["traceback"] = "".join(traceback.format_exception(fault))
    with filled(_claim(task)) as filling:
        write_whole(filling.folder / RECORD, _said(task, "failed", files or {}, more))


def _of_the_disk(error: Exception) -> str | None:
    """Why files could not be written, in words, or None where that is not what happened."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return why(cause) if isinstance(cause, OSError) else None


def _without_folders(sentence: str, task: Task) -> str:
    """Files are named as they are called, not by where they lie."""
    for path in (task.out, *task.case.files.values()):
        sentence = sentence.replace(str(path), path.name)
    return sentence


def sentence_of(error: Exception) -> str:
    """One line that says what went wrong."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return "there is not enough memory; give each worker more, or crop the image"
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{why(error)}"
    return f"{type(error).__name__}: {text}"[:500].rstrip(": ")


# ------------------------------------------------------------------------------------ contouring


def _contour(case: CohortCase) -> Any:
    from aistat_jax.io.layouts import read_region
    from aistat_jax.io.nifti import read_image
    from aistat_jax.pipelines import contour

    options = {name: value for name, value in case.options.items() if value is not None}
    regions = {name: given for name, given in options.items() if isinstance(given, Region)}
    if not regions:
        return contour(
            dict(case.images), settings=case.settings, title=f"Contours of {case.id}", **options
        )
    image = read_image(**case.images)
    if "reference" in regions:
        region = regions["reference"]
        image = _drawn_first(image, region)
        options["reference"] = read_region(region, image.primary)
    if "mask" in regions:
        region = regions["mask"]
        if "channel" not in options:
            options["channel"] = _drawn_first(image, region).primary.name
        options["mask"] = read_region(region, image[options["channel"]])
    return contour(image, settings=case.settings, title=f"Contours of {case.id}", **options)


def _drawn_first(image: Any, region: Region) -> Any:
    """The image with that channel first whose grid a region was drawn on; itself if there is none.

    The expert may have drawn on the CT what is looked for on the PET.
    """
    from aistat_jax.io.nifti import read_as_drawn
    from aistat_jax.space.image import Image

    _, grid = read_as_drawn(region.path)
    names = sorted(image.names, key=lambda name: not grid.matches(image[name].grid))
    return Image.of(*(image[name] for name in names))


@cache
def _bars_within_a_process() -> None:
    """Progress bars would else hold a semaphore, which a worker that is killed leaves behind."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def _spent(clock: float, processor: float) -> dict[str, float]:
    """Seconds since then."""
    return {
        "seconds": round(time.perf_counter() - clock, 3),
        "processor_seconds": round(time.process_time() - processor, 3),
    }


@cache
def _keep_what_is_loaded() -> None:
    """After the first case, what it loaded and compiled is no longer searched for garbage."""
    gc.collect()
    gc.freeze()


def _make_room(memory: int | None) -> None:
    """Forget compiled programs where a worker nears its limit."""
    if memory is None:
        return
    import psutil

    if psutil.Process().memory_info().rss > _MOST_OF_MEMORY * memory:
        import jax

        jax.clear_caches()
        gc.unfreeze()
        gc.collect()


# --------------------------------------------------------------------------------------- writing


def _claim(task: Task) -> Claim:
    run = Run("cohort", digest("case", task.case.id), task.case.id)
    return Claim(task.out, run)


def _write(
    task: Task, case: Any, files: dict[str, Any], remarks: Sequence[str], start: tuple[float, float]
) -> None:
    from aistat_jax.uncertainty.triage import triage
    from aistat_jax.views.anonymous import anonymous_case
    from aistat_jax.views.outputs import stack_volume, write_files
    from aistat_jax.views.thumbnails import write_thumbnail

    case = anonymous_case(case) if task.anonymous else case
    remarks = () if task.anonymous else remarks
    with filled(_claim(task), last=("summary.json", RECORD)) as filling:
        write_files(filling.folder, case, pictures=task.pictures, fhir=task.fhir)
        if task.pictures:
            write_thumbnail(filling.folder / THUMBNAIL, case, filling.folder / "figure.png")
        concerns = [str(concern) for concern in triage(case.contours)]
        more = {
            **_spent(*start), "remarks": list(remarks),
            "volume_ml": stack_volume(case.contours), "look_at": concerns[:1],
        }  # fmt: skip
        write_whole(filling.folder / RECORD, _said(task, "done", files, more))


def _record(task: Task, state: State, files: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Say anew of which files a case is, which have moved or been touched."""
    kept = ("seconds", "processor_seconds", "remarks", "volume_ml", "look_at")
    more = {name: earlier[name] for name in kept if name in earlier}
    write_whole(task.out / RECORD, _said(task, state, files, more))


def _said(task: Task, state: State, files: dict[str, Any], more: dict[str, Any]) -> str:
    case = task.case
    content = {"schema": SCHEMA, "kind": "case", "id": case.id, "state": state}
    content |= {"settings": task.settings, "slices": _slices(case), "files": files, **more}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _slices(case: CohortCase) -> str | list[int]:
    """Which slices were asked for: "all" of the lesion, that of the "point", or their numbers."""
    given = case.options.get("slices") or "all"
    return given if isinstance(given, str) else [int(k) for k in given]


def _contents(case: CohortCase) -> dict[str, Any]:
    """Of every file its SHA-256, and a digest of where it lies and when it was changed."""
    return {
        part: {"sha256": _sha256(path), "seen": _seen(path)} for part, path in case.files.items()
    }


def _within(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _seen(path: Path) -> str:
    place, series = parts_of(path)
    words: list[Any] = [series] if series else []
    for each in _within(place):
        found = each.stat()
        words += [each, str((found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))]
    return digest(*words)


def _sha256(path: Path) -> str:
    """Of a file, or of all in a folder; and of which series is meant, where that is said."""
    path, series = parts_of(path)
    whole = hashlib.sha256(f"#{series}\0".encode() if series else b"")
    for each in _within(path):
        if path.is_dir():
            whole.update(each.relative_to(path).as_posix().encode() + b"\0")
        try:
            with each.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    whole.update(chunk)
        except OSError as error:
            raise InputError(f"{each}: cannot be read ({why(error)})") from error
    return whole.hexdigest()


def _remarks(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(str(each.message) for each in caught if issubclass(each.category, InputWarning))
