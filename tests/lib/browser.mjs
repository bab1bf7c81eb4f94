// Headless Chromium, as it is installed: CHROMIUM names it, otherwise the usual names are looked for.
import { mkdtempSync, rmSync } from "node:fs";
import { accessSync, constants } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Nothing that asks the network of its own accord, and what containers need. */
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** A start takes a second or two. */
const START_MS_MAX = 45_000;

const isExecutable = (path) => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** The path of the browser, or undefined where there is none. */
export function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const directories = (process.env.PATH ?? "").split(delimiter);
  return NAMES.flatMap((name) => directories.map((directory) => join(directory, name))).find(isExecutable);
}

/** Starts the browser, a second time if it does not come up: on a busy machine it sometimes hangs. */
async function launch(profile, options) {
  const start = () => chromium.launchPersistentContext(profile, { ...options, timeout: START_MS_MAX });
  try {
    return await start();
  } catch (error) {
    console.error(`Chromium did not start: ${error.message}`);
    return start();
  }
}

/**
 * Opens a browser with a profile of its own, gives `body` a page, and closes everything. What the page writes to the
 * console as an error, throws, or asks from anywhere but its own file is collected in `complaints`.
 */
export async function withPage(executablePath, options, body) {
  const profile = mkdtempSync(join(tmpdir(), "heddle-chromium-"));
  const context = await launch(profile, { executablePath, headless: true, args: FLAGS, ...options });
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    const complaints = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => complaints.push(`thrown: ${error.message}`));
    context.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith("data:") && url !== page.url() && !url.startsWith("file:")) complaints.push(`asked: ${url}`);
      if (url.startsWith("file:") && request.resourceType() !== "document") complaints.push(`asked: ${url}`);
    });
    await body(page, complaints);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}
