// State dumps: what Anvil writes Heddle reads, and the other way round, by request and in files.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { keccak256 } from "ethers";
import { createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { accounts } from "./lib/accounts.mjs";
import { isProof } from "./lib/merkle.mjs";
import { onAnvil, spawnNode, startNode } from "./lib/node.mjs";
import { contract, foundryBinary } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";
import { receiptOf, sendAndWait } from "./lib/transactions.mjs";

const skip = onAnvil && "it is about two kinds of nodes";
const directory = mkdtempSync(join(tmpdir(), "heddle-dumps-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const nobody = "0x7777777777777777777777777777777777777777";
const word = (value) => `0x${BigInt(value).toString(16).padStart(64, "0")}`;
const signer = privateKeyToAccount(accounts[0].privateKey);
const [alice, bob] = accounts.map(({ address }) => address);

async function start(t, kind, ...extra) {
  const node = await startNode({ kind, extra });
  t.after(() => node.stop("SIGKILL"));
  return node;
}

/** A few blocks with something of everything, and what has to be found again. */
async function live(node) {
  const token = contract("TestToken");
  const { contractAddress } = await sendAndWait(node, { data: token.bytecode });
  await node.rpc("anvil_dealERC20", bob, contractAddress, "0x1234");
  await sendAndWait(node, { to: bob, value: "0x5" });
  await node.rpc("anvil_setBalance", nobody, "0xde0b6b3a7640000");
  await node.rpc("anvil_setNonce", nobody, "0x7");
  await node.rpc("anvil_setCode", nobody, "0x5f545f5260205ff3");
  await node.rpc("anvil_setStorageAt", nobody, "0x0", word(42));
  await node.rpc("anvil_impersonateAccount", nobody);
  const sent = await node.rpc("eth_sendTransaction", { from: nobody, to: alice, value: "0x9", gas: "0x5208" });
  const receipt = await receiptOf(node, sent);
  assert.equal(receipt.status, "0x1");
  return { token: contractAddress, creation: (await node.rpc("eth_getBlockByNumber", "0x1", false)).transactions[0] };
}

/** Everything that can be asked about these accounts, and the blocks and receipts but for what only one kind tells. */
async function everything(node, { token, creation }) {
  const told = {};
  for (const address of [alice, bob, nobody, token]) {
    const [balance, nonce, code] = await Promise.all(
      ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"].map((method) => node.rpc(method, address, "latest")),
    );
    told[address] = { balance, nonce, code };
  }
  told.slot = await node.rpc("eth_getStorageAt", nobody, "0x0", "latest");
  told.answer = await node.rpc("eth_call", { to: nobody }, "latest");
  const balanceOf = `0x70a08231${bob.slice(2).padStart(64, "0")}`.toLowerCase();
  told.tokens = await node.rpc("eth_call", { to: token, data: balanceOf }, "latest");
  told.head = await node.rpc("eth_blockNumber");
  told.hashes = [];
  for (let number = 0; number <= Number(told.head); number++) {
    told.hashes.push((await node.rpc("eth_getBlockByNumber", `0x${number.toString(16)}`, false)).hash);
  }
  const { status, gasUsed, from, contractAddress, blockHash } = await node.rpc("eth_getTransactionReceipt", creation);
  told.receipt = { status, gasUsed, from, contractAddress, blockHash };
  return told;
}

test("what Anvil dumps, Heddle loads, and goes on from there", { skip }, async (t) => {
  const anvil = await start(t, "anvil");
  const places = await live(anvil);
  const was = await everything(anvil, places);
  assert.equal(BigInt(was.answer), 42n);

  const heddle = await start(t, "heddle");
  await heddle.rpc("anvil_setBalance", accounts[9].address, "0x1");
  assert.equal(await heddle.rpc("anvil_loadState", await anvil.rpc("anvil_dumpState")), true);
  assert.deepEqual(await everything(heddle, places), was);
  // Accounts that a dump does not name stay, and Heddle's genesis has more than Anvil's: the root is not its header's.
  const loaded = await heddle.rpc("eth_getProof", nobody, [word(0), word(1)], "latest");
  assert.ok(isProof(keccak256(loaded.accountProof[0]), loaded));

  const next = await sendAndWait(heddle, { from: bob, to: nobody, gas: "0x30d40" });
  assert.equal(next.status, "0x1");
  assert.equal(Number(next.blockNumber), Number(was.head) + 1);
  const block = await heddle.rpc("eth_getBlockByNumber", "latest", false);
  assert.equal(block.parentHash, was.hashes.at(-1));
  assert.ok(isProof(block.stateRoot, await heddle.rpc("eth_getProof", nobody, [word(0), word(1)], "latest")));
  await assert.rejects(heddle.rpc("eth_getBalance", alice, "0x1"), /state of block 1 is not kept/);
  const id = await heddle.rpc("evm_snapshot");
  await sendAndWait(heddle, { to: bob, value: "0x5" });
  await heddle.rpc("evm_revert", id);
  assert.equal((await heddle.rpc("eth_getBlockByNumber", "latest", false)).hash, block.hash);

  await heddle.rpc("anvil_reset");
  assert.equal(await heddle.rpc("eth_blockNumber"), "0x0");
  assert.equal(await heddle.rpc("eth_getCode", nobody, "latest"), "0x");
});

test("what Heddle dumps, Anvil loads, and Heddle does", { skip }, async (t) => {
  const heddle = await start(t, "heddle");
  const places = await live(heddle);
  const was = await everything(heddle, places);
  const dump = await heddle.rpc("anvil_dumpState");
  assert.deepEqual([...Buffer.from(dump.slice(2), "hex").subarray(0, 2)], [0x1f, 0x8b], "gzip");

  for (const kind of ["anvil", "heddle"]) {
    const other = await start(t, kind);
    assert.equal(await other.rpc("anvil_loadState", dump), true);
    assert.deepEqual(await everything(other, places), was, kind);
    if (kind === "heddle") {
      const { stateRoot } = await other.rpc("eth_getBlockByNumber", "latest", false);
      assert.ok(isProof(stateRoot, await other.rpc("eth_getProof", nobody, [word(0), word(1)], "latest")));
    }
    assert.equal((await sendAndWait(other, { from: bob, to: nobody, gas: "0x30d40" })).status, "0x1");
  }
});

for (const kinds of [["anvil", "heddle"], ["heddle", "anvil"]]) {
  test(`transactions of every type go from ${kinds.join(" to ")}`, { skip }, async (t) => {
    const [from, to] = [await start(t, kinds[0]), await start(t, kinds[1])];
    const wallet = createWalletClient({ account: signer, chain: foundry, transport: http(from.url) });
    const hashes = [];
    const send = async (transaction) => {
      hashes.push(await wallet.sendTransaction(transaction));
      return receiptOf(from, hashes.at(-1));
    };
    // Its code reverts.
    const { contractAddress } = await send({ data: "0x6005600c60003960056000f360006000fd" });
    assert.equal((await send({ to: contractAddress, gas: 100_000n })).status, "0x0");
    await send({ to: bob, value: 1n, type: "legacy", gasPrice: 3_000_000_000n });
    await send({ to: bob, value: 1n, gasPrice: 3_000_000_000n, accessList: [{ address: bob, storageKeys: [word(1)] }] });
    const authority = privateKeyToAccount(accounts[1].privateKey);
    const authorization = await wallet.signAuthorization({ account: authority, contractAddress, nonce: 0 });
    await send({ to: alice, gas: 200_000n, authorizationList: [authorization] });
    const blob = join(directory, "blob");
    writeFileSync(blob, "a blob");
    const flags = ["--private-key", accounts[0].privateKey, "--blob", "--path", blob, "--blob-gas-price", "1000000000"];
    hashes.push(await run(foundryBinary("cast"), ["send", "--async", "--rpc-url", from.url, ...flags, nobody]));
    await receiptOf(from, hashes.at(-1));

    await to.rpc("anvil_loadState", await from.rpc("anvil_dumpState"));
    const types = new Set();
    for (const hash of hashes) {
      const [there, here] = await Promise.all([from, to].map(async (node) => {
        const { type, from, blockHash, transactionIndex } = await node.rpc("eth_getTransactionByHash", hash);
        const { status, gasUsed, effectiveGasPrice, blobGasUsed } = await node.rpc("eth_getTransactionReceipt", hash);
        return { type, from, blockHash, transactionIndex, status, gasUsed, effectiveGasPrice, blobGasUsed };
      }));
      assert.deepEqual(here, there);
      types.add(here.type);
    }
    assert.deepEqual([...types].sort(), ["0x0", "0x1", "0x2", "0x3", "0x4"]);
    assert.equal(await to.rpc("eth_getCode", bob, "latest"), await from.rpc("eth_getCode", bob, "latest"));
    assert.equal((await sendAndWait(to, { to: nobody, value: "0x1" })).status, "0x1");
  });
}

test("files: --load-state of Anvil's, --dump-state for Anvil, --state for both", { skip }, async (t) => {
  const [ofAnvil, ofHeddle, kept] = ["anvil.json", "heddle.json", "kept.json"].map((name) => join(directory, name));
  const anvil = await start(t, "anvil", "--dump-state", ofAnvil);
  const places = await live(anvil);
  const was = await everything(anvil, places);
  await anvil.stop("SIGINT");

  const heddle = await start(t, "heddle", "--load-state", ofAnvil, "--dump-state", ofHeddle);
  assert.deepEqual(await everything(heddle, places), was);
  await sendAndWait(heddle, { to: nobody, gas: "0x30d40" });
  const then = await everything(heddle, places);
  assert.equal((await heddle.stop("SIGTERM")).code, 0);
  assert.deepEqual(await everything(await start(t, "anvil", "--load-state", ofHeddle), places), then);

  const first = await start(t, "heddle", "--state", kept);
  const own = await live(first);
  const before = await everything(first, own);
  assert.equal((await first.stop("SIGTERM")).code, 0);
  const second = await start(t, "heddle", "--state", kept);
  assert.deepEqual(await everything(second, own), before);
  const told = JSON.parse(readFileSync(kept));
  assert.deepEqual(Object.keys(told).sort(), ["accounts", "best_block_number", "block", "blocks", "historical_states", "transactions"]);
});

test("a damaged, cut off or contradictory dump is refused, and nothing changes", { skip }, async (t) => {
  const heddle = await start(t, "heddle");
  const places = await live(heddle);
  const was = await everything(heddle, places);
  const dump = Buffer.from((await heddle.rpc("anvil_dumpState")).slice(2), "hex");
  const json = JSON.parse(gunzipSync(dump));
  const refuse = async (bytes, words) => {
    await assert.rejects(heddle.rpc("anvil_loadState", `0x${Buffer.from(bytes).toString("hex")}`), words);
    assert.deepEqual(await everything(heddle, places), was);
  };
  const altered = (change) => {
    const copy = structuredClone(json);
    change(copy);
    return gzipSync(JSON.stringify(copy));
  };
  await refuse(dump.subarray(0, dump.length >> 1), /damaged or cut off/);
  await refuse("{}", /missing field/);
  const bomb = gzipSync(Buffer.alloc((256 << 20) + 1, " "), { level: 9 });
  assert.ok(bomb.length < 1 << 20);
  await refuse(bomb, /larger than 268435456 bytes/);
  await refuse("", /./);
  await refuse(altered((copy) => (copy.accounts[nobody].balance = "much")), /accounts\.0x7+\.balance/);
  await refuse(altered((copy) => (copy.transactions = [])), /has no receipt/);
  await refuse(altered((copy) => (copy.best_block_number = 99)), /block 99, is not among/);
  await assert.rejects(heddle.rpc("anvil_dumpState", true), /not dumped/);

  const cut = join(directory, "cut.json");
  writeFileSync(cut, JSON.stringify(json).slice(0, 500));
  const started = await spawnNode({ kind: "heddle", extra: ["--load-state", cut] });
  const { code } = await started.exited;
  assert.equal(code, 1);
  assert.match(started.output(), /cut\.json: the state dump is wrong/);
});

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`what was altered by hand is there after ${signal}, and traces run on it`, { skip }, async (t) => {
    const datadir = join(directory, signal);
    const extra = ["--durability.window", "0"];
    let node = await startNode({ datadir, extra });
    t.after(() => node.stop("SIGKILL"));
    const answer = async () => BigInt(await node.rpc("eth_call", { to: nobody }, "latest"));
    await node.rpc("anvil_setCode", nobody, "0x5f545f5260205ff3");
    await node.rpc("anvil_setStorageAt", nobody, "0x0", word(42));
    const { transactionHash } = await sendAndWait(node, { to: nobody, gas: "0x30d40" });
    await node.rpc("anvil_setStorageAt", nobody, "0x0", word(43));
    await node.rpc("anvil_setBalance", nobody, "0x7");
    await node.rpc("anvil_setNonce", nobody, "0x9");
    const { code } = await node.stop(signal);
    assert.equal(code, signal === "SIGTERM" ? 0 : null);

    node = await startNode({ datadir, extra });
    const trace = () => node.rpc("debug_traceTransaction", transactionHash, { tracer: "callTracer" });
    assert.equal(BigInt((await trace()).output), 42n, "the block was made on what was altered before it");
    assert.equal(await answer(), 43n, "altered after the head");
    assert.equal(await node.rpc("eth_getBalance", nobody, "latest"), "0x7");
    assert.equal(await node.rpc("eth_getTransactionCount", nobody, "latest"), "0x9");
    await sendAndWait(node, { to: bob, value: "0x1" });
    assert.equal(await answer(), 43n);
    assert.equal(BigInt((await trace()).output), 42n);
    assert.equal((await node.stop("SIGTERM")).code, 0);
  });
}

test("a loaded chain is there after a restart, and a directory with blocks takes no dump", { skip }, async (t) => {
  const [datadir, file] = [join(directory, "loaded"), join(directory, "for-datadir.json")];
  const first = await start(t, "heddle", "--dump-state", file);
  const places = await live(first);
  const was = await everything(first, places);
  assert.equal((await first.stop("SIGTERM")).code, 0);

  let node = await startNode({ datadir, extra: ["--load-state", file] });
  t.after(() => node.stop("SIGKILL"));
  assert.deepEqual(await everything(node, places), was);
  assert.equal((await node.stop("SIGTERM")).code, 0);
  node = await startNode({ datadir });
  assert.deepEqual(await everything(node, places), was);
  assert.equal((await sendAndWait(node, { to: nobody, gas: "0x30d40" })).status, "0x1");
  assert.equal((await node.stop("SIGTERM")).code, 0);

  const refused = await spawnNode({ datadir, extra: ["--load-state", file] });
  assert.equal((await refused.exited).code, 1);
  assert.match(refused.output(), /has \d+ blocks already/);
  const nowhere = await spawnNode({ extra: ["--dump-state", join(directory, "none", "state.json")] });
  assert.equal((await nowhere.exited).code, 1);
  assert.match(nowhere.output(), /none is no directory/);
});
