// Headless Chromium over a pipe, with nothing beside Node: the DevTools protocol, which is JSON with a zero byte after each message.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Starts a browser with one page and ends the process, with 2, when it does not answer for `patience` milliseconds.
 *
 * `page(method, params)` calls; `run(what, ...given)` evaluates a function in the page; `listen(told)` is told every event; `end(code)` ends
 * the browser and this process.
 */
export async function chromium(patience) {
  const home = mkdtempSync(join(tmpdir(), "browser-"));
  const browser = spawn(process.env.CHROMIUM ?? "chromium", [
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb", `--user-data-dir=${home}`,
  ], { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
  let complaint = "";
  browser.stderr.on("data", (text) => { complaint = (complaint + text).slice(-2000); });
  const end = (code) => {
    browser.once("exit", () => { rmSync(home, { recursive: true, force: true, maxRetries: 5 }); process.exit(code); });
    // Killed, it would leave processes that still write into its folder.
    call("Browser.close");
    setTimeout(() => browser.kill("SIGKILL"), 5_000);
  };
  browser.on("error", (e) => { console.error(`chromium: ${e.message}`); process.exit(2); });
  setTimeout(() => { console.error(`chromium did not answer: ${complaint}`); end(2); }, patience).unref();

  let last = 0;
  let rest = "";
  let told = () => {};
  const waiting = new Map();
  browser.stdio[4].setEncoding("utf8").on("data", (text) => {
    const messages = (rest + text).split("\0");
    rest = messages.pop();
    for (const message of messages.map(JSON.parse)) {
      const { resolve, reject } = waiting.get(message.id) ?? {};
      waiting.delete(message.id);
      if (message.error) reject?.(new Error(message.error.message));
      else if (resolve) resolve(message.result);
      else if (message.method) told(message);
    }
  });
  const call = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    last += 1;
    waiting.set(last, { resolve, reject });
    browser.stdio[3].write(JSON.stringify({ id: last, method, params, sessionId }) + "\0");
  });

  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => call(method, params, sessionId);
  const run = async (what, ...given) => {
    const expression = `(${what})(...${JSON.stringify(given)})`;
    const { result, exceptionDetails } = await page("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await page(`${domain}.enable`);
  return { page, run, listen: (what) => { told = what; }, end };
}
