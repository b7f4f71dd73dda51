"""Codes of capabilities and units: data, published with the contract (CONTRACT "Identifiers and forms").

Capabilities are the EU's modules and INSARAG's classes, and goods (DOMAIN "What comparable systems do").
"""

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
CURRENCIES: Final[frozenset[str]] = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW
    CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL
    HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA
    MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD
    RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD
    USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XDR XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a table of codes is read as a table
)
"""Active codes of ISO 4217 (list one); as a unit, one stands for an amount of cash."""
