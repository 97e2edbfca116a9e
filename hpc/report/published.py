"""report/published.csv: a published setting as it was run here, beside its published numbers. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc.report.comparisons import ArmRow, Scope
from skin_gan.ablation.arms import PUBLISHED, Published


@dataclass(frozen=True)
class PublishedRow:
    """One measure of a classifier on real images alone, a share 0..1, split by image as is published."""

    classifier: str
    measure: str
    published: float
    value: float
    low: float
    high: float
    seeds: int
    train_images: int
    test_images: int
    epochs: float
    published_train_images: int
    published_epochs: int
    source: str

    @property
    def differs(self) -> str:
        """What is not as it was published, in one sentence."""
        trainings = "one training" if self.seeds == 1 else f"{self.seeds} trainings"
        return (
            f"Here {trainings} on {self.train_images} images for {self.epochs:.3g} epochs, the last state "
            f"taken; published: {self.published_train_images} images, {self.published_epochs} epochs, the "
            f"best state on validation images. Both splits are random: the {self.test_images} test images "
            "here are not those."
        )


def published_rows(of: Scope, rows: Sequence[ArmRow], arm: str) -> list[PublishedRow]:
    """`arm` of the split by image, of a classifier that has published results; none of any other."""
    known = PUBLISHED.get(of.classifier)
    if known is None or arm not in of.arms:
        return []
    mine = {row.measure: row for row in rows if row.arm == arm}
    return [_row(of, known, mine[measure], arm) for measure in known.results if measure in mine]


def _row(of: Scope, known: Published, row: ArmRow, arm: str) -> PublishedRow:
    record = next(iter(of.arms[arm].values())).record["folds"][0]
    images = sum(record["real"].values())
    settings = record["classifier"]
    return PublishedRow(
        classifier=of.classifier,
        measure=row.measure,
        published=known.results[row.measure],
        value=row.value,
        low=row.low,
        high=row.high,
        seeds=len(of.arms[arm]),
        train_images=images,
        test_images=row.images,
        epochs=settings["steps"] * settings["batch"] / images,
        published_train_images=known.train_images,
        published_epochs=known.epochs,
        source=known.source,
    )
