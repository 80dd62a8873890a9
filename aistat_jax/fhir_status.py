"""What does a FHIR bundle say of who has signed it? Preliminary, final, or withdrawn.

Of DiagnosticReport and Observation (FHIR R4B): "preliminary" is early and not verified, "final" is
complete and verified by a person, "entered-in-error" is withdrawn after it was final. Who has made
it final, and when, stands in the report. All else is as it was written, and is what is signed.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole

FHIR = "fhir.json"
PRELIMINARY, FINAL, WITHDRAWN = "preliminary", "final", "entered-in-error"
REPORT, OBSERVATION = _SIGNED = ("DiagnosticReport", "Observation")
_SIGNERS = ("resultsInterpreter", "issued")
_NOT_OF_A_LESION = ("method", "derivedFrom")


def report_status(path: Path) -> str:
    """The status of the report of a bundle. Raises InputError for a file that has none."""
    return str(_signed(_read(path), path)[0]["status"])


def conclude(path: Path, approved: bool, by: str = "", when: datetime | None = None) -> bool:
    """Let report and Observations of a bundle say whether a person has approved all of them.

    They become final, and the report has the person as its interpreter and the time it was issued.
    Where they are not approved, what was final is withdrawn, and what was preliminary stays so.
    False where the bundle says so already. Raises InputError for what is no bundle with a report,
    and OSError for a file that cannot be written.
    """
    bundle = _concluded(path, approved, by, when)
    if bundle == _read(path):
        return False
    write_whole(path, json.dumps(bundle, indent=2, ensure_ascii=False) + "\n")
    return True


def is_concluded(path: Path, approved: bool, by: str = "", when: datetime | None = None) -> bool:
    """Whether a bundle says what `conclude` would let it say. Raises InputError as there."""
    return _concluded(path, approved, by, when) == _read(path)


def digest_less_status(path: Path) -> str:
    """SHA-256 of a bundle but for what signing writes into it; of a damaged one its bytes."""
    try:
        said = json.dumps(_as_written(path), sort_keys=True).encode()
    except InputError:  # as nobody has signed it
        said = path.read_bytes()
    return hashlib.sha256(said).hexdigest()


def resources_of_lesions(path: Path) -> list[tuple[str, str]]:
    """What the Observations of a bundle say of lesions, as text, each with its lesion.

    What a bundle has besides is left out, which another version, or a study of more channels,
    writes anew: signing's own words, the report and the ImagingStudy, and of an Observation how it
    was made and from which study. An Observation of no lesion has "".
    """
    try:
        entries = _as_written(path)["entry"]
    except InputError:  # damaged, and so as nobody has signed it
        return [("", "damaged")]
    found = []
    for resource in (entry["resource"] for entry in entries):
        if resource["resourceType"] == OBSERVATION:
            owner = ""
            with suppress(KeyError, TypeError, IndexError):
                owner = str(resource["identifier"][0]["value"])
            own = {name: each for name, each in resource.items() if name not in _NOT_OF_A_LESION}
            found.append((owner, json.dumps(own, sort_keys=True)))
    return found


def _concluded(path: Path, approved: bool, by: str, when: datetime | None) -> Any:
    """A bundle as it is to be once a person has approved all of it, or not."""
    bundle = _read(path)
    report, *others = _signed(bundle, path)
    for each in (report, *others):
        was = each["status"]
        each["status"] = FINAL if approved else PRELIMINARY if was == PRELIMINARY else WITHDRAWN
    if approved:
        report["resultsInterpreter"] = [{"display": by}]
        report["issued"] = f"{(when or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    elif report["status"] == PRELIMINARY:  # of which nobody is the interpreter yet
        for name in _SIGNERS:
            report.pop(name, None)
    return bundle


def _as_written(path: Path) -> Any:
    """A bundle without what `conclude` writes."""
    bundle = _read(path)
    report, *others = _signed(bundle, path)
    for each in (report, *others):
        del each["status"]
    for name in _SIGNERS:
        report.pop(name, None)
    return bundle


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: this is not readable JSON; write it again") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of which readers know one value for each name, and not all the same."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"JSON has no {text}")


def _signed(bundle: Any, path: Path) -> list[dict[str, Any]]:
    """The resources of a bundle that have a status of this kind, the report first."""
    try:
        every = [entry["resource"] for entry in bundle["entry"]]
        found = [each for each in every if each["resourceType"] in _SIGNED]
        found.sort(key=lambda each: _SIGNED.index(each["resourceType"]))
        if found[0]["resourceType"] == _SIGNED[0] and all("status" in each for each in found):
            return found
    except (KeyError, TypeError, IndexError):
        pass
    raise InputError(f"{path}: this is no FHIR bundle with a report; write it again")
