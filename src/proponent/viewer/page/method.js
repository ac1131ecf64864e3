/** The method of a list of passages in words: its name, and what such a list does and does not show. */

import { el, plain } from "./dom.js";
import { textNodes } from "./passage.js";

const GRADIENT = {
  proponent: ["Proponents", "estimated to push towards the target"],
  opponent: ["Opponents", "estimated to push away from it"],
  shows: "Influence estimates: correlational, no proof that leaving a passage out would change the answer.",
};
const UNKNOWN = {
  proponent: ["Proponents", "with the highest scores"],
  opponent: ["Opponents", "with the lowest scores"],
  shows: "Not a method that this page knows; a score is no proof that leaving a passage out would change the answer.",
};
const KINDS = {
  trackstar: { name: "TrackStar", ...GRADIENT },
  cosine: { name: "gradient cosine", ...GRADIENT },
  dot: { name: "gradient dot product", ...GRADIENT },
  trak: { name: "TRAK", ...GRADIENT },
  kronecker: { name: "Kronecker-corrected gradients", ...GRADIENT },
  exact: { name: "gradients without projection", ...GRADIENT },
  bm25: {
    name: "BM25",
    proponent: ["Retrieved", "by the words that they share with prompt and target"],
    opponent: ["Lowest scores", "by the words shared with prompt and target"],
    shows: "Word overlap only: the model was not asked, and this is no evidence of what it learned from.",
  },
  embedding: {
    name: "sentence embeddings",
    proponent: ["Retrieved", "by their likeness to prompt and target"],
    opponent: ["Lowest scores", "by their likeness to prompt and target"],
    shows: "Likeness of embeddings only: the model was not asked, and this is no evidence of what it learned from.",
  },
  random: {
    name: "random passages",
    proponent: ["Random", "drawn by chance"],
    opponent: ["Random", "drawn by chance"],
    shows: "A control for other methods: these passages were not chosen by anything in the query or the model.",
  },
};

/** A method's name without the changes to it: `trackstar,hessian=none` is a TrackStar. */
const baseOf = (method) => String(method ?? "").split(",")[0];

function kindOf(method) {
  const base = baseOf(method);
  const known = base.toLowerCase();
  return Object.hasOwn(KINDS, known) ? KINDS[known] : { name: base, ...UNKNOWN };
}

/** The heading of a role's list, "proponent" or "opponent", and what its passages have in common. */
export function headingOf(method, role) {
  return kindOf(method)[role];
}

/** A method's name for readers, with its changes. */
export function methodName(method) {
  return kindOf(method).name + String(method ?? "").slice(baseOf(method).length).replaceAll(",", ", ");
}

/** One line beside a list.  of: a row or a file, with `method`, `mix`, the runs `averaged_with` and the `exact_top`. */
export function methodLine({ method, mix, averaged_with: others, exact_top: top }) {
  const runs = Array.isArray(others) && others.length ? `, mean of ${others.length + 1} runs` : "";
  const exact = Number.isInteger(top) ? `, first ${plain(top)} exact` : "";
  const name = (methodName(method) || "Method not stated") + runs + exact;
  const share = typeof mix === "number" ? `, λ = ${plain(mix, 3)}` : "";
  return el("p", { class: "method muted" }, el("strong", {}, el("bdi", {}, textNodes(name + share))), " ", kindOf(method).shows);
}
