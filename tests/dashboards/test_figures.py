"""The charts: what stands in them, that they repeat byte by byte, and that labels keep their distance."""

import html
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from transvae_dashboards import figure_files, formats, write_with_files
from transvae_dashboards.exhibits import Sheet, collecting
from transvae_dashboards.figures import timeline
from transvae_dashboards.figures.axes import log_ticks, spread
from transvae_dashboards.figures.canvas import canvas
from transvae_dashboards.figures.curves import Look, curve_panels
from transvae_dashboards.figures.forest import forest_panels
from transvae_dashboards.figures.profile import profile_panels
from transvae_dashboards.figures.quality import quality_panel
from transvae_dashboards.figures.scaling import scaling_panels
from transvae_dashboards.figures.timeline import timeline_panel
from transvae_dashboards.files import as_csv, figures, write_files
from transvae_dashboards.follow.study import followed
from transvae_dashboards.laws import fit_study
from transvae_dashboards.page import render
from transvae_dashboards.scene import Scene
from transvae_dashboards.tables import FAMILIES, ordered, study_table
from transvae_dashboards.views.curves import curve_caption


def loss_panels(state, **changes):
    study = followed(state)
    return curve_panels(study, ordered(study.autoencoders), Look(**changes))


def texts(panel):
    return re.findall(r"<text[^>]*>([^<]*)</text>", panel.svg)


@pytest.fixture(scope="module")
def fits(whole):
    return fit_study(whole.state())


def test_scaling_panels(fits):
    joint, transvae, cnn, vit, swin = scaling_panels(fits["parameters"])
    assert {"TransVAE", "CNN", "ViT", "Swin", "parameters", "validation L1"} <= set(texts(joint))
    assert set("TBLHG") <= set(texts(transvae))
    assert any(text.startswith("G predicted from the others: ") for text in texts(cnn))
    assert "no law: see the table of laws" in texts(swin)
    assert "var(--vit, #a8578a)" in vit.svg
    flops = scaling_panels(fits["training_flops"])[0]
    assert any("2 × multiply-adds, forward + backward" in text for text in texts(flops))
    assert any("loss networks excluded" in text for text in texts(flops))


def test_loss_panels_label_sizes_in_order_and_mark_restarts(whole):
    panels = loss_panels(whole.state())
    assert [panel.name for panel in panels] == [f"curves-l1-step-{family}" for family in FAMILIES[:4]]
    found = texts(panels[0])
    assert {"T", "B", "L", "H", "G"} <= set(found)
    assert found.count("H") == 2  # at its line's end and at its restart
    assert [text for text in texts(panels[3]) if text in "TBLHG"] == ["T", "B", "L"]


def test_sizes_that_resumed_at_one_place_share_a_text(write_study):
    study = write_study({"vit": "TBL"})
    study.submit()
    for trial in study.trials.values():
        study.run(trial, resume=200)
    state = followed(study.state())
    for look in (Look(), Look(x_log=True)):
        (panel,) = curve_panels(state, ordered(state.autoencoders), look)
        assert ">T B L</text>" in panel.svg  # one text: three at one place cannot be read


def test_phases_near_the_end_are_named_inside_their_chart(write_study):
    study = write_study({"vit": "T"}, recipe__decoder_stage={"steps": 40})
    study.submit()
    study.run_all()
    state = followed(study.state())
    for look in (Look(), Look(x_log=True), Look(x="hours")):
        (panel,) = curve_panels(state, ordered(state.autoencoders), look)
        styles = re.findall(r'<text style="([^"]*)"[^>]*>(warm-up ends|decoder alone)<', panel.svg)
        assert [word for _, word in styles] == ["warm-up ends", "decoder alone"]
        assert "text-anchor: end" in styles[1][0]  # to the right of its line it would be cut


def test_names_are_text_and_no_formulas():
    with canvas("named", "A name") as drawing:
        drawing.axes.set_title(r"a$\frac{$b")
    assert r"a$\frac{$b</text>" in drawing.panel[0].svg


def test_forest_says_cannot_tell_in_words(fits):
    gain, alpha = forest_panels(fits["parameters"])
    assert "cannot tell" in texts(gain)  # ViT has one finished size
    assert texts(alpha).count("cannot tell") == 2
    assert "TransVAE: 0." in alpha.label


def test_panels_are_accessible_and_scale_with_the_page(whole, fits):
    panels = [*loss_panels(whole.state()), *scaling_panels(fits["parameters"])]
    panels.append(quality_panel(study_table(whole.state())))
    for panel in panels:
        opening = panel.svg[: panel.svg.index(">")]
        assert 'role="img"' in opening
        assert "aria-label=" in opening
        assert "viewBox=" in opening
        assert "width=" not in opening
        assert "#010101" not in panel.svg


def test_equal_data_give_equal_bytes(whole):
    assert loss_panels(whole.state()) == loss_panels(whole.state())


def test_spread_keeps_order_and_distance():
    placed = spread([10.0, 10.5, 3.0, 11.0, 40.0], 5.0)
    order = sorted(range(5), key=lambda i: placed[i])
    assert order == [2, 0, 1, 3, 4]
    assert all(b - a >= 5.0 - 1e-9 for a, b in pairwise(sorted(placed)))
    assert placed[4] == 40.0


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (5e4, 5e6, "100k 300k 1M 3M"),
        (0.09, 0.16, "0.1 0.12 0.14 0.16"),
        (4e7, 3e9, "100M 300M 1B 3B"),
    ],
)
def test_log_ticks_are_round(low, high, labels):
    found = " ".join(formats.tick(value) for value in log_ticks(low, high))
    assert all(label in found.split() for label in labels.split()), found
    assert len(found.split()) <= 7


def test_formats():
    assert formats.parameters(2_310_000_000) == "2.31 B"
    assert formats.scaled(1.234e13) == "12.3 T"
    assert formats.duration(7500) == "2 h 05 min"
    assert formats.percent(-0.0123, signed=True) == "−1.2 %"
    assert formats.significant(0.0123456) == "0.0123"
    assert formats.number(float("nan")) == "–"


def test_every_chart_of_the_page_is_a_file_that_browsers_open_alone(whole, tmp_path):
    state = whole.state()
    with collecting() as found:
        page = render(state)
    files = write_files(figures(found, state.name), tmp_path / "figures", "--figures")
    charts = re.findall(r'<figure id="chart-([^"]+)"', page)
    said, *drawn = files
    assert said.name == "demo-captions.txt"
    assert [file.name for file in drawn] == [f"{state.name}-{name}.svg" for name in charts]
    assert re.findall(r"^demo-(\S+): .+[.]$", said.read_text(), re.MULTILINE) == charts
    for file in drawn:
        assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_variants_stand_beside_each_other_with_their_seeds(write_study):
    study = write_study({"vit": "T"}, grid__seeds=(0, 1), grid__variants={"base": {}, "no-rope": {"position": "none"}})
    study.submit()
    study.run_all()
    page = render(study.state())
    assert page.count("PSNR of held-out images by model") == 1
    assert "ViT-T no-rope" in page


def test_every_chart_says_what_was_measured_and_from_which_runs(whole):
    page = render(whole.state())
    charts = re.findall(r'<figure id="chart-([^"]+)"[^>]*>.*?</svg>(.*?)</figure>', page, re.DOTALL)
    said = {name: html.unescape(re.sub("<[^>]*>", "", caption)) for name, caption in charts}
    assert len(said) == page.count('<svg class="chart"')
    for name, caption in said.items():
        assert re.search(r"\d+ trials? of demo: .*(seed|seeds) ", caption), name
    assert said["curves-l1-step-swin"] == (
        "l1 of training batches and of held-out images against step. 3 trials of demo: Swin T, B, L; seed 0."
    )
    # what failed and what still runs is in no law
    assert said["scaling-parameters-swin"].endswith("2 trials of demo: Swin T, B; 1 seed of each size.")


def test_report_is_drawn_once_for_all_its_files(whole, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure_files, "render", lambda *given: drawn.append(given) or render(*given))
    folders = {"figures_in": tmp_path / "figures", "tables_in": tmp_path / "tables"}
    page, *written = write_with_files(whole.state(), tmp_path / "report.html", **folders)
    assert len(drawn) == 1
    assert page.read_text() == render(whole.state())
    assert {path.suffix for path in written} == {".svg", ".pdf", ".csv", ".tex", ".txt"}


def test_cells_that_spreadsheets_would_run_are_quoted():
    rows = (("-1+cmd|calc", "−0.5", "-1.5e-05", "+2.0 %", "=1", "-"),)
    assert as_csv(Sheet("t", ("a",) * 6, rows)).splitlines()[1] == "'-1+cmd|calc,−0.5,-1.5e-05,+2.0 %,'=1,'-"


def test_timeline_of_many_trials_names_the_families(write_study, monkeypatch):
    study = write_study({"vit": "TB", "cnn": "T"})
    study.submit()
    study.run_all()
    state = followed(study.state())
    trials = ordered(state.autoencoders)
    assert "vit-T s0" in timeline_panel(state, trials).svg
    monkeypatch.setattr(timeline, "FEW", 2)
    named = re.findall(r">(CNN|ViT|[a-z]+-[TB] s0)</text>", timeline_panel(state, trials).svg)
    assert sorted(named) == ["CNN", "ViT"]


def test_profiles_show_the_alphas_that_the_data_allow(whole):
    report = fit_study(whole.state())["parameters"]
    excess, ridge = profile_panels(report)
    for panel in (excess, ridge):
        last = max(float(tick) for tick in re.findall(r">(\d\.\d+)</text>", panel.svg.split("alpha</text>")[0]))
        assert last < 1.5  # of 2, to which exponents are searched


def test_captions_of_curves_claim_no_run_and_no_measurement_that_is_not_there(write_study):
    study = write_study({"vit": "TB"})
    study.submit()
    study.run(study.find("vit", "T"), until=120)
    scene = Scene(followed(study.state()))
    trials = ordered(scene.state.autoencoders)
    said = {name: curve_caption(scene, trials, Look(name)) for name in ("l1", "loss", "psnr", "seconds_per_step")}
    of = "against step. 1 trial of demo: ViT T; seed 0."  # the other one is queued
    assert said == {
        "l1": f"l1 of training batches and of held-out images {of}", "loss": f"loss of training batches {of}",
        "psnr": f"psnr of held-out images {of}", "seconds_per_step": f"seconds_per_step during training {of}",
    }  # fmt: skip
