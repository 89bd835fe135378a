
"use strict";
(function () {
  const page = 25;
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("found");
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  let found = [];
  let shown = 0;

  // Texts come from strangers: everything is set as text, nothing as markup.
  function node(tag, text, kind) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function className(label) {
    return label < 0 ? "invalid" : data.classes[label];
  }

  function outcomeFits(row, run, outcome) {
    const [, gold, , labels] = row;
    const asked = run < 0 ? labels : [labels[run]];
    if (outcome === "right") return asked.some((label) => label === gold);
    if (outcome === "wrong") return asked.some((label) => label !== gold);
    if (outcome === "alone") {
      const right = labels.flatMap((label, i) => (label === gold ? [i] : []));
      return right.length === 1 && (run < 0 || right[0] === run);
    }
    const wanted = outcome === "=" ? -1 : data.classes.indexOf(outcome.slice(1));
    return asked.includes(wanted);
  }

  function chosen() {
    const value = (name) => form.elements[name].value;
    const source = value("source") && data.sources.indexOf(value("source"));
    const gold = value("label") && data.classes.indexOf(value("label"));
    const run = value("run") ? data.runs.indexOf(value("run")) : -1;
    const outcome = value("outcome");
    const text = value("text").trim().toLowerCase();
    return data.rows.filter((row) =>
      (source === "" || row[2] === source) &&
      (gold === "" || row[1] === gold) &&
      (run < 0 || outcome || differs(row, run)) &&
      (!outcome || outcomeFits(row, run, outcome)) &&
      (!text || row[0].toLowerCase().includes(text)));
  }

  // A run chosen without an outcome: where it stands against most of the others.
  function differs(row, run) {
    const others = row[3].filter((label, i) => i !== run);
    return others.length === 0 || others.filter((label) => label !== row[3][run]).length * 2 > others.length;
  }

  function card(row) {
    const [text, gold, source, labels] = row;
    const made = node("li");
    made.append(node("p", text));
    const where = source < 0 ? "" : " · " + data.sources[source];
    made.append(node("div", "gold: " + className(gold) + where, "meta"));
    const answers = node("dl", undefined, "answers");
    const order = [gold, ...data.classes.keys(), -1];
    for (const label of new Set(order)) {
      const runs = data.runs.filter((name, i) => labels[i] === label);
      if (!runs.length) continue;
      const right = label === gold;
      answers.append(node("dt", (right ? "✓ " : "✗ ") + className(label), right ? "right" : ""));
      const names = node("dd");
      for (const name of runs) names.append(node("span", name), " ");
      answers.append(names);
    }
    made.append(answers);
    return made;
  }

  function showMore() {
    const next = found.slice(shown, shown + page);
    list.append(...next.map(card));
    shown += next.length;
    more.hidden = shown >= found.length;
    const run = form.elements.run.value;
    const apart = run && !form.elements.outcome.value ? " on which " + run + " stands apart from most others" : "";
    count.textContent = found.length.toLocaleString("en") + (found.length === 1 ? " text" : " texts") + apart;
  }

  function refresh() {
    found = chosen();
    shown = 0;
    list.replaceChildren();
    showMore();
  }

  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  refresh();

  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  button.hidden = false;
  name();
})();
