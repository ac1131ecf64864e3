/** The fields that a filter in words can name: those of the records, and what the page computes. */

import { known, modelIsRight, modelSays, rowsOf } from "./library.js";
import { bestAis, firstGold, goldWithin, reciprocalRank, topScore } from "./metrics.js";

/** What is computed of a query and of its row in the first file that is shown. */
const COMPUTED = {
  prompt: (query) => query.prompt,
  target: (query) => query.target,
  id: (query) => query.id,
  model: (query) => ({ true: "right", false: "wrong" })[modelIsRight(query)] ?? null,
  says: (query) => modelSays(query),
  mrr: (query, row) => reciprocalRank(row),
  rank: (query, row) => firstGold(row),
  score: (query, row) => topScore(row),
  ais: (query, row) => bestAis(row),
};
const WITHIN = /^(recall|precision)@([1-9]\d*)$/;

function within([, metric, count], row) {
  const found = goldWithin(row, Number(count));
  if (found === null) return null;
  return metric === "recall" ? Number(found > 0) : found / Number(count);
}

/** Names of all fields that any record has. */
function recorded(library) {
  return known(library, "fields", () => {
    const names = new Set();
    for (const query of library.queries) for (const row of rowsOf(query)) for (const name in row) names.add(name);
    return names;
  });
}

/** Names of all fields, those of records first, without the texts and ids of passages. */
export function fieldNames(library) {
  const given = [...recorded(library)].filter((name) => !/^(?:proponent|opponent)/.test(name) && !(name in COMPUTED));
  return [...given, ...Object.keys(COMPUTED), "recall@10", "precision@10"];
}

/** What is wrong with the name of a field, in words; null where it is one. */
export function problemWith(library, name) {
  if (Object.hasOwn(COMPUTED, name) || WITHIN.test(name) || recorded(library).has(name)) return null;
  const start = name.toLowerCase().slice(0, 3);
  const near = fieldNames(library).filter((other) => other.toLowerCase().includes(start));
  return `no field is called “${name}”${near.length ? `; is it ${near.slice(0, 3).join(" or ")}?` : ""}`;
}

/** A field's value for a query, null for none; its rows are looked through in the order of the files shown. */
export function fieldOf(query, shown, name) {
  const rows = shown.map((file) => query.rows[file.index]).filter(Boolean);
  const row = rows.find((one) => one[name] !== undefined && one[name] !== null);
  if (row) return row[name];
  if (Object.hasOwn(COMPUTED, name)) return COMPUTED[name](query, query.rows[shown[0].index] ?? null);
  const metric = WITHIN.exec(name);
  return metric ? within(metric, query.rows[shown[0].index] ?? null) : null;
}
