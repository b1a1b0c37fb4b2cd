/* Elements and the text in them. Text is only ever set as text. */

export const $ = (id) => document.getElementById(id);

const decimal = new Intl.NumberFormat("en");
export const number = { format: (value) => decimal.format(value).replaceAll(",", "\u202f") };
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const preciseClock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const near = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
const far = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", year: "numeric" });
const HALF_A_DAY = 12 * 3600 * 1000, HALF_A_YEAR = 182 * 24 * 3600 * 1000;
export const MAPPINGS = { captured_identities: "identity", captured_attributes: "attribute", variables: "variable" };

/** Return an element with text, an element, or a list of these in it. */
export function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
  return made;
}

/** Return a moment as a person reads it; a leap second is a valid time, but not for JavaScript. */
export function shortTime(text, isPrecise = false) {
  const moment = new Date(text), distance = Math.abs(Date.now() - moment);
  if (isNaN(moment)) return String(text);
  return (distance < HALF_A_DAY ? (isPrecise ? preciseClock : clock) : distance < HALF_A_YEAR ? near : far).format(moment);
}

export const time = (text) => text ? element("time", shortTime(text), { datetime: text, title: text }) : "–";

export function shown(value) {
  return Array.isArray(value) ? value.map(shown).join(", ") : typeof value === "string" ? value : JSON.stringify(value);
}

export const plural = (count, one, many = `${one}s`) => `${number.format(count)} ${count === 1 ? one : many}`;

/** Set a text that a screen reader announces, only when it changes. */
export function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export function cell(content, title) {
  return element("td", content, { title: title ?? (typeof content === "string" ? content : undefined) });
}

/** Return terms and descriptions. */
export function fields(pairs) {
  return pairs.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
}

/** Let the arrow keys move between the links of the rows of a table or list. */
export function moveByArrows(container) {
  container.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches("a, summary")) return;
    const links = [...container.querySelectorAll("tr, li")].map((row) => row.querySelector("a, summary")).filter(Boolean);
    const to = links[links.indexOf(event.target) + step];
    if (to) {
      event.preventDefault();
      to.focus();
    }
  });
}

/** Let a click anywhere on a row follow its link. */
export function openByRow(body) {
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    const link = row && !event.target.closest("a, button") && !getSelection().toString() && row.querySelector("a");
    if (!link) return;
    link.focus({ preventScroll: true });
    link.click();
  });
}
