"""The reports show the scores that were found, under the right names, and nothing that a name could smuggle in."""

import base64
import io
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import matthews_corrcoef

from training import plots
from training.report import Panel, write_report
from training.results import Evaluation, SceneResult
from training.scores import THRESHOLDS, Truth, frame_steps
from training.tables import markdown, markdown_table, rich_table, score_tables

HOSTILE = '<script>alert("x")</script> [bold]|`a`'


def made_evaluation(names=("first", "second"), frames=(6, 3), curve=True, **changed):
    """Scenes whose curves are 0.1 higher with each step."""
    rng = np.random.default_rng(0)
    scenes = []
    for name, count in zip(names, frames, strict=True):
        label = np.kron(rng.integers(0, 2, (4, 4)), np.ones((5, 5))).astype("uint8")
        probability = np.clip(rng.normal(np.where(label == 1, 0.7, 0.4), 0.2), 0, 1)
        truth = Truth(label, np.full(label.shape, count))
        tallies = {"model": truth.tally(probability, THRESHOLDS), "ndvi": truth.tally(probability > 0.75, [0.5])}
        curves = {
            system: {
                step: np.full(len(tally.thresholds), 0.1 * number) for number, step in enumerate(frame_steps(count))
            }
            for system, tally in tallies.items()
        }
        scenes.append(SceneResult(name, count, 0, tallies, curves if curve else {}))
    settings = {
        "model": "SPInet",
        "model_file": "best.keras",
        "data": "scenes",
        "split": "the split",
        "max_cloud": 0.25,
        "chosen": 0.437,
        "chosen_on": "chosen on these.",
        "ndvi": (0.4, 0.6),
        "ndvi_origin": "fitted.",
        "scenes": scenes,
    }
    return Evaluation(**(settings | changed))


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.text.append(text.strip())


def cells(table):
    return {(row[0], row[1]): row[2:] for row in [*table.rows, *table.summary]}


def test_tables_show_each_score_under_its_name():
    found = made_evaluation()
    scores, places, curve = score_tables(found)
    assert scores.header == ["scene", "map", "MCC", "weighted MCC", "precision", "recall", "F1", "IoU"]
    systems = ["SPInet at 0.5", "SPInet at 0.437, chosen", "NDVI"]
    assert [row[:2] for row in scores.rows] == [[scene, system] for scene in ("first", "second") for system in systems]
    assert [row[0] for row in scores.summary] == ["mean"] * 3 + ["together"] * 3
    shown = cells(scores)
    for scene, threshold, label in ((0, 0.5, systems[0]), (1, 0.437, systems[1])):
        score = found.scenes[scene].tallies["model"].score(threshold)
        expected = (score.mcc, score.weighted_mcc, score.precision, score.recall, score.f1, score.iou)
        assert shown["first" if scene == 0 else "second", label] == [f"{value:.3f}" for value in expected]
        where = [f"{score.mcc_near_boundary:.3f}", f"{score.mcc_elsewhere:.3f}"]
        assert cells(places)["first" if scene == 0 else "second", label][:2] == where
    ndvi = [scene.tallies["ndvi"].score(0.5).mcc for scene in found.scenes]
    assert shown["mean", "NDVI"][0] == f"{np.mean(ndvi):.3f}"
    together = found.together(found.systems()[0])
    assert shown["together", systems[0]][:2] == [f"{together.mcc:.3f}", f"{together.weighted_mcc:.3f}"]

    assert places.header == ["scene", "map", "within 2 px", "elsewhere", "3 to 4 clear", "5 to 7 clear"]
    assert cells(places)["first", "NDVI"][2:] == ["-", f"{ndvi[0]:.3f}"]
    assert cells(places)["second", "NDVI"][2:] == [f"{ndvi[1]:.3f}", "-"]

    assert curve.header == ["scene", "map", "1", "2", "3", "5", "all"]
    assert cells(curve)["first", "NDVI"] == ["0.000", "0.100", "0.200", "0.300", "0.400"]
    # Beyond its three frames the second scene stays as it is.
    assert cells(curve)["second", "SPInet at 0.5"] == ["0.000", "0.100", "0.200", "0.200", "0.200"]
    assert cells(curve)["mean", "SPInet at 0.437, chosen"] == ["0.000", "0.100", "0.200", "0.250", "0.300"]
    assert {row[0] for row in curve.summary} == {"mean"}


def test_pixels_of_all_scenes_together():
    found = made_evaluation()
    rng = np.random.default_rng(0)
    labels, maps = [], []
    for _ in range(2):
        labels.append(np.kron(rng.integers(0, 2, (4, 4)), np.ones((5, 5))).ravel())
        maps.append(np.clip(rng.normal(np.where(labels[-1] == 1, 0.7, 0.4), 0.2), 0, 1) > 0.5)
    expected = matthews_corrcoef(np.concatenate(labels), np.concatenate(maps))
    assert found.together(found.systems()[0]).mcc == pytest.approx(expected)


def test_what_is_not_there_is_not_shown():
    found = made_evaluation(("one",), (4,), curve=False, chosen=None, ndvi=None, ndvi_origin="none, for a reason.")
    tables = score_tables(found)
    assert [table.title for table in tables] == [
        "Scores",
        "MCC near boundaries, elsewhere, and by number of clear frames",
    ]
    # One scene is its own mean.
    assert [row[:2] for row in tables[0].rows] == [["one", "SPInet at 0.5"]]
    assert tables[0].summary == []
    summary = found.summary()
    assert "ndvi" not in summary["thresholds"]
    assert "ndvi" not in summary["scenes"][0]
    assert "curve" not in summary["mean"] | summary["scenes"][0]
    notes = " ".join(found.notes())
    assert "NDVI baseline: none, for a reason." in notes
    assert "Frames used" not in notes
    assert "highest mean MCC" not in notes


def test_the_notes_say_which_threshold_is_which():
    notes = made_evaluation().notes()
    assert notes[0].startswith("SPInet at 0.5: ")
    assert "no data chose" in notes[0]
    assert notes[1] == "SPInet at 0.437: the threshold with the highest mean MCC, chosen on these."
    assert notes[2] == "NDVI baseline: cultivated from 0.400 to 0.600, fitted."


def test_names_stay_text_in_a_terminal_and_in_markdown():
    found = made_evaluation((HOSTILE, "second\nline"))
    console = Console(file=io.StringIO(), width=200)
    console.print(rich_table(score_tables(found)[0]))
    assert HOSTILE in console.file.getvalue()
    text = markdown(score_tables(found), found.notes())
    assert "\\<script\\>" in text
    # Nine lines between eight columns, whatever lines a name holds.
    rows = markdown_table(score_tables(found)[0]).splitlines()
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}
    assert "| second line |" in text
    assert text.startswith("## Scores\n\n| scene | map | MCC |")
    assert "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |" in text


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path):
    found = made_evaluation((HOSTILE, "second"), model_file=HOSTILE, data=HOSTILE, split=HOSTILE)
    panels = [[Panel("Truth", "data:image/png;base64,AAAA"), Panel(HOSTILE, "data:image/png;base64,BBBB")], []]
    write_report(tmp_path / "report.html", found, panels)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2 + 2
    assert all(source.startswith("data:image/") for source in sources)
    assert not any(name.startswith("on") or name == "href" for _, attributes in page.tags for name in attributes)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:")
    # Heading, model, scenes, split, title of the picture, and a row for each system of each table.
    assert page.text.count(HOSTILE) == 5 + 3 * 3
    shown = "\n".join(text for text in page.text if text)
    for table in score_tables(found):
        assert table.title in page.text
        assert all("\n".join(row) in shown for row in [table.header, *table.rows, *table.summary])
    for note in found.notes():
        assert note in page.text


def test_the_page_without_a_curve(tmp_path):
    found = made_evaluation(("one",), (1,), curve=False, chosen=None)
    write_report(tmp_path / "report.html", found, [[]])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "MCC against the number of frames used" not in page.text
    assert "MCC against the threshold" in page.text
    assert any("1 frame used" in text for text in page.text)


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the plots that are drawn."""
    axes = []
    write = plots._svg

    def kept(figure, axis):
        axes.append(axis)
        return write(figure, axis)

    monkeypatch.setattr(plots, "_svg", kept)
    return axes


def test_plots_show_the_curves(drawn):
    found = made_evaluation()
    source = plots.frames_plot(found)
    lines = {line.get_label(): line.get_xydata() for line in drawn[0].lines}
    np.testing.assert_allclose(lines["NDVI"], [[1, 0], [2, 0.1], [3, 0.2], [5, 0.25], [6, 0.3]])
    np.testing.assert_allclose(lines["SPInet at 0.5, each scene"], [[1, 0], [2, 0.1], [3, 0.2], [5, 0.3], [6, 0.4]])
    assert len(drawn[0].lines) == 5
    assert drawn[0].get_xticklabels()[-1].get_text() == "all (6)"
    head, body = source.split(",")
    assert head == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(body)).tag.endswith("svg")
    assert plots.frames_plot(found) == source

    plots.threshold_plot(found)
    lines = {line.get_label(): line.get_xydata() for line in drawn[-1].lines}
    mean = lines["SPInet, mean"]
    assert mean[436, 0] == 0.437
    assert mean[436, 1] == pytest.approx(np.mean([scene.tallies["model"].score(0.437).mcc for scene in found.scenes]))
    assert lines["0.437, chosen"][0, 0] == 0.437
    assert lines["NDVI, mean"][0, 1] == pytest.approx(found.mean(found.systems()[2]).mcc)


def test_plots_of_one_scene_of_one_frame(drawn):
    found = made_evaluation(("one",), (1,))
    plots.frames_plot(found)
    plots.threshold_plot(found)
    assert [tick.get_text() for tick in drawn[0].get_xticklabels()] == ["all"]
    assert len(drawn[0].lines) == 3
