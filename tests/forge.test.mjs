// Foundry's forge: create deploys a contract, script deploys Uniswap V2, adds liquidity and swaps, script and test run on
// a fork.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Interface } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil, startNode } from "./lib/node.mjs";
import { foundryBinary, tests } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";
import { amountOut } from "./lib/uniswap.mjs";

const node = await nodeForThisFile();
const [deployer, owner] = accounts;
const output = mkdtempSync(join(tmpdir(), "heddle-forge-"));
after(() => rmSync(output, { recursive: true, force: true }));

const forge = (command, ...args) => runForge([command, "--broadcast", "--rpc-url", node.url, ...args], {});
const runForge = (args, env) =>
  run(foundryBinary("forge"), args, {
    cwd: join(tests, "forge"),
    env: {
      ...env,
      DEPLOYER_KEY: deployer.privateKey,
      FOUNDRY_OUT: join(output, "out"),
      FOUNDRY_CACHE_PATH: join(output, "cache"),
      FOUNDRY_BROADCAST: join(output, "broadcast"),
    },
  });

const abi = new Interface([
  "function owner() view returns (address)",
  "function deposit() payable",
  "function balanceOf(address) view returns (uint256)",
  "function getPair(address, address) view returns (address)",
  "function getReserves() view returns (uint112, uint112, uint32)",
  "function token0() view returns (address)",
  "event Sync(uint112 reserve0, uint112 reserve1)",
]);

async function read(to, name, ...args) {
  const data = await node.rpc("eth_call", { to, data: abi.encodeFunctionData(name, args) }, "latest");
  return abi.decodeFunctionResult(name, data);
}

test("forge create compiles and deploys a payable contract with a constructor argument", async () => {
  const { deployedTo, transactionHash } = JSON.parse(
    await forge(
      ...["create", "src/Pot.sol:Pot", "--json", "--private-key", deployer.privateKey],
      ...["--value", "1ether", "--constructor-args", owner.address],
    ),
  );
  assert.deepEqual([...(await read(deployedTo, "owner"))], [owner.address]);
  assert.equal(BigInt(await node.rpc("eth_getBalance", deployedTo, "latest")), 10n ** 18n);
  const receipt = await node.rpc("eth_getTransactionReceipt", transactionHash);
  assert.equal(receipt.contractAddress, deployedTo.toLowerCase());
});

for (const [manner, flags] of [
  ["all at once", []],
  ["one at a time with --slow", ["--slow"]],
]) {
  test(`forge script broadcasts Uniswap V2 ${manner} and the chain ends where its simulation did`, async () => {
    // forge takes the gas from a simulation in which no time passes. On a chain whose blocks are a second apart, as the
    // protocol wants them, the pair also writes its price accumulators, which costs more than forge's usual 30 % extra.
    await forge("script", "script/UniswapV2.s.sol:UniswapV2", "--gas-estimate-multiplier", "200", ...flags);
    const file = join(output, "broadcast", "UniswapV2.s.sol", "31337", "run-latest.json");
    const { returns, receipts, transactions } = JSON.parse(readFileSync(file, "utf8"));
    assert.equal(transactions.length, 11);
    assert.equal(receipts.length, 11);
    for (const receipt of receipts) assert.equal(receipt.status, "0x1");
    const seen = Object.fromEntries(Object.entries(returns).map(([name, { value }]) => [name, value]));

    const spent = 1000n * 10n ** 18n * 4n; // of token B, as liquidity
    const [balance] = await read(seen.tokenB, "balanceOf", deployer.address);
    assert.equal(balance, 1_000_000n * 10n ** 18n - spent + BigInt(seen.tokenBOut));

    const [pair] = await read(seen.factory, "getPair", seen.tokenA, seen.tokenB);
    const [reserve0, reserve1] = await read(pair, "getReserves");
    const [token0] = await read(pair, "token0");
    const reserveB = token0 === seen.tokenA ? reserve1 : reserve0;
    assert.equal(reserveB, spent - BigInt(seen.tokenBOut));
    assert.equal((await read(seen.tokenB, "balanceOf", pair))[0], reserveB);

    const syncs = await node.rpc("eth_getLogs", {
      fromBlock: "earliest",
      address: pair,
      topics: [abi.getEvent("Sync").topicHash],
    });
    const [last0, last1] = abi.decodeEventLog("Sync", syncs.at(-1).data);
    assert.deepEqual([last0, last1], [reserve0, reserve1]);
    assert.equal(syncs.length, 3, "one Sync for the liquidity and one a swap");
  });
}

/** What the newest deployment of Uniswap V2 by the script above returned, with the pair. */
async function deployed() {
  await forge("script", "script/UniswapV2.s.sol:UniswapV2", "--gas-estimate-multiplier", "200");
  const seen = returnsOf("UniswapV2.s.sol", "run-latest.json");
  const [pair] = await read(seen.factory, "getPair", seen.tokenA, seen.tokenB);
  return { ...seen, pair };
}

/** What a script returned in its last run, as forge noted it. */
function returnsOf(script, file) {
  const path = join(output, "broadcast", script, "31337", file);
  const { returns } = JSON.parse(readFileSync(path, "utf8"));
  return Object.fromEntries(Object.entries(returns).map(([name, { value }]) => [name, value]));
}

test("forge script swaps on a fork of the node without touching it, then on a forked node for good", { skip: onAnvil }, async (t) => {
  const there = await deployed();
  const fork = await startNode({ extra: ["--fork-url", node.url] });
  t.after(() => fork.stop("SIGKILL"));
  const amount = 5n * 10n ** 18n;
  const env = { ROUTER: there.router, TOKEN_A: there.tokenA, TOKEN_B: there.tokenB, AMOUNT: String(amount) };
  const script = (...args) => runForge(["script", "script/Swap.s.sol:Swap", "--gas-estimate-multiplier", "200", ...args], env);
  const owns = async (of) => {
    const data = abi.encodeFunctionData("balanceOf", [deployer.address]);
    return BigInt(await of.rpc("eth_call", { to: there.tokenB, data }, "latest"));
  };
  const [[reserve0, reserve1], [token0]] = await Promise.all([read(there.pair, "getReserves"), read(there.pair, "token0")]);
  const expected = amountOut(amount, ...(token0 === there.tokenA ? [reserve0, reserve1] : [reserve1, reserve0]));
  const head = await node.rpc("eth_blockNumber");
  const before = await owns(node);

  await script("--fork-url", node.url);
  const simulated = returnsOf("Swap.s.sol", "dry-run/run-latest.json");
  assert.deepEqual([BigInt(simulated.amountOut), BigInt(simulated.blockNumber)], [expected, BigInt(head)]);
  assert.deepEqual([await owns(node), await node.rpc("eth_blockNumber")], [before, head], "a simulation changes nothing");

  await script("--broadcast", "--rpc-url", fork.url);
  assert.equal(BigInt(returnsOf("Swap.s.sol", "run-latest.json").amountOut), expected);
  assert.equal(await owns(fork), before + expected);
  assert.equal(Number(await fork.rpc("eth_blockNumber")), Number(head) + 1);
  assert.deepEqual([await owns(node), await node.rpc("eth_blockNumber")], [before, head], "the forked node knows nothing of it");
});

/** Swaps of token A for B on the node's newest pool, as forge's test does them on a fork of the node. */
async function testOnFork(of, seen, pair) {
  const call = async (to, name, ...args) => {
    const data = abi.encodeFunctionData(name, args);
    return abi.decodeFunctionResult(name, await of.rpc("eth_call", { to, data }, "latest"));
  };
  const { number, parentHash } = await of.rpc("eth_getBlockByNumber", "latest", false);
  const [[reserve0, reserve1], [token0]] = await Promise.all([call(pair, "getReserves"), call(pair, "token0")]);
  const isFirst = token0 === seen.tokenA;
  const amount = 5n * 10n ** 18n;
  const env = {
    NODE_URL: of.url,
    ROUTER: seen.router,
    PAIR: pair,
    TOKEN_A: seen.tokenA,
    TOKEN_B: seen.tokenB,
    HOLDER: deployer.address,
    BALANCE_B: String((await call(seen.tokenB, "balanceOf", deployer.address))[0]),
    AMOUNT: String(amount),
    AMOUNT_OUT: String(amountOut(amount, isFirst ? reserve0 : reserve1, isFirst ? reserve1 : reserve0)),
    BLOCK_NUMBER: String(Number(number)),
    CHAIN_ID: String(Number(await of.rpc("eth_chainId"))),
    PARENT_HASH: parentHash,
    OLDER_BLOCK: "1",
  };
  const report = await runForge(["test", "--fork-url", of.url, "--no-storage-caching", "--json", "--allow-failure"], env);
  const results = Object.values(JSON.parse(report.split("\n").at(-1)))[0].test_results;
  return Object.fromEntries(Object.entries(results).map(([name, { status, reason }]) => [name, reason ?? status]));
}

test("forge test runs on a fork of the node, and on a fork of a fork of it", async (t) => {
  const { pair, ...seen } = await deployed();
  const expected = {
    "test_a_swap_pays_out_what_the_node_says()": "Success",
    "test_an_older_block_has_its_own_state()": "Success",
    "test_the_block_is_the_nodes()": "Success",
    "test_what_fails_fails()": "this is meant to fail",
  };
  assert.deepEqual(await testOnFork(node, seen, pair), expected);
  if (onAnvil) return;
  const fork = await startNode({ extra: ["--fork-url", node.url] });
  t.after(() => fork.stop("SIGKILL"));
  await fork.rpc("anvil_mine", "0x2");
  assert.deepEqual(await testOnFork(fork, seen, pair), expected);
});
