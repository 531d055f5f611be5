"""Replaying journals: what a study's pages, its progress and its next submission believe."""

import pytest
from tests.study.records import start, step, validate

from transvae_platform.errors import UserError
from transvae_platform.study.state import StudyState


@pytest.fixture
def study(writer):
    study = writer()
    study.submit()
    return study


def test_a_trial_from_queued_to_finished(study):
    trial = study.trials[0]
    journal = study.queue(trial)
    state = StudyState(study.folder)
    assert [t.state for t in state.trials.values()] == ["queued"]
    start(journal)
    step(journal, 10)
    validate(journal, 20, 17.0)
    assert [(t.trial.id, r["event"]) for t, r in state.refresh()] == [
        (trial.id, event) for event in ("started", "step", "validated", "pictures", "set_pictures", "checkpoint")
    ]
    (known,) = state.in_state("running")
    assert (known.step, known.images, known.attempts, known.final) == (20, 160, 1, {})
    validate(journal, 40, 18.0)
    journal.append("finished", step=40, metrics={"val/psnr": 18.0})
    state.refresh()
    assert state.in_state("finished") == [known]
    assert known.final == {"val/psnr": 18.0}
    assert known.pictures[40] == study.folder / "trials" / trial.id / "pictures/40.png"
    assert known.picture_psnr == {20: [17.0], 40: [18.0]}
    folder = study.folder / "trials" / trial.id
    assert known.set_pictures[40] == {"coco": (folder / "pictures/40_coco.png", [18.0])}
    assert state.refresh() == []


def test_replaying_at_once_equals_following(study):
    journal = study.queue(study.trials[0])
    follower = StudyState(study.folder)
    for number in (10, 20, 30):
        if number == 10:
            start(journal)
        step(journal, number)
        follower.refresh()
    (followed,), (replayed,) = follower.trials.values(), StudyState(study.folder).trials.values()
    assert followed == replayed


def test_what_a_lost_attempt_did_after_its_checkpoint_never_happened(study):
    journal = study.queue(study.trials[0])
    start(journal)
    step(journal, 10)
    validate(journal, 20, 17.0)
    step(journal, 30)
    validate(journal, 40, 30.0)
    start(journal, resumed_from=20)
    (trial,) = StudyState(study.folder).trials.values()
    assert (trial.step, trial.attempts, len(trial.started)) == (20, 2, 2)
    assert list(trial.train) == [10]
    for records in (trial.validation, trial.checkpoints, trial.pictures, trial.picture_psnr, trial.set_pictures):
        assert list(records) == [20]
    step(journal, 30, mark="second")
    (trial,) = StudyState(study.folder).trials.values()
    assert trial.train[30]["mark"] == "second"


def test_preemptions_are_counted_apart_from_attempts(study):
    journal = study.queue(study.trials[0])
    start(journal)
    validate(journal, 20, 17.0)
    journal.append("checkpoint", step=26, sha256="0", best_step=20)
    journal.append("preempted", step=26, deadline=1100.0, nodes=["node-a"])
    start(journal, resumed_from=26)  # the nodes went
    start(journal, resumed_from=26)  # a worker died
    (trial,) = StudyState(study.folder).trials.values()
    assert (trial.preemptions, trial.attempts, trial.state, trial.step) == (1, 3, "running", 26)
    assert list(trial.checkpoints) == [20, 26]
    assert trial.checkpoints[26]["best_step"] == 20


def test_what_a_rewind_takes_back_never_happened_and_the_rewinds_are_counted(study):
    def rewind(back_to, number):
        journal.append("rewound", **{"from": 50}, to=back_to, rewinds=number, reason="bad steps")

    journal = study.queue(study.trials[0])
    start(journal)
    step(journal, 10, skipped=1)
    validate(journal, 20, 17.0)
    step(journal, 30, skipped=4)
    validate(journal, 40, 30.0)
    rewind(20, 1)
    follower = StudyState(study.folder)
    (trial,) = follower.trials.values()
    assert (trial.state, trial.step, trial.attempts, trial.skipped) == ("running", 20, 1, 1)
    assert list(trial.train) == [10]
    for records in (trial.validation, trial.checkpoints, trial.pictures, trial.picture_psnr, trial.set_pictures):
        assert list(records) == [20]
    assert [rewound["reason"] for rewound in trial.rewound] == ["bad steps"]
    step(journal, 30, skipped=2)
    validate(journal, 40, 18.0)
    rewind(40, 2)
    follower.refresh()
    assert (trial.step, trial.skipped, len(trial.rewound)) == (40, 2, 2)
    start(journal, resumed_from=40)  # this checkpoint knows of the first rewind and not yet of the second
    follower.refresh()
    assert [rewound["rewinds"] for rewound in trial.rewound] == [1]
    start(journal, resumed_from=20)
    follower.refresh()
    assert (trial.rewound, trial.attempts) == ([], 3)
    rewind(20, 1)
    start(journal, resumed_from=30)  # from a checkpoint of before the rewind, which it finds again
    rewind(20, 1)
    follower.refresh()
    assert [rewound["rewinds"] for rewound in trial.rewound] == [1]
    assert trial == next(iter(StudyState(study.folder).trials.values()))


def test_checkpoint_recorded_steps_later_moves_no_trial_back(study):
    journal = study.queue(study.trials[0])
    start(journal)
    for number in (20, 30):
        step(journal, number)
    journal.append("checkpoint", step=20, sha256="0", best_step=20)
    (trial,) = StudyState(study.folder).trials.values()
    assert (trial.step, list(trial.checkpoints)) == (30, [20])


def test_alarm_stands_until_it_is_over_or_a_new_attempt_begins(study):
    journal = study.queue(study.trials[0])
    start(journal)

    def alarm():
        (trial,) = StudyState(study.folder).trials.values()
        return trial.alarm

    assert alarm() is None
    journal.append("alarm", step=20, message="disk full")
    step(journal, 30)
    assert alarm() == "disk full"
    journal.append("alarm_over", step=40, message="written")
    assert alarm() is None
    journal.append("alarm", step=60, message="disk full again")
    start(journal, resumed_from=40)
    assert alarm() is None


def test_failed_trial_keeps_its_reason_until_it_is_tried_again(study):
    journal = study.queue(study.trials[0])
    start(journal)
    step(journal, 10)
    journal.append("failed", reason="out of memory")
    (trial,) = StudyState(study.folder).in_state("failed")
    assert (trial.reason, trial.step, trial.final) == ("out of memory", 10, {})
    journal.append("queued")
    (trial,) = StudyState(study.folder).in_state("queued")
    assert trial.reason is None
    start(journal)
    (trial,) = StudyState(study.folder).in_state("running")
    assert (trial.step, trial.attempts) == (0, 2)


def test_attempts_that_fail_are_known_while_the_trial_is_tried_again(study):
    journal = study.queue(study.trials[0])
    start(journal)
    journal.append("attempt_failed", reason="OSError: away", charged=True, attempt=1, of=3, died=False)
    journal.append("attempt_failed", reason="ImportError: gone", charged=True, attempt=2, of=3, died=False)
    (trial,) = StudyState(study.folder).in_state("running")
    assert [record["reason"] for record in trial.broken] == ["OSError: away", "ImportError: gone"]
    assert (trial.attempts, trial.reason) == (2, None)
    start(journal)
    assert [trial.attempts for trial in StudyState(study.folder).trials.values()] == [3]
    journal.append("queued")  # by a later submission: what failed before is over
    (trial,) = StudyState(study.folder).in_state("queued")
    assert trial.broken == []


def test_later_submission_may_move_a_trial_to_other_resources(study, writer):
    study.queue(study.trials[0])
    moved = writer(resources__workers=2)
    moved.queue(moved.trials[0])
    (trial,) = StudyState(study.folder).trials.values()
    assert trial.trial.workers.workers == 2


def test_seconds_count_work_and_not_the_time_between_attempts(study):
    journal = study.queue(study.trials[0])
    for at, act in [
        (100, lambda: start(journal)),
        (110, lambda: step(journal, 10)),
        (115, lambda: journal.append("rewound", **{"from": 10}, to=0, rewinds=1, reason="bad steps")),
        (125, lambda: validate(journal, 20, 17.0)),
        (130, lambda: journal.append("failed", reason="lost")),  # may be noticed much later than it happened
        (5000, lambda: journal.append("queued")),
        (9000, lambda: journal.append("damaged", message="checkpoint of step 20 is damaged")),
        (9001, lambda: start(journal, 0)),
        (9031, lambda: step(journal, 30)),
        (9041, lambda: journal.append("finished", step=40, metrics={})),
    ]:
        study.now = float(at)
        act()
    (trial,) = StudyState(study.folder).trials.values()
    assert trial.seconds == pytest.approx(25 + 40)


def test_a_clock_that_jumps_changes_no_duration(study):
    journal = study.queue(study.trials[0])
    for now, wrong, number in [(100, 0, 0), (110, 3600, 10), (120, -3600, 20), (130, 7200, 30)]:
        study.now, study.wrong = float(now), float(wrong)
        step(journal, number) if number else start(journal)
    (trial,) = StudyState(study.folder).trials.values()
    assert trial.seconds == pytest.approx(30)
    assert trial.seconds_per_step == pytest.approx(1)
    assert list(trial.train) == [10, 20, 30]


def test_preemptions_are_counted_and_the_last_open_alarm_is_known(study):
    journal = study.queue(study.trials[0])
    start(journal)
    journal.append("preempted", step=10)
    start(journal)
    journal.append("alarm", message="disk full")
    journal.append("alarm", message="disk still full")
    (trial,) = StudyState(study.folder).trials.values()
    assert (trial.preemptions, trial.alarm, trial.state) == (1, "disk still full", "running")
    journal.append("alarm_over")
    (trial,) = StudyState(study.folder).trials.values()
    assert trial.alarm is None


def test_registered_version_and_ingest_belong_to_the_study(study):
    trial = study.trials[0]
    study.queue(trial)
    study.study.append("ingested", fingerprint="f", images=3, train=2, validation=1, skipped=[])
    study.study.append(
        "registered", trial=trial.id, name="tiny-cnn-T", version=3, uri="models:/tiny-cnn-T/3", psnr=20.0, sha256="0"
    )
    state = StudyState(study.folder)
    assert state.trials[trial.id].registered["version"] == 3
    assert state.data["images"] == 3
    assert state.spec["study"] == "tiny"


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        (["a"], None),
        (["a", "a"], None),
        (["a", "b"], "began with a and also ran under b."),
        (["a", "b", "c", "b"], "began with a and also ran under b, c."),
        (["a", "b", "a"], "began with a and also ran under b."),
    ],
)
def test_continuing_under_other_code_is_said(writer, versions, sentence):
    study = writer()
    for version in versions:
        study.submit(version)
    said = StudyState(study.folder).notes
    assert said == [] if sentence is None else len(said) == 1 and said[0].endswith(sentence)


def test_trials_that_the_budget_did_not_let_start_are_said_until_they_do(writer):
    study = writer()
    for trial in study.trials:
        study.queue(trial)
    study.study.append("not_started", trials=[study.trials[0].id], budget=2.0)
    study.study.append("not_started", trials=[], budget=2.0)  # a later round had others to start
    (said,) = StudyState(study.folder).notes
    assert said.startswith(f"1 of {len(study.trials)} trials were not started: their estimates do not fit")
    assert "(0 of 2 device-hours are spent)" in said
    study.submit("a")
    assert StudyState(study.folder).notes == []


def test_a_trial_keeps_the_plan_that_it_was_first_submitted_with(writer):
    study = writer()
    study.submit()
    study.study.append("planned", device_seconds={"a": 10.0, "b": 20.0})
    study.study.append("planned", device_seconds={"b": 5.0, "c": 1.0})
    assert StudyState(study.folder).planned == {"a": 10.0, "b": 20.0, "c": 1.0}


def test_study_without_journals_is_empty(tmp_path):
    state = StudyState(tmp_path / "nothing")
    assert (state.trials, state.spec, state.name) == ({}, {}, "nothing")


def test_reason_why_a_model_was_not_registered_survives_reopening(study):
    trial = study.trials[0]
    own = study.queue(trial)
    start(own)
    own.append("finished", step=1, metrics={})
    study.study.append("not_registered", trial=trial.id, reason="damaged")
    again = StudyState(study.folder).trials[trial.id]
    assert (again.state, again.reason, again.unregistered) == ("finished", None, "damaged")


def test_record_of_another_version_is_named(study):
    study.study.append("queued", trial={"id": "from the future"}, cost={})
    with pytest.raises(UserError, match="written by another version"):
        StudyState(study.folder)


def test_a_record_that_is_not_of_this_version_is_named_with_its_file(study):
    trial = study.trials[0]
    journal = study.queue(trial)
    start(journal)
    journal.append("started", world=1)  # no `resumed_from`
    with pytest.raises(
        UserError, match=rf"{trial.id}/journal.jsonl: a record `started` was written by another version"
    ):
        StudyState(study.folder)


def test_a_journal_from_elsewhere_names_no_file_outside_of_its_trial(study):
    trial = study.trials[0]
    journal = study.queue(trial)
    start(journal)
    for number, path in enumerate(("../../../secret.png", "/etc/secret.png", "pictures/../../secret.png")):
        journal.append("pictures", step=number, path=path, psnr=[1.0])
        journal.append("set_pictures", set="coco", step=number, path=path, psnr=[1.0])
    (known,) = StudyState(study.folder).trials.values()
    inside = known.folder / "pictures" / "secret.png"
    assert set(known.pictures.values()) == {inside}
    assert {path for sets in known.set_pictures.values() for path, _ in sets.values()} == {inside}
