"""Invented people, times and small events, for sentences that state no fact."""

from __future__ import annotations

WHO = (
    "a retired teacher",
    "a travel writer",
    "a young lawyer",
    "an old sailor",
    "a film crew",
    "a group of doctors",
    "a choir of forty voices",
    "a bored accountant",
    "a radio reporter",
    "the new librarian",
    "two students",
    "three cousins",
)

WHEN = (
    "last spring",
    "in March",
    "two years ago",
    "on a rainy Monday",
    "during the holidays",
    "late in the autumn",
    "one quiet weekend",
    "shortly before midnight",
    "at the end of the term",
    "for the third time",
)

# Sentences that mention a subject in another context; by the kind of entity in its uri.
ASIDES = {
    "country": (
        "{who} came back from {s} {when} with a suitcase full of books.",
        "The football team of {s} lost a friendly match {when}.",
        "Heavy rain closed several roads in {s} {when}.",
        "A film about the wildlife of {s} was shown {when}.",
        "{who} wrote a long letter about a journey through {s} {when}.",
    ),
    "city": (
        "{who} got lost in {s} {when} and missed the last bus.",
        "The bakery next to the station of {s} burned down {when}.",
        "A chess tournament was held in {s} {when}.",
        "{who} rented a small flat in {s} {when}.",
        "Snow fell on {s} {when}, to the delight of the children.",
    ),
    "element": (
        "{who} ordered a sample of {s} {when}.",
        "A lecture about the discovery of {s} was cancelled {when}.",
        "The price of {s} fell {when}.",
        "{who} spilled a little {s} on the laboratory floor {when}.",
        "A museum opened a small room about {s} {when}.",
    ),
    "county": (
        "A storm damaged two barns in {s} {when}.",
        "{who} bought a farm in {s} {when}.",
        "The sheriff of {s} retired {when}.",
        "{who} photographed wild horses in {s} {when}.",
        "The fair of {s} drew a large crowd {when}.",
    ),
}
