/** One row's proponents and opponents beside each other. */

import { certified } from "./certificate.js";
import { chanceOf, isFaint, nothingStandsOut } from "./chance.js";
import { counted, el, plain, scored, show } from "./dom.js";
import { categoryOf } from "./find.js";
import { termsOfRow } from "./library.js";
import { headingOf, methodLine } from "./method.js";
import { passageText, textNodes } from "./passage.js";
import { passagesOf } from "./row.js";

/** What the page's own categories mean; a file's own need no words of ours. */
const WORDS = {
  "subject and target": "names the subject and the target",
  "target only": "names the target, not the subject",
  "model's answer": "names what the model says, not the target",
  "subject only": "names the subject, not the target",
  neither: "names neither the subject nor the target",
};

function scoreBar(score, largest) {
  const bar = el("span", { class: score < 0 ? "bar against" : "bar for", "aria-hidden": "true" });
  bar.style.setProperty("--part", `${Math.round((100 * Math.abs(score)) / (largest || 1))}%`);
  return bar;
}

/** What an entailment model says of a passage: above 0.5 it counts as gold. */
function aisOf({ ais, window }) {
  if (typeof ais !== "number") return null;
  const of = window ? "the marked part" : "the whole passage";
  return el("span", { class: "ais", title: `entailment score of ${of}; above 0.5 it states the fact` }, `AIS ${plain(ais, 2)}`);
}

/** Which tokens of a target of several asked for a passage, with what each contributes to its score. */
function askedBy({ asked }, tokens) {
  if (!tokens || !Array.isArray(asked) || asked.length < 2) return null;
  const parts = asked.map(([text, value]) => el("span", {}, el("b", {}, el("bdi", {}, textNodes(String(text).trim()))), ` ${scored(value)} `));
  return el("p", { class: "asked", title: "what each token of the target contributes to the score, before it is divided by the norms" }, "asked by ", parts);
}

/** The rank in the list that the file's was taken from, where it is another one. */
function givenRank({ rank, given }) {
  if (given === null || given === rank) return null;
  return el("span", { title: "rank in the list that the file's was taken from" }, `was #${plain(given)}`);
}

/** What a diverse passage adds to those before it, and how many near-identical ones it stands for. */
function standing({ adds, same }) {
  const some = [
    typeof adds === "number" ? el("span", { title: "of its score, what passages before it do not stand for" }, `adds ${plain(adds, 4)}`) : null,
    same.length ? el("span", { title: `near-identical: ${same.join(", ")}` }, `and ${same.length} near-identical`) : null,
  ];
  return some.filter(Boolean);
}

function badges(passage, terms) {
  const category = categoryOf(passage, terms);
  if (passage.gold) return [el("span", { class: "badge gold", title: "states the fact" }, "✓ gold"), ownCategory(passage)];
  return [el("span", { class: "badge", title: passage.category === null ? WORDS[category] : null }, category)];
}

/** A file's own category is shown beside the gold mark; the page's would only repeat it. */
function ownCategory(passage) {
  return passage.category === null ? null : el("span", { class: "badge" }, String(passage.category));
}

/**
 * A passage with rank, score, id, gold mark and category.
 *
 * context: `{terms, tokens, largest}`; largest is the greatest absolute score, for the bars.
 */
export function passageCard(passage, context, ...more) {
  const scoreText = passage.score === null ? null : [scoreBar(passage.score, context.largest), scored(passage.score)];
  return el(
    "li",
    { class: `passage${passage.gold ? " is-gold" : ""}${isFaint(passage) ? " faint" : ""}`, "data-id": passage.id, tabindex: "-1" },
    el(
      "div",
      { class: "passage-head" },
      el("span", { class: "rank" }, el("span", { class: "visually-hidden" }, "rank "), String(passage.rank)),
      givenRank(passage),
      scoreText ? el("span", { class: "score" }, el("span", { class: "visually-hidden" }, "score "), scoreText) : null,
      chanceOf(passage),
      standing(passage),
      aisOf(passage),
      badges(passage, context.terms),
      ...more,
      el("span", { class: "id", title: passage.id }, el("bdi", {}, passage.id)),
    ),
    passageText(passage, context.terms, context.tokens),
    askedBy(passage, context.tokens),
  );
}

/** The greatest absolute score of some passages. */
export function largestScore(passages) {
  return Math.max(0, ...passages.map(({ score }) => Math.abs(score ?? 0)));
}

function column(role, passages, context) {
  const [heading, meaning] = headingOf(context.method, role);
  return el(
    "section",
    { class: `column ${role}s`, "aria-label": heading },
    el("h3", {}, heading, el("span", { class: "muted" }, ` ${meaning}`)),
    passages.length
      ? el("ol", { class: "passages" }, passages.map((passage) => passageCard(passage, context)))
      : el("p", { class: "muted empty" }, `This file holds no ${role}s.`),
  );
}

/**
 * Fill an element with one row's proponents and opponents; call it again to replace them.
 *
 * row: one line of a result file.  element: emptied first.  options: `terms` to mark (by default
 * from the row alone), `tokens` to shade tokens, `known` ids of gold passages.
 */
export function showRow(row, element, options = {}) {
  const prompt = String(row.inputs_plaintext ?? "");
  const target = String(row.targets_plaintext ?? "");
  const terms = options.terms ?? termsOfRow(row, { prompt, target }).terms;
  const proponents = passagesOf(row, "proponent", options.known);
  const opponents = passagesOf(row, "opponent", options.known);
  const largest = largestScore([...proponents, ...opponents]);
  const context = { terms, tokens: options.tokens ?? false, largest, method: row.method };
  const both = opponents.length > 0;
  show(
    element,
    methodLine(row),
    nothingStandsOut(proponents),
    certified(row, proponents.length, opponents.length),
    el(
      "div",
      { class: both ? "columns two" : "columns one" },
      column("proponent", proponents, context),
      both ? column("opponent", opponents, context) : null,
    ),
    both ? null : el("p", { class: "muted" }, `${counted(proponents.length, "passage")}; this file holds no opponents.`),
  );
}
