/** Numbers of a query and of a file, computed from the result rows: pure functions. */

import { goldOf, numbersOf } from "./row.js";

export const WITHIN = 10;
const NORMAL_95 = 1.96;

/** Rank of the first gold proponent, from 1; 0 where none was retrieved, null where it is not known which are gold. */
export function firstGold(row) {
  const gold = row && goldOf(row);
  return gold ? gold.indexOf(true) + 1 : null;
}

/** 1 / rank of the first gold proponent; 0 for a miss, null where it is not known which are gold. */
export function reciprocalRank(row) {
  const rank = firstGold(row);
  return rank ? 1 / rank : rank;
}

/** How many of the first proponents are gold; null where it is not known which are. */
export function goldWithin(row, count = WITHIN) {
  return (row && goldOf(row))?.slice(0, count).filter(Boolean).length ?? null;
}

function scores(row, role) {
  return (row?.[`${role}_scores`] ?? []).filter(Number.isFinite);
}

/** The highest score of a proponent; null for none. */
export function topScore(row) {
  return scores(row, "proponent")[0] ?? null;
}

/** The best entailment score of a proponent; null where the file has none. */
export function bestAis(row) {
  const given = row?.proponent_ais_scores;
  const values = Array.isArray(given) ? given.filter(Number.isFinite) : [];
  return values.length ? Math.max(...values) : null;
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

function difference(one, other) {
  return one === null || other === null ? null : one - other;
}

/** How many proponents two rows have in common. */
export function inCommon(one, other) {
  if (!one || !other) return null;
  const ids = new Set(one.proponent_ids ?? []);
  return (other.proponent_ids ?? []).filter((id) => ids.has(id)).length;
}

/** What queries can be sorted by; `of` takes the rows of the first and the second file that is shown. */
const METRICS = [
  { name: "rank", label: "Reciprocal rank of gold", of: (row) => reciprocalRank(row) },
  { name: "gold", label: `Gold among the first ${WITHIN}`, of: (row) => goldWithin(row) },
  { name: "top", label: "Top score", of: (row) => topScore(row) },
  { name: "mean", label: "Mean score", of: (row) => mean(scores(row, "proponent")) },
  { name: "ais", label: "Best AIS score", of: (row) => bestAis(row) },
  { name: "low", label: "Lowest opponent score", of: (row) => scores(row, "opponent")[0] ?? null },
];
const PAIRED = [
  {
    name: "gain",
    label: "Reciprocal rank, first − second file",
    of: (one, other) => difference(reciprocalRank(one), reciprocalRank(other)),
  },
  { name: "common", label: "Passages in common", of: inCommon },
];

/** The metrics that make sense for some rows: those with any value, and each field that is a number. */
export function metricsFor(rows, paired) {
  const fields = new Set(rows.slice(0, 200).flatMap((row) => numbersOf(row).map(([name]) => name)));
  const more = [...fields].map((name) => ({
    name: `field ${name}`,
    label: name.replaceAll("_", " "),
    of: (row) => (typeof row?.[name] === "number" ? row[name] : null),
  }));
  const useful = METRICS.filter(({ of }) => rows.some((row) => of(row) !== null));
  return [...useful, ...(paired ? PAIRED : []), ...more];
}

/** Mean of values with half the width of its 95% interval (normal approximation); null of nothing. */
export function estimate(values) {
  if (!values.length) return null;
  const middle = mean(values);
  const spread = mean(values.map((value) => (value - middle) ** 2));
  return { mean: middle, half: NORMAL_95 * Math.sqrt(spread / values.length), count: values.length };
}

/** MRR and Recall@10 over the rows that were judged; a fact of which no passage exists is left out. */
export function summary(rows) {
  const judged = rows.filter((row) => row.has_trex_sentence !== false && firstGold(row) !== null);
  const ranks = judged.map(firstGold);
  return {
    mrr: estimate(ranks.map((rank) => (rank ? 1 / rank : 0))),
    recall: estimate(ranks.map((rank) => Number(rank > 0 && rank <= WITHIN))),
    ranks,
  };
}

/** Scores of gold proponents, other proponents and opponents; without gold marks all proponents are others. */
export function scoreGroups(rows) {
  const groups = { gold: [], others: [], opponents: [] };
  for (const row of rows) {
    const gold = goldOf(row);
    (row.proponent_scores ?? []).forEach((score, n) => {
      if (Number.isFinite(score)) groups[gold?.[n] ? "gold" : "others"].push(score);
    });
    for (const score of scores(row, "opponent")) groups.opponents.push(score);
  }
  return groups;
}

/** Counts of values in equal bins over [low, high]. */
export function histogram(values, low, high, bins) {
  const counts = new Array(bins).fill(0);
  const width = (high - low) / bins || 1;
  for (const value of values) counts[Math.min(bins - 1, Math.max(0, Math.floor((value - low) / width)))] += 1;
  return counts;
}
