import json
from pathlib import Path

import pytest

FEW = ("--n-examples", "20")


def test_a_row_an_attack_and_a_column_a_run(kdcam, digits_run: Path) -> None:
    found = kdcam("evaluate-robustness", digits_run, digits_run, *FEW)
    assert found.code == 0, found.err
    accuracy, passes, checks, _ = found.out.split("\n\n")
    rows = {line.split()[0]: line for line in accuracy.splitlines()[1:]}
    assert rows["clean"].count("%") == 2
    assert "linf eps 8/255" in rows["fgsm"]
    assert rows["pgd-10"].count("%") == 2
    assert "each image" in rows["worst"]
    assert passes.splitlines()[0] == "passes an image attacked: forward + backward"
    assert next(line for line in passes.splitlines() if "fgsm" in line).count("1.0 + 1.0") == 2
    assert [line.split()[0] for line in checks.splitlines()[3:]][:2] == ["zero_gradients", "falls_with_eps"]
    assert "first 20 images" in found.out
    assert (digits_run / "robustness.json").exists()
    assert (digits_run / "figures" / "adversarial.png").exists()


def test_flags_reach_the_attacks(kdcam, digits_run: Path) -> None:
    found = kdcam(
        "evaluate-robustness",
        digits_run,
        *FEW,
        "--attacks",
        "bim, pgd-3",
        "--norm",
        "L2",
        "--eps",
        "1/2",
        "--alpha",
        "0.1",
        "--restarts",
        "2",
        "--seed",
        "5",
        "--weights",
        "last",
        "--json",
    )
    (document,) = json.loads(found.out)
    bim, pgd = (row["settings"] for row in document["attacks"]["rows"])
    assert (bim["norm"], bim["eps"], bim["alpha"], bim["steps"]) == ("l2", 0.5, 0.1, 10)
    assert (pgd["steps"], pgd["restarts"], pgd["seed"]) == (3, 2, 5)
    assert document["attacks"]["images"] == 20
    assert [check["name"] for check in document["checks"]][:2] == ["zero_gradients", "falls_with_eps"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attacks", "fgsn"], "did you mean 'fgsm'"),
        (["--eps", "eight"], "eps"),
        (["--eps", "-1"], "eps"),
        (["--norm", "l1"], "norm"),
        (["--attacks", "fgsm", "--restarts", "3"], "restarts"),
        (["--n-examples", "0"], "n_examples"),
        (["--eps", "0"], "at least one above 0"),
        (["--corruptions", "jpg"], "did you mean 'jpeg'"),
        (["--corruptions", "jpeg", "--severities", "6"], "severities"),
        (["--severities", "1..3"], "does nothing without corruptions"),
        (["--source", "nowhere"], "nowhere"),
        (["--attacks", "none", "--ood", "digitz"], "did you mean 'digits'"),
    ],
)
def test_wrong_settings(kdcam, digits_run: Path, arguments: list[str], said: str) -> None:
    found = kdcam("evaluate-robustness", digits_run, *arguments)
    assert found.code == 1
    assert said in found.err
    assert found.out == ""


def test_every_section_has_its_table(kdcam, digits_run: Path, tmp_path: Path) -> None:
    arguments = (
        "evaluate-robustness",
        digits_run,
        digits_run,
        *FEW,
        *("--attacks", "fgsm,pgd-2", "--eps", "0,2/255,8/255", "--source", digits_run),
        *("--corruptions", "jpeg,fog", "--severities", "1,5", "--base", digits_run),
        *("--calibration", "--ood", "digits", "--figures", tmp_path / "together"),
    )
    found = kdcam(*arguments)
    assert found.code == 0, found.err
    titles = [block.splitlines()[0] for block in found.out.split("\n\n")]
    assert titles[:3] == [
        "accuracy",
        "passes an image attacked: forward + backward",
        "can the attacks be believed?",
    ]
    assert titles[3].startswith("kdcam's corruptions: error")
    assert titles[4:7] == [
        f"errors as multiples of those of {digits_run}",
        "calibration, test part",
        "images of digits",
    ]
    assert found.out.count("each image, eps 2/255") == found.out.count("each image, eps 8/255") == 1
    assert f"fgsm from {digits_run}" in found.out
    (mean,) = [line for line in found.out.splitlines() if line.split()[:2] == ["mean", "1.000"]]
    assert mean.split() == ["mean", "1.000", "1.000"]
    # The same images are not told apart.
    assert next(line for line in found.out.splitlines() if "energy" in line).split()[-2:] == ["0.5000"] * 2
    assert (tmp_path / "together" / "robustness-eps.png").exists()
    again = kdcam(*arguments)
    assert again.out == found.out
    assert again.err.count("evaluated just so before") == 2


def test_standard_shows_what_each_stage_left(kdcam, digits_run: Path) -> None:
    found = kdcam(
        "evaluate-robustness",
        digits_run,
        *("--n-examples", "3", "--attacks", "standard", "--eps", "0.5", "--no-checks", "--no-pictures"),
    )
    assert found.code == 0, found.err
    stages = [line.split() for line in found.out.splitlines() if line.strip().startswith("after ")]
    assert [words[1] for words in stages] == ["apgd-ce-100", "apgd-t-100", "square-5000"]
    assert "believed" not in found.out


def test_failed_checks_are_a_warning(module, digits_run: Path) -> None:
    import kdcam as library
    from kdcam.evaluation.robustness.gradient_masking_check import MaskingCheck

    (run,) = library.evaluate_robustness([digits_run], settings={"n_examples": 20}, device="cpu")
    failing = MaskingCheck(name="zero_gradients", passed=False, value=1.0, limit=0.01, text="share of images")
    masked = run.model_copy(update={"checks": (failing,)})
    tables = module("robustness_tables")
    (line,) = tables.warnings([masked])
    assert line.startswith(
        f"WARNING: {digits_run}: check zero_gradients failed (share of images: 1, limit 0.01)"
    )
    assert line.endswith("this number may be gradient masking")
    assert tables.check_table([masked]).rows == [("zero_gradients", "1 (limit 0.01) FAILED")]
    accuracy = tables.attack_tables([masked])[0]
    assert accuracy.rows[-1] == ("warning", "", "this number may be gradient masking")
    assert tables.attack_tables([run])[0].rows == accuracy.rows[:-1]
    assert masked.to_json()["warning"] == "this number may be gradient masking"


def test_memorisation_of_wrong_labels(kdcam, tmp_path: Path) -> None:
    import kdcam as library

    recipe = library.load_recipe("digits", ["epochs=1", "data.noise.rate=0.4"])
    noisy = library.train(recipe, output=tmp_path / "noisy").path
    found = kdcam("evaluate-robustness", noisy, *FEW, "--attacks", "fgsm")
    assert found.code == 0, found.err
    assert "wrong labels memorised" in found.out
    assert "wrong labels found by their loss (AUROC)" in found.out
    assert (noisy / "figures" / "label-noise.png").exists()


def test_several_labels_have_a_table_a_score(kdcam, labels_run: Path, digits_run: Path) -> None:
    found = kdcam("evaluate-robustness", labels_run, labels_run, digits_run, *FEW)
    assert found.code == 0, found.err
    titles = ("accuracy", "label accuracy (", "mean average precision", "exact accuracy (")
    assert [sum(line.startswith(title) for line in found.out.splitlines()) for title in titles] == [1] * 4
    lines = [line for line in found.out.splitlines() if line.strip().startswith("clean")]
    assert [line.count("%") for line in lines] == [1, 2, 2, 2]
    assert found.out.count("worst case   each decision") == 1
    assert found.out.count("worst case   each image") == 2  # none for mean average precision
    assert found.out.count("all 20 images of the part") == 2
    assert found.out.count("first 20 images of the part") == 1
