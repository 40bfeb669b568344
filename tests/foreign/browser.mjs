// Opens pages and pictures in headless Chromium and says what is wrong with them.
//
// usage: node browser.mjs FOLDER FILE...      screenshots and papers go into FOLDER
//
// Prints one JSON object: { "faults": ["report.html, phone: …"], "opened": { "report.html": { "ms": 300, "elements": 9000 } } }.
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

import { chromium } from "./chromium.mjs";

const [folder, ...files] = process.argv.slice(2);
/** How a page is looked at. */
const VIEWS = [
  { name: "desktop", width: 1280, height: 900 },
  { name: "phone", width: 360, height: 780, phone: true },
  { name: "dark", width: 1280, height: 900, dark: true },
  { name: "phone-dark", width: 360, height: 780, phone: true, dark: true },
  // A4 across, without its margins.
  { name: "print", width: 1016, height: 688, print: true },
];
/** Longer than any of it takes; a browser that hangs is ended. */
const PATIENCE_MS = 120_000;

const { page, run, listen, end } = await chromium(PATIENCE_MS);

/** Runs in the page: faults of what is drawn. */
const look = () => {
  const faults = [];
  const wide = document.documentElement.clientWidth;
  const root = document.documentElement;
  if (root.scrollWidth > wide) faults.push(`the page is ${root.scrollWidth} wide, the window ${wide}`);
  const isShown = (one) => one.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true });
  const scrolls = (one) => one.closest("pre, nav.sections");
  const named = (one) => `${one.tagName.toLowerCase()} “${(one.textContent ?? "").trim().slice(0, 40)}”`;
  for (const one of document.body?.querySelectorAll("*") ?? []) {
    if (one.closest("svg") && one.tagName !== "svg" || scrolls(one) || !isShown(one)) continue;
    const box = one.getBoundingClientRect();
    if (box.width && (box.left < -0.5 || box.right > wide + 0.5)) faults.push(`${named(one)} from ${box.left} to ${box.right}`);
  }
  const meets = (a, b, room) => a.left < b.right - room && b.left < a.right - room && a.top < b.bottom - room && b.top < a.bottom - room;
  for (const svg of document.querySelectorAll("svg")) {
    if (!isShown(svg)) continue;
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((one) => [one, one.getBoundingClientRect()]);
    const dots = [...svg.querySelectorAll(".c-dot")].map((one) => one.getBoundingClientRect());
    texts.forEach(([one, box], i) => {
      if (box.left < frame.left - 0.5 || box.right > frame.right + 0.5 || box.top < frame.top - 0.5 || box.bottom > frame.bottom + 0.5) {
        faults.push(`${named(one)} is outside of “${svg.getAttribute("aria-label")}”`);
      }
      for (const [other, at] of texts.slice(0, i)) {
        // Rows are nearer to each other than their fonts' full heights.
        if (meets(box, at, 2)) faults.push(`${named(one)} lies on ${named(other)}`);
      }
      if (one.classList.contains("c-name") && dots.some((dot) => meets(box, dot, 2))) faults.push(`${named(one)} lies on a dot`);
    });
  }
  return faults;
};
/** Runs in the page: what its first answers say, to be compared with and without the script. */
const answers = () => [...document.querySelectorAll("#cards .card")].slice(0, 10).map((one) => one.innerHTML);
/** Runs in the page: whether searching, filtering and paging find what they should. */
const search = () => {
  const faults = [];
  const at = (id) => document.getElementById(id);
  if (!at("data")) return faults;
  const set = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("input")); };
  const cards = () => document.querySelectorAll("#cards .card").length;
  const { cards: all } = JSON.parse(at("data").textContent);
  const expect = (name, wanted) => {
    const found = Number((at("page").textContent.split(" of ")[1] ?? "0").replaceAll(",", ""));
    if (found !== wanted || cards() !== Math.min(wanted, 10)) faults.push(`${name}: ${found} answers, ${cards()} shown, expected ${wanted}`);
  };
  expect("differing", all.filter(([, , flags]) => flags === 1).length);
  set("kind", "endless");
  expect("without an end", all.filter(([, , flags]) => flags & 2).length);
  set("kind", "all");
  expect("all", all.length);
  set("words", "sample 17");
  expect("sample 17", all.filter(([, sample]) => sample === 17).length);
  set("artifact", "0");
  expect("sample 17 of the first artifact", all.filter(([of, sample]) => of === 0 && sample === 17).length);
  set("words", "no text holds this");
  expect("nothing", 0);
  set("words", ""); set("artifact", "");
  const before = answers_of();
  at("next").click();
  if (all.length > 10 && answers_of() === before) faults.push("the next page is the same");
  at("back").click();
  if (answers_of() !== before) faults.push("back is another page");
  set("kind", "differing");
  return faults;
  function answers_of() { return document.getElementById("cards").innerHTML; }
};

const faults = [];
const opened = {};
try {
  for (const file of files) {
    const name = basename(file);
    const url = pathToFileURL(file).href;
    let fault = () => {};
    let loaded = () => {};
    listen(({ method, params }) => {
      if (method === "Page.loadEventFired") loaded();
      if (method === "Runtime.exceptionThrown") fault(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Runtime.consoleAPICalled") fault(`console.${params.type}`);
      if (method === "Log.entryAdded") fault(`log: ${params.entry.text}`);
      if (method === "Network.requestWillBeSent" && params.request.url !== url && !params.request.url.startsWith("data:")) {
        fault(`asks for ${params.request.url}`);
      }
    });
    const open = async () => {
      const event = new Promise((resolve) => { loaded = resolve; });
      const begun = performance.now();
      await page("Page.navigate", { url });
      await event;
      // What a reader waits for: a frame that was drawn.
      await run(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(0)))));
      return performance.now() - begun;
    };
    fault = (text) => faults.push(`${name}, without script: ${text}`);
    await page("Emulation.setScriptExecutionDisabled", { value: true });
    const plain = new Promise((resolve) => { loaded = resolve; });
    await page("Page.navigate", { url });
    await plain;
    const written = await run(answers);
    await page("Emulation.setScriptExecutionDisabled", { value: false });
    for (const view of VIEWS) {
      fault = (text) => faults.push(`${name}, ${view.name}: ${text}`);
      const { width, height } = view;
      await page("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: view.phone ?? false });
      const features = [{ name: "prefers-color-scheme", value: view.dark ? "dark" : "light" }];
      await page("Emulation.setEmulatedMedia", { media: view.print ? "print" : "screen", features });
      const took = await open();
      if (view.name === "desktop") {
        const elements = await run(() => document.querySelectorAll("*").length);
        opened[name] = { ms: Math.round(took), elements };
        const drawn = await run(answers);
        drawn.forEach((answer, i) => { if (answer !== written[i]) fault(`answer ${i} with the script: ${answer}\nwithout: ${written[i]}`); });
        (await run(search)).forEach(fault);
      }
      if (view.print) {
        const closed = await run(() => [...document.querySelectorAll("details")].filter((one) => {
          const inside = one.querySelector(":scope > :not(summary)");
          return inside && !inside.checkVisibility({ contentVisibilityAuto: true });
        }).length);
        if (closed) fault(`${closed} details stay closed on paper`);
        const { data } = await page("Page.printToPDF", { printBackground: true, preferCSSPageSize: true });
        writeFileSync(join(folder, `${name}-print.pdf`), Buffer.from(data, "base64"));
      }
      await run(() => scrollTo(0, 0));
      (await run(look)).forEach(fault);
      const content = (await page("Page.getLayoutMetrics")).cssContentSize;
      const clip = { x: 0, y: 0, width, height: Math.min(content.height, 15000), scale: 1 };
      const { data } = await page("Page.captureScreenshot", { format: "png", captureBeyondViewport: true, clip });
      writeFileSync(join(folder, `${name}-${view.name}.png`), Buffer.from(data, "base64"));
    }
  }
  console.log(JSON.stringify({ faults, opened }));
  end(0);
} catch (e) {
  console.error(e.stack);
  end(2);
}
