import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from scipy.special import rel_entr
from small_runs import SCENES, small_recipe

import kdcam
from kdcam.cam.maps import caam, map_similarity, target_cam
from kdcam.comparison.table.run_measures import read_run
from kdcam.comparison.teacher_agreement import compare_logits, is_measured, measure_agreement
from kdcam.errors import CheckpointError, DataError, ModelError
from kdcam.models.weights.safetensors_files import read_tensors_file
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.runs.run_files import AGREEMENT_FILE

SEVERAL = {
    "task": "multi-label",
    "data": {**SCENES, "multi_label": True},
    "loss": [{"name": "binary_cross_entropy"}],
}


def run_of(folder: Path, **changes: Any) -> Path:
    return kdcam.train(small_recipe(**{"epochs": 1, **changes}), output=folder, device="cpu").path


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("runs") / "student")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("runs") / "teacher", seed=1)


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder)
    return folder


def measured(run: Path, teacher: Path | str) -> dict[str, Any]:
    measure_agreement(run, TeacherConfig(checkpoint=str(teacher)), device="cpu")
    found: dict[str, Any] = json.loads((run / AGREEMENT_FILE).read_text())
    return found


def test_the_divergence_and_the_top_classes_of_hand_worked_logits() -> None:
    student = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    teacher = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    same, apart = compare_logits(student, teacher, task="single-label")
    # ln 2 less the entropy of (3/4, 1/4)
    assert apart[0].item() == pytest.approx(0.6931472 - 0.5623351, abs=1e-6)
    assert same.tolist() == [1.0, 0.0]  # of equal logits the first is taken


def test_the_divergence_is_scipys_relative_entropy() -> None:
    ours, theirs = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, single = compare_logits(ours, theirs, task="single-label")
    expected = rel_entr(theirs.softmax(1).numpy(), ours.softmax(1).numpy()).sum(1)
    assert single.tolist() == pytest.approx(expected.tolist())
    same, several = compare_logits(ours, theirs, task="multi-label")
    p, q = theirs.sigmoid().numpy(), ours.sigmoid().numpy()
    assert several.tolist() == pytest.approx((rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(1).tolist())
    assert same.tolist() == pytest.approx(((p > 0.5) == (q > 0.5)).mean(1).tolist())


@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_a_network_agrees_with_itself_however_sure_it_is(task: Any) -> None:
    logits = torch.tensor([[300.0, -300.0, 0.1]])
    same, apart = compare_logits(logits, logits, task=task)
    assert (same.item(), apart.item()) == (1.0, 0.0)
    _, opposed = compare_logits(-logits, logits, task=task)
    assert opposed.isfinite().all()
    assert opposed.item() > 100


def test_a_run_agrees_with_itself(student: Path, tmp_path: Path) -> None:
    found = measured(copied(student, tmp_path / "run"), student)
    assert found["top1"] == 1.0
    assert found["kl"] == 0.0
    assert found["cam_similarity"] == pytest.approx(1.0, abs=1e-5)
    assert -1 <= found["caam_cam_similarity"] < 1
    assert found["part"] == "test"


def test_the_numbers_are_those_of_all_test_images(student: Path, teacher: Path, tmp_path: Path) -> None:
    found = measured(copied(student, tmp_path / "run"), teacher)
    test = kdcam.runs.open_run.load_run(student, device="cpu")
    (batch,) = test.batches(test.part("test")).epoch(0)
    with torch.no_grad():
        ours, theirs = (kdcam.load(run).outputs(batch.images) for run in (student, teacher))
    assert len(batch.targets) == 20
    assert found["top1"] == (ours.logits.argmax(1) == theirs.logits.argmax(1)).double().mean().item()
    divergence = torch.nn.functional.kl_div(
        ours.logits.log_softmax(1), theirs.logits.log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert found["kl"] == pytest.approx(divergence.item(), rel=1e-4)
    assert ours.feature_map is not None
    assert theirs.feature_map is not None
    assert ours.weight is not None
    assert theirs.weight is not None
    their_cam = target_cam(theirs.feature_map, theirs.weight, batch.targets)
    our_cam = target_cam(ours.feature_map, ours.weight, batch.targets)
    for name, maps in (("cam_similarity", our_cam), ("caam_cam_similarity", caam(ours.feature_map))):
        assert found[name] == pytest.approx(map_similarity(maps, their_cam).mean().item(), abs=1e-5)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_network_that_gives_no_numbers_agrees_with_none(
    student: Path, teacher: Path, tmp_path: Path, role: str
) -> None:
    runs = {
        "student": copied(student, tmp_path / "student"),
        "teacher": copied(teacher, tmp_path / "teacher"),
    }
    path = runs[role] / "model.safetensors"
    tensors, metadata, _ = read_tensors_file(path)
    next(tensor for name, tensor in tensors.items() if name.endswith("fc.bias"))[3] = torch.inf
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(
        ModelError,
        match=rf"agreement with the teacher: {role}: the logits of 20 of 20 images are not finite",
    ):
        measured(runs["student"], runs["teacher"])


def test_the_table_reads_what_was_measured(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = copied(student, tmp_path / "run")
    found = measured(run, teacher)
    read = read_run(run)
    assert read.agreement is not None
    assert read.agreement.top1 == found["top1"]
    assert read.agreement.cam_similarity == found["cam_similarity"]
    assert read.agreed_with == str(teacher)


def test_it_is_measured_once(student: Path, teacher: Path, tmp_path: Path) -> None:
    run, config = copied(student, tmp_path / "run"), TeacherConfig(checkpoint=str(teacher))
    assert not is_measured(run, config)
    measured(run, teacher)
    assert is_measured(run, config)
    before = (run / AGREEMENT_FILE).stat()
    measured(run, teacher)
    after = (run / AGREEMENT_FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # How the teacher's outputs are kept changes nothing about it.
    assert is_measured(run, TeacherConfig(checkpoint=str(teacher), cache="views"))


def test_an_infinite_divergence_is_measured_once(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apart(ours: torch.Tensor, theirs: torch.Tensor, *, task: Any) -> tuple[torch.Tensor, torch.Tensor]:
        same, divergence = compare_logits(ours, theirs, task=task)
        return same, divergence + torch.inf

    monkeypatch.setattr("kdcam.comparison.teacher_agreement.compare_logits", apart)
    run = copied(student, tmp_path / "run")
    assert measured(run, teacher)["kl"] is None
    assert is_measured(run, TeacherConfig(checkpoint=str(teacher)))


@pytest.mark.parametrize("damage", ["{", "{}", "null"])
def test_a_damaged_file_is_measured_again(student: Path, teacher: Path, tmp_path: Path, damage: str) -> None:
    run = copied(student, tmp_path / "run")
    before = measured(run, teacher)
    (run / AGREEMENT_FILE).write_text(damage)
    assert measured(run, teacher) == before


def test_it_is_measured_again_where_the_teacher_or_the_student_is_another(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    run, place = copied(student, tmp_path / "run"), copied(teacher, tmp_path / "teacher")
    first = measured(run, place)
    (place / "model.safetensors").write_bytes((student / "model.safetensors").read_bytes())
    second = measured(run, place)
    assert first["top1"] != second["top1"] == 1.0
    (run / "model.safetensors").write_bytes((teacher / "model.safetensors").read_bytes())
    assert measured(run, place)["kl"] > 0


def test_what_was_measured_with_a_teacher_that_is_gone_stays(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    run, place = copied(student, tmp_path / "run"), copied(teacher, tmp_path / "teacher")
    before = measured(run, place)
    shutil.rmtree(place)
    assert measured(run, place) == before
    with pytest.raises(CheckpointError, match=r"elsewhere is not there"):
        measured(run, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_convnext", 64), ("test_resnet", 32)],
    ids=["a norm before the classifier", "a map of one position"],
)
def test_networks_without_an_exact_cam_have_no_similarity(name: str, size: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"data": {**SCENES, "image_size": size}, "loss": [{"name": "cross_entropy"}]}
    student = run_of(tmp_path / "student", **changes)
    found = measured(student, run_of(tmp_path / "teacher", **changes, model={"name": name}))
    assert found["cam_similarity"] is None
    assert found["caam_cam_similarity"] is None
    assert 0 <= found["top1"] <= 1


def test_a_teacher_that_cannot_read_the_images_is_told(student: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"data": {**SCENES, "image_size": 64}, "loss": [{"name": "cross_entropy"}]}
    teacher = run_of(tmp_path / "teacher", **changes, model={"name": "test_convnext"})
    with pytest.raises(ModelError, match=r"'test_convnext' cannot read images of 1 x 16 x 16"):
        measured(copied(student, tmp_path / "run"), teacher)


def test_several_labels_an_image(tmp_path: Path) -> None:
    student, teacher = (
        run_of(tmp_path / "student", **SEVERAL),
        run_of(tmp_path / "teacher", **SEVERAL, seed=1),
    )
    found = measured(student, teacher)
    assert 0 < found["top1"] <= 1
    assert found["kl"] > 0
    assert -1 <= found["cam_similarity"] <= 1
    itself = measured(copied(student, tmp_path / "copy"), student)
    assert itself["cam_similarity"] == pytest.approx(1.0, abs=1e-5)  # images without any label do not count


def test_a_teacher_of_other_classes_is_refused(student: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["kdcam"]["label_names"] = list(reversed(config["kdcam"]["label_names"]))
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"class 0 of .* is "):
        measured(copied(student, tmp_path / "run"), other)


def test_without_a_test_part_nothing_is_measured(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = copied(student, tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["images"]["test"] = 0
    (run / "result.json").write_text(json.dumps(result))
    config = TeacherConfig(checkpoint=str(teacher))
    assert is_measured(run, config)
    measure_agreement(run, config, device="cpu")
    assert not (run / AGREEMENT_FILE).exists()


def test_an_unfinished_run_is_refused(student: Path, tmp_path: Path) -> None:
    run = copied(student, tmp_path / "run")
    (run / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"result\.json: cannot be read"):
        measured(run, student)
