"""PAD-UFES-20 (Pacheco 2020, doi:10.17632/zr7vgbcyr2): clinical images, patients and lesions."""

from skin_gan.data.layout import Layout

LAYOUT = Layout(
    kind="pad_ufes_20",
    title="PAD-UFES-20",
    image=("img_id",),
    label=("diagnostic",),
    tells=(("img_id",), ("diagnostic",)),
)
