/** Reading one line of a result file, ours or the paper's. */

/** Above this an entailment model's score says that the passage states the fact. */
const ENTAILED = 0.5;

/** Whether each proponent is gold; null where the file does not say. */
export function goldOf(row) {
  if (Array.isArray(row.proponent_correct)) return row.proponent_correct.map(Boolean);
  if (Array.isArray(row.proponent_ais_scores)) return row.proponent_ais_scores.map((score) => score > ENTAILED);
  return null;
}

/**
 * The passages of one role, best first.
 *
 * role: "proponent" or "opponent".  known: ids that are gold for the query by any file, which marks
 * opponents as well.  gold is null where nothing is known; so are `ais`, the entailment score, `window`,
 * the part of the text that has it, and `given`, the rank in a longer list that the file was cut from.
 * tokens, asked: pairs of text and value that spell the passage, and the target.  adds: what a diverse
 * passage adds to those before it, or null.  chance: how many passages of the corpus would score as high by
 * chance, or null.  same: ids of near-identical passages that were merged into it.
 */
export function passagesOf(row, role, known = new Set()) {
  const texts = row[`${role}s`] ?? [];
  const ids = row[`${role}_ids`] ?? [];
  const sources = row[`${role}_sources`] ?? ids;
  const scores = row[`${role}_scores`] ?? [];
  const gold = role === "proponent" ? goldOf(row) : null;
  return texts.map((text, n) => {
    const id = String(ids[n] ?? `${role} ${n + 1}`);
    const source = String(sources[n] ?? id);
    return {
      rank: n + 1,
      id,
      source,
      text: String(text),
      score: typeof scores[n] === "number" ? scores[n] : null,
      gold: gold?.[n] ?? (known.size ? known.has(source) : null),
      category: row[`${role}_categories`]?.[n] ?? null,
      tokens: row[`${role}_tokens`]?.[n] ?? null,
      asked: row[`${role}_target_tokens`]?.[n] ?? null,
      ais: row[`${role}_ais_scores`]?.[n] ?? null,
      window: row[`${role}_ais_best_windows`]?.[n] ?? null,
      given: row[`${role}_ranks`]?.[n] ?? null,
      chance: row[`${role}_chance`]?.[n] ?? null,
      adds: row[`${role}_adds`]?.[n] ?? null,
      same: row[`${role}_duplicates`]?.[n] ?? [],
    };
  });
}

/** Whether the model itself gets the query right; null where the file does not say. */
export function correctOf(row) {
  if (typeof row.correct === "boolean") return row.correct;
  for (const [name, value] of Object.entries(row)) {
    if (typeof value === "boolean" && /^is_.*correct$/.test(name)) return value;
  }
  return typeof row.groundtruth === "string" ? row.groundtruth === row.targets_plaintext : null;
}

/** The model's answers to the prompt in this row, each as `[text, times]`, most frequent first. */
export function samplesOf(row) {
  const name = Object.keys(row).find((field) => /(^|_)generations$/.test(field));
  const said = name && Array.isArray(row[name]) ? row[name].map(String) : [];
  if (typeof row.generation === "string") said.push(row.generation);
  const counts = new Map();
  for (const text of said) counts.set(text.trim(), (counts.get(text.trim()) ?? 0) + 1);
  return [...counts].sort(([, one], [, other]) => other - one);
}

/** The distinct texts among them. */
export function saidOf(row) {
  return samplesOf(row).map(([text]) => text);
}

/** The fields of a row that are plain numbers, such as a confidence or a frequency. */
export function numbersOf(row) {
  return Object.entries(row).filter(([name, value]) => typeof value === "number" && name !== "mix");
}

/** Fields of a row in words: its task and set, and whatever else is true or false. */
export function wordsOf(row) {
  const verdict = (name) => name === "correct" || /^is_.*correct$/.test(name);
  return Object.entries(row).flatMap(([name, value]) => {
    if (typeof value === "boolean" && !verdict(name)) return [[name, value ? "yes" : "no"]];
    return ["task", "query_set"].includes(name) && typeof value === "string" ? [[name, value]] : [];
  });
}

/** Whether any passage of the row has a value for each token. */
export function hasTokens(row) {
  return Array.isArray(row.proponent_tokens) || Array.isArray(row.opponent_tokens);
}
