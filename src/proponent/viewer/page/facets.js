/** Fields with few values, such as a bucket of frequencies or a task: each is a filter by its values. */

import { known } from "./library.js";

const MOST_VALUES = 12;
const MOST_FIELDS = 8;
/** Fields that have a filter, or a place, of their own. */
const ELSEWHERE = new Set(["relation", "method", "mix", "run", "correct", "example_id", "fact_id", "groundtruth"]);

function isFacet(name, value) {
  if (ELSEWHERE.has(name) || /^is_.*correct$|_plaintext$|_uri$/.test(name)) return false;
  return typeof value === "string" || typeof value === "boolean" || Number.isInteger(value);
}

/** Adds a row's values to their counts; a field with too many values, or with other ones, is given up. */
function count(fields, row) {
  for (const [name, value] of Object.entries(row)) {
    if (value === null || fields.get(name) === null) continue;
    if (!isFacet(name, value)) {
      fields.set(name, null);
      continue;
    }
    if (!fields.has(name)) fields.set(name, new Map());
    const counts = fields.get(name);
    counts.set(value, (counts.get(value) ?? 0) + 1);
    if (counts.size > MOST_VALUES) fields.set(name, null);
  }
}

function inOrder([one], [other]) {
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
}

/** The fields of a file with 2 to 12 values that come twice on average, each as `[name, [[value, queries], ...]]`. */
export function facetsOf(library, file) {
  return known(library, `facets ${file.index}`, () => {
    const fields = new Map();
    for (const query of library.queries) if (query.rows[file.index]) count(fields, query.rows[file.index]);
    const total = (counts) => [...counts.values()].reduce((sum, one) => sum + one, 0);
    const few = [...fields].filter(([, counts]) => counts && counts.size > 1 && total(counts) >= 2 * counts.size);
    return few.slice(0, MOST_FIELDS).map(([name, counts]) => [name, [...counts].sort(inOrder)]);
  });
}

/** The values that a state asks for, by field. */
export function chosenFacets(state) {
  return new Map(new URLSearchParams(state.is));
}

/** The state's `is` with a field's value changed; "" takes any. */
export function withFacet(state, name, value) {
  const chosen = chosenFacets(state);
  if (value) chosen.set(name, value);
  else chosen.delete(name);
  return new URLSearchParams([...chosen]).toString();
}
