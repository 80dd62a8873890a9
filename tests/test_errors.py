"""Are arguments renamed where a refusal marks them, and words left alone?"""

from __future__ import annotations

import pytest

from aistat_jax._errors import FolderError, InputError, renamed
from aistat_jax.cli.options import in_flags

SAID = "scan/slices/dims: slices differ; pass `dims=2`, `slices`, `partial=True` or `other`"


def test_marked_arguments_alone_have_other_names():
    with pytest.raises(InputError) as refusal, in_flags("dims", "slices", "partial"):
        raise InputError(SAID)
    assert str(refusal.value) == (
        "scan/slices/dims: slices differ; pass --dims 2, --slices, --partial or `other`"
    )
    with (
        pytest.raises(InputError, match="pass --chart offset, or point$"),
        renamed({"chart": "--chart", "point_mm": "point"}),
    ):
        raise InputError('pass `chart="offset"`, or `point_mm`')


def test_a_folder_is_refused_as_it_is():
    with pytest.raises(FolderError, match="`out`"), in_flags("out"):
        raise FolderError("`out` is a file")
