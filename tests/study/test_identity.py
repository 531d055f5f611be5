"""A study keeps its specification, whatever keys came to study files since it began."""

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.state import StudyState


def test_a_key_that_came_later_is_no_change_but_another_value_is(writer):
    study = writer()
    old = study.spec.model_dump(mode="json")
    del old["calibration"]
    del old["fits"]["margin"]
    study.study.append("submitted", spec=old, lineage={"code": "a"})
    state = StudyState(study.folder)
    refuse_changed_study(state, study.spec, None)
    other = study.spec.model_copy(update={"fits": study.spec.fits.model_copy(update={"margin": 0.5})})
    with pytest.raises(SpecError, match=r"fits.margin: 0.01 -> 0.5"):
        refuse_changed_study(state, other, None)
