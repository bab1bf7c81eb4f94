// The page that `heddle replay --report` writes, in headless Chromium, light and dark: no errors, no requests, every
// section with data in it, hover texts, and what clicks do. HEDDLE_SCREENSHOTS=DIR keeps pictures of it.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { findChromium, withPage } from "./lib/browser.mjs";
import { mixedLoad } from "./lib/mixed-load.mjs";
import { HEDDLE_BIN, onAnvil, startNode } from "./lib/node.mjs";
import { repository } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";

const chromium = findChromium();
if (!chromium) {
  console.error("SKIPPED: no Chromium (apt-get install chromium, or set CHROMIUM): the replay report is not looked at");
}
const skip = (onAnvil && "anvil replays nothing") || (!chromium && "no Chromium: apt-get install chromium, or set CHROMIUM");
const mainnet = join(process.env.HEDDLE_FIXTURES ?? join(repository, "..", "shared", "fixtures"), "mainnet");
const parent = mkdtempSync(join(tmpdir(), "heddle-report-"));
after(() => rmSync(parent, { recursive: true, force: true }));

const LOAD = 600;
const WORKERS = 2;
/** WCAG 2.1, AA, for text of ordinary size. */
const CONTRAST_MIN = 4.5;

/** Reports by name: `{ path, data }`, the data as the page has it. */
const reports = {};

before(async () => {
  if (skip) return;
  const node = await startNode();
  try {
    const { first, last } = await mixedLoad(node.url, LOAD);
    const bundles = join(parent, "bundles");
    await run(HEDDLE_BIN, ["replay", "--rpc", node.url, "--block", `${first}..${last}`, "--save", bundles]);
    await write("load", bundles);
  } finally {
    await node.stop();
  }
  if (existsSync(mainnet)) await write("mainnet", mainnet);
  else console.error(`SKIPPED: ${mainnet} is not there (set HEDDLE_FIXTURES): no report of mainnet blocks`);
});

async function write(name, bundles) {
  const path = join(parent, `${name}.html`);
  await run(HEDDLE_BIN, ["replay", "--workers", `${WORKERS}`, "--report", path, bundles]);
  const text = readFileSync(path, "utf8");
  const [, json] = text.match(/id="data">(.*?)<\/script>/s);
  reports[name] = { path, data: JSON.parse(json) };
}

/** Opens the report, hands it to `body`, and wants nothing to complain about in the end. */
async function look(name, colorScheme, body, viewport = { width: 1280, height: 900 }) {
  await withPage(chromium, { colorScheme, viewport }, async (page, complaints) => {
    await page.goto(pathToFileURL(reports[name].path).href);
    await body(page, reports[name].data);
    assert.deepEqual(complaints, []);
  });
}

async function screenshot(page, name) {
  const directory = process.env.HEDDLE_SCREENSHOTS;
  if (!directory) return;
  mkdirSync(directory, { recursive: true });
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
}

/** Relative luminance and contrast as WCAG defines them. */
function contrast(first, second) {
  const luminance = (color) => {
    const channels = color.match(/[\d.]+/g).slice(0, 3).map((value) => {
      const part = Number(value) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2];
  };
  const [high, low] = [luminance(first), luminance(second)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

/** Colours of text against what is behind it, as computed. */
const colours = (page) =>
  page.evaluate(() => {
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const { backgroundColor } = getComputedStyle(at);
        if (backgroundColor !== "rgba(0, 0, 0, 0)") return backgroundColor;
      }
      return "rgb(255, 255, 255)";
    };
    const texts = ["h1", "h2", ".hint", ".card b", ".card span", "#blocks td", "#blocks th", "#hot td", "footer"];
    return texts.map((selector) => {
      const element = document.querySelector(selector);
      return { selector, ink: getComputedStyle(element).color, paper: behind(element) };
    });
  });

/** Moves to the element and gives what the tip says. */
async function hover(page, locator) {
  await locator.scrollIntoViewIfNeeded();
  const box = await locator.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const tip = page.locator("#tip");
  await tip.waitFor({ state: "visible", timeout: 5_000 });
  const text = await tip.innerText();
  await page.mouse.move(1, 1);
  return text;
}

/** Whether the one is in the visible part of the other. */
const isWithin = (page, inner, outer) =>
  page.evaluate(([inner, outer]) => {
    const [part, frame] = [inner, outer].map((selector) => document.querySelector(selector).getBoundingClientRect());
    return part.top >= frame.top && part.bottom <= frame.bottom;
  }, [inner, outer]);

/** The place of the widest of these bars: one that a mouse can hit. */
const widest = (page, selector) =>
  page.locator(selector).evaluateAll((bars) => {
    const widths = bars.map((bar) => bar.getBoundingClientRect().width);
    return widths.indexOf(Math.max(...widths));
  });

for (const scheme of ["light", "dark"]) {
  test(`every section has its data, in ${scheme} colours`, { skip }, async (t) => {
    for (const name of Object.keys(reports)) {
      await t.test(name, () =>
        look(name, scheme, async (page, { summary, report }) => {
          const count = (selector) => page.locator(selector).count();
          const cards = await page.locator("#summary .card").allInnerTexts();
          assert.equal(cards.length, 8);
          assert.match(cards[0], new RegExp(`${summary.verified} of ${summary.blocks}`));
          assert.ok(cards.every((card) => /\d/.test(card)), `${cards}`);
          const measured = report.blocks.filter(({ line }) => line.speedup && line.max_speedup);
          assert.equal(await count("#scatter .dot"), measured.length);
          assert.equal(await count("#blocks tbody tr"), report.blocks.length);
          assert.equal(await count("#curve .point"), 7);
          assert.equal(await count("#curve .measured"), 1);
          assert.match(await page.locator(".tag").first().innerText(), /simulated/);

          const title = await page.locator("#chosen-title").innerText();
          const chosen = report.blocks.find(({ line }) => title === `Block ${line.number}, ${line.spec}`);
          assert.ok(chosen, title);
          assert.ok(await isWithin(page, "#blocks .chosen", ".short"), "the chosen row is in sight");
          assert.equal(await count("#timeline .lane"), WORKERS);
          assert.equal(await count("#timeline .bar"), chosen.details.spans.length);
          assert.ok((await count("#timeline .bar")) >= chosen.line.txs);
          assert.equal(await count("#hot tbody tr"), chosen.details.hot.length);
          const touches = chosen.details.hot.reduce((sum, { transactions }) => sum + transactions.length, 0);
          assert.equal(await count("#conflicts .touch"), touches);
          assert.ok(touches > 0, "somebody depends on somebody in the largest block");

          for (const { selector, ink, paper } of await colours(page)) {
            assert.ok(contrast(ink, paper) >= CONTRAST_MIN, `${selector}: ${ink} on ${paper}`);
          }
          const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
          assert.equal(contrast(paper, "rgb(0, 0, 0)") > 10, scheme === "light", `${paper} is not ${scheme}`);
          await screenshot(page, `${name}-${scheme}`);
        }),
      );
    }
  });
}

test("the mouse tells what a mark is", { skip }, async () => {
  await look("load", "light", async (page, { report }) => {
    const title = await page.locator("#chosen-title").innerText();
    const { details } = report.blocks.find(({ line }) => title.startsWith(`Block ${line.number},`));
    const index = await widest(page, "#timeline .bar");
    const bar = await hover(page, page.locator("#timeline .bar").nth(index));
    const [, tx] = details.spans[index];
    assert.match(bar, new RegExp(`^transaction ${tx}\n${details.hashes[tx]}\n`));
    assert.match(bar, /[\d,]+ gas\nrun \d+, [\d.]+ (ns|µs|ms) from /);
    assert.match(await hover(page, page.locator("#scatter .dot").first()), /^block \d+ .*\nspeed-up .* of at most/);
    assert.match(await hover(page, page.locator("#curve .point").last()), /^simulated: 64 worker/);
    assert.match(await hover(page, page.locator("#conflicts .touch").first()), /^transaction \d+\n0x[0-9a-f]{64}\n/);
    assert.match(await hover(page, page.locator("#conflicts text").first()), /gas one after the other/);
    assert.equal(await page.locator("#tip").isVisible(), false, "it goes with the mouse");
  });
});

test("a re-execution and its conflict are marked and explained", { skip }, async (t) => {
  const conflicting = Object.entries(reports).flatMap(([name, { data }]) =>
    data.report.blocks
      .filter(({ details }) => details?.spans.some(([, , incarnation, , , ending]) => incarnation > 0 && ending === 0))
      .map(({ line }) => [name, line.number]));
  if (!conflicting.length) return t.skip("no block of these reports ran a transaction again this time");
  const [name, number] = conflicting[0];
  await look(name, "light", async (page) => {
    await page.locator("#blocks td:first-child").getByText(`${number}`, { exact: true }).click();
    const again = page.locator("#timeline .again");
    assert.ok((await again.count()) > 0);
    const index = await widest(page, "#timeline .again");
    assert.match(await hover(page, again.nth(index)), /\nrun [2-9]\d*, /);
  });
});

test("rows choose a block, heads sort, the timeline zooms", { skip }, async () => {
  await look("load", "dark", async (page, { report }) => {
    const rows = page.locator("#blocks tbody tr");
    const numbers = async () => (await rows.locator("td:first-child").allInnerTexts()).map(Number);
    const ascending = report.blocks.map(({ line }) => line.number);
    assert.deepEqual(await numbers(), ascending);
    await page.locator("#blocks th button").first().click();
    assert.deepEqual(await numbers(), [...ascending].reverse());
    await rows.last().click();
    assert.match(await page.locator("#chosen-title").innerText(), new RegExp(`^Block ${ascending[0]},`));
    assert.equal(await page.locator("#blocks tr.chosen").count(), 1);
    await rows.first().focus();
    await page.keyboard.press("Enter");
    assert.match(await page.locator("#chosen-title").innerText(), new RegExp(`^Block ${ascending.at(-1)},`));

    const width = () => page.locator("#timeline").evaluate((picture) => picture.getBoundingClientRect().width);
    const before = await width();
    await page.locator("#zoom").fill("2");
    assert.ok((await width()) > 3 * before, "two steps are four times the width");
  });
});

test("nothing sticks out of a narrow window", { skip }, async (t) => {
  for (const name of Object.keys(reports)) {
    await t.test(name, () =>
      look(name, "light", async (page) => {
        const { content, window } = await page.evaluate(() => (
          { content: document.documentElement.scrollWidth, window: innerWidth }));
        assert.ok(content <= window, `${content} pixels in ${window}`);
        await screenshot(page, `${name}-narrow`);
      }, { width: 400, height: 800 }),
    );
  }
});
