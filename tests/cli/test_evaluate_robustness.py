import json
from pathlib import Path

import pytest

FEW = ("--n-examples", "20")


def test_a_row_an_attack_and_a_column_a_run(kdcam, digits_run: Path) -> None:
    found = kdcam("evaluate-robustness", digits_run, digits_run, *FEW)
    assert found.code == 0, found.err
    rows = {line.split()[0]: line for line in found.out.splitlines() if line.strip()}
    assert rows["clean"].count("%") == 2
    assert "linf eps 8/255" in rows["fgsm"]
    assert "pgd-10" in rows
    assert "worst" in rows
    assert "first 20 images" in found.out
    assert (digits_run / "robustness.json").exists()


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
    bim, pgd = (row["settings"] for row in document["rows"])
    assert (bim["norm"], bim["eps"], bim["alpha"], bim["steps"]) == ("l2", 0.5, 0.1, 10)
    assert (pgd["steps"], pgd["restarts"], pgd["seed"]) == (3, 2, 5)
    assert document["images"] == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attacks", "fgsn"], "did you mean 'fgsm'"),
        (["--eps", "eight"], "eps"),
        (["--eps", "-1"], "eps"),
        (["--norm", "l1"], "norm"),
        (["--attacks", "fgsm", "--restarts", "3"], "restarts"),
        (["--n-examples", "0"], "n_examples"),
    ],
)
def test_wrong_settings(kdcam, digits_run: Path, arguments: list[str], said: str) -> None:
    found = kdcam("evaluate-robustness", digits_run, *arguments)
    assert found.code == 1
    assert said in found.err
    assert found.out == ""


def test_memorisation_of_wrong_labels(kdcam, tmp_path: Path) -> None:
    import kdcam as library

    recipe = library.load_recipe("digits", ["epochs=1", "data.noise.rate=0.4"])
    noisy = library.train(recipe, output=tmp_path / "noisy").path
    found = kdcam("evaluate-robustness", noisy, *FEW, "--attacks", "fgsm")
    assert found.code == 0, found.err
    assert "wrong labels memorised" in found.out


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


def test_amounts_are_told_in_grey_levels(module) -> None:
    amount_text = module("evaluate_robustness").amount_text
    assert amount_text(8 / 255) == "8/255"
    assert amount_text(0.5) == "0.5"
