"""Journals with damaged, missing or foreign records: named, doubted, and told again."""

import pytest
from tests.study.records import start, step, validate

from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal
from transvae_platform.study.state import StudyState


@pytest.fixture
def study(writer):
    study = writer()
    study.submit()
    return study


def spoil(journal, event):
    """Flip one bit of the last record of an event; returns the number of its line."""
    path = journal._path
    lines = path.read_bytes().splitlines(keepends=True)
    number = max(n for n, line in enumerate(lines, 1) if f'"event":"{event}"'.encode() in line)
    lines[number - 1] = lines[number - 1].replace(b'"up":', b'"uq":', 1)  # parses, and says something else
    path.write_bytes(b"".join(lines))
    return number


def finished(study, trial=None):
    trial = trial or study.trials[0]
    journal = study.queue(trial)
    start(journal)
    for number, psnr in ((20, 18.0), (40, 17.0)):
        step(journal, number)
        validate(journal, number, psnr)
    journal.append("finished", step=40, metrics={"val/psnr": 17.0})
    return journal


@pytest.mark.parametrize("event", ["step", "validated", "checkpoint", "started", "finished"])
def test_a_damaged_record_of_a_trial_is_named_and_the_next_attempt_tells_again(study, event):
    journal = finished(study)
    number = spoil(journal, event)
    state = StudyState(study.folder)
    (trial,) = state.trials.values()
    assert trial.doubtful
    assert state.damaged == [f"{journal._path}, line {number}"]
    assert (trial.state == "finished") == (event != "finished")
    journal.append("queued")  # what the next submission does with a trial that it cannot be sure of
    start(journal, resumed_from=40)
    journal.append("checkpoint", step=40, sha256="0", best_step=20)
    journal.append("finished", step=40, metrics={"val/psnr": 17.0})
    state.refresh()
    assert (trial.state, trial.doubtful, trial.damaged) == ("finished", False, [number])
    assert trial.final == {"val/psnr": 17.0}
    assert trial.checkpoints[40]["best_step"] == 20


def test_a_metric_record_of_the_last_step_is_found_in_the_record_of_the_end(study):
    journal = finished(study)
    whole = next(iter(StudyState(study.folder).trials.values())).validation[40]
    spoil(journal, "validated")
    (trial,) = StudyState(study.folder).trials.values()
    assert trial.validation[40]["metrics"] == whole["metrics"]
    assert trial.validation[40]["images"] == whole["images"]


def test_a_damaged_record_of_the_study_is_named_and_the_rest_is_understood(study):
    trial = study.trials[0]
    journal = study.queue(trial)
    start(journal)
    study.study.append("registered", trial=trial.id, uri="models:/a/1")
    number = spoil(study.study, "queued")
    state, lacks = StudyState(study.folder), f", which lacks trials/{trial.id}"
    assert state.trials == {}
    assert state.damaged == [f"{study.folder / 'journal.jsonl'}{lost}" for lost in (f", line {number}", lacks)]
    study.queue(trial)
    study.study.append("registered", trial=trial.id, uri="models:/a/1")
    state.refresh()
    assert state.trials[trial.id].registered["uri"] == "models:/a/1"


def test_without_its_first_submission_no_one_can_tell_which_study_this_is(study):
    study.submit()
    path = study.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"up":', b'"uq":', 1))
    with pytest.raises(UserError, match=r"journal.jsonl, line 1: .* first submission is damaged.* put the file back"):
        StudyState(study.folder)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert StudyState(study.folder).spec["study"] == "tiny"


def test_a_shortened_journal_of_the_study_is_told_by_the_trials_that_it_lacks(study):
    journal = study.queue(study.trials[0])
    start(journal)
    assert StudyState(study.folder).damaged == []
    path = study.folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for left in (lines[:1], []):
        path.write_bytes(b"".join(left))
        state = StudyState(study.folder)
        assert state.damaged == [f"{path}, which lacks trials/{study.trials[0].id}"]
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(UserError, match=r"line 1: .* first submission is damaged"):
        StudyState(study.folder)


@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_shortened_journal_of_a_trial_that_was_over_is_named_until_it_is_told_again(study, left):
    journal = finished(study)
    path, trial_id = journal._path, study.trials[0].id
    lines = path.read_bytes().splitlines(keepends=True)
    study.study.append("ended", trial=trial_id, records=len(lines))
    state = StudyState(study.folder)
    assert (state.damaged, state.trials[trial_id].doubtful) == ([], False)
    journal.close()
    path.write_bytes(b"".join(lines[:left]))
    state = StudyState(study.folder)
    count = len(lines[:left])
    assert state.damaged == [f"{path}, which ends after record {count} of {len(lines)}"]
    assert state.trials[trial_id].doubtful
    journal = Journal(path)
    journal.miss(state.trials[trial_id].ended_with)  # what the next submission does
    journal.append("queued")
    start(journal, resumed_from=40)
    journal.append("finished", step=40, metrics={"val/psnr": 17.0})
    state.refresh()
    assert (state.trials[trial_id].state, state.trials[trial_id].doubtful) == ("finished", False)
    assert state.damaged == [f"{path}, line {count + 1}"], "still known as shortened"


def test_journals_that_were_exchanged_are_not_believed(study, tmp_path):
    one, other = (finished(study, trial)._path for trial in study.trials[:2])
    lines, middle = len(one.read_bytes().splitlines()), tmp_path / "middle"
    for source, target in ((one, middle), (other, one), (middle, other)):
        source.rename(target)
    state = StudyState(study.folder)
    assert [(trial.state, trial.doubtful) for trial in state.trials.values()] == [("queued", True)] * 2
    assert state.damaged == [f"{path}, lines 1 to {lines}" for path in (one, other)]
