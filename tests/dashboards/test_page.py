"""The report: self-contained, escaped, repeatable, complete, and there for every state a study can be in."""

import base64
import hashlib
import html
import os
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

from transvae_dashboards import write_report, write_with_files
from transvae_dashboards.laws import fit_study
from transvae_dashboards.page import render
from transvae_dashboards.sections.provenance import without_password
from transvae_dashboards.tables import study_table
from transvae_platform.errors import UserError
from transvae_platform.study.state import StudyState


class Outline(HTMLParser):
    """Checks that tags close in order; collects headings and attributes that fetch something."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.fetched.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(whole):
    return render(whole.state())


def shown(page):
    """The page's text as a reader sees it."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))


def test_page_is_self_contained_and_well_formed(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert not outline.tags & {"link", "iframe", "object"}
    script = (files("transvae_dashboards") / "app.js").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert f"<script>{script}</script>" in page
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in page
    assert all(target.startswith(("#", "data:image/")) for target in outline.fetched)
    assert len(outline.ids) == len(set(outline.ids))
    assert "@import" not in page
    assert set(re.findall(r"url\(([^)]{1})", page)) <= {"#"}
    assert not re.search(r"https?://(?!mlflow\.example\.org)", page)


def test_hostile_text_is_escaped(page):
    assert "<script>alert" not in page
    assert "Is 1 &lt; 2 &amp; &quot;so on&quot;? &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "holiday/&lt;broken&gt;.jpg" in page
    assert "CUDA out of memory at &lt;60 %&gt;" in page


def test_equal_journals_give_equal_bytes(whole, page, tmp_path):
    path = write_report(whole.state(), tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    assert path.read_text(encoding="utf-8") == page
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_every_trial_is_in_the_table_with_its_numbers(whole, page):
    table = page[page.index('<table class="trials">') : page.index("</table>")]
    rows = study_table(whole.state())
    sizes = re.findall(r"<td><b>(?:<a [^>]*>)?([A-Z])(?:</a>)?</b></td>", table)
    assert sizes == [row.size for row in rows]
    for row in rows:
        for text in (f"{row.psnr:.2f}", f"{row.ssim:.3f}", f"{row.val_l1:.4f}", f"{row.val_mse:.5f}"):
            assert f">{text}</td>" in table
    assert [table.count(f"</svg> {state}</span>") for state in ("finished", "running", "failed")] == [13, 1, 1]
    assert "300 / 400" in table


def test_notices(whole, page):
    text = shown(page)
    (note,) = whole.state().notes
    assert note in text
    assert "image file is truncated" in text
    assert re.search(r"1 failed trial\. .* Swin L, seed 0, at step 200 of 400: CUDA out of memory", text)


def test_answers_verdicts_and_refusals(whole, page):
    text, fits = shown(page), fit_study(whole.state())
    for report in fits.values():
        for fit in report.families:
            assert fit.verdict.removeprefix("cannot") in text
            assert all(refusal.sentence in text for refusal in fit.refusals)
        for entry in report.excluded:
            assert entry.reason in text
    first = text[: text.index("Expected beforehand")]
    sentence = r"TransVAE\s+From T to G, validation L1 falls by \d+\.\d %; PSNR goes from [\d.]+ to [\d.]+ dB"
    assert re.search(sentence, first)
    assert "Cannot tell how validation L1 changes with size: fewer than two sizes are finished" in first


def test_parts_stand_in_order(page):
    titles = re.findall(r"<h2>([^<]+)</h2>", page)
    assert titles == [
        "Answer", "Trials", "Attempts", "Device-hours", "Scaling with parameters", "Scaling with training compute",
        "Reconstruction quality over parameters", "Fitted laws", "Residuals over parameters",
        "Residuals over training FLOPs", "Sensitivity over parameters", "Sensitivity over training FLOPs",
        "Optimal size and frontier over compute", "Learning curves: l1", "Early training", "Reconstructions",
        "Registry", "Provenance",
    ]  # fmt: skip


def test_reconstructions_follow_the_sizes(page):
    grids = page[page.index('id="reconstructions"') : page.index('id="provenance"')]
    captions = re.findall(r"<figcaption>([^<]+)</figcaption>", grids)
    assert captions == ["Original", *"TBLHG", "Original", *"TBLHG", "Original", *"TG", "Original", *"TBL"]
    assert grids.count("data:image/png;base64,") == len(captions)
    assert "step 300" in grids


def test_variants_stand_beside_the_unchanged_model(write_study):
    study = write_study({"vit": "TB"}, grid__variants={"base": {}, "learned": {"position": "learned"}})
    study.submit()
    study.run_all()
    page = render(study.state())
    grids = page[page.index('id="reconstructions"') : page.index('id="provenance"')]
    captions = re.findall(r"<figcaption>([^<]+)</figcaption>", grids)
    assert captions == ["Original", "T", "T, learned", "B", "B, learned"]


def test_pictures_of_further_sets_stand_below_with_their_names(write_study):
    study = write_study({"cnn": "TB", "vit": "T"})
    study.submit()
    study.run_all()
    assert "On the set" not in render(study.state())
    for size in "TB":
        study.draw_set(study.find("cnn", size), '<b>"coco"')
    page = render(study.state())
    grids = page[page.index('id="reconstructions"') : page.index('id="provenance"')]
    own, further = grids.split("<h3>On the set &lt;b&gt;&quot;coco&quot;</h3>")
    assert re.findall(r"<figcaption>([^<]+)</figcaption>", own) == ["Original", "T", "B", "Original", "T"]
    assert re.findall(r"<figcaption>([^<]+)</figcaption>", further) == ["Original", "T", "B"]
    assert further.count("31.2 dB") == 4  # beneath each column and for those who cannot see it
    assert "6 images of &lt;b&gt;&quot;coco&quot;" in further
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert '<b>"coco"' not in page


def test_provenance(page):
    text = shown(page)
    for part in (
        "0.1.0+gaaaa", "0.1.0+gbbbb", "recipe.learning_rate", "f" * 64, "models:/demo.transvae-G/1",
        "from transvae_platform import load_model", 'vae = load_model("models:/demo.transvae-G/1", tracking_uri="https://mlflow.example.org:5000")',
        "z = vae.encode(x)", "torch 2.13.0", "bench, x86_64, 2 CPUs", "data_sha256", "mlflow.example.org:5000",
    ):  # fmt: skip
        assert part in text, part
    assert "secret" not in page


def test_pictures_that_are_gone_leave_the_page_whole(write_study):
    study = write_study({"cnn": "TB"})
    study.submit()
    study.run_all()
    state = study.state()
    gone, damaged = (trial.pictures[400] for trial in state.trials.values())
    gone.unlink()
    assert render(state).count('data-rows="6"') == 2
    damaged.write_bytes(b"not a picture")
    assert "Nothing to show yet" in render(state)


@pytest.mark.parametrize("damage", ["chunk", "header", "flat"])
def test_damaged_pictures_leave_the_page_whole(write_study, damage):
    study = write_study({"cnn": "T"})
    study.submit()
    study.run_all()
    state = study.state()
    (path,) = (trial.pictures[400] for trial in state.trials.values())
    content = bytearray(path.read_bytes())
    match damage:
        case "chunk":  # its length is wrong: Pillow raises a SyntaxError
            start = content.index(b"IDAT")
            content[start - 4 : start] = (10).to_bytes(4, "big")
        case "header":  # a ValueError
            content[11] = 2
        case "flat":  # no room for originals above reconstructions
            Image.new("RGB", (5, 1)).save(path)
            content = bytearray(path.read_bytes())
    path.write_bytes(bytes(content))
    assert "Nothing to show yet" in render(state)


def test_running_study_says_what_is_missing(write_study):
    study = write_study({"transvae": "TB", "cnn": "T"})
    study.submit()
    study.run(study.find("transvae", "T"), until=50)
    text = shown(render(study.state()))
    assert "0 of 3" in text
    assert "Nothing to draw yet: this needs a finished trial." in text
    assert "not finished: step 40 of 400" in text
    assert "not started" in text


def test_submitted_and_empty_studies_have_a_page(write_study, tmp_path):
    study = write_study({"cnn": "T"})
    study.submit()
    assert "0 of 1" in shown(render(study.state()))
    empty = shown(render(StudyState(tmp_path / "nothing")))
    assert "This study has not been submitted yet." in empty
    assert "No trial has been queued yet." in empty


def test_tables_are_files_with_costs_where_a_price_is_given(write_study, tmp_path):
    study = write_study({"vit": "T"})
    study.submit()
    study.run(study.find("vit", "T"))
    study.journal.append("planned", device_seconds={study.find("vit", "T").id: 7200.0})
    hours = study.state().device_hours
    for price, cost in ((None, ""), (360.0, f"{360 * hours:.2f}")):
        written = write_with_files(study.state(), tmp_path / "page.html", price, tables_in=tmp_path / str(price))
        files = {path.name: path.read_text() for path in written}
        device, spent, planned, *_, last = files["demo-device-hours-and-cost.csv"].splitlines()[1].split(",")
        assert (device, spent, planned) == ("CPU", f"{hours:.5f}", "2.00")
        assert cost in last
        if price is not None:  # the plan's cost beside what was spent
            assert files["demo-device-hours-and-cost.csv"].splitlines()[1].endswith(f"{cost},720.00,{cost}")
        assert ("Cost so far" in files["demo-device-hours-and-cost.csv"]) is bool(cost)
        assert "ViT & T & finished & 80.0 k" in files["demo-trials.tex"]


def test_addresses_lose_their_password():
    assert without_password("postgresql://me:pw@host:5/db") == "postgresql://host:5/db"
    assert without_password("sqlite:////home/x/mlflow.db") == "sqlite:////home/x/mlflow.db"


def test_page_that_cannot_be_written_is_one_sentence_and_replaces_no_device(write_study, tmp_path, monkeypatch):
    study = write_study({"vit": "T"})
    study.submit()
    device = tmp_path / "device"
    os.mkfifo(device)
    with pytest.raises(UserError, match=r"device is no regular file"):
        write_report(study.state(), device)
    assert device.is_fifo()
    old = tmp_path / "report.html"
    old.write_text("old")

    def full(self, *arguments, **options):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"report.html cannot be written \(No space left on device\)"):
        write_report(study.state(), old)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"the files cannot be written \(File exists\)"):
        write_with_files(study.state(), tmp_path / "page.html", figures_in=old)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["page.html", "report.html"]
    assert old.read_text() == "old"
