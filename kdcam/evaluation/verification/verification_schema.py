"""What a verification does; no torch is imported here."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from kdcam.settings.frozen_settings import Settings
from kdcam.settings.setting_names import settings_error


class VerificationSettings(Settings):
    """Folds, thresholds and rates; the defaults follow insightface (recognition/arcface_torch/eval/verification.py)."""

    folds: int | None = Field(
        None, ge=2, description="contiguous blocks of the pairs' order; none: the file's own folds, else 10"
    )
    flip: bool = Field(True, description="add the mirrored picture's embedding before it is normalised")
    thresholds: Literal["grid", "midpoints"] = Field(
        "grid",
        description="grid: squared distances 0, 0.01 ... 3.99, for rates by 0.001; midpoints: all between neighbouring "
        "distances of the other folds",
    )
    far: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (1e-3, 1e-2),
        description="false accept rates at which the share of accepted pairs of one person is told",
    )
    allow_seen: bool = Field(False, description="also where a run was trained on people of the pairs")

    @field_validator("far")
    @classmethod
    def _no_repeats(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(rates)) < len(rates):
            raise ValueError("a rate stands there more than once; name each once")
        return rates


def verification_settings(keys: Mapping[str, Any]) -> VerificationSettings:
    """Return the settings that ``keys`` change; ``RecipeError`` names what is wrong with them."""
    try:
        return VerificationSettings.model_validate(dict(keys))
    except ValidationError as error:
        raise settings_error(error, VerificationSettings, command="verify") from None


__all__ = ["VerificationSettings", "verification_settings"]
