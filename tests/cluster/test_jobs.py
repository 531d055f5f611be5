"""Jobs: what is sent to the cluster's Jobs API, how it is followed, and what is refused before."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.job_submission
import requests
import yaml
from ray.job_submission import JobStatus

from transvae_platform.cluster import jobs_api
from transvae_platform.cluster.jobs import Job, study_job, submit_job
from transvae_platform.cluster.versions import refuse_other_versions
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.study.load import load_study

ADDRESS = "http://127.0.0.1:8265"
STUDY = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
JOB = Job(("data", "ingest", "--name=mine", "--", "/shared/my photos"), {"data_set": "mine"})


class Api:
    """In place of Ray's client."""

    def __init__(self):
        self.sent, self.address, self.interrupt, self.ends = {}, None, False, JobStatus.SUCCEEDED
        self.jobs, self.chunks, self.stopped, self.refusal = [], ["first line\n"], [], None
        self.breaks = 0

    def __call__(self, address):
        self.address = address
        return self

    def list_jobs(self):
        return self.jobs

    def stop_job(self, job):
        self.stopped.append(job)

    def get_job_logs(self, job):
        return "".join(self.chunks)

    def submit_job(self, **sent):
        if self.refusal:
            raise self.refusal()
        folder = Path(sent["runtime_env"]["working_dir"])
        self.files = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        self.sent = sent
        return sent["submission_id"] or "raysubmit_1"

    async def tail_job_logs(self, job):
        for number, chunk in enumerate(self.chunks):
            yield chunk
            if self.interrupt:
                raise KeyboardInterrupt
            if self.breaks and number == 0:
                self.breaks -= 1
                raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_status(self, job):
        return self.ends


@pytest.fixture
def api(monkeypatch):
    fake = Api()
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return fake


def test_command_home_sources_and_server_travel(api, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ray-s3cret")
    submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=True)
    assert "s3cret" not in str(api.sent)
    assert shlex.split(api.sent["entrypoint"]) == [
        "python", "-m", "transvae_platform", "data", "ingest", "--home", "/shared/runs", "--name=mine", "--",
        "/shared/my photos",
    ]  # fmt: skip
    variables = api.sent["runtime_env"]["env_vars"]
    assert (variables["RAY_ADDRESS"], variables["MLFLOW_TRACKING_URI"]) == ("auto", "http://tracking:5000")
    assert "tracking:5000" not in api.sent["entrypoint"]
    assert api.sent["metadata"] == {"data_set": "mine"}
    assert api.sent["entrypoint_resources"] == {"head": 0.001}
    assert set(api.files) == {"code.json"}


def test_study_takes_its_file_along_and_says_where_it_is_tracked(api, capsys):
    spec = load_study(STUDY)
    submit_job(study_job(spec, Path("/shared/runs"), None), ADDRESS, Path("/shared/runs"), follow=True)
    assert yaml.safe_load(api.files["submitted-study.yaml"])["study"] == "quickstart"
    said = capsys.readouterr()
    assert "the job keeps a SQLite file in /shared/runs" in said.err
    assert said.out == "first line\n"
    submit_job(study_job(spec, Path("/shared/runs"), "http://t:1"), ADDRESS, Path("/shared/runs"), follow=True)
    assert "SQLite" not in capsys.readouterr().err
    assert api.sent["runtime_env"]["env_vars"]["MLFLOW_TRACKING_URI"] == "http://t:1"


def test_ctrl_c_ends_the_following_and_not_the_job(api, capsys):
    api.interrupt, api.ends = True, JobStatus.RUNNING
    assert submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=True) == "raysubmit_1"
    assert "detached, the job runs on; follow it again with: ray job logs --follow" in capsys.readouterr().err


def test_failed_job_is_an_error(api):
    api.ends = JobStatus.FAILED
    with pytest.raises(UserError, match="job raysubmit_1 ended as FAILED"):
        submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=True)


def test_unfollowed_job_is_named(api, capsys):
    api.ends = JobStatus.PENDING
    submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=False)
    assert capsys.readouterr().out == "raysubmit_1\n"


def test_relative_home_is_refused(api):
    with pytest.raises(SpecError, match="--home: runs is relative"):
        submit_job(JOB, ADDRESS, Path("runs"), follow=True)
    assert api.address is None


@pytest.mark.parametrize("address", ["ray://head:10001", "127.0.0.1:8265", "head", "", "automatic", "http://"])
def test_address_of_no_jobs_api_is_refused(api, address):
    with pytest.raises(
        SpecError, match=r"--address: .* is no Jobs API - give its URL, e\.g\. http://127\.0\.0\.1:8265"
    ):
        submit_job(JOB, address, Path("/shared/runs"), follow=True)
    assert api.address is None


@pytest.mark.parametrize("address", [ADDRESS, "https://head:8265", "auto"])
def test_address_counts_and_not_the_environment(address, monkeypatch, api):
    """Ray's client prefers these variables to its argument."""
    seen = []
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265")
    monkeypatch.setattr(
        ray.job_submission,
        "JobSubmissionClient",
        lambda given: seen.append(ray.dashboard.utils.get_address_for_submission_client(given)) or api(given),
    )
    monkeypatch.setattr("ray.dashboard.utils.ray_address_to_api_server_url", lambda given: given)
    submit_job(JOB, address, Path("/shared/runs"), follow=True)
    assert seen == [address]


def job_of(study, status=JobStatus.RUNNING, start=1, **about):
    return SimpleNamespace(
        submission_id=f"{study}-{start}", status=status, start_time=start, metadata={"study": study, **about}
    )


def submit_quickstart(*changes):
    spec = load_study(STUDY, changes)
    return submit_job(study_job(spec, Path("/shared/runs"), None), ADDRESS, Path("/shared/runs"), follow=True)


def test_a_study_gets_numbered_names_and_says_how_to_stop_it(api, capsys):
    api.jobs = [job_of("quickstart", JobStatus.FAILED), job_of("other")]
    assert submit_quickstart() == "quickstart-2"
    assert api.sent["metadata"]["study"] == "quickstart"
    said = capsys.readouterr().err
    assert f"stop it with: transvae study stop quickstart --address {ADDRESS} --home /shared/runs" in said


def test_a_study_that_is_submitted_twice_is_followed(api, capsys):
    submit_quickstart()
    api.jobs, api.sent = [job_of("quickstart", start=3, specification=api.sent["metadata"]["specification"])], {}
    assert submit_quickstart() == "quickstart-3"
    assert api.sent == {}
    assert "study 'quickstart' runs already, as job quickstart-3" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"study 'quickstart' runs as job quickstart-3 with another file - stop it"):
        submit_quickstart("recipe.steps=7")


def test_of_two_machines_that_submit_at_once_one_follows(api):
    def refuse():
        api.jobs = [job_of("quickstart", start=1)]
        return RuntimeError("Job with submission_id quickstart-1 already exists")

    api.refusal = refuse
    assert submit_quickstart() == "quickstart-1"


def test_an_interrupted_upload_is_told_and_submits_nothing(api):
    api.refusal = lambda: requests.exceptions.ConnectionError("Connection aborted.")
    with pytest.raises(UnreachableError, match=r"--address: the upload to .* broke off \(Connection aborted\.\)"):
        submit_quickstart()


def test_output_comes_once_through_lost_connections(api, capsys, monkeypatch):
    monkeypatch.setattr(jobs_api, "PAUSE_SECONDS", 0)
    api.chunks, api.breaks = ["first line\n", "second line\n"], 2
    submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=True)
    assert capsys.readouterr().out == "first line\nsecond line\n"


def test_a_line_that_stays_lost_is_told_and_the_job_runs_on(api, monkeypatch):
    monkeypatch.setattr(jobs_api, "PAUSE_SECONDS", 0)
    api.breaks = 10**9
    with pytest.raises(UnreachableError, match=r"the output of job raysubmit_1 at .* broke off .* the job runs on"):
        submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=True)


def test_versions_travel_and_others_are_refused_on_the_cluster(api):
    submit_job(JOB, ADDRESS, Path("/shared/runs"), follow=True)
    told = api.sent["runtime_env"]["env_vars"]["TRANSVAE_SUBMITTED_WITH"]
    refuse_other_versions(told)
    other = json.dumps({**json.loads(told), "python": "3.12", "ray": "2.59.0"})
    with pytest.raises(SpecError, match=r"other versions .*: python 3\.12 there, 3\.\d+ here; ray 2\.59\.0"):
        refuse_other_versions(other)


def test_silent_address_is_told(monkeypatch, free_port):
    with pytest.raises(UnreachableError, match=f"no Ray Jobs API answers at http://127.0.0.1:{free_port}"):
        submit_job(JOB, f"http://127.0.0.1:{free_port}", Path("/shared/runs"), follow=True)
