import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from report_pages import ReportPage
from small_runs import SCENES

import kdcam
from kdcam.errors import CheckpointError
from kdcam.recipe.train_recipe import read_recipe
from kdcam.report import write_report

Runs = Callable[..., list[Path]]


def changed(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_run_with_everything(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    file = write_report([run])
    assert file == run / "report.html"
    page = ReportPage(file)
    page.assert_alone()
    result = json.loads((run / "result.json").read_text())
    assert page.headings == ["noisy-0", "Scores", "Learning curves", "Robustness", "How it was made"]
    selected = result["selected"]
    row = page.row(f"selected (epoch {selected['epoch']})", "test")
    assert row[2:4] == ["20", f"{selected['test']['acc1']:.2%}"]
    assert f"Selected: {result['selection']}." in page.words
    realised = result["label_noise"]["realised_rate"]
    assert f"symmetric, nominal rate 40.0%, realised {realised:.1%}" in page.words
    assert "81.50%" in page.words
    assert "Published: Doe & Roe 2020, <i>table</i> 3." in page.words
    assert "torch 2." in page.words
    assert all(page.alts)
    assert any("cross_entropy, cam" in alt for alt in page.alts)
    assert any("top-1 (%), NLL (nats)" in alt for alt in page.alts)


def test_what_a_user_wrote_is_text(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    moved = run.rename(run.with_name("<script>alert(1)<"))
    page = ReportPage(write_report([moved]))
    page.assert_alone()
    assert page.headings[0] == "<script>alert(1)<"
    assert "<script>alert('mine')</script> & more" in page.words
    assert "<script" not in page.source


def test_two_seeds_side_by_side(runs: Runs) -> None:
    both = runs("noisy-0", "noisy-1")
    file = write_report([*both, both[0]])
    assert file == both[0].parent / "report.html"
    page = ReportPage(file)
    page.assert_alone()
    results = [json.loads((run / "result.json").read_text()) for run in both]
    tests = [result["selected"]["test"]["acc1"] for result in results]
    assert [page.row(f"noisy-{seed}", str(seed))[4] for seed in (0, 1)] == [f"{test:.2%}" for test in tests]
    spread = page.row("noisy-0, noisy-1", "2")
    assert spread[2].startswith(f"{50 * sum(tests):.2f} ± ")
    assert page.row("seed")[1:] == ["0", "1"]
    assert page.warnings == []
    assert page.words.count("noisy-1") > 3  # the legends of the curves, too


def test_runs_of_other_data_are_not_held_against_each_other(runs: Runs) -> None:
    page = ReportPage(write_report(runs("noisy-0", "several-0")))
    assert any("scored on different images" in warning for warning in page.warnings)
    assert not any("noisy-0, several-0" in cell for row in page.rows for cell in row)
    assert page.row("several-0")[3] == "mAP"


def test_a_spread_is_of_different_seeds_only(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    again = Path(shutil.copytree(run, run.with_name("again")))
    page = ReportPage(write_report([run, again]))
    assert "sample standard deviation" not in page.words


def test_an_unfinished_run_says_so(runs: Runs) -> None:
    (run,) = runs("stopped-0")
    page = ReportPage(write_report([run]))
    assert page.headings[1:] == ["Scores", "Learning curves", "How it was made"]
    assert "unfinished: 1 of 2 epochs" in page.warnings[0]
    (run / "metrics.jsonl").unlink()
    page = ReportPage(write_report([run]))
    assert "unfinished: 0 of 2 epochs" in page.warnings[0]
    assert page.headings[1:] == ["Scores", "How it was made"]


def test_runs_of_one_name_are_told_apart_by_their_paths(runs: Runs, tmp_path: Path) -> None:
    (run,) = runs("noisy-0")
    other = Path(shutil.copytree(run, tmp_path / "others" / "noisy-0"))
    file = write_report([run, other])
    assert file == tmp_path / "report.html"
    assert str(other) in ReportPage(file).words


@pytest.mark.parametrize("name", ["recipe.json", "result.json", "robustness.json"])
def test_a_damaged_file_is_named(runs: Runs, name: str) -> None:
    (run,) = runs("noisy-0")
    whole = (run / name).read_text()
    for broken, said in (
        (whole[:50], "is no JSON"),
        ("{}", "lacks something"),
        ("[]", "expected an object"),
    ):
        (run / name).write_text(broken)
        with pytest.raises(CheckpointError, match=rf"{name}.*{said}") as stop:
            write_report([run])
        assert "\n" not in str(stop.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("recipe.json", {"recipe": {"task": "other", "epochs": 2}}),
        ("recipe.json", {"versions": None}),
        ("result.json", {"selected": {"epoch": 1}}),
        ("result.json", {"published": 80.0}),
        ("robustness.json", {"attacks": {"rows": 3}}),
    ],
)
def test_a_file_of_another_layout_is_named(runs: Runs, name: str, values: dict[str, object]) -> None:
    both = runs("noisy-1", "noisy-0")
    changed(both[1] / name, **values)
    for chosen in (both[1:], both):
        with pytest.raises(CheckpointError, match=rf"noisy-0/{name}: lacks something"):
            write_report(chosen)


def test_a_line_of_metrics_that_lacks_something_is_named(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    (run / "metrics.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: lacks something"):
        write_report([run])


def test_what_is_no_run_is_refused(tmp_path: Path, runs: Runs) -> None:
    (run,) = runs("noisy-0")
    for folder, said in (
        (tmp_path, r"holds neither a run \(recipe.json\) nor a comparison"),
        (tmp_path / "none", r"there is no such folder"),
        (run / "result.json", r"is a file"),
    ):
        with pytest.raises(CheckpointError, match=said):
            write_report([run, folder])
    with pytest.raises(ValueError, match=r"no folders"):
        write_report([])


def test_a_place_that_cannot_be_written_to_is_refused(runs: Runs, tmp_path: Path) -> None:
    (run,) = runs("several-0")
    with pytest.raises(CheckpointError, match=r"is a folder; name a file, as in --output .*report.html"):
        write_report([run], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"folder cannot be made"):
        write_report([run], tmp_path / "file" / "report.html")
    made = write_report([run], tmp_path / "new" / "page.html")
    before = made.read_bytes()
    assert write_report([run], made).read_bytes() == before  # nothing in it changes from call to call
    assert [file.name for file in made.parent.iterdir()] == ["page.html"]


def facts(page: ReportPage) -> dict[str, str]:
    """Return the facts of how one run was made."""
    found = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page.source)
    return {html.unescape(name): html.unescape(text) for name, text in found}


def test_fine_tuned_runs_tell_their_start(runs: Runs, tmp_path: Path) -> None:
    (start,) = runs("noisy-0")
    init = {"checkpoint": str(start), "frozen": 1, "unfreeze": 0.5, "layer_decay": 0.75}
    tuned = read_recipe({"epochs": 2, "batch_size": 16, "data": SCENES, "init": init}, source="tuned")
    probe = read_recipe({"data": SCENES, "init": {"checkpoint": str(start), "frozen": "all"}}, source="probe")
    places = [kdcam.finetune(one, output=tmp_path / name).path for name, one in (("t", tuned), ("p", probe))]
    of_tuned, of_probe = (facts(ReportPage(write_report([place]))) for place in places)
    for found in (of_tuned, of_probe):
        assert (found["network"], found["start"]) == ("kdcam:resnet8_s2", str(start))
    assert of_tuned["frozen"] == "stem and 1 of its stages"
    assert of_tuned["unfrozen"] == "after 0.5 of the run"
    assert (of_tuned["layer decay"], of_tuned["optimiser"]) == ("0.75", "sgd, lr 0.1")
    assert of_probe["frozen"] == "all but the classifier"
    assert of_probe["classifier"].startswith("the classifier was solved on features of the frozen network")
    assert not {"optimiser", "batch size", "unfrozen", "layer decay"} & of_probe.keys()
    assert "images/s" not in of_probe["training"]
    assert "images/s" in of_tuned["training"]
    assert ReportPage(write_report(places)).row("init.frozen")[1:] == ["1", "all"]


def test_a_fine_tuning_without_weights_yet_has_no_network(runs: Runs) -> None:
    (run,) = runs("stopped-0")
    record = json.loads((run / "recipe.json").read_text())
    init = {"checkpoint": "runs/gone", "frozen": "none", "unfreeze": 1.0, "layer_decay": 1.0}
    changed(run / "recipe.json", recipe={**record["recipe"], "model": {}, "init": init})
    (run / "config.json").unlink(missing_ok=True)
    found = facts(ReportPage(write_report([run])))
    assert found["start"] == "runs/gone"
    assert not {"network", "frozen"} & found.keys()
