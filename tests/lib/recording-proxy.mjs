// Passes HTTP and WebSocket through to a node and writes down which methods were called, with an example of each.
import { appendFileSync } from "node:fs";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const EXAMPLE_CHARACTERS_MAX = 300;

/**
 * Starts the proxy on a free port; lines of `test file, transport, method, parameters` go to `file`, once per test file.
 * Without a file, `each` is called with every single call instead.
 */
export async function recordingProxy(target, file, each = () => {}) {
  const seen = new Set();
  const caller = process.argv[1]?.split("/").at(-1) ?? "?";
  const record = (transport, text) => {
    let calls;
    try {
      calls = [JSON.parse(text)].flat();
    } catch {
      return;
    }
    for (const call of calls) {
      if (typeof call?.method !== "string") continue;
      each(call);
      if (!file) continue;
      const key = `${caller}\t${transport}${calls.length > 1 ? " batch" : ""}\t${call.method}`;
      if (seen.has(key)) continue;
      seen.add(key);
      appendFileSync(file, `${key}\t${JSON.stringify(call.params)?.slice(0, EXAMPLE_CHARACTERS_MAX)}\n`);
    }
  };

  const server = createServer((incoming, answer) => {
    const chunks = [];
    incoming.on("data", (chunk) => chunks.push(chunk));
    incoming.once("end", () => {
      const body = Buffer.concat(chunks);
      record("http", body.toString("utf8"));
      const outgoing = request(target, { method: incoming.method, headers: incoming.headers }, (response) => {
        answer.writeHead(response.statusCode, response.headers);
        response.pipe(answer);
      });
      outgoing.once("error", () => answer.destroy());
      outgoing.end(body);
    });
    incoming.once("error", () => {});
  });

  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (client) => {
    const upstream = new WebSocket(target.replace("http:", "ws:"));
    const waiting = [];
    client.on("message", (data) => {
      record("ws", data.toString());
      if (upstream.readyState === WebSocket.OPEN) upstream.send(data.toString());
      else waiting.push(data.toString());
    });
    upstream.on("open", () => waiting.forEach((data) => upstream.send(data)));
    upstream.on("message", (data) => client.send(data.toString()));
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ]) {
      one.on("close", () => other.close());
      one.on("error", () => other.close());
    }
  });

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    async close() {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      server.close();
    },
  };
}
