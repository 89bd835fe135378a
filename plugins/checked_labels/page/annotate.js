"use strict";
const at = (id) => document.getElementById(id);
let state = null;
let revealed = false;
let busy = false;

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || "The server refused.");
  return value;
}

async function act(work) {
  if (busy) return;
  busy = true;
  at("error").textContent = "";
  try {
    await work();
  } catch (error) {
    at("error").textContent = error instanceof TypeError
      ? "The server has stopped. Your answers are saved; start sentikit annotate again."
      : error.message;
  } finally {
    busy = false;
  }
}

function show(next) {
  state = next;
  revealed = false;
  const item = state.item;
  at("bar").value = state.total ? state.done / state.total : 1;
  const pace = state.seconds_each === null ? "" :
    ` · ${state.seconds_each} s each · about ${Math.max(1, Math.round(state.minutes_left))} min left`;
  at("progress").textContent = `${state.done} of ${state.total}` +
    (state.not_sure ? ` · ${state.not_sure} not sure or skipped` : "") + (item ? pace : "");
  at("text").textContent = item ? item.text : "All texts are checked. You can close this page.";
  at("labels").hidden = at("note-label").hidden = !item;
  at("unsure").hidden = at("skip").hidden = !item;
  at("reveal").hidden = !item || !item.has_prediction;
  at("undo").disabled = !state.can_undo;
  at("model").textContent = "";
  at("note").value = "";
  if (document.activeElement === at("note")) at("note").blur();
  window.scrollTo(0, 0);
}

function answer(label, status) {
  const item = state && state.item;
  if (!item) return;
  act(async () => show(await call("api/answer", {
    row: item.row, repeat: item.repeat, label, status, note: at("note").value, revealed,
  })));
}

const undo = () => act(async () => show(await call("api/undo", {})));

function reveal() {
  if (!state.item || !state.item.has_prediction) return;
  act(async () => {
    const model = await call("api/reveal", { row: state.item.row });
    revealed = true;
    const sure = model.confidence === null ? "" : ` (${Math.round(model.confidence * 100)} % sure)`;
    at("model").textContent = `The model says ${model.predicted}${sure}.`;
  });
}

function build(first) {
  first.labels.forEach((label, place) => {
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    key.textContent = String(place + 1);
    button.type = "button";
    button.append(key, ` ${label}`);
    button.addEventListener("click", () => answer(label, "checked"));
    at("labels").append(button);
  });
  at("guidelines").hidden = !first.guidelines;
  at("guide").textContent = first.guidelines;
  show(first);
}

at("unsure").addEventListener("click", () => answer(null, "not sure"));
at("skip").addEventListener("click", () => answer(null, "skipped"));
at("undo").addEventListener("click", undo);
at("reveal").addEventListener("click", reveal);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !state) return;
  if (event.target === at("note")) {
    if (event.key === "Escape" || event.key === "Enter") at("note").blur();
    return;
  }
  const place = "123456789".indexOf(event.key);
  if (place >= 0 && place < state.labels.length) answer(state.labels[place], "checked");
  else if (event.key === "u") undo();
  else if (event.key === "n") answer(null, "not sure");
  else if (event.key === "s") answer(null, "skipped");
  else if (event.key === "m") reveal();
  else if (event.key === "g") at("guidelines").open = !at("guidelines").open;
  else if (event.key === "e") { at("note").focus(); }
  else return;
  event.preventDefault();
});
act(async () => build(await call("api/state")));
