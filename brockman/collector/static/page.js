/* The live page: reads the API of the collector that serves it, and nothing else. Text is only ever set as text. */
"use strict";

const MOST_ROWS = 500, API = "api/v1/", OVERVIEW_EVERY = 10000;
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
const MAPPINGS = { captured_identities: "identity", captured_attributes: "attribute", variables: "variable" };

const state = { key: sessionStorage.getItem("key") || "", cursor: null, older: null, paused: false, held: [], search: "", stream: null };

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function show(status, text) {
  $("state").dataset.state = status;
  if ($("state").textContent !== text) $("state").textContent = text;
}

/* ---- requests ---- */

async function get(path, parameters = {}, options = {}) {
  for (;;) {
    const url = new URL(API + path, document.baseURI);
    for (const [name, value] of Object.entries(parameters)) if (value !== null && value !== "") url.searchParams.set(name, value);
    const headers = { ...options.headers }, key = state.key;
    if (/[^ -~]/.test(key)) {
      await askForKey("A key has ASCII characters only.");
      continue;
    }
    if (key) headers["X-FL-API-KEY"] = key;
    const answer = await fetch(url, { ...options, headers, cache: "no-store", redirect: "error" });
    if (answer.status !== 401 && answer.status !== 403) {
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return answer;
    }
    if (key === state.key) await askForKey(answer.status === 403 && key ? "That is not its key." : "");
  }
}

let asking = null;
function askForKey(problem) {
  asking ||= new Promise((resolve) => {
    const dialog = $("ask");
    $("ask-error").textContent = problem;
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      state.key = $("key").value.trim();
      sessionStorage.setItem("key", state.key);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/* ---- the stream ---- */

async function follow() {
  const stream = state.stream = new AbortController();
  let wait = 1000;
  while (state.stream === stream) {
    try {
      const headers = state.cursor === null ? {} : { "Last-Event-ID": state.cursor };
      const answer = await get("stream/", { search: state.search }, { headers, signal: stream.signal });
      show(state.paused ? "paused" : "live", state.paused ? "paused" : "live");
      await readEvents(answer.body, (data) => { wait = 1000; take(data); });
    } catch (error) {
      if (stream.signal.aborted) return;
      console.warn("the stream broke off:", error);
    }
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
      if (event.event === "triggers") handle(JSON.parse(event.data));
    }
  }
}

function take({ triggers, gap }) {
  overviewSoon();
  if (state.paused) {
    state.held = state.held.concat(triggers).slice(-MOST_ROWS);
    notice(`${number.format(state.held.length)}${state.held.length === MOST_ROWS || gap ? " or more" : ""} new, paused`);
    return;
  }
  if (gap) notice("More arrive than can be shown; these are the newest.");
  prepend(triggers);
}

function prepend(triggers) {
  const rows = triggers.map((trigger) => makeRow(trigger, true)).reverse();
  $("rows").prepend(...rows);
  while ($("rows").rows.length > MOST_ROWS) $("rows").lastElementChild.remove();
}

function notice(text) {
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

/* ---- rows and the one that is open ---- */

function makeRow(trigger, isNew) {
  const row = element("tr", undefined, { "aria-selected": "false" });
  row.id = `row-${trigger.id}`;
  const moment = new Date(trigger.recorded_at);
  const isToday = Math.abs(Date.now() - moment) < 12 * 3600 * 1000;
  const time = element("td");
  /* A leap second is a valid time, but not for JavaScript. */
  const when = isNaN(moment) ? trigger.recorded_at : (isToday ? clock : day).format(moment);
  const link = element("a", when, { href: `#${trigger.id}`, title: trigger.recorded_at });
  time.append(link);
  row.append(time);
  for (const text of [trigger.actor_id, trigger.action, trigger.object, summary(trigger)]) row.append(element("td", text, { title: text }));
  row.trigger = trigger;
  if (isNew) row.classList.add("new");
  if (location.hash === `#${trigger.id}`) row.setAttribute("aria-selected", "true");
  return row;
}

function summary(trigger) {
  return Object.keys(MAPPINGS).flatMap((name) => Object.entries(trigger[name] || {}))
    .map(([key, value]) => `${key}: ${shown(value)}`).join("   ");
}

function shown(value) {
  return Array.isArray(value) ? value.map(shown).join(", ") : typeof value === "string" ? value : JSON.stringify(value);
}

async function openFromHash() {
  const id = location.hash.slice(1).toLowerCase();
  for (const row of $("rows").rows) row.setAttribute("aria-selected", String(row.trigger.id === id));
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) {
    $("detail").hidden = true;
    return;
  }
  let trigger = document.getElementById(`row-${id}`)?.trigger;
  if (!trigger) {
    try {
      [trigger] = (await (await get("trigger/", { id, total: "no" })).json()).triggers;
    } catch (error) {
      notice(`The trigger cannot be read: ${error.message}`);
      return;
    }
  }
  if (location.hash.slice(1).toLowerCase() !== id) return;
  if (!trigger) {
    notice("There is no trigger with this id.");
    $("detail").hidden = true;
    return;
  }
  $("detail-title").textContent = `${trigger.action} ${trigger.object}`;
  const fields = [["actor", trigger.actor_id], ["recorded", trigger.recorded_at], ["id", trigger.id]];
  for (const [name, label] of Object.entries(MAPPINGS)) {
    for (const [key, value] of Object.entries(trigger[name] || {})) fields.push([`${label} ${key}`, shown(value)]);
  }
  $("fields").replaceChildren(...fields.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("json").textContent = JSON.stringify(trigger, null, 2);
  $("link").href = `#${trigger.id}`;
  $("detail").hidden = false;
}

function close() {
  const row = document.getElementById(`row-${location.hash.slice(1)}`);
  history.replaceState(null, "", location.pathname);
  openFromHash();
  (row?.querySelector("a") || $("stream")).focus();
}

/* ---- lists, newest first ---- */

async function load(older) {
  const query = state.search;
  const parameters = { order: "newest", limit: 100, search: query, total: "no", after: older ? state.older : null };
  const { triggers, next, newest, searched_to } = await (await get("trigger/", parameters)).json();
  if (query !== state.search) return;
  const rows = triggers.map((trigger) => makeRow(trigger, false));
  if (older) $("rows").append(...rows);
  else $("rows").replaceChildren(...rows);
  state.older = next;
  if (!older) state.cursor = newest;
  $("more").hidden = next === null;
  if (searched_to) notice(`Searched back to ${day.format(new Date(searched_to))}. "Show older ones" searches on.`);
  else if (!older || query) notice(older || triggers.length ? "" : query ? "Nothing matches." : "Nothing has arrived yet. Record a trigger, and it appears here.");
}

async function restart() {
  state.stream?.abort();
  state.cursor = null;
  state.held = [];
  /* The stream begins where the list ends, so that nothing in between is missed. */
  await load(false).catch((error) => notice(`The list cannot be read: ${error.message}`));
  follow();
}

let typing = 0;
function searchSoon() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    state.search = $("search").value.trim();
    restart();
  }, 200);
}

/* ---- numbers ---- */

let overviewTimer = 0, overviewAt = 0;
function overviewSoon() {
  if (!overviewTimer) overviewTimer = setTimeout(overview, Math.max(1000, overviewAt + 2000 - Date.now()));
}

async function overview() {
  clearTimeout(overviewTimer);
  overviewTimer = setTimeout(overview, OVERVIEW_EVERY);
  overviewAt = Date.now();
  try {
    const found = await (await get("overview/")).json();
    $("stored").textContent = number.format(found.counts.triggers);
    $("repeated").textContent = number.format(found.counts.duplicates);
    $("refused").textContent = number.format(found.counts.rejected);
    draw(found.minutes, found.is_partial);
    rank($("actions"), found.actions);
    rank($("objects"), found.objects);
  } catch (error) {
    console.warn("the numbers cannot be read:", error);
  }
}

function rank(list, entries) {
  list.replaceChildren(...entries.slice(0, 5).map(([name, count]) => {
    const item = element("li");
    item.append(element("span", name, { title: name }), element("span", number.format(count)));
    return item;
  }));
}

function draw(minutes, isPartial) {
  const svg = $("chart"), now = Math.floor(Date.now() / 60000) * 60, counts = new Map(minutes);
  const series = Array.from({ length: 60 }, (_, i) => counts.get(now - (59 - i) * 60) || 0);
  const peak = Math.max(1, ...series), title = $("chart-text");
  const bars = series.map((count, i) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect"), height = count ? Math.max(1.5, 76 * count / peak) : 0;
    for (const [name, value] of Object.entries({ x: 10 * i + 1, width: 8, y: 80 - height, height })) bar.setAttribute(name, value);
    return bar;
  });
  title.textContent = `Triggers received in each of the last 60 minutes; at most ${number.format(Math.max(...series))} in one.`;
  svg.replaceChildren(title, ...bars);
  $("peak").textContent = `at most ${number.format(Math.max(...series))}`;
  $("rate").textContent = isPartial ? "(the newest 200,000)" : "";
}

/* ---- controls ---- */

$("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  if ($("state").dataset.state !== "lost") show(state.paused ? "paused" : "live", state.paused ? "paused" : "live");
  if (!state.paused) {
    notice("");
    prepend(state.held);
    state.held = [];
  }
});
$("search").addEventListener("input", searchSoon);
document.querySelector("form[role=search]").addEventListener("submit", (event) => event.preventDefault());
$("more").addEventListener("click", () => load(true).catch((error) => notice(error.message)));
$("close").addEventListener("click", close);
$("rows").addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && !event.target.closest("a")) location.hash = row.trigger.id;
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, dialog");
  if (event.key === "Escape" && !$("detail").hidden && !isTyping) close();
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    $("search").focus();
  }
});
addEventListener("hashchange", openFromHash);
restart().then(openFromHash);
overview();
