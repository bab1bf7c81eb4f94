// Anvil's own methods through viem's test client and cast: accounts altered, blocks told what to be, senders impersonated.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createPublicClient, createTestClient, createWalletClient, http, parseEther, parseGwei } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil, withNode } from "./lib/node.mjs";
import { contract, foundryBinary } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";
import { receiptOf, sendAndWait } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const transport = http(node.url);
const chain = foundry;
const client = createTestClient({ mode: "anvil", chain, transport });
const reader = createPublicClient({ chain, transport, pollingInterval: 20 });
const wallet = createWalletClient({ chain, transport });
const [alice, bob] = accounts;
const nobody = "0x7777777777777777777777777777777777777777";
const token = contract("TestToken");

test("balance, nonce, code and storage are what they are set to, now and in the next block", async () => {
  await client.setBalance({ address: nobody, value: parseEther("3") });
  await client.setNonce({ address: nobody, nonce: 12 });
  await client.setCode({ address: nobody, bytecode: "0x5f545f5260205ff3" });
  await client.setStorageAt({ address: nobody, index: 0, value: `0x${"2a".padStart(64, "0")}` });
  const check = async () => {
    assert.equal(await reader.getBalance({ address: nobody }), parseEther("3"));
    assert.equal(await reader.getTransactionCount({ address: nobody }), 12);
    assert.equal(BigInt((await reader.call({ to: nobody })).data), 42n);
  };
  await check();
  await client.mine({ blocks: 1 });
  await check();
});

test("an impersonated account sends without a key, a contract too", async () => {
  const send = () => wallet.sendTransaction({ account: nobody, to: bob.address, value: 1n });
  await assert.rejects(send());
  await client.impersonateAccount({ address: nobody });
  const receipt = await receiptOf(node, await send());
  assert.equal(receipt.from, nobody);
  assert.equal(receipt.status, "0x1");
  await client.stopImpersonatingAccount({ address: nobody });
  await assert.rejects(send());
  await node.rpc("anvil_autoImpersonateAccount", true);
  assert.equal((await receiptOf(node, await send())).status, "0x1");
  await node.rpc("anvil_autoImpersonateAccount", false);
});

test("the next block has the base fee, time, gas limit and beneficiary that were asked for", async () => {
  await client.setNextBlockBaseFeePerGas({ baseFeePerGas: parseGwei("7") });
  await client.setCoinbase({ address: nobody });
  await client.setBlockGasLimit({ gasLimit: 20_000_000n });
  const time = (await reader.getBlock()).timestamp + 1_000n;
  await client.setNextBlockTimestamp({ timestamp: time });
  await client.mine({ blocks: 1 });
  const block = await reader.getBlock();
  assert.equal(block.baseFeePerGas, parseGwei("7"));
  assert.equal(block.timestamp, time);
  assert.equal(block.gasLimit, 20_000_000n);
  assert.equal(block.miner.toLowerCase(), nobody);
  await client.setBlockTimestampInterval({ interval: 50 });
  await client.mine({ blocks: 2 });
  assert.equal((await reader.getBlock()).timestamp, time + 100n);
  await client.removeBlockTimestampInterval();
  await client.setBlockGasLimit({ gasLimit: 30_000_000n });
});

test("transactions are held back, looked at, dropped, and mined when asked", async () => {
  await client.setAutomine(false);
  assert.equal(await client.getAutomine(), false);
  const dropped = await wallet.sendTransaction({ account: alice.address, to: bob.address, value: 1n });
  const pool = await client.getTxpoolContent();
  assert.equal(Object.keys(pool.pending).length, 1);
  await client.dropTransaction({ hash: dropped });
  assert.equal((await client.getTxpoolStatus()).pending, 0);
  const kept = await wallet.sendTransaction({ account: alice.address, to: bob.address, value: 2n });
  await client.mine({ blocks: 1 });
  assert.equal((await reader.getTransactionReceipt({ hash: kept })).status, "success");
  await client.setAutomine(true);
});

test("snapshot and revert take alterations with them", async () => {
  await client.setBalance({ address: nobody, value: 5n });
  const id = await client.snapshot();
  await client.setBalance({ address: nobody, value: 6n });
  await client.mine({ blocks: 2 });
  await client.revert({ id });
  assert.equal(await reader.getBalance({ address: nobody }), 5n);
});

test("tokens and allowances are dealt out", async () => {
  const { contractAddress } = await sendAndWait(node, { data: token.bytecode });
  const ask = async (name, ...args) =>
    BigInt(await reader.readContract({ abi: token.abi, address: contractAddress, functionName: name, args }));
  await node.rpc("anvil_dealERC20", nobody, contractAddress, "0x1234");
  assert.equal(await ask("balanceOf", nobody), 0x1234n);
  await node.rpc("anvil_setERC20Allowance", nobody, bob.address, contractAddress, "0x56");
  assert.equal(await ask("allowance", nobody, bob.address), 0x56n);
  await assert.rejects(node.rpc("anvil_dealERC20", nobody, bob.address, "0x1"), "bob is no token");
});

test("cast rpc and cast run work on what was done", async () => {
  const cast = (...args) => run(foundryBinary("cast"), args, { env: { ETH_RPC_URL: node.url } });
  await cast("rpc", "anvil_setBalance", nobody, "0x64");
  assert.equal(await cast("balance", nobody), "100");
  const info = JSON.parse(await cast("rpc", "anvil_nodeInfo"));
  assert.equal(Number(info.environment.chainId), chain.id);
  const { transactionHash } = await sendAndWait(node, { data: token.bytecode });
  assert.match(await cast("run", "--quick", transactionHash), /Transaction successfully executed/);
});

test("blocks can be rolled back, replaced, and all of them taken away", { skip: onAnvil }, async () => {
  const before = await reader.getBlockNumber({ cacheTime: 0 });
  await client.mine({ blocks: 3 });
  await node.rpc("anvil_rollback", 1);
  assert.equal(await reader.getBlockNumber({ cacheTime: 0 }), before + 2n);
  const old = await reader.getBlock();
  await node.rpc("anvil_reorg", 1, [[{ from: alice.address, to: bob.address, value: "0x3" }, 0]]);
  const replaced = await reader.getBlock();
  assert.equal(replaced.number, old.number);
  assert.notEqual(replaced.hash, old.hash);
  assert.equal(replaced.transactions.length, 1);
  await client.reset();
  assert.equal(await reader.getBlockNumber({ cacheTime: 0 }), 0n);
  assert.equal(await reader.getBalance({ address: nobody }), 0n);
});

test("a transaction is sent and its receipt is the answer", async () => {
  const receipt = await node.rpc("eth_sendTransactionSync", { from: alice.address, to: nobody, value: "0x1" });
  assert.equal(receipt.status, "0x1");
  assert.equal(receipt.from, alice.address.toLowerCase());
  assert.equal((await node.rpc("eth_getTransactionByHash", receipt.transactionHash)).blockHash, receipt.blockHash);
});

test("accounts, balance, mnemonic and chain id are what the flags say", async () => {
  const mnemonic = "legal winner thank year wave sausage worth useful legal winner thank yellow";
  const flags = ["--accounts", "3", "--balance", "7", "--mnemonic", mnemonic, "--chain-id", "4242", "--auto-impersonate"];
  await withNode({ extra: flags }, async (other) => {
    const derived = [0, 1, 2].map((addressIndex) => mnemonicToAccount(mnemonic, { addressIndex }).address.toLowerCase());
    assert.deepEqual(await other.rpc("eth_accounts"), derived);
    assert.equal(await other.rpc("eth_chainId"), "0x1092");
    for (const address of derived) {
      assert.equal(BigInt(await other.rpc("eth_getBalance", address, "latest")), parseEther("7"));
    }
    assert.equal(await other.rpc("eth_getBalance", alice.address, "latest"), "0x0");
    await sendAndWait(other, { from: derived[2], to: nobody, value: `0x${parseEther("2").toString(16)}` });
    const { status } = await sendAndWait(other, { from: nobody, to: derived[0], value: "0x1" });
    assert.equal(status, "0x1");
  });
});
