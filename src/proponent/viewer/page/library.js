/** The loaded files, and their queries matched by id, prompt and target. */

import { checked, isAnswer } from "./records.js";
import { correctOf, goldOf, saidOf } from "./row.js";
import { countWords, subjectOf } from "./subject.js";
import { termsOf } from "./words.js";

export function newLibrary() {
  return { files: [], queries: [], byKey: new Map(), answers: new Map(), known: {} };
}

function freeName(library, name) {
  const taken = new Set(library.files.map((file) => file.name));
  let free = name;
  for (let n = 2; taken.has(free); n += 1) free = `${name} (${n})`;
  return free;
}

/** A value computed once from all loaded files; it is computed again when files are added. */
export function known(library, name, make) {
  library.known[name] ??= make();
  return library.known[name];
}

/**
 * Add a file's records: results, or the model's own answers, which are joined to the queries by id.
 *
 * Returns the file `{name, method, mix, rows}`, or null for answers.
 */
export function addRecords(library, name, records) {
  const rows = records.filter((record) => !isAnswer(record));
  for (const answer of records.filter(isAnswer)) library.answers.set(String(answer.query_id), answer);
  let file = null;
  if (rows.length) {
    const { method = null, mix = null } = rows[0];
    file = { name: freeName(library, name), method, mix, rows: rows.length, index: library.files.length };
    library.files.push(file);
    for (const row of rows) addRow(library, file, row);
  }
  library.known = {};
  library.queries.forEach((query) => (query.answer = library.answers.get(query.id) ?? query.answer));
  return file;
}

/** The records of an embedded or hand-made file, each checked as if it had been read. */
export function checkedRecords({ name, lines }) {
  return lines.map((line, n) => checked(line, `${name}:${n + 1}`));
}

/** A query is the same in two files when id, prompt and target are; a repeated one is another query. */
function addRow(library, file, row) {
  const id = String(row.fact_id ?? row.example_id ?? library.queries.length);
  const prompt = String(row.inputs_plaintext ?? row.prompt ?? "");
  const target = String(row.targets_plaintext ?? row.target ?? "");
  let key = id;
  for (let n = 2; ; n += 1) {
    const there = library.byKey.get(key);
    if (!there) break;
    if (there.prompt === prompt && there.target === target && !there.rows[file.index]) {
      there.rows[file.index] = row;
      there.correct ??= correctOf(row);
      return;
    }
    key = `${id}~${n}`;
  }
  const query = newQuery(key, id, prompt, target, row, library.queries.length);
  query.rows[file.index] = row;
  library.byKey.set(key, query);
  library.queries.push(query);
}

function newQuery(key, id, prompt, target, row, order) {
  const relation = row.relation === undefined || row.relation === null ? null : String(row.relation);
  const text = `${prompt} ${target} ${id} ${relation ?? ""}`.toLowerCase();
  return { key, id, prompt, target, relation, order, text, rows: [], kind: relation ?? row.query_set ?? "", correct: correctOf(row) };
}

/** The rows that there are of a query, of any file. */
export function rowsOf(query) {
  return query.rows.filter(Boolean);
}

/** Whether the model itself gets a query right, by its answers or by any row; null where none says. */
export function modelIsRight(query) {
  return query.answer ? query.answer.correct : query.correct;
}

/** The model's own answers to the prompt: distinct texts, none where no file has them. */
export function modelSays(query) {
  if (query.answer?.text) return [query.answer.text.trim()];
  return rowsOf(query).map(saidOf).find((said) => said.length) ?? [];
}

/** Ids of the passages that any file calls gold for a query. */
export function goldIds(query) {
  const ids = rowsOf(query).flatMap((row) => {
    const sources = row.proponent_sources ?? row.proponent_ids ?? [];
    return (goldOf(row) ?? []).map((gold, n) => (gold ? String(sources[n]) : null));
  });
  return new Set(ids.filter((id) => id !== null));
}

/** Subject, target and prompt of a query with the words to look for in its passages. */
export function termsOfQuery(library, query) {
  const kinds = known(library, "kinds", () => countWords(library.queries));
  const said = modelIsRight(query) === false ? modelSays(query).filter((text) => text !== query.target) : [];
  return termsOfRow(query.rows.find(Boolean), query, { counts: kinds.get(query.kind), said });
}

/**
 * The same for one row.
 *
 * counts: of the words in prompts of its kind, where there are others.  said: what the model says instead.
 */
export function termsOfRow(row, { prompt, target }, { counts, said = [] } = {}) {
  const named = row.entity0 ?? row.subject ?? null;
  const subject = named === null ? subjectOf(prompt, counts) : String(named);
  const phrases = {
    target: [target, ...(row.entity1_alias ?? []), ...(row.groundtruth ? [String(row.groundtruth)] : [])],
    subject: [subject, ...(row.entity0_alias ?? [])].filter(Boolean),
    said,
    prompt: [prompt],
  };
  return { subject, said, terms: termsOf(phrases) };
}

/** The relations of some queries, each with its number of them, most frequent first. */
export function relationsOf(queries) {
  const counts = new Map();
  for (const { relation } of queries) {
    if (relation !== null) counts.set(relation, (counts.get(relation) ?? 0) + 1);
  }
  return [...counts].sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0]));
}
