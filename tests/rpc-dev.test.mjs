// Steering the chain: snapshots, time, and when blocks are mined.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil, until, withNode } from "./lib/node.mjs";
import { contract } from "./lib/places.mjs";
import { hex, receiptOf, sendAndWait, sign } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const [alice, bob] = accounts;
const head = async (from = node) => from.rpc("eth_getBlockByNumber", "latest", false);
/** Whether a block's time may follow another's. The protocol wants it later; Anvil does with equal. */
const follows = (time, previous) => (onAnvil ? time >= previous : time > previous);
const pay = (wei) => sendAndWait(node, { to: bob.address, value: hex(wei) });

test("evm_revert takes the chain back to evm_snapshot, in all it shows", async () => {
  const token = contract("TestToken");
  const { contractAddress } = await sendAndWait(node, { data: token.bytecode });
  const mint = `${token.selectors["mint(address,uint256)"]}${bob.address.slice(2).padStart(64, "0")}${"1".padStart(64, "0")}`;
  const before = await head();
  const balance = await node.rpc("eth_getBalance", bob.address, "latest");
  const first = await node.rpc("evm_snapshot");
  await pay(5);
  const second = await node.rpc("evm_snapshot");
  assert.notEqual(first, second);
  const { transactionHash } = await sendAndWait(node, { to: contractAddress, data: mint.toLowerCase() });
  assert.equal(BigInt(await node.rpc("eth_getStorageAt", contractAddress, "0x0", "latest")), 1n);

  assert.equal(await node.rpc("evm_revert", first), true);
  assert.equal((await head()).hash, before.hash);
  assert.equal(await node.rpc("eth_getBalance", bob.address, "latest"), balance);
  assert.equal(BigInt(await node.rpc("eth_getStorageAt", contractAddress, "0x0", "latest")), 0n);
  assert.equal(await node.rpc("eth_getTransactionReceipt", transactionHash), null);
  assert.equal(await node.rpc("eth_getBlockByNumber", hex(Number(before.number) + 1), false), null);
  for (const used of [first, second]) {
    // Hardhat answers false, Anvil an error.
    assert.equal(await node.rpc("evm_revert", used).catch(() => false), false, "a snapshot and all later ones are used up");
  }

  const receipt = await pay(7);
  if (onAnvil) return; // 1.7.1 skips a number after a revert.
  assert.equal(Number(receipt.blockNumber), Number(before.number) + 1);
  assert.equal((await head()).parentHash, before.hash);
});

test("evm_mine mines one block, empty if need be, at a given time if asked", async () => {
  const before = await head();
  await node.rpc("evm_mine");
  const mined = await head();
  assert.equal(Number(mined.number), Number(before.number) + 1);
  assert.equal(mined.parentHash, before.hash);
  assert.deepEqual(mined.transactions, []);
  const time = Number(mined.timestamp) + 100;
  await node.rpc("evm_mine", hex(time));
  assert.equal(Number((await head()).timestamp), time);
});

test("evm_increaseTime and evm_setNextBlockTimestamp move the clock, forwards only", async () => {
  const before = Number((await head()).timestamp);
  await node.rpc("evm_increaseTime", 10_000);
  await node.rpc("evm_mine");
  const moved = Number((await head()).timestamp);
  assert.ok(moved >= before + 10_000 && moved < before + 10_060, `${before} → ${moved}`);
  await pay(1);
  assert.ok(Number((await head()).timestamp) >= moved, "the offset stays");

  const exact = Number((await head()).timestamp) + 5_000;
  await node.rpc("evm_setNextBlockTimestamp", exact);
  await pay(1);
  assert.equal(Number((await head()).timestamp), exact);
  await pay(1);
  assert.ok(follows(Number((await head()).timestamp), exact), "time goes on from there");
  await assert.rejects(node.rpc("evm_setNextBlockTimestamp", exact - 1_000));
});

test("a transaction that the node signs is mined when its hash comes, if it can be", { skip: onAnvil }, async () => {
  for (let value = 1; value <= 30; value++) {
    const hash = await node.rpc("eth_sendTransaction", { from: alice.address, to: bob.address, value: hex(value) });
    assert.notEqual(await node.rpc("eth_getTransactionReceipt", hash), null, `transaction ${value}`);
  }
  // 30 blocks in less than as many seconds leave the clock behind; it moves on from the newest block all the same.
  const { timestamp } = await head();
  await node.rpc("evm_increaseTime", 1_000);
  await pay(1);
  assert.ok(Number((await head()).timestamp) >= Number(timestamp) + 1_000);
  // One that waits for an earlier one does not keep its sender waiting: here, for as long as there is none.
  const nonce = Number(await node.rpc("eth_getTransactionCount", bob.address, "latest"));
  const gapped = { from: bob.address, to: alice.address, nonce: hex(nonce + 1) };
  const waiting = await node.rpc("eth_sendTransaction", gapped);
  assert.equal(await node.rpc("eth_getTransactionReceipt", waiting), null);
  await node.rpc("eth_sendTransaction", { ...gapped, nonce: hex(nonce) });
  await receiptOf(node, waiting);
});

test("the chain begins now, at --timestamp, or at 0 on disk; web3_clientVersion is --client-version", { skip: onAnvil }, async () => {
  const begins = async (of) => Number((await of.rpc("eth_getBlockByNumber", "0x0", false)).timestamp);
  const age = Date.now() / 1000 - (await begins(node));
  assert.ok(age > -2 && age < 3_600, `${age} s`);
  assert.match(await node.rpc("web3_clientVersion"), /^Heddle\//);
  await withNode({ extra: ["--timestamp", "1234567", "--client-version", "anvil/of-sorts"] }, async (other) => {
    assert.equal(await begins(other), 1_234_567);
    assert.equal(await other.rpc("anvil_getGenesisTime"), 1_234_567);
    assert.equal(await other.rpc("web3_clientVersion"), "anvil/of-sorts");
    assert.equal((await other.rpc("anvil_metadata")).clientVersion, "anvil/of-sorts");
  });
  const datadir = mkdtempSync(join(tmpdir(), "heddle-dev-"));
  try {
    await withNode({ datadir }, async (other) => assert.equal(await begins(other), 0));
  } finally {
    rmSync(datadir, { recursive: true, force: true });
  }
});

test("with evm_setAutomine off, transactions wait for evm_mine and share its block", async () => {
  await node.rpc("evm_setAutomine", false);
  const before = await head();
  const hashes = [];
  for (let index = 0; index < 3; index++) {
    hashes.push(await node.rpc("eth_sendTransaction", { from: alice.address, to: bob.address, value: "0x1" }));
  }
  await sleep(100);
  assert.equal((await head()).hash, before.hash);
  assert.equal(await node.rpc("eth_getTransactionReceipt", hashes[0]), null);
  const waiting = await node.rpc("eth_getTransactionByHash", hashes[0]);
  assert.equal(waiting.blockNumber, null);
  assert.equal(waiting.hash, hashes[0]);
  await node.rpc("evm_mine");
  assert.deepEqual((await head()).transactions, hashes);
  await node.rpc("evm_setAutomine", true);
  await pay(1);
});

test("evm_setIntervalMining mines by the clock until it is set to 0", async () => {
  await node.rpc("evm_setAutomine", false);
  const before = Number((await head()).number);
  await node.rpc("evm_setIntervalMining", 1);
  await until(async () => Number((await head()).number) >= before + 2, "two blocks by the clock", 8_000);
  await node.rpc("evm_setIntervalMining", 0);
  await sleep(200);
  const stopped = (await head()).number;
  await sleep(1_500);
  assert.equal((await head()).number, stopped);
  await node.rpc("evm_setAutomine", true);
  await pay(1);
});

test("--block-time 0.2 mines blocks with and without transactions, their times rising", () =>
  withNode({ blockTime: 0.2 }, async (timed) => {
    await until(async () => Number((await head(timed)).number) >= 3, "three blocks", 5_000);
    const hash = await timed.rpc("eth_sendRawTransaction", await sign(0, { nonce: 0 }));
    const { blockNumber } = await receiptOf(timed, hash);
    const last = Number(blockNumber) + 3;
    await until(async () => Number((await head(timed)).number) >= last, "three blocks more", 5_000);
    let previous;
    for (let number = 0; number <= last; number++) {
      const block = await timed.rpc("eth_getBlockByNumber", hex(number), false);
      if (previous) {
        assert.ok(follows(Number(block.timestamp), Number(previous.timestamp)), `block ${number}`);
        assert.equal(block.parentHash, previous.hash);
      }
      previous = block;
    }
  }),
);

test("--no-mining fills the pool, which txpool_status and txpool_content show", () =>
  withNode({ mining: false }, async (still) => {
    const send = async (fields) => still.rpc("eth_sendRawTransaction", await sign(0, { to: bob.address, ...fields }));
    const gwei = 10n ** 9n;
    const first = await send({ nonce: 0, value: 1n });
    await send({ nonce: 1, value: 2n });
    const gapped = await send({ nonce: 3, value: 3n });
    await sleep(50);
    assert.equal(await still.rpc("eth_blockNumber"), "0x0");
    assert.deepEqual(await still.rpc("txpool_status"), { pending: "0x2", queued: "0x1" });
    const { pending, queued } = await still.rpc("txpool_content");
    const of = (part) => Object.entries(part).find(([address]) => address.toLowerCase() === alice.address.toLowerCase())[1];
    assert.deepEqual(Object.keys(of(pending)), ["0", "1"]);
    assert.equal(of(pending)["0"].hash, first);
    assert.deepEqual(Object.keys(of(queued)), ["3"]);
    assert.equal(await still.rpc("eth_getTransactionCount", alice.address, "pending"), "0x2");
    assert.equal(await still.rpc("eth_getTransactionCount", alice.address, "latest"), "0x0");
    assert.equal((await still.rpc("eth_getTransactionByHash", gapped)).blockHash, null);

    // Replacement: not for the same, not for too little more, but for a tenth more.
    await assert.rejects(send({ nonce: 0, value: 1n }), onAnvil ? /already imported/ : /already known/);
    if (!onAnvil) {
      const little = send({ nonce: 0, value: 9n, maxFeePerGas: 21n * gwei, maxPriorityFeePerGas: gwei });
      await assert.rejects(little, /replacement transaction underpriced/);
    }
    const replaced = await send({ nonce: 0, value: 9n, maxFeePerGas: 23n * gwei, maxPriorityFeePerGas: 2n * gwei });
    assert.equal(await still.rpc("eth_getTransactionByHash", first), null);

    await still.rpc("evm_mine");
    const { transactions } = await head(still);
    assert.equal(transactions.length, 2);
    assert.equal(transactions[0], replaced);
    await send({ nonce: 2 });
    await still.rpc("evm_mine");
    assert.equal((await head(still)).transactions.length, 2, "the gap is filled");
    assert.deepEqual(await still.rpc("txpool_status"), { pending: "0x0", queued: "0x0" });
  }),
);
