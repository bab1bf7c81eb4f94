// Every action of viem's test client, in its modes "anvil" and "hardhat": called, and its effect looked at.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { createClient, createPublicClient, createWalletClient, http, parseEther, parseGwei, publicActions, testActions } from "viem";
import { foundry, hardhat } from "viem/chains";
import { accounts } from "./lib/accounts.mjs";
import { onAnvil, startNode, until } from "./lib/node.mjs";
import { recordingProxy } from "./lib/recording-proxy.mjs";
import { hex, receiptOf, sendAndWait } from "./lib/transactions.mjs";

const [alice, bob] = accounts;
const nobody = "0x7777777777777777777777777777777777777777";
const word = (value) => `0x${BigInt(value).toString(16).padStart(64, "0")}`;
const skip = onAnvil && "Anvil lacks some of the names of Hardhat's";

async function started(...extra) {
  const node = await startNode({ extra });
  after(() => node.stop("SIGKILL"));
  return node;
}

for (const [mode, chain] of [["anvil", foundry], ["hardhat", hardhat]]) {
  describe(`viem's test client, mode ${mode}`, { skip }, async () => {
    const node = await started();
    const called = new Set();
    const client = testClient(node);
    const reader = createPublicClient({ chain, transport: http(node.url), pollingInterval: 20, cacheTime: 0 });
    const wallet = createWalletClient({ chain, transport: http(node.url) });
    const head = () => reader.getBlock();
    const balance = () => reader.getBalance({ address: nobody });
    const send = (from = alice.address, value = 1n) => wallet.sendTransaction({ account: from, to: bob.address, value });

    /** The actions, each of which is noted when it is called. */
    function testClient(of) {
      const actions = testActions({ mode })(createClient({ chain, transport: http(of.url, { retryCount: 0 }) }));
      return new Proxy(actions, {
        get: (target, name) => (...args) => {
          called.add(name);
          return target[name](...args);
        },
      });
    }

    test("accounts: setBalance, setNonce, setCode, setStorageAt", async () => {
      await client.setBalance({ address: nobody, value: parseEther("3") });
      await client.setNonce({ address: nobody, nonce: 12 });
      await client.setCode({ address: nobody, bytecode: "0x5f545f5260205ff3" });
      await client.setStorageAt({ address: nobody, index: 0, value: word(42) });
      assert.equal(await balance(), parseEther("3"));
      assert.equal(await reader.getTransactionCount({ address: nobody }), 12);
      assert.equal(BigInt((await reader.call({ to: nobody })).data), 42n);
      await client.setCode({ address: nobody, bytecode: "0x" });
    });

    test("senders: impersonateAccount, stopImpersonatingAccount, sendUnsignedTransaction", async () => {
      await client.impersonateAccount({ address: nobody });
      assert.equal((await receiptOf(node, await send(nobody))).from, nobody);
      await client.stopImpersonatingAccount({ address: nobody });
      await assert.rejects(send(nobody));
      const hash = await client.sendUnsignedTransaction({ from: nobody, to: bob.address, value: 2n, gas: 21_000n });
      const receipt = await receiptOf(node, hash);
      assert.deepEqual([receipt.from, receipt.status], [nobody, "0x1"]);
    });

    test("blocks: mine, setCoinbase, setBlockGasLimit, setNextBlockBaseFeePerGas, setMinGasPrice", async () => {
      const { number, timestamp } = await head();
      await client.mine({ blocks: 3, interval: 10 });
      const third = await head();
      assert.equal(third.number, number + 3n);
      assert.ok(third.timestamp - timestamp >= 20n, "ten seconds apart");
      await client.setCoinbase({ address: nobody });
      await client.setBlockGasLimit({ gasLimit: 21_000_000n });
      await client.setNextBlockBaseFeePerGas({ baseFeePerGas: parseGwei("7") });
      await client.mine({ blocks: 1 });
      const { miner, gasLimit, baseFeePerGas } = await head();
      assert.deepEqual([miner.toLowerCase(), gasLimit, baseFeePerGas], [nobody, 21_000_000n, parseGwei("7")]);
      await assert.rejects(client.setMinGasPrice({ gasPrice: 1n }), /not supported when EIP-1559 is active/);
    });

    test("time: increaseTime, setNextBlockTimestamp, setBlockTimestampInterval, removeBlockTimestampInterval", async () => {
      const { timestamp } = await head();
      await client.increaseTime({ seconds: 5_000 });
      await client.mine({ blocks: 1 });
      const later = (await head()).timestamp;
      assert.ok(later >= timestamp + 5_000n);
      await client.setNextBlockTimestamp({ timestamp: later + 777n });
      await client.mine({ blocks: 1 });
      assert.equal((await head()).timestamp, later + 777n);
      await client.setBlockTimestampInterval({ interval: 5_000 });
      await client.mine({ blocks: 2 });
      assert.equal((await head()).timestamp, later + 10_777n);
      await client.removeBlockTimestampInterval();
      await client.mine({ blocks: 1 });
      assert.ok((await head()).timestamp < later + 15_777n, "the interval is no more");
    });

    test("mining: setAutomine, getAutomine, setIntervalMining", async () => {
      await client.setAutomine(false);
      assert.equal(await client.getAutomine(), false);
      // Milliseconds in mode "hardhat"; here, as on Anvil, the number is seconds whoever sends it.
      await client.setIntervalMining({ interval: mode === "hardhat" ? 0.001 : 1 });
      assert.equal(await node.rpc("anvil_getIntervalMining"), 1);
      const { number } = await head();
      await until(async () => (await head()).number > number, "a block that nobody asked for");
      await client.setIntervalMining({ interval: 0 });
      assert.equal(await node.rpc("anvil_getIntervalMining"), null);
      await client.setAutomine(true);
      assert.equal(await client.getAutomine(), true);
    });

    test("pool: getTxpoolStatus, getTxpoolContent, inspectTxpool, dropTransaction", async () => {
      await client.setAutomine(false);
      const hash = await send();
      assert.deepEqual(await client.getTxpoolStatus(), { pending: 1, queued: 0 });
      const { pending } = await client.getTxpoolContent();
      const [[from, byNonce]] = Object.entries(pending);
      assert.equal(from.toLowerCase(), alice.address.toLowerCase());
      const [[nonce, transaction]] = Object.entries(byNonce);
      assert.equal(transaction.hash, hash);
      const lines = Object.values((await client.inspectTxpool()).pending)[0];
      assert.match(lines[nonce], new RegExp(`^${bob.address}: 1 wei`, "i"));
      await client.dropTransaction({ hash });
      assert.deepEqual(await client.getTxpoolStatus(), { pending: 0, queued: 0 });
      await client.setAutomine(true);
    });

    test("states: snapshot, revert, dumpState, loadState, reset", async () => {
      await client.setBalance({ address: nobody, value: 5n });
      const { number } = await head();
      const id = await client.snapshot();
      await client.setBalance({ address: nobody, value: 6n });
      await client.mine({ blocks: 2 });
      await client.revert({ id });
      assert.deepEqual([await balance(), (await head()).number], [5n, number]);
      const state = await client.dumpState();
      await client.reset();
      assert.deepEqual([await balance(), (await head()).number], [0n, 0n]);
      await client.loadState({ state });
      assert.deepEqual([await balance(), (await head()).number], [5n, number]);
    });

    test("the node: setLoggingEnabled", async () => {
      await client.setLoggingEnabled(false);
      await client.mine({ blocks: 1 });
      const silent = await head();
      await client.setLoggingEnabled(true);
      await client.mine({ blocks: 1 });
      const told = await head();
      await until(() => node.output().includes(told.hash), "a line about the next block");
      assert.ok(!node.output().includes(silent.hash));
    });

    test("a fork: setRpcUrl, reset to a block", async () => {
      const origin = await started();
      for (const value of [1, 2, 3]) await sendAndWait(origin, { to: nobody, value: hex(value) });
      const asked = [];
      const proxy = await recordingProxy(origin.url, undefined, ({ method }) => asked.push(method));
      after(() => proxy.close());
      const fork = await started("--fork-url", origin.url, "--no-storage-caching");
      const forked = testClient(fork);
      const seen = createClient({ chain, transport: http(fork.url), cacheTime: 0 }).extend(publicActions);
      assert.equal(await seen.getBlockNumber(), 3n);
      await forked.setRpcUrl(proxy.url);
      assert.equal(await seen.getBalance({ address: nobody }), 6n);
      assert.ok(asked.length > 0, "the new address was asked");
      await forked.reset({ jsonRpcUrl: origin.url, blockNumber: 2n });
      assert.equal(await seen.getBlockNumber(), 2n);
      assert.equal(await seen.getBalance({ address: nobody }), 3n);
      await forked.reset();
      assert.equal(await seen.getBlockNumber(), 3n);
    });

    test("no action is left out", () => {
      const all = Object.keys(testActions({ mode })(createClient({ chain, transport: http(node.url) })));
      assert.ok(all.length >= 30);
      assert.deepEqual([...called].sort(), all.sort());
    });
  });
}
