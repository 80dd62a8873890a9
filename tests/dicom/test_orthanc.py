"""Does an archive that others wrote store what is written, and give it back as it was?"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax.views.outputs import write_files
from tests.dicom.made import STUDY, pydicom, save_series
from tests.dicom.test_structures import case_of, stars

pytest.importorskip("highdicom", reason="the extra dicom is not installed")
pytestmark = pytest.mark.slow

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MOST_S = 60.0
PART = 'multipart/related; type="application/dicom"'


class Archive:
    """An Orthanc that is asked by DICOMweb alone."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def ask(self, path: str, data: bytes | None = None, **headers: str) -> tuple[bytes, str]:
        words = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.root + path, data=data, headers=words)
        with urllib.request.urlopen(request, timeout=MOST_S) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")

    def store(self, paths: Iterable[Path]) -> dict:
        """STOW-RS of some files; what the archive says of them."""
        mark = uuid.uuid4().hex
        head = f"--{mark}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + path.read_bytes() + b"\r\n" for path in paths)
        kind = f"{PART}; boundary={mark}"
        said, _ = self.ask(
            "/dicom-web/studies", body + f"--{mark}--\r\n".encode(), Content_Type=kind,
            Accept="application/dicom+json",
        )  # fmt: skip
        return json.loads(said)

    def fetch(self, path: str, out: Path) -> list[Path]:
        """WADO-RS of a study, a series or an instance into a folder."""
        body, kind = self.ask(f"/dicom-web/studies/{path}", Accept=PART)
        mark = kind.split("boundary=")[1].split(";")[0].strip('"')
        out.mkdir(parents=True)
        parts = body.split(f"--{mark}".encode())[1:-1]
        for n, part in enumerate(parts):
            content = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            (out / f"{n}.dcm").write_bytes(content)
        return sorted(out.iterdir())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Archive]:
    """An Orthanc of its own, on a free port and in a folder that goes."""
    program = shutil.which("Orthanc", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)")
    place, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(place), "IndexDirectory": str(place),
        "HttpPort": port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomServerEnabled": False, "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (place / "orthanc.json").write_text(json.dumps(settings))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(place / "orthanc.json")], stdout=log, stderr=log, cwd=place
        )
        try:
            found, end = Archive(port), time.monotonic() + MOST_S
            while True:
                try:
                    found.ask("/dicom-web/studies", Accept="application/dicom+json")
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        pytest.fail((place / "log").read_text(errors="replace")[-3000:])
                    time.sleep(0.2)
            yield found
        finally:
            process.terminate()
            process.wait(MOST_S)


def test_an_archive_stores_it_and_gives_it_back(archive, tmp_path):
    series = save_series(tmp_path / "pt")
    image = aj.read_image(PT=series)
    case, out = case_of(image, stars(image)), tmp_path / "out"
    out.mkdir()
    write_files(out, case, pictures=False)
    names = ("rtstruct.dcm", "segmentation.dcm", "probability.dcm")
    written = {name: pydicom.dcmread(out / name) for name in names}
    paths = [*sorted(series.iterdir()), *(out / name for name in names)]
    said = archive.store(paths)
    assert not said.get("00081198", {}).get("Value")  # FailedSOPSequence
    assert len(said["00081199"]["Value"]) == len(paths)

    back = {}
    for name, file in written.items():
        place = f"{STUDY}/series/{file.SeriesInstanceUID}/instances/{file.SOPInstanceUID}"
        (back[name],) = archive.fetch(place, tmp_path / "back" / name)
        assert pydicom.dcmread(back[name]) == file
    archive.fetch(f"{STUDY}/series/1.2.3.102", tmp_path / "series")
    again = aj.read_image(PT=tmp_path / "series").primary
    assert np.array_equal(again.values, image.primary.values)
    first, second = (aj.read_structures(path) for path in (out / names[0], back[names[0]]))
    assert first.names == second.names
    for one, two in zip(first.rois, second.rois, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(one.contours, two.contours, strict=True))
    for name in names[1:]:
        voxels = [aj.read_mask(path, again) for path in (out / name, back[name])]
        assert voxels[0].any()
        assert np.array_equal(*voxels)
    with pytest.raises(urllib.error.HTTPError, match="404"):  # negative control
        archive.fetch(f"{STUDY}/series/1.2.3.102/instances/1.2.3.4", tmp_path / "none")

    aj.sign(out, "all", "accept", by="Doe^Jane")
    archive.store([out / names[0]])
    found = archive.fetch(f"{STUDY}/series/{written[names[0]].SeriesInstanceUID}", tmp_path / "two")
    status = {file.SOPInstanceUID: file.ApprovalStatus for file in map(pydicom.dcmread, found)}
    assert sorted(status.values()) == ["APPROVED", "UNAPPROVED"]
    assert status[written[names[0]].SOPInstanceUID] == "UNAPPROVED"
