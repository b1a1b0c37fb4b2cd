/* The numbers above the stream: counts, the rate over time, and what is frequent. */

import { get } from "./api.js";
import { $, element, number, plural } from "./dom.js";

const EVERY = 10000, SOONEST = 2000, FRESH_AFTER = 5000, MINUTES = 60;
const minuteClock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const chart = $("chart"), svg = chart.querySelector("svg");
let timer = 0, readAt = 0, changedAt = 0, isWanted = () => true, series = [], begin = 0, chosen = -1;

export function start(wanted) {
  isWanted = wanted;
  read();
}

/** Read the numbers again soon: something has arrived. */
export function soon() {
  changedAt = Date.now();
  plan(Math.max(0, readAt + SOONEST - Date.now()));
}

function plan(wait) {
  clearTimeout(timer);
  timer = setTimeout(read, wait);
}

async function read() {
  readAt = Date.now();
  /* The collector may answer with numbers that it has known for some seconds. */
  plan(readAt - changedAt < FRESH_AFTER ? SOONEST : EVERY);
  if (document.hidden || !isWanted()) return;
  try {
    const found = await get("overview/");
    $("stored").textContent = number.format(found.counts.triggers);
    $("repeated").textContent = number.format(found.counts.duplicates);
    $("rejected").textContent = number.format(found.counts.rejected);
    draw(found.minutes, found.is_partial);
    rank($("actions"), found.actions);
    rank($("objects"), found.objects);
  } catch (error) {
    console.warn("the numbers cannot be read:", error);
  }
}

function rank(list, entries) {
  const most = Math.max(1, ...entries.map(([, count]) => count));
  list.replaceChildren(...entries.slice(0, 5).map(([name, count]) => {
    const item = element("li", [element("span", name, { title: name }), element("span", number.format(count))]);
    const bar = element("meter", [], { max: most, value: count, "aria-hidden": "true" });
    item.append(bar);
    return item;
  }));
  if (!entries.length) list.replaceChildren(element("li", "–"));
}

/** Return a round number that is not below another. */
function roundUp(peak) {
  const power = 10 ** Math.floor(Math.log10(peak));
  return [1, 2, 4, 5, 10].map((factor) => factor * power).find((round) => round >= peak);
}

function draw(minutes, isPartial) {
  const counts = new Map(minutes), now = Math.floor(Date.now() / 60000) * 60;
  begin = now - (MINUTES - 1) * 60;
  series = Array.from({ length: MINUTES }, (_, i) => counts.get(begin + i * 60) || 0);
  const top = roundUp(Math.max(2, ...series));
  const bars = series.map((count, i) => shape("rect", { x: 10 * i + 1, width: 8, y: 100 - height(count, top), height: height(count, top) }));
  const lines = [0.5, 50, 99.5].map((y) => shape("line", { x1: 0, x2: 600, y1: y, y2: y }));
  svg.replaceChildren(...lines, ...bars);
  $("chart-y").replaceChildren(...[top, top / 2, 0].map((value) => element("span", number.format(value))));
  $("chart-x").replaceChildren(...[0, 20, 40, 59].map((i) => element("span", minuteClock.format(new Date((begin + i * 60) * 1000)))));
  const total = series.reduce((sum, count) => sum + count, 0);
  chart.setAttribute("aria-label", `${plural(total, "trigger")} received in the last hour, at most ${number.format(Math.max(...series))} in a minute`);
  $("rate-note").textContent = isPartial ? "(of the newest 200 000)" : "";
  choose(chosen);
}

const height = (count, top) => count ? Math.max(2, 99 * count / top) : 0;

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Mark a minute and say its number; -1 for none. */
function choose(index) {
  chosen = index;
  svg.querySelectorAll("rect").forEach((bar, i) => bar.classList.toggle("chosen", i === index));
  const at = index < 0 ? "" : minuteClock.format(new Date((begin + index * 60) * 1000));
  $("minute").textContent = index < 0 ? "" : `${at}: ${plural(series[index] || 0, "trigger")}`;
  chart.setAttribute("aria-valuenow", index < 0 ? MINUTES - 1 : index);
  chart.setAttribute("aria-valuetext", $("minute").textContent || `${plural(series.at(-1) || 0, "trigger")} in this minute`);
}

svg.addEventListener("pointermove", (event) => {
  const box = svg.getBoundingClientRect();
  choose(Math.min(MINUTES - 1, Math.max(0, Math.floor(MINUTES * (event.clientX - box.left) / box.width))));
});
svg.addEventListener("pointerleave", () => choose(-1));
chart.addEventListener("focus", () => choose(chosen < 0 ? MINUTES - 1 : chosen));
chart.addEventListener("blur", () => choose(-1));
chart.addEventListener("keydown", (event) => {
  const to = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: MINUTES - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(Math.min(MINUTES - 1, Math.max(0, to)));
});
