/* The form that makes a group, or changes one. */

import { get, parse, request, words } from "./api.js";
import { OPERATORS, conditionFields, definitionWords, fitsForm, readCondition } from "./definition.js";
import { $, element } from "./dom.js";
import { place, register, retryLater, title } from "./router.js";

const form = $("form");
const state = { edited: null, isJson: false };

/* ---- rows ---- */

function addCondition(container, given = {}) {
  const row = $("where-row").content.firstElementChild.cloneNode(true);
  const isVariable = container.classList.contains("variables");
  if (isVariable) {
    row.querySelector("[name=place]").replaceWith(element("span", "variable"));
    row.querySelector("[name=name]").placeholder = "price";
    row.querySelector("[name=value]").placeholder = "9.5";
  }
  row.querySelector("[name=operator]").append(...OPERATORS.map(([name, text]) => element("option", text, { value: name })));
  fill(row, given);
  container.append(row);
  adapt(row);
  return row;
}

function addClause(container, clause = {}) {
  const row = $("clause-row").content.firstElementChild.cloneNode(true);
  fill(row, clause);
  for (const [name, wanted] of Object.entries(clause)) {
    if (name.startsWith("variables.")) addCondition(row.querySelector(".variables"), conditionFields(name, wanted));
  }
  container.append(row);
  return row;
}

function fill(row, values) {
  for (const [name, value] of Object.entries(values)) {
    const field = row.querySelector(`[name="${CSS.escape(name)}"]`);
    if (field) field.value = value;
  }
}

/** Hide the fields of a condition that mean nothing with the others. */
function adapt(row) {
  const operator = row.querySelector("[name=operator]").value;
  row.querySelector("[name=value]").hidden = operator === "set" || operator === "unset";
  row.querySelector("[name=name]").hidden = row.querySelector("[name=place]")?.value === "actor_id";
}

const valueOf = (row, name) => row.querySelector(`:scope > [name=${name}], :scope > label > [name=${name}]`)?.value.trim() ?? "";

function readRow(row) {
  const names = ["place", "name", "operator", "value"];
  return Object.fromEntries(names.map((name) => [name, valueOf(row, name) || (name === "place" ? "variables" : "")]));
}

function readClause(row) {
  const clause = {};
  for (const name of ["action", "object"]) if (valueOf(row, name)) clause[name] = valueOf(row, name);
  if (valueOf(row, "times") !== "" && valueOf(row, "times") !== "1") clause.times = Number(valueOf(row, "times"));
  if (valueOf(row, "within_days") !== "") clause.within_days = Number(valueOf(row, "within_days"));
  for (const one of row.querySelectorAll(".variables > .clause")) {
    const [name, wanted] = readCondition(readRow(one));
    clause[name] = wanted;
  }
  return clause;
}

/* ---- the whole ---- */

/** Return the definition; throw what is wrong with it, in words. */
function read() {
  if (state.isJson) {
    try {
      return parse($("form-text").value);
    } catch (error) {
      throw new Error(`This is not JSON: ${error.message}`);
    }
  }
  const where = {};
  for (const row of $("form-where").children) {
    const found = readRow(row);
    if (found.place !== "actor_id" && !found.name && !found.value) continue; // nothing was filled in
    const [name, wanted] = readCondition(found);
    if (name in where) throw new Error(`There are two conditions for ${name}. Put both into one as JSON`);
    where[name] = wanted;
  }
  const [did, not] = ["did", "did_not"].map((name) => [...$(`form-${name}`).children].map(readClause).filter((clause) => Object.keys(clause).length));
  return { where, did, did_not: not };
}

function write(definition) {
  const { where = {}, did = [], did_not: not = [] } = definition;
  for (const name of ["where", "did", "did_not"]) $(`form-${name}`).replaceChildren();
  setMode(!fitsForm(definition), definition);
  if (state.isJson) return;
  for (const [key, wanted] of Object.entries(where)) addCondition($("form-where"), conditionFields(key, wanted));
  for (const clause of did) addClause($("form-did"), clause);
  for (const clause of not) addClause($("form-did_not"), clause);
  preview();
}

/** Show no definition until there is one: that of another group must not be saved for this one. */
function empty() {
  $("form-parts").hidden = $("form-json").hidden = true;
  $("form-words").textContent = "";
  for (const id of ["form-save", "form-mode"]) $(id).disabled = true;
}

function setMode(isJson, definition) {
  state.isJson = isJson;
  for (const id of ["form-save", "form-mode"]) $(id).disabled = false;
  $("form-json").hidden = !isJson;
  $("form-parts").hidden = isJson;
  $("form-mode").textContent = isJson ? "Edit in the form" : "Edit as JSON";
  if (isJson) {
    const { where = {}, did = [], did_not = [] } = definition;
    $("form-text").value = JSON.stringify({ where, did, did_not }, null, 2);
  }
  preview();
}

function preview() {
  let text = "";
  try {
    text = `In words: ${definitionWords(read())}`;
  } catch {}
  $("form-words").textContent = text;
}

function fail(error) {
  $("form-error").textContent = words(error);
}

async function submit(event) {
  event.preventDefault();
  const name = $("form-name").value.trim();
  $("form-error").textContent = "";
  if (!name || /^\.\.?$/.test(name)) {
    fail(new Error(name ? "a name is more than dots" : "give the group a name"));
    $("form-name").focus();
    return;
  }
  try {
    const definition = read(), { groups } = await get("group/");
    if (name !== state.edited && groups.some((group) => group.name === name)) throw new Error("there is a group with this name already");
    await request(`group/${encodeURIComponent(name)}/`, {
      method: "PUT", body: JSON.stringify(definition), headers: { "Content-Type": "application/json" },
    });
    if (state.edited !== null && state.edited !== name) await request(`group/${encodeURIComponent(state.edited)}/`, { method: "DELETE" });
    location.hash = place("group", name);
  } catch (error) {
    fail(error);
  }
}

form.addEventListener("submit", submit);
form.addEventListener("input", (event) => {
  const row = event.target.closest(".clause");
  if (row && event.target.matches("select")) adapt(row);
  if (!$("form-save").disabled) preview();
});
form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("remove")) {
    const box = button.closest(".clause"), next = box.parentElement.parentElement.querySelector("[data-add]");
    box.remove();
    next?.focus();
    preview();
  }
  const add = button?.dataset.add;
  if (!add) return;
  const row = add === "variable" ? addCondition(button.parentElement.querySelector(".variables"))
    : add === "where" ? addCondition($("form-where")) : addClause($(`form-${add}`));
  row.querySelector("input, select").focus();
});
$("form-mode").addEventListener("click", () => {
  try {
    const definition = read();
    if (!state.isJson) setMode(true, definition);
    else if (fitsForm(definition)) write(definition);
    else throw new Error("The form has no fields for this; it stays JSON");
    $("form-error").textContent = "";
  } catch (error) {
    fail(error);
  }
});

register(["new-group", "edit-group"], "view-form", "groups", {
  async show(view, name) {
    state.edited = view === "edit-group" ? name : null;
    $("form-error").textContent = "";
    $("form-name").value = name;
    $("form-title").textContent = state.edited === null ? "New group" : `Change “${name}”`;
    $("form-cancel").href = state.edited === null ? "#groups" : place("group", name);
    title($("form-title").textContent);
    if (state.edited === null) {
      write({});
      addCondition($("form-where"));
      addClause($("form-did"));
      preview();
      return;
    }
    empty();
    try {
      const { groups } = await get("group/");
      if (state.edited !== name) return;
      const found = groups.find((group) => group.name === name);
      if (!found) throw new Error("there is no group with this name");
      write(found);
    } catch (error) {
      if (state.edited !== name) return;
      fail(error);
      retryLater(error);
    }
  },
});
