/* Requests to the collector that serves this page, and the key that it may ask for. */

import { $ } from "./dom.js";

export const ENDPOINT = new URL("api/v1/", document.baseURI).href;
let key = sessionStorage.getItem("key") || "", asking = null;

export const hasKey = () => key !== "";

/** Return the answer, whatever it takes to get the key; throw the collector's words if it is none. */
export async function request(path, { parameters = {}, headers = {}, ...options } = {}) {
  for (;;) {
    const url = new URL(path, ENDPOINT), used = key;
    for (const [name, value] of Object.entries(parameters)) if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
    if (/[^ -~]/.test(used)) {
      await askForKey("A key has ASCII characters only.");
      continue;
    }
    const answer = await fetch(url, {
      ...options,
      headers: { Accept: "*/*", ...headers, ...(used && { "X-FL-API-KEY": used }) },
      cache: "no-store",
      redirect: "error",
    });
    if (answer.ok) return answer;
    if (answer.status !== 401 && answer.status !== 403) throw await problem(answer);
    const reason = await problem(answer);
    if (answer.status === 403 && !reason.message.includes("key")) throw reason;
    if (used === key) await askForKey(answer.status === 403 && used ? "That is not its key." : "");
  }
}

export const get = async (path, parameters, options) => parse(await (await request(path, { parameters, ...options })).text());

/** Return the value of JSON. A number that JavaScript would round, such as a long id, stays as it is written, where the browser can. */
export function parse(text) {
  if (!JSON.rawJSON || !/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, { source }) => (
    Number.isInteger(value) && !Number.isSafeInteger(value) ? JSON.rawJSON(source) : value));
}

async function problem(answer) {
  let text = "";
  try {
    text = (await answer.json()).error;
  } catch {}
  return Object.assign(new Error(text || `the collector answered with status ${answer.status}`), { status: answer.status });
}

/** Return a problem as a sentence. */
export function words(error) {
  if (error instanceof TypeError) return "The collector cannot be reached.";
  const text = String(error.message || error);
  /* The name of a field stays as it is. */
  return `${/^\S+:/.test(text) ? text : text[0].toUpperCase() + text.slice(1)}.`;
}

function askForKey(reason) {
  asking ||= new Promise((resolve) => {
    const dialog = $("ask");
    $("ask-error").textContent = reason;
    dialog.addEventListener("close", () => {
      key = $("key").value.trim();
      sessionStorage.setItem("key", key);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

$("ask").addEventListener("cancel", (event) => event.preventDefault());
