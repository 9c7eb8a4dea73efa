// Drives the dashboard as people do, and fails where a page does not do what it promises.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { open, until } from "./stage.mjs";

const [sentinel, pictures] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const stage = await open(sentinel);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const troubles = [];
let passed = 0;

async function step(name, run) {
  try {
    await run();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    troubles.push(`${name}: ${error.message.split("\n").slice(0, 12).join("\n")}`);
    console.log(`FAIL  ${name}\n      ${error.message.split("\n").slice(0, 12).join("\n      ")}`);
  }
}

const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();
// What the policy refuses, and what a script throws, is a defect wherever it happens.
page.on("console", (message) => { if (message.type() === "error" && !/status of (401|403|404|409|422)/.test(message.text())) troubles.push(`console: ${message.text()}`); });
page.on("pageerror", (error) => troubles.push(`script: ${error.message}`));

/// axe-core runs in a world of its own, so that the page's policy stays as it is.
async function accessible(name) {
  const session = await context.newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  await session.send("Runtime.evaluate", { expression: axe, contextId: executionContextId });
  const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
    expression: `axe.run(document, { resultTypes: ["violations"] }).then((found) => JSON.stringify(found.violations.map((one) => ({ id: one.id, impact: one.impact, help: one.help, nodes: one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)) }))))`,
    contextId: executionContextId,
    awaitPromise: true,
    returnByValue: true,
  });
  await session.detach();
  assert.ok(!exceptionDetails, `axe-core did not run on ${name}`);
  const violations = JSON.parse(result.value).filter((one) => ["serious", "critical"].includes(one.impact));
  assert.deepEqual(violations, [], `${name}: ${JSON.stringify(violations, null, 1)}`);
}

/// Every page in light, dark and on a phone: looked at by axe-core, kept as a picture, and never wider than the screen.
async function look(name, path) {
  if (path) await page.goto(stage.base + path, { waitUntil: "load" });
  for (const [scheme, width] of [["light", 1280], ["dark", 1280], ["light", 390]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: width < 500 ? 844 : 900 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 1, `${name} is ${wide} pixels wider than a screen of ${width}`);
    await accessible(`${name}, ${scheme}, ${width}`);
    await page.screenshot({ path: join(pictures, `${name}-${width < 500 ? "phone" : scheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
}

const tile = async (name) => (await page.locator(`.tiles > div:has(dt:text-is("${name}")) dd`).first().textContent()).trim();

try {
  await step("nobody sees anything without logging in", async () => {
    for (const path of ["/", "/payments", "/gateways", "/doubt", "/billing", "/configuration", "/account", "/live/overview"]) {
      const answer = await fetch(stage.base + path, { redirect: "manual" });
      assert.equal(answer.status, 303, path);
    }
    const policy = (await fetch(stage.base + "/login")).headers.get("content-security-policy");
    assert.ok(policy.includes("default-src 'none'") && !policy.includes("unsafe"), policy);
  });
  await step("the way in, looked at", () => look("login", "/login"));
  await step("by keyboard alone, as operator", async () => {
    await page.goto(stage.base + "/payments");
    assert.ok(page.url().includes("/login?next=%2Fpayments"), page.url());
    for (let presses = 0; presses < 12; presses += 1) {
      await page.keyboard.press("Tab");
      if ((await page.evaluate(() => document.activeElement.textContent)) === "Go on as operator") break;
    }
    await page.keyboard.press("Enter");
    await page.waitForURL(stage.base + "/payments");
    const cookie = (await context.cookies()).find((one) => one.name === "sentinel_session");
    assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
  });
  await step("empty pages say what would fill them", async () => {
    await look("overview-empty", "/");
    assert.ok(await page.getByText("No payment yet.").isVisible());
    await look("doubt-empty", "/doubt");
  });

  let recovered;
  await step("a failover arrives live", async () => {
    await page.goto(stage.base + "/");
    await page.waitForSelector('#live[data-state="on"]');
    for (let n = 0; n < 6; n += 1) assert.equal((await stage.pay(`order-${n}`, { amount: 1000 + n * 333 })).status, 200);
    await stage.fault("stripe", { fault: "refuse" });
    recovered = await stage.pay("order-saved", { amount: 123456 });
    assert.equal(recovered.gateway, "adyen", JSON.stringify(recovered));
    await until("the overview tells of it", async () => (await tile("Recovered")) === "1");
    assert.match(await tile("Revenue saved"), /1,234\.56\s*EUR/);
    assert.equal(await tile("Payments"), "7");
    await stage.fault("stripe");
  });
  await step("declines arrive, too", async () => {
    await stage.pay("order-declined", { token: "pm_card_chargeDeclined" });
    for (let n = 0; n < 3; n += 1) await stage.pay(`order-late-${n}`, { amount: 2500 });
    await look("overview", "/?period=24h");
  });
  await step("a payment is found by its order and its story read", async () => {
    await page.goto(stage.base + "/payments");
    await page.getByLabel("Find a payment").fill("order-saved");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${stage.base}/payments/${recovered.payment}`);
    const story = await page.locator(".timeline").textContent();
    assert.match(story, /stripe/);
    assert.match(story, /adyen/);
    await look("payment");
    await page.goto(`${stage.base}/payments?q=${recovered.payment.slice(0, 13)}`);
    await page.goto(`${stage.base}/payments?q=nothing-like-it`);
    assert.ok(await page.getByText("No payment has that name.").isVisible());
    await look("payments", "/payments?kind=payments");
    const file = await page.evaluate(async () => (await fetch("/payments?kind=failovers&format=csv")).text());
    assert.match(file, /recovered/);
    assert.match(file, new RegExp(recovered.payment));
  });
  await step("a breaker is forced open, obeyed, and set free", async () => {
    await page.goto(stage.base + "/gateways");
    await page.getByRole("button", { name: "Force open: checkout to stripe" }).click();
    await page.getByText("open by operator").or(page.getByText("forced open")).first().waitFor();
    const moved = await stage.pay("order-forced");
    assert.equal(moved.gateway, "adyen", JSON.stringify(moved));
    await look("gateways", "/gateways");
    await page.getByRole("button", { name: "By itself: checkout to stripe" }).click();
    await page.waitForLoadState();
    assert.equal((await stage.pay("order-free")).gateway, "stripe");
  });
  await step("a form that is not this session's does nothing", async () => {
    const answer = await page.evaluate(async () => {
      const body = new URLSearchParams({ command: "open", csrf: "0".repeat(64) });
      return (await fetch("/gateways/checkout/stripe", { method: "POST", body })).status;
    });
    assert.equal(answer, 403);
    const foreign = await fetch(stage.base + "/operator", { method: "POST", headers: { Origin: "http://evil.example" }, redirect: "manual" });
    assert.equal(foreign.status, 403);
    const rebound = await fetch(stage.base + "/login", { headers: { "X-Forwarded-For": "203.0.113.9" } });
    assert.ok(!(await rebound.text()).includes("Go on as operator"), "behind a proxy nobody is an operator without the token");
    assert.equal((await stage.pay("order-still-free")).gateway, "stripe");
  });
  await step("a payment in doubt is resolved", async () => {
    await page.goto(stage.base + "/doubt");
    // Nothing is heard of anything any more: neither of the payment nor of the questions about it.
    await stage.fault("stripe", { fault: "delay_arrival", times: 100000 });
    const doubtful = stage.pay("order-doubt", { amount: 4200 });
    const rows = page.getByRole("link", { name: "Look and resolve" });
    await rows.first().waitFor();
    await doubtful;
    await look("doubt");
    await rows.first().click();
    await look("doubt-payment");
    await page.locator('input[name="choice"]:not([disabled])').last().check();
    await page.getByLabel("Your name").fill("Ada");
    await page.getByLabel("What it rests on").fill("<b>the gateway's console</b> shows nothing");
    await page.getByRole("button", { name: "Write it down and resolve" }).click();
    await page.waitForLoadState();
    const story = await page.locator("body").innerHTML();
    assert.ok(story.includes("&lt;b&gt;"), "what a person writes is shown as it was written");
    assert.ok(!story.includes("<b>the gateway"), "and never as a tag");
  });
  await step("a statement is printed", async () => {
    await look("billing", "/billing");
    await page.locator("main table a").first().click();
    await page.waitForSelector(".statement");
    await look("statement");
    assert.match(await page.locator(".sums").textContent(), /Fee, 2% of the net/);
    const paper = await page.pdf({ path: join(pictures, "statement.pdf"), format: "A4" });
    assert.ok(paper.length > 5000);
    await page.emulateMedia({ media: "print" });
    assert.ok(!(await page.locator("header.bar").isVisible()), "paper has no navigation");
    await page.emulateMedia({ media: "screen" });
  });
  await step("the configuration, and a broken one that was rejected", async () => {
    writeFileSync(stage.file, stage.config.replace("dialect: stripe\n    gateways", "dialekt: stripe\n    gateways"));
    await page.goto(stage.base + "/configuration");
    await page.getByRole("button", { name: "Load the file again" }).click();
    await page.getByText("rejected").first().waitFor();
    await look("configuration");
    const shown = await page.locator("body").textContent();
    assert.ok(!shown.includes("sk_test_sandbox"), "no secret is shown");
    writeFileSync(stage.file, stage.config);
  });
  await step("a tenant logs in, sees only its own, and makes a key", async () => {
    const account = { email: "ada@example.com", password: "a long enough passphrase", companyName: "Ada & Sons <script>" };
    const made = await fetch(`${stage.api}/customers/register`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(account) });
    assert.equal(made.status, 201, await made.clone().text());
    await page.goto(stage.base + "/");
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL(/login/);
    await page.getByLabel("E-mail address").fill(account.email);
    await page.getByLabel("Password").fill("wrong wrong wrong");
    await page.getByRole("button", { name: "Log in", exact: true }).click();
    assert.match(await page.getByRole("alert").textContent(), /wrong e-mail address or password/i);
    await page.getByLabel("E-mail address").fill(account.email);
    await page.getByLabel("Password").fill(account.password);
    await page.getByRole("button", { name: "Log in", exact: true }).click();
    await page.waitForURL(stage.base + "/");
    assert.ok(await page.getByText("Ada & Sons <script>").isVisible());
    assert.ok(await page.getByText("No payment yet.").isVisible(), "the operator's payments are not this tenant's");
    for (const path of [`/payments/${recovered.payment}`, "/configuration"]) {
      const status = await page.evaluate(async (path) => (await fetch(path)).status, path);
      assert.ok([403, 404].includes(status), `${path}: ${status}`);
    }
    await page.goto(stage.base + "/account");
    await page.getByText("Make a key").click();
    await page.getByLabel("What it is for").fill("checkout, staging");
    await page.getByRole("button", { name: "Make it" }).click();
    assert.match(await page.locator(".issued code").textContent(), /^sk_/);
    await page.getByLabel("Primary: your fastest or cheapest").selectOption("stripe");
    await page.getByLabel("Secondary: takes what the first one fails").selectOption("adyen");
    await page.getByRole("button", { name: "Save" }).click();
    await page.waitForURL(stage.base + "/account");
    assert.equal(await page.getByLabel("Primary: your fastest or cheapest").inputValue(), "stripe");
    await look("account", "/account");
    // What it pays fees with: a token, never a card, and never shown again.
    await page.goto(stage.base + "/billing");
    const number = "4242" + "4242".repeat(3);
    await page.getByLabel("Token at stripe").fill(number);
    await page.getByRole("button", { name: "Store it" }).click();
    assert.match(await page.locator("main").textContent(), /looks like a card number/);
    await page.goto(stage.base + "/billing");
    await page.getByLabel("Token at stripe").fill("pm_card_visa");
    await page.getByRole("button", { name: "Store it" }).click();
    await page.getByText("stored", { exact: true }).waitFor();
    assert.ok(!(await page.content()).includes("pm_card_visa"), "it is not shown again");
    await look("billing-tenant");
  });
} finally {
  await browser.close();
  await stage.close();
}
console.log(`${passed} passed, ${troubles.length} failed`);
if (troubles.length) {
  console.log(troubles.join("\n"));
  process.exit(1);
}
