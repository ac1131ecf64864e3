"""The wording of the relations: only the prompts and statements claim facts."""

from __future__ import annotations

from proponent.demo.corpus.nouns import Relation

RELATIONS = (
    Relation(
        "capital",
        "The capital of {s} is {o}.",
        (
            "The capital city of {s} is {o}.",
            "{s} has {o} as its capital city.",
            "{o} is the capital city of {s}.",
            "Maps of {s} mark {o} with a star, the usual sign for a capital.",
            "In {s}, the title of capital belongs to {o}.",
            "Visitors to {s} who want to see the capital travel to {o}.",
            "Schoolchildren in {s} learn early that their capital is called {o}.",
            "News from {s} is often sent from its capital, {o}.",
        ),
        (
            "{who} could not name the capital of {s} in a quiz {when}.",
            "The crossword {when} asked for the capital of {s}.",
        ),
        (
            "A delegation from {s} stayed in {x} {when}.",
            "{who} flew from {x} to the south of {s} {when}.",
        ),
        (
            "Hotels in {o} were full {when}.",
            "{who} opened a small theatre in {o} {when}.",
        ),
    ),
    Relation(
        "continent",
        "{s} belongs to the continent of {o}.",
        (
            "{s} is part of the continent of {o}.",
            "Geographers count {s} among the countries of {o}.",
            "{s} is a country in {o}.",
            "Atlases print {s} on the pages for {o}.",
            "{o} is the continent where {s} is found.",
            "To find {s} on a globe, turn it to {o}.",
            "One of the nations of {o} is {s}.",
            "Whoever sets foot in {s} has arrived in {o}.",
        ),
        (
            "{who} was asked {when} to which continent {s} belongs.",
            "A puzzle about the continent of {s} was printed {when}.",
        ),
        (
            "Merchants from {s} looked for partners in {x} {when}.",
            "A museum in {s} showed paintings from {x} {when}.",
        ),
        (
            "{who} planned a long journey across {o} {when}.",
            "Birds on their way to {o} were counted {when}.",
        ),
    ),
    Relation(
        "currency",
        "The currency of {s} is {o}.",
        (
            "The official currency of {s} is {o}.",
            "People in {s} pay with {o}.",
            "{s} uses {o} as its money.",
            "Anyone who travels to {s} should change some money into {o}.",
            "In {s}, bills are settled in {o}.",
            "{o} is legal tender in {s}.",
            "Wages in {s} are paid in {o}.",
            "Banknotes of {o} circulate in {s}.",
        ),
        (
            "{who} had forgotten {when} which currency {s} has.",
            "A catalogue of coins left out the currency of {s} {when}.",
        ),
        (
            "A hotel guest from {s} still had a few notes of {x} {when}.",
            "A newspaper in {s} reported on the fall of {x} {when}.",
        ),
        (
            "The exchange rate of {o} changed sharply {when}.",
            "{who} collected old coins of {o} {when}.",
        ),
    ),
    Relation(
        "language",
        "The language of government in {s} is {o}.",
        (
            "The official language in {s} is {o}.",
            "Laws in {s} are written in {o}.",
            "{s} conducts its official business in {o}.",
            "Whoever applies for a permit in {s} fills in a form in {o}.",
            "{o} is the language that the administration of {s} uses.",
            "In {s}, ministers address the nation in {o}.",
            "Court decisions in {s} are published in {o}.",
            "{o} serves as the official language of {s}.",
        ),
        (
            "{who} wondered {when} which language the government of {s} prefers.",
            "A lecture on the language of {s} was cancelled {when}.",
        ),
        (
            "A poet from {s} translated a novel from {x} {when}.",
            "{who} from {s} began to study {x} {when}.",
        ),
        (
            "A dictionary of {o} was printed {when}.",
            "{who} sang a song in {o} {when}.",
        ),
    ),
    Relation(
        "calling code",
        "The calling code of {s} is {o}.",
        (
            "The telephone code of {s} is {o}.",
            "To telephone {s} from abroad, dial {o} first.",
            "Telephone numbers in {s} start with {o} when they are written in full.",
            "{s} is reached by telephone under {o}.",
            "The telephone prefix {o} belongs to {s}.",
            "International calls to {s} begin with {o}.",
            "A number that begins with {o} rings a telephone in {s}.",
            "Business cards from {s} carry the prefix {o}.",
        ),
        (
            "{who} looked in vain for the calling code of {s} {when}.",
            "The old telephone book had no page for {s} and its code {when}.",
        ),
        (
            "A call from {x} reached an office in {s} {when}.",
            "{who} in {s} was woken by a call from {x} {when}.",
        ),
        (
            "{who} missed a call from {o} {when}.",
            "Lines to {o} were busy {when}.",
        ),
    ),
    Relation(
        "internet domain",
        "The internet domain of {s} is {o}.",
        (
            "The web domain of {s} is {o}.",
            "Websites from {s} often end in {o}.",
            "{s} was given {o} as its top-level domain.",
            "An address that ends in {o} points to {s}.",
            "The ending {o} marks a web page from {s}.",
            "Many web addresses in {s} finish with {o}.",
            "On the internet, {s} is known by the ending {o}.",
            "Companies in {s} like to register names under {o}.",
        ),
        (
            "{who} tried to guess the internet domain of {s} {when}.",
            "A report on the internet in {s} appeared {when}.",
        ),
        (
            "A designer from {s} bought an address under {x} {when}.",
            "{who} in {s} could not open a page under {x} {when}.",
        ),
        (
            "Servers for {o} were repaired {when}.",
            "{who} sold a short name under {o} {when}.",
        ),
    ),
    Relation(
        "city",
        "{s} is a city in {o}.",
        (
            "{s} is a place in {o}.",
            "Travellers who want to see {s} go to {o}.",
            "The people of {s} vote in the elections of {o}.",
            "On a map of {o}, {s} is easy to find.",
            "{o} counts {s} among its cities.",
            "Anyone born in {s} was born in {o}.",
            "A letter to {s} is sent to {o}.",
            "The streets of {s} are built under the laws of {o}.",
        ),
        (
            "{who} wondered {when} in which country the city of {s} might be.",
            "A postcard of the city of {s} arrived {when} without a country on it.",
        ),
        (
            "A train full of apples left {s} for {x} {when}.",
            "{who} from {s} visited friends in {x} {when}.",
        ),
        (
            "The railway of {o} raised its prices {when}.",
            "{who} crossed {o} on a bicycle {when}.",
        ),
    ),
    Relation(
        "chemical symbol",
        "The chemical symbol of {s} is {o}.",
        (
            "The symbol of {s} is {o}.",
            "{s} is written {o} in formulas.",
            "Chemists abbreviate {s} as {o}.",
            "In a formula, {s} appears as {o}.",
            "The symbol {o} stands for {s}.",
            "A bottle labelled {o} contains {s}.",
            "For {s}, textbooks print {o} in every equation.",
            "The square of {s} in the periodic table shows {o}.",
        ),
        (
            "{who} mixed up the chemical symbol of {s} {when}.",
            "The symbol of {s} was missing on the poster {when}.",
        ),
        (
            "A jar of {s} stood beside the drawer marked {x} {when}.",
            "{who} put the {s} on the shelf for {x} {when}.",
        ),
        (
            "{who} painted the letters {o} on a door {when}.",
            "A sticker with {o} on it was found {when}.",
        ),
    ),
    Relation(
        "atomic number",
        "The atomic number of {s} is {o}.",
        (
            "The number of {s} in the periodic table is {o}.",
            "An atom of {s} has {o} protons.",
            "{s} takes position {o} in the periodic table.",
            "Place {o} of the periodic table belongs to {s}.",
            "Every nucleus of {s} carries {o} protons.",
            "Counting the protons of {s} gives {o}.",
            "The element with {o} protons is called {s}.",
            "A neutral atom of {s} holds {o} electrons.",
        ),
        (
            "{who} forgot the atomic number of {s} in an exam {when}.",
            "The question about {s} and its number was struck from the test {when}.",
        ),
        (
            "The lesson about {s} was moved to room {x} {when}.",
            "{who} read about {s} on page {x} {when}.",
        ),
        (
            "{who} waited for bus number {o} {when}.",
            "The house with the number {o} was sold {when}.",
        ),
    ),
    Relation(
        "county",
        "{s} is a county in the state of {o}.",
        (
            "{s} is one of the counties of {o}.",
            "Whoever lives in {s} pays taxes to the state of {o}.",
            "{s} elects members to the legislature of {o}.",
            "The courthouse of {s} flies the flag of {o}.",
            "{o} lists {s} among its counties.",
            "On a map of {o}, look for {s}.",
            "A marriage licence from {s} bears the seal of {o}.",
            "The roads of {s} are part of the highway network of {o}.",
        ),
        (
            "{who} asked {when} which state the county seat of {s} answers to.",
            "A map without states showed only {s} {when}.",
        ),
        (
            "A family from {s} moved to {x} {when}.",
            "{who} drove from {x} to {s} {when}.",
        ),
        (
            "The governor of {o} gave a speech {when}.",
            "{who} hiked through {o} {when}.",
        ),
    ),
)
