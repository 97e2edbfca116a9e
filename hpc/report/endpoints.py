"""The endpoints of a sweep with their results, in the order in which they are tested. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.report.tables import Tables
from hpc.report.wording import gain, span
from hpc.state.endpoints import BY_LESION
from skin_gan.ablation.power import power_of


@dataclass(frozen=True)
class EndpointRow:
    """One endpoint: what was fixed, and what came out."""

    name: str
    lesions: int  # in test, as expected when it was written
    fixed: str  # when, and whether before its test
    power: str  # the gain that can be found
    gain: str  # "" while it is not tested
    p: str  # its own p value, and the adjusted one
    verdict: str


def endpoint_rows(found: Tables, written: Sequence[Mapping[str, Any]]) -> list[EndpointRow]:
    """A row for each endpoint in endpoints.json."""
    rows = []
    for e in written:
        row = found.headline if e["name"] == BY_LESION else found.endpoint(e["name"])
        when = f"{e['date']}, {'before' if e['before_testing'] else 'after'} it was tested"
        tested = f"{gain(row.gain)} {span(row.low, row.high)}" if row else ""
        p = f"{row.p:.3f}, adjusted {row.p_adjusted:.3f}" if row else ""
        word, power = row.verdict if row else "not tested yet", power_of(e["lesions"]).sentence
        rows.append(EndpointRow(e["name"], sum(e["lesions"].values()), when, power, tested, p, word))
    return rows


def late(written: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence if an endpoint was not fixed beforehand."""
    names = [e["name"] for e in written if not e["before_testing"]]
    if not names:
        return []
    return [
        f"{', '.join(names).capitalize()}: what is compared was written down or changed after test "
        "predictions had been made (endpoints.json), so its verdict explores and confirms nothing."
    ]
