"""What stands between an autoencoder and its generators: who fails, who waits, and what the journals are told."""

from types import SimpleNamespace

import pytest

from transvae_platform.cluster import downstream
from transvae_platform.cluster.downstream import Generators
from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.journal import read_journal
from transvae_platform.study.latents_plan import latents_of


class Told(list):
    """A study's journal."""

    def append(self, event, **fields):
        super().append(event)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Generators of a finished autoencoder, whose registering and whose latents the test decides."""
    of = SimpleNamespace(autoencoder="vae", tokenizer=None, latents=None)
    trial = SimpleNamespace(id="dit", generator=of, workers=SimpleNamespace(device="cpu", workers=1))
    vae = SimpleNamespace(
        state="finished", registered=None, unregistered=None, reason=None, trial=SimpleNamespace(label="vit-T")
    )
    dit = SimpleNamespace(state="queued", folder=tmp_path / "dit")
    state = SimpleNamespace(trials={"vae": vae, "dit": dit}, latents={}, refresh=lambda: None)
    found = SimpleNamespace(trial=trial, vae=vae, dit=dit, journal=Told(), registers=True, refuses=None)

    def one(known):
        known.registered = {"uri": "models:/a/1"} if found.registers else None
        return found.registers

    def local(*_):
        if found.refuses:
            raise found.refuses
        return tmp_path, "ff"

    monkeypatch.setattr(downstream, "local_model", local)
    made = SimpleNamespace(parts=())
    registrar = SimpleNamespace(one=one)
    found.generators = Generators(made, {}, tmp_path, "", found.journal, state, None, registrar)
    (found.errand,) = found.generators.errands([trial, SimpleNamespace(generator=None)]).values()
    found.failed = lambda: [r["reason"] for r in read_journal(dit.folder / "journal.jsonl") if r["event"] == "failed"]
    return found


def test_its_generators_may_begin_once_it_is_registered_and_the_latents_are_made(bench):
    assert list(bench.generators.errands([bench.trial])) == [latents_of(bench.trial.generator)] == ["latents of vae"]
    assert bench.errand()
    assert bench.journal == ["latents"]
    assert bench.generators.places(bench.trial)["generator"]["weights_sha256"] == "ff"
    assert bench.generators.places(SimpleNamespace(generator=None)) == {}
    assert bench.generators.doing() == "training"


def test_without_a_registry_they_wait_and_are_asked_again(bench):
    bench.registers = False
    assert not bench.errand()
    bench.generators.lose(bench.trial)
    assert bench.failed() == []
    assert bench.generators.late([bench.trial]) == [bench.trial]
    bench.vae.unregistered = "no commit is known"
    assert bench.generators.late([bench.trial]) == []


def test_a_registry_that_falls_silent_is_told_and_fails_nobody(bench):
    bench.refuses = UnreachableError("no answer")
    assert not bench.errand()
    assert (bench.journal, bench.failed()) == (["not_tracked"], [])


def test_latents_that_cannot_be_made_fail_the_generators_with_the_reason(bench):
    bench.refuses = UserError("a value does not fit into float16")
    assert not bench.errand()
    assert bench.failed() == ["its latents cannot be made: a value does not fit into float16"]


def test_a_failed_autoencoder_is_named_in_its_generators_failure(bench):
    bench.vae.state, bench.vae.reason = "failed", "the loss diverged"
    assert not bench.errand()
    bench.generators.lose(bench.trial)
    assert bench.failed() == ["its autoencoder vit-T failed: the loss diverged"]
