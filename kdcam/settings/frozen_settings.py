"""The frozen, closed pydantic model that every group of settings derives from, and common number types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """A group of settings: frozen, refuses unknown keys, its defaults live in its fields and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


__all__ = ["NonNegative", "Positive", "Settings"]
