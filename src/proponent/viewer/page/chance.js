/** Does a score stand out: how many passages of the corpus would be expected to score as high by chance. */

import { el } from "./dom.js";

/** The most passages by chance at which a passage is said to stand out, as on the command line. */
const STANDS_OUT = 0.05;
const MEANING =
  "so many passages of this corpus would be expected to score as high by chance, by how this query's scores are spread";

/** Whether a passage's score is no more than chance explains; false where that is not known. */
export function isFaint({ chance }) {
  return typeof chance === "number" && chance > STANDS_OUT;
}

function inWords(chance) {
  if (chance < 0.001) return "< 0.001";
  return chance < 99 ? chance.toLocaleString(undefined, { maximumSignificantDigits: 2 }) : "100+";
}

/** The expected number by chance beside a score; null where it is not known. */
export function chanceOf({ chance }) {
  if (typeof chance !== "number") return null;
  return el("span", { class: "chance", title: MEANING }, `${inWords(chance)} by chance`);
}

/** A sentence where no proponent stands out; null for any other. */
export function nothingStandsOut(proponents) {
  if (!proponents.length || !proponents.every(isFaint)) return null;
  const expected = inWords(proponents[0].chance);
  return el(
    "p",
    { class: "nothing", role: "note" },
    `Nothing stands out: by chance alone, about ${expected} passages would score as high as the first.`,
  );
}
