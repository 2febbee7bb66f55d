from kdcam.scores.main_scores import score_text


def test_scores() -> None:
    assert [score_text("acc1", 0.5), score_text("nll", 0.5), score_text("ece", None)] == [
        "50.00%",
        "0.5000",
        "-",
    ]


def test_the_largest_calibration_error_is_a_share() -> None:
    assert score_text("mce", 0.25) == "25.00%"
