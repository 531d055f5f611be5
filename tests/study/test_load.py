"""Every fault of a study file is one message: file, line, column, key and the way out."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from transvae_platform.errors import SpecError
from transvae_platform.study.load import load_study, study_schema

STUDIES = Path(__file__).parents[2] / "studies"


def load(tmp_path, text, *overrides):
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return load_study(path, overrides)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question:", "questoin:", "tiny.yaml:2:1: questoin: unknown key - did you mean 'question'?"),
        ("  steps: 40", "  stepz: 40", "tiny.yaml:17:3: recipe.stepz: unknown key - did you mean 'steps'?"),
        ("per_photograph", "per_photo", "tiny.yaml:15:23: data.view.per_photo: unknown key - did you mean 'per_photog"),
        ("{steps: 60}", "{stps: 60}", "tiny.yaml:22:13: recipe.overrides.cnn-*.stps: unknown key - did you mean 'step"),
        ("  workers: 1", "  wrkers: 1", "tiny.yaml:24:3: resources.wrkers: unknown key - did you mean 'workers'?"),
        ("  every: 20", "  zzz: 20", "tiny.yaml:26:3: evaluation.zzz: unknown key - known keys: at, every, images"),
    ],
)
def test_unknown_key_names_its_place_and_the_nearest_key(refusal, old, new, message):
    assert message in refusal((old, new))


def test_unknown_key_under_a_pattern_that_is_spelt_like_a_field(refusal):
    assert "recipe.overrides.steps.step: unknown key - did you mean 'steps'?" in refusal(
        ("cnn-*: {steps: 60}", "steps: {step: 60}")
    )


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("steps: 40", "steps: many", "17:3: recipe.steps", "valid integer (got 'many')"),
        ("steps: 40", "steps: yes", "17:3: recipe.steps", "valid integer (got True)"),
        ("steps: 40", 'steps: "40"', "17:3: recipe.steps", "valid integer (got '40')"),
        ("steps: 40", "steps: 40.0", "17:3: recipe.steps", "valid integer (got 40.0)"),
        ("rate: 0.001", "rate: fast", "19:3: recipe.learning_rate", "valid number (got 'fast')"),
        ("rate: 0.001", "rate: on", "19:3: recipe.learning_rate", "valid number (got True)"),
        ("question: Does it load?", "question: 5", "2:1: question", "valid string (got 5)"),
        ("resolution: 32", "resolution: 32\n  sampling: {flip: 1}", "15:14: data.sampling.flip", "boolean (got 1)"),
        ("cnn: [T]", "cnn: T", "11:5: grid.families.cnn", "(got 'T')"),
        ("data:\n", "data: x\nunused:\n", "12:1: data", "(got 'x')"),
    ],
)
def test_wrong_type(refusal, old, new, key, reason):
    line = refusal((old, new)).splitlines()[0]
    assert line.startswith(f"tiny.yaml:{key}: ")
    assert line.endswith(reason)


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("steps: 40", "steps: 0", "17:3: recipe.steps", "greater than or equal to 1 (got 0)"),
        ("rate: 0.001", "rate: -1", "19:3: recipe.learning_rate", "greater than 0 (got -1)"),
        ("rate: 0.001", "rate: .nan", "19:3: recipe.learning_rate", "finite number (got nan)"),
        (
            "cnn: [T]",
            "cnn: [T, XL]",
            "11:14: grid.families.cnn.1",
            "'T', 'B', 'L', 'H', 'G' or 'giant_printed' (got 'XL')",
        ),
        (
            "cnn: [T]",
            "cnn: [XL]",
            "11:11: grid.families.cnn.0",
            "'T', 'B', 'L', 'H', 'G' or 'giant_printed' (got 'XL')",
        ),
        ("cnn: [T]", "cnn: []", "11:5: grid.families.cnn", "at least 1 item after validation, not 0 (got [])"),
        ("cnn: [T]", "dnn: [T]", "11:5: grid.families.dnn", "'ps-vae' or 'rae' (got 'dnn')"),
        ("cnn: [T]", "cnn: [T, T]", "6:1: grid", "families.cnn names a size twice: ['T', 'T']"),
        ("code: f8d8", "code: f8", "8:3: grid.code", r"should match pattern '^f\d+d\d+$' (got 'f8')"),
        ("study: tiny", "study: Ti ny", "1:1: study", "(got 'Ti ny')"),
        ("kind: crops", "kind: crop", "15:3: data.view", "does not match any of the expected tags: 'centre', 'crops'"),
        ("resolution: 32", "resolution: 32\n  holdout: 1.5", "15:3: data.holdout", "less than or equal to 1 (got 1.5)"),
        (
            "resolution: 32",
            "resolution: 32\n  holdout: []",
            "15:3: data.holdout",
            "at least 1 item after validation, not 0 (got [])",
        ),
        ("resolution: 32", "resolution: 32\n  holdout: [a, 5]", "15:16: data.holdout.1", "valid string (got 5)"),
        (
            "source: bundled",
            "source: folder",
            "12:1: data",
            "`path` is needed with `source: folder` and `source: dataset`, and with no other",
        ),
        (
            "source: bundled",
            "source: bundled\n  path: x",
            "12:1: data",
            "`path` is needed with `source: folder` and `source: dataset`, and with no other",
        ),
        (
            "source: bundled",
            "source: dataset\n  path: x\n  holdout: 0.2\n  seed: 3\n  quarantine: 0.5",
            "12:1: data",
            "`view`, `holdout`, `quarantine`, `seed` belong to ingests: no effect with `source: dataset` - remove it",
        ),
        (
            "source: bundled",
            "source: bundled\n  cache_bytes: 5000000",
            "12:1: data",
            "`cache_bytes` belongs to `dataset` and `mixture`: no effect with `source: bundled` - remove it",
        ),
        ("code: f8d8", "code: f8d8\n  seeds: [0, 0]", "6:1: grid", "seeds names a seed twice: [0, 0]"),
        (
            "resolution: 32",
            "resolution: 32\n  sampling: {buckets: [{size: 16}]}",
            "15:14: data.sampling.buckets",
            "at least 2 items after validation, not 1 (got [{'size': 16}])",
        ),
        (
            "resolution: 32",
            "resolution: 32\n  sampling: {buckets: [{size: 16}, {size: 16}]}",
            "15:3: data.sampling",
            "buckets names a size twice: [16, 16]",
        ),
        (
            "resolution: 32",
            "resolution: 32\n  sampling: {buckets: [{size: 16}, {size: 64}]}",
            "12:1: data",
            "sampling.buckets: 64 is above the samples' resolution of 32",
        ),
        (
            "resolution: 32",
            "resolution: 32\n  sampling: {buckets: [{size: 16, share: 0.001}, {size: 32, share: 2}]}",
            "15:3: data.sampling",
            "buckets: the share of 16 is below 1/1024 of the sum, it would never come",
        ),
        (
            "source: bundled\n  resolution: 32\n  view: {kind: crops, per_photograph: 4}",
            "source: mixture\n  resolution: 32\n  parts: {a: 1, b: 5000}",
            "12:1: data",
            "parts: the share of a is below 1/1024 of the sum, it would never come",
        ),
        (
            "code: f8d8",
            "code: f8d8\n  seeds: [4294967296]",
            "9:11: grid.seeds.0",
            "less than 2147483648 (got 4294967296)",
        ),
    ],
)
def test_impossible_value_is_one_line(refusal, old, new, key, reason):
    message = refusal((old, new))
    assert message.startswith(f"tiny.yaml:{key}: ")
    assert message.endswith(reason)
    assert "\n" not in message


def test_missing_key_points_to_its_section(refusal):
    assert refusal(("  batch_size: 8\n", "")) == "tiny.yaml:16:1: recipe.batch_size: this key is needed"
    assert refusal(("question: Does it load?\n", "")) == "tiny.yaml:1:1: question: this key is needed"


def test_repeated_key(refusal):
    message = refusal(("  steps: 40\n", "  steps: 40\n  steps: 50\n"))
    assert message == "tiny.yaml:18:3: steps: this key stands twice - remove one"


def test_all_faults_are_reported_at_once_and_each_once(refusal):
    lines = refusal(("stu", "sut"), ("  every: 20", "  every: 0"), ("batch_size", "batchsize")).splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == [
        "evaluation.every", "recipe.batch_size", "recipe.batchsize", "study", "sutdy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1, 2", 'not valid YAML: while parsing a flow sequence\n  in "{path}", line 1, column 4'),
        ("a:\t- b\n  - [", "not valid YAML: "),
        ("a: \0", "not valid YAML: unacceptable character #x0000"),
        ("", "a study file is a mapping of keys such as `study:`"),
        ("- study: tiny", "a study file is a mapping of keys such as `study:`"),
        ("just words", "a study file is a mapping of keys such as `study:`"),
        ("a: 1\n? [b, c]\n: 2\n", "{path}:2:3: a key must be a plain word"),
        ("a: &x [*x]\n", "{path}:1:8: aliases (*name) are not read"),
        ("a: 2026-13-45\n", "not valid YAML: month must be in 1..12"),
        ("a: " + "[" * 20_000, "not valid YAML"),
        ("2020-01-01: 1\n", "not a study file: keys must be str"),
    ],
)
def test_what_is_no_study_file_is_refused_in_words(tmp_path, text, reason):
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    path = str(tmp_path / "tiny.yaml")
    assert str(caught.value).startswith(path)
    assert reason.format(path=path) in str(caught.value)


def test_file_that_is_no_text_or_a_folder(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("a.yaml", "."):
        with pytest.raises(SpecError, match="cannot be read"):
            load_study(tmp_path / name)


def test_missing_file_names_the_nearest_one(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(SpecError, match=r"quikstart.yaml: no such study file - did you mean .*/quickstart.yaml\?"):
        load_study(tmp_path / "quikstart.yaml")
    with pytest.raises(SpecError, match=r"no such study file$"):
        load_study(tmp_path / "nowhere" / "a.yaml")


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("2E-3", 2e-3), ("1.5e-3", 1.5e-3), ("1", 1.0)])
def test_numbers_in_the_spellings_people_use(tmp_path, text, written, value):
    study = load(tmp_path, text.replace("0.001", written), f"recipe.weight_decay={written}")
    assert study.recipe.learning_rate == value
    assert study.recipe.weight_decay == value


def test_overrides_change_values_and_make_sections(tmp_path, text):
    study = load(
        tmp_path,
        text,
        "recipe.steps=100",
        "fits.level=0.8",
        "grid.families.vit=[T, L]",
        "recipe.overrides.*-T.steps=7",
    )
    assert study.recipe.steps == 100
    assert study.fits.level == 0.8
    assert study.grid.families["vit"] == ("T", "L")
    assert study.recipe.overrides["*-T"].steps == 7
    assert study.recipe.overrides["cnn-*"].steps == 60


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.steps", "'recipe.steps' is not of the form key=value"),
        ("=3", "'=3' is not of the form key=value"),
        ("recipe.steps.deep=3", "steps is not a section of the study file"),
        ("recipe.steps=[", "'recipe.steps=[': the value is not valid YAML"),
        ("recipe.stepz=3", "recipe.stepz: unknown key - did you mean 'steps'?"),
        ("recipe.steps=-3", "tiny.yaml:17:3: recipe.steps: Input should be greater than or equal to 1 (got -3)"),
    ],
)
def test_wrong_override(refusal, override, message):
    assert message in refusal(overrides=(override,))


def test_image_folder_is_relative_to_the_study_file(tmp_path, text):
    study = load(tmp_path, text.replace("source: bundled", "source: folder\n  path: sub/photos"))
    assert study.data.path == str(tmp_path / "sub" / "photos")
    far = load(tmp_path, text.replace("source: bundled", "source: folder\n  path: s3://bucket//photos"))
    assert far.data.path == "s3://bucket//photos"
    made = text.replace("source: bundled", "source: dataset\n  path: imagenet-256")
    named = load(tmp_path, made.replace("  view: {kind: crops, per_photograph: 4}\n", ""))
    assert named.data.path == "imagenet-256"


def test_place_of_checkpoints_is_relative_to_the_study_file(tmp_path, text, monkeypatch):
    near = load(tmp_path, text.replace("  workers: 1", "  checkpoints: ../big/disk"))
    assert near.resources.checkpoints == str(tmp_path.parent / "big" / "disk")
    far = load(tmp_path, text.replace("  workers: 1", "  checkpoints: s3://bucket/folder"))
    assert far.resources.checkpoints == "s3://bucket/folder"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    typed = load_study(tmp_path / "tiny.yaml", ("resources.checkpoints=place",))
    assert typed.resources.checkpoints == str(tmp_path / "here" / "place")


def test_a_loaded_study_cannot_be_changed(tmp_path, text):
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path, text).recipe.steps = 3


def test_schema_is_valid_and_describes_every_key(text):
    schema = json.loads(study_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError, match="stepz"):
        jsonschema.validate(yaml.safe_load(text.replace("steps: 40", "stepz: 40")), schema)
    sections = {"StudySpec": schema, **schema["$defs"]}
    undescribed = [
        f"{section}.{key}"
        for section, values in sections.items()
        for key, field in values.get("properties", {}).items()
        if "description" not in field and "$ref" not in field and "const" not in field
    ]
    self_describing = {"RecipeValues.steps", "RecipeValues.learning_rate", "RecipeValues.warmup_steps",
                       "RecipeValues.weight_decay", "RecipeValues.batch_size"}  # fmt: skip
    assert set(undescribed) <= self_describing
    assert all("description" in values for values in sections.values())


def test_committed_schema_is_the_current_one():
    assert (STUDIES / "study.schema.json").read_text() == study_schema(), (
        "run `transvae study schema > studies/study.schema.json`"
    )


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/object/new:pathlib.Path ['{mark}']",
        "!include /etc/passwd",
    ],
)
def test_a_study_file_from_someone_else_runs_nothing(tmp_path, text, value):
    file, mark = tmp_path / "theirs.yaml", tmp_path / "mark"
    file.write_text(text.replace("steps: 40", f"steps: {value.format(mark=mark)}"))
    with pytest.raises(SpecError, match="could not determine a constructor for the tag"):
        load_study(file)
    with pytest.raises(SpecError):
        load_study(file, (f"recipe.steps={value.format(mark=mark)}",))
    assert not mark.exists()
