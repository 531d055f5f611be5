"""All promises at once: studies under random kills, typed again until they end, equal their undisturbed twin.

SOAK_MINUTES (20) says for how long kills are dealt, SOAK_SEED (0) which; studies follow one another until then.
"""

import json
import os
import random
import time
from collections import Counter

import pytest
from tests.faults.soak import EVERY, Round, points_in_journals, results, undisturbed

from transvae_platform.study.journal import read_journal
from transvae_platform.study.state import StudyState

pytestmark = pytest.mark.soak


def test_studies_under_random_kills_end_as_their_twin(tmp_path, capsys):
    minutes, seed = float(os.environ.get("SOAK_MINUTES", "20")), int(os.environ.get("SOAK_SEED", "0"))
    chance, totals, rounds = random.Random(seed), Counter(), 0
    twin, start = undisturbed(tmp_path / "twin")
    expected, pause = results(twin), start / 2  # every other kill ends a submission: not every start is in vain
    began = time.monotonic()
    while time.monotonic() < began + 60 * minutes:
        rounds += 1
        disturbed = Round(tmp_path / f"round-{rounds}", chance, pause, began + 60 * minutes)
        disturbed.run()
        totals += disturbed.kills
        totals["submissions"] += disturbed.submissions
        for journal in sorted(disturbed.home.study.glob("trials/*/journal.jsonl")):
            records = read_journal(journal)
            totals["attempts"] += check_journal(records)
            totals["notices heeded"] += sum(record["event"] == "preempted" for record in records)
            totals["resumed"] += sum(record["event"] == "started" and record["step"] > 0 for record in records)
            totals["rewinds"] += sum(record["event"] == "rewound" for record in records)
        before = {path: path.read_bytes() for path in disturbed.home.study.glob("trials/*/journal.jsonl")}
        disturbed.finish()
        assert before == {path: path.read_bytes() for path in before}, "an ended study was trained again"
        found = results(disturbed.home)
        for identity, values in expected.items():
            wrong = [key for key, value in values.items() if found[identity][key] != value]
            assert not wrong, f"round {rounds}, seed {seed}, {identity}: {wrong} differ"
        for identity, wanted in points_in_journals(disturbed.home).items():
            held = disturbed.held[identity]
            assert len(held) == len(dict(held)), f"{identity}: MLflow holds a step twice"
            assert dict(held) == wanted, identity
        assert len(StudyState(disturbed.home.study).submissions) <= disturbed.submissions
    assert totals["resumed"], f"no attempt went on from a checkpoint: {totals}; raise SOAK_MINUTES"
    assert totals["notices heeded"], f"no trial heard of a notice: {totals}; raise SOAK_MINUTES"
    with capsys.disabled():
        print(
            "\n"
            + json.dumps({"minutes": minutes, "seed": seed, "studies": rounds, "mean pause": round(pause, 1), **totals})
        )


def check_journal(records):
    """One end, nothing after it, and no attempt repeated more than one interval; how many attempts there were."""
    events = [record["event"] for record in records]
    assert events.count("finished") == 1
    assert events[-1] == "finished"
    assert "damaged" not in events
    steps = 0
    for record in records:
        if record["event"] == "started":
            # one more: of the checkpoint that was being written when its process was killed
            assert steps - record["resumed_from"] <= 2 * EVERY
            steps = record["resumed_from"]
        steps = record["to"] if record["event"] == "rewound" else max(steps, record.get("step", 0))
    return events.count("started")
