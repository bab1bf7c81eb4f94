// `heddle import` of a chain that a node made: killed at random moments and started again, it ends where an import that
// nothing disturbed does; damaged and foreign files are refused with the place and the rule, and what was before stays.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { mixedLoad } from "./lib/mixed-load.mjs";
import { HEDDLE_BIN, onAnvil, startNode } from "./lib/node.mjs";
import { repository } from "./lib/places.mjs";
import { Random, seed } from "./lib/random.mjs";
import { run } from "./lib/run.mjs";

const skip = onAnvil && "anvil imports nothing";
const parent = mkdtempSync(join(tmpdir(), "heddle-import-"));
after(() => rmSync(parent, { recursive: true, force: true }));

/** Enough work for many durability windows (100 ms). */
const LOAD = 5_000;
const EMPTY_BLOCKS = 4_000;
const KILLS = 12;
/** An import that never gets to its end is a failure, not a reason to go on for ever. */
const STARTS_MAX = 100;
const genesis = join(repository, "genesis", "dev.json");
const chain = join(parent, "chain.rlp");

let head;
let blocks;

before(async () => {
  if (skip) return;
  const datadir = join(parent, "made");
  const node = await startNode({ datadir });
  try {
    await mixedLoad(node.url, LOAD);
    await node.rpc("evm_mine", { blocks: EMPTY_BLOCKS });
    ({ hash: head, number: blocks } = await node.rpc("eth_getBlockByNumber", "latest", false));
    blocks = Number(blocks);
  } finally {
    await node.stop();
  }
  await run(HEDDLE_BIN, ["export", "--datadir", datadir, chain]);
});

const importInto = (datadir, file = chain) =>
  run(HEDDLE_BIN, ["import", "--genesis", genesis, "--datadir", datadir, file]);
const headOf = async (datadir) => {
  const [, number, hash] = (await run(HEDDLE_BIN, ["db", "stats", "--datadir", datadir])).match(/^head: block (\d+), (0x\w+)/);
  return { number: Number(number), hash };
};

/** Starts an import and kills it after so many milliseconds; whether it was still running then. */
async function killedAfter(datadir, ms) {
  const child = spawn(HEDDLE_BIN, ["import", "--genesis", genesis, "--datadir", datadir, chain], { stdio: "ignore" });
  const exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  const first = await Promise.race([exited, sleep(ms)]);
  if (first) {
    assert.deepEqual(first, { code: 0, signal: null });
    return false;
  }
  child.kill("SIGKILL");
  await exited;
  return true;
}

test("an import says what it did, and the chain is the one that was exported", { skip }, async () => {
  const datadir = join(parent, "whole");
  const said = await importInto(datadir);
  assert.match(said, new RegExp(`^blocks +${blocks} imported, 0 known before \\([\\d.]+ a second\\)$`, "m"));
  assert.match(said, /^txs +\d+ \(\d+ a second\)$/m);
  assert.match(said, /^gas +\d+ \([\d.]+ million a second\)$/m);
  assert.match(said, /^seconds +[\d.]+$/m);
  assert.match(said, new RegExp(`^head +${blocks} ${head}$`, "m"));
  assert.match(await importInto(datadir), new RegExp(`^blocks +0 imported, ${blocks} known before`, "m"));
  const again = join(parent, "again.rlp");
  await run(HEDDLE_BIN, ["export", "--datadir", datadir, again]);
  assert.deepEqual(readFileSync(again), readFileSync(chain));
});

test("an import that is killed again and again ends where an undisturbed one does", { skip }, async (t) => {
  const started = performance.now();
  await importInto(join(parent, "timed"));
  const whole = performance.now() - started;
  const random = new Random();
  const datadir = join(parent, "killed");
  let [kills, last, midway] = [0, 0, 0];
  for (let start = 0; start < STARTS_MAX && kills < KILLS; start++) {
    // Some die while they open the directory, some in the middle of a block.
    if (!(await killedAfter(datadir, random.below(Math.round(whole / 3))))) {
      last = blocks;
      break;
    }
    kills += 1;
    const { number } = await headOf(datadir).catch(() => ({ number: 0 }));
    assert.ok(number >= last, `block ${number} after ${last}: what was on disk is gone`);
    last = number;
    midway += number > 0 && number < blocks ? 1 : 0;
    if (number > 0) await run(HEDDLE_BIN, ["db", "verify", "--datadir", datadir]);
  }
  t.diagnostic(`seed ${seed}: ${kills} kills within ${Math.round(whole)} ms of work; block ${last} of ${blocks} was reached`);
  assert.ok(midway >= 1, "some hit it at work");
  const said = await importInto(datadir);
  assert.match(said, new RegExp(`^head +${blocks} ${head}$`, "m"));
  const known = Number(said.match(/, (\d+) known before/)[1]);
  assert.equal(known, last, "nothing that was on disk is imported again");
  await run(HEDDLE_BIN, ["db", "verify", "--datadir", datadir]);
  const again = join(parent, "after-kills.rlp");
  await run(HEDDLE_BIN, ["export", "--datadir", datadir, again]);
  assert.deepEqual(readFileSync(again), readFileSync(chain));
});

test("what is wrong with a file is said with its place, and the blocks before stay", { skip }, async () => {
  const bytes = readFileSync(chain);
  const cases = [
    ["cut", bytes.subarray(0, bytes.length - 10), /no block starts at byte \d+: the file ends 10 bytes early/, blocks - 1],
    ["garbage", Buffer.from("{}"), /at byte 0: byte 0x7b does not start a list/, 0],
    ["trailing", Buffer.concat([bytes, Buffer.from([0x00])]), /byte 0x00 does not start a list/, blocks],
  ];
  for (const [name, content, reason, kept] of cases) {
    const file = join(parent, `${name}.rlp`);
    writeFileSync(file, content);
    const datadir = join(parent, name);
    await assert.rejects(importInto(datadir, file), (error) => {
      assert.match(error.message, /ended with 1\b/);
      assert.match(error.message, reason);
      return true;
    });
    assert.equal((await headOf(datadir)).number, kept, name);
  }
  // One byte of the last header's last field, the hash of the requests.
  const file = join(parent, "flipped.rlp");
  const flipped = Buffer.from(bytes);
  flipped[flipped.length - 20] ^= 1;
  writeFileSync(file, flipped);
  const datadir = join(parent, "flipped");
  await assert.rejects(importInto(datadir, file), /block \d+ at byte \d+: .*requests/i);
  assert.equal((await headOf(datadir)).number, blocks - 1);
});
