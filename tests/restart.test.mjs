// A node with a data directory, stopped and killed under load: what it shows when it is opened again.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { accounts } from "./lib/accounts.mjs";
import { HEDDLE_BIN, nodeForTest, onAnvil, spawnNode, until } from "./lib/node.mjs";
import { contract, repository } from "./lib/places.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { run } from "./lib/run.mjs";
import { Subscriber } from "./lib/subscription.mjs";
import { hex, sendAndWait, sign } from "./lib/transactions.mjs";

/** The documented durability window: how far a reopened node may be behind what it showed before it was killed. */
const DURABILITY_MS = Number(process.env.HEDDLE_DURABILITY_MS ?? 100);
/** For the disk and for two busy cores: the window starts when the node gets to run. */
const SCHEDULING_MS = 150;
const STOP_MS_MAX = 5_000;
const SENDERS = 4;
const KILLS = 3;
/** How long a round of load lasts before the node is stopped: several durability windows. */
const LOAD_MS = 1_500;
const BLOCKS_MIN = 20;

const skip = onAnvil && "anvil keeps no data directory";
const parent = mkdtempSync(join(tmpdir(), "heddle-restart-"));
after(() => rmSync(parent, { recursive: true, force: true }));

/**
 * Sends storage-writing transactions from four accounts, a connection each, until the node stops answering, and writes
 * down every head the node announces.
 */
async function underLoad(node, gauntlet) {
  const { selectors } = contract("Gauntlet");
  const word = (value) => BigInt(value).toString(16).padStart(64, "0");
  const seen = [];
  const subscriber = await Subscriber.connect(node.wsUrl);
  subscriber.onEvent = ({ number, hash }) => seen.push({ number: Number(number), hash, at: performance.now() });
  await subscriber.subscribe("newHeads");
  let over = false;
  const senders = Array.from({ length: SENDERS }, async (_, sender) => {
    const connection = new RpcConnection(node.url);
    try {
      const first = Number(await connection.call("eth_getTransactionCount", [accounts[sender].address, "pending"]));
      for (let nonce = first; !over; nonce++) {
        const data = `${selectors["write(uint256,uint256)"]}${word(nonce * SENDERS + sender)}${word(nonce + 1)}`;
        const raw = await sign(sender, { nonce, to: gauntlet, data, gas: 100_000n });
        await connection.call("eth_sendRawTransaction", [raw]);
      }
    } catch (error) {
      if (!node.child.killed) throw error; // else the node is gone, which is what this test does to it
    } finally {
      connection.close();
    }
  });
  await sleep(LOAD_MS);
  await until(() => seen.length >= BLOCKS_MIN, `${BLOCKS_MIN} blocks under load`);
  return {
    seen,
    async finish() {
      over = true;
      await Promise.all(senders);
    },
  };
}

/** Every block the node showed up to its present head is still there by number and hash, and nonces add up. */
async function assertHolds(node, seen) {
  const head = Number(await node.rpc("eth_blockNumber"));
  const connection = new RpcConnection(node.url);
  const block = (number) => connection.call("eth_getBlockByNumber", [hex(number), true]);
  const sent = new Map();
  let parentHash;
  const hashes = [];
  for (let number = 0; number <= head; number++) {
    const { hash, transactions, ...header } = await block(number);
    if (number > 0) assert.equal(header.parentHash, parentHash, `block ${number} follows its parent`);
    parentHash = hash;
    hashes.push(hash);
    for (const { from } of transactions) sent.set(from, (sent.get(from) ?? 0) + 1);
  }
  for (const { number, hash } of seen) {
    if (number > head) continue;
    assert.equal(hashes[number], hash, `block ${number} is the one that was shown`);
    assert.equal((await connection.call("eth_getBlockByHash", [hash, false])).hash, hash);
  }
  for (const [sender, count] of sent) {
    assert.equal(Number(await connection.call("eth_getTransactionCount", [sender, "latest"])), count, "nonces match the blocks");
  }
  connection.close();
  return head;
}

async function assertVerified(datadir) {
  await run(HEDDLE_BIN, ["db", "verify", "--datadir", datadir]);
}

async function stopCleanly(node) {
  const { code, signal, ms } = await node.stop("SIGTERM");
  assert.equal(code, 0, `exit status ${code ?? signal}\n${node.output()}`);
  assert.ok(ms < STOP_MS_MAX, `SIGTERM took ${ms} ms`);
}

test("SIGTERM under load ends within 5 s with status 0, and the node reopens on the same head", { skip }, async (t) => {
  const datadir = join(parent, "stopped");
  let node = await nodeForTest(t, { datadir });
  const { contractAddress } = await sendAndWait(node, { data: contract("Gauntlet").bytecode });
  const load = await underLoad(node, contractAddress);
  await stopCleanly(node);
  await load.finish();

  node = await nodeForTest(t, { datadir });
  const head = await assertHolds(node, load.seen);
  const last = load.seen.at(-1);
  assert.ok(head >= last.number, `reopened at ${head}, but ${last.number} was shown`);
  const { status, blockNumber } = await sendAndWait(node, { from: accounts[9].address, to: accounts[0].address });
  assert.equal(status, "0x1");
  assert.ok(Number(blockNumber) > head);
  await stopCleanly(node);
  await assertVerified(datadir);
});

test("kill -9 under load loses at most the durability window, and the state root holds", { skip }, async (t) => {
  const datadir = join(parent, "killed");
  let node = await nodeForTest(t, { datadir });
  const { contractAddress } = await sendAndWait(node, { data: contract("Gauntlet").bytecode });
  const shown = [];
  for (let round = 0; round < KILLS; round++) {
    const load = await underLoad(node, contractAddress);
    const killedAt = performance.now();
    await node.stop("SIGKILL");
    await load.finish();

    node = await nodeForTest(t, { datadir });
    const seen = load.seen.filter(({ at }) => at <= killedAt);
    const head = await assertHolds(node, [...shown, ...seen]);
    const durable = seen.findLast(({ at }) => at <= killedAt - DURABILITY_MS - SCHEDULING_MS);
    t.diagnostic(`round ${round}: reopened at ${head}, ${seen.at(-1).number} was the last one shown`);
    assert.ok(head >= (durable?.number ?? 0), `reopened at ${head}, but ${durable?.number} was shown ${DURABILITY_MS} ms earlier`);
    // What the reopened node mines may replace lost blocks; only what it still has must stay.
    shown.push(...seen.filter(({ number }) => number <= head));
    assert.equal((await sendAndWait(node, { from: accounts[9].address, to: accounts[0].address })).status, "0x1");
    assert.ok(Number(await node.rpc("eth_blockNumber")) > head);
  }
  await stopCleanly(node);
  await assertVerified(datadir);
});

/** The node exits with status 1 and words that match; no panic. */
async function assertRefuses(options, words) {
  const started = await spawnNode(options);
  const patience = setTimeout(() => started.child.kill("SIGKILL"), 15_000);
  const { code, signal } = await started.exited;
  clearTimeout(patience);
  const said = started.output();
  assert.equal(code, 1, `exit status ${code ?? signal}: ${said}`);
  assert.match(said, words);
  assert.doesNotMatch(said, /panicked/);
}

test("a second process on the same data directory, and a foreign genesis, are refused", { skip }, async (t) => {
  const datadir = join(parent, "contested");
  const node = await nodeForTest(t, { datadir });
  await sendAndWait(node, { to: accounts[1].address, value: "0x1" });
  await assertRefuses({ datadir }, /in use|locked|another|already open/i);
  assert.equal(await node.rpc("eth_blockNumber"), "0x1", "the first one is not disturbed");
  await stopCleanly(node);

  const genesis = JSON.parse(readFileSync(join(repository, "genesis", "dev.json"), "utf8"));
  genesis.timestamp = "0x12345";
  const foreign = join(parent, "foreign.json");
  writeFileSync(foreign, JSON.stringify(genesis));
  await assertRefuses({ datadir, genesis: foreign }, /genesis/i);
  await assertVerified(datadir);
});

test("a truncated database is refused with a message", { skip }, async (t) => {
  const datadir = join(parent, "whole");
  const node = await nodeForTest(t, { datadir });
  await sendAndWait(node, { data: contract("Gauntlet").bytecode });
  await stopCleanly(node);
  const cut = join(parent, "cut");
  cpSync(datadir, cut, { recursive: true });
  const files = readdirSync(cut, { recursive: true })
    .map((name) => join(cut, name))
    .filter((path) => statSync(path).isFile())
    .sort((one, other) => statSync(other).size - statSync(one).size);
  truncateSync(files[0], Math.floor(statSync(files[0]).size / 2));
  await assertRefuses({ datadir: cut }, /\S/);
});

test("a node without a data directory forgets everything, and ends on SIGINT too", { skip }, async (t) => {
  let node = await nodeForTest(t);
  await sendAndWait(node, { to: accounts[1].address, value: "0x1" });
  assert.equal((await node.stop("SIGINT")).code, 0);
  node = await nodeForTest(t);
  assert.equal(await node.rpc("eth_blockNumber"), "0x0");
  await stopCleanly(node);
});
