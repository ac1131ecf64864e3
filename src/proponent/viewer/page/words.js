/** Where the words of subject, target and prompt are in a text, and those of the model's own answer. */

const WORD = /[\p{L}\p{N}\p{M}]+/gu;
const ASCII = /^[\x20-\x7e]*$/;
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;
const COMMON = new Set(
  (
    "a an and are as at be been but by can did do does for from had has have he her his how i in into is it its " +
    "of on or she that the their them there these they this to was we were what when where which who whom whose " +
    "why will with you your s q question answer"
  ).split(" "),
);
/** In this order a word belongs to the first that holds it. */
export const ROLES = ["target", "subject", "said", "prompt"];

function stem(word) {
  const bare = ASCII.test(word) ? word.toLowerCase() : word.normalize("NFD").replace(/\p{M}+/gu, "").toLowerCase();
  return bare.length > 4 && /[^s]s$/.test(bare) ? bare.slice(0, -1) : bare;
}

function stems(text) {
  return [...text.matchAll(WORD)].map((match) => stem(match[0]));
}

/**
 * What to look for: for each role its whole phrases, and its words without the most common ones.
 *
 * phrases: `{target: [...], subject: [...], said: [...], prompt: [...]}`, each with other ways to say
 * the same; `said` is what the model says instead of the target.
 */
export function termsOf(phrases) {
  const terms = ROLES.map((role) => {
    const runs = phrases[role].map(stems).filter((run) => run.length);
    const words = new Set(runs.flat().filter((word) => !COMMON.has(word)));
    return { role, words, runs: role === "prompt" ? [] : runs, unspaced: phrases[role].filter((p) => UNSPACED.test(p)) };
  });
  const taken = new Set();
  for (const { words } of terms) {
    for (const word of words) if (taken.has(word)) words.delete(word);
    for (const word of words) taken.add(word);
  }
  return terms;
}

/** The role of each word of a text, whole phrases before single words, and whether it is in a phrase. */
function rolesOf(found, terms) {
  const roles = found.map((word) => terms.find(({ words }) => words.has(word.stem))?.role ?? null);
  const whole = new Array(found.length).fill(false);
  for (const { role, runs } of [...terms].reverse()) {
    for (const run of runs) {
      for (let at = 0; at + run.length <= found.length; at += 1) {
        if (!run.every((word, n) => found[at + n].stem === word)) continue;
        roles.fill(role, at, at + run.length);
        whole.fill(true, at, at + run.length);
      }
    }
  }
  return { roles, whole };
}

/** Phrases of scripts that are written without spaces, by their letters. */
function unspacedMarks(text, terms) {
  return terms.flatMap(({ role, unspaced }) =>
    unspaced.flatMap((phrase) => {
      const marks = [];
      for (let at = text.indexOf(phrase); at >= 0; at = text.indexOf(phrase, at + phrase.length)) {
        marks.push({ start: at, end: at + phrase.length, role, whole: true });
      }
      return marks;
    }),
  );
}

/**
 * Marks `{start, end, role, whole}` of a text, in order and apart; neighbours of one role are one mark.
 *
 * whole: whether a whole phrase is in it, such as the full name of the subject, and not only a word of it.
 */
export function marksOf(text, terms) {
  const found = [...text.matchAll(WORD)].map((match) => ({
    start: match.index,
    end: match.index + match[0].length,
    stem: stem(match[0]),
  }));
  const { roles, whole } = rolesOf(found, terms);
  const single = found
    .map(({ start, end }, n) => ({ start, end, role: roles[n], whole: whole[n] }))
    .filter(({ role }) => role);
  const marks = [...single, ...unspacedMarks(text, terms)].sort((one, other) => one.start - other.start);
  const apart = [];
  for (const mark of marks) {
    const last = apart.at(-1);
    if (last && mark.start < last.end) continue;
    const joined = last?.role === mark.role && /^[\s\-–'’.,]{0,2}$/.test(text.slice(last.end, mark.start));
    if (joined) Object.assign(last, { end: mark.end, whole: last.whole || mark.whole });
    else apart.push({ ...mark });
  }
  return apart;
}
