"use strict";
// Finds, filters and pages through all answers, and opens everything for paper. Every text goes in as text.
(() => {
  const at = (id) => document.getElementById(id);
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; opened.push(one); }
  });
  addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });
  if (!at("data")) return;

  const SHOWN = 10;
  const { artifacts, states, texts, cards } = JSON.parse(at("data").textContent);
  const make = (tag, attributes, ...children) => {
    const one = document.createElement(tag);
    for (const name in attributes) one.setAttribute(name, attributes[name]);
    one.append(...children);
    return one;
  };
  const sign = (letter) => make("i", { "aria-hidden": "true" }, letter);
  const TAGS = { "\u0001": "ins", "\u0002": "del", "\u0004": "small" };
  const marked = (text) => {
    const line = make("dd", { dir: "auto" });
    let tag = null;
    for (const part of text.split(/([\u0001-\u0004])/)) {
      if (/^[\u0001-\u0004]$/.test(part)) tag = TAGS[part];
      else if (part) line.append(tag ? make(tag, {}, part) : part);
    }
    return line;
  };
  const bar = (kind, [pixels, written]) =>
    make("td", {}, make("i", { class: kind, style: `width:${pixels}px` }), make("span", {}, written));
  const parting = ({ title, notes, bars }) => {
    const one = make("div", { class: "parting" }, make("h4", { dir: "auto" }, title));
    if (bars.length) {
      const head = ["token", "expected", "found"].map((name) => make("th", {}, name));
      const rows = bars.map(([token, was, is]) => make("tr", {}, make("td", {}, make("bdi", {}, token)), bar("was", was), bar("is", is)));
      one.append(make("table", { class: "bars" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
    }
    one.append(...notes.map((note) => make("p", {}, note)));
    return one;
  };
  const drawn = ([artifact, sample, flags, lines, steps, partings], place) => {
    const head = make("header", {}, make("b", {}, `sample ${sample}`), make("span", { dir: "auto" }, artifacts[artifact]));
    if (flags & 2) head.append(make("span", { class: "badge odd" }, sign("∞"), "without an end"));
    const list = make("ol", { class: "steps" }, ...steps.map(([name, state]) => {
      const [kind, letter, word] = states[state];
      return make("li", { class: kind }, sign(letter), make("b", {}, texts[name]), " ", word);
    }));
    const pairs = make("dl", {}, ...lines.map(([name, text]) => make("div", {}, make("dt", {}, texts[name]), marked(texts[text]))));
    const card = make("article", { class: "card" }, head, list, pairs);
    if (partings.length) {
      card.append(make("details", place ? {} : { open: "" }, make("summary", {}, "The first token that parts"), ...partings.map(parting)));
    }
    return card;
  };

  artifacts.forEach((name, i) => at("artifact").append(make("option", { value: i }, name)));
  const plain = texts.map((text) => text.replace(/\u0002[^\u0003]*\u0003|[\u0001\u0003\u0004]/g, "").toLowerCase());
  let found = [];
  let first = 0;
  const show = () => {
    const shown = found.slice(first, first + SHOWN);
    at("cards").replaceChildren(...(shown.length ? shown.map(drawn) : [make("p", { class: "nothing" }, "There is no such answer.")]));
    at("page").textContent = shown.length ? `${first + 1} to ${first + shown.length} of ${found.length.toLocaleString("en")}` : "";
    at("back").disabled = first === 0;
    at("next").disabled = first + SHOWN >= found.length;
  };
  const find = () => {
    const kind = at("kind").value;
    const artifact = at("artifact").value;
    const words = at("words").value.toLowerCase();
    found = cards.filter(([of, sample, flags, lines]) =>
      (kind === "all" || (kind === "endless" ? flags & 2 : flags === 1)) && (artifact === "" || of === Number(artifact))
      && (!words || `sample ${sample}` === words || lines.some(([, text]) => plain[text].includes(words))));
    first = 0;
    show();
  };
  const turn = (step) => { first += step; show(); at("find").scrollIntoView({ block: "start" }); };
  at("back").addEventListener("click", () => turn(-SHOWN));
  at("next").addEventListener("click", () => turn(SHOWN));
  for (const id of ["kind", "artifact", "words"]) at(id).addEventListener("input", find);
  at("find").addEventListener("submit", (event) => event.preventDefault());
  at("loops")?.remove();
  at("find").hidden = at("pages").hidden = false;
  find();
})();
