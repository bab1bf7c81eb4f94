// A project as `npx hardhat --init` makes one, but for the compiler (the one from npm, so that nothing is downloaded) and
// the address of the node. Hardhat does not know Heddle's name: the node is started with --client-version anvil.
import hardhatEthers from "@nomicfoundation/hardhat-ethers";
import hardhatIgnitionViem from "@nomicfoundation/hardhat-ignition-viem";
import hardhatNetworkHelpers from "@nomicfoundation/hardhat-network-helpers";
import hardhatNodeTestRunner from "@nomicfoundation/hardhat-node-test-runner";
import hardhatViem from "@nomicfoundation/hardhat-viem";
import hardhatViemAssertions from "@nomicfoundation/hardhat-viem-assertions";
import { defineConfig } from "hardhat/config";
import { join } from "node:path";

export default defineConfig({
  plugins: [
    hardhatEthers,
    hardhatIgnitionViem,
    hardhatNetworkHelpers,
    hardhatNodeTestRunner,
    hardhatViem,
    hardhatViemAssertions,
  ],
  solidity: {
    version: "0.8.37",
    path: process.env.SOLJSON ?? join(import.meta.dirname, "../node_modules/solc/soljson.js"),
    settings: { evmVersion: "cancun", optimizer: { enabled: true } },
  },
  networks: {
    localhost: { type: "http", url: process.env.NODE_URL ?? "http://127.0.0.1:8545" },
  },
});
