// Hardhat 3 with --network localhost: compiles, tests with its network helpers, runs a script, deploys with Ignition. The
// project is in hardhat/.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil } from "./lib/node.mjs";
import { node22, require, tests } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";

// Hardhat's helpers refuse nodes whose name they do not know.
const node = await nodeForThisFile({ extra: onAnvil ? [] : ["--client-version", "anvil"] });
const source = join(tests, "hardhat");
const project = mkdtempSync(join(tmpdir(), "heddle-hardhat-"));
after(() => rmSync(project, { recursive: true, force: true }));
cpSync(source, project, { recursive: true, filter: (path) => basename(path) !== "node_modules" });
symlinkSync(join(source, "node_modules"), join(project, "node_modules"));

function hardhat(...args) {
  const command = node22();
  if (!command) throw new Error("Hardhat 3 takes Node 22 or later: use one, or run npm ci --prefix tests on Linux x86-64");
  return run(command, [join(project, "node_modules/hardhat/dist/src/cli.js"), ...args], {
    cwd: project,
    env: {
      NODE_URL: node.url,
      SOLJSON: require.resolve("solc/soljson.js"),
      // No telemetry, and nothing outside the project's copy.
      CI: "true",
      HOME: project,
      XDG_CACHE_HOME: join(project, "cache-home"),
      XDG_CONFIG_HOME: join(project, "config-home"),
      XDG_DATA_HOME: join(project, "data-home"),
      // The runner of this file would otherwise take the runner of Hardhat's tests for a child of its own.
      NODE_TEST_CONTEXT: "",
    },
  });
}

// Anvil answers hardhat_dropTransaction as Hardhat does not, and sending before its block is there, which a test that
// looks at the state next may miss.
const skip = onAnvil && "Anvil is not enough of a Hardhat node for it";

test("Hardhat compiles with the compiler from npm, and its tests and network helpers pass", { skip }, async () => {
  const report = await hardhat("test", "nodejs", "--network", "localhost");
  assert.match(report, /Compiled 1 Solidity file/);
  assert.match(report, /13 passing/);
});

test("a Hardhat script deploys and sends through ethers", async () => {
  const printed = await hardhat("run", "scripts/deposit.ts", "--network", "localhost");
  const said = JSON.parse(printed.split("\n").at(-1));
  assert.equal(said.networkName, "localhost");
  assert.deepEqual([said.balance, said.deposits, said.amount], ["7", "1", "4"]);
  assert.equal(said.from, accounts[1].address);
  const receipt = await node.rpc("eth_getTransactionReceipt", said.transactionHash);
  assert.equal(receipt.to, said.address.toLowerCase());
});

test("Hardhat Ignition deploys a module, and finds it done the second time", async () => {
  const deploy = () => hardhat("ignition", "deploy", "ignition/modules/Savings.ts", "--network", "localhost");
  const [, address] = (await deploy()).match(/SavingsModule#Savings - (0x[0-9a-fA-F]{40})/);
  assert.equal(BigInt(await node.rpc("eth_getBalance", address, "latest")), 12n);
  const head = await node.rpc("eth_blockNumber");
  assert.match(await deploy(), new RegExp(`Nothing new to deploy[^]*${address}`));
  assert.equal(await node.rpc("eth_blockNumber"), head);
});
