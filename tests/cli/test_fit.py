"""`transvae fit` on tables and studies, and plans that a study informs."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tests.fitting.public import DATA, needs_public_data

from transvae_platform.study import plan
from transvae_platform.study.costs import model_cost
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study

STUDY = """\
study: ladder
question: Does it fall?
expected: {outcome: It does., source: assumption}
grid: {ladder: micro, code: f8d8, families: {vit: [T, B, L, H, G]}, seeds: [0, 1]}
data: {source: bundled, resolution: 32}
recipe: {steps: 40, batch_size: 4, learning_rate: 0.001, warmup_steps: 4}
evaluation: {every: 20}
fits: {margin: 0.02}
"""
OWN_FORM = """\
import numpy as np
from transvae_platform.fitting import UserForm

MINE = UserForm(
    "mine-on-disk", "L = A (n / 1e9)^-alpha", ("A", "alpha"), ("N",),
    lambda t, c: t[0] * (c["N"] / 1e9) ** -t[1],
    lambda t, c: np.column_stack([(c["N"] / 1e9) ** -t[1], -t[0] * (c["N"] / 1e9) ** -t[1] * np.log(c["N"] / 1e9)]),
    {"A": (0.5, 2.0), "alpha": (0.1, 0.6)},
)
"""


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["family", "size", "seed", "n", "images", "loss"])
        for family, alpha in (("cnn", 0.2), ("vit", 0.35)):
            for size, n in zip("TBLHG", (44e6, 140e6, 545e6, 1.3e9, 2.3e9), strict=True):
                for seed in range(3):
                    loss = (0.5 + 0.5 * (n / 44e6) ** -alpha) * (1 + 0.002 * rng.standard_normal())
                    writer.writerow([family, size, seed, n, 1e6, loss])
    return path


COSTS = {}


def counted_once(trial):
    """Counting five models takes seconds: once for all tests here."""
    if trial.model not in COSTS:
        COSTS[trial.model] = model_cost(trial)
    return COSTS[trial.model]


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """A study file and a home in which all but one trial are finished, in MLflow's absence."""
    monkeypatch.setattr(plan, "model_cost", counted_once)
    file, home = tmp_path / "ladder.yaml", tmp_path / "runs"
    file.write_text(STUDY)
    spec, rng = load_study(file), np.random.default_rng(2)
    journal = Journal(home / "studies" / "ladder" / "journal.jsonl")
    journal.append("submitted", spec=spec.model_dump(mode="json"), lineage={"code": "a"})
    for trial in build_grid(spec, "d" * 16):
        cost = counted_once(trial)
        journal.append("queued", trial=trial.model_dump(mode="json"), cost=cost)
        own = Journal(home / "studies" / "ladder" / "trials" / trial.id / "journal.jsonl")
        own.append("started", step=0, resumed_from=0, world=1, device="cpu", attention="sdpa", lineage={"code": "a"})
        for step in (20, 40):
            loss = (0.1 + 0.1 * (cost["parameters"] / 6e4) ** -0.3) * (1 + 0.002 * rng.standard_normal()) * (60 / step)
            own.append("validated", step=step, images=4 * step, flops=1.0, metrics={"val/l1": loss})
            if (trial.size, trial.seed) == ("G", 1):
                break
        else:
            own.append("finished", step=40, metrics={})
        own.close()
    journal.close()
    return file, home


def test_a_table_prints_its_laws_and_keeps_one_document(transvae, table, tmp_path):
    answer = transvae("fit", table, "--x", "n", "--loss", "loss", "-o", tmp_path / "out", "--at", "6e9")
    assert answer.code == 0, answer.err
    for text in (
        "cnn: alpha = ",
        "vit improves more with n than cnn",
        "with one E for all",
        "cnn at 6e+09: ",
        "hold-out",
    ):
        assert text in answer.out
    (path,) = (tmp_path / "out").glob("*.json")
    document = json.loads(path.read_text())
    assert path.name.startswith("mine-L_N-n-loss-")
    assert document["versions"]["transvae_platform"].startswith("0.")
    assert document["request"]["columns"] == {"N": "n"}
    assert len(document["source"]["file_sha256"]) == 64
    again = transvae("fit", table, "--x", "n", "--loss", "loss", "-o", tmp_path / "out", "--at", "6e9", "--json")
    assert json.loads(again.out) == [document]
    assert len(list((tmp_path / "out").glob("*.json"))) == 1
    transvae("fit", table, "--x", "n", "--loss", "loss", "-o", tmp_path / "out", "--where", "family == 'cnn'")
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_markup_in_names_is_text(transvae, table, tmp_path):
    path = tmp_path / "markup.csv"
    path.write_text(table.read_text().replace("cnn", "[/b]cnn"))
    answer = transvae("fit", path, "--x", "n", "--loss", "loss", "-o", tmp_path)
    assert answer.code == 0, answer.err
    assert "[/b]cnn - vit" in answer.out


@needs_public_data
def test_json_stands_alone_on_stdout(transvae, tmp_path):
    file = DATA / "porian/optimal_pairs.csv"
    answer = transvae("fit", file, "--preset", "porian", "--json", "-o", tmp_path)
    assert len(json.loads(answer.out)) == 5
    assert "published: " in answer.err


@needs_public_data
@pytest.mark.parametrize(
    ("preset", "file", "numbers"),
    [
        ("chinchilla", "chinchilla_epoch/svg_extracted_data.csv",
         ["477.8259", "482.0053", "1.129494664", "124.49", "0.015397", "0.31682 to 0.37328", "0.33126 to 0.41537"]),
        ("gadre", "gadre/gadre_models.csv", ["+0.7103 %", "+0.7320 %"]),
        ("porian", "porian/optimal_pairs.csv", ["0.833768", "0.700899", "0.603528", "0.571425", "0.497029", "row 13"]),
        ("openclip-imagenet", "openclip/zeroshot_results.csv", ["11 cells: 0.0087437121889"]),
        ("openclip-coco", "openclip/zeroshot_results.csv", ["11 cells: 0.0058843357585"]),
    ],
)  # fmt: skip
def test_public_sets_print_the_published_numbers(transvae, tmp_path, preset, file, numbers):
    answer = transvae("fit", DATA / file, "--preset", preset, "-o", tmp_path)
    assert answer.code == 0, answer.err
    fitted = answer.out.split("\n\n", 1)[1]  # without the line that quotes what was published
    for number in numbers:
        assert number.replace("1.129494664", "1.129494664") in fitted


def test_a_table_is_fitted_without_anything_heavy(table, tmp_path):
    program = (
        "import sys\n"
        "from transvae_platform.cli.main import main\n"
        f"sys.argv = ['transvae', 'fit', {str(table)!r}, '--x', 'n', '--loss', 'loss', '-o', {str(tmp_path)!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('loaded:', [name for name in ('torch', 'mlflow', 'ray', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--loss", "psnr"], "rises with quality"),
        (["--x", "n", "--loss", "val/l2"], "no column 'val'"),
        (["--loss", "loss", "--x", "n", "-c", "N=images"], "--x is -c N=, and N is given twice"),
        (["--loss", "loss", "-c", "N=n", "-c", "N=images"], "N is given twice"),
        (["--loss", "loss", "--loss", "loss", "--x", "n"], "named twice"),
        (["--loss", "loss", "-c", "N"], "write VARIABLE=EXPRESSION"),
        (["--loss", "loss", "--form", "L(Q)"], "no form is named 'L(Q)'"),
        (["--loss", "loss", "--preset", "kaplan"], "none of chinchilla, gadre"),
        (["--loss", "loss", "--residuals", "square"], "neither log nor linear"),
        (["--loss", "loss"], "the form L(N) needs N - name the column"),
        (["--loss", "loss", "--form", "nowhere.py:MINE"], "cannot be read"),
    ],
)
def test_wrong_requests_are_named(transvae, table, options, why):
    answer = transvae("fit", table, *options)
    assert (answer.code, answer.out) == (2, "")
    assert why in answer.err
    assert "Traceback" not in answer.err


def test_unknown_tables_and_studies_are_named(transvae, tmp_path):
    assert "cannot be read (No such file" in transvae("fit", tmp_path / "none.csv").err
    assert "holds no study 'none'" in transvae("fit", "none", "--home", tmp_path).err


def test_a_form_of_ones_own(transvae, table, tmp_path):
    (tmp_path / "forms.py").write_text(OWN_FORM)
    form = f"{tmp_path / 'forms.py'}:MINE"
    answer = transvae(
        "fit", table, "--form", form, "-c", "N=n", "--loss", "loss", "--where", "family == 'vit'", "-o", tmp_path
    )
    assert answer.code == 0, answer.err
    assert "mine-on-disk fitted to loss: 15 rows" in answer.out
    (path,) = tmp_path.glob("mine-mine_on_disk-loss-*.json")
    assert json.loads(path.read_text())["result"]["form_source"]["text"] == OWN_FORM
    wrong = transvae("fit", table, "--form", form.replace("MINE", "np"), "--loss", "loss")
    assert "defines no UserForm named 'np'" in wrong.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def (:", "SyntaxError"),
        ("import nothere", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivision"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_form_that_cannot_be_loaded_is_named(transvae, table, tmp_path, text, why):
    (tmp_path / "broken.py").write_text(text)
    answer = transvae("fit", table, "--form", f"{tmp_path / 'broken.py'}:X", "--loss", "loss")
    assert answer.code == 2
    assert f"broken.py cannot be loaded ({why}" in answer.err


def test_a_preset_takes_no_options_beside_it(transvae, table):
    answer = transvae("fit", table, "--preset", "porian", "--level", "0.99", "--where", "flops > 1e18")
    assert answer.code == 2
    assert "--preset porian fixes the request: leave out --where, --level" in answer.err


def test_a_study_is_a_table_and_unfinished_trials_are_named(transvae, ladder):
    _, home = ladder
    answer = transvae("fit", "ladder", "--home", home, "--no-log", "--x", "training_flops")
    assert answer.code == 0, answer.err
    assert "9 rows of study ladder" in answer.out
    assert "its status is 'running'" in answer.out
    (path,) = (home / "studies" / "ladder" / "fits").glob("ladder-L_N-training_flops-val_l1-*.json")
    document = json.loads(path.read_text())
    assert len(document["source"]["runs"]) == 9
    assert document["result"]["conditions"][0]["loss_flops"] == 0
    unlogged = transvae("fit", "ladder", "--home", home)
    assert "holds no MLflow store" in unlogged.err


def test_a_plan_is_informed_by_a_study(transvae, ladder):
    file, home = ladder
    answer = transvae("study", "plan", file, "--home", home, "--informed-by", "ladder")
    assert answer.code == 0, answer.err
    assert "what the finished trials of ladder say (val/l1)" in answer.out
    assert "vit-T seed 2" in answer.out
    document = json.loads(transvae("study", "plan", file, "--home", home, "--informed-by", "ladder", "--json").out)
    (found,) = document["informed_by"]["forecasts"]
    assert (found["cell"]["size"], found["cell"]["seed"]) == ("G", 1)
    assert found["interval"]["lower"] < found["value"] < found["interval"]["upper"]
    assert "error budget" in document["informed_by"]["next_runs"][0]["why"]
    other = transvae("study", "plan", file, "recipe.steps=80", "--home", home, "--informed-by", "ladder")
    assert other.code == 2
    assert "trains otherwise in study 'ladder' (steps 40 there, 80 here" in other.err
