// Bundles of a node's blocks, by JSON-RPC and from its data directory: replayed, verified, compared; and what the command
// line prints of that.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { mixedLoad } from "./lib/mixed-load.mjs";
import { HEDDLE_BIN, onAnvil, startNode } from "./lib/node.mjs";
import { run } from "./lib/run.mjs";

const skip = onAnvil && "anvil replays nothing";
const parent = mkdtempSync(join(tmpdir(), "heddle-replay-"));
after(() => rmSync(parent, { recursive: true, force: true }));

/** Transactions of the load. */
const LOAD = 600;

const bundle = (directory, number) =>
  JSON.parse(gunzipSync(readFileSync(join(directory, `${number}.json.gz`))).toString("utf8"));

/** The lines of `heddle replay --json`: one a block, and the summary. */
async function replay(...args) {
  const printed = await run(HEDDLE_BIN, ["replay", "--json", ...args]);
  const lines = printed.split("\n").map((line) => JSON.parse(line));
  return { blocks: lines.slice(0, -1), summary: lines.at(-1) };
}

/** What the design says about the lines, to the letter: other programs parse them. */
function checkLines({ blocks, summary }) {
  for (const block of blocks) {
    assert.deepEqual(Object.keys(block), [
      "number", "spec", "txs", "gas", "verified", "checks", "sequential_ms", "parallel_ms", "speedup", "workers",
      "conflicts", "reexecutions", "critical_path_gas", "max_speedup",
    ]);
    assert.deepEqual(block.checks, { gasUsed: true, receiptsRoot: true, logsBloom: true });
    assert.equal(block.verified, true);
    assert.ok(block.critical_path_gas <= block.gas);
  }
  assert.deepEqual(Object.keys(summary), [
    "summary", "blocks", "verified", "txs", "gas", "sequential_ms", "parallel_ms", "speedup", "speedup_mean",
    "speedup_min", "speedup_max", "gas_per_second",
  ]);
  assert.equal(summary.blocks, blocks.length);
  assert.equal(summary.verified, blocks.length);
  const sum = (field) => blocks.reduce((total, block) => total + block[field], 0);
  assert.equal(summary.txs, sum("txs"));
  assert.equal(summary.gas, sum("gas"));
}

test("bundles fetched from a node and exported from its data directory verify and agree", { skip }, async (t) => {
  const datadir = join(parent, "data");
  const node = await startNode({ datadir });
  t.after(() => node.stop("SIGKILL"));
  const { last, transactions } = await mixedLoad(node.url, LOAD);
  const fetched = join(parent, "fetched");
  const said = await run(HEDDLE_BIN, ["replay", "--rpc", node.url, "--block", `1..${last}`, "--save", fetched]);
  assert.match(said, new RegExp(`^bundles +${last} fetched, 0 were there`, "m"));
  const again = await run(HEDDLE_BIN, ["replay", "--rpc", node.url, "--block", `1..${last}`, "--save", fetched]);
  assert.match(again, new RegExp(`^bundles +0 fetched, ${last} were there`, "m"));
  const live = await replay("--rpc", node.url, "--block", `${last}`);
  checkLines(live);
  assert.deepEqual(live.blocks.map(({ number }) => number), [last]);
  await node.stop();

  const exported = join(parent, "exported");
  await run(HEDDLE_BIN, ["export", "--datadir", datadir, "--bundles", exported, "--to", `${last}`]);
  for (const directory of [fetched, exported]) {
    const lines = await replay("--strict", "--workers", "4", directory);
    checkLines(lines);
    assert.deepEqual(lines.blocks.map(({ number }) => number), Array.from({ length: last }, (_, index) => index + 1));
    assert.ok(lines.summary.txs >= transactions);
  }
  for (const name of readdirSync(exported)) {
    const number = Number.parseInt(name, 10);
    const [ours, theirs] = [bundle(exported, number), bundle(fetched, number)];
    for (const field of ["chainId", "config", "block", "blockHashes", "receipts"]) {
      assert.deepEqual(theirs[field], ours[field], `${field} of block ${number}`);
    }
    // What execution reads is in both; the tracer may have seen more.
    for (const [address, account] of Object.entries(ours.prestate)) {
      const other = theirs.prestate[address];
      assert.notEqual(other, undefined, `${address} of block ${number}`);
      const { storage = {}, ...basic } = account ?? {};
      const { storage: otherStorage = {}, ...otherBasic } = other ?? {};
      assert.deepEqual(otherBasic, basic, `${address} of block ${number}`);
      for (const [slot, value] of Object.entries(storage)) assert.equal(otherStorage[slot], value, `${address} ${slot}`);
    }
  }
});

test("bundles fetched from Anvil verify", { skip }, async (t) => {
  const anvil = await startNode({ kind: "anvil" });
  t.after(() => anvil.stop("SIGKILL"));
  // It runs the calls of a batch in no order, and some of an account's transactions are then never mined.
  const { last } = await mixedLoad(anvil.url, LOAD, { batches: false });
  const directory = join(parent, "anvil");
  await run(HEDDLE_BIN, ["replay", "--rpc", anvil.url, "--block", `1..${last}`, "--save", directory]);
  const lines = await replay("--strict", directory);
  checkLines(lines);
  assert.equal(lines.summary.blocks, last);
});

test("a wrong command line is refused with status 2, and what cannot be had with 1", { skip }, async () => {
  const fails = async (status, pattern, ...args) => {
    await assert.rejects(run(HEDDLE_BIN, ["replay", ...args]), (error) => {
      assert.match(error.message, new RegExp(`ended with ${status}\\b`));
      assert.match(error.message, pattern);
      return true;
    });
  };
  await fails(2, /BUNDLE_OR_DIR/);
  await fails(2, /--block/, "--rpc", "http://127.0.0.1:1");
  await fails(2, /comes after/, "--rpc", "http://127.0.0.1:1", "--block", "2..1");
  await fails(2, /--rpc/, "--save", parent, "bundle.json");
  await fails(1, /127\.0\.0\.1:1 does not answer eth_chainId: .*refused/, "--rpc", "http://127.0.0.1:1", "--block", "1");
  await fails(1, /--rpc: /, "--rpc", "ftp://127.0.0.1", "--block", "1");
  await fails(1, /no bundle/, mkdtempSync(join(parent, "empty-")));
});
