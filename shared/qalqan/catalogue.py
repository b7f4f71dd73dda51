"""Codes of capabilities and units: data, published with the contract (CONTRACT "Identifiers and forms").

Capabilities are the EU's modules and INSARAG's classes, and goods (DOMAIN "What comparable systems do").
"""

import re
from typing import Final

CAPABILITIES: Final[dict[str, str]] = {
    "HUSAR": "Heavy urban search and rescue",
    "MUSAR": "Medium urban search and rescue",
    "EMT1": "Emergency medical team, type 1",
    "EMT2": "Emergency medical team, type 2",
    "EMT3": "Emergency medical team, type 3",
    "FHOS": "Field hospital",
    "MEVAC": "Medical evacuation by air",
    "HCP": "High-capacity pumping",
    "WP": "Water purification",
    "FC": "Flood containment",
    "FRB": "Flood rescue by boats",
    "FFFH": "Aerial forest fire-fighting, helicopter",
    "FFFP": "Aerial forest fire-fighting, plane",
    "GFFF": "Ground forest fire-fighting",
    "GFFFV": "Ground forest fire-fighting with vehicles",
    "ETS": "Emergency temporary shelter",
    "CBRNDET": "CBRN detection and sampling",
    "USARCBRN": "Urban search and rescue in CBRN conditions",
    "TAST": "Technical assistance and support team",
    "tent": "Tents",
    "blanket": "Blankets",
    "heater": "Heaters",
    "generator": "Generators",
    "food": "Food",
    "water": "Water",
    "medicine": "Medicines",
    "other": "Something else, named in `text`",
}

UNITS: Final[frozenset[str]] = frozenset({"team", "person", "dog", "vehicle", "aircraft", "item", "kg", "t", "l", "m3"})
CURRENCY: Final = re.compile(r"[A-Z]{3}")
"""A currency's code stands for an amount of cash (ISO 4217 form)."""
