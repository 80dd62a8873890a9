"""What does a hospital's record take of a case? A FHIR bundle: report, measurements and study.

FHIR R4B. The library checks the structure of resources; that codes are among those that FHIR
requires, where it does, is checked here. Nothing is said of the patient: who it is, is what the
imaging study says that is referred to by its UID.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aistat_jax
from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax.case import Case
from aistat_jax.fhir_status import FHIR as FHIR
from aistat_jax.fhir_status import FINAL, PRELIMINARY
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.credible_regions import WORST
from aistat_jax.uncertainty.probability import ML

UCUM = "http://unitsofmeasure.org"
SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
DICOM_UID = "urn:dicom:uid"
DICOM_CODES = "http://dicom.nema.org/resources/ontology/DCM"
SIZES = {2: ("42798000", "Area"), 3: ("118565006", "Volume")}
UNITS = {"mm3": ("cm3", 1 / ML), "mm2": ("mm2", 1.0), "mm": ("mm", 1.0)}
STATUS = (PRELIMINARY, FINAL)
SUBJECT = {"display": "the patient of the imaging study"}
Resource = dict[str, Any]


def write_fhir(path: str | os.PathLike[str], case: Case, *, status: str = "preliminary") -> Path:
    """Write a case as `fhir_bundle` makes it, as JSON. Raises InputError as there."""
    text = json.dumps(fhir_bundle(case, status=status), indent=2, ensure_ascii=False)
    return write_whole(Path(path), text + "\n")


def fhir_bundle(case: Case, *, status: str = "preliminary") -> dict[str, Any]:
    """A case as a FHIR R4B bundle, checked: a collection of resources that refer to each other.

    One DiagnosticReport; for each target an Observation of its size, the median, with the 95%
    interval, mean and sd as components (UCUM: volumes in cm3, areas in mm2; without spacing in
    {px3} and {px2}), and one of its grade, with the reasons as notes; and an ImagingStudy for each
    study that the channels are from, where they are from DICOM. `status` is that of report and
    Observations: "preliminary", or "final" where a person has signed, which `sign` says in a
    file. The same case gives the same bundle, and the same identifiers with either status.

    Raises InputError for another status, where the library (the extra fhir) is missing, and for
    whatever does not make valid FHIR.
    """
    if status not in STATUS:
        raise InputError(f"status {status!r} is not known; it is preliminary or final")
    studies = _studies(case)
    seen = [_entry(study, "") for study in studies]
    measured = []
    for contour in case:
        for resource in (_size(contour, case, status), _grade(contour, status)):
            if seen:
                resource["derivedFrom"] = [{"reference": each["fullUrl"]} for each in seen]
            key = _key(case, contour)
            measured.append(_entry(resource, key))
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "status": status,
        "code": {
            "coding": [{"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}],
            "text": "Contours with credible intervals",
        },
        "subject": SUBJECT,
        "result": [{"reference": each["fullUrl"]} for each in measured],
        "conclusion": _conclusion(case),
    }
    if seen:
        report["imagingStudy"] = [{"reference": each["fullUrl"]} for each in seen]
    entries = [_entry(report, case.title), *measured, *seen]
    return _checked({"resourceType": "Bundle", "type": "collection", "entry": entries})


def _entry(resource: Resource, key: str) -> dict[str, Any]:
    """A resource under a name that is made of what it says, whoever has signed it."""
    named = {name: value for name, value in resource.items() if name != "status"}
    said = json.dumps([key, named], sort_keys=True)
    return {"fullUrl": uuid.uuid5(uuid.NAMESPACE_OID, said).urn, "resource": resource}


def _key(case: Case, contour: Contour) -> str:
    return f"{case.title} {list(case.inputs)} {case.settings.seed} {contour.id}"


def _studies(case: Case) -> list[Resource]:
    """The DICOM studies that the channels are from, each with their series."""
    found: dict[str, Resource] = {}
    for name in case.image.names:
        channel = case.image[name]
        origin = channel.origin
        study = "" if origin is None else dict(origin.patient).get("StudyInstanceUID", "")
        if origin is None or not study:
            continue
        said = found.setdefault(
            study,
            {
                "resourceType": "ImagingStudy",
                "identifier": [{"system": DICOM_UID, "value": f"urn:oid:{study}"}],
                "status": "available",
                "subject": SUBJECT,
                "series": [],
            },
        )
        series = {
            "uid": origin.series_uid,
            "modality": {"system": DICOM_CODES, "code": origin.modality},
            "numberOfInstances": len(origin.instances),
        }
        if series not in said["series"]:
            said["series"].append(series)
    return list(found.values())


def _size(contour: Contour, case: Case, status: str) -> Resource:
    """The area or volume: median, and interval, mean and sd as components."""
    size, (code, word) = contour.content, SIZES[contour.chart.dims]
    parts = {
        f"lower end of the 95% credible interval of the {word.lower()}": size.quantile(0.025),
        f"upper end of the 95% credible interval of the {word.lower()}": size.quantile(0.975),
        f"mean of the {word.lower()}": size.mean,
        f"standard deviation of the {word.lower()}": size.sd,
    }
    method = f"aistat_jax {aistat_jax.__version__}, {contour.posterior.method}"
    return {
        **_observation(contour, status, word, {"system": SNOMED, "code": code, "display": word}),
        "method": {"text": f"{method}, {len(contour.posterior.draws)} posterior draws"},
        "valueQuantity": _quantity(size.quantile(0.5), size.unit),
        "component": [
            {"code": {"text": name}, "valueQuantity": _quantity(value, size.unit)}
            for name, value in parts.items()
        ],
    }


def _grade(contour: Contour, status: str) -> Resource:
    """The grade, with its reasons, the band's half-width, and how likely there is a target."""
    grade, band = contour.grade, contour.band
    parts = {
        "tolerance of the grade": _quantity(grade.tolerance, grade.unit),
        f"largest half-width of the {100 * band.level:g}% credible band": _quantity(
            float(band.half_width.max()), contour.unit
        ),
    }
    if contour.posterior.presence < 1:
        chance = {"value": round(contour.posterior.presence, 4), "unit": "1"}
        parts["probability that there is a target"] = chance | {"system": UCUM, "code": "1"}
    found = {
        **_observation(contour, status, "Grade of the contour by aistat_jax", None),
        "valueCodeableConcept": {"text": grade.case},
        "component": [
            {"code": {"text": name}, "valueQuantity": value} for name, value in parts.items()
        ],
    }
    reasons = [*grade.reasons, *contour.posterior.diagnostics.reasons]
    if reasons:
        found["note"] = [{"text": reason} for reason in dict.fromkeys(reasons)]
    return found


def _observation(contour: Contour, status: str, word: str, code: Any) -> Resource:
    found: Resource = {
        "resourceType": "Observation",
        "identifier": [{"value": contour.id}],
        "status": status,
        "code": {"text": word},
        "subject": SUBJECT,
    }
    if code is not None:
        found["code"]["coding"] = [code]
    return found


def _quantity(value: float, unit: str) -> dict[str, Any]:
    """A value in UCUM, to six figures."""
    code, factor = UNITS.get(unit, (f"{{{unit}}}", 1.0))
    return {"value": float(f"{value * factor:.6g}"), "unit": code, "system": UCUM, "code": code}


def _conclusion(case: Case) -> str:
    grades = [contour.grade.case for contour in case]
    counts = [f"{grades.count(one)} {one}" for one in WORST if one in grades]
    left = f"; {len(case.skipped)} left out" if case.skipped else ""
    return (
        f"{len(grades)} contour{'s' * (len(grades) > 1)}: {', '.join(counts)}{left}. Research "
        "software, not for clinical decisions."
    )


# ---------------------------------------------------------------------------------- validity


def bundle_kind() -> Any:
    """The library's class of a bundle. Raises InputError naming the extra where it is missing."""
    try:
        from fhir.resources.R4B.bundle import Bundle
    except ImportError as error:
        raise InputError(
            'FHIR is checked by fhir.resources, which is missing; pip install "aistat_jax[fhir]"'
        ) from error
    return Bundle


def _checked(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle as the library writes it, once that and the required codes are in order."""
    kind = bundle_kind()
    try:
        found = kind.model_validate(bundle)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise InputError(f"this case makes no valid FHIR: {said[:300]}") from error
    for name, value, allowed in _codes(found):
        if value not in allowed:
            raise InputError(
                f"this case makes no valid FHIR: {name} is {value!r}, and not {', '.join(allowed)}"
            )
    return json.loads(found.model_dump_json())


def _codes(model: Any) -> Iterator[tuple[str, str, list[str]]]:
    """Every code of a resource whose values FHIR lists: where it stands, it, and the list."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        allowed = (field.json_schema_extra or {}).get("enum_values")
        if allowed and isinstance(value, str):  # "+" stands for more that are not used here
            yield f"{type(model).__name__}.{name}", value, allowed
        for each in value if isinstance(value, list) else [value]:
            if hasattr(type(each), "model_fields"):
                yield from _codes(each)
