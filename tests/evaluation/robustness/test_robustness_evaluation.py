import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_runs import SCENES, Watcher, small_recipe
from torch import Tensor

import kdcam
from kdcam.attacks.attack_settings import PgdConfig
from kdcam.errors import CheckpointError, DataError, FolderInUseError, Interrupted, RecipeError
from kdcam.evaluation.robustness.attack_report import RobustnessReport
from kdcam.evaluation.robustness.multi_label_attack_report import MultiLabelRobustnessReport
from kdcam.evaluation.robustness.partial_results import PROGRESS_STEM
from kdcam.files.folder_lock import FolderLock
from kdcam.runs.picture_record import read_noisy_labels
from kdcam.runs.run_files import ROBUSTNESS_FILE
from kdcam.runtime.progress import Silent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("robust")
    digits = {"name": "digits", "image_size": 16}  # 497 test images, 130 of validation
    clean = small_recipe(epochs=1, batch_size=32, data=digits)
    noisy = small_recipe(
        epochs=1, batch_size=32, data={**digits, "noise": {"kind": "symmetric", "rate": 0.4}}
    )
    return [
        kdcam.train(recipe, output=folder / name, device="cpu").path
        for name, recipe in (("clean", clean), ("noisy", noisy))
    ]


def under_way(run: Path) -> list[Path]:
    return list(run.glob(f"{PROGRESS_STEM}*"))


def test_two_runs_in_order_with_a_file_in_each(runs: list[Path]) -> None:
    found = kdcam.evaluate_robustness(runs, settings={"n_examples": 12}, device="cpu")
    assert [result.run for result in found] == runs
    for result in found:
        assert result.attacks is not None
        assert [row.attack for row in result.attacks.rows] == ["fgsm", "pgd-10"]
        assert result.attacks.images == 12
        kept = json.loads((result.run / ROBUSTNESS_FILE).read_text())
        assert kept["attacks"]["clean_acc"] == result.attacks.clean_acc
        assert kept["weights"] == "selected"
        assert kept["attacks"]["rows"][1]["settings"]["eps"] == pytest.approx(8 / 255)
        assert [check["name"] for check in kept["checks"]][:2] == ["zero_gradients", "falls_with_eps"]
        assert kept["warning"] == ("this number may be gradient masking" if result.failed_checks else None)
        assert under_way(result.run) == []


def test_memorisation_only_for_runs_with_noise(runs: list[Path]) -> None:
    clean, noisy = kdcam.evaluate_robustness(
        runs, settings={"attacks": ("fgsm",), "n_examples": 2}, device="cpu"
    )
    assert clean.memorisation is None
    assert clean.label_noise is not None  # the point at rate 0 beside the noisy run
    assert clean.label_noise.realised_rate == 0
    assert noisy.memorisation is not None
    true, wrong = read_noisy_labels(runs[1])
    assert noisy.memorisation.wrong_labels == int((true != wrong).sum()) > 0
    assert noisy.memorisation.images == 1170
    (alone,) = kdcam.evaluate_robustness(
        runs[:1], settings={"attacks": ("fgsm",), "n_examples": 2}, device="cpu"
    )
    assert alone.label_noise is None
    assert json.loads((runs[0] / ROBUSTNESS_FILE).read_text())["label_noise"] is None


def test_every_section(runs: list[Path]) -> None:
    settings = {
        "eps": "0,1/255,8/255",
        "attacks": ["fgsm"],
        "n_examples": 8,
        "source": runs[1],
        "corruptions": ["jpeg", "fog"],
        "severities": [1, 5],
        "base": runs[1],
        "calibration": True,
        "ood": "digit-scenes",
    }
    (found,) = kdcam.evaluate_robustness(runs[:1], settings=settings, batch_size=3, device="cpu")
    report = found.attacks
    assert isinstance(report, RobustnessReport)
    assert [row.attack for row in report.rows] == ["fgsm"] * 2 + [f"fgsm from {runs[1]}"] * 2
    assert [point.eps for point in report.curve] == pytest.approx([1 / 255, 8 / 255])
    assert found.settings["attacks"]["from_zero"]
    assert set(found.settings) == {"attacks", "checks", "corruptions", "calibration", "out_of_distribution"}
    assert "transfer" in [check.name for check in found.checks]
    assert found.corruptions is not None
    assert [row.name for row in found.corruptions.report.rows] == ["jpeg", "fog"]
    assert found.corruptions.relative is not None
    assert found.corruptions.base == str(runs[1])
    assert found.calibration is not None
    assert (found.calibration.before.images, found.calibration.fitted_on) == (497, 130)
    assert found.out_of_distribution is not None
    assert found.out_of_distribution.report.foreign_images == 2000
    document = json.loads((runs[0] / ROBUSTNESS_FILE).read_text())
    assert document["corruptions"]["report"]["severities"] == [1, 5]


def test_a_published_set(runs: list[Path], tmp_path: Path) -> None:
    classes = kdcam.load(runs[0]).class_names
    for severity in (2, 4):
        for name in classes:
            folder = tmp_path / "blobs" / str(severity) / name
            folder.mkdir(parents=True)
            Image.new("L", (16, 16), 40 * severity).save(folder / "a.png")
    settings = {"attacks": ["none"], "corrupted_set": tmp_path, "severities": "2,4", "n_examples": 4}
    (found,) = kdcam.evaluate_robustness(runs[:1], settings=settings, device="cpu")

    def messages() -> str:
        reader = Reader()
        kdcam.evaluate_robustness(runs[:1], settings=settings, device="cpu", progress=reader)
        return " ".join(reader.messages)

    assert "evaluated just so before" in messages()
    Image.new("L", (16, 16), 200).save(
        tmp_path / "blobs" / "2" / classes[0] / "a.png"
    )  # the key is of its files
    assert "evaluated just so before" not in messages()
    assert (found.attacks, found.checks, found.corruptions) == (None, (), None)
    assert found.corrupted_set is not None
    report = found.corrupted_set.report
    assert ([row.name for row in report.rows], report.severities, report.images) == (["blobs"], (2, 4), 4)
    assert "no clean accuracy" in report.note  # its pictures are not known to be the test part's


class Reader(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.done: list[tuple[str, int, int]] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def advance(self, task: str, done: int, total: int) -> None:
        self.done.append((task, done, total))


class Killed(BaseException):
    pass


def test_a_killed_evaluation_goes_on_where_it_was(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"attacks": ["fgsm", "pgd-3"], "n_examples": 15, "seed": 1}
    whole = kdcam.evaluate_robustness(runs, settings=settings, batch_size=4, device="cpu", resume="never")
    perturb = PgdConfig.perturb
    left = 0

    def dying(self: PgdConfig, *arguments: Any) -> Tensor:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return perturb(self, *arguments)

    first_batches = -(-round(whole[0].attacks.clean_acc * 15) // 4)  # type: ignore[union-attr]
    left = first_batches + 1  # those of the first run and one of the second's
    monkeypatch.setattr(PgdConfig, "perturb", dying)
    with pytest.raises(Killed):
        kdcam.evaluate_robustness(runs, settings=settings, batch_size=4, device="cpu", resume="never")
    monkeypatch.setattr(PgdConfig, "perturb", perturb)
    assert under_way(runs[0]) == []
    assert len(under_way(runs[1])) == 1
    reader = Reader()
    again = kdcam.evaluate_robustness(runs, settings=settings, batch_size=4, device="cpu", progress=reader)
    assert again == whole
    assert any(f"{runs[0]}: evaluated just so before" in text for text in reader.messages)
    assert any("goes on from robustness-progress-" in text for text in reader.messages)
    assert not any(task == "fgsm" for task, *_ in reader.done)  # it was done
    assert under_way(runs[1]) == []


def test_what_was_found_is_taken_while_nothing_that_decides_it_changes(runs: list[Path]) -> None:
    settings = {"attacks": ["fgsm"], "n_examples": 5, "checks": False}

    def worked(**changes: Any) -> bool:
        reader = Reader()
        arguments: dict[str, Any] = {"settings": settings, "device": "cpu", **changes}
        kdcam.evaluate_robustness(runs[:1], progress=reader, **arguments)
        return any(task == "fgsm" for task, *_ in reader.done)

    assert worked(resume="never")
    assert not worked()
    assert not worked(batch_size=2)
    assert worked(settings={**settings, "n_examples": 6})
    assert worked(weights="last")
    assert worked()
    document = json.loads((runs[0] / ROBUSTNESS_FILE).read_text())
    (runs[0] / ROBUSTNESS_FILE).write_text(json.dumps({"clean_acc": document["attacks"]["clean_acc"]}))
    assert worked()  # a file of an earlier form is written anew


SMALL = {"attacks": ["fgsm"], "n_examples": 5, "checks": False}


def tasks(run: Path, settings: dict[str, Any], **arguments: Any) -> set[str]:
    """Evaluate a run and return what had to be worked on."""
    reader = Reader()
    kdcam.evaluate_robustness([run], settings=settings, device="cpu", progress=reader, **arguments)
    return {task for task, *_ in reader.done}


def sections(run: Path) -> dict[str, Any]:
    document = json.loads((run / ROBUSTNESS_FILE).read_text())
    return {name: document[name] for name in ("attacks", "checks", "corruptions", "calibration")}


def test_a_section_stays_when_another_one_is_asked_for(runs: list[Path]) -> None:
    (run, _) = runs
    corruptions = {"attacks": ["none"], "corruptions": ["jpeg"], "severities": [1], "n_examples": 5}
    kdcam.evaluate_robustness([run], settings={**SMALL, "checks": True}, device="cpu", resume="never")
    before = sections(run)
    (found,) = kdcam.evaluate_robustness([run], settings=corruptions, device="cpu")
    assert found.attacks is None  # what this command asked for
    assert found.corruptions is not None
    after = sections(run)
    assert (after["attacks"], after["checks"]) == (before["attacks"], before["checks"])
    said = json.loads((run / ROBUSTNESS_FILE).read_text())["settings"]
    assert set(said) == {"attacks", "checks", "corruptions"}
    assert said["attacks"]["budgets"][0]["attacks"] == ["fgsm"]
    assert tasks(run, {**SMALL, "calibration": True}) == {"test part", "validation part"}
    assert tasks(run, {**SMALL, "checks": True, **{"corruptions": ["jpeg"], "severities": [1]}}) == set()
    assert "fgsm" in tasks(run, {**SMALL, "n_examples": 6})
    other = sections(run)
    assert other["checks"] == []  # those were of the other attacks
    assert "checks" not in json.loads((run / ROBUSTNESS_FILE).read_text())["settings"]
    assert other["corruptions"] == after["corruptions"]
    assert "fgsm" in tasks(run, SMALL, weights="last")
    assert sections(run)["corruptions"] is None  # it was of other weights


def test_work_under_way_outlives_other_commands(runs: list[Path]) -> None:
    class Stopping(Silent):
        asked = 0

        def should_stop(self) -> bool:
            self.asked += 1
            return self.asked == 10  # run, section, six batches of the clean pass, after it, first batch

    long: dict[str, Any] = {"attacks": ["pgd-3"], "n_examples": 11, "checks": False}
    with pytest.raises(Interrupted):
        kdcam.evaluate_robustness(
            runs[:1], settings=long, batch_size=2, device="cpu", progress=Stopping(), resume="never"
        )
    (file,) = under_way(runs[0])
    kept = file.read_bytes()
    kdcam.evaluate_robustness(runs[:1], settings=SMALL, device="cpu", resume="never")
    assert file.read_bytes() == kept
    reader = Reader()
    kdcam.evaluate_robustness(runs[:1], settings=long, batch_size=2, device="cpu", progress=reader)
    assert any(f"goes on from {file.name}" in text for text in reader.messages)
    assert under_way(runs[0]) == []


def test_an_edited_section_is_found_anew(runs: list[Path]) -> None:
    kdcam.evaluate_robustness(runs[:1], settings=SMALL, device="cpu", resume="never")
    path = runs[0] / ROBUSTNESS_FILE
    document = json.loads(path.read_text())
    del document["attacks"]["clean_acc"]
    path.write_text(json.dumps(document))
    reader = Reader()
    kdcam.evaluate_robustness(runs[:1], settings=SMALL, device="cpu", progress=reader)
    assert any("its attacks are not as kdcam writes them" in text for text in reader.messages)
    assert "clean_acc" in json.loads(path.read_text())["attacks"]
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"robustness\.json, line \d+: is no JSON.*remove it"):
        kdcam.evaluate_robustness(runs[:1], settings=SMALL, device="cpu")
    path.unlink()


def test_two_evaluations_do_not_write_to_one_run(runs: list[Path]) -> None:
    lock = FolderLock(runs[0])
    with pytest.raises(FolderInUseError, match=r"another process.*wait until it ends$"):
        kdcam.evaluate_robustness(runs[:1], settings=SMALL, device="cpu")
    lock.release()
    (runs[0] / ".robustness.json.aside-00").write_bytes(b"")  # as a killed process leaves it
    kdcam.evaluate_robustness(runs[:1], settings=SMALL, device="cpu")
    assert not (runs[0] / ".robustness.json.aside-00").exists()


def test_a_folder_that_cannot_be_written_is_read(runs: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "clean"
    shutil.copytree(runs[0], copy)
    (before,) = kdcam.evaluate_robustness([copy], settings=SMALL, device="cpu")
    (copy / ".lock").unlink()
    (
        copy / ".lock"
    ).mkdir()  # stands for a folder without write permission, which some users have all the same
    assert kdcam.evaluate_robustness([copy], settings=SMALL, device="cpu", draw=True) == [before]
    reader = Reader()
    with pytest.raises(CheckpointError, match=r"clean: cannot be written .*copy the run to a folder"):
        kdcam.evaluate_robustness([copy], settings={**SMALL, "n_examples": 6}, device="cpu", progress=reader)
    assert reader.done == []


def test_a_large_budget_does_not_silence_the_checks_of_a_small_one(runs: list[Path]) -> None:
    settings = {"attacks": ["fgsm"], "eps": "1/255,0.9", "n_examples": 40}
    (found,) = kdcam.evaluate_robustness(runs[:1], settings=settings, device="cpu")
    assert isinstance(found.attacks, RobustnessReport)
    assert [point.worst_case_acc < 0.05 for point in found.attacks.curve] == [False, True]
    checks = {check.name: check for check in found.checks}
    assert checks["falls_with_steps"].eps == pytest.approx(1 / 255)
    document = json.loads((runs[0] / ROBUSTNESS_FILE).read_text())
    assert {check["name"]: check["eps"] for check in document["checks"]}["black_box"] == pytest.approx(
        1 / 255
    )


def test_few_images_are_drawn_from_all_classes(runs: list[Path]) -> None:
    (found,) = kdcam.evaluate_robustness(
        runs[:1],
        settings={**SMALL, "corruptions": ["jpeg"], "severities": [1]},
        device="cpu",
    )
    assert isinstance(found.attacks, RobustnessReport)
    assert found.corruptions is not None
    said = "5 images of the part, one of each of 5 drawn from its 10 classes"
    assert found.attacks.subset == found.corruptions.report.subset == said
    assert found.corruptions.report.clean_acc == found.attacks.clean_acc


def test_the_last_run_is_held_against_the_source_before_the_first_is_attacked(
    runs: list[Path], tmp_path: Path
) -> None:
    larger = kdcam.train(
        small_recipe(epochs=1, batch_size=32, data={"name": "digits", "image_size": 20}),
        output=tmp_path / "larger",
        device="cpu",
    ).path
    for key, asked in (("source", SMALL), ("base", {**SMALL, "corruptions": ["jpeg"]})):
        reader = Reader()
        with pytest.raises(DataError, match=rf"{key} .*clean: pixels a side"):
            kdcam.evaluate_robustness(
                [runs[0], larger], settings={**asked, key: runs[0]}, device="cpu", progress=reader
            )
        assert not {"clean", "fgsm"} & {task for task, *_ in reader.done}


def test_a_lost_point_at_zero_is_a_warning(runs: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "clean"
    shutil.copytree(runs[0], copy)
    result = json.loads((copy / "result.json").read_text())
    del result["selection"]
    (copy / "result.json").write_text(json.dumps(result))
    watcher = Watcher()
    clean, noisy = kdcam.evaluate_robustness([copy, runs[1]], settings=SMALL, device="cpu", progress=watcher)
    assert (clean.label_noise, noisy.label_noise is None) == (None, False)
    assert any("is left out beside the runs with label noise" in text for text in watcher.warnings)


def test_pictures(runs: list[Path], tmp_path: Path) -> None:
    settings = {
        "attacks": ["fgsm"],
        "eps": "0,4/255,8/255",
        "n_examples": 6,
        "corruptions": ["jpeg"],
        "calibration": True,
    }
    kdcam.evaluate_robustness(runs, settings=settings, device="cpu", draw=True, figures=tmp_path / "joint")
    assert {path.name for path in (runs[1] / "figures").iterdir()} == {
        "adversarial.png",
        "corruptions.png",
        "label-noise.png",
        "reliability.png",
        "robustness-eps.png",
    }
    assert {path.name for path in (tmp_path / "joint").iterdir()} == {
        "corruptions.png",
        "label-noise.png",
        "noise-rates.png",
        "robustness-eps.png",
    }
    for path in [*(runs[1] / "figures").iterdir(), *(tmp_path / "joint").iterdir()]:
        with Image.open(path) as picture:
            assert min(picture.size) > 100


def run_of_several_labels(path: Path) -> Path:
    recipe = small_recipe(
        epochs=1,
        task="multi-label",
        data={**SCENES, "multi_label": True},
        loss=[{"name": "binary_cross_entropy"}],
    )
    return kdcam.train(recipe, output=path, device="cpu").path


def test_several_labels_an_image(tmp_path: Path) -> None:
    run = run_of_several_labels(tmp_path / "labels")
    (found,) = kdcam.evaluate_robustness([run], settings={"n_examples": 12}, batch_size=5, device="cpu")
    assert isinstance(found.attacks, MultiLabelRobustnessReport)
    assert found.memorisation is None
    assert found.attacks.images == 12
    kept = json.loads((run / ROBUSTNESS_FILE).read_text())["attacks"]
    assert kept["task"] == "multi-label"
    assert kept["worst_case_label_acc"] <= kept["clean"]["label_acc"]
    assert [row["attack"] for row in kept["rows"]] == ["fgsm", "pgd-10"]


def test_batch_size_changes_nothing(runs: list[Path]) -> None:
    one, other = (
        kdcam.evaluate_robustness(runs[:1], settings={"n_examples": 10}, batch_size=size, device="cpu")[
            0
        ].attacks
        for size in (3, 10)
    )
    assert one == other


def test_what_is_wrong_is_said_before_any_work(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"pgdd.*did you mean 'pgd'"):
        kdcam.evaluate_robustness(runs, settings={"attacks": ("pgdd",)})
    with pytest.raises(CheckpointError, match=r"recipe\.json"):
        kdcam.evaluate_robustness([tmp_path])
    with pytest.raises(RecipeError, match=r"source: does nothing for standard"):
        kdcam.evaluate_robustness(runs, settings={"attacks": ["standard"], "source": runs[0]})
    with pytest.raises(RecipeError, match=r"ood: found 'digitz'"):
        kdcam.evaluate_robustness(runs, settings={"ood": "digitz"}, device="cpu")
    with pytest.raises(
        RecipeError, match=r"attacks: none leaves nothing to do, since .*clean saw no label noise"
    ):
        kdcam.evaluate_robustness(runs[:1], settings={"attacks": ["none"]})
    with pytest.raises(DataError, match=r"corrupted set: .*nowhere is not there"):
        kdcam.evaluate_robustness(runs, settings={"corrupted_set": tmp_path / "nowhere"}, device="cpu")


def test_what_several_labels_cannot_have(tmp_path: Path) -> None:
    run = run_of_several_labels(tmp_path / "labels")
    with pytest.raises(
        RecipeError, match=r"calibration: needs one label an image.*leave calibration, ood out"
    ):
        kdcam.evaluate_robustness([run], settings={"calibration": True, "ood": "digits"})
    with pytest.raises(RecipeError, match=r"attacks: .*square"):
        kdcam.evaluate_robustness([run], settings={"attacks": ["square"]})
