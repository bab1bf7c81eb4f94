#!/usr/bin/env node
// Compiles our contracts with the compiler pinned in tests/package-lock.json and writes build/NAME.json.
// The same source gives the same bytes: no metadata hash is appended, and the settings are fixed here.
//
//   npm ci --prefix tests && node contracts/compile.mjs            writes
//   node contracts/compile.mjs --check                             exits 1 if a committed file differs
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(join(here, "../tests/package.json"))("solc");

/** What is built: the oldest fork that can run it, and the contract it creates, whose code is compiled for the same fork. */
const CONTRACTS = {
  TestToken: { evmVersion: "byzantium" },
  Collectible: { evmVersion: "cancun" },
  Dao: { evmVersion: "cancun" },
  LendingMarket: { evmVersion: "cancun" },
  SwapPool: { evmVersion: "cancun" },
  Disperse: { evmVersion: "byzantium" },
  GauntletByzantium: { evmVersion: "byzantium", child: "GauntletChild" },
  GauntletConstantinople: { evmVersion: "constantinople", child: "GauntletChild" },
  Gauntlet: { evmVersion: "cancun", child: "GauntletChild" },
};

const OPTIMIZER_RUNS = 200;
const read = (file) => readFileSync(join(here, file), "utf8");

function compile(name, { evmVersion, child }) {
  const source = `${name}.sol`;
  const input = {
    language: "Solidity",
    sources: { [source]: { content: read(source) } },
    settings: {
      evmVersion,
      optimizer: { enabled: true, runs: OPTIMIZER_RUNS },
      metadata: { appendCBOR: false, bytecodeHash: "none" },
      outputSelection: {
        "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.methodIdentifiers"] },
      },
    },
  };
  const findImport = (path) => ({ contents: read(path) });
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
  const errors = (output.errors ?? []).filter((message) => message.severity === "error");
  if (errors.length > 0) throw new Error(errors.map((message) => message.formattedMessage).join("\n"));
  const contracts = Object.assign({}, ...Object.values(output.contracts));
  const built = {
    contractName: name,
    source,
    compiler: { version: solc.version(), evmVersion, optimizerRuns: OPTIMIZER_RUNS },
    ...parts(contracts[name]),
    ...(child && { child: { contractName: child, ...parts(contracts[child]) } }),
  };
  return `${JSON.stringify(built, null, 2)}\n`;
}

function parts({ abi, evm }) {
  const selectors = Object.entries(evm.methodIdentifiers).map(([signature, selector]) => [signature, `0x${selector}`]);
  return {
    selectors: Object.fromEntries(selectors),
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
  };
}

const checking = process.argv.includes("--check");
let differing = 0;
mkdirSync(join(here, "build"), { recursive: true });
for (const [name, settings] of Object.entries(CONTRACTS)) {
  const file = join("build", `${name}.json`);
  const built = compile(name, settings);
  if (!checking) {
    writeFileSync(join(here, file), built);
    console.log(`wrote contracts/${file}`);
    continue;
  }
  let committed = "";
  try {
    committed = read(file);
  } catch {
    // A missing file differs like any other.
  }
  if (committed === built) continue;
  differing += 1;
  console.error(`contracts/${file} is not what its source compiles to; run node contracts/compile.mjs`);
}
if (differing > 0) process.exitCode = 1;
