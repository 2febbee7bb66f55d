import json
from pathlib import Path

import pytest
from made_up_runs import MACHINE, VERSIONS, write_run
from small_runs import small_recipe

import kdcam
from kdcam.comparison.table.run_measures import AgreementScores, PartScores, read_run
from kdcam.errors import CheckpointError
from kdcam.files.json_files import write_json


def test_all_of_a_run_is_read(tmp_path: Path) -> None:
    found = read_run(write_run(tmp_path / "run", curve=[0.6, 0.4, 0.5]))
    assert found.selected == PartScores(validation=0.6, test=0.8)
    assert found.last == PartScores(validation=0.5, test=0.7)
    assert found.curve == (0.6, 0.4, 0.5)
    assert found.best_epoch == 1
    assert found.images_per_second == 200.0
    assert found.seconds == 4.5
    assert found.parameters == 77
    assert found.agreement is None
    assert found.agreed_with is None
    assert (found.machine, found.versions) == (MACHINE, VERSIONS)


def test_of_several_labels_the_mean_average_precision_counts(tmp_path: Path) -> None:
    found = read_run(write_run(tmp_path / "run", curve=[0.6, 0.4], task="multi-label", test=False))
    assert found.selected == PartScores(validation=0.6, test=None)
    assert found.curve == (0.6, 0.4)


def test_agreement_is_read_with_its_teacher(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", curve=[0.6])
    agreement = {"top1": 0.9, "kl": 0.1, "cam_similarity": None, "caam_cam_similarity": None}
    (run / "agreement.json").write_text(
        json.dumps({**agreement, "teacher": {"checkpoint": "runs/teacher"}, "student": "1"})
    )
    found = read_run(run)
    assert found.agreement == AgreementScores(0.9, 0.1, None, None)
    assert found.agreed_with == "runs/teacher"


def test_a_divergence_that_is_no_number_is_known_to_be_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", curve=[0.6])
    known = {"top1": 0.9, "kl": None, "cam_similarity": None, "caam_cam_similarity": None}
    write_json(run / "agreement.json", {**known, "teacher": {"checkpoint": "runs/teacher"}, "student": "1"})
    assert read_run(run).agreement == AgreementScores(0.9, None, None, None)


@pytest.mark.parametrize("content", ['{"top1": 1}', '{"top1', "[]"])
def test_a_damaged_agreement_is_none(tmp_path: Path, content: str) -> None:
    run = write_run(tmp_path / "run", curve=[0.6])
    (run / "agreement.json").write_text(content)
    assert read_run(run).agreement is None


def test_a_real_run_without_validation_has_no_curve(tmp_path: Path) -> None:
    recipe = small_recipe(
        epochs=1, select="last", data={"name": "digit-scenes", "image_size": 16, "train_size": 32, "test_size": 8,
                                       "validation": 0.0}
    )  # fmt: skip
    done = kdcam.train(recipe, output=tmp_path / "run")
    found = read_run(done.path)
    assert found.curve == ()
    assert found.selected.validation is None
    assert found.selected.test == done.result["selected"]["test"]["acc1"]
    assert found.images_per_second > 0
    assert found.machine["device"] == "cpu"


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no finished run"):
        read_run(tmp_path / "nothing")
    run = write_run(tmp_path / "run", curve=[0.5])
    (run / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no finished run"):
        read_run(run)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", "{}"),
        ("result.json", '{"selected": []}'),
        ("recipe.json", "{}"),
        ("metrics.jsonl", ""),
        ("metrics.jsonl", '{"epoch": 1}\n'),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path: Path, file: str, content: str) -> None:
    run = write_run(tmp_path / "run", curve=[0.5])
    (run / file).write_text(content)
    with pytest.raises(CheckpointError, match=r"lack something or have another layout"):
        read_run(run)
