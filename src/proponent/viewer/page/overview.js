/** Metrics and scores of each file, and of each relation. */

import { shortName } from "./compare.js";
import { counted, el, plain, scored, show } from "./dom.js";
import { relationsOf } from "./library.js";
import { methodLine } from "./method.js";
import { histogram, scoreGroups, summary, WITHIN } from "./metrics.js";
import { areas, bar, columns, keyOf } from "./plots.js";

const BINS = 40;
const NAMES = { gold: "gold passages", others: "other passages", opponents: "opponents" };

function number(label, estimate, format) {
  return el(
    "div",
    { class: "number" },
    el("dt", {}, label),
    el("dd", {}, el("strong", {}, format(estimate.mean)), el("span", { class: "muted" }, ` ± ${format(estimate.half)}`), bar(estimate)),
  );
}

function judged({ mrr, recall, ranks }) {
  if (!mrr) return [el("p", { class: "muted" }, "The file does not say which proponents are gold.")];
  const labels = [...Array(WITHIN).keys()].map((n) => String(n + 1)).concat("none");
  const counts = labels.map((_, n) => ranks.filter((rank) => (n < WITHIN ? rank === n + 1 : rank === 0 || rank > WITHIN)).length);
  const title = `Rank of the first gold passage: ${labels.map((label, n) => `${label}: ${counts[n]}`).join(", ")} queries`;
  return [
    el(
      "dl",
      { class: "numbers" },
      number("MRR", mrr, (value) => plain(value, 3)),
      number(`Recall@${WITHIN}`, recall, (value) => `${plain(100 * value, 1)}%`),
    ),
    el("h4", {}, "Rank of the first gold passage"),
    columns(title, labels, counts),
  ];
}

function scoresOf(rows) {
  const groups = scoreGroups(rows);
  const present = Object.keys(NAMES).filter((name) => groups[name].length);
  if (!present.length) return [el("p", { class: "muted" }, "The file has no scores.")];
  const all = present.flatMap((name) => groups[name]);
  const low = all.reduce((least, value) => Math.min(least, value), Infinity);
  const high = all.reduce((most, value) => Math.max(most, value), -Infinity);
  const series = present.map((name) => ({
    name,
    label: `${NAMES[name]} (${plain(groups[name].length)})`,
    counts: histogram(groups[name], low, high, BINS),
  }));
  const title = `Scores from ${scored(low)} to ${scored(high)}: ${series.map(({ label }) => label).join(", ")}`;
  return [el("h4", {}, "Scores"), areas(title, series, [low, high], scored), keyOf(series)];
}

function fileCard(file, queries) {
  const rows = queries.map((query) => query.rows[file.index]).filter(Boolean);
  return el(
    "section",
    { class: "card file", "aria-label": shortName(file.name) },
    el("h3", {}, shortName(file.name), el("span", { class: "muted" }, ` ${counted(rows.length, "query", "queries")}`)),
    methodLine(file),
    rows.length ? [...judged(summary(rows)), ...scoresOf(rows)] : el("p", { class: "muted" }, "No query of it is in the list."),
  );
}

function relationRow(app, relation, of, files) {
  const values = files.map((file) => summary(of.map((query) => query.rows[file.index]).filter(Boolean)).mrr);
  const choose = () => app.update({ rel: relation, view: "queries", q: "" }, true);
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("button", { type: "button", class: "plain", onclick: choose }, relation)),
    el("td", { class: "count" }, plain(of.length)),
    values.map((value) => el("td", {}, value ? [el("span", { class: "value" }, plain(value.mean, 2)), bar(value)] : "–")),
  );
}

function relationTable(app, queries, files) {
  const relations = relationsOf(queries);
  if (relations.length < 2) return null;
  const groups = new Map(relations.map(([relation]) => [relation, []]));
  for (const query of queries) groups.get(query.relation)?.push(query);
  return el(
    "section",
    { class: "card relations", "aria-label": "MRR by relation" },
    el("h3", {}, "MRR by relation"),
    el(
      "div",
      { class: "wide-table", tabindex: "0", role: "region", "aria-label": "Table of MRR by relation" },
      el(
        "table",
        {},
        el("thead", {}, el("tr", {}, ["Relation", "Queries", ...files.map(({ name }) => shortName(name))].map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, [...groups].map(([relation, of]) => relationRow(app, relation, of, files))),
      ),
    ),
  );
}

/** Show all files over some queries; filtered: whether these are not all there are. */
export function showOverview(app, queries, filtered, element) {
  const { files } = app.library;
  const what = filtered ? `the ${counted(queries.length, "query", "queries")} that the filters leave` : `all ${counted(queries.length, "query", "queries")}`;
  show(
    element,
    el("h2", {}, "Overview"),
    el("p", { class: "muted" }, `Over ${what}; ± is half of a 95% interval (normal approximation). Areas of scores are each scaled to their own height.`),
    el("div", { class: "cards" }, files.map((file) => fileCard(file, queries))),
    [relationTable(app, queries, files)].filter(Boolean),
  );
}
