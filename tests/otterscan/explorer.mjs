// The pages of index.html: what Otterscan asks for each, and a plain rendering of the answers.
import { formatEther, getAddress, JsonRpcProvider, toUtf8String } from "./ethers.min.js";

/** Transactions on a page, as in Otterscan. */
const PAGE_SIZE = 25;
/** The level of the ots_ calls that Otterscan needs at least. */
const API_LEVEL_MIN = 8;

const provider = new JsonRpcProvider(new URLSearchParams(location.search).get("erigonURL"));
const rpc = (method, ...params) => provider.send(method, params);

/** An element with these children; strings are text, so nothing from the chain is ever markup. */
function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const link = (href, text) => element("a", { href }, text);
const addressLink = (address) => (address ? link(`#/address/${getAddress(address)}`, getAddress(address)) : "–");
const ether = (wei) => `${formatEther(BigInt(wei))} ETH`;

const facts = (id, rows) =>
  element("table", { id }, ...rows.map(([name, value]) => element("tr", {}, element("th", {}, name), element("td", {}, value))));

function transactionTable(transactions, receipts) {
  const head = ["Hash", "Method", "From", "To", "Value", "Status"].map((name) => element("th", {}, name));
  const rows = transactions.map((transaction, index) => {
    const cells = [
      link(`#/tx/${transaction.hash}`, transaction.hash),
      transaction.input.slice(0, 10),
      addressLink(transaction.from),
      addressLink(transaction.to ?? receipts[index].contractAddress),
      ether(transaction.value),
      Number(receipts[index].status) === 1 ? "Success" : "Fail",
    ];
    return element("tr", { className: "transaction" }, ...cells.map((cell) => element("td", {}, cell)));
  });
  return element("table", { id: "transactions" }, element("tr", {}, ...head), ...rows);
}

async function blockPage(number) {
  const [{ block, issuance, totalFees }, { fullblock, receipts }] = await Promise.all([
    rpc("ots_getBlockDetails", number),
    rpc("ots_getBlockTransactions", number, 0, PAGE_SIZE),
  ]);
  return [
    `Block #${Number(block.number)}`,
    facts("overview", [
      ["Transactions", `${block.transactionCount} transactions`],
      ["Gas used", String(Number(block.gasUsed))],
      ["Fee recipient", addressLink(block.miner)],
      ["Issuance", ether(issuance.issuance ?? 0)],
      ["Total fees", ether(totalFees)],
      ["Hash", block.hash],
      ["Parent", link(`#/block/${Number(block.number) - 1}`, block.parentHash)],
      ["State root", block.stateRoot],
    ]),
    transactionTable(fullblock.transactions, receipts),
  ];
}

/** The calls as a tree: they come in the order they were made, each with its depth. */
function callTree(entries) {
  const root = element("ul", { className: "calls", id: "trace" });
  const lists = [root];
  for (const { type, depth, from, to, value, input } of entries) {
    const told = `${type} ${getAddress(from)} → ${to ? getAddress(to) : "–"} ${input.slice(0, 10)} ${value ? ether(value) : ""}`;
    const inner = element("ul", { className: "calls" });
    lists[depth].append(element("li", {}, element("span", { className: "call" }, told.trim()), inner));
    lists.length = depth + 1;
    lists.push(inner);
  }
  return root;
}

const OPERATIONS = ["transfer", "self-destruct", "create", "create2"];

/** What an Error(string) says, or the bytes. */
const reason = (data) => (data.startsWith("0x08c379a0") ? toUtf8String(`0x${data.slice(138, 138 + 2 * Number(`0x${data.slice(74, 138)}`))}`) : data);

async function transactionPage(hash) {
  const [transaction, receipt] = await Promise.all([
    rpc("eth_getTransactionByHash", hash),
    rpc("eth_getTransactionReceipt", hash),
  ]);
  const [block, trace, operations, error] = await Promise.all([
    rpc("eth_getBlockByNumber", receipt.blockNumber, false),
    rpc("ots_traceTransaction", hash),
    rpc("ots_getInternalOperations", hash),
    Number(receipt.status) === 1 ? null : rpc("ots_getTransactionError", hash),
  ]);
  const internal = operations.map(({ type, from, to, value }) =>
    element("li", { className: "operation" }, `${OPERATIONS[type]} ${getAddress(from)} → ${getAddress(to)} ${ether(value)}`),
  );
  return [
    "Transaction Details",
    facts("overview", [
      ["Hash", hash],
      ["Status", error === null ? "Success" : `Fail with: ${reason(error)}`],
      ["Block", link(`#/block/${Number(receipt.blockNumber)}`, String(Number(receipt.blockNumber)))],
      ["Timestamp", new Date(Number(block.timestamp) * 1000).toISOString()],
      ["From", addressLink(transaction.from)],
      ["To", addressLink(transaction.to ?? receipt.contractAddress)],
      ["Value", ether(transaction.value)],
      ["Fee", ether(BigInt(receipt.gasUsed) * BigInt(receipt.effectiveGasPrice))],
      ["Logs", String(receipt.logs.length)],
    ]),
    element("h2", {}, "Internal operations"),
    element("ul", { id: "operations" }, ...internal),
    element("h2", {}, "Trace"),
    callTree(trace),
  ];
}

async function addressPage(address) {
  const [balance, nonce, hasCode, found] = await Promise.all([
    rpc("eth_getBalance", address, "latest"),
    rpc("eth_getTransactionCount", address, "latest"),
    rpc("ots_hasCode", address, "latest"),
    rpc("ots_searchTransactionsBefore", address, 0, PAGE_SIZE),
  ]);
  const creator = hasCode ? await rpc("ots_getContractCreator", address) : null;
  const first = hasCode ? null : await rpc("ots_getTransactionBySenderAndNonce", address, 0);
  return [
    hasCode ? "Contract" : "Address",
    facts("overview", [
      ["Address", getAddress(address)],
      ["Balance", ether(balance)],
      ["Nonce", String(Number(nonce))],
      ["Creator", creator ? addressLink(creator.creator) : "–"],
      ["Created by", creator ? link(`#/tx/${creator.hash}`, creator.hash) : "–"],
      ["First sent", first ? link(`#/tx/${first}`, first) : "–"],
    ]),
    transactionTable(found.txs, found.receipts),
    element("p", { id: "pages" }, `first page: ${found.firstPage}, last page: ${found.lastPage}`),
  ];
}

const PAGES = { block: (number) => blockPage(Number(number)), tx: transactionPage, address: addressPage };

/** Otterscan asks these before it shows anything. */
async function checkNode() {
  await rpc("eth_chainId");
  await rpc("erigon_getHeaderByNumber", "0x1");
  const level = await rpc("ots_getApiLevel");
  if (level < API_LEVEL_MIN) throw new Error(`the node's Otterscan calls are of level ${level}`);
}

async function show() {
  const [, kind, what] = location.hash.split("/");
  const title = document.getElementById("title");
  const page = document.getElementById("page");
  title.textContent = "…";
  page.replaceChildren();
  try {
    await checkNode();
    const [name, ...content] = await PAGES[kind](what);
    page.append(...content);
    title.textContent = name;
  } catch (error) {
    page.append(element("p", { id: "error" }, error.message));
    title.textContent = "Error";
  }
}

addEventListener("hashchange", show);
await show();
