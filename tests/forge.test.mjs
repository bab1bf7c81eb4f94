// Foundry's forge: create deploys a contract, script deploys Uniswap V2, adds liquidity and swaps.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Interface } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile } from "./lib/node.mjs";
import { foundryBinary, tests } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";

const node = await nodeForThisFile();
const [deployer, owner] = accounts;
const output = mkdtempSync(join(tmpdir(), "heddle-forge-"));
after(() => rmSync(output, { recursive: true, force: true }));

const forge = (command, ...args) =>
  run(foundryBinary("forge"), [command, "--broadcast", "--rpc-url", node.url, ...args], {
    cwd: join(tests, "forge"),
    env: {
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
