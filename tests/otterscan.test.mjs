// What the Otterscan explorer asks, from a page in headless Chromium: a block, a transaction with its calls and an address,
// of a node that is told by --http.corsdomain which origin may ask. (Otterscan itself is not on npm; the page in
// otterscan/ makes its calls, through the library it uses.)
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Contract, ContractFactory, JsonRpcProvider, MaxUint256, NonceManager, Wallet } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { findChromium, withPage } from "./lib/browser.mjs";
import { onAnvil, startNode } from "./lib/node.mjs";
import { tests, uniswapArtifact } from "./lib/places.mjs";
import { hex, sendAndWait } from "./lib/transactions.mjs";
import { deployUniswap, routerAbi } from "./lib/uniswap.mjs";

const chromium = findChromium();
if (!chromium) console.error("SKIPPED: no Chromium (apt-get install chromium, or set CHROMIUM): the explorer is not looked at");
const skip = (onAnvil && "anvil has no data directory") || (!chromium && "no Chromium: apt-get install chromium, or set CHROMIUM");
const parent = mkdtempSync(join(tmpdir(), "heddle-otterscan-"));
after(() => rmSync(parent, { recursive: true, force: true }));

const ETHER = 10n ** 18n;
const FILES = {
  "/index.html": ["text/html", join(tests, "otterscan/index.html")],
  "/explorer.mjs": ["text/javascript", join(tests, "otterscan/explorer.mjs")],
  "/ethers.min.js": ["text/javascript", join(tests, "node_modules/ethers/dist/ethers.min.js")],
};
const [alice, bob] = accounts;
const chain = {};

/** Serves the page, from an origin of its own. */
async function serve() {
  const server = createServer((request, response) => {
    const file = FILES[new URL(request.url, "http://localhost").pathname];
    response.writeHead(file ? 200 : 404, { "content-type": file?.[0] ?? "text/plain" });
    response.end(file && readFileSync(file[1]));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** Fills a data directory: a swap, ether paid out by a contract, a call that fails. */
async function fill(datadir) {
  const maker = await startNode({ datadir });
  try {
    const provider = new JsonRpcProvider(maker.url, undefined, { staticNetwork: true, pollingInterval: 20, cacheTimeout: -1 });
    const signer = new NonceManager(new Wallet(alice.privateKey, provider));
    const uniswap = await deployUniswap(signer, []);
    const router = new Contract(uniswap.router, routerAbi, signer);
    const path = [uniswap.tokenA, uniswap.tokenB];
    const { abi, bytecode } = uniswapArtifact("@uniswap/v2-periphery", "WETH9");
    const weth = await (await new ContractFactory(abi, bytecode, signer).deploy()).waitForDeployment();
    const waited = async (sent) => (await sent).wait();
    const creation = weth.deploymentTransaction().hash;
    const deposit = await waited(weth.deposit({ value: 3n * ETHER }));
    const withdrawal = await waited(weth.withdraw(2n * ETHER));
    const swap = await waited(router.swapExactTokensForTokens(ETHER, 0, path, alice.address, MaxUint256, { gasLimit: 500_000 }));
    const late = router.interface.encodeFunctionData("swapExactTokensForTokens", [ETHER, 0, path, alice.address, 1]);
    const failed = await sendAndWait(maker, { from: bob.address, to: uniswap.router, data: late, gas: hex(500_000) });
    Object.assign(chain, { uniswap, weth: await weth.getAddress(), creation, deposit, withdrawal, swap, failed });
    provider.destroy();
  } finally {
    await maker.stop();
  }
}

let node;
let origin;
if (!skip) {
  const datadir = join(parent, "data");
  await fill(datadir);
  origin = await serve();
  // Not a development node: what a page may ask is what the flags allow.
  const flags = ["--http.api", "eth,ots,erigon", "--http.corsdomain", origin];
  node = await startNode({ datadir, genesis: join(tests, "../genesis/dev.json"), extra: flags });
  after(() => node.stop("SIGKILL"));
}

/** Opens a page of the explorer and hands what it shows to `body`. */
async function look(path, body, from = origin) {
  await withPage(chromium, { viewport: { width: 1280, height: 900 } }, async (page, complaints) => {
    await page.goto(`${from}/index.html?erigonURL=${encodeURIComponent(node.url)}#/${path}`);
    await page.waitForFunction(() => document.getElementById("title").textContent !== "…");
    const text = (selector) => page.locator(selector).innerText();
    const all = (selector) => page.locator(selector).allInnerTexts();
    await body({ page, text, all, title: await text("#title") });
    const elsewhere = (complaint) => !complaint.startsWith("asked:") || ![from, node.url].some((known) => complaint.includes(known));
    if (from === origin) assert.deepEqual(complaints.filter(elsewhere), []);
  });
}

test("a block's page shows the block and its transactions", { skip }, async () => {
  await look(`block/${chain.swap.blockNumber}`, async ({ text, all, title, page }) => {
    assert.equal(title, `Block #${chain.swap.blockNumber}`);
    const overview = await text("#overview");
    for (const told of ["1 transactions", chain.swap.blockHash, String(chain.swap.gasUsed)]) assert.ok(overview.includes(told), told);
    assert.equal((await all("tr.transaction")).length, 1);
    const row = await text("tr.transaction");
    for (const told of [chain.swap.hash, "0x38ed1739", alice.address, chain.uniswap.router, "Success"]) assert.ok(row.includes(told), told);
    // The next page is a click away.
    await page.click(`a[href="#/tx/${chain.swap.hash}"]`);
    await page.waitForFunction(() => document.getElementById("title").textContent === "Transaction Details");
  });
});

test("a transaction's page shows its calls one inside the other", { skip }, async () => {
  await look(`tx/${chain.swap.hash}`, async ({ text, page, title }) => {
    assert.equal(title, "Transaction Details");
    const { router, pair, tokenA, tokenB } = chain.uniswap;
    const overview = await text("#overview");
    for (const told of ["Success", String(chain.swap.blockNumber), String(chain.swap.logs.length)]) assert.ok(overview.includes(told), told);
    assert.equal(chain.swap.logs.length, 4);
    const under = (depth) => `#trace ${"> li > ul ".repeat(depth)}> li > span.call`;
    const calls = (depth) => page.locator(under(depth)).allInnerTexts();
    assert.deepEqual(await calls(0), [`CALL ${alice.address} → ${router} 0x38ed1739 0.0 ETH`]);
    const second = await calls(1);
    assert.ok(second.includes(`CALL ${router} → ${tokenA} 0x23b872dd 0.0 ETH`), second.join("\n"));
    assert.ok(second.includes(`CALL ${router} → ${pair} 0x022c0d9f 0.0 ETH`), second.join("\n"));
    const third = await calls(2);
    assert.ok(third.includes(`CALL ${pair} → ${tokenB} 0xa9059cbb 0.0 ETH`), third.join("\n"));
  });
});

test("a transaction's page shows ether that a contract paid out, and why a transaction failed", { skip }, async () => {
  await look(`tx/${chain.withdrawal.hash}`, async ({ all }) => {
    assert.deepEqual(await all("li.operation"), [`transfer ${chain.weth} → ${alice.address} 2.0 ETH`]);
  });
  await look(`tx/${chain.failed.transactionHash}`, async ({ text }) => {
    assert.match(await text("#overview"), /Fail with: UniswapV2Router: EXPIRED/);
  });
});

test("an address's page shows balance, creator and transactions, the newest first", { skip }, async () => {
  await look(`address/${chain.weth}`, async ({ text, all, title }) => {
    assert.equal(title, "Contract");
    const overview = await text("#overview");
    for (const told of ["1.0 ETH", alice.address, chain.creation]) assert.ok(overview.includes(told), told);
    const rows = await all("tr.transaction");
    const hashes = rows.map((row) => row.split(/\s/)[0]);
    assert.deepEqual(hashes, [chain.withdrawal.hash, chain.deposit.hash, chain.creation]);
    assert.match(await text("#pages"), /first page: true, last page: true/);
  });
  // The pair was made by the factory inside the router's transaction, which only running it tells.
  await look(`address/${chain.uniswap.pair}`, async ({ text, all }) => {
    assert.ok((await all("tr.transaction"))[0].includes(chain.swap.hash));
    assert.match(await text("#overview"), /Created by\s+0x[0-9a-f]{64}/);
  });
  await look(`address/${bob.address}`, async ({ text, title }) => {
    assert.equal(title, "Address");
    assert.ok((await text("#overview")).includes(chain.failed.transactionHash), "the first that was sent from it");
  });
});

test("a page of another origin gets nothing", { skip }, async () => {
  const stranger = await serve();
  await look(`block/1`, async ({ text, title }) => {
    assert.equal(title, "Error");
    assert.match(await text("#error"), /\S/);
  }, stranger);
});
