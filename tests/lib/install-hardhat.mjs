// Runs after npm ci in tests/: installs the project in tests/hardhat with the Node that Hardhat 3 wants, and that Node
// where this one is older. (With an older one, npm leaves out Hardhat's native part, an optional dependency. The newer
// one has a folder of its own, so that it does not become the `node` of npm's scripts here.)
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { node22, tests } from "./places.mjs";

function install(folder, node) {
  const args = [process.env.npm_execpath, "ci", "--prefix", join(tests, folder), "--no-audit", "--no-fund"];
  const { status, error } = spawnSync(node, args, { stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

if (!node22()) install("node22", process.execPath);
const node = node22();
if (node) install("hardhat", node);
else console.warn("Hardhat is not installed, and its tests cannot run: it takes Node 22 or later");
