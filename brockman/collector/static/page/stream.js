/* The stream: what arrives, the newest first, and older ones on demand. */

import { ENDPOINT, get, hasKey, parse, request, words } from "./api.js";
import { $, element, moveByArrows, number, openByRow, say, shortTime } from "./dom.js";
import { soon as numbersSoon } from "./numbers.js";
import { place, register, replacePlace, retry, title } from "./router.js";
import { makeRow, open } from "./trigger.js";

const MOST_ROWS = 500, PAGE = 100;
const rows = $("rows");
/* `cursor` is behind what was shown last, `older` before the last row; `most` grows with what is asked for. */
const state = { cursor: null, older: null, most: MOST_ROWS, paused: false, held: [], hasGap: false, isUnread: false, search: "", opened: "", stream: null, run: null };

function show(status, text = status) {
  $("state").dataset.state = status;
  say("state", text);
}

const showRunning = () => show(state.paused ? "paused" : "live");

/* ---- what arrives ---- */

async function follow() {
  const stream = state.stream = new AbortController();
  let wait = 1000;
  while (state.stream === stream) {
    try {
      const headers = state.cursor === null ? {} : { "Last-Event-ID": state.cursor };
      const answer = await request("stream/", { parameters: { search: state.search }, headers, signal: stream.signal });
      showRunning();
      retry();
      if (state.isUnread) {
        restart();
        return;
      }
      await readEvents(answer.body, (data) => { wait = 1000; take(data); });
    } catch (error) {
      if (stream.signal.aborted) return;
      console.warn("the stream broke off:", error);
    }
    if (stream.signal.aborted) return;
    show("lost", "connection lost, trying again");
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
    wait = Math.min(30000, 2 * wait);
  }
}

async function readEvents(body, handle) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const [, name, text] = line.match(/^(\w*): ?(.*)$/s) || [];
        if (name) event[name] = text;
      }
      if (event.id) state.cursor = event.id;
      if (event.event === "triggers") handle(parse(event.data));
    }
  }
}

function take({ triggers, gap }) {
  numbersSoon();
  const arrived = triggers.map((trigger) => ({ trigger, cursor: state.cursor }));
  if (!state.paused) {
    prepend(arrived, gap);
    return;
  }
  const held = gap ? arrived : state.held.concat(arrived);
  state.hasGap ||= gap || held.length > MOST_ROWS;
  state.held = held.slice(-MOST_ROWS);
  say("notice", `${number.format(state.held.length)}${state.hasGap ? " or more" : ""} new, paused`);
}

function prepend(arrived, hasGap) {
  const made = arrived.map(({ trigger, cursor }) => mark(makeRow(trigger, more()), cursor, "new")).reverse();
  if (hasGap) made.push(makeGap());
  rows.prepend(...made);
  select();
  while (rows.rows.length > state.most) {
    rows.lastElementChild.remove();
    setOlder(rows.lastElementChild.cursor);
  }
  if (arrived.length) showEmpty(false);
  if (arrived.length && !hasGap) say("notice", "");
}

function showEmpty(isEmpty) {
  $("first-steps").hidden = !isEmpty;
  $("stream-table").hidden = isEmpty;
}

/** Remember a cursor that is not before a row: what is older than the row is found with it. */
function mark(row, cursor, name) {
  row.cursor = cursor;
  if (name) row.classList.add(name);
  return row;
}

function makeGap() {
  const button = element("button", "Show them", { type: "button" });
  button.addEventListener("click", restart);
  const text = "Some are left out here: more arrive than can be shown, or they are too big. ";
  return mark(element("tr", element("td", [text, button], { colspan: "5" }), { class: "gap" }), state.cursor);
}

/* ---- lists, newest first ---- */

function setOlder(cursor) {
  state.older = cursor;
  $("more").hidden = cursor === null;
}

async function load(run) {
  const query = state.search;
  say("notice", query ? "Searching …" : "");
  const { triggers, next, newest, searched_to } = await get("trigger/", { order: "newest", limit: PAGE, search: query, total: "no" });
  if (run !== state.run) return;
  rows.replaceChildren(...triggers.map((trigger) => mark(makeRow(trigger, more()), newest)));
  state.cursor = newest;
  state.most = MOST_ROWS;
  setOlder(next);
  select();
  showEmpty(!triggers.length && !query);
  saySearched(searched_to, triggers.length || !query ? "" : "Nothing matches.");
}

/** Say how far a search has come that takes longer than one request may. */
function saySearched(moment, otherwise) {
  say("notice", moment ? `Searched back to ${shortTime(moment)}. "Show older ones" searches on.` : otherwise);
}

/** Add older rows. The cursor may be before some that are there: those that were trimmed are loaded again. */
async function loadOlder() {
  const query = state.search, last = rows.rows.length;
  while (state.older !== null && rows.rows.length === last) {
    const after = state.older;
    const { triggers, next, searched_to } = await get("trigger/", { order: "newest", limit: PAGE, search: query, total: "no", after });
    if (query !== state.search) return;
    const missing = triggers.filter((trigger) => !document.getElementById(`row-${trigger.id}`));
    rows.append(...missing.map((trigger) => mark(makeRow(trigger, more()), after)));
    state.most = Math.max(state.most, rows.rows.length);
    setOlder(next);
    saySearched(searched_to, "");
  }
  select();
  rows.rows[last]?.querySelector("a")?.focus();
}

async function restart() {
  state.stream?.abort();
  state.stream = null;
  state.cursor = null;
  state.held = [];
  state.hasGap = false;
  state.isUnread = false;
  const run = state.run = {};
  /* The stream begins where the list ends, so that nothing in between is missed. */
  await load(run).catch((error) => {
    if (run !== state.run) return;
    rows.replaceChildren();
    setOlder(null);
    state.isUnread = error instanceof TypeError;
    say("notice", `The list cannot be read. ${words(error)}`);
  });
  if (run === state.run) follow();
}

/* ---- the place: a search, and the trigger that is open ---- */

const more = () => ({ search: state.search });

function select() {
  for (const link of rows.querySelectorAll("[aria-current]")) link.removeAttribute("aria-current");
  document.getElementById(`row-${state.opened}`)?.querySelector("a").setAttribute("aria-current", "true");
}

async function showPlace(name, value, parameters) {
  const search = (parameters.get("search") || "").trim();
  const hadFocus = rows.contains(document.activeElement);
  title("Stream");
  numbersSoon();
  state.opened = name === "trigger" ? value.toLowerCase() : "";
  select();
  if (search !== state.search) {
    $("search").value = state.search = search;
    if (state.stream) restart();
  }
  const id = state.opened;
  const isOpen = await open(id, more(), () => state.opened === id);
  if (isOpen && hadFocus) $("detail-title").focus({ preventScroll: true });
  if (isOpen) title(`${$("detail-title").textContent.slice(0, 100)}`);
}

function close() {
  const row = document.getElementById(`row-${state.opened}`);
  location.hash = place("stream", "", more());
  (row?.querySelector("a") || $("stream-title")).focus();
}

let typing = 0;
function searchSoon() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const search = $("search").value.trim();
    if (search === state.search) return;
    state.search = search;
    replacePlace(state.opened ? place("trigger", state.opened, more()) : place("stream", "", more()));
    restart();
  }, 200);
}

function pause() {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  if ($("state").dataset.state !== "lost") showRunning();
  if (state.paused) return;
  const { held, hasGap } = state;
  state.held = [];
  state.hasGap = false;
  say("notice", "");
  prepend(held, hasGap);
}

function showFirstSteps() {
  const key = hasKey() ? "YOUR KEY" : "any";
  $("first-python").textContent = `from brockman import FocusLabClient

with FocusLabClient(${JSON.stringify(key)}, ${JSON.stringify(ENDPOINT)}) as client:
    client.record_trigger("ada", "viewed", "page", variables={"title": "Hello"})
`;
  $("first-curl").textContent = `curl ${ENDPOINT}trigger/ -H 'Content-Type: application/json'${hasKey() ? ` -H 'X-FL-API-KEY: ${key}'` : ""} \\
  -d '{"actor_id": "ada", "action": "viewed", "object": "page"}'
`;
}

async function copySteps() {
  try {
    await navigator.clipboard.writeText($("first-python").textContent);
    $("copy-steps").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("first-python"));
  }
}

export async function start() {
  $("pause").addEventListener("click", pause);
  $("search").addEventListener("input", searchSoon);
  $("more").addEventListener("click", () => loadOlder().catch((error) => say("notice", words(error))));
  $("close").addEventListener("click", close);
  $("copy-steps").addEventListener("click", copySteps);
  openByRow(rows);
  moveByArrows(rows);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.opened && !event.target.closest("input, dialog")) close();
  });
  /* A page that the browser keeps for the way back has no connection, and goes on where it was. */
  addEventListener("pagehide", () => state.stream?.abort());
  addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
  await restart();
  showFirstSteps();
}

register(["stream", "trigger"], "view-stream", "stream", { show: showPlace });
