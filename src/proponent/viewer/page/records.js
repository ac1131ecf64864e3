/** Reading files of JSON lines: each line is checked, and errors name file and line. */

import { renamed } from "./names.js";

/** A file that cannot be used; its message is for the reader of the page. */
export class FileError extends Error {}

/** Python writes numbers that JSON does not have; outside strings they become null. */
const STRING_OR_ODD_NUMBER = /"(?:[^"\\]|\\.)*"|-?\b(?:Infinity|NaN)\b/g;

function parsed(line, place) {
  try {
    return JSON.parse(line);
  } catch {
    try {
      return JSON.parse(line.replace(STRING_OR_ODD_NUMBER, (found) => (found[0] === '"' ? found : "null")));
    } catch {
      throw new FileError(`${place}: not JSON; one object a line is expected`);
    }
  }
}

/** Whether a record says what the model itself answers to a query, and holds no passages. */
export function isAnswer(record) {
  return !Array.isArray(record.proponents) && "query_id" in record && typeof record.correct === "boolean";
}

/** A record of a result file, or of the model's answers, under the newer names; FileError for anything else. */
export function checked(record, place) {
  if (record === null || typeof record !== "object" || Array.isArray(record)) {
    throw new FileError(`${place}: not a JSON object; one object a line is expected`);
  }
  if (typeof record.error === "string" && !("proponents" in record)) throw new FileError(record.error);
  if (isAnswer(record)) return record;
  if (!Array.isArray(record.proponents)) {
    throw new FileError(`${place}: no field 'proponents'; is this a result file?`);
  }
  for (const role of ["proponent", "opponent"]) {
    const count = (record[`${role}s`] ?? []).length;
    for (const column of ["ids", "scores"]) {
      const values = record[`${role}_${column}`];
      if (Array.isArray(values) && values.length !== count) {
        throw new FileError(`${place}: ${count} ${role}s with ${values.length} ${column}; one is needed for each`);
      }
    }
  }
  return renamed(record);
}

async function* linesOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream("utf-8", { fatal: true })).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
  yield rest;
}

/**
 * All records of a stream of bytes.
 *
 * name: of the file, for errors.  onProgress: called now and then with the number of records.
 * Throws FileError naming file and line.
 */
export async function readRecords(name, stream, onProgress) {
  const records = [];
  let number = 0;
  try {
    for await (const line of linesOf(stream)) {
      number += 1;
      if (!line.trim()) continue;
      records.push(checked(parsed(line, `${name}:${number}`), `${name}:${number}`));
      if (records.length % 1000 === 0) onProgress(records.length);
    }
  } catch (error) {
    if (error instanceof FileError) throw error;
    const what = error instanceof TypeError ? "not UTF-8, or the file is not whole" : error.message;
    throw new FileError(`${name}: cannot be read near line ${number + 1} (${what})`);
  }
  if (!records.length) throw new FileError(`${name}: there is nothing in it`);
  return records;
}

/** Records of a file that the reader of the page opened; `.gz` is unpacked here. */
export function readLocalFile(file, onProgress) {
  const packed = file.name.endsWith(".gz");
  const stream = packed ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
  return readRecords(file.name, stream, onProgress);
}
