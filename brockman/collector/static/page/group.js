/* One group: its definition in words, its members, and their download. */

import { get, hasKey, request, words } from "./api.js";
import { definitionWords } from "./definition.js";
import { $, element, moveByArrows, openByRow, plural, say } from "./dom.js";
import { peopleRows, pendingWords } from "./people.js";
import { place, register, retryLater, title } from "./router.js";
import { save } from "./download.js";

const PAGE = 50;
const state = { name: "", next: null, run: null };
const path = (name) => `group/${encodeURIComponent(name)}/`;

async function load(isMore) {
  const run = state.run = {};
  try {
    if (!isMore) say("group-notice", "Counting …");
    const found = await get(path(state.name), { limit: PAGE, after: isMore ? state.next : null });
    if (run !== state.run) return;
    const rows = peopleRows(found.members);
    if (isMore) $("group-rows").append(...rows);
    else $("group-rows").replaceChildren(...rows);
    if (isMore) rows[0]?.querySelector("a").focus();
    state.next = found.next;
    $("group-words").textContent = definitionWords(found);
    $("group-more").hidden = found.next === null;
    $("group-table").hidden = !$("group-rows").rows.length;
    $("group-empty").hidden = $("group-rows").rows.length > 0;
    const count = found.total === null ? "" : plural(found.total, "person", "people");
    say("group-notice", [count, pendingWords(found.pending)].filter(Boolean).join(" · "));
  } catch (error) {
    if (run !== state.run) return;
    $("group-table").hidden = !isMore;
    say("group-notice", error.status === 404 ? "There is no group with this name." : words(error));
    if (!isMore) retryLater(error);
  }
}

const dialog = $("confirm");
let asked = "";

function ask() {
  asked = state.name;
  $("confirm-text").textContent = `Delete the group “${asked}”? Its members and their triggers stay.`;
  dialog.returnValue = "";
  dialog.showModal();
}

/* The event comes later than the focus is back: the question may have been asked again. */
dialog.addEventListener("close", async () => {
  if (dialog.returnValue !== "yes") return;
  dialog.returnValue = "";
  try {
    await request(path(asked), { method: "DELETE" });
    location.hash = "groups";
  } catch (error) {
    say("group-notice", words(error));
  }
});

for (const format of ["csv", "ndjson"]) {
  $(`group-${format}`).addEventListener("click", () => save(path(state.name), format, `${state.name}.${format}`, (text) => say("group-notice", text)));
}
$("group-delete").addEventListener("click", ask);
$("group-more").addEventListener("click", () => load(true));
openByRow($("group-rows"));
moveByArrows($("group-rows"));

register(["group"], "view-group", "groups", {
  show(view, name) {
    state.name = name;
    title(name);
    $("group-title").textContent = name;
    $("group-words").textContent = "";
    $("group-edit").href = place("edit-group", name);
    $("group-empty").hidden = $("group-table").hidden = $("group-more").hidden = true;
    load(false);
  },
});
