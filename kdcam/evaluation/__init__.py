"""What measures a trained network beyond its test score: robustness, few-shot, verification, localization."""
