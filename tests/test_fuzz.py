"""Does every reader refuse damaged files by a sentence: no other error, no hang, bounded memory?

Each reader has `AISTAT_FUZZ_SECONDS` seconds (half a second in the ordinary run, 8 s in the slow
one) in another process, so that a crash of a library is seen too.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax.editing import session_of
from aistat_jax.io.surfaces import write_mesh
from aistat_jax.space.mesh import surface_from_mask
from aistat_jax.views.outputs import write_files
from tests.dicom.made import SHAPE, SPACING, save_series
from tests.dicom.test_structures import case_of, stars
from tests.helpers import make_posterior

pytest.importorskip("hypothesis", reason="needs the extra: pip install 'aistat_jax[test]'")
pytest.importorskip("resource", reason="limits of memory are those of Linux and macOS")
pytest.importorskip("highdicom", reason="needs the extra: pip install 'aistat_jax[dicom]'")

GROUPS = (
    "nifti,nifti-packed,npz,png", "series,zip", "rtstruct,seg,seg-fractional",
    "manifest,summary,posterior,signatures", "dataset,ply,gifti,session",
)  # fmt: skip
READERS = ",".join(GROUPS).split(",")
ROUNDS = (
    20  # of a hundred files each at most, the same ones every time, but where time is asked for
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """One small file for every reader."""
    from PIL import Image as Picture

    folder = tmp_path_factory.mktemp("fuzz") / "samples"
    series = save_series(folder / "pt")
    image = aj.read_image(PT=series)
    write_files(folder, case_of(image, stars(image)), pictures=False)
    aj.sign(folder, "all", "accept", by="Doe^Jane")
    packed = (folder / "probability.nii.gz").read_bytes()
    (folder / "probability.nii").write_bytes(gzip.decompress(packed))
    with zipfile.ZipFile(folder / "pt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in series.iterdir():
            archive.write(file, file.name)
    values = np.asarray(image.primary.values, dtype=np.float32)
    np.savez_compressed(folder / "probability.npz", probability=values)
    shades = np.rint(255 * values[..., 5] / values.max()).astype(np.uint8)
    Picture.fromarray(shades).save(folder / "picture.png")
    (folder / "manifest.csv").write_text(
        "id,PT,point,threshold,slices,draws\nA,pt,1 2 3,2.5,all,\nB,pt.zip,4 5 6,,point,200\n"
    )
    dataset = folder / "nnunet"
    for name in ("imagesTr/A_0000.nii.gz", "labelsTr/A.nii.gz"):
        (dataset / name).parent.mkdir(parents=True)
        (dataset / name).write_bytes(packed)
    (dataset / "dataset.json").write_text(
        '{"channel_names": {"0": "PT"}, "labels": {"background": 0, "lesion": 1}, '
        '"numTraining": 1, "file_ending": ".nii.gz"}'
    )
    mesh = surface_from_mask(ball(), image.primary.grid)
    for name in ("lesion.ply", "lesion.surf.gii"):
        write_mesh(folder / name, mesh)
    aj.save_session(folder / "edits.npz", session_of([make_posterior()]))
    return folder


def ball() -> np.ndarray:
    index = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING
    return np.linalg.norm(index - np.array([30.0, 30.0, 30.0]), axis=-1) < 15


def fuzzed(names: str, samples: Path, seconds: float, repository: Path) -> tuple[int, str]:
    """Status and words of `tests.fuzz`."""
    asked = os.environ.get("AISTAT_FUZZ_SECONDS")
    seconds, rounds = (seconds, ROUNDS) if asked is None else (float(asked), "inf")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", names, str(samples), str(seconds), str(rounds)],
        cwd=repository, capture_output=True, text=True, check=False, timeout=300 + 40 * seconds,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("names", GROUPS)
def test_damaged_files_are_refused_by_a_sentence(names, samples, repository):
    status, said = fuzzed(names, samples, 0.5, repository)
    assert status == 0, said
    for name in names.split(","):
        assert re.search(rf"\b{name}: [1-9]\d* files, ", said), said


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_refused_by_a_sentence(name, samples, repository):
    status, said = fuzzed(name, samples, 8.0, repository)
    assert status == 0, said
    assert re.search(rf"\b{name}: [1-9]\d* files, ", said), said


def test_a_reader_that_lets_other_errors_through_is_listed(samples, repository):
    status, said = fuzzed("control", samples, 0.5, repository)
    assert status == 1, said
    assert "JSONDecodeError" in said
