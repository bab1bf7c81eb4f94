// Starts the node under test on a free loopback port, waits until it answers, and stops it by its own process id.
//
//   HEDDLE_BIN    the heddle binary (default <repository>/target/debug/heddle)
//   NODE_KIND     "heddle" (default) or "anvil": the same tests against Foundry's node, to prove the tests themselves
//   RECORD_RPC    a file: every request passes through a proxy that adds its method names to that file
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { after, afterEach } from "node:test";
import { recordingProxy } from "./recording-proxy.mjs";
import { RpcConnection } from "./rpc.mjs";
import { foundryBinary, repository } from "./places.mjs";

export const NODE_KIND = process.env.NODE_KIND ?? "heddle";
export const onAnvil = NODE_KIND === "anvil";
export const HEDDLE_BIN = process.env.HEDDLE_BIN ?? `${repository}/target/debug/heddle`;

const READY_MS_MAX = 30_000;
const STOP_MS_MAX = 10_000;
const LOG_BYTES_MAX = 4_000_000;
const LOG_LINES_PRINTED_MAX = 300;

// The test runner ends a file that takes too long with SIGTERM: exit by the usual way, so that its nodes go with it.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.once(signal, () => process.exit(1));

/** The command line that starts the node with these options. */
function commandLine(port, { kind = NODE_KIND, blockTime, mining = true, datadir, genesis, extra = [] }) {
  const shared = [
    ...(blockTime === undefined ? [] : ["--block-time", String(blockTime)]),
    ...(mining ? [] : ["--no-mining"]),
    ...extra,
  ];
  if (kind === "anvil") {
    if (datadir || genesis) throw new Error("anvil has no data directory; skip this test for it");
    return [foundryBinary("anvil"), ["--host", "127.0.0.1", "--port", String(port), ...shared]];
  }
  if (!existsSync(HEDDLE_BIN)) throw new Error(`${HEDDLE_BIN} is missing: run cargo build, or set HEDDLE_BIN`);
  return [
    HEDDLE_BIN,
    [
      "node",
      ...(genesis ? ["--genesis", genesis] : ["--dev"]),
      ...["--http.port", String(port)],
      ...(datadir ? ["--datadir", datadir] : []),
      ...shared,
    ],
  ];
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Runs the node's command and collects what it prints; for tests of processes that are expected to exit. */
export async function spawnNode(options = {}) {
  const port = options.port ?? (await freePort());
  const [command, args] = commandLine(port, options);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1" } });
  let output = "";
  const collect = (chunk) => {
    if (output.length < LOG_BYTES_MAX) output += chunk;
  };
  child.stdout.setEncoding("utf8").on("data", collect);
  child.stderr.setEncoding("utf8").on("data", collect);
  const exited = new Promise((resolve) => {
    child.once("error", (error) => {
      output += `\n${error.message}\n`;
      resolve({ code: null, signal: null, error });
    });
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
  // No node outlives the test process that started it, whatever ends that.
  const reap = () => child.kill("SIGKILL");
  process.once("exit", reap);
  exited.then(() => process.off("exit", reap));
  return { port, child, exited, command: [command, ...args].join(" "), output: () => output };
}

/** Starts a node and resolves once it answers `eth_chainId`. */
export async function startNode(options = {}) {
  const running = await spawnNode(options);
  let hasExited = false;
  running.exited.then(() => (hasExited = true));
  let url = `http://127.0.0.1:${running.port}`;
  const deadline = Date.now() + READY_MS_MAX;
  const probe = new RpcConnection(url);
  for (;;) {
    if (hasExited) throw new Error(`${running.command} exited before it answered:\n${running.output()}`);
    try {
      await probe.call("eth_chainId", []);
      break;
    } catch (error) {
      if (Date.now() > deadline) {
        running.child.kill("SIGKILL");
        throw new Error(`${running.command} did not answer eth_chainId (${error.message}):\n${running.output()}`);
      }
      await sleep(20);
    }
  }
  probe.close();

  let proxy;
  if (process.env.RECORD_RPC) {
    proxy = await recordingProxy(url, process.env.RECORD_RPC);
    url = proxy.url;
  }
  const rpc = new RpcConnection(url);
  return {
    ...running,
    url,
    wsUrl: url.replace("http:", "ws:"),
    /** Calls a method and returns its result; throws an `RpcError` with `code` and `data`. */
    rpc: (method, ...params) => rpc.call(method, params),
    /** Sends the signal and resolves with the exit `{ code, signal, ms }`; SIGKILL follows after 10 s. */
    async stop(signal = "SIGTERM") {
      rpc.close();
      await proxy?.close();
      const started = Date.now();
      if (!hasExited) running.child.kill(signal);
      const patience = setTimeout(() => running.child.kill("SIGKILL"), STOP_MS_MAX);
      const exit = await running.exited;
      clearTimeout(patience);
      return { ...exit, ms: Date.now() - started };
    },
    printLog() {
      const lines = running.output().split("\n").slice(-LOG_LINES_PRINTED_MAX);
      process.stderr.write(`--- ${running.command}\n${lines.join("\n")}\n---\n`);
    },
  };
}

/**
 * One node for all tests of a file: started now, stopped after the last of them, its log printed if one failed. Clients
 * that are to be closed before the node stops are named to `beforeStop`: one that sees its socket end connects again,
 * and fails. (Hooks of `after` run in the order they are written, so a file's own would come too late.)
 */
export async function nodeForThisFile(options = {}) {
  const node = await startNode(options);
  const closers = [];
  let failed = false;
  afterEach((t) => {
    if (t.passed === false) failed = true;
  });
  after(async () => {
    for (const close of closers.reverse()) await close();
    await node.stop();
    if (failed) node.printLog();
  });
  return { ...node, beforeStop: (close) => closers.push(close) };
}

/** A node that ends with its test, however that ends; its log is printed if the test failed. */
export async function nodeForTest(t, options) {
  const node = await startNode(options);
  t.after(async () => {
    await node.stop("SIGKILL");
    if (t.passed === false) node.printLog();
  });
  return node;
}

/** One node for one test, its log printed if the body throws. */
export async function withNode(options, body) {
  const node = await startNode(options);
  try {
    return await body(node);
  } catch (error) {
    node.printLog();
    throw error;
  } finally {
    await node.stop();
  }
}

/** Polls until `condition` returns something truthy, and returns that. */
export async function until(condition, what, timeoutMs = 20_000, pollMs = 20) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await sleep(pollMs);
  }
}
