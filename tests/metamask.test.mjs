// MetaMask's own transaction and network controllers, wired as the extension wires them, with a key in place of the
// keyring and every request approved.
import assert from "node:assert/strict";
import { test } from "node:test";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, until } from "./lib/node.mjs";
import { contract, require } from "./lib/places.mjs";

const { Messenger } = require("@metamask/messenger");
const { NetworkController, RpcEndpointType } = require("@metamask/network-controller");
const { TransactionController, TransactionStatus } = require("@metamask/transaction-controller");

const CHAIN_ID = "0x7a69";
const NETWORK = "heddle";
const BLOCK_POLL_MS = 100;
const node = await nodeForThisFile();
const [, alice, bob] = accounts;

/** The wallet: a network controller on the node and a transaction controller over it. */
function wallet() {
  const root = new Messenger({ namespace: "Root" });
  const child = (namespace, actions, events) => {
    const messenger = new Messenger({ namespace, parent: root });
    root.delegate({ messenger, actions, events });
    return messenger;
  };
  const answer = (namespace, actions) => {
    const messenger = new Messenger({ namespace, parent: root });
    for (const [name, handler] of Object.entries(actions)) messenger.registerActionHandler(`${namespace}:${name}`, handler);
  };

  const selected = {
    id: "alice",
    address: alice.address.toLowerCase(),
    type: "eip155:eoa",
    options: {},
    methods: [],
    scopes: ["eip155:0"],
    metadata: { name: "Alice", keyring: { type: "HD Key Tree" }, importTime: 0 },
  };
  answer("AccountsController", {
    getSelectedAccount: () => selected,
    getState: () => ({ internalAccounts: { accounts: { alice: selected }, selectedAccount: "alice" } }),
  });
  answer("ApprovalController", { addRequest: async () => ({ resultCallbacks: { success() {}, error() {} } }) });
  answer("KeyringController", { signEip7702Authorization: async () => assert.fail("no authorization is asked for") });
  answer("RemoteFeatureFlagController", { getState: () => ({ remoteFeatureFlags: {}, cacheTimestamp: 0 }) });
  answer("ErrorReportingService", { captureException: (error) => assert.fail(error) });

  const network = new NetworkController({
    messenger: child("NetworkController", ["ErrorReportingService:captureException"], []),
    infuraProjectId: "0".repeat(32),
    getRpcServiceOptions: () => ({ fetch, btoa }),
    getBlockTrackerOptions: () => ({ pollingInterval: BLOCK_POLL_MS }),
    state: {
      selectedNetworkClientId: NETWORK,
      networksMetadata: {},
      networkConfigurationsByChainId: {
        [CHAIN_ID]: {
          chainId: CHAIN_ID,
          name: "Heddle",
          nativeCurrency: "ETH",
          blockExplorerUrls: [],
          defaultRpcEndpointIndex: 0,
          rpcEndpoints: [{ type: RpcEndpointType.Custom, networkClientId: NETWORK, url: node.url, failoverUrls: [] }],
        },
      },
    },
  });

  const statuses = [];
  const transactions = new TransactionController({
    messenger: child(
      "TransactionController",
      [
        "AccountsController:getSelectedAccount",
        "AccountsController:getState",
        "ApprovalController:addRequest",
        "KeyringController:signEip7702Authorization",
        "NetworkController:findNetworkClientIdByChainId",
        "NetworkController:getNetworkClientById",
        "RemoteFeatureFlagController:getState",
      ],
      ["NetworkController:stateChange"],
    ),
    disableHistory: true,
    disableSendFlowHistory: true,
    disableSwaps: true,
    getCurrentAccountEIP1559Compatibility: async () => true,
    getCurrentNetworkEIP1559Compatibility: () => network.getEIP1559Compatibility(NETWORK),
    getNetworkClientRegistry: () => network.getNetworkClientRegistry(),
    getNetworkState: () => network.state,
    incomingTransactions: { isEnabled: () => false },
    isFirstTimeInteractionEnabled: () => false,
    isSimulationEnabled: () => false,
    pendingTransactions: { isResubmitEnabled: () => false },
    sign: async (transaction) => transaction.sign(Buffer.from(alice.privateKey.slice(2), "hex")),
    transactionHistoryLimit: 40,
    hooks: {},
  });
  root.subscribe("TransactionController:transactionStatusUpdated", ({ transactionMeta }) =>
    statuses.push(transactionMeta.status),
  );
  return { network, transactions, statuses };
}

test("MetaMask recognises the network and sends a transfer, a deployment and a call, each confirmed", { timeout: 90_000 }, async (t) => {
  const { network, transactions, statuses } = wallet();
  t.after(() => {
    transactions.destroy();
    network.destroy();
  });
  await network.initializeProvider();
  await network.lookupNetwork(NETWORK);
  assert.equal(network.state.networksMetadata[NETWORK].status, "available");
  assert.equal(await network.getEIP1559Compatibility(NETWORK), true);

  const send = async (parameters) => {
    const { result, transactionMeta } = await transactions.addTransaction(
      { from: alice.address.toLowerCase(), ...parameters },
      { networkClientId: NETWORK, origin: "metamask", requireApproval: true },
    );
    const hash = await result;
    const found = () => transactions.state.transactions.find(({ id }) => id === transactionMeta.id);
    const seen = await until(
      () => [TransactionStatus.confirmed, TransactionStatus.failed].includes(found().status) && found(),
      `MetaMask to see ${hash} confirmed`,
      60_000,
    );
    assert.equal(seen.status, TransactionStatus.confirmed, JSON.stringify(seen.error));
    const receipt = await node.rpc("eth_getTransactionReceipt", hash);
    assert.equal(receipt.status, "0x1");
    assert.equal(seen.txReceipt.blockHash, receipt.blockHash);
    return receipt;
  };

  const before = BigInt(await node.rpc("eth_getBalance", bob.address, "latest"));
  await send({ to: bob.address, value: "0xde0b6b3a7640000" });
  assert.equal(BigInt(await node.rpc("eth_getBalance", bob.address, "latest")) - before, 10n ** 18n);
  assert.deepEqual(statuses.slice(-4), ["approved", "signed", "submitted", "confirmed"]);

  const token = contract("TestToken");
  const { contractAddress } = await send({ data: token.bytecode });
  const mint = `${token.selectors["mint(address,uint256)"]}${"0".repeat(24)}${bob.address.slice(2)}${"5".padStart(64, "0")}`;
  const { logs } = await send({ to: contractAddress, data: mint.toLowerCase() });
  assert.equal(logs.length, 1);
});
