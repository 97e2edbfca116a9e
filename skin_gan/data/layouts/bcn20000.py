"""BCN20000 (Hernandez-Perez 2024, doi:10.1038/s41597-024-03387-w) as it is released."""

from skin_gan.data.layout import Layout

LAYOUT = Layout(
    kind="bcn20000",
    title="BCN20000",
    image=("bcn_filename", "isic_id"),
    label=("diagnosis",),
    tells=(("bcn_filename",), ("diagnosis",)),
)
