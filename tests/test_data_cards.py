"""Does every data card say what a reader needs? Header against a schema, datasheet headings.

The headings are those of Gebru et al. 2021, Datasheets for datasets; the header is that of
Hugging Face dataset cards.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

CARDS = sorted((Path(__file__).resolve().parents[1] / "data_cards").glob("*.md"))
HEADINGS = (
    "Motivation",
    "Composition",
    "Collection process",
    "Preprocessing, cleaning and labeling",
    "Uses",
    "Distribution",
    "Maintenance",
    "Measured facts",
)
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M"}
LICENCES = {
    "apache-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit", "other",
}  # fmt: skip
TASKS = {"image-segmentation", "image-classification", "image-to-image"}
ANNOTATORS = {"expert-generated", "machine-generated", "found", "no-annotation", "other"}
SOURCES = {"original", "extended"}
TEXT_KEYS = {"pretty_name": None, "license": LICENCES}
LIST_KEYS = {
    "language": {"en"},
    "task_categories": TASKS,
    "task_ids": None,
    "size_categories": SIZES,
    "annotations_creators": ANNOTATORS,
    "source_datasets": SOURCES,
    "tags": None,
}


def faults(card: str) -> list[str]:
    """What is wrong with a card, in words; empty when nothing is."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", card, flags=re.DOTALL)
    if match is None:
        return ["no YAML header"]
    header, body = yaml.safe_load(match[1]), match[2]
    if not isinstance(header, dict):
        return ["the YAML header is not a mapping"]
    found = [f"unknown key {key}" for key in header.keys() - TEXT_KEYS.keys() - LIST_KEYS.keys()]
    for key, allowed in TEXT_KEYS.items():
        value = header.get(key)
        if not isinstance(value, str) or not value or (allowed and value not in allowed):
            found.append(f"{key}: {value!r}")
    for key, allowed in LIST_KEYS.items():
        values = header.get(key)
        if not isinstance(values, list) or not values:
            found.append(f"{key}: {values!r}")
        else:
            found += [
                f"{key}: {value!r}"
                for value in values
                if not isinstance(value, str) or (allowed and value not in allowed)
            ]
    sections = re.split(r"^## (.+)$", body, flags=re.MULTILINE)
    text = dict(zip(sections[1::2], sections[2::2], strict=True))
    found += [f"no section {name}" for name in HEADINGS if not text.get(name, "").strip()]
    found += [f"machine path {path}" for path in re.findall(r"(?<!\S)/(?:work|tmp|home)/\S*", card)]
    return found


def test_there_are_cards():
    assert {"phantom", "soft_tissue_sarcoma_pet"} <= {card.stem for card in CARDS}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_card_is_complete(card: Path):
    assert faults(card.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("## Uses", "## Abuses", "no section Uses"),
        ("license: apache-2.0", "license: mine", "license: 'mine'"),
        ("pretty_name", "prettyname", "pretty_name: None"),
        ("  - n<1K", "  - 7", "size_categories: 7"),
        ("---\n", "", "no YAML header"),
    ],
)
def test_a_damaged_card_fails(old: str, new: str, fault: str):
    whole = next(card for card in CARDS if card.stem == "phantom").read_text(encoding="utf-8")
    assert old in whole
    assert fault in faults(whole.replace(old, new, 1))


def test_sarcoma_card_credits_its_sources():
    card = next(c for c in CARDS if c.stem == "soft_tissue_sarcoma_pet").read_text(encoding="utf-8")
    for needed in (
        "10.7937/K9/TCIA.2015.7GO2GSKS",
        "10.1088/0031-9155/60/14/5471",
        "10.1007/s10278-013-9622-7",
        "CC BY 3.0",
        "theibsi/data_sets",
    ):
        assert needed in card
