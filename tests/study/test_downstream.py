"""The downstream section: which generators a study has, what decides their ids, what is refused."""

import pytest

from transvae.generation import create_dit, create_text_dit
from transvae_platform.errors import SpecError
from transvae_platform.study.costs import memory_bytes, model_cost
from transvae_platform.study.generator_plan import INCEPTION_FLOPS, decoding_flops, generator_cost, sampling_flops
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.plan import build_plan
from transvae_platform.study.state import StudyState

DOWN = {"generators": ["micro-S/1", "micro-B/2"], "recipe": {"steps": 20, "batch_size": 8}, "classes": 10}
OTHER = {"flux": {"model": "flux-vae", "code": "f8d16"}}
CURVE = {"samples": 100, "inception": "random"}


def down(**changes):
    """The section with changes such as `recipe__steps=3`."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in DOWN.items()}
    for path, value in changes.items():
        section, (*parents, last) = values, path.split("__")
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
    return {"downstream": values}


def generators(trials):
    return [trial for trial in trials if trial.generator]


def test_every_generator_of_every_autoencoder_after_all_of_them(grid):
    trials = grid(**down())
    assert [trial.id for trial in trials[:3]] == [trial.id for trial in grid()]
    made = generators(trials[3:])
    assert {trial.label for trial in made} == {
        f"dit-{size}-on-{vae}" for size in ("micro-S-1", "micro-B-2") for vae in ("transvae-T", "transvae-B", "cnn-T")
    }
    assert len({trial.id for trial in made}) == 6
    vaes = {trial.id: trial for trial in trials[:3]}
    for trial in made:
        assert trial.variant == f"on-{vaes[trial.generator.autoencoder].label}"
        assert (trial.model_config_values["latent_dim"], trial.model_config_values["latent_size"]) == (8, 4)
        assert (trial.recipe.betas, trial.recipe.learning_rate, trial.recipe.warmup_steps) == ((0.9, 0.95), 2e-4, 0)
        assert trial.ranked_by.order(1.0) < trial.ranked_by.order(2.0)
        assert "/" not in trial.id


def test_patterns_choose_autoencoders_and_tokenizers_join_them(grid):
    made = generators(grid(**down(vaes=["transvae-*"], tokenizers=OTHER)))
    labels = {trial.variant for trial in made}
    assert labels == {"on-transvae-T", "on-transvae-B", "on-flux"}
    (flux,) = [trial for trial in made if (trial.variant, trial.size) == ("on-flux", "micro-S-1")]
    assert (flux.generator.autoencoder, flux.generator.tokenizer.model) == (None, "flux-vae")
    assert flux.model_config_values["latent_dim"] == 16


@pytest.mark.parametrize(
    "change",
    [
        {"recipe__steps": 21}, {"recipe__label_dropout": 0.2}, {"latents": {"content": "mean"}}, {"qk_norm": True},
        {"classes": 11}, {"sampler": {"times": 9}}, {"curve": CURVE}, {"evaluation": {"every": 5}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_ids_depend_on_everything_that_decides_the_result(grid, change):
    before, after = grid(**down()), grid(**down(**change))
    assert not {trial.id for trial in generators(before)} & {trial.id for trial in generators(after)}
    assert [trial.id for trial in before[:3]] == [trial.id for trial in after[:3]]


def test_ids_follow_from_the_autoencoders_and_not_from_where_they_run(grid):
    ids = [trial.id for trial in generators(grid(**down()))]
    other = [trial.id for trial in generators(grid(**down(), recipe__learning_rate=2e-3))]
    assert not {*ids} & {*other}
    assert ids == [trial.id for trial in generators(grid(**down(resources={"workers": 2})))]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"generators": ["micro-S/3"]},
            r"micro-S/3 of .*: patches of 3 do not divide a latent of 4 positions",
        ),
        ({"generators": ["nano/1"]}, r"'lightning_dit-nano/1' is no DiT"),
        ({"vaes": ["swin-*"]}, r"downstream.vaes: 'swin-\*' matches no model of the grid"),
        ({"recipe__batch_size": 6, "resources": {"workers": 4}}, r"downstream.recipe.batch_size: 6 does not divide"),
        ({"tokenizers": {"x": {"model": "y", "code": "f5d4"}}}, r"data.resolution: .* 32 is not a multiple .* 5 of x"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(grid, change, told):
    with pytest.raises(SpecError, match=told):
        grid(**down(**change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"sampler": {"guidance": {"scale": 4.0}}, "recipe__label_dropout": 0.0},
            "sampler.guidance: without recipe.label_dropout no null label is trained",
        ),
        ({"generators": ["micro-S/1", "micro-S/1"]}, "generators names one twice"),
        ({"evaluation": {"at": [30]}}, "evaluation.at: 30 is beyond the 20 steps"),
        ({"recipe__warmup_steps": 20}, "recipe.warmup_steps: not below the 20 steps"),
        ({"recipe__overrides": {"XL/*": {"steps": 3}}}, "recipe.overrides: 'XL/\\*' matches none of micro-S/1"),
    ],
)
def test_contradictions_of_the_section_are_refused(spec, change, told):
    with pytest.raises(ValueError, match=told):
        spec(**down(**change))


def test_overrides_change_the_generators_that_they_name(grid):
    plain = {trial.label: trial for trial in generators(grid(**down()))}
    longer = {"micro-B/*": {"steps": 30, "gradient_checkpointing": True, "source": "nowhere"}}
    for trial in generators(grid(**down(recipe__overrides=longer))):
        named = trial.size == "micro-B-2"
        assert (trial.recipe.steps, trial.recipe.gradient_checkpointing) == ((30, True) if named else (20, False))
        assert (trial.id == plain[trial.label].id) != named


def test_a_calibration_trains_no_generators(spec):
    calibration = {"learning_rates": [1e-3, 2e-3], "stop_at": [20], "keep": 0.5}
    with pytest.raises(ValueError, match="calibrates or trains generators"):
        spec(**down(), calibration=calibration)


def test_a_plan_counts_the_latents_of_each_autoencoder_once(grid, tmp_path):
    plan = build_plan(grid(**down()), {"cpu": 2}, tmp_path, None, images=100)
    assert len(plan.rows) == 9  # three autoencoders of f8d8 at 32 pixels, two generators on each
    assert plan.latents_bytes_per_image == 3 * 2 * (8 * 4 * 4) * 2  # and the mirrored one, float16
    wider = {"latents": {"dtype": "float32"}}
    assert build_plan(grid(**down(**wider)), {"cpu": 2}, tmp_path, None).latents_bytes_per_image == 2 * 1536


def test_a_plan_counts_generators_and_their_samples(grid, tmp_path):
    trials = grid(**down(curve=CURVE, sampler={"times": 11}, evaluation={"every": 5}))
    plan, by_id = build_plan(trials, {"cpu": 2}, tmp_path, None), {trial.id: trial for trial in trials}
    for row, trial in zip(plan.rows[3:], trials[3:], strict=True):
        shape = trial.model_config_values
        network = create_dit(trial.model, shape["latent_dim"], shape["latent_size"], classes=shape["classes"])
        assert row.parameters == sum(parameter.numel() for parameter in network.parameters())
        assert row.training_flops == 3 * row.forward_flops * 8 * 20
        decoding = decoding_flops(trial, by_id[trial.generator.autoencoder])
        assert row.losses_flops == sampling_flops(trial) + 4 * 100 * decoding > 4 * 100 * 10 * row.forward_flops
        assert 0 < decoding < decoding_flops(trial, None)
        assert row.memory_bytes > 20 * row.parameters
    guided = grid(**down(curve=CURVE, sampler={"times": 11, "guidance": {"scale": 2}}, evaluation={"every": 5}))[3]
    network = 4 * 100 * 10 * model_cost(guided)["forward_flops"]
    assert sampling_flops(guided) - sampling_flops(trials[3]) == pytest.approx(network)


def test_a_schedule_has_latents_between_autoencoders_and_generators_and_a_plan_their_disk(grid, tmp_path):
    trials = grid(**down(tokenizers=OTHER))
    plan = build_plan(trials, {"cpu": 2}, tmp_path, None, images=100)
    assert len(plan.latents) == 4
    works = {work.id: work for work in plan.agenda.works}
    for trial in generators(trials):
        (latents,) = works[trial.id].after
        vae = trial.generator.autoencoder
        assert works[latents].after == ((vae,) if vae else ())
        assert works[latents].seconds > 0
    assert plan.latents[0].bytes_per_image == 2 * 8 * 4 * 4 * 2  # both sides, f8d8 of 32 pixels, float16
    assert plan.latents_bytes_per_image == 3 * 512 + 1024  # flux-vae has 16 channels
    first = next(name for name in plan.agenda.order if name in works)
    assert not first.startswith("dit"), "nothing begins with who has to wait"


TEXT = {"encoder": "hashed-32", "guidance": 2.0}


def captioned(**text):
    values = {key: value for key, value in DOWN.items() if key != "classes"}
    return {"downstream": {**values, "text": {**TEXT, **text}}}


def test_captions_make_other_networks_and_other_trials(grid, tmp_path):
    made = generators(grid(**captioned()))
    assert {trial.family for trial in made} == {"t2i"}
    small = next(trial for trial in made if trial.size == "micro-S-1")
    shape = small.model_config_values
    assert (small.model, shape["text_dim"], shape["blocks"]) == ("text_dit-micro-S/1", 32, "guide")
    network = create_text_dit(small.model, shape["latent_dim"], shape["latent_size"], 32)
    assert generator_cost(small)["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    for change in ({"objective": "velocity"}, {"guidance": 3.0}, {"noise": {"draw": "all_but_last"}}):
        assert not {trial.id for trial in made} & {trial.id for trial in generators(grid(**captioned(**change)))}
    curve = {**captioned()["downstream"], "curve": CURVE, "evaluation": {"every": 5}}
    trial = next(each for each in generators(grid(downstream=curve)) if each.size == "micro-S-1")
    each = 2 * 50 * generator_cost(trial)["forward_flops"] + INCEPTION_FLOPS
    assert sampling_flops(trial) == 4 * 100 * each
    assert memory_bytes(trial, 10**5) > 10**6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder": "t6"}, r"micro-S/1 of .*: no text encoder 't6': there is no such folder"),
        ({"encoder": "t5-v1_1-xll"}, "did you mean 't5-v1_1-xl"),
    ],
)
def test_text_encoders_that_do_not_exist_are_refused(grid, change, told):
    with pytest.raises(SpecError, match=told):
        grid(**captioned(**change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": 10}, "classes: is for classes, these generators read captions"),
        ({"sampler": {"guidance": {"scale": 2.0}}}, "sampler.guidance: is for classes"),
        ({"recipe": {"steps": 20, "label_dropout": 0.0}}, "text.guidance: without recipe.label_dropout no null text"),
        ({"text": {"objective": "velocity", "noise": {"sampled": 3}}}, "text.noise: the objective is velocity"),
        ({"text": {"noise": {"steps": 10}}}, "sampled: 50 steps of a schedule of 10"),
    ],
)
def test_contradictions_of_text_are_refused(spec, change, told):
    with pytest.raises(ValueError, match=told):
        spec(downstream={**captioned()["downstream"], **change})


def test_state_tells_generators_from_autoencoders_and_remembers_latents(writer):
    study = writer(**down())
    study.submit()
    for trial in study.trials:
        study.queue(trial).append("queued")
    kept = {"model": "models:/a/1", "weights_sha256": "ff", "locations": ["data/x"]}
    study.study.append("latents", **kept)
    state = StudyState(study.folder)
    assert [len(state.autoencoders), len(state.generators)] == [3, 6]
    assert state.latents == {"models:/a/1": kept}


def test_a_generator_says_what_it_waits_for(writer):
    study = writer(**down(vaes=["cnn-T"]))
    study.submit()
    journals = {trial.id: study.queue(trial) for trial in study.trials}
    generator = next(trial for trial in study.trials if trial.generator)
    vae = generator.generator.autoencoder

    def told():
        state = StudyState(study.folder)
        return state.waits_for(state.trials[generator.id])

    assert told() is None  # its autoencoder trains
    journals[vae].append("finished", step=40, metrics={})
    assert told() == "waits for cnn-T, which is not registered"
    study.study.append("not_registered", trial=vae, reason="no commit is known\nand more")
    assert told() == "waits for cnn-T, which is not registered (no commit is known)"
    study.study.append("registered", trial=vae, uri="models:/a/1")
    assert told() is None


def test_where_generators_run_may_change_in_a_begun_study(writer, spec):
    study = writer(**down())
    study.submit()
    state = StudyState(study.folder)
    refuse_changed_study(state, spec(**down(resources={"workers": 2})), None)
    with pytest.raises(SpecError, match=r"downstream\.recipe\.steps: 20 -> 21"):
        refuse_changed_study(state, spec(**down(recipe__steps=21)), None)
