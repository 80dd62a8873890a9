"""What does a FHIR bundle say of who has signed it? Preliminary, final, or withdrawn.

Of DiagnosticReport and Observation (FHIR R4B): "preliminary" is early and not verified, "final" is
complete and verified by a person, "entered-in-error" is withdrawn after it was final.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole

FHIR = "fhir.json"
PRELIMINARY, FINAL, WITHDRAWN = "preliminary", "final", "entered-in-error"
_SIGNED = ("DiagnosticReport", "Observation")


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
    bundle = _read(path)
    report, *others = _signed(bundle, path)
    before = json.dumps(bundle)
    for each in (report, *others):
        was = each["status"]
        each["status"] = FINAL if approved else PRELIMINARY if was == PRELIMINARY else WITHDRAWN
    if approved:
        report["resultsInterpreter"] = [{"display": by}]
        report["issued"] = f"{(when or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if json.dumps(bundle) == before:
        return False
    write_whole(path, json.dumps(bundle, indent=2, ensure_ascii=False) + "\n")
    return True


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: this is not readable JSON; write it again") from error


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
