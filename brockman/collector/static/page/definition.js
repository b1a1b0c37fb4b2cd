/* The definition of a group: in words, and as the rows of a form. */

import { plural, shown } from "./dom.js";

export const OPERATORS = [["is", "is"], ["not", "is not"], ["contains", "contains"], ["at_least", "is at least"], ["at_most", "is at most"],
  ["set", "is known"], ["unset", "is not known"]];
const CLAUSE = ["action", "object", "times", "within_days"];

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !JSON.isRawJSON?.(value);
const either = (value) => Array.isArray(value) ? value.map(shown).join(" or ") : shown(value);

function conditionWords(name, wanted) {
  const subject = name.replace(/^(attributes|variables|identities)\./, "").replace(/^actor_id$/, "id");
  if (!isObject(wanted)) return `${subject} is ${either(wanted)}`;
  return Object.entries(wanted).map(([operator, value]) => {
    if (operator === "exists") return `${subject} is ${value ? "" : "not "}known`;
    return `${subject} ${(new Map(OPERATORS).get(operator) || operator)} ${either(value)}`;
  }).join(" and ");
}

function clauseWords(clause) {
  const { action, object, times = 1, within_days: days, since, until, ...variables } = clause;
  const parts = [action !== undefined ? either(action) : object === undefined ? "did anything" : "did anything with", object === undefined ? "" : either(object)];
  const conditions = Object.entries(variables).map(([name, wanted]) => conditionWords(name, wanted));
  if (conditions.length) parts.push(`(${conditions.join(", ")})`);
  if (times > 1) parts.push(`at least ${plural(times, "time")}`);
  if (days !== undefined) parts.push(`in ${plural(days, "day")}`);
  if (since !== undefined) parts.push(`since ${since}`);
  if (until !== undefined) parts.push(`before ${until}`);
  return parts.filter(Boolean).join(" ");
}

/** Return a definition as a sentence: "plan is pro, viewed pricing at least 3 times in 30 days, never paid". */
export function definitionWords({ where = {}, did = [], did_not: not = [] }) {
  const parts = [
    ...Object.entries(where).map(([name, wanted]) => conditionWords(name, wanted)),
    ...did.map(clauseWords),
    ...not.map((clause) => (clause.times > 1 ? `did not: ${clauseWords(clause)}` : `never ${clauseWords(clause)}`)),
  ];
  return parts.length ? parts.join(", ") : "everybody";
}

/** Return text as the value that it stands for: a number, true, false, or itself; in quotes it stays text. */
export function parseValue(text) {
  if (/^-?\d+(\.\d+)?(e[+-]\d+)?$/.test(text) && String(Number(text)) === text) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  if (/^".*"$/s.test(text)) try { return JSON.parse(text); } catch {}
  return text;
}

function valueText(value) {
  return typeof value === "string" && parseValue(value) !== value ? JSON.stringify(value) : shown(value);
}

/** Return the condition of the fields of a row, as `[name, wanted]`. */
export function readCondition({ place, name, operator, value }) {
  const key = place === "actor_id" ? place : `${place}.${name}`;
  if (operator === "set" || operator === "unset") return [key, { exists: operator === "set" }];
  const isText = place === "actor_id" || operator === "contains";
  const wanted = isText ? value : parseValue(value);
  return [key, operator === "is" ? wanted : { [operator]: wanted }];
}

/** Return text as a field has it: in one line, without space around it. */
export const typed = (text) => text.replace(/[\r\n]/g, "").trim();

/** Return the fields of a row for a condition; null if a row cannot show it, or would change it. */
export function conditionFields(key, wanted) {
  const fields = splitCondition(key, wanted);
  if (fields === null) return null;
  const read = readCondition({ ...fields, name: typed(fields.name), value: typed(fields.value) });
  return JSON.stringify(read) === JSON.stringify([key, wanted]) ? fields : null;
}

function splitCondition(key, wanted) {
  const [, place, name] = key.match(/^(?:(attributes|identities|variables)\.(.*)|actor_id)$/s) || [];
  const fields = { place: place || "actor_id", name: name || "" };
  if (!isObject(wanted)) return Array.isArray(wanted) ? null : { ...fields, operator: "is", value: valueText(wanted) };
  const [[operator, value], ...rest] = Object.entries(wanted);
  if (rest.length || Array.isArray(value)) return null;
  if (operator === "exists") return { ...fields, operator: value ? "set" : "unset", value: "" };
  return { ...fields, operator, value: operator === "contains" ? value : valueText(value) };
}

/** Return whether the form can show a definition; if not, it is edited as JSON. */
export function fitsForm({ where = {}, did = [], did_not: not = [] }) {
  return Object.entries(where).every(([key, wanted]) => conditionFields(key, wanted)) && [...did, ...not].every((clause) =>
    Object.entries(clause).every(([name, value]) => CLAUSE.includes(name) ? !Array.isArray(value) && typed(String(value)) === String(value)
      : name.startsWith("variables.") && conditionFields(name, value)));
}
