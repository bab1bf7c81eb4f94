// Forking: a node that goes on from a block of another Heddle, or of Anvil, on loopback.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Interface, JsonRpcProvider, NonceManager, Wallet } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { onAnvil, spawnNode, startNode, until } from "./lib/node.mjs";
import { recordingProxy } from "./lib/recording-proxy.mjs";
import { hex, receiptOf, sendAndWait } from "./lib/transactions.mjs";
import { amountOut, deployUniswap, erc20Abi, pairAbi, routerAbi } from "./lib/uniswap.mjs";

const skip = onAnvil && "it is about Heddle's own forks";
/** Not a development chain's id, so that what is read is kept on disk. */
const CHAIN_ID = 424242;
const ETHER = 10n ** 18n;
const directory = mkdtempSync(join(tmpdir(), "heddle-fork-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const [deployer, alice, bob] = accounts.map(({ address }) => address);
const nobody = "0x7777777777777777777777777777777777777777";
const erc20 = new Interface(erc20Abi);
const router = new Interface(routerAbi);
const pair = new Interface(pairAbi);
const word = (value) => `0x${BigInt(value).toString(16).padStart(64, "0")}`;

/** A node with Uniswap on it, stopped after all tests. */
async function origin(kind) {
  const node = await startNode({ kind, extra: ["--chain-id", String(CHAIN_ID)] });
  after(() => node.stop("SIGKILL"));
  const provider = new JsonRpcProvider(node.url, CHAIN_ID, { staticNetwork: true, pollingInterval: 20, cacheTimeout: -1 });
  const signer = new NonceManager(new Wallet(accounts[0].privateKey, provider));
  const uniswap = await deployUniswap(signer, [alice, bob]);
  provider.destroy();
  await sendAndWait(node, { to: nobody, value: hex(5) });
  for (const holder of [alice, bob]) {
    const data = erc20.encodeFunctionData("approve", [uniswap.router, ETHER * 1000n]);
    await sendAndWait(node, { from: holder, to: uniswap.tokenA, data });
  }
  return { ...node, uniswap };
}

/** A Heddle that forks the node, for this test. */
async function fork(t, of, ...extra) {
  const caching = extra.some((flag) => flag.startsWith("--fork-cache-dir")) ? [] : ["--no-storage-caching"];
  const node = await startNode({ kind: "heddle", extra: ["--fork-url", of.url ?? of, ...caching, ...extra] });
  t.after(() => node.stop("SIGKILL"));
  return node;
}

async function call(node, to, abi, name, args = [], block = "latest") {
  const data = abi.encodeFunctionData(name, args);
  return abi.decodeFunctionResult(name, await node.rpc("eth_call", { to, data }, block));
}

const balanceOf = async (node, token, who, block) => (await call(node, token, erc20, "balanceOf", [who], block))[0];
const reserves = async (node, { pair: at }) => [...(await call(node, at, pair, "getReserves"))].slice(0, 2);

function swap(node, { router: at, tokenA, tokenB }, from, amount) {
  const args = [amount, 0, [tokenA, tokenB], from, 2n ** 255n];
  const data = router.encodeFunctionData("swapExactTokensForTokens", args);
  return sendAndWait(node, { from, to: at, data, gas: hex(400_000) });
}

/**
 * Every block writes into the rings of the system contracts, whose slots are read 64 at a time: makes the next block the
 * first of such a stretch (in the beacon roots' second ring, which begins at slot 8191), and the ones after it follow a
 * second apart.
 */
async function startRing(node) {
  const { timestamp } = await node.rpc("eth_getBlockByNumber", "latest", false);
  let next = Number(timestamp) + 1;
  while ((next % 8191) % 64 !== 1) next++;
  await node.rpc("evm_setNextBlockTimestamp", next);
  await node.rpc("anvil_setBlockTimestampInterval", 1);
}

const origins = skip ? {} : { heddle: await origin("heddle"), anvil: await origin("anvil") };

for (const kind of ["heddle", "anvil"]) {
  test(`a swap on a fork of ${kind} does what it then does on ${kind} itself`, { skip }, async (t) => {
    const { uniswap } = origins[kind];
    const node = await fork(t, origins[kind]);
    const head = Number(await origins[kind].rpc("eth_blockNumber"));
    assert.equal(Number(await node.rpc("eth_blockNumber")), head);
    assert.equal(Number(await node.rpc("eth_chainId")), CHAIN_ID);
    const before = await reserves(node, uniswap);
    const expected = amountOut(7n * ETHER, uniswap.token0 === uniswap.tokenA ? before[0] : before[1], uniswap.token0 === uniswap.tokenA ? before[1] : before[0]);
    const had = await balanceOf(node, uniswap.tokenB, alice);
    // The pair's price accumulators cost gas, where time has passed.
    for (const one of [node, origins[kind]]) await one.rpc("evm_increaseTime", 10);
    const [here, there] = [await swap(node, uniswap, alice, 7n * ETHER), await swap(origins[kind], uniswap, alice, 7n * ETHER)];
    assert.equal(here.status, "0x1");
    assert.equal(here.gasUsed, there.gasUsed);
    const places = (receipt) => receipt.logs.map(({ address, topics, data, logIndex }) => ({ address, topics, data, logIndex }));
    assert.deepEqual(places(here), places(there));
    assert.equal(await balanceOf(node, uniswap.tokenB, alice), had + expected);
    assert.deepEqual(await reserves(node, uniswap), await reserves(origins[kind], uniswap));
    // The fork's own past is still what it was.
    assert.equal(await balanceOf(node, uniswap.tokenB, alice, hex(head)), had);
    assert.equal(Number(here.blockNumber), head + 1);
    assert.equal((await node.rpc("eth_getBlockByNumber", hex(head + 1), false)).stateRoot, word(0), "there is no root");
  });

  test(`what lies before the fork is ${kind}'s to answer, and what it did afterwards is not there`, { skip }, async (t) => {
    const there = origins[kind];
    const { uniswap } = there;
    const head = Number(await there.rpc("eth_blockNumber"));
    const node = await fork(t, there);
    const late = await sendAndWait(there, { to: nobody, value: hex(1) });
    await swap(node, uniswap, bob, 3n * ETHER);
    await sendAndWait(node, { to: nobody, value: hex(2) });
    const block = await there.rpc("eth_getBlockByNumber", hex(4), true);
    const { hash } = block.transactions[0];
    const same = async (method, ...params) => {
      const [one, other] = await Promise.all([there, node].map((asked) => asked.rpc(method, ...params)));
      assert.deepEqual(other, one, `${method} ${JSON.stringify(params)}`);
      assert.notEqual(one, null, method);
    };
    await same("eth_getBlockByNumber", "earliest", false);
    await same("eth_getBlockByNumber", hex(head), true);
    await same("eth_getBlockByNumber", hex(4), true);
    await same("eth_getBlockByHash", block.hash, false);
    await same("eth_getBlockReceipts", hex(4));
    await same("eth_getBlockTransactionCountByNumber", hex(4));
    await same("eth_getTransactionByHash", hash);
    await same("eth_getTransactionReceipt", hash);
    await same("eth_getTransactionByBlockNumberAndIndex", hex(4), "0x0");
    await same("eth_getRawTransactionByHash", hash);
    for (const at of [hex(4), "earliest", { blockHash: block.hash }]) {
      await same("eth_getBalance", deployer, at);
      await same("eth_getTransactionCount", deployer, at);
      await same("eth_getCode", uniswap.router, at);
      await same("eth_getStorageAt", uniswap.tokenA, word(0), at);
    }
    await same("eth_call", { to: uniswap.tokenA, data: erc20.encodeFunctionData("totalSupply") }, hex(head - 1));
    await same("eth_getProof", uniswap.tokenA, [word(0)], hex(head));
    await same("debug_traceTransaction", hash, { tracer: "callTracer" });
    await same("trace_transaction", hash);
    if (kind === "heddle") await same("debug_storageRangeAt", hex(head), 0, uniswap.pair, "0x", 100);
    await same("eth_getLogs", { fromBlock: hex(1), toBlock: hex(head), address: uniswap.pair });

    // Both sides at once.
    const query = { fromBlock: hex(1), toBlock: "latest", address: uniswap.pair };
    const logs = await node.rpc("eth_getLogs", query);
    const earlier = await there.rpc("eth_getLogs", { ...query, toBlock: hex(head) });
    assert.deepEqual(logs.slice(0, earlier.length), earlier);
    assert.deepEqual(logs.slice(earlier.length).map(({ blockNumber }) => Number(blockNumber)), [head + 1, head + 1]);
    assert.deepEqual(await node.rpc("eth_getFilterLogs", await node.rpc("eth_newFilter", query)), logs);
    const fees = await node.rpc("eth_feeHistory", hex(5), "latest", [50]);
    assert.equal(Number(fees.oldestBlock), head - 2);
    const numbers = [0, 1, 2, 3, 4].map((index) => hex(head - 2 + index));
    const headers = await Promise.all(numbers.map((number) => node.rpc("eth_getBlockByNumber", number, false)));
    assert.deepEqual(fees.baseFeePerGas.slice(0, 5), headers.map(({ baseFeePerGas }) => baseFeePerGas));
    assert.equal(fees.baseFeePerGas.length, 6);
    assert.equal(fees.reward.length, 5);
    assert.deepEqual(fees.gasUsedRatio, headers.map(({ gasUsed, gasLimit }) => Number(gasUsed) / Number(gasLimit)));

    // The other node went on; that is another chain.
    assert.equal(await node.rpc("eth_getTransactionByHash", late.transactionHash), null);
    assert.equal(await node.rpc("eth_getTransactionReceipt", late.transactionHash), null);
    assert.equal(await node.rpc("eth_getBlockByHash", late.blockHash, false), null);
    await assert.rejects(node.rpc("eth_getLogs", { blockHash: late.blockHash }), /unknown block/);
    await assert.rejects(node.rpc("debug_traceTransaction", late.transactionHash, {}), /not found/);
    assert.equal(BigInt(await node.rpc("eth_getBalance", nobody, "latest")), BigInt(await there.rpc("eth_getBalance", nobody, hex(head))) + 2n);

    // What there is not, and cannot be.
    await assert.rejects(node.rpc("eth_getProof", uniswap.tokenA, [], "latest"), /no state roots, proofs or dumps/);
    await assert.rejects(node.rpc("anvil_dumpState"), /no state roots, proofs or dumps/);
    await assert.rejects(node.rpc("debug_accountRange", "latest", "0x", 1, true, true, true), /not known as a whole/);
    await assert.rejects(node.rpc("trace_filter", { fromBlock: hex(head), toBlock: "latest" }), /is a fork made at block/);
  });
}

test("an older block can be forked, by number, by distance and in the address", { skip }, async (t) => {
  const there = origins.heddle;
  const head = Number(await there.rpc("eth_blockNumber"));
  for (const flags of [["--fork-block-number", "5"], ["--fork-block-number", String(5 - head)]]) {
    const node = await fork(t, there, ...flags);
    assert.equal(Number(await node.rpc("eth_blockNumber")), 5);
  }
  const node = await fork(t, `${there.url}@5`);
  const block = await there.rpc("eth_getBlockByNumber", "0x5", false);
  assert.equal((await node.rpc("eth_getBlockByNumber", "latest", false)).hash, block.hash);
  const next = await sendAndWait(node, { to: nobody, value: hex(9) });
  assert.equal(Number(next.blockNumber), 6);
  const mined = await node.rpc("eth_getBlockByNumber", "0x6", false);
  assert.equal(mined.parentHash, block.hash);
  const since = Number(mined.timestamp) - Number(block.timestamp);
  assert.ok(since >= 1 && since < 60, `time goes on from the forked block: ${since} s`);
  assert.equal(await node.rpc("eth_getCode", there.uniswap.pair, "latest"), "0x", "the pair came later");
  assert.equal(BigInt(await node.rpc("eth_getBalance", nobody, "latest")), 9n);
});

test("the accounts have their ether on the fork, and their nonces and all else from the other node", { skip }, async (t) => {
  const there = origins.anvil;
  const head = await there.rpc("eth_blockNumber");
  const node = await fork(t, there, "--balance", "77");
  assert.equal(BigInt(await node.rpc("eth_getBalance", deployer, "latest")), 77n * ETHER);
  const nonce = await there.rpc("eth_getTransactionCount", deployer, head);
  assert.equal(await node.rpc("eth_getTransactionCount", deployer, "latest"), nonce);
  await sendAndWait(node, { to: nobody, value: hex(1) });
  assert.equal(await node.rpc("eth_getBalance", deployer, head), await there.rpc("eth_getBalance", deployer, head));
});

test("everything that steers a development chain works on a fork", { skip }, async (t) => {
  const there = origins.heddle;
  const { uniswap } = there;
  const node = await fork(t, there);
  const head = Number(await node.rpc("eth_blockNumber"));
  const was = await balanceOf(node, uniswap.tokenA, bob);
  const slots = () => reserves(node, uniswap);
  const [poolBefore, id] = [await slots(), await node.rpc("evm_snapshot")];

  await swap(node, uniswap, bob, ETHER);
  await node.rpc("anvil_setStorageAt", uniswap.tokenA, word(99), word(5));
  await node.rpc("anvil_setBalance", nobody, "0x1234");
  await node.rpc("anvil_setCode", nobody, "0x60075f5260205ff3");
  await node.rpc("evm_increaseTime", 1000);
  await node.rpc("anvil_mine", 3);
  assert.equal(BigInt(await node.rpc("eth_call", { to: nobody }, "latest")), 7n);
  assert.equal(await node.rpc("eth_getStorageAt", uniswap.tokenA, word(99), "latest"), word(5));
  assert.equal(await node.rpc("eth_getStorageAt", uniswap.tokenA, word(99), hex(head)), word(0));
  assert.notDeepEqual(await slots(), poolBefore);
  const times = await Promise.all([head, head + 4].map((number) => node.rpc("eth_getBlockByNumber", hex(number), false)));
  assert.ok(Number(times[1].timestamp) - Number(times[0].timestamp) >= 1000);

  assert.equal(await node.rpc("evm_revert", id), true);
  assert.equal(Number(await node.rpc("eth_blockNumber")), head);
  assert.deepEqual(await slots(), poolBefore);
  assert.equal(await balanceOf(node, uniswap.tokenA, bob), was);
  assert.equal(await node.rpc("eth_getCode", nobody, "latest"), "0x");
  assert.equal(BigInt(await node.rpc("eth_getBalance", deployer, "latest")), 10_000n * ETHER);

  // In the name of a contract that only the other node has.
  await node.rpc("anvil_impersonateAccount", uniswap.pair);
  await node.rpc("anvil_setBalance", uniswap.pair, hex(ETHER));
  const data = erc20.encodeFunctionData("transfer", [nobody, 5n]);
  assert.equal((await sendAndWait(node, { from: uniswap.pair, to: uniswap.tokenA, data })).status, "0x1");
  assert.equal(await balanceOf(node, uniswap.tokenA, nobody), 5n);
  await node.rpc("anvil_dealERC20", nobody, uniswap.tokenB, "0x55");
  assert.equal(await balanceOf(node, uniswap.tokenB, nobody), 0x55n);
  const overrides = { [uniswap.tokenA]: { code: "0x60095f5260205ff3" } };
  assert.equal(BigInt(await node.rpc("eth_call", { to: uniswap.tokenA }, "latest", overrides)), 9n);
  const simulated = await node.rpc("eth_simulateV1", { blockStateCalls: [{ calls: [{ from: bob, to: uniswap.tokenA, data }] }] }, "latest");
  assert.equal(simulated[0].calls[0].status, "0x1");
  assert.equal(simulated[0].stateRoot, word(0));
  await node.rpc("anvil_rollback", 1);
  assert.equal(await balanceOf(node, uniswap.tokenA, nobody), 0n);
  const traced = await node.rpc("debug_traceTransaction", (await swap(node, uniswap, bob, ETHER)).transactionHash, { tracer: "callTracer" });
  assert.equal(traced.to, uniswap.router.toLowerCase());
  assert.ok(traced.calls.length >= 3);
});

test("anvil_reset forks anew, elsewhere or not at all, and only the same chain", { skip }, async (t) => {
  const there = origins.heddle;
  const head = Number(await there.rpc("eth_blockNumber"));
  const node = await fork(t, there);
  await sendAndWait(node, { to: nobody, value: hex(9) });
  await node.rpc("anvil_reset", { forking: {} });
  assert.equal(Number(await node.rpc("eth_blockNumber")), head);
  await node.rpc("anvil_reset", { forking: { blockNumber: 6 } });
  assert.equal(Number(await node.rpc("eth_blockNumber")), 6);
  assert.equal(BigInt(await node.rpc("eth_getBalance", deployer, "latest")), 10_000n * ETHER);
  await node.rpc("anvil_reset", { forking: { jsonRpcUrl: origins.anvil.url, blockNumber: "0x7" } });
  const block = await origins.anvil.rpc("eth_getBlockByNumber", "0x7", false);
  assert.equal((await node.rpc("eth_getBlockByNumber", "latest", false)).hash, block.hash);
  assert.deepEqual((await node.rpc("anvil_nodeInfo")).forkConfig, { forkUrl: origins.anvil.url, forkBlockNumber: 7, forkRetryBackoff: 250 });
  await assert.rejects(node.rpc("anvil_reset", { forking: { jsonRpcUrl: "http://127.0.0.1:1" } }), /http:\/\/127\.0\.0\.1:1 does not answer/);
  await assert.rejects(node.rpc("anvil_reset", { forking: { blockNumber: 999_999 } }), /has no block 999999/);
  assert.equal(Number(await node.rpc("eth_blockNumber")), 7, "nothing changed");
  await node.rpc("anvil_reset");
  assert.equal(await node.rpc("eth_blockNumber"), "0x0");
  assert.equal(await node.rpc("eth_getCode", there.uniswap.router, "latest"), "0x");
  assert.equal((await node.rpc("anvil_nodeInfo")).forkConfig.forkUrl, null);
  assert.equal((await sendAndWait(node, { to: nobody, value: hex(1) })).status, "0x1");

  const own = await startNode({ kind: "heddle" });
  t.after(() => own.stop("SIGKILL"));
  await assert.rejects(own.rpc("hardhat_reset", { forking: { jsonRpcUrl: there.url } }), /has chain 424242.*chain 31337/);
  const other = await startNode({ kind: "anvil" });
  t.after(() => other.stop("SIGKILL"));
  await sendAndWait(other, { to: nobody, value: hex(3) });
  await own.rpc("hardhat_reset", { forking: { jsonRpcUrl: other.url } });
  assert.equal(BigInt(await own.rpc("eth_getBalance", nobody, "latest")), 3n);
});

test("what is told of the fork is what Anvil tells of one", { skip }, async (t) => {
  const there = origins.heddle;
  const node = await fork(t, there);
  const anvil = await startNode({ kind: "anvil", extra: ["--fork-url", there.url, "--no-storage-caching"] });
  t.after(() => anvil.stop("SIGKILL"));
  const [own, others] = await Promise.all([node, anvil].map((asked) => asked.rpc("anvil_metadata")));
  assert.deepEqual(own.forkedNetwork, others.forkedNetwork);
  const [info, theirs] = await Promise.all([node, anvil].map((asked) => asked.rpc("anvil_nodeInfo")));
  assert.deepEqual(Object.keys(info.forkConfig).sort(), Object.keys(theirs.forkConfig).sort());
  assert.equal(info.forkConfig.forkUrl, theirs.forkConfig.forkUrl);
  assert.equal(info.forkConfig.forkBlockNumber, theirs.forkConfig.forkBlockNumber);
  for (const who of [deployer, alice, nobody]) {
    for (const method of ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"]) {
      assert.equal(await node.rpc(method, who, "latest"), await anvil.rpc(method, who, "latest"), `${method} ${who}`);
    }
  }
});

test("when the other node is gone, who needs it learns that, and the rest goes on", { skip }, async (t) => {
  const there = origins.heddle;
  const { uniswap } = there;
  let proxy = await recordingProxy(there.url);
  const node = await fork(t, proxy.url, "--retries", "1", "--fork-retry-backoff", "20");
  await startRing(node);
  await swap(node, uniswap, alice, ETHER);
  await proxy.close();
  const gone = new RegExp(`${proxy.url} does not answer`);
  const unread = "0x00000000000000000000000000000000000abcde";
  const head = Number(await node.rpc("eth_blockNumber"));
  await assert.rejects(node.rpc("eth_getBalance", unread, "latest"), gone);
  await assert.rejects(node.rpc("eth_getStorageAt", uniswap.tokenA, word(12345), "latest"), gone);
  await assert.rejects(node.rpc("eth_getBlockByNumber", hex(3), false), gone);
  await assert.rejects(node.rpc("eth_call", { to: unread }, "latest"), gone);
  await assert.rejects(node.rpc("anvil_setNonce", unread, "0x5"), gone);
  await assert.rejects(node.rpc("eth_getLogs", { fromBlock: "0x1" }), gone);
  // What was read before is known.
  assert.equal((await swap(node, uniswap, alice, ETHER)).status, "0x1");
  // A block that cannot be made is not made, and its transaction waits.
  const hash = await node.rpc("eth_sendTransaction", { from: alice, to: unread, value: "0x1", gas: hex(21_000) });
  await assert.rejects(node.rpc("evm_mine"), gone);
  assert.equal(Number(await node.rpc("eth_blockNumber")), head + 1);
  assert.equal(await node.rpc("eth_getTransactionReceipt", hash).catch((error) => (gone.test(error.message), null)), null);
  assert.equal((await node.rpc("txpool_status")).pending, "0x1");
  // Until it is there again.
  proxy = await recordingProxy(there.url);
  t.after(() => proxy.close());
  await node.rpc("anvil_setRpcUrl", proxy.url);
  assert.equal((await receiptOf(node, hash)).status, "0x1");
  assert.equal(BigInt(await node.rpc("eth_getBalance", unread, "latest")), 1n);
});

test("a node that is stuck holds up neither the others nor the stop", { skip }, async (t) => {
  const there = origins.heddle;
  let stuck = false;
  const waiting = [];
  const { createServer } = await import("node:http");
  const slow = createServer((request, answer) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", async () => {
      if (stuck) return waiting.push(answer);
      const body = Buffer.concat(chunks);
      const given = await fetch(there.url, { method: "POST", body, headers: { "content-type": "application/json" } });
      answer.setHeader("content-type", "application/json").end(await given.text());
    });
  }).listen(0, "127.0.0.1");
  await until(() => slow.address(), "a port");
  t.after(() => slow.close() && slow.closeAllConnections());
  const node = await fork(t, `http://127.0.0.1:${slow.address().port}`);
  await balanceOf(node, there.uniswap.tokenA, alice);
  stuck = true;
  const stranger = (index) => `0x${(1000 + index).toString(16).padStart(40, "0")}`;
  const post = (method, params) =>
    fetch(node.url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    }).then((response) => response.json(), (error) => ({ error }));
  const asked = Array.from({ length: 20 }, (_, index) => post("eth_getBalance", [stranger(index), "latest"]));
  const called = Array.from({ length: 4 }, (_, index) => post("eth_call", [{ to: stranger(100 + index) }, "latest"]));
  await until(() => waiting.length > 0, "a request that is stuck");
  const started = Date.now();
  for (let round = 0; round < 20; round++) {
    await node.rpc("eth_chainId");
    await node.rpc("eth_blockNumber");
    await balanceOf(node, there.uniswap.tokenA, alice);
  }
  assert.ok(Date.now() - started < 2_000, `${Date.now() - started} ms`);
  const { code, ms } = await node.stop();
  assert.equal(code, 0);
  assert.ok(ms < 5_000, `${ms} ms`);
  // Their connections end, or they are told.
  for (const answer of await Promise.all([...asked, ...called])) assert.ok(answer.error, JSON.stringify(answer));
});

test("what was read is on disk for the next start, and asked for once", { skip }, async (t) => {
  const there = origins.heddle;
  const { uniswap } = there;
  const cache = join(directory, "cache");
  const calls = [];
  const proxy = await recordingProxy(there.url, undefined, ({ method }) => calls.push(method));
  t.after(() => proxy.close());
  const ofState = () => calls.filter((method) => /^eth_get(Balance|Code|StorageAt|TransactionCount)$/.test(method)).length;
  const block = ["--fork-block-number", String(Number(await there.rpc("eth_blockNumber")))];
  const run = async (...flags) => {
    calls.length = 0;
    const node = await startNode({ kind: "heddle", extra: ["--fork-url", proxy.url, ...block, ...flags] });
    await startRing(node);
    const { gasUsed, logs } = await swap(node, uniswap, alice, ETHER);
    const result = { gasUsed, logs: logs.map(({ address, data }) => ({ address, data })) };
    await swap(node, uniswap, alice, ETHER);
    assert.equal((await node.stop()).code, 0);
    return { result, asked: ofState() };
  };
  const caching = ["--fork-cache-dir", cache];
  const first = await run(...caching);
  const [folder] = readdirSync(cache);
  assert.equal(folder, String(CHAIN_ID));
  const [name] = readdirSync(join(cache, folder));
  const file = join(cache, folder, name);
  assert.ok(first.asked > 30, `ten accounts and a swap: ${first.asked}`);
  const second = await run(...caching);
  assert.deepEqual(second.result, first.result);
  assert.equal(second.asked, 1, "only whether it takes block hashes");
  // Killed while it wrote.
  const whole = readFileSync(file);
  writeFileSync(file, whole.subarray(0, whole.length >> 1));
  const third = await run(...caching);
  assert.deepEqual(third.result, first.result);
  assert.ok(third.asked > 1 && third.asked < first.asked, String(third.asked));
  // Damaged.
  const damaged = Buffer.from(readFileSync(file));
  damaged[damaged.length >> 1] ^= 1;
  writeFileSync(file, damaged);
  const fourth = await run(...caching);
  assert.deepEqual(fourth.result, first.result);
  assert.equal(fourth.asked, first.asked);
  assert.ok(readdirSync(join(cache, folder)).some((name) => name.endsWith(".damaged")));
  // Not at all.
  assert.equal((await run("--no-storage-caching")).asked, first.asked);
});

test("what cannot be forked is said with the reason", { skip }, async () => {
  const there = origins.heddle;
  const started = async (...extra) => {
    const running = await spawnNode({ kind: "heddle", extra });
    const { code } = await running.exited;
    return { code, output: running.output() };
  };
  const refused = async (flags, code, words) => {
    const ended = await started(...flags);
    assert.match(ended.output, words);
    assert.equal(ended.code, code, flags.join(" "));
  };
  await refused(["--fork-url", "http://127.0.0.1:1"], 1, /cannot fork: http:\/\/127\.0\.0\.1:1 does not answer eth_chainId/);
  await refused(["--fork-url", there.url, "--fork-block-number", "999999"], 1, /has no block 999999/);
  await refused(["--fork-url", "ws://127.0.0.1:1"], 2, /http:\/\/ or https:\/\//);
  await refused(["--fork-url", there.url, "--datadir", join(directory, "data")], 2, /cannot be used with/);
  await refused(["--fork-block-number", "5"], 2, /--fork-url/);
});
