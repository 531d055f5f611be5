"""What the journals say, replayed: the state of a study and of every trial, for progress, tracking and dashboards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from transvae_platform.errors import UserError
from transvae_platform.study.journal import JournalReader
from transvae_platform.study.record import UNREADABLE, Record
from transvae_platform.study.trial import Trial

STATES = ("queued", "running", "finished", "stopped", "failed")
OVER = ("finished", "stopped")
"""States that no submission changes; a failed trial is tried again by the next one."""
TIMED = ("started", "step", "validated", "pictures", "checkpoint", "finished")
"""Records of an attempt that its one writer makes while it works: the time between two of them was spent on it."""


@dataclass
class TrialState:
    """One trial as its journal tells it; updated in place as the journal grows."""

    trial: Trial
    folder: Path
    cost: dict[str, float]
    """Parameters and FLOPs of the model, counted when the trial was queued (`transvae.accounting`)."""
    state: str = "queued"
    step: int = 0
    attempts: int = 0
    preemptions: int = 0
    """Attempts that saved their work because their nodes were about to be taken away."""
    seconds: float = 0.0
    """Training seconds of all attempts: the time between a start and the last record that followed it."""
    attempt_seconds: float = 0.0
    """Those of the last attempt."""
    alarm: str | None = None
    """What is wrong although the trial goes on, such as a full disk; None once it is over."""
    reason: str | None = None
    """Why the trial failed or was stopped."""
    diverged: bool = False
    """Whether it failed because its training broke down, which every attempt would."""
    broken: list[Record] = field(default_factory=list)
    """Attempts of this submission that failed (`cluster/failures.py`): the reason, and which of how many each was."""
    started: list[Record] = field(default_factory=list)
    """The `started` record of every attempt: device, world size, lineage, the step it resumed from."""
    lost: list[str] = field(default_factory=list)
    """Checkpoints that were damaged or missing when an attempt began, in sentences."""
    rewound: list[Record] = field(default_factory=list)
    """Records of the rewinds that the state is built on: from a bad stretch to a checkpoint, with the reason."""
    train: dict[int, Record] = field(default_factory=dict)
    """Training records by step (the last attempt's where steps were repeated)."""
    validation: dict[int, Record] = field(default_factory=dict)
    """Validation records by step."""
    checkpoints: dict[int, Record] = field(default_factory=dict)
    pictures: dict[int, Path] = field(default_factory=dict)
    """Reconstruction pictures by step: originals above reconstructions."""
    picture_psnr: dict[int, list[float]] = field(default_factory=dict)
    """PSNR in dB of each picture, by step."""
    set_pictures: dict[int, dict[str, tuple[Path, list[float]]]] = field(default_factory=dict)
    """The same of further sets (`evaluation.sets`): by step and set, the file and each picture's PSNR."""
    registered: Record | None = None
    """The registry version made of this trial's best checkpoint."""
    unregistered: str | None = None
    """Why the best checkpoint was not registered."""
    at: float = 0.0
    """When the newest record was written."""
    damaged: list[int] = field(default_factory=list)
    """Lines of the journal that are damaged, or before which some are missing; what those said is not in this state."""
    doubtful: bool = False
    """Whether one of them may have said how the newest attempt ended; the next attempt tells again."""
    records: int | None = 0
    """How many records its journal has; None after a damaged one."""
    ended_with: int = 0
    """How many it had when it was over, as the study's journal says (`study/journal.py`, 11)."""

    @property
    def cut(self) -> bool:
        """Whether the end of its journal is missing."""
        return self.records is not None and self.records < self.ended_with

    @property
    def final(self) -> dict[str, float]:
        """The metrics at the last step of a finished trial; empty before that."""
        record = self.validation.get(self.trial.recipe.steps)
        return record["metrics"] if self.state == "finished" and record else {}

    @property
    def seconds_per_step(self) -> float | None:
        """Measured in the last attempt, validations and checkpoints included; None before its first record."""
        steps = self.step - self.started[-1]["resumed_from"] if self.started else 0
        return self.attempt_seconds / steps if steps > 0 and self.attempt_seconds > 0 else None

    @property
    def skipped(self) -> int:
        """Updates that the guard skipped on the way to this step."""
        return int(self.train[max(self.train)].get("skipped", 0)) if self.train else 0

    @property
    def images(self) -> int:
        """Images seen so far."""
        return self.step * self.trial.recipe.batch_size

    def apply(self, record: Record) -> None:
        """Take one record of the trial's journal."""
        if record["event"] == UNREADABLE:
            self.damaged.append(record["line"])
            self.doubtful = True
            return
        self.at = record["at"]
        match record["event"]:
            case "started":
                self.state, self.reason, self.attempts, self._begun = "running", None, self.attempts + 1, True
                self.doubtful = False
                self.alarm = None  # of a process that is gone; what is still wrong will be told again
                self.started.append(record)
                self._last, self.attempt_seconds = record, 0.0
                self._drop_after(record["resumed_from"])
                # the checkpoint does not know of rewinds that came after it, and the attempt finds them again
                self.rewound = [rewind for rewind in self.rewound if rewind["to"] < record["resumed_from"]]
            case "rewound":
                # one that an attempt found again stands where it stood
                self.rewound = [*self.rewound[: record["rewinds"] - 1], record]
                self._drop_after(record["to"])
            case "step":
                self.train[record["step"]] = record
            case "validated":
                self.validation[record["step"]] = record
            case "checkpoint":
                self.checkpoints[record["step"]] = record
            case "pictures":
                self.pictures[record["step"]] = self._picture(record)
                self.picture_psnr[record["step"]] = record["psnr"]
            case "set_pictures":
                found = (self._picture(record), record["psnr"])
                self.set_pictures.setdefault(record["step"], {})[record["set"]] = found
            case "finished":
                self.state, self.alarm = "finished", None
                if record.get("metrics"):  # their own record may be damaged
                    self.validation.setdefault(record["step"], self._validated(record))
            case "failed" | "stopped" as end:
                self.state, self.reason, self.alarm = end, record["reason"], None
                self.diverged = record.get("diverged", False)
            case "attempt_failed":
                self.broken.append(record)
                self.attempts += not self._begun  # it failed before it could say that it began
                self.state, self.reason, self._begun = "running", None, False  # Ray tries again, or `failed` follows
            case "queued" | "paused" as how:  # a later submission, or a later round of this one, goes on with it
                self.state, self.reason, self.alarm = "queued", None, None
                if how == "queued":
                    self.broken = []
            case "preempted":
                self.preemptions += 1
            case "damaged":
                self.lost.append(record["message"])
            case "alarm":
                self.alarm = record["message"]
            case "alarm_over":
                self.alarm = None
        if record["event"] in TIMED:
            self.step = max(self.step, record.get("step", 0))  # a checkpoint is recorded steps after it was taken
            if self._last is not None:
                seconds = _between(self._last, record)
                self.seconds += seconds
                self.attempt_seconds += seconds
                self._last = record

    def _validated(self, finished: Record) -> Record:
        """What the validation of the last step recorded."""
        images = finished["step"] * self.trial.recipe.batch_size
        flops = images * self.cost.get("training_flops", 0.0)
        return {**finished, "event": "validated", "images": images, "flops": flops}

    def _picture(self, record: Record) -> Path:
        """Where a picture lies: in the trial's own folder, whatever a journal from elsewhere says."""
        return self.folder / "pictures" / PurePosixPath(record["path"]).name

    def _drop_after(self, step: int) -> None:
        # what was done after the checkpoint from which training went on never happened
        drawn = (self.pictures, self.picture_psnr, self.set_pictures)
        for records in (self.train, self.validation, self.checkpoints, *drawn):
            for later in [known for known in records if known > step]:
                del records[later]
        self.step = step

    _last: Record | None = None
    """The newest timed record of the last attempt."""
    _begun: bool = False
    """Whether the newest attempt said that it began."""


class StudyState:
    """A study as its journals tell it. `refresh` reads what was added since; reading needs no lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec: dict[str, Any] = {}
        """The study file as it was submitted (`StudySpec.model_dump`)."""
        self.submissions: list[Record] = []
        """One record per submission: spec, lineage (code, versions, machine), tracking server."""
        self.data: Record | None = None
        """The ingest's result: counts, fingerprint, skipped files."""
        self.latents: dict[str, dict[str, Any]] = {}
        """By what made them: `model`, `weights_sha256`, and the `locations` of the latents."""
        self.trials: dict[str, TrialState] = {}
        self.planned: dict[str, float] = {}
        """Device-seconds by trial id, as the plan had it when the trial was first submitted."""
        self.not_started: Record | None = None
        """Which trials the last submission could not start, and its budget in device-hours."""
        self.measured: list[str] = []
        """Keys of the evaluations that tables 1 and 2 show of this study."""
        self.not_measured: dict[tuple[str, str], str] = {}
        """Trial and evaluation -> why there is no result of it."""
        self._damaged: list[int] = []
        self._study_reader = JournalReader(folder / "journal.jsonl")
        self._trial_readers: dict[str, JournalReader] = {}
        self.refresh()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def damaged(self) -> list[str]:
        """The lines of all journals where records are damaged or missing, and trials that the study's journal lacks."""
        journals = [(self.folder, self._damaged), *((trial.folder, trial.damaged) for trial in self.trials.values())]
        places = [f"{folder / 'journal.jsonl'}, {place}" for folder, lines in journals for place in _stretches(lines)]
        found = sorted(path.parent for path in self.folder.glob("trials/*/journal.jsonl"))
        places += [
            f"{trial.folder / 'journal.jsonl'}, which ends after record {trial.records} of {trial.ended_with}"
            for trial in self.trials.values()
            if trial.cut
        ]
        return places + [
            f"{self.folder / 'journal.jsonl'}, which lacks trials/{path.name}"
            for path in found
            if path.name not in self.trials
        ]

    @property
    def autoencoders(self) -> list[TrialState]:
        """The trials of the grid itself."""
        return [trial for trial in self.trials.values() if trial.trial.generator is None]

    @property
    def generators(self) -> list[TrialState]:
        """The trials of generators (`downstream`)."""
        return [trial for trial in self.trials.values() if trial.trial.generator is not None]

    def waits_for(self, trial: TrialState) -> str | None:
        """Why a generator has not begun although everything before it has ended; None if nothing is in its way."""
        of = trial.trial.generator
        if of is None or of.autoencoder is None or trial.state != "queued":
            return None
        vae = self.trials.get(of.autoencoder)
        if vae is None or vae.state != "finished" or (vae.registered and vae.unregistered is None):
            return None
        return f"waits for {vae.trial.label}, which is not registered" + (
            f" ({vae.unregistered.splitlines()[0]})" if vae.unregistered else ""
        )

    def refresh(self) -> list[tuple[TrialState, Record]]:
        """Read what the journals gained; returns the new trial records with their trial, in order.

        Raises:
            UserError: a record is not of this version's form, or that of the first submission is damaged.
        """
        self._refresh_study()
        news = []
        for trial_id, reader in self._trial_readers.items():
            for record in reader.new():
                try:
                    self.trials[trial_id].apply(record)
                except (KeyError, TypeError) as error:
                    path = self.trials[trial_id].folder / "journal.jsonl"
                    raise UserError(self._foreign(path, record, error)) from None
                news.append((self.trials[trial_id], record))
            self.trials[trial_id].records = reader.records
            self.trials[trial_id].doubtful |= self.trials[trial_id].cut
        return news

    def _refresh_study(self) -> None:
        for record in self._study_reader.new():
            try:
                self._apply(record)
            except (KeyError, ValidationError) as error:
                raise UserError(self._foreign(self.folder / "journal.jsonl", record, error)) from None
        if self._damaged and not self.submissions:
            raise UserError(self._headless(self._damaged[0]))

    def _foreign(self, path: Path, record: Record, error: Exception) -> str:
        return (
            f"{path}: a record `{record['event']}` was written by another version of this project, or is damaged "
            f"({str(error).splitlines()[0]}) - use that version, or delete {self.folder}"
        )

    def _headless(self, line: int) -> str:
        return (
            f"{self.folder / 'journal.jsonl'}, line {line}: the record of the study's first submission is damaged, "
            "or of an earlier version of this project, so that nothing says which study this is - put the file "
            "back from a copy; or delete that line if another `submitted` follows; or give the study a new name"
        )

    def _apply(self, record: Record) -> None:
        match record["event"]:
            case event if event == UNREADABLE:
                if not (self.submissions or record["missing"]):  # the next record may be a later submission
                    raise UserError(self._headless(record["line"]))
                self._damaged.append(record["line"])
            case "submitted":
                self.spec, self.not_started = record["spec"], None
                self.submissions.append(record)
            case "ingested":
                self.data = record
            case "latents":
                known = ("model", "weights_sha256", "locations")
                self.latents[record["model"]] = {key: record[key] for key in known}
            case "queued":
                trial = Trial.model_validate(record["trial"])
                folder = self.folder / "trials" / trial.id
                if trial.id not in self.trials:
                    self.trials[trial.id] = TrialState(trial=trial, folder=folder, cost=record["cost"])
                    self._trial_readers[trial.id] = JournalReader(folder / "journal.jsonl")
                else:  # a later submission may move the trial to other resources
                    self.trials[trial.id].trial = trial
            case "registered" | "not_registered" | "ended" if self._damaged and record["trial"] not in self.trials:
                pass  # its `queued` is damaged; the next submission queues and registers it again
            case "ended":
                self.trials[record["trial"]].ended_with = record["records"]
            case "registered":
                self.trials[record["trial"]].registered = record
                self.trials[record["trial"]].unregistered = None
            case "planned":
                self.planned = {**record["device_seconds"], **self.planned}
            case "not_started":
                earlier = self.not_started["trials"] if self.not_started else []  # of another round or wave
                self.not_started = {**record, "trials": [*earlier, *record["trials"]]}
            case "not_registered":
                self.trials[record["trial"]].unregistered = record["reason"]
            case "measured":
                self.measured.append(record["key"])
                self.not_measured.pop((record["trial"], record["what"]), None)
            case "not_measured":
                self.not_measured[record["trial"], record["what"]] = record["reason"]

    @property
    def device_hours(self) -> float:
        """That all trials have computed so far: a trial on 8 GPUs for an hour counts 8."""
        return sum(trial.seconds * trial.trial.workers.workers for trial in self.trials.values()) / 3600

    @property
    def notes(self) -> list[str]:
        """What people must know of the study as a whole."""
        found = [note] if (note := _code_changed(self)) else []
        left_out = self.not_started["trials"] if self.not_started else ()
        if waiting := {trial.trial.id for trial in self.in_state("queued")}.intersection(left_out):
            assert self.not_started
            found.append(
                f"{len(waiting)} of {len(self.trials)} trials were not started: their estimates do not fit into what "
                f"is left of resources.budget ({self.device_hours:.3g} of {self.not_started['budget']:g} device-hours "
                "are spent). The same command with a larger budget starts them."
            )
        return found + [f"{trial}: {what}: {reason}" for (trial, what), reason in self.not_measured.items()]

    def in_state(self, state: str) -> list[TrialState]:
        """The trials in one of `STATES`."""
        return [trial for trial in self.trials.values() if trial.state == state]


def _stretches(lines: list[int]) -> Iterator[str]:
    """Ascending numbers of lines in words, those that follow each other as one."""
    for _, found in groupby(enumerate(lines), lambda pair: pair[1] - pair[0]):
        run = [line for _, line in found]
        yield f"line {run[0]}" if len(run) == 1 else f"lines {run[0]} to {run[-1]}"


def _between(earlier: Record, later: Record) -> float:
    """Seconds between two records of an attempt, by the clock that does not jump."""
    return max(0.0, float(later["up"] - earlier["up"]))


def _code_changed(state: StudyState) -> str | None:
    """A sentence for every page when a study continued under other code than it began with, else None."""
    versions = [submission["lineage"]["code"] for submission in state.submissions]
    if len(set(versions)) < 2:
        return None
    others = ", ".join(version for version in dict.fromkeys(versions) if version != versions[0])
    return f"This study was continued under other code: it began with {versions[0]} and also ran under {others}."


def studies_in(home: Path) -> Iterator[StudyState]:
    """All studies of a home that this version can read."""
    for journal in sorted(home.glob("studies/*/journal.jsonl")):
        with suppress(UserError):  # of another version
            yield StudyState(journal.parent)
