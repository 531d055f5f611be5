"""What is measured beside the regular validations: at given steps, and on other sets of images."""

import pytest
from pydantic import ValidationError

from transvae_platform.errors import SpecError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.load import load_study
from transvae_platform.study.state import StudyState

LARGER = {"source": "bundled", "resolution": 64, "holdout": ["coffee"]}


def ids(study, **given):
    return {trial.id for trial in build_grid(study, "d" * 16, **given)}


@pytest.mark.parametrize("at", [[20, 10], [10, 10]])
def test_steps_ascend(spec, at):
    with pytest.raises(ValidationError, match="at names steps in ascending order, each once"):
        spec(evaluation__at=at)


def test_step_beyond_the_last_is_refused(grid):
    assert grid(evaluation__at=[10, 40])[0].evaluation.at == (10, 40)
    with pytest.raises(SpecError, match=r"evaluation.at: 41 is beyond the 40 steps of transvae-T"):
        grid(evaluation__at=[10, 41])


def test_larger_set_does_not_change_what_is_trained_on(spec):
    (trial, *_) = build_grid(spec(evaluation__sets={"at-64": LARGER}), "d" * 16)
    assert trial.resolution == trial.model_config_values["resolution"] == 32
    assert trial.evaluation.sets["at-64"].model_resolution == 64


def test_set_whose_size_the_models_cannot_see(grid):
    with pytest.raises(
        SpecError, match=r"evaluation.sets.odd.resolution: 60 is not a multiple of the compression 8 of"
    ):
        grid(evaluation__sets={"odd": {**LARGER, "resolution": 60}})


def test_sampling_of_a_set_is_refused(spec):
    with pytest.raises(ValidationError, match=r"sets.at-64.sampling belongs to training, no effect here - remove it"):
        spec(evaluation__sets={"at-64": {**LARGER, "sampling": {"flip": False}}})


def test_ids_cover_the_sets_but_not_where_they_lie(spec):
    made = {"source": "dataset", "path": "coco", "resolution": 64}
    none, one = spec(), spec(evaluation__sets={"at-64": LARGER})
    assert not ids(none) & ids(one)
    assert not ids(one) & ids(spec(evaluation__sets={"at-64": {**LARGER, "holdout": ["flower"]}}))
    here, there = (spec(evaluation__sets={"coco": {**made, "path": path}}) for path in ("coco", "s3://bucket/coco"))
    assert ids(here) == ids(there)
    assert ids(here, sets={"coco": "a" * 16}) == ids(there, sets={"coco": "a" * 16})
    assert not ids(here, sets={"coco": "a" * 16}) & ids(here, sets={"coco": "b" * 16})


def test_ids_cover_the_steps(spec):
    assert not ids(spec()) & ids(spec(evaluation__at=[10]))


def test_a_study_goes_on_when_a_set_moves_and_not_when_it_changes(writer, spec):
    def of(**change):
        return spec(evaluation__sets={"far": {"source": "folder", "path": "/a", "resolution": 64, **change}})

    study = writer(evaluation__sets={"far": {"source": "folder", "path": "/a", "resolution": 64}})
    study.submit()
    state = StudyState(study.folder)
    refuse_changed_study(state, of(path="/b"), None)
    with pytest.raises(SpecError, match=r"evaluation.sets.far.resolution: 64 -> 32"):
        refuse_changed_study(state, of(resolution=32), None)


def test_path_of_a_set_is_relative_to_the_study_file(tmp_path, text):
    path = tmp_path / "tiny.yaml"
    sets = "\n  sets:\n    near: {source: folder, path: sub/photos, resolution: 32}"
    path.write_text(text.replace("  every: 20", "  every: 20" + sets))
    assert load_study(path).evaluation.sets["near"].path == str(tmp_path / "sub" / "photos")


def test_unknown_key_of_a_set(refusal):
    message = refusal(("  every: 20", "  every: 20\n  sets:\n    near: {source: bundled, resoluton: 32}"))
    assert "evaluation.sets.near.resoluton: unknown key - did you mean 'resolution'?" in message
