"""A session of edits comes back from its file as it was, with what can be undone."""

from __future__ import annotations

import json

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import editing
from aistat_jax.edits import Click, Edit
from tests.helpers import make_posterior


@pytest.fixture(scope="module")
def session():
    """Two targets; a click on each, the second one undone, no fit."""
    given = [aj.replace(make_posterior(seed=n), target_id=f"z{n}") for n in range(2)]
    start = editing.session_of(given, click_sd=0.7, tolerance_mm=3.0)
    edits = [
        Edit(n, (Click((12.25 + n, 1.5), "inside"),), make_posterior(seed=5 + n),
             start[n].grade, sampled=n == 1, said=f"edit {n}")
        for n in range(2)
    ]  # fmt: skip
    return editing.undo(editing.replace(start, done=tuple(edits)))


def test_everything_comes_back_bit_for_bit(session, tmp_path):
    path = aj.save_session(tmp_path / "new" / "edits.npz", session)
    again = aj.load_session(path)
    assert [p.name for p in path.parent.iterdir()] == ["edits.npz"]
    assert (again.sd, len(again.done), len(again.undone)) == (0.7, 1, 1)
    for old, new in zip(
        (*session.given, *session.done, *session.undone),
        (*again.given, *again.done, *again.undone),
        strict=True,
    ):
        assert (old.target, old.clicks, old.said) == (new.target, new.clicks, new.said)
        assert old.sampled == new.sampled
        np.testing.assert_array_equal(old.posterior.radii, new.posterior.radii)
        assert new.grade.tolerance == 3.0
        assert new.posterior.target_id == old.posterior.target_id
    assert editing.undo(again)[0].posterior is again.given[0].posterior
    assert editing.redo(again)[1].said == "edit 1"


def test_it_is_gone_on_with_through_models_that_are_passed_again(session, tmp_path):
    path = aj.save_session(tmp_path / "edits.npz", session)
    models = [aj.model_from_draws(edit.posterior) for edit in session.given]
    again = aj.load_session(path, models)
    assert again.given[0].posterior.model is models[0]
    assert all(model.data.terms == () for model in aj.load_session(path).models)  # by the draws
    with pytest.raises(aj.InputError, match="must be those of z0, z1"):
        aj.load_session(path, models[::-1])
    half = aj.load_session(path, [None, models[1]])
    assert half.given[0].posterior.model is None
    assert half.given[1].posterior.model is models[1]


def test_what_is_no_session_is_refused(session, tmp_path):
    path = aj.save_session(tmp_path / "edits.npz", session)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    other = tmp_path / "other.npz"
    np.savez(other, session=np.array(json.dumps({"format": "another"})))
    newer = tmp_path / "newer.npz"
    words = {"format": "aistat_jax session", "schema": 99}
    np.savez(newer, session=np.array(json.dumps(words)))
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    (tmp_path / "file").write_text("")
    refusals = {
        "not a whole session": lambda: aj.load_session(path),
        "no such file": lambda: aj.load_session(tmp_path / "none.npz"),
        "not a session": lambda: aj.load_session(other),
        "newer version": lambda: aj.load_session(newer),
        "not a whole": lambda: aj.load_session(text),
        "cannot be written": lambda: aj.save_session(tmp_path / "file" / "a.npz", session),
    }
    for sentence, call in refusals.items():
        with pytest.raises(aj.InputError, match=sentence):
            call()
