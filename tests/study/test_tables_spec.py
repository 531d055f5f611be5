"""What a study file may ask for tables 1 and 2, and that it decides nothing else."""

import pytest
import yaml
from pydantic import ValidationError

from transvae_platform.study.grid import build_grid
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study
from transvae_platform.study.state import StudyState

ASKED = {"reconstruction": {"presets": ["vavae", "rae"], "data": ["study"]}, "density": {"runs": 2}}


def test_tables_decide_no_trial_and_may_change(spec, tmp_path):
    before, after = spec(), spec(tables=ASKED)
    assert [trial.id for trial in build_grid(before, "d")] == [trial.id for trial in build_grid(after, "d")]
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("submitted", spec=before.model_dump(mode="json"), lineage={"code": "a"})
    journal.close()
    refuse_changed_study(StudyState(tmp_path), after, None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing is asked for"),
        ({"reconstruction": {"presets": ["vavae", "vavae"]}}, "presets names one twice"),
        ({"reconstruction": {"presets": ["vave"]}}, "'vavae', 'dcae', 'rae' or 'detok'"),
        ({"reconstruction": {"networks": "random", "files": {"vgg": "x"}}}, "random networks read none"),
        ({"probe": {"c": []}}, "at least 1 item"),
    ],
)
def test_what_cannot_be_meant_is_refused(spec, asked, said):
    with pytest.raises(ValidationError, match=said):
        spec(tables=asked)


def test_files_are_found_beside_the_study_file(text, tmp_path):
    files = {"tables": {"reconstruction": {"files": {"vgg": "weights/vgg.pth"}}}}
    (tmp_path / "tiny.yaml").write_text(text + yaml.safe_dump(files))
    tables = load_study(tmp_path / "tiny.yaml").tables
    assert tables
    assert tables.reconstruction
    assert tables.reconstruction.files == {"vgg": str(tmp_path / "weights" / "vgg.pth")}
