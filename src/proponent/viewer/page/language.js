/**
 * The language of filters: `FIELD OP VALUE` joined by `and`, `or`, `not` and parentheses.
 *
 * `and` binds more tightly than `or`.  Fields and values of several words stand in quotes.  A list
 * passes a comparison if one of its values does, `!=` is the opposite of `=`, and `= none` holds where
 * the field is missing, which passes no other comparison but `!=`.
 */

/** Text that is no filter.  at: index of the character where it goes wrong. */
export class LanguageError extends Error {
  constructor(message, at) {
    super(message);
    this.at = at;
  }
}

const TOKEN = /("(?:[^"\\]|\\.)*("|$))|([()])|(!=|<=|>=|==?|<|>|~)|([^\s()"=!<>~]+)|(.)/suy;
const SPACE = /\s*/uy;
const OPERATORS = "= != < <= > >= ~";
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

function tokensOf(text) {
  const tokens = [];
  for (let at = 0; ; ) {
    SPACE.lastIndex = at;
    at += SPACE.exec(text)[0].length;
    if (at === text.length) return [...tokens, { kind: "end", text: "", at }];
    TOKEN.lastIndex = at;
    const [whole, quoted, closing, bracket, operator, word] = TOKEN.exec(text);
    if (quoted && !closing) throw new LanguageError("this quotation mark is not closed", at);
    if (quoted) tokens.push({ kind: "quoted", text: quoted.slice(1, -1).replace(/\\(.)/gsu, "$1"), at });
    else if (bracket) tokens.push({ kind: bracket, text: bracket, at });
    else if (operator) tokens.push({ kind: "operator", text: operator === "==" ? "=" : operator, at });
    else if (word) tokens.push({ kind: /^(?:and|or|not)$/i.test(word) ? word.toLowerCase() : "word", text: word, at });
    else throw new LanguageError(`“${whole}” means nothing here; comparisons are ${OPERATORS}`, at);
    at += whole.length;
  }
}

function named(token) {
  return token.kind === "end" ? "the end" : `“${token.text}”`;
}

/** The parser of one text: each method reads what it is called after, and moves on. */
class Parser {
  constructor(text, checkField) {
    this.tokens = tokensOf(text);
    this.checkField = checkField;
  }

  get next() {
    return this.tokens[0];
  }

  take(...kinds) {
    return kinds.includes(this.next.kind) ? this.tokens.shift() : null;
  }

  whole() {
    const made = this.either();
    if (this.next.kind === ")") throw new LanguageError("this ) closes nothing", this.next.at);
    if (this.next.kind !== "end") {
      const remedy = "a value of several words stands in quotes";
      throw new LanguageError(`${named(this.next)}: expected and, or, or the end; ${remedy}`, this.next.at);
    }
    return made;
  }

  either() {
    const parts = [this.both()];
    while (this.take("or")) parts.push(this.both());
    return parts.length > 1 ? { any: parts } : parts[0];
  }

  both() {
    const parts = [this.one()];
    while (this.take("and")) parts.push(this.one());
    return parts.length > 1 ? { all: parts } : parts[0];
  }

  one() {
    if (this.take("not")) return { not: this.one() };
    const open = this.take("(");
    if (!open) return this.comparison();
    const made = this.either();
    if (this.next.kind === "end") throw new LanguageError("this ( is not closed", open.at);
    if (!this.take(")")) throw new LanguageError(`${named(this.next)}: expected and, or, or )`, this.next.at);
    return made;
  }

  comparison() {
    const field = this.take("word", "quoted");
    if (!field) throw new LanguageError(`${named(this.next)}: expected the name of a field`, this.next.at);
    const problem = this.checkField(field.text);
    if (problem) throw new LanguageError(problem, field.at);
    const operator = this.take("operator");
    if (!operator) {
      throw new LanguageError(`${named(this.next)}: after the field ${field.text} comes one of ${OPERATORS}`, this.next.at);
    }
    const value = this.take("word", "quoted");
    if (!value) throw new LanguageError(`${named(this.next)}: expected a value after ${operator.text}`, this.next.at);
    if (/[<>]/.test(operator.text) && !NUMBER.test(value.text)) {
      throw new LanguageError(`“${value.text}” is no number, and ${operator.text} compares numbers`, value.at);
    }
    return { field: field.text, operator: operator.text, value: value.text, quoted: value.kind === "quoted" };
  }
}

/**
 * What a text says, for `holds`; null for an empty one, LanguageError for what is no filter.
 *
 * checkField: called with the name of each field; what is wrong with it in words, or null.
 */
export function parse(text, checkField = () => null) {
  return text.trim() ? new Parser(text, checkField).whole() : null;
}

/** Whether a parsed filter holds.  valueOf: from the name of a field to its value, null for none. */
export function holds(filter, valueOf) {
  if (filter.any) return filter.any.some((part) => holds(part, valueOf));
  if (filter.all) return filter.all.every((part) => holds(part, valueOf));
  if (filter.not) return !holds(filter.not, valueOf);
  const value = valueOf(filter.field) ?? null;
  const equal = { ...filter, operator: "=" };
  return filter.operator === "!=" ? !compare(value, equal) : compare(value, filter);
}

function compare(value, filter) {
  if (value === null) return filter.operator === "=" && !filter.quoted && /^(?:none|null)$/i.test(filter.value);
  if (Array.isArray(value)) return value.some((one) => one !== null && compare(one, filter));
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (filter.operator === "~") return text.toLowerCase().includes(filter.value.toLowerCase());
  if (filter.operator === "=") {
    return typeof value === "number" ? value === numberOf(filter.value) : text.toLowerCase() === filter.value.toLowerCase();
  }
  const [one, other] = [numberOf(text), Number(filter.value)];
  if (one === null) return false;
  return { "<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other }[filter.operator];
}

function numberOf(text) {
  return NUMBER.test(text) ? Number(text) : null;
}
