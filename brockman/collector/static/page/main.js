/* The page of a collector: reads the API of the collector that serves it, and nothing else. */

import { $ } from "./dom.js";
import { follow, isShown } from "./router.js";
import * as stream from "./stream.js";
import "./people.js";
import "./person.js";
import "./groups.js";
import "./group.js";
import "./group_form.js";
import "./refused.js";
import "./senders.js";
import { start as startNumbers } from "./numbers.js";

$("skip").addEventListener("click", () => document.querySelector("main > section:not([hidden]) h2[tabindex]").focus());
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const field = document.querySelector("main > section:not([hidden]) input[type=search]");
  if (field) {
    event.preventDefault();
    field.focus();
  }
});
for (const form of document.querySelectorAll("form[role=search]")) form.addEventListener("submit", (event) => event.preventDefault());

follow();
stream.start();
startNumbers(() => isShown("view-stream"));
