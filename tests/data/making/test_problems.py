"""What a check names is what an ingest leaves out, in the same words."""

import shutil

import pytest

from transvae_platform.data.listing import list_source
from transvae_platform.data.making.problems import find_problems
from transvae_platform.errors import SpecError


def check(data):
    told = []
    problems = sorted(find_problems(list_source(data.path), data, lambda *state: told.append(state)))
    return problems, told


@pytest.mark.parametrize("view", [{"kind": "centre"}, {"kind": "crops", "per_photograph": 2}])
def test_a_check_names_what_an_ingest_leaves_out(photos, section, make_set, view):
    folder = photos(6)
    for name in ("a-copy.png", "z-copy.png"):
        shutil.copy(folder / "p2.png", folder / name)
    shutil.copy(folder / "p0.png", folder / "p0-again.png")  # twice in the training: that is allowed
    for name in ("b-empty.png", "b-empty-too.png"):
        (folder / name).write_bytes(b"")
    (folder / "held.png").write_bytes(b"no image")
    (folder / "held-copy.png").write_bytes(b"no image")  # broken first, and a copy of nothing
    data = section(folder, holdout=["p2", "held"], quarantine=0.9, view=view)
    problems, told = check(data)
    _, manifest = make_set(data)
    assert [(problem.name, problem.reason) for problem in problems] == sorted(
        (item.name, item.reason) for item in manifest.quarantined
    )
    assert [problem.name for problem in problems if problem.is_copy] == ["a-copy.png", "z-copy.png"]
    assert problems[0].reason == "identical to the held-out p2.png"
    assert told == [(number, 13) for number in range(1, 14)]


def test_a_hold_out_that_cannot_be_is_refused_by_a_check(photos, section):
    with pytest.raises(SpecError, match="no image is named 'p9'"):
        check(section(photos(3), holdout=["p9"]))
