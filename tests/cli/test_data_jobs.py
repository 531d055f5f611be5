"""`transvae data ingest | latents --address`: what becomes the job's command, and what is refused before it is sent."""

import pytest

from transvae_platform.cluster import jobs
from transvae_platform.data.sets.catalogue import find_data_set

ADDRESS = ("--address", "http://127.0.0.1:8265")


@pytest.fixture
def sent(monkeypatch):
    """(job, address, home, follow) of every submission."""
    submitted = []
    monkeypatch.setattr(
        jobs, "submit_job", lambda job, address, home, *, follow: submitted.append((job, address, home, follow))
    )
    return submitted


def test_job_of_an_ingest_does_what_was_typed(data, sent, images, starts, tmp_path):
    options = ("--name", "mine", "--resolution", "64", "--holdout", "0.3", "--geometry", "adm", "--seed", "3")
    assert data("ingest", images, *options, *ADDRESS, "--home", "/shared/runs").code == 0
    ((job, address, home, follow),) = sent
    assert (address, str(home), follow) == (ADDRESS[1], "/shared/runs", True)
    assert dict(job.about) == {"data_set": "mine"}
    group, *command = job.command
    assert group == "data"
    answer = data(command[0], "--home", tmp_path / "there", *command[1:])
    assert answer.code == 0, answer.err
    assert data("ingest", images, *options, "--home", tmp_path / "here").code == 0
    there, here = (find_data_set(tmp_path / side, "mine").manifest for side in ("there", "here"))
    assert there == here
    assert (here.resolution, here.settings["seed"], here.settings["view"]["geometry"]) == (64, 3, "adm")


def test_job_on_the_cluster_uses_its_ray(data, images, starts, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert data("ingest", images, "--name", "mine", "--resolution", "64").code == 0
    assert starts == ["auto"]


def test_job_of_latents_names_its_model_and_server(data, sent):
    options = ("--name", "codes", "--content", "mean", "--gpus", "8", "--no-follow", "--home", "/shared/runs")
    answer = data("latents", "models:/m@best", "mine", *options, "--tracking-uri", "http://t:5000", *ADDRESS)
    assert answer.code == 0, answer.err
    ((job, _, _, follow),) = sent
    assert (job.tracking_uri, follow) == ("http://t:5000", False)
    assert job.command == (
        "data", "latents", "--name=codes", "--content=mean", "--dtype=float16", "--batch-size=64", "--gpus=8",
        "--seed=0", "--", "models:/m@best", "mine",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["ingest", "photos", "--name", "mine"], "LOCATION: photos is relative"),
        (["ingest", "/photos", "--name", "Mine"], "--name: 'Mine'"),
        (["ingest", "/photos", "--name", "mine", "--resolution", "2"], "--resolution: Input should be"),
        (["latents", "out/model", "mine", "--name", "codes"], "MODEL: out/model is relative"),
        (["latents", "m@best", "mine", "--name", "codes"], "MODEL: 'm@best' is neither a registered model (models:/"),
        (["latents", "models:/m@best", "./mine", "--name", "codes"], "DATA_SET: ./mine is relative"),
    ],
)
def test_what_a_job_could_not_find_is_refused_before_it(data, sent, command, message):
    answer = data(*command, *ADDRESS, "--home", "/shared/runs")
    assert answer.code == 2
    assert message in answer.err
    assert sent == []


def test_locations_on_stores_are_taken_as_they_are(data, sent):
    assert data("ingest", "s3://bucket/photos", "--name", "mine", *ADDRESS, "--home", "/shared/runs").code == 0
    assert sent[0][0].command[-2:] == ("--", "s3://bucket/photos")
