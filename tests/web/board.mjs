// The web board in a real browser. Run by tests/tests/it/web/browser.rs, which gives it a home of its own.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { after, before, test } from "node:test";

const { MODULES, PROGRAMS, PLACE, CHROMIUM, SHOTS } = process.env;
const require = createRequire(`${MODULES}/`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const HOSTILE = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=2</script>'\"&";

let browser, daemon, port;
/** What browsers complained of, on any page. */
const complaints = [];

const capsule = (...words) =>
  execFileSync(`${PROGRAMS}/capsule`, words, { encoding: "utf8", cwd: PLACE, stdio: ["ignore", "pipe", "pipe"] }).trim();
const shown = (id) => JSON.parse(capsule("show", String(id), "--json"));

/** Looks until it is so; the last word has the deadline. */
async function until(what, look) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < deadline, `it did not happen: ${what}`);
    await new Promise((next) => setTimeout(next, 10));
  }
}

async function start() {
  const log = openSync(`${PLACE}/log`, "a");
  daemon = spawn(`${PROGRAMS}/capsuled`, ["run", "--slots", "4", "--web", `127.0.0.1:${port}`], { stdio: ["ignore", log, log] });
  await until("the daemon is ready", () => {
    try { return JSON.parse(capsule("status", "--json")).keeper.connected; } catch { return false; }
  });
}

async function stop() {
  const ended = new Promise((told) => daemon.once("exit", told));
  daemon.kill("SIGTERM");
  await ended;
}

/** A page of a browser that is in. */
async function enter(settings = {}) {
  const context = await browser.newContext(settings);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (said) => {
    if (["error", "warning"].includes(said.type())) complaints.push(said.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => { complaints.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(capsule("web"));
  await page.waitForURL((url) => url.pathname === "/");
  if (settings.javaScriptEnabled !== false) await page.locator("#live-word", { hasText: /^live$/ }).waitFor();
  return page;
}

const address = (page) => new URL(page.url()).origin;
const column = (page, label) =>
  page.locator("section.column", { has: page.locator("h3", { hasText: label }) });
const card = (page, label, id) => column(page, label).locator(`#b0-${id}`);

/** A port that no other test takes while the daemon is away. */
const freePort = () => new Promise((told) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const found = server.address().port;
    server.close(() => told(found));
  });
});

before(async () => {
  port = await freePort();
  await start();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
});

after(async () => {
  await browser?.close();
  if (daemon && daemon.exitCode === null) await stop();
});

test("a card appears and moves without a reload, and keeps the focus", async () => {
  const page = await enter();
  await page.evaluate(() => { window.loaded = "once"; });
  const id = capsule("submit", "--hold", "--name", "moving", "--", "sleep", "1000");
  await card(page, "Pending", id).waitFor();
  await card(page, "Pending", id).locator("h4 a").focus();
  capsule("edit", id, "--no-hold");
  await card(page, "Running", id).waitFor();
  assert.equal(await card(page, "Pending", id).count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), `b0-${id}a`);
  capsule("cancel", id, "--now");
  await card(page, "Failed", id).waitFor();
  assert.equal(await page.evaluate(() => window.loaded), "once");
  assert.equal(await column(page, "Running").locator(".count").textContent(), "0");
  await page.context().close();
});

test("a log grows and the state changes on an open page", async () => {
  const page = await enter();
  const gate = `${PLACE}/gate`;
  const id = capsule("submit", "--", "sh", "-c", `echo first; while [ ! -e ${gate} ]; do sleep 0.02; done; echo second`);
  await page.goto(`${address(page)}/tasks/${id}`);
  await page.locator("#log", { hasText: "first" }).waitFor();
  writeFileSync(gate, "");
  await page.locator("#log", { hasText: "second" }).waitFor();
  await page.locator("#status", { hasText: "completed" }).waitFor();
  const log = await page.locator("#log").textContent();
  assert.equal(log, "first\nsecond\n");
  await page.context().close();
});

test("a task is cancelled after a question, and tried again by one button", async () => {
  const page = await enter();
  const id = capsule("submit", "--", "sleep", "1000");
  await card(page, "Running", id).getByRole("link", { name: "Cancel" }).click();
  await page.getByRole("heading", { name: `Cancel task ${id}?` }).waitFor();
  await page.getByLabel("kill it at once").check();
  await page.getByRole("button", { name: `Cancel ${id}` }).click();
  await page.waitForURL(`**/tasks/${id}`);
  await page.locator("#status", { hasText: "cancelled" }).waitFor();
  await page.getByRole("button", { name: "Retry" }).click();
  await page.locator("#status", { hasText: "running" }).waitFor();
  await page.goto(`${address(page)}/`);
  capsule("cancel", id, "--now");
  await card(page, "Failed", id).getByRole("button", { name: "Retry" }).click();
  await card(page, "Running", id).waitFor();
  capsule("cancel", id, "--now");
  await page.context().close();
});

const MANIFEST = `
[app]
name = "shop"
[tasks.greet]
help = "Greets somebody"
command = ["sh", "-c", "printf '%s' hello-{name}"]
[tasks.greet.params.name]
type = "str"
help = "Whom"
[tasks.greet.params.times]
type = "int"
default = 1
`;

test("a task is submitted by the form of its definition", async () => {
  mkdirSync(`${PLACE}/shop`, { recursive: true });
  writeFileSync(`${PLACE}/shop/capsule.toml`, MANIFEST);
  capsule("deploy", `${PLACE}/shop/capsule.toml`);
  const page = await enter();
  await page.getByRole("link", { name: "Submit" }).click();
  await page.getByRole("link", { name: "greet" }).click();
  await page.locator("[id='p.name']").fill("ann");
  await page.locator("[id='p.times']").fill("2");
  await page.getByRole("button", { name: "Submit" }).click();
  await page.waitForURL("**/tasks/*");
  await page.locator("#status", { hasText: "completed" }).waitFor();
  await page.locator("#log", { hasText: "hello-ann" }).waitFor();
  await page.context().close();
});

test("many tasks are cancelled after a dialog that names them", async () => {
  const page = await enter();
  const ids = [1, 2, 3].map(() => capsule("submit", "--hold", "--name", "together", "--", "true"));
  await page.goto(`${address(page)}/tasks?q=task:together`);
  await page.locator("#live-word", { hasText: /^live$/ }).waitFor();
  await page.evaluate(() => { window.loaded = "once"; });
  await page.getByRole("link", { name: "Cancel all" }).click();
  const dialog = page.getByRole("dialog", { name: "Cancel 3 tasks?" });
  await dialog.getByText("together").first().waitFor();
  for (const id of ids) await dialog.getByText(String(id), { exact: true }).waitFor();
  await dialog.getByRole("link", { name: "No" }).click();
  await dialog.waitFor({ state: "detached" });
  assert.equal(shown(ids[0]).status, "pending");
  await page.getByRole("link", { name: `Cancel ${ids[0]}`, exact: true }).click();
  await page.getByRole("dialog", { name: `Cancel task ${ids[0]}?` }).waitFor();
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run());
  assert.deepEqual(found.violations.map((it) => it.id), []);
  await page.keyboard.press("Escape");
  const last = capsule("submit", "--hold", "--name", "together", "--", "true");
  await page.locator(`#t${last}`).waitFor();
  assert.equal(await page.evaluate(() => window.loaded), "once");
  await page.getByRole("link", { name: "Cancel all" }).click();
  await page.getByRole("button", { name: "Cancel 4" }).click();
  await page.getByRole("heading", { level: 1, name: "4 done" }).waitFor();
  assert.equal(shown(last).status, "cancelled");
  await page.context().close();
});

test("a queue is paused on its page, which shows it", async () => {
  const page = await enter();
  await page.goto(`${address(page)}/queues`);
  await page.locator("#live-word", { hasText: /^live$/ }).waitFor();
  await page.evaluate(() => { window.loaded = "once"; });
  const row = page.locator("tr", { has: page.getByRole("link", { name: "default", exact: true }) });
  await row.getByRole("button", { name: "Pause" }).click();
  await row.getByText("paused").waitFor();
  const limit = row.getByRole("textbox");
  await limit.fill("7");
  // What is being typed stays, whatever changes beside it.
  capsule("queue", "pause", "night");
  await page.getByRole("link", { name: "night" }).waitFor();
  assert.equal(await limit.inputValue(), "7");
  await row.getByRole("button", { name: "Set" }).click();
  await until("the limit is set", () => JSON.parse(capsule("queue", "list", "--json")).some((it) => it.name === "default" && it.limit === 7));
  await row.getByRole("button", { name: "Resume" }).click();
  await row.getByText("open").waitFor();
  assert.equal(await page.evaluate(() => window.loaded), "once");
  await limit.fill("");
  await row.getByRole("button", { name: "Set" }).click();
  await until("there is no limit", () => JSON.parse(capsule("queue", "list", "--json")).every((it) => it.name !== "default" || !it.limit));
  await page.context().close();
});

test("an open page goes on after a restart of the daemon", async () => {
  const page = await enter();
  await page.evaluate(() => { window.loaded = "once"; });
  await stop();
  await page.locator("#live.lost").waitFor();
  await start();
  await page.locator("#live-word", { hasText: /^live$/ }).waitFor();
  const id = capsule("submit", "--hold", "--name", "later", "--", "true");
  await card(page, "Pending", id).waitFor();
  assert.equal(await page.evaluate(() => window.loaded), "once");
  capsule("cancel", id);
  // A daemon that is away is told of by the browser; that is no fault of the page.
  const refused = (text) => /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|Failed to fetch|network error/i.test(text);
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !refused(text)));
  await page.context().close();
});

test("everything works without JavaScript", async () => {
  const page = await enter({ javaScriptEnabled: false });
  const id = capsule("submit", "--name", "broken", "--", "false");
  capsule("wait", id, "--for", "done");
  await page.goto(`${address(page)}/`);
  await card(page, "Failed", id).getByRole("button", { name: "Retry" }).click();
  await page.waitForURL(`**/tasks/${id}`);
  await until("it was tried again", () => shown(id).attempts.length === 2);
  for (const name of ["Tasks", "Schedules", "Queues", "Locks", "Apps", "Submit"]) {
    await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
  }
  await page.locator("#theme").selectOption("dark");
  await page.getByRole("button", { name: "Set", exact: true }).first().click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
  await page.context().close();
});

test("what a task wrote stays text", async () => {
  const page = await enter();
  const words = ["submit", "--owner", HOSTILE, "--label", `x=${HOSTILE}`, "--", "sh", "-c", "printf '%s\\n' \"$1\"; exit 3", "sh", HOSTILE];
  const id = capsule(...words);
  await card(page, "Failed", id).waitFor();
  await page.goto(`${address(page)}/tasks/${id}`);
  await page.locator("#log", { hasText: "window.hacked=1" }).waitFor();
  await page.goto(`${address(page)}/tasks?q=${encodeURIComponent(HOSTILE.replaceAll('"', ""))}`);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator("main img, main script").count(), 0);
  await page.context().close();
});

for (const theme of ["light", "dark"]) {
  test(`axe finds nothing wrong in the ${theme} theme, at any width`, async () => {
    const page = await enter({ colorScheme: theme });
    const good = capsule("submit", "--lock", "owner:acme", "--", "sleep", "1000");
    capsule("schedule", "add", "nightly", "--cron", "0 3 * * *", "--", "true");
    const places = ["/", `/tasks/${good}`, `/tasks/${good}/cancel`, "/tasks", "/tasks?q=nonsense:x", "/schedules",
      "/queues", "/locks", "/apps", "/apps/shop", "/submit", "/submit?app=shop&task=greet", "/nowhere"];
    const ground = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    assert.equal(ground === "rgb(246, 247, 249)", theme === "light", ground);
    for (const place of places) {
      await page.goto(address(page) + place);
      for (const width of [320, 768, 1920]) {
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${place} is ${wide} px too wide at ${width}`);
      }
      // Playwright runs it in the page; the policy of the page does not hold for the tools of tests.
      await page.evaluate(AXE);
      const found = await page.evaluate(() => window.axe.run());
      const told = found.violations.map((it) => `${it.id}: ${it.help}: ${it.nodes.map((node) => node.html).join(" | ")}`);
      assert.deepEqual(told, [], `${place} ${theme}`);
    }
    if (SHOTS) {
      await page.setViewportSize({ width: 1280, height: 720 });
      await page.goto(`${address(page)}/`);
      await page.screenshot({ path: `${SHOTS}/web-${theme}.png` });
    }
    capsule("cancel", good, "--now");
    await page.context().close();
  });
}

test("keys move between cards, and none is taken while something is typed", async () => {
  const page = await enter();
  await page.locator("main").focus();
  await page.keyboard.press("j");
  const first = await page.evaluate(() => document.activeElement.closest(".card")?.id);
  assert.ok(first, "a card has the focus");
  await page.keyboard.press("/");
  await page.keyboard.type("jk/");
  assert.equal(await page.locator("#q").inputValue(), "jk/");
  await page.context().close();
});

test("a change is on an open page in no time", async () => {
  const page = await enter();
  const took = [];
  for (let round = 0; round < 40; round += 1) {
    const id = capsule("submit", "--hold", "--name", "quick", "--", "true");
    await card(page, "Pending", id).waitFor();
    // When the card came by the page's own clock, against the commit of the submit.
    await page.evaluate((id) => {
      window.seen = new Promise((told) => {
        const watch = new MutationObserver(() => {
          if (document.querySelector(`#b0c4 #b0-${id}`)) { watch.disconnect(); told(Date.now()); }
        });
        watch.observe(document.getElementById("boards"), { childList: true, subtree: true });
      });
    }, id);
    capsule("cancel", id);
    const seen = await page.evaluate(() => window.seen);
    took.push(seen - Date.parse(shown(id).ended_at));
  }
  took.sort((a, b) => a - b);
  console.log(`a transition is on the page after ${took[20]} ms (median), ${took[39]} ms (most of 40)`);
  assert.ok(took[20] < 250, `${took}`);
  await page.context().close();
});

test("no browser complained, of the content security policy or of anything", () => {
  // The pages that are refused on purpose are told of as failed loads.
  const real = complaints.filter((text) => !/status of 4\d\d/.test(text));
  assert.deepEqual(real, []);
  assert.ok(existsSync(`${PLACE}/log`));
});
