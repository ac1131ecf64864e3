/** One query: prompt and target, the model's own answer, and the passages of the files that are shown. */

import { showComparison, shortName } from "./compare.js";
import { el, plain, scored, show } from "./dom.js";
import { goldIds, modelIsRight, modelSays, termsOfQuery } from "./library.js";
import { textNodes } from "./passage.js";
import { rawRecords } from "./raw.js";
import { showRow } from "./results.js";
import { firstGold } from "./metrics.js";
import { hasTokens, numbersOf, samplesOf, wordsOf } from "./row.js";

/** The prompt with its subject marked, and the target. */
function question(query, subject) {
  const at = subject ? query.prompt.indexOf(subject) : -1;
  const prompt =
    at < 0
      ? textNodes(query.prompt)
      : [
          ...textNodes(query.prompt.slice(0, at)),
          el("mark", { class: "subject" }, textNodes(subject)),
          ...textNodes(query.prompt.slice(at + subject.length)),
        ];
  return el(
    "h2",
    { id: "question", tabindex: "-1" },
    el("bdi", {}, prompt),
    el("span", { class: "arrow", "aria-label": "target:" }, " → "),
    el("bdi", {}, el("mark", { class: "target" }, textNodes(query.target))),
  );
}

/** One of the model's own answers, in the colour that it has in the passages. */
function answer(text, query) {
  const other = text !== query.target && modelIsRight(query) === false;
  return el("q", {}, el("bdi", {}, el(other ? "mark" : "span", { class: other ? "said" : null }, textNodes(text))));
}

/** The model's own answer and whether it is right, where a file says so. */
function verdict(query) {
  const right = modelIsRight(query);
  const said = modelSays(query);
  const truth = query.rows.find((row) => row?.groundtruth)?.groundtruth;
  if (right === null && !said.length) return null;
  const mark = right === null ? null : el("span", { class: right ? "badge right" : "badge wrong" }, right ? "✓ right" : "✗ wrong");
  return el(
    "p",
    { class: "verdict" },
    "The model itself ",
    said.length ? ["says ", said.slice(0, 3).map((text) => [answer(text, query), " "])] : "is ",
    mark,
    truth && !right ? [" The truth is ", el("q", {}, textNodes(String(truth))), "."] : null,
  );
}

/** All that the model said when it was asked again and again, with how often; null where that is one text or none. */
function samples(query) {
  const row = query.rows.find((one) => one && samplesOf(one).length);
  const counts = row ? samplesOf(row) : [];
  const all = counts.reduce((sum, [, times]) => sum + times, 0);
  if (all < 2) return null;
  return el(
    "details",
    { class: "samples" },
    el("summary", {}, `The model's ${plain(all)} samples`),
    el("ul", {}, counts.map(([text, times]) => el("li", {}, answer(text, query), el("span", { class: "muted" }, ` ${plain(times)} of ${plain(all)}`)))),
  );
}

/** The facts of the query and of its row in the first file, as a list of names and values. */
function facts(query, row, compared) {
  const rank = row ? firstGold(row) : null;
  const share = query.answer?.share ?? null;
  const sampled = share !== null && share !== Number(query.answer.correct);
  const pairs = [
    ["Relation", query.relation],
    ["Id", query.id],
    ["First gold", rank === null || compared ? null : rank ? `rank ${rank}` : "not retrieved"],
    ["Right in samples", sampled ? `${plain(100 * share)}%` : null],
    ...(row ? numbersOf(row) : []).map(([name, value]) => [
      name === "probability" ? "p(target)" : name.replaceAll("_", " "),
      Number.isInteger(value) ? plain(value) : scored(value),
    ]),
    ...(row ? wordsOf(row) : []).map(([name, value]) => [name.replaceAll("_", " "), value]),
  ];
  return el(
    "dl",
    { class: "facts" },
    pairs.filter(([, value]) => value !== null).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}

function steps(app) {
  const { position, count } = app.place();
  const step = (by, label, sign) =>
    el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: () => app.step(by) }, sign);
  return el(
    "div",
    { class: "steps" },
    el("button", { type: "button", class: "back", onclick: () => app.back() }, "← Queries"),
    el("span", { class: "muted" }, position < 0 ? "not in the list" : `${plain(position + 1)} of ${plain(count)}`),
    step(-1, "Previous query", "‹"),
    step(1, "Next query", "›"),
  );
}

function switches(app, query, shown, said) {
  const one = (name, value, label) =>
    el("button", { type: "button", "aria-pressed": String(app.state[name] === value), onclick: () => app.update({ [name]: value }) }, label);
  const compared = shown.length > 1;
  const opponents = query.rows.some((row) => row?.opponents?.length);
  const tokens = query.rows.some((row) => row && hasTokens(row));
  return el(
    "div",
    { class: "switches" },
    compared && opponents
      ? el("div", { class: "group", role: "group", "aria-label": "Show" }, one("role", "", "Top passages"), one("role", "opponents", "Opponents"))
      : null,
    tokens
      ? el(
          "button",
          { type: "button", "aria-pressed": String(app.state.tokens === "1"), onclick: () => app.update({ tokens: app.state.tokens ? "" : "1" }) },
          "Shade tokens",
        )
      : null,
    app.live ? liveButtons(app, query, said) : null,
    legend(said.length, tokens && app.state.tokens),
  );
}

/** Trace the target, or what the model says instead of it, in the run that the server holds. */
function liveButtons(app, { prompt, target }, said) {
  return [target, ...said.slice(0, 1)].map((text) =>
    el("button", { type: "button", onclick: () => app.traceLive({ prompt, target: text }) }, `Trace “${text}”`),
  );
}

function legend(said, tokens) {
  const answer = said ? [["said", "the model's answer"]] : [];
  const words = [["subject", "subject"], ["target", "target"], ...answer, ["prompt", "other prompt words"]];
  return el(
    "p",
    { class: "legend" },
    el("span", { class: "visually-hidden" }, "Marked words: "),
    words.map(([role, label]) => el("mark", { class: role }, label)),
    tokens ? [el("span", { class: "shade for full" }, "towards"), el("span", { class: "shade against full" }, "away")] : null,
  );
}

function body(app, query, shown) {
  const element = el("div", { id: "passages" });
  const tokens = app.state.tokens === "1";
  if (shown.length > 1) {
    const role = app.state.role === "opponents" ? "opponent" : "proponent";
    showComparison(app.library, query, shown, element, { role, tokens });
    return element;
  }
  const row = query.rows[shown[0]?.index];
  const { terms } = termsOfQuery(app.library, query);
  if (row) showRow(row, element, { terms, tokens, known: goldIds(query) });
  else show(element, el("p", { class: "muted" }, `${shortName(shown[0]?.name ?? "The file")} does not have this query.`));
  return element;
}

/** Show a query, or what to do where none is chosen. */
export function showDetail(app, query, element) {
  const shown = app.shown();
  if (!query) {
    const what = app.state.q ? `There is no query “${app.state.q}” in these files.` : "Choose a query from the list.";
    show(element, el("p", { class: "muted empty" }, what));
    return;
  }
  const { subject, said } = termsOfQuery(app.library, query);
  show(
    element,
    steps(app),
    question(query, subject),
    [verdict(query), samples(query)].filter(Boolean),
    facts(query, query.rows[shown[0]?.index], shown.length > 1),
    switches(app, query, shown, said),
    body(app, query, shown),
    rawRecords(query, shown),
  );
}
