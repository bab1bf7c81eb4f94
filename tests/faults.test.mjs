// What the disk, the system and the clock may do to a node: no room, no time to say goodbye.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { accounts } from "./lib/accounts.mjs";
import { HEDDLE_BIN, nodeForTest, onAnvil, until } from "./lib/node.mjs";
import { contract } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";
import { Subscriber } from "./lib/subscription.mjs";
import { hex, sendAndWait, sign } from "./lib/transactions.mjs";

/** Rounds of `kill -9` under load; `make faults` runs a hundred. */
const KILL_ROUNDS = Number(process.env.HEDDLE_KILL_ROUNDS ?? 4);
/** After so many rounds a new directory is begun, since every round looks through the whole chain. */
const ROUNDS_A_DIRECTORY = 10;
const LOAD_MS_MAX = 1_200;
const WINDOW_MS = 100;
/** For the disk and for two busy cores: the window starts when the node gets to run. */
const SCHEDULING_MS = 400;

const skip = onAnvil && "anvil keeps no data directory";
const parent = mkdtempSync(join(tmpdir(), "heddle-faults-"));
after(() => rmSync(parent, { recursive: true, force: true }));

async function stopCleanly(node) {
  const { code, signal } = await node.stop("SIGTERM");
  assert.equal(code, 0, `exit status ${code ?? signal}\n${node.output()}`);
}

/** Computes anew whatever can be computed anew; what it found. */
const verify = async (datadir) => JSON.parse(await run(HEDDLE_BIN, ["db", "verify", "--json", "--datadir", datadir]));

/** Limits how large the node's files may become, as a full disk does. */
const limitFiles = (node, bytes) => run("prlimit", ["--pid", String(node.child.pid), `--fsize=${bytes}:`]);

test("a full disk stops blocks and nothing else, and they go on when there is room", { skip }, async (t) => {
  for (const durability of ["window=50", "block"]) {
    const datadir = join(parent, `full-${durability}`);
    const node = await nodeForTest(t, { datadir, extra: ["--durability", durability] });
    const { contractAddress } = await sendAndWait(node, { data: contract("Gauntlet").bytecode });
    await limitFiles(node, statSync(join(datadir, "heddle.redb")).size + 300_000);

    const data = `0x${randomBytes(60_000).toString("hex")}`;
    let refused;
    await until(async () => {
      try {
        const nonce = Number(await node.rpc("eth_getTransactionCount", accounts[0].address, "pending"));
        const raw = await sign(0, { nonce, to: accounts[1].address, data, gas: 4_000_000n });
        await node.rpc("eth_sendRawTransaction", raw);
      } catch (error) {
        refused = error;
      }
      return refused;
    }, "the disk to be full");
    assert.match(refused.message, /no transactions are taken at present: the disk is full at .*heddle\.redb/);

    const shown = Number(await node.rpc("eth_blockNumber"));
    const pending = await node.rpc("eth_getTransactionCount", accounts[0].address, "pending");
    await assert.rejects(node.rpc("evm_mine"), /the disk is full/);
    for (let number = 0; number <= shown; number++) {
      assert.equal((await node.rpc("eth_getBlockByNumber", hex(number), true)).number, hex(number));
    }
    assert.notEqual(await node.rpc("eth_getCode", contractAddress, "latest"), "0x");
    assert.equal(Number(await node.rpc("eth_blockNumber")), shown, "no blocks are made");
    assert.match(node.output(), /the disk is full: no blocks are made until there is room/);

    await limitFiles(node, "unlimited");
    await until(() => /the disk has room again/.test(node.output()), "room to be noticed");
    await until(async () => (await node.rpc("eth_getTransactionCount", accounts[0].address, "latest")) === pending, "what waited to be mined");
    assert.equal((await sendAndWait(node, { from: accounts[2].address, to: accounts[1].address })).status, "0x1");
    const head = Number(await node.rpc("eth_blockNumber"));
    assert.ok(head > shown);
    await stopCleanly(node);
    assert.equal((await verify(datadir)).number, head);
  }
});

test("a node that is stopped while the disk is full ends, and says that it was", { skip }, async (t) => {
  const datadir = join(parent, "stopped-full");
  let node = await nodeForTest(t, { datadir });
  const { blockNumber } = await sendAndWait(node, { to: accounts[1].address });
  await sleep(3 * WINDOW_MS);
  await limitFiles(node, statSync(join(datadir, "heddle.redb")).size);
  const raw = await sign(0, { nonce: 1, to: accounts[1].address, data: `0x${randomBytes(120_000).toString("hex")}`, gas: 8_000_000n });
  await node.rpc("eth_sendRawTransaction", raw);
  await until(() => /the disk is full/.test(node.output()), "the disk to be full");
  const { code, ms } = await node.stop("SIGTERM");
  assert.ok(ms < 6_000, `SIGTERM took ${ms} ms`);
  assert.equal(code, 1, "what was shown is not all on disk");
  assert.ok((await verify(datadir)).number >= Number(blockNumber));
  node = await nodeForTest(t, { datadir });
  assert.equal((await sendAndWait(node, { from: accounts[2].address, to: accounts[1].address })).status, "0x1");
  await stopCleanly(node);
});

/** Blocks of the simulated day; `make faults` makes one a second. */
const DAY_BLOCKS = Number(process.env.HEDDLE_DAY_BLOCKS ?? 7_200);
const HOURS = 24;
const TRANSACTIONS_AN_HOUR = 60;

test(`24 hours of ${DAY_BLOCKS} blocks leave the node no larger than the first six did`, { skip, timeout: 60_000 + DAY_BLOCKS * 20 }, async (t) => {
  const datadir = join(parent, "day");
  const node = await nodeForTest(t, { datadir, mining: false, extra: ["--prune.state", "1024", "--prune.receipts", "1024", "--prune.bodies", "1024"] });
  const resident = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.child.pid}/status`, "utf8"))[1]) / 1024;
  const started = Number((await node.rpc("eth_getBlockByNumber", "latest", false)).timestamp);
  const megabytes = [];
  let nonce = 0;
  for (let hour = 0; hour < HOURS; hour++) {
    for (let index = 0; index < TRANSACTIONS_AN_HOUR; index++, nonce++) {
      await node.rpc("eth_sendRawTransaction", await sign(0, { nonce, to: `0x${(nonce + 1).toString(16).padStart(40, "0")}`, value: 1n, gas: 21_000n }));
    }
    await node.rpc("anvil_mine", hex(DAY_BLOCKS / HOURS), hex(86_400 / DAY_BLOCKS));
    megabytes.push(resident());
  }
  const head = await node.rpc("eth_getBlockByNumber", "latest", false);
  assert.ok(Number(head.timestamp) - started >= 86_000, "a day has passed");
  assert.equal(Number(head.number), DAY_BLOCKS);
  assert.equal(Number(await node.rpc("eth_getTransactionCount", accounts[0].address, "latest")), nonce);
  const [early, late] = [Math.max(...megabytes.slice(0, 6)), Math.max(...megabytes.slice(-6))];
  t.diagnostic(`resident memory: ${early.toFixed(0)} MiB after 6 hours, ${late.toFixed(0)} MiB after 24`);
  assert.ok(late < 1.5 * early + 32, `${late} MiB after 24 hours, ${early} after six`);

  // What is pruned is said to be, in the words and with the code that EIP-4444 has for it.
  const old = Math.floor(DAY_BLOCKS / 2);
  for (const [method, ...params] of [
    ["eth_getBlockByNumber", hex(old), true],
    ["eth_getBlockReceipts", hex(old)],
    ["eth_getLogs", { fromBlock: hex(old), toBlock: hex(old + 1) }],
    ["eth_getBalance", accounts[1].address, hex(old)],
    ["eth_call", { to: accounts[1].address }, hex(old)],
  ]) {
    await assert.rejects(node.rpc(method, ...params), (error) => {
      assert.match(error.message, /pruned history unavailable/, method);
      assert.equal(error.code, 4444, method);
      return true;
    });
  }
  const capabilities = await node.rpc("eth_capabilities");
  for (const what of ["state", "tx", "logs", "receipts", "blocks"]) {
    assert.equal(Number(capabilities[what].oldestBlock), DAY_BLOCKS - 1_024, what);
    assert.equal(Number(capabilities[what].deleteStrategy.retentionBlocks), 1_024, what);
  }
  const first = hex(DAY_BLOCKS - 1_024);
  assert.equal((await node.rpc("eth_getBlockByNumber", first, true)).number, first);
  assert.equal(Number(await node.rpc("eth_getBalance", accounts[1].address, first)) > 0, true);
  await stopCleanly(node);
  const { headers, bodies, receipts, changes } = await verify(datadir);
  assert.deepEqual([headers, bodies, receipts, changes], [DAY_BLOCKS + 1, 1_025, 1_025, 1_024]);
});

/** A load that ends with the node. */
function load(node, workload) {
  const options = ["--workload", workload, "--txs", "400000", "--accounts", "400", "--pending", "4000"];
  const child = spawn(HEDDLE_BIN, ["load", "--rpc", node.url, ...options, "--json"], { stdio: "ignore" });
  return { child, ended: once(child, "exit") };
}

test(`kill -9 at any instant under load, ${KILL_ROUNDS} times: no more is lost than the window, and all that is there is right`, { skip, timeout: KILL_ROUNDS * 30_000 }, async (t) => {
  let datadir;
  let lost = 0;
  for (let round = 0; round < KILL_ROUNDS; round++) {
    if (round % ROUNDS_A_DIRECTORY === 0) datadir = join(parent, `killed-${round}`);
    const durability = round % 2 ? "block" : `window=${WINDOW_MS}`;
    const node = await nodeForTest(t, { datadir, extra: ["--durability", durability] });
    const seen = [];
    const subscriber = await Subscriber.connect(node.wsUrl);
    subscriber.onEvent = ({ number, hash }) => seen.push({ number: Number(number), hash, at: performance.now() });
    await subscriber.subscribe("newHeads");
    const sender = load(node, ["transfers", "erc20"][(round >> 1) % 2]);
    await until(() => seen.length > 0, "a block under load", 60_000);
    await sleep(Math.random() * LOAD_MS_MAX);
    const killedAt = performance.now();
    await node.stop("SIGKILL");
    sender.child.kill("SIGKILL");
    await sender.ended;

    const { number: head, hash, headers } = await verify(datadir);
    assert.equal(headers, head + 1, "every block from genesis on is there");
    const shown = seen.filter(({ at }) => at <= killedAt);
    const durable = durability === "block" ? shown.at(-1) : shown.findLast(({ at }) => at <= killedAt - WINDOW_MS - SCHEDULING_MS);
    assert.ok(head >= (durable?.number ?? 0), `round ${round}: reopened at ${head}, but ${durable?.number} was to be on disk (${durability})`);
    const same = seen.find(({ number }) => number === head);
    if (same) assert.equal(hash, same.hash, "the head is the block that was shown");
    lost += Math.max(0, shown.at(-1).number - head);
  }
  t.diagnostic(`${KILL_ROUNDS} rounds: ${lost} blocks were shown and lost, all within the window`);
});
