"""Addresses with a password: refused wherever they would be written down, and not repeated."""

from pathlib import Path

import pytest

from transvae_platform.cluster.jobs import check_shared
from transvae_platform.data.sets.stores import open_store
from transvae_platform.errors import SpecError
from transvae_platform.redaction import refuse_password
from transvae_platform.study.load import load_study

STUDY = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
SECRET = "s3://AKIAEXAMPLE:s3cret@bucket/folder"


@pytest.mark.parametrize(
    "change", [f"resources.checkpoints={SECRET}", f"data={{source: dataset, path: '{SECRET}', resolution: 32}}"]
)
def test_a_study_that_would_write_a_password_down_is_refused_by_its_key(change):
    with pytest.raises(SpecError, match=r"(resources\.checkpoints|data\.path): the address carries a password") as told:
        load_study(STUDY, (change,))
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("refuse", [lambda: open_store(SECRET), lambda: check_shared("LOCATION", SECRET)])
def test_so_is_a_data_set_and_a_jobs_command_line(refuse):
    with pytest.raises(SpecError, match="by a role of the nodes") as told:
        refuse()
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/a:b@c", "http://host:80/a@b", "s3://key@bucket/x", "models:/name@best", "/shared/a:b@c", "s3://b"],
)
def test_what_only_looks_like_one_passes(address):
    refuse_password("data.path", address)
