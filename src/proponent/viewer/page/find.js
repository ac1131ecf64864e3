/** Which queries are in the list, and in which order. */

import { chosenFacets } from "./facets.js";
import { goldIds, known, modelIsRight, rowsOf, termsOfQuery } from "./library.js";
import { firstGold, metricsFor } from "./metrics.js";
import { passagesOf } from "./row.js";
import { whereOf } from "./where.js";
import { marksOf } from "./words.js";

/** What a passage holds, from most to least; gold where a file says so, the others by its words. */
export const CATEGORIES = ["gold", "subject and target", "target only", "model's answer", "subject only", "neither"];

/** The category of a passage: the file's own, or one of `CATEGORIES`. */
export function categoryOf(passage, terms) {
  if (passage.category !== null) return String(passage.category);
  if (passage.gold) return CATEGORIES[0];
  const named = marksOf(passage.text, terms).filter(({ whole }) => whole);
  const roles = new Set(named.map(({ role }) => role));
  if (roles.has("subject") && roles.has("target")) return CATEGORIES[1];
  if (roles.has("target")) return CATEGORIES[2];
  if (roles.has("said")) return CATEGORIES[3];
  return roles.has("subject") ? CATEGORIES[4] : CATEGORIES[5];
}

function topCategory(library, query, file) {
  const row = query.rows[file.index];
  const categories = known(library, "categories", () => new Map());
  if (!row || categories.has(row)) return categories.get(row) ?? null;
  const top = passagesOf(row, "proponent", goldIds(query))[0];
  const category = top ? categoryOf(top, termsOfQuery(library, query).terms) : null;
  categories.set(row, category);
  return category;
}

/** Words and "quoted phrases" that must all be there, in lower case. */
export function searchTerms(text) {
  return [...text.toLowerCase().matchAll(/"([^"]+)"?|(\S+)/g)].map((match) => match[1] ?? match[2]);
}

function holdsInPassages(query, wanted) {
  return rowsOf(query).some((row) =>
    ["proponents", "opponents", "proponent_ids", "opponent_ids"].some((field) =>
      (row[field] ?? []).some((text) => String(text).toLowerCase().includes(wanted)),
    ),
  );
}

const GOLD = {
  found: (rank) => rank > 0,
  top: (rank) => rank === 1,
  missed: (rank) => rank === 0,
};

/** The tests of a state's search and filters, each from a query to whether it stays. */
function testsOf(library, state, shown) {
  const [first] = shown;
  const where = whereOf(library, state.where, shown).test;
  const tests = where ? [where] : [];
  for (const [name, value] of chosenFacets(state)) {
    tests.push((query) => query.rows[first.index] && String(query.rows[first.index][name]) === value);
  }
  for (const wanted of searchTerms(state.s)) {
    const passages = state.within === "passages";
    tests.push((query) => query.text.includes(wanted) || (passages && holdsInPassages(query, wanted)));
  }
  if (state.rel) tests.push((query) => query.relation === state.rel);
  if (state.model) tests.push((query) => modelIsRight(query) === (state.model === "right"));
  if (GOLD[state.gold]) tests.push((query) => goldTest(query.rows[first.index], GOLD[state.gold]));
  if (state.cat) tests.push((query) => topCategory(library, query, first) === state.cat);
  return tests;
}

function goldTest(row, test) {
  const rank = firstGold(row);
  return rank !== null && test(rank);
}

/** Queries of the shown files that pass search and filters, sorted.  shown: files, the first leads. */
export function find(library, state, shown) {
  if (!shown.length) return [];
  const tests = testsOf(library, state, shown);
  const found = library.queries.filter(
    (query) => shown.some((file) => query.rows[file.index]) && tests.every((test) => test(query)),
  );
  return sorted(library, found, state, shown);
}

function sorted(library, queries, state, shown) {
  if (state.sort === "prompt" || state.sort === "target") {
    const names = new Intl.Collator();
    queries.sort((one, other) => names.compare(one[state.sort], other[state.sort]) || one.order - other.order);
    return state.up ? queries : queries.reverse();
  }
  const metric = sortable(library, shown).find(({ name }) => name === state.sort);
  if (!metric) return state.up ? queries.reverse() : queries;
  const value = new Map(queries.map((query) => [query, metric.of(...shown.map((file) => query.rows[file.index] ?? null))]));
  const sign = state.up ? 1 : -1;
  return queries.sort((one, other) => {
    const [a, b] = [value.get(one), value.get(other)];
    if (a === null || b === null) return (a === null) - (b === null) || one.order - other.order;
    return sign * (a - b) || one.order - other.order;
  });
}

/** The metrics that the shown files can be sorted by. */
export function sortable(library, shown) {
  if (!shown.length) return [];
  const [lead] = shown;
  return known(library, `metrics ${lead.index} ${shown.length > 1}`, () =>
    metricsFor(library.queries.map((query) => query.rows[lead.index]).filter(Boolean), shown.length > 1),
  );
}
