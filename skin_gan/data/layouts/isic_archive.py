"""The ISIC Archive as `isic image download` and its web page give it: images and metadata.csv."""

from skin_gan.data.layout import Layout

LABELS = (
    "diagnosis", "diagnosis_3", "diagnosis_2", "diagnosis_1", "diagnosis_4", "diagnosis_5",
    "benign_malignant", "target",
)  # fmt: skip

LAYOUT = Layout(
    kind="isic_archive",
    title="ISIC Archive (isic-cli)",
    image=("isic_id",),
    label=LABELS,
    tells=(("isic_id",), LABELS),
    values={"0": "benign", "1": "malignant"},  # of the column target, 2024
)
