"""What the two published works report, on their own photos; only what they state is here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFigure:
    """One figure of a published work.

    Attributes:
        model: The model; the work's cascade is called as ours is.
        study: Short name of the work.
        accuracy_percent: Accuracy on its own test photos, where stated.
        f1_percent: F1 of the damaged class on the same, where stated.
    """

    model: str
    study: str
    accuracy_percent: float | None = None
    f1_percent: float | None = None


BACKBONE_STUDY = "Backbone study (EfficientNet, Xception, ResNet; 541 damaged, 625 sound)"
CASCADE_STUDY = "Gokak et al. 2025, doi:10.5220/0013633700004664"
PUBLISHED = (
    PublishedFigure("Best of three", BACKBONE_STUDY, f1_percent=94.0),
    PublishedFigure("MobileNetV3", CASCADE_STUDY, accuracy_percent=91.5),
    PublishedFigure("MobileNetV3 → ResNet", CASCADE_STUDY, accuracy_percent=92.7),
)
