"""MLflow is told what the journals say: one experiment per study, one run per trial, found again by its tags.

Protocol
1. The journal is the truth. Only the process that holds the study's lock sends, from a thread of its own: neither
   training nor progress waits for the server. Nothing else writes points to MLflow.
2. A run belongs to a trial of one journal: its tags `trial_id` and `journal` (hash of the journal's first submission)
   say so. A submission that continues a study continues its runs; another study of the same name has its own.
3. A point, one value of one metric at one step, is sent if the run does not hold it. What a run holds is read from the
   server before the first sending, and again after any failure: a request that timed out may have been carried out.
4. MLflow can neither change nor delete a point. A run that holds a step twice, or with another value than the journal
   (the trial went back and took the step again, or another world size rounds differently), is given the tag
   `superseded`, moved to MLflow's trash, and a new run gets all points. So the later record of a step wins here as it
   does in the journal, and the old points can be looked at until the trash is emptied.
5. Steps that were taken back and not yet taken again stay in the run until the trial repeats or ends.
6. When a trial has ended its run is read back and compared with the journal, point by point. Only a run that is equal
   gets the tag `points_sha256`; a later submission sends nothing to a run whose tag fits the journal.
7. A server that does not answer stops nothing: what was not sent is tried again, in this submission or the next. At
   the start, too, if a study of this home was submitted to that address before; an address that never answered is
   refused at once (`server.reach`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Param, RunTag
from mlflow.tracking import MlflowClient

from transvae_platform.study.record import Record
from transvae_platform.study.state import OVER, StudyState, TrialState
from transvae_platform.tracking import points
from transvae_platform.tracking.rates import RateRuns
from transvae_platform.tracking.server import Server, answering, first_line
from transvae_platform.tracking.study_runs import StudyRuns

SEND_EVERY_SECONDS = 10.0  # one batch of many steps per call is 25 times faster than one call per step (measured)
METRICS_PER_CALL = 1000  # the server's limit for one batch
PICTURES, LINEAGE = "pictures", "lineage"  # folders of artifacts, of a trial's run and of the study's
MLFLOW_STATUS = {
    "queued": "SCHEDULED", "running": "RUNNING", "finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED",
}  # fmt: skip
ENDED = (*OVER, "failed")
COMPARED = "points_sha256"
MOST_REMADE = 3  # new runs for one ended trial in one submission; assumption: more means a server that cannot be right


@dataclass
class _Sent:
    """What the server is known to hold of a trial, since its history was last read."""

    points: dict[points.Point, float]
    pictures: set[str]
    records: dict[int, Record] = field(default_factory=dict)
    """Records whose points are all there, by object: what a sending need not look at again."""


class Tracker:
    """Sends one study's journal records to MLflow; see the protocol above."""

    def __init__(self, server: Server, state: StudyState, home: Path) -> None:
        self._server, self._state = server, state
        self._runs = StudyRuns(server, state, home)
        self._rates = RateRuns(server, home)
        self._sent: dict[str, _Sent] = {}
        self._remade: Counter[str] = Counter()
        self._files_sent = False
        # what earlier submissions could not send; the rest is passed over
        self._waiting = {identity for identity, trial in state.trials.items() if trial.started}
        self._thread: threading.Thread | None = None
        self._next_send = 0.0
        self.problem: str | None = None
        """Why the last sending failed, or None: shown while a study runs."""

    @property
    def client(self) -> MlflowClient:
        """The server's client; raises UnreachableError while it has never answered."""
        return self._server.client()

    @property
    def experiment_id(self) -> str:
        """The study's experiment, made if it does not exist."""
        return self._runs.experiment_id

    @property
    def study_run(self) -> str:
        """The run of the study as a whole, made if it does not exist."""
        return self._runs.study_run

    def run_id(self, trial: TrialState) -> str:
        """The MLflow run of a trial, made if it does not exist."""
        return str(self._runs.of(trial).info.run_id)

    def take(self, news: Sequence[tuple[TrialState, Record]]) -> None:
        """Note which trials have new journal records."""
        self._waiting |= {trial.trial.id for trial, _ in news}

    def send(self, *, now: bool = False) -> bool:
        """Let the sender's thread send what waits, at most every few seconds; returns at once.

        With `now` everything is sent before it returns, however long the server takes; whether nothing is left.
        """
        if now:
            if self._thread is not None:
                self._thread.join()
            self._send_all()
            return self.problem is None and not self._waiting
        if time.monotonic() >= self._next_send and (self._thread is None or not self._thread.is_alive()):
            self._next_send = time.monotonic() + SEND_EVERY_SECONDS
            # a daemon: an interrupted submission ends although the server keeps a request waiting
            self._thread = threading.Thread(target=self._send_all, name="mlflow", daemon=True)
            self._thread.start()
        return False

    def log_page(self, page: Path) -> None:
        """Attach the study's page to the study's run, and end that run."""
        self.client.log_artifact(self.study_run, str(page))
        self.client.set_terminated(self.study_run, "FAILED" if self._state.in_state("failed") else "FINISHED")

    def _send_all(self) -> None:
        try:
            self._send_files()
            for identity in list(self._waiting):
                self._waiting.discard(identity)  # before its state is looked at: what comes meanwhile waits again
                try:
                    self._send_trial(self._state.trials[identity])
                except BaseException:
                    self._sent.pop(identity, None)  # protocol 3
                    self._runs.forget(self._state.trials[identity])
                    self._waiting.add(identity)
                    raise
            self.problem = None
        except Exception as error:  # noqa: BLE001 - artifact stores raise errors of their own; no failure may stop a study
            count = len(self._waiting)
            self.problem = f"MLflow does not answer, news of {count} trials wait: {first_line(error)}"

    def _send_files(self) -> None:
        """The study file and the texts that the lineage names by their hashes, as artifacts of the study's run."""
        if self._files_sent or not self._state.submissions:
            return
        self.client.log_dict(self.study_run, self._state.spec, "study.json")
        known = {Path(file.path).name for file in self.client.list_artifacts(self.study_run, LINEAGE)}
        for file in sorted((self._state.folder / LINEAGE).glob("*")):
            if file.name not in known:
                self.client.log_artifact(self.study_run, str(file), LINEAGE)
        self._files_sent = True

    def _send_trial(self, trial: TrialState) -> None:
        state = trial.state  # before the points: those of an ended trial are complete
        if state not in ENDED:
            self._send_points(trial, ended=False)
            self._send_outcome(trial, state)
            return
        digest = points.digest(points.wanted(points.records_of(trial)))
        tags = self._runs.of(trial).data.tags
        if (tags.get(COMPARED), tags.get("trial.state")) == (digest, state):
            return
        for _ in range(1 + MOST_REMADE):
            self._send_points(trial, ended=True)
            self._send_outcome(trial, state)
            self._sent.pop(trial.trial.id)
            if self._send_points(trial, ended=True):  # protocol 6: read again, nothing is left to do
                self._rates.keep(trial)
                self.client.set_tag(self.run_id(trial), COMPARED, digest)
                return
        raise ValueError(f"{self.run_id(trial)}: points are missing again after every sending")

    def _send_points(self, trial: TrialState, *, ended: bool) -> bool:
        """Send what the run lacks, into a new run if it holds what it must not; whether nothing was to be done."""
        records, sent = points.records_of(trial), self._known(trial)
        fresh = [record for record in records if sent.records.get(id(record)) is not record]
        wants = points.wanted(records if ended else fresh)
        wrong = points.contradicts(sent.points, wants) or (points.surplus(sent.points, wants) if ended else None)
        if wrong is not None:
            self._supersede(trial, wrong)
            self._send_points(trial, ended=ended)
            return False
        missing = [metric for point, metric in wants.items() if point not in sent.points]
        for start in range(0, len(missing), METRICS_PER_CALL):
            self.client.log_batch(self.run_id(trial), metrics=missing[start : start + METRICS_PER_CALL])
        sent.points |= {(metric.key, metric.step): metric.value for metric in missing}
        sent.records |= {id(record): record for record in fresh}
        for picture in dict(trial.pictures).values():
            if (name := f"{PICTURES}/{picture.name}") not in sent.pictures and picture.exists():
                self.client.log_artifact(self.run_id(trial), str(picture), PICTURES)
                sent.pictures.add(name)
        return not missing

    def _send_outcome(self, trial: TrialState, state: str) -> None:
        run_id = self.run_id(trial)
        tags = {"trial.state": state, "trial.reason": trial.reason or "", "trial.rewinds": str(len(trial.rewound))}
        if trial.started:
            # parameters cannot change: they say how the first attempt ran, the tags how the last one did
            first, last = trial.started[0], trial.started[-1]
            params = [Param("attention", str(first["attention"])), Param("ran_on", str(first["device"]))]
            self.client.log_batch(run_id, params=params)
            tags |= {"device": last["device"], "attention": last["attention"]}
            tags |= {f"lineage.{key}": str(value) for key, value in last["lineage"].items()}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if state in ENDED:
            self.client.set_terminated(run_id, MLFLOW_STATUS[state], end_time=int(trial.at * 1000))
        else:
            self.client.update_run(run_id, status=MLFLOW_STATUS[state])

    def _supersede(self, trial: TrialState, wrong: points.Point) -> None:
        """Protocol 4. A kill in between leaves no run, and the next sending makes one."""
        run_id = self.run_id(trial)
        if trial.state in ENDED:  # once is normal; a server that changes what it is given would go on for ever
            self._remade[trial.trial.id] += 1
            if self._remade[trial.trial.id] > MOST_REMADE:
                raise ValueError(f"{run_id}: {wrong[0]} at step {wrong[1]} is not kept as it was sent")
        self._runs.give_up(trial, f"it held another {wrong[0]} at step {wrong[1]} than the journal")
        del self._sent[trial.trial.id]

    def _known(self, trial: TrialState) -> _Sent:
        identity = trial.trial.id
        if identity not in self._sent:
            run_id = self.run_id(trial)
            pictures = {file.path for file in self.client.list_artifacts(run_id, PICTURES)}
            self._sent[identity] = _Sent(points.held(self.client, run_id), pictures)
        return self._sent[identity]


def log_page(uri: str, home: Path, state: StudyState, page: Path) -> None:
    """Attach a study's page to its run in MLflow.

    Raises:
        UnreachableError: the server does not answer.
    """
    server = Server(uri, home)
    with answering(server.client()):
        Tracker(server, state, home).log_page(page)
