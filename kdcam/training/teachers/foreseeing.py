"""What a run would keep of its teachers, told before anything is read."""

from kdcam.files.folders import teacher_cache_folder
from kdcam.training.preflight import CheckedRun
from kdcam.training.teachers.cache_entries import cached_views, megabytes_text, output_shapes, teacher_needs
from kdcam.training.teachers.cache_folder import array_bytes


def cache_forecast(checked: CheckedRun) -> str | None:
    """Return how large the caches of a run's teachers are when they are whole, and where; None without any.

    Of data whose number of images only reading tells, the size is that of one image.
    """
    recipe, summary = checked.recipe, checked.summary
    views = cached_views(recipe)
    if views is None:
        return None
    needs, images = teacher_needs(recipe), summary.train_images
    size = sum(
        array_bytes((views.per_image, 1 if images is None else images, *shape))
        for teacher in checked.teachers
        for group in output_shapes(teacher, needs, image_size=summary.image_size).values()
        for shape in group
    )
    folders = dict.fromkeys(str(teacher_cache_folder(config.cache_folder)) for config in recipe.teachers)
    of = "an image" if images is None else f"for {images:,} images"
    return f"{megabytes_text(size)} {of}, {views.per_image} views each, in {', '.join(folders)}"


__all__ = ["cache_forecast"]
