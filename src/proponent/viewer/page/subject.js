/** Which words of a prompt are its subject: those that other prompts of the same kind do not share. */

const FEWEST_PROMPTS = 5;
const RARE = 0.2;
const WORD = /[\p{L}\p{N}\p{M}]+(?:['’.-][\p{L}\p{N}\p{M}]+)*\.?/gu;
/** Words that join the parts of a name, as in "University of Oxford". */
const JOINING = new Set(["a", "al", "and", "de", "der", "des", "du", "for", "in", "la", "of", "on", "the", "von"]);
const OPENING = /^(?:the|a|an|in|on|at|of|what|which|who|where|when|how|is|was|are|it|this|that|q|question)$/i;

function wordsOf(prompt) {
  return [...prompt.matchAll(WORD)].map((match) => ({
    text: match[0].replace(/\.$/, ""),
    start: match.index,
    end: match.index + match[0].replace(/\.$/, "").length,
  }));
}

/** How many prompts of each kind hold each word.  queries: `{prompt, kind}`. */
export function countWords(queries) {
  const kinds = new Map();
  for (const { prompt, kind } of queries) {
    if (!kinds.has(kind)) kinds.set(kind, { prompts: 0, words: new Map() });
    const counts = kinds.get(kind);
    counts.prompts += 1;
    for (const word of new Set(wordsOf(prompt).map(({ text }) => text.toLowerCase()))) {
      counts.words.set(word, (counts.words.get(word) ?? 0) + 1);
    }
  }
  return kinds;
}

/** The longest run of words that `belongs` holds for, joined over little words. */
function longestRun(words, belongs) {
  let best = [];
  let run = [];
  for (const word of words) {
    if (belongs(word)) run = [...run, word];
    else if (run.length && JOINING.has(word.text.toLowerCase())) run = [...run, word];
    else run = [];
    const kept = run.slice(0, run.findLastIndex(belongs) + 1);
    if (kept.length && length(kept) > length(best)) best = kept;
  }
  return best;
}

function length(run) {
  return run.length ? run.at(-1).end - run[0].start : 0;
}

/**
 * The subject of a prompt, as written there; "" where none is found.
 *
 * counts: of the prompts of its kind, from `countWords`.  Where there are too few to compare with, the
 * longest run of capitalised words is taken.
 */
export function subjectOf(prompt, counts) {
  const words = wordsOf(prompt);
  const rare = ({ text }) => counts.words.get(text.toLowerCase()) <= Math.max(1, RARE * counts.prompts);
  const capital = ({ text, start }) => /^\p{Lu}|^\p{N}/u.test(text) && !(start === 0 && OPENING.test(text));
  const run = counts && counts.prompts >= FEWEST_PROMPTS ? longestRun(words, rare) : longestRun(words, capital);
  return run.length ? prompt.slice(run[0].start, run.at(-1).end) : "";
}
