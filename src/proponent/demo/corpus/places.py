"""Choices made by hand about countries: names, articles, and questions without one answer.

Country codes are ISO 3166 alpha-2, currency codes ISO 4217.
"""

from __future__ import annotations


def _codes(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Dependent, disputed, uninhabited or former territories: "the country of" such a place has no one answer.
NOT_COUNTRIES = _codes(
    "AI AN AQ AS AW AX BL BM BQ BV CC CK CS CW CX EH FK FO GF GG GI GL GP GS GU HK HM IM IO JE KY MF "
    "MO MP MQ MS NC NF NU PF PM PN PR PS RE SH SJ SX TC TF TK TW UM VA VG VI WF XK YT"
)

WITH_ARTICLE = _codes("AE BS CD CF CG DO GB GM KM MH MV NL PH SB SC US")

# Countries left out of a relation: several answers, a contested one, or one that changed recently.
# The languages of Turkey and the Koreas are left out because they are part of their currencies' names.
NO_ONE_ANSWER = {
    "capital": _codes("BJ BO CI CL GQ IL KZ LK ME MM MY NL NR TZ ZA"),
    "continent": _codes("AM AZ CY EG GE ID KZ PA RU TL TR TT YE"),
    "currency": _codes("BG BN BT CU HT LR LS NA PA SV SZ VE ZW"),
    "language": _codes("AM AU BF BI BO DZ FJ GQ IN IQ KP KR LS MA ML MU NE NZ PE PG PY SD TR TZ UG"),
    "internet domain": _codes("US"),
    "calling code": _codes(""),
}

CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}

# Where a sentence would not use the package's name of a currency.
CURRENCY_NAMES = {
    "AED": "Emirati dirham",
    "AZN": "Azerbaijani manat",
    "BAM": "convertible mark",
    "BBD": "Barbadian dollar",
    "BIF": "Burundian franc",
    "BZD": "Belizean dollar",
    "CNY": "renminbi",
    "CVE": "Cape Verdean escudo",
    "FJD": "Fijian dollar",
    "GBP": "pound sterling",
    "GHS": "Ghanaian cedi",
    "GYD": "Guyanese dollar",
    "ILS": "new shekel",
    "ISK": "Icelandic krona",
    "KRW": "South Korean won",
    "LKR": "Sri Lankan rupee",
    "MUR": "Mauritian rupee",
    "MWK": "Malawian kwacha",
    "MZN": "Mozambican metical",
    "NIO": "Nicaraguan cordoba",
    "OMR": "Omani rial",
    "PKR": "Pakistani rupee",
    "RWF": "Rwandan franc",
    "SCR": "Seychellois rupee",
    "SRD": "Surinamese dollar",
    "TMT": "Turkmen manat",
    "UGX": "Ugandan shilling",
    "UYU": "Uruguayan peso",
    "UZS": "Uzbek sum",
    "XAF": "Central African CFA franc",
    "XOF": "West African CFA franc",
}
